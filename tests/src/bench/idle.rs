//! The agent when nothing happens: six healthy services, asked as often as a user gets it without a word, and not asked
//! at all.

use super::figure::{Figure, Row};
use super::meter::{self, AGENT};
use crate::rig::{Machine, Suite, progress};
use crate::suite::{BUS, Ground, ROOT, SIX_TOML};
use anyhow::Result;
use std::path::Path;
use std::time::{Duration, Instant};

/// Both figures.
pub const ROWS: [Row; 2] = [WAKEUPS, PORTS];
const WAKEUPS: Row = Row {
    name: "idle-wakeups",
    what: "wake-ups a second of the idle agent, six services",
    limit: 2.0,
    unit: "/s",
};

const PORTS: Row = Row {
    name: "ports-idle",
    what: "of a core for the agent that watches over the ports of six running services and asks them nothing",
    limit: 0.05,
    unit: "%",
};

/// Two looks at the ports at least: without anything new there is one a minute.
const PORTS_WINDOW: Duration = Duration::from_secs(130);
/// Looks that are asked for, to say what one costs.
const LOOKS: u32 = 50;

/// Five rounds of questions, and more than two feedings of the agent's own watchdog.
const WINDOW: Duration = Duration::from_secs(75);

/// Measures what is asked for.
pub fn measure(wanted: &dyn Fn(&str) -> bool, _: &Path) -> Result<Vec<Figure>> {
    let ground = Ground::prepare(Suite::Trixie)?;
    let mut figures = Vec::new();
    if wanted(WAKEUPS.name) {
        let machine = settled(&ground, SIX_TOML)?;
        figures.push(progress::during(WAKEUPS.name, || wakeups(&machine))?);
    }
    if wanted(PORTS.name) {
        let machine = settled(&ground, &meter::asked_every(SIX_TOML, "1h"))?;
        figures.push(progress::during(PORTS.name, || ports(&machine))?);
    }
    Ok(figures)
}

/// A machine in which what follows a start is over.
fn settled(ground: &Ground, toml: &str) -> Result<Machine> {
    let machine = Machine::boot(ground.configured("idle", toml)?)?;
    progress::during("six services become healthy", || machine.wait_six())?;
    std::thread::sleep(Duration::from_secs(20));
    Ok(machine)
}

fn ports(machine: &Machine) -> Result<Figure> {
    let before = meter::usage(machine, AGENT)?;
    let began = Instant::now();
    std::thread::sleep(PORTS_WINDOW);
    let used = meter::usage(machine, AGENT)? - before;
    let took = began.elapsed().as_secs_f64();
    let before = meter::usage(machine, AGENT)?;
    for _ in 0..LOOKS {
        machine.ok(&format!("busctl call {BUS} {ROOT} {BUS}.Manager Conflicts"))?;
    }
    let look = (meter::usage(machine, AGENT)? - before) / f64::from(LOOKS);
    Ok(Figure {
        row: PORTS,
        samples: [used / took / 1e4].into_iter().collect(),
        peer: None,
        notes: vec![format!(
            "all of the agent's {:.1} ms of processor time in {took:.0} s, its own watchdog among it; one look at the ports, asked for over the bus, took {:.2} ms",
            used / 1e3,
            look / 1e3
        )],
    })
}

fn wakeups(machine: &Machine) -> Result<Figure> {
    let before = (
        meter::wakeups(machine, AGENT)?,
        meter::usage(machine, AGENT)?,
        meter::answered(machine)?,
    );
    let began = Instant::now();
    std::thread::sleep(WINDOW);
    let woken = meter::wakeups(machine, AGENT)? - before.0;
    let took = began.elapsed().as_secs_f64();
    let used = meter::usage(machine, AGENT)? - before.1;
    let probes = meter::answered(machine)? - before.2;
    Ok(Figure {
        row: WAKEUPS,
        samples: [woken / took].into_iter().collect(),
        peer: None,
        notes: vec![format!(
            "{woken:.0} times in {took:.1} s a thread of the agent waited for something (voluntary_ctxt_switches), {probes} probes of five of the six among them; {:.2} ms of processor time a minute",
            used / took * 60.0 / 1e3
        )],
    })
}
