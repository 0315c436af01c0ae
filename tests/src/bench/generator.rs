//! The generator beside a program that only writes the same bytes, and beside Quadlet's generator.

use super::figure::{Figure, Peer, Row};
use super::samples::Samples;
use super::suite_of::{Scratch, toml};
use super::{pack, quadlet};
use crate::rig::{Suite, progress, tree};
use anyhow::{Context, Result, bail, ensure};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Figures with their number of services.
pub const ROWS: [(usize, Row); 5] = [
    (
        6,
        row(
            "generator-6-floor",
            "6 services, against only writing the same files and links",
            2.0,
        ),
    ),
    (1000, row("generator-1000-floor", "1000 services, the same", 1.3)),
    (
        6,
        row(
            "generator-6-quadlet",
            "6 services, against Quadlet's generator",
            0.33,
        ),
    ),
    (100, row("generator-100-quadlet", "100 services, the same", 0.2)),
    (
        1000,
        row("generator-1000-quadlet", "1000 services, the same", 0.15),
    ),
];
/// So long are programs run in turns, for each number of services.
const BUDGET: Duration = Duration::from_secs(15);
/// No more rounds than that, and no fewer than [`LEAST`].
const MOST: usize = 300;
const LEAST: usize = 15;

const fn row(name: &'static str, what: &'static str, limit: f64) -> Row {
    Row {
        name,
        what,
        limit,
        unit: "x",
    }
}

/// Programs that are run in turns.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Program {
    Ours,
    Floor,
    Quadlet,
}

/// One number of services: inputs made, outputs compared.
struct Case<'a> {
    scratch: &'a Scratch,
    generator: PathBuf,
    floor: PathBuf,
    quadlet: PathBuf,
    root: PathBuf,
    containers: PathBuf,
    pack: PathBuf,
    notes: Vec<String>,
}

/// Measures what is asked for.
pub fn measure(wanted: &dyn Fn(&str) -> bool, programs: &Path) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for count in [6, 100, 1000] {
        let rows: Vec<Row> = ROWS
            .iter()
            .filter(|(services, row)| *services == count && wanted(row.name))
            .map(|(_, row)| *row)
            .collect();
        if rows.is_empty() {
            continue;
        }
        match measure_count(count, &rows, programs) {
            Ok(measured) => figures.extend(measured),
            Err(why) => figures.extend(rows.into_iter().map(|row| Figure::failed(row, &why))),
        }
    }
    Ok(figures)
}

fn measure_count(count: usize, rows: &[Row], programs: &Path) -> Result<Vec<Figure>> {
    let scratch = Scratch::new()?;
    let case = Case::prepare(&scratch, count, programs)?;
    let needs = |peer: &str| rows.iter().any(|row| row.name.ends_with(peer));
    let turns: Vec<Program> = [
        (Program::Ours, true),
        (Program::Floor, needs("floor")),
        (Program::Quadlet, needs("quadlet")),
    ]
    .into_iter()
    .filter_map(|(program, needed)| needed.then_some(program))
    .collect();
    let samples = progress::during(format!("generators, {count} services"), || case.rounds(&turns))?;
    rows.iter()
        .map(|row| case.figure(*row, &turns, &samples))
        .collect()
}

impl<'a> Case<'a> {
    fn prepare(scratch: &'a Scratch, count: usize, programs: &Path) -> Result<Self> {
        let mut case = Self {
            scratch,
            generator: programs.join("dagger-generator"),
            floor: programs.join("floor"),
            quadlet: tree::tree(Suite::Trixie, &[])?.join("usr/libexec/podman/quadlet"),
            root: scratch.join("root"),
            containers: scratch.fresh("containers")?,
            pack: scratch.join("pack"),
            notes: Vec::new(),
        };
        scratch.put("root/etc/dagger/dagger.toml", toml(count))?;
        let check = Command::new(&case.generator)
            .arg("--check")
            .env("DAGGER_ROOT", &case.root)
            .output()
            .context("check the configuration")?;
        ensure!(
            check.status.success() && check.stderr.is_empty(),
            "the generator has something to say about its input: {}",
            String::from_utf8_lossy(&check.stderr)
        );
        let ours = scratch.fresh("ours")?;
        case.run(Program::Ours, &ours)?;
        let entries = pack::read(&ours)?;
        std::fs::write(&case.pack, pack::pack(&entries)?).context("write the floor's input")?;
        let floor = scratch.fresh("floor")?;
        case.run(Program::Floor, &floor)?;
        ensure!(
            pack::read(&floor)? == entries,
            "the floor did not write what the generator writes"
        );
        let bytes: usize = entries.values().map(pack::Entry::size).sum();
        case.notes.push(format!(
            "{} files, links and directories of {bytes} bytes; the floor's are the same byte for byte",
            entries.len()
        ));
        case.compare_quadlet(&ours, count)?;
        Ok(case)
    }

    fn compare_quadlet(&mut self, ours: &Path, count: usize) -> Result<()> {
        let services = quadlet::services(ours)?;
        ensure!(
            services.len() == count,
            "{} services instead of {count}",
            services.len()
        );
        for (name, unit) in &services {
            let text = quadlet::container(name, unit, &quadlet::Style::SAME)?;
            let path = self.containers.join(format!("dagger-{name}.container"));
            std::fs::write(path, text).context("write a .container file")?;
        }
        let theirs = self.scratch.fresh("quadlet")?;
        self.run(Program::Quadlet, &theirs)?;
        let mut options = 0;
        for (name, unit) in &services {
            options += quadlet::same(name, unit, &theirs)?;
        }
        self.notes.push(format!(
            "Quadlet's {count} containers were compared with ours: {options} podman options, images, commands, order, mounts and links are the same"
        ));
        Ok(())
    }

    /// Runs a program once, from before its process is made until it has ended.
    fn run(&self, program: Program, output: &Path) -> Result<Duration> {
        let (path, arguments): (&Path, Vec<&OsStr>) = match program {
            Program::Ours => (&self.generator, vec![output.as_ref()]),
            Program::Floor => (&self.floor, vec![self.pack.as_ref(), output.as_ref()]),
            Program::Quadlet => (&self.quadlet, vec![output.as_ref()]),
        };
        let mut command = Command::new(path);
        command.args(arguments);
        // As systemd calls generators (systemd.generator(7)).
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("SYSTEMD_SCOPE", "system");
        command
            .env("DAGGER_ROOT", &self.root)
            .env("QUADLET_UNIT_DIRS", &self.containers);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let began = Instant::now();
        let status = command
            .status()
            .with_context(|| format!("run {}", path.display()))?;
        let took = began.elapsed();
        if !status.success() {
            bail!("{}: {status}", path.display());
        }
        Ok(took)
    }

    /// All programs in turns, each time in another order and into a new, empty directory.
    fn rounds(&self, turns: &[Program]) -> Result<Vec<Samples>> {
        let mut samples = vec![Samples::default(); turns.len()];
        let began = Instant::now();
        for round in 0..MOST {
            if round >= LEAST && began.elapsed() > BUDGET {
                break;
            }
            for turn in 0..turns.len() {
                let which = (turn + round) % turns.len();
                let (Some(program), Some(samples)) = (turns.get(which), samples.get_mut(which)) else {
                    continue;
                };
                let output = self.scratch.fresh("output")?;
                samples.push(self.run(*program, &output)?.as_secs_f64() * 1e3);
            }
        }
        Ok(samples)
    }

    fn figure(&self, row: Row, turns: &[Program], samples: &[Samples]) -> Result<Figure> {
        let of = |program: Program| {
            let found = turns
                .iter()
                .position(|turn| *turn == program)
                .and_then(|at| samples.get(at));
            found.cloned().context("a program that was not run")
        };
        let (name, peer) = if row.name.ends_with("floor") {
            ("floor", of(Program::Floor)?)
        } else {
            ("Quadlet", of(Program::Quadlet)?)
        };
        Ok(Figure {
            row,
            samples: of(Program::Ours)?,
            peer: Some(Peer {
                name,
                samples: peer,
                unit: "ms",
            }),
            notes: self.notes.clone(),
        })
    }
}
