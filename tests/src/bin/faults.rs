//! `faults [CASES [SEED]] [KIND...]`: that many faults of the services' own and that many of others, or of those kinds.
//!
//! CASES is a number, or `FIRST..LAST` for these alone: case N of a seed is the same each time, so one that was a finding
//! can be tried again (of all kinds: with fewer of them it is another one). `own` and `foreign` are all kinds of one sort.
//! `DAGGER_MACHINES` says how many machines there are at a time. `DAGGER_STEP_CLOCK=1` adds `clock-step`, which steps the clock
//! of the host and puts it back: everything on the host sees that. Ends with figures as the bench prints them, and with
//! status 1 when there was a finding.

use anyhow::{Context, Result, ensure};
use dagger_tests::faults::campaign::{self, Kinds, Outcome, Plan};
use dagger_tests::rig::{Suite, clock, host, sweep};
use dagger_tests::suite::Ground;
use serde_json::json;
use std::ops::RangeInclusive;
use std::process::ExitCode;

const CASES: u64 = 1000;
const SEED: u64 = 1;

fn main() -> ExitCode {
    let done = run();
    sweep::hold_if_stopped();
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("faults: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether there was no finding.
fn run() -> Result<bool> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [word, seconds] = words.as_slice()
        && word == clock::WORD
    {
        return clock::stepper(seconds).map(|()| true);
    }
    let cases = words.first().and_then(|word| cases(word));
    let seed = words.get(1).filter(|_| cases.is_some());
    let seed: Option<u64> = seed.and_then(|word| word.parse().ok());
    let numbers = usize::from(cases.is_some()) + usize::from(seed.is_some());
    let names: Vec<&str> = words.iter().skip(numbers).map(String::as_str).collect();
    let all = Kinds::named(&names)?;
    let plan = Plan {
        cases: cases.unwrap_or(0..=CASES - 1),
        seed: seed.unwrap_or(SEED),
        machines: machines()?,
    };
    host::can_boot()?;
    Ground::built()?;
    sweep::on_signals()?;
    sweep::leftovers()?;
    let ground = Ground::prepare(Suite::Trixie)?;
    let mut good = true;
    for kinds in &all {
        let outcome = campaign::run(kinds, &ground, &plan)?;
        good &= outcome.findings == 0 && outcome.late == 0;
        show(kinds, &outcome, &plan);
    }
    Ok(good)
}

/// `1000`: the first thousand; `17..19`: these three.
fn cases(word: &str) -> Option<RangeInclusive<u64>> {
    if let Some((first, last)) = word.split_once("..") {
        return Some(first.parse().ok()?..=last.parse().ok()?);
    }
    let count: u64 = word.parse().ok()?;
    Some(0..=count.checked_sub(1)?)
}

fn machines() -> Result<usize> {
    let Some(word) = std::env::var_os("DAGGER_MACHINES") else {
        return Ok(Plan::machines_here());
    };
    let count = word.to_str().and_then(|word| word.parse().ok());
    let count = count.context("DAGGER_MACHINES is not a number")?;
    ensure!(count > 0, "DAGGER_MACHINES is none");
    Ok(count)
}

fn show(kinds: &Kinds, outcome: &Outcome, plan: &Plan) {
    let name = kinds.figure();
    let (findings, cases) = (outcome.findings, outcome.tried);
    println!("{name}: {findings} in {cases} faults of seed {}", plan.seed);
    let good = findings == 0;
    println!(
        "{}",
        json!({
            "name": name, "value": findings, "unit": "findings", "limit": 0, "peer": null,
            "samples": cases, "ok": good,
        })
    );
    if matches!(kinds, Kinds::Own(_)) {
        println!(
            "noticed within {:.0} % of the time that it may take at the most, {} of them too late; healthy again after {:.1} s at the most",
            outcome.noticed * 100.0,
            outcome.late,
            outcome.healed.as_secs_f64()
        );
        println!(
            "{}",
            json!({
                "name": "fault-noticed", "value": outcome.noticed, "unit": "x", "limit": 1, "peer": null,
                "samples": cases, "ok": outcome.late == 0,
            })
        );
    }
}
