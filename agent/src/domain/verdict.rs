//! Verdicts: what a row of answers says about a service.
//!
//! [`step`] is the whole of it: no clock, no I/O. What systemd says about the unit decides whether a service is judged by
//! its answers at all; its answers decide the rest.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::health::Health;
use super::observation::Observation;

/// What the configuration says about judging one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// How many bad answers in a row make it unhealthy, at least 1.
    pub failures: u32,
    /// How many good answers in a row make an unhealthy one healthy again, at least 1.
    pub successes: u32,
    /// How long after the start of its unit bad answers are no news.
    pub budget: Duration,
    /// Bad answers closer together than this count as one: callers of `Check()` cannot hasten a verdict.
    pub spacing: Duration,
}

/// Bad answers in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Streak {
    /// How many have counted.
    count: u32,
    /// When the last of them did.
    last: Duration,
}

impl Streak {
    /// One more.
    fn and_one(self, policy: Policy, now: Duration) -> Self {
        if self.count > 0 && now < self.last + policy.spacing {
            return self;
        }
        Self {
            count: self.count.saturating_add(1),
            last: now,
        }
    }
}

/// What a unit is doing, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// systemd knows no such unit, or it is masked.
    Unloaded,
    /// It does not run.
    Stopped,
    /// It is being started.
    Activating,
    /// It has ended by itself and systemd is about to start it again.
    Restarting,
    /// It runs.
    Active,
    /// It is being stopped.
    Deactivating,
    /// It has ended badly, and nobody starts it again.
    Failed,
}

impl Phase {
    /// The phase for systemd's own words.
    pub fn of(load_state: &str, active_state: &str, sub_state: &str) -> Self {
        match (active_state, sub_state) {
            ("active" | "reloading" | "refreshing" | "maintenance", _) => Self::Active,
            // systemd 254 and later pass through `failed` or `inactive` on the way to a restart.
            (
                _,
                "auto-restart"
                | "auto-restart-queued"
                | "failed-before-auto-restart"
                | "dead-before-auto-restart",
            ) => Self::Restarting,
            ("activating", _) => Self::Activating,
            ("deactivating", _) => Self::Deactivating,
            ("failed", _) => Self::Failed,
            _ if load_state == "loaded" || load_state.is_empty() => Self::Stopped,
            _ => Self::Unloaded,
        }
    }

    /// Whether the application is worth asking.
    pub fn is_up(self) -> bool {
        matches!(self, Self::Active | Self::Activating)
    }
}

/// Where a service stands. Times are of CLOCK_MONOTONIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Its unit is not there.
    Unloaded,
    /// Its unit does not run.
    Inactive,
    /// It may still take its time.
    Starting {
        /// When the start began.
        since: Duration,
        /// Bad answers in a row.
        bad: Streak,
    },
    /// Its last answer was good, or too few have been bad since.
    Healthy {
        /// Bad answers in a row.
        bad: Streak,
    },
    /// It cannot be asked, for a reason that is not its own.
    Blind,
    /// It should answer and does not, or it ended and is started again.
    Unhealthy {
        /// Good answers in a row.
        good: u32,
    },
    /// systemd has given it up.
    Failed,
}

impl State {
    /// The verdict that people see.
    pub fn health(self) -> Health {
        match self {
            Self::Unloaded | Self::Blind => Health::Unknown,
            Self::Inactive => Health::Inactive,
            Self::Starting { .. } => Health::Starting,
            Self::Healthy { .. } => Health::Healthy,
            Self::Unhealthy { .. } => Health::Unhealthy,
            Self::Failed => Health::Failed,
        }
    }
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Happened {
    /// systemd says that the unit is in this phase.
    Unit {
        /// The phase.
        phase: Phase,
        /// When its last start began; zero when that is not known.
        started: Duration,
    },
    /// A probe has ended.
    Observed(Observation),
}

/// How many start budgets an application may take that says itself that it is still starting or migrating.
///
/// The same bound as the gate's, so that both give up on the same start.
const PATIENCE: u32 = 6;

/// One step: the state before, what happened, and the time; the state after, and the reason for it in words where there is
/// a new one.
pub fn step(policy: Policy, state: State, happened: &Happened, now: Duration) -> (State, Option<String>) {
    match happened {
        Happened::Unit { phase, started } => unit(state, *phase, *started, now),
        Happened::Observed(observation) => observed(policy, state, observation, now).unwrap_or((state, None)),
    }
}

/// The unit changed. A unit that runs leaves the verdict to the probes.
fn unit(state: State, phase: Phase, started: Duration, now: Duration) -> (State, Option<String>) {
    let since = if started.is_zero() { now } else { started };
    let says = |text: &str| Some(text.to_owned());
    match phase {
        Phase::Unloaded => (
            State::Unloaded,
            says("its unit is not loaded: run systemctl daemon-reload"),
        ),
        Phase::Stopped => (State::Inactive, says("not running")),
        // Whether it stops or starts anew shows when it has ended: a crash and a failed start pass through here, too.
        Phase::Deactivating => (state, says("being stopped")),
        Phase::Failed => (State::Failed, says("its unit failed: systemctl status says why")),
        Phase::Restarting => (
            State::Unhealthy { good: 0 },
            says("it ended by itself; systemd starts it again"),
        ),
        Phase::Activating => (
            State::Starting {
                since,
                bad: Streak::default(),
            },
            says("being started"),
        ),
        Phase::Active => match state {
            State::Starting { .. } | State::Healthy { .. } | State::Blind | State::Unhealthy { .. } => {
                (state, None)
            }
            State::Unloaded | State::Inactive | State::Failed => (
                State::Starting {
                    since,
                    bad: Streak::default(),
                },
                says("running; not asked yet"),
            ),
        },
    }
}

/// A probe ended. None: the unit does not run any more, so the answer is about the past.
fn observed(
    policy: Policy,
    state: State,
    observation: &Observation,
    now: Duration,
) -> Option<(State, Option<String>)> {
    let before = match state {
        State::Unloaded | State::Inactive | State::Failed => return None,
        State::Starting { since, bad } => Before {
            since: Some(since),
            bad,
            turned: false,
        },
        State::Healthy { bad } => Before {
            since: None,
            bad,
            turned: false,
        },
        State::Blind | State::Unhealthy { .. } => Before {
            since: None,
            bad: Streak::default(),
            turned: true,
        },
    };
    Some(match observation {
        Observation::Good { detail, .. } => match state {
            State::Unhealthy { good } if good + 1 < policy.successes => (
                State::Unhealthy { good: good + 1 },
                Some(format!(
                    "{detail} ({} of {} before it counts)",
                    good + 1,
                    policy.successes
                )),
            ),
            _ => (
                State::Healthy {
                    bad: Streak::default(),
                },
                Some(detail.clone()),
            ),
        },
        Observation::Starting { detail } => {
            let since = before.since.unwrap_or(now);
            if now < since + policy.budget * PATIENCE {
                (
                    State::Starting {
                        since,
                        bad: Streak::default(),
                    },
                    Some(detail.clone()),
                )
            } else {
                (
                    State::Unhealthy { good: 0 },
                    Some(format!("still not started after all this time: {detail}")),
                )
            }
        }
        Observation::Unable { .. } => bad(policy, &before, State::Blind, observation, now),
        Observation::Bad { .. } | Observation::Refused { .. } | Observation::TimedOut { .. } => {
            bad(policy, &before, State::Unhealthy { good: 0 }, observation, now)
        }
    })
}

/// What a bad answer is counted against.
struct Before {
    /// Since when it is starting, if it is.
    since: Option<Duration>,
    /// Bad answers in a row until now.
    bad: Streak,
    /// They have been enough already.
    turned: bool,
}

/// A bad answer: no news within the start budget, else counted, and with the last of them the state is `worst`.
fn bad(
    policy: Policy,
    before: &Before,
    worst: State,
    observation: &Observation,
    now: Duration,
) -> (State, Option<String>) {
    let bad = before.bad.and_one(policy, now);
    let count = bad.count;
    if let Some(since) = before.since
        && (now < since + policy.budget || count < policy.failures)
    {
        let says = format!("starting: {observation}");
        return (State::Starting { since, bad }, Some(says));
    }
    if before.turned || count >= policy.failures {
        return (worst, Some(observation.to_string()));
    }
    let says = format!("{observation} ({count} of {} before it counts)", policy.failures);
    (State::Healthy { bad }, Some(says))
}

#[cfg(test)]
mod tests;
