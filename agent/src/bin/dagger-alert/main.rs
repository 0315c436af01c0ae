//! `dagger-alert SERVICE` tells people what happened to a service: `ExecStart=` of `dagger-alert@.service`, which the agent
//! starts, and systemd by `OnFailure=` when a unit has failed, whether the agent lives or not.
//!
//! `dagger-alert --lasts SERVICE` is that unit's `ExecCondition=`: whether there is anything to tell, for what systemd starts
//! by `OnFailure=` is not always a failure ([`Desk::lasts`]). It runs as root, as it asks systemd: the bus may not know a user
//! that exists for one unit only.
//!
//! `dagger-alert --check` reads `/etc/dagger/alert.toml` and says what is wrong in it.
//!
//! No line that it writes holds a secret: [`send`] takes out what a target calls one.

mod send;
mod desk;

use std::process::ExitCode;

use dagger_agent::adapter::lines;
use dagger_agent::domain::alert::target;
use dagger_suite::names::{Root, ServiceName, exit};

use desk::Desk;

const USAGE: &str = "\
usage: dagger-alert [--lasts] SERVICE, or dagger-alert --check
SERVICE: tells what happened to it, as dagger-alert@SERVICE.service does; --check: reads /etc/dagger/alert.toml";

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    let words: Vec<_> = words.iter().map(|word| word.to_str().unwrap_or("")).collect();
    let root = Root::from_env();
    let root = std::fs::canonicalize(root.join("/")).map_or(root, Root::new);
    ExitCode::from(match words.as_slice() {
        ["--help" | "-h"] => say(USAGE),
        ["--version" | "-V"] => say(concat!("dagger-alert ", env!("CARGO_PKG_VERSION"))),
        ["--check"] => check(&root),
        ["--lasts", word] => with(word, |service| lasts(&root, service)),
        [word] => with(word, |service| tell(&root, service)),
        _ => usage("one argument is needed"),
    })
}

fn say(text: &str) -> u8 {
    println!("{text}");
    exit::GOOD
}

fn usage(problem: &str) -> u8 {
    lines::error(&format!("{problem}\n{USAGE}"));
    exit::USAGE
}

fn with(name: &str, work: impl FnOnce(ServiceName) -> u8) -> u8 {
    match ServiceName::parse(name) {
        Ok(service) => work(service),
        Err(problem) => usage(&problem),
    }
}

fn tell(root: &Root, service: ServiceName) -> u8 {
    match run(async { Desk::open(root, service)?.serve().await }) {
        Ok(()) => exit::GOOD,
        Err(sentences) => {
            lines::error(&sentences.join("\n"));
            exit::FAILED
        }
    }
}

/// 1 skips what the unit would do (systemd.service(5)); in doubt it is done.
fn lasts(root: &Root, service: ServiceName) -> u8 {
    let unit = service.unit();
    match run(async { Desk::open(root, service)?.lasts().await }) {
        Ok(false) => {
            lines::info(&format!("{unit} runs or is about to, so nothing is told"));
            exit::FAILED
        }
        Ok(true) => exit::GOOD,
        Err(sentences) => {
            lines::warning(&sentences.join("\n"));
            exit::GOOD
        }
    }
}

/// Runs work that waits.
fn run<T>(work: impl Future<Output = Result<T, Vec<String>>>) -> Result<T, Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime
        .map_err(|error| vec![format!("cannot start: {error}")])
        .and_then(|runtime| runtime.block_on(work))
}

/// Whether the file is good, and kept from other eyes.
fn check(root: &Root) -> u8 {
    let path = desk::config(root);
    let targets = match desk::targets(&path) {
        Ok(targets) => targets,
        Err(sentences) => {
            lines::error(&sentences.join("\n"));
            return exit::CONFIG;
        }
    };
    if desk::is_open(&path) {
        lines::warning(&format!(
            "{path} can be read by everybody, with the secrets in it: chmod 600 {path}",
            path = path.display()
        ));
    }
    let names: Vec<_> = targets
        .iter()
        .map(|target: &target::Target| target.name.as_str())
        .collect();
    lines::info(&match names.as_slice() {
        [] => format!("{}: no targets", path.display()),
        names => format!("{}: {}", path.display(), names.join(", ")),
    });
    exit::GOOD
}
