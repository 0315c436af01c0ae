//! Sonarr, Radarr, Prowlarr, Lidarr, Readarr, Whisparr: one family, one program.
//!
//! In the order of the originals: state directory writable? pid file; `config.xml` read, unknown elements taken out;
//! main database opened and migrated (**the port is closed all the while**); log database; port open, 503 "starting up";
//! started. Whatever fails before the port is open leaves a process that waits for an hour and then exits with 3.

pub mod api;
pub mod config;
mod database;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use self::api::Api;
use self::config::Config;
use super::console::{Console, Level, Style};
use super::fault::Faults;
use super::life::{End, Life};
use super::options::{Environment, FailStart, Options};
use super::server::{Server, bind};
use super::store::StoreError;

/// What tells one of the family from the others.
#[derive(Debug, PartialEq, Eq)]
pub struct Application {
    /// `Sonarr`.
    pub name: &'static str,
    /// The default of `<Port>`.
    pub port: u16,
    /// `v3` or `v1`.
    pub api: &'static str,
    /// The version shown unless told otherwise.
    pub version: &'static str,
    /// The highest schema number of that version.
    pub schema: u32,
    /// What the library table is called.
    pub library: &'static str,
    /// What the API calls what is in it.
    pub resource: &'static str,
    /// The task that goes through all of the library's folders, by its type; none: it has no folders.
    pub scan: Option<&'static str>,
    /// Whether `Basic` is rewritten to `Forms` (Radarr 6, Prowlarr 2).
    pub basic_becomes_forms: bool,
}

/// Versions of those that there are images of, whose labels name them, too.
pub const SONARR: &str = "4.0.19.2979";
/// See [`SONARR`].
pub const RADARR: &str = "6.0.4.10291";
/// See [`SONARR`].
pub const PROWLARR: &str = "2.3.6.5318";
/// See [`SONARR`].
pub const LIDARR: &str = "3.1.0.4875";

/// The family. Ports, API versions and schema numbers are those of the originals; a version is a stand-in's own claim.
pub const FAMILY: [Application; 6] = [
    Application {
        name: "Sonarr",
        port: 8989,
        api: "v3",
        version: SONARR,
        schema: 217,
        library: "Series",
        resource: "series",
        scan: Some("Tv.Commands.RefreshSeriesCommand"),
        basic_becomes_forms: false,
    },
    Application {
        name: "Radarr",
        port: 7878,
        api: "v3",
        version: RADARR,
        schema: 242,
        library: "Movies",
        resource: "movie",
        scan: Some("Movies.Commands.RefreshMovieCommand"),
        basic_becomes_forms: true,
    },
    Application {
        name: "Prowlarr",
        port: 9696,
        api: "v1",
        version: PROWLARR,
        schema: 43,
        library: "Indexers",
        resource: "indexer",
        scan: None,
        basic_becomes_forms: true,
    },
    Application {
        name: "Lidarr",
        port: 8686,
        api: "v1",
        version: LIDARR,
        schema: 80,
        library: "Artists",
        resource: "artist",
        scan: Some("Music.Commands.RefreshArtistCommand"),
        basic_becomes_forms: false,
    },
    Application {
        name: "Readarr",
        port: 8787,
        api: "v1",
        version: "0.4.18.0",
        schema: 40,
        library: "Authors",
        resource: "author",
        scan: Some("Books.Commands.RefreshAuthorCommand"),
        basic_becomes_forms: false,
    },
    Application {
        name: "Whisparr",
        port: 6969,
        api: "v3",
        version: "2.0.0.0",
        schema: 200,
        library: "Series",
        resource: "series",
        scan: Some("Tv.Commands.RefreshSeriesCommand"),
        basic_becomes_forms: false,
    },
];

/// Who says that the port is open.
const HOST: &str = "Microsoft.Hosting.Lifetime";
/// The pause between two rows of the log database.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// Why a start ends before the application answers.
enum Stopped {
    /// "Non-recoverable failure": a long wait, then exit code 3.
    Failed(String),
    /// Ends at once with this code.
    Exit(u8),
}

struct Run {
    application: &'static Application,
    state: PathBuf,
    options: Options,
    console: Console,
    faults: Faults,
    life: Life,
    exit_immediately: bool,
}

/// Runs one of the family until it ends, and returns its exit code. `arguments` are those of the original.
pub fn run(
    application: &'static Application,
    arguments: &[String],
    environment: &Environment,
) -> Result<u8, String> {
    let state = arguments
        .iter()
        .find_map(|word| word.trim_start_matches(['-', '/']).strip_prefix("data="))
        .map_or_else(
            || {
                Path::new(environment.get("HOME").unwrap_or("/"))
                    .join(".config")
                    .join(application.name)
            },
            PathBuf::from,
        );
    let faults = Faults::new(&state);
    let options = Options::read(environment)?.with_faults(&faults);
    let life = Life::begin(faults.clone()).map_err(|error| error.to_string())?;
    let exit_immediately = arguments.iter().any(|word| {
        word.trim_start_matches('-')
            .eq_ignore_ascii_case("exitimmediately")
    });
    let run = Run {
        application,
        state,
        options,
        console: Console::new(Style::Servarr),
        faults,
        life,
        exit_immediately,
    };
    let code = match run.serve(environment) {
        Ok(End::Restart) => restart(&run.console),
        Ok(_) => 0,
        Err(Stopped::Exit(code)) => code,
        Err(Stopped::Failed(message)) => run.non_recoverable(&message),
    };
    Ok(code)
}

/// The old process starts the new one and goes, as the originals do; a supervisor sees its main process end.
fn restart(console: &Console) -> u8 {
    let spawned = std::env::current_exe().and_then(|program| {
        std::process::Command::new(program)
            .args(std::env::args_os().skip(1))
            .spawn()
    });
    match spawned {
        Ok(child) => console.info(
            "RestartService",
            format_args!("Restarted as process {}", child.id()),
        ),
        Err(error) => console.line(Level::Error, "RestartService", error),
    }
    0
}

impl Run {
    fn serve(&self, environment: &Environment) -> Result<End, Stopped> {
        let (name, version) = (self.application.name, self.version());
        let starting = format!("Starting {name} - {} - Version {version}", program());
        self.console.info("Bootstrap", starting);
        self.prepare()?;
        let config = Config::load(self.application, &self.state, environment).map_err(Stopped::Failed)?;
        let overridden = format!("Data directory is being overridden to [{}]", self.state.display());
        self.console.info("AppFolderInfo", overridden);
        let store = Arc::new(self.open_main()?);
        let failed = |error: StoreError| Stopped::Failed(error.to_string());
        let writer = store
            .write(self.options.write_interval, database::event)
            .map_err(failed)?;
        let log = self
            .open_log()?
            .write(LOG_INTERVAL, database::event)
            .map_err(failed)?;
        let api = Api::new(
            self.application,
            version,
            &self.state,
            config,
            store,
            writer.failed(),
            self.life.clone(),
        );
        let api = Arc::new(api);
        let server = self.listen(&api)?;
        let end = self.until_end(&api);
        std::thread::sleep(self.options.stop_time(&self.faults));
        server.stop();
        writer.stop();
        log.stop();
        if let Err(error) = api.config().save() {
            self.console.line(Level::Error, "ConfigFileProvider", error);
        }
        Ok(end)
    }

    fn listen(&self, api: &Arc<Api>) -> Result<Server, Stopped> {
        let (config, default) = (api.config(), self.application.port);
        let listener = bind(&config.listen_address, config.listen_port).map_err(|error| {
            let text = "This can happen if another application is using the same port";
            self.console.line(
                Level::Fatal,
                "ConsoleApp",
                format_args!("{error}. {text} (default: {default})"),
            );
            Stopped::Exit(2)
        })?;
        let answering = Arc::clone(api);
        let handler = Arc::new(move |request: &_| answering.answer(request));
        let server = Server::start(listener, "Kestrel", self.faults.clone(), handler);
        let server = server.map_err(|error| Stopped::Failed(error.to_string()))?;
        self.console.info(
            HOST,
            format_args!("Now listening on: http://[::]:{}", config.listen_port),
        );
        Ok(server)
    }

    /// Starting for as long as it was told, then started, until it is to end.
    fn until_end(&self, api: &Api) -> End {
        let end = self.life.wait(self.options.slow_start).unwrap_or_else(|| {
            api.started.store(true, Ordering::SeqCst);
            self.console
                .info(HOST, "Application started. Press Ctrl+C to shut down.");
            self.life.await_end()
        });
        self.console.info(HOST, "Application is shutting down...");
        end
    }

    fn version(&self) -> String {
        self.options
            .version
            .clone()
            .unwrap_or_else(|| self.application.version.to_owned())
    }

    fn file(&self, extension: &str) -> PathBuf {
        self.state
            .join(format!("{}.{extension}", self.application.name.to_lowercase()))
    }

    /// Directories, pid file, and the small files that a state directory has.
    fn prepare(&self) -> Result<(), Stopped> {
        let failed = |error: std::io::Error| {
            Stopped::Failed(format!(
                "AppFolder {} is not writable: {error}",
                self.state.display()
            ))
        };
        for directory in ["asp", "logs", "Backups/scheduled", "MediaCover/1"] {
            fs::create_dir_all(self.state.join(directory)).map_err(failed)?;
        }
        fs::write(self.file("pid"), std::process::id().to_string()).map_err(failed)?;
        for (file, text) in [
            (
                "asp/key-stand-in.xml",
                "<key id=\"stand-in\" version=\"1\"></key>\n",
            ),
            ("MediaCover/1/poster.jpg", "not really a picture\n"),
        ] {
            let path = self.state.join(file);
            if !path.exists() {
                fs::write(path, text).map_err(failed)?;
            }
        }
        self.console.also_to(
            self.state
                .join(format!("logs/{}.txt", self.application.name.to_lowercase())),
        );
        match self.options.fail_start {
            Some(FailStart::Exit(code)) => Err(Stopped::Exit(code)),
            _ => Ok(()),
        }
    }

    fn non_recoverable(&self, message: &str) -> u8 {
        self.console.line(Level::Fatal, "ConsoleApp", "EPIC FAIL!");
        self.console.plain(message);
        if self.exit_immediately {
            self.console
                .plain("Non-recoverable failure, but set to exit immediately");
            return 3;
        }
        self.console
            .plain("Non-recoverable failure, waiting for user intervention...");
        match self
            .life
            .wait(self.options.fail_wait.unwrap_or(Duration::from_hours(1)))
        {
            Some(End::Interrupt) => 130,
            Some(_) => 143,
            None => 3,
        }
    }
}

fn program() -> String {
    std::env::current_exe().map_or_else(|_| "?".to_owned(), |path| path.display().to_string())
}
