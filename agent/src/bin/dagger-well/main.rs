//! `dagger-well` asks the applications how they are, each with its own key, and leaves what they say in
//! `/run/dagger/well` for the agent. It is started by `dagger-well.timer`.
//!
//! It is a program of its own so that the agent, which talks to everybody, never holds a key: a key is read from the
//! application's own file, shown to nobody but the application's own unit, and forgotten when this ends.
//!
//! - [`settings`]: what is needed from an application's own files.
//! - [`api`]: Servarr and Bazarr, which have an interface with a key.
//! - [`rpc`]: Transmission, whose password nobody else knows.
//! - [`libraries`]: Jellyfin, which has no key on the disk.

mod settings;

mod api;

mod rpc;

mod libraries;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use dagger_agent::adapter::clock::realtime_usec;
use dagger_agent::adapter::well::{self, Source, Well};
use dagger_agent::domain::wellness::{self, Identity};
use dagger_suite::model::Service;
use dagger_suite::names::{Root, exit};
use dagger_suite::probe::Kind;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

const USAGE: &str = "\
Usage: dagger-well [SERVICE]...

Asks the services of the suite that run how they are, with each application's own key, and writes what they
say to /run/dagger/well/SERVICE.json. Without arguments all of them. It is started by systemd, every hour:
systemctl start dagger-well.service

Environment:
  DAGGER_ROOT=DIR   look for the configuration and all state below DIR
";

/// So many applications are asked at the same time.
const AT_ONCE: usize = 8;
/// How long an application may take for one answer.
const LIMIT: Duration = Duration::from_secs(10);

/// What was found out about one service.
#[derive(Debug, Default)]
struct Findings {
    /// Its own sentences, as they came.
    problems: Vec<String>,
    /// Who it is.
    identity: Option<Identity>,
    /// Why not everything could be asked.
    error: Option<String>,
    /// What must not be shown.
    secrets: Vec<String>,
}

impl Findings {
    fn unable(error: impl Into<String>) -> Self {
        Self {
            error: Some(error.into()),
            ..Self::default()
        }
    }

    fn into_well(self) -> Well {
        Well {
            at: realtime_usec(),
            error: self.error.map(|text| wellness::clean(&text, &self.secrets)),
            identity: self.identity.map(|identity| Identity {
                name: wellness::clean(&identity.name, &self.secrets),
                version: wellness::clean(&identity.version, &self.secrets),
            }),
            problems: wellness::bounded(self.problems, &self.secrets),
        }
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    match words.first().map(String::as_str) {
        Some("--help" | "-h") => {
            print!("{USAGE}");
            return ExitCode::from(exit::GOOD);
        }
        Some("--version" | "-V") => {
            println!("dagger-well {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::from(exit::GOOD);
        }
        Some(word) if word.starts_with('-') => {
            eprint!("{USAGE}");
            return ExitCode::from(exit::USAGE);
        }
        _ => {}
    }
    match run(&words) {
        Ok(()) => ExitCode::from(exit::GOOD),
        Err(reasons) => {
            for reason in reasons {
                eprintln!("{reason}");
            }
            ExitCode::from(exit::FAILED)
        }
    }
}

fn run(words: &[String]) -> Result<(), Vec<String>> {
    // Directories are walked without following links; where the root itself lies is the caller's business.
    let root = Root::from_env();
    let root = std::fs::canonicalize(root.join("/")).map_or(root, Root::new);
    let services = well::chosen(dagger_suite::load(&root).suite.services, words)?;
    let (here, gone): (Vec<_>, Vec<_>) = services
        .into_iter()
        .partition(|service| well::runs(&root, &service.name));
    let mut reasons = Vec::new();
    for service in gone {
        if let Err(error) = well::forget(&root, &service.name, Source::Application) {
            reasons.push(error.to_string());
        }
    }
    if here.iter().all(|service| service.probe.netns.is_none()) {
        settings::drop_namespaces().map_err(|error| vec![format!("cannot give up a power: {error}")])?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| vec![format!("cannot start: {error}")])?;
    reasons.extend(runtime.block_on(ask_all(root, here)));
    if reasons.is_empty() { Ok(()) } else { Err(reasons) }
}

/// Asks them side by side; what comes back is why something could not be written.
async fn ask_all(root: Root, services: Vec<Service>) -> Vec<String> {
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for service in services {
        let (root, slots) = (root.clone(), Arc::clone(&slots));
        tasks.spawn(async move {
            // It is never closed; without a slot there would be no bound, and that is all.
            let _slot = slots.acquire().await;
            let Some(findings) = ask(&root, &service).await else {
                return Ok(());
            };
            well::write(&root, &service.name, Source::Application, &findings.into_well())
                .map_err(|error| format!("what {} said cannot be kept: {error}", service.name))
        });
    }
    let mut reasons = Vec::new();
    while let Some(done) = tasks.join_next().await {
        match done {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => reasons.push(reason),
            Err(error) => reasons.push(format!("a question was not put to its end: {error}")),
        }
    }
    reasons
}

/// Asks one; none for an application that says nothing of itself.
async fn ask(root: &Root, service: &Service) -> Option<Findings> {
    Some(match service.probe.kind {
        Kind::Servarr => api::servarr(root, service).await,
        Kind::Bazarr => api::bazarr(root, service).await,
        Kind::Transmission => rpc::transmission(root, service).await,
        Kind::Jellyfin => libraries::jellyfin(root, service).await,
        Kind::Http | Kind::Tcp | Kind::Exec => return None,
    })
}
