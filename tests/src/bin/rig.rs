//! The rig by hand: `rig demo [--once]`, `rig shell [trixie|bookworm]`, `rig clean`, `rig check`.

use anyhow::{Result, bail};
use dagger_tests::rig::{Machine, Suite, host, sweep};
use dagger_tests::suite::Ground;
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = run(&words);
    sweep::hold_if_stopped();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rig: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<()> {
    match words {
        ["demo"] => dagger_tests::demo::run(false),
        ["demo", "--once"] => dagger_tests::demo::run(true),
        ["check"] => host::can_boot(),
        ["shell"] | ["shell", "trixie"] => shell(Suite::Trixie),
        ["shell", "bookworm"] => shell(Suite::Bookworm),
        ["clean"] => {
            sweep::leftovers()?;
            dagger_tests::rig::tree::remove(&host::cache())
        }
        _ => bail!("usage: rig demo [--once] | shell [trixie|bookworm] | check | clean"),
    }
}

/// A machine with the product installed and no configuration, and a shell in it.
fn shell(suite: Suite) -> Result<()> {
    host::can_boot()?;
    sweep::on_signals()?;
    sweep::leftovers()?;
    Ground::built()?;
    let ground = Ground::prepare(suite)?;
    let machine = Machine::boot(ground.installed("dagger")?)?;
    machine.shell()
}
