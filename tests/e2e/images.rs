//! Images: there, missing, and pulled.

use anyhow::{Context, Result, ensure};
use dagger_tests::harness::{BOTH, Story, TRIXIE};
use dagger_tests::rig::Machine;
use dagger_tests::suite::{Ground, SIX_TOML};
use std::time::Duration;

pub const STORIES: &[Story] = &[
    Story {
        name: "missing_image_fails_clearly_and_alone",
        on: BOTH,
        run: missing,
    },
    Story {
        name: "podman_24588_no_network_is_waited_for_when_the_image_is_there",
        on: TRIXIE,
        run: no_network,
    },
];

fn missing(ground: &Ground) -> Result<()> {
    let toml = format!("{SIX_TOML}[services.readarr]\n");
    let machine = Machine::boot(ground.configured("missing", &toml)?)?;
    machine.wait_six()?;
    let text = machine.wait_for("the failed pull", Duration::from_mins(2), |m| {
        let failed = m.unit("dagger-pull@readarr.service", "ActiveState")? == "failed";
        Ok(failed.then(|| m.account_of("readarr")))
    });
    let text = text.with_context(|| machine.account_of("readarr"))?;
    ensure!(
        text.contains("lscr.io/linuxserver/readarr"),
        "the image is not named:\n{text}"
    );
    ensure!(machine.health("readarr") != "healthy", "healthy without an image");
    let why = machine.wait_for("the reason", Duration::from_secs(30), |m| {
        let why = m.sh("daggerctl why readarr")?.stdout;
        Ok(why
            .contains("readarr cannot start: cannot fetch the image")
            .then_some(why))
    });
    let why = why.with_context(|| machine.account_of("readarr"))?;
    ensure!(
        why.contains("lscr.io/linuxserver/readarr") && why.contains("check the name and the network"),
        "{why}"
    );
    ensure!(machine.health("sonarr") == "healthy", "sonarr suffers");
    Ok(())
}

/// A wait-online that never ends must not hold what needs no network.
fn no_network(ground: &Ground) -> Result<()> {
    let wait = "[Unit]\nDescription=Never online\nBefore=network-online.target\n[Service]\nType=oneshot\nExecStart=/bin/sleep infinity\n\
        TimeoutStartSec=infinity\n";
    let spec = ground
        .configured("offline", SIX_TOML)?
        .file("/etc/systemd/system/never-online.service", wait);
    let spec = spec.file(
        "/etc/systemd/system/network-online.target.d/rig.conf",
        "[Unit]\nWants=never-online.service\n",
    );
    let mut machine = Machine::assemble(spec)?;
    machine.switch_on()?;
    machine.wait_for("the bus", Duration::from_secs(30), |m| {
        Ok(m.manager_property("Version").is_ok().then_some(()))
    })?;
    machine.wait_six()?;
    ensure!(
        machine.unit("never-online.service", "ActiveState")? == "inactive",
        "somebody asked for the network"
    );
    Ok(())
}
