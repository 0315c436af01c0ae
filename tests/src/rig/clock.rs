//! The clock that a machine shares with its host, stepped for a while and put back.
//!
//! A process of its own does it, so that it is put back however the one that wanted it ends, also by SIGKILL: it steps the
//! clock, waits until its input ends or the time is up, and sets it to what it would be by now, which CLOCK_BOOTTIME tells.

use anyhow::{Context, Result, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The word that makes a program of the rig the process that steps: `PROGRAM step-clock SECONDS`.
pub const WORD: &str = "step-clock";
/// Says that this host's clock may be stepped: everything on it sees that.
pub const ALLOWED: &str = "DAGGER_STEP_CLOCK";
/// It is put back after so long, whatever happens.
const LONGEST: Duration = Duration::from_secs(15);

/// One step at a time: the second would take the first one's time for the right one.
static ONE: Mutex<()> = Mutex::new(());

/// Whether it may be done here.
pub fn may_be_stepped() -> bool {
    std::env::var_os(ALLOWED).is_some_and(|word| word == "1")
}

/// Steps the clock by so many seconds and puts it back after this time. The program that calls it has to know [`WORD`].
pub fn step(seconds: i64, time: Duration) -> Result<()> {
    ensure!(
        may_be_stepped(),
        "{ALLOWED} is not 1: this would step the clock of the host"
    );
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let program = std::env::current_exe().context("the program's own file")?;
    let mut child = Command::new(&program)
        .args([WORD, &seconds.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("run {}", program.display()))?;
    let begun = begun(&mut child);
    if begun.is_ok() {
        std::thread::sleep(time);
    }
    drop(child.stdin.take());
    let status = child.wait().context("wait for what steps the clock")?;
    begun?;
    ensure!(status.success(), "the clock was not put back: {status}");
    Ok(())
}

/// Waits until it has said that the clock is stepped.
fn begun(child: &mut Child) -> Result<()> {
    let mut said = [0_u8];
    let out = child.stdout.as_mut().context("no output")?;
    out.read_exact(&mut said)
        .context("the clock could not be stepped (see above)")
}

/// What the process does that [`step`] starts.
pub fn stepper(seconds: &str) -> Result<()> {
    let seconds: i64 = seconds.parse().context("not a number of seconds")?;
    // Whoever is told to end lets go of its end of the pipe, and so ends this.
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::all()), None).context("block signals")?;
    let gap = now(ClockId::CLOCK_REALTIME)? - now(ClockId::CLOCK_BOOTTIME)?;
    set(gap + TimeSpec::new(seconds, 0))?;
    let waited = wait();
    set(gap)?;
    waited
}

/// Says that it is done, and waits for the end of the input or of the time.
fn wait() -> Result<()> {
    let input = std::io::stdin();
    std::io::stdout().write_all(b"+").context("say so")?;
    std::io::stdout().flush().context("say so")?;
    let mut end = [PollFd::new(input.as_fd(), PollFlags::POLLIN)];
    let limit = PollTimeout::try_from(LONGEST).context("a time")?;
    poll(&mut end, limit).context("wait for the end of the input")?;
    Ok(())
}

fn now(clock: ClockId) -> Result<TimeSpec> {
    clock_gettime(clock).with_context(|| format!("read {clock}"))
}

/// Sets the clock to so much more than the time since the boot.
fn set(gap: TimeSpec) -> Result<()> {
    let time = now(ClockId::CLOCK_BOOTTIME)? + gap;
    clock_settime(ClockId::CLOCK_REALTIME, time).context("set CLOCK_REALTIME")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_steps_the_clock_who_was_not_told_to() {
        // Not set where tests run.
        assert!(!may_be_stepped());
        let refused = step(1, Duration::ZERO).unwrap_err().to_string();
        assert!(refused.contains("DAGGER_STEP_CLOCK is not 1"), "{refused}");
        assert!(stepper("tomorrow").is_err());
    }
}
