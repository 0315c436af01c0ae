//! Ports between servers that share them, or come and go, and of every family and rank.

use anyhow::{Context, Result, ensure};
use dagger_tests::harness::{Story, TRIXIE};
use dagger_tests::rig::Machine;
use dagger_tests::suite::Ground;
use std::time::{Duration, Instant};

pub const STORIES: &[Story] = &[
    Story {
        name: "conflict_with_ipv6_only_dual_stack_bindv6only_and_privileged_listeners",
        on: TRIXIE,
        run: families,
    },
    Story {
        name: "conflict_with_a_reuseport_group_lasts_until_the_last_of_it_has_left",
        on: TRIXIE,
        run: group,
    },
    Story {
        name: "umbrel_2213_a_listener_that_comes_and_goes_starts_no_restart_loop",
        on: TRIXIE,
        run: flapping,
    },
    Story {
        name: "conflict_is_left_to_systemd_where_auto_recover_is_off",
        on: TRIXIE,
        run: alone,
    },
];

const MINUTE: Duration = Duration::from_mins(1);
const SONARR: &str = "[suite]\nmedia = \"/fun\"\nstart-at-boot = false\n[services.sonarr]\n";
/// What the agent logs when it does not wait for systemd's own next try.
const STARTED: &str = "sonarr: its ports are free, it is started";

/// The gate's refusal names this unit.
fn refused(machine: &Machine, service: &str, unit: &str) -> Result<()> {
    let status = machine.wait_for("a refusal with the holder", MINUTE, |machine| {
        let status = machine.unit(&format!("dagger-{service}.service"), "StatusText")?;
        Ok((status.contains(unit) && status.contains("is taken by")).then_some(()))
    });
    status.with_context(|| machine.account_of(service))
}

/// A server of IPv6 takes IPv4 as well, or not, by its own word or by the machine's; a port below 1024 is one like another.
fn families(ground: &Ground) -> Result<()> {
    let toml = "[suite]\nmedia = \"/fun\"\nstart-at-boot = false\n[services.sonarr]\n[services.radarr]\n[services.prowlarr]\n[services.lidarr]\nport = 80\n";
    let machine = Machine::boot(ground.configured("families", toml)?)?;
    machine.ok(
        "systemd-run --quiet --unit=both socat TCP6-LISTEN:8989,ipv6only=0,fork /dev/null; \
         systemd-run --quiet --unit=only socat TCP6-LISTEN:7878,ipv6only=1,fork /dev/null; \
         sysctl -qw net.ipv6.bindv6only=1; \
         systemd-run --quiet --unit=usual socat TCP6-LISTEN:9696,fork /dev/null; \
         systemd-run --quiet --unit=low socat TCP4-LISTEN:80,fork /dev/null; \
         timeout 10 sh -c 'until [ $(ss -Hltn | grep -cE \":(8989|7878|9696|80) \") = 4 ]; do sleep 0.1; done'",
    )?;
    // Another server of IPv4 shows what each of them took: the first one both, the others their own family only.
    let four = |port: u16| {
        let tried = machine.sh(&format!("timeout 1 socat TCP4-LISTEN:{port} /dev/null"));
        tried.map(|done| done.code == 124)
    };
    ensure!(
        !four(8989)? && four(7878)? && four(9696)?,
        "the listeners are not what they should be"
    );
    machine.ok("systemctl start --no-block dagger-sonarr dagger-radarr dagger-prowlarr dagger-lidarr")?;
    let rows = [
        ("sonarr", "both.service", "*:8989"),
        ("radarr", "only.service", "*:7878"),
        ("prowlarr", "usual.service", "*:9696"),
        ("lidarr", "low.service", "*:80"),
    ];
    for (service, unit, address) in rows {
        refused(&machine, service, unit)?;
        let told = machine.sh(&format!("daggerctl conflicts {service}"))?;
        ensure!(
            told.code == 3 && told.stdout.contains(unit) && told.stdout.contains(address),
            "{service}: {}",
            told.all()
        );
    }
    machine.ok("sysctl -qw net.ipv6.bindv6only=0; systemctl stop both only usual low")?;
    ["sonarr", "radarr", "prowlarr"]
        .iter()
        .try_for_each(|service| machine.wait_health(service, "healthy", MINUTE))
}

/// Servers that share a port by SO_REUSEPORT: each of them is one too many.
fn group(ground: &Ground) -> Result<()> {
    let machine = Machine::boot(ground.configured("group", SONARR)?)?;
    machine.ok(
        "for n in 1 2; do systemd-run --quiet --unit=share-$n socat TCP-LISTEN:8989,reuseport,fork /dev/null; done; \
         timeout 10 sh -c 'until [ $(ss -Hltn sport = :8989 | wc -l) = 2 ]; do sleep 0.1; done'; \
         systemctl start --no-block dagger-sonarr.service",
    )?;
    refused(&machine, "sonarr", "share-")?;
    let first = machine.unit("dagger-sonarr.service", "StatusText")?;
    let (gone, left) = if first.contains("share-1.service") {
        ("share-1.service", "share-2.service")
    } else {
        ("share-2.service", "share-1.service")
    };
    machine.ok(&format!("systemctl stop {gone}"))?;
    refused(&machine, "sonarr", left)?;
    let told = machine.wait_for("the one that is left", MINUTE, |machine| {
        let told = machine.sh("daggerctl conflicts")?;
        Ok((told.code == 3 && told.stdout.contains(left) && !told.stdout.contains(gone)).then_some(()))
    });
    told.with_context(|| machine.account_of("sonarr"))?;
    machine.ok(&format!("systemctl stop {left}"))?;
    let stopped = Instant::now();
    // By itself, and sooner than systemd would try again.
    let line = machine.wait_for("its start", MINUTE, |machine| {
        let log = machine.ok("journalctl -b --no-pager -o cat -u monitoring")?;
        Ok(log.contains(STARTED).then(|| stopped.elapsed()))
    })?;
    ensure!(line < Duration::from_secs(5), "it was started after {line:?}");
    machine.wait_health("sonarr", "healthy", MINUTE)
}

/// Half of the time somebody is there: each start is tried once in its time, each conflict is told once and once its end.
fn flapping(ground: &Ground) -> Result<()> {
    let machine = Machine::boot(ground.configured("flapping", SONARR)?)?;
    machine.ok(
        "systemd-run --quiet --unit=moody sh -c 'while :; do timeout 0.7 socat TCP-LISTEN:8989,reuseaddr,fork /dev/null; sleep 0.7; done'; \
         systemctl start --no-block dagger-sonarr.service; sleep 20; systemctl stop moody.service",
    )?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    let restarts: u32 = machine.unit("dagger-sonarr.service", "NRestarts")?.parse()?;
    ensure!(restarts <= 8, "{restarts} restarts in 20 s");
    let lines = machine.journal(&["-b", "_SYSTEMD_UNIT=monitoring.service", "DAGGER_SERVICE=sonarr"])?;
    let mut open = false;
    for entry in lines
        .iter()
        .filter(|entry| !entry.field("DAGGER_CONFLICT").is_empty())
    {
        let message = entry.field("MESSAGE");
        let begins = message.starts_with("Conflict: ");
        ensure!(begins != open, "begun and ended are not told in turn: {message}");
        let holder = entry.field("DAGGER_HOLDER");
        ensure!(matches!(holder, "moody.service" | ""), "{holder:?} was named");
        open = begins;
    }
    machine.wait_for("no conflict", MINUTE, |machine| {
        Ok((machine.sh("daggerctl conflicts")?.code == 0).then_some(()))
    })
}

/// Who has turned recovery off gets no start from the agent; systemd tries in its own time.
fn alone(ground: &Ground) -> Result<()> {
    let toml = format!("{SONARR}auto-recover = false\n");
    let machine = Machine::boot(ground.configured("alone", &toml)?)?;
    machine.ok(
        "systemd-run --quiet --unit=there socat TCP-LISTEN:8989,fork /dev/null; sleep 0.3; \
         systemctl start --no-block dagger-sonarr.service",
    )?;
    refused(&machine, "sonarr", "there.service")?;
    machine.ok("systemctl stop there.service")?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    let log = machine.ok("journalctl -b --no-pager -o cat -u monitoring")?;
    ensure!(!log.contains(STARTED), "the agent has started it:\n{log}");
    Ok(())
}
