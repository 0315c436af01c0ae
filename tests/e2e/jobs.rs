//! Jobs as people meet them: `nixarr-migrate` in a terminal's place, polkit at the door, the agent beside it.

use anyhow::{Context, Result, ensure};
use dagger_tests::harness::{BOTH, Story, TRIXIE};
use dagger_tests::native::{TOML, boot, native, rows, runs};
use dagger_tests::rig::{Machine, Output};
use dagger_tests::suite::{BUS, Ground, ROOT};
use serde_json::Value;
use std::time::Duration;

pub const STORIES: &[Story] = &[
    Story {
        name: "nixarr_migrate_moves_sonarr_by_the_agent_and_back_without_it",
        on: BOTH,
        run: there_and_back,
    },
    Story {
        name: "whoever_may_not_migrates_nothing_and_operators_may_look_and_restart",
        on: TRIXIE,
        run: doors,
    },
    Story {
        name: "a_job_is_left_alone_by_the_agent_outlives_it_and_undoes_itself_when_it_is_cancelled",
        on: BOTH,
        run: cancelled,
    },
    Story {
        name: "a_password_is_asked_for_on_the_terminal_of_whoever_migrates",
        on: BOTH,
        run: password,
    },
];

const MINUTE: Duration = Duration::from_mins(1);
const MANAGER: &str = "org.nixarr.Dagger1.Manager";

/// A probation that nobody waits for the end of.
fn slow() -> String {
    TOML.replace("probation = \"4s\"", "probation = \"5min\"")
}

fn jobs(machine: &Machine) -> Result<Vec<Value>> {
    let text = machine.ok("nixarr-migrate status --json")?;
    let mut status: Value = serde_json::from_str(&text).context(text)?;
    let jobs = status.get_mut("jobs").map(Value::take).unwrap_or_default();
    serde_json::from_value(jobs).context("jobs")
}

/// The last job of this verb.
fn last(machine: &Machine, verb: &str) -> Result<Value> {
    let all = jobs(machine)?;
    let told = format!("{all:?}");
    all.into_iter()
        .rfind(|job| text(job, "verb") == verb)
        .with_context(|| format!("no {verb} among {told}"))
}

fn text<'a>(job: &'a Value, what: &str) -> &'a str {
    job.get(what).and_then(Value::as_str).unwrap_or_default()
}

fn there_and_back(ground: &Ground) -> Result<()> {
    let machine = boot(native(ground, "migrate", TOML)?)?;
    let plan = machine.ok("nixarr-migrate migrate sonarr --dry-run")?;
    ensure!(
        plan.starts_with("sonarr: from sonarr.service to dagger-sonarr.service")
            && plan.contains("down for about"),
        "{plan}"
    );
    let unasked = machine.sh("nixarr-migrate migrate sonarr")?;
    ensure!(
        !unasked.good() && unasked.stderr.contains("--yes"),
        "{}",
        unasked.all()
    );
    let before = rows(&machine)?;
    let out = machine.ok("nixarr-migrate migrate sonarr --yes")?;
    for said in [
        "] stop: the service stops\n",
        "] probation: ",
        "sonarr runs in its container now",
        "  snapshot: ",
        "the way back: nixarr-migrate rollback sonarr",
    ] {
        ensure!(out.contains(said), "{said:?} is not in\n{out}");
    }
    ensure!(runs(&machine)? == (false, true), "{:?}", runs(&machine)?);
    let job = last(&machine, "migrate")?;
    ensure!(
        text(&job, "result") == "done" && text(&job, "owner") == "container",
        "{job}"
    );
    let down = job
        .get("down_usec")
        .and_then(Value::as_u64)
        .context("no downtime")?;
    ensure!(down < 20_000_000, "{down} us");
    let log = machine.ok(&format!(
        "journalctl -o cat _SYSTEMD_INVOCATION_ID={}",
        text(&job, "invocation")
    ))?;
    ensure!(log.contains("sonarr runs in its container now"), "{log}");
    let fields = machine.ok(
        "journalctl -o cat -n 1 DAGGER_SERVICE=sonarr DAGGER_JOB=migrate SYSLOG_IDENTIFIER=dagger-migrate",
    )?;
    ensure!(!fields.is_empty(), "no line has the job's fields");
    let history = machine.ok("daggerctl history sonarr")?;
    ensure!(
        history.contains("sonarr: migrate is done: ") && history.contains("asked for by user 0"),
        "{history}"
    );
    let kept = machine.ok("nixarr-migrate snapshots")?;
    ensure!(
        kept.contains(text(&job, "snapshot")) && kept.contains("migrate"),
        "{kept}"
    );

    // The agent cannot even be started.
    machine.ok("systemctl mask --runtime --now monitoring.service 2>&1")?;
    let back = machine.sh("nixarr-migrate rollback sonarr --yes")?;
    ensure!(
        back.good()
            && back
                .stderr
                .contains("systemd alone starts dagger-rollback@sonarr.service"),
        "{}",
        back.all()
    );
    ensure!(back.stdout.contains("sonarr is native again"), "{}", back.all());
    ensure!(runs(&machine)? == (true, false), "{:?}", runs(&machine)?);
    ensure!(rows(&machine)? > before, "rows were lost");
    let kept = machine.ok("nixarr-migrate snapshots sonarr --json")?;
    ensure!(kept.matches("\"id\"").count() == 2, "{kept}");
    machine.ok("systemctl unmask --runtime monitoring.service 2>&1; systemctl start monitoring.service")?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    // The agent sees what was done without it.
    let seen = last(&machine, "rollback")?;
    ensure!(text(&seen, "result") == "done", "{seen}");
    Ok(())
}

fn doors(ground: &Ground) -> Result<()> {
    let spec = native(ground, "doors", TOML)?.file(
        "/etc/sysusers.d/op.conf",
        "g media-operators -\nu op - - /\nm op media-operators\n",
    );
    let machine = boot(spec)?;
    let call = |user: &str, verb: &str, more: &str| -> Result<Output> {
        machine.sh(&format!(
            "setpriv --reuid {user} --regid nogroup --init-groups busctl --timeout=60 call {BUS} {ROOT} {MANAGER} {verb} {more}"
        ))
    };
    let verbs = [
        ("Plan", "s sonarr"),
        ("Migrate", "'sa{sv}' sonarr 0"),
        ("Rollback", "'sa{sv}' sonarr 0"),
        ("Resume", "s sonarr"),
        ("Shadow", "s sonarr"),
        ("Promote", "s sonarr"),
        ("Discard", "s sonarr"),
        ("Rehearse", "s sonarr"),
        ("MigrateAll", ""),
    ];
    for (verb, arguments) in verbs {
        let refused = call("nobody", verb, arguments)?;
        ensure!(
            !refused.good() && refused.all().contains("not authorized"),
            "{verb}: {}",
            refused.all()
        );
    }
    machine.wait_for("lines about the denials", MINUTE, |machine| {
        let lines = machine.ok("journalctl -o cat -t dagger-agent MESSAGE_ID=816df87055a2457886c6fbcdae43275f | grep -c sonarr || true")?;
        Ok((lines.trim() == verbs.len().to_string()).then_some(()))
    })?;
    machine.ok("! test -e /run/dagger/job/sonarr.request && ! test -e /run/dagger/job/sonarr.progress")?;
    // A flood of them is turned away, and others are served meanwhile.
    let flood = machine.sh(&format!(
        "for i in $(seq 60); do setpriv --reuid nobody --clear-groups busctl --timeout=60 call {BUS} {ROOT} {MANAGER} Migrate 'sa{{sv}}' sonarr 0 2>&1 & done; wait"
    ))?;
    ensure!(flood.all().contains("too many requests"), "{}", flood.all());
    machine.ok("daggerctl check sonarr")?;
    ensure!(runs(&machine)? == (true, false), "{:?}", runs(&machine)?);

    let rules = "/usr/share/doc/dagger/examples/50-dagger-operators.rules";
    machine.ok(&format!("cp {rules} /etc/polkit-1/rules.d/ && sleep 2"))?;
    let looked = call("op", "Plan", "s sonarr")?;
    ensure!(looked.good(), "an operator may not look: {}", looked.all());
    let refused = call("op", "Migrate", "'sa{sv}' sonarr 0")?;
    ensure!(!refused.good(), "an operator may migrate");
    let order = |unit: &str| {
        machine.sh(&format!(
            "setpriv --reuid op --regid nogroup --init-groups systemctl --no-ask-password restart {unit}"
        ))
    };
    let restarted = order("dagger-sonarr.service")?;
    ensure!(
        restarted.good(),
        "an operator may not restart: {}",
        restarted.all()
    );
    for unit in [
        "dagger-migrate@sonarr.service",
        "dagger-resume.service",
        "sonarr.service",
    ] {
        ensure!(!order(unit)?.good(), "an operator may start {unit}");
    }
    ensure!(runs(&machine)? == (true, false), "{:?}", runs(&machine)?);
    Ok(())
}

fn cancelled(ground: &Ground) -> Result<()> {
    let machine = boot(native(ground, "cancel", &slow())?)?;
    let begun = machine.ok("nixarr-migrate migrate sonarr --yes --detach")?;
    ensure!(begun.contains("it goes on by itself (job 1)"), "{begun}");
    let status = machine.wait_for("the probation", MINUTE, |machine| {
        let status = machine.ok("daggerctl status")?;
        Ok(status
            .contains("sonarr is being migrated: step probation")
            .then_some(status))
    })?;
    ensure!(status.contains("(nixarr-migrate status)"), "{status}");
    let busy = machine.sh("nixarr-migrate migrate sonarr --yes")?;
    ensure!(
        !busy.good() && busy.stderr.contains("dagger-migrate@sonarr.service"),
        "{}",
        busy.all()
    );
    // The container hangs: the agent would restart it, were it not for the job.
    let run = machine.unit("dagger-sonarr.service", "InvocationID")?;
    machine.ok("systemctl kill --signal=KILL monitoring.service && sleep 3")?;
    let job = last(&machine, "migrate")?;
    ensure!(
        job.get("number").and_then(Value::as_u64) == Some(1) && text(&job, "step") == "probation",
        "{job}"
    );
    ensure!(
        machine.unit("dagger-sonarr.service", "InvocationID")? == run,
        "it was restarted"
    );
    let cancel = machine.ok("nixarr-migrate cancel sonarr")?;
    ensure!(cancel.contains("job 1 was asked to stop"), "{cancel}");
    machine.wait_for("the end", MINUTE, |machine| {
        let job = last(machine, "migrate")?;
        Ok((text(&job, "result") == "undone").then_some(()))
    })?;
    ensure!(runs(&machine)? == (true, false), "{:?}", runs(&machine)?);
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    let status = machine.ok("daggerctl status")?;
    ensure!(!status.contains("being migrated"), "{status}");
    rows(&machine)?;
    Ok(())
}

/// polkit's own agent asks, on the terminal of the client that started it.
fn password(ground: &Ground) -> Result<()> {
    let spec =
        native(ground, "password", TOML)?.file("/etc/sysusers.d/boss.conf", "u boss - - /\nm boss sudo\n");
    let machine = boot(spec)?;
    machine.ok("echo boss:hush | chpasswd")?;
    let migrate = |typed: &str| {
        machine.sh(&format!(
            "(sleep 4; echo {typed}; sleep 12) | setpriv --reuid boss --regid nogroup --init-groups script -qec 'nixarr-migrate migrate sonarr --yes' /dev/null"
        ))
    };
    let wrong = migrate("loud")?;
    ensure!(
        !wrong.good() && wrong.all().contains("not authorized"),
        "{}",
        wrong.all()
    );
    ensure!(runs(&machine)? == (true, false), "{:?}", runs(&machine)?);
    let right = migrate("hush")?;
    ensure!(
        right
            .all()
            .contains("to stop sonarr, copy its data to a snapshot, and run it as a container from now on"),
        "{}",
        right.all()
    );
    ensure!(
        right.good() && right.all().contains("sonarr runs in its container now"),
        "{}",
        right.all()
    );
    ensure!(runs(&machine)? == (false, true), "{:?}", runs(&machine)?);
    Ok(())
}
