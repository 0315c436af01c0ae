//! One watched service, and what is known of it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use dagger_agent::adapter::bus::{Owner, ServiceView};
use dagger_agent::adapter::keep::Kept;
use dagger_agent::adapter::probe::line::{self, Line};
use dagger_agent::adapter::surroundings::Sample;
use dagger_agent::adapter::systemd::Change;
use dagger_agent::domain::health::Health;
use dagger_agent::domain::machine::{self, Happened, Machine};
use dagger_agent::domain::media::Record;
use dagger_agent::domain::observation::Observation;
use dagger_agent::domain::standing::{Exit, Standing};
use dagger_agent::domain::surroundings::Surroundings;
use dagger_agent::domain::verdict::{Phase, State};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use zbus::message::Sequence;

use crate::config::Watched;

/// Stands between verdict and reason in the `STATUS=` that we send on behalf of a unit.
pub const BETWEEN: &str = " · ";

/// What systemd last said of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unit {
    /// Its name.
    pub name: String,
    /// When the last of it was said.
    pub heard: Sequence,
    load_state: String,
    /// ActiveState.
    pub active_state: String,
    /// SubState.
    pub sub_state: String,
    /// A job of systemd's for it is not done.
    job: bool,
    /// It is being stopped; or it was, and the job that it is part of goes on.
    stopping: bool,
    /// Main process, 0: none.
    pub main_pid: u32,
    /// When its last start began.
    pub started: Duration,
    /// What it last said of itself; systemd forgets it when a start begins.
    pub status: String,
    /// Result, in systemd's words.
    pub result: String,
    /// ExecMainCode and ExecMainStatus.
    pub exit: (i32, i32),
    /// It has had a main process since its last start began: the gate has let it run.
    pub ran: bool,
}

impl Unit {
    /// A unit of which nothing has been said yet.
    pub fn new(name: String) -> Self {
        Self {
            name,
            load_state: "loaded".into(),
            active_state: "inactive".into(),
            sub_state: "dead".into(),
            // Where it has failed and is being started when we first hear of it.
            stopping: true,
            ..Self::default()
        }
    }

    /// Takes in what systemd says, and tells whether that was news.
    pub fn merge(&mut self, change: Change) -> bool {
        let Change {
            at,
            asked: _,
            load_state,
            active_state,
            sub_state,
            job,
            main_pid,
            started,
            status,
            result,
            exit_code,
            exit_status,
        } = change;
        // That something was said is no news by itself.
        self.heard = self.heard.max(at);
        let before = self.clone();
        self.load_state = load_state.unwrap_or(std::mem::take(&mut self.load_state));
        self.active_state = active_state.unwrap_or(std::mem::take(&mut self.active_state));
        self.sub_state = sub_state.unwrap_or(std::mem::take(&mut self.sub_state));
        self.job = job.unwrap_or(self.job);
        self.stopping = match self.active_state.as_str() {
            "deactivating" => true,
            // A job that comes later is another one.
            "failed" => self.stopping && self.job,
            _ => false,
        };
        self.main_pid = main_pid.unwrap_or(self.main_pid);
        self.started = started.unwrap_or(self.started);
        self.status = status.unwrap_or(std::mem::take(&mut self.status));
        self.result = result.unwrap_or(std::mem::take(&mut self.result));
        self.exit = (
            exit_code.unwrap_or(self.exit.0),
            exit_status.unwrap_or(self.exit.1),
        );
        let begins = self.active_state == "activating" && before.phase() != Phase::Activating;
        self.ran = self.main_pid != 0 || (self.ran && !(begins && self.phase() == Phase::Activating));
        *self != before
    }

    /// Why it does not run, in the gate's words, where the gate has refused it. What we said ourselves while it ran is none.
    pub fn reason(&self) -> Option<&str> {
        let down = matches!(self.phase(), Phase::Restarting | Phase::Failed);
        let ours = self.status.contains(BETWEEN);
        (down && !ours && !self.status.is_empty()).then_some(self.status.as_str())
    }

    /// Why it does not run, where the gate has let nothing run at all.
    pub fn refused(&self) -> Option<String> {
        self.reason().filter(|_| !self.ran).map(str::to_owned)
    }

    /// Whether it is masked: it may run all the same.
    pub fn is_masked(&self) -> bool {
        self.load_state == "masked"
    }

    /// What it is doing. A stop that had to kill leaves a unit `failed`, until the start follows where the two are one
    /// restart, whoever has asked for it: that is no end.
    pub fn phase(&self) -> Phase {
        match Phase::of(&self.load_state, &self.active_state, &self.sub_state) {
            Phase::Failed if self.stopping => Phase::Deactivating,
            phase => phase,
        }
    }
}

/// A probe that has not ended.
#[derive(Debug)]
pub struct Question {
    /// Its number among all probes.
    pub number: u64,
    /// Somebody has taken the connection.
    pub connected: Arc<AtomicBool>,
    /// Ends it.
    pub task: AbortHandle,
    /// When it is given up.
    pub until: Duration,
    /// The connection that it comes back with may be kept.
    pub keeps: bool,
}

/// The answer to a question.
#[derive(Debug)]
pub struct Answer {
    /// The question's number.
    pub number: u64,
    /// What was seen.
    pub observation: Observation,
    /// The connection, where it is kept.
    pub kept: Option<line::Kept>,
}

/// Longer intervals are not worth a connection that is kept: it would serve a question or none before a fresh one is due.
const KEEP_INTERVAL: Duration = Duration::from_secs(30);

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
    /// What the unit that counts was doing when that was last judged, since which start, and whether it was masked.
    pub judged: Option<(Phase, Duration, bool)>,
    /// Everything that is decided about it.
    pub machine: Machine,
    /// How late its last question was put or answered, for reasons of ours.
    pub late: Duration,
    /// When its running question should have been put.
    pub due: Duration,
    /// It is not judged by bad answers until then: what it wants is being restarted.
    pub held: Duration,
    /// Somebody is looking around for it.
    pub looked: bool,
    /// What its processes had done at the last look.
    pub sample: Option<Sample>,
    /// What was found by the last look since it fell.
    pub around: Option<Surroundings>,
    /// How its media was when it started.
    pub at_start: Option<Record>,
    /// Its last answer since its unit was started by somebody else than the agent.
    pub answer: Option<Observation>,
    /// What a job is doing to it, in words.
    pub work: String,
    /// Something was begun with it, and nobody is at work on that.
    pub interrupted: bool,
    /// Good answers since we began to count.
    pub good: u64,
    /// All others.
    pub bad: u64,
    /// Restarts by us.
    pub recoveries: u64,
    /// Somebody was told that it has failed, and not yet that it answers again.
    pub alarmed: bool,
    /// Since when it is not well, or is; CLOCK_MONOTONIC.
    pub fell: Duration,
    /// What is published. The objects on the bus hold the other end.
    pub view: watch::Sender<ServiceView>,
    /// When the probe began that has not ended yet.
    pub asked: Option<Duration>,
    /// That probe.
    pub question: Option<Question>,
    /// The connection that was kept after its last answer.
    pub connection: Option<line::Kept>,
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
            port: service.port,
            url: service.url.clone(),
            image: service.image.clone(),
            image_digest: String::new(),
            version: String::new(),
            main_pid: 0,
            wants: service.wants.clone(),
            cause: String::new(),
            problems: Vec::new(),
            conflicts: Vec::new(),
            paused_until: 0,
            recoveries: 0,
            work: String::new(),
            interrupted: false,
        };
        Self {
            own: Unit::new(service.name.unit()),
            native: service.native.clone().map(Unit::new),
            owner: Owner::None,
            image: Default::default(),
            judged: None,
            machine: Machine::default(),
            late: Duration::ZERO,
            due: Duration::ZERO,
            held: Duration::ZERO,
            looked: false,
            sample: None,
            around: None,
            at_start: None,
            answer: None,
            work: String::new(),
            interrupted: false,
            good: 0,
            bad: 0,
            recoveries: 0,
            alarmed: false,
            fell: Duration::ZERO,
            view: watch::Sender::new(view),
            asked: None,
            question: None,
            connection: None,
            queued: false,
            answered: None,
            rounds: Vec::new(),
            said: (0, String::new()),
            service,
        }
    }

    /// Takes up where an agent before this one was. Call it when it is known how the unit is.
    pub fn take_up(&mut self, kept: Kept) {
        self.machine = kept.machine.taken_up(self.unit().started);
        self.view.send_modify(|view| {
            view.health = self.machine.health();
            view.health_detail = self.machine.detail();
            view.since = kept.since;
        });
    }

    /// Its media, to be held against how it was at the start; none when it does not run.
    pub fn media(&self) -> Option<&Record> {
        let ours = self.owner == Owner::Container && self.unit().phase() == Phase::Active;
        self.at_start.as_ref().filter(|_| ours)
    }

    /// All that is known of it.
    pub fn standing(&self) -> Standing {
        let unit = self.unit();
        Standing {
            detail: self.view.borrow().health_detail.clone(),
            since: self.fell,
            wants: self.service.wants.clone(),
            unit: unit.name.clone(),
            masked: unit.is_masked(),
            result: unit.result.clone(),
            exit: Exit::of(unit.exit.0, unit.exit.1),
            refused: unit.refused(),
            answer: self.answer.clone(),
            surroundings: self.around.clone(),
            ..Standing::of(&self.machine, unit.phase())
        }
    }

    /// What the agent after this one should know.
    pub fn kept(&self) -> Kept {
        Kept {
            machine: self.machine.clone(),
            since: self.view.borrow().since,
        }
    }

    /// Takes over what a new reading of the configuration says; the verdict stays.
    pub fn configure(&mut self, service: Watched) {
        if self.native.as_ref().map(|unit| &unit.name) != service.native.as_ref() {
            self.native = service.native.clone().map(Unit::new);
        }
        self.service = service;
        self.hang_up();
    }

    /// The next question takes a fresh connection: the one that is kept may lead to what is not there any more.
    pub fn hang_up(&mut self) {
        self.connection = None;
        if let Some(question) = &mut self.question {
            question.keeps = false;
        }
    }

    /// The connection for the next question.
    pub fn line(&mut self) -> Line {
        let kept = self.connection.take();
        if self.interval() <= KEEP_INTERVAL {
            Line::Keep(kept)
        } else {
            Line::Once
        }
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

    /// How long its running question has been open.
    pub fn asked_for(&self, now: Duration) -> Option<Duration> {
        self.asked.map(|asked| now.saturating_sub(asked))
    }

    /// What its unit is doing, as an event of its machine.
    pub fn unit_news(&self) -> Happened {
        let unit = self.unit();
        let phase = unit.phase();
        Happened::Unit(machine::Unit {
            phase,
            started: unit.started,
            refused: matches!(phase, Phase::Restarting | Phase::Failed)
                .then(|| unit.refused())
                .flatten(),
            ours: self.owner != Owner::Native,
            masked: unit.is_masked(),
        })
    }

    /// How often it is asked now: every second while it starts, so that its first good answer is seen soon; no less often
    /// than every few seconds while it is unhealthy, so that its recovery is.
    pub fn interval(&self) -> Duration {
        let most = match self.machine.alive() {
            State::Starting { .. } => Duration::from_secs(1),
            State::Unhealthy { .. } | State::Blind => Duration::from_secs(5),
            State::Unloaded | State::Inactive | State::Healthy { .. } | State::Failed => {
                self.service.interval
            }
        };
        self.service.interval.min(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What systemd says of a unit, message by message: active state, sub state, whether a job is under way; and what that is.
    type Says = (&'static str, &'static str, bool, Phase);

    #[test]
    fn a_unit_that_failed_in_the_middle_of_a_restart_has_not_failed() {
        let stop: [Says; 2] = [
            ("active", "running", false, Phase::Active),
            ("deactivating", "stop-sigkill", true, Phase::Deactivating),
        ];
        let rest: [&[Says]; 5] = [
            // A restart: the start follows.
            &[
                ("failed", "failed", true, Phase::Deactivating),
                ("activating", "start-pre", true, Phase::Activating),
            ],
            // The start is taken back.
            &[
                ("failed", "failed", true, Phase::Deactivating),
                ("failed", "failed", false, Phase::Failed),
                // Somebody starts it later, and it waits for its mounts.
                ("failed", "failed", true, Phase::Failed),
            ],
            // A stop.
            &[("failed", "failed", false, Phase::Failed)],
            // It ended by itself, systemd 254 and later.
            &[
                ("failed", "failed-before-auto-restart", false, Phase::Restarting),
                ("activating", "auto-restart", false, Phase::Restarting),
            ],
            &[("inactive", "dead", true, Phase::Stopped)],
        ];
        for rest in rest {
            let mut unit = Unit::new("dagger-sonarr.service".into());
            for (active, sub, job, phase) in stop.iter().chain(rest) {
                unit.merge(Change {
                    active_state: Some((*active).to_owned()),
                    sub_state: Some((*sub).to_owned()),
                    job: Some(*job),
                    ..Change::default()
                });
                assert_eq!(unit.phase(), *phase, "{active} {sub} in {rest:?}");
            }
        }
        // First heard of between the stop and the start.
        for (job, phase) in [(true, Phase::Deactivating), (false, Phase::Failed)] {
            let mut unit = Unit::new("dagger-sonarr.service".into());
            unit.merge(Change {
                active_state: Some("failed".into()),
                job: Some(job),
                ..Change::default()
            });
            assert_eq!(unit.phase(), phase);
        }
    }
}
