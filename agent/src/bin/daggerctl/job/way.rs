//! How a job is begun and heard of: by the agent; or, for root when there is none, by systemd alone.

use std::time::Duration;

use dagger_agent::adapter::bus::JobView;
use dagger_agent::domain::job::{Request, Task};
use dagger_suite::names::{Root, ServiceName};
use rustix::process::geteuid;
use tokio::time::{sleep, timeout};
use zbus::OwnedObjectPath;

use super::alone::Alone;
use crate::bus::{Bus, Changes};
use crate::error::Error;
use crate::screen::warn;

/// A job is looked at again after this time, although nobody said that it changed.
const AGAIN: Duration = Duration::from_secs(2);
/// An agent that goes away is waited for so long: systemd starts it again.
const RETURN: Duration = Duration::from_secs(30);

/// One of the two ways.
pub enum Way {
    /// The agent begins it.
    Agent(Bus),
    /// systemd does.
    Systemd(Root),
}

/// A job that was begun.
pub enum Running {
    /// As the agent shows it.
    Agent(Box<Shown>),
    /// As its files and its unit say.
    Systemd(Box<Alone>),
}

/// A job as the agent shows it.
pub struct Shown {
    bus: Bus,
    path: OwnedObjectPath,
    changes: Changes,
    /// It has been looked at.
    seen: bool,
}

impl Way {
    /// The agent's where there is one. Without it root can go on, and is told so.
    pub async fn find(unit: &str) -> Result<Self, Error> {
        let asked = async {
            let bus = Bus::connect_for_people().await?;
            // Starts it, where it only was not running.
            bus.jobs().await?;
            Ok(bus)
        };
        match asked.await {
            Ok(bus) => Ok(Self::Agent(bus)),
            Err(Error::NoAgent(why)) if geteuid().is_root() => {
                warn(
                    "nixarr-migrate",
                    &format!("the agent cannot be reached ({why}): systemd alone starts {unit}"),
                );
                Ok(Self::Systemd(Root::from_env()))
            }
            Err(error) => Err(error),
        }
    }

    /// Has a task begun on a service.
    pub async fn begin(self, task: Task, service: &ServiceName, request: &Request) -> Result<Running, Error> {
        match self {
            Self::Agent(bus) => {
                let changes = bus.changes().await?;
                let path = bus.begin(task, service.as_str(), request).await?;
                Ok(Running::agent(bus, path, changes))
            }
            Self::Systemd(root) => {
                let alone = Alone::begin(root, task, service, request)?;
                Ok(Running::Systemd(Box::new(alone)))
            }
        }
    }

    /// Has a task begun on the whole suite.
    pub async fn begin_all(self, task: Task) -> Result<Running, Error> {
        match self {
            Self::Agent(bus) => {
                let changes = bus.changes().await?;
                let path = bus.begin_all(task).await?;
                Ok(Running::agent(bus, path, changes))
            }
            Self::Systemd(_) => Err(Error::NoAgent(format!(
                "the whole suite needs it; one service at a time works without: nixarr-migrate {} SERVICE",
                task.word()
            ))),
        }
    }
}

impl Running {
    fn agent(bus: Bus, path: OwnedObjectPath, changes: Changes) -> Self {
        Self::Agent(Box::new(Shown {
            bus,
            path,
            changes,
            seen: false,
        }))
    }

    /// The job as it is when it next has changed, or after a while.
    pub async fn next(&mut self) -> Result<JobView, Error> {
        match self {
            Self::Agent(shown) => shown.next().await,
            Self::Systemd(alone) => alone.next().await,
        }
    }

    /// Asks it to stop.
    pub async fn cancel(&self) -> Result<(), Error> {
        match self {
            Self::Agent(shown) => shown.bus.cancel(&shown.path).await,
            Self::Systemd(alone) => alone.cancel().await,
        }
    }

    /// What it has found, as JSON.
    pub async fn plan(&self) -> Result<String, Error> {
        match self {
            Self::Agent(shown) => shown.bus.plan_of(&shown.path).await,
            Self::Systemd(alone) => alone.plan(),
        }
    }

    /// The way again, for the next one.
    pub fn way(self) -> Way {
        match self {
            Self::Agent(shown) => Way::Agent(shown.bus),
            Self::Systemd(alone) => Way::Systemd(alone.root()),
        }
    }
}

impl Shown {
    async fn next(&mut self) -> Result<JobView, Error> {
        if std::mem::replace(&mut self.seen, true) {
            // A look that no signal asked for is what the time limit is for.
            timeout(AGAIN, self.changes.next()).await.unwrap_or(Ok(()))?;
        }
        // An agent that goes away in between is waited for: the job goes on without it.
        let tried = timeout(RETURN, async {
            loop {
                match self.bus.job(&self.path).await {
                    Err(Error::NoAgent(_)) => sleep(AGAIN).await,
                    other => return other,
                }
            }
        });
        tried.await.unwrap_or_else(|_| {
            Err(Error::NoAgent(
                "it has gone away meanwhile; the job goes on by itself, and `nixarr-migrate status` shows it when the agent \
                 is back"
                    .into(),
            ))
        })
    }
}
