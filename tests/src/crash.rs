//! A job that is killed in the middle, with and without the power going at the same moment: afterwards it is the old world
//! or the new one, and no row is lost. What looks after it may be killed in its middle, too, and what looks after that.
//!
//! Where it is killed is a number: the nth call of all its threads that makes something durable. A new step is killed, too,
//! without anybody adding it here.

mod again;

use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};

use crate::native::{NARROW, NATIVE, OURS, STATE, address, rows, rows_in, runs};
use crate::rig::Machine;

/// So long it may take until everything is settled.
const LIMIT: Duration = Duration::from_mins(1);

/// One case.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// `migrate`, `rollback` or `rehearse`.
    pub verb: &'static str,
    /// At which call the job is killed.
    pub call: u64,
    /// The power goes at the same moment; else the machine runs on.
    pub cut: bool,
    /// What looks after it is interrupted in the same way at this call of its own; and what looks after that at the other.
    pub again: [Option<u64>; 2],
    /// A rollback to the data as it was.
    pub to_snapshot: bool,
}

impl Case {
    /// A job that nothing interrupts: it shows how many calls there are.
    pub fn whole(verb: &'static str) -> Self {
        Self {
            verb,
            call: 65_535,
            cut: false,
            again: [None; 2],
            to_snapshot: false,
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    /// How many such calls the job made.
    pub calls: u64,
    /// How many interruptions there were: what looks after a job may have less to do than was thought.
    pub depth: usize,
    /// The container owns the service.
    pub container: bool,
    /// How long what was left was looked at before any service could start, after a power cut.
    pub decided: Option<Duration>,
}

/// Tries a case, on a machine where everything is settled.
pub fn attempt(machine: &mut Machine, case: Case) -> Result<Found> {
    let Case {
        verb,
        call,
        cut,
        again,
        to_snapshot: restores,
    } = case;
    let again = again.iter().flatten().copied();
    let before = rows(machine)?;
    if restores {
        to_snapshot(machine)?;
    }
    let pid = held(machine, verb, cut)?;
    if !cut {
        again::hold_resume(machine, verb, again.clone().count())?;
    }
    let calls = machine.kill_at(pid, call)?;
    let mut depth = usize::from(calls >= call);
    let mut decided = None;
    if cut {
        machine.power_cut()?;
        for call in again {
            depth += usize::from(again::cut_at(machine, call)?);
        }
        machine.power_on()?;
        decided = Some(recovery(machine)?);
    } else {
        for (place, call) in again.enumerate() {
            depth += usize::from(again::kill_at(machine, verb, place, call)?);
        }
        let_go(machine, verb)?;
    }
    settle(machine).with_context(|| format!("{case:?}"))?;
    let container = match runs(machine)? {
        (true, false) => false,
        (false, true) => true,
        both => anyhow::bail!("{case:?}: native and container run: {both:?}"),
    };
    let kept = || {
        let now = rows(machine)?;
        if restores && !container {
            // What the container has written stays in the snapshot of the way back.
            let (was, set_aside) = (copied(machine, "migrate")?, copied(machine, "rollback")?);
            ensure!(now >= was, "{now} rows of {was} are left");
            ensure!(set_aside >= before, "{set_aside} rows of {before} were kept");
        } else {
            ensure!(now >= before, "{now} rows of {before} are left");
        }
        one_world(machine, container)
    };
    kept().with_context(|| format!("{case:?}"))?;
    Ok(Found {
        calls,
        depth,
        container,
        decided,
    })
}

/// The next rollback is to the data as it was.
pub fn to_snapshot(machine: &Machine) -> Result<()> {
    machine.write(
        "/run/dagger/job/sonarr.request",
        r#"{"number":0,"data":"restore"}"#,
    )
}

/// How many rows the newest snapshot of such a job holds.
fn copied(machine: &Machine, verb: &str) -> Result<u64> {
    machine.ok(&format!(
        "rm -rf /var/tmp/copied && cp -r $(ls -d /var/lib/dagger/snapshots/sonarr/*-{verb}* | grep -v aside | tail -n 1)/data/config /var/tmp/copied"
    ))?;
    rows_in(machine, "/var/tmp/copied")
}

/// Files belong to whoever runs, and the settings are those of that side, where it needs others at all.
fn one_world(machine: &Machine, container: bool) -> Result<()> {
    let changes = machine
        .sh("grep -q '^user = 1000' /etc/dagger/dagger.toml")?
        .good();
    let (user, listens) = match (changes, container) {
        (true, true) => ("1000", "*"),
        (true, false) => ("sonarr", NARROW),
        (false, _) => ("sonarr", "*"),
    };
    let others = machine.ok(&format!("find {STATE} -not -user {user}"))?;
    ensure!(others.is_empty(), "not {user}'s: {others}");
    let address = address(machine)?;
    ensure!(address == listens, "it listens on {address}, not {listens}");
    Ok(())
}

/// Starts a job that stops itself before it does anything: its process. `alone`: nobody looks after what it leaves.
pub fn held(machine: &Machine, verb: &str, alone: bool) -> Result<u32> {
    let unit = format!("dagger-{verb}@sonarr.service");
    // Where the power goes nobody tidies up; else what systemd starts afterwards is left as it is.
    let after = if alone { "ExecStopPost=\n" } else { "" };
    if alone {
        machine.ok("systemctl mask --runtime --quiet dagger-resume@sonarr.service")?;
    }
    machine.write(
        &format!("/run/systemd/system/{unit}.d/99-crash.conf"),
        &format!("[Service]\nExecStart=\nExecStart=/bin/sh -c 'kill -STOP $$$$; exec /usr/libexec/dagger/dagger-job {verb} sonarr'\n{after}"),
    )?;
    machine.ok(&format!(
        "systemctl daemon-reload && systemctl start --no-block {unit}"
    ))?;
    machine.wait_for("the job", LIMIT, |machine| {
        let pid: u32 = machine.unit(&unit, "MainPID")?.parse().unwrap_or(0);
        Ok((pid != 0).then_some(pid))
    })
}

/// Waits until such a job, and what systemd starts after it, have ended; the next one begins at once again.
pub fn over(machine: &Machine, verb: &str) -> Result<()> {
    let unit = format!("dagger-{verb}@sonarr.service");
    machine.wait_for("the end of the job", 2 * LIMIT, |machine| {
        let state = machine.unit(&unit, "ActiveState")?;
        Ok(matches!(state.as_str(), "inactive" | "failed").then_some(()))
    })?;
    let_go(machine, verb)
}

fn let_go(machine: &Machine, verb: &str) -> Result<()> {
    let unit = format!("dagger-{verb}@sonarr.service");
    machine
        .ok(&format!(
            "rm -rf /run/systemd/system/{unit}.d /run/systemd/system/dagger-resume@sonarr.service.d && systemctl daemon-reload"
        ))
        .map(drop)
}

/// How long dagger-recover.service took in this boot.
fn recovery(machine: &Machine) -> Result<Duration> {
    let at = |property| -> Result<u64> {
        let text = machine.unit("dagger-recover.service", property)?;
        text.parse().with_context(|| format!("{property}: {text:?}"))
    };
    let (began, ended) = (
        at("InactiveExitTimestampMonotonic")?,
        at("ActiveEnterTimestampMonotonic")?,
    );
    ensure!(
        began > 0 && ended >= began,
        "dagger-recover.service did not run at boot"
    );
    Ok(Duration::from_micros(ended - began))
}

/// Waits until nothing is open any more, nothing of a shadow is left, and one of both sides runs.
fn settle(machine: &Machine) -> Result<()> {
    let began = Instant::now();
    loop {
        let open = machine
            .sh("ls -d /var/lib/dagger/transactions/sonarr/log /var/lib/dagger/hold/sonarr /var/lib/dagger/shadows/sonarr /run/dagger/conf.d/90-shadow-sonarr.toml 2>/dev/null | grep -q .")?
            .good();
        let one = matches!(runs(machine)?, (true, false) | (false, true));
        if !open && one {
            return Ok(());
        }
        if began.elapsed() > LIMIT {
            let account = machine.sh(&format!("ls -R /var/lib/dagger | head -50; cut -c1-200 /var/lib/dagger/transactions/sonarr/log; systemctl status --no-pager {NATIVE} {OURS} dagger-recover dagger-resume 'dagger-*@sonarr'; journalctl -b --no-pager -o short-precise | grep -i dagger | tail -60"))?;
            anyhow::bail!("it is not settled: {}", account.all());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
