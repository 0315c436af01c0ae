//! `dagger-gate post`: the unit becomes `active` when the application answers, not when its process runs.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use dagger_agent::adapter::owner::{self, Marker, Owner};
use dagger_agent::adapter::probe;
use dagger_agent::domain::observation::Observation;
use dagger_suite::names::{Root, ServiceName};
use dagger_suite::probe::{Kind, Probe};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::sync::oneshot;

use crate::args::{self, Args};
use crate::patience::{Journal, Limits, Watch};
use crate::pre::STATE_VARIABLE;
use crate::{Stop, media, places, say};

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
                "--budget" => budget = Some(args::seconds(&value()?)?),
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
    // Without the variable the answer is the careful one.
    let keeps_state = std::env::var(STATE_VARIABLE).map_or(true, |path| places::holds_something(root, &path));
    let written = owner.map(|owner| {
        let marker = Marker { owner, keeps_state };
        (owner, owner::write_if_absent(root, service, marker))
    });
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

async fn wait(orders: &Orders) -> Result<Observation, Stop> {
    let service = &orders.service;
    let mut gone = main_process(service)?;
    let mut limits = Limits::new(orders.budget);
    limits.tell(orders.probe.timeout);
    let mut signs = Signs {
        journal: Journal::new(),
        watch: Watch::of(service),
    };
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
        let word = signs.word(orders, &seen, &limits).await;
        let sentence = word.sentence(&seen);
        let working = word != Word::Nothing;
        if signs.follow(word, service, &mut limits, &sentence) {
            limits.tell(orders.probe.timeout);
        }
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

/// What the application lets know about itself while it gives no good answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    /// Nothing: it may hang as well.
    Nothing,
    /// It takes connections and is silent, as Bazarr does while it migrates; a hang looks the same.
    Silent,
    /// It answers that it is starting or migrating.
    Starting,
    /// Its port is closed, and its journal says that it migrates.
    Migrating,
}

impl Word {
    fn sentence(self, seen: &Observation) -> String {
        match self {
            Self::Migrating => format!("its journal says that it migrates its database; until then {seen}"),
            Self::Nothing | Self::Silent | Self::Starting => seen.to_string(),
        }
    }
}

/// Where the signs of work come from.
struct Signs {
    journal: Journal,
    watch: Option<Watch>,
}

impl Signs {
    async fn word(&mut self, orders: &Orders, seen: &Observation, limits: &Limits) -> Word {
        match seen {
            Observation::Starting { .. } => Word::Starting,
            Observation::TimedOut { connected: true, .. } if orders.probe.kind == Kind::Bazarr => {
                Word::Silent
            }
            Observation::Refused { .. }
                if orders.probe.kind == Kind::Servarr
                    && self.journal.tells_of_a_migration(&orders.service, limits).await =>
            {
                Word::Migrating
            }
            Observation::Good { .. }
            | Observation::Bad { .. }
            | Observation::Refused { .. }
            | Observation::TimedOut { .. }
            | Observation::Unable { .. } => Word::Nothing,
        }
    }

    /// Gives more time for a word, or for work that is seen; says whether it did.
    fn follow(&mut self, word: Word, service: &ServiceName, limits: &mut Limits, sentence: &str) -> bool {
        if word == Word::Nothing {
            return false;
        }
        limits.extend();
        let Some(watch) = self.watch.as_mut().filter(|_| word != Word::Silent) else {
            return true;
        };
        if watch.goes_on(limits) == Some(true) && limits.is_short() {
            limits.renew();
            if limits.is_beyond_belief() {
                watch.tell(service, limits, sentence);
                say::status(&format!(
                    "waiting for {service}, at work for {} s: {sentence}",
                    limits.waited().as_secs()
                ));
            }
        }
        true
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
        limits.waited().as_secs(),
        service.unit()
    ))
}

fn dead(service: &ServiceName) -> Stop {
    Stop::failed(format!(
        "{service} ended before it answered (journalctl -u {} shows its last words)",
        service.unit()
    ))
}
