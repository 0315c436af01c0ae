//! `org.nixarr.Dagger1.Service`: one service of the suite.

use tokio::sync::{mpsc, watch};
use zbus::{interface, message::Header};

use super::{Ask, BusError, Request, ServiceView, ask};

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
    async fn check(&self, #[zbus(header)] header: Header<'_>) -> Result<(String, String), BusError> {
        let name = self.view.borrow().name.clone();
        let checked = ask(&self.queue, &header, |answer| Ask::Check(Some(name), answer)).await?;
        checked
            .into_iter()
            .next()
            .map(|(_, health, detail)| (health, detail))
            .ok_or_else(|| BusError::NoSuchService("this service has just left the configuration".into()))
    }

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

    /// The verdict: "inactive", "healthy", "unknown", "starting", "degraded", "unhealthy" or "failed".
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
}
