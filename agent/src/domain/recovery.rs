//! The ladder: what is done, step by step, about a service that runs and does not answer.
//!
//! ```text
//!            unhealthy            looked, no cause            attempts used up
//!   Idle ───────────────> Looking ───────────────> BackOff ─> Restarting ─────> GivenUp
//!    ^                      │  ^                                  │                │
//!    │                looked│  │again                             │unhealthy again │
//!    │                      v  │                                  └──> Looking     │
//!    │                     Waiting (a cause, with an end)                          │
//!    └──────────────── a good answer, or somebody else stops or starts the unit ───┘
//! ```
//!
//! [`step`] is the whole of it: no clock, no I/O. The unit is only ever restarted through systemd, never inside the start
//! budget of its application, and at most [`Policy::attempts`] times within [`Policy::window`], whatever is observed.

mod stage;

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::surroundings::{After, Cause, Place, Surroundings};
pub use stage::{Action, Input, Stage};

/// A service that waits for a cause to go away is looked at again after this time.
const AGAIN: Duration = Duration::from_secs(15);
/// A unit that cannot start because something that it needs cannot is tried again after this time.
const RETRY: Duration = Duration::from_mins(1);
/// A second look that early tells work from idleness.
const SECOND_LOOK: Duration = Duration::from_secs(2);
/// How long systemd may take to begin a restart that it has been asked for, beside the stop; longer is somebody's interference.
const BEGIN: Duration = Duration::from_mins(2);
/// Wait before the second attempt; each further one waits four times as long.
const BACK_OFF: Duration = Duration::from_secs(30);
/// The longest wait before an attempt.
const BACK_OFF_MAX: Duration = Duration::from_mins(15);
/// So many ends by itself within [`CRASH_WINDOW`], and systemd is asked to stop trying.
const CRASHES: usize = 5;
/// Five starts ten seconds apart fit in, slow starts do too.
const CRASH_WINDOW: Duration = Duration::from_mins(10);

/// What the configuration says about recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Whether anything is done at all.
    pub automatic: bool,
    /// Restarts within the window, at least 1.
    pub attempts: u32,
    /// The window.
    pub window: Duration,
    /// The application's start budget.
    pub budget: Duration,
    /// The longest that systemd waits for one step of its stop (`TimeoutStopSec=`).
    pub stop: Duration,
    /// Distinguishes services, so that waits of two of them differ.
    pub salt: u64,
}

impl Policy {
    /// The salt of a service.
    pub fn salt_of(name: &str) -> u64 {
        BuildHasherDefault::<DefaultHasher>::default().hash_one(name)
    }

    /// By when the start of a restart must have begun that systemd is asked for now. A stop has three steps, each with the whole
    /// time: the unit's own way, SIGTERM, SIGKILL (systemd.service(5)).
    fn begins_by(&self, now: Duration) -> Duration {
        now + self.stop * 3 + BEGIN
    }

    /// Wait before attempt `n` (from 1): none, then 30 s, 2 min, 8 min, each up to a fifth shorter or longer.
    fn back_off(&self, n: u32) -> Duration {
        let Some(doublings) = n.checked_sub(2) else {
            return Duration::ZERO;
        };
        let wait = BACK_OFF
            .saturating_mul(4_u32.saturating_pow(doublings))
            .min(BACK_OFF_MAX);
        let dice = BuildHasherDefault::<DefaultHasher>::default().hash_one((self.salt, n)) % 401;
        wait * (800 + u32::try_from(dice).unwrap_or(200)) / 1000
    }
}

/// The ladder of one service.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Recovery {
    /// Where it stands.
    pub stage: Stage,
    /// When it was restarted by us, within the window.
    restarts: Vec<Duration>,
    /// When it ended by itself, within [`CRASH_WINDOW`].
    crashes: Vec<Duration>,
}

/// One step: the ladder before, what happened, and the time; the ladder after, and what to do.
pub fn step(policy: &Policy, recovery: &Recovery, input: &Input, now: Duration) -> (Recovery, Vec<Action>) {
    let mut next = recovery.clone();
    next.restarts.retain(|at| now.saturating_sub(*at) < policy.window);
    next.crashes.retain(|at| now.saturating_sub(*at) < CRASH_WINDOW);
    let actions = match input {
        Input::Good => next.good(now),
        Input::Suspend => {
            next.stage = Stage::Idle;
            Vec::new()
        }
        _ if !policy.automatic => {
            next.stage = Stage::Idle;
            Vec::new()
        }
        Input::Bad => next.bad(now),
        Input::Ended { refused } => next.ended(policy, refused.as_deref(), now),
        Input::Begins => next.begins(),
        Input::Stopped => next.stopped(now),
        Input::Failed => next.failed(now),
        Input::Found(found) => next.found(policy, found, now),
        Input::Lost(place) => next.lost(policy, place, now),
        Input::Denied(why) => next.give_up(format!("systemd refuses: {why}"), now),
        Input::Tick => next.tick(now),
    };
    (next, actions)
}

impl Recovery {
    /// When [`Input::Tick`] has something to do, if nothing else happens.
    pub fn wakes(&self) -> Option<Duration> {
        match &self.stage {
            Stage::Waiting { again, .. } => Some(*again),
            Stage::Looking { again, .. } => *again,
            Stage::BackOff { until, .. }
            | Stage::Restarting {
                until, begun: false, ..
            } => Some(*until),
            Stage::Idle | Stage::Restarting { .. } | Stage::GivenUp { .. } => None,
        }
    }

    /// Restarts by us within the window.
    pub fn attempts(&self) -> u32 {
        u32::try_from(self.restarts.len()).unwrap_or(u32::MAX)
    }

    /// What it waits for.
    pub fn cause(&self) -> Option<&Cause> {
        match &self.stage {
            Stage::Waiting { cause, .. } => Some(cause),
            Stage::Idle
            | Stage::Looking { .. }
            | Stage::BackOff { .. }
            | Stage::Restarting { .. }
            | Stage::GivenUp { .. } => None,
        }
    }

    /// Since when it does not answer.
    fn since(&self, now: Duration) -> Duration {
        match &self.stage {
            Stage::Looking { since, .. }
            | Stage::Waiting { since, .. }
            | Stage::BackOff { since, .. }
            | Stage::Restarting { since, .. } => *since,
            Stage::Idle | Stage::GivenUp { .. } => now,
        }
    }

    fn good(&mut self, now: Duration) -> Vec<Action> {
        let acted = !matches!(self.stage, Stage::Idle | Stage::Looking { .. });
        let since = self.since(now);
        self.stage = Stage::Idle;
        if !acted {
            return Vec::new();
        }
        vec![Action::Recovered {
            after: now.saturating_sub(since),
            attempts: self.attempts(),
        }]
    }

    fn bad(&mut self, now: Duration) -> Vec<Action> {
        match self.stage {
            Stage::Idle
            | Stage::Restarting { begun: true, .. }
            | Stage::Waiting {
                cause: Cause::Refused(_),
                ..
            } => self.look(now),
            // Somebody looks already, or will in time; a unit that is about to be restarted answers nothing.
            Stage::Looking { .. }
            | Stage::Waiting { .. }
            | Stage::BackOff { .. }
            | Stage::Restarting { begun: false, .. }
            | Stage::GivenUp { .. } => Vec::new(),
        }
    }

    fn look(&mut self, now: Duration) -> Vec<Action> {
        let since = self.since(now);
        self.stage = Stage::Looking {
            since,
            looks: 0,
            again: None,
        };
        vec![Action::Look]
    }

    fn ended(&mut self, policy: &Policy, refused: Option<&str>, now: Duration) -> Vec<Action> {
        let since = self.since(now);
        if matches!(self.stage, Stage::GivenUp { .. }) {
            return Vec::new();
        }
        if let Some(words) = refused {
            // A place that the gate finds missing has its own cause already, which knows when it is over.
            if matches!(
                self.stage,
                Stage::Waiting {
                    cause: Cause::Place(_),
                    ..
                }
            ) {
                return Vec::new();
            }
            return self.wait(policy, since, Cause::Refused(words.to_owned()), now);
        }
        self.crashes.push(now);
        if matches!(self.stage, Stage::Waiting { .. }) {
            self.stage = Stage::Idle;
        }
        if self.crashes.len() < CRASHES {
            return Vec::new();
        }
        // It cannot stay up. What stands around it may say why, so that is looked at first.
        self.look(now)
    }

    fn begins(&mut self) -> Vec<Action> {
        match &mut self.stage {
            Stage::Restarting { begun, .. } => *begun = true,
            // Somebody has started it by hand: a new beginning.
            Stage::GivenUp { .. } => *self = Self::default(),
            // What the gate looks at decides whether it comes up; everything else is the affair of the run before.
            Stage::Waiting {
                cause: Cause::Place(_) | Cause::Refused(_),
                ..
            }
            | Stage::Idle => {}
            Stage::Looking { .. } | Stage::BackOff { .. } | Stage::Waiting { .. } => self.stage = Stage::Idle,
        }
        Vec::new()
    }

    fn stopped(&mut self, now: Duration) -> Vec<Action> {
        match self.stage {
            // Our own restart passes through here, and so does the stop after giving up.
            Stage::Restarting {
                until, begun: false, ..
            } if now < until => {}
            Stage::GivenUp { .. }
            | Stage::Waiting {
                cause: Cause::Place(_),
                ..
            } => {}
            _ => self.stage = Stage::Idle,
        }
        Vec::new()
    }

    fn failed(&mut self, now: Duration) -> Vec<Action> {
        match self.stage {
            Stage::GivenUp { .. } | Stage::Waiting { .. } => {}
            _ => {
                self.stage = Stage::GivenUp {
                    at: now,
                    because: "systemd has given it up".into(),
                }
            }
        }
        Vec::new()
    }

    fn tick(&mut self, now: Duration) -> Vec<Action> {
        match self.stage {
            Stage::Waiting { again, .. } if now >= again => {
                if let Stage::Waiting { again, .. } = &mut self.stage {
                    *again = now + AGAIN;
                }
                vec![Action::Look]
            }
            Stage::Looking {
                since,
                looks,
                again: Some(again),
            } if now >= again => {
                self.stage = Stage::Looking {
                    since,
                    looks,
                    again: None,
                };
                vec![Action::Look]
            }
            Stage::BackOff { since, until } if now >= until => {
                self.stage = Stage::Looking {
                    since,
                    looks: 0,
                    again: None,
                };
                vec![Action::Look]
            }
            Stage::Restarting {
                until, begun: false, ..
            } if now >= until => {
                self.stage = Stage::Idle;
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn found(&mut self, policy: &Policy, found: &Surroundings, now: Duration) -> Vec<Action> {
        let (since, waited, looks) = match &self.stage {
            Stage::Looking { since, looks, .. } => (*since, None, *looks),
            Stage::Waiting {
                since, cause, from, ..
            } => (*since, Some((cause.clone(), *from)), 0),
            // It has been started, stopped or recovered meanwhile.
            Stage::Idle | Stage::BackOff { .. } | Stage::Restarting { .. } | Stage::GivenUp { .. } => {
                return Vec::new();
            }
        };
        let cause = found.cause();
        let from = match (&waited, &cause) {
            (Some((before, from)), Some(cause)) if before.word() == cause.word() => *from,
            _ => now,
        };
        match (waited, cause) {
            (Some((Cause::Place(_) | Cause::Refused(_), _)), Some(cause @ Cause::Place(_))) => {
                self.wait_from(policy, since, cause, from, now)
            }
            // The place is back. A unit that systemd has let go of meanwhile does not start by itself.
            (Some((Cause::Place(_), _)), _) if found.down => self.start(policy, since, now),
            (Some((Cause::Place(_), _)), _) => {
                self.stage = Stage::Idle;
                Vec::new()
            }
            // What it needs could not be started: nobody but us tries again.
            (Some((refused @ Cause::Refused(_), from)), _) if found.down => {
                let mut actions = self.wait_from(policy, since, refused, from, now);
                if let Stage::Waiting { again, .. } = &mut self.stage {
                    *again = now + RETRY;
                }
                actions.push(Action::Start);
                actions
            }
            // The gate asks again at each start, and knows better.
            (Some((refused @ Cause::Refused(_), from)), _) => {
                self.wait_from(policy, since, refused, from, now)
            }
            (_, Some(cause)) => {
                let (patience, after) = cause.patience(policy.budget);
                if after == After::Fail || now < from + patience {
                    self.wait_from(policy, since, cause, from, now)
                } else {
                    self.act(policy, since, now)
                }
            }
            // A unit that has ended has nothing left to compare.
            (_, None) if found.activity.over.is_zero() && looks == 0 && self.crashes.len() < CRASHES => {
                self.stage = Stage::Looking {
                    since,
                    looks: 1,
                    again: Some(now + SECOND_LOOK),
                };
                Vec::new()
            }
            (_, None) => self.act(policy, since, now),
        }
    }

    fn start(&mut self, policy: &Policy, since: Duration, now: Duration) -> Vec<Action> {
        self.stage = Stage::Restarting {
            since,
            until: policy.begins_by(now),
            begun: false,
        };
        vec![Action::Start]
    }

    /// The application must not see what it would see now. A place that comes and goes is bounded like everything else.
    fn lost(&mut self, policy: &Policy, place: &Place, now: Duration) -> Vec<Action> {
        let since = self.since(now);
        match self.stage {
            Stage::GivenUp { .. } => return Vec::new(),
            Stage::Waiting {
                cause: Cause::Place(ref known),
                ..
            } if known.media => return Vec::new(),
            _ => {}
        }
        if self.attempts() >= policy.attempts {
            return self.give_up(format!("{place}, and that again and again"), now);
        }
        self.restarts.push(now);
        let mut actions = self.wait(policy, since, Cause::Place(place.clone()), now);
        actions.push(Action::Withdraw(place.clone()));
        actions
    }

    fn act(&mut self, policy: &Policy, since: Duration, now: Duration) -> Vec<Action> {
        if self.crashes.len() >= CRASHES {
            let count = self.crashes.len();
            return self.give_up(format!("it ended by itself {count} times within 10 minutes"), now);
        }
        let done = self.attempts();
        if done >= policy.attempts {
            let window = policy.window.as_secs() / 60;
            return self.give_up(
                format!("it was restarted {done} times within {window} minutes and does not answer"),
                now,
            );
        }
        let attempt = done + 1;
        let last = self.restarts.last().copied().unwrap_or_default();
        let due = last + policy.back_off(attempt);
        if now < due {
            self.stage = Stage::BackOff { since, until: due };
            return Vec::new();
        }
        self.restarts.push(now);
        self.stage = Stage::Restarting {
            since,
            until: policy.begins_by(now),
            begun: false,
        };
        vec![Action::Restart {
            attempt,
            hold: attempt > 1,
            because: format!(
                "it has not answered for {} s and nothing around it explains that",
                now.saturating_sub(since).as_secs()
            ),
        }]
    }

    fn wait(&mut self, policy: &Policy, since: Duration, cause: Cause, now: Duration) -> Vec<Action> {
        let from = match &self.stage {
            Stage::Waiting {
                cause: before, from, ..
            } if before.word() == cause.word() => *from,
            _ => now,
        };
        self.wait_from(policy, since, cause, from, now)
    }

    fn wait_from(
        &mut self,
        policy: &Policy,
        since: Duration,
        cause: Cause,
        from: Duration,
        now: Duration,
    ) -> Vec<Action> {
        let (patience, after) = cause.patience(policy.budget);
        let new = self.cause() != Some(&cause);
        self.stage = Stage::Waiting {
            since,
            cause: cause.clone(),
            from,
            overdue: after == After::Fail && now >= from + patience,
            again: now + AGAIN,
        };
        if new {
            vec![Action::Waits(cause)]
        } else {
            Vec::new()
        }
    }

    fn give_up(&mut self, because: String, now: Duration) -> Vec<Action> {
        self.stage = Stage::GivenUp {
            at: now,
            because: because.clone(),
        };
        vec![Action::GiveUp(because)]
    }
}
