//! What the rig itself promises, without the product.

use anyhow::{Result, ensure};
use dagger_tests::harness::{BOTH, Story};
use dagger_tests::rig::{Machine, image};
use dagger_tests::suite::Ground;

pub const STORIES: &[Story] = &[
    Story {
        name: "rig_boots_with_every_image_and_nothing_failed",
        on: BOTH,
        run: boots,
    },
    Story {
        name: "rig_keeps_the_disk_when_the_plug_is_pulled",
        on: BOTH,
        run: plug,
    },
    Story {
        name: "rig_runs_two_machines_that_do_not_see_each_other",
        on: BOTH,
        run: two,
    },
];

fn boots(ground: &Ground) -> Result<()> {
    let machine = Machine::boot(ground.bare("boots")?)?;
    let state = machine.sh("systemctl is-system-running; systemctl --failed --plain --no-legend")?;
    ensure!(state.stdout.trim() == "running", "{}", state.stdout);
    for reference in image::references() {
        machine.ok(&format!("podman image inspect {reference}"))?;
    }
    let answer = machine.ok(
        "podman run --rm --network=host --entrypoint=transmission-daemon lscr.io/linuxserver/transmission:latest --version 2>&1",
    )?;
    ensure!(answer.contains("transmission-daemon 4."), "{answer}");
    machine.ok("podman run --rm --network=bridge --entrypoint=/bin/id lscr.io/linuxserver/sonarr:latest")?;
    Ok(())
}

fn plug(ground: &Ground) -> Result<()> {
    let mut machine = Machine::boot(ground.bare("plug")?)?;
    machine.ok(
        "echo kept >/var/lib/kept; echo lost >/run/lost; logger -t rig before the plug; journalctl --sync",
    )?;
    machine.ok(
        "podman run -d --name left --network=host --entrypoint=sleep lscr.io/linuxserver/sonarr:latest 1000",
    )?;
    machine.power_cut()?;
    machine.power_on()?;
    machine.ok("test $(cat /var/lib/kept) = kept && test ! -e /run/lost")?;
    ensure!(
        machine
            .ok("podman ps -a --format '{{.Names}} {{.Status}}'")?
            .starts_with("left"),
        "the container is forgotten"
    );
    let before = machine.journal(&["-t", "rig"])?;
    ensure!(
        before.iter().any(|entry| entry.message() == "before the plug"),
        "the journal before the plug is lost"
    );
    Ok(())
}

fn two(ground: &Ground) -> Result<()> {
    let one = Machine::boot(ground.bare("one")?)?;
    let two = Machine::boot(ground.bare("two")?)?;
    one.ok("systemd-run --unit=only-here sleep 1000")?;
    ensure!(
        two.unit("only-here.service", "ActiveState")? == "inactive",
        "units are shared"
    );
    ensure!(
        one.ok("hostname")? != two.ok("hostname")?,
        "host names are shared"
    );
    drop(one);
    two.ok("systemctl is-system-running")?;
    Ok(())
}
