//! Disks, and what else of the machine, that fail under a job: the old world answers, a message says what to do, and what is
//! told of the job is true.

use anyhow::{Context, Result, ensure};
use dagger_tests::crash::{held, over};
use dagger_tests::harness::{Story, TRIXIE};
use dagger_tests::native::{QUICK, STATE, boot, end, job, native, rows, runs};
use dagger_tests::rig::Machine;
use dagger_tests::suite::Ground;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::troubles::as_before;

pub const STORIES: &[Story] = &[
    Story {
        name: "a_disk_that_fills_up_or_turns_read_only_in_the_middle_of_a_copy_is_no_loss",
        on: TRIXIE,
        run: full,
    },
    Story {
        name: "a_disk_that_cannot_read_or_write_under_a_job_is_no_loss",
        on: TRIXIE,
        run: broken,
    },
    Story {
        name: "a_job_that_may_open_few_files_changes_nothing_and_says_so",
        on: TRIXIE,
        run: few_files,
    },
    Story {
        name: "a_slow_disk_makes_a_migration_slow_and_nothing_else",
        on: TRIXIE,
        run: slow,
    },
];

const MINUTE: Duration = Duration::from_mins(1);
const MIGRATE: &str = "dagger-migrate@sonarr.service";
const KEPT: &str = "/var/lib/dagger/snapshots";

/// Three hundred files that a copy takes a while for, when each takes some milliseconds.
fn covers(machine: &Machine) -> Result<()> {
    machine.ok(&format!(
        "mkdir {STATE}/covers && for i in $(seq 300); do head -c 70000 /dev/urandom >{STATE}/covers/$i.jpg; done; chown -R sonarr:media {STATE}/covers"
    ))?;
    Ok(())
}

/// What the client tells of it is what the job has told.
fn told(machine: &Machine, result: &str) -> Result<()> {
    let job = job(machine)?;
    ensure!(end(&job, "result") == result, "{job}");
    ensure!(end(&job, "owner") != "container" || result == "done", "{job}");
    let sentence = end(&job, "sentence");
    let journal = machine.ok(&format!("journalctl -b -o cat --no-pager -u {MIGRATE}"))?;
    ensure!(
        journal.contains(sentence),
        "the journal does not say {sentence:?}:\n{journal}"
    );
    Ok(())
}

fn full(ground: &Ground) -> Result<()> {
    let machine = boot(native(ground, "full", QUICK)?)?;
    covers(&machine)?;
    let before = rows(&machine)?;
    machine.ok(&format!(
        "mkdir -p {KEPT} && mount -t tmpfs -o size=400M,mode=0700 none {KEPT}"
    ))?;
    for (meanwhile, word) in [
        (
            format!("cat /dev/zero >{KEPT}/filler"),
            "make room there (df -h, df -i), then try again",
        ),
        // Not while a file is open for writing: between two of them.
        (
            format!("until mount -o remount,ro {KEPT} 2>/dev/null; do :; done"),
            "mount it read-write",
        ),
    ] {
        let pid = held(&machine, "migrate", false)?;
        machine.ok(&format!("systemd-run -q --collect --unit=meanwhile sh -c 'until test -e {KEPT}/sonarr/.new-*/data/*/covers; do :; done; {meanwhile}'"))?;
        machine.disturb(pid, &["pwrite64:delay_enter=4000", "openat2:delay_enter=4000"])?;
        over(&machine, "migrate")?;
        as_before(&machine, before, word)?;
        told(&machine, "undone")?;
        machine.ok(&format!(
            "systemctl stop meanwhile 2>/dev/null; mount -o remount,rw {KEPT} && rm -f {KEPT}/filler"
        ))?;
    }
    // What was left of them is gone with the next one.
    machine.ok(&format!("systemctl start {MIGRATE}"))?;
    ensure!(runs(&machine)? == (false, true), "{:?}", runs(&machine)?);
    let left = machine.ok(&format!("ls -A {KEPT}/sonarr"))?;
    ensure!(left.lines().count() == 1, "{left}");
    ensure!(rows(&machine)? >= before, "rows were lost");
    Ok(())
}

fn broken(ground: &Ground) -> Result<()> {
    let machine = boot(native(ground, "broken-disk", QUICK)?)?;
    covers(&machine)?;
    let before = rows(&machine)?;
    let advice = "the disk cannot read or write it: journalctl -k says more";
    for (injection, word) in [
        ("copy_file_range:error=EIO:when=5+", advice),
        ("syncfs:error=EIO:when=2", advice),
    ] {
        let pid = held(&machine, "migrate", false)?;
        machine.disturb(pid, &[injection])?;
        over(&machine, "migrate").context(injection)?;
        as_before(&machine, before, word).context(injection)?;
    }
    // Whatever it makes durable, the first of its kind and the last: the log of the transaction, the hold, the marker, the
    // copy; and what only tells of the job.
    let mut ends = Vec::new();
    for (path, count) in durable(&machine)? {
        // How often a job tells how far it is depends on how long it takes.
        let last = if path.starts_with("/run/") { 1 } else { count };
        for call in BTreeSet::from([1, last]) {
            let fails = format!("fsync,fdatasync:error=EIO:when={call}");
            let (told, said, met) = failed_at(&machine, &fails, &path)?;
            let context = || format!("{path}, {call} of {count}: {told}\n{said}");
            let container = end(&told, "result") == "done";
            ensure!(runs(&machine)? == (!container, container), "{}", context());
            // Whether SQLite has anything to remove beside its database is the application's doing.
            ensure!(
                met || container && path == STATE,
                "nothing failed at {}",
                context()
            );
            ensure!(container || said.contains(advice), "{}", context());
            if container {
                machine.ok("systemctl start dagger-rollback@sonarr.service")?;
            } else {
                as_before(&machine, before, "").with_context(context)?;
            }
            ends.push((path.clone(), call, container));
        }
    }
    for (path, container) in ENDS {
        let found = ends.iter().find(|(known, call, _)| known == path && *call == 1);
        ensure!(
            found.is_some_and(|(.., done)| done == container),
            "{path}: {ends:#?}"
        );
    }
    machine.ok(&format!("systemctl start {MIGRATE}"))?;
    ensure!(runs(&machine)? == (false, true), "{:?}", runs(&machine)?);
    ensure!(rows(&machine)? >= before, "rows were lost");
    Ok(())
}

/// What becomes of a migration when the first call about these fails.
const ENDS: &[(&str, bool)] = &[
    ("/var/lib/dagger/hold", false),
    ("/var/lib/dagger/owner", false),
    ("/var/lib/dagger/snapshots/sonarr", false),
    ("/var/lib/dagger/transactions/sonarr/hold.new", false),
    ("/var/lib/dagger/transactions/sonarr/log", false),
    ("/var/lib/dagger/transactions/sonarr/marker.new", false),
    ("/run/dagger/job", true),
];

/// The files and directories that a migration makes durable, and how often, as one that nothing disturbs shows; but for those
/// whose names are others each time.
fn durable(machine: &Machine) -> Result<BTreeMap<String, u64>> {
    let pid = held(machine, "migrate", false)?;
    machine.disturb(pid, &["fsync,fdatasync:delay_enter=1"])?;
    over(machine, "migrate")?;
    ensure!(end(&job(machine)?, "result") == "done", "{}", job(machine)?);
    machine.ok("systemctl start dagger-rollback@sonarr.service")?;
    let calls = machine.ok("sed -n 's/.*sync([0-9]*<\\(.*\\)>).*/\\1/p' /var/tmp/rig-disturbed")?;
    let mut paths = BTreeMap::new();
    for path in calls.lines().filter(|path| !path.contains("/.")) {
        *paths.entry(path.to_owned()).or_default() += 1;
    }
    Ok(paths)
}

/// A migration one of whose calls about a path fails: its last words, all that was said of it, and whether there was such a
/// call.
fn failed_at(machine: &Machine, fails: &str, path: &str) -> Result<(Value, String, bool)> {
    let since = machine.ok("date +%s.%N")?;
    let pid = held(machine, "migrate", false)?;
    machine.disturb_at(pid, &[fails], Some(path))?;
    over(machine, "migrate")?;
    let met = machine.ok("grep -c INJECTED /var/tmp/rig-disturbed || :")?.trim() != "0";
    let said = machine.ok(&format!(
        "journalctl -b -o cat --no-pager --since=@{} -u {MIGRATE}",
        since.trim()
    ))?;
    Ok((job(machine)?, said, met))
}

fn few_files(ground: &Ground) -> Result<()> {
    let machine = boot(native(ground, "few-files", QUICK)?)?;
    let before = rows(&machine)?;
    let mut said = Vec::new();
    for limit in [13, 14, 15, 16, 17, 18] {
        machine.write(
            &format!("/run/systemd/system/{MIGRATE}.d/99-few.conf"),
            &format!("[Service]\nLimitNOFILE={limit}\n"),
        )?;
        machine.ok("systemctl daemon-reload; rm -f /run/dagger/job/sonarr.progress")?;
        if machine.sh(&format!("systemctl start {MIGRATE}"))?.good() {
            machine.ok("systemctl start dagger-rollback@sonarr.service")?;
            break;
        }
        said.push(machine.ok(&format!(
            "journalctl -b -o cat --no-pager _SYSTEMD_INVOCATION_ID=$(systemctl show -P InvocationID {MIGRATE})"
        ))?);
        ensure!(runs(&machine)? == (true, false), "{limit}: {:?}", runs(&machine)?);
        machine.ok("! test -e /var/lib/dagger/owner/sonarr && ! test -e /var/lib/dagger/hold/sonarr && ! test -e /var/lib/dagger/transactions/sonarr/log")
            .with_context(|| format!("{limit}: {said:?}"))?;
    }
    ensure!(
        !said.is_empty() && said.iter().all(|said| said.contains("Too many open files")),
        "{said:#?}"
    );
    machine.ok(&format!(
        "rm -r /run/systemd/system/{MIGRATE}.d && systemctl daemon-reload && systemctl start {MIGRATE}"
    ))?;
    ensure!(runs(&machine)? == (false, true), "{:?}", runs(&machine)?);
    ensure!(rows(&machine)? >= before, "rows were lost");
    Ok(())
}

fn slow(ground: &Ground) -> Result<()> {
    let machine = boot(native(ground, "slow-disk", QUICK)?)?;
    covers(&machine)?;
    let before = rows(&machine)?;
    let pid = held(&machine, "migrate", false)?;
    machine.disturb(
        pid,
        &[
            "fsync:delay_enter=200000",
            "fdatasync:delay_enter=200000",
            "syncfs:delay_enter=500000",
            "copy_file_range:delay_enter=10000",
            "renameat,renameat2:delay_enter=50000",
        ],
    )?;
    // How long it still takes is told anew while a step goes on.
    let mut left = Vec::new();
    machine.wait_for("the end of the copy", MINUTE, |machine| {
        let job = job(machine).unwrap_or_default();
        let step = job.get("step").and_then(Value::as_str).unwrap_or_default();
        if step == "snapshot" {
            left.extend(job.get("remaining-ms").and_then(Value::as_u64));
        }
        Ok((!matches!(step, "" | "pull" | "snapshot")).then_some(()))
    })?;
    left.dedup();
    ensure!(left.len() > 2, "it was foreseen but once: {left:?}");
    over(&machine, "migrate")?;
    told(&machine, "done")?;
    ensure!(runs(&machine)? == (false, true), "{:?}", runs(&machine)?);
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    ensure!(rows(&machine)? >= before, "rows were lost");
    Ok(())
}
