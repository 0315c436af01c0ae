//! What the journal remembers: the last lines of a unit, and the events of a service. journalctl(1) reads it for us, which
//! costs a process and nothing while nobody asks.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

use super::clock;
use super::notify::one_line;
use crate::domain::event;

/// The program.
const JOURNALCTL: &str = "journalctl";
/// It reads files of the local disk; longer than this, the disk is in trouble.
const LIMIT: Duration = Duration::from_secs(10);
/// As much of its output as is looked at.
const OUTPUT_MAX: u64 = 1 << 20;
/// The same where everything is wanted that a run of a unit has written.
const RUN_MAX: u64 = 4 << 20;

/// One event of the past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When, in microseconds of CLOCK_REALTIME.
    pub at: u64,
    /// What happened, in the words of [`event::NAMES`]: `healthy`, `recovery-started`.
    pub what: String,
    /// The message.
    pub message: String,
}

/// The last lines that a unit wrote since the machine started, oldest first.
pub async fn last_lines(unit: &str, count: u32) -> io::Result<Vec<String>> {
    let unit = format!("_SYSTEMD_UNIT={unit}");
    let lines = format!("--lines={count}");
    // Not `--boot`: which one this is stands in /proc/sys, which the agent does not see (`ProcSubset=pid`).
    let since = format!("--since=-{}s", clock::boottime().as_secs());
    let text = ask(&["--output=cat", &lines, &since, &unit], OUTPUT_MAX).await?;
    Ok(text
        .lines()
        .map(one_line)
        .filter(|line| !line.is_empty())
        .collect())
}

/// How many lines a unit has written in the last so many seconds; counted up to a thousand.
pub async fn lines_since(unit: &str, seconds: u64) -> io::Result<u64> {
    let unit = format!("_SYSTEMD_UNIT={unit}");
    let since = format!("--since=-{seconds}s");
    let text = ask(&["--output=cat", "--lines=1000", &since, &unit], OUTPUT_MAX).await?;
    Ok(u64::try_from(text.lines().count()).unwrap_or(u64::MAX))
}

/// The last lines that a run of a unit wrote (systemd.exec(5), `$INVOCATION_ID`), as they are, oldest first.
pub async fn lines_of_run(invocation: &str, count: u32) -> io::Result<String> {
    let lines = format!("--lines={count}");
    let run = format!("_SYSTEMD_INVOCATION_ID={invocation}");
    ask(&["--output=cat", &lines, &run], RUN_MAX).await
}

/// The last events of a service, oldest first; of all boots that the journal knows.
pub async fn events(service: &str, count: u32) -> io::Result<Vec<Event>> {
    let of = format!("DAGGER_SERVICE={service}");
    let lines = format!("--lines={count}");
    let mut words = vec![
        "--output=json",
        "--output-fields=MESSAGE,MESSAGE_ID,__REALTIME_TIMESTAMP",
        &lines,
        "_SYSTEMD_UNIT=monitoring.service",
        &of,
    ];
    let ids: Vec<String> = event::all()
        .map(|event| format!("MESSAGE_ID={}", event.id))
        .collect();
    words.extend(ids.iter().map(String::as_str));
    Ok(ask(&words, OUTPUT_MAX)
        .await?
        .lines()
        .filter_map(decode)
        .collect())
}

/// One line of `journalctl --output=json` (systemd's Journal JSON Format); a line that is no event of ours is left out.
fn decode(line: &str) -> Option<Event> {
    #[derive(Deserialize)]
    struct Line {
        #[serde(rename = "__REALTIME_TIMESTAMP")]
        at: String,
        #[serde(rename = "MESSAGE_ID")]
        id: String,
        #[serde(rename = "MESSAGE")]
        message: String,
    }
    let line: Line = serde_json::from_str(line).ok()?;
    Some(Event {
        at: line.at.parse().ok()?,
        what: event::name_of(&line.id)?.to_owned(),
        message: line.message,
    })
}

/// What comes out of a pipe, up to the limit; then the pipe is closed, so that a writer with more to say does not wait.
async fn all(pipe: impl AsyncRead + Unpin, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    pipe.take(limit).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

async fn ask(words: &[&str], limit: u64) -> io::Result<String> {
    let mut child = Command::new(JOURNALCTL)
        .args(["--quiet", "--no-pager"])
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let output = child
        .stdout
        .take()
        .ok_or_else(|| io::Error::other("journalctl has no output"))?;
    let complaints = child
        .stderr
        .take()
        .ok_or_else(|| io::Error::other("journalctl has no standard error"))?;
    let read = async {
        let (bytes, words) = tokio::try_join!(all(output, limit), all(complaints, OUTPUT_MAX))?;
        let status = child.wait().await?;
        // One that was cut short ends badly, too, and what it has said counts.
        if !status.success() && bytes.is_empty() {
            let words = String::from_utf8_lossy(&words);
            let why = words.lines().next_back().unwrap_or("journalctl says nothing");
            return Err(io::Error::other(one_line(why)));
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    tokio::time::timeout(LIMIT, read)
        .await
        .unwrap_or_else(|_| Err(io::Error::other("journalctl does not come to an end")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_journal_is_an_event_where_it_is_one_of_ours() {
        let line = |id: &str| {
            format!(
                r#"{{"__REALTIME_TIMESTAMP":"1764000000000000","MESSAGE_ID":"{id}","MESSAGE":"sonarr is healthy: HTTP 200","__CURSOR":"x"}}"#
            )
        };
        assert_eq!(
            decode(&line(event::HEALTHY.id)),
            Some(Event {
                at: 1_764_000_000_000_000,
                what: "healthy".into(),
                message: "sonarr is healthy: HTTP 200".into(),
            })
        );
        assert_eq!(decode(&line("0123456789abcdef0123456789abcdef")), None);
        // Binary messages are arrays of numbers.
        assert_eq!(
            decode(r#"{"__REALTIME_TIMESTAMP":"1","MESSAGE_ID":"x","MESSAGE":[1,2]}"#),
            None
        );
        assert_eq!(decode("not JSON"), None);
    }
}
