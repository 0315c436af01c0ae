//! `daggerctl` and the three names of old.

use anyhow::{Context, Result, ensure};
use dagger_tests::harness::{BOTH, Story, TRIXIE};
use dagger_tests::rig::Machine;
use dagger_tests::suite::{Ground, SIX, SIX_TOML};
use serde_json::Value;
use std::time::Duration;

pub const STORIES: &[Story] = &[
    Story {
        name: "daggerctl_shows_everything_to_anyone",
        on: BOTH,
        run: shows,
    },
    Story {
        name: "daggerctl_exit_codes_are_as_documented",
        on: TRIXIE,
        run: codes,
    },
    Story {
        name: "daggerctl_starts_stops_and_restarts",
        on: TRIXIE,
        run: verbs,
    },
    Story {
        name: "names_of_old_answer",
        on: TRIXIE,
        run: old_names,
    },
];

const MINUTE: Duration = Duration::from_mins(1);

fn shows(ground: &Ground) -> Result<()> {
    let machine = Machine::boot(ground.configured("shows", SIX_TOML)?)?;
    machine.wait_six()?;
    let table = machine.as_nobody(&["daggerctl", "status"])?;
    ensure!(table.good(), "{}", table.all());
    for service in SIX {
        let line = table
            .stdout
            .lines()
            .find(|line| line.contains(service))
            .with_context(|| table.stdout.clone())?;
        ensure!(line.contains("healthy") && line.contains("container"), "{line}");
    }
    ensure!(!table.stdout.contains('\u{1b}'), "colour into a pipe");
    let json = machine.as_nobody(&["daggerctl", "status", "--json"])?;
    let value: Value = serde_json::from_str(&json.stdout).context("daggerctl status --json")?;
    ensure!(
        value.to_string().matches("\"healthy\"").count() >= SIX.len(),
        "{value}"
    );
    let logs = machine.ok("daggerctl logs sonarr -n 50")?;
    ensure!(logs.contains("Sonarr"), "{logs}");
    let health = machine.as_nobody(&["daggerctl", "health"])?;
    ensure!(health.good(), "{}", health.all());
    let check = machine.as_nobody(&["daggerctl", "check", "sonarr"])?;
    ensure!(check.good(), "{}", check.all());
    for words in [["config", "check"], ["config", "show"], ["config", "diff"]] {
        let output = machine.run(&["daggerctl", words[0], words[1]])?;
        ensure!(output.good(), "{words:?}: {}", output.all());
    }
    Ok(())
}

fn codes(ground: &Ground) -> Result<()> {
    let toml = SIX_TOML.replace(
        "[services.sonarr]\n",
        "[services.sonarr]\nhealth = { interval = \"2s\" }\n",
    );
    let machine = Machine::boot(ground.configured("codes", &toml)?)?;
    machine.wait_six()?;
    let code = |script: &str, wanted: i32| -> Result<()> {
        let output = machine.sh(script)?;
        ensure!(
            output.code == wanted,
            "`{script}` ended with {}, not {wanted}: {}",
            output.code,
            output.all()
        );
        Ok(())
    };
    code("daggerctl health", 0)?;
    code("daggerctl nonsense", 2)?;
    code("daggerctl health nobody", 2)?;
    machine.fault("sonarr", "500")?;
    machine.wait_health("sonarr", "unhealthy", MINUTE)?;
    code("daggerctl check sonarr", 3)?;
    code("daggerctl health", 3)?;
    code("daggerctl health radarr", 0)?;
    machine.fault("sonarr", "")?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    machine.write("/etc/dagger/conf.d/bad.toml", "[services.sonar]\n")?;
    code("daggerctl config check", 1)?;
    machine.ok("rm /etc/dagger/conf.d/bad.toml")?;
    code(
        "setpriv --reuid=65534 --regid=65534 --clear-groups daggerctl stop sonarr </dev/null",
        4,
    )?;
    machine.ok("systemctl mask --now --runtime monitoring.service")?;
    code("daggerctl status", 5)
}

fn verbs(ground: &Ground) -> Result<()> {
    let machine = Machine::boot(ground.configured("verbs", SIX_TOML)?)?;
    machine.wait_six()?;
    machine.ok("daggerctl stop sonarr")?;
    ensure!(
        machine.unit("dagger-sonarr.service", "ActiveState")? == "inactive",
        "not stopped"
    );
    machine.wait_health("sonarr", "inactive", MINUTE)?;
    machine.ok("daggerctl start sonarr")?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    let main = machine.unit("dagger-sonarr.service", "MainPID")?;
    machine.ok("daggerctl restart sonarr")?;
    ensure!(
        machine.unit("dagger-sonarr.service", "MainPID")? != main,
        "not restarted"
    );
    // One takes its time, and the command is over when it is.
    machine.fault("jellyfin", "slow-stop 5s")?;
    machine.ok("daggerctl stop")?;
    for service in SIX {
        let state = machine.unit(&format!("dagger-{service}.service"), "ActiveState")?;
        ensure!(
            state == "inactive" || state == "failed",
            "{service} is {state} after the stop"
        );
    }
    let left = machine.ok("podman ps -q")?;
    ensure!(left.is_empty(), "containers are left: {left}");
    machine.fault("jellyfin", "")?;
    machine.ok("daggerctl start")?;
    machine.wait_six()
}

fn old_names(ground: &Ground) -> Result<()> {
    let machine = Machine::boot(ground.configured("names", SIX_TOML)?)?;
    machine.wait_six()?;
    let status = machine.as_nobody(&["nixarr-migration-status"])?;
    ensure!(
        SIX.iter().all(|service| status.stdout.contains(service)),
        "{}",
        status.all()
    );
    let summary = machine.as_nobody(&["dagger-nixarr-summary"])?;
    ensure!(
        summary.good() && summary.stdout.contains("healthy"),
        "{}",
        summary.all()
    );
    let migrate = machine.sh("nixarr-migrate sonarr")?;
    ensure!(
        !migrate.good() && !migrate.all().trim().is_empty(),
        "{}",
        migrate.all()
    );
    Ok(())
}
