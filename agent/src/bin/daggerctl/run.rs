//! `logs`, `start`, `stop`, `restart`: thin words over journalctl and systemctl. What would be run is a value; the functions
//! that run it are at the end.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, IsTerminal as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use dagger_agent::cli::LogsArgs;
use dagger_suite::names::{AGENT_UNIT, ServiceName, TARGET, exit};

use crate::error::Error;
use crate::screen::{echo, warn};

/// Words for journalctl. A service's log holds its image's download too; no service means the suite and the agent.
pub fn journalctl(args: &LogsArgs, service: Option<&ServiceName>) -> Vec<String> {
    let mut words = match service {
        Some(name) => vec!["-u".into(), name.unit(), "-u".into(), name.pull_unit()],
        None => vec!["-u".into(), "dagger-*".into(), "-u".into(), AGENT_UNIT.into()],
    };
    if let Some(lines) = args.lines {
        words.extend(["-n".into(), lines.to_string()]);
    }
    if args.follow {
        words.push("-f".into());
    }
    words
}

/// Words for systemctl; no service means the whole suite.
pub fn systemctl(verb: &str, services: &[ServiceName]) -> Vec<String> {
    let mut words = vec![verb.to_owned()];
    match services {
        [] => words.push(TARGET.into()),
        services => words.extend(services.iter().map(ServiceName::unit)),
    }
    words
}

/// Becomes another program. Returns only when that did not work.
pub fn become_program(program: &str, words: &[String]) -> Error {
    cannot_run(program, &Command::new(program).args(words).exec())
}

/// Runs systemctl and waits for it. Its exit codes are its own (5 is "not installed" there); ours are 0, 4 for a refusal,
/// and 1.
pub fn run_systemctl(verb: &str, services: &[ServiceName]) -> Result<u8, Error> {
    if verb != "stop" && std::io::stderr().is_terminal() {
        warn(
            "daggerctl",
            "waiting until it answers; Ctrl-C ends the waiting, not the start",
        );
    }
    let mut systemctl = Command::new("systemctl")
        .args(systemctl(verb, services))
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| cannot_run("systemctl", &error))?;
    let mut refused = false;
    for line in systemctl
        .stderr
        .take()
        .into_iter()
        .flat_map(|pipe| BufReader::new(pipe).lines())
    {
        let line = line.map_err(|error| cannot_run("systemctl", &error))?;
        refused |= REFUSALS.iter().any(|refusal| line.contains(refusal));
        echo(&line);
    }
    let status = systemctl
        .wait()
        .map_err(|error| cannot_run("systemctl", &error))?;
    Ok(match status.code() {
        Some(0) => exit::GOOD,
        Some(4) => exit::NOT_AUTHORIZED,
        _ if refused => exit::NOT_AUTHORIZED,
        _ => exit::FAILED,
    })
}

/// What systemctl passes on from polkit without a status of its own for it (seen with systemd 257).
const REFUSALS: [&str; 2] = ["Interactive authentication required", "Access denied"];

/// Where the generator is: with an installed client below the same prefix, in a build beside it.
pub fn generator(client: &Path) -> Option<OsString> {
    let dir = client.parent()?;
    [
        dir.join("../lib/systemd/system-generators/dagger-generator"),
        dir.join("dagger-generator"),
    ]
    .into_iter()
    .find(|path| path.is_file())
    .map(Into::into)
}

/// The error for a program that could not be started.
pub fn cannot_run(program: &str, error: &std::io::Error) -> Error {
    Error::Failed(format!("cannot run {program}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> ServiceName {
        ServiceName::parse(name).unwrap()
    }

    #[test]
    fn logs_of_one_and_of_all() {
        let args = LogsArgs {
            service: None,
            follow: true,
            lines: Some(5),
        };
        assert_eq!(
            journalctl(&args, Some(&name("sonarr"))),
            [
                "-u",
                "dagger-sonarr.service",
                "-u",
                "dagger-pull@sonarr.service",
                "-n",
                "5",
                "-f"
            ]
        );
        assert_eq!(
            journalctl(&LogsArgs::default(), None),
            ["-u", "dagger-*", "-u", "monitoring.service"]
        );
    }

    #[test]
    fn no_service_means_the_target() {
        assert_eq!(systemctl("stop", &[]), ["stop", "dagger.target"]);
        let both = [name("sonarr"), name("radarr")];
        assert_eq!(
            systemctl("restart", &both),
            ["restart", "dagger-sonarr.service", "dagger-radarr.service"]
        );
    }
}
