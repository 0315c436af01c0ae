//! Bazarr, the program proper (`bazarr/main.py`); its [`wrapper`] is what a unit starts.
//!
//! First nothing listens; then the port is open and **nobody answers** until the database is migrated. SIGINT ends it
//! with a stop file that holds -100 (156 for whoever waits); SIGTERM only closes the database. A taken port is left for
//! 6767, and a database from a newer version ends this process while the wrapper lives on.

pub mod api;
pub mod config;
pub mod wrapper;

use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use self::api::Api;
use self::config::Config;
use super::console::{Console, Level, Style};
use super::fault::Faults;
use super::life::{End, Life};
use super::options::{Environment, FailStart, Options};
use super::server::{Server, bind};
use super::store::{Layout, Store, StoreError, Versions, Writer};

/// The word on the command line that means this process and not the wrapper.
pub const MAIN: &str = "bazarr/main.py";
/// Tells the wrapper to end, with a code in it.
pub const STOP_FILE: &str = "bazarr.stop";
/// Tells the wrapper to start anew.
pub const RESTART_FILE: &str = "bazarr.restart";

const DEFAULT_PORT: u16 = 6767;
/// The stop file's codes: interrupted, configuration invalid, port taken.
const INTERRUPTED: i32 = -100;
const BAD_CONFIGURATION: i32 = -101;
const PORT_TAKEN: i32 = -105;

/// The revisions that this version knows, oldest first; the names are a stand-in's own.
const REVISIONS: [&str; 3] = ["5a1d0f0a7c11", "8e6b2c40d922", "c3f74b9be033"];

const LAYOUT: Layout = Layout {
    create: r#"
        CREATE TABLE "alembic_version" ("version_num" VARCHAR(32) NOT NULL CONSTRAINT "alembic_version_pkc" PRIMARY KEY);
        CREATE TABLE "system" ("configured" TEXT, "updated" TEXT);
        CREATE TABLE "table_episodes" ("sonarrEpisodeId" INTEGER PRIMARY KEY, "path" TEXT NOT NULL, "missing_subtitles" TEXT);
        CREATE TABLE "table_movies" ("radarrId" INTEGER PRIMARY KEY, "path" TEXT NOT NULL, "missing_subtitles" TEXT);
        INSERT INTO "system" VALUES ('0', '0');
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50)
            INSERT INTO "table_episodes" SELECT i, '/media/library/shows/Title ' || i || '.mkv', '[]' FROM n;
    "#,
    ledger: "table_history",
    wal: false,
    versions: Versions::Alembic,
};

/// The directory that `-c` or `--config` names; beside the program without it.
pub fn directory(arguments: &[String]) -> PathBuf {
    option(arguments, &["-c", "--config"]).map_or_else(|| PathBuf::from("data"), PathBuf::from)
}

fn option(arguments: &[String], names: &[&str]) -> Option<String> {
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        if names.contains(&word.as_str()) {
            return words.next().cloned();
        }
        if let Some(value) = names
            .iter()
            .find_map(|name| word.strip_prefix(&format!("{name}=")))
        {
            return Some(value.to_owned());
        }
    }
    None
}

struct Run {
    directory: PathBuf,
    port: Option<u16>,
    options: Options,
    console: Console,
    faults: Faults,
    life: Life,
}

/// Runs the program proper, and returns its exit code.
pub fn run(arguments: &[String], environment: &Environment) -> Result<u8, String> {
    let directory = directory(arguments);
    let faults = Faults::new(&directory);
    let options = Options::read(environment)?.with_faults(&faults);
    let life = Life::begin(faults.clone()).map_err(|error| error.to_string())?;
    let port = option(arguments, &["-p", "--port"])
        .map(|text| text.parse().map_err(|error| format!("--port {text}: {error}")))
        .transpose()?;
    let run = Run {
        directory,
        port,
        options,
        console: Console::new(Style::Bazarr),
        faults,
        life,
    };
    for folder in ["config", "db", "backup", "cache", "log", "restore"] {
        fs::create_dir_all(run.directory.join(folder)).map_err(|error| format!("{folder}: {error}"))?;
    }
    run.console.also_to(run.directory.join("log/bazarr.log"));
    run.begin()
}

impl Run {
    fn begin(&self) -> Result<u8, String> {
        if let Some(FailStart::Exit(code)) = self.options.fail_start {
            return Ok(code);
        }
        self.restore().map_err(|error| error.to_string())?;
        let config = match Config::load(&self.directory) {
            Ok(config) => config,
            Err(error) => {
                self.error("config", format_args!("configuration file is invalid: {error}"));
                return self.leave(BAD_CONFIGURATION);
            }
        };
        if self.life.wait(self.options.slow_start).is_some() {
            return Ok(143);
        }
        let (listener, port) = match self.listen(&config) {
            Ok(found) => found,
            Err(error) => {
                self.error(
                    "server",
                    format_args!(
                        "BAZARR cannot bind to default TCP port ({DEFAULT_PORT}): {error}, exiting..."
                    ),
                );
                return self.leave(PORT_TAKEN);
            }
        };
        let store = match self.migrated() {
            Ok(store) => Arc::new(store),
            Err(StoreError::Ended(_)) => return Ok(143),
            Err(error) => {
                self.error("database", error);
                return Ok(1);
            }
        };
        self.serve(config, listener, port, store)
    }

    fn error(&self, name: &str, text: impl std::fmt::Display) {
        self.console.line(Level::Error, name, text);
    }

    /// A restore that waits is put in place, when both of its files are there.
    fn restore(&self) -> io::Result<()> {
        let files = [
            ("restore/config.yaml", "config/config.yaml"),
            ("restore/bazarr.db", "db/bazarr.db"),
        ];
        if files.iter().all(|(from, _)| self.directory.join(from).is_file()) {
            for (from, to) in files {
                fs::rename(self.directory.join(from), self.directory.join(to))?;
            }
        }
        Ok(())
    }

    /// The chosen port, or else 6767; an address that does not exist is left for all of them.
    fn listen(&self, config: &Config) -> io::Result<(TcpListener, u16)> {
        let wanted = self.port.unwrap_or_else(|| config.port());
        let first = bind(config.address(), wanted).or_else(|error| match error.kind() {
            io::ErrorKind::AddrInUse => Err(error),
            _ => bind("0.0.0.0", wanted),
        });
        match first {
            Ok(listener) => Ok((listener, wanted)),
            Err(error) => {
                self.error(
                    "server",
                    format_args!(
                        "BAZARR cannot bind to TCP port {wanted} ({error}), trying with the default port"
                    ),
                );
                Ok((bind("*", DEFAULT_PORT)?, DEFAULT_PORT))
            }
        }
    }

    fn migrated(&self) -> Result<Store, StoreError> {
        let mut known: Vec<&str> = REVISIONS.to_vec();
        if let Some(head) = &self.options.schema {
            match known.iter().position(|revision| revision == head) {
                Some(place) => known.truncate(place + 1),
                None => known.push(head),
            }
        }
        let store = Store::open(&self.directory.join("db/bazarr.db"), LAYOUT)?;
        drop_leftovers(&store)?;
        let have = store.schema()?;
        let steps: Vec<String> = match &have {
            None => known.last().map(|head| (*head).to_owned()).into_iter().collect(),
            Some(have) => match known.iter().position(|revision| revision == have) {
                Some(place) => known
                    .iter()
                    .skip(place + 1)
                    .map(|step| (*step).to_owned())
                    .collect(),
                None => {
                    return Err(StoreError::Refused(format!(
                        "Can't locate revision identified by '{have}'"
                    )));
                }
            },
        };
        for step in &steps {
            self.console.info(
                "migration",
                format_args!(
                    "Running upgrade {} -> {step}",
                    have.as_deref().unwrap_or_default()
                ),
            );
        }
        store.migrate(&steps, self.options.migrate, &self.life)?;
        if self.options.fail_start.is_some() {
            return Err(StoreError::Refused("the migration failed".to_owned()));
        }
        Ok(store)
    }

    fn serve(
        &self,
        config: Config,
        listener: TcpListener,
        port: u16,
        store: Arc<Store>,
    ) -> Result<u8, String> {
        let text = |error: StoreError| error.to_string();
        let mut writer = Some(store.write(self.options.write_interval, event).map_err(text)?);
        let api = Arc::new(Api {
            config,
            directory: self.directory.clone(),
            store,
            version: self.options.version.clone().unwrap_or_else(|| "1.5.2".to_owned()),
            closed: AtomicBool::new(false),
            life: self.life.clone(),
            begun: api::now(),
        });
        let handler = {
            let api = Arc::clone(&api);
            move |request: &_| api.answer(request)
        };
        let server = Server::start(listener, "waitress", self.faults.clone(), Arc::new(handler))
            .map_err(|error| error.to_string())?;
        let (address, base) = (api.config.address(), api.config.base_url());
        self.console.info(
            "server",
            format_args!("BAZARR is started and waiting for request on http://{address}:{port}{base}/"),
        );
        let end = self.until_interrupted(&api, &mut writer);
        std::thread::sleep(self.options.stop_time(&self.faults));
        server.stop();
        if let Some(writer) = writer {
            writer.stop();
        }
        if let Err(error) = api.config.save() {
            self.error("config", error);
        }
        match end {
            End::Restart => {
                self.console.info("server", "Bazarr is being restarted...");
                fs::write(self.directory.join(RESTART_FILE), "").map_err(|error| error.to_string())?;
                Ok(0)
            }
            End::Asked => self.leave(0),
            End::Interrupt | End::Terminate => self.leave(INTERRUPTED),
        }
    }

    /// SIGTERM closes the database and nothing else.
    fn until_interrupted(&self, api: &Api, writer: &mut Option<Writer>) -> End {
        loop {
            match self.life.await_end() {
                End::Terminate => {
                    self.life.forget();
                    api.closed.store(true, Ordering::SeqCst);
                    if let Some(writer) = writer.take() {
                        writer.stop();
                    }
                }
                end => return end,
            }
        }
    }

    /// Leaves the code for the wrapper and ends.
    fn leave(&self, code: i32) -> Result<u8, String> {
        self.console.info("server", "Bazarr is being shutdown...");
        let path = self.directory.join(STOP_FILE);
        fs::write(&path, code.to_string()).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(0)
    }
}

/// Tables that a crashed migration left behind.
fn drop_leftovers(store: &Store) -> Result<(), StoreError> {
    store.with(|connection| {
        let mut statement = connection.prepare("SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE '\\_alembic\\_tmp\\_%' ESCAPE '\\'")?;
        let names = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
        names.iter().try_for_each(|name| connection.execute_batch(&format!("DROP TABLE \"{name}\"")))
    })
}

fn event(number: i64) -> String {
    format!(
        "{{\"action\":1,\"episode\":{},\"language\":\"en\",\"number\":{number}}}",
        number % 50 + 1
    )
}
