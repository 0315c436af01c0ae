//! The sizes of the programs as they are installed.

use super::figure::{Figure, Row};
use anyhow::{Context, Result};
use std::path::Path;

/// Figures with their programs.
pub const ROWS: [(&str, Row); 2] = [
    (
        "dagger-generator",
        row("generator-binary", "size of dagger-generator", 2.0),
    ),
    ("dagger-agent", row("agent-binary", "size of dagger-agent", 4.0)),
];

const fn row(name: &'static str, what: &'static str, limit: f64) -> Row {
    Row {
        name,
        what,
        limit,
        unit: "MiB",
    }
}

/// Measures what is asked for.
pub fn measure(wanted: &dyn Fn(&str) -> bool, programs: &Path) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (program, row) in ROWS.into_iter().filter(|(_, row)| wanted(row.name)) {
        let path = programs.join(program);
        let bytes = std::fs::metadata(&path)
            .with_context(|| format!("look at {}", path.display()))?
            .len();
        #[expect(clippy::cast_precision_loss, reason = "sizes of programs are far below 2^52")]
        let size = bytes as f64 / f64::from(1 << 20);
        figures.push(Figure {
            row,
            samples: [size].into_iter().collect(),
            peer: None,
            notes: vec![format!("{bytes} bytes, release profile, stripped")],
        });
    }
    Ok(figures)
}
