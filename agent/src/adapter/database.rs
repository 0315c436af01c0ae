//! A database that belongs to an application and may be in use: what SQLite says of it, and what stands in it. It is never
//! written to. Only `dagger-job` links this.
//!
//! The copy is made by SQLite's online backup (https://www.sqlite.org/backup.html) from a connection that is read-only
//! down to the shared memory: `readonly_shm=1` opens `-shm` for reading and makes none where there is none
//! (os_unix.c, unixOpenSharedMemory), so that the application's directory stays as it is. Its locks are those of any reader.
//! A database that nobody has open gets no lock and no log (`immutable=1`), and what was found counts only if its files
//! are the same afterwards.
//!
//! SQLite goes by names, and resolves them by itself, in directories that the application can change meanwhile. So it is done
//! by threads that can open nothing outside of the database's own directory (`confine`): a directory or a file that becomes a
//! link in the middle, the log's and the shared memory's among them, leads nowhere.

use std::fmt::Write as _;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, Error, ErrorCode, OpenFlags};

use super::{confine, disk};

/// A database's file, and what SQLite puts beside it (<https://www.sqlite.org/tempfiles.html>).
const FILES: [&str; 4] = ["", "-wal", "-shm", "-journal"];

/// What is left free beside the copy.
const SPARE: u64 = 256 << 20;
/// So long a database may be too busy to be copied.
const PATIENCE: Duration = Duration::from_mins(10);
/// A question waits so long for a writer.
const BUSY: Duration = Duration::from_secs(5);
/// Pages at a time, where a reader holds up writers.
const PIECE: i32 = 2048;
/// The most characters of SQLite's own words.
const WORDS_MAX: usize = 100;

/// The files that a database is made of: its own first, then those that SQLite puts beside it.
pub fn files(database: &Path) -> impl Iterator<Item = PathBuf> {
    FILES.into_iter().map(|suffix| {
        let mut name = database.as_os_str().to_owned();
        name.push(suffix);
        name.into()
    })
}

/// Removes a copy that [`check`] has made, as far as there is one.
pub fn clear(copy: &Path) -> Result<(), String> {
    for path in files(copy) {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(format!("cannot remove {}: {error}", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// There is no such database (yet).
    Nothing,
    /// SQLite has nothing to say.
    Good,
    /// Its first complaint.
    Damaged(String),
}

/// Copies `source` to `copy` and looks through that.
pub fn check(source: &Path, copy: &Path) -> Result<Found, String> {
    let Some(before) = State::of(source)? else {
        return Ok(Found::Nothing);
    };
    enough_room(before.bytes(), copy)?;
    let told = confine::within(&[home(source)?, home(copy)?], || {
        if backup(source, copy, before.at_rest())? {
            quick_check(copy).map(Some)
        } else {
            Ok(None)
        }
    })?;
    if before.at_rest() && State::of(source)? != Some(before) {
        return Err("it was taken into use meanwhile".into());
    }
    match told {
        Ok(None) => Err("it is written to all the time".into()),
        Ok(Some(text)) if text == "ok" => Ok(Found::Good),
        Ok(Some(text)) => Ok(Found::Damaged(first_words(&text))),
        Err(error) if is_damage(&error) => Ok(Found::Damaged(first_words(&said(&error)))),
        Err(error) => Err(said(&error)),
    }
}

/// Puts questions to a database where it lies; none when there is no such database. What they tell is of one moment.
///
/// Its schema is the application's, and its words are not run with our rights: views and triggers can do no more than
/// SQLite's own functions.
pub fn ask<T: Send>(
    source: &Path,
    questions: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send,
) -> Result<Option<T>, String> {
    let Some(before) = State::of(source)? else {
        return Ok(None);
    };
    let told = confine::within(&[home(source)?], || {
        let connection = open(source, before.at_rest())?;
        connection.busy_timeout(BUSY)?;
        connection.execute_batch("PRAGMA trusted_schema = OFF; PRAGMA temp_store = MEMORY; BEGIN")?;
        questions(&connection)
    })?;
    if before.at_rest() && State::of(source)? != Some(before) {
        return Err("it was taken into use meanwhile".into());
    }
    told.map(Some).map_err(|error| said(&error))
}

/// Writes a database's log into it, and looks through it where it lies: nobody else may have it open. The application's user
/// stays the owner of all of its files. Beside what was found, how many rows refer to others that are not there: that is for
/// people, applications have lived with it.
///
/// Its schema is the application's, and its words are not run with our rights, see [`ask`].
pub fn settle(source: &Path) -> Result<(Found, u64), String> {
    if State::of(source)?.is_none() {
        return Ok((Found::Nothing, 0));
    }
    match confine::within(&[home(source)?], || settled(source))? {
        Ok((None, orphans)) => Ok((Found::Good, orphans)),
        Ok((Some(text), orphans)) => Ok((Found::Damaged(first_words(&text)), orphans)),
        Err(error) if is_damage(&error) => Ok((Found::Damaged(first_words(&said(&error))), 0)),
        Err(error) => Err(said(&error)),
    }
}

/// The first complaint, if any, and how many rows refer to others that are not there.
fn settled(source: &Path) -> rusqlite::Result<(Option<String>, u64)> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NOFOLLOW | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(source, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.execute_batch(
        "PRAGMA trusted_schema = OFF; PRAGMA temp_store = MEMORY; PRAGMA synchronous = FULL",
    )?;
    // Busy, pages in the log, pages written (https://www.sqlite.org/pragma.html#pragma_wal_checkpoint).
    let busy: i64 = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if busy != 0 {
        return Ok((Some("somebody else has it open".into()), 0));
    }
    let told: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if told != "ok" {
        return Ok((Some(told), 0));
    }
    let mut check = connection.prepare("PRAGMA foreign_key_check")?;
    let mut rows = check.query([])?;
    let mut orphans = 0;
    while rows.next()?.is_some() {
        orphans += 1;
    }
    Ok((None, orphans))
}

/// The directory that a database lies in: the one that is there now, whatever has its name later.
fn home(database: &Path) -> Result<OwnedFd, String> {
    let dir = database.parent().unwrap_or(database);
    let open = disk::open_dir(dir).map_err(|error| error.to_string())?;
    open.ok_or_else(|| format!("{} is not there", dir.display()))
}

/// A database's files, before and after.
#[derive(Debug, PartialEq, Eq)]
struct State {
    bytes: u64,
    changed: SystemTime,
    /// Its header says that it is used with a write-ahead log (https://www.sqlite.org/fileformat.html, offset 18).
    logged: bool,
    /// Bytes of the log; none when there is no such file.
    log: Option<u64>,
}

impl State {
    /// None when there is no database. What is no plain file is an error.
    fn of(source: &Path) -> Result<Option<Self>, String> {
        // Closed again before SQLite opens it: closing any descriptor of a file drops all of a process's locks on it (fcntl(2)).
        let open = |path: &Path| disk::open_file(path).map_err(|error| error.to_string());
        let failed = |error: io::Error| format!("cannot look at {}: {error}", source.display());
        let Some(file) = open(source)? else {
            return Ok(None);
        };
        let data = file.metadata().map_err(failed)?;
        let mut version = [0; 1];
        let read = file.read_at(&mut version, 18).map_err(failed)?;
        let mut log = source.as_os_str().to_owned();
        log.push("-wal");
        let log = match open(Path::new(&log))? {
            Some(file) => Some(file.metadata().map_err(failed)?.len()),
            None => None,
        };
        Ok(Some(Self {
            bytes: data.len(),
            changed: data.modified().map_err(failed)?,
            logged: read == 1 && version == [2],
            log,
        }))
    }

    fn bytes(&self) -> u64 {
        self.bytes.saturating_add(self.log.unwrap_or(0))
    }

    /// Nobody has it open: whoever does has a log beside it. Opened as usual it would get one.
    fn at_rest(&self) -> bool {
        self.logged && self.log.is_none()
    }
}

fn enough_room(size: u64, copy: &Path) -> Result<(), String> {
    let room = copy.parent().unwrap_or(copy);
    let stat =
        rustix::fs::statvfs(room).map_err(|error| format!("cannot look at {}: {error}", room.display()))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let need = size.saturating_add(SPARE);
    if free < need {
        return Err(format!(
            "{} MiB are needed in {} and {} are free",
            need >> 20,
            room.display(),
            free >> 20
        ));
    }
    Ok(())
}

/// Opens a database so that nothing of it is written, see the top.
fn open(source: &Path, at_rest: bool) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NOFOLLOW
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(uri(source, at_rest), flags)
}

/// Whether a copy was made; not when the database was too busy for too long.
fn backup(source: &Path, copy: &Path, at_rest: bool) -> rusqlite::Result<bool> {
    let from = open(source, at_rest)?;
    // In a write-ahead log a reader holds up nobody, and all at once is quickest; else writers get their turn in between.
    let mode: String = from.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
    let pages = if mode == "wal" { -1 } else { PIECE };
    let mut to = Connection::open(copy)?;
    // The copy is thrown away: nothing of it has to survive a power cut.
    to.execute_batch("PRAGMA synchronous = OFF")?;
    let backup = Backup::new(&from, &mut to)?;
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        match backup.step(pages)? {
            StepResult::Done => return Ok(true),
            StepResult::More => sleep(Duration::from_millis(20)),
            _ => sleep(Duration::from_millis(200)),
        }
    }
    Ok(false)
}

fn quick_check(copy: &Path) -> rusqlite::Result<String> {
    let copy = Connection::open(copy)?;
    // What the application's own schema calls is not run with our rights.
    copy.execute_batch("PRAGMA trusted_schema = OFF; PRAGMA temp_store = MEMORY")?;
    copy.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
}

/// `file:` with all bytes that mean something there escaped (https://www.sqlite.org/uri.html).
fn uri(path: &Path, at_rest: bool) -> String {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => uri.push(char::from(*byte)),
            byte => {
                // Writing to a text cannot fail.
                let _ = write!(uri, "%{byte:02X}");
            }
        }
    }
    uri.push_str(if at_rest {
        "?mode=ro&immutable=1"
    } else {
        "?mode=ro&readonly_shm=1"
    });
    uri
}

fn is_damage(error: &Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}

/// SQLite's own words, without the path that rusqlite puts before them.
fn said(error: &Error) -> String {
    match error {
        Error::SqliteFailure(code, Some(text)) => format!("{text} (SQLite {})", code.extended_code),
        other => other.to_string(),
    }
}

/// The first line that says something: `*** in database main ***` does not.
fn first_words(text: &str) -> String {
    text.lines()
        .find(|line| !line.starts_with("***") && !line.trim().is_empty())
        .unwrap_or(text)
        .chars()
        .take(WORDS_MAX)
        .collect()
}

#[cfg(test)]
mod tests;
