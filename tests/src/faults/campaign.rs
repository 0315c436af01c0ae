//! Thousands of faults, on several machines at a time, and a line for each that was not dealt with as it should be.

use super::dice::Dice;
use super::stage::Stage;
use super::{foreign, own};
use crate::suite::Ground;
use anyhow::{Context, Result, bail};
use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Machines at a time for each of the host's processors: almost all of a case is waiting.
const MACHINES_A_PROCESSOR: usize = 4;
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
    /// Those whose names are among `words`, of both sorts; `own` and `foreign` are all of one sort, and no words all of
    /// both. Says which word is no name.
    pub fn named(words: &[&str]) -> Result<Vec<Self>> {
        let wanted =
            |name: &str, sort: &str| words.is_empty() || words.contains(&name) || words.contains(&sort);
        let foreign = || foreign::KINDS.iter().chain([&foreign::STEPS_OF_THE_CLOCK]);
        let all = own::KINDS.iter().map(|kind| kind.name);
        let all = all.chain(foreign().map(|kind| kind.name));
        let all: Vec<&str> = all.chain(["own", "foreign"]).collect();
        if let Some(strange) = words.iter().find(|word| !all.contains(word)) {
            bail!(
                "no kind of fault is called {strange}; there are {}",
                all.join(", ")
            );
        }
        let own = own::KINDS.iter().filter(|kind| wanted(kind.name, "own"));
        if let Some(kind) = foreign().find(|kind| words.contains(&kind.name) && !kind.is_possible()) {
            bail!("{} cannot be done here{}", kind.name, kind.without());
        }
        let foreign = foreign().filter(|kind| wanted(kind.name, "foreign") && kind.is_possible());
        let found = [
            Self::Own(own.copied().collect()),
            Self::Foreign(foreign.copied().collect()),
        ];
        Ok(found.into_iter().filter(|kinds| !kinds.is_empty()).collect())
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Own(kinds) => kinds.is_empty(),
            Self::Foreign(kinds) => kinds.is_empty(),
        }
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

/// What is to be tried, and how.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The first case and the last one: each is the same whichever others are tried.
    pub cases: RangeInclusive<u64>,
    /// What the cases are thrown from.
    pub seed: u64,
    /// Machines at a time.
    pub machines: usize,
}

impl Plan {
    /// So many machines as this host can keep busy.
    pub fn machines_here() -> usize {
        MACHINES_A_PROCESSOR * std::thread::available_parallelism().map_or(1, usize::from)
    }

    /// How many cases.
    pub fn count(&self) -> usize {
        self.cases.clone().count()
    }
}

/// How a campaign went.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Cases that were tried.
    pub tried: u64,
    /// Cases that were not dealt with as they should be.
    pub findings: u64,
    /// Cases that were, and were noticed too late.
    pub late: u64,
    /// Of what may be taken to notice a fault, the largest share that was; 0 where that is not measured.
    pub noticed: f64,
    /// The longest time until a service was healthy again.
    pub healed: Duration,
}

struct Campaign<'a> {
    kinds: &'a Kinds,
    ground: &'a Ground,
    plan: &'a Plan,
    left: Mutex<VecDeque<(u64, Case)>>,
    began: Instant,
    outcome: Mutex<Outcome>,
}

/// Tries the cases; findings are printed as they come.
pub fn run(kinds: &Kinds, ground: &Ground, plan: &Plan) -> Result<Outcome> {
    let cases = plan.cases.clone();
    let left = cases.map(|number| Ok((number, kinds.case(plan.seed, number)?)));
    let campaign = Campaign {
        kinds,
        ground,
        plan,
        left: Mutex::new(left.collect::<Result<_>>()?),
        began: Instant::now(),
        outcome: Mutex::default(),
    };
    std::thread::scope(|scope| {
        for machine in 0..plan.machines.min(plan.count()) {
            let campaign = &campaign;
            scope.spawn(move || campaign.work(machine));
        }
    });
    Ok(campaign
        .outcome
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A machine in use, and what has happened on it.
struct Used {
    stage: Stage,
    hit: Vec<&'static str>,
}

impl Used {
    /// Whether the agent would still do all that it can about a fault of this case's.
    fn fits(&self, case: &Case) -> bool {
        let times = |service| self.hit.iter().filter(|known| **known == service).count();
        case.service().is_none_or(|service| times(service) < A_SERVICE)
    }
}

impl Campaign<'_> {
    fn work(&self, machine: usize) {
        let mut used: Option<Used> = None;
        while let Some((number, case)) = self.next(used.as_ref()) {
            // One machine at a time by that name: the old one has to be gone before.
            used = used.filter(|used| used.fits(&case) && used.stage.is_fresh());
            let there = match used.take() {
                Some(used) => Ok(used),
                None => Stage::boot(self.ground, &format!("faults{machine}")).map(|stage| Used {
                    stage,
                    hit: Vec::new(),
                }),
            };
            let mut there = match there {
                Ok(there) => there,
                Err(error) => {
                    self.note(number, "a machine with six healthy services", Err(error));
                    continue;
                }
            };
            let before = there.hit.len();
            there.hit.extend(case.service());
            let outcome = case
                .run(&there.stage)
                .with_context(|| format!("on machine {machine}, after {before} others that it has had"));
            // What a finding leaves behind is not the next case's affair.
            if self.note(number, &case.name(), outcome) {
                used = Some(there);
            }
        }
    }

    /// The next case: the first of those left that fits this machine, if any does, so that it need not be replaced yet.
    fn next(&self, used: Option<&Used>) -> Option<(u64, Case)> {
        let mut left = locked(&self.left);
        let fits = |(_, case): &(u64, Case)| used.is_none_or(|used| used.fits(case));
        let place = left.iter().position(fits).unwrap_or(0);
        left.remove(place)
    }

    /// Takes down how a case went; tells whether it went well.
    fn note(&self, number: u64, name: &str, outcome: Result<Option<own::Repair>>) -> bool {
        let seconds = self.began.elapsed().as_secs();
        let mut sum = locked(&self.outcome);
        sum.tried += 1;
        let turn = format!("{} of {}", sum.tried, self.plan.count());
        match outcome {
            Ok(repair) => {
                let (mut took, mut late) = (String::new(), None);
                if let Some(repair) = repair {
                    sum.noticed = sum.noticed.max(repair.noticed.unwrap_or(0.0));
                    sum.healed = sum.healed.max(repair.healed);
                    late = repair.noticed.filter(|share| *share > 1.0);
                    took = format!(", healthy after {:.1} s", repair.healed.as_secs_f64());
                }
                eprintln!("    {seconds} s: {turn}, case {number}: {name}{took}");
                if let Some(share) = late {
                    sum.late += 1;
                    println!(
                        "LATE after {seconds} s, {} case {number} of seed {}: {name}: noticed after {share:.1} times what it may take; of the host's processors: {}",
                        self.kinds.figure(),
                        self.plan.seed,
                        pressure()
                    );
                }
                true
            }
            Err(error) => {
                sum.findings += 1;
                println!(
                    "FINDING after {seconds} s, {} case {number} of seed {}: {name}: {error:#}",
                    self.kinds.figure(),
                    self.plan.seed
                );
                false
            }
        }
    }
}

/// How many tasks wait for a processor of the host (Linux, Documentation/accounting/psi.rst).
fn pressure() -> String {
    let text = std::fs::read_to_string("/proc/pressure/cpu").unwrap_or_default();
    text.lines().next().unwrap_or("unknown").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_found_by_their_names_and_no_name_is_there_twice() {
        let names = |words: &[&str]| -> Vec<&'static str> {
            let mut names = Vec::new();
            for kinds in Kinds::named(words).unwrap() {
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
        assert_eq!(names(&["own"]).len(), own::KINDS.len());
        assert_eq!(names(&["foreign", "hang"]).len(), foreign::KINDS.len() + 1);
        let error = Kinds::named(&["hang", "nothing"]).unwrap_err().to_string();
        assert!(error.contains("is called nothing"), "{error}");
    }
}
