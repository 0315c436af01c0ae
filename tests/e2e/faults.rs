//! One fault of every kind: those of the campaign `tests/run --long faults`, each as short as it can be.

use anyhow::{Context, Result, bail};
use dagger_tests::faults::dice::Dice;
use dagger_tests::faults::stage::Stage;
use dagger_tests::faults::{foreign, own};
use dagger_tests::harness::{Story, TRIXIE};
use dagger_tests::suite::Ground;
use std::time::Duration;

pub const STORIES: &[Story] = &[
    Story {
        name: "moby_28400_every_fault_of_a_service_is_repaired",
        on: TRIXIE,
        run: |ground| repaired(ground, "own", 0),
    },
    Story {
        name: "moby_28400_every_other_fault_of_a_service_is_repaired",
        on: TRIXIE,
        run: |ground| repaired(ground, "other", 1),
    },
    Story {
        name: "autoheal_53_no_fault_of_others_restarts_a_service",
        on: TRIXIE,
        run: |ground| restarts_nobody(ground, "foreign", 0),
    },
    Story {
        name: "autoheal_53_no_other_fault_of_others_restarts_a_service",
        on: TRIXIE,
        run: |ground| restarts_nobody(ground, "strange", 1),
    },
];

/// Long enough to be seen by every probe.
const SHORT: Duration = Duration::from_secs(6);

/// Every second kind, beginning with `first`.
fn repaired(ground: &Ground, name: &str, first: usize) -> Result<()> {
    let stage = Stage::boot(ground, name)?;
    let mut problems = Vec::new();
    for (number, kind) in (0_u64..).zip(own::KINDS).skip(first).step_by(2) {
        let case = own::Case::of(*kind, &mut Dice::of(1, number)).context(kind.name)?;
        if let Err(error) = case.run(&stage) {
            problems.push(format!("{}: {error:#}", case.name()));
        }
    }
    told(&problems)
}

/// The same for faults that are nobody's.
fn restarts_nobody(ground: &Ground, name: &str, first: usize) -> Result<()> {
    let stage = Stage::boot(ground, name)?;
    let mut problems = Vec::new();
    for (number, kind) in (0_u64..).zip(foreign::KINDS).skip(first).step_by(2) {
        let case = foreign::Case::of(*kind, &mut Dice::of(1, number), SHORT).context(kind.name)?;
        if let Err(error) = case.run(&stage) {
            problems.push(format!("{}: {error:#}", case.name()));
        }
    }
    told(&problems)
}

fn told(problems: &[String]) -> Result<()> {
    if problems.is_empty() {
        return Ok(());
    }
    bail!("{} of the faults:\n{}", problems.len(), problems.join("\n"))
}
