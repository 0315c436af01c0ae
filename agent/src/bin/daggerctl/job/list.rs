//! `nixarr-migrate status`, `snapshots`: what there is.

use std::collections::BTreeMap;

use dagger_agent::adapter::bus::{JobView, SnapshotView, snapshots as store};
use dagger_agent::adapter::snapshot::Store;
use dagger_agent::adapter::tree::{Options, Progress, Verdict};
use dagger_agent::cli::migrate::{JobStatusArgs, SnapshotsArgs};
use dagger_suite::names::{Root, ServiceName, exit};
use rustix::process::geteuid;
use serde::Serialize;

use super::show;
use crate::bus::Bus;
use crate::error::Error;
use crate::nixarr::{self, MIGRATE};
use crate::screen::{Screen, print, print_json, warn};
use crate::status::{now, without_agent};
use crate::suite::Suite;
use crate::text::{Cell, Tone, ago, bytes, clean, paint, table};
use crate::when::local;

/// `nixarr-migrate status`. Field names are those of the JSON form.
#[derive(Debug, Serialize)]
struct Status {
    services: Vec<nixarr::Row>,
    jobs: Vec<JobView>,
}

/// Who owns what, and what is done about it.
pub async fn status(args: &JobStatusArgs, screen: Screen) -> Result<u8, Error> {
    let (services, reason) = nixarr::owners().await?;
    let jobs = match Bus::connect().await {
        Ok(bus) if reason.is_none() => bus.jobs().await?,
        _ => Vec::new(),
    };
    if args.json {
        print_json(&Status { services, jobs })?;
    } else {
        let mut text = nixarr::text(&services, screen.colour);
        text.push_str(&jobs_text(&jobs, now(), screen.colour));
        print(&text)?;
    }
    Ok(without_agent(MIGRATE, reason, exit::GOOD))
}

/// The jobs below it, those at work first; empty without any. A look is only shown while it is at work.
fn jobs_text(jobs: &[JobView], now: u64, colour: bool) -> String {
    let mut shown: Vec<&JobView> = jobs
        .iter()
        .filter(|job| !job.is_over() || job.verb != "plan")
        .collect();
    if shown.is_empty() {
        return String::new();
    }
    shown.sort_by_key(|job| (job.is_over(), std::cmp::Reverse(job.number)));
    let mut rows = vec![
        ["JOB", "SERVICE", "VERB", "STATE", "AGO", "WHAT"]
            .map(|name| Cell::left(name, Tone::Heading))
            .to_vec(),
    ];
    rows.extend(shown.iter().map(|job| {
        let (word, tone) = match (job.is_over(), job.result.as_str()) {
            (false, _) => (job.state.as_str(), Tone::Warn),
            (true, word @ "done") => (word, Tone::Good),
            (true, word @ ("stuck" | "later")) => (word, Tone::Bad),
            (true, word) => (word, Tone::Warn),
        };
        let (time, what) = if job.is_over() {
            (job.ended, job.sentence.clone())
        } else {
            (job.began, format!("{}{}", show::stage(job), show::amount(job)))
        };
        let service = if job.service.is_empty() {
            "all"
        } else {
            &job.service
        };
        vec![
            Cell::left(job.number.to_string(), Tone::Plain),
            Cell::left(service, Tone::Plain),
            Cell::left(job.verb.trim_end_matches("-all"), Tone::Plain),
            Cell::left(word, tone),
            Cell::left(ago(time, now), Tone::Plain),
            Cell::left(what, Tone::Plain),
        ]
    }));
    let mut text = format!("\n{}", table(&rows, colour));
    // What to do about one that did not go well, unless a later one did.
    let settled = |job: &JobView| {
        jobs.iter().any(|later| {
            let same = later.service == job.service || later.service.is_empty();
            same && later.number > job.number && later.verb != "plan" && later.result == "done"
        })
    };
    for job in shown
        .iter()
        .filter(|job| job.is_over() && job.result != "done" && !settled(job))
    {
        if !job.remedy.is_empty() {
            let name = if job.service.is_empty() {
                "all"
            } else {
                &job.service
            };
            let name = paint(&format!("{name}:"), Tone::Warn, colour);
            text.extend([
                &name,
                " ",
                &clean(&job.remedy),
                "
",
            ]);
        }
    }
    text
}

/// One row of `snapshots`. Field names are those of the JSON form.
#[derive(Debug, Serialize)]
struct Row {
    service: String,
    id: String,
    when: u64,
    why: String,
    files: u64,
    bytes: u64,
    pinned: bool,
    version: Option<String>,
    digest: Option<String>,
    problem: Option<String>,
    /// What `--verify` has found.
    #[serde(skip_serializing_if = "Option::is_none")]
    checked: Option<String>,
}

impl From<SnapshotView> for Row {
    fn from(view: SnapshotView) -> Self {
        Self {
            service: view.service,
            id: view.id,
            when: view.when,
            why: view.why,
            files: view.files,
            bytes: view.bytes,
            pinned: view.pinned,
            version: view.version,
            digest: view.digest,
            problem: view.problem,
            checked: None,
        }
    }
}

/// `snapshots`.
pub async fn snapshots(args: &SnapshotsArgs, screen: Screen) -> Result<u8, Error> {
    let service = args.service.as_deref();
    let asked = async { Bus::connect().await?.snapshots(service.unwrap_or_default()).await };
    let found = match asked.await {
        // root can look for itself.
        Err(Error::NoAgent(_)) if geteuid().is_root() => read(service)?,
        other => other?,
    };
    let mut rows: Vec<Row> = found.into_iter().map(Row::from).collect();
    let good = !args.verify || verify(&mut rows)?;
    if args.json {
        print_json(&rows)?;
    } else {
        print(&snapshots_text(&rows, screen.colour))?;
    }
    for (row, problem) in rows.iter().filter_map(|row| Some((row, row.problem.as_ref()?))) {
        warn(MIGRATE, &format!("{}: {}", row.service, clean(problem)));
    }
    Ok(if good { exit::GOOD } else { exit::FAILED })
}

/// Reads all of them through; whether all are good.
fn verify(rows: &mut [Row]) -> Result<bool, Error> {
    if !geteuid().is_root() {
        return Err(Error::NotAuthorized("only root may read what is in them".into()));
    }
    let store = Store::new(&Root::from_env());
    let mut good = true;
    for row in rows {
        let Ok(service) = ServiceName::parse(&row.service) else {
            continue;
        };
        let found = store
            .find(&service, &row.id)
            .and_then(|snapshot| snapshot.verify(&Options::default(), &Progress::default()));
        let (whole, words) = match found {
            Ok(verdicts) => judged(&verdicts),
            Err(error) => (false, error.to_string()),
        };
        good &= whole;
        row.checked = Some(words);
    }
    Ok(good)
}

/// Whether it is good, and that in words.
fn judged(verdicts: &BTreeMap<String, Verdict>) -> (bool, String) {
    match verdicts.values().find_map(Verdict::damage) {
        Some(damage) => (false, format!("damaged: {damage}")),
        None if verdicts.values().any(|verdict| verdict.unsealed > 0) => {
            (true, "good, as far as that can be told without checksums".into())
        }
        None => (true, "good".into()),
    }
}

fn read(service: Option<&str>) -> Result<Vec<SnapshotView>, Error> {
    let names = if let Some(word) = service {
        vec![ServiceName::parse(word).map_err(Error::Usage)?]
    } else {
        let suite = Suite::read(Root::from_env());
        let services = suite.services().iter();
        services.map(|service| service.name.clone()).collect()
    };
    Ok(store::list(&Root::from_env(), &names))
}

fn snapshots_text(rows: &[Row], colour: bool) -> String {
    let good: Vec<&Row> = rows.iter().filter(|row| row.problem.is_none()).collect();
    if good.is_empty() {
        return "no snapshots\n".into();
    }
    let times: Vec<u64> = good.iter().map(|row| row.when).collect();
    let left = |name| Cell::left(name, Tone::Heading);
    let mut cells = vec![vec![
        left("SERVICE"),
        left("ID"),
        left("MADE"),
        left("FOR"),
        Cell::right("FILES", Tone::Heading),
        Cell::right("SIZE", Tone::Heading),
        left("VERSION"),
    ]];
    let verified = good.iter().any(|row| row.checked.is_some());
    if let (true, Some(head)) = (verified, cells.first_mut()) {
        head.push(left("CHECKED"));
    }
    for (row, time) in good.into_iter().zip(local(&times)) {
        let why = if row.pinned {
            format!("{} (pinned)", row.why)
        } else {
            row.why.clone()
        };
        let mut line = vec![
            Cell::left(&row.service, Tone::Plain),
            Cell::left(&row.id, Tone::Plain),
            Cell::left(time, Tone::Plain),
            Cell::left(why, Tone::Plain),
            Cell::right(row.files.to_string(), Tone::Plain),
            Cell::right(bytes(row.bytes), Tone::Plain),
            Cell::left(row.version.as_deref().unwrap_or_default(), Tone::Plain),
        ];
        if verified {
            let checked = row.checked.as_deref().unwrap_or_default();
            line.push(Cell::left(clean(checked), Tone::Plain));
        }
        cells.push(line);
    }
    table(&cells, colour)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_at_work_come_first_and_what_to_do_is_said() {
        let job = |number, state: &str, result: &str| JobView {
            number,
            service: "sonarr".into(),
            verb: "migrate".into(),
            state: state.into(),
            began: 1_000_000,
            ended: 1_000_000,
            step: if result.is_empty() {
                "stop".into()
            } else {
                String::new()
            },
            result: result.into(),
            sentence: "sonarr is half way".into(),
            remedy: "nixarr-migrate resume sonarr".into(),
            ..JobView::default()
        };
        let mut look = job(1, "done", "done");
        look.verb = "plan".into();
        let text = jobs_text(
            &[look, job(2, "done", "stuck"), job(3, "running", "")],
            6_000_000,
            false,
        );
        assert_eq!(
            text,
            "
JOB  SERVICE  VERB     STATE    AGO  WHAT
3    sonarr   migrate  running  5 s  stop: the service stops
2    sonarr   migrate  stuck    5 s  sonarr is half way
sonarr: nixarr-migrate resume sonarr
"
        );
        let again = jobs_text(
            &[job(2, "done", "stuck"), job(4, "done", "done")],
            6_000_000,
            false,
        );
        assert!(!again.contains("nixarr-migrate resume"), "{again}");
        let mut look = job(4, "done", "done");
        look.verb = "plan".into();
        let still = jobs_text(&[job(2, "done", "stuck"), look], 6_000_000, false);
        assert!(still.contains("nixarr-migrate resume sonarr"), "{still}");
        assert_eq!(jobs_text(&[], 0, false), "");
    }
}
