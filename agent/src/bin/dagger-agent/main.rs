//! `dagger-agent`: watches the suite's services and says on the system bus how each of them is.
//!
//! One thread, one loop ([`agent`]) that owns all state. Everything reaches it through channels, in this order of files:
//!
//! - [`config`]: the configuration, cut down to what is watched.
//! - [`entry`]: one watched service, and what is known of it.
//! - [`publish`]: what is known, out to the bus, the journal and `systemctl status`.
//! - [`agent`]: the state, and the loop.
//! - [`reload`]: services come and go.
//! - [`report`]: alerts and metrics.
//! - [`recover`]: steps of the ladder, carried out.
//! - [`conflicts`]: who else wants the same, and what waits for a port.
//! - [`jobs`], [`sequence`] and [`job_requests`]: what is begun with services, and followed.
//! - [`watch`]: news of units and answers of applications, in.
//! - [`requests`]: callers on the bus.

mod config;

mod entry;

mod publish;

mod agent;

mod reload;

mod report;

mod recover;

mod conflicts;

mod sequence;

mod jobs;

mod job_requests;

mod watch;

mod requests;

use std::process::ExitCode;

use dagger_agent::adapter::{journal, notify, watchdog};
use dagger_suite::names::{Root, exit};
use sd_notify::NotifyState;

const USAGE: &str = "\
Usage: dagger-agent [--disarm]

Watches the services of the suite and serves org.nixarr.Dagger1 on the system bus.
It is started by systemd: systemctl start monitoring.service

  --disarm   stop the watchdogs of the suite's units; systemd runs this when the agent has ended

Environment:
  DAGGER_ROOT=DIR   look for the configuration and all state below DIR
  DAGGER_LOG=debug  say how each verdict came about
";

fn main() -> ExitCode {
    match std::env::args_os()
        .nth(1)
        .as_deref()
        .and_then(|word| word.to_str())
    {
        None if std::env::args_os().len() == 1 => {}
        Some("--help" | "-h") => {
            print!("{USAGE}");
            return ExitCode::from(exit::GOOD);
        }
        Some("--disarm") if std::env::args_os().len() == 2 => return disarm(),
        Some("--version" | "-V") => {
            println!("dagger-agent {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::from(exit::GOOD);
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(exit::USAGE);
        }
    }
    journal::install();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start: {error}")),
    };
    // As a task: each wake of what `block_on` itself runs costs a write to wake the thread that is awake already.
    let outcome = runtime.block_on(async { tokio::spawn(agent::run(Root::from_env())).await });
    match outcome {
        Ok(Ok(())) => ExitCode::from(exit::GOOD),
        Ok(Err(reason)) => fail(&reason),
        Err(error) => fail(&format!("the agent's loop has ended: {error}")),
    }
}

/// Nobody feeds the watchdogs any more, and no healthy service may be restarted for that.
fn disarm() -> ExitCode {
    match watchdog::disarm_all() {
        Ok(_) => ExitCode::from(exit::GOOD),
        Err(error) => {
            eprintln!("the watchdogs of the suite are not stopped: {error}");
            ExitCode::from(exit::FAILED)
        }
    }
}

/// Says why the agent ends, in the journal and in its unit's status; systemd starts it again.
fn fail(reason: &str) -> ExitCode {
    log::error!("{reason}");
    // The journal has the reason already.
    let _ = notify::own(&[NotifyState::Status(reason)]);
    ExitCode::from(exit::FAILED)
}
