//! The ledger of one service's transaction: its log, the hold and the owner marker.
//!
//! Hold and marker are made ready before anything is begun and only linked and unlinked later: that needs no room, so a full
//! disk can be undone, and each is one change in one directory, so it has happened or not.

use std::io;

use super::files::Files;
use super::{HOLD, OWNER, TRANSACTIONS};
use crate::adapter::disk::advice;
use crate::adapter::owner::{self, Owner};
use crate::domain::transaction::record::{self, Line};
use crate::domain::transaction::{Damage, Decision, Ledger, Progress, Record, Side, Transaction, recover};

/// Room that a log keeps for what is still to be noted: a whole way there and back is some forty lines.
const ROOM: u64 = 64 << 10;

/// A transaction cannot be begun, or found again.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// Another one is open.
    #[error(
        "{service}: a transaction that was interrupted is still open in {log}: finish or undo it first with `nixarr-migrate resume {service}`"
    )]
    Open {
        /// The service.
        service: String,
        /// Its log.
        log: String,
    },
    /// The service is held.
    #[error("{service} is held by {hold}, which says why: settle that first")]
    Held {
        /// The service.
        service: String,
        /// The hold.
        hold: String,
    },
    /// The log cannot be believed.
    #[error("{log}:{}: {}", .damage.line, .damage.why)]
    Damaged {
        /// The log.
        log: String,
        /// Where, and what.
        damage: Damage,
    },
    /// The system said no.
    #[error(
        "the log of the transaction on {service} cannot be {what}: {source}{}",
        advice(source)
    )]
    Io {
        /// The service.
        service: String,
        /// `written`, `read`.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// What a log says that was found.
#[derive(Debug)]
pub enum Found<F> {
    /// There is none, or one that is over, which has been put away now.
    Nothing,
    /// It is to be resumed.
    Open(Box<Progress>, Wal<F>),
}

/// The ledger. It writes while it lives, and nothing more after its first error: what did not reach the disk may be on it
/// or not, and only who reads it again knows.
#[derive(Debug)]
pub struct Wal<F> {
    files: F,
    service: String,
    id: String,
    clock: fn() -> u64,
    /// Number of the next line.
    next: u64,
    failed: bool,
}

impl<F: Files> Wal<F> {
    /// Makes everything ready for a transaction. Its first record is the engine's to write.
    ///
    /// The caller holds the service's lock. `clock` gives µs since 1970.
    pub fn prepare(files: F, transaction: &Transaction, clock: fn() -> u64) -> Result<Self, WalError> {
        let mut wal = Self::at(files, &transaction.service, clock);
        wal.id.clone_from(&transaction.id);
        if wal.read(&wal.own("log"))?.is_some() {
            return Err(WalError::Open {
                service: wal.service.clone(),
                log: wal.shown("log"),
            });
        }
        if wal.read(&wal.hold_name())?.is_some() {
            return Err(WalError::Held {
                service: wal.service.clone(),
                hold: format!("{}/{}", super::DIR, wal.hold_name()),
            });
        }
        wal.make_ready(transaction)
            .map_err(|source| wal.io("written", source))?;
        Ok(wal)
    }

    /// Finds what an interrupted run left. One that is over is put away.
    pub fn find(files: F, service: &str, clock: fn() -> u64) -> Result<Found<F>, WalError> {
        let mut wal = Self::at(files, service, clock);
        let Some(bytes) = wal.read(&wal.own("log"))? else {
            return Ok(Found::Nothing);
        };
        let reading = record::read(&bytes).map_err(|damage| wal.damaged(damage))?;
        let progress = Progress::replay(&reading.lines).map_err(|damage| wal.damaged(damage))?;
        let Some(progress) = progress else {
            // Not even its first line is whole: nothing was begun.
            let log = wal.own("log");
            wal.files
                .remove(&log)
                .map_err(|source| wal.io("removed", source))?;
            return Ok(Found::Nothing);
        };
        wal.id.clone_from(&progress.transaction().id);
        wal.next = u64::try_from(reading.lines.len()).unwrap_or(u64::MAX);
        if recover(&reading.lines) == Decision::Nothing {
            wal.put_away().map_err(|source| wal.io("put away", source))?;
            return Ok(Found::Nothing);
        }
        let whole = bytes.get(..reading.whole).unwrap_or_default();
        wal.write_anew(whole)
            .map_err(|source| wal.io("written", source))?;
        Ok(Found::Open(Box::new(progress), wal))
    }

    /// Lays a hold on the service although its log cannot be used, and says why in it.
    pub fn hold_for(files: F, service: &str, clock: fn() -> u64, why: &str) -> Result<(), WalError> {
        let mut wal = Self::at(files, service, clock);
        let name = wal.hold_name();
        let laid = wal.files.make_dir(&wal.dir()).and_then(|()| {
            wal.replace("hold", format!("{why}\n").as_bytes())?;
            let from = wal.own("hold");
            wal.files.link(&from, &name)?;
            wal.files.sync_dir(HOLD)
        });
        laid.map_err(|source| wal.io("held", source))
    }

    /// The disk, back.
    pub fn into_files(self) -> F {
        self.files
    }

    fn at(files: F, service: &str, clock: fn() -> u64) -> Self {
        Self {
            files,
            service: service.to_owned(),
            id: String::new(),
            clock,
            next: 0,
            failed: false,
        }
    }

    fn make_ready(&mut self, transaction: &Transaction) -> io::Result<()> {
        let service = &transaction.service;
        let dir = self.dir();
        self.files.make_dir(&dir)?;
        // Else the whole directory may be gone after a power cut, and nobody knows that anything was begun.
        self.files.sync_dir(TRANSACTIONS)?;
        let hold = format!(
            "{service} is being changed hands (transaction {}), or that went wrong: see {}, and `nixarr-migrate resume {service}`.\n",
            transaction.id,
            self.shown("log")
        );
        self.replace("hold", hold.as_bytes())?;
        let marker = match (self.files.read(&self.owner_name())?, transaction.run_as) {
            (Some(marker), _) => Some(marker),
            (None, Some(run_as)) => Some(
                owner::text(Owner {
                    uid: run_as.uid,
                    gid: run_as.gid,
                })
                .into_bytes(),
            ),
            (None, None) => None,
        };
        if let Some(marker) = marker {
            self.replace("marker", &marker)?;
        } else {
            // One of an earlier transaction would say what is no longer so.
            let name = self.own("marker");
            self.files.remove(&name)?;
        }
        self.files.create(&format!("{dir}/log"), b"")?;
        self.files.reserve(&format!("{dir}/log"), ROOM)?;
        self.files.sync_dir(&dir)
    }

    /// A log that was read is written once more: after an fsync(2) that failed, the page cache may show what the disk does
    /// not have, and would never write it again.
    fn write_anew(&mut self, content: &[u8]) -> io::Result<()> {
        let dir = self.dir();
        self.replace("log", content)?;
        self.files.reserve(&format!("{dir}/log"), ROOM)?;
        self.files.sync_dir(&dir)
    }

    /// Puts a new file in the place of one that may have a second name, which must not change. The directory is the
    /// caller's to sync.
    fn replace(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let (name, new) = (self.own(name), self.own(&format!("{name}.new")));
        self.files.remove(&new)?;
        self.files.create(&new, content)?;
        self.files.sync(&new)?;
        self.files.rename(&new, &name)
    }

    /// Should a power cut bring the old name back, the log still says that it is over.
    fn put_away(&mut self) -> io::Result<()> {
        let (log, kept) = (self.own("log"), self.own(&format!("{}.log", self.id)));
        self.files.rename(&log, &kept)
    }

    fn write(&mut self, record: &Record) -> io::Result<()> {
        let line = Line::new(self.next, (self.clock)(), record.clone());
        let text = line.text().map_err(io::Error::other)?;
        let log = self.own("log");
        self.files.append(&log, text.as_bytes())?;
        self.files.sync(&log)?;
        self.next += 1;
        match record {
            Record::End { .. } => self.put_away(),
            _ => Ok(()),
        }
    }

    /// A second name for what lies ready, or none; in either case the directory is on disk afterwards.
    fn set(&mut self, ready: &str, name: &str, dir: &str, there: bool) -> io::Result<()> {
        if there {
            let ready = self.own(ready);
            self.files.link(&ready, name)?;
        } else {
            self.files.remove(name)?;
        }
        self.files.sync_dir(dir)
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, WalError> {
        self.files.read(name).map_err(|source| self.io("read", source))
    }

    fn dir(&self) -> String {
        format!("{TRANSACTIONS}/{}", self.service)
    }

    fn own(&self, name: &str) -> String {
        format!("{TRANSACTIONS}/{}/{name}", self.service)
    }

    fn shown(&self, name: &str) -> String {
        format!("{}/{}", super::DIR, self.own(name))
    }

    fn hold_name(&self) -> String {
        format!("{HOLD}/{}", self.service)
    }

    fn owner_name(&self) -> String {
        format!("{OWNER}/{}", self.service)
    }

    fn io(&self, what: &'static str, source: io::Error) -> WalError {
        WalError::Io {
            service: self.service.clone(),
            what,
            source,
        }
    }

    fn damaged(&self, damage: Damage) -> WalError {
        WalError::Damaged {
            log: self.shown("log"),
            damage,
        }
    }
}

impl<F: Files> Ledger for Wal<F> {
    fn append(&mut self, record: &Record) -> Result<(), String> {
        if self.failed {
            return Err("the log could not be written before".into());
        }
        self.write(record).map_err(|source| {
            self.failed = true;
            self.io("written", source).to_string()
        })
    }

    fn hold(&mut self, held: bool) -> Result<(), String> {
        let name = self.hold_name();
        self.set("hold", &name, HOLD, held)
            .map_err(|error| format!("the hold on {} cannot be changed: {error}", self.service))
    }

    fn give(&mut self, to: Side) -> Result<(), String> {
        let name = self.owner_name();
        self.set("marker", &name, OWNER, to == Side::Container)
            .map_err(|error| format!("the owner marker of {} cannot be changed: {error}", self.service))
    }
}
