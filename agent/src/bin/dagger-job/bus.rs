//! systemd and the agent from where nothing waits for anything else, and somebody may ask at any time to stop.

use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dagger_agent::adapter::bus::ServiceProxy;
use dagger_agent::adapter::tree;
use dagger_agent::adapter::units::{Standing, UnitError, Units};
use dagger_agent::domain::transaction::Failure;
use dagger_suite::names::ServiceName;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use zbus::Connection;

/// An answer of the agent is waited for so long: it may be busy, or gone.
const ANSWER: Duration = Duration::from_secs(10);

/// Somebody wants it to stop: `systemctl stop`, `Cancel()`, or Ctrl-C.
#[derive(Debug, Clone)]
pub struct Cancel {
    asked: watch::Receiver<bool>,
    work: Arc<Mutex<Option<Arc<tree::Progress>>>>,
}

impl Cancel {
    /// Whether it is wanted.
    pub fn is_asked(&self) -> bool {
        *self.asked.borrow()
    }

    /// The work that is to end when it is wanted; none: nothing that could.
    pub fn guards(&self, work: Option<Arc<tree::Progress>>) {
        if let (true, Some(work)) = (self.is_asked(), &work) {
            work.stop();
        }
        *self.work.lock().unwrap_or_else(PoisonError::into_inner) = work;
    }

    fn stop_work(&self) {
        if let Some(work) = &*self.work.lock().unwrap_or_else(PoisonError::into_inner) {
            work.stop();
        }
    }
}

/// The way out.
#[derive(Debug)]
pub struct Bus {
    runtime: Runtime,
    units: Units,
    cancel: Cancel,
}

impl Bus {
    /// Connects to the system bus, and listens for signals from now on.
    pub fn connect() -> Result<Self, String> {
        let failed = |error: io::Error| format!("no runtime: {error}");
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(failed)?;
        let (ask, asked) = watch::channel(false);
        let cancel = Cancel {
            asked,
            work: Arc::default(),
        };
        let (mut term, mut int) = {
            let _guard = runtime.enter();
            (
                signal(SignalKind::terminate()).map_err(failed)?,
                signal(SignalKind::interrupt()).map_err(failed)?,
            )
        };
        let heard = cancel.clone();
        runtime.spawn(async move {
            loop {
                tokio::select! {
                    _ = term.recv() => {}
                    _ = int.recv() => {}
                }
                ask.send_replace(true);
                heard.stop_work();
            }
        });
        let units = runtime
            .block_on(async { Units::new(&Connection::system().await?).await })
            .map_err(|error| format!("systemd cannot be reached over the system bus: {error}"))?;
        Ok(Self {
            runtime,
            units,
            cancel,
        })
    }

    /// The connection.
    pub fn connection(&self) -> &Connection {
        self.units.connection()
    }

    /// Waits for this, whatever happens.
    pub fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Who may want it to stop.
    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// Starts a unit and waits for it; given up when somebody wants that.
    pub fn start(&self, unit: &str) -> Result<(), Failure> {
        self.unless_cancelled(self.units.start(unit))
    }

    /// Asks for the start of a unit, and goes on.
    pub fn begin(&self, unit: &str) -> Result<(), Failure> {
        self.wait(self.units.begin(unit)).map_err(|error| failure(&error))
    }

    /// Runs a unit to its end; given up when somebody wants that.
    pub fn run(&self, unit: &str) -> Result<(), Failure> {
        self.unless_cancelled(self.units.run(unit))
    }

    /// Starts a unit and waits for it, whatever anybody wants: on the way back.
    pub fn start_surely(&self, unit: &str) -> Result<(), Failure> {
        self.wait(self.units.start(unit)).map_err(|error| failure(&error))
    }

    /// Stops a unit and waits until nothing of it runs. It is not given up: half a stop helps nobody.
    pub fn stop(&self, unit: &str) -> Result<(), Failure> {
        self.wait(self.units.stop(unit)).map_err(|error| failure(&error))
    }

    /// Has systemd read its units again.
    pub fn reload(&self) -> Result<(), Failure> {
        self.wait(self.units.reload()).map_err(|error| failure(&error))
    }

    /// Forgets that a unit has failed.
    pub fn forget(&self, unit: &str) {
        self.wait(self.units.forget(unit));
    }

    /// How a unit stands.
    pub fn standing(&self, unit: &str) -> Result<Standing, Failure> {
        self.wait(self.units.standing(unit))
            .map_err(|error| failure(&error))
    }

    /// How often systemd has started a service again by itself; 0 where that cannot be had.
    pub fn restarts(&self, unit: &str) -> u32 {
        self.wait(self.units.restarts(unit)).unwrap_or_default()
    }

    /// Waits, unless somebody wants it to stop; whether all of the time went by.
    pub fn pause(&self, time: Duration) -> bool {
        let mut asked = self.cancel.asked.clone();
        self.wait(async {
            tokio::select! {
                () = tokio::time::sleep(time) => true,
                _ = asked.wait_for(|asked| *asked) => false,
            }
        })
    }

    /// What the agent thinks of a service: health, and in words why. None when there is no agent to ask.
    pub fn health(&self, service: &ServiceName) -> Option<(String, String)> {
        let path = service.object_path();
        let ask = async {
            let proxy = ServiceProxy::builder(self.connection())
                .path(path)
                .build()
                .await
                .ok()?;
            // A look at this moment: what it saw last may be of the other side.
            proxy.check().await.ok()
        };
        self.wait(async { tokio::time::timeout(ANSWER, ask).await.ok()? })
    }

    fn unless_cancelled(&self, work: impl Future<Output = Result<(), UnitError>>) -> Result<(), Failure> {
        let mut asked = self.cancel.asked.clone();
        self.wait(async {
            tokio::select! {
                biased;
                done = work => done.map_err(|error| failure(&error)),
                _ = asked.wait_for(|asked| *asked) => Err(cancelled().into()),
            }
        })
    }
}

/// Why it stops then.
pub fn cancelled() -> String {
    "somebody cancelled it".into()
}

fn failure(error: &UnitError) -> Failure {
    error.to_string().into()
}
