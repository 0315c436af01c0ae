//! Misbehaviour on command: the file `fault` in the state directory, one fault a line, in force as soon as it is written.
//!
//! | line | what happens |
//! |---|---|
//! | `hang` | requests are read and never answered, until the line is gone |
//! | `500` (any of 400 to 599) | every request gets that status |
//! | `refuse` | the port is closed, open connections are dropped |
//! | `slow 3s` | every answer comes that much later |
//! | `trickle [200ms]` | the answer comes one byte at a time, with that pause |
//! | `endless-body` | 200 and a body without end |
//! | `many-headers [N]` | the right answer behind N (10000) headers |
//! | `redirect-loop` | 302 to a path that redirects again |
//! | `corrupt` | bytes that are no HTTP |
//! | `truncate` | a longer `Content-Length` than body |
//! | `wrong-body` | 200 and a page of somebody else |
//! | `flap 5s` | that long 503, that long good, and so on, beginning when the file was written |
//! | `leak [8M]` | takes that much more memory a second and keeps it |
//! | `ignore-sigterm` | SIGTERM and SIGINT do nothing |
//! | `slow-stop 10s` | a stop takes that long |
//! | `exit 3 [once]` | the application exits with that code; with `once` the line is taken out first |
//! | `signal 11 [once]` | the application kills itself by that signal |
//! | `unwell TEXT` | it answers as ever, and its own health list (Servarr, Bazarr) holds that text as an error |
//! | `slow-start 5s`, `migrate 10s`, `fail-start` | read at the next start, like `STANDIN_SLOW_START` and its kin |
//!
//! Durations are `3s`, `250ms`, `2m` or plain seconds; sizes are bytes or `K`, `M`, `G`. `#` starts a comment.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// One line of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant is a row of the module's table")]
pub enum Fault {
    Hang,
    Status(u16),
    Refuse,
    Slow(Duration),
    Trickle(Duration),
    EndlessBody,
    ManyHeaders(usize),
    RedirectLoop,
    Corrupt,
    Truncate,
    WrongBody,
    Flap(Duration),
    Leak(usize),
    IgnoreSigterm,
    SlowStop(Duration),
    Exit {
        code: i32,
        once: bool,
    },
    Signal {
        number: i32,
        once: bool,
    },
    /// The text is in [`FaultSet::unwell`].
    Unwell,
    SlowStart(Duration),
    Migrate(Duration),
    FailStart,
}

impl Fault {
    /// Reads one line; `Err` holds what is wrong with it.
    pub fn parse(line: &str) -> Result<Option<Self>, String> {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(name) = words.next() else { return Ok(None) };
        if name == "unwell" {
            let text = words.next().map(|_| Some(Self::Unwell));
            return text.ok_or_else(|| format!("{line:?} has no text"));
        }
        let (argument, once) = match (words.next(), words.next()) {
            (argument, Some("once")) => (argument, true),
            (argument, None) => (argument, false),
            (_, Some(extra)) => return Err(format!("{line:?}: {extra:?} means nothing here")),
        };
        let wrong = || format!("{line:?} is not a fault");
        let time = |default: Option<Duration>| argument.map_or(default, duration).ok_or_else(wrong);
        let number = || {
            argument
                .and_then(|text| text.parse::<i32>().ok())
                .ok_or_else(wrong)
        };
        let fault = match name {
            "hang" => Self::Hang,
            "refuse" => Self::Refuse,
            "slow" => Self::Slow(time(None)?),
            "trickle" => Self::Trickle(time(Some(Duration::from_millis(200)))?),
            "endless-body" => Self::EndlessBody,
            "many-headers" => Self::ManyHeaders(argument.map_or(Some(10_000), size).ok_or_else(wrong)?),
            "redirect-loop" => Self::RedirectLoop,
            "corrupt" => Self::Corrupt,
            "truncate" => Self::Truncate,
            "wrong-body" => Self::WrongBody,
            "flap" => Self::Flap(time(None)?),
            "leak" => Self::Leak(argument.map_or(Some(8 << 20), size).ok_or_else(wrong)?),
            "ignore-sigterm" => Self::IgnoreSigterm,
            "slow-stop" => Self::SlowStop(time(None)?),
            "exit" => Self::Exit {
                code: number()?,
                once,
            },
            "signal" => Self::Signal {
                number: number()?,
                once,
            },
            "slow-start" => Self::SlowStart(time(None)?),
            "migrate" => Self::Migrate(time(None)?),
            "fail-start" => Self::FailStart,
            status => match status.parse() {
                Ok(status @ 400..=599) => Self::Status(status),
                _ => return Err(wrong()),
            },
        };
        Ok(Some(fault))
    }
}

/// `3s`, `250ms`, `2m`, or plain seconds.
pub fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(
        text.find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len()),
    );
    let scale = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * scale).ok()
}

fn size(text: &str) -> Option<usize> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let shift = match unit {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        _ => return None,
    };
    number.parse::<usize>().ok()?.checked_shl(shift)
}

/// The faults that are in force at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FaultSet {
    faults: Vec<Fault>,
    since: Option<SystemTime>,
    /// What the application says of itself.
    pub unwell: Vec<String>,
    /// What could not be understood.
    pub mistakes: Vec<String>,
}

impl FaultSet {
    /// Reads a file's text.
    pub fn parse(text: &str, since: Option<SystemTime>) -> Self {
        let mut set = Self {
            since,
            ..Self::default()
        };
        for line in text.lines() {
            match Fault::parse(line) {
                Ok(Some(Fault::Unwell)) => {
                    let text = line.trim().trim_start_matches("unwell").trim();
                    set.unwell.push(text.to_owned());
                }
                Ok(fault) => set.faults.extend(fault),
                Err(mistake) => set.mistakes.push(mistake),
            }
        }
        set
    }

    /// The first fault for which `pick` has an answer.
    pub fn find<T>(&self, pick: impl Fn(&Fault) -> Option<T>) -> Option<T> {
        self.faults.iter().find_map(pick)
    }

    /// Every fault.
    pub fn iter(&self) -> impl Iterator<Item = Fault> {
        self.faults.iter().copied()
    }

    /// Whether this very fault is in force.
    pub fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    /// Whether a `flap` is in its bad half now.
    pub fn flapping(&self, now: SystemTime) -> bool {
        let Some(period) = self.find(|fault| {
            if let Fault::Flap(period) = fault {
                Some(*period)
            } else {
                None
            }
        }) else {
            return false;
        };
        let age = self
            .since
            .and_then(|since| now.duration_since(since).ok())
            .unwrap_or_default();
        (age.as_millis() / period.as_millis().max(1)).is_multiple_of(2)
    }
}

/// The fault file.
#[derive(Debug, Clone)]
pub struct Faults {
    path: PathBuf,
}

impl Faults {
    /// The file `fault` in `state`.
    pub fn new(state: &Path) -> Self {
        Self {
            path: state.join("fault"),
        }
    }

    /// What is in force now. A file that is not there, or is just being replaced, means nothing.
    pub fn now(&self) -> FaultSet {
        let Ok(text) = fs::read_to_string(&self.path) else {
            return FaultSet::default();
        };
        let since = fs::metadata(&self.path).and_then(|data| data.modified()).ok();
        FaultSet::parse(&text, since)
    }

    /// Takes the lines of `fault` out, so that the next start does not meet it again.
    pub fn consume(&self, fault: Fault) -> io::Result<()> {
        let text = fs::read_to_string(&self.path)?;
        let mut left: Vec<&str> = text
            .lines()
            .filter(|line| Fault::parse(line) != Ok(Some(fault)))
            .collect();
        left.push("");
        // Replaced, not rewritten: whoever commands faults is often not who the application runs as.
        super::replace(&self.path, left.join("\n").as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_line_is_understood() {
        let text = include_str!("fault.rs");
        let mut rows = 0;
        for row in text.lines().filter_map(|line| line.strip_prefix("//! | `")) {
            for cell in row.split(" | ").next().unwrap().split("`, `") {
                let line = cell
                    .split('`')
                    .next()
                    .unwrap()
                    .replace(['[', ']'], "")
                    .replace(" N", " 5");
                assert!(matches!(Fault::parse(&line), Ok(Some(_))), "{line:?}");
                rows += 1;
            }
        }
        assert_eq!(rows, 21);
    }

    #[test]
    fn durations_sizes_and_mistakes() {
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(duration("1.5"), Some(Duration::from_millis(1500)));
        assert_eq!(duration("3h"), None);
        let set = FaultSet::parse("leak 2M # slowly\nexplode\n\nexit 3 once\n200\nslow\n", None);
        assert!(set.has(Fault::Leak(2 << 20)) && set.has(Fault::Exit { code: 3, once: true }));
        assert_eq!(set.mistakes.len(), 3);
        let set = FaultSet::parse("unwell Indexers are gone: all\nunwell\n", None);
        assert_eq!(set.unwell, ["Indexers are gone: all"]);
        assert_eq!(set.mistakes.len(), 1);
    }

    #[test]
    fn flapping_starts_bad_and_alternates() {
        let start = SystemTime::UNIX_EPOCH;
        let set = FaultSet::parse("flap 5s", Some(start));
        let at = |seconds| set.flapping(start + Duration::from_secs(seconds));
        assert_eq!(
            [at(0), at(4), at(5), at(9), at(10)],
            [true, true, false, false, true]
        );
    }
}
