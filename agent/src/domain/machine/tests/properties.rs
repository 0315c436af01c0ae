//! What holds whatever happens: random stories, the same in each run.

use super::*;
use crate::domain::health::TRANSITIONS;

/// A small generator of random numbers (splitmix64): stories are the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

fn anything(dice: &mut Dice, now: u64) -> Happened {
    match dice.roll(17) {
        0 => unit(Phase::Activating, now),
        1 => unit(Phase::Active, now - dice.roll(50)),
        2 => unit(Phase::Deactivating, now),
        3 => unit(Phase::Restarting, now),
        4 => good(),
        5 | 6 => bad(),
        7 => Happened::Tick,
        8 => found(Surroundings {
            pressure: (dice.roll(2) == 0).then_some((99.0, "memory")),
            frozen: dice.roll(4) == 0,
            down: dice.roll(2) == 0,
            ..idle()
        }),
        9 => Happened::Lost(fun(Trouble::Empty)),
        10 => Happened::Well(vec!["x".into()]),
        11 => unit(Phase::Stopped, now),
        12 => unit(Phase::Failed, now),
        13 => unit(Phase::Unloaded, now),
        14 => Happened::Observed {
            observation: Observation::Unable {
                detail: "no such namespace".into(),
            },
            excused: false,
        },
        15 => refused_start("the port is taken"),
        _ => found(idle()),
    }
}

#[test]
fn whatever_happens_restarts_are_bounded_in_any_window() {
    for seed in 0..400 {
        let mut dice = Dice(seed);
        let mut patient = Patient::healthy();
        let (mut now, mut acted) = (120, Vec::<u64>::new());
        for _ in 0..400 {
            now += dice.roll(60);
            let before = patient.machine.clone();
            let happened = anything(&mut dice, now);
            let spoke = matches!(&happened, Happened::Observed { observation, .. } if observation.is_good());
            let effects = patient.at(now, &happened);
            for action in acts(&effects) {
                if matches!(action, Action::Restart { .. } | Action::Withdraw(_)) {
                    acted.push(now);
                }
                if matches!(action, Action::Restart { .. }) {
                    let starts =
                        matches!(before.alive(), State::Starting { since, .. } if s(now) < *since + s(60));
                    assert!(
                        !starts,
                        "seed {seed}: within the start budget: {before:?} {happened:?}"
                    );
                }
            }
            let given_up = |machine: &Machine| matches!(machine.recovery().stage, Stage::GivenUp { .. });
            if given_up(&before) && !given_up(&patient.machine) {
                // Somebody started it by hand, or it answers all the same: a new count.
                assert!(spoke || matches!(happened, Happened::Unit(_)), "seed {seed}");
                acted.clear();
            }
            let window = acted.iter().filter(|at| *at + 3600 > now).count();
            assert!(window <= 3, "seed {seed}: {acted:?}");
            if patient.health() == Health::Healthy && before.health() != Health::Healthy {
                let still = *before.alive() == *patient.machine.alive();
                assert!(spoke || still, "seed {seed}: healthy without a good answer");
            }
        }
    }
}

#[test]
fn the_table_of_transitions_is_what_the_machine_does() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..600 {
        let mut dice = Dice(seed);
        let mut patient = Patient::healthy();
        let mut now = 120;
        for _ in 0..200 {
            now += dice.roll(60);
            let before = patient.health();
            let happened = anything(&mut dice, now);
            patient.at(now, &happened);
            seen.insert((before.word(), patient.health().word()));
        }
    }
    // Too rare for the dice: a restart that systemd does not begin, of a unit that was reloaded meanwhile.
    let mut patient = Patient::healthy();
    restarted(&mut patient, 200);
    patient.at(203, &unit(Phase::Unloaded, 100));
    patient.at(204, &unit(Phase::Active, 100));
    let before = patient.health();
    patient.at(510, &Happened::Tick);
    seen.insert((before.word(), patient.health().word()));
    seen.retain(|(before, after)| before != after);
    let table: std::collections::BTreeSet<_> = TRANSITIONS
        .iter()
        .flat_map(|row| row.from.iter().map(|from| (from.word(), row.to.word())))
        .collect();
    assert_eq!(seen, table);
}
