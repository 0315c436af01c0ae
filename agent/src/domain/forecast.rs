//! How long a job will still take: by its plan before a step has begun, more and more by what the step has done while it
//! goes on.

use super::job::Amount;
use super::plan::facts::Pace;
use super::transaction::Step;

/// What the plan says of a job's steps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forecast {
    /// The steps that there are to take, in order.
    pub steps: Vec<Step>,
    /// How long they take, in ms, as far as that could be told.
    pub costs: Vec<(Step, u64)>,
}

/// How far a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Which.
    pub step: Step,
    /// So long it has been going on, in ms.
    pub since_ms: u64,
    /// So much of it is done.
    pub done: Amount,
    /// Of so much; 0: nobody knows.
    pub total: Amount,
}

impl Forecast {
    /// About how long it takes from the beginning, in ms; none when nothing is known.
    pub fn all(&self) -> Option<u64> {
        self.sum(&self.steps)
    }

    /// About how long it still takes, in ms; none when nothing is known.
    pub fn left(&self, place: &Place) -> Option<u64> {
        let at = self.steps.iter().position(|step| *step == place.step)?;
        let later = self.sum(self.steps.get(at + 1..).unwrap_or_default());
        match (self.of_step(place), later) {
            (None, None) => None,
            (step, later) => Some(step.unwrap_or(0).saturating_add(later.unwrap_or(0))),
        }
    }

    /// A step takes as long as was planned, until it shows its own pace: the further it is, the more that counts.
    fn of_step(&self, place: &Place) -> Option<u64> {
        let planned = self.cost(place.step);
        let share = share(place.done, place.total);
        if share == 0 {
            return planned.map(|planned| planned.saturating_sub(place.since_ms));
        }
        let rest = WHOLE - share;
        let by_pace = place.since_ms.saturating_mul(rest) / share;
        let Some(planned) = planned else {
            return Some(by_pace);
        };
        let by_plan = planned.saturating_mul(rest) / WHOLE;
        let both = by_pace
            .saturating_mul(share)
            .saturating_add(by_plan.saturating_mul(rest));
        Some(both / WHOLE)
    }

    fn cost(&self, step: Step) -> Option<u64> {
        self.costs.iter().find(|(it, _)| *it == step).map(|(_, ms)| *ms)
    }

    fn sum(&self, steps: &[Step]) -> Option<u64> {
        let known: Vec<u64> = steps.iter().filter_map(|step| self.cost(*step)).collect();
        (!known.is_empty()).then(|| known.into_iter().fold(0, u64::saturating_add))
    }
}

/// What a share is a share of.
const WHOLE: u64 = 1000;

/// How much of an amount is done, by the time that files and bytes take.
fn share(done: Amount, total: Amount) -> u64 {
    let Pace { bytes, files } = Pace::default();
    // In the time that one byte takes: a file is as long as so many bytes.
    let work = |amount: Amount| {
        amount
            .bytes
            .saturating_add(amount.files.saturating_mul(bytes / files))
    };
    let total = work(total).max(1) / WHOLE;
    (work(done) / total.max(1)).min(WHOLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forecast() -> Forecast {
        Forecast {
            steps: vec![
                Step::Snapshot,
                Step::Stop,
                Step::Adjust,
                Step::Start,
                Step::Probation,
            ],
            costs: vec![
                (Step::Snapshot, 100_000),
                (Step::Stop, 2000),
                (Step::Adjust, 500),
                (Step::Probation, 10_000),
            ],
        }
    }

    const TREE: Amount = Amount {
        files: 40_000,
        bytes: 10 << 30,
    };

    fn part(percent: u64) -> Amount {
        Amount {
            files: TREE.files * percent / 100,
            bytes: TREE.bytes / 100 * percent,
        }
    }

    fn snapshot(since_ms: u64, percent: u64) -> Option<u64> {
        forecast().left(&Place {
            step: Step::Snapshot,
            since_ms,
            done: part(percent),
            total: TREE,
        })
    }

    /// What comes after the snapshot.
    const LATER: u64 = 12_500;

    #[test]
    fn what_was_planned_holds_until_something_is_done() {
        assert_eq!(forecast().all(), Some(100_000 + LATER));
        assert_eq!(snapshot(0, 0), Some(100_000 + LATER));
        assert_eq!(snapshot(1000, 0), Some(99_000 + LATER));
        assert_eq!(
            snapshot(300_000, 0),
            Some(LATER),
            "it is late, and will not have ended before it began"
        );
    }

    #[test]
    fn a_step_that_is_quicker_or_slower_than_planned_is_foreseen_by_its_own_pace() {
        let near = |left: Option<u64>, wanted: u64| {
            let left = left.unwrap() - LATER;
            assert!(
                left.abs_diff(wanted) <= wanted / 50,
                "{left} is not about {wanted}"
            );
        };
        // As planned.
        near(snapshot(50_000, 50), 50_000);
        // Ten times as quick: 5 s for the first half.
        near(snapshot(5000, 50), 27_500);
        near(snapshot(9000, 90), (9 * 1000 + 10_000) / 10);
        // Ten times as slow.
        near(snapshot(900_000, 90), (9 * 100_000 + 10_000) / 10);
        assert_eq!(snapshot(7000, 100), Some(LATER));
    }

    #[test]
    fn it_only_falls_while_the_work_goes_on_evenly() {
        for whole in [10_000, 100_000, 400_000] {
            let left: Vec<_> = (0..=100)
                .filter_map(|percent| snapshot(whole * percent / 100, percent))
                .collect();
            assert_eq!(left.len(), 101);
            let bound = whole.max(100_000) + LATER;
            assert!(left.iter().all(|left| *left <= bound), "{left:?}");
            assert_eq!(left.last(), Some(&LATER));
            if whole <= 100_000 {
                assert!(left.is_sorted_by(|a, b| a >= b), "{left:?}");
            }
        }
    }

    #[test]
    fn steps_whose_work_nobody_measures_run_down_by_the_clock() {
        let at = |step, since_ms| {
            let none = Amount::default();
            forecast().left(&Place {
                step,
                since_ms,
                done: none,
                total: none,
            })
        };
        assert_eq!(at(Step::Stop, 500), Some(1500 + 500 + 10_000));
        assert_eq!(at(Step::Adjust, 0), Some(500 + 10_000));
        assert_eq!(at(Step::Start, 5000), Some(10_000), "of a start nothing is known");
        assert_eq!(at(Step::Probation, 4000), Some(6000));
        assert_eq!(at(Step::Clone, 0), None, "it is none of this job's");
        assert_eq!(Forecast::default().all(), None);
    }

    #[test]
    fn without_a_plan_the_pace_alone_tells() {
        let forecast = Forecast {
            steps: vec![Step::Restore, Step::Start],
            costs: Vec::new(),
        };
        let place = |percent| Place {
            step: Step::Restore,
            since_ms: 3000,
            done: part(percent),
            total: TREE,
        };
        assert_eq!(forecast.left(&place(0)), None);
        let left = forecast.left(&place(25)).unwrap();
        assert!((8900..=9100).contains(&left), "{left}");
    }
}
