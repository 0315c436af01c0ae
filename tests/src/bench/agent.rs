//! The agent at work in a machine: its memory and its silence, its start, its sandbox.

use super::figure::{Figure, Row};
use super::meter::{self, AGENT};
use super::probe;
use super::samples::Samples;
use crate::rig::{Machine, Suite, progress};
use crate::suite::{Ground, SIX, SIX_TOML};
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::time::{Duration, Instant};

const RSS: Row = row(
    "agent-rss",
    "resident memory of the agent, six services, after an hour's probes",
    5.0,
    "MiB",
);
const JOURNAL: Row = row(
    "idle-journal",
    "journal lines of a healthy day's probes, six services, their own words aside",
    10.0,
    "lines",
);
const BUS_NAME: Row = row("agent-bus-name", "from exec to the bus name", 20.0, "ms");
const SECURITY: Row = row(
    "agent-security",
    "exposure of monitoring.service (systemd-analyze security)",
    2.0,
    "points",
);

/// All of them.
pub const ROWS: [Row; 6] = [RSS, JOURNAL, probe::PODMAN, probe::CLIENT, BUS_NAME, SECURITY];

/// Questions of an hour to those that count them: each is asked every 15 seconds unless somebody wants it otherwise.
const HOUR: u64 = meter::COUNTING * 3600 / 15;
/// How often they are asked here, the most that the agent does, so that an hour's worth of probes takes four minutes.
const INTERVAL: &str = "1s";
/// How often the agent is started.
const ROUNDS: usize = 15;

const fn row(name: &'static str, what: &'static str, limit: f64, unit: &'static str) -> Row {
    Row {
        name,
        what,
        limit,
        unit,
    }
}

/// Measures some figures in the machine.
type Measure = fn(&Machine) -> Result<Vec<Figure>>;

/// Measures what is asked for.
pub fn measure(wanted: &dyn Fn(&str) -> bool, programs: &Path) -> Result<Vec<Figure>> {
    let ground = Ground::prepare(Suite::Trixie)?;
    let spec = ground.configured("bench", &meter::asked_every(SIX_TOML, INTERVAL))?;
    let spec = spec.bind_read_only(programs.join("loopback"), probe::LOOPBACK);
    let machine = Machine::boot(spec)?;
    progress::during("six services become healthy", || machine.wait_six())?;
    let groups: [(&[Row], Measure); 4] = [
        (&[RSS, JOURNAL], hour),
        (&[probe::PODMAN, probe::CLIENT], probe::measure),
        (&[BUS_NAME], bus_name),
        (&[SECURITY], security),
    ];
    let mut measured = Vec::new();
    for (rows, measure) in groups {
        let rows = || rows.iter().filter(|row| wanted(row.name));
        let names: Vec<&str> = rows().map(|row| row.name).collect();
        if names.is_empty() {
            continue;
        }
        match progress::during(names.join(", "), || measure(&machine)) {
            Ok(figures) => measured.extend(figures.into_iter().filter(|figure| wanted(figure.row.name))),
            Err(why) => measured.extend(rows().map(|row| Figure::failed(*row, &why))),
        }
    }
    Ok(measured)
}

/// Lines in the journals of the agent and of the six that are not the applications' own words.
fn lines(machine: &Machine) -> Result<Vec<String>> {
    let entries = machine.journal(&["-b", "-u", AGENT, "-u", "dagger-*"])?;
    let ours = entries.iter().filter(|entry| {
        let own = entry.field("_SYSTEMD_UNIT").starts_with("dagger-");
        !own || entry.field("SYSLOG_IDENTIFIER") == "podman"
    });
    Ok(ours.map(|entry| entry.message().to_owned()).collect())
}

/// An hour's worth of probes, in which nothing happens: what they leave in memory and in the journal.
fn hour(machine: &Machine) -> Result<Vec<Figure>> {
    let (before, said, began) = (meter::answered(machine)?, lines(machine)?.len(), Instant::now());
    let mut probes = 0;
    while probes < HOUR {
        ensure!(
            began.elapsed() < Duration::from_mins(8),
            "{probes} of {HOUR} probes in 8 minutes"
        );
        std::thread::sleep(Duration::from_secs(2));
        probes = meter::answered(machine)? - before;
    }
    let memory = meter::memory(machine, AGENT)?;
    let new = lines(machine)?.split_off(said);
    let healthy = SIX
        .iter()
        .filter(|service| machine.health(service) == "healthy")
        .count();
    ensure!(healthy == SIX.len(), "{healthy} of 6 are healthy afterwards");
    let rss = Figure {
        row: RSS,
        samples: [memory.resident].into_iter().collect(),
        peer: None,
        notes: vec![
            format!(
                "after {probes} probes of five of the six, one each {INTERVAL} and service; an hour has {HOUR}"
            ),
            format!(
                "{:.2} MiB of it are the agent's own (RssAnon), {:.2} MiB pages of files; the most ever was {:.2} MiB",
                memory.own, memory.files, memory.most
            ),
        ],
    };
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let days = probes as f64 / (HOUR * 24) as f64;
    #[expect(clippy::cast_precision_loss, reason = "a few lines")]
    let lines = new.len() as f64 / days;
    let mut notes = vec![format!(
        "{} lines in {probes} probes, counted for the {} of a day; what goes by the clock and not by probes was seen for {} s",
        new.len(),
        HOUR * 24,
        began.elapsed().as_secs()
    )];
    notes.extend(new.into_iter().take(10));
    let journal = Figure {
        row: JOURNAL,
        samples: [lines].into_iter().collect(),
        peer: None,
        notes,
    };
    Ok(vec![rss, journal])
}

fn bus_name(machine: &Machine) -> Result<Vec<Figure>> {
    let mut samples = Samples::default();
    for _ in 0..ROUNDS {
        machine.ok("systemctl restart monitoring && sleep 0.3")?;
        let owner = machine.ok("busctl status org.nixarr.Dagger1 | sed -n 's/^PID=//p'")?;
        let unit = |property: &str| machine.unit(AGENT, property);
        ensure!(owner.trim() == unit("MainPID")?, "{owner} owns the name");
        let moment =
            |property: &str| -> Result<f64> { unit(property)?.parse().with_context(|| property.to_owned()) };
        let handed = moment("ExecMainHandoffTimestampMonotonic")?;
        samples.push((moment("ActiveEnterTimestampMonotonic")? - handed) / 1e3);
    }
    Ok(vec![Figure {
        row: BUS_NAME,
        samples,
        peer: None,
        notes: vec![
            "from systemd's ExecMainHandoffTimestamp= to its ActiveEnterTimestamp=: the agent says READY=1 after it has taken the name, so the name is there sooner; six services configured".to_owned(),
        ],
    }])
}

fn security(machine: &Machine) -> Result<Vec<Figure>> {
    let text = machine.ok("systemd-analyze security --no-pager monitoring.service")?;
    let line = text
        .lines()
        .find_map(|line| line.split_once("Overall exposure level for monitoring.service: "));
    let (_, rest) = line.with_context(|| format!("no overall level in {text}"))?;
    let number = rest.split_ascii_whitespace().next().context("no number")?;
    Ok(vec![Figure {
        row: SECURITY,
        samples: [number.parse::<f64>()?].into_iter().collect(),
        peer: None,
        notes: vec![format!("systemd says: {}", rest.trim())],
    }])
}
