//! `org.nixarr.Dagger1.Service`: one service of the suite.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use zbus::object_server::SignalEmitter;
use zbus::{Connection, interface, message::Header};

use super::authorize::{Deed, authorize};
use super::{Ask, BusError, Event, Request, ServiceView, Told, ask};
use crate::adapter::past;

/// The longest pause that is not one without an end.
const PAUSE_MAX: Duration = Duration::from_hours(24 * 30);
/// Events that one call returns at most.
const HISTORY_MAX: u32 = 500;
/// The polkit action of pauses.
const PAUSE: &str = "org.nixarr.dagger1.pause";

/// The object at `/org/nixarr/Dagger1/service/<service>`.
#[derive(Debug)]
pub struct ServiceObject {
    view: watch::Receiver<ServiceView>,
    queue: mpsc::Sender<Request>,
}

impl ServiceObject {
    /// An object that shows what `view` holds and puts its questions into `queue`.
    pub fn new(view: watch::Receiver<ServiceView>, queue: mpsc::Sender<Request>) -> Self {
        Self { view, queue }
    }

    /// Whether polkit lets the caller do this to the service. Floods are throttled first.
    async fn authorize(
        &self,
        connection: &Connection,
        header: &Header<'_>,
        action: &str,
    ) -> Result<String, BusError> {
        ask(&self.queue, connection, header, Ask::Admit).await?;
        let (name, unit) = {
            let view = self.view.borrow();
            (view.name.clone(), view.unit.clone())
        };
        let deed = Deed {
            action,
            service: &name,
            unit: &unit,
        };
        authorize(connection, header, deed).await?;
        Ok(name)
    }
}

#[interface(
    name = "org.nixarr.Dagger1.Service",
    proxy(default_service = "org.nixarr.Dagger1", visibility = "pub")
)]
impl ServiceObject {
    /// Probes the service now and returns its health and, in words, why. Calls that come together share one probe.
    /// A service that does not run is not probed.
    /// Errors: org.nixarr.Dagger1.Error.Throttled.
    #[zbus(out_args("health", "detail"))]
    async fn check(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(String, String), BusError> {
        let name = self.view.borrow().name.clone();
        let checked = ask(&self.queue, connection, &header, |answer| {
            Ask::Check(Some(name), answer)
        })
        .await?;
        checked
            .into_iter()
            .next()
            .map(|(_, health, detail)| (health, detail))
            .ok_or_else(|| BusError::NoSuchService("this service has just left the configuration".into()))
    }

    /// Does nothing about the service for so many seconds, however it answers; 0: until Resume(). It is watched on. A
    /// pause ends by itself and outlives the agent, not the machine. Asks polkit for org.nixarr.dagger1.pause.
    /// Errors: org.nixarr.Dagger1.Error.NotAuthorized, .InteractiveAuthorizationRequired, .InvalidArgument, .Throttled.
    #[zbus(proxy(allow_interactive_auth))]
    async fn pause(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
        seconds: u64,
    ) -> Result<(), BusError> {
        let length = Duration::from_secs(seconds);
        if length > PAUSE_MAX {
            return Err(BusError::InvalidArgument(
                "a pause takes 30 days at most; 0 is one without an end".into(),
            ));
        }
        let name = self.authorize(connection, &header, PAUSE).await?;
        ask(&self.queue, connection, &header, |answer| {
            Ask::Pause(name, length, answer)
        })
        .await
    }

    /// Ends a pause. Asks polkit for org.nixarr.dagger1.pause.
    /// Errors: as Pause().
    #[zbus(proxy(allow_interactive_auth))]
    async fn resume(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), BusError> {
        let name = self.authorize(connection, &header, PAUSE).await?;
        ask(&self.queue, connection, &header, |answer| {
            Ask::Resume(name, answer)
        })
        .await
    }

    /// The last events of the service, oldest first, 500 at most: microseconds of CLOCK_REALTIME, the event's name
    /// ("healthy", "recovery-started"), and its message. They are the journal's, so they outlive the agent.
    /// Errors: org.nixarr.Dagger1.Error.Throttled, .Failed when the journal cannot be read.
    #[zbus(out_args("events"))]
    async fn history(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
        count: u32,
    ) -> Result<Vec<Event>, BusError> {
        ask(&self.queue, connection, &header, Ask::Admit).await?;
        let name = self.view.borrow().name.clone();
        let events = past::events(&name, count.min(HISTORY_MAX))
            .await
            .map_err(|error| BusError::Failed(format!("the journal cannot be read: {error}")))?;
        Ok(events
            .into_iter()
            .map(|event| (event.at, event.what, event.message))
            .collect())
    }

    /// Why the service is as it is: the first cause along its dependencies in one sentence, whether that is certain, and
    /// what it rests on.
    /// Errors: org.nixarr.Dagger1.Error.Throttled.
    #[zbus(out_args("sentence", "certain", "evidence"))]
    async fn why(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Told, BusError> {
        let name = self.view.borrow().name.clone();
        ask(&self.queue, connection, &header, |answer| Ask::Why(name, answer)).await
    }

    /// The verdict is another one.
    #[zbus(signal, name = "HealthChanged")]
    pub async fn verdict_changed(
        emitter: &SignalEmitter<'_>,
        before: &str,
        after: &str,
        detail: &str,
    ) -> zbus::Result<()>;

    /// systemd is asked to restart the service, because it does not answer.
    #[zbus(signal)]
    pub async fn recovery_started(
        emitter: &SignalEmitter<'_>,
        attempt: u32,
        because: &str,
    ) -> zbus::Result<()>;

    /// It answers again, or has been given up.
    #[zbus(signal)]
    pub async fn recovery_finished(
        emitter: &SignalEmitter<'_>,
        recovered: bool,
        detail: &str,
    ) -> zbus::Result<()>;

    /// Name of the service in the configuration.
    #[zbus(property(emits_changed_signal = "const"))]
    fn name(&self) -> String {
        self.view.borrow().name.clone()
    }

    /// The catalogue entry that it is made from, or its own name.
    #[zbus(property)]
    fn kind(&self) -> String {
        self.view.borrow().kind.clone()
    }

    /// The systemd unit that runs it: the native one while that owns the data, else our own.
    #[zbus(property)]
    fn unit(&self) -> String {
        self.view.borrow().unit.clone()
    }

    /// Who owns its data: "container", "native" or "none".
    #[zbus(property)]
    fn owner(&self) -> String {
        self.view.borrow().owner.word().to_owned()
    }

    /// ActiveState of the unit, in systemd's words.
    #[zbus(property)]
    fn active_state(&self) -> String {
        self.view.borrow().active_state.clone()
    }

    /// SubState of the unit, in systemd's words.
    #[zbus(property)]
    fn sub_state(&self) -> String {
        self.view.borrow().sub_state.clone()
    }

    /// The verdict: "inactive", "healthy", "unknown", "starting", "degraded", "recovering", "unhealthy" or "failed".
    #[zbus(property)]
    fn health(&self) -> String {
        self.view.borrow().health.word().to_owned()
    }

    /// The reason for the verdict, in words: the last answer of the application, or what the unit is doing.
    #[zbus(property)]
    fn health_detail(&self) -> String {
        self.view.borrow().health_detail.clone()
    }

    /// When the verdict was reached, in microseconds of CLOCK_REALTIME.
    #[zbus(property)]
    fn since(&self) -> u64 {
        self.view.borrow().since
    }

    /// How long the application took for its last good answer, in microseconds; 0 before the first one. Read it when
    /// it is wanted: a change of this alone is not signalled, or an idle suite would never be silent.
    #[zbus(property(emits_changed_signal = "false"), name = "LatencyUSec")]
    fn latency_usec(&self) -> u64 {
        self.view.borrow().latency_usec
    }

    /// The port that it is asked on.
    #[zbus(property)]
    fn port(&self) -> u16 {
        self.view.borrow().port
    }

    /// Where people find it, or empty when it has no page.
    #[zbus(property)]
    fn url(&self) -> String {
        self.view.borrow().url.clone()
    }

    /// The image reference in the configuration.
    #[zbus(property)]
    fn image(&self) -> String {
        self.view.borrow().image.clone()
    }

    /// Digest of the image that was last started, or empty while that is not known.
    #[zbus(property)]
    fn image_digest(&self) -> String {
        self.view.borrow().image_digest.clone()
    }

    /// Version of the application by the label of its image, or empty.
    #[zbus(property)]
    fn version(&self) -> String {
        self.view.borrow().version.clone()
    }

    /// Main process of the unit, 0 when it does not run.
    #[zbus(property, name = "MainPID")]
    fn main_pid(&self) -> u32 {
        self.view.borrow().main_pid
    }

    /// Names of the services that this one would like to find answering.
    #[zbus(property)]
    fn wants(&self) -> Vec<String> {
        self.view.borrow().wants.clone()
    }

    /// What is waited for where the service does not answer and that is not its own doing, in one word: "not-mounted",
    /// "emptied", "disk-full", "read-only", "disk-error", "frozen", "stuck", "jump", "load", "together", "provider", "progress",
    /// "turn", "refused"; else empty.
    #[zbus(property)]
    fn cause(&self) -> String {
        self.view.borrow().cause.clone()
    }

    /// What the application itself says is wrong, while it answers: the reasons for "degraded".
    #[zbus(property)]
    fn problems(&self) -> Vec<String> {
        self.view.borrow().problems.clone()
    }

    /// What stands in its way, one sentence each: ports that somebody else has, its native unit beside its container.
    #[zbus(property)]
    fn conflicts(&self) -> Vec<String> {
        self.view.borrow().conflicts.clone()
    }

    /// Until when nothing is done about the service, in microseconds of CLOCK_REALTIME; 0: recovery is not paused; the
    /// largest number: until somebody resumes it.
    #[zbus(property)]
    fn paused_until(&self) -> u64 {
        self.view.borrow().paused_until
    }

    /// How often the agent has restarted it within the last hour.
    #[zbus(property)]
    fn recoveries(&self) -> u32 {
        self.view.borrow().recoveries
    }

    /// What a job is doing to it, in words: "being migrated: step stop"; empty: none is at work on it. The agent does nothing
    /// about the service meanwhile.
    #[zbus(property)]
    fn work(&self) -> String {
        self.view.borrow().work.clone()
    }

    /// Something was begun with it and neither finished nor undone, and no job is at work on that: Resume() of the manager.
    #[zbus(property)]
    fn interrupted(&self) -> bool {
        self.view.borrow().interrupted
    }
}
