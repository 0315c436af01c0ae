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
/// After that many faults on one machine a service has come and gone so often, and was restarted so often, that the
/// agent does less and less about it, as it should: then the machine is replaced.
const A_SERVICE: usize = 2;

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

    /// Case `number` of a seed.
    fn case(&self, seed: u64, number: u64) -> Result<Case> {
        let mut dice = Dice::of(seed, number);
        Ok(match self {
            Self::Own(kinds) => Case::Own(own::Case::by_chance(kinds, &mut dice)?),
            Self::Foreign(kinds) => Case::Foreign(foreign::Case::by_chance(kinds, &mut dice)?),
        })
    }
}

/// A fault of either sort that is about to happen.
enum Case {
    Own(own::Case),
    Foreign(foreign::Case),
}

impl Case {
    fn name(&self) -> String {
        match self {
            Self::Own(case) => case.name(),
            Self::Foreign(case) => case.name(),
        }
    }

    /// The service that will be the worse for it.
    fn service(&self) -> Option<&'static str> {
        match self {
            Self::Own(case) => Some(case.service()),
            Self::Foreign(_) => None,
        }
    }

    /// Only repairs say how long they took.
    fn run(&self, stage: &Stage) -> Result<Option<own::Repair>> {
        match self {
            Self::Own(case) => case.run(stage).map(Some),
            Self::Foreign(case) => case.run(stage).map(|()| None),
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
        let mut stage: Option<Stage> = None;
        let mut hit: Vec<&str> = Vec::new();
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.cases {
                return;
            }
            let case = match self.kinds.case(self.seed, number) {
                Ok(case) => case,
                Err(error) => {
                    self.note(number, "a case", Err(error));
                    continue;
                }
            };
            let before = |service| hit.iter().filter(|known| **known == service).count();
            let worn = case.service().is_some_and(|service| before(service) >= A_SERVICE);
            // One machine at a time by that name: the old one has to be gone before.
            stage = stage.filter(|stage| !worn && stage.is_fresh());
            let there = if let Some(stage) = stage.take() {
                Ok(stage)
            } else {
                hit.clear();
                Stage::boot(self.ground, &format!("faults{machine}"))
            };
            match there {
                Ok(there) => {
                    hit.extend(case.service());
                    let outcome = case.run(&there);
                    // What a finding leaves behind is not the next case's affair.
                    if self.note(number, &case.name(), outcome) {
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
