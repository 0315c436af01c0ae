//! The few members of systemd that the agent uses, as small proxies of its own (org.freedesktop.systemd1(5)).
//!
//! Nothing is polled: after [`Systemd::watch`] systemd says itself what happens to units, and when it has read its own
//! configuration again. The loop that owns the state never waits for a call: signals and answers reach it as [`News`].

mod decode;
mod jobs;
mod listen;

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use dagger_suite::names::path_element;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;
use tokio::task::JoinSet;
use zbus::export::futures_core::Stream;
use zbus::fdo::{self, DBusProxy};
use zbus::message::{Sequence, Type};
use zbus::names::UniqueName;
use zbus::proxy::CacheProperties;
use zbus::{Connection, MatchRule, Message, MessageStream, OwnedVariant, proxy};

/// Name of systemd on the bus.
pub const NAME: &str = "org.freedesktop.systemd1";
const BUS: &str = "org.freedesktop.DBus";
const UNITS: &str = "/org/freedesktop/systemd1/unit";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
/// Questions that may wait for their answers at once; a bus allows 128 (dbus-daemon(1), max_replies_per_connection).
const AT_ONCE: usize = 32;

/// What a message says, where it says anything.
type Decoder = fn(&Message) -> Option<News>;

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
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<zbus::OwnedObjectPath>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<zbus::OwnedObjectPath>;
    fn restart_unit(&self, name: &str, mode: &str) -> zbus::Result<zbus::OwnedObjectPath>;
    fn try_restart_unit(&self, name: &str, mode: &str) -> zbus::Result<zbus::OwnedObjectPath>;
    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;
    fn kill_unit(&self, name: &str, whom: &str, signal: i32) -> zbus::Result<()>;
    fn list_units_by_patterns(&self, states: &[&str], patterns: &[&str]) -> zbus::Result<Vec<Row>>;
}

/// What systemd is asked to do with a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Start it, whatever its start limit says.
    Start,
    /// Stop it.
    Stop,
    /// Stop it as its unit says, then start it.
    Restart,
    /// The same, unless it is stopped: what somebody has stopped stays so. A unit that systemd is about to start again is
    /// started at once.
    TryRestart,
}

/// What systemd says about one unit; what it has not said this time is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    /// When it was said: signals and answers come to us by different ways, and one may overtake the other.
    pub at: Sequence,
    /// It was asked for.
    pub asked: bool,
    /// LoadState: `loaded`, `not-found`, `masked`.
    pub load_state: Option<String>,
    /// ActiveState.
    pub active_state: Option<String>,
    /// SubState.
    pub sub_state: Option<String>,
    /// Whether a job of systemd's for it is not done: a start that follows a stop, for instance.
    pub job: Option<bool>,
    /// Main process, 0: none.
    pub main_pid: Option<u32>,
    /// When the last start began (CLOCK_MONOTONIC).
    pub started: Option<Duration>,
    /// What it last said of itself: `STATUS=` of sd_notify(3).
    pub status: Option<String>,
    /// Result: `success`, `exit-code`, `watchdog`.
    pub result: Option<String>,
    /// ExecMainCode: how the main process ended, in the numbers of waitid(2); 0 while it runs.
    pub exit_code: Option<i32>,
    /// ExecMainStatus: its exit status, or the signal.
    pub exit_status: Option<i32>,
}

impl Change {
    /// Whether anything was said at all.
    fn is_some(&self) -> bool {
        let nothing = Self {
            at: self.at,
            asked: self.asked,
            ..Self::default()
        };
        *self != nothing
    }

    /// Whether it is an answer that is older than what was heard since: it must not be taken for how the unit is.
    pub fn is_overtaken(&self, heard: Sequence) -> bool {
        self.asked && self.at < heard
    }
}

/// What comes from systemd.
#[derive(Debug)]
pub enum News {
    /// A unit changed; by its name.
    Unit(String, Change),
    /// systemd has read its units again.
    Reloaded,
    /// A unit was to be started, and something that it requires could not be.
    Unstarted(String),
    /// systemd would not do with a unit what it was asked: its words.
    Denied(String, String),
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
    /// Streams run in tasks of their own, so that a queue which nobody empties cannot hold up the connection. Only what the
    /// owner of systemd's name sends is heard: the bus lets everybody send a signal that looks like one of systemd's to us
    /// alone, and a match rule on the client's side knows no well-known names.
    pub async fn watch(connection: &Connection, news: UnboundedSender<News>) -> zbus::Result<Self> {
        let manager = ManagerProxy::builder(connection)
            .cache_properties(CacheProperties::No)
            .build()
            .await?;
        let owner = watch_owner(connection, &manager, news.clone()).await?;
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
                owner.clone(),
                decode::unit_changed,
            );
        }
        let decoders: [(_, Decoder); 2] =
            [("Reloading", decode::reloaded), ("JobRemoved", decode::unstarted)];
        for (member, decode) in decoders {
            let rule = MatchRule::builder()
                .msg_type(Type::Signal)
                .sender(NAME)
                .interface("org.freedesktop.systemd1.Manager")
                .member(member)
                .build()?;
            forward(
                MessageStream::for_match_rule(rule, connection, None).await?,
                news.clone(),
                owner.clone(),
                decode,
            );
        }
        manager.subscribe().await?;
        Ok(Self {
            connection: connection.clone(),
            manager,
        })
    }

    /// How these units are now. systemd loads those that it does not know yet, so each name has an answer.
    pub async fn units(&self, names: &[&str]) -> zbus::Result<Vec<(String, Change)>> {
        let reply = self
            .manager
            .inner()
            .call_method("ListUnitsByNames", &(names,))
            .await?;
        let (at, rows) = (reply.recv_position(), reply.body().deserialize::<Vec<Row>>()?);
        let mut units = Vec::with_capacity(rows.len());
        let mut running = Vec::new();
        for (name, _, load_state, active_state, sub_state, _, _, job, ..) in rows {
            let runs = active_state != "inactive";
            if runs {
                running.push(name.clone());
            }
            let change = Change {
                at,
                asked: true,
                load_state: Some(load_state),
                active_state: Some(active_state),
                sub_state: Some(sub_state),
                job: Some(job != 0),
                main_pid: (!runs).then_some(0),
                ..Change::default()
            };
            units.push((name, change));
        }
        for names in running.chunks(AT_ONCE) {
            let mut asked = JoinSet::new();
            for name in names {
                asked.spawn(self.clone().details(name.clone(), at));
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

    /// What the list leaves out; as old as the list, as far as anybody can tell.
    async fn details(self, name: String, at: Sequence) -> zbus::Result<(String, Change)> {
        let main_pid = u32::try_from(self.property(&name, SERVICE, "MainPID").await?).ok();
        let started = self
            .property(&name, UNIT, "InactiveExitTimestampMonotonic")
            .await?;
        let status = String::try_from(self.property(&name, SERVICE, "StatusText").await?);
        let change = Change {
            at,
            asked: true,
            main_pid,
            status: status.ok(),
            started: u64::try_from(started).ok().map(Duration::from_micros),
            ..Change::default()
        };
        Ok((name, change))
    }

    /// Control group of a unit, empty when it has none.
    pub async fn control_group(&self, unit: &str) -> zbus::Result<String> {
        String::try_from(self.property(unit, SERVICE, "ControlGroup").await?)
    }

    async fn property(&self, unit: &str, interface: &str, property: &str) -> zbus::Result<OwnedVariant> {
        let path = object_path(unit);
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
        reply.body().deserialize()
    }

    /// Asks systemd to do something with a unit; what comes of it shows in the unit's news. A refusal is news, too.
    pub fn order(&self, order: Order, unit: String, news: UnboundedSender<News>) {
        let manager = self.manager.clone();
        tokio::spawn(async move {
            let done = match order {
                Order::Start => {
                    // A unit that has not failed has nothing to reset.
                    if let Err(error) = manager.reset_failed_unit(&unit).await {
                        log::debug!("{unit}: {error}");
                    }
                    manager.start_unit(&unit, "replace").await
                }
                Order::Stop => manager.stop_unit(&unit, "replace").await,
                Order::Restart => manager.restart_unit(&unit, "replace").await,
                Order::TryRestart => manager.try_restart_unit(&unit, "replace").await,
            };
            if let Err(error) = done {
                // The receiver is only gone when the program ends.
                let _ = news.send(News::Denied(unit, error.to_string()));
            }
        });
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

/// Follows who owns systemd's name: after `systemctl daemon-reexec` that is another connection.
async fn watch_owner(
    connection: &Connection,
    manager: &ManagerProxy<'static>,
    news: UnboundedSender<News>,
) -> zbus::Result<watch::Receiver<String>> {
    let rule = MatchRule::builder()
        .msg_type(Type::Signal)
        .sender(BUS)
        .interface(BUS)
        .member("NameOwnerChanged")
        .arg(0, NAME)
        .build()?;
    let mut changes = MessageStream::for_match_rule(rule, connection, None).await?;
    let bus = DBusProxy::new(connection).await?;
    let owner = match bus.get_name_owner(NAME.try_into()?).await {
        Ok(owner) => owner.to_string(),
        // Early in the boot the bus runs before systemd has come to it: its coming is told.
        Err(fdo::Error::NameHasNoOwner(_)) => String::new(),
        Err(error) => return Err(error.into()),
    };
    let (send, receive) = watch::channel(owner);
    let manager = manager.clone();
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|context| Pin::new(&mut changes).poll_next(context)).await {
            let Some(owner) = new_owner(&message).filter(|owner| !owner.is_empty()) else {
                continue;
            };
            send.send_replace(owner);
            // What it said before we knew it by its new name is asked for.
            let subscribed = manager.subscribe().await;
            if let Err(error) = subscribed {
                log::warn!("systemd is not heard any more: {error}");
            }
            if news.send(News::Reloaded).is_err() {
                return;
            }
        }
    });
    Ok(receive)
}

/// Decodes `NameOwnerChanged`, where the bus itself says it.
fn new_owner(message: &Message) -> Option<String> {
    if message.header().sender().map(UniqueName::as_str) != Some(BUS) {
        return None;
    }
    let (_, _, owner): (String, String, String) = message.body().deserialize().ok()?;
    Some(owner)
}

/// Sends what `decode` makes of each message of systemd's to `news`, until the bus is gone.
fn forward(
    mut stream: MessageStream,
    news: UnboundedSender<News>,
    owner: watch::Receiver<String>,
    decode: Decoder,
) {
    tokio::spawn(async move {
        while let Some(message) = poll_fn(|context| Pin::new(&mut stream).poll_next(context)).await {
            let Ok(message) = message else { break };
            let sender = message.header().sender().map(ToString::to_string);
            if sender.as_deref() != Some(owner.borrow().as_str()) {
                continue;
            }
            if let Some(item) = decode(&message)
                && news.send(item).is_err()
            {
                return;
            }
        }
        let _ = news.send(News::Ended);
    });
}

/// Object path of a unit (org.freedesktop.systemd1(5)).
pub fn object_path(unit: &str) -> String {
    format!("{UNITS}/{}", path_element(unit))
}
