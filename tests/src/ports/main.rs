//! `ports-vs-kernel [CASES [SEED]]`: the agent's rules for ports, judged by the kernel.
//!
//! For every case two to five sockets are drawn by lot (protocol, family, address, options, user, interface, namespace) and
//! really bound, listened on, connected and closed, in network namespaces of the program's own. Before each bind(2) and
//! listen(2) the agent's rule says whether it fails, and the kernel has to agree, both ways; before each connection and
//! datagram it says who gets it. Case N of a seed is the same each time.
//!
//! Ends with a sum that `tests/run` counts, and a figure as the bench prints it.

mod ground;
mod layout;
mod memory;
mod socket;
mod trial;

use anyhow::{Context, Result};
use dagger_tests::faults::dice::Dice;
use ground::Namespace;
use serde_json::json;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use trial::{Tally, Trial};

const CASES: u64 = 500;
const SEED: u64 = 1;
const NAME: &str = "ports-vs-kernel";

/// Cases that namespaces serve before they are replaced: each case has a port to itself, below those that the kernel
/// gives to connections, and what closed connections leave behind is gone with the namespace.
const GENERATION: u64 = 500;
const FIRST_PORT: u64 = 10_000;
/// More are likely to be one and the same.
const FINDINGS_SHOWN: u64 = 20;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Vec<u64> = words.iter().map_while(|word| word.parse().ok()).take(2).collect();
    let mut filters = words
        .iter()
        .skip(numbers.len())
        .filter(|word| !word.starts_with('-'));
    if words.iter().any(|word| word == "--list") {
        println!("{NAME}: test");
        return ExitCode::SUCCESS;
    }
    if !filters.all(|word| NAME.contains(word.as_str())) {
        println!("test result: ok. 0 passed; 0 failed; 0 ignored");
        return ExitCode::SUCCESS;
    }
    if !nix::unistd::geteuid().is_root() {
        println!("{NAME}: skipped, not root: it makes network namespaces");
        println!("test result: ok. 0 passed; 0 failed; 1 ignored");
        return ExitCode::SUCCESS;
    }
    let cases = numbers.first().copied().unwrap_or(CASES);
    let seed = numbers.get(1).copied().unwrap_or(SEED);
    let began = Instant::now();
    let (tally, good) = match run(cases, seed) {
        Ok(tally) => {
            let good = tally.findings == 0 && tally.cases == cases;
            (tally, good)
        }
        Err(error) => {
            println!("{NAME}: {error:#}");
            (Tally::default(), false)
        }
    };
    show(&tally, seed, good, began.elapsed());
    ExitCode::from(u8::from(!good))
}

fn show(tally: &Tally, seed: u64, good: bool, took: Duration) {
    println!(
        "{NAME}: {} layouts of seed {seed} in {:.1} s: {} binds ({} refused), {} listens ({} refused), {} let in as one of a \
         group, {} connections and datagrams; {} findings",
        tally.cases,
        took.as_secs_f64(),
        tally.binds,
        tally.binds_refused,
        tally.listens,
        tally.listens_refused,
        tally.shortcuts,
        tally.answers,
        tally.findings,
    );
    println!(
        "{}",
        json!({
            "name": NAME, "value": tally.findings, "unit": "findings", "limit": 0, "peer": null,
            "samples": tally.cases, "ok": good,
        })
    );
    let word = if good { "ok" } else { "FAILED" };
    println!(
        "test result: {word}. {} passed; {} failed; 0 ignored",
        u8::from(good),
        u8::from(!good)
    );
}

fn run(cases: u64, seed: u64) -> Result<Tally> {
    let next = AtomicU64::new(0);
    let sum = Mutex::new(Tally::default());
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| scope.spawn(|| work(cases, seed, &next, &sum)))
            .collect();
        for worker in workers {
            worker
                .join()
                .map_err(|_| anyhow::anyhow!("a thread ended early"))
                .flatten()?;
        }
        Ok::<(), anyhow::Error>(())
    })?;
    Ok(sum
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner))
}

/// One thread: takes cases until there are none.
fn work(cases: u64, seed: u64, next: &AtomicU64, sum: &Mutex<Tally>) -> Result<()> {
    let mut namespaces: Vec<Namespace> = Vec::new();
    let mut used = GENERATION;
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= cases {
            return Ok(());
        }
        if used == GENERATION {
            namespaces = vec![Namespace::new()?, Namespace::new()?];
            used = 0;
        }
        let port = u16::try_from(FIRST_PORT + used)?;
        used += 1;
        let (tally, outcome) = Trial::new(&namespaces, port, Dice::of(seed, number)).run();
        let mut sum = sum.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        sum.add(&tally);
        if let Err(trouble) = outcome.with_context(|| format!("case {number} of seed {seed}")) {
            sum.findings += 1;
            if sum.findings <= FINDINGS_SHOWN {
                println!("FINDING in {trouble:#}");
            }
        }
    }
}
