//! What is known, out to the bus, the journal and `systemctl status`.

use std::collections::HashMap;
use std::path::Path;

use dagger_agent::adapter::bus::{
    JOB_INTERFACE, JobObject, JobView, MANAGER_INTERFACE, Manager, ManagerView, Owner, Request,
    SERVICE_INTERFACE, ServiceObject, ServiceView, job,
};
use dagger_agent::adapter::{clock, journal, notify, watchdog};
use dagger_agent::domain::event::Event;
use dagger_agent::domain::health::Health;
use dagger_agent::domain::machine::Watchdog;
use dagger_agent::domain::verdict::Phase;
use dagger_suite::names::{BUS_NAME, BUS_ROOT, ServiceName};
use sd_notify::NotifyState;
use tokio::sync::{mpsc, watch};
use zbus::fdo::{ObjectManager, Properties};
use zbus::names::InterfaceName;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, Variant};

use crate::entry::{BETWEEN, Entry};

/// What a service's object can signal besides its properties.
#[derive(Debug, Clone, Copy)]
pub enum Signal<'a> {
    /// The verdict is another one.
    Health {
        /// The one before.
        before: Health,
        /// The one now.
        after: Health,
        /// Why.
        detail: &'a str,
    },
    /// It is restarted.
    Started {
        /// Which attempt within the window this is.
        attempt: u32,
        /// Why.
        because: &'a str,
    },
    /// It answers again, or has been given up.
    Finished {
        /// It answers.
        recovered: bool,
        /// In words.
        detail: &'a str,
    },
}

/// Our side of the bus.
pub struct Bus {
    connection: Connection,
    manager: watch::Sender<ManagerView>,
    queue: mpsc::Sender<Request>,
}

impl Bus {
    /// Puts the root object up. The name is taken later, when everything is there.
    pub async fn serve(connection: Connection, queue: mpsc::Sender<Request>) -> zbus::Result<Self> {
        let manager = watch::Sender::new(ManagerView {
            version: env!("CARGO_PKG_VERSION").into(),
            health: Health::Inactive,
            services: Vec::new(),
            configuration_errors: Vec::new(),
            conflict_count: 0,
        });
        let server = connection.object_server();
        server
            .at(BUS_ROOT, Manager::new(manager.subscribe(), queue.clone()))
            .await?;
        server.at(BUS_ROOT, ObjectManager).await?;
        Ok(Self {
            connection,
            manager,
            queue,
        })
    }

    /// Takes the name: from here on callers find us.
    pub async fn take_name(&self) -> zbus::Result<()> {
        self.connection.request_name(BUS_NAME).await
    }

    /// Puts a service's object up.
    pub async fn add(&self, entry: &Entry) -> zbus::Result<()> {
        let object = ServiceObject::new(entry.view.subscribe(), self.queue.clone());
        self.connection
            .object_server()
            .at(entry.service.name.object_path(), object)
            .await?;
        Ok(())
    }

    /// Takes a service's object down.
    pub async fn remove(&self, name: &ServiceName) -> zbus::Result<()> {
        self.connection
            .object_server()
            .remove::<ServiceObject, _>(name.object_path())
            .await?;
        Ok(())
    }

    /// Publishes the suite as a whole, where it changed.
    pub async fn manager(&self, change: impl FnOnce(&mut ManagerView)) -> zbus::Result<()> {
        let mut new = self.manager.borrow().clone();
        change(&mut new);
        let old = self.manager.send_replace(new.clone());
        self.changed(BUS_ROOT, MANAGER_INTERFACE, new.changes(&old)).await
    }

    /// Publishes a service, where it changed: one signal for all its properties.
    pub async fn service(&self, entry: &Entry, new: ServiceView) -> zbus::Result<()> {
        let old = entry.view.send_replace(new.clone());
        let path = entry.service.name.object_path();
        self.changed(&path, SERVICE_INTERFACE, new.changes(&old)).await
    }

    /// Puts a job's object up.
    pub async fn add_job(&self, number: u64, view: watch::Receiver<JobView>) -> zbus::Result<()> {
        let object = JobObject::new(view, self.queue.clone());
        self.connection
            .object_server()
            .at(job::path(number), object)
            .await?;
        Ok(())
    }

    /// Takes a job's object down.
    pub async fn remove_job(&self, number: u64) -> zbus::Result<()> {
        self.connection
            .object_server()
            .remove::<JobObject, _>(job::path(number))
            .await?;
        Ok(())
    }

    /// Publishes a job, where it changed.
    pub async fn job(&self, number: u64, new: &JobView, old: &JobView) -> zbus::Result<()> {
        self.changed(&job::path(number), JOB_INTERFACE, new.changes(old))
            .await
    }

    /// A signal of a service's object.
    pub async fn signal(&self, name: &ServiceName, signal: Signal<'_>) -> zbus::Result<()> {
        let emitter = SignalEmitter::new(&self.connection, name.object_path())?;
        match signal {
            Signal::Health {
                before,
                after,
                detail,
            } => ServiceObject::verdict_changed(&emitter, before.word(), after.word(), detail).await,
            Signal::Started { attempt, because } => {
                ServiceObject::recovery_started(&emitter, attempt, because).await
            }
            Signal::Finished { recovered, detail } => {
                ServiceObject::recovery_finished(&emitter, recovered, detail).await
            }
        }
    }

    async fn changed(
        &self,
        path: &str,
        interface: &'static str,
        changes: HashMap<&'static str, Variant<'_>>,
    ) -> zbus::Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let emitter = SignalEmitter::new(&self.connection, path)?;
        let interface = InterfaceName::from_static_str(interface)?;
        Properties::properties_changed(&emitter, interface, changes, (&[]).into()).await
    }
}

/// The properties of a service by what is known of it; the verdict's words and times are as they were.
pub fn view(entry: &Entry) -> ServiceView {
    let old = entry.view.borrow().clone();
    let unit = entry.unit();
    ServiceView {
        kind: entry.service.kind.clone(),
        unit: unit.name.clone(),
        owner: entry.owner,
        active_state: unit.active_state.clone(),
        sub_state: unit.sub_state.clone(),
        health: entry.machine.health(),
        health_detail: detail(entry),
        port: entry.service.port,
        url: entry.service.url.clone(),
        image: entry.service.image.clone(),
        image_digest: entry.image.0.clone(),
        version: entry.image.1.clone(),
        main_pid: unit.main_pid,
        wants: entry.service.wants.clone(),
        cause: entry
            .machine
            .recovery()
            .cause()
            .map_or(String::new(), |cause| cause.word().into()),
        problems: entry.machine.problems().to_vec(),
        paused_until: entry.machine.paused().map_or(0, |until| {
            clock::steady(old.paused_until, clock::realtime_usec_at(until))
        }),
        recoveries: entry.machine.recovery().attempts(),
        work: entry.work.clone(),
        interrupted: entry.interrupted,
        ..old
    }
}

/// The reason for the verdict; where the unit does not run, with the reason that the gate gave.
fn detail(entry: &Entry) -> String {
    let detail = entry.machine.detail();
    match entry.unit().reason() {
        Some(reason) if !detail.contains(reason) => format!("{detail}: {reason}"),
        _ => detail,
    }
}

/// Tells the journal of something about a service, in our own log and in the service's.
pub fn tell_event(entry: &Entry, event: &Event, values: &[(&str, &str)]) {
    let unit = entry.unit();
    let pid = unit.main_pid.to_string();
    let mut all = vec![
        ("DAGGER_SERVICE", entry.service.name.as_str()),
        ("DAGGER_UNIT", unit.name.as_str()),
    ];
    all.extend_from_slice(values);
    if unit.main_pid != 0 {
        all.push(("OBJECT_PID", pid.as_str()));
    }
    journal::tell(event, &all);
}

/// Tells the journal of a new verdict, in our own log and in the service's.
pub fn tell(entry: &Entry, view: &ServiceView) {
    let values = [
        ("DAGGER_HEALTH", view.health.word()),
        ("DAGGER_DETAIL", view.health_detail.as_str()),
    ];
    tell_event(entry, Event::of(view.health), &values);
}

/// Shows the verdict in `systemctl status` of the container's unit, where it is not shown already.
///
/// While the unit starts or stops, its status is the gate's; a native unit's status is its own.
pub fn status(entry: &mut Entry, view: &ServiceView) {
    let unit = entry.unit();
    if view.owner != Owner::Container || unit.phase() != Phase::Active || unit.main_pid == 0 {
        return;
    }
    let text = (
        unit.main_pid,
        format!("{}{BETWEEN}{}", view.health.word(), view.health_detail),
    );
    if entry.said == text {
        return;
    }
    let socket = Path::new(notify::MANAGER_SOCKET);
    // The process may have gone a moment ago, and without systemd (a test) there is no socket: both are no news.
    match notify::on_behalf(socket, text.0, &[NotifyState::Status(&text.1)]) {
        Ok(()) => entry.said = text,
        Err(error) => log::debug!("{}: STATUS= was not taken: {error}", view.name),
    }
}

/// Tells systemd's watchdog of a container's unit.
pub fn watchdog(entry: &Entry, told: Watchdog) {
    let unit = entry.unit();
    if unit.main_pid == 0 {
        return;
    }
    // As with the status: the process may have gone a moment ago.
    if let Err(error) = watchdog::tell(unit.main_pid, told) {
        log::debug!("{}: the watchdog was not told: {error}", entry.service.name);
    }
}

/// The suite in one sentence, for our own `systemctl status`.
pub fn summary(parts: impl Iterator<Item = Health>) -> String {
    let mut counts: Vec<(Health, u32)> = Health::ALL.iter().map(|(_, health)| (*health, 0)).collect();
    let mut all = 0_u32;
    for part in parts {
        all += 1;
        counts
            .iter_mut()
            .filter(|(health, _)| *health == part)
            .for_each(|(_, count)| *count += 1);
    }
    let words: Vec<String> = counts
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(health, count)| format!("{count} {}", health.word()))
        .collect();
    match all {
        0 => "no services are configured".into(),
        _ => format!("{all} services: {}", words.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suite_in_one_sentence() {
        assert_eq!(summary([].into_iter()), "no services are configured");
        let parts = [Health::Healthy, Health::Failed, Health::Healthy];
        assert_eq!(summary(parts.into_iter()), "3 services: 2 healthy, 1 failed");
    }
}
