//! The SQLite databases: opened, migrated and written all the time, as the originals do it.
//!
//! Every application has one *ledger*, a table of its own that only grows:
//!
//! | column | holds |
//! |---|---|
//! | `Id` | 1, 2, 3, ... without a gap |
//! | `Date`, `Data` | what an application would write |
//! | `Writer` | one word a run of the process |
//! | `Checksum` | FNV-1a 64 over the former row's checksum and this row's other columns |
//!
//! So a lost, changed or doubled row breaks the chain, and two processes that wrote at the same time show as runs that
//! are not contiguous. [`super::verify`] counts it all.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, TransactionBehavior, params};

use super::clock::Civil;
use super::console::complain;
use super::life::{End, Life};

/// How an application keeps its schema version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versions {
    /// FluentMigrator's table `VersionInfo`, numbers.
    VersionInfo,
    /// Alembic's table `alembic_version`, one revision.
    Alembic,
    /// Entity Framework's table `__EFMigrationsHistory`, ids that sort by time.
    EntityFramework,
}

/// What one database looks like.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// Makes the tables and the first rows, in an empty database.
    pub create: &'static str,
    /// The table that only grows.
    pub ledger: &'static str,
    /// Write-ahead log, or SQLite's default rollback journal.
    pub wal: bool,
    /// How the schema version is kept.
    pub versions: Versions,
}

/// Why a database cannot be used.
#[derive(Debug)]
pub enum StoreError {
    /// The file is damaged or no database at all.
    Corrupt(rusqlite::Error),
    /// Anything else.
    Other(rusqlite::Error),
    /// The application does not want it.
    Refused(String),
    /// The process is to end before the work is done.
    Ended(End),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt(error) | Self::Other(error) => error.fmt(f),
            Self::Refused(reason) => f.write_str(reason),
            Self::Ended(_) => f.write_str("interrupted"),
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Corrupt(error),
            _ => Self::Other(error),
        }
    }
}

/// An open database.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    layout: Layout,
    connection: Mutex<Connection>,
}

impl Store {
    /// Opens `path`, and makes its tables when it is new.
    pub fn open(path: &Path, layout: Layout) -> Result<Self, StoreError> {
        let connection = connect(path, layout, OpenFlags::SQLITE_OPEN_CREATE)?;
        let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))?;
        if tables == 0 {
            connection.execute_batch(&format!(
                "BEGIN; {} {} COMMIT;",
                layout.create,
                ledger(layout.ledger)
            ))?;
        }
        Ok(Self {
            path: path.to_owned(),
            layout,
            connection: Mutex::new(connection),
        })
    }

    /// The schema version: the highest of the table, or none in a new database.
    pub fn schema(&self) -> Result<Option<String>, StoreError> {
        self.with(|connection| schema(connection, self.layout.versions))
    }

    /// Brings the schema forward to `steps`, each in its own transaction, spread over `time` in all.
    ///
    /// The last one holds the write lock while it takes its time, with rows written and not committed, so that a process
    /// that is killed in the middle leaves what a real one leaves.
    pub fn migrate(&self, steps: &[String], time: Duration, life: &Life) -> Result<(), StoreError> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for step in steps {
            record(&transaction, self.layout.versions, step)?;
        }
        if let Some(end) = life.wait(time) {
            return Err(StoreError::Ended(end));
        }
        transaction.commit()?;
        Ok(())
    }

    /// Runs a read on the open connection, as a health check does.
    pub fn with<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        Ok(read(
            &self.connection.lock().unwrap_or_else(PoisonError::into_inner),
        )?)
    }

    /// Whether a *new* connection to the file answers: Jellyfin's way to check.
    pub fn can_connect(&self) -> bool {
        connect(&self.path, self.layout, OpenFlags::empty()).is_ok_and(|connection| {
            connection
                .query_row("SELECT count(*) FROM sqlite_master", [], |row| {
                    row.get::<_, i64>(0)
                })
                .is_ok()
        })
    }

    /// Rows in the ledger and the last one's checksum.
    pub fn position(&self) -> Result<(i64, String), StoreError> {
        let last = self.with(|connection| last(connection, self.layout.ledger))?;
        Ok(last.unwrap_or((0, String::new())))
    }

    /// Begins to write a row every `interval`.
    pub fn write(&self, interval: Duration, data: fn(i64) -> String) -> Result<Writer, StoreError> {
        let connection = connect(&self.path, self.layout, OpenFlags::empty())?;
        Writer::start(connection, self.layout.ledger, interval, data)
    }
}

fn connect(path: &Path, layout: Layout, extra: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | extra,
    )?;
    connection.busy_timeout(Duration::from_secs(5))?;
    if layout.wal {
        connection.pragma_update(None, "journal_mode", "wal")?;
    }
    Ok(connection)
}

fn ledger(table: &str) -> String {
    format!(
        "CREATE TABLE \"{table}\" (\"Id\" INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, \"Date\" TEXT NOT NULL, \"Data\" TEXT NOT NULL, \"Writer\" TEXT NOT NULL, \"Checksum\" TEXT NOT NULL);"
    )
}

/// The schema version in an open database.
pub fn schema(connection: &Connection, versions: Versions) -> rusqlite::Result<Option<String>> {
    match versions {
        Versions::VersionInfo => {
            let number: Option<i64> =
                connection.query_row("SELECT max(Version) FROM VersionInfo", [], |row| row.get(0))?;
            Ok(number.map(|number| number.to_string()))
        }
        Versions::Alembic => connection
            .query_row("SELECT version_num FROM alembic_version", [], |row| row.get(0))
            .optional(),
        Versions::EntityFramework => {
            connection.query_row("SELECT max(MigrationId) FROM __EFMigrationsHistory", [], |row| {
                row.get(0)
            })
        }
    }
}

fn record(connection: &Connection, versions: Versions, step: &str) -> rusqlite::Result<()> {
    match versions {
        Versions::VersionInfo => {
            let row = params![step, Civil::now().iso(), format!("step_{step}")];
            connection.execute(
                "INSERT INTO VersionInfo (Version, AppliedOn, Description) VALUES (CAST(? AS INTEGER), ?, ?)",
                row,
            )?;
        }
        Versions::Alembic => {
            connection.execute("DELETE FROM alembic_version", [])?;
            connection.execute("INSERT INTO alembic_version (version_num) VALUES (?)", [step])?;
        }
        Versions::EntityFramework => {
            connection.execute(
                "INSERT INTO __EFMigrationsHistory (MigrationId, ProductVersion) VALUES (?, '9.0.0')",
                [step],
            )?;
        }
    }
    Ok(())
}

fn last(connection: &Connection, table: &str) -> rusqlite::Result<Option<(i64, String)>> {
    connection
        .query_row(
            &format!("SELECT Id, Checksum FROM \"{table}\" ORDER BY Id DESC LIMIT 1"),
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()
}

/// The checksum of a row of the ledger.
pub fn checksum(before: &str, id: i64, when: &str, data: &str, writer: &str) -> String {
    let text = format!("{before}\n{id}\n{when}\n{data}\n{writer}");
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// The thread that writes.
#[derive(Debug)]
pub struct Writer {
    stop: Arc<AtomicBool>,
    failed: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Writer {
    fn start(
        mut connection: Connection,
        table: &'static str,
        interval: Duration,
        data: fn(i64) -> String,
    ) -> Result<Self, StoreError> {
        let (stop, failed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (told, report) = (Arc::clone(&stop), Arc::clone(&failed));
        let writer = super::random_hex(8).unwrap_or_else(|_| std::process::id().to_string());
        let work = move || {
            while !told.load(Ordering::SeqCst) {
                let result = append(&mut connection, table, &writer, data);
                if let Err(error) = &result {
                    complain(format_args!("standin: {table}: {error}"));
                }
                report.store(result.is_err(), Ordering::SeqCst);
                thread::park_timeout(interval);
            }
        };
        let thread = thread::Builder::new().name("writer".to_owned()).spawn(work);
        let thread = thread
            .map_err(|error| StoreError::Other(rusqlite::Error::ToSqlConversionFailure(Box::new(error))))?;
        Ok(Self { stop, failed, thread })
    }

    /// Whether the last row could not be written; kept by whoever answers health checks.
    pub fn failed(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.failed)
    }

    /// Finishes the row at hand and closes the database.
    pub fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.thread().unpark();
        // A panic has been printed by then; the database is closed in any case.
        let _ = self.thread.join();
    }
}

fn append(
    connection: &mut Connection,
    table: &str,
    writer: &str,
    data: fn(i64) -> String,
) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let (before, chain) = last(&transaction, table)?.unwrap_or_default();
    let (id, when) = (before + 1, Civil::now().iso());
    let data = data(id);
    let sum = checksum(&chain, id, &when, &data, writer);
    transaction.execute(
        &format!("INSERT INTO \"{table}\" (Id, Date, Data, Writer, Checksum) VALUES (?, ?, ?, ?, ?)"),
        params![id, when, data, writer, sum],
    )?;
    transaction.commit()
}
