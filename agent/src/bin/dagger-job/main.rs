//! `dagger-job` touches data and has no network: the work on a service's files, one verb a kind of job.
//!
//! - [`quick_check`]: `quick-check`, the databases of the suite, every week.

mod quick_check;

use std::process::ExitCode;

use dagger_suite::names::{Root, exit};

const USAGE: &str = "\
Usage: dagger-job quick-check [SERVICE]...

Copies the databases of the services that run, has SQLite look through each copy, and writes what it found to
/run/dagger/well/SERVICE.db.json. Without services all of them. It is started by systemd, every week:
systemctl start dagger-quick-check.service

Environment:
  DAGGER_ROOT=DIR   look for the configuration and all state below DIR
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    // Directories are walked without following links; where the root itself lies is the caller's business.
    let root = Root::from_env();
    let root = std::fs::canonicalize(root.join("/")).map_or(root, Root::new);
    let result = match words.split_first() {
        Some((verb, services))
            if verb == "quick-check" && !services.iter().any(|word| word.starts_with('-')) =>
        {
            quick_check::run(&root, services)
        }
        Some((word, _)) if matches!(word.as_str(), "--help" | "-h") => {
            print!("{USAGE}");
            return ExitCode::from(exit::GOOD);
        }
        Some((word, _)) if matches!(word.as_str(), "--version" | "-V") => {
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
                eprintln!("{reason}");
            }
            ExitCode::from(exit::FAILED)
        }
    }
}
