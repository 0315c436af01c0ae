//! A media tree that is away or has become empty: no application takes it for an empty library.

use anyhow::{Result, ensure};
use dagger_tests::harness::{BOTH, Story, TRIXIE};
use dagger_tests::rig::Machine;
use dagger_tests::suite::Ground;
use std::time::Duration;

pub const STORIES: &[Story] = &[
    Story {
        name: "radarr_3128_unmounted_media_holds_up_the_start_until_it_is_back",
        on: BOTH,
        run: unmounted,
    },
    Story {
        name: "jellyfin_17900_emptied_media_is_never_scanned",
        on: TRIXIE,
        run: emptied,
    },
];

const MINUTE: Duration = Duration::from_mins(1);
const RECORD: &str = "/var/lib/dagger/media";
/// A disk that can be taken away and brought back with what is on it.
const DISK: &str =
    "mkdir -p /disk && mount -t tmpfs none /disk && mkdir -p /disk/films && touch /disk/films/film.mkv";

fn toml(service: &str) -> String {
    format!("[suite]\nmedia = \"/fun\"\nstate = \"/var/lib/nixarr\"\n[services.{service}]\n")
}

/// A machine on which the service has started well with the disk mounted.
fn started(ground: &Ground, name: &str, service: &str) -> Result<Machine> {
    let machine = Machine::boot(ground.configured(name, &toml(service))?)?;
    let unit = format!("dagger-{service}.service");
    machine.wait_unit(&unit, "active", MINUTE)?;
    machine.ok(&format!(
        "{DISK} && mount --bind /disk /fun && systemctl restart {unit}"
    ))?;
    let mode = machine.ok(&format!("stat -c %a:%u {RECORD}/{service}"))?;
    ensure!(mode.trim() == "600:0", "the record is {mode}");
    Ok(machine)
}

/// Waits until the gate says this, and looks whether the application was really not started.
fn refused(machine: &Machine, service: &str, words: &str) -> Result<()> {
    let unit = format!("dagger-{service}.service");
    machine.wait_for(&format!("{service} to be refused"), MINUTE, |m| {
        let journal = m
            .sh(&format!("journalctl -b --no-pager -o cat -u {unit}"))?
            .stdout;
        Ok(journal.contains(words).then_some(()))
    })?;
    let text = machine.unit(&unit, "StatusText")?;
    ensure!(text.contains(words), "STATUS= {text}");
    ensure!(
        text.contains(&format!("rm {RECORD}/{service}")),
        "no way out: {text}"
    );
    let containers = machine.ok("podman ps --format '{{.Names}}'")?;
    ensure!(containers.trim().is_empty(), "the application runs: {containers}");
    Ok(())
}

fn unmounted(ground: &Ground) -> Result<()> {
    let machine = started(ground, "unmounted", "radarr")?;
    machine.ok("systemctl stop dagger-radarr && umount /fun && systemctl start --no-block dagger-radarr")?;
    refused(&machine, "radarr", "/fun is not mounted: radarr")?;
    machine.ok("mount --bind /disk /fun")?;
    machine.wait_unit("dagger-radarr.service", "active", MINUTE)?;
    machine
        .ok("test -e /proc/$(podman inspect -f '{{.State.Pid}}' dagger-radarr)/root/fun/films/film.mkv")?;
    // Copied to the disk below, for good: welcome.
    machine.ok("systemctl stop dagger-radarr && umount /fun && cp -r /disk/films /fun/ && systemctl start dagger-radarr")?;
    let kept = machine.ok(&format!("cat {RECORD}/radarr"))?;
    ensure!(kept.contains("\"mount\": \"/\""), "not remembered anew: {kept}");
    Ok(())
}

fn emptied(ground: &Ground) -> Result<()> {
    let machine = started(ground, "emptied", "jellyfin")?;
    machine.ok("rm -r /fun/films && systemctl restart --no-block dagger-jellyfin")?;
    refused(&machine, "jellyfin", "/fun is empty and was not before: jellyfin")?;
    // What the message says helps, without anything more.
    machine.ok(&format!("rm {RECORD}/jellyfin"))?;
    machine.wait_unit("dagger-jellyfin.service", "active", MINUTE)?;
    Ok(())
}
