//! `org.nixarr.Dagger1.Manager`: the suite as a whole.

use std::collections::HashMap;
use std::pin::Pin;

use dagger_suite::names::ServiceName;
use tokio::sync::{mpsc, watch};
use zbus::{Connection, OwnedObjectPath, OwnedVariant, interface, message::Header};

use super::authorize::{Deed, authorize};
use super::{Ask, BusError, Checked, ConflictView, ManagerView, Request, SnapshotView, ask, job};
use crate::domain::job::Task;

/// The object at `/org/nixarr/Dagger1`.
#[derive(Debug)]
pub struct Manager {
    view: watch::Receiver<ManagerView>,
    queue: mpsc::Sender<Request>,
}

impl Manager {
    /// An object that shows what `view` holds and puts its questions into `queue`.
    pub fn new(view: watch::Receiver<ManagerView>, queue: mpsc::Sender<Request>) -> Self {
        Self { view, queue }
    }

    /// Begins a task on one service, where polkit lets the caller. Seven methods do nothing else, and each would have all of
    /// this in it, were it not boxed.
    fn begin<'a>(
        &'a self,
        connection: &'a Connection,
        header: &'a Header<'_>,
        task: Task,
        service: String,
        options: HashMap<String, OwnedVariant>,
    ) -> Boxed<'a> {
        Box::pin(self.begin_it(connection, header, task, service, options))
    }

    async fn begin_it(
        &self,
        connection: &Connection,
        header: &Header<'_>,
        task: Task,
        service: String,
        options: HashMap<String, OwnedVariant>,
    ) -> Result<OwnedObjectPath, BusError> {
        let name = ServiceName::parse(&service).map_err(BusError::NoSuchService)?;
        let request = job::request(task, options)?;
        ask(&self.queue, connection, header, |answer| {
            Ask::Ready(task, service.clone(), answer)
        })
        .await?;
        let deed = Deed {
            action: &job::action(task),
            service: &service,
            unit: &name.unit(),
        };
        authorize(connection, header, deed).await?;
        let number = ask(&self.queue, connection, header, |answer| {
            Ask::Begin(task, service, request, answer)
        })
        .await?;
        object(number)
    }

    /// The same on the whole suite: polkit is asked about each service before anything is begun.
    fn begin_all<'a>(&'a self, connection: &'a Connection, header: &'a Header<'_>, task: Task) -> Boxed<'a> {
        Box::pin(self.begin_them(connection, header, task))
    }

    async fn begin_them(
        &self,
        connection: &Connection,
        header: &Header<'_>,
        task: Task,
    ) -> Result<OwnedObjectPath, BusError> {
        let order = ask(&self.queue, connection, header, |answer| Ask::Order(task, answer)).await?;
        for service in &order {
            let name = ServiceName::parse(service).map_err(BusError::NoSuchService)?;
            let deed = Deed {
                action: &job::action(task),
                service,
                unit: &name.unit(),
            };
            authorize(connection, header, deed).await?;
        }
        let number = ask(&self.queue, connection, header, |answer| {
            Ask::BeginAll(task, order, answer)
        })
        .await?;
        object(number)
    }
}

/// A job's path, later.
type Boxed<'a> = Pin<Box<dyn Future<Output = Result<OwnedObjectPath, BusError>> + Send + 'a>>;

fn object(number: u64) -> Result<OwnedObjectPath, BusError> {
    OwnedObjectPath::try_from(job::path(number)).map_err(|error| BusError::Failed(error.to_string()))
}

#[interface(
    name = "org.nixarr.Dagger1.Manager",
    proxy(
        default_service = "org.nixarr.Dagger1",
        default_path = "/org/nixarr/Dagger1",
        visibility = "pub"
    )
)]
impl Manager {
    /// Probes all services that run, now, and returns each service's name, its health and, in words, why. Calls that
    /// come together share one round of probes.
    /// Errors: org.nixarr.Dagger1.Error.Throttled.
    #[zbus(out_args("services"))]
    async fn check(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Vec<Checked>, BusError> {
        ask(&self.queue, connection, &header, |answer| {
            Ask::Check(None, answer)
        })
        .await
    }

    /// Reads the configuration again. Services come and go accordingly; those that stay keep their verdict.
    /// Only root may call it.
    /// Errors: org.nixarr.Dagger1.Error.ConfigurationInvalid when there are mistakes in it: what is right is in force
    /// all the same, and ConfigurationErrors has the list. org.nixarr.Dagger1.Error.Throttled.
    async fn reload(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), BusError> {
        ask(&self.queue, connection, &header, Ask::Reload).await
    }

    /// Looks at all ports of the suite now, and returns what stands in its way: one dictionary a conflict, empty when there
    /// is none. Always there: Kind ("taken": the service cannot start, because somebody else has its port; "answered": it
    /// runs, and somebody else answers on its port as well; "beside": its native unit and its container run at once),
    /// Service, Sentence (all of it in words), Breaks (what goes wrong), Remedy (what to do), Since (microseconds of
    /// CLOCK_REALTIME). Where it is about a port: Protocol, Port, What ("web", "peer", or a name of the configuration),
    /// Namespace (unless it is the host's), Address. What is known of the holder, and nothing that is not: Unit, Manager (the
    /// user whose own unit it is), Container (engine and id), Process, Pid, User.
    /// Errors: org.nixarr.Dagger1.Error.Throttled.
    #[zbus(out_args("conflicts"))]
    async fn conflicts(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Vec<ConflictView>, BusError> {
        ask(&self.queue, connection, &header, Ask::Conflicts).await
    }

    /// Has a job look at a service and say what a migration would do; it changes nothing. Plan() of the job has what it
    /// found. The look reads the service's databases, so it asks polkit for org.nixarr.dagger1.plan.
    /// Errors of this and the following: org.nixarr.Dagger1.Error.NotAuthorized, .InteractiveAuthorizationRequired, .Busy when
    /// a job is at work on the service (it says which), .NoSuchService, .InvalidArgument, .Throttled, .Failed.
    #[zbus(out_args("job"), proxy(allow_interactive_auth))]
    async fn plan(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
        service: String,
    ) -> Result<OwnedObjectPath, BusError> {
        self.begin(connection, &header, Task::Plan, service, HashMap::new())
            .await
    }

    /// Moves a service from its native unit into its container, and returns the job. All of it happens or nothing: whatever
    /// fails on the way is undone, and the native unit runs as before. There are no options yet.
    /// Asks polkit for org.nixarr.dagger1.migrate.
    #[zbus(out_args("job"), proxy(allow_interactive_auth))]
    async fn migrate(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
        service: String,
        options: HashMap<String, OwnedVariant>,
    ) -> Result<OwnedObjectPath, BusError> {
        self.begin(connection, &header, Task::Migrate, service, options)
            .await
    }

    /// Moves a service from its container back to its native unit, and returns the job. Options: "data" (s): "keep", what the
    /// container has written goes back, too, which is what happens without it; or "restore", the data becomes what it was
    /// before the migration, and what the container wrote is kept as a snapshot. "snapshot" (s): with "restore", the id of
    /// another snapshot. Asks polkit for org.nixarr.dagger1.rollback.
    #[zbus(out_args("job"), proxy(allow_interactive_auth))]
    async fn rollback(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
        service: String,
        options: HashMap<String, OwnedVariant>,
    ) -> Result<OwnedObjectPath, BusError> {
        self.begin(connection, &header, Task::Rollback, service, options)
            .await
    }

    /// Finishes or undoes what was interrupted with a service, and returns the job. Where nothing was it is done at once.
    /// Asks polkit for org.nixarr.dagger1.resume.
    #[zbus(out_args("job"), proxy(allow_interactive_auth))]
    async fn resume(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
        service: String,
    ) -> Result<OwnedObjectPath, BusError> {
        self.begin(connection, &header, Task::Resume, service, HashMap::new())
            .await
    }

    /// Runs a service's container on a copy of its data, beside the native unit, so that somebody can look at it; returns the
    /// job. Asks polkit for org.nixarr.dagger1.shadow.
    #[zbus(out_args("job"), proxy(allow_interactive_auth))]
    async fn shadow(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
        service: String,
    ) -> Result<OwnedObjectPath, BusError> {
        self.begin(connection, &header, Task::Shadow, service, HashMap::new())
            .await
    }

    /// Ends the shadow of a service and migrates it; returns the job. Asks polkit for org.nixarr.dagger1.promote.
    #[zbus(out_args("job"), proxy(allow_interactive_auth))]
    async fn promote(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
        service: String,
    ) -> Result<OwnedObjectPath, BusError> {
        self.begin(connection, &header, Task::Promote, service, HashMap::new())
            .await
    }

    /// Ends the shadow of a service and removes its copy; returns the job. Asks polkit for org.nixarr.dagger1.discard.
    #[zbus(out_args("job"), proxy(allow_interactive_auth))]
    async fn discard(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
        service: String,
    ) -> Result<OwnedObjectPath, BusError> {
        self.begin(connection, &header, Task::Discard, service, HashMap::new())
            .await
    }

    /// Does what a migration of a service would do on a copy of its data, in a network of its own, throws that away, and says
    /// how it went; returns the job. The native unit goes on running. Asks polkit for org.nixarr.dagger1.rehearse.
    #[zbus(out_args("job"), proxy(allow_interactive_auth))]
    async fn rehearse(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
        service: String,
    ) -> Result<OwnedObjectPath, BusError> {
        self.begin(connection, &header, Task::Rehearse, service, HashMap::new())
            .await
    }

    /// Migrates every service that has a native unit and is not in its container yet, one after the other, what others want
    /// first, and returns one job for all. It stops at the first that fails; a second call goes on with what is not done.
    /// Further errors: org.nixarr.Dagger1.Error.NothingToDo when there is none. Asks polkit for org.nixarr.dagger1.migrate of each service before it begins with the first.
    #[zbus(out_args("job"), proxy(allow_interactive_auth))]
    async fn migrate_all(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath, BusError> {
        self.begin_all(connection, &header, Task::Migrate).await
    }

    /// The way back for every service that is in its container and has a native unit, with their data, as MigrateAll().
    /// Asks polkit for org.nixarr.dagger1.rollback of each service before it begins with the first.
    #[zbus(out_args("job"), proxy(allow_interactive_auth))]
    async fn rollback_all(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath, BusError> {
        self.begin_all(connection, &header, Task::Rollback).await
    }

    /// The snapshots of a service, of all services for an empty name; one dictionary each, every service's oldest first.
    /// Always there: Service, Id, When (microseconds of CLOCK_REALTIME), Why ("migrate", "rollback"), Files, Bytes, Pinned.
    /// Where it is known: Version (of the application that wrote it), Digest (of the image that ran on it), Problem (its label
    /// cannot be read). Only labels are read.
    /// Errors: org.nixarr.Dagger1.Error.NoSuchService, .Throttled.
    #[zbus(out_args("snapshots"))]
    async fn snapshots(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
        service: String,
    ) -> Result<Vec<SnapshotView>, BusError> {
        let service = Some(service).filter(|name| !name.is_empty());
        ask(&self.queue, connection, &header, |answer| {
            Ask::Snapshots(service, answer)
        })
        .await
    }

    /// Version of the agent.
    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> String {
        self.view.borrow().version.clone()
    }

    /// The worst health of all services: "failed", "unhealthy", "recovering", "degraded", "starting", "unknown", "healthy" or
    /// "inactive", in this order.
    #[zbus(property)]
    fn health(&self) -> String {
        self.view.borrow().health.word().to_owned()
    }

    /// Object paths of all services.
    #[zbus(property)]
    fn services(&self) -> Vec<OwnedObjectPath> {
        let view = self.view.borrow();
        view.services
            .iter()
            .filter_map(|path| OwnedObjectPath::try_from(path.as_str()).ok())
            .collect()
    }

    /// Mistakes in the configuration, one line each with file, line and column; empty when there are none.
    #[zbus(property)]
    fn configuration_errors(&self) -> Vec<String> {
        self.view.borrow().configuration_errors.clone()
    }

    /// How many conflicts there are; Conflicts() has them.
    #[zbus(property)]
    fn conflict_count(&self) -> u32 {
        self.view.borrow().conflict_count
    }
}
