//! One transaction a service at a time: a lock that ends with whoever has it, and says who that is.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::TRANSACTIONS;
use crate::adapter::disk::{self, DiskError, Leaf};

/// Whoever is at work on a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process.
    pub pid: u32,
    /// Its unit; none when it was started by hand.
    pub unit: Option<String>,
    /// What it does: `migrate`, `recover`.
    pub verb: String,
    /// Since when, in µs since 1970.
    pub since: u64,
}

/// The lock is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error("{service} is in other hands: {}", holder.as_ref().map_or_else(|| "it was locked this moment".to_owned(), said))]
    Taken {
        /// The service.
        service: String,
        /// Who; none when it has not said so yet.
        holder: Option<Holder>,
    },
    /// A directory is not what it should be.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The system said no.
    #[error("{service} cannot be locked: {source}")]
    Io {
        /// The service.
        service: String,
        /// What the system said.
        source: io::Error,
    },
}

/// `process 4711 (dagger-migrate@sonarr.service) has been at migrate since 2026-11-24 17:00:05 UTC`
fn said(holder: &Holder) -> String {
    let unit = holder.unit.as_deref().unwrap_or("started by hand");
    format!(
        "process {} ({unit}) is at it (`{}`, since @{}); see `systemctl status {}`",
        holder.pid,
        holder.verb,
        holder.since / 1_000_000,
        holder.unit.clone().unwrap_or_else(|| holder.pid.to_string()),
    )
}

/// The lock, as long as this lives.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of a service, or says who has it. `dir` is `/var/lib/dagger` below the root.
    pub fn take(dir: &Path, service: &str, holder: &Holder) -> Result<Self, LockError> {
        let leaf = Leaf {
            mode: 0o700,
            owner: None,
        };
        disk::make_dir(&dir.join(TRANSACTIONS), leaf)?;
        let own = disk::make_dir(&dir.join(TRANSACTIONS).join(service), leaf)?.dir;
        let failed = |source: io::Error| LockError::Io {
            service: service.to_owned(),
            source,
        };
        // It is never removed: two could have a lock of the same name then.
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&own, "lock", flags, Mode::from_raw_mode(0o600))
            .map_err(|errno| failed(errno.into()))?;
        let mut file = File::from(file);
        match rustix::fs::flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let text = io::read_to_string(&file).map_err(failed)?;
                return Err(LockError::Taken {
                    service: service.to_owned(),
                    holder: serde_json::from_str(&text).ok(),
                });
            }
            Err(errno) => return Err(failed(errno.into())),
        }
        let text = serde_json::to_string(holder).map_err(|error| failed(error.into()))?;
        file.set_len(0)
            .and_then(|()| file.write_all(text.as_bytes()))
            .map_err(failed)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_it_is_named_and_other_services_are_free() {
        let dir = std::env::temp_dir().join(format!("dagger-lock-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir(&dir).unwrap();
        let dir = dir.canonicalize().unwrap();
        let holder = Holder {
            pid: 4711,
            unit: Some("dagger-migrate@sonarr.service".into()),
            verb: "migrate".into(),
            since: 5_000_000,
        };
        let lock = Lock::take(&dir, "sonarr", &holder).unwrap();
        let other = Lock::take(&dir, "radarr", &holder).unwrap();
        let refused = Lock::take(&dir, "sonarr", &holder).unwrap_err();
        let text = refused.to_string();
        for word in ["sonarr", "4711", "dagger-migrate@sonarr.service", "@5"] {
            assert!(text.contains(word), "{text}");
        }
        drop((lock, other));
        Lock::take(&dir, "sonarr", &holder).unwrap();
        std::fs::remove_dir_all(dir).unwrap();
    }
}
