//! A plan for people: what `--dry-run` prints.

use std::fmt::{self, Write as _};

use super::cost::{Downtime, Step};
use super::{Plan, bytes};

/// A finding or a step is indented by so much below its heading.
const INDENT: &str = "  ";

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_blocked() {
            writeln!(f, "{} cannot be migrated yet; nothing was touched", self.service)?;
        } else {
            let native = self.native.as_deref().unwrap_or("its native unit");
            writeln!(f, "{}: from {native} to {}", self.service, self.unit)?;
        }
        for blocker in &self.blockers {
            writeln!(f, "{INDENT}! {}", one_line(&blocker.what))?;
            if !blocker.remedy.is_empty() {
                writeln!(f, "{INDENT}  -> {}", one_line(&blocker.remedy))?;
            }
        }
        if !self.warnings.is_empty() {
            writeln!(f, "to know before:")?;
        }
        for warning in &self.warnings {
            writeln!(f, "{INDENT}- {}", one_line(&warning.to_string()))?;
        }
        if self.is_blocked() {
            return Ok(());
        }
        writeln!(f, "steps:")?;
        let mut told = String::new();
        for (number, step) in (1..).zip(&self.steps) {
            let down = if step.down { "  (down)" } else { "" };
            writeln!(
                f,
                "{INDENT}{number:2}. {}: {}{}{down}",
                step.kind.word(),
                one_line(&step.does),
                cost(step.cost.written, step.cost.ms)
            )?;
            if let Some(now) = paths(step)
                && now != told
            {
                writeln!(f, "{INDENT}    {now}")?;
                told = now;
            }
            writeln!(f, "{INDENT}    undone: {}", one_line(&step.undo))?;
        }
        writeln!(f, "{}", down(self))?;
        writeln!(f, "the way back: nixarr-migrate rollback {}", self.service)
    }
}

/// What a step reads and writes, if anything.
fn paths(step: &Step) -> Option<String> {
    let list = |paths: &[String]| one_line(&paths.join(", "));
    Some(match (step.reads.as_slice(), step.writes.as_slice()) {
        ([], []) => return None,
        ([], writes) => format!("writes {}", list(writes)),
        (reads, []) => format!("reads {}", list(reads)),
        (reads, writes) if reads == writes => format!("reads and writes {}", list(writes)),
        (reads, writes) => format!("reads {}, writes {}", list(reads), list(writes)),
    })
}

/// How long the service is away. What nobody has seen is named, not guessed.
fn down(plan: &Plan) -> String {
    let Downtime {
        work_ms,
        stop_ms,
        start_ms,
        at_most_ms,
    } = plan.downtime;
    let known = [work_ms, stop_ms.unwrap_or(0), start_ms.unwrap_or(0)];
    let mut text = format!(
        "down for about {}",
        seconds(known.into_iter().fold(0, u64::saturating_add))
    );
    let native = plan.native.as_deref().unwrap_or("its native unit");
    let unit = &plan.unit;
    // Writing to a text cannot fail.
    let _ = match (stop_ms, start_ms) {
        (Some(_), Some(_)) => Ok(()),
        (None, Some(_)) => write!(text, ", and for as long as {native} takes to stop"),
        (Some(_), None) => write!(text, ", and for as long as {unit} takes to start"),
        (None, None) => write!(
            text,
            ", and for as long as {native} takes to stop and {unit} to start"
        ),
    };
    if let Some(most) = at_most_ms {
        let _ = write!(text, "; at most {}", seconds(most));
    }
    text
}

/// Names in paths may hold anything: line feeds and escapes must not shape what a person reads.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            // Writing to a text cannot fail.
            let _ = write!(line, "{}", c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

fn cost(written: u64, ms: u64) -> String {
    let mut words = Vec::new();
    if written > 0 {
        words.push(bytes(written));
    }
    if ms >= 50 {
        words.push(seconds(ms));
    }
    if words.is_empty() {
        String::new()
    } else {
        format!(" [{}]", words.join(", "))
    }
}

fn seconds(ms: u64) -> String {
    match ms {
        0..50 => "less than 0.1 s".to_owned(),
        50..9_950 => format!("{}.{} s", (ms + 50) / 1000, (ms + 50) % 1000 / 100),
        9_950..120_000 => format!("{} s", (ms + 500) / 1000),
        _ => format!("{} min", ms / 60_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        assert_eq!(seconds(49), "less than 0.1 s");
        assert_eq!(seconds(50), "0.1 s");
        assert_eq!(seconds(9_960), "10 s");
        assert_eq!(seconds(2300), "2.3 s");
        assert_eq!(seconds(45_000), "45 s");
        assert_eq!(seconds(600_000), "10 min");
    }

    #[test]
    fn names_do_not_shape_the_page() {
        assert_eq!(one_line("a\nb\x1b[31m"), "a\\nb\\u{1b}[31m");
    }
}
