//! Where Jellyfin's directories are, and the markers that keep their roles apart.
//!
//! | role | from | marker |
//! |---|---|---|
//! | program data D | `--datadir`, `JELLYFIN_DATA_DIR`, XDG | `.jellyfin-data` |
//! | database D/data | D | `.jellyfin-data` |
//! | plugins, root | D | `.jellyfin-plugin`, `.jellyfin-root` |
//! | configuration | `--configdir`, `JELLYFIN_CONFIG_DIR`, `D/config` if that exists or `--datadir` was given, XDG | `.jellyfin-config` |
//! | cache | `--cachedir`, `JELLYFIN_CACHE_DIR`, XDG | `.jellyfin-cache` |
//! | log | `--logdir`, `JELLYFIN_LOG_DIR`, D/log | `.jellyfin-log` |
//! | transcodes | cache/transcodes | `.jellyfin-transcode`, looked for at any depth |
//!
//! A directory that holds another role's marker at its top stops the start, before any log or port.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::standin::options::Environment;

/// The directories of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is a row of the module's table")]
pub struct Paths {
    pub data: PathBuf,
    pub config: PathBuf,
    pub cache: PathBuf,
    pub log: PathBuf,
    /// Only when it was named; it must then exist and not be empty.
    pub web: Option<PathBuf>,
}

impl Paths {
    /// Flags beat the environment, that beats XDG.
    pub fn resolve(arguments: &[String], environment: &Environment) -> Self {
        let named = |long: &str, short: &str, variable: &str| {
            flag(arguments, long, short)
                .or_else(|| {
                    environment
                        .get(variable)
                        .filter(|text| !text.is_empty())
                        .map(str::to_owned)
                })
                .map(PathBuf::from)
        };
        let xdg = |variable: &str, fallback: &str| {
            let home = Path::new(environment.get("HOME").unwrap_or("/"));
            environment
                .get(variable)
                .map_or_else(|| home.join(fallback), PathBuf::from)
                .join("jellyfin")
        };
        let portable = flag(arguments, "datadir", "d").is_some();
        let data = named("datadir", "d", "JELLYFIN_DATA_DIR")
            .unwrap_or_else(|| xdg("XDG_DATA_HOME", ".local/share"));
        let config = named("configdir", "c", "JELLYFIN_CONFIG_DIR").unwrap_or_else(|| {
            let below = data.join("config");
            if portable || below.is_dir() {
                below
            } else {
                xdg("XDG_CONFIG_HOME", ".config")
            }
        });
        Self {
            cache: named("cachedir", "C", "JELLYFIN_CACHE_DIR")
                .unwrap_or_else(|| xdg("XDG_CACHE_HOME", ".cache")),
            log: named("logdir", "l", "JELLYFIN_LOG_DIR").unwrap_or_else(|| data.join("log")),
            web: named("webdir", "w", "JELLYFIN_WEB_DIR"),
            data,
            config,
        }
    }

    /// The main database.
    pub fn database(&self) -> PathBuf {
        self.data.join("data/jellyfin.db")
    }

    /// Makes the main directories.
    pub fn create(&self) -> io::Result<()> {
        [&self.data, &self.log, &self.config, &self.cache]
            .into_iter()
            .try_for_each(fs::create_dir_all)
    }

    /// Checks and writes the markers, in the original's order; `Err` is the text of its exception.
    pub fn mark(&self) -> Result<(), String> {
        let roles = [
            (self.config.clone(), "config", false),
            (self.log.clone(), "log", false),
            (self.data.join("plugins"), "plugin", false),
            (self.data.clone(), "data", false),
            (self.cache.clone(), "cache", false),
            (self.data.join("data"), "data", false),
            (self.data.join("root"), "root", false),
            (self.cache.join("transcodes"), "transcode", true),
        ];
        for (path, role, deep) in roles {
            let broken = |error: io::Error| format!("{}: {error}", path.display());
            let own = format!(".jellyfin-{role}");
            fs::create_dir_all(&path).map_err(broken)?;
            if let Some(other) = foreign(&path, &own, deep).map_err(broken)? {
                return Err(format!(
                    "Expected to find only {own} but found marker for {}.",
                    other.display()
                ));
            }
            let marker = path.join(own);
            if !marker.exists() {
                fs::write(&marker, "").map_err(broken)?;
            }
        }
        Ok(())
    }
}

/// `--datadir X`, `--datadir=X`, `-d X`.
fn flag(arguments: &[String], long: &str, short: &str) -> Option<String> {
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        if let Some(value) = word.strip_prefix(&format!("--{long}=")) {
            return Some(value.to_owned());
        }
        if *word == format!("--{long}") || *word == format!("-{short}") {
            return words.next().cloned();
        }
    }
    None
}

fn foreign(directory: &Path, own: &str, deep: bool) -> io::Result<Option<PathBuf>> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(".jellyfin-") && name != own {
            return Ok(Some(entry.path()));
        }
        if deep
            && entry.file_type()?.is_dir()
            && let Some(found) = foreign(&entry.path(), own, true)?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::standin::tests::Directory;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn flags_beat_environment_beat_xdg() {
        let environment = Environment::from([
            ("JELLYFIN_DATA_DIR", "/e"),
            ("JELLYFIN_CACHE_DIR", "/c"),
            ("HOME", "/h"),
            ("XDG_CONFIG_HOME", "/x"),
        ]);
        let paths = Paths::resolve(&words("--cachedir=/f"), &environment);
        assert_eq!(
            (paths.data.to_str(), paths.cache.to_str(), paths.config.to_str()),
            (Some("/e"), Some("/f"), Some("/x/jellyfin"))
        );
        let portable = Paths::resolve(&words("--datadir /d"), &environment);
        assert_eq!(
            (portable.config.to_str(), portable.log.to_str()),
            (Some("/d/config"), Some("/d/log"))
        );
    }

    #[test]
    fn jellyfin_17900_native_data_mounted_as_configuration_is_refused() {
        let directory = Directory::new();
        let at = |name: &str| directory.path().join(name);
        let native = Paths {
            data: at("data"),
            config: at("config"),
            cache: at("cache"),
            log: at("log"),
            web: None,
        };
        native.create().unwrap();
        native.mark().unwrap();
        native.mark().unwrap();
        let error = Paths {
            config: at("data"),
            data: at("data/data"),
            ..native.clone()
        }
        .mark()
        .unwrap_err();
        assert_eq!(
            error,
            format!(
                "Expected to find only .jellyfin-config but found marker for {}.",
                at("data/.jellyfin-data").display()
            )
        );
        let one = Paths {
            data: at("one"),
            config: at("one"),
            cache: at("two"),
            log: at("three"),
            web: None,
        };
        assert!(one.mark().is_err(), "data and configuration in one directory");
    }

    #[test]
    fn transcodes_are_searched_deeply() {
        let directory = Directory::new();
        let at = |name: &str| directory.path().join(name);
        let paths = Paths {
            data: at("data"),
            config: at("config"),
            cache: at("cache"),
            log: at("log"),
            web: None,
        };
        directory.write("cache/transcodes/a/b/.jellyfin-log", "");
        assert!(paths.mark().is_err());
    }
}
