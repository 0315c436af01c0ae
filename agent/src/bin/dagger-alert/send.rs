//! Hands a letter to the program that sends it: curl(1) or sendmail. Secrets and texts go by standard input only.

use std::io;
use std::process::{Output, Stdio};
use std::time::Duration;

use dagger_agent::domain::alert::message::Letter;
use dagger_agent::domain::alert::one_line;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

/// A target that takes longer is given up: the unit ends after 30 s (`TimeoutStartSec=`), and others may wait.
pub const DEADLINE: Duration = Duration::from_secs(12);

/// The longest part of a program's complaint that is repeated.
const COMPLAINT: usize = 300;

/// Sends it; the error is a sentence without the secrets.
pub async fn send(letter: Letter, secrets: &[String]) -> Result<(), String> {
    let program = letter.program.clone();
    let output = match timeout(DEADLINE, run(letter)).await {
        Err(_) => return Err(format!("{program} did not end within {} s", DEADLINE.as_secs())),
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            return Err(format!("{program} is not installed"));
        }
        Ok(Err(error)) => return Err(format!("cannot run {program}: {error}")),
        Ok(Ok(output)) => output,
    };
    if output.status.success() {
        return Ok(());
    }
    let mut complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if complaint.is_empty() {
        complaint = format!("{program} ended with {}", output.status);
    }
    for secret in secrets {
        complaint = complaint.replace(secret.as_str(), "...");
    }
    Err(one_line(&complaint, COMPLAINT))
}

/// Given up half way, the program is killed.
async fn run(letter: Letter) -> io::Result<Output> {
    let mut child = Command::new(&letter.program)
        .args(&letter.arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        match input.write_all(letter.input.as_bytes()).await {
            // It ended without reading: its exit status says more.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
            _ => {}
        }
    }
    child.wait_with_output().await
}
