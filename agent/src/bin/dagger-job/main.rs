//! `dagger-job` touches data and has no network: the work on a service's files, one verb a kind of job.
//!
//! - [`run`]: one job from its request to its last word, which is in [`end`]. [`look`]: what it is made from. [`rollback`]: what stands in the way
//!   back. [`story`]: what the steps need to know. [`world`]: the steps, with [`data`] and [`probation`].
//! - [`shadow`]: the steps about a container on a copy, [`rehearse`]: what it is made of, and what was found by it.
//! - [`recover`]: what a crash left.
//! - [`bus`]: systemd and the agent. [`tell`]: what a job says while it works.
//! - [`seal`]: the checksums of snapshots, after a job. [`tidy`]: which of them are kept.
//! - [`guard`]: the library of who has moved, until its first scan is over.
//! - [`quick_check`]: `quick-check`, the databases of the suite, every week.

mod bus;
mod data;
mod guard;
mod look;
mod probation;
mod quick_check;
mod shadow;
mod rehearse;
mod recover;
mod rollback;
mod end;
mod run;
mod tidy;
mod seal;
mod story;
mod tell;
mod world;

use std::process::ExitCode;

use dagger_agent::adapter::lines;
use dagger_agent::domain::job::{Ended, Task};
use dagger_suite::names::{Root, ServiceName, exit};

const USAGE: &str = "\
Usage: dagger-job plan|migrate|rollback|shadow|promote|discard|rehearse|resume SERVICE
       dagger-job resume
       dagger-job recover
       dagger-job seal
       dagger-job guard
       dagger-job quick-check [SERVICE]...

  plan, migrate, ...       the work of dagger-migrate@SERVICE.service and its like, which is how to start it: this program
                           looks for what was asked for in /run/dagger/job, and says there how far it is
  resume                   finishes or undoes what was interrupted, of one service or of all
  recover                  the same at boot, before any service starts: dagger-recover.service
  seal                     removes the snapshots that are not kept any longer, and writes the checksums of those that have none
                           yet: dagger-seal.service, after each job and every week
  guard                    rolls a service back whose library shrinks after it has moved into its container and before its
                           application has gone through its media once: dagger-guard.timer, for as long as there is one
  quick-check              copies the databases of the services that run, has SQLite look through each copy, and writes what it
                           found to /run/dagger/well/SERVICE.db.json; every week: dagger-quick-check.service

Environment:
  DAGGER_ROOT=DIR   look for the configuration and all state below DIR
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let short: Vec<&str> = words.iter().map(String::as_str).collect();
    // Directories are walked without following links; where the root itself lies is the caller's business.
    let root = Root::from_env();
    let root = std::fs::canonicalize(root.join("/")).map_or(root, Root::new);
    let result = match short.as_slice() {
        ["quick-check", services @ ..] if !services.iter().any(|word| word.starts_with('-')) => {
            quick_check::run(&root, words.get(1..).unwrap_or_default())
        }
        ["recover"] => recover::boot(&root),
        ["resume"] => recover::all(&root),
        ["seal"] => seal::run(&root),
        ["guard"] => guard::run(&root),
        [word, service] if Task::from_word(word).is_some() => {
            return task(&root, word, service);
        }
        ["--help" | "-h"] => {
            print!("{USAGE}");
            return ExitCode::from(exit::GOOD);
        }
        ["--version" | "-V"] => {
            println!("dagger-job {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::from(exit::GOOD);
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(exit::USAGE);
        }
    };
    match result {
        Ok(()) => ExitCode::from(exit::GOOD),
        Err(reasons) => {
            for reason in reasons {
                lines::error(&reason);
            }
            ExitCode::from(exit::FAILED)
        }
    }
}

fn task(root: &Root, word: &str, service: &str) -> ExitCode {
    let (Some(task), Ok(service)) = (Task::from_word(word), ServiceName::parse(service)) else {
        eprintln!("{service:?} is no name of a service");
        return ExitCode::from(exit::USAGE);
    };
    match run::job(root, task, &service) {
        Ended::Done => ExitCode::from(exit::GOOD),
        Ended::Undone | Ended::Refused | Ended::Later | Ended::Stuck => ExitCode::from(exit::FAILED),
    }
}
