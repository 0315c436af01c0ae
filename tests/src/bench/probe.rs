//! What one health check costs: the agent beside podman's own check, and beside the least that a client can do.

use super::figure::{Figure, Peer, Row};
use super::meter::{self, AGENT};
use super::samples::Samples;
use crate::rig::Machine;
use anyhow::{Context, Result, ensure};

/// Against `podman healthcheck run`.
pub const PODMAN: Row = Row {
    name: "probe-cpu-podman",
    what: "processor time of a health check, against `podman healthcheck run`",
    limit: 1.0 / 300.0,
    unit: "x",
};
/// Against a client that does nothing else.
pub const CLIENT: Row = Row {
    name: "probe-cpu-client",
    what: "processor time of a health check, against a bare client that keeps its connections",
    limit: 2.0,
    unit: "x",
};
/// Where the machine has the program `loopback`.
pub const LOOPBACK: &str = "/usr/local/bin/loopback";

/// How many windows are measured.
const ROUNDS: usize = 15;
/// Rounds of questions in a window, one a second.
const WINDOW: u64 = 4;

/// Measures both, in turns, while the agent asks each of the six every second.
pub fn measure(machine: &Machine) -> Result<Vec<Figure>> {
    // The same question to the same application, asked the way podman asks: a command inside a container.
    machine.ok(
        "podman run -d --name check --network host --entrypoint sleep --health-interval disable \
         --health-cmd 'busybox wget -q -O /dev/null http://127.0.0.1:8989/ping' \
         lscr.io/linuxserver/sonarr:latest infinity",
    )?;
    // The command that is run inside: nothing else happens there.
    let path = machine.ok("podman inspect --format '{{.State.CgroupPath}}' check")?;
    let container = path.trim();
    let (mut ours, mut podman, mut client) = (Samples::default(), Samples::default(), Samples::default());
    let mut probes = 0;
    for _ in 0..ROUNDS {
        probes += window(machine, &mut ours, &mut client)?;
        let inside = meter::group_usage(machine, container)?;
        let checked = podman_check(machine)?;
        let inside = meter::group_usage(machine, container)? - inside;
        podman.push(checked + inside / 1e3);
    }
    machine.ok("podman rm -f -t 0 check")?;
    let counted = format!(
        "ours: all that {AGENT} used, divided by its {probes} probes as five of the six applications counted them"
    );
    let podman = Figure {
        row: PODMAN,
        samples: ours.clone(),
        peer: Some(Peer {
            name: "podman healthcheck run",
            samples: podman,
            unit: "ms",
        }),
        notes: vec![
            counted.clone(),
            "podman's: its own control group as systemd accounts it, and what the command used in the container's".to_owned(),
        ],
    };
    let client = Figure {
        row: CLIENT,
        samples: ours,
        peer: Some(Peer {
            name: "bare client",
            samples: client,
            unit: "ms",
        }),
        notes: vec![
            counted,
            format!(
                "the client's: one blocking thread without a runtime, a kept connection to each of the six, all asked once a second in the same {WINDOW} s"
            ),
        ],
    };
    Ok(vec![podman, client])
}

/// A window in which both ask: milliseconds a question of each, and how many of the agent's were counted.
fn window(machine: &Machine, ours: &mut Samples, client: &mut Samples) -> Result<u64> {
    meter::between_rounds()?;
    let (counted, used) = (meter::answered(machine)?, meter::usage(machine, AGENT)?);
    let targets: Vec<String> = meter::QUESTIONS
        .iter()
        .map(|(_, port, path)| format!("{port}{path}"))
        .collect();
    let said = machine.ok(&format!("{LOOPBACK} ask 1000 {WINDOW} {}", targets.join(" ")))?;
    meter::between_rounds()?;
    let (counted, used) = (
        meter::answered(machine)? - counted,
        meter::usage(machine, AGENT)? - used,
    );
    let (asked, took) = said.trim().split_once(' ').context("two numbers")?;
    client.push(took.parse::<f64>()? / asked.parse::<f64>()? / 1e3);
    // The client's own first round is not in its numbers, but in the applications'.
    let probes = counted.saturating_sub(meter::COUNTING * (WINDOW + 1));
    ensure!(
        probes >= meter::COUNTING * WINDOW,
        "the agent asked {probes} times in {WINDOW} s"
    );
    #[expect(clippy::cast_precision_loss, reason = "a few dozen")]
    let probes_of_six = probes as f64 * 6.0 / meter::COUNTING as f64;
    ours.push(used / probes_of_six / 1e3);
    Ok(probes)
}

/// One check by podman, as a unit of its own, as podman's own timers run it; milliseconds.
fn podman_check(machine: &Machine) -> Result<f64> {
    let output = machine.sh("systemd-run --wait --collect podman healthcheck run check")?;
    ensure!(output.good(), "podman healthcheck run: {}", output.all());
    let text = output.all();
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("CPU time consumed: "));
    span(line.with_context(|| format!("no processor time in {text}"))?)
}

/// `1.234s` or `92.5ms`, in milliseconds.
fn span(text: &str) -> Result<f64> {
    let mut total = 0.0;
    for word in text.split_ascii_whitespace() {
        let units = [("ms", 1.0), ("us", 1e-3), ("min", 6e4), ("s", 1e3)];
        let found = units
            .iter()
            .find_map(|(unit, factor)| Some((word.strip_suffix(unit)?, factor)));
        let (number, factor) = found.with_context(|| format!("not a time span: {text}"))?;
        total += number.parse::<f64>()? * factor;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_systemd_writes_them() {
        for (text, milliseconds) in [
            ("92.5ms", 92.5),
            ("1.25s", 1250.0),
            ("1min 2s", 62_000.0),
            ("500us", 0.5),
        ] {
            assert!((span(text).unwrap() - milliseconds).abs() < 1e-9, "{text}");
        }
        assert!(span("soon").is_err());
    }
}
