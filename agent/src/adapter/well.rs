//! What applications said of themselves, kept in `/run/dagger/well`: written by `dagger-well` and `dagger-job`, which may
//! read an application's key, and read by the agent, which may not.
//!
//! Two files a service, of one shape: `<service>.json` from the application's own interface, `<service>.db.json` from the
//! check of its databases. Everybody may read them: there is no secret in them.

use std::io;
use std::os::fd::AsFd as _;
use std::time::Duration;

use dagger_suite::model::Service;
use dagger_suite::names::{Root, ServiceName};
use serde::{Deserialize, Serialize};

use super::clock::realtime_usec;
use super::disk::{self, DiskError, Over};
use crate::domain::wellness::Identity;

/// Where the files are.
pub const DIR: &str = "/run/dagger/well";
/// A file is never longer: twenty problems of two hundred characters, and some room.
const FILE_MAX: usize = 64 * 1024;

/// Which of the two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// What the application said ([`WELL_UNIT`]).
    Application,
    /// What its databases look like ([`CHECK_UNIT`]).
    Databases,
}

/// The unit that asks the applications: when it becomes inactive, there is something new to read.
pub const WELL_UNIT: &str = "dagger-well.service";
/// The unit that checks the databases; likewise.
pub const CHECK_UNIT: &str = "dagger-quick-check.service";

impl Source {
    fn suffix(self) -> &'static str {
        match self {
            Self::Application => "json",
            Self::Databases => "db.json",
        }
    }

    /// An older file tells nothing of today: a day for what is asked every hour, a week for what is done every week, and
    /// some more for a machine that was off.
    fn kept(self) -> Duration {
        match self {
            Self::Application => Duration::from_hours(26),
            Self::Databases => Duration::from_hours(9 * 24),
        }
    }
}

/// What was found out about one service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Well {
    /// When, CLOCK_REALTIME in microseconds.
    pub at: u64,
    /// The application's own sentences; empty when it is well.
    pub problems: Vec<String>,
    /// Who answered.
    pub identity: Option<Identity>,
    /// Why it could not be asked, or not everything.
    pub error: Option<String>,
}

/// What is known of a service now: both files together, the application's problems first. None when there is neither, or
/// both are too old.
pub fn read(root: &Root, service: &ServiceName) -> io::Result<Option<Well>> {
    let now = realtime_usec();
    let application = read_one(root, service, Source::Application, now)?;
    let databases = read_one(root, service, Source::Databases, now)?;
    Ok(match (application, databases) {
        (Some(application), Some(databases)) => Some(merge(application, databases)),
        (application, databases) => application.or(databases),
    })
}

fn merge(mut application: Well, databases: Well) -> Well {
    application.at = application.at.max(databases.at);
    application.problems.extend(databases.problems);
    application.error = match (application.error, databases.error) {
        (Some(one), Some(other)) => Some(format!("{one}; {other}")),
        (one, other) => one.or(other),
    };
    application
}

fn read_one(root: &Root, service: &ServiceName, source: Source, now: u64) -> io::Result<Option<Well>> {
    let path = path(service, source);
    let named = |reason: String| io::Error::other(format!("{path} cannot be used: {reason}"));
    let Some(bytes) = disk::read(&root.join(&path), FILE_MAX).map_err(|error| named(error.to_string()))?
    else {
        return Ok(None);
    };
    let well: Well = serde_json::from_slice(&bytes).map_err(|error| named(error.to_string()))?;
    let age = Duration::from_micros(now.saturating_sub(well.at));
    Ok((age <= source.kept()).then_some(well))
}

fn path(service: &ServiceName, source: Source) -> String {
    format!("{DIR}/{service}.{}", source.suffix())
}

/// Puts a service's file in place, whole or not at all.
pub fn write(root: &Root, service: &ServiceName, source: Source, well: &Well) -> io::Result<()> {
    let text = serde_json::to_vec(well).map_err(io::Error::other)?;
    disk::write(&root.join(path(service, source)), &text, Over::Replace)
        .map(|_| ())
        .map_err(io::Error::other)
}

/// Takes a service's file away, for one that does not run: what it said last is no news any more.
pub fn forget(root: &Root, service: &ServiceName, source: Source) -> Result<(), DiskError> {
    let Some(dir) = disk::open_dir(&root.join(DIR))? else {
        return Ok(());
    };
    disk::remove(dir.as_fd(), &root.join(path(service, source)))
}

/// The services that are named on a command line, or all; the error is a sentence for each name that is none.
pub fn chosen(services: Vec<Service>, words: &[String]) -> Result<Vec<Service>, Vec<String>> {
    let unknown: Vec<String> = words
        .iter()
        .filter(|word| !services.iter().any(|service| service.name.as_str() == *word))
        .map(|word| {
            format!("there is no service {word:?} in the configuration that can run (see daggerctl status)")
        })
        .collect();
    if !unknown.is_empty() {
        return Err(unknown);
    }
    Ok(services
        .into_iter()
        .filter(|service| words.is_empty() || words.iter().any(|word| word == service.name.as_str()))
        .collect())
}

/// Whether the service's container runs: podman's id file lies in the unit's own run-time directory, which systemd takes
/// away with the unit.
pub fn runs(root: &Root, service: &ServiceName) -> bool {
    root.join(format!("/run/{}/cid", service.container())).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> Root {
        let dir = std::env::temp_dir().join(format!("dagger-well-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir(&dir).unwrap();
        Root::new(dir.canonicalize().unwrap())
    }

    fn said(at: u64, problem: &str) -> Well {
        Well {
            at,
            problems: vec![problem.into()],
            ..Well::default()
        }
    }

    const HOUR: u64 = 3_600_000_000;

    #[test]
    fn both_files_are_one_answer() {
        let root = scratch("both");
        let service = ServiceName::parse("sonarr").unwrap();
        assert_eq!(read(&root, &service).unwrap(), None);
        let now = realtime_usec();
        write(&root, &service, Source::Databases, &said(now - HOUR, "db")).unwrap();
        assert_eq!(read(&root, &service).unwrap().unwrap().problems, ["db"]);
        let application = Well {
            identity: Some(Identity {
                name: "Sonarr".into(),
                version: "4".into(),
            }),
            error: Some("half".into()),
            ..said(now, "api")
        };
        write(&root, &service, Source::Application, &application).unwrap();
        let both = read(&root, &service).unwrap().unwrap();
        assert_eq!(both.problems, ["api", "db"]);
        assert_eq!((both.at, both.error.as_deref()), (now, Some("half")));
        assert_eq!(both.identity.unwrap().name, "Sonarr");
        forget(&root, &service, Source::Application).unwrap();
        forget(&root, &service, Source::Application).unwrap();
        assert_eq!(read(&root, &service).unwrap().unwrap().problems, ["db"]);
    }

    #[test]
    fn old_news_is_none() {
        let root = scratch("old");
        let service = ServiceName::parse("sonarr").unwrap();
        let now = realtime_usec();
        for (source, hours, known) in [
            (Source::Application, 25, true),
            (Source::Application, 27, false),
            (Source::Databases, 27, true),
            (Source::Databases, 8 * 24, true),
            (Source::Databases, 10 * 24, false),
        ] {
            write(&root, &service, source, &said(now - hours * HOUR, "x")).unwrap();
            assert_eq!(
                read(&root, &service).unwrap().is_some(),
                known,
                "{source:?} {hours}"
            );
            forget(&root, &service, source).unwrap();
        }
    }

    #[test]
    fn a_file_that_is_none_says_which() {
        let root = scratch("garbage");
        let service = ServiceName::parse("sonarr").unwrap();
        write(&root, &service, Source::Application, &said(1, "x")).unwrap();
        std::fs::write(root.join(path(&service, Source::Application)), "{").unwrap();
        let error = read(&root, &service).unwrap_err().to_string();
        assert!(error.contains("/run/dagger/well/sonarr.json"), "{error}");
    }
}
