//! Reading who has which port, beside ss and lsof, with ten thousand listening sockets in a network namespace of their own.
//!
//! All are processes, from before they are made until they have ended: ours is `ports scan`, which reads with the agent's
//! own adapter and prints every server with its holder's unit.

use super::figure::{Figure, Peer, Row};
use super::samples::Samples;
use crate::rig::progress;
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::process::Command;

const fn row(name: &'static str, what: &'static str, limit: f64) -> Row {
    Row {
        name,
        what,
        limit,
        unit: "x",
    }
}

/// Ours against each of [`PEERS`], in their order.
pub const ROWS: [Row; 3] = [
    row(
        "ports-scan-ss",
        "10,000 listening sockets with the holder's unit, against `ss` without holders",
        1.0,
    ),
    row("ports-scan-ssp", "the same, against `ss` with holders", 1.0 / 3.0),
    row("ports-scan-lsof", "the same, against `lsof`", 1.0 / 8.0),
];
const PEERS: [&str; 3] = ["ss -Hltn", "ss -Hltnp", "lsof -nP -iTCP -sTCP:LISTEN"];

const FIRST: u16 = 20_000;
const COUNT: u16 = 10_000;
/// How often each program runs; the first time fills caches and is not counted.
const ROUNDS: usize = 16;

/// Measures what is asked for.
pub fn measure(wanted: &dyn Fn(&str) -> bool, programs: &Path) -> Result<Vec<Figure>> {
    let program = programs.join("ports");
    let program = program.to_str().context("a path that is no UTF-8")?;
    let text = progress::during("ports-scan", || rounds(program))?;
    let samples = samples(&text)?;
    let [ours, theirs @ ..] = samples;
    let figures = ROWS.into_iter().zip(PEERS).zip(theirs);
    Ok(figures
        .filter(|((row, _), _)| wanted(row.name))
        .map(|((row, name), samples)| Figure {
            row,
            samples: ours.clone(),
            peer: Some(Peer {
                name,
                samples,
                unit: "ms",
            }),
            notes: vec![format!(
                "exec to exit, in turns, {COUNT} listeners of one process; every program wrote at least {COUNT} lines"
            )],
        })
        .collect())
}

fn rounds(program: &str) -> Result<String> {
    let count = COUNT.to_string();
    let output = Command::new("prlimit")
        .args(["--nofile=20000", "unshare", "--net", program, "rounds"])
        .args([&FIRST.to_string(), &count, &ROUNDS.to_string()])
        .arg(format!("{program} scan"))
        .args(PEERS)
        .output()
        .context("run prlimit and unshare (util-linux)")?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// Milliseconds of each program, ours first.
fn samples(text: &str) -> Result<[Samples; 4]> {
    let mut samples: [Samples; 4] = Default::default();
    let mut seen = [false; 4];
    for line in text.lines() {
        let numbers: Vec<usize> = line
            .split(' ')
            .map(str::parse)
            .collect::<Result<_, _>>()
            .context("a line of `ports rounds`")?;
        let [program, took, lines] = numbers[..] else {
            anyhow::bail!("a line of `ports rounds`: {line}");
        };
        ensure!(
            lines >= usize::from(COUNT),
            "program {program} told of {lines} sockets"
        );
        let (Some(samples), Some(seen)) = (samples.get_mut(program), seen.get_mut(program)) else {
            anyhow::bail!("a line of `ports rounds`: {line}");
        };
        if std::mem::replace(seen, true) {
            #[expect(clippy::cast_precision_loss, reason = "milliseconds")]
            samples.push(took as f64 / 1e3);
        }
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_run_of_each_is_left_out_and_a_short_answer_is_none() {
        let text = "0 90000 10000\n1 5000 10000\n0 2000 10000\n1 4000 10001\n";
        let samples = samples(text).unwrap();
        assert!((samples[0].median() - 2.0).abs() < 1e-9);
        assert!((samples[1].median() - 4.0).abs() < 1e-9);
        assert!(super::samples("0 2000 9999\n").is_err());
        assert!(super::samples("7 2000 10000\n").is_err());
        assert!(super::samples("0 2000\n").is_err());
    }
}
