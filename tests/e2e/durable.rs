//! What a transaction's log says is done is on disk.

use anyhow::{Result, ensure};
use dagger_tests::crash::{held, over, to_snapshot};
use dagger_tests::dirty::{CALLS, moments};
use dagger_tests::harness::{Story, TRIXIE};
use dagger_tests::native::{NARROW, QUICK, STATE, address, boot, end, job, narrow, native};
use dagger_tests::rig::Machine;
use dagger_tests::suite::Ground;
use std::path::Path;

pub const STORIES: &[Story] = &[Story {
    name: "what_a_step_has_written_is_on_disk_before_its_done_is",
    on: TRIXIE,
    run: done,
}];

const LOG: &str = "/var/lib/dagger/transactions/sonarr/log";
const SNAPSHOTS: &str = "/var/lib/dagger/snapshots";

/// A container that does not come up.
const FAILS: &str =
    "[services.sonarr]\nstart-budget = \"2s\"\nenvironment = { STANDIN_FAIL_START = \"exit 3\" }\n";
const OTHER: &str = "/etc/dagger/conf.d/50-other.toml";

/// The steps that write, of a migration that is undone, of one that is not, and of the way back to the data as it was.
fn done(ground: &Ground) -> Result<()> {
    // A setting has to be another for the container.
    let toml = format!("{QUICK}network = \"bridge\"\n");
    let machine = boot(native(ground, "durable", &toml)?)?;
    narrow(&machine)?;
    machine.write(OTHER, FAILS)?;
    machine.ok("systemctl daemon-reload")?;
    follow(
        &machine,
        "migrate",
        "undone",
        &["undone set-aside", "undone put-back"],
    )?;
    ensure!(address(&machine)? == NARROW, "{}", address(&machine)?);
    machine.ok(&format!("rm {OTHER} && systemctl daemon-reload"))?;
    follow(
        &machine,
        "migrate",
        "done",
        &["done snapshot", "done refresh", "done adjust"],
    )?;
    ensure!(address(&machine)? == "*", "{}", address(&machine)?);
    to_snapshot(&machine)?;
    follow(
        &machine,
        "rollback",
        "done",
        &["done snapshot", "done refresh", "done restore"],
    )?;
    ensure!(address(&machine)? == NARROW, "{}", address(&machine)?);
    Ok(())
}

/// Follows a job with everything that it asks of the kernel.
fn follow(machine: &Machine, verb: &str, result: &str, writes: &[&str]) -> Result<()> {
    let pid = held(machine, verb, false)?;
    let list = machine.listed(pid, CALLS)?;
    over(machine, verb)?;
    let told = job(machine)?;
    ensure!(end(&told, "result") == result, "{told}");
    let places = [Path::new(SNAPSHOTS), Path::new(STATE)];
    let mut written = Vec::new();
    let mut changes = 0;
    for moment in moments(&list, Path::new(LOG), &places) {
        changes += moment.changes;
        let words: Vec<&str> = moment.line.split(r#"\""#).collect();
        let word = |key| words.iter().skip_while(|word| **word != key).nth(2).copied();
        let (Some(record @ ("done" | "undone")), Some(step)) = (word("record"), word("step")) else {
            continue;
        };
        let step = format!("{record} {step}");
        // It has lost its name, on disk; what is left of it goes with the next.
        let is_rest = step == "undone snapshot";
        ensure!(
            moment.dirty.is_empty() || is_rest,
            "{verb}: {step}, and not on disk: {:#?}",
            moment.dirty
        );
        if std::mem::take(&mut changes) > 0 {
            written.push(step);
        }
    }
    for step in writes {
        ensure!(
            written.iter().any(|it| it == step),
            "{verb}: {step} was not seen to write: {written:?}"
        );
    }
    Ok(())
}
