//! A library is looked after until the application has gone through its media once, also when the migration is long over.

use anyhow::{Result, ensure};
use dagger_tests::harness::{BOTH, Story, TRIXIE};
use dagger_tests::native::{OURS, STATE, TOML, boot, native, rows, runs};
use dagger_tests::rig::{Machine, Spec};
use dagger_tests::suite::Ground;
use std::time::Duration;

pub const STORIES: &[Story] = &[
    Story {
        name: "jellyfin_17900_a_library_that_its_first_scan_empties_long_after_the_migration_is_put_back",
        on: BOTH,
        run: emptied,
    },
    Story {
        name: "after_its_first_scan_a_library_is_its_owners",
        on: TRIXIE,
        run: scanned,
    },
    Story {
        name: "a_library_whose_snapshot_is_damaged_stays_and_people_are_told_once",
        on: TRIXIE,
        run: damaged,
    },
];

const TIMER: &str = "dagger-guard.timer";
/// It looks every minute, which is long for a test.
const OFTEN: &str =
    "[Timer]\nOnActiveSec=\nOnUnitInactiveSec=\nOnActiveSec=1s\nOnUnitInactiveSec=1s\nAccuracySec=1ms\n";
const MINUTE: Duration = Duration::from_mins(1);

/// A machine with alerts that end in a file.
fn spec(ground: &Ground, name: &str) -> Result<Spec> {
    let hook = "[Service]\nDynamicUser=no\nExecStart=\nExecStart=/bin/sh -c 'echo \"$DAGGER_EVENT $DAGGER_DETAIL\" >>/run/told'\n";
    Ok(native(ground, name, TOML)?
        .file(&format!("/etc/systemd/system/{TIMER}.d/often.conf"), OFTEN)
        .file("/etc/systemd/system/dagger-alert@.service.d/hook.conf", hook))
}

fn moved(machine: &Machine) -> Result<()> {
    machine.ok("systemctl start dagger-migrate@sonarr.service")?;
    ensure!(runs(machine)? == (false, true), "{:?}", runs(machine)?);
    machine.wait_unit(TIMER, "active", MINUTE)
}

fn emptied(ground: &Ground) -> Result<()> {
    let machine = boot(spec(ground, "guard-emptied")?)?;
    let before = rows(&machine)?;
    moved(&machine)?;
    // A restart is no scan, and a look that finds all well changes nothing.
    machine.ok(&format!("systemctl restart {OURS}"))?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    machine.ok("sleep 3")?;
    ensure!(
        machine.unit(TIMER, "ActiveState")? == "active",
        "it is not looked after"
    );
    let run = machine.ok("cat /var/lib/dagger/transactions/sonarr/*.log | grep -c '\"verb\":\"migrate\"'")?;
    ensure!(run.trim() == "1", "{run}");
    machine.ok(&format!("standin empty {STATE}"))?;
    machine.wait_unit("sonarr.service", "active", MINUTE)?;
    machine.wait_unit(TIMER, "inactive", MINUTE)?;
    ensure!(runs(&machine)? == (true, false), "{:?}", runs(&machine)?);
    ensure!(rows(&machine)? >= before, "rows were lost");
    let left = machine.ok(&format!("standin empty {STATE}"))?;
    ensure!(left.starts_with("50 rows"), "of 50 series were put back: {left}");
    let told = machine.ok("cat /run/told")?;
    ensure!(
        told.starts_with("library-lost ")
            && told.contains("0 of 50 series are left")
            && told.contains("runs natively again"),
        "{told}"
    );
    let log = machine.ok("journalctl -b -o cat -p notice -u dagger-guard.service")?;
    ensure!(log.contains("0 of 50 series are left; it goes back to "), "{log}");
    machine.ok("! systemctl is-failed -q dagger-guard.service")?;
    Ok(())
}

fn scanned(ground: &Ground) -> Result<()> {
    let machine = boot(spec(ground, "guard-scanned")?)?;
    moved(&machine)?;
    machine.ok(&format!("standin scan {STATE}"))?;
    machine.wait_unit(TIMER, "inactive", MINUTE)?;
    let log = machine.ok("journalctl -b -o cat -p notice -u dagger-guard.service")?;
    ensure!(log.contains("sonarr has gone through its media"), "{log}");
    // Who deletes all series now wants them gone.
    machine.ok(&format!(
        "standin empty {STATE} && systemctl start {TIMER} && sleep 3"
    ))?;
    machine.wait_unit(TIMER, "inactive", MINUTE)?;
    ensure!(runs(&machine)? == (false, true), "{:?}", runs(&machine)?);
    machine.ok("! test -e /run/told")?;
    Ok(())
}

fn damaged(ground: &Ground) -> Result<()> {
    let machine = boot(spec(ground, "guard-damaged")?)?;
    moved(&machine)?;
    machine.ok("timeout 60 sh -c 'until journalctl -q -u dagger-seal.service | grep -q \"is sealed\"; do sleep 0.2; done'")?;
    machine.ok("sed -i s/Port/Qort/ /var/lib/dagger/snapshots/sonarr/*/data/*/config.xml")?;
    machine.ok(&format!("standin empty {STATE}"))?;
    machine.wait_unit(TIMER, "inactive", MINUTE)?;
    ensure!(runs(&machine)? == (false, true), "{:?}", runs(&machine)?);
    machine.ok(&format!("systemctl start {TIMER} && sleep 3"))?;
    machine.wait_unit(TIMER, "inactive", MINUTE)?;
    let told = machine.ok("cat /run/told")?;
    ensure!(
        told.lines().count() == 1 && told.contains("0 of 50 series are left; it did not go back: "),
        "{told}"
    );
    Ok(())
}
