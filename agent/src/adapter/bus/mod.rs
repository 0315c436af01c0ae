//! Our own interfaces on the system bus: served by the agent, called by the client, one text for both.
//!
//! | object | interfaces |
//! |---|---|
//! | `/org/nixarr/Dagger1` | [`manager`] `org.nixarr.Dagger1.Manager`, `org.freedesktop.DBus.ObjectManager` |
//! | `/org/nixarr/Dagger1/service/<service>` | [`service`] `org.nixarr.Dagger1.Service` |
//! | `/org/nixarr/Dagger1/job/<n>` | [`job`] `org.nixarr.Dagger1.Job` |
//!
//! An object holds two things: the end of a `watch` channel with what was last published (getters read it and never
//! wait), and the beginning of the one queue of [`Request`]s (methods put their question there and await the answer).
//! State has its one owner elsewhere. The documentation of every member is part of the introspection data.

use std::pin::Pin;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use zbus::Connection;
use zbus::message::Header;

use crate::domain::job as job_of;
use crate::domain::job::Task;

pub mod error;

pub mod view;

pub mod job_view;

pub mod conflict;

pub mod snapshots;

pub mod authorize;

pub mod service;

pub mod job;

pub mod manager;

pub mod client;

pub use conflict::ConflictView;
pub use error::BusError;
pub use job::{JobObject, JobObjectProxy as JobProxy};
pub use job_view::JobView;
pub use manager::{Manager, ManagerProxy};
pub use service::{ServiceObject, ServiceObjectProxy as ServiceProxy};
pub use snapshots::SnapshotView;
pub use view::{ManagerView, Owner, ServiceView};

/// Name of the manager's interface.
pub const MANAGER_INTERFACE: &str = "org.nixarr.Dagger1.Manager";
/// Name of a service's interface.
pub const SERVICE_INTERFACE: &str = "org.nixarr.Dagger1.Service";

/// Name of a job's interface.
pub const JOB_INTERFACE: &str = "org.nixarr.Dagger1.Job";

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
    /// Whether this task could be begun now: nobody is asked for a password for what would be refused anyway.
    Ready(Task, String, Answer<()>),
    /// Begin a task on a service; the answer is the job's number. The caller has been authorized.
    Begin(Task, String, job_of::Request, Answer<u64>),
    /// The services that a task on the whole suite is about, in their order.
    Order(Task, Answer<Vec<String>>),
    /// Begin a task on these services, one after the other. The caller has been authorized.
    BeginAll(Task, Vec<String>, Answer<u64>),
    /// Stop a job. The caller has been authorized.
    Cancel(u64, Answer<()>),
    /// The plan of a job, as JSON.
    PlanOf(u64, Answer<String>),
    /// The snapshots of a service; of all services without a name.
    Snapshots(Option<String>, Answer<Vec<SnapshotView>>),
}

impl Ask {
    /// Whether polkit has been asked about it already: how often it may be asked was counted then.
    pub fn is_authorized(&self) -> bool {
        matches!(self, Self::Begin(..) | Self::BeginAll(..) | Self::Cancel(..))
    }

    /// Answers with an error. A caller that has gone meanwhile is not missed.
    pub fn refuse(self, error: BusError) {
        fn no<T>(answer: Answer<T>, error: BusError) {
            let _ = answer.send(Err(error));
        }
        match self {
            Self::Check(_, answer) => no(answer, error),
            Self::Reload(answer)
            | Self::Admit(answer)
            | Self::Pause(_, _, answer)
            | Self::Resume(_, answer)
            | Self::Ready(_, _, answer)
            | Self::Cancel(_, answer) => no(answer, error),
            Self::Why(_, answer) => no(answer, error),
            Self::Conflicts(answer) => no(answer, error),
            Self::Begin(_, _, _, answer) | Self::BeginAll(_, _, answer) => no(answer, error),
            Self::Order(_, answer) => no(answer, error),
            Self::PlanOf(_, answer) => no(answer, error),
            Self::Snapshots(_, answer) => no(answer, error),
        }
    }
}

/// The way back to the caller.
pub type Answer<T> = oneshot::Sender<Result<T, BusError>>;

/// User of the sender.
async fn uid(connection: &Connection, header: &Header<'_>) -> Result<u32, BusError> {
    let Some(sender) = header.sender().filter(|_| connection.is_bus()) else {
        return Ok(rustix::process::geteuid().as_raw());
    };
    let said = connection
        .call_method(
            Some("org.freedesktop.DBus"),
            "/org/freedesktop/DBus",
            Some("org.freedesktop.DBus"),
            "GetConnectionUnixUser",
            sender,
        )
        .await
        .and_then(|reply| reply.body().deserialize::<u32>());
    said.map_err(|error| BusError::Failed(format!("the bus does not say who asks: {error}")))
}

/// Puts a question into the queue and waits for its answer.
async fn ask<T>(
    queue: &mpsc::Sender<Request>,
    connection: &Connection,
    header: &Header<'_>,
    ask: impl FnOnce(Answer<T>) -> Ask,
) -> Result<T, BusError> {
    let (answer, answered) = oneshot::channel();
    put(queue, connection, header, ask(answer)).await?;
    answered
        .await
        .unwrap_or_else(|_| Err(BusError::Failed("the agent is ending".into())))
}

/// The part of [`ask`] that is the same for all of them. Boxed: each method would have it in it once more.
fn put<'a>(
    queue: &'a mpsc::Sender<Request>,
    connection: &'a Connection,
    header: &'a Header<'_>,
    ask: Ask,
) -> Pin<Box<dyn Future<Output = Result<(), BusError>> + Send + 'a>> {
    Box::pin(async move {
        let request = Request {
            uid: uid(connection, header).await?,
            ask,
        };
        queue.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                BusError::Throttled("the agent has more to do than it can: ask again in a moment".into())
            }
            mpsc::error::TrySendError::Closed(_) => BusError::Failed("the agent is ending".into()),
        })
    })
}
