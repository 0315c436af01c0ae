//! Log lines in each application's own form, on standard output, and in its log file.

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Mutex;

use super::clock::Civil;

/// Whose form a line has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// `[Info] Name: text`, the console form of the Servarr family.
    Servarr,
    /// `2026-01-31 12:00:00,123 - root   (7f0000000000) :  INFO (name:1) - text`.
    Bazarr,
    /// `[12:00:00] [INF] [1] Name: text`.
    Jellyfin,
}

/// How grave a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Level {
    Info,
    Warn,
    Error,
    Fatal,
}

/// An application's log.
#[derive(Debug)]
pub struct Console {
    style: Style,
    file: Mutex<Option<PathBuf>>,
}

impl Console {
    /// A log that goes to standard output only, so far.
    pub fn new(style: Style) -> Self {
        Self {
            style,
            file: Mutex::new(None),
        }
    }

    /// Appends every further line to `path` too.
    pub fn also_to(&self, path: PathBuf) {
        if let Ok(mut file) = self.file.lock() {
            *file = Some(path);
        }
    }

    /// A line of level Info.
    pub fn info(&self, name: &str, text: impl Display) {
        self.line(Level::Info, name, text);
    }

    /// A line of any level.
    pub fn line(&self, level: Level, name: &str, text: impl Display) {
        let text = self.style.line(level, name, &text.to_string(), Civil::now());
        // Nobody may be reading: an application does not die of that.
        let _ = writeln!(io::stdout().lock(), "{text}");
        let Ok(file) = self.file.lock() else { return };
        let Some(path) = file.as_ref() else { return };
        if let Ok(mut out) = OpenOptions::new().create(true).append(true).open(path) {
            let _ = writeln!(out, "{text}");
        }
    }

    /// Text as it is, for what is no log line.
    pub fn plain(&self, text: impl Display) {
        let _ = writeln!(io::stdout().lock(), "{text}");
    }
}

/// Text on standard output from a process that has no log. Nobody may be reading, which is no reason to die.
pub fn say(text: impl Display) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}

/// The same on standard error.
pub fn complain(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

impl Style {
    fn line(self, level: Level, name: &str, text: &str, now: Civil) -> String {
        match self {
            Self::Servarr => format!(
                "[{}] {name}: {text}",
                ["Info", "Warn", "Error", "Fatal"]
                    .get(level as usize)
                    .unwrap_or(&"Info")
            ),
            Self::Bazarr => {
                let word = ["INFO", "WARNING", "ERROR", "CRITICAL"]
                    .get(level as usize)
                    .unwrap_or(&"INFO");
                format!(
                    "{} {},{:03} - root                             (7f0000000000) :  {word} ({name}:1) - {text}",
                    now.date(),
                    now.time(),
                    now.millisecond
                )
            }
            Self::Jellyfin => format!(
                "[{}] [{}] [1] {name}: {text}",
                now.time(),
                ["INF", "WRN", "ERR", "FTL"].get(level as usize).unwrap_or(&"INF")
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn forms() {
        let now = Civil::from_epoch(Duration::from_millis(1_500));
        assert_eq!(
            Style::Servarr.line(Level::Info, "Bootstrap", "x", now),
            "[Info] Bootstrap: x"
        );
        assert_eq!(
            Style::Jellyfin.line(Level::Error, "Main", "x", now),
            "[00:00:01] [ERR] [1] Main: x"
        );
        assert!(
            Style::Bazarr
                .line(Level::Info, "server", "x", now)
                .starts_with("1970-01-01 00:00:01,500 - root")
        );
    }
}
