//! `crash [CASES [SEED]]`: rehearsals, migrations and rollbacks of both kinds in real machines, killed at every call of the job's own that makes something
//! durable, once with the machine running on and once with its power going at the same moment. CASES bounds how many are tried:
//! then they are spread over all calls. What looks after an interrupted job is interrupted in its turn in some cases, up to twice,
//! at calls that SEED chooses. `DAGGER_MACHINES` says how many machines there are at a time.

use anyhow::{Context, Result};
use dagger_tests::crash::{Case, Found, attempt};
use dagger_tests::faults::dice::Dice;
use dagger_tests::native::{QUICK, boot, narrow, native, native_changed, runs};
use dagger_tests::rig::{Machine, Suite, host, sweep};
use dagger_tests::suite::Ground;
use serde_json::json;
use std::collections::VecDeque;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What looks after an interrupted job makes at most so many calls.
const MOST_AGAIN: u64 = 60;

/// Each, and whether it is to the data as it was.
const VERBS: [(&str, bool); 4] = [
    ("rehearse", false),
    ("migrate", false),
    ("rollback", false),
    ("rollback", true),
];

/// A service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Its files and its settings are the same on both sides.
    Plain,
    /// In its container they have to be others.
    Changed,
}

#[derive(Default)]
struct Sum {
    tried: usize,
    cuts: usize,
    /// How many had at least two interruptions, and three.
    deep: [usize; 2],
    finished: usize,
    slowest: Duration,
    findings: Vec<String>,
}

fn main() -> ExitCode {
    let done = run();
    sweep::hold_if_stopped();
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("crash: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<bool> {
    let most = std::env::args()
        .nth(1)
        .map_or(Ok(usize::MAX), |word| word.parse());
    let most = most.context("CASES is not a number")?;
    let machines = std::env::var("DAGGER_MACHINES").map_or(Ok(4), |word| word.parse());
    let machines: usize = machines.context("DAGGER_MACHINES is not a number")?;
    let seed = std::env::args().nth(2).map_or(Ok(1), |word| word.parse());
    let seed = seed.context("SEED is not a number")?;
    host::can_boot()?;
    Ground::built()?;
    sweep::on_signals()?;
    sweep::leftovers()?;
    let ground = Ground::prepare(Suite::Trixie)?;
    let queue = Mutex::new(cases(&ground, most, seed)?);
    let sum = Mutex::new(Sum::default());
    std::thread::scope(|scope| {
        for number in 0..machines {
            let (ground, queue, sum) = (&ground, &queue, &sum);
            scope.spawn(move || work(ground, number, queue, sum));
        }
    });
    let sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    for finding in &sum.findings {
        println!("finding: {finding}");
    }
    println!(
        "crash-machine: {} losses in {} cases ({} power cuts; in {} of them what looked after the job was interrupted, too, and in {} that in its turn), {} were finished and the others undone; decided within {:.2} s",
        sum.findings.len(),
        sum.tried,
        sum.cuts,
        sum.deep[0],
        sum.deep[1],
        sum.finished,
        sum.slowest.as_secs_f64()
    );
    let good = sum.findings.is_empty();
    let figure = |name: &str, value: f64, unit: &str, limit: f64| {
        println!(
            "{}",
            json!({ "name": name, "value": value, "unit": unit, "limit": limit, "peer": null, "samples": sum.tried, "ok": value <= limit })
        );
    };
    let count = u32::try_from(sum.findings.len()).unwrap_or(u32::MAX);
    figure("crash-machine", f64::from(count), "losses", 0.0);
    figure("crash-decided", sum.slowest.as_secs_f64(), "s", 2.0);
    Ok(good && sum.slowest < Duration::from_secs(2))
}

/// Every call of every verb, by both kinds; or so many of them, spread evenly.
fn cases(ground: &Ground, most: usize, seed: u64) -> Result<VecDeque<(Kind, Case)>> {
    let mut all = Vec::new();
    for kind in [Kind::Plain, Kind::Changed] {
        let mut machine = settled(ground, "count", kind)?;
        for (verb, to_snapshot) in VERBS {
            let whole = Case {
                to_snapshot,
                ..Case::whole(verb)
            };
            ready(&machine, whole)?;
            let calls = attempt(&mut machine, whole)?.calls;
            let how = if to_snapshot { " --to-snapshot" } else { "" };
            println!("{verb}{how}, {kind:?}: {calls} calls make something durable");
            for call in 1..=calls {
                let both = [true, false].map(|cut| Case { call, cut, ..whole });
                all.extend(both.map(|case| (kind, case)));
            }
        }
    }
    // Odd, so that both kinds are among them.
    let step = (all.len() / most.max(1)).max(1) | 1;
    let tried = all.into_iter().step_by(step).zip(1..);
    Ok(tried
        .map(|((kind, case), number)| (kind, deeper(case, Dice::of(seed, number))))
        .collect())
}

/// In two of five cases what looks after the job is interrupted, too, and in half of these what looks after that. How many
/// calls they make depends on how far the job has come: some of these are never met.
fn deeper(mut case: Case, mut dice: Dice) -> Case {
    let depth = match dice.number(1, 10) {
        1 | 2 => 2,
        3 | 4 => 1,
        _ => 0,
    };
    for again in case.again.iter_mut().take(depth) {
        let most = dice.number(1, MOST_AGAIN);
        *again = Some(dice.number(1, most));
    }
    case
}

/// A machine of this kind.
fn settled(ground: &Ground, name: &str, kind: Kind) -> Result<Machine> {
    let name = format!("crash-{name}");
    if kind == Kind::Changed {
        let machine = boot(native_changed(ground, &name)?)?;
        narrow(&machine)?;
        return Ok(machine);
    }
    boot(native(ground, &name, QUICK)?)
}

/// Brings the service to where the case begins.
fn ready(machine: &Machine, case: Case) -> Result<()> {
    let wanted = case.verb == "rollback";
    if runs(machine)?.1 != wanted {
        let verb = if wanted { "migrate" } else { "rollback" };
        machine.ok(&format!("systemctl start dagger-{verb}@sonarr.service"))?;
    }
    Ok(())
}

fn work(ground: &Ground, number: usize, queue: &Mutex<VecDeque<(Kind, Case)>>, sum: &Mutex<Sum>) {
    let mut machine = None;
    loop {
        let case = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some((kind, case)) = case else { return };
        let found = one(ground, number, &mut machine, kind, case);
        let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
        sum.tried += 1;
        sum.cuts += usize::from(case.cut);
        match found {
            Ok((finished, found)) => {
                sum.finished += usize::from(finished);
                for (sum, depth) in sum.deep.iter_mut().zip(2..) {
                    *sum += usize::from(found.depth >= depth);
                }
                sum.slowest = sum.slowest.max(found.decided.unwrap_or_default());
            }
            Err(error) => {
                println!("{kind:?}, {case:?}: {error:#}");
                sum.findings.push(format!("{kind:?}, {case:?}: {error:#}"));
                machine = None;
            }
        }
    }
}

/// Whether it was finished, and what else came of it.
fn one(
    ground: &Ground,
    number: usize,
    machine: &mut Option<(Kind, Machine)>,
    kind: Kind,
    case: Case,
) -> Result<(bool, Found)> {
    // The other kind comes once.
    machine.take_if(|(other, _)| *other != kind);
    let (_, machine) = match machine {
        Some(machine) => machine,
        None => machine.insert((kind, settled(ground, &number.to_string(), kind)?)),
    };
    ready(machine, case)?;
    let found = attempt(machine, case)?;
    Ok((found.container != (case.verb == "rollback"), found))
}
