//! Health: seen on the bus, in `systemctl status`, and once in the journal.

use anyhow::{Context, Result, ensure};
use dagger_tests::harness::{BOTH, Story, TRIXIE};
use dagger_tests::rig::Machine;
use dagger_tests::suite::{Ground, SIX, SIX_TOML};
use std::time::Duration;

pub const STORIES: &[Story] = &[
    Story {
        name: "podman_11157_silence_while_healthy_one_line_a_change",
        on: BOTH,
        run: one_line_a_change,
    },
    Story {
        name: "killed_application_is_restarted_and_healthy_again",
        on: BOTH,
        run: killed,
    },
    Story {
        name: "moby_28400_unhealthy_is_seen_while_the_process_lives",
        on: TRIXIE,
        run: unhealthy,
    },
    Story {
        name: "hanging_application_holds_up_nobody_else",
        on: TRIXIE,
        run: hanging,
    },
    Story {
        name: "autoheal_53_jellyfin_200_degraded_is_starting",
        on: BOTH,
        run: jellyfin,
    },
    Story {
        name: "dockmon_7_migration_longer_than_the_budget_is_waited_for",
        on: TRIXIE,
        run: long_migration,
    },
    Story {
        name: "failed_start_says_the_last_answer",
        on: TRIXIE,
        run: failed_start,
    },
    Story {
        name: "agent_killed_comes_back_with_the_same_view",
        on: TRIXIE,
        run: agent_killed,
    },
];

/// A single service, so that a story is about that one.
const SONARR: &str = "[suite]\nmedia = \"/fun\"\nstate = \"/var/lib/nixarr\"\n[services.sonarr]\nhealth = { interval = \"2s\" }\nauto-recover = false\n";
const MINUTE: Duration = Duration::from_mins(1);

fn one_line_a_change(ground: &Ground) -> Result<()> {
    let machine = Machine::boot(ground.configured("lines", SIX_TOML)?)?;
    machine.wait_six()?;
    let before = machine.journal(&["-b", "-u", "monitoring"])?.len();
    for service in SIX {
        let seen = machine.verdicts(service)?;
        ensure!(
            seen.iter().filter(|health| *health == "healthy").count() == 1,
            "{service}: {seen:?}"
        );
        let own = machine.journal(&["-b", "-u", &format!("dagger-{service}"), "DAGGER_HEALTH=healthy"])?;
        let line = own
            .first()
            .with_context(|| format!("journalctl -u dagger-{service} does not have the change"))?;
        ensure!(line.field("MESSAGE_ID").len() == 32, "no MESSAGE_ID");
        ensure!(
            line.field("DAGGER_SERVICE") == service,
            "DAGGER_SERVICE={}",
            line.field("DAGGER_SERVICE")
        );
        let explained = machine.ok(&format!(
            "journalctl -x -b --no-pager MESSAGE_ID={}",
            line.field("MESSAGE_ID")
        ))?;
        ensure!(
            explained.contains("-- Subject:") || explained.contains("░░ Subject:"),
            "journalctl -x explains nothing"
        );
    }
    // Long enough for several rounds of probes.
    std::thread::sleep(Duration::from_secs(25));
    let after = machine.journal(&["-b", "-u", "monitoring"])?;
    ensure!(
        after.len() == before,
        "lines while nothing changed: {:?}",
        after
            .iter()
            .skip(before)
            .map(|e| e.message().to_owned())
            .collect::<Vec<_>>()
    );
    // Only in our units: Debian ships units of podman's own that speak once at boot.
    let chatter = machine.ok("journalctl -q -b --no-pager -o cat -u 'dagger-*' -t podman")?;
    ensure!(
        chatter.trim().is_empty(),
        "podman itself wrote: {}",
        chatter.trim()
    );
    let timers =
        machine.ok("systemctl list-timers --all --plain --no-legend | grep -c -E '[0-9a-f]{64}' || true")?;
    ensure!(
        timers.trim() == "0",
        "{} health-check timers of podman",
        timers.trim()
    );
    Ok(())
}

fn killed(ground: &Ground) -> Result<()> {
    let machine = Machine::boot(ground.configured("killed", SIX_TOML)?)?;
    machine.wait_six()?;
    let main = machine.unit("dagger-radarr.service", "MainPID")?;
    machine.ok("podman kill --signal KILL dagger-radarr")?;
    machine.wait_for("a verdict other than healthy", MINUTE, |m| {
        Ok((m.health("radarr") != "healthy").then_some(()))
    })?;
    machine.wait_health("radarr", "healthy", MINUTE)?;
    ensure!(
        machine.unit("dagger-radarr.service", "MainPID")? != main,
        "the same main process"
    );
    ensure!(
        machine.unit("dagger-radarr.service", "NRestarts")? == "1",
        "not restarted exactly once"
    );
    ensure!(
        machine.bus_property("radarr", "MainPID")?.as_u64()
            == machine.unit("dagger-radarr.service", "MainPID")?.parse().ok(),
        "MainPID on the bus is old"
    );
    let seen = machine.verdicts("radarr")?;
    ensure!(
        seen.last().is_some_and(|health| health == "healthy") && seen.len() >= 3,
        "verdicts: {seen:?}"
    );
    for service in SIX.iter().filter(|service| **service != "radarr") {
        ensure!(
            machine.unit(&format!("dagger-{service}.service"), "NRestarts")? == "0",
            "{service} was restarted, too"
        );
    }
    Ok(())
}

fn unhealthy(ground: &Ground) -> Result<()> {
    let machine = Machine::boot(ground.configured("unhealthy", SONARR)?)?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    for (fault, words) in [("500", "500"), ("wrong-body", ""), ("refuse", "nobody listens")] {
        machine.fault("sonarr", fault)?;
        machine
            .wait_health("sonarr", "unhealthy", MINUTE)
            .with_context(|| format!("fault {fault}"))?;
        let detail = machine.bus_property("sonarr", "HealthDetail")?.to_string();
        ensure!(detail.contains(words), "fault {fault}: detail {detail}");
        let status = machine.unit("dagger-sonarr.service", "StatusText")?;
        ensure!(status.contains("unhealthy"), "fault {fault}: STATUS= {status}");
        machine.fault("sonarr", "")?;
        machine
            .wait_health("sonarr", "healthy", MINUTE)
            .with_context(|| format!("after fault {fault}"))?;
    }
    ensure!(
        machine.unit("dagger-sonarr.service", "ActiveState")? == "active",
        "the unit was touched"
    );
    Ok(())
}

fn hanging(ground: &Ground) -> Result<()> {
    let toml = ["sonarr", "bazarr", "prowlarr"]
        .iter()
        .fold(SIX_TOML.to_owned(), |toml, service| {
            let table = format!("[services.{service}]\n");
            toml.replace(
                &table,
                &format!("{table}auto-recover = false\nhealth = {{ interval = \"3s\", timeout = \"2s\" }}\n"),
            )
        });
    let machine = Machine::boot(ground.configured("hanging", &toml)?)?;
    machine.wait_six()?;
    machine.fault("sonarr", "hang")?;
    machine.fault("bazarr", "endless-body")?;
    machine.fault("prowlarr", "500")?;
    machine.wait_health("prowlarr", "unhealthy", MINUTE)?;
    machine.wait_health("sonarr", "unhealthy", MINUTE)?;
    machine.wait_health("bazarr", "unhealthy", MINUTE)?;
    ensure!(machine.health("radarr") == "healthy", "radarr suffers");
    ensure!(
        machine.manager_property("Health")? == "unhealthy",
        "the whole is not unhealthy"
    );
    for service in ["sonarr", "bazarr", "prowlarr"] {
        machine.fault(service, "")?;
        machine.wait_health(service, "healthy", MINUTE)?;
    }
    Ok(())
}

/// While Jellyfin migrates, `/health` answers 200: the body says that it is not ready.
fn jellyfin(ground: &Ground) -> Result<()> {
    let toml = "[suite]\nmedia = \"/fun\"\nstate = \"/var/lib/nixarr\"\n[services.jellyfin]\nenvironment = { STANDIN_MIGRATE = \"6s\" }\n";
    let mut machine = Machine::assemble(ground.configured("jellyfin", toml)?)?;
    machine.switch_on()?;
    machine.wait_for("the setup server's answer", MINUTE, |m| {
        Ok((m
            .http("http://127.0.0.1:8096/health")
            .is_ok_and(|(status, body)| status == 200 && body.contains("Degraded")))
        .then_some(()))
    })?;
    ensure!(
        machine.unit("dagger-jellyfin.service", "ActiveState")? == "activating",
        "it counts as started while it migrates"
    );
    machine.wait_health("jellyfin", "starting", Duration::from_secs(10))?;
    machine.wait_health("jellyfin", "healthy", MINUTE)?;
    // The agent may ask a moment before the gate does.
    machine.wait_for("the unit to be active", Duration::from_secs(3), |m| {
        Ok((m.unit("dagger-jellyfin.service", "ActiveState")? == "active").then_some(()))
    })?;
    let seen = machine.verdicts("jellyfin")?;
    ensure!(
        !seen
            .iter()
            .any(|health| health == "unhealthy" || health == "failed"),
        "verdicts: {seen:?}"
    );
    ensure!(
        machine.unit("dagger-jellyfin.service", "NRestarts")? == "0",
        "restarted in the middle of a migration"
    );
    Ok(())
}

/// The start budget is for an application that says nothing; one that says it migrates gets more time.
fn long_migration(ground: &Ground) -> Result<()> {
    let toml = "[suite]\nmedia = \"/fun\"\nstate = \"/var/lib/nixarr\"\n[services.jellyfin]\nstart-budget = \"5s\"\nenvironment = { STANDIN_MIGRATE = \"15s\" }\n";
    let machine = Machine::boot(ground.configured("migration", toml)?)?;
    machine.wait_health("jellyfin", "healthy", MINUTE)?;
    ensure!(
        machine.unit("dagger-jellyfin.service", "NRestarts")? == "0",
        "restarted in the middle of a migration"
    );
    Ok(())
}

/// nixflix#236: a wait that fails has to say the last answer.
fn failed_start(ground: &Ground) -> Result<()> {
    // A path that this application does not know.
    let toml = SONARR.replace(
        "interval",
        "kind = \"http\", path = \"/api/v3/nowhere\", interval",
    ) + "start-budget = \"3s\"\n";
    let mut machine = Machine::assemble(ground.configured("lastanswer", &toml)?)?;
    machine.switch_on()?;
    let text = machine.wait_for("a failed start", MINUTE, |m| {
        let journal = m.sh("journalctl -b --no-pager -o cat -u dagger-sonarr")?.stdout;
        Ok(journal.contains("Failed to start").then_some(journal))
    })?;
    ensure!(
        text.contains("the last answer: HTTP 40"),
        "the last answer is not in the journal:\n{text}"
    );
    Ok(())
}

fn agent_killed(ground: &Ground) -> Result<()> {
    let machine = Machine::boot(ground.configured("agent", SIX_TOML)?)?;
    machine.wait_six()?;
    let containers = machine.ok("podman ps --format '{{.ID}}' | sort")?;
    machine.ok("systemctl kill -s KILL monitoring.service")?;
    machine.wait_unit("monitoring.service", "active", MINUTE)?;
    machine.wait_six()?;
    ensure!(
        machine.ok("podman ps --format '{{.ID}}' | sort")? == containers,
        "containers were restarted with the agent"
    );
    Ok(())
}
