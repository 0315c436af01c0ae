//! A command inside the container, with a time limit.

use std::ffi::OsString;
use std::process::Stdio;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

/// What a command did.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It ended with 0.
    Good(String),
    /// It ended otherwise, or podman could not run it.
    Bad(String),
    /// podman itself could not be started.
    Unable(String),
}

/// As much of its output as is kept; the rest is read and dropped, so that it does not stand still on a full pipe.
const OUTPUT_MAX: usize = 4096;

/// The words that are run.
pub fn argv(container: &str, command: &[String]) -> Vec<String> {
    let mut words = vec!["exec".to_owned(), container.to_owned()];
    words.extend_from_slice(command);
    words
}

/// Runs the command. When this future is dropped (time is up), podman is killed with it.
///
/// podman has no way to kill the command inside from outside: one that never ends leaves a process in the container,
/// which ends with the container.
///
/// `runner` is the podman program, with the words before it where somebody else is to run it.
pub async fn run(runner: &[OsString], container: &str, command: &[String]) -> Outcome {
    let name = command.first().map_or("", String::as_str);
    let Some((program, before)) = runner.split_first() else {
        return Outcome::Unable("there is no podman to ask".into());
    };
    let child = Command::new(program)
        .args(before)
        .args(argv(container, command))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => return Outcome::Unable(format!("cannot run {}: {error}", program.display())),
    };
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (out, err, status) = tokio::join!(drain(out), drain(err), child.wait());
    let said = last_line(&err)
        .or_else(|| last_line(&out))
        .map_or(String::new(), |line| format!(": {line}"));
    match status {
        Ok(status) if status.success() => Outcome::Good(format!("`{name}` ended with 0")),
        Ok(status) => match status.code() {
            Some(125) => Outcome::Bad(format!("podman could not run `{name}`{said}")),
            Some(127) => Outcome::Bad(format!("there is no `{name}` in the container{said}")),
            Some(code) => Outcome::Bad(format!("`{name}` ended with {code}{said}")),
            None => Outcome::Bad(format!("`{name}` was killed by a signal")),
        },
        Err(error) => Outcome::Unable(format!("cannot wait for podman: {error}")),
    }
}

async fn drain(pipe: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = Vec::new();
    let Some(mut pipe) = pipe else {
        return kept;
    };
    let mut space = [0; 1024];
    // A pipe that breaks ends like one that closes: the exit status tells the rest.
    while let Ok(count @ 1..) = pipe.read(&mut space).await {
        let room = OUTPUT_MAX.saturating_sub(kept.len()).min(count);
        kept.extend_from_slice(space.get(..room).unwrap_or_default());
    }
    kept
}

fn last_line(output: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(output);
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    Some(line.chars().take(120).collect())
}
