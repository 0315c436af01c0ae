//! Snapshots of a state directory beside cp(1) and rsync(1), on file systems of their own in memory.
//!
//! Both sides are processes, from exec to exit, and both end with all written out (syncfs(2); `sync -f` after the peer).

use super::disk::{Disk, run};
use super::figure::{Figure, Peer, Row};
use super::samples::Samples;
use super::suite_of::Scratch;
use crate::rig::progress;
use anyhow::{Context, Result, ensure};
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The figures, in the order in which they are measured.
pub const ROWS: [Row; 3] = [
    row(
        "snapshot-cp",
        "a snapshot that shares blocks (XFS), against cp -a --reflink=always",
        1.2,
    ),
    row("snapshot-copy", "a snapshot by copy (ext4), against cp -a", 1.0),
    row(
        "precopy-rsync",
        "bringing it up to date after 1 % of the files changed (XFS), against rsync -a --delete",
        0.2,
    ),
];

const fn row(name: &'static str, what: &'static str, limit: f64) -> Row {
    Row {
        name,
        what,
        limit,
        unit: "x",
    }
}

/// Covers of series: so many directories of so many files, of 64 bytes to 8 KiB.
const DIRECTORIES: usize = 5000;
const COVERS: usize = 40;
/// Databases: mostly holes, so that twenty gigabytes in two hundred thousand files fit into memory.
const DATABASES: usize = 4;
const DATABASE_SIZE: u64 = 5 << 30;
/// So many of each, each side in turn.
const COPIES: usize = 3;
const REFRESHES: usize = 16;
/// Of so many files one changes.
const CHANGED: usize = 100;
/// A file that changed less than that ago is copied again, because it may change again within the same tick.
const SETTLE: Duration = Duration::from_millis(2100);

/// Measures what is asked for.
pub fn measure(wanted: &dyn Fn(&str) -> bool, programs: &Path) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let [shared, copied, refreshed] = ROWS;
    for (kind, rows) in [
        ("xfs", [Some(shared), Some(refreshed)]),
        ("ext4", [Some(copied), None]),
    ] {
        let rows: Vec<Row> = rows
            .into_iter()
            .flatten()
            .filter(|row| wanted(row.name))
            .collect();
        if rows.is_empty() {
            continue;
        }
        match progress::during(format!("snapshots on {kind}"), || on(kind, &rows, programs)) {
            Ok(measured) => figures.extend(measured),
            Err(why) => figures.extend(rows.into_iter().map(|row| Figure::failed(row, &why))),
        }
    }
    Ok(figures)
}

fn on(kind: &'static str, rows: &[Row], programs: &Path) -> Result<Vec<Figure>> {
    let scratch = Scratch::new()?;
    let disk = Disk::new(&scratch, kind)?;
    let case = Case {
        program: programs.join("examples/copy-tree"),
        shares: kind == "xfs",
        from: disk.dir.join("from"),
        ours: disk.dir.join("ours"),
        theirs: disk.dir.join("theirs"),
        list: scratch.join("list"),
    };
    case.fill()?;
    let mut figures = Vec::new();
    for row in rows {
        figures.push(if row.name == "precopy-rsync" {
            case.refresh(*row, kind)?
        } else {
            case.copy(*row, kind)?
        });
    }
    Ok(figures)
}

struct Case {
    program: PathBuf,
    shares: bool,
    from: PathBuf,
    ours: PathBuf,
    theirs: PathBuf,
    list: PathBuf,
}

impl Case {
    fn fill(&self) -> Result<()> {
        for directory in 0..DIRECTORIES {
            fs::create_dir_all(self.from.join(format!("MediaCover/{directory}")))?;
            for cover in 0..COVERS {
                let length = 64 * (1 + (directory * 7 + cover) % 128);
                fs::write(
                    self.cover(directory, cover),
                    noise(directory * COVERS + cover, length),
                )?;
            }
        }
        for number in 0..DATABASES {
            let file = File::create(self.from.join(format!("database-{number}")))?;
            for piece in 0..50 {
                file.write_all_at(&noise(number, 1 << 20), piece * (100 << 20))?;
            }
            file.set_len(DATABASE_SIZE)?;
        }
        self.settle()
    }

    fn cover(&self, directory: usize, cover: usize) -> PathBuf {
        self.from
            .join(format!("MediaCover/{directory}/poster-{cover}.jpg"))
    }

    /// Everything is written out, and old enough.
    fn settle(&self) -> Result<()> {
        run(Command::new("sync").arg("-f").arg(&self.from))?;
        std::thread::sleep(SETTLE);
        Ok(())
    }

    fn ours(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(verb).args((!self.shares).then_some("--no-share"));
        command.arg(&self.from).arg(&self.ours).arg(&self.list);
        command
    }

    /// The peer's words, then all written out. The paths are arguments, not part of the script.
    fn peer(&self, script: &str) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-c", script, "sh"])
            .arg(&self.from)
            .arg(&self.theirs);
        command
    }

    fn copy(&self, row: Row, kind: &str) -> Result<Figure> {
        let script = if self.shares {
            "cp -a --reflink=always -- \"$1/.\" \"$2\" && sync -f \"$2\""
        } else {
            "cp -a -- \"$1/.\" \"$2\" && sync -f \"$2\""
        };
        let (mut ours, mut theirs) = (Samples::default(), Samples::default());
        for round in 0..COPIES {
            for turn in 0..2 {
                if (round + turn) % 2 == 0 {
                    empty(&self.ours)?;
                    ours.push(timed(&mut self.ours("copy"))?);
                } else {
                    empty(&self.theirs)?;
                    theirs.push(timed(&mut self.peer(script))?);
                }
            }
        }
        let name = if self.shares {
            "cp -a --reflink=always"
        } else {
            "cp -a"
        };
        self.same()?;
        Ok(figure(row, kind, ours, name, theirs))
    }

    fn refresh(&self, row: Row, kind: &str) -> Result<Figure> {
        if !self.ours.exists() {
            for dir in [&self.ours, &self.theirs] {
                empty(dir)?;
            }
            run(&mut self.ours("copy"))?;
        }
        empty(&self.theirs)?;
        // Without its holes the first copy would fill the memory, and what the kernel then forgets of files is measured.
        run(&mut self.peer("rsync -aS -- \"$1/\" \"$2\" && sync -f \"$2\""))?;
        let script = "rsync -a --delete -- \"$1/\" \"$2\" && sync -f \"$2\"";
        let (mut ours, mut theirs) = (Samples::default(), Samples::default());
        for round in 0..REFRESHES {
            for file in (round..DIRECTORIES * COVERS).step_by(CHANGED) {
                fs::write(
                    self.cover(file / COVERS, file % COVERS),
                    noise(file + round, 4000 + round),
                )?;
            }
            self.settle()?;
            for turn in 0..2 {
                if (round + turn) % 2 == 0 {
                    ours.push(timed(&mut self.ours("refresh"))?);
                } else {
                    theirs.push(timed(&mut self.peer(script))?);
                }
            }
        }
        self.same()?;
        Ok(figure(row, kind, ours, "rsync -a --delete", theirs))
    }

    /// Both copies are the same, contents, owners, modes and times, as rsync sees it.
    fn same(&self) -> Result<()> {
        let output = Command::new("rsync")
            .args(["-a", "--delete", "--dry-run", "--itemize-changes"])
            .arg(self.from.join(""))
            .arg(&self.ours)
            .output()
            .context("compare by rsync")?;
        ensure!(
            output.status.success() && output.stdout.is_empty(),
            "the copy is not its source: {}",
            String::from_utf8_lossy(&output.stdout)
                .lines()
                .next()
                .unwrap_or_default()
        );
        Ok(())
    }
}

fn figure(row: Row, kind: &str, samples: Samples, name: &'static str, theirs: Samples) -> Figure {
    Figure {
        row,
        samples,
        peer: Some(Peer {
            name,
            samples: theirs,
            unit: "s",
        }),
        notes: vec![format!(
            "{} files in {DIRECTORIES} directories and {DATABASES} sparse ones of {} GiB, on {kind} in memory; exec to exit, all written out, on both sides",
            DIRECTORIES * COVERS,
            DATABASE_SIZE >> 30,
        )],
    }
}

fn empty(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("remove {}", dir.display()))?;
    }
    fs::create_dir(dir).with_context(|| format!("make {}", dir.display()))?;
    run(Command::new("sync").arg("-f").arg(dir))
}

/// Seconds from before its process is made until it has ended.
fn timed(command: &mut Command) -> Result<f64> {
    let began = Instant::now();
    run(command)?;
    Ok(began.elapsed().as_secs_f64())
}

/// Bytes that differ from file to file (xorshift).
pub(super) fn noise(seed: usize, length: usize) -> Vec<u8> {
    let mut state = seed as u64 ^ 0x9e37_79b9_7f4a_7c15;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
