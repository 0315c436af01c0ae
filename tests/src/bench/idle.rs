//! The agent when nothing happens: six healthy services, asked as often as a user gets it without a word.

use super::figure::{Figure, Row};
use super::meter::{self, AGENT};
use crate::rig::{Machine, Suite, progress};
use crate::suite::{Ground, SIX_TOML};
use anyhow::Result;
use std::path::Path;
use std::time::{Duration, Instant};

/// The figure.
pub const ROW: Row = Row {
    name: "idle-wakeups",
    what: "wake-ups a second of the idle agent, six services",
    limit: 2.0,
    unit: "/s",
};

/// Five rounds of questions, and more than two feedings of the agent's own watchdog.
const WINDOW: Duration = Duration::from_secs(75);

/// Measures it.
pub fn measure(_: &dyn Fn(&str) -> bool, _: &Path) -> Result<Vec<Figure>> {
    let ground = Ground::prepare(Suite::Trixie)?;
    let machine = Machine::boot(ground.configured("idle", SIX_TOML)?)?;
    progress::during("six services become healthy", || machine.wait_six())?;
    // What follows a start has to be over.
    std::thread::sleep(Duration::from_secs(20));
    let figure = progress::during(ROW.name, || wakeups(&machine))?;
    Ok(vec![figure])
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
        row: ROW,
        samples: [woken / took].into_iter().collect(),
        peer: None,
        notes: vec![format!(
            "{woken:.0} times in {took:.1} s a thread of the agent waited for something (voluntary_ctxt_switches), {probes} probes of five of the six among them; {:.2} ms of processor time a minute",
            used / took * 60.0 / 1e3
        )],
    })
}
