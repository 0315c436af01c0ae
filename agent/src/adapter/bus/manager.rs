//! `org.nixarr.Dagger1.Manager`: the suite as a whole.

use tokio::sync::{mpsc, watch};
use zbus::{Connection, OwnedObjectPath, interface, message::Header};

use super::{Ask, BusError, Checked, ConflictView, ManagerView, Request, ask};

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
