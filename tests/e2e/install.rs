//! Installed by hand in a running machine, and taken away again.

use anyhow::{Result, ensure};
use dagger_tests::harness::{BOTH, Story};
use dagger_tests::rig::Machine;
use dagger_tests::suite::{Ground, SIX_TOML, checkout, programs};
use std::collections::BTreeSet;

pub const STORIES: &[Story] = &[Story {
    name: "install_twice_run_uninstall_and_the_data_stays",
    on: BOTH,
    run: install,
}];

/// Every file and directory, what systemd knows, users and images; but not what is podman's or systemd's own about what
/// runs and has run.
const SEEN: &str = r"find / \( -path /proc -o -path /sys -o -path /dev -o -path /src -o -path /programs -o -path /run/systemd -o -path /run/lock \
    -o -path /run/containers -o -path /run/libpod -o -path /run/crun -o -path /run/runc -o -path /var/lib/containers -o -path /var/log \
    -o -path /var/tmp -o -path /tmp \) -prune -o ! -path /var/lib/systemd/timers -print
systemctl list-units --all --plain --no-legend --no-pager | cut -d' ' -f1
systemctl list-unit-files --no-legend --no-pager | cut -d' ' -f1
getent passwd; getent group
podman images --format '{{.Names}}'";
/// What stays, as `units/install` says.
const STAYS: [&str; 5] = [
    "/etc/dagger",
    "/var/lib/dagger",
    "/var/lib/nixarr",
    "dagger:x:568:568:",
    "dagger:x:568:",
];

fn install(ground: &Ground) -> Result<()> {
    let spec = ground
        .bare("install")?
        .bind_read_only(checkout(), "/src")
        .bind_read_only(programs(), "/programs")
        .file("/fun/.keep", "");
    let machine = Machine::boot(spec)?;
    let before = seen(&machine)?;
    machine.ok("/src/units/install --programs /programs")?;
    let again = machine.ok("/src/units/install --programs /programs")?;
    ensure!(again.contains("Nothing to change"), "the second time: {again}");
    machine.write("/etc/dagger/dagger.toml", SIX_TOML)?;
    machine.ok("systemctl daemon-reload && systemctl start dagger.target")?;
    machine.wait_six()?;
    machine.ok("systemctl enable --now dagger-metrics.socket && systemctl start --no-block dagger-well.service && daggerctl pause radarr")?;
    let said = machine.sh("/src/units/install --uninstall")?;
    ensure!(said.good() && said.stderr.is_empty(), "{}", said.all());
    ensure!(machine.ok("podman ps -aq")?.is_empty(), "containers are left");
    let after = seen(&machine)?;
    let stays = |line: &&String| STAYS.iter().any(|stays| line.starts_with(stays));
    let more: Vec<&String> = after.difference(&before).filter(|line| !stays(line)).collect();
    ensure!(more.is_empty(), "left behind: {more:#?}");
    let less: Vec<&String> = before.difference(&after).collect();
    ensure!(less.is_empty(), "gone with it: {less:#?}");
    machine.ok("test -e /etc/dagger/dagger.toml && test -e /var/lib/dagger/owner/sonarr")?;
    machine.ok("standin verify /var/lib/nixarr/sonarr")?;
    Ok(())
}

fn seen(machine: &Machine) -> Result<BTreeSet<String>> {
    let text = machine.ok(SEEN)?;
    Ok(text.lines().map(str::to_owned).collect())
}
