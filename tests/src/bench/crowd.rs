//! Two hundred services: what watching them costs, and whether each is asked when it should be.
//!
//! Two hundred containers would take the machine's memory and say nothing about the agent: units of the same names stand
//! in for the generated ones, as an administrator's files in /etc do, and one program answers for all of them.

use super::figure::{Figure, Row};
use super::meter::{self, AGENT};
use super::probe::LOOPBACK;
use super::samples::Samples;
use crate::rig::{Machine, Suite, progress};
use crate::suite::Ground;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

const CPU: Row = Row {
    name: "agent-200-cpu",
    what: "processor time for 200 services asked every 10 s, of one core",
    limit: 1.0,
    unit: "%",
};
const RSS: Row = Row {
    name: "agent-200-rss",
    what: "resident memory with 200 services",
    limit: 8.0,
    unit: "MiB",
};
const DRIFT: Row = Row {
    name: "agent-200-drift",
    what: "the furthest that any of 200 services was asked from its time",
    limit: 100.0,
    unit: "ms",
};

/// All of them.
pub const ROWS: [Row; 3] = [CPU, RSS, DRIFT];

/// How many services there are.
const COUNT: u16 = 200;
/// The first one's port.
const PORT: u16 = 21_000;
/// How often each is asked.
const INTERVAL: Duration = Duration::from_secs(10);
/// How many intervals are measured.
const WINDOWS: u32 = 7;
/// Where the program that answers writes down who was asked, and when.
const ASKED: &str = "/run/asked";
/// A unit that runs and does nothing; the agent may speak for it as for a generated one.
const UNIT: &str = "[Service]\\nExecStart=/usr/bin/sleep infinity\\nNotifyAccess=all\\nSlice=dagger.slice\\n";

fn toml() -> String {
    let mut text = "[suite]\nmedia = \"/fun\"\nstate = \"/var/lib/nixarr\"\n".to_owned();
    for number in 0..COUNT {
        let _ = write!(
            text,
            "[services.s{number}]\nimage = \"localhost/none:1\"\nport = {}\nhealth = {{ kind = \"http\", path = \"/ping\", interval = \"{}s\" }}\n",
            PORT + number,
            INTERVAL.as_secs()
        );
    }
    text
}

/// Measures what is asked for.
pub fn measure(_: &dyn Fn(&str) -> bool, programs: &Path) -> Result<Vec<Figure>> {
    let ground = Ground::prepare(Suite::Trixie)?;
    let spec = ground
        .installed("crowd")?
        .bind_read_only(programs.join("loopback"), LOOPBACK);
    let machine = Machine::boot(spec)?;
    machine.write("/etc/dagger/dagger.toml", &toml())?;
    machine.ok(&format!(
        "for n in {{0..{}}}; do printf '{UNIT}' >/etc/systemd/system/dagger-s$n.service || exit; done
         systemd-run -q --unit=answerer --property=StandardOutput=file:{ASKED} --property=TasksMax=infinity {LOOPBACK} answer {PORT} {COUNT}
         systemctl daemon-reload
         systemctl start --no-block 'dagger.target' $(printf 'dagger-s%d.service ' {{0..{}}})",
        COUNT - 1,
        COUNT - 1
    ))?;
    let all = progress::during("200 services become healthy", || healthy(&machine));
    all.with_context(|| machine.account_of("s0"))?;
    progress::during("agent-200", || watch(&machine))
}

fn healthy(machine: &Machine) -> Result<()> {
    machine.wait_for("200 healthy services", Duration::from_mins(2), |machine| {
        std::thread::sleep(Duration::from_secs(1));
        // Its own words while nothing is wrong; no method of the bus is called for each service.
        let said = machine.unit(AGENT, "StatusText")?;
        Ok(
            (said.contains(&COUNT.to_string()) && machine.manager_property("Health")? == "healthy")
                .then_some(()),
        )
    })?;
    // From every second, while they started, to every ten.
    std::thread::sleep(INTERVAL * 2);
    Ok(())
}

fn watch(machine: &Machine) -> Result<Vec<Figure>> {
    let before: usize = machine.ok(&format!("wc -l <{ASKED}"))?.trim().parse()?;
    let mut cpu = Samples::default();
    for _ in 0..WINDOWS {
        let (used, began) = (meter::usage(machine, AGENT)?, Instant::now());
        std::thread::sleep(INTERVAL.saturating_sub(Duration::from_millis(30)));
        let used = meter::usage(machine, AGENT)? - used;
        cpu.push(used / 1e4 / began.elapsed().as_secs_f64());
    }
    let memory = meter::memory(machine, AGENT)?;
    let lines = machine.ok(&format!("tail -n +{} {ASKED}", before + 1))?;
    let (drift, asked) = drift(&lines)?;
    ensure!(
        machine.manager_property("Health")? == "healthy",
        "not all are healthy afterwards"
    );
    let figure = |row, samples, notes| Figure {
        row,
        samples,
        peer: None,
        notes,
    };
    Ok(vec![
        figure(
            CPU,
            cpu,
            vec![format!(
                "control group of {AGENT} over {WINDOWS} windows of {} s",
                INTERVAL.as_secs()
            )],
        ),
        figure(
            RSS,
            [memory.resident].into_iter().collect(),
            vec![format!(
                "{:.2} MiB of it are the agent's own (RssAnon), {:.2} MiB pages of files; the most ever was {:.2} MiB",
                memory.own, memory.files, memory.most
            )],
        ),
        figure(
            DRIFT,
            [drift].into_iter().collect(),
            vec![format!(
                "{asked} requests as they arrived, each against its service's first one and whole intervals, and against the one before and one interval"
            )],
        ),
    ])
}

/// The furthest from its time that a request came, in milliseconds, and how many were looked at.
fn drift(lines: &str) -> Result<(f64, usize)> {
    let mut asked: BTreeMap<u16, Vec<f64>> = BTreeMap::new();
    for line in lines.lines() {
        let (port, at) = line
            .split_once(' ')
            .with_context(|| format!("not a request: {line}"))?;
        asked
            .entry(port.parse()?)
            .or_default()
            .push(at.parse::<f64>()? / 1e3);
    }
    ensure!(
        asked.len() == usize::from(COUNT),
        "{} of {COUNT} services were asked",
        asked.len()
    );
    let interval = INTERVAL.as_secs_f64() * 1e3;
    let (mut furthest, mut count) = (0.0_f64, 0);
    for (port, times) in &asked {
        ensure!(
            times.len() + 1 >= WINDOWS as usize,
            "port {port} was asked {} times in {WINDOWS} intervals",
            times.len()
        );
        let first = times.first().copied().unwrap_or_default();
        let mut due = first;
        for pair in times.windows(2) {
            let [before, at] = pair else { continue };
            due += interval;
            furthest = furthest.max((at - due).abs()).max((at - before - interval).abs());
        }
        count += times.len();
    }
    Ok((furthest, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(late: impl Fn(u32) -> u32) -> String {
        let mut text = String::new();
        for turn in 0..WINDOWS {
            for port in PORT..PORT + COUNT {
                let _ = writeln!(
                    text,
                    "{port} {}",
                    turn * 10_000_000 + u32::from(port) + late(turn) * 1000
                );
            }
        }
        text
    }

    #[test]
    fn a_late_request_and_a_slow_clock_are_seen() {
        let of = |text: &str| drift(text).unwrap().0;
        assert!(of(&requests(|_| 0)) < 1e-6);
        assert!((of(&requests(|turn| if turn == 3 { 40 } else { 0 })) - 40.0).abs() < 1e-6);
        // 20 ms more each time: no gap is far off, the last request is.
        assert!((of(&requests(|turn| turn * 20)) - f64::from(20 * (WINDOWS - 1))).abs() < 1e-6);
        assert!(drift("21000 5\n").is_err());
    }
}
