//! The agent beside Monit: six HTTP checks every five seconds by each, in one machine at the same time.

use super::figure::{Figure, Peer, Row};
use super::meter::{self, AGENT};
use super::samples::Samples;
use crate::rig::{Machine, Suite, progress};
use crate::suite::{Ground, SIX_TOML};
use anyhow::{Result, ensure};
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

const CPU: Row = Row {
    name: "agent-monit-cpu",
    what: "processor time for six HTTP checks every 5 s, against Monit doing the same",
    limit: 1.0,
    unit: "x",
};
const RSS: Row = Row {
    name: "agent-monit-rss",
    what: "resident memory meanwhile, against Monit's",
    limit: 1.0,
    unit: "x",
};

/// Both.
pub const ROWS: [Row; 2] = [CPU, RSS];

const PEER: &str = "monit.service";
const NAME: &str = "Monit";
/// How often both ask, in seconds.
const INTERVAL: u64 = 5;
/// How many windows are measured, and how many rounds of questions each holds: 75 seconds together.
const WINDOWS: usize = 5;
const ROUNDS: u64 = 3;

/// Monit's control file: what Debian's own sets, and the same questions as the agent's. It sends no mail: nobody is named.
fn control() -> String {
    let mut text = format!(
        "set daemon {INTERVAL}\nset log syslog\nset pidfile /run/monit.pid\nset idfile /var/lib/monit/id\n\
         set statefile /var/lib/monit/state\n"
    );
    for (service, port, path) in meter::QUESTIONS {
        // Without its session's number Transmission answers 409, and so it is well.
        let status = if service == "transmission" { 409 } else { 200 };
        let _ = write!(
            text,
            "check host {service} with address 127.0.0.1\n  if failed port {port} protocol http request \"{path}\" status = {status} then alert\n"
        );
    }
    text
}

/// Measures what is asked for.
pub fn measure(_: &dyn Fn(&str) -> bool, _: &Path) -> Result<Vec<Figure>> {
    let ground = Ground::prepare(Suite::Trixie)?;
    let spec = ground.installed_with("monit", &["monit"])?;
    let toml = meter::asked_every(SIX_TOML, &format!("{INTERVAL}s"));
    let machine = Machine::boot(spec.file("/etc/dagger/dagger.toml", toml))?;
    progress::during("six services become healthy", || machine.wait_six())?;
    machine.write("/etc/monit/monitrc", &control())?;
    machine.ok("chmod 600 /etc/monit/monitrc && monit -t && systemctl restart monit && sleep 15")?;
    let complaints = machine.ok(&format!(
        "journalctl -b -q -o cat -u {PEER} -t monit | grep failed || :"
    ))?;
    ensure!(complaints.is_empty(), "Monit finds something wrong: {complaints}");
    progress::during("agent-monit", || compare(&machine))
}

fn compare(machine: &Machine) -> Result<Vec<Figure>> {
    let (mut ours, mut theirs) = (Samples::default(), Samples::default());
    let counted = meter::answered(machine)?;
    let began = Instant::now();
    for _ in 0..WINDOWS {
        meter::between_rounds()?;
        let before = (meter::usage(machine, AGENT)?, meter::usage(machine, PEER)?);
        std::thread::sleep(Duration::from_secs(INTERVAL * ROUNDS));
        let after = (meter::usage(machine, AGENT)?, meter::usage(machine, PEER)?);
        #[expect(clippy::cast_precision_loss, reason = "three")]
        let rounds = ROUNDS as f64;
        ours.push((after.0 - before.0) / rounds / 1e3);
        theirs.push((after.1 - before.1) / rounds / 1e3);
    }
    let (counted, took) = (meter::answered(machine)? - counted, began.elapsed().as_secs());
    let expected = 2 * meter::COUNTING * took / INTERVAL;
    ensure!(
        counted * 10 >= expected * 8,
        "{counted} questions in {took} s, where the two ask {expected}"
    );
    let (agent, monit) = (meter::memory(machine, AGENT)?, meter::memory(machine, PEER)?);
    let peer = |samples, unit| {
        Some(Peer {
            name: NAME,
            samples,
            unit,
        })
    };
    let version = machine.ok("monit -V | head -n 1")?;
    Ok(vec![
        Figure {
            row: CPU,
            samples: ours,
            peer: peer(theirs, "ms a round"),
            notes: vec![format!(
                "{}; control groups of {AGENT} and {PEER} in the same {WINDOWS} windows of {} s; five of the six applications counted {counted} questions by both in {took} s",
                version.trim(),
                INTERVAL * ROUNDS
            )],
        },
        Figure {
            row: RSS,
            samples: [agent.resident].into_iter().collect(),
            peer: peer([monit.resident].into_iter().collect(), "MiB"),
            notes: vec![format!(
                "RssAnon and RssFile: the agent {:.2} and {:.2} MiB, Monit {:.2} and {:.2} MiB",
                agent.own, agent.files, monit.own, monit.files
            )],
        },
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monit_asks_what_the_agent_asks() {
        let text = control();
        assert_eq!(text.matches("check host ").count(), 6);
        assert!(text.contains("port 9091 protocol http request \"/transmission/rpc\" status = 409 then"));
        assert!(text.contains("port 8989 protocol http request \"/ping\" status = 200 then"));
    }
}
