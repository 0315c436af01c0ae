//! Where a service stands on the ladder, what moves it, and what is to be done then.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::surroundings::{Cause, Place, Surroundings};

/// Where a service stands on the ladder. Times are of CLOCK_MONOTONIC.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub enum Stage {
    /// Nothing is to be done.
    #[default]
    Idle,
    /// It does not answer; somebody looks around.
    Looking {
        /// Since when it does not answer.
        since: Duration,
        /// How many looks are done.
        looks: u32,
        /// When to look a second time, once the first look is done: only two of them tell work from idleness.
        again: Option<Duration>,
    },
    /// It does not answer, and that is not its own doing.
    Waiting {
        /// Since when it does not answer.
        since: Duration,
        /// Why.
        cause: Cause,
        /// Since when that is the cause.
        from: Duration,
        /// The wait has had its end: it is called failed, and watched on.
        overdue: bool,
        /// When to look again.
        again: Duration,
    },
    /// It will be restarted.
    BackOff {
        /// Since when it does not answer.
        since: Duration,
        /// When.
        until: Duration,
    },
    /// systemd restarts it for us, or has done so and it has not answered yet.
    Restarting {
        /// Since when it does not answer.
        since: Duration,
        /// By when its unit must have begun to start; later than that nobody starts it.
        until: Duration,
        /// Its unit has begun to start.
        begun: bool,
    },
    /// All that could be done has been done.
    GivenUp {
        /// When.
        at: Duration,
        /// Why, in words.
        because: String,
    },
}

/// What happened to a service, as far as the ladder cares.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// It answered as it should.
    Good,
    /// The verdict is that it does not answer, again or still.
    Bad,
    /// It ended by itself, and systemd is about to start it again. `refused` is the gate's reason where it has let nothing
    /// run.
    Ended {
        /// The gate's words.
        refused: Option<String>,
    },
    /// Its unit begins to start.
    Begins,
    /// Its unit is being stopped or has stopped, and systemd does not start it again.
    Stopped,
    /// systemd has given it up.
    Failed,
    /// What was found when somebody looked around.
    Found(Box<Surroundings>),
    /// Media that it uses is gone or empty.
    Lost(Place),
    /// systemd would not restart or stop it: its words.
    Denied(String),
    /// Time has passed.
    Tick,
    /// Somebody wants nothing to be done, for now.
    Suspend,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Look around, and come back with [`Input::Found`].
    Look,
    /// Ask systemd to restart it. `hold`: its dependants are not judged until it answers.
    Restart {
        /// Which attempt within the window this is, from 1.
        attempt: u32,
        /// Whether its dependants are held.
        hold: bool,
        /// Why, in words.
        because: String,
    },
    /// Ask systemd to stop it, and tell people: all that could be done has been done.
    GiveUp(String),
    /// Ask systemd to restart it, because it must not see what it would see: the gate holds the start until that is over.
    Withdraw(Place),
    /// Ask systemd to start it: what kept it from running is over.
    Start,
    /// What is waited for, and since when it does not answer: people see it.
    Waits(Cause),
    /// It answers again, this long after it ceased to, after so many restarts.
    Recovered {
        /// How long it did not answer.
        after: Duration,
        /// Restarts by us within the window.
        attempts: u32,
    },
}
