//! Text for people: columns, spans of time, sizes, colour. Pure: whether there is a terminal, and what time it is, is said
//! by the caller.

use std::fmt::Write as _;
use std::time::Duration;

/// How a cell is shown on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tone {
    /// As everything else.
    #[default]
    Plain,
    /// A heading.
    Heading,
    /// All is well.
    Good,
    /// Look at it soon.
    Warn,
    /// Look at it now.
    Bad,
    /// Of no weight.
    Dim,
}

impl Tone {
    /// The number of ECMA-48's SGR sequence.
    fn sgr(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Heading => Some("1"),
            Self::Good => Some("32"),
            Self::Warn => Some("33"),
            Self::Bad => Some("31"),
            Self::Dim => Some("2"),
        }
    }
}

/// Puts a text into colour, when there is any.
pub fn paint(text: &str, tone: Tone, colour: bool) -> String {
    match tone.sgr() {
        Some(sgr) if colour => format!("\x1b[{sgr}m{text}\x1b[0m"),
        _ => text.to_owned(),
    }
}

/// A cell of a table.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    text: String,
    tone: Tone,
    right: bool,
}

impl Cell {
    /// Text, flush left. Empty text becomes a hyphen, so that every column of every line is there for `awk`.
    pub fn left(text: impl AsRef<str>, tone: Tone) -> Self {
        let text = clean(text.as_ref());
        Self {
            text: if text.is_empty() { "-".into() } else { text },
            tone,
            right: false,
        }
    }

    /// A number or its heading, flush right.
    pub fn right(text: impl AsRef<str>, tone: Tone) -> Self {
        Self {
            right: true,
            ..Self::left(text, tone)
        }
    }
}

/// Lays rows out in columns, two blanks apart, none at the end of a line.
pub fn table(rows: &[Vec<Cell>], colour: bool) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.text.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let gap = " ".repeat(width - cell.text.chars().count());
            let painted = paint(&cell.text, cell.tone, colour);
            let last = column + 1 == row.len();
            match (cell.right, last) {
                (true, _) => text.extend([gap.as_str(), &painted]),
                (false, false) => text.extend([painted.as_str(), &gap]),
                (false, true) => text.push_str(&painted),
            }
            if !last {
                text.push_str("  ");
            }
        }
        text.push('\n');
    }
    text
}

/// Makes foreign text fit for a terminal: an application's answer may hold anything, escape sequences included.
pub fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// A span of time in its two largest units: `45 s`, `3 min`, `2 h 5 min`, `4 d 3 h`.
pub fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let two = |large: u64, unit: &str, small: u64, below: &str| {
        if small == 0 {
            format!("{large} {unit}")
        } else {
            format!("{large} {unit} {small} {below}")
        }
    };
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => two(hours, "h", minutes, "min"),
        (days, hours, _) => two(days, "d", hours, "h"),
    }
}

/// How long ago a moment was, both in microseconds of CLOCK_REALTIME; empty for 0, which means never.
pub fn ago(moment: u64, now: u64) -> String {
    if moment == 0 {
        String::new()
    } else {
        span(Duration::from_micros(now.saturating_sub(moment)))
    }
}

/// How long an answer took; empty for 0, which means that there was none.
pub fn latency(microseconds: u64) -> String {
    match microseconds {
        0 => String::new(),
        us @ 1..1000 => format!("{us} µs"),
        us @ 1000..10_000 => format!("{}.{} ms", us / 1000, us / 100 % 10),
        us @ 10_000..1_000_000 => format!("{} ms", us / 1000),
        us => format!("{}.{} s", us / 1_000_000, us / 100_000 % 10),
    }
}

/// An amount of memory in binary units, three digits.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut tenths = bytes.saturating_mul(10) / 1024;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    while tenths >= 10_240 {
        let Some(next) = units.next() else { break };
        unit = Some(next);
        tenths /= 1024;
    }
    let mut text = if tenths < 1000 && !tenths.is_multiple_of(10) {
        format!("{}.{}", tenths / 10, tenths % 10)
    } else {
        (tenths / 10).to_string()
    };
    let _ = write!(text, " {}", unit.unwrap_or(&""));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_with_and_without_colour() {
        let rows = [
            vec![
                Cell::left("NAME", Tone::Heading),
                Cell::right("PORT", Tone::Heading),
                Cell::left("VERSION", Tone::Heading),
            ],
            vec![
                Cell::left("jellyfin-größer", Tone::Good),
                Cell::right("80", Tone::Plain),
                Cell::left("", Tone::Plain),
            ],
        ];
        let plain = "NAME             PORT  VERSION\njellyfin-größer    80  -\n";
        assert_eq!(table(&rows, false), plain);
        let coloured = table(&rows, true);
        assert!(coloured.contains("\x1b[32mjellyfin-größer\x1b[0m"));
        let mut stripped = coloured;
        for code in ["\x1b[1m", "\x1b[32m", "\x1b[0m"] {
            stripped = stripped.replace(code, "");
        }
        assert_eq!(stripped, plain);
        assert_eq!(table(&[], false), "");
    }

    #[test]
    fn an_answer_cannot_drive_the_terminal() {
        assert_eq!(
            clean("a\x1b]0;owned\x07b\n"),
            "a\u{fffd}]0;owned\u{fffd}b\u{fffd}"
        );
    }

    #[test]
    fn amounts_are_short() {
        let spans = [0, 59, 60, 3599, 3600, 3660, 86_399, 86_400, 86_400 * 4 + 3600 * 3];
        let said = spans.map(|seconds| span(Duration::from_secs(seconds)));
        assert_eq!(
            said,
            [
                "0 s",
                "59 s",
                "1 min",
                "59 min",
                "1 h",
                "1 h 1 min",
                "23 h 59 min",
                "1 d",
                "4 d 3 h"
            ]
        );
        let said = [0, 850, 3210, 45_000, 1_250_000].map(latency);
        assert_eq!(said, ["", "850 µs", "3.2 ms", "45 ms", "1.2 s"]);
        let said = [0, 1023, 1024, 1_572_864, 226 << 20, 3 << 30].map(bytes);
        assert_eq!(said, ["0 KiB", "0.9 KiB", "1 KiB", "1.5 MiB", "226 MiB", "3 GiB"]);
        assert_eq!(ago(0, 5), "");
        assert_eq!(ago(9_000_000, 5_000_000), "0 s", "a clock that was set back");
    }
}
