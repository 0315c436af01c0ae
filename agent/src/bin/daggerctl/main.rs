//! The client: reads the agent's objects on the bus, starts and stops units by systemctl, reads the configuration by the
//! generator's library. It has no privilege and holds no state. It answers to three other names, see `nixarr.rs`.
//!
//! The files in order, each importing only from those above it:
//! `error` (exit codes) - `text` (tables, pure) - `report` (what is known) - `screen` - `show` (reports as text, pure) -
//! `suite` (the configuration) - `bus` - `status`, `why`, `when` (local time), `history`, `pause`, `ports`, `conflicts`, `nixarr`,
//! `run`, `tree`, `config`, `metrics` (the commands).

mod error;

mod text;

mod report;

mod screen;

mod show;

mod suite;

mod bus;

mod status;

mod why;

mod when;

mod history;

mod pause;

mod ports;

mod conflicts;

mod nixarr;

mod run;

mod tree;

mod config;

mod metrics;

use std::ffi::OsStr;
use std::future::Future;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use dagger_agent::cli::{Command, ConfigCommand, Daggerctl, LogsArgs, Migrate, MigrationStatus, Summary};
use dagger_suite::names::Root;

use crate::error::Error;
use crate::screen::{Screen, warn};
use crate::suite::Suite;

fn main() -> ExitCode {
    let called = std::env::args_os().next();
    let called = called
        .as_deref()
        .map(Path::new)
        .and_then(Path::file_name)
        .and_then(OsStr::to_str);
    let (name, ended) = match called {
        Some(name @ nixarr::MIGRATE) => {
            Migrate::parse();
            (name, Err(Error::Failed(nixarr::NOT_BUILT.into())))
        }
        Some(name @ nixarr::MIGRATION_STATUS) => {
            let json = MigrationStatus::parse().json;
            (
                name,
                block_on(nixarr::migration_status(json, Screen::of_process())),
            )
        }
        Some(name @ nixarr::SUMMARY) => {
            Summary::parse();
            (name, block_on(nixarr::summary(Screen::of_process())))
        }
        _ => ("daggerctl", daggerctl(Daggerctl::parse())),
    };
    ExitCode::from(ended.unwrap_or_else(|error| {
        warn(name, &error.to_string());
        error.exit()
    }))
}

/// Runs a command that talks to the bus, on this thread.
fn block_on(command: impl Future<Output = Result<u8, Error>>) -> Result<u8, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime
        .map_err(|error| Error::Failed(format!("cannot start: {error}")))?
        .block_on(command)
}

fn daggerctl(line: Daggerctl) -> Result<u8, Error> {
    let screen = Screen::of_process();
    match line.command.unwrap_or(Command::Status(line.status)) {
        Command::Status(args) => block_on(status::status(&args, screen)),
        Command::Health(args) => block_on(status::health(&args, screen)),
        Command::Check(args) => block_on(status::check(&args, screen)),
        Command::Why(args) => block_on(why::why(&args, screen)),
        Command::History(args) => block_on(history::history(&args, screen)),
        Command::Conflicts(args) => block_on(conflicts::conflicts(&args, screen)),
        Command::Ports(args) => ports::ports(&args, screen),
        Command::Pause(args) => block_on(pause::pause(&args)),
        Command::Resume(args) => block_on(pause::resume(&args)),
        Command::Config(ConfigCommand::Check) => config::check(),
        Command::Config(ConfigCommand::Show(args)) => config::show(args.json),
        Command::Config(ConfigCommand::Diff) => config::diff(),
        Command::Logs(args) => logs(&args),
        Command::Metrics(args) if args.http => metrics::answer(&Root::from_env()),
        Command::Metrics(_) => metrics::print(&Root::from_env()),
        Command::Start(args) => units("start", &args.services),
        Command::Stop(args) => units("stop", &args.services),
        Command::Restart(args) => units("restart", &args.services),
    }
}

fn units(verb: &str, words: &[String]) -> Result<u8, Error> {
    let services = if words.is_empty() {
        Vec::new()
    } else {
        Suite::read(Root::from_env()).names(words)?
    };
    run::run_systemctl(verb, &services)
}

fn logs(args: &LogsArgs) -> Result<u8, Error> {
    let services = match &args.service {
        None => Vec::new(),
        Some(word) => Suite::read(Root::from_env()).names(std::slice::from_ref(word))?,
    };
    Err(run::become_program(
        "journalctl",
        &run::journalctl(args, services.first()),
    ))
}
