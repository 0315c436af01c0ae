//! The machine on which faults happen: six services with short intervals, and what is seen of them from outside.

use crate::rig::{Disk, Machine};
use crate::suite::{Ground, SIX, SIX_LIMIT};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// How often each service is asked; the agent does not ask more often.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// How long a question may take.
pub const TIMEOUT: Duration = Duration::from_secs(1);
/// So many bad answers make a service unhealthy.
pub const FAILURES: u32 = 3;
/// Where the services' state is.
pub const STATE: &str = "/var/lib/nixarr";
/// How much there is room for: little, so that it can be filled.
const STATE_BYTES: u64 = 160 << 20;

/// As a user would write it who wants everything to happen fast. The limit stands for the memory that a machine has: no
/// controller of the host's reaches it, so a leak ends by a refused allocation (setrlimit(2), `RLIMIT_DATA`).
fn toml() -> String {
    let mut text = format!(
        "[suite]\nmedia = \"/fun\"\nstate = \"{STATE}\"\nuser = 568\ngroup = 568\ntimezone = \"Europe/Berlin\"\n"
    );
    for service in SIX {
        let more = if service == "transmission" {
            "peer-port = 46634\n"
        } else {
            "podman-args = [\"--ulimit=data=300000000:300000000\"]\n"
        };
        let _ = write!(
            text,
            "[services.{service}]\nhealth = {{ interval = \"{}s\", timeout = \"{}s\", failures = {FAILURES} }}\nstart-budget = \"20s\"\nstop-timeout = \"3s\"\n{more}",
            INTERVAL.as_secs(),
            TIMEOUT.as_secs()
        );
    }
    text
}

/// A service as systemd and podman have it: another run of it differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// systemd's number of this run.
    pub invocation: String,
    /// How often systemd has restarted it by itself.
    pub restarts: String,
    /// ActiveState.
    pub state: String,
    /// podman's number of its container.
    pub container: String,
}

impl Run {
    /// Whether it runs. A service can be healthy a moment before systemd calls it started.
    pub fn is_up(&self) -> bool {
        matches!(self.state.as_str(), "active" | "activating" | "reloading")
    }
}

/// Units as `systemctl show` prints them, an empty line between two, and lines of containers: a name and a number.
fn runs_in(text: &str) -> BTreeMap<String, Run> {
    let containers: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once(' ')).collect();
    let run = |block: &str| {
        let value = |key: &str| {
            let lines = block.lines().filter_map(|line| line.split_once('='));
            lines
                .filter(|(name, _)| *name == key)
                .map(|(_, value)| value.to_owned())
                .next()
        };
        let id = value("Id")?;
        let name = id.strip_suffix(".service")?;
        let run = Run {
            invocation: value("InvocationID")?,
            restarts: value("NRestarts")?,
            state: value("ActiveState")?,
            container: containers.get(name).copied().unwrap_or_default().to_owned(),
        };
        Some((name.strip_prefix("dagger-")?.to_owned(), run))
    };
    text.split("\n\n").filter_map(run).collect()
}

/// The machine.
pub struct Stage {
    /// It.
    pub machine: Machine,
    /// What [`STATE`] lies on.
    pub disk: Disk,
}

impl Stage {
    /// Boots it and waits until all six are healthy.
    pub fn boot(ground: &Ground, name: &str) -> Result<Self> {
        let disk = Disk::new(name, STATE_BYTES)?;
        let spec = ground.configured(name, &toml())?.bind(disk.directory(), STATE);
        let machine = Machine::boot(spec)?;
        disk.hand_over()?;
        machine.wait_six()?;
        Ok(Self { machine, disk })
    }

    /// How each of the six runs now.
    pub fn runs(&self) -> Result<BTreeMap<String, Run>> {
        let units: Vec<String> = SIX
            .iter()
            .map(|service| format!("dagger-{service}.service"))
            .collect();
        let text = self.machine.ok(&format!(
            "systemctl show -p Id -p InvocationID -p NRestarts -p ActiveState {}
             echo
             podman ps --no-trunc --format '{{{{.Names}}}} {{{{.ID}}}}'",
            units.join(" ")
        ))?;
        let runs = runs_in(&text);
        ensure!(runs.len() == SIX.len(), "not six units in {text}");
        Ok(runs)
    }

    /// systemd's number of a service's run; none while it is started or does not run. Asked often, so it is read from where
    /// systemd leaves it for journald: no process is needed for that.
    pub fn invocation(&self, service: &str) -> Option<String> {
        let link = format!("/run/systemd/units/invocation:dagger-{service}.service");
        let target = std::fs::read_link(self.machine.inside(&link)).ok()?;
        Some(target.to_str()?.to_owned())
    }

    /// When the agent first said after `since` that a service is not healthy.
    pub fn noticed(&self, service: &str, since: Duration) -> Result<Option<Duration>> {
        let filter = format!("DAGGER_SERVICE={service}");
        let from = format!("--since=@{}", since.as_secs());
        let entries = self
            .machine
            .journal(&["-b", "_SYSTEMD_UNIT=monitoring.service", &filter, &from])?;
        let mut times = entries
            .iter()
            .filter(|entry| !matches!(entry.field("DAGGER_HEALTH"), "" | "healthy"))
            .filter_map(|entry| entry.field("__REALTIME_TIMESTAMP").parse().ok())
            .map(Duration::from_micros)
            .filter(|at| *at >= since);
        Ok(times.next())
    }

    /// Waits until all six answer again: healthy, or degraded because they have come and gone too often. The error names
    /// those that do not.
    pub fn heal(&self) -> Result<()> {
        let began = Instant::now();
        for service in SIX {
            let left = SIX_LIMIT
                .saturating_sub(began.elapsed())
                .max(Duration::from_secs(1));
            let answers = self
                .machine
                .wait_for(&format!("{service} well again"), left, |machine| {
                    Ok(matches!(machine.health(service).as_str(), "healthy" | "degraded").then_some(()))
                });
            answers.with_context(|| self.machine.account_of(service))?;
        }
        Ok(())
    }

    /// Whether all six are simply healthy: one that has come and gone too often is treated otherwise by the agent, so that
    /// it is of no use for the next fault.
    pub fn is_fresh(&self) -> bool {
        SIX.iter()
            .all(|service| self.machine.health(service) == "healthy")
    }

    /// That nobody but `except` was started anew since `before`.
    pub fn untouched(&self, before: &BTreeMap<String, Run>, except: Option<&str>) -> Result<()> {
        let after = self.runs()?;
        for (service, run) in before
            .iter()
            .filter(|(service, _)| Some(service.as_str()) != except)
        {
            let now = after.get(service).with_context(|| format!("no {service}"))?;
            let same = (&now.invocation, &now.restarts, &now.container)
                == (&run.invocation, &run.restarts, &run.container);
            ensure!(
                same && now.is_up(),
                "{service} was restarted, and nothing was wrong with it: before {run:?}, after {now:?}\n{}",
                self.machine.account_of(service)
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_and_containers_are_read() {
        let text = "NRestarts=0\nId=dagger-a.service\nInvocationID=aa\nActiveState=active\n\nNRestarts=2\nId=dagger-b.service\nInvocationID=bb\nActiveState=failed\n\ndagger-a 0123\n";
        let runs = runs_in(text);
        assert_eq!(
            (runs["a"].invocation.as_str(), runs["a"].container.as_str()),
            ("aa", "0123")
        );
        assert_eq!(
            (runs["b"].restarts.as_str(), runs["b"].container.as_str()),
            ("2", "")
        );
        assert_eq!(runs.len(), 2);
    }

    #[test]
    fn the_configuration_is_one_that_the_generator_takes() {
        let text = toml();
        assert_eq!(text.matches("[services.").count(), SIX.len());
        assert!(text.contains("health = { interval = \"1s\", timeout = \"1s\", failures = 3 }"));
    }
}
