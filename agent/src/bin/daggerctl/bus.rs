//! The client's end of the bus: one connection, one question each. Every call ends in time, and every error is one of ours.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use dagger_agent::adapter::bus::{
    BusError, Checked, ConflictView, Event, ManagerProxy, ServiceProxy, Told, client,
};
use dagger_agent::adapter::systemd::object_path;
use dagger_agent::domain::health::Health;
use dagger_suite::names::{AGENT_UNIT, BUS_NAME, BUS_ROOT, ServiceName};
use zbus::export::futures_core::Stream;
use zbus::fdo::{self, PropertiesProxy};
use zbus::names::InterfaceName;
use zbus::{Connection, MatchRule, MessageStream, OwnedObjectPath, OwnedVariant, Proxy, connection, message};

use crate::error::Error;
use crate::report::{Report, Service, unknown};

/// How long an answer may take. `Check` waits for the applications themselves, each with a time limit of its own.
const PATIENCE: Duration = Duration::from_mins(1);
/// The same where somebody may be looking for a password.
const PATIENCE_WITH_PEOPLE: Duration = Duration::from_mins(5);
/// The agent lets each user ask so often; a question too many is put again after this time.
const AGAIN: Duration = Duration::from_millis(250);
/// And so often at most: with the agent's own limit, that is enough for a thousand services.
const TRIES: u32 = 40;

/// systemd's bus name and root object (org.freedesktop.systemd1(5)).
const SYSTEMD: (&str, &str) = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1");

/// One row of systemd's `ListUnits` family (org.freedesktop.systemd1(5)): name, description, load, active and sub state,
/// followed unit, object path, and the queued job's number, kind and path.
type ListedUnit = (
    String,
    String,
    String,
    String,
    String,
    String,
    OwnedObjectPath,
    u32,
    String,
    OwnedObjectPath,
);

/// A connection to the system bus.
pub struct Bus(Connection);

impl Bus {
    /// Connects (`DBUS_SYSTEM_BUS_ADDRESS` moves the bus, as for every program).
    pub async fn connect() -> Result<Self, Error> {
        Self::with(PATIENCE).await
    }

    /// The same for what polkit asks people about.
    pub async fn connect_for_people() -> Result<Self, Error> {
        Self::with(PATIENCE_WITH_PEOPLE).await
    }

    async fn with(patience: Duration) -> Result<Self, Error> {
        let connection = connection::Builder::system()
            .method_timeout(patience)
            .build()
            .await;
        connection
            .map(Self)
            .map_err(|error| Error::NoAgent(format!("no system bus: {error}")))
    }

    /// Everything that the agent knows, with the memory that systemd counts.
    pub async fn report(&self) -> Result<Report, Error> {
        let (manager, services) = client::suite(&self.0).await.map_err(of_bus)?;
        let mut report = Report::of_agent(manager, services);
        for service in report.services.iter_mut().filter(|service| service.is_up()) {
            service.memory_bytes = self.memory(&service.view.unit).await;
        }
        // systemd's own failure would only hide what the agent has said.
        let running = self.listed(&["active", "reloading"]).await.unwrap_or_default();
        let running = running.into_iter().map(|(name, _)| name.to_string());
        report.unwatched = running
            .filter(|name| report.names().all(|known| known != name))
            .collect();
        Ok(report)
    }

    /// Asks all applications now.
    pub async fn check_all(&self) -> Result<Vec<Checked>, Error> {
        let manager = ManagerProxy::new(&self.0).await.map_err(of_bus)?;
        manager.check().await.map_err(of_agent)
    }

    /// Asks one application now.
    pub async fn check(&self, name: &ServiceName) -> Result<Checked, Error> {
        let (health, detail) = self.service(name).await?.check().await.map_err(of_agent)?;
        Ok((name.to_string(), health, detail))
    }

    /// Why a service is as it is.
    pub async fn why(&self, name: &ServiceName) -> Result<Told, Error> {
        let service = self.service(name).await?;
        patiently(async || service.why().await).await
    }

    /// What stands in the suite's way, by a look at this moment.
    pub async fn conflicts(&self) -> Result<Vec<ConflictView>, Error> {
        let manager = ManagerProxy::new(&self.0).await.map_err(of_bus)?;
        patiently(async || manager.conflicts().await).await
    }

    /// The last events of a service, oldest first.
    pub async fn history(&self, name: &ServiceName, count: u32) -> Result<Vec<Event>, Error> {
        let service = self.service(name).await?;
        patiently(async || service.history(count).await).await
    }

    /// Has the agent leave a service alone for so many seconds; 0: until [`Bus::resume`]. polkit may ask for a password.
    pub async fn pause(&self, name: &ServiceName, seconds: u64) -> Result<(), Error> {
        self.service(name).await?.pause(seconds).await.map_err(of_agent)
    }

    /// Ends a pause. polkit may ask for a password.
    pub async fn resume(&self, name: &ServiceName) -> Result<(), Error> {
        self.service(name).await?.resume().await.map_err(of_agent)
    }

    /// The connection itself.
    pub fn connection(&self) -> &Connection {
        &self.0
    }

    async fn service(&self, name: &ServiceName) -> Result<ServiceProxy<'_>, Error> {
        let service = ServiceProxy::builder(&self.0).path(name.object_path()).build();
        service.await.map_err(of_bus)
    }

    /// What systemd alone says of the suite's units that it has loaded, by name.
    pub async fn units(&self) -> Result<Vec<Service>, Error> {
        let mut services = Vec::new();
        for (name, unit) in self.listed(&[]).await? {
            let mut service = unknown(name.as_str(), unit);
            self.observe(&mut service).await;
            services.push(service);
        }
        Ok(services)
    }

    /// The services whose units systemd has loaded and that are in one of these states (none: in any), by name.
    async fn listed(&self, states: &[&str]) -> Result<Vec<(ServiceName, String)>, Error> {
        let listed = async {
            let manager =
                Proxy::new(&self.0, SYSTEMD.0, SYSTEMD.1, "org.freedesktop.systemd1.Manager").await?;
            manager
                .call("ListUnitsByPatterns", &(states, &["dagger-*.service"][..]))
                .await
        };
        let listed: Vec<ListedUnit> = listed
            .await
            .map_err(|error: zbus::Error| Error::Failed(format!("systemd cannot be asked: {error}")))?;
        let units = listed.into_iter().map(|(unit, ..)| unit);
        let mut services: Vec<_> = units
            .filter_map(|unit| Some((ServiceName::of_unit(&unit)?, unit)))
            .collect();
        services.sort_unstable();
        Ok(services)
    }

    /// Fills in what systemd knows of the service's unit; leaves it as it is when systemd cannot be asked.
    pub async fn observe(&self, service: &mut Service) {
        let unit = service.view.unit.clone();
        let Some(active_state) = self.unit_property::<String>(&unit, "Unit", "ActiveState").await else {
            return;
        };
        service.view.health = match active_state.as_str() {
            "failed" => Health::Failed,
            "inactive" => Health::Inactive,
            _ => Health::Unknown,
        };
        service.view.active_state = active_state;
        service.view.sub_state = self
            .unit_property(&unit, "Unit", "SubState")
            .await
            .unwrap_or_default();
        let since = self.unit_property(&unit, "Unit", "StateChangeTimestamp").await;
        service.view.since = since.unwrap_or(0);
        service.view.main_pid = self.unit_property(&unit, "Service", "MainPID").await.unwrap_or(0);
        service.memory_bytes = self.memory(&unit).await;
    }

    /// One property of a unit; none when it is of another type or systemd cannot be asked.
    async fn unit_property<T: TryFrom<OwnedVariant>>(
        &self,
        unit: &str,
        interface: &str,
        name: &str,
    ) -> Option<T> {
        let interface = InterfaceName::try_from(format!("{}.{interface}", SYSTEMD.0)).ok()?;
        let properties = PropertiesProxy::builder(&self.0)
            .destination(SYSTEMD.0)
            .path(object_path(unit));
        T::try_from(properties.build().await.ok()?.get(interface, name).await.ok()?).ok()
    }

    /// Memory of a unit. The largest number stands for "not counted" (org.freedesktop.systemd1(5)).
    async fn memory(&self, unit: &str) -> Option<u64> {
        let memory = self.unit_property(unit, "Service", "MemoryCurrent").await;
        memory.filter(|bytes| !matches!(bytes, 0 | &u64::MAX))
    }

    /// Signals that say that a report is out of date: everything that the agent emits, and its coming and going.
    pub async fn changes(&self) -> Result<Changes, Error> {
        let streams = async {
            let signal = || MatchRule::builder().msg_type(message::Type::Signal);
            let emitted = signal().sender(BUS_NAME).path_namespace(BUS_ROOT).build()?;
            let owner = signal()
                .sender("org.freedesktop.DBus")
                .member("NameOwnerChanged")
                .arg(0, BUS_NAME)
                .build()?;
            Ok(Changes([
                MessageStream::for_match_rule(emitted, &self.0, None).await?,
                MessageStream::for_match_rule(owner, &self.0, None).await?,
            ]))
        };
        streams.await.map_err(of_bus)
    }
}

/// Puts a question until the agent has time for it: it limits how often a user may ask.
pub async fn patiently<T>(question: impl AsyncFn() -> Result<T, BusError>) -> Result<T, Error> {
    for _ in 0..TRIES {
        match question().await {
            Err(BusError::Throttled(_)) => tokio::time::sleep(AGAIN).await,
            answer => return answer.map_err(of_agent),
        }
    }
    question().await.map_err(of_agent)
}

/// See [`Bus::changes`].
pub struct Changes([MessageStream; 2]);

impl Changes {
    /// Waits for the next signal; an error when the bus is gone.
    pub async fn next(&mut self) -> Result<(), Error> {
        let next = poll_fn(|context| {
            let mut ready = self
                .0
                .iter_mut()
                .map(|stream| Pin::new(stream).poll_next(context));
            ready.find(Poll::is_ready).unwrap_or(Poll::Pending)
        });
        match next.await {
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(of_bus(error)),
            None => Err(Error::NoAgent("the system bus has gone away".into())),
        }
    }
}

/// What an error of one of the agent's methods means: its own errors speak for themselves.
pub fn of_agent(error: BusError) -> Error {
    match error {
        BusError::ZBus(error) => of_bus(error),
        BusError::NoSuchService(text) | BusError::InvalidArgument(text) => Error::Usage(text),
        BusError::NotAuthorized(text) | BusError::InteractiveAuthorizationRequired(text) => {
            Error::NotAuthorized(text)
        }
        BusError::Throttled(text)
        | BusError::ConfigurationInvalid(text)
        | BusError::Busy(text)
        | BusError::NothingToDo(text)
        | BusError::Failed(text) => Error::Failed(text),
    }
}

/// What a failed call means. A refusal is one; everything else (nobody has the name, it could not be started, it does not
/// answer) means that the agent cannot be reached.
pub fn of_bus(error: zbus::Error) -> Error {
    match error {
        zbus::Error::FDO(error) => match *error {
            fdo::Error::AccessDenied(why)
            | fdo::Error::AuthFailed(why)
            | fdo::Error::InteractiveAuthorizationRequired(why) => Error::NotAuthorized(why),
            fdo::Error::ServiceUnknown(_) | fdo::Error::NameHasNoOwner(_) => {
                Error::NoAgent(format!("{AGENT_UNIT} is not installed or does not run"))
            }
            other => Error::NoAgent(other.to_string()),
        },
        zbus::Error::MethodError(_, Some(text), _) => Error::NoAgent(text.trim_end_matches('.').to_owned()),
        zbus::Error::InputOutput(error) if error.kind() == io::ErrorKind::TimedOut => {
            Error::NoAgent("it does not answer in time".into())
        }
        other => Error::NoAgent(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_not_an_agent_that_cannot_be_reached() {
        let of = |error: fdo::Error| of_bus(zbus::Error::FDO(Box::new(error))).exit();
        assert_eq!(of(fdo::Error::AccessDenied("no".into())), 4);
        assert_eq!(of(fdo::Error::ServiceUnknown("x".into())), 5);
        assert_eq!(of(fdo::Error::NoReply("x".into())), 5);
        assert_eq!(
            of_agent(BusError::Throttled("later".into())),
            Error::Failed("later".into())
        );
    }
}
