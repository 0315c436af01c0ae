//! Times as the user's clock shows them. The time zone's rules are the C library's, so date(1) is asked, once for many.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use dagger_agent::adapter::clock::utc;

/// So many times go through the pipes without filling them.
const AT_ONCE: usize = 500;

/// Times in microseconds of CLOCK_REALTIME as `2026-11-24 13:08:39`, local; where there is no date(1) that can, in UTC with
/// a `Z` behind.
pub fn local(times: &[u64]) -> Vec<String> {
    let by_date =
        |chunk: &[u64]| date(chunk).unwrap_or_else(|| chunk.iter().map(|time| utc(*time)).collect());
    times.chunks(AT_ONCE).flat_map(by_date).collect()
}

/// What date(1) makes of them; none: it cannot.
fn date(times: &[u64]) -> Option<Vec<String>> {
    let mut date = Command::new("date")
        .args(["--file=-", "+%F %T"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let asked: Vec<String> = times
        .iter()
        .map(|time| format!("@{}", time / 1_000_000))
        .collect();
    let written = date.stdin.take()?.write_all(asked.join("\n").as_bytes());
    let mut said = String::new();
    let read = date.stdout.take()?.read_to_string(&mut said);
    let ended = date.wait().ok()?.success();
    let lines: Vec<String> = said.lines().map(str::to_owned).collect();
    (written.is_ok() && read.is_ok() && ended && lines.len() == times.len()).then_some(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_gets_its_line() {
        let times: Vec<u64> = (0..1200).map(|second| second * 1_000_000).collect();
        let said = local(&times);
        assert_eq!(said.len(), 1200);
        assert!(
            said.iter()
                .all(|line| line.starts_with("1970-01-01") || line.starts_with("1969-12-31"))
        );
    }
}
