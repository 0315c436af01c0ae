//! Jellyfin 10.11: two web servers in sequence on one port.
//!
//! Directories and markers first (a wrong marker is an unhandled exception before any port); then the *setup server*
//! answers while the database is migrated: `/health` is **200 `Degraded`**. A migration that fails leaves it up with 503
//! `Unhealthy` for ten minutes, and the process then ends with 0. Else the setup server goes, the connection drops, and the
//! real server takes the port: 503 until the core has started, then 200 `Healthy`.

pub mod api;
pub mod config;
pub mod paths;

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use self::api::{Real, Setup, Shared};
use self::config::Config;
use self::paths::Paths;
use super::clock::Civil;
use super::console::{Console, Level, Style, complain};
use super::fault::Faults;
use super::life::{End, Life};
use super::options::{Environment, FailStart, Options};
use super::server::{Handler, Server, bind};
use super::store::{Layout, Store, StoreError, Versions};

/// What .NET leaves after an unhandled exception.
const CRASH: u8 = 134;

/// The migrations that this version knows; ids sort by time.
const MIGRATIONS: [&str; 4] = [
    "20200514181226_AddActivityLog",
    "20230923170422_UserCastReceiver",
    "20241020103111_LibraryDbMigration",
    "20250609115616_DetachUserDataInsteadOfDelete",
];

const LAYOUT: Layout = Layout {
    create: r#"
        CREATE TABLE "__EFMigrationsHistory" ("MigrationId" TEXT NOT NULL CONSTRAINT "PK___EFMigrationsHistory" PRIMARY KEY, "ProductVersion" TEXT NOT NULL);
        CREATE TABLE "Users" ("Id" TEXT NOT NULL PRIMARY KEY, "Username" TEXT NOT NULL, "Password" TEXT);
        CREATE TABLE "ApiKeys" ("Id" INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, "AccessToken" TEXT NOT NULL UNIQUE, "Name" TEXT NOT NULL);
        CREATE TABLE "BaseItems" ("Id" TEXT NOT NULL PRIMARY KEY, "Type" TEXT NOT NULL, "Path" TEXT NOT NULL);
        INSERT INTO "ApiKeys" ("AccessToken", "Name") VALUES (lower(hex(randomblob(16))), 'stand-in');
        INSERT INTO "Users" ("Id", "Username") VALUES (lower(hex(randomblob(16))), 'root');
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50)
            INSERT INTO "BaseItems" SELECT lower(hex(randomblob(16))), 'Movie', '/media/library/movies/Title ' || i FROM n;
        INSERT INTO "BaseItems" VALUES (lower(hex(randomblob(16))), 'Playlist', '%AppDataPath%/playlists/one');
    "#,
    ledger: "ActivityLogs",
    wal: true,
    versions: Versions::EntityFramework,
};

struct Run {
    paths: Paths,
    options: Options,
    console: Console,
    faults: Faults,
    life: Life,
    version: String,
}

/// Runs Jellyfin until it ends, and returns its exit code. `arguments` are the original's.
pub fn run(arguments: &[String], environment: &Environment) -> Result<u8, String> {
    let paths = Paths::resolve(arguments, environment);
    if let Err(error) = paths.create() {
        complain(format_args!("Error whilst attempting to create folder\n{error}"));
        return Ok(1);
    }
    if let Err(text) = paths.mark() {
        complain(format_args!(
            "Unhandled exception. System.InvalidOperationException: {text}"
        ));
        return Ok(CRASH);
    }
    let faults = Faults::new(&paths.data);
    let options = Options::read(environment)?.with_faults(&faults);
    let life = Life::begin(faults.clone()).map_err(|error| error.to_string())?;
    let version = options.version.clone().unwrap_or_else(|| "10.11.5".to_owned());
    let run = Run {
        paths,
        options,
        console: Console::new(Style::Jellyfin),
        faults,
        life,
        version,
    };
    run.begin(arguments)
}

impl Run {
    fn begin(&self, arguments: &[String]) -> Result<u8, String> {
        let day = Civil::now().date().replace('-', "");
        self.console
            .also_to(self.paths.log.join(format!("log_{day}.log")));
        let main = "Main";
        self.console
            .info(main, format_args!("Jellyfin version: {}", self.version));
        for (name, path) in [
            ("Program data", &self.paths.data),
            ("Config directory", &self.paths.config),
            ("Cache", &self.paths.cache),
            ("Log directory", &self.paths.log),
        ] {
            self.console
                .info(main, format_args!("{name} path: {}", path.display()));
        }
        if let Some(FailStart::Exit(code)) = self.options.fail_start {
            return Ok(code);
        }
        if !arguments.iter().any(|word| word == "--nowebclient")
            && self.paths.web.as_deref().is_some_and(is_empty)
        {
            self.console.line(Level::Fatal, main, "The server is expected to host the web client, but the provided content directory is either invalid or empty");
            return Ok(1);
        }
        let id = server_id(&self.paths.data).map_err(|error| error.to_string())?;
        let config = Config::load(&self.paths.config, &self.version).map_err(|error| error.to_string())?;
        let shared = Arc::new(Shared {
            port: config.port(),
            base: config.base_url(),
            id,
            version: self.version.clone(),
            config: Mutex::new(config),
        });
        match self.serve(&shared) {
            Ok(code) => Ok(code),
            Err(error) => {
                self.console.line(
                    Level::Fatal,
                    main,
                    format_args!("Error while starting server: {error}"),
                );
                Ok(1)
            }
        }
    }

    fn listen(&self, shared: &Shared, handler: Arc<Handler>) -> io::Result<Server> {
        Server::start(bind("*", shared.port)?, "Kestrel", self.faults.clone(), handler)
    }

    fn serve(&self, shared: &Arc<Shared>) -> io::Result<u8> {
        let setup = Arc::new(Setup {
            shared: Arc::clone(shared),
            unhealthy: AtomicBool::new(false),
            host: AtomicBool::new(false),
            life: self.life.clone(),
            log: self.paths.log.clone(),
        });
        let answering = Arc::clone(&setup);
        let first = self.listen(shared, Arc::new(move |request: &_| answering.answer(request)))?;
        let store = match self.migrated(&setup) {
            Ok(store) => Arc::new(store),
            Err(StoreError::Ended(_)) => return Ok(143),
            Err(error) => return Ok(self.failed_start(&setup, &error)),
        };
        first.stop();
        let writer = store.write(self.options.write_interval, event);
        let writer = writer.map_err(|error| io::Error::other(error.to_string()))?;
        let started = AtomicBool::new(false);
        let real = Arc::new(Real {
            shared: Arc::clone(shared),
            store: Arc::clone(&store),
            started,
        });
        let answering = Arc::clone(&real);
        let second = self.listen(shared, Arc::new(move |request: &_| answering.answer(request)))?;
        self.console.info("Main", "Kestrel is listening on 0.0.0.0");
        if self.life.wait(self.options.slow_start).is_none() {
            real.started.store(true, Ordering::SeqCst);
            self.console.info("Main", "Startup complete");
            self.life.await_end();
        }
        self.console
            .info("Main", "Received a SIGTERM signal, shutting down");
        std::thread::sleep(self.options.stop_time(&self.faults));
        second.stop();
        writer.stop();
        self.close(shared, &store)?;
        Ok(0)
    }

    /// The last things: the query planner's statistics, and the settings as they are in memory.
    fn close(&self, shared: &Shared, store: &Store) -> io::Result<()> {
        self.console.info(
            "Main",
            "Running query planner optimizations in the database... This might take a while",
        );
        if let Err(error) = store.with(|connection| connection.execute_batch("PRAGMA optimize")) {
            self.console.line(Level::Error, "Main", error);
        }
        match shared.config.lock() {
            Ok(config) => config.save(),
            Err(_) => Ok(()),
        }
    }

    /// Keeps the setup server up, unhealthy, for ten minutes; no exit code is set on that path.
    fn failed_start(&self, setup: &Setup, error: &StoreError) -> u8 {
        self.console.line(
            Level::Fatal,
            "Main",
            format_args!("Error while starting server: {error}"),
        );
        setup.unhealthy.store(true, Ordering::SeqCst);
        match self
            .life
            .wait(self.options.fail_wait.unwrap_or(Duration::from_mins(10)))
        {
            Some(End::Interrupt) => 130,
            Some(_) => 143,
            None => 0,
        }
    }

    fn migrated(&self, setup: &Setup) -> Result<Store, StoreError> {
        let path = self.paths.database();
        let new = !path.exists();
        let store = Store::open(&path, LAYOUT)?;
        let have = store.schema()?;
        let own = self.options.schema.clone().into_iter();
        // Rows of a newer version are not noticed.
        let known = MIGRATIONS
            .iter()
            .map(|id| (*id).to_owned())
            .chain(own)
            .filter(|id| self.options.schema.as_ref().is_none_or(|last| id <= last));
        let mut steps: Vec<String> = known
            .filter(|id| have.as_ref().is_none_or(|have| id > have))
            .collect();
        steps.dedup();
        let name = "Jellyfin.Server.Migrations.JellyfinMigrationService";
        self.console.info(
            name,
            format_args!(
                "There are {} migrations for stage CoreInitialisation.",
                steps.len()
            ),
        );
        let backup = self.backup(&path, !new && !steps.is_empty());
        for step in &steps {
            self.console.info(name, format_args!("Perform migration {step}"));
        }
        // The application host comes to be before the long part of the work.
        let before = self.options.migrate / 4;
        if let Some(end) = self.life.wait(before) {
            return Err(StoreError::Ended(end));
        }
        setup.host.store(true, Ordering::SeqCst);
        store.migrate(&steps, self.options.migrate.saturating_sub(before), &self.life)?;
        if self.options.fail_start.is_some() {
            return Err(StoreError::Refused("A migration failed".to_owned()));
        }
        if let Some(backup) = backup {
            // A copy that cannot be removed is left, as any file that nobody needs.
            let _ = fs::remove_file(backup);
        }
        Ok(store)
    }

    /// The copy that is made before a migration: of the database alone, without its write-ahead log.
    fn backup(&self, path: &Path, wanted: bool) -> Option<std::path::PathBuf> {
        let now = Civil::now();
        let stamp: String = now.iso().chars().filter(char::is_ascii_digit).collect();
        let directory = self.paths.data.join("data/SQLiteBackups");
        let copy = directory.join(format!("{stamp}_jellyfin.db"));
        if !wanted {
            return None;
        }
        match fs::create_dir_all(&directory).and_then(|()| fs::copy(path, &copy)) {
            Ok(_) => Some(copy),
            Err(error) => {
                self.console
                    .line(Level::Error, "Main", format_args!("{}: {error}", copy.display()));
                None
            }
        }
    }
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).map_or(true, |mut entries| entries.next().is_none())
}

/// The id that clients know the server by; a new one is another server to them.
fn server_id(data: &Path) -> io::Result<String> {
    let path = data.join("data/device.txt");
    if let Ok(id) = fs::read_to_string(&path) {
        return Ok(id.trim().to_owned());
    }
    for file in [
        "metadata/library/poster.jpg",
        "root/default/Movies/movies.mblink",
        "plugins/configurations/stand-in.xml",
    ] {
        let path = data.join(file);
        fs::create_dir_all(path.parent().unwrap_or(data))?;
        fs::write(path, "/media/library/movies\n")?;
    }
    let id = super::random_hex(16)?;
    fs::write(path, &id)?;
    Ok(id)
}

fn event(number: i64) -> String {
    format!(
        "{{\"event\":\"VideoPlayback\",\"item\":{},\"position\":{number}}}",
        number % 50 + 1
    )
}
