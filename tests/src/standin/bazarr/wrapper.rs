//! `bazarr.py`: starts the program proper, looks for two files every five seconds, and does *not* watch its child.
//!
//! SIGINT only makes it wait for the child's stop file; SIGTERM has no handler and kills it at once, and the child lives on.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::SIGINT;
use signal_hook::iterator::Signals;

use super::{MAIN, RESTART_FILE, STOP_FILE, directory};
use crate::standin::console::say;
use crate::standin::fault::duration;
use crate::standin::options::Environment;

/// Runs until the child leaves a stop file, and returns the code in it.
pub fn run(arguments: &[String], environment: &Environment) -> Result<u8, String> {
    let directory = directory(arguments);
    let failed = |error: std::io::Error| error.to_string();
    fs::create_dir_all(&directory).map_err(failed)?;
    for file in [STOP_FILE, RESTART_FILE] {
        // Left by a former run, or not there.
        let _ = fs::remove_file(directory.join(file));
    }
    let mut signals = Signals::new([SIGINT]).map_err(failed)?;
    let poll = environment
        .get("STANDIN_WRAPPER_POLL")
        .and_then(duration)
        .unwrap_or(Duration::from_secs(5));
    let mut child = start(arguments).map_err(failed)?;
    let mut interrupted = false;
    loop {
        std::thread::sleep(poll);
        for _ in signals.pending() {
            say(format_args!(
                "{}",
                if interrupted {
                    "Stop doing that! I heard you the first time!"
                } else {
                    "Handling keyboard interrupt..."
                }
            ));
            interrupted = true;
        }
        if let Some(code) = take(&directory.join(STOP_FILE)) {
            end(&mut child);
            return Ok(u8::try_from(code.rem_euclid(256)).unwrap_or(1));
        }
        if take(&directory.join(RESTART_FILE)).is_some() {
            end(&mut child);
            child = start(arguments).map_err(failed)?;
        }
    }
}

fn start(arguments: &[String]) -> std::io::Result<Child> {
    let child = Command::new(std::env::current_exe()?)
        .arg(MAIN)
        .args(arguments)
        .spawn()?;
    say(format_args!(
        "Bazarr starting child process with PID {}...",
        child.id()
    ));
    Ok(child)
}

/// The number in a control file, which is removed; none when it is not there.
fn take(path: &Path) -> Option<i32> {
    let text = fs::read_to_string(path).ok()?;
    // It is read once in any case: the process ends or the child is new.
    let _ = fs::remove_file(path);
    Some(text.trim().parse().unwrap_or(0))
}

fn end(child: &mut Child) {
    say(format_args!("Terminating child process with PID {}", child.id()));
    if matches!(child.try_wait(), Ok(None))
        && let Ok(pid) = i32::try_from(child.id())
    {
        // It may just have gone.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    // The child that wrote the file has left its loop, so this ends.
    let _ = child.wait();
}
