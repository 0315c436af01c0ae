//! `trips RUNS [SEED]`: round trips in real machines. In each run all seven services go into their containers and back, at the
//! same time, with trees in their state that are another in each run; the data goes back as it is, or to what it was,
//! in turn. `DAGGER_MACHINES` says how many machines there are at a time.

use anyhow::{Context, Result};
use dagger_tests::faults::dice::Dice;
use dagger_tests::rig::{Suite, host, sweep};
use dagger_tests::suite::Ground;
use dagger_tests::trips::{SEVEN, machine, trip};
use serde_json::json;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

fn main() -> ExitCode {
    let done = run();
    sweep::hold_if_stopped();
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("trips: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<bool> {
    let mut words = std::env::args().skip(1);
    let mut number = |what: &str, default: u64| -> Result<u64> {
        let word = words.next().map(|word| word.parse());
        word.unwrap_or(Ok(default))
            .with_context(|| format!("{what} is not a number"))
    };
    let (runs, seed) = (number("RUNS", 200)?, number("SEED", 1)?);
    let machines = std::env::var("DAGGER_MACHINES").map_or(Ok(2), |word| word.parse());
    let machines: u64 = machines.context("DAGGER_MACHINES is not a number")?;
    host::can_boot()?;
    Ground::built()?;
    sweep::on_signals()?;
    sweep::leftovers()?;
    let ground = Ground::prepare(Suite::Trixie)?;
    let (next, trips, found) = (AtomicU64::new(0), AtomicU64::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for place in 0..machines.min(runs) {
            let (ground, next, trips, found) = (&ground, &next, &trips, &found);
            scope.spawn(move || {
                if let Err(error) = work(ground, place, (runs, seed), next, trips, found) {
                    keep(found, vec![format!("machine {place}: {error:#}")]);
                }
            });
        }
    });
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    let (runs, trips) = (next.into_inner().min(runs), trips.into_inner());
    println!(
        "round-trips: {} differences in {runs} runs, {trips} round trips of {} services (seed {seed})",
        found.len(),
        SEVEN.len()
    );
    let count = u32::try_from(found.len()).unwrap_or(u32::MAX);
    println!(
        "{}",
        json!({ "name": "round-trips", "value": count, "unit": "differences", "limit": 0, "peer": null, "samples": trips, "ok": count == 0 })
    );
    Ok(found.is_empty())
}

fn keep(found: &Mutex<Vec<String>>, what: Vec<String>) {
    for what in &what {
        println!("{what}");
    }
    found.lock().unwrap_or_else(PoisonError::into_inner).extend(what);
}

fn work(
    ground: &Ground,
    place: u64,
    (runs, seed): (u64, u64),
    next: &AtomicU64,
    trips: &AtomicU64,
    found: &Mutex<Vec<String>>,
) -> Result<()> {
    let machine = machine(ground, &format!("trips-{place}"))?;
    loop {
        let run = next.fetch_add(1, Ordering::Relaxed);
        if run >= runs {
            return Ok(());
        }
        std::thread::scope(|scope| {
            for (index, service) in (0..).zip(SEVEN) {
                let machine = &machine;
                scope.spawn(move || {
                    let dice = Dice::of(seed, run * 100 + index);
                    match trip(machine, service, dice, run % 2 == 1) {
                        Ok(what) => keep(
                            found,
                            what.into_iter()
                                .map(|what| format!("run {run}: {what}"))
                                .collect(),
                        ),
                        Err(error) => keep(found, vec![format!("run {run}: {error:#}")]),
                    }
                    trips.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        println!("run {run}: all {} are back", SEVEN.len());
    }
}
