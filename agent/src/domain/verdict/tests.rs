//! Stories of units and answers, and the verdicts that they lead to.

use super::*;

const POLICY: Policy = Policy {
    failures: 3,
    successes: 1,
    budget: Duration::from_mins(1),
    spacing: Duration::from_secs(5),
};

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn good() -> Happened {
    Happened::Observed(Observation::Good {
        latency: Duration::from_millis(3),
        detail: "HTTP 200".into(),
    })
}

fn refused() -> Happened {
    Happened::Observed(Observation::Refused {
        address: "127.0.0.1:8989".into(),
    })
}

fn migrating() -> Happened {
    Happened::Observed(Observation::Starting {
        detail: "migrating".into(),
    })
}

fn unable() -> Happened {
    Happened::Observed(Observation::Unable {
        detail: "no such namespace".into(),
    })
}

fn healthy() -> State {
    State::Healthy {
        bad: Streak::default(),
    }
}

fn unit(phase: Phase) -> Happened {
    Happened::Unit {
        phase,
        started: s(100),
    }
}

/// Walks through a story and returns the verdict after each step.
fn walk(mut state: State, story: &[(u64, Happened)]) -> Vec<Health> {
    story
        .iter()
        .map(|(at, happened)| {
            state = step(POLICY, state, happened, s(*at)).0;
            state.health()
        })
        .collect()
}

#[test]
fn a_start_that_takes_its_time() {
    use Health::{Healthy, Inactive, Starting};
    let story = [
        (100, unit(Phase::Activating)),
        (101, refused()),
        (102, migrating()),
        (103, unit(Phase::Active)),
        (159, refused()),
        (160, good()),
        (170, unit(Phase::Deactivating)),
        (172, unit(Phase::Stopped)),
        (173, good()),
    ];
    let verdicts = walk(State::Inactive, &story);
    assert_eq!(
        verdicts,
        [
            Starting, Starting, Starting, Starting, Starting, Healthy, Healthy, Inactive, Inactive
        ]
    );
}

#[test]
fn it_takes_as_many_bad_answers_as_the_policy_says() {
    use Health::{Healthy, Unhealthy};
    let story = [
        (200, refused()),
        (210, refused()),
        (220, good()),
        (230, refused()),
        (240, refused()),
        (250, refused()),
        (260, refused()),
        (270, good()),
    ];
    let verdicts = walk(healthy(), &story);
    assert_eq!(
        verdicts,
        [
            Healthy, Healthy, Healthy, Healthy, Healthy, Unhealthy, Unhealthy, Healthy
        ]
    );
}

#[test]
fn a_service_that_was_unhealthy_has_to_earn_it_where_the_policy_says_so() {
    use Health::{Healthy, Unhealthy};
    let policy = Policy {
        successes: 3,
        ..POLICY
    };
    let mut state = State::Unhealthy { good: 0 };
    let story = [
        (200, good()),
        (210, good()),
        (220, refused()),
        (230, good()),
        (240, good()),
        (250, good()),
    ];
    let verdicts = story.map(|(at, happened)| {
        state = step(policy, state, &happened, s(at)).0;
        state.health()
    });
    assert_eq!(
        verdicts,
        [Unhealthy, Unhealthy, Unhealthy, Unhealthy, Unhealthy, Healthy]
    );
}

#[test]
fn a_start_budget_ends() {
    let start = State::Starting {
        since: s(100),
        bad: Streak::default(),
    };
    let story: Vec<_> = [110, 120, 159, 160].map(|at| (at, refused())).into();
    assert_eq!(
        walk(start, &story),
        [
            Health::Starting,
            Health::Starting,
            Health::Starting,
            Health::Unhealthy
        ]
    );
    let story: Vec<_> = [159, 459, 460].map(|at| (at, migrating())).into();
    assert_eq!(
        walk(start, &story),
        [Health::Starting, Health::Starting, Health::Unhealthy]
    );
}

#[test]
fn one_bad_answer_after_a_long_start_is_not_enough() {
    let start = State::Starting {
        since: s(100),
        bad: Streak::default(),
    };
    let story: Vec<_> = [500, 510, 520].map(|at| (at, refused())).into();
    assert_eq!(
        walk(start, &story),
        [Health::Starting, Health::Starting, Health::Unhealthy]
    );
}

#[test]
fn bad_answers_close_together_count_once() {
    let story: Vec<_> = [200, 201, 202, 203, 206, 207, 212]
        .map(|at| (at, refused()))
        .into();
    let mut expected = [Health::Healthy; 7];
    expected[6] = Health::Unhealthy;
    assert_eq!(walk(healthy(), &story), expected);
}

#[test]
fn a_question_that_cannot_be_put_says_nothing_about_the_service() {
    let story: Vec<_> = [500, 510, 520].map(|at| (at, unable())).into();
    assert_eq!(
        walk(healthy(), &story),
        [Health::Healthy, Health::Healthy, Health::Unknown]
    );
}

#[test]
fn never_healthy_without_a_good_answer_after_the_last_bad_one() {
    let states = [
        State::Unloaded,
        State::Inactive,
        State::Starting {
            since: s(100),
            bad: Streak::default(),
        },
        State::Blind,
        State::Unhealthy { good: 0 },
        State::Failed,
    ];
    let phases = [
        Phase::Unloaded,
        Phase::Stopped,
        Phase::Activating,
        Phase::Restarting,
        Phase::Active,
        Phase::Deactivating,
        Phase::Failed,
    ];
    for state in states {
        let others = [refused(), migrating(), unable()];
        for happened in phases.map(unit).into_iter().chain(others) {
            let (next, _) = step(POLICY, state, &happened, s(1000));
            assert_ne!(next.health(), Health::Healthy, "{state:?} {happened:?}");
        }
    }
}

#[test]
fn answers_of_a_unit_that_does_not_run_are_about_the_past() {
    for state in [State::Unloaded, State::Inactive, State::Failed] {
        for happened in [good(), refused(), migrating(), unable()] {
            assert_eq!(step(POLICY, state, &happened, s(1)), (state, None));
        }
    }
}

#[test]
fn systemds_words_are_phases() {
    for (load, active, sub, phase) in [
        ("loaded", "active", "running", Phase::Active),
        ("loaded", "activating", "start-pre", Phase::Activating),
        ("loaded", "activating", "auto-restart", Phase::Restarting),
        (
            "loaded",
            "failed",
            "failed-before-auto-restart",
            Phase::Restarting,
        ),
        (
            "loaded",
            "inactive",
            "dead-before-auto-restart",
            Phase::Restarting,
        ),
        ("loaded", "inactive", "dead", Phase::Stopped),
        ("not-found", "inactive", "dead", Phase::Unloaded),
        ("masked", "inactive", "dead", Phase::Unloaded),
        ("loaded", "failed", "failed", Phase::Failed),
        ("not-found", "active", "running", Phase::Active),
    ] {
        assert_eq!(Phase::of(load, active, sub), phase, "{load} {active} {sub}");
    }
}
