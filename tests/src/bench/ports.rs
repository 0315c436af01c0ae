//! Reading who has which port, beside ss and lsof, with ten thousand listening sockets in a network namespace of their own.
//!
//! All are processes, from before they are made until they have ended: ours is `ports scan`, which reads with the agent's
//! own adapter and prints every server with its holder's unit.

use super::figure::{Figure, Peer, Row};
use super::samples::Samples;
use super::suite_of::Scratch;
use crate::rig::progress;
use anyhow::{Context, Result, bail, ensure};
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

const CHECK: Row = Row {
    name: "ports-check",
    what: "who has the ports of one service, among those 10,000",
    limit: 2.0,
    unit: "ms",
};
const GATE: Row = Row {
    name: "gate-preflight",
    what: "dagger-gate before a start, with the ports of six services",
    limit: 5.0,
    unit: "ms",
};
const REFUSAL: Row = Row {
    name: "gate-refusal",
    what: "dagger-gate where somebody has the port: refused, with the holder named",
    limit: 10.0,
    unit: "ms",
};

/// All of them.
pub const ROWS: [Row; 6] = [SCANS[0], SCANS[1], SCANS[2], CHECK, GATE, REFUSAL];
/// Ours against each of [`PEERS`], in their order.
const SCANS: [Row; 3] = [
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

/// The ports of six services, as the generator has the gate look at them.
const CLAIMS: &str = "--claim=tcp:6767 --claim=tcp:8096 --claim=udp:7359 --claim=tcp:9696 --claim=tcp:7878 --claim=tcp:8989 \
                      --claim=tcp:9091 --claim=tcp:46634 --claim=udp:46634";

/// Measures what is asked for.
pub fn measure(wanted: &dyn Fn(&str) -> bool, programs: &Path) -> Result<Vec<Figure>> {
    let path = |name: &str| {
        let path = programs.join(name);
        path.to_str()
            .map(str::to_owned)
            .context("a path that is no UTF-8")
    };
    let (ports, gate) = (path("ports")?, path("dagger-gate")?);
    let scratch = Scratch::new()?;
    let scan = format!("{ports} scan");
    let mut figures = Vec::new();
    if SCANS.iter().any(|row| wanted(row.name)) {
        let programs = [scan.as_str(), PEERS[0], PEERS[1], PEERS[2]];
        let text = progress::during("ports-scan", || rounds(&ports, &scratch, ROUNDS, &programs))?;
        let [ours, theirs @ ..]: [Samples; 4] = samples(&text, usize::from(COUNT))?;
        let all = SCANS.into_iter().zip(PEERS).zip(theirs);
        figures.extend(
            all.filter(|((row, _), _)| wanted(row.name))
                .map(|((row, name), samples)| Figure {
                    row,
                    samples: ours.clone(),
                    peer: Some(Peer {
                        name,
                        samples,
                        unit: "ms",
                    }),
                    notes: vec![format!(
                        "exec to exit, in turns; every program wrote {COUNT} lines or one of headings more"
                    )],
                }),
        );
    }
    if [CHECK, GATE, REFUSAL].iter().any(|row| wanted(row.name)) {
        let check = format!("{ports} check {FIRST} {}", FIRST + 1);
        let refusal = format!("!{gate} pre --service=sonarr --claim=tcp:{FIRST}");
        let gate = format!("{gate} pre --service=sonarr {CLAIMS}");
        let programs = [check.as_str(), gate.as_str(), refusal.as_str()];
        let text = progress::during("ports-check", || rounds(&ports, &scratch, 101, &programs))?;
        let [check, gate, refusal] = samples(&text, 0)?;
        for (row, samples) in [(CHECK, check), (GATE, gate), (REFUSAL, refusal)] {
            if wanted(row.name) {
                figures.push(Figure {
                    row,
                    samples,
                    peer: None,
                    notes: vec!["exec to exit, beside the same 10,000 listeners".to_owned()],
                });
            }
        }
    }
    Ok(figures)
}

fn rounds(ports: &str, scratch: &Scratch, rounds: usize, programs: &[&str]) -> Result<String> {
    let root = scratch.fresh("root")?;
    std::fs::create_dir_all(root.join("run/dagger")).context("a root for the gate")?;
    let output = Command::new("prlimit")
        .args(["--nofile=20000", "unshare", "--net", "sh", "-c"])
        .arg("ip link set lo up && exec \"$0\" \"$@\"")
        .args([ports, "rounds"])
        .args([FIRST.to_string(), COUNT.to_string(), rounds.to_string()])
        .args(programs)
        .env("DAGGER_ROOT", &root)
        .output()
        .context("run prlimit and unshare (util-linux)")?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// Milliseconds of each program. The first run of each is left out; one that wrote fewer lines is an error.
fn samples<const PROGRAMS: usize>(text: &str, least: usize) -> Result<[Samples; PROGRAMS]> {
    let mut samples: [Samples; PROGRAMS] = std::array::from_fn(|_| Samples::default());
    let mut seen = [false; PROGRAMS];
    for line in text.lines() {
        let numbers: Vec<usize> = line
            .split(' ')
            .map(str::parse)
            .collect::<Result<_, _>>()
            .context("a line of `ports rounds`")?;
        let [program, took, lines] = numbers[..] else {
            bail!("a line of `ports rounds`: {line}");
        };
        ensure!(lines >= least, "program {program} told of {lines} sockets");
        let (Some(samples), Some(seen)) = (samples.get_mut(program), seen.get_mut(program)) else {
            bail!("a line of `ports rounds`: {line}");
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
        let [first, second] = samples(text, 10_000).unwrap();
        assert!((first.median() - 2.0).abs() < 1e-9);
        assert!((second.median() - 4.0).abs() < 1e-9);
        let refused = |text: &str| samples::<2>(text, 10_000).is_err();
        assert!(refused("0 2000 9999\n") && refused("7 2000 10000\n") && refused("0 2000\n"));
    }
}
