//! Jobs at work: what four of them cost the agent, and what their unit may do.

use super::figure::{Figure, Row};
use super::meter::{self, AGENT};
use crate::native::UNIT;
use crate::rig::{Machine, Suite, progress};
use crate::suite::Ground;
use anyhow::{Context, Result, ensure};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

const RSS: Row = Row {
    name: "jobs-agent-rss",
    what: "memory of the agent that four migrations at once add to",
    limit: 1.0,
    unit: "MiB",
};
const SECURITY: Row = Row {
    name: "job-security",
    what: "exposure of dagger-migrate@x.service (systemd-analyze security)",
    limit: 3.0,
    unit: "points",
};

/// All of them.
pub const ROWS: [Row; 2] = [RSS, SECURITY];

/// Services that are migrated at once.
const FOUR: [&str; 4] = ["lidarr", "prowlarr", "radarr", "sonarr"];
/// They are watched for so long when all are in their probation, and left alone for so long before they begin.
const WATCHED: Duration = Duration::from_secs(20);
/// Each has files to copy for some seconds, of which its job tells four times a second.
const FILES: &str =
    "mkdir -p MediaCover/many && head -c 60M /dev/urandom | split -a 4 -b 6K - MediaCover/many/";
const MINUTE: Duration = Duration::from_mins(1);

/// Measures what is asked for.
pub fn measure(wanted: &dyn Fn(&str) -> bool, _programs: &Path) -> Result<Vec<Figure>> {
    let ground = Ground::prepare(Suite::Trixie)?;
    let mut toml =
        String::from("[suite]\nmedia = \"/media\"\nstate = \"/var/lib/nixarr\"\nprobation = \"5min\"\n");
    let (mut users, mut places) = (
        String::from("g media 169\n"),
        String::from("d /var/lib/nixarr 0755 root root\nd /media/library 0775 root media\n"),
    );
    let mut spec = ground
        .installed("bench-jobs")?
        .file("/media/library/a.mkv", "film");
    for name in FOUR {
        let _ = writeln!(toml, "[services.{name}]\nhealth = {{ interval = \"1s\" }}");
        let _ = writeln!(users, "u {name} -:169 - /var/lib/nixarr/{name}");
        let _ = writeln!(places, "d /var/lib/nixarr/{name} 0700 {name} media");
        spec = spec.file(
            &format!("/usr/lib/systemd/system/{name}.service"),
            UNIT.replace("sonarr", name).replace("Sonarr", name),
        );
    }
    let spec = spec
        .file("/etc/dagger/dagger.toml", toml)
        .file("/etc/sysusers.d/four.conf", users)
        .file("/etc/tmpfiles.d/four.conf", places);
    let machine = Machine::boot(spec)?;
    let mut measured = Vec::new();
    if wanted(RSS.name) {
        measured.push(
            progress::during(RSS.name, || memory(&machine)).unwrap_or_else(|why| Figure::failed(RSS, &why)),
        );
    }
    if wanted(SECURITY.name) {
        measured.push(security(&machine).unwrap_or_else(|why| Figure::failed(SECURITY, &why)));
    }
    Ok(measured)
}

fn memory(machine: &Machine) -> Result<Figure> {
    machine.ok(&format!(
        "systemctl enable --now {} 2>/dev/null",
        FOUR.map(|name| format!("{name}.service")).join(" ")
    ))?;
    for name in FOUR {
        machine.wait_health(name, "healthy", MINUTE)?;
        machine.ok(&format!(
            "cd /var/lib/nixarr/{name} && {FILES} && chown -R {name}:media MediaCover"
        ))?;
    }
    // What a round of questions takes it keeps: that is not the jobs'.
    std::thread::sleep(WATCHED);
    meter::forget_most(machine, AGENT)?;
    let before = meter::memory(machine, AGENT)?;
    for name in FOUR {
        machine.ok(&format!("nixarr-migrate migrate {name} --yes --detach"))?;
    }
    let status = || machine.ok("daggerctl status");
    machine.wait_for("four probations", MINUTE * 2, |_| {
        Ok((status()?.matches("is being migrated: step probation").count() == FOUR.len()).then_some(()))
    })?;
    let moving = meter::memory(machine, AGENT)?;
    std::thread::sleep(WATCHED);
    let at_work = status()?.matches("is being migrated").count();
    ensure!(at_work == FOUR.len(), "{at_work} of 4 are at work at the end");
    let after = meter::memory(machine, AGENT)?;
    Ok(Figure {
        row: RSS,
        samples: [after.most - before.resident].into_iter().collect(),
        peer: None,
        notes: vec![format!(
            "the most from before the first was asked for, through pull and copy, until all four were in their probation for {} s ({:.2} of it before that); before: {:.2} MiB, {:.2} of it its own; after: {:.2} and {:.2}",
            WATCHED.as_secs(),
            moving.most - before.resident,
            before.resident,
            before.own,
            after.resident,
            after.own
        )],
    })
}

/// Any of them.
const JOB: &str = "dagger-migrate@x.service";

fn security(machine: &Machine) -> Result<Figure> {
    let text = machine.ok(&format!("systemd-analyze security --no-pager {JOB}"))?;
    let rest = text
        .lines()
        .find_map(|line| line.split_once("Overall exposure level for ")?.1.split_once(": "));
    let (_, rest) = rest.with_context(|| format!("no overall level in {text}"))?;
    let number = rest.split_ascii_whitespace().next().context("no number")?;
    let net = machine.unit(JOB, "PrivateNetwork")?;
    ensure!(net == "yes", "it has a network: {net}");
    Ok(Figure {
        row: SECURITY,
        samples: [number.parse::<f64>()?].into_iter().collect(),
        peer: None,
        notes: vec![format!("systemd says: {}; no network at all", rest.trim())],
    })
}
