//! One watched service, and what is known of it.

use std::time::Duration;

use dagger_agent::adapter::bus::{Owner, ServiceView};
use dagger_agent::adapter::systemd::Change;
use dagger_agent::domain::health::Health;
use dagger_agent::domain::verdict::{Phase, State};
use tokio::sync::watch;

use crate::config::Watched;

/// Stands between verdict and reason in the `STATUS=` that we send on behalf of a unit.
pub const BETWEEN: &str = " · ";

/// What systemd last said of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unit {
    /// Its name.
    pub name: String,
    load_state: String,
    /// ActiveState.
    pub active_state: String,
    /// SubState.
    pub sub_state: String,
    /// Main process, 0: none.
    pub main_pid: u32,
    /// When its last start began.
    pub started: Duration,
    /// What it last said of itself; systemd forgets it when a start begins.
    pub status: String,
}

impl Unit {
    /// A unit of which nothing has been said yet.
    pub fn new(name: String) -> Self {
        Self {
            name,
            load_state: "loaded".into(),
            active_state: "inactive".into(),
            sub_state: "dead".into(),
            ..Self::default()
        }
    }

    /// Takes in what systemd says, and tells whether that was news.
    pub fn merge(&mut self, change: Change) -> bool {
        let before = self.clone();
        let Change {
            load_state,
            active_state,
            sub_state,
            main_pid,
            started,
            status,
        } = change;
        self.load_state = load_state.unwrap_or(std::mem::take(&mut self.load_state));
        self.active_state = active_state.unwrap_or(std::mem::take(&mut self.active_state));
        self.sub_state = sub_state.unwrap_or(std::mem::take(&mut self.sub_state));
        self.main_pid = main_pid.unwrap_or(self.main_pid);
        self.started = started.unwrap_or(self.started);
        self.status = status.unwrap_or(std::mem::take(&mut self.status));
        *self != before
    }

    /// Why it does not run, in the gate's words, where the gate has refused it. What we said ourselves while it ran is none.
    pub fn reason(&self) -> Option<&str> {
        let down = matches!(self.phase(), Phase::Restarting | Phase::Failed);
        let ours = self.status.contains(BETWEEN);
        (down && !ours && !self.status.is_empty()).then_some(self.status.as_str())
    }

    /// What it is doing.
    pub fn phase(&self) -> Phase {
        Phase::of(&self.load_state, &self.active_state, &self.sub_state)
    }
}

/// One service.
#[derive(Debug)]
pub struct Entry {
    /// What the configuration says.
    pub service: Watched,
    /// Our own unit.
    pub own: Unit,
    /// The native unit.
    pub native: Option<Unit>,
    /// Who owns the data.
    pub owner: Owner,
    /// Digest and version of the image that was last started, as far as they are known.
    pub image: (String, String),
    /// What the unit that counts was doing when that was last judged.
    pub phase: Option<Phase>,
    /// The verdict.
    pub state: State,
    /// What is published. The objects on the bus hold the other end.
    pub view: watch::Sender<ServiceView>,
    /// When the probe began that has not ended yet.
    pub asked: Option<Duration>,
    /// It waits for its turn to be asked.
    pub queued: bool,
    /// When the last probe ended.
    pub answered: Option<Duration>,
    /// Rounds of `Check()` that wait for the next answer.
    pub rounds: Vec<u64>,
    /// The `STATUS=` that was last sent, and to which process.
    pub said: (u32, String),
}

impl Entry {
    /// A service of which only the configuration is known.
    pub fn new(service: Watched, now_usec: u64) -> Self {
        let view = ServiceView {
            name: service.name.to_string(),
            kind: service.kind.clone(),
            unit: service.name.unit(),
            owner: Owner::None,
            active_state: String::new(),
            sub_state: String::new(),
            health: Health::Inactive,
            health_detail: "not running".into(),
            since: now_usec,
            latency_usec: 0,
            port: service.probe.port,
            url: service.url.clone(),
            image: service.image.clone(),
            image_digest: String::new(),
            version: String::new(),
            main_pid: 0,
            wants: service.wants.clone(),
        };
        Self {
            own: Unit::new(service.name.unit()),
            native: service.native.clone().map(Unit::new),
            owner: Owner::None,
            image: Default::default(),
            phase: None,
            state: State::Inactive,
            view: watch::Sender::new(view),
            asked: None,
            queued: false,
            answered: None,
            rounds: Vec::new(),
            said: (0, String::new()),
            service,
        }
    }

    /// Takes over what a new reading of the configuration says; the verdict stays.
    pub fn configure(&mut self, service: Watched) {
        if self.native.as_ref().map(|unit| &unit.name) != service.native.as_ref() {
            self.native = service.native.clone().map(Unit::new);
        }
        self.service = service;
    }

    /// The unit that runs the service: the native one while that owns the data.
    pub fn unit(&self) -> &Unit {
        match &self.native {
            Some(native) if self.owner == Owner::Native => native,
            _ => &self.own,
        }
    }

    /// Names of all its units.
    pub fn units(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.own)
            .chain(&self.native)
            .map(|unit| unit.name.as_str())
    }

    /// The unit of this name.
    pub fn unit_mut(&mut self, name: &str) -> Option<&mut Unit> {
        std::iter::once(&mut self.own)
            .chain(&mut self.native)
            .find(|unit| unit.name == name)
    }

    /// Who owns the data, given whether the marker is there.
    ///
    /// The marker decides; without it a native unit does, where there is one; without either the container does as soon
    /// as it runs.
    pub fn owner_by(&self, marker: bool) -> Owner {
        Owner::of(marker, self.native.is_some(), self.own.phase().is_up())
    }

    /// How often it is asked now: every second while it starts, so that its first good answer is seen soon.
    pub fn interval(&self) -> Duration {
        match self.state {
            State::Starting { .. } => self.service.interval.min(Duration::from_secs(1)),
            State::Unloaded
            | State::Inactive
            | State::Healthy { .. }
            | State::Blind
            | State::Unhealthy
            | State::Failed => self.service.interval,
        }
    }
}
