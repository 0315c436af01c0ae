//! What goes wrong under a job, and what comes of it: the old world again, or the new one, and a sentence that says why.

use anyhow::{Result, ensure};
use dagger_tests::crash::{held, over};
use dagger_tests::harness::{BOTH, Story, TRIXIE};
use dagger_tests::native::{QUICK, STATE, TOML, boot, end, job, native, rows, runs};
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
    Story {
        name: "a_unit_that_will_not_stop_in_its_time_is_killed_or_the_migration_is_undone",
        on: TRIXIE,
        run: stubborn,
    },
    Story {
        name: "a_job_that_is_killed_together_with_what_looks_after_it_is_undone_all_the_same",
        on: BOTH,
        run: killed_twice,
    },
    Story {
        name: "dockmon_7_a_probation_that_is_not_well_in_time_is_undone",
        on: TRIXIE,
        run: never_well,
    },
    Story {
        name: "a_file_that_is_written_to_although_its_service_is_stopped_undoes_it",
        on: TRIXIE,
        run: written_to,
    },
    Story {
        name: "of_two_who_ask_at_once_one_is_served_and_the_other_is_told",
        on: TRIXIE,
        run: two_at_once,
    },
];

const MINUTE: Duration = Duration::from_mins(1);
const MIGRATE: &str = "systemctl start dagger-migrate@sonarr.service";
/// The native unit, as it was before, is what runs, and nothing is left behind.
pub fn as_before(machine: &Machine, before: u64, word: &str) -> Result<()> {
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

/// `systemctl kill` is for all processes of a unit, and somebody does it again and again.
const KILL: &str = "until [ \"$(systemctl show -P ActiveState sonarr.service)\" = deactivating ]; do :; done; until systemctl is-failed -q dagger-migrate@sonarr.service; do systemctl kill -s KILL dagger-migrate@sonarr.service; sleep 0.02; done";

fn killed_twice(ground: &Ground) -> Result<()> {
    let spec = native(ground, "killed-twice", QUICK)?.file(
        "/etc/systemd/system/sonarr.service.d/slow.conf",
        "[Service]\nExecStop=/bin/sleep 1\n",
    );
    let machine = boot(spec)?;
    let before = rows(&machine)?;
    machine.ok(&format!(
        "systemctl start --no-block dagger-migrate@sonarr.service; {KILL}"
    ))?;
    machine.wait_for("the end of it", MINUTE, |machine| {
        Ok((end(&job(machine)?, "result") == "undone").then_some(()))
    })?;
    let said = machine.ok("journalctl -b -o cat --no-pager -u dagger-resume@sonarr.service")?;
    ensure!(
        said.contains("sonarr is as it was"),
        "another has undone it: {said}"
    );
    as_before(&machine, before, "it was interrupted at stop")?;
    // What did not go well is seen as long as it counts.
    let failed = |machine: &Machine| {
        machine.ok("systemctl list-units --failed --plain --no-legend 'dagger-*' | cut -d' ' -f1")
    };
    ensure!(
        !machine
            .sh("systemctl start dagger-rollback@sonarr.service")?
            .good(),
        "a native service is rolled back"
    );
    let seen = failed(&machine)?;
    ensure!(
        seen.contains("dagger-migrate@sonarr") && seen.contains("dagger-rollback@sonarr"),
        "{seen}"
    );
    machine.ok(MIGRATE)?;
    let seen = failed(&machine)?;
    ensure!(seen.is_empty(), "{seen} is still said to have failed");
    Ok(())
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

fn stubborn(ground: &Ground) -> Result<()> {
    let machine = boot(native(ground, "stubborn", QUICK)?)?;
    let before = rows(&machine)?;
    machine.write(&format!("{STATE}/fault"), "ignore-sigterm\n")?;
    let dropin = "/etc/systemd/system/sonarr.service.d/stop.conf";
    // systemd kills nobody then, and says so: somebody still has the data open.
    machine.write(
        dropin,
        "[Service]\nTimeoutStopSec=2\nSendSIGKILL=no\nRestart=no\n",
    )?;
    machine.ok("systemctl daemon-reload")?;
    ensure!(!machine.sh(MIGRATE)?.good(), "it succeeded: {}", job(&machine)?);
    let told = job(&machine)?;
    let sentence = end(&told, "sentence");
    ensure!(
        end(&told, "result") == "stuck"
            && sentence.contains("sonarr.service is stopped, and its process ")
            && end(&told, "todo").contains("nixarr-migrate resume sonarr"),
        "{told}"
    );
    ensure!(!runs(&machine)?.1, "the container runs beside it");
    machine.ok("! test -e /var/lib/dagger/owner/sonarr")?;
    // Now it does: killed is stopped, and what was acknowledged is in the database.
    machine.ok("pkill -KILL -x standin; true")?;
    machine.write(dropin, "[Service]\nTimeoutStopSec=2\n")?;
    machine.ok("systemctl daemon-reload; systemctl reset-failed sonarr.service; systemctl start dagger-resume@sonarr.service || true")?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    let before = rows(&machine)?.max(before);
    ensure!(machine.sh(MIGRATE)?.good(), "{}", job(&machine)?);
    ensure!(runs(&machine)? == (false, true), "{:?}", runs(&machine)?);
    ensure!(rows(&machine)? >= before, "rows were lost");
    Ok(())
}

fn never_well(ground: &Ground) -> Result<()> {
    let machine = boot(native(
        ground,
        "never-well",
        &format!("{TOML}start-budget = \"3s\"\n"),
    )?)?;
    let before = rows(&machine)?;
    machine.ok(&format!("systemd-run -q sh -c 'until systemctl is-active -q dagger-sonarr.service; do sleep 0.05; done; echo 500 >{STATE}/fault'"))?;
    ensure!(!machine.sh(MIGRATE)?.good(), "it succeeded: {}", job(&machine)?);
    as_before(
        &machine,
        before,
        "it was not well in time: dagger-sonarr.service is",
    )
}

/// Begins when the service has stopped, before anybody is told that it has. It has the file open for a moment of each turn,
/// so that nobody who looks for a second owner sees one.
const WRITER: &str = "[Service]\nExecStopPost=+/usr/bin/systemd-run -q --unit=writer --service-type=exec \
     /bin/sh -c 'while :; do echo x >>$STATE/notes; sleep 0.02; done'\n";

fn written_to(ground: &Ground) -> Result<()> {
    let spec = native(ground, "written-to", QUICK)?.file(
        "/etc/systemd/system/sonarr.service.d/writer.conf",
        WRITER.replace("$STATE", STATE),
    );
    let machine = boot(spec)?;
    let before = rows(&machine)?;
    machine.ok(&format!(
        "cp /dev/null {STATE}/notes && chown sonarr:media {STATE}/notes"
    ))?;
    let pid = held(&machine, "migrate", false)?;
    machine.disturb(pid, &["syncfs:delay_enter=500000"])?;
    over(&machine, "migrate")?;
    machine.ok("systemctl stop writer")?;
    as_before(
        &machine,
        before,
        &format!("somebody writes to {STATE}/notes although its service is stopped: find out who (fuser -v"),
    )
}

fn two_at_once(ground: &Ground) -> Result<()> {
    let machine = boot(native(ground, "two-at-once", QUICK)?)?;
    let before = rows(&machine)?;
    let both = machine.ok("for i in 1 2 3; do (nixarr-migrate migrate sonarr --yes >/tmp/said$i 2>&1; echo $? >/tmp/code$i) & done; wait; sort /tmp/code*; cat /tmp/said*")?;
    ensure!(both.starts_with("0\n1\n1\n"), "{both}");
    ensure!(
        both.matches("sonarr runs in its container now").count() == 1
            && both.contains("dagger-migrate@sonarr.service"),
        "{both}"
    );
    ensure!(runs(&machine)? == (false, true), "{:?}", runs(&machine)?);
    let jobs = machine.ok("nixarr-migrate status --json")?;
    ensure!(
        jobs.matches("\"result\": \"done\"").count() == 1 || jobs.matches("\"result\":\"done\"").count() == 1,
        "{jobs}"
    );
    ensure!(rows(&machine)? >= before, "rows were lost");
    Ok(())
}
