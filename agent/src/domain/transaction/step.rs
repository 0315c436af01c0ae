//! The steps of a transaction: which a verb is made of, and the few facts about each that the engine goes by.

use serde::{Deserialize, Serialize};

use super::verb::{Data, Options, Verb};

/// One step. Its word stands in logs on people's disks: it never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// The shadow's container ends.
    StopShadow,
    /// The shadow's copy of the data is removed.
    DropShadow,
    /// The image is fetched and looked at. The old side still runs.
    Pull,
    /// The data is copied for a shadow.
    Clone,
    /// The shadow's container starts.
    StartShadow,
    /// The data is copied to the transaction's snapshot while the old side runs.
    Snapshot,
    /// The old side ends. From here on the service is held.
    Stop,
    /// What changed since the copy was begun goes into the snapshot, too.
    Refresh,
    /// The data becomes what an older snapshot holds.
    Restore,
    /// The databases are looked through.
    Check,
    /// Settings that must be others for the new side are changed.
    Adjust,
    /// The owner marker is put down or taken away.
    Flip,
    /// Only on the way back: the data becomes what this transaction's snapshot holds.
    PutBack,
    /// Only on the way back: what the new side has written is kept as a snapshot of its own.
    SetAside,
    /// The new side starts. From here on the service is no longer held.
    Start,
    /// The new side has to be healthy for a while, with everything in it that was there before.
    Probation,
}

/// A direction through the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Towards the commit.
    Forward,
    /// Undoing.
    Back,
}

impl Step {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::StopShadow,
        Self::DropShadow,
        Self::Pull,
        Self::Clone,
        Self::StartShadow,
        Self::Snapshot,
        Self::Stop,
        Self::Refresh,
        Self::Restore,
        Self::Check,
        Self::Adjust,
        Self::Flip,
        Self::PutBack,
        Self::SetAside,
        Self::Start,
        Self::Probation,
    ];

    /// Its name, in the log and for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::StopShadow => "stop-shadow",
            Self::DropShadow => "drop-shadow",
            Self::Pull => "pull",
            Self::Clone => "clone",
            Self::StartShadow => "start-shadow",
            Self::Snapshot => "snapshot",
            Self::Stop => "stop",
            Self::Refresh => "refresh",
            Self::Restore => "restore",
            Self::Check => "check",
            Self::Adjust => "adjust",
            Self::Flip => "flip",
            Self::PutBack => "put-back",
            Self::SetAside => "set-aside",
            Self::Start => "start",
            Self::Probation => "probation",
        }
    }

    /// Whether there is anything to do in this direction. Where there is not, nothing is logged.
    pub fn acts(self, way: Way) -> bool {
        match way {
            Way::Forward => !matches!(self, Self::PutBack | Self::SetAside),
            Way::Back => !matches!(
                self,
                // An image that is there, a look, and a shadow that is gone hurt nobody.
                Self::Pull
                    | Self::Refresh
                    | Self::Check
                    | Self::Probation
                    | Self::StopShadow
                    | Self::DropShadow
            ),
        }
    }

    /// Whether neither side may start while the step is taken in this direction.
    pub fn holds(self, way: Way) -> bool {
        match self {
            Self::StopShadow
            | Self::DropShadow
            | Self::Pull
            | Self::Clone
            | Self::StartShadow
            | Self::Snapshot
            | Self::Probation => false,
            Self::Refresh
            | Self::Restore
            | Self::Check
            | Self::Adjust
            | Self::Flip
            | Self::PutBack
            | Self::SetAside => true,
            Self::Stop => way == Way::Forward,
            Self::Start => way == Way::Back,
        }
    }

    /// Whether the step has to wait, in this direction, until the machine has booted: it needs units that run, or takes
    /// long while the service could run already.
    pub fn waits_for_boot(self, way: Way) -> bool {
        match way {
            // What podman keeps of a shadow's container only podman can remove.
            Way::Forward => matches!(self, Self::Probation | Self::StopShadow | Self::DropShadow),
            Way::Back => matches!(self, Self::Snapshot | Self::Clone | Self::StartShadow),
        }
    }
}

/// The steps of a verb, in order. A plan tells of these, a job takes these, and people see these counted ([`forward`]).
pub fn steps(verb: Verb, options: &Options) -> Vec<Step> {
    use Step::{
        Adjust, Check, Clone, DropShadow, Flip, Probation, Pull, PutBack, Refresh, Restore, SetAside,
        Snapshot, Start, StartShadow, Stop, StopShadow,
    };
    let handover = [Check, Adjust, Flip, PutBack, SetAside, Start, Probation];
    let mut steps = match verb {
        Verb::Migrate => vec![Pull, Snapshot, Stop, Refresh],
        Verb::Promote => vec![StopShadow, DropShadow, Pull, Snapshot, Stop, Refresh],
        Verb::Rollback => vec![Snapshot, Stop, Refresh],
        Verb::Shadow => return vec![Pull, Clone, StartShadow],
        Verb::Discard => return vec![StopShadow, DropShadow],
        Verb::Rehearse => return vec![Pull, Clone, StartShadow, Probation, StopShadow, DropShadow],
    };
    if verb == Verb::Rollback && options.data == Data::Restore {
        steps.push(Restore);
    }
    steps.extend(handover);
    steps.retain(|step| *step != Adjust || !options.nothing_to_adjust);
    steps
}

/// Those of a list in which there is anything to do on the way forward: what people see counted.
pub fn forward(steps: &[Step]) -> impl Iterator<Item = Step> {
    steps.iter().copied().filter(|step| step.acts(Way::Forward))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every list that there is.
    fn all() -> Vec<(Verb, Vec<Step>)> {
        let mut lists = Vec::new();
        for verb in Verb::ALL {
            for data in [Data::Keep, Data::Restore] {
                for nothing_to_adjust in [false, true] {
                    let options = Options {
                        data,
                        nothing_to_adjust,
                        ..Options::default()
                    };
                    lists.push((verb, steps(verb, &options)));
                }
            }
        }
        lists
    }

    #[test]
    fn words_are_those_of_the_log() {
        for step in Step::ALL {
            assert_eq!(serde_json::to_value(step).unwrap(), step.word());
        }
    }

    #[test]
    fn no_step_comes_twice_and_each_is_used() {
        for (verb, steps) in all() {
            let mut once = steps.clone();
            once.sort_unstable();
            once.dedup();
            assert_eq!(once.len(), steps.len(), "{verb:?}");
        }
        for step in Step::ALL {
            assert!(all().iter().any(|(_, steps)| steps.contains(&step)), "{step:?}");
        }
    }

    /// Old side runs, held, new side runs; and back, where the first thing is that the new side is held.
    #[test]
    fn the_hold_is_one_stretch_in_both_directions() {
        for (verb, steps) in all() {
            for way in [Way::Forward, Way::Back] {
                let held: Vec<bool> = steps
                    .iter()
                    .filter(|step| step.acts(way))
                    .map(|step| step.holds(way))
                    .collect();
                let edges = held.windows(2).filter(|pair| pair[0] != pair[1]).count();
                let expected = match (verb.from() == verb.to(), way) {
                    (true, _) => 0,
                    (false, Way::Forward) => 2,
                    (false, Way::Back) => 1,
                };
                assert_eq!(edges, expected, "{verb:?} {way:?}: {held:?}");
                assert_ne!(held.first(), Some(&true), "{verb:?} {way:?}");
            }
        }
    }

    /// What the new side wrote is kept before anything is put over it, and nothing is put back while a side may run.
    #[test]
    fn nothing_is_overwritten_that_is_not_kept() {
        for (verb, steps) in all().into_iter().filter(|(verb, _)| verb.from() != verb.to()) {
            let at = |step| steps.iter().position(|it| *it == step).unwrap();
            assert!(at(Step::Start) > at(Step::SetAside), "{verb:?}");
            assert!(at(Step::SetAside) > at(Step::PutBack), "{verb:?}");
            assert!(at(Step::PutBack) > at(Step::Flip), "{verb:?}");
            assert!(at(Step::Stop) > at(Step::Snapshot), "{verb:?}");
            let changes = [Step::Restore, Step::Adjust, Step::Flip];
            for step in steps.iter().filter(|step| changes.contains(step)) {
                assert!(at(*step) > at(Step::Refresh), "{verb:?}: {step:?}");
            }
        }
    }
}
