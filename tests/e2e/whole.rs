//! The whole suite goes into its containers in one go: what others want first, and no further than the first that fails.

use anyhow::{Result, ensure};
use dagger_tests::harness::{Story, TRIXIE};
use dagger_tests::rig::Machine;
use dagger_tests::suite::Ground;
use dagger_tests::trips::{SEVEN, machine_of};
use std::time::Duration;

pub const STORIES: &[Story] = &[Story {
    name: "migrate_all_stops_at_the_first_that_fails_and_goes_on_there_when_it_is_mended",
    on: TRIXIE,
    run: all,
}];

const MINUTE: Duration = Duration::from_mins(1);
const THREE: [&str; 3] = ["prowlarr", "radarr", "sonarr"];
/// Radarr's container dies when it is hardly there, once.
const BREAK: &str = "systemd-run --unit=killer sh -c 'until systemctl is-active -q dagger-radarr.service; do sleep 0.02; done; kill -9 $(cat /proc/$(systemctl show -P MainPID dagger-radarr.service)/task/*/children)'";

/// Which of the three run in their containers; each other one runs natively.
fn moved(machine: &Machine) -> Result<Vec<&'static str>> {
    let mut moved = Vec::new();
    for service in THREE {
        let active = |unit: String| Ok::<_, anyhow::Error>(machine.unit(&unit, "ActiveState")? == "active");
        let (native, ours) = (
            active(format!("{service}.service"))?,
            active(format!("dagger-{service}.service"))?,
        );
        ensure!(
            native != ours,
            "{service}: natively {native}, in a container {ours}"
        );
        if ours {
            moved.push(service);
        }
        let rows = machine.ok(&format!("standin verify /var/lib/nixarr/{service}"))?;
        ensure!(rows.contains(" overlaps=0 ok"), "{service}: {rows}");
    }
    Ok(moved)
}

fn all(ground: &Ground) -> Result<()> {
    let services = SEVEN.into_iter().filter(|service| THREE.contains(&service.name));
    let machine = machine_of(ground, "whole", &services.collect::<Vec<_>>())?;
    machine.ok(BREAK)?;
    let sonarr = machine.unit("sonarr.service", "InvocationID")?;
    let stopped = machine.sh("nixarr-migrate migrate all --yes")?;
    ensure!(stopped.code == 1, "{}", stopped.all());
    for words in [
        "[1/3] prowlarr",
        "[2/3] radarr",
        "stopped at radarr: ",
        "; migrated: prowlarr; untouched: sonarr",
        "`nixarr-migrate migrate all` goes on with the rest",
    ] {
        ensure!(
            stopped.all().contains(words),
            "{words}\nis not in\n{}",
            stopped.all()
        );
    }
    ensure!(moved(&machine)? == ["prowlarr"], "{:?}", moved(&machine)?);
    ensure!(
        machine.unit("sonarr.service", "InvocationID")? == sonarr,
        "sonarr was stopped"
    );
    machine
        .ok("! test -e /var/lib/dagger/snapshots/sonarr && ! test -e /var/lib/dagger/transactions/sonarr")?;

    // Nothing kills it any more.
    let prowlarr = machine.unit("dagger-prowlarr.service", "InvocationID")?;
    let done = machine.sh("nixarr-migrate migrate all --yes")?;
    ensure!(
        done.good() && done.all().contains("migrated: radarr, sonarr"),
        "{}\n{}",
        done.all(),
        machine.account_of("radarr")
    );
    ensure!(moved(&machine)? == THREE, "{:?}", moved(&machine)?);
    ensure!(
        machine.unit("dagger-prowlarr.service", "InvocationID")? == prowlarr,
        "prowlarr was started again"
    );
    THREE
        .iter()
        .try_for_each(|service| machine.wait_health(service, "healthy", MINUTE))
}
