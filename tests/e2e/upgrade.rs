//! The agent is replaced by another one while services run, and nobody notices.

use anyhow::{Context, Result, ensure};
use dagger_tests::harness::{BOTH, Story};
use dagger_tests::rig::{Machine, Suite};
use dagger_tests::suite::{Ground, SIX, SIX_TOML, checkout};
use std::collections::BTreeMap;
use std::time::Duration;

pub const STORIES: &[Story] = &[Story {
    name: "an_upgrade_of_the_agent_restarts_nobody_and_takes_up_every_verdict",
    on: BOTH,
    run: upgrade,
}];

const MINUTE: Duration = Duration::from_mins(1);
const AGENT: &str = "/usr/libexec/dagger/dagger-agent";
/// Long enough for several questions to each of them.
const ROUNDS: Duration = Duration::from_secs(5);
/// The agent reads two clocks one after the other to tell a time that is to come.
const TOGETHER: u64 = 1_000_000;

/// What a package's maintainer scripts do (deb-systemd-invoke(1p)); the file was renamed over the old one before.
const PACKAGE: &str = "cp /root/newer /usr/libexec/dagger/dagger-agent.dpkg-new
     mv -f /usr/libexec/dagger/dagger-agent.dpkg-new /usr/libexec/dagger/dagger-agent
     systemctl daemon-reload
     systemctl try-restart monitoring.service";
/// What the README says.
const INSTALL: &str = "/src/units/install --programs /root/programs";
/// The worst moment: the old one dies, and systemd starts what lies there now.
const KILLED: &str = "cp /root/newest /usr/libexec/dagger/dagger-agent.dpkg-new
     mv -f /usr/libexec/dagger/dagger-agent.dpkg-new /usr/libexec/dagger/dagger-agent
     systemctl kill -s KILL monitoring.service";

/// Three are healthy, and one each is paused and hangs, hangs and is the operator's own affair, and has failed.
fn toml() -> String {
    SIX.iter().fold(SIX_TOML.to_owned(), |toml, service| {
        let table = format!("[services.{service}]\n");
        let alone = if *service == "bazarr" {
            "auto-recover = false\n"
        } else {
            ""
        };
        let often = "health = { interval = \"1s\", timeout = \"1s\" }\n";
        toml.replace(&table, &format!("{table}{often}{alone}"))
    })
}

/// A time in microseconds; the same where it is told a moment apart.
#[derive(Debug)]
struct Until(u64);

impl PartialEq for Until {
    fn eq(&self, other: &Self) -> bool {
        self.0.abs_diff(other.0) < TOGETHER
    }
}

/// What the agent says of a service, and what is true of its run.
#[derive(Debug, PartialEq)]
struct View {
    health: String,
    detail: String,
    since: String,
    paused_until: Until,
    recoveries: String,
    run: String,
    verdicts: Vec<String>,
    history: String,
}

fn views(machine: &Machine) -> Result<BTreeMap<&'static str, View>> {
    SIX.iter()
        .map(|service| view(machine, service).map(|view| (*service, view)))
        .collect()
}

fn view(machine: &Machine, service: &str) -> Result<View> {
    let said = |property| {
        machine
            .bus_property(service, property)
            .map(|value| value.to_string())
    };
    Ok(View {
        health: machine.health(service),
        detail: said("HealthDetail")?,
        since: said("Since")?,
        paused_until: Until(said("PausedUntil")?.parse()?),
        recoveries: said("Recoveries")?,
        run: machine.ok(&format!(
            "systemctl show -p MainPID -p InvocationID -p NRestarts -p ActiveState dagger-{service}.service
             podman ps -a --no-trunc --filter name=dagger-{service} --format '{{{{.ID}}}}'"
        ))?,
        verdicts: machine.verdicts(service)?,
        history: machine.ok(&format!("daggerctl history {service} --json"))?,
    })
}

fn upgrade(ground: &Ground) -> Result<()> {
    let spec = ground
        .configured("upgrade", &toml())?
        .bind_read_only(checkout(), "/src")
        .bind_read_only(dagger_tests::suite::programs(), "/programs")
        .file(
            "/etc/systemd/system/dagger-sonarr.service.d/once.conf",
            "[Service]\nRestart=no\n",
        );
    let machine = Machine::boot(spec)?;
    machine.wait_six()?;
    // Bytes behind the end of a program change nothing but that it is another file.
    machine.ok(&format!(
        "cp {AGENT} /root/newer && echo newer >>/root/newer
         cp /root/newer /root/newest && echo newest >>/root/newest
         mkdir /root/programs && ln -s /programs/* /root/programs/ && rm /root/programs/dagger-agent
         cp /root/newest /root/programs/dagger-agent && echo installed >>/root/programs/dagger-agent"
    ))?;
    machine.ok("daggerctl pause radarr --for 2h")?;
    machine.fault("radarr", "hang")?;
    machine.fault("bazarr", "hang")?;
    machine.ok("podman kill --signal KILL dagger-sonarr")?;
    machine.wait_health("radarr", "unhealthy", MINUTE)?;
    machine.wait_health("bazarr", "unhealthy", MINUTE)?;
    machine.wait_health("sonarr", "failed", MINUTE)?;
    let before = views(&machine)?;
    // The older systemd has its turn with the one that the README names.
    let ways: &[&str] = match ground.suite {
        Suite::Trixie => &[PACKAGE, INSTALL, KILLED],
        Suite::Bookworm => &[INSTALL],
    };
    for way in ways {
        replaced(&machine, way, &before).with_context(|| format!("upgraded by {way}"))?;
    }
    let paused = machine.bus_property("radarr", "HealthDetail")?.to_string();
    ensure!(paused.contains("recovery is paused"), "{paused}");
    // What was taken up is not only told: a good answer and the end of the pause are found as ever.
    for service in ["radarr", "bazarr"] {
        machine.fault(service, "")?;
        machine.wait_health(service, "healthy", MINUTE)?;
    }
    machine.ok("daggerctl resume radarr && systemctl start dagger-sonarr.service")?;
    machine.wait_six()
}

/// Another agent than before watches, and all that can be seen of the services is as before.
fn replaced(machine: &Machine, way: &str, before: &BTreeMap<&str, View>) -> Result<()> {
    let agent = machine.unit("monitoring.service", "MainPID")?;
    let said = machine.ok(way)?;
    machine.wait_for("another agent", MINUTE, |machine| {
        let now = machine.unit("monitoring.service", "MainPID")?;
        let state = machine.unit("monitoring.service", "ActiveState")?;
        Ok((now != agent && now != "0" && state == "active").then_some(()))
    })?;
    machine
        .ok(&format!(
            "cmp /proc/$(systemctl show -P MainPID monitoring)/exe {AGENT}"
        ))
        .with_context(|| format!("the old program runs on: {said}"))?;
    std::thread::sleep(ROUNDS);
    let after = views(machine)?;
    for (service, was) in before {
        let is = after.get(service);
        ensure!(
            is == Some(was),
            "{service} was {was:?} before, and is {is:?}\n{}",
            machine.account_of(service)
        );
    }
    for service in ["jellyfin", "prowlarr", "transmission"] {
        machine.wait_for("a watchdog that is armed again", MINUTE, |machine| {
            let armed = machine.unit(&format!("dagger-{service}.service"), "WatchdogUSec")?;
            Ok((armed == "10min").then_some(()))
        })?;
    }
    Ok(())
}
