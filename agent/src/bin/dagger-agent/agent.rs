//! The state, and the loop that owns it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dagger_agent::adapter::bus::{self, Checked, Request};
use dagger_agent::adapter::job_watch;
use dagger_agent::adapter::mounts::Watch;
use dagger_agent::adapter::surroundings::Looker;
use dagger_agent::adapter::systemd::{News, Systemd};
use dagger_agent::adapter::{clock, keep, notify, watchdog};
use dagger_agent::domain::health::Health;
use dagger_agent::domain::metrics::Pace;
use dagger_agent::domain::schedule::Schedule;
use dagger_agent::domain::standstill::{self, Clocks};
use dagger_agent::domain::throttle::Throttle;
use dagger_suite::names::{BUS_NAME, Root};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use zbus::Connection;

use crate::config::Configuration;
use crate::conflicts::Conflicts;
use crate::entry::{Answer, Entry};
use crate::jobs::Jobs;
use crate::publish::{Bus, summary};
use crate::recover::Find;

/// The configuration is read at most so often, however often systemd reads its own.
const RELOADS: Duration = Duration::from_millis(200);

/// Name of a service, shared between the places that mention it.
pub type Key = Arc<str>;

/// A `Check()` that waits for answers.
pub struct Round {
    /// The services it is about.
    pub keys: Vec<Key>,
    /// How many of them have not answered yet.
    pub left: usize,
    /// The way back to the caller.
    pub answer: bus::Answer<Vec<Checked>>,
}

/// Everything that the agent knows.
pub struct Agent {
    /// Where files are looked for.
    pub root: Root,
    /// The way to systemd.
    pub systemd: Systemd,
    /// Where systemd's news are sent.
    pub news: mpsc::UnboundedSender<News>,
    /// Our side of the bus.
    pub bus: Bus,
    /// The configuration in force, without its services.
    pub configuration: Configuration,
    /// Services by name.
    pub services: BTreeMap<Key, Entry>,
    /// Which service a unit belongs to.
    pub units: HashMap<String, Key>,
    /// When each service is asked next.
    pub schedule: Schedule<Key>,
    /// When each service's machine has something to do although nothing happens.
    pub ticks: Schedule<Key>,
    /// Services that are to be asked as soon as there is room.
    pub queue: VecDeque<Key>,
    /// Probes that have not ended.
    pub in_flight: usize,
    /// Where probes send what they saw.
    pub answers: mpsc::UnboundedSender<(Key, Answer)>,
    /// When each question that is open is given up.
    pub limits: Schedule<Key>,
    /// When all questions that were ever begun are given up at the latest.
    pub room: Duration,
    /// Number of the last question.
    pub last_question: u64,
    /// Where those who look around send what they found.
    pub finds: mpsc::UnboundedSender<Find>,
    /// Who looks, and how long a dead disk may take.
    pub looker: Looker,
    /// When media is held against what it was at the start, again.
    pub media_due: Duration,
    /// Paths of all media, where they are others than the ones that are watched.
    pub media_paths: Option<Vec<PathBuf>>,
    /// What stands in the way of the suite.
    pub conflicts: Conflicts,
    /// What is under way with services.
    pub jobs: Jobs,
    /// The service that was restarted last, and when.
    pub restarted: Option<(Key, Duration)>,
    /// The clocks as they were last read.
    clocks: Clocks,
    /// When the clock jumped or we stood still, and what it was.
    pub jump: Option<(Duration, &'static str)>,
    /// When the metrics are written again.
    pub pace: Pace,
    /// When we began, CLOCK_REALTIME.
    pub began: Duration,
    /// Something that the agent after this one should know has changed.
    pub keep: bool,
    /// systemd has read its units again since the configuration was read.
    pub reload: bool,
    /// When the configuration was last read.
    reloaded: Duration,
    /// Rounds of `Check()` that are not complete, by number.
    pub rounds: HashMap<u64, Round>,
    /// Number of the last round.
    pub last_round: u64,
    /// How often callers may ask.
    pub throttle: Throttle,
    /// Something that the suite as a whole shows may have changed.
    pub stale: bool,
    /// Our own `STATUS=` as it was last sent.
    pub said: String,
    /// Our own watchdog.
    pub watchdog: Watchdog,
}

/// The ends of all channels, and the signals.
struct Inputs {
    news: mpsc::UnboundedReceiver<News>,
    answers: mpsc::UnboundedReceiver<(Key, Answer)>,
    finds: mpsc::UnboundedReceiver<Find>,
    requests: mpsc::Receiver<Request>,
    said: Option<job_watch::Watch>,
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

/// Runs until it is told to end; the error is one sentence.
pub async fn run(root: Root) -> Result<(), String> {
    let connection = Connection::system()
        .await
        .map_err(|error| format!("the system bus cannot be reached: {error}"))?;
    let ended = connection.clone();
    let (mut agent, mut inputs) = start(root, connection).await?;
    let timeless = |error| format!("there is no clock to go by: {error}");
    let mut mounts = None;
    let mut alarm = clock::Alarm::new().map_err(timeless)?;
    loop {
        agent.settle().await.map_err(lost)?;
        if let Some(paths) = agent.media_paths.take() {
            mounts = watch_mounts(paths);
        }
        let due = agent.wake();
        alarm.set(due).map_err(timeless)?;
        tokio::select! {
            biased;
            // First of all, so that what is late for our own reasons is known to be.
            rung = alarm.rings() => rung.map_err(timeless)?,
            news = inputs.news.recv() => match news {
                Some(News::Ended) | None => return Err(lost("its signals have ended")),
                Some(news) => agent.news(news).await.map_err(lost)?,
            },
            Some((key, answer)) = inputs.answers.recv() => {
                agent.answer(&key, answer).await.map_err(lost)?;
                // Those that came together are taken in together.
                while let Ok((key, answer)) = inputs.answers.try_recv() {
                    agent.answer(&key, answer).await.map_err(lost)?;
                }
            }
            said = said(&mut inputs.said) => match said {
                Ok(said) => agent.heard(said).await.map_err(lost)?,
                Err(error) => {
                    log::warn!("jobs are looked at now and then only: {error}");
                    inputs.said = None;
                }
            },
            Some(request) = inputs.requests.recv() => agent.request(request).await.map_err(lost)?,
            _ = inputs.hangup.recv() => agent.reload_by_systemd().await.map_err(lost)?,
            _ = inputs.terminate.recv() => break,
            _ = inputs.interrupt.recv() => break,
            Some(find) = inputs.finds.recv() => agent.found(find).await.map_err(lost)?,
            changed = changed(&mut mounts) => {
                if let Err(error) = changed {
                    log::warn!("mounts are looked at now and then only: {error}");
                    mounts = None;
                }
                agent.mounts_changed();
            }
            () = ended.closed() => return Err(lost("the connection was closed")),
        }
        agent.look_at_clocks(due);
    }
    own(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
    agent.remove_metrics();
    // The unit does the same when it has ended; not where somebody has masked it meanwhile.
    disarm_all();
    Ok(())
}

fn disarm_all() {
    if let Err(error) = watchdog::disarm_all() {
        log::warn!("the watchdogs of the suite are not stopped: {error}");
    }
}

/// Word of mounts that come and go at these paths; without it they are looked at now and then.
fn watch_mounts(paths: Vec<PathBuf>) -> Option<Watch> {
    if paths.is_empty() {
        return None;
    }
    Watch::new(paths)
        .inspect_err(|error| log::warn!("mounts are looked at now and then only: {error}"))
        .ok()
}

async fn changed(mounts: &mut Option<Watch>) -> io::Result<()> {
    match mounts {
        Some(mounts) => mounts.changed().await,
        None => std::future::pending().await,
    }
}

async fn said(jobs: &mut Option<job_watch::Watch>) -> io::Result<Vec<job_watch::Said>> {
    match jobs {
        Some(jobs) => jobs.said().await,
        None => std::future::pending().await,
    }
}

/// The sentence for a bus that has gone: systemd starts us again, on a new one.
fn lost(reason: impl std::fmt::Display) -> String {
    format!("the system bus is lost: {reason}")
}

/// Builds everything up in an order in which nobody can see half of it: signals, state, objects, name, `READY=1`.
async fn start(root: Root, connection: Connection) -> Result<(Agent, Inputs), String> {
    let on = |kind| signal(kind).map_err(|error| format!("signals cannot be received: {error}"));
    let (hangup, terminate, interrupt) = (
        on(SignalKind::hangup())?,
        on(SignalKind::terminate())?,
        on(SignalKind::interrupt())?,
    );
    let (news, news_in) = mpsc::unbounded_channel();
    let (answers, answers_in) = mpsc::unbounded_channel();
    let (finds, finds_in) = mpsc::unbounded_channel();
    let (requests, requests_in) = mpsc::channel(bus::QUEUE);
    let systemd = Systemd::watch(&connection, news.clone())
        .await
        .map_err(|error| format!("systemd does not answer on the bus: {error}"))?;
    let bus = Bus::serve(connection, requests).await.map_err(lost)?;
    let looker = Looker::new(root.clone());
    // Before anything of theirs is read, so that nothing falls between.
    let said = job_watch::Watch::new(&root)
        .inspect_err(|error| log::warn!("jobs are looked at now and then only: {error}"))
        .ok();
    let mut agent = Agent {
        root,
        systemd,
        news,
        bus,
        configuration: Configuration::default(),
        services: BTreeMap::new(),
        units: HashMap::new(),
        schedule: Schedule::default(),
        ticks: Schedule::default(),
        queue: VecDeque::new(),
        in_flight: 0,
        answers,
        limits: Schedule::default(),
        room: Duration::ZERO,
        last_question: 0,
        finds,
        looker,
        media_due: Duration::ZERO,
        media_paths: None,
        conflicts: Conflicts::default(),
        jobs: Jobs::default(),
        restarted: None,
        clocks: clocks(),
        jump: None,
        pace: Pace::default(),
        began: clock::realtime(),
        keep: false,
        reload: false,
        reloaded: Duration::ZERO,
        rounds: HashMap::new(),
        last_round: 0,
        throttle: Throttle::default(),
        stale: true,
        said: String::new(),
        watchdog: Watchdog::from_env(),
    };
    // Of what is not in the configuration any more, too; the first good answer arms the others anew.
    disarm_all();
    agent.load_first().await?;
    agent
        .find_jobs()
        .await
        .map_err(|error| format!("systemd does not say which jobs run: {error}"))?;
    agent.settle().await.map_err(lost)?;
    agent
        .bus
        .take_name()
        .await
        .map_err(|error| format!("the name {BUS_NAME} cannot be taken: {error}"))?;
    own(&[NotifyState::Ready]);
    let inputs = Inputs {
        news: news_in,
        answers: answers_in,
        finds: finds_in,
        requests: requests_in,
        said,
        hangup,
        terminate,
        interrupt,
    };
    Ok((agent, inputs))
}

impl Agent {
    /// What is due is begun, and the suite as a whole is published where it changed.
    async fn settle(&mut self) -> zbus::Result<()> {
        let now = clock::monotonic();
        if self.reload && now >= self.reloaded + RELOADS {
            self.reload = false;
            self.reloaded = now;
            self.reload().await?;
        }
        self.give_up_late().await?;
        self.begin_due();
        self.tick_due().await?;
        self.jobs_due().await?;
        if now >= self.media_due {
            self.check_media(now);
        }
        self.look_at_ports(now);
        self.write_metrics(now);
        if std::mem::take(&mut self.keep) {
            self.leave();
        }
        if std::mem::take(&mut self.stale) {
            let health = Health::worst(self.services.values().map(|entry| entry.machine.health()));
            self.bus.manager(|view| view.health = health).await?;
            let said = summary(self.services.values().map(|entry| entry.machine.health()));
            if said != self.said {
                own(&[NotifyState::Status(&said)]);
                self.said = said;
            }
        }
        let now = clock::monotonic();
        if self.watchdog.is_due(now) && self.makes_progress(now) {
            own(&[NotifyState::Watchdog]);
            self.watchdog.fed(now);
        }
        Ok(())
    }

    /// When the loop has something to do although nothing comes in.
    fn wake(&self) -> Duration {
        let reload = self.reload.then(|| self.reloaded + RELOADS);
        let next = [
            self.schedule.next(),
            self.ticks.next(),
            self.limits.next(),
            reload,
            Some(self.conflicts.due),
            self.jobs.wakes(),
        ];
        next.into_iter().flatten().fold(self.watchdog.next, Duration::min)
    }

    /// Whether the clock jumped, the machine slept or we stood still since the last time.
    fn look_at_clocks(&mut self, due: Duration) {
        let now = clocks();
        if let Some(what) = standstill::between(self.clocks, now, due) {
            log::warn!("{what}: bad answers of the next minute are not taken for the services' own");
            self.jump = Some((now.monotonic, what));
        }
        self.clocks = now;
    }

    /// Leaves what the agent after this one should know.
    fn leave(&self) {
        let keepsake = self
            .services
            .iter()
            .map(|(key, entry)| (key.to_string(), entry.kept()))
            .collect();
        if let Err(error) = keep::write(&self.root, &keepsake) {
            log::warn!("an agent after this one begins anew: {error}");
        }
    }
}

/// The clocks now.
fn clocks() -> Clocks {
    Clocks {
        monotonic: clock::monotonic(),
        boottime: clock::boottime(),
        realtime: clock::realtime(),
    }
}

/// Tells our own unit's manager.
pub fn own(states: &[NotifyState<'_>]) {
    if let Err(error) = notify::own(states) {
        log::debug!("systemd took no notification: {error}");
    }
}

/// When systemd's watchdog wants to be fed.
pub struct Watchdog {
    /// Half of `WatchdogSec=`; none: it is off.
    period: Option<Duration>,
    /// When to look again.
    next: Duration,
}

impl Watchdog {
    /// As systemd asks for it in the environment.
    fn from_env() -> Self {
        let period = sd_notify::watchdog_enabled().map(|limit| limit / 2);
        Self {
            next: if period.is_some() {
                Duration::ZERO
            } else {
                Duration::MAX
            },
            period,
        }
    }

    /// Looks at most once a second when there is no progress to report.
    fn is_due(&mut self, now: Duration) -> bool {
        let due = now >= self.next;
        if due {
            self.next = now + Duration::from_secs(1);
        }
        due
    }

    fn fed(&mut self, now: Duration) {
        self.next = self.period.map_or(Duration::MAX, |period| now + period);
    }
}
