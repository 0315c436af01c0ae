//! What a stand-in is told from outside: the environment, and the options for its start.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `STANDIN_SLOW_START` | how long the port is open and the application is "starting" (Servarr: 503 text; Jellyfin: 503 of the real server; Bazarr: port not open yet) | 0 |
//! | `STANDIN_MIGRATE` | how long the database migration at start takes (Servarr: port closed; Jellyfin: setup server, `Degraded`; Bazarr: TCP accepts, HTTP hangs) | 0 |
//! | `STANDIN_FAIL_START` | `1`: the migration fails, as a broken database would; `exit N`: leaves at once with that code | - |
//! | `STANDIN_FAIL_WAIT` | how long the process stays after a failed start (Servarr 3600 s, Jellyfin 600 s) | as real |
//! | `STANDIN_SLOW_STOP` | how long a stop takes | 0 |
//! | `STANDIN_VERSION` | the version that is shown | per application |
//! | `STANDIN_SCHEMA` | the schema that this "binary" knows and migrates to (number; Alembic revision; EF migration id) | per application |
//! | `STANDIN_WRITE_INTERVAL` | pause between two rows that are written | 250ms |
//! | `STANDIN_IMAGE` | `lsio`, `upstream` or `native`: see [`super::image`] | guessed |
//!
//! Durations are `3s`, `250ms`, `2m` or plain seconds. The fault file's `slow-start`, `migrate` and `fail-start` win.

use std::time::Duration;

use super::fault::{Fault, Faults, duration};

/// The environment, as a value that tests can make.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: Vec<(String, String)>,
}

impl Environment {
    /// That of this process; what is not UTF-8 is left out.
    pub fn of_process() -> Self {
        Self {
            variables: std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
        }
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The value of `name` in any case, as .NET's configuration looks it up.
    pub fn get_any_case(&self, name: &str) -> Option<&str> {
        self.variables
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Every variable whose name starts with `prefix`, without it.
    pub fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.variables
            .iter()
            .filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, value.as_str())))
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(pairs: [(&str, &str); N]) -> Self {
        Self {
            variables: pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        }
    }
}

/// What a start that is to fail does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailStart {
    /// As with a database that cannot be migrated.
    Migration,
    /// Exits at once.
    Exit(u8),
}

/// The options for a start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is a row of the module's table")]
pub struct Options {
    pub slow_start: Duration,
    pub migrate: Duration,
    pub fail_start: Option<FailStart>,
    pub fail_wait: Option<Duration>,
    pub slow_stop: Duration,
    pub version: Option<String>,
    pub schema: Option<String>,
    pub write_interval: Duration,
}

impl Options {
    /// Reads the variables of the table; `Err` names the one that makes no sense.
    pub fn read(environment: &Environment) -> Result<Self, String> {
        let text = |name: &str| environment.get(name).filter(|text| !text.is_empty());
        let time = |name: &str| {
            text(name)
                .map(|value| duration(value).ok_or_else(|| format!("{name}={value:?} is no duration")))
                .transpose()
        };
        let fail_start = match text("STANDIN_FAIL_START") {
            None | Some("0") => None,
            Some("1") => Some(FailStart::Migration),
            Some(other) => Some(FailStart::Exit(
                other
                    .strip_prefix("exit")
                    .and_then(|code| code.trim().parse().ok())
                    .ok_or_else(|| format!("STANDIN_FAIL_START={other:?} is neither 1 nor \"exit N\""))?,
            )),
        };
        Ok(Self {
            slow_start: time("STANDIN_SLOW_START")?.unwrap_or_default(),
            migrate: time("STANDIN_MIGRATE")?.unwrap_or_default(),
            fail_start,
            fail_wait: time("STANDIN_FAIL_WAIT")?,
            slow_stop: time("STANDIN_SLOW_STOP")?.unwrap_or_default(),
            version: text("STANDIN_VERSION").map(str::to_owned),
            schema: text("STANDIN_SCHEMA").map(str::to_owned),
            write_interval: time("STANDIN_WRITE_INTERVAL")?.unwrap_or(Duration::from_millis(250)),
        })
    }

    /// Puts what the fault file says about this start over what the environment said.
    #[must_use]
    pub fn with_faults(mut self, faults: &Faults) -> Self {
        let set = faults.now();
        if let Some(time) = set.find(|fault| {
            if let Fault::SlowStart(time) = fault {
                Some(*time)
            } else {
                None
            }
        }) {
            self.slow_start = time;
        }
        if let Some(time) = set.find(|fault| {
            if let Fault::Migrate(time) = fault {
                Some(*time)
            } else {
                None
            }
        }) {
            self.migrate = time;
        }
        if set.has(Fault::FailStart) {
            self.fail_start = Some(FailStart::Migration);
        }
        self
    }

    /// How long the stop takes now.
    pub fn stop_time(&self, faults: &Faults) -> Duration {
        faults
            .now()
            .find(|fault| {
                if let Fault::SlowStop(time) = fault {
                    Some(*time)
                } else {
                    None
                }
            })
            .unwrap_or(self.slow_stop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_and_mistakes() {
        let options = Options::read(&Environment::from([
            ("STANDIN_MIGRATE", "2"),
            ("STANDIN_FAIL_START", "exit 4"),
        ]))
        .unwrap();
        assert_eq!(
            (options.migrate, options.fail_start),
            (Duration::from_secs(2), Some(FailStart::Exit(4)))
        );
        assert_eq!(options.write_interval, Duration::from_millis(250));
        assert!(Options::read(&Environment::from([("STANDIN_SLOW_START", "soon")])).is_err());
    }

    #[test]
    fn the_fault_file_wins() {
        let dir = std::env::temp_dir().join(format!("standin-options-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("fault"), "slow-start 7s\nfail-start\n").unwrap();
        let options = Options::default().with_faults(&Faults::new(&dir));
        assert_eq!(
            (options.slow_start, options.fail_start),
            (Duration::from_secs(7), Some(FailStart::Migration))
        );
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
