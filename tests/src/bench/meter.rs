//! What a program in a machine costs: processor time, memory, wake-ups; and how many questions the applications answered.

use crate::rig::Machine;
use crate::suite::SIX;
use anyhow::{Context, Result, ensure};
use nix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// The agent's unit.
pub const AGENT: &str = "monitoring.service";
/// The port and path at which each of the six is asked.
pub const QUESTIONS: [(&str, u16, &str); 6] = [
    ("bazarr", 6767, "/api/system/ping"),
    ("jellyfin", 8096, "/health"),
    ("prowlarr", 9696, "/ping"),
    ("radarr", 7878, "/ping"),
    ("sonarr", 8989, "/ping"),
    ("transmission", 9091, "/transmission/rpc"),
];
/// So many of the six count what they are asked: Transmission is the real one.
pub const COUNTING: u64 = 5;

/// The six of a configuration, each asked at this interval (`1s`).
pub fn asked_every(toml: &str, interval: &str) -> String {
    SIX.iter().fold(toml.to_owned(), |toml, service| {
        let table = format!("[services.{service}]\n");
        toml.replace(
            &table,
            &format!("{table}health = {{ interval = \"{interval}\" }}\n"),
        )
    })
}

/// Microseconds of processor time that a control group has used; the path begins below the machine's root group.
pub fn group_usage(machine: &Machine, group: &str) -> Result<f64> {
    let text = machine.ok(&format!("cat '/sys/fs/cgroup{group}/cpu.stat'"))?;
    let usage = text.lines().find_map(|line| line.strip_prefix("usage_usec "));
    usage.context("no usage_usec")?.parse().context("usage_usec")
}

/// The same for a unit.
pub fn usage(machine: &Machine, unit: &str) -> Result<f64> {
    let group = machine.unit(unit, "ControlGroup")?;
    ensure!(!group.is_empty(), "{unit} does not run");
    group_usage(machine, &group)
}

/// Memory of a unit's main process, in MiB.
pub struct Memory {
    /// What is resident now.
    pub resident: f64,
    /// Its own pages among it.
    pub own: f64,
    /// Pages of files among it.
    pub files: f64,
    /// The most that ever was resident, or since [`forget_most`].
    pub most: f64,
}

/// Memory of a unit's main process (proc_pid_status(5)).
pub fn memory(machine: &Machine, unit: &str) -> Result<Memory> {
    let status = machine.ok(&format!("cat /proc/$(systemctl show -P MainPID {unit})/status"))?;
    let field = |name: &str| -> Result<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_ascii_whitespace().next());
        Ok(number.with_context(|| format!("no {name}"))?.parse::<f64>()? / 1024.0)
    };
    Ok(Memory {
        resident: field("VmRSS:")?,
        own: field("RssAnon:")?,
        files: field("RssFile:")?,
        most: field("VmHWM:")?,
    })
}

/// Has the kernel begin anew with the most that was resident (proc_pid_clear_refs(5)).
pub fn forget_most(machine: &Machine, unit: &str) -> Result<()> {
    machine.ok(&format!(
        "echo 5 >/proc/$(systemctl show -P MainPID {unit})/clear_refs"
    ))?;
    Ok(())
}

/// How often the threads of a unit's main process have waited for something so far, which is how often they were woken.
pub fn wakeups(machine: &Machine, unit: &str) -> Result<f64> {
    let text = machine.ok(&format!(
        "cat /proc/$(systemctl show -P MainPID {unit})/task/*/status"
    ))?;
    let waits = text
        .lines()
        .filter_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    waits
        .map(|count| count.trim().parse::<f64>().context("voluntary_ctxt_switches"))
        .sum()
}

/// Questions that the stand-ins among the six have answered since they were started, whoever asked.
pub fn answered(machine: &Machine) -> Result<u64> {
    let urls: Vec<String> = QUESTIONS
        .iter()
        .filter(|(service, ..)| *service != "transmission")
        .map(|(_, port, _)| format!("http://127.0.0.1:{port}/standin/state"))
        .collect();
    let text = machine.ok(&format!(
        "for url in {}; do curl -sf -m 10 $url && echo || exit; done",
        urls.join(" ")
    ))?;
    let counts = text.lines().map(|line| {
        let state: serde_json::Value = serde_json::from_str(line).context("a stand-in's state")?;
        let requests = state.get("requests").and_then(serde_json::Value::as_u64);
        requests.context("no number of requests")
    });
    counts.sum()
}

/// Waits until halfway between two whole seconds: the agent asks a small suite at whole ones (of CLOCK_MONOTONIC), so
/// that a window which begins and ends here holds whole rounds.
pub fn between_rounds() -> Result<()> {
    let now: Duration = clock_gettime(ClockId::CLOCK_MONOTONIC)
        .context("CLOCK_MONOTONIC")?
        .into();
    // From 500 to 1499 ms, so that it is never nothing.
    let wait = (1_499 - u64::from(now.subsec_millis())) % 1000 + 1;
    std::thread::sleep(Duration::from_millis(wait));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::SIX_TOML;

    #[test]
    fn every_service_is_asked_at_the_interval() {
        let toml = asked_every(SIX_TOML, "5s");
        assert_eq!(
            toml.matches("health = { interval = \"5s\" }\n").count(),
            SIX.len()
        );
        let asked: Vec<&str> = QUESTIONS.iter().map(|(service, ..)| *service).collect();
        assert_eq!(asked, SIX);
    }
}
