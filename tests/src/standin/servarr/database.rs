//! The main and the log database: a waiting restore, corruption, migration.

use std::fs;
use std::path::Path;

use super::{Application, Run, Stopped};
use crate::standin::console::Level;
use crate::standin::store::{Layout, Store, StoreError, Versions};

const MAIN_DB: Layout = Layout {
    create: r#"
        CREATE TABLE "VersionInfo" ("Version" INTEGER NOT NULL, "AppliedOn" DATETIME, "Description" TEXT);
        CREATE UNIQUE INDEX "UC_Version" ON "VersionInfo" ("Version" ASC);
        CREATE TABLE "Config" ("Id" INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, "Key" TEXT NOT NULL UNIQUE, "Value" TEXT NOT NULL);
        CREATE TABLE "RootFolders" ("Id" INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, "Path" TEXT NOT NULL UNIQUE);
        CREATE TABLE "Users" ("Id" INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, "Identifier" TEXT NOT NULL, "Username" TEXT NOT NULL, "Password" TEXT NOT NULL);
        CREATE TABLE "ScheduledTasks" ("Id" INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, "TypeName" TEXT NOT NULL UNIQUE, "Interval" INTEGER NOT NULL, "LastExecution" DATETIME NOT NULL, "LastStartTime" DATETIME);
        CREATE TABLE "Library" ("Id" INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, "Title" TEXT NOT NULL, "Path" TEXT NOT NULL);
        INSERT INTO "Config" ("Key", "Value") VALUES ('installed', 'stand-in'), ('backupfolder', 'Backups');
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50)
            INSERT INTO "Library" ("Title", "Path") SELECT 'Title ' || i, '/media/library/Title ' || i FROM n;
    "#,
    ledger: "History",
    wal: true,
    versions: Versions::VersionInfo,
};

const LOG_DB: Layout = Layout {
    create: r#"CREATE TABLE "VersionInfo" ("Version" INTEGER NOT NULL, "AppliedOn" DATETIME, "Description" TEXT);"#,
    ledger: "Logs",
    ..MAIN_DB
};

impl Run {
    /// Puts a waiting restore in place, opens the main database and migrates it.
    pub(super) fn open_main(&self) -> Result<Store, Stopped> {
        let (path, restore) = (self.file("db"), self.file("restore"));
        if restore.exists() {
            for extension in ["db-wal", "db-shm", "db-journal"] {
                // Not there is as good as removed.
                let _ = fs::remove_file(self.file(extension));
            }
            fs::rename(&restore, &path).map_err(|error| Stopped::Failed(error.to_string()))?;
        }
        self.migrated(&path).map_err(|error| match error {
            StoreError::Corrupt(_) => Stopped::Failed(corrupt(self.application, &path)),
            StoreError::Ended(_) => Stopped::Exit(143),
            other => Stopped::Failed(other.to_string()),
        })
    }

    fn migrated(&self, path: &Path) -> Result<Store, StoreError> {
        let migrations = "MigrationController";
        self.console.info(migrations, format_args!("*** Migrating data source={};cache size=-20000;datetimekind=Utc;journal mode=Wal;pooling=True;version=3;busytimeout=100 ***", path.display()));
        let store = Store::open(path, MAIN_DB)?;
        store.with(|connection| {
            // The library has another name in each application; the rename is part of making the database.
            let made: i64 = connection.query_row(
                "SELECT count(*) FROM sqlite_master WHERE name = 'Library'",
                [],
                |row| row.get(0),
            )?;
            if made == 0 {
                Ok(())
            } else {
                connection.execute_batch(&format!(
                    "ALTER TABLE \"Library\" RENAME TO \"{}\"",
                    self.application.library
                ))?;
                let task = self.application.scan.map(|task| format!("NzbDrone.Core.{task}"));
                task.map_or(Ok(()), |task| {
                    let insert = "INSERT INTO \"ScheduledTasks\" (\"TypeName\", \"Interval\", \"LastExecution\") VALUES (?, 720, '0001-01-01 00:00:00')";
                    connection.execute(insert, [task]).map(drop)
                })
            }
        })?;
        let steps = self.steps(&store)?;
        store.migrate(&steps, self.options.migrate, &self.life)?;
        if self.options.fail_start.is_some() {
            return Err(StoreError::Corrupt(rusqlite::Error::InvalidQuery));
        }
        Ok(store)
    }

    /// The schema numbers to go through. A newer schema is not noticed: the migrator only looks upward.
    fn steps(&self, store: &Store) -> Result<Vec<String>, StoreError> {
        let number = |text: Option<String>| text.and_then(|text| text.parse::<u32>().ok());
        let have = number(store.schema()?).unwrap_or(0);
        let want = number(self.options.schema.clone()).unwrap_or(self.application.schema);
        let steps: Vec<String> = (have + 1..=want).map(|number| number.to_string()).collect();
        if have > 0 {
            for step in &steps {
                let text = format!("{step}: step_{step} migrating");
                self.console.info("FluentMigrator.Runner.MigrationRunner", text);
            }
        }
        Ok(steps)
    }

    /// The log database is made anew when it is damaged.
    pub(super) fn open_log(&self) -> Result<Store, Stopped> {
        let path = self.state.join("logs.db");
        let opened = Store::open(&path, LOG_DB).or_else(|error| {
            self.console.line(
                Level::Error,
                "DbFactory",
                format_args!("Logging database is corrupt, attempting to recreate it automatically: {error}"),
            );
            for name in ["logs.db", "logs.db-wal", "logs.db-shm"] {
                // Not there is as good as removed.
                let _ = fs::remove_file(self.state.join(name));
            }
            Store::open(&path, LOG_DB)
        });
        opened.map_err(|error| Stopped::Failed(error.to_string()))
    }
}

fn corrupt(application: &Application, path: &Path) -> String {
    let name = application.name.to_lowercase();
    format!(
        "Database file: {} is corrupt, restore from backup if available. See: https://wiki.servarr.com/{name}/faq#i-am-getting-an-error-database-disk-image-is-malformed",
        path.display()
    )
}

/// What is written into a ledger.
pub(super) fn event(number: i64) -> String {
    format!(
        "{{\"event\":\"grabbed\",\"title\":\"Title {}\",\"release\":{number}}}",
        number % 50 + 1
    )
}
