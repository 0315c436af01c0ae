//! All services go into their containers and back, and what was in their state is as it was.

use anyhow::{Result, ensure};
use dagger_tests::faults::dice::Dice;
use dagger_tests::harness::{Story, TRIXIE};
use dagger_tests::suite::Ground;
use dagger_tests::trips::{SEVEN, machine, trip};

pub const STORIES: &[Story] = &[Story {
    name: "seven_services_go_there_and_back_and_their_trees_are_as_they_were",
    on: TRIXIE,
    run: there_and_back,
}];

/// Two hundred of them: `tests/run --long round-trips`.
fn there_and_back(ground: &Ground) -> Result<()> {
    let machine = machine(ground, "trips")?;
    for run in 0..2 {
        for (index, service) in (0..).zip(SEVEN) {
            let found = trip(&machine, service, Dice::of(7, run * 100 + index), run == 1)?;
            ensure!(found.is_empty(), "{}", found.join("\n"));
        }
    }
    Ok(())
}
