//! One service as a whole: the verdict, the ladder, the watchdog, a pause, what the application says of itself.
//!
//! [`Machine::step`] is everything that the agent decides about a service: the state before, what happened and the time
//! in; the state after and what to do about it out.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::health::Health;
use super::observation::Observation;
use super::recovery::{self, Action, Input, Recovery, Stage};
use super::surroundings::{Place, Surroundings};
use super::verdict::{self, Phase, State};

/// Falls from healthy to unhealthy within [`FLAP_WINDOW`] that make a service one that comes and goes.
const FLAPS: usize = 4;
/// The window.
const FLAP_WINDOW: Duration = Duration::from_mins(30);
/// A service that comes and goes and is now away for so long has gone.
const FLAP_GONE: Duration = Duration::from_mins(5);

/// What the configuration says about one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// How its answers are judged.
    pub verdict: verdict::Policy,
    /// What is done when they are bad.
    pub recovery: recovery::Policy,
    /// Time after which systemd restarts it by itself when neither a good answer comes nor the ladder does anything;
    /// none: no watchdog.
    pub watchdog: Option<Duration>,
}

/// How a unit is.
#[derive(Debug, Clone)]
pub struct Unit {
    /// What it is doing.
    pub phase: Phase,
    /// When its last start began; zero when that is not known.
    pub started: Duration,
    /// Where it is started again or has failed: the gate's reason, when the gate has let nothing run.
    pub refused: Option<String>,
    /// It is our own unit, not a native one: only that is ever acted upon.
    pub ours: bool,
    /// It is masked, whether it runs or not: an operator wants it left alone.
    pub masked: bool,
}

/// What has happened.
#[derive(Debug, Clone)]
pub enum Happened {
    /// systemd says how the unit is.
    Unit(Unit),
    /// A probe has ended.
    Observed {
        /// What it saw.
        observation: Observation,
        /// A bad answer would not be the service's fault: the question was late, or what it depends on is being restarted.
        excused: bool,
    },
    /// It was to be started, and something that its unit requires could not be: in words.
    Unstarted(String),
    /// Somebody has looked around.
    Found(Box<Surroundings>),
    /// Media that it uses is gone or empty.
    Lost(Place),
    /// What the application says of itself, problem by problem.
    Well(Vec<String>),
    /// systemd would not do what it was asked: its words.
    Denied(String),
    /// Nothing is to be done until then ([`Duration::MAX`]: for ever).
    Pause(Duration),
    /// The pause is over.
    Resume,
    /// A job is at work on it, and stops and starts it (`true`); or not any more.
    Taken(bool),
    /// Time has passed.
    Tick,
}

/// What is to be done about it.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// The verdict that people see is another one.
    Became(Health),
    /// The time that a good answer took.
    Took(Duration),
    /// A step of the ladder.
    Act(Action),
    /// systemd's watchdog of the unit.
    Watchdog(Watchdog),
    /// The pause has ended by itself.
    Resumed,
}

/// What systemd's watchdog of the unit is told (sd_notify(3)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watchdog {
    /// Begin, with this limit.
    Arm(Duration),
    /// A good answer has come.
    Feed,
    /// Stop.
    Disarm,
}

/// The watchdog of a unit's run, as it was last told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Armed {
    /// When that run began.
    run: Duration,
    /// When it was last fed.
    fed: Duration,
}

/// One service. Times are of CLOCK_MONOTONIC.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    verdict: State,
    recovery: Recovery,
    /// Reason for the verdict.
    said: String,
    /// What the application says of itself.
    problems: Vec<String>,
    /// When it fell from healthy to unhealthy, within the window.
    falls: Vec<Duration>,
    /// Until when nothing is to be done.
    pause: Option<Duration>,
    armed: Option<Armed>,
    /// The run of the unit that counts: when it began.
    run: Duration,
    phase: Phase,
    /// It is our own unit.
    ours: bool,
    /// Its unit is masked: nothing is done about it meanwhile.
    #[serde(default)]
    masked: bool,
    /// A job is at work on it: nothing is done about it meanwhile.
    #[serde(default)]
    taken: bool,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            verdict: State::Inactive,
            recovery: Recovery::default(),
            said: "not running".into(),
            problems: Vec::new(),
            falls: Vec::new(),
            pause: None,
            armed: None,
            run: Duration::ZERO,
            phase: Phase::Stopped,
            ours: true,
            masked: false,
            taken: false,
        }
    }
}

impl Machine {
    /// The verdict that people see.
    pub fn health(&self) -> Health {
        let alive = self.verdict.health();
        match &self.recovery.stage {
            Stage::GivenUp { .. } | Stage::Waiting { overdue: true, .. } => Health::Failed,
            Stage::Waiting { .. } | Stage::Looking { .. } => Health::Unhealthy,
            Stage::BackOff { .. } | Stage::Restarting { .. } => Health::Recovering,
            Stage::Idle if self.flaps() && matches!(alive, Health::Healthy | Health::Unhealthy) => {
                Health::Degraded
            }
            Stage::Idle if alive == Health::Healthy && !self.problems.is_empty() => Health::Degraded,
            Stage::Idle => alive,
        }
    }

    /// The reason for the verdict, in words.
    pub fn detail(&self) -> String {
        let said = &self.said;
        let text = match &self.recovery.stage {
            Stage::GivenUp { because, .. } => because.clone(),
            Stage::Waiting { cause, overdue, .. } => {
                let word = if *overdue { "still waiting" } else { "waiting" };
                format!("{word}: {cause}")
            }
            Stage::BackOff { .. } => format!("restarted before, and again soon: {said}"),
            Stage::Restarting { .. } => format!("restarted, attempt {}: {said}", self.recovery.attempts()),
            Stage::Looking { .. } => said.clone(),
            Stage::Idle if self.flaps() => format!(
                "it comes and goes, {} times within {} minutes: {said}",
                self.falls.len(),
                FLAP_WINDOW.as_secs() / 60
            ),
            Stage::Idle => match self.problems.as_slice() {
                [one] if self.health() == Health::Degraded => one.clone(),
                [first, others @ ..] if self.health() == Health::Degraded => {
                    format!("{first} (and {} more)", others.len())
                }
                _ => said.clone(),
            },
        };
        match self.pause {
            Some(_) => format!("{text} (recovery is paused)"),
            // What does not run at all says so itself.
            None if self.masked && self.phase.is_up() => {
                format!("{text} (its unit is masked, so nothing is done about it)")
            }
            None => text,
        }
    }

    /// What the verdict is by the answers alone.
    pub fn alive(&self) -> &State {
        &self.verdict
    }

    /// The ladder.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// Until when nothing is done; [`Duration::MAX`]: until somebody says so.
    pub fn paused(&self) -> Option<Duration> {
        self.pause
    }

    /// Whether a job is at work on it.
    pub fn is_taken(&self) -> bool {
        self.taken
    }

    /// What the application says of itself.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// When [`Happened::Tick`] has something to do, if nothing else happens.
    pub fn wakes(&self) -> Option<Duration> {
        let pause = self.pause.filter(|until| *until < Duration::MAX);
        pause.into_iter().chain(self.recovery.wakes()).min()
    }

    /// The state of an agent before this one, where it is still about the same run of the unit; else what of it outlives
    /// a run.
    #[must_use]
    pub fn taken_up(self, run: Duration) -> Self {
        if self.run == run {
            // The watchdogs were stopped when the agent ended: the next good answer arms this one anew.
            return Self { armed: None, ..self };
        }
        Self {
            recovery: self.recovery,
            falls: self.falls,
            pause: self.pause,
            ..Self::default()
        }
    }

    fn flaps(&self) -> bool {
        self.falls.len() >= FLAPS
    }

    /// One step.
    #[must_use]
    pub fn step(&self, policy: &Policy, happened: &Happened, now: Duration) -> (Self, Vec<Effect>) {
        let mut next = self.clone();
        let mut effects = Vec::new();
        next.falls.retain(|at| now.saturating_sub(*at) < FLAP_WINDOW);
        match happened {
            Happened::Unit(unit) => next.unit(policy, unit, now, &mut effects),
            Happened::Observed { observation, excused } => {
                next.observed(policy, observation, *excused, now, &mut effects);
            }
            Happened::Unstarted(why) => {
                let refused = Some(why.clone());
                next.climb(policy, &Input::Ended { refused }, now, &mut effects);
            }
            Happened::Found(found) => next.climb(policy, &Input::Found(found.clone()), now, &mut effects),
            Happened::Lost(place) => next.climb(policy, &Input::Lost(place.clone()), now, &mut effects),
            // What comes after giving up was refused as well: there is nothing left to be given up.
            Happened::Denied(_) if matches!(self.recovery.stage, Stage::GivenUp { .. }) => {}
            Happened::Denied(why) => next.climb(policy, &Input::Denied(why.clone()), now, &mut effects),
            Happened::Well(problems) => next.problems.clone_from(problems),
            Happened::Pause(until) => {
                next.pause = Some(*until);
                next.climb(policy, &Input::Suspend, now, &mut effects);
            }
            Happened::Resume => next.pause = None,
            Happened::Taken(taken) => {
                next.taken = *taken;
                next.climb(policy, &Input::Suspend, now, &mut effects);
            }
            Happened::Tick => next.tick(policy, now, &mut effects),
        }
        next.watch(policy, happened, now, &mut effects);
        if next.health() != self.health() {
            effects.push(Effect::Became(next.health()));
        }
        (next, effects)
    }

    fn unit(&mut self, policy: &Policy, unit: &Unit, now: Duration, effects: &mut Vec<Effect>) {
        let (before, run) = (self.phase, self.run);
        let (phase, started) = (unit.phase, unit.started);
        (self.phase, self.run, self.ours) = (phase, started, unit.ours);
        self.masked = unit.masked;
        self.judge(policy, &verdict::Happened::Unit { phase, started }, now);
        let input = match phase {
            Phase::Restarting if before != phase => Input::Ended {
                refused: unit.refused.clone(),
            },
            Phase::Activating if before != phase || run != started => Input::Begins,
            Phase::Active if run != started => Input::Begins,
            Phase::Stopped | Phase::Deactivating | Phase::Unloaded => Input::Stopped,
            Phase::Failed if before != phase => Input::Failed,
            Phase::Restarting | Phase::Activating | Phase::Active | Phase::Failed => return,
        };
        // What the application said of itself was said by another run.
        if input == Input::Begins {
            self.problems.clear();
        }
        self.climb(policy, &input, now, effects);
    }

    fn observed(
        &mut self,
        policy: &Policy,
        observation: &Observation,
        excused: bool,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        // An answer of an application that is being stopped is about the past.
        if self.phase == Phase::Deactivating || (excused && !observation.is_good()) {
            return;
        }
        if let Observation::Good { latency, .. } = observation {
            effects.push(Effect::Took(*latency));
        }
        let before = self.verdict.health();
        self.judge(policy, &verdict::Happened::Observed(observation.clone()), now);
        let after = self.verdict.health();
        if before == Health::Healthy && after == Health::Unhealthy {
            self.falls.push(now);
        }
        match after {
            Health::Healthy if observation.is_good() => self.climb(policy, &Input::Good, now, effects),
            Health::Unhealthy if !self.flaps() || self.gone(now) => {
                self.climb(policy, &Input::Bad, now, effects);
            }
            _ => {}
        }
    }

    /// It comes and goes, and now it has been away for long.
    fn gone(&self, now: Duration) -> bool {
        self.falls
            .last()
            .is_none_or(|fell| now.saturating_sub(*fell) >= FLAP_GONE)
    }

    fn tick(&mut self, policy: &Policy, now: Duration, effects: &mut Vec<Effect>) {
        if self.pause.is_some_and(|until| now >= until) {
            self.pause = None;
            effects.push(Effect::Resumed);
        }
        self.climb(policy, &Input::Tick, now, effects);
    }

    fn judge(&mut self, policy: &Policy, happened: &verdict::Happened, now: Duration) {
        let (state, says) = verdict::step(policy.verdict, self.verdict, happened, now);
        self.verdict = state;
        if let Some(says) = says {
            self.said = says;
        }
    }

    fn climb(&mut self, policy: &Policy, input: &Input, now: Duration, effects: &mut Vec<Effect>) {
        let policy = recovery::Policy {
            automatic: policy.recovery.automatic
                && self.ours
                && self.pause.is_none()
                && !self.taken
                && !self.masked,
            ..policy.recovery
        };
        let (recovery, actions) = recovery::step(&policy, &self.recovery, input, now);
        self.recovery = recovery;
        effects.extend(actions.into_iter().map(Effect::Act));
    }

    /// The watchdog: armed by the first good answer of a run, fed by good answers alone, and off wherever waiting is what
    /// has been decided. systemd itself stops it while the unit stops, and forgets it when a start begins.
    fn watch(&mut self, policy: &Policy, happened: &Happened, now: Duration, effects: &mut Vec<Effect>) {
        let Some(limit) = policy.watchdog.filter(|_| self.ours && policy.recovery.automatic) else {
            return self.disarm(effects);
        };
        if self.phase != Phase::Active {
            self.armed = None;
            return;
        }
        let waits = matches!(self.recovery.stage, Stage::Waiting { .. });
        if self.pause.is_some() || self.taken || self.masked || waits {
            return self.disarm(effects);
        }
        let good = matches!(happened, Happened::Observed { observation, .. } if observation.is_good());
        if !good {
            return;
        }
        let told = match self.armed {
            Some(armed) if armed.run == self.run && now.saturating_sub(armed.fed) < limit / 4 => return,
            Some(armed) if armed.run == self.run => Watchdog::Feed,
            _ => Watchdog::Arm(limit),
        };
        self.armed = Some(Armed {
            run: self.run,
            fed: now,
        });
        effects.push(Effect::Watchdog(told));
    }

    fn disarm(&mut self, effects: &mut Vec<Effect>) {
        if self.armed.take().is_some() && self.phase == Phase::Active {
            effects.push(Effect::Watchdog(Watchdog::Disarm));
        }
    }
}

#[cfg(test)]
mod tests;
