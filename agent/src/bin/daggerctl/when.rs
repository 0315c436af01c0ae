//! Times as the user's clock shows them. The time zone's rules are the C library's, so date(1) is asked, once for many.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

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

/// A time in UTC, by the civil calendar (days from 0000-03-01, in eras of 400 years).
fn utc(time: u64) -> String {
    let seconds = time / 1_000_000;
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months from March, so that the leap day is the last of the year.
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = era * 400 + year_of_era + next;
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, said) in [
            (0, "1970-01-01 00:00:00Z"),
            (951_782_400, "2000-02-29 00:00:00Z"),
            (1_735_689_599, "2024-12-31 23:59:59Z"),
            (1_795_525_719, "2026-11-24 13:08:39Z"),
        ] {
            assert_eq!(utc(seconds * 1_000_000), said);
        }
    }

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
