//! The client: reads the agent's objects on the bus, starts and stops units by systemctl, reads the configuration by the
//! generator's library. It has no privilege and holds no state. It answers to three other names, see `nixarr.rs`.
//!
//! The files in order, each importing only from those above it:
//! `error` (exit codes) - `text` (tables, pure) - `report` (what is known) - `screen` - `show` (reports as text, pure) -
//! `suite` (the configuration) - `bus` - `status`, `why`, `when` (local time), `history`, `ports`, `conflicts`, `nixarr`,
//! `run`, `job` (what moves services), `pause`, `tree`, `config`, `metrics` (the commands).

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

mod ports;

mod conflicts;

mod nixarr;

mod run;

mod job;

mod pause;

mod tree;

mod config;

mod metrics;

use std::ffi::OsStr;
use std::future::Future;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use dagger_agent::cli::migrate::{JobCommand, JobStatusArgs, MigrateCommand};
use dagger_agent::cli::{
    Command, ConfigCommand, Daggerctl, LogsArgs, Migrate, MigrationStatus, StatusOfArgs, Summary,
};
use dagger_agent::domain::job::Task;
use dagger_suite::names::{Root, exit};

use crate::error::Error;
use crate::job::{commands, list};
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
            let command = Migrate::parse().command;
            (name, block_on(migrate(command, Screen::of_process())))
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
    let nothing_said = || {
        Command::Status(StatusOfArgs {
            services: Vec::new(),
            form: line.status,
        })
    };
    match line.command.unwrap_or_else(nothing_said) {
        Command::Status(args) => block_on(status::status(&args.services, &args.form, screen)),
        Command::Health(args) => block_on(status::health(&args, screen)),
        Command::Check(args) => block_on(status::check(&args, screen)),
        Command::Why(args) => block_on(why::why(&args, screen)),
        Command::History(args) => block_on(history::history(&args, screen)),
        Command::Conflicts(args) => block_on(conflicts::conflicts(&args, screen)),
        Command::Ports(args) => ports::ports(&args, screen),
        Command::Pause(args) => block_on(pause::pause(&args)),
        Command::Resume(args) => block_on(pause::resume(&args, screen)),
        Command::Job(command) => block_on(job_command(command, screen)),
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

async fn migrate(command: Option<MigrateCommand>, screen: Screen) -> Result<u8, Error> {
    match command {
        None => list::status(&JobStatusArgs::default(), screen).await,
        Some(MigrateCommand::Status(args)) => list::status(&args, screen).await,
        Some(MigrateCommand::Resume(args)) => commands::resume(&args, screen).await,
        Some(MigrateCommand::Job(command)) => job_command(command, screen).await,
    }
}

async fn job_command(command: JobCommand, screen: Screen) -> Result<u8, Error> {
    match command {
        JobCommand::Plan(args) => commands::plan(&args, screen).await,
        JobCommand::Migrate(args) => commands::migrate(&args, screen).await,
        JobCommand::Rollback(args) => commands::rollback(&args, screen).await,
        JobCommand::Shadow(args) => commands::one(Task::Shadow, &args, screen).await,
        JobCommand::Promote(args) => commands::one(Task::Promote, &args, screen).await,
        JobCommand::Rehearse(args) => commands::one(Task::Rehearse, &args, screen).await,
        JobCommand::Discard(args) => commands::one(Task::Discard, &args, screen).await,
        JobCommand::Cancel(args) => commands::cancel(&args).await,
        JobCommand::Snapshots(args) => list::snapshots(&args, screen).await,
    }
}

fn units(verb: &str, words: &[String]) -> Result<u8, Error> {
    if words.is_empty() {
        return run::run_systemctl(verb, &[]);
    }
    let suite = Suite::read(Root::from_env());
    let services = suite.names(words)?;
    // Without this systemctl would skip their units, and call that a success.
    let (natives, ours): (Vec<_>, Vec<_>) = services
        .into_iter()
        .map(|service| (suite.natively_owned(&service), service))
        .partition(|(native, _)| native.is_some());
    for (native, service) in &natives {
        let native = native.unwrap_or_default();
        warn("daggerctl", &run::not_ours(verb, service, native));
    }
    let ours: Vec<_> = ours.into_iter().map(|(_, service)| service).collect();
    let code = match ours.as_slice() {
        [] => exit::GOOD,
        ours => run::run_systemctl(verb, ours)?,
    };
    Ok(if natives.is_empty() || code != exit::GOOD {
        code
    } else {
        exit::FAILED
    })
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
