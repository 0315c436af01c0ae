//! Listening sockets by the thousand, and programs that look at them in turns: what `ports-scan-*` are measured with.
//!
//! - `ports scan`: prints every server of the network namespace with the unit that holds it, as the agent reads them.
//! - `ports check PORT...`: prints the unit that holds each of these TCP ports, as the gate finds it before a start.
//! - `ports hold FIRST COUNT`: listens on COUNT ports from FIRST on until its input ends.
//! - `ports rounds FIRST COUNT ROUNDS PROGRAM...`: has those held and runs each PROGRAM (its words
//!   divided by blanks) in every round, in turns; prints `PROGRAM'S-NUMBER MICROSECONDS LINES-OF-OUTPUT` for each run, from
//!   before its process is made until it has ended. A `!` before a program: it is to refuse. To be run in a network namespace
//!   of its own.

use dagger_agent::adapter::sockets::diag::Found;
use dagger_agent::adapter::sockets::dump;
use dagger_agent::adapter::sockets::exact;
use dagger_agent::adapter::sockets::groups::Groups;
use dagger_agent::adapter::sockets::{self, Port};
use dagger_suite::model::Protocol;
use std::io::{BufRead as _, BufReader, BufWriter, Error, ErrorKind, Result, Write};
use std::net::TcpListener;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

const USAGE: &str =
    "usage: ports scan | check PORT... | hold FIRST COUNT | rounds FIRST COUNT ROUNDS PROGRAM...";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["scan"] => dump::servers().and_then(|found| show(&found)),
        ["check", ports @ ..] => check(ports),
        ["hold", first, count] => number(first).and_then(|first| hold(first, number(count)?)),
        ["rounds", first, count, rounds, programs @ ..] => {
            number(rounds).and_then(|rounds| rounds_of(first, count, rounds, programs))
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
        if !sockets::free(port)? {
            found.extend(exact::answering(port)?);
        }
    }
    show(&found)
}

/// Listens, says so with a line, and ends with its input.
fn hold(first: u16, count: u16) -> Result<()> {
    let ports = first..first.saturating_add(count);
    let listeners = ports.map(|port| TcpListener::bind(("0.0.0.0", port)));
    let listeners = listeners.collect::<Result<Vec<_>>>()?;
    println!("{}", listeners.len());
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}

/// The sockets are another process's: whoever has ten thousand open needs milliseconds to start a program.
fn rounds_of(first: &str, count: &str, rounds: usize, programs: &[&str]) -> Result<()> {
    let mut holder = Command::new(std::env::current_exe()?)
        .args(["hold", first, count])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = String::new();
    if let Some(out) = holder.stdout.take() {
        BufReader::new(out).read_line(&mut said)?;
    }
    if said.trim() != count {
        return Err(wrong("the holder of the sockets has ended"));
    }
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
    drop(holder.stdin.take());
    holder.wait()?;
    Ok(())
}

/// Microseconds of a run, and the lines that it wrote. A program that fails is none to be measured, but one that is to refuse
/// (a `!` before it) and says who has the port.
fn run(program: &str) -> Result<(u128, usize)> {
    let (program, refuses) = program
        .strip_prefix('!')
        .map_or((program, false), |rest| (rest, true));
    let mut words = program.split(' ');
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).stdin(Stdio::null());
    let began = Instant::now();
    let output = command.output()?;
    let took = began.elapsed().as_micros();
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() == refuses || (refuses && !said.contains(", is taken by ")) {
        return Err(wrong(&format!("{program}: {}: {}", output.status, said.trim())));
    }
    Ok((took, String::from_utf8_lossy(&output.stdout).lines().count()))
}
