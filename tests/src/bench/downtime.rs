//! How long a migration has a service away, beyond what its two units take to stop and to start.

use super::disk::Disk;
use super::figure::{Figure, Row};
use super::snapshot::noise;
use super::suite_of::Scratch;
use crate::native::{NATIVE, OURS, QUICK, boot, end, job, native, rows, runs};
use crate::rig::{Machine, Suite, progress};
use crate::suite::Ground;
use anyhow::{Context, Result, ensure};
use rustix::fs::ioctl_ficlone;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, chown};
use std::path::Path;
use std::time::Duration;

/// The figures, by the kind of the file system.
pub const ROWS: [(&str, Row); 4] = [
    (
        "xfs",
        row(
            "migrate-downtime",
            "what a migration adds to stop and start of the units, with 20 GB in 200,000 files (XFS, reflink)",
        ),
    ),
    ("btrfs", row("migrate-btrfs", "the same on btrfs")),
    (
        "ext4",
        row(
            "migrate-ext4",
            "the same on ext4, where all is copied: 200,000 small files and a sparse one of 5 GB",
        ),
    ),
    ("tmpfs", row("migrate-tmpfs", "the same on tmpfs")),
];

const fn row(name: &'static str, what: &'static str) -> Row {
    Row {
        name,
        what,
        limit: 1.0,
        unit: "s",
    }
}

/// Covers of series: so many directories of so many files.
const DIRECTORIES: usize = 5000;
const COVERS: usize = 40;
/// How large a file is where blocks are shared; they are those of a few.
const SHARED: usize = 104_858;
const SPARSE: u64 = 5 << 30;
/// So many migrations, each on the way there.
const ROUNDS: usize = 3;
const LONG: Duration = Duration::from_mins(10);

/// Measures what is asked for.
pub fn measure(wanted: &dyn Fn(&str) -> bool, _programs: &Path) -> Result<Vec<Figure>> {
    let ground = Ground::prepare(Suite::Trixie)?;
    let rows = ROWS.into_iter().filter(|(_, row)| wanted(row.name));
    Ok(rows
        .map(|(kind, row)| {
            progress::during(format!("a migration on {kind}"), || on(&ground, kind, row))
                .unwrap_or_else(|why| Figure::failed(row, &why))
        })
        .collect())
}

fn on(ground: &Ground, kind: &str, row: Row) -> Result<Figure> {
    let scratch = Scratch::new()?;
    let disk = Disk::new(&scratch, kind)?;
    let (state, kept) = (disk.dir.join("state"), disk.dir.join("kept"));
    fs::create_dir(&state)
        .and_then(|()| fs::create_dir(&kept))
        .context("make directories")?;
    let bytes = fill(&state.join("sonarr"), matches!(kind, "xfs" | "btrfs"))?;
    let spec = native(ground, &format!("downtime-{kind}"), QUICK)?
        .bind(&state, "/var/lib/nixarr")
        .bind(&kept, "/var/lib/dagger/snapshots");
    let machine = boot(spec)?;
    let before = rows(&machine)?;
    let mut notes = Vec::new();
    let mut added = Vec::new();
    for _ in 0..ROUNDS {
        let moved = change(&machine, "migrate")?;
        ensure!(runs(&machine)? == (false, true), "{moved}");
        let at = |unit, property| -> Result<f64> {
            let text = machine.unit(unit, property)?;
            let usec: f64 = text.parse().with_context(|| format!("{property}: {text:?}"))?;
            Ok(usec / 1e6)
        };
        let (left, ended) = (
            at(NATIVE, "ActiveExitTimestampMonotonic")?,
            at(NATIVE, "InactiveEnterTimestampMonotonic")?,
        );
        let (began, up) = (
            at(OURS, "InactiveExitTimestampMonotonic")?,
            at(OURS, "ActiveEnterTimestampMonotonic")?,
        );
        added.push(began - ended);
        notes.push(format!(
            "away for {:.2} s, of which {:.2} s for the stop and {:.2} s for the start",
            up - left,
            ended - left,
            up - began
        ));
        change(&machine, "rollback")?;
        machine.wait_health("sonarr", "healthy", LONG)?;
    }
    ensure!(rows(&machine)? >= before, "rows were lost");
    notes.push(format!(
        "{} files of {:.1} GB on {kind} in memory",
        DIRECTORIES * COVERS,
        bytes / 1e9
    ));
    Ok(Figure {
        row,
        samples: added.into_iter().collect(),
        peer: None,
        notes,
    })
}

fn change(machine: &Machine, verb: &str) -> Result<String> {
    let unit = format!("dagger-{verb}@sonarr.service");
    let done = machine.run_with(&["systemctl", "start", &unit], "", LONG)?;
    let told = job(machine)?;
    ensure!(done.good() && end(&told, "result") == "done", "{verb}: {told}");
    Ok(end(&told, "sentence").to_owned())
}

/// Fills a state directory; how many bytes its files have.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn fill(state: &Path, shares: bool) -> Result<f64> {
    fs::create_dir(state)?;
    let mut bytes = 0;
    let master = state.join("master");
    if shares {
        fs::write(&master, noise(1, SHARED))?;
    }
    let original = shares.then(|| File::open(&master)).transpose()?;
    for directory in 0..DIRECTORIES {
        let dir = state.join(format!("covers/{directory}"));
        fs::create_dir_all(&dir)?;
        for cover in 0..COVERS {
            let path = dir.join(format!("poster-{cover}.jpg"));
            let file = File::create(&path)?;
            if let Some(original) = &original {
                ioctl_ficlone(&file, original).context("share blocks")?;
                bytes += SHARED as u64;
            } else {
                let small = noise(directory + cover, 200);
                file.write_all_at(&small, 0)?;
                bytes += small.len() as u64;
            }
            chown(&path, Some(274), Some(169))?;
        }
        chown(&dir, Some(274), Some(169))?;
    }
    if !shares {
        let file = File::create(state.join("sparse"))?;
        file.set_len(SPARSE)?;
        for piece in 0..50 {
            file.write_all_at(&noise(1, 1 << 20), piece * (100 << 20))?;
        }
        file.set_len(SPARSE)?;
        bytes += SPARSE;
    }
    for path in [state.to_owned(), state.join("covers")] {
        chown(&path, Some(274), Some(169))?;
    }
    Ok(bytes as f64)
}
