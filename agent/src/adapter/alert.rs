//! Alerts on their way from the agent to `dagger-alert@<service>.service`: an environment file a service, and what that
//! unit remembers. The agent writes, starts the unit and goes on; it never waits for it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use dagger_suite::names::{ALERT_DIR, Root, ServiceName};

use super::disk::{self, DiskError, Over};
use crate::domain::alert::Alert;
use crate::domain::alert::ledger::Ledger;

fn path(root: &Root, service: &str) -> PathBuf {
    root.join(ALERT_DIR).join(format!("{service}.env"))
}

/// Writes the alert, in place of the service's last one; mode 0644. The unit to start then is
/// [`ServiceName::alert_unit`]. A start while it runs is enough: it looks for a newer alert before it ends.
pub fn write(root: &Root, alert: &Alert) -> Result<(), DiskError> {
    let text = alert.to_environment();
    disk::write(&path(root, &alert.service), text.as_bytes(), Over::Replace).map(|_| ())
}

/// An alert as it lies on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The alert.
    pub alert: Alert,
    /// When it was written, in nanoseconds of CLOCK_REALTIME: each alert has its own.
    pub stamp: u64,
}

/// The service's last alert, if there has been one since the machine started; the error is a sentence.
pub fn read(root: &Root, service: &ServiceName) -> Result<Option<Written>, String> {
    let path = path(root, service.as_str());
    let cannot = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(cannot(&error)),
    };
    let written = fs::metadata(&path)
        .and_then(|meta| meta.modified())
        .map_err(|error| cannot(&error))?;
    let age = written.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Some(Written {
        alert: Alert::from_environment(&text).map_err(|error| cannot(&error))?,
        stamp: u64::try_from(age.as_nanos()).unwrap_or(u64::MAX),
    }))
}

/// Name of the ledger in the directory that the unit has for a service.
const LEDGER: &str = "ledger.json";

/// What the unit remembers of a service. What is not there, or cannot be read any more, is forgotten: then somebody is told
/// once more than needed. The second value says why it could not be read.
pub fn read_ledger(dir: &Path) -> (Ledger, Option<String>) {
    let path = dir.join(LEDGER);
    let read = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return (Ledger::default(), None),
        Err(error) => Err(error.to_string()),
        Ok(text) => serde_json::from_str(&text).map_err(|error| error.to_string()),
    };
    match read {
        Ok(ledger) => (ledger, None),
        Err(error) => (
            Ledger::default(),
            Some(format!("{} is not used: {error}", path.display())),
        ),
    }
}

/// Writes it back. `dir` has no symbolic link in it.
pub fn write_ledger(dir: &Path, ledger: &Ledger) -> Result<(), DiskError> {
    let path = dir.join(LEDGER);
    let text = serde_json::to_vec(ledger).map_err(|error| DiskError::Io {
        what: "write",
        path: path.clone(),
        source: error.into(),
    })?;
    disk::write(&path, &text, Over::Replace).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::alert::Event;
    use crate::domain::health::Health;

    #[test]
    fn what_the_agent_writes_the_unit_reads_and_tells_apart() {
        let dir = std::env::temp_dir().join(format!("dagger-alert-file-{}", std::process::id()));
        let root = Root::new(&dir);
        let sonarr = ServiceName::parse("sonarr").unwrap();
        assert_eq!(read(&root, &sonarr), Ok(None));
        let alert = Alert {
            service: "sonarr".into(),
            event: Event::GivenUp,
            health: Health::Failed,
            detail: "no answer for 5 min".into(),
        };
        write(&root, &alert).unwrap();
        let first = read(&root, &sonarr).unwrap().unwrap();
        assert_eq!(first.alert, alert);
        // The clock of the file system ticks in steps of a few milliseconds.
        std::thread::sleep(std::time::Duration::from_millis(20));
        write(&root, &alert).unwrap();
        assert!(read(&root, &sonarr).unwrap().unwrap().stamp > first.stamp);
        fs::write(path(&root, "sonarr"), "x").unwrap();
        assert!(
            read(&root, &sonarr)
                .unwrap_err()
                .contains("sonarr.env: there is no DAGGER_EVENT=")
        );
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_ledger_that_cannot_be_read_is_a_new_one() {
        let dir = std::env::temp_dir().join(format!("dagger-alert-ledger-{}", std::process::id()));
        let ledger: Ledger = serde_json::from_str("{\"handled\": 7, \"targets\": {}}").unwrap();
        assert_eq!(read_ledger(&dir), (Ledger::default(), None));
        write_ledger(&dir, &ledger).unwrap();
        assert_eq!(read_ledger(&dir), (ledger, None));
        fs::write(dir.join(LEDGER), "{").unwrap();
        let (ledger, why) = read_ledger(&dir);
        assert_eq!(ledger, Ledger::default());
        assert!(why.is_some_and(|why| why.contains("ledger.json is not used")));
        fs::remove_dir_all(&dir).unwrap();
    }
}
