//! Our own interfaces on the system bus: served by the agent, called by the client, one text for both.
//!
//! | object | interfaces |
//! |---|---|
//! | `/org/nixarr/Dagger1` | [`manager`] `org.nixarr.Dagger1.Manager`, `org.freedesktop.DBus.ObjectManager` |
//! | `/org/nixarr/Dagger1/service/<service>` | [`service`] `org.nixarr.Dagger1.Service` |
//!
//! An object holds two things: the end of a `watch` channel with what was last published (getters read it and never
//! wait), and the beginning of the one queue of [`Request`]s (methods put their question there and await the answer).
//! State has its one owner elsewhere. The documentation of every member is part of the introspection data.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use zbus::Connection;
use zbus::fdo::DBusProxy;
use zbus::message::Header;

pub mod error;

pub mod view;

pub mod conflict;

pub mod service;

pub mod manager;

pub mod client;

pub use conflict::ConflictView;
pub use error::BusError;
pub use manager::{Manager, ManagerProxy};
pub use service::{ServiceObject, ServiceObjectProxy as ServiceProxy};
pub use view::{ManagerView, Owner, ServiceView};

/// Name of the manager's interface.
pub const MANAGER_INTERFACE: &str = "org.nixarr.Dagger1.Manager";
/// Name of a service's interface.
pub const SERVICE_INTERFACE: &str = "org.nixarr.Dagger1.Service";

/// How many requests may wait for the agent's loop; more are told to come back later.
pub const QUEUE: usize = 64;

/// One checked service: name, health, detail.
pub type Checked = (String, String, String);

/// One event of the past: microseconds of CLOCK_REALTIME, name of the event, message.
pub type Event = (u64, String, String);

/// Why: one sentence, whether it is certain, and what it rests on.
pub type Told = (String, bool, Vec<String>);

/// A question that a caller has put, on its way to the loop that owns the state.
#[derive(Debug)]
pub struct Request {
    /// User of the caller, by the bus; our own on a connection without a bus.
    pub uid: u32,
    /// What is asked.
    pub ask: Ask,
}

/// What can be asked, each with the way back for the answer.
#[derive(Debug)]
pub enum Ask {
    /// Probe one service (by name), or all of them, now.
    Check(Option<String>, Answer<Vec<Checked>>),
    /// Read the configuration again.
    Reload(Answer<()>),
    /// Whether this caller may ask for anything now.
    Admit(Answer<()>),
    /// Do nothing about a service for that long; zero: until [`Ask::Resume`].
    Pause(String, Duration, Answer<()>),
    /// The pause is over.
    Resume(String, Answer<()>),
    /// Why is a service as it is?
    Why(String, Answer<Told>),
    /// What stands in the way of the suite, by a look at this moment.
    Conflicts(Answer<Vec<ConflictView>>),
}

/// The way back to the caller.
pub type Answer<T> = oneshot::Sender<Result<T, BusError>>;

/// User of the sender.
async fn uid(connection: &Connection, header: &Header<'_>) -> Result<u32, BusError> {
    let Some(sender) = header.sender().filter(|_| connection.is_bus()) else {
        return Ok(rustix::process::geteuid().as_raw());
    };
    let bus = DBusProxy::new(connection).await?;
    let name = sender.clone().into();
    bus.get_connection_unix_user(name)
        .await
        .map_err(|error| BusError::Failed(format!("the bus does not say who asks: {error}")))
}

/// Puts a question into the queue and waits for its answer.
async fn ask<T>(
    queue: &mpsc::Sender<Request>,
    connection: &Connection,
    header: &Header<'_>,
    ask: impl FnOnce(Answer<T>) -> Ask,
) -> Result<T, BusError> {
    let (answer, answered) = oneshot::channel();
    let request = Request {
        uid: uid(connection, header).await?,
        ask: ask(answer),
    };
    queue.try_send(request).map_err(|error| match error {
        mpsc::error::TrySendError::Full(_) => {
            BusError::Throttled("the agent has more to do than it can: ask again in a moment".into())
        }
        mpsc::error::TrySendError::Closed(_) => BusError::Failed("the agent is ending".into()),
    })?;
    answered
        .await
        .unwrap_or_else(|_| Err(BusError::Failed("the agent is ending".into())))
}
