//! Thousands of faults, on two machines at a time, and a line for each that was not dealt with as it should be.

use super::dice::Dice;
use super::stage::Stage;
use super::{foreign, own};
use crate::suite::Ground;
use anyhow::Result;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Machines at a time.
const MACHINES: u64 = 2;
/// A service is restarted only so often before the agent waits longer and longer, as it should: six services, two
/// attempts each, and the machine is replaced.
const OWN_A_MACHINE: u64 = 12;
/// Nothing is restarted there, so that a machine may live longer.
const FOREIGN_A_MACHINE: u64 = 60;

/// What is tried.
#[derive(Debug, Clone)]
pub enum Kinds {
    /// Faults of the services' own.
    Own(Vec<own::Kind>),
    /// Faults of others.
    Foreign(Vec<foreign::Kind>),
}

impl Kinds {
    /// Those whose names are among `words`, of both sorts; all, when there are no words.
    pub fn named(words: &[&str]) -> Vec<Self> {
        let wanted = |name: &str| words.is_empty() || words.contains(&name);
        let own: Vec<own::Kind> = own::KINDS
            .iter()
            .filter(|kind| wanted(kind.name))
            .copied()
            .collect();
        let foreign: Vec<foreign::Kind> = foreign::KINDS
            .iter()
            .filter(|kind| wanted(kind.name))
            .copied()
            .collect();
        let mut found = Vec::new();
        if !own.is_empty() {
            found.push(Self::Own(own));
        }
        if !foreign.is_empty() {
            found.push(Self::Foreign(foreign));
        }
        found
    }

    /// The figure's name.
    pub fn figure(&self) -> &'static str {
        match self {
            Self::Own(_) => "missed-recoveries",
            Self::Foreign(_) => "wrong-restarts",
        }
    }

    fn a_machine(&self) -> u64 {
        match self {
            Self::Own(_) => OWN_A_MACHINE,
            Self::Foreign(_) => FOREIGN_A_MACHINE,
        }
    }

    /// Case `number`: its name, and how it went. Only repairs say how long they took.
    fn run(&self, stage: &Stage, seed: u64, number: u64) -> (String, Result<Option<own::Repair>>) {
        let mut dice = Dice::of(seed, number);
        match self {
            Self::Own(kinds) => match own::Case::by_chance(kinds, &mut dice) {
                Ok(case) => (case.name(), case.run(stage).map(Some)),
                Err(error) => (String::new(), Err(error)),
            },
            Self::Foreign(kinds) => match foreign::Case::by_chance(kinds, &mut dice) {
                Ok(case) => (case.name(), case.run(stage).map(|()| None)),
                Err(error) => (String::new(), Err(error)),
            },
        }
    }
}

/// How a campaign went.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Cases that were not dealt with as they should be.
    pub findings: u64,
    /// Of what may be taken to notice a fault, the largest share that was; 0 where that is not measured.
    pub noticed: f64,
    /// The longest time until a service was healthy again.
    pub healed: Duration,
}

struct Campaign<'a> {
    kinds: &'a Kinds,
    ground: &'a Ground,
    cases: u64,
    seed: u64,
    next: AtomicU64,
    began: Instant,
    outcome: Mutex<Outcome>,
}

/// Tries that many cases; findings are printed as they come.
pub fn run(kinds: &Kinds, ground: &Ground, cases: u64, seed: u64) -> Outcome {
    let campaign = Campaign {
        kinds,
        ground,
        cases,
        seed,
        next: AtomicU64::new(0),
        began: Instant::now(),
        outcome: Mutex::default(),
    };
    std::thread::scope(|scope| {
        for machine in 0..MACHINES.min(cases) {
            let campaign = &campaign;
            scope.spawn(move || campaign.work(machine));
        }
    });
    campaign
        .outcome
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Campaign<'_> {
    fn work(&self, machine: u64) {
        let mut stage = None;
        let mut done = 0;
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.cases {
                return;
            }
            if done == self.kinds.a_machine() {
                stage = None;
            }
            // One machine at a time by that name: the old one has to be gone before.
            let there = if let Some(stage) = stage.take() {
                Ok(stage)
            } else {
                done = 0;
                Stage::boot(self.ground, &format!("faults{machine}"))
            };
            match there {
                Ok(there) => {
                    let (name, outcome) = self.kinds.run(&there, self.seed, number);
                    done += 1;
                    // What a finding leaves behind is not the next case's affair.
                    if self.note(number, &name, outcome) {
                        stage = Some(there);
                    }
                }
                Err(error) => {
                    self.note(number, "a machine with six healthy services", Err(error));
                }
            }
        }
    }

    /// Takes down how a case went; tells whether it went well.
    fn note(&self, number: u64, name: &str, outcome: Result<Option<own::Repair>>) -> bool {
        let minutes = self.began.elapsed().as_secs() / 60;
        let mut sum = self
            .outcome
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        match outcome {
            Ok(repair) => {
                let mut took = String::new();
                if let Some(repair) = repair {
                    sum.noticed = sum.noticed.max(repair.noticed.unwrap_or(0.0));
                    sum.healed = sum.healed.max(repair.healed);
                    took = format!(", healthy after {:.1} s", repair.healed.as_secs_f64());
                }
                eprintln!("    {minutes} min: case {number} of {}: {name}{took}", self.cases);
                true
            }
            Err(error) => {
                sum.findings += 1;
                println!(
                    "FINDING in case {number} of seed {}: {name}: {:#}",
                    self.seed, error
                );
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_found_by_their_names_and_no_name_is_there_twice() {
        let names = |words: &[&str]| -> Vec<&'static str> {
            let mut names = Vec::new();
            for kinds in Kinds::named(words) {
                match kinds {
                    Kinds::Own(kinds) => names.extend(kinds.iter().map(|kind| kind.name)),
                    Kinds::Foreign(kinds) => names.extend(kinds.iter().map(|kind| kind.name)),
                }
            }
            names
        };
        let mut all = names(&[]);
        assert_eq!(all.len(), own::KINDS.len() + foreign::KINDS.len());
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), own::KINDS.len() + foreign::KINDS.len());
        assert_eq!(names(&["load", "hang"]), ["hang", "load"]);
        assert!(names(&["nothing"]).is_empty());
    }
}
