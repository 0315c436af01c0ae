//! What goes wrong under a job, and what comes of it: the old world again, or the new one, and a sentence that says why.

use anyhow::{Result, ensure};
use dagger_tests::harness::{Story, TRIXIE};
use dagger_tests::native::{QUICK, boot, end, job, native, rows, runs};
use dagger_tests::rig::Machine;
use dagger_tests::suite::Ground;
use std::time::Duration;

pub const STORIES: &[Story] = &[
    Story {
        name: "what_fails_under_a_migration_is_undone_with_its_reason",
        on: TRIXIE,
        run: undone,
    },
    Story {
        name: "a_migration_goes_on_while_others_reload_restart_and_ask",
        on: TRIXIE,
        run: goes_on,
    },
];

const MINUTE: Duration = Duration::from_mins(1);
const MIGRATE: &str = "systemctl start dagger-migrate@sonarr.service";
/// The native unit, as it was before, is what runs, and nothing is left behind.
fn as_before(machine: &Machine, before: u64, word: &str) -> Result<()> {
    let told = job(machine)?;
    ensure!(
        runs(machine)? == (true, false),
        "{:?} after {told}",
        runs(machine)?
    );
    ensure!(end(&told, "sentence").contains(word), "no {word:?} in {told}");
    ensure!(rows(machine)? >= before, "rows were lost");
    let left = machine.ok("ls /var/lib/dagger/hold /var/lib/dagger/owner; ls /var/lib/dagger/transactions/sonarr | grep -x log; true")?;
    ensure!(!left.contains("sonarr\n") && !left.ends_with("log\n"), "{left}");
    machine.wait_health("sonarr", "healthy", MINUTE)
}

fn undone(ground: &Ground) -> Result<()> {
    let machine = boot(native(ground, "undone", QUICK)?)?;
    let before = rows(&machine)?;
    for (line, word) in [
        (
            "image = \"localhost/none:1\"\npull = \"never\"",
            "its image is not to be had",
        ),
        (
            "start-budget = \"4s\"\nenvironment = { STANDIN_FAIL_START = \"exit 3\" }",
            "dagger-sonarr.service",
        ),
        ("state = \"/srv/elsewhere\"", "/var/lib/nixarr/sonarr"),
    ] {
        machine.write(
            "/etc/dagger/conf.d/50-wrong.toml",
            &format!("[services.sonarr]\n{line}\n"),
        )?;
        machine.ok("systemctl daemon-reload")?;
        ensure!(!machine.sh(MIGRATE)?.good(), "{line}: it succeeded");
        as_before(&machine, before, word)?;
        machine.ok("rm /etc/dagger/conf.d/50-wrong.toml && systemctl daemon-reload")?;
    }
    // No room for a snapshot: known before anything is stopped.
    machine.ok("mount -t tmpfs -o size=8M none /var/lib/dagger/snapshots")?;
    ensure!(!machine.sh(MIGRATE)?.good(), "it succeeded without room");
    as_before(&machine, before, "free")?;
    machine.ok("umount /var/lib/dagger/snapshots")?;
    // A second owner of the data.
    machine.ok("systemd-run -q --unit=second sleep infinity && systemctl stop second; systemd-run -q --unit=second sh -c 'exec 3</var/lib/nixarr/sonarr/sonarr.db; exec sleep infinity'; sleep 0.3")?;
    ensure!(!machine.sh(MIGRATE)?.good(), "it succeeded beside a second owner");
    as_before(&machine, before, "second.service")?;
    machine.ok("systemctl stop second")?;
    // Cancelled in its probation.
    machine.ok("systemd-run -q --unit=canceller sh -c 'until systemctl is-active -q dagger-sonarr.service; do sleep 0.05; done; systemctl stop dagger-migrate@sonarr.service'")?;
    ensure!(
        !machine.sh(MIGRATE)?.good(),
        "it succeeded although it was cancelled"
    );
    // Whoever started it is told at once; what was done is undone in its own time.
    machine.wait_for("the way back", MINUTE, |machine| {
        Ok((end(&job(machine)?, "result") == "undone").then_some(()))
    })?;
    as_before(&machine, before, "cancelled")
}

fn goes_on(ground: &Ground) -> Result<()> {
    let machine = boot(native(ground, "goes-on", QUICK)?)?;
    let before = rows(&machine)?;
    // While it stops and starts: the agent and systemd read everything anew, and somebody wants the opposite.
    machine.ok("systemd-run -q --unit=others sh -c 'until grep -q stop /var/lib/dagger/transactions/sonarr/log; do sleep 0.01; done; systemctl daemon-reload; systemctl restart monitoring; systemctl start dagger-rollback@sonarr.service; systemctl daemon-reexec'")?;
    // systemctl itself does not outlive the new systemd: the job's own word counts.
    machine.ok("systemctl start --no-block dagger-migrate@sonarr.service")?;
    let told = machine.wait_for("the end of the job", MINUTE, |machine| {
        let told = job(machine).unwrap_or_default();
        Ok((!end(&told, "result").is_empty()).then_some(told))
    })?;
    ensure!(
        end(&told, "result") == "done",
        "{told}\n{}",
        machine.account_of("sonarr")
    );
    machine.wait_for("the others", MINUTE, |machine| {
        Ok((machine.unit("others.service", "ActiveState")? != "active").then_some(()))
    })?;
    ensure!(runs(&machine)? == (false, true), "{:?}", runs(&machine)?);
    let refused = machine.ok("journalctl -b --no-pager -o cat -u dagger-rollback@sonarr.service")?;
    ensure!(refused.contains("dagger-migrate@sonarr.service"), "{refused}");
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    ensure!(rows(&machine)? > before, "rows were lost");
    Ok(())
}
