//! `standin verify PATH`: is everything still there that a stand-in wrote?
//!
//! PATH is a database or a state directory. Prints one line, `rows=N last=CHECKSUM schema=VERSION runs=N overlaps=N ok`, or
//! says at which row the chain breaks and exits with 1. `overlaps` above zero means that two processes wrote at the same
//! time. The database is opened read-only: nothing is checkpointed.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::store::{Versions, checksum, schema};

/// What a ledger holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Rows in the ledger.
    pub rows: i64,
    /// The last row's checksum.
    pub last: String,
    /// The schema version.
    pub schema: Option<String>,
    /// How many runs of a process wrote rows.
    pub runs: usize,
    /// How often a run wrote after another one had begun.
    pub overlaps: usize,
}

/// The command.
pub fn main(arguments: &[String]) -> Result<u8, String> {
    let [path] = arguments else {
        return Err("verify wants one path".to_owned());
    };
    match verify(Path::new(path)) {
        Ok(Found {
            rows,
            last,
            schema,
            runs,
            overlaps,
        }) => {
            println!(
                "rows={rows} last={last} schema={} runs={runs} overlaps={overlaps} ok",
                schema.as_deref().unwrap_or("none")
            );
            Ok(0)
        }
        Err(message) => {
            println!("{path}: {message}");
            Ok(1)
        }
    }
}

/// Walks the whole ledger of a database or of a state directory's database.
pub fn verify(path: &Path) -> Result<Found, String> {
    let file = if path.is_dir() {
        database(path).ok_or("no database of a stand-in is in there")?
    } else {
        path.to_owned()
    };
    walk(&file).map_err(|error| error.to_string())?
}

fn database(state: &Path) -> Option<PathBuf> {
    let family = super::servarr::FAMILY
        .iter()
        .map(|known| format!("{}.db", known.name.to_lowercase()));
    let others = ["db/bazarr.db", "data/jellyfin.db", "data/data/jellyfin.db"].map(str::to_owned);
    family
        .chain(others)
        .map(|name| state.join(name))
        .find(|path| path.is_file())
}

fn walk(path: &Path) -> rusqlite::Result<Result<Found, String>> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let integrity: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    if integrity != "ok" {
        return Ok(Err(integrity));
    }
    let kinds = [
        ("History", Versions::VersionInfo),
        ("table_history", Versions::Alembic),
        ("ActivityLogs", Versions::EntityFramework),
    ];
    for (table, versions) in kinds {
        let there: i64 = connection.query_row(
            "SELECT count(*) FROM sqlite_master WHERE name = ?",
            [table],
            |row| row.get(0),
        )?;
        if there == 1 {
            let version = schema(&connection, versions)?;
            return Ok(chain(&connection, table)?.map(|found| Found {
                schema: version,
                ..found
            }));
        }
    }
    Ok(Err("no ledger in this database".to_owned()))
}

fn chain(connection: &Connection, table: &str) -> rusqlite::Result<Result<Found, String>> {
    let mut found = Found {
        rows: 0,
        last: String::new(),
        schema: None,
        runs: 0,
        overlaps: 0,
    };
    let mut writers: Vec<String> = Vec::new();
    let mut statement = connection.prepare(&format!(
        "SELECT Id, Date, Data, Writer, Checksum FROM \"{table}\" ORDER BY Id"
    ))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (id, when, data): (i64, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let (writer, sum): (String, String) = (row.get(3)?, row.get(4)?);
        if id != found.rows + 1 || sum != checksum(&found.last, id, &when, &data, &writer) {
            return Ok(Err(format!(
                "{table}: the chain breaks at row {id} ({} rows before it are good)",
                found.rows
            )));
        }
        (found.rows, found.last) = (id, sum);
        if writers.last() != Some(&writer) {
            if writers.contains(&writer) {
                found.overlaps += 1;
                writers.retain(|known| *known != writer);
            } else {
                found.runs += 1;
            }
            writers.push(writer);
        }
    }
    Ok(Ok(found))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::standin::store::{Layout, Store};
    use crate::standin::tests::Directory;
    use std::time::Duration;

    const LAYOUT: Layout = Layout {
        create: "CREATE TABLE \"VersionInfo\" (\"Version\" INTEGER, \"AppliedOn\" TEXT, \"Description\" TEXT);",
        ledger: "History",
        wal: true,
        versions: Versions::VersionInfo,
    };

    fn write_some(path: &Path) -> Store {
        let store = Store::open(path, LAYOUT).unwrap();
        let writer = store
            .write(Duration::from_millis(1), |id| format!("row {id}"))
            .unwrap();
        while store.position().unwrap().0 < 20 {
            std::thread::yield_now();
        }
        writer.stop();
        store
    }

    #[test]
    fn a_lost_and_a_changed_row_are_found() {
        let directory = Directory::new();
        let path = directory.path().join("sonarr.db");
        let store = write_some(&path);
        let found = verify(directory.path()).unwrap();
        assert_eq!((found.rows, found.last.clone()), store.position().unwrap());
        assert_eq!((found.runs, found.overlaps), (1, 0));
        store
            .with(|connection| connection.execute("UPDATE History SET Data = 'x' WHERE Id = 7", []))
            .unwrap();
        assert!(verify(&path).unwrap_err().contains("at row 7"));
        store
            .with(|connection| connection.execute("DELETE FROM History WHERE Id = 3", []))
            .unwrap();
        assert!(verify(&path).unwrap_err().contains("at row 4"));
    }

    #[test]
    fn two_writers_at_once_are_seen() {
        let directory = Directory::new();
        let path = directory.path().join("sonarr.db");
        let store = write_some(&path);
        let write = || {
            store
                .write(Duration::from_millis(1), |id| format!("row {id}"))
                .unwrap()
        };
        let (one, two) = (write(), write());
        while verify(&path).unwrap().overlaps < 2 {
            std::thread::yield_now();
        }
        one.stop();
        two.stop();
        assert_eq!(verify(&path).unwrap().runs, 3);
    }

    #[test]
    fn damage_is_no_panic() {
        let directory = Directory::new();
        directory.write("sonarr.db", "this is no database, but long enough to be read as one, and longer still................................");
        assert!(verify(directory.path()).is_err());
        assert!(verify(Path::new("/nonexistent")).is_err());
    }
}
