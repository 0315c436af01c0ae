//! Units that are started and stopped one at a time, and waited for (org.freedesktop.systemd1(5)): what jobs need of systemd.
//!
//! Nothing is polled: systemd's `JobRemoved` says that a job is over, and is subscribed to before the job is asked for.

use std::future::poll_fn;
use std::pin::Pin;

use zbus::export::futures_core::Stream;
use zbus::fdo::PropertiesProxy;
use zbus::names::InterfaceName;
use zbus::{Connection, OwnedObjectPath, proxy};

use super::systemd::{NAME, object_path};

/// A service that is started at the same moment and wants this one has its start take the stop's place: then the stop is
/// ordered again.
const STOPS: usize = 10;

/// What is asked of systemd was not done.
#[derive(Debug, thiserror::Error)]
pub enum UnitError {
    /// systemd's job ended otherwise than well.
    #[error("{unit} could not be {what} ({result}): see `systemctl status {unit}`")]
    Result {
        /// The unit.
        unit: String,
        /// `started`, `stopped`.
        what: &'static str,
        /// systemd's word: `failed`, `timeout`, `dependency`, `canceled`.
        result: String,
    },
    /// A condition kept it from starting.
    #[error(
        "{unit} was not started: one of its conditions is not met (`systemctl status {unit}` says which)"
    )]
    Condition {
        /// The unit.
        unit: String,
    },
    /// It has ended again.
    #[error("{unit} was started and is {state} already: see `journalctl -u {unit}`")]
    Ended {
        /// The unit.
        unit: String,
        /// `failed`, `inactive`.
        state: String,
    },
    /// It is asked to stop, and runs.
    #[error("{unit} is still {state} after it was stopped")]
    Runs {
        /// The unit.
        unit: String,
        /// `active`, `deactivating`.
        state: String,
    },
    /// Neither the bus nor systemd answers.
    #[error("systemd does not do with {unit} as it is asked: {source}")]
    Bus {
        /// The unit.
        unit: String,
        /// What was said.
        source: zbus::Error,
    },
}

#[proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn subscribe(&self) -> zbus::Result<()>;
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn reload(&self) -> zbus::Result<()>;
    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;
    #[zbus(signal)]
    fn job_removed(&self, id: u32, job: OwnedObjectPath, unit: String, result: String) -> zbus::Result<()>;
}

/// How a unit stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// `ActiveState`.
    pub active: String,
    /// `SubState`.
    pub sub: String,
    /// `ConditionResult`: false when a condition kept its last start away.
    pub condition: bool,
}

impl Standing {
    /// Whether nothing of it runs, and nothing is about to.
    pub fn is_down(&self) -> bool {
        matches!(self.active.as_str(), "inactive" | "failed")
    }
}

/// The way to systemd.
#[derive(Debug, Clone)]
pub struct Units {
    connection: Connection,
    manager: ManagerProxy<'static>,
}

impl Units {
    /// Over this connection to the system bus.
    pub async fn new(connection: &Connection) -> zbus::Result<Self> {
        let manager = ManagerProxy::new(connection).await?;
        manager.subscribe().await?;
        Ok(Self {
            connection: connection.clone(),
            manager,
        })
    }

    /// The connection that it goes over.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Starts a unit, and waits until it has.
    ///
    /// What its start limit counted is forgotten first: it is not this start that it is to protect from.
    pub async fn start(&self, unit: &str) -> Result<(), UnitError> {
        self.forget(unit).await;
        self.ordered(unit, "started").await?;
        let standing = self.standing(unit).await?;
        match standing.active.as_str() {
            "active" | "reloading" => Ok(()),
            _ if !standing.condition => Err(UnitError::Condition {
                unit: unit.to_owned(),
            }),
            state => Err(UnitError::Ended {
                unit: unit.to_owned(),
                state: state.to_owned(),
            }),
        }
    }

    /// Runs a unit that ends by itself (`Type=oneshot`), and waits until it has.
    pub async fn run(&self, unit: &str) -> Result<(), UnitError> {
        self.forget(unit).await;
        self.ordered(unit, "started").await?;
        match self.standing(unit).await? {
            Standing { condition: false, .. } => Err(UnitError::Condition {
                unit: unit.to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// Stops a unit, and waits until nothing of it runs. One that does not run is left as it is.
    pub async fn stop(&self, unit: &str) -> Result<(), UnitError> {
        for _ in 0..STOPS {
            match self.ordered(unit, "stopped").await {
                Err(UnitError::Result { result, .. }) if result == "canceled" => {}
                other => {
                    other?;
                    break;
                }
            }
        }
        let standing = self.standing(unit).await?;
        if standing.is_down() {
            return Ok(());
        }
        Err(UnitError::Runs {
            unit: unit.to_owned(),
            state: standing.active,
        })
    }

    /// Has systemd read all units again, those that generators make among them, and waits until it has.
    pub async fn reload(&self) -> Result<(), UnitError> {
        let done = self.manager.reload().await;
        done.map_err(|source| bus("daemon-reload", source))
    }

    /// Forgets that a unit has failed.
    pub async fn forget(&self, unit: &str) {
        // One that systemd has not loaded has nothing to forget.
        let _ = self.manager.reset_failed_unit(unit).await;
    }

    /// Asks for a start and does not wait.
    pub async fn begin(&self, unit: &str) -> Result<(), UnitError> {
        let asked = self.manager.start_unit(unit, "replace").await;
        asked.map(drop).map_err(|source| bus(unit, source))
    }

    /// How it stands.
    pub async fn standing(&self, unit: &str) -> Result<Standing, UnitError> {
        self.look(unit).await.map_err(|source| bus(unit, source))
    }

    /// How often systemd has started a service again by itself; none where that cannot be had.
    pub async fn restarts(&self, unit: &str) -> Option<u32> {
        let proxy = self.properties(unit).await.ok()?;
        let interface = InterfaceName::from_static_str("org.freedesktop.systemd1.Service").ok()?;
        u32::try_from(proxy.get(interface, "NRestarts").await.ok()?).ok()
    }

    async fn properties(&self, unit: &str) -> zbus::Result<PropertiesProxy<'static>> {
        let proxy = PropertiesProxy::builder(&self.connection)
            .destination(NAME)
            .path(object_path(unit));
        proxy.build().await
    }

    async fn look(&self, unit: &str) -> zbus::Result<Standing> {
        let proxy = self.properties(unit).await?;
        let interface = InterfaceName::from_static_str("org.freedesktop.systemd1.Unit")?;
        let mut all = proxy.get_all(interface).await?;
        let mut text = |name: &str| {
            all.remove(name)
                .and_then(|value| String::try_from(value).ok())
                .unwrap_or_default()
        };
        let (active, sub) = (text("ActiveState"), text("SubState"));
        let condition = all
            .remove("ConditionResult")
            .and_then(|value| bool::try_from(value).ok())
            .unwrap_or(true);
        // One that systemd forgot when it had ended, or never started, says no, and nobody has asked it.
        let asked = all
            .remove("ConditionTimestampMonotonic")
            .and_then(|value| u64::try_from(value).ok());
        Ok(Standing {
            active,
            sub,
            condition: condition || asked == Some(0),
        })
    }

    async fn ordered(&self, unit: &str, what: &'static str) -> Result<(), UnitError> {
        let result = self.job(unit, what).await.map_err(|source| bus(unit, source))?;
        // A start that its condition skips is `skipped` from systemd 254 on, `done` before.
        if matches!(result.as_str(), "done" | "skipped") {
            return Ok(());
        }
        Err(UnitError::Result {
            unit: unit.to_owned(),
            what,
            result,
        })
    }

    async fn job(&self, unit: &str, what: &'static str) -> zbus::Result<String> {
        let mut ends = self.manager.receive_job_removed().await?;
        let job = if what == "started" {
            self.manager.start_unit(unit, "replace").await?
        } else {
            match self.manager.stop_unit(unit, "replace").await {
                Err(zbus::Error::MethodError(name, ..))
                    if name.as_str() == "org.freedesktop.systemd1.NoSuchUnit" =>
                {
                    return Ok("done".into());
                }
                other => other?,
            }
        };
        loop {
            let next = poll_fn(|context| Pin::new(&mut ends).poll_next(context)).await;
            let Some(signal) = next else {
                return Err(zbus::Error::Failure("the bus is gone".into()));
            };
            let args = signal.args()?;
            if *args.job() == job {
                return Ok(args.result().clone());
            }
        }
    }
}

fn bus(unit: &str, source: zbus::Error) -> UnitError {
    UnitError::Bus {
        unit: unit.to_owned(),
        source,
    }
}
