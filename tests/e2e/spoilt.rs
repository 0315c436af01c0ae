//! The configuration changes under services that run: a mistake, one turned off, one taken out, one masked. None of it ends a
//! healthy service, and each can be seen and stopped as before.

use anyhow::{Context, Result, ensure};
use dagger_tests::harness::{BOTH, Story};
use dagger_tests::rig::Machine;
use dagger_tests::suite::Ground;
use std::time::Duration;

pub const STORIES: &[Story] = &[
    Story {
        name: "a_running_service_that_the_configuration_no_longer_knows_is_not_killed_by_its_watchdog",
        on: BOTH,
        run: unknown,
    },
    Story {
        name: "a_service_that_is_masked_while_it_runs_is_not_killed_by_its_watchdog",
        on: BOTH,
        run: masked,
    },
];

const MINUTE: Duration = Duration::from_mins(1);
const SERVICES: [&str; 3] = ["prowlarr", "radarr", "sonarr"];
/// The shortest watchdog that there is, so that a story is short.
const WATCHDOG: &str = "10s";
const SUITE: &str = "[suite]\nmedia = \"/fun\"\nstate = \"/var/lib/nixarr\"\n";

fn table(service: &str) -> String {
    format!(
        "[services.{service}]\nwatchdog = \"{WATCHDOG}\"\nhealth = {{ interval = \"1s\", timeout = \"1s\" }}\n"
    )
}

fn good() -> String {
    SERVICES
        .iter()
        .fold(SUITE.to_owned(), |toml, service| toml + &table(service))
}

/// What stays the same while the services run on.
fn runs(machine: &Machine) -> Result<Vec<(String, String)>> {
    let run = |service: &&str| -> Result<_> {
        let of = |property| machine.unit(&format!("dagger-{service}.service"), property);
        ensure!(of("ActiveState")? == "active", "{service} does not run");
        Ok((of("InvocationID")?, of("MainPID")?))
    };
    SERVICES.iter().map(run).collect()
}

fn watchdog(machine: &Machine, service: &str) -> Result<String> {
    machine.unit(&format!("dagger-{service}.service"), "WatchdogUSec")
}

fn wait_armed(machine: &Machine) -> Result<()> {
    for service in SERVICES {
        machine.wait_health(service, "healthy", MINUTE)?;
        machine.wait_for("an armed watchdog", MINUTE, |m| {
            Ok((watchdog(m, service)? == WATCHDOG).then_some(()))
        })?;
    }
    Ok(())
}

/// Longer than every watchdog; then the services run as they did, and those that nobody feeds are not armed.
fn outlived(machine: &Machine, before: &[(String, String)], unfed: &[&str]) -> Result<()> {
    std::thread::sleep(Duration::from_secs(14));
    let now = runs(machine).with_context(|| {
        let told =
            machine.sh("journalctl -b --no-pager -o short-precise -u 'dagger-*' -u monitoring | tail -n 40");
        told.map(|output| output.all()).unwrap_or_default()
    })?;
    ensure!(
        now == before,
        "a healthy service was restarted: {now:?}, before: {before:?}"
    );
    for service in unfed {
        let armed = watchdog(machine, service)?;
        ensure!(
            armed == "0" || armed == "infinity",
            "{service}: nobody feeds a watchdog of {armed}"
        );
    }
    Ok(())
}

fn configure(machine: &Machine, toml: &str) -> Result<()> {
    machine.write("/etc/dagger/dagger.toml", toml)?;
    machine.ok("systemctl daemon-reload").map(drop)
}

fn unknown(ground: &Ground) -> Result<()> {
    let machine = Machine::boot(ground.configured("spoilt", &good())?)?;
    wait_armed(&machine)?;
    let before = runs(&machine)?;
    // One with a mistake, one turned off, one taken out; then a mistake that is everybody's; then one while the agent is away.
    let changed = format!(
        "{SUITE}{}prot = 1\n{}enable = false\n",
        table("sonarr"),
        table("radarr")
    );
    let everybody = good().replace("[suite]\n", "[suite]\nmidia = \"/fun\"\n");
    let torn = format!("[suite\n{}", good());
    for (toml, away) in [(&changed, false), (&everybody, false), (&torn, true)] {
        if away {
            machine.ok("systemctl stop monitoring.service")?;
        }
        configure(&machine, toml)?;
        if away {
            machine.ok("systemctl start monitoring.service")?;
        }
        outlived(&machine, &before, &SERVICES).with_context(|| toml.clone())?;
        configure(&machine, &good())?;
        wait_armed(&machine)?;
        ensure!(runs(&machine)? == before, "what was mended was restarted");
    }
    seen_and_stopped(&machine, &changed)
}

/// What the configuration does not know any more is shown, and stops as it would have.
fn seen_and_stopped(machine: &Machine, changed: &str) -> Result<()> {
    configure(machine, changed)?;
    machine.wait_for("the agent to know", MINUTE, |m| {
        Ok(m.health("sonarr").is_empty().then_some(()))
    })?;
    let status = machine.ok("daggerctl status")?;
    ensure!(
        status.contains("daggerctl config check")
            && SERVICES
                .iter()
                .all(|service| status.contains(&format!("dagger-{service}.service"))),
        "{status}"
    );
    let why = machine.sh("daggerctl why sonarr")?.all();
    ensure!(
        why.contains("sonarr runs, but its configuration cannot be read: ")
            && why.contains("unknown key `prot`")
            && why.contains("cannot be started again until that is mended"),
        "{why}"
    );
    for service in SERVICES {
        let unit = format!("dagger-{service}.service");
        machine.ok(&format!("systemctl stop {unit}"))?;
        ensure!(
            machine.unit(&unit, "Result")? == "success" && machine.unit(&unit, "ActiveState")? == "inactive",
            "{service} was not stopped gracefully"
        );
        let left = machine.ok("podman ps --all --format '{{.Names}}'")?;
        ensure!(!left.contains(&format!("dagger-{service}")), "{left}");
        let refused = machine.sh(&format!("systemctl start {unit}"))?;
        ensure!(!refused.good(), "{service} was started");
    }
    let said =
        machine.ok("journalctl -b --no-pager -o cat -u dagger-prowlarr.service -u dagger-radarr.service")?;
    ensure!(
        said.contains("prowlarr is not in the configuration")
            && said.contains("radarr is turned off (`enable = false`)"),
        "{said}"
    );
    // What has ended leaves nothing behind but its mistake.
    machine.ok("systemctl daemon-reload")?;
    for (service, state) in [
        ("sonarr", "loaded"),
        ("radarr", "not-found"),
        ("prowlarr", "not-found"),
    ] {
        let now = machine.unit(&format!("dagger-{service}.service"), "LoadState")?;
        ensure!(now == state, "{service}: {now}");
    }
    configure(machine, &good())?;
    machine.ok("systemctl start dagger.target")?;
    wait_armed(machine)
}

fn masked(ground: &Ground) -> Result<()> {
    let machine = Machine::boot(ground.configured("maskrun", &good())?)?;
    wait_armed(&machine)?;
    let before = runs(&machine)?;
    machine.ok("systemctl mask --runtime dagger-sonarr.service")?;
    outlived(&machine, &before, &["sonarr"])?;
    ensure!(
        machine.health("sonarr") == "healthy",
        "{}",
        machine.account_of("sonarr")
    );
    machine.ok("systemctl unmask --runtime dagger-sonarr.service")?;
    wait_armed(&machine)?;
    // And by somebody who leaves the agent out of it.
    machine.ok("systemctl stop monitoring.service && systemctl mask --runtime dagger-sonarr.service && systemctl start monitoring.service")?;
    outlived(&machine, &before, &["sonarr"])
}
