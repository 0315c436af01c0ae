//! Migrations that are refused before anything of the native side is touched.

use anyhow::{Result, ensure};
use dagger_tests::harness::{Story, TRIXIE};
use dagger_tests::native::{NATIVE, QUICK, STATE, boot, end, job, native, native_with, rows, runs};
use dagger_tests::rig::Machine;
use dagger_tests::suite::Ground;
use std::time::Duration;

pub const STORIES: &[Story] = &[
    Story {
        name: "spksrc_5271_data_that_is_newer_than_the_image_is_left_alone_before_and_after_its_pull",
        on: TRIXIE,
        run: newer,
    },
    Story {
        name: "radarr_3128_media_that_is_read_only_or_empty_is_seen_before_anything_is_stopped",
        on: TRIXIE,
        run: media,
    },
    Story {
        name: "sonarr_3051_databases_behind_fuse_are_left_where_they_are",
        on: TRIXIE,
        run: fuse,
    },
];

/// The next great Sonarr, whose schema the image of today does not know.
const NEWER: (&str, &str) = (
    "/etc/systemd/system/sonarr.service.d/newer.conf",
    "[Service]\nEnvironment=STANDIN_SCHEMA=230\n",
);
const MINUTE: Duration = Duration::from_mins(1);
/// What the gate writes down of an image that it has seen.
const SEEN: &str = "/run/dagger/image/sonarr";

/// Tries a migration, which ends so and says this; the native side never noticed.
fn refused(machine: &Machine, result: &str, words: &[&str]) -> Result<()> {
    let run = machine.unit(NATIVE, "InvocationID")?;
    let tried = machine.sh("systemctl start dagger-migrate@sonarr.service")?;
    let told = job(machine)?;
    ensure!(!tried.good(), "it succeeded: {told}");
    ensure!(end(&told, "result") == result, "{told}");
    for words in words {
        ensure!(told.to_string().contains(words), "{words}\nis not in {told}");
    }
    ensure!(runs(machine)? == (true, false), "{:?}", runs(machine)?);
    ensure!(
        machine.unit(NATIVE, "InvocationID")? == run,
        "the native unit was stopped: {told}"
    );
    machine.ok("! test -e /var/lib/dagger/owner/sonarr && ! test -e /var/lib/dagger/hold/sonarr")?;
    Ok(())
}

/// Only an image that was fetched can tell which version it is.
fn newer(ground: &Ground) -> Result<()> {
    let machine = boot(native(ground, "newer", QUICK)?.file(NEWER.0, NEWER.1))?;
    let words = [
        "has schema 230",
        "lscr.io/linuxserver/sonarr:latest 4.0.19.2979-ls310 knows no further than 217",
        "name a newer image in [services.sonarr]",
    ];
    machine.ok(&format!("! test -e {SEEN}"))?;
    refused(&machine, "undone", &words)?;
    machine.ok(&format!("test -e {SEEN}"))?;
    refused(&machine, "refused", &words)?;
    rows(&machine)?;
    Ok(())
}

fn media(ground: &Ground) -> Result<()> {
    let machine = boot(native(ground, "media", QUICK)?)?;
    let disk = "mount -t tmpfs none /media";
    machine.ok(&format!(
        "{disk} && mkdir /media/library && echo film >/media/library/a.mkv && mount -o remount,ro /media"
    ))?;
    let words = "the media directory /media lies on a file system that is read-only";
    refused(&machine, "refused", &[words])?;
    // A bind mount can be read-only although its disk is not.
    machine.ok("mount -o remount,rw /media && mount -o remount,bind,ro /media")?;
    refused(&machine, "refused", &[words])?;
    machine.ok("mount -o remount,bind,rw /media")?;
    machine.ok(disk)?;
    refused(&machine, "refused", &["the media directory /media is empty"])?;
    // With the disk as it was the same migration goes through.
    machine.ok("umount /media")?;
    machine.ok("systemctl start dagger-migrate@sonarr.service")?;
    ensure!(runs(&machine)? == (false, true), "{:?}", runs(&machine)?);
    rows(&machine)?;
    Ok(())
}

fn fuse(ground: &Ground) -> Result<()> {
    let spec = native_with(ground, "fuse", QUICK, &["bindfs"])?.bind("/dev/fuse", "/dev/fuse");
    let machine = boot(spec)?;
    machine.ok(&format!(
        "systemctl stop {NATIVE} && mv {STATE} /srv/share && mkdir {STATE} && systemd-run -q --unit=share bindfs -f /srv/share {STATE} &&
         timeout 20 sh -c 'until mountpoint -q {STATE}; do sleep 0.1; done' && systemctl start {NATIVE}"
    ))?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    let words = [
        "/var/lib/nixarr/sonarr/sonarr.db lies on fuse",
        "where SQLite's locks do not hold",
        "to a local disk and name it as `state` in [services.sonarr]",
    ];
    refused(&machine, "refused", &words)?;
    machine.ok(&format!(
        "systemctl stop {NATIVE} share && rmdir {STATE} && mv /srv/share {STATE} && systemctl start {NATIVE}"
    ))?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    machine.ok("systemctl start dagger-migrate@sonarr.service")?;
    ensure!(runs(&machine)? == (false, true), "{:?}", runs(&machine)?);
    rows(&machine)?;
    Ok(())
}
