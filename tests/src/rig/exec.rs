//! Runs commands inside a machine and brings back what they said.

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What a command left behind.
#[derive(Debug, Clone)]
pub struct Output {
    /// Exit status; 128 + N for a command that signal N ended.
    pub code: i32,
    /// Standard output, as text.
    pub stdout: String,
    /// Standard error, as text.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

impl Output {
    /// Whether the command ended with 0.
    pub fn good(&self) -> bool {
        self.code == 0
    }

    /// Both streams, for a message.
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// The command line that enters the machine: its namespaces, its root, and its init's control group.
pub fn enter(leader: u32, group: &Path) -> Command {
    let mut command = Command::new("/bin/sh");
    // The group first: a process that is not in the machine's group would be nobody's to systemd inside.
    command
        .args(["-c", "echo $$ >\"$0\" && exec \"$@\""])
        .arg(group.join("cgroup.procs"));
    command.args([
        "nsenter",
        "-t",
        &leader.to_string(),
        "-m",
        "-u",
        "-i",
        "-n",
        "-p",
        "-C",
        "-r",
        "-w",
        "--",
    ]);
    command.args([
        "/usr/bin/env",
        "-i",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ]);
    command.args([
        "HOME=/root",
        "LANG=C.UTF-8",
        "TERM=dumb",
        "SYSTEMD_COLORS=0",
        "SYSTEMD_PAGER=",
    ]);
    command
}

/// Runs `command` to its end, feeds it `input`, and kills it with all that it started after `limit`.
pub fn run(mut command: Command, input: &[u8], limit: Duration) -> Result<Output> {
    let began = Instant::now();
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let mut child = command.spawn().context("start nsenter")?;
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    if let Some(mut pipe) = child.stdin.take() {
        // A command that reads nothing closes its end; that is its own affair.
        let _ = pipe.write_all(input);
    }
    let status = wait(&mut child, limit);
    let (stdout, stderr) = (stdout.text(), stderr.text());
    let Some(status) = status? else {
        bail!("no end within {limit:?}; it had said:\n{stdout}{stderr}")
    };
    let code = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Ok(Output {
        code,
        stdout,
        stderr,
        took: began.elapsed(),
    })
}

/// A pipe that is being read by a thread of its own.
struct Collected {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> Collected {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&bytes);
    let reader = std::thread::spawn(move || {
        let mut piece = [0; 16 * 1024];
        let Some(mut pipe) = pipe else { return };
        while let Ok(count) = pipe.read(&mut piece) {
            match (count, kept.lock()) {
                (0, _) | (_, Err(_)) => return,
                (_, Ok(mut kept)) => kept.extend(piece.iter().take(count)),
            }
        }
    });
    Collected { bytes, reader }
}

impl Collected {
    /// What was said. A daemon that the command left behind may hold the pipe open: it is not waited for.
    fn text(self) -> String {
        let began = Instant::now();
        while !self.reader.is_finished() && began.elapsed() < Duration::from_secs(1) {
            std::thread::sleep(Duration::from_micros(200));
        }
        self.bytes
            .lock()
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }
}

/// Waits for the child's end; `None` when it had to be killed.
fn wait(child: &mut Child, limit: Duration) -> Result<Option<std::process::ExitStatus>> {
    let began = Instant::now();
    let mut pause = Duration::from_micros(500);
    loop {
        if let Some(status) = child.try_wait().context("wait for nsenter")? {
            return Ok(Some(status));
        }
        if began.elapsed() > limit {
            if let Ok(pid) = i32::try_from(child.id()) {
                // Gone already: then there is nothing to kill.
                let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
            }
            child.wait().context("wait for nsenter")?;
            return Ok(None);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}
