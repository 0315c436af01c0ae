//! Listening sockets by the thousand, and programs that look at them in turns: what `ports-scan-*` are measured with.
//!
//! - `ports scan`: prints every server of the network namespace with the unit that holds it, as the agent reads them.
//! - `ports check PORT...`: prints who holds these TCP ports.
//! - `ports rounds FIRST COUNT ROUNDS PROGRAM...`: listens on COUNT ports from FIRST on and runs each PROGRAM (its words
//!   divided by blanks) in every round, in turns; prints `PROGRAM'S-NUMBER MICROSECONDS LINES-OF-OUTPUT` for each run, from
//!   before its process is made until it has ended. To be run in a network namespace of its own.

use dagger_agent::adapter::sockets::dump::{self, Which};
use dagger_agent::adapter::sockets::groups::Groups;
use dagger_agent::adapter::sockets::{Port, diag::Found};
use dagger_suite::model::Protocol;
use std::io::{BufWriter, Error, ErrorKind, Result, Write};
use std::net::TcpListener;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

const USAGE: &str = "usage: ports scan | check PORT... | rounds FIRST COUNT ROUNDS PROGRAM...";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["scan"] => dump::servers().and_then(|found| show(&found)),
        ["check", ports @ ..] => check(ports),
        ["rounds", first, count, rounds, programs @ ..] => {
            number(first).and_then(|first| rounds_of(first, number(count)?, number(rounds)?, programs))
        }
        _ => Err(wrong(USAGE)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ports: {error}");
            ExitCode::FAILURE
        }
    }
}

fn wrong(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

fn number<T: std::str::FromStr>(word: &str) -> Result<T> {
    word.parse().map_err(|_| wrong(USAGE))
}

fn show(found: &[Found]) -> Result<()> {
    let mut groups = Groups::new()?;
    groups.learn(found);
    let mut out = BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    for found in found {
        let (protocol, address) = (found.protocol.word(), found.address);
        match groups.unit(found) {
            Some(unit) => writeln!(out, "{protocol} {address} {unit}")?,
            None => writeln!(out, "{protocol} {address} -")?,
        }
    }
    out.flush()
}

fn check(ports: &[&str]) -> Result<()> {
    let mut found = Vec::new();
    for port in ports {
        let port = Port {
            protocol: Protocol::Tcp,
            number: number(port)?,
        };
        found.extend(dump::on_port(port, Which::Listening)?);
    }
    show(&found)
}

fn rounds_of(first: u16, count: u16, rounds: usize, programs: &[&str]) -> Result<()> {
    let ports = first..first.saturating_add(count);
    let listeners = ports.map(|port| TcpListener::bind(("0.0.0.0", port)));
    let listeners = listeners.collect::<Result<Vec<_>>>()?;
    for round in 0..rounds {
        let mut turns: Vec<_> = programs.iter().enumerate().collect();
        if round % 2 == 1 {
            turns.reverse();
        }
        for (turn, program) in turns {
            let (took, lines) = run(program)?;
            println!("{turn} {took} {lines}");
        }
    }
    drop(listeners);
    Ok(())
}

/// Microseconds of a run, and the lines that it wrote. A program that fails is none to be measured.
fn run(program: &str) -> Result<(u128, usize)> {
    let mut words = program.split(' ');
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).stdin(Stdio::null());
    let began = Instant::now();
    let output = command.output()?;
    let took = began.elapsed().as_micros();
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(wrong(&format!("{program}: {}: {}", output.status, said.trim())));
    }
    Ok((took, String::from_utf8_lossy(&output.stdout).lines().count()))
}
