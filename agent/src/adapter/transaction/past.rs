//! Transactions that are over: their logs, which nothing hangs on any more.

use std::path::Path;

use dagger_suite::names::ServiceName;

use super::TRANSACTIONS;
use crate::adapter::disk::{self, DiskError};
use crate::domain::transaction::{Progress, record};

/// More of one service are not looked at.
const MOST: usize = 10_000;
/// No log comes near it.
const LOG_MAX: usize = 4 << 20;

/// A transaction that is over.
#[derive(Debug)]
pub struct Past {
    /// All of it.
    pub progress: Progress,
    /// When its last record was written, in µs since 1970; clocks are set.
    pub ended: u64,
}

/// The transactions of a service that are over, the oldest first. `dir` is `/var/lib/dagger` below the root. Logs that cannot
/// be read are left out: they are for people by now.
pub fn past(dir: &Path, service: &ServiceName) -> Result<Vec<Past>, DiskError> {
    let home = dir.join(TRANSACTIONS).join(service.as_str());
    let Some(open) = disk::open_dir(&home)? else {
        return Ok(Vec::new());
    };
    let mut names = disk::names(&open, MOST).map_err(|source| DiskError::Io {
        what: "list",
        path: home.clone(),
        source,
    })?;
    // Their names begin with the time.
    names.sort();
    let mut found = Vec::new();
    for name in names {
        let is_log = Path::new(&name).extension().is_some_and(|end| end == "log");
        if !is_log || name == "log" {
            continue;
        }
        let Some(bytes) = disk::read(&home.join(&name), LOG_MAX)? else {
            continue;
        };
        let Ok(lines) = record::read(&bytes).map(|reading| reading.lines) else {
            continue;
        };
        if let Ok(Some(progress)) = Progress::replay(&lines) {
            let ended = lines.last().map_or(0, |line| line.at);
            found.push(Past { progress, ended });
        }
    }
    Ok(found)
}
