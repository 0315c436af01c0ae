//! What Prometheus reads: rows in, its text format out, and how often that is worth writing.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>

use std::fmt::Write as _;
use std::time::Duration;

use super::health::Health;

/// The shortest time between two writings: Prometheus asks four times a minute.
pub const SHORTEST: Duration = Duration::from_secs(15);
/// The longest: counters and latencies grow old while no verdict changes.
pub const LONGEST: Duration = Duration::from_mins(1);

/// What the agent says of itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Own<'a> {
    /// Its version.
    pub version: &'a str,
    /// When it was started, CLOCK_REALTIME.
    pub started: Duration,
    /// When this is written, CLOCK_REALTIME.
    pub written: Duration,
}

/// What is known of one service.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row<'a> {
    /// Its name.
    pub service: &'a str,
    /// Its verdict.
    pub health: Health,
    /// When the verdict was reached, CLOCK_REALTIME.
    pub since: Duration,
    /// Whether its last probe had a good answer, see [`up`]; none: nobody has asked yet.
    pub up: Option<bool>,
    /// How long the last answer took; none without an answer.
    pub latency: Option<Duration>,
    /// Good answers since the agent began to count.
    pub good: u64,
    /// Bad answers, and none at all, since the agent began to count.
    pub bad: u64,
    /// Restarts by the agent since it began to count.
    pub recoveries: u64,
    /// Whether somebody has paused recovery.
    pub paused: bool,
    /// Problems that the application itself tells of.
    pub problems: usize,
    /// When its main process was started, CLOCK_REALTIME; none while it does not run.
    pub started: Option<Duration>,
    /// What it waits for, in one word (`Cause::word`).
    pub cause: Option<&'a str>,
}

/// One family of the text: its name, its type, its help.
type Head = (&'static str, &'static str, &'static str);

const HEALTH: Head = (
    "dagger_service_health",
    "gauge",
    "Verdict on the service: 1 at the one word that holds, 0 at the others.",
);
const PROBES: Head = (
    "dagger_probes_total",
    "counter",
    "Answers of the service to probes, by result, since the agent began to count.",
);
const CAUSE: Head = (
    "dagger_service_waiting",
    "gauge",
    "1 while the service is waited for, with the cause in one word.",
);
const INFO: Head = ("dagger_agent_info", "gauge", "Always 1; the agent's version.");
const STARTED: Head = (
    "dagger_agent_start_time_seconds",
    "gauge",
    "When the agent was started, since 1970.",
);
const WRITTEN: Head = (
    "dagger_agent_written_timestamp_seconds",
    "gauge",
    "When this was written, since 1970: more than two minutes ago means that the agent does not run.",
);

/// A value of a service; none: no line for that service.
type Value = fn(&Row<'_>) -> Option<f64>;

/// The families with one value a service.
const SIMPLE: [(Head, Value); 7] = [
    (
        (
            "dagger_service_up",
            "gauge",
            "1 when the last probe had a good answer; absent before the first.",
        ),
        |row| row.up.map(truth),
    ),
    (
        (
            "dagger_service_since_timestamp_seconds",
            "gauge",
            "When the verdict was reached, since 1970.",
        ),
        |row| Some(row.since.as_secs_f64()),
    ),
    (
        (
            "dagger_service_start_time_seconds",
            "gauge",
            "When the main process was started, since 1970; absent while it does not run.",
        ),
        |row| row.started.map(|at| at.as_secs_f64()),
    ),
    (
        (
            "dagger_probe_latency_seconds",
            "gauge",
            "How long the last answer took; absent without one.",
        ),
        |row| row.latency.map(|latency| latency.as_secs_f64()),
    ),
    (
        (
            "dagger_recoveries_total",
            "counter",
            "Restarts by the agent since it began to count.",
        ),
        |row| Some(count(row.recoveries)),
    ),
    (
        (
            "dagger_service_paused",
            "gauge",
            "1 while recovery is paused by somebody.",
        ),
        |row| Some(truth(row.paused)),
    ),
    (
        (
            "dagger_service_problems",
            "gauge",
            "Problems that the application itself tells of.",
        ),
        |row| Some(count(u64::try_from(row.problems).unwrap_or(u64::MAX))),
    ),
];

/// What `dagger_service_up` says, by the last answer, good or not, and where none has come yet by the verdict that was taken
/// over: an agent that has only begun must not call down what runs.
pub fn up(good: Option<bool>, health: Health) -> Option<bool> {
    let before = match health {
        Health::Healthy | Health::Degraded => Some(true),
        Health::Starting | Health::Unknown => None,
        Health::Inactive | Health::Unhealthy | Health::Recovering | Health::Failed => Some(false),
    };
    good.or(before)
}

fn truth(it: bool) -> f64 {
    if it { 1.0 } else { 0.0 }
}

/// Prometheus has only this kind of number; it is exact up to 2^53.
#[expect(
    clippy::cast_precision_loss,
    reason = "no counter of ours gets to 2^53 in a thousand years"
)]
fn count(number: u64) -> f64 {
    number as f64
}

/// All of it as text.
pub fn text(own: &Own<'_>, rows: &[Row<'_>]) -> String {
    let mut text = Text(String::with_capacity(2048 + 1024 * rows.len()));
    text.head(INFO);
    text.sample(INFO, &[("version", own.version)], 1.0);
    for (head, at) in [(STARTED, own.started), (WRITTEN, own.written)] {
        text.head(head);
        text.sample(head, &[], at.as_secs_f64());
    }
    if rows.is_empty() {
        return text.0;
    }
    text.head(HEALTH);
    for row in rows {
        for (word, health) in Health::ALL {
            let labels = [("service", row.service), ("health", word)];
            text.sample(HEALTH, &labels, truth(row.health == health));
        }
    }
    text.head(PROBES);
    for row in rows {
        for (result, number) in [("good", row.good), ("bad", row.bad)] {
            let labels = [("service", row.service), ("result", result)];
            text.sample(PROBES, &labels, count(number));
        }
    }
    for (head, value) in SIMPLE {
        text.head(head);
        for row in rows {
            if let Some(value) = value(row) {
                text.sample(head, &[("service", row.service)], value);
            }
        }
    }
    text.head(CAUSE);
    for row in rows {
        if let Some(cause) = row.cause {
            text.sample(CAUSE, &[("service", row.service), ("cause", cause)], 1.0);
        }
    }
    text.0
}

struct Text(String);

impl Text {
    fn head(&mut self, (name, kind, help): Head) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, (name, ..): Head, labels: &[(&str, &str)], value: f64) {
        self.0.push_str(name);
        for (index, (label, content)) in labels.iter().enumerate() {
            self.0.push(if index == 0 { '{' } else { ',' });
            self.0.push_str(label);
            self.0.push_str("=\"");
            for c in content.chars() {
                match c {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    c => self.0.push(c),
                }
            }
            self.0.push('"');
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }
}

/// When the text is worth writing. It is asked at every wake-up that the agent has anyway, and causes none itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pace {
    /// CLOCK_MONOTONIC at the last writing.
    written: Option<Duration>,
    /// A verdict changed since.
    changed: bool,
}

impl Pace {
    /// Something changed that people look at: a verdict, a pause, a cause.
    pub fn changed(&mut self) {
        self.changed = true;
    }

    /// Whether to write at `now` (CLOCK_MONOTONIC); counts as written when it says so. A change is never lost: it is
    /// written as soon as the shortest time is over.
    pub fn due(&mut self, now: Duration) -> bool {
        let due = self.written.is_none_or(|written| {
            let age = now.saturating_sub(written);
            age >= LONGEST || (self.changed && age >= SHORTEST)
        });
        if due {
            *self = Self {
                written: Some(now),
                changed: false,
            };
        }
        due
    }
}

#[cfg(test)]
mod tests;
