//! Stories: services that are driven as the agent drives them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::health::Health;
use crate::domain::machine::{Happened, Machine, Policy, Unit};
use crate::domain::observation::Observation;
use crate::domain::recovery;
use crate::domain::standing::{Exit, Standing};
use crate::domain::surroundings::{Place, Surroundings, Trouble};
use crate::domain::verdict::{self, Phase};

const POLICY: Policy = Policy {
    verdict: verdict::Policy {
        failures: 3,
        successes: 1,
        budget: s(60),
        spacing: s(5),
    },
    recovery: recovery::Policy {
        automatic: true,
        attempts: 3,
        window: Duration::from_hours(1),
        budget: s(60),
        stop: Duration::from_mins(1),
        salt: 1,
    },
    watchdog: None,
};

pub(super) const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A service that is driven as the agent drives it, and what the agent keeps beside the machine.
pub(super) struct Story {
    pub(super) machine: Machine,
    pub(super) standing: Standing,
    pub(super) now: u64,
}

impl Story {
    /// It runs and has answered.
    pub(super) fn up() -> Self {
        let mut story = Self::down();
        story.unit(Phase::Active, None).after(60).answers(good());
        story
    }

    /// It has not been started.
    pub(super) fn down() -> Self {
        let machine = Machine::default();
        Self {
            standing: Standing::of(&machine, Phase::Stopped),
            machine,
            now: 100,
        }
    }

    pub(super) fn after(&mut self, seconds: u64) -> &mut Self {
        self.now += seconds;
        self
    }

    pub(super) fn happens(&mut self, happened: &Happened) -> &mut Self {
        let was = self.standing.health;
        self.machine = self.machine.step(&POLICY, happened, s(self.now)).0;
        let well = |health| matches!(health, Health::Healthy | Health::Degraded);
        if well(was) != well(self.machine.health()) {
            self.standing.since = s(self.now);
        }
        self.standing = Standing {
            since: self.standing.since,
            surroundings: self.standing.surroundings.take(),
            answer: self.standing.answer.take(),
            refused: self.standing.refused.take(),
            exit: self.standing.exit,
            result: std::mem::take(&mut self.standing.result),
            ..Standing::of(&self.machine, self.standing.phase)
        };
        self
    }

    pub(super) fn unit(&mut self, phase: Phase, refused: Option<&str>) -> &mut Self {
        self.standing.phase = phase;
        self.standing.refused = refused.map(Into::into);
        if phase == Phase::Activating {
            self.standing.answer = None;
        }
        self.happens(&Happened::Unit(Unit {
            phase,
            started: s(100),
            refused: refused.map(Into::into),
            ours: true,
            masked: false,
        }))
    }

    pub(super) fn answers(&mut self, observation: Observation) -> &mut Self {
        self.standing.answer = Some(observation.clone());
        self.happens(&Happened::Observed {
            observation,
            excused: false,
        })
    }

    /// Three bad answers.
    pub(super) fn falls(&mut self, observation: &Observation) -> &mut Self {
        for _ in 0..3 {
            self.after(15).answers(observation.clone());
        }
        self
    }

    /// Somebody has looked around, twice: only two looks tell work from idleness.
    pub(super) fn found(&mut self, surroundings: &Surroundings) -> &mut Self {
        for over in [s(0), s(2)] {
            let mut surroundings = surroundings.clone();
            surroundings.activity.over = over;
            self.standing.surroundings = Some(surroundings.clone());
            self.happens(&Happened::Found(Box::new(surroundings)));
            self.after(over.as_secs()).happens(&Happened::Tick);
        }
        self
    }

    /// Its process has ended, and systemd is about to start it again.
    pub(super) fn ends(&mut self, result: &str, exit: Exit) -> &mut Self {
        (self.standing.result, self.standing.exit) = (result.into(), Some(exit));
        self.after(1).unit(Phase::Restarting, None)
    }

    pub(super) fn wants(&self, wants: &[&str]) -> Standing {
        Standing {
            wants: wants.iter().map(|&want| want.to_owned()).collect(),
            unit: "dagger-sonarr.service".into(),
            ..self.standing.clone()
        }
    }

    pub(super) fn alone(&self) -> BTreeMap<String, Standing> {
        suite([("sonarr", self.wants(&[]))])
    }
}

pub(super) fn suite<const N: usize>(services: [(&str, Standing); N]) -> BTreeMap<String, Standing> {
    services
        .map(|(name, standing)| (name.to_owned(), standing))
        .into()
}

pub(super) fn good() -> Observation {
    Observation::Good {
        latency: Duration::from_millis(3),
        detail: "HTTP 200".into(),
    }
}

pub(super) fn bad(detail: &str) -> Observation {
    Observation::Bad {
        detail: detail.into(),
    }
}

pub(super) fn silent() -> Observation {
    Observation::TimedOut {
        after: s(5),
        connected: true,
    }
}

pub(super) fn refused() -> Observation {
    Observation::Refused {
        address: "127.0.0.1:8989".into(),
    }
}

pub(super) fn place(path: &str, media: bool, trouble: Trouble) -> Surroundings {
    let path = path.into();
    Surroundings {
        places: vec![Place { path, media, trouble }],
        ..Surroundings::default()
    }
}

/// It hangs, and that is what is found.
pub(super) fn hangs(found: &Surroundings) -> BTreeMap<String, Standing> {
    Story::up().falls(&silent()).found(found).alone()
}

/// A crash that systemd answers with a new start.
pub(super) fn crash(result: &str, exit: Exit) -> BTreeMap<String, Standing> {
    Story::up().ends(result, exit).alone()
}
