//! `bench [--json] [--list] [NAME...]`: measures all figures or those named; exit code 1 when one misses its limit.

use anyhow::{Result, anyhow};
use dagger_tests::bench::figure::{Figure, Row};
use dagger_tests::bench::{
    agent, crowd, downtime, generator, idle, jobs, monit, ports, sizes, snapshot, start,
};
use dagger_tests::suite;
use std::path::Path;
use std::process::ExitCode;

/// Measures those of its figures that are wanted, with the built programs in that directory.
type Measure = fn(wanted: &dyn Fn(&str) -> bool, programs: &Path) -> Result<Vec<Figure>>;

/// Figures that are measured together.
struct Group {
    rows: Vec<Row>,
    measure: Measure,
}

fn groups() -> Vec<Group> {
    vec![
        Group {
            rows: generator::ROWS.iter().map(|(_, row)| *row).collect(),
            measure: generator::measure,
        },
        Group {
            rows: vec![start::ROW],
            measure: start::measure,
        },
        Group {
            rows: sizes::ROWS.iter().map(|(_, row)| *row).collect(),
            measure: sizes::measure,
        },
        Group {
            rows: agent::ROWS.to_vec(),
            measure: agent::measure,
        },
        Group {
            rows: jobs::ROWS.to_vec(),
            measure: jobs::measure,
        },
        Group {
            rows: monit::ROWS.to_vec(),
            measure: monit::measure,
        },
        Group {
            rows: crowd::ROWS.to_vec(),
            measure: crowd::measure,
        },
        Group {
            rows: ports::ROWS.to_vec(),
            measure: ports::measure,
        },
        Group {
            rows: snapshot::ROWS.to_vec(),
            measure: snapshot::measure,
        },
        Group {
            rows: downtime::ROWS.iter().map(|(_, row)| *row).collect(),
            measure: downtime::measure,
        },
        Group {
            rows: idle::ROWS.to_vec(),
            measure: idle::measure,
        },
    ]
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let names: Vec<&str> = words
        .iter()
        .map(String::as_str)
        .filter(|word| !word.starts_with("--"))
        .collect();
    let json = words.iter().any(|word| word == "--json");
    let groups = groups();
    let known: Vec<&str> = groups
        .iter()
        .flat_map(|group| &group.rows)
        .map(|row| row.name)
        .collect();
    if words.iter().any(|word| word == "--list") {
        for name in known {
            println!("{name}");
        }
        return ExitCode::SUCCESS;
    }
    let strange = words
        .iter()
        .find(|word| *word != "--json" && !known.contains(&word.as_str()));
    if let Some(word) = strange {
        eprintln!("bench: no figure {word}; there are: {}", known.join(" "));
        return ExitCode::from(2);
    }
    let wanted = |name: &str| names.is_empty() || names.contains(&name);
    let mut missed = 0;
    for group in &groups {
        for figure in measured(group, &wanted) {
            if json {
                println!("{}", figure.json());
            } else {
                println!("{}", figure.text());
            }
            missed += usize::from(!figure.ok());
        }
    }
    if !json {
        println!(
            "{}",
            match missed {
                0 => "all within their limits".to_owned(),
                1 => "one figure misses its limit".to_owned(),
                more => format!("{more} figures miss their limits"),
            }
        );
    }
    ExitCode::from(u8::from(missed > 0))
}

/// What a group measured; what it could not measure is a miss that says why.
fn measured(group: &Group, wanted: &dyn Fn(&str) -> bool) -> Vec<Figure> {
    let rows: Vec<Row> = group
        .rows
        .iter()
        .copied()
        .filter(|row| wanted(row.name))
        .collect();
    if rows.is_empty() {
        return Vec::new();
    }
    let (mut figures, why) = match (group.measure)(wanted, &suite::programs()) {
        Ok(figures) => (figures, anyhow!("its group has left it out")),
        Err(error) => (Vec::new(), error),
    };
    for row in rows {
        if !figures.iter().any(|figure| figure.row.name == row.name) {
            figures.push(Figure::failed(row, &why));
        }
    }
    figures
}
