//! The few members of systemd that the agent uses, as small proxies of its own (org.freedesktop.systemd1(5)).
//!
//! Nothing is polled: after [`Systemd::watch`] systemd says itself what happens to units, and when it has read its own
//! configuration again. The loop that owns the state never waits for a call: signals and answers reach it as [`News`].

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use dagger_suite::names::path_element;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;
use zbus::export::futures_core::Stream;
use zbus::message::Type;
use zbus::names::InterfaceName;
use zbus::proxy::CacheProperties;
use zbus::{Connection, MatchRule, Message, MessageStream, OwnedVariant, Variant, proxy};

/// Name of systemd on the bus.
pub const NAME: &str = "org.freedesktop.systemd1";
const UNITS: &str = "/org/freedesktop/systemd1/unit";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
/// Questions that may wait for their answers at once; a bus allows 128 (dbus-daemon(1), max_replies_per_connection).
const AT_ONCE: usize = 32;

/// One row of `ListUnitsByNames`: name, description, load state, active state, sub state, followed unit, object path,
/// job id, job type, job path.
type Row = (
    String,
    String,
    String,
    String,
    String,
    String,
    zbus::OwnedObjectPath,
    u32,
    String,
    zbus::OwnedObjectPath,
);

#[proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    /// Its answer is not waited for: systemd takes calls in order, so that what is asked later is already watched.
    #[zbus(no_reply)]
    fn subscribe(&self) -> zbus::Result<()>;
    fn list_units_by_names(&self, names: &[&str]) -> zbus::Result<Vec<Row>>;
}

/// What systemd says about one unit; what it has not said this time is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    /// LoadState: `loaded`, `not-found`, `masked`.
    pub load_state: Option<String>,
    /// ActiveState.
    pub active_state: Option<String>,
    /// SubState.
    pub sub_state: Option<String>,
    /// Main process, 0: none.
    pub main_pid: Option<u32>,
    /// When the last start began (CLOCK_MONOTONIC).
    pub started: Option<Duration>,
    /// What it last said of itself: `STATUS=` of sd_notify(3).
    pub status: Option<String>,
}

impl Change {
    /// Whether anything was said at all.
    fn is_some(&self) -> bool {
        *self != Self::default()
    }
}

/// What comes from systemd.
#[derive(Debug)]
pub enum News {
    /// A unit changed; by its name.
    Unit(String, Change),
    /// systemd has read its units again.
    Reloaded,
    /// A question to systemd was answered by an error.
    Failed(zbus::Error),
    /// The stream of news has ended: the bus is gone.
    Ended,
}

/// The way to systemd over one connection.
#[derive(Debug, Clone)]
pub struct Systemd {
    connection: Connection,
    manager: ManagerProxy<'static>,
}

impl Systemd {
    /// Asks systemd for signals and sends everything that they say to `news`.
    ///
    /// Streams run in tasks of their own, so that a queue which nobody empties cannot hold up the connection.
    pub async fn watch(connection: &Connection, news: UnboundedSender<News>) -> zbus::Result<Self> {
        let manager = ManagerProxy::builder(connection)
            .cache_properties(CacheProperties::No)
            .build()
            .await?;
        // `arg0` keeps away what timers, scopes and sockets have to say.
        for interface in [UNIT, SERVICE] {
            let rule = MatchRule::builder()
                .msg_type(Type::Signal)
                .sender(NAME)
                .interface(PROPERTIES)
                .member("PropertiesChanged")
                .path_namespace(UNITS)
                .arg(0, interface)
                .build()?;
            forward(
                MessageStream::for_match_rule(rule, connection, None).await?,
                news.clone(),
                unit_changed,
            );
        }
        let rule = MatchRule::builder()
            .msg_type(Type::Signal)
            .sender(NAME)
            .interface("org.freedesktop.systemd1.Manager")
            .member("Reloading")
            .build()?;
        forward(
            MessageStream::for_match_rule(rule, connection, None).await?,
            news,
            reloaded,
        );
        manager.subscribe().await?;
        Ok(Self {
            connection: connection.clone(),
            manager,
        })
    }

    /// How these units are now. systemd loads those that it does not know yet, so each name has an answer.
    pub async fn units(&self, names: &[&str]) -> zbus::Result<Vec<(String, Change)>> {
        let rows = self.manager.list_units_by_names(names).await?;
        let mut units = Vec::with_capacity(rows.len());
        let mut running = Vec::new();
        for (name, _, load_state, active_state, sub_state, ..) in rows {
            let runs = active_state != "inactive";
            if runs {
                running.push(name.clone());
            }
            let change = Change {
                load_state: Some(load_state),
                active_state: Some(active_state),
                sub_state: Some(sub_state),
                main_pid: (!runs).then_some(0),
                ..Change::default()
            };
            units.push((name, change));
        }
        for names in running.chunks(AT_ONCE) {
            let mut asked = JoinSet::new();
            for name in names {
                asked.spawn(self.clone().details(name.clone()));
            }
            while let Some(details) = asked.join_next().await {
                match details {
                    Ok(Ok(details)) => units.push(details),
                    // A unit that is no service has no main process.
                    Ok(Err(error)) => log::debug!("systemd says no more of a unit: {error}"),
                    Err(error) => log::warn!("a question to systemd was not put: {error}"),
                }
            }
        }
        Ok(units)
    }

    /// What the list leaves out.
    async fn details(self, name: String) -> zbus::Result<(String, Change)> {
        let path = object_path(&name);
        let get = async |interface, property| {
            let reply = self
                .connection
                .call_method(
                    Some(NAME),
                    path.as_str(),
                    Some(PROPERTIES),
                    "Get",
                    &(interface, property),
                )
                .await?;
            reply.body().deserialize::<OwnedVariant>()
        };
        let main_pid = u32::try_from(get(SERVICE, "MainPID").await?).ok();
        let started = u64::try_from(get(UNIT, "InactiveExitTimestampMonotonic").await?);
        let status = String::try_from(get(SERVICE, "StatusText").await?);
        let change = Change {
            main_pid,
            status: status.ok(),
            started: started.ok().map(Duration::from_micros),
            ..Change::default()
        };
        Ok((name, change))
    }

    /// The same in a task of its own, for a loop that must not wait.
    pub fn ask(&self, names: Vec<String>, news: UnboundedSender<News>) {
        let this = self.clone();
        tokio::spawn(async move {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            match this.units(&names).await {
                // The receiver is only gone when the program ends.
                Ok(units) => units.into_iter().for_each(|(name, change)| {
                    let _ = news.send(News::Unit(name, change));
                }),
                Err(error) => {
                    let _ = news.send(News::Failed(error));
                }
            }
        });
    }
}

/// Sends what `decode` makes of each message to `news`, until the bus is gone.
fn forward(mut stream: MessageStream, news: UnboundedSender<News>, decode: fn(&Message) -> Option<News>) {
    tokio::spawn(async move {
        while let Some(message) = poll_fn(|context| Pin::new(&mut stream).poll_next(context)).await {
            let Ok(message) = message else { break };
            if let Some(item) = decode(&message)
                && news.send(item).is_err()
            {
                return;
            }
        }
        let _ = news.send(News::Ended);
    });
}

/// Decodes `PropertiesChanged` of a unit.
fn unit_changed(message: &Message) -> Option<News> {
    let header = message.header();
    let name = unit_name(header.path()?.as_str())?;
    let body = message.body();
    let (_, changed, _) = body
        .deserialize::<(InterfaceName<'_>, HashMap<&str, Variant<'_>>, Vec<&str>)>()
        .ok()?;
    let text = |property| match changed.get(property) {
        Some(Variant::Str(text)) => Some(text.as_str().to_owned()),
        _ => None,
    };
    let change = Change {
        load_state: text("LoadState"),
        active_state: text("ActiveState"),
        sub_state: text("SubState"),
        main_pid: match changed.get("MainPID") {
            Some(Variant::U32(pid)) => Some(*pid),
            _ => None,
        },
        started: match changed.get("InactiveExitTimestampMonotonic") {
            Some(Variant::U64(usec)) => Some(Duration::from_micros(*usec)),
            _ => None,
        },
        status: text("StatusText"),
    };
    change.is_some().then_some(News::Unit(name, change))
}

/// Decodes `Reloading`: `true` when it begins, `false` when it is done.
fn reloaded(message: &Message) -> Option<News> {
    let active: bool = message.body().deserialize().ok()?;
    (!active).then_some(News::Reloaded)
}

/// Object path of a unit (org.freedesktop.systemd1(5)).
pub fn object_path(unit: &str) -> String {
    format!("{UNITS}/{}", path_element(unit))
}

/// Unit of an object path; the reverse of [`object_path`].
fn unit_name(path: &str) -> Option<String> {
    let mut rest = path.strip_prefix(UNITS)?.strip_prefix('/')?;
    let mut name = Vec::new();
    while let Some((before, after)) = rest.split_once('_') {
        name.extend_from_slice(before.as_bytes());
        name.push(u8::from_str_radix(after.get(..2)?, 16).ok()?);
        rest = after.get(2..)?;
    }
    name.extend_from_slice(rest.as_bytes());
    String::from_utf8(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_names_survive_the_way_to_an_object_path_and_back() {
        for (name, path) in [
            ("dagger-sonarr.service", "dagger_2dsonarr_2eservice"),
            ("4k@a\\x2d.service", "_34k_40a_5cx2d_2eservice"),
        ] {
            assert_eq!(object_path(name), format!("{UNITS}/{path}"));
            assert_eq!(unit_name(&object_path(name)).as_deref(), Some(name));
        }
        for bad in [
            "/org/freedesktop/systemd1",
            "/org/freedesktop/systemd1/unit/a_",
            "x",
            "/org/freedesktop/systemd1/unit/a_zz",
        ] {
            assert_eq!(unit_name(bad), None, "{bad}");
        }
    }

    fn signal(changed: &HashMap<&str, Variant<'_>>) -> Message {
        let interface = InterfaceName::try_from(UNIT).unwrap();
        Message::signal(object_path("dagger-x.service"), PROPERTIES, "PropertiesChanged")
            .build(&(interface, changed, Vec::<&str>::new()))
            .unwrap()
    }

    #[test]
    fn signals_are_decoded_and_those_about_other_things_are_dropped() {
        let changed = HashMap::from([
            ("ActiveState", Variant::from("active")),
            ("MainPID", Variant::from(7_u32)),
            ("InactiveExitTimestampMonotonic", Variant::from(5_000_000_u64)),
            ("Job", Variant::from(1_u32)),
        ]);
        let Some(News::Unit(name, change)) = unit_changed(&signal(&changed)) else {
            panic!("not decoded")
        };
        assert_eq!(name, "dagger-x.service");
        assert_eq!(change.active_state.as_deref(), Some("active"));
        assert_eq!(
            (change.main_pid, change.started),
            (Some(7), Some(Duration::from_secs(5)))
        );
        assert!(unit_changed(&signal(&HashMap::from([("Job", Variant::from("x"))]))).is_none());
        let wrong_type = HashMap::from([("MainPID", Variant::from("7"))]);
        assert!(unit_changed(&signal(&wrong_type)).is_none());
    }
}
