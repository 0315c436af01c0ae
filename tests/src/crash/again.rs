//! What looks after an interrupted job, interrupted in its turn.
//!
//! After a power cut that is dagger-recover.service, before any service starts, and dagger-resume.service, which does what
//! needs them to run; after a kill it is what systemd starts behind the job, and dagger-resume@ behind that.

use anyhow::Result;
use std::time::Duration;

use crate::rig::Machine;

/// At boot, in this order.
const AT_BOOT: [(&str, &str); 2] = [
    ("dagger-recover.service", "recover"),
    ("dagger-resume.service", "resume"),
];
/// Behind a job that was killed, and behind what looks after it.
const RESUME: &str = "dagger-resume@sonarr.service";
/// So long it may take until such a process is there.
const LIMIT: Duration = Duration::from_mins(1);

/// What makes a process wait for its tracer before it does anything.
fn stopped(words: &str) -> String {
    format!("/bin/sh -c 'kill -STOP $$$$; exec /usr/libexec/dagger/dagger-job {words}'")
}

/// Boots a machine that is off, and cuts its power at this call of what looks after an interrupted job; it is off again.
/// Whether there was such a call.
pub fn cut_at(machine: &mut Machine, call: u64) -> Result<bool> {
    for (unit, words) in AT_BOOT {
        let text = format!("[Service]\nExecStart=\nExecStart={}\n", stopped(words));
        machine.put(&drop_in(unit), &text)?;
    }
    machine.switch_on()?;
    let reached = at_boot(machine, call)?;
    machine.power_cut()?;
    for (unit, _) in AT_BOOT {
        std::fs::remove_file(machine.on_disk(&drop_in(unit)))?;
    }
    Ok(reached)
}

fn drop_in(unit: &str) -> String {
    format!("/etc/systemd/system/{unit}.d/99-crash.conf")
}

fn at_boot(machine: &Machine, call: u64) -> Result<bool> {
    let mut left = call;
    for (unit, _) in AT_BOOT {
        let Some(pid) = process(machine, unit, "MainPID", |machine| is_needless(machine, unit))? else {
            return Ok(false);
        };
        let made = machine.kill_at(pid, left)?;
        if made >= left {
            return Ok(true);
        }
        left -= made;
    }
    Ok(false)
}

/// Holds so much of what systemd starts behind a job.
pub fn hold_resume(machine: &Machine, verb: &str, depth: usize) -> Result<()> {
    let job = format!("dagger-{verb}@sonarr.service");
    let held = [(job.as_str(), "ExecStopPost", "-"), (RESUME, "ExecStart", "")];
    for (unit, key, lenient) in held.into_iter().take(depth) {
        let text = format!("[Service]\n{key}=\n{key}={lenient}{}\n", stopped("resume sonarr"));
        machine.write(
            &format!("/run/systemd/system/{unit}.d/99-crash-again.conf"),
            &text,
        )?;
    }
    if depth > 0 {
        machine.ok("systemctl daemon-reload")?;
    }
    Ok(())
}

/// Kills that at this call; `place` says which of both. Whether there was such a call.
pub fn kill_at(machine: &Machine, verb: &str, place: usize, call: u64) -> Result<bool> {
    let job = format!("dagger-{verb}@sonarr.service");
    let process = match place {
        0 => process(machine, &job, "ControlPID", |_| Ok(false))?,
        _ => process(machine, RESUME, "MainPID", |machine| {
            // Whatever starts it has asked for it before it ends.
            let ended = is_over(machine, &job)?;
            Ok(ended && is_over(machine, RESUME)? && machine.unit(RESUME, "Job")?.is_empty())
        })?,
    };
    match process {
        Some(pid) => Ok(machine.kill_at(pid, call)? >= call),
        None => Ok(false),
    }
}

fn is_over(machine: &Machine, unit: &str) -> Result<bool> {
    Ok(matches!(
        machine.unit(unit, "ActiveState")?.as_str(),
        "inactive" | "failed"
    ))
}

/// At boot systemd has looked, and there is nothing to do.
fn is_needless(machine: &Machine, unit: &str) -> Result<bool> {
    let looked = machine.unit(unit, "ConditionTimestampMonotonic")? != "0";
    Ok(looked && machine.unit(unit, "ConditionResult")? == "no")
}

/// The process of a unit that is about to be started; none when it will not be.
fn process(
    machine: &Machine,
    unit: &str,
    which: &str,
    never: impl Fn(&Machine) -> Result<bool>,
) -> Result<Option<u32>> {
    machine.wait_for(&format!("{which} of {unit}"), LIMIT, |machine| {
        // Early in the boot nobody answers yet.
        let Ok(text) = machine.unit(unit, which) else {
            return Ok(None);
        };
        match text.parse() {
            Ok(0) | Err(_) => Ok(never(machine)?.then_some(None)),
            Ok(pid) => Ok(Some(Some(pid))),
        }
    })
}
