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
        name: "moby_28400_faults_of_a_service_are_repaired_crash_hang_refuse_redirect_trickle",
        on: TRIXIE,
        run: |ground| repaired(ground, "crash", 0),
    },
    Story {
        name: "moby_28400_faults_of_a_service_are_repaired_exit_stubborn_corrupt_headers_leak",
        on: TRIXIE,
        run: |ground| repaired(ground, "exit", 1),
    },
    Story {
        name: "moby_28400_faults_of_a_service_are_repaired_signal_500_foreign_endless_zombie",
        on: TRIXIE,
        run: |ground| repaired(ground, "signal", 2),
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

/// Every third kind, beginning with `first`.
fn repaired(ground: &Ground, name: &str, first: usize) -> Result<()> {
    let stage = Stage::boot(ground, name)?;
    let mut problems = Vec::new();
    for (turn, kind) in own::KINDS.iter().skip(first).step_by(3).enumerate() {
        let case = own::Case::in_turn(*kind, turn).context(kind.name)?;
        match case.run(&stage) {
            Ok(repair) => {
                let late = repair.noticed.filter(|share| *share > 1.0);
                problems.extend(late.map(|share| {
                    format!("{}: noticed after {share:.1} times what it may take", case.name())
                }));
            }
            Err(error) => problems.push(format!("{}: {error:#}", case.name())),
        }
    }
    told(&problems)
}

/// Every second kind of those that are nobody's, beginning with `first`.
fn restarts_nobody(ground: &Ground, name: &str, first: usize) -> Result<()> {
    let stage = Stage::boot(ground, name)?;
    let mut problems = Vec::new();
    let kinds = (0_u64..).zip(foreign::KINDS).skip(first).step_by(2);
    for (number, kind) in kinds.filter(|(_, kind)| kind.is_possible()) {
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
