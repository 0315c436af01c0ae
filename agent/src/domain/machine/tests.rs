//! Stories of services, and what is done about them; then properties over random stories.

use super::*;
use crate::domain::surroundings::{APART, Activity, Cause, Trouble};

const POLICY: Policy = Policy {
    verdict: verdict::Policy {
        failures: 3,
        successes: 1,
        budget: Duration::from_mins(1),
        spacing: Duration::from_secs(5),
    },
    recovery: recovery::Policy {
        automatic: true,
        attempts: 3,
        window: Duration::from_hours(1),
        budget: Duration::from_mins(1),
        stop: Duration::from_mins(1),
        salt: 1,
    },
    watchdog: Some(Duration::from_mins(10)),
};

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn unit(phase: Phase, started: u64) -> Happened {
    Happened::Unit(Unit {
        phase,
        started: s(started),
        refused: None,
        ours: true,
        masked: false,
    })
}

fn refused_start(words: &str) -> Happened {
    Happened::Unit(Unit {
        phase: Phase::Restarting,
        started: s(100),
        refused: Some(words.into()),
        ours: true,
        masked: false,
    })
}

fn good() -> Happened {
    Happened::Observed {
        observation: Observation::Good {
            latency: Duration::from_millis(3),
            detail: "HTTP 200".into(),
        },
        excused: false,
    }
}

fn bad() -> Happened {
    Happened::Observed {
        observation: Observation::Bad {
            detail: "HTTP 500".into(),
        },
        excused: false,
    }
}

/// Nothing special around it, and nothing done since the last look.
fn idle() -> Surroundings {
    Surroundings {
        activity: Activity {
            over: s(2),
            ..Activity::default()
        },
        ..Surroundings::default()
    }
}

fn found(surroundings: Surroundings) -> Happened {
    Happened::Found(Box::new(surroundings))
}

fn fun(trouble: Trouble) -> Place {
    Place {
        path: "/fun".into(),
        media: true,
        trouble,
    }
}

/// A service, and the story so far.
struct Patient {
    machine: Machine,
    policy: Policy,
    now: Duration,
}

impl Patient {
    /// Healthy since second 110.
    fn healthy() -> Self {
        let mut patient = Self {
            machine: Machine::default(),
            policy: POLICY,
            now: s(100),
        };
        patient.at(100, &unit(Phase::Activating, 100));
        patient.at(105, &unit(Phase::Active, 100));
        patient.at(110, &good());
        assert_eq!(patient.machine.health(), Health::Healthy);
        patient
    }

    fn at(&mut self, second: u64, happened: &Happened) -> Vec<Effect> {
        self.now = s(second);
        let (machine, effects) = self.machine.step(&self.policy, happened, self.now);
        self.machine = machine;
        effects
    }

    /// Three bad answers, the last one at this second; says what is to be done then.
    fn falls(&mut self, second: u64) -> Vec<Effect> {
        self.at(second - 20, &bad());
        self.at(second - 10, &bad());
        self.at(second, &bad())
    }

    fn health(&self) -> Health {
        self.machine.health()
    }
}

fn acts(effects: &[Effect]) -> Vec<&Action> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Act(action) => Some(action),
            _ => None,
        })
        .collect()
}

fn restarts(effects: &[Effect]) -> bool {
    acts(effects)
        .iter()
        .any(|action| matches!(action, Action::Restart { .. }))
}

/// From a fall to the restart: a look, a second look two seconds later, and nothing that explains it.
fn restarted(patient: &mut Patient, second: u64) {
    assert_eq!(acts(&patient.falls(second)), [&Action::Look]);
    let mut first = idle();
    first.activity.over = Duration::ZERO;
    assert!(acts(&patient.at(second, &found(first))).is_empty());
    assert_eq!(acts(&patient.at(second + 2, &Happened::Tick)), [&Action::Look]);
    let effects = patient.at(second + 2, &found(idle()));
    assert!(restarts(&effects), "{effects:?} {:?}", patient.machine);
}

#[test]
fn a_hang_is_looked_at_twice_then_restarted_and_healthy_again() {
    let mut patient = Patient::healthy();
    restarted(&mut patient, 200);
    assert_eq!(patient.health(), Health::Recovering);
    patient.at(203, &unit(Phase::Deactivating, 100));
    patient.at(204, &unit(Phase::Stopped, 100));
    patient.at(205, &unit(Phase::Activating, 205));
    assert_eq!(patient.health(), Health::Recovering);
    patient.at(210, &unit(Phase::Active, 205));
    let effects = patient.at(211, &good());
    assert!(matches!(
        acts(&effects)[..],
        [Action::Recovered { attempts: 1, .. }]
    ));
    assert_eq!(patient.health(), Health::Healthy);
}

#[test]
fn the_second_attempt_waits_and_holds_the_dependants_and_after_the_third_it_is_given_up() {
    let mut patient = Patient::healthy();
    let mut second = 200;
    let mut waits = Vec::new();
    for attempt in 1..=3 {
        patient.falls(second);
        let mut effects = patient.at(second + 2, &found(idle()));
        let from = second;
        while !restarts(&effects) {
            second += 1;
            patient.at(second, &Happened::Tick);
            effects = patient.at(second, &found(idle()));
        }
        waits.push(second - from);
        let hold = acts(&effects)
            .iter()
            .any(|action| matches!(action, Action::Restart { hold: true, .. }));
        assert_eq!(hold, attempt > 1);
        patient.at(second + 1, &unit(Phase::Deactivating, 100));
        patient.at(second + 2, &unit(Phase::Activating, second + 2));
        patient.at(second + 3, &unit(Phase::Active, second + 2));
        patient.at(second + 4, &good());
        second += 40;
    }
    assert!(waits[1] <= 40 && waits[2] > 40, "{waits:?}");
    patient.falls(second);
    // The fourth fall within half an hour: it comes and goes, and only when it is really gone is it given up.
    assert_eq!(patient.health(), Health::Degraded);
    second += 400;
    assert_eq!(acts(&patient.at(second, &bad())), [&Action::Look]);
    let effects = patient.at(second + 2, &found(idle()));
    assert!(matches!(acts(&effects)[..], [Action::GiveUp(_)]), "{effects:?}");
    assert_eq!(patient.health(), Health::Failed);
    // `systemctl start` is a new beginning.
    patient.at(second + 5, &unit(Phase::Stopped, 100));
    assert_eq!(patient.health(), Health::Failed);
    patient.at(second + 100, &unit(Phase::Activating, second + 100));
    patient.at(second + 101, &unit(Phase::Active, second + 100));
    patient.at(second + 102, &good());
    assert_ne!(patient.health(), Health::Failed);
}

#[test]
fn a_service_that_cannot_stay_up_is_given_up_after_a_look() {
    let mut patient = Patient::healthy();
    let mut last = Vec::new();
    for n in 0..5 {
        let second = 200 + n * 12;
        last = patient.at(second, &unit(Phase::Restarting, second));
        if n < 4 {
            assert!(acts(&last).is_empty(), "{n}");
            patient.at(second + 10, &unit(Phase::Activating, second + 10));
        }
    }
    assert_eq!(acts(&last), [&Action::Look]);
    // Its control group is gone: there is nothing to compare a second look with.
    let effects = patient.at(260, &found(Surroundings::default()));
    assert!(matches!(acts(&effects)[..], [Action::GiveUp(_)]), "{effects:?}");
}

#[test]
fn a_pause_is_kept_and_ends_by_itself() {
    let mut patient = Patient::healthy();
    patient.falls(200);
    let effects = patient.at(201, &Happened::Pause(s(7401)));
    assert!(effects.contains(&Effect::Watchdog(Watchdog::Disarm)));
    assert!(acts(&patient.at(202, &found(idle()))).is_empty());
    patient.at(230, &bad());
    assert_eq!(patient.machine.detail(), "HTTP 500 (recovery is paused)");
    assert_eq!(patient.machine.wakes(), Some(s(7401)));
    assert!(patient.at(7401, &Happened::Tick).contains(&Effect::Resumed));
    assert_eq!(acts(&patient.at(7410, &bad())), [&Action::Look]);
}

#[test]
fn automatic_recovery_can_be_off_and_a_native_unit_is_never_touched() {
    let mut off = Patient::healthy();
    off.policy.recovery.automatic = false;
    assert!(acts(&off.falls(200)).is_empty());
    assert_eq!(off.health(), Health::Unhealthy);

    let mut native = Patient::healthy();
    native.at(
        150,
        &Happened::Unit(Unit {
            phase: Phase::Active,
            started: s(100),
            refused: None,
            ours: false,
            masked: false,
        }),
    );
    let effects = native.falls(200);
    assert!(acts(&effects).is_empty());
    assert!(acts(&native.at(201, &Happened::Lost(fun(Trouble::Empty)))).is_empty());
}

/// The mask is taken off again: the ladder goes on where a bad answer finds it.
#[test]
fn a_masked_unit_that_runs_is_watched_and_never_touched() {
    let mut patient = Patient::healthy();
    let is = |masked| {
        Happened::Unit(Unit {
            phase: Phase::Active,
            started: s(100),
            refused: None,
            ours: true,
            masked,
        })
    };
    assert_eq!(patient.at(150, &is(true)), [Effect::Watchdog(Watchdog::Disarm)]);
    assert!(acts(&patient.falls(200)).is_empty());
    assert_eq!(patient.health(), Health::Unhealthy, "it is watched on");
    assert_eq!(
        patient.machine.detail(),
        "HTTP 500 (its unit is masked, so nothing is done about it)"
    );
    patient.at(300, &is(false));
    assert_eq!(acts(&patient.at(305, &bad())), [&Action::Look]);
}

/// systemd may refuse the stop that comes after giving up as well (`RefuseManualStop=`).
#[test]
fn what_is_refused_is_given_up_once() {
    let mut patient = Patient::healthy();
    patient.falls(200);
    let denied = Happened::Denied("no".into());
    assert!(matches!(
        acts(&patient.at(300, &denied)).as_slice(),
        [Action::GiveUp(_)]
    ));
    assert!(patient.at(301, &denied).is_empty());
    assert_eq!(patient.health(), Health::Failed);
}

/// The job stops and starts the unit itself, and its probation decides what is good enough.
#[test]
fn a_service_that_a_job_is_at_work_on_is_left_alone() {
    let mut patient = Patient::healthy();
    let effects = patient.at(150, &Happened::Taken(true));
    assert_eq!(effects, [Effect::Watchdog(Watchdog::Disarm)]);
    assert!(acts(&patient.falls(200)).is_empty());
    assert_eq!(patient.health(), Health::Unhealthy, "it is watched on");
    assert!(acts(&patient.at(240, &Happened::Lost(fun(Trouble::Empty)))).is_empty());
    let mut effects = patient.at(250, &unit(Phase::Restarting, 100));
    effects.extend(patient.at(260, &unit(Phase::Active, 260)));
    effects.extend(patient.at(265, &good()));
    assert!(
        !effects
            .iter()
            .any(|it| matches!(it, Effect::Act(_) | Effect::Watchdog(_))),
        "{effects:?}"
    );
    patient.at(270, &Happened::Taken(false));
    let effects = patient.at(280, &good());
    assert!(
        effects
            .iter()
            .any(|it| matches!(it, Effect::Watchdog(Watchdog::Arm(_))))
    );
    assert_eq!(acts(&patient.falls(400)), [&Action::Look]);
}

#[test]
fn the_watchdog_is_armed_by_the_first_good_answer_and_fed_by_good_ones_only() {
    let mut patient = Patient::healthy();
    let told = |effects: Vec<Effect>| {
        effects
            .into_iter()
            .filter_map(|effect| match effect {
                Effect::Watchdog(told) => Some(told),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(told(patient.at(120, &good())), []);
    assert_eq!(told(patient.at(300, &good())), [Watchdog::Feed]);
    assert_eq!(told(patient.at(500, &bad())), []);
    assert_eq!(told(patient.at(600, &unit(Phase::Activating, 600))), []);
    assert_eq!(told(patient.at(601, &good())), [], "not while it starts");
    assert_eq!(told(patient.at(610, &unit(Phase::Active, 600))), []);
    assert_eq!(
        told(patient.at(611, &good())),
        [Watchdog::Arm(Duration::from_mins(10))]
    );
}

#[test]
fn what_an_application_says_of_itself_degrades_and_never_restarts() {
    let mut patient = Patient::healthy();
    let effects = patient.at(
        200,
        &Happened::Well(vec!["no indexers".into(), "disk is low".into()]),
    );
    assert!(acts(&effects).is_empty());
    assert_eq!(
        (patient.health(), patient.machine.detail().as_str()),
        (Health::Degraded, "no indexers (and 1 more)")
    );
    patient.at(300, &Happened::Well(Vec::new()));
    assert_eq!(patient.health(), Health::Healthy);
}

#[test]
fn an_agent_takes_up_where_the_one_before_it_was() {
    let mut patient = Patient::healthy();
    restarted(&mut patient, 200);
    let text = serde_json::to_string(&patient.machine).unwrap();
    let read: Machine = serde_json::from_str(&text).unwrap();
    assert_eq!(read, patient.machine);
    assert_eq!(read.clone().taken_up(s(100)).health(), Health::Recovering);
    let other = read.taken_up(s(999));
    assert_eq!(other.recovery().attempts(), 1);
}

mod flaps;
mod properties;
mod waits;
