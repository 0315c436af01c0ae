//! `dagger-gate post`: the unit becomes `active` when the application answers, not when its process runs.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use dagger_agent::adapter::owner::{self, Owner};
use dagger_agent::adapter::{notify, probe};
use dagger_agent::domain::observation::Observation;
use dagger_suite::names::{Root, ServiceName};
use dagger_suite::probe::{Kind, Probe};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use sd_notify::NotifyState;
use tokio::sync::oneshot;

use crate::args::{self, Args};
use crate::{Stop, media, say};

/// The pause between two tries is this part of the time that has gone by: nobody waits more than 5 % longer than needed.
const PAUSE_PART: u32 = 20;
/// Its shortest.
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// Its longest.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// An application that keeps saying that it is starting is believed for so many budgets in all.
const BUDGETS_MAX: u32 = 6;
/// systemd's own limit is put off until so long after ours, so that ours comes first and says why.
const MARGIN: Duration = Duration::from_secs(10);

/// The command line.
#[derive(Debug)]
pub struct Orders {
    service: ServiceName,
    budget: Duration,
    write_marker: bool,
    media: Vec<String>,
    podman: PathBuf,
    probe: Probe,
}

impl Orders {
    /// Reads it.
    pub fn parse(words: Vec<String>) -> Result<Self, Stop> {
        let (probe, rest) = Probe::from_args(words).map_err(Stop::Usage)?;
        let (mut service, mut budget, mut write_marker) = (None, None, false);
        let (mut media, mut podman) = (Vec::new(), PathBuf::from(probe::PODMAN));
        let mut args = Args::new(rest);
        while let Some((flag, value)) = args.next()? {
            match flag.as_str() {
                "--service" => service = Some(args::service(&value()?)?),
                "--budget" => budget = Some(seconds(&value()?)?),
                "--write-marker" => write_marker = true,
                "--media" => media.push(value()?),
                "--podman" => podman = PathBuf::from(value()?),
                _ => return Err(args::unknown(&flag)),
            }
        }
        let service = args::required(service, "--service")?;
        let budget = args::required(budget, "--budget")?;
        Ok(Self {
            service,
            budget,
            write_marker,
            media,
            podman,
            probe,
        })
    }
}

fn seconds(text: &str) -> Result<Duration, Stop> {
    match text.parse::<u32>() {
        Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(u64::from(seconds))),
        _ => Err(Stop::Usage(format!("{text:?} is not a number of seconds"))),
    }
}

/// Waits for the first good answer.
pub fn run(root: &Root, orders: &Orders) -> Result<(), Stop> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Stop::failed(format!("cannot wait for {}: {error}", orders.service)))?;
    let answer = runtime.block_on(wait(orders))?;
    if orders.write_marker {
        mark(root, &orders.service);
    }
    media::remember(root, &orders.service, &orders.media);
    say::status(&format!("{} answers: {answer}", orders.service));
    Ok(())
}

/// From now on the data is the container's, also when a native package appears later. The service runs without it too.
fn mark(root: &Root, service: &ServiceName) {
    let variable = |name| std::env::var(name).unwrap_or_default();
    let owner = format!("{}:{}", variable("DAGGER_UID"), variable("DAGGER_GID")).parse::<Owner>();
    let written = owner.map(|owner| (owner, owner::write_if_absent(root, service, owner)));
    match written {
        Ok((owner, Ok(true))) => say::info(&format!(
            "{service} belongs to the container from now on, and runs as {owner} (marker {})",
            service.owner_marker()
        )),
        Ok((_, Ok(false))) => {}
        Ok((_, Err(error))) => say::warning(&format!(
            "{error}: a native {service}, installed later, would start too"
        )),
        Err(error) => say::warning(&format!(
            "the owner marker of {service} is not written, because the unit does not say who it runs as: {error}"
        )),
    }
}

/// The two ends of the wait: the budget after the last word of progress, and the end of all patience.
struct Limits {
    begin: Instant,
    budget: Duration,
    until: Instant,
}

impl Limits {
    fn new(budget: Duration) -> Self {
        let begin = Instant::now();
        Self {
            begin,
            budget,
            until: begin + budget,
        }
    }

    /// The application says that it is at work: the budget begins again, within the bound.
    fn extend(&mut self) {
        self.until = (Instant::now() + self.budget).min(self.begin + self.budget * BUDGETS_MAX);
    }

    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    fn pause(&self) -> Duration {
        (self.begin.elapsed() / PAUSE_PART)
            .clamp(PAUSE_MIN, PAUSE_MAX)
            .min(self.left())
    }

    /// Tells systemd, whose own limit would end the wait without a word about the application.
    ///
    /// A try that began within the limit is let finish.
    fn tell(&self, one_try: Duration) {
        let micros = u32::try_from((self.left() + one_try + MARGIN).as_micros()).unwrap_or(u32::MAX);
        if let Err(error) = notify::own(&[NotifyState::ExtendTimeoutUsec(micros)]) {
            say::warning(&format!("systemd does not take our time limit: {error}"));
        }
    }
}

async fn wait(orders: &Orders) -> Result<Observation, Stop> {
    let service = &orders.service;
    let mut gone = main_process(service)?;
    let mut limits = Limits::new(orders.budget);
    limits.tell(orders.probe.timeout);
    let mut said = String::new();
    loop {
        let seen = tokio::select! {
            biased;
            seen = probe::probe_with(&orders.probe, &orders.podman) => seen,
            () = ended(&mut gone) => return Err(dead(service)),
        };
        if seen.is_good() {
            return Ok(seen);
        }
        let working = is_working(orders.probe.kind, &seen);
        if working {
            limits.extend();
            limits.tell(orders.probe.timeout);
        }
        let sentence = seen.to_string();
        if sentence != said {
            say::status(&format!("waiting for {service}: {sentence}"));
            if working {
                say::info(&format!("waiting for {service}: {sentence}"));
            }
            said = sentence;
        }
        if limits.left().is_zero() {
            return Err(late(service, &limits, &said));
        }
        tokio::select! {
            () = tokio::time::sleep(limits.pause()) => {}
            () = ended(&mut gone) => return Err(dead(service)),
        }
    }
}

/// Whether the answer is a sign of work that deserves more time. Bazarr listens, and says nothing, while it migrates.
fn is_working(kind: Kind, seen: &Observation) -> bool {
    match seen {
        Observation::Starting { .. } => true,
        Observation::TimedOut { connected, .. } => *connected && kind == Kind::Bazarr,
        Observation::Good { .. }
        | Observation::Bad { .. }
        | Observation::Refused { .. }
        | Observation::Unable { .. } => false,
    }
}

/// Resolves when the unit's main process, which systemd names in the environment, has ended.
///
/// A thread waits for it (its pidfd becomes readable, pidfd_open(2)); it ends with the program.
fn main_process(service: &ServiceName) -> Result<Option<oneshot::Receiver<()>>, Stop> {
    let pid = std::env::var("MAINPID")
        .ok()
        .and_then(|pid| pid.parse::<i32>().ok());
    let Some(pid) = pid.and_then(Pid::from_raw) else {
        return Ok(None);
    };
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(Errno::SRCH) => return Err(dead(service)),
        Err(errno) => return Err(unwatched(service, &errno.into())),
    };
    let (tell, told) = oneshot::channel();
    std::thread::Builder::new()
        .name("main-process".into())
        .spawn(move || {
            let ended = retry_on_intr(|| poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None));
            // Without an answer the other end sees a closed channel, and goes on without this watch.
            if ended.is_ok() {
                let _ = tell.send(());
            }
        })
        .map_err(|error| unwatched(service, &error))?;
    Ok(Some(told))
}

async fn ended(process: &mut Option<oneshot::Receiver<()>>) {
    if let Some(told) = process {
        let sent = told.await;
        *process = None;
        if sent.is_ok() {
            return;
        }
    }
    std::future::pending::<()>().await;
}

fn unwatched(service: &ServiceName, error: &io::Error) -> Stop {
    Stop::failed(format!("cannot watch the main process of {service}: {error}"))
}

fn late(service: &ServiceName, limits: &Limits, said: &str) -> Stop {
    Stop::failed(format!(
        "{service} did not become ready within {} s; the last answer: {said} (journalctl -u {} shows what it wrote)",
        limits.begin.elapsed().as_secs(),
        service.unit()
    ))
}

fn dead(service: &ServiceName) -> Stop {
    Stop::failed(format!(
        "{service} ended before it answered (journalctl -u {} shows its last words)",
        service.unit()
    ))
}
