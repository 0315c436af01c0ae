//! `faults [CASES [SEED]] [KIND...]`: that many faults of the services' own and that many of others, or of those kinds.
//!
//! Case N of a seed is the same each time. Ends with figures as the bench prints them, and with status 1 when there was a
//! finding.

use anyhow::{Result, ensure};
use dagger_tests::faults::campaign::{self, Kinds, Outcome};
use dagger_tests::rig::{Suite, host, sweep};
use dagger_tests::suite::Ground;
use serde_json::json;
use std::process::ExitCode;

const CASES: u64 = 1000;
const SEED: u64 = 1;

fn main() -> ExitCode {
    match run() {
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
    let numbers: Vec<u64> = words.iter().map_while(|word| word.parse().ok()).take(2).collect();
    let names: Vec<&str> = words.iter().skip(numbers.len()).map(String::as_str).collect();
    let all = Kinds::named(&names);
    ensure!(
        !all.is_empty(),
        "usage: faults [CASES [SEED]] [KIND...]; no kind is called {}",
        names.join(" or ")
    );
    let cases = numbers.first().copied().unwrap_or(CASES);
    let seed = numbers.get(1).copied().unwrap_or(SEED);
    host::can_boot()?;
    Ground::built()?;
    sweep::on_signals()?;
    sweep::leftovers()?;
    let ground = Ground::prepare(Suite::Trixie)?;
    let mut good = true;
    for kinds in &all {
        let outcome = campaign::run(kinds, &ground, cases, seed);
        good &= outcome.findings == 0;
        show(kinds, &outcome, cases, seed);
    }
    Ok(good)
}

fn show(kinds: &Kinds, outcome: &Outcome, cases: u64, seed: u64) {
    let name = kinds.figure();
    println!("{name}: {} in {cases} faults of seed {seed}", outcome.findings);
    let good = outcome.findings == 0;
    println!(
        "{}",
        json!({
            "name": name, "value": outcome.findings, "unit": "findings", "limit": 0, "peer": null,
            "samples": cases, "ok": good,
        })
    );
    if matches!(kinds, Kinds::Own(_)) {
        println!(
            "noticed within {:.0} % of the time that it may take at the most; healthy again after {:.1} s at the most",
            outcome.noticed * 100.0,
            outcome.healed.as_secs_f64()
        );
        println!(
            "{}",
            json!({
                "name": "fault-noticed", "value": outcome.noticed, "unit": "x", "limit": 1, "peer": null,
                "samples": cases, "ok": good && outcome.noticed <= 1.0,
            })
        );
    }
}
