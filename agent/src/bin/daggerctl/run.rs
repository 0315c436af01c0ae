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

/// Words for systemctl; no service means the whole suite, whose `parts` are those of the target.
///
/// A stop of the target is over before the services have stopped, which it only takes with it (`PartOf=`): they are named, so
/// that systemctl waits for them. A start and a restart of it are over when its services are (`After=`).
pub fn systemctl(verb: &str, services: &[ServiceName], parts: &[ServiceName]) -> Vec<String> {
    let mut words = vec![verb.to_owned()];
    match services {
        [] => {
            words.push(TARGET.into());
            if verb == "stop" {
                words.extend(parts.iter().map(ServiceName::unit));
            }
        }
        services => words.extend(services.iter().map(ServiceName::unit)),
    }
    words
}

/// The services among the units that systemctl shows as the target's parts.
fn parts(shown: &str) -> Vec<ServiceName> {
    shown
        .split_ascii_whitespace()
        .filter_map(ServiceName::of_unit)
        .collect()
}

/// The services that end with the target, those included that are not in the configuration any more. None when systemd cannot
/// be asked: then it refuses what is asked of it as well.
fn parts_of_target() -> Vec<ServiceName> {
    let shown = Command::new("systemctl")
        .args(["show", "--property=ConsistsOf", "--value", "--", TARGET])
        .stderr(Stdio::null())
        .output();
    shown.map_or_else(
        |_| Vec::new(),
        |shown| parts(&String::from_utf8_lossy(&shown.stdout)),
    )
}

/// What is said of a service that its native unit owns, whatever is asked of its container.
pub fn not_ours(verb: &str, service: &ServiceName, native: &str) -> String {
    format!(
        "{service} belongs to its native unit {native}: `systemctl {verb} {native}` does that there, \
         `nixarr-migrate migrate {service}` moves it into its container (`nixarr-migrate plan {service}` says what that would do)"
    )
}

/// Becomes another program. Returns only when that did not work.
pub fn become_program(program: &str, words: &[String]) -> Error {
    cannot_run(program, &Command::new(program).args(words).exec())
}

/// Runs systemctl and waits for it. Its exit codes are its own (5 is "not installed" there); ours are 0, 4 for a refusal,
/// and 1.
pub fn run_systemctl(verb: &str, services: &[ServiceName]) -> Result<u8, Error> {
    if std::io::stderr().is_terminal() {
        warn(
            "daggerctl",
            if verb == "stop" {
                "waiting until it has stopped; Ctrl-C ends the waiting, not the stop"
            } else {
                "waiting until it answers; Ctrl-C ends the waiting, not the start"
            },
        );
    }
    let parts = if verb == "stop" && services.is_empty() {
        parts_of_target()
    } else {
        Vec::new()
    };
    let mut systemctl = Command::new("systemctl")
        .args(systemctl(verb, services, &parts))
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
    fn no_service_means_the_target_and_a_stop_waits_for_its_parts() {
        let both = [name("sonarr"), name("radarr")];
        assert_eq!(
            systemctl("stop", &[], &both),
            [
                "stop",
                "dagger.target",
                "dagger-sonarr.service",
                "dagger-radarr.service"
            ]
        );
        assert_eq!(systemctl("start", &[], &both), ["start", "dagger.target"]);
        assert_eq!(
            systemctl("restart", &both, &[]),
            ["restart", "dagger-sonarr.service", "dagger-radarr.service"]
        );
    }

    #[test]
    fn only_services_are_parts() {
        let shown = "dagger-pull@sonarr.service dagger-sonarr.service dagger-gone.service x.service\n";
        assert_eq!(parts(shown), [name("sonarr"), name("gone")]);
        assert_eq!(parts("\n"), []);
    }
}
