//! A figure: what was measured, what it may be at most, and how it is shown.

use super::samples::Samples;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// What a row of the table is about.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Its name, in kebab-case.
    pub name: &'static str,
    /// What is measured, for people.
    pub what: &'static str,
    /// The most that it may be.
    pub limit: f64,
    /// In what it is measured; `x` is a ratio of our median to the peer's.
    pub unit: &'static str,
}

/// Something measured beside ours.
#[derive(Debug, Clone)]
pub struct Peer {
    /// What it is.
    pub name: &'static str,
    /// What it took.
    pub samples: Samples,
    /// The unit of both sides' samples.
    pub unit: &'static str,
}

/// A row with its measurements.
#[derive(Debug, Clone)]
pub struct Figure {
    /// The row.
    pub row: Row,
    /// Ours.
    pub samples: Samples,
    /// What it was measured against, in the same run.
    pub peer: Option<Peer>,
    /// How it was measured, and what was checked, for people.
    pub notes: Vec<String>,
}

impl Figure {
    /// A figure that could not be measured, and why.
    pub fn failed(row: Row, why: &anyhow::Error) -> Self {
        Self {
            row,
            samples: Samples::default(),
            peer: None,
            notes: vec![format!("not measured: {why:#}")],
        }
    }

    /// The figure itself: the median, or its ratio to the peer's.
    pub fn value(&self) -> f64 {
        let ours = self.samples.median();
        self.peer
            .as_ref()
            .map_or(ours, |peer| ours / peer.samples.median())
    }

    /// Whether it is within its limit. A figure that could not be measured is not.
    pub fn ok(&self) -> bool {
        self.value() <= self.row.limit
    }

    /// One object: what the table says, for programs.
    pub fn json(&self) -> Value {
        let (low, high) = self.samples.quartiles();
        let unit = self.peer.as_ref().map_or(self.row.unit, |peer| peer.unit);
        let mut object = json!({
            "name": self.row.name, "value": self.value(), "unit": self.row.unit, "limit": self.row.limit,
            "peer": self.peer.as_ref().map(|peer| peer.name), "samples": self.samples.count(), "ok": self.ok(),
            "median": self.samples.median(), "quartiles": [low, high], "median-unit": unit,
        });
        if let (Some(peer), Some(object)) = (&self.peer, object.as_object_mut()) {
            let (low, high) = peer.samples.quartiles();
            object.insert("peer-median".into(), json!(peer.samples.median()));
            object.insert("peer-quartiles".into(), json!([low, high]));
            object.insert("peer-samples".into(), json!(peer.samples.count()));
        }
        object
    }

    /// Lines of the table.
    pub fn text(&self) -> String {
        let unit = self.peer.as_ref().map_or(self.row.unit, |peer| peer.unit);
        let mut text = format!(
            "{} {:<22} {:>8} {:<4} (at most {} {})  {}\n",
            if self.ok() { "ok  " } else { "MISS" },
            self.row.name,
            number(self.value()),
            self.row.unit,
            number(self.row.limit),
            self.row.unit,
            self.row.what,
        );
        let _ = writeln!(text, "       ours {}", spread(&self.samples, unit));
        if let Some(peer) = &self.peer {
            let _ = writeln!(text, "       {} {}", peer.name, spread(&peer.samples, unit));
        }
        for note in &self.notes {
            let _ = writeln!(text, "       {note}");
        }
        text
    }
}

fn spread(samples: &Samples, unit: &str) -> String {
    let (low, high) = samples.quartiles();
    let median = number(samples.median());
    match samples.count() {
        0 => "nothing".to_owned(),
        1 => format!("{median} {unit}"),
        count => {
            format!(
                "{median} {unit}, half of {count} between {} and {}",
                number(low),
                number(high)
            )
        }
    }
}

/// Three digits that count.
fn number(value: f64) -> String {
    let places = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        0.1.. => 3,
        0.01.. => 4,
        _ => 5,
    };
    format!("{value:.places$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(ours: &[f64], peer: Option<&[f64]>) -> Figure {
        let samples = |values: &[f64]| values.iter().copied().collect::<Samples>();
        Figure {
            row: Row {
                name: "some-thing",
                what: "some thing",
                limit: 0.5,
                unit: "x",
            },
            samples: samples(ours),
            peer: peer.map(|values| Peer {
                name: "other",
                samples: samples(values),
                unit: "ms",
            }),
            notes: Vec::new(),
        }
    }

    #[test]
    fn a_ratio_is_of_medians() {
        let figure = figure(&[1.0, 1.2, 9.0], Some(&[3.0, 4.0, 2.9]));
        assert!((figure.value() - 0.4).abs() < 1e-9);
        assert!(figure.ok());
        assert_eq!(figure.json()["peer"], "other");
        assert_eq!(figure.json()["samples"], 3);
    }

    #[test]
    fn what_was_not_measured_misses() {
        assert!(!figure(&[], None).ok());
        assert!(figure(&[], None).text().starts_with("MISS some-thing"));
    }

    #[test]
    fn a_miss_is_seen_in_both_forms() {
        let figure = figure(&[0.6], None);
        assert_eq!(figure.json()["ok"], false);
        assert!(figure.text().starts_with("MISS"));
    }
}
