//! `dagger-job guard`: the library of a service that has moved into its container, until its application has gone through its
//! media there once. A scan that finds paths empty takes films for deleted hours after all was well (jellyfin#17900).
//!
//! What to compare with stands in the log of the migration, and whether there was a scan in the application's own files. That
//! there was one is remembered: what goes afterwards its owner has removed.

use std::path::PathBuf;
use std::time::Duration;

use dagger_agent::adapter::clock::realtime_usec;
use dagger_agent::adapter::disk::{self, Over};
use dagger_agent::adapter::transaction::{self, Past, past};
use dagger_agent::adapter::{alert, facts, jobs, lines};
use dagger_agent::domain::alert::{Alert, Event};
use dagger_agent::domain::health::Health;
use dagger_agent::domain::job::{End, Ended, Report, Request, Task};
use dagger_agent::domain::library::{Verdict, guard};
use dagger_agent::domain::transaction::{Data, Progress, Step};
use dagger_suite::model::Service;
use dagger_suite::names::{Root, ServiceName};

use crate::bus::Bus;
use crate::probation::SCANNED;
use crate::rollback::has_moved;
use crate::run::is_open;
use crate::story::Story;

/// It has this look taken, and is stopped when there is nobody left to look at.
const TIMER: &str = "dagger-guard.timer";
/// An application that has not scanned by then is not asked to any more: people use it, and remove things.
const LONGEST: Duration = Duration::from_hours(24);
/// No name of a transaction is longer.
const ID_MAX: usize = 256;

/// What is known of one service.
enum Standing {
    /// Nothing has to be looked at any more.
    Over,
    /// All is well so far, or it could not be looked at this time.
    Watched,
    /// It has lost some of its library.
    Lost(Loss),
}

/// What was lost.
struct Loss {
    /// In a sentence.
    what: String,
    /// The name of the snapshot from before.
    snapshot: String,
}

/// Looks at all services once.
pub fn run(root: &Root) -> Result<(), Vec<String>> {
    let suite = dagger_suite::load(root).suite;
    let services = if suite.library_guard {
        suite.services
    } else {
        Vec::new()
    };
    let (mut reasons, mut losses, mut watched) = (Vec::new(), Vec::new(), false);
    for service in services {
        match look(root, &service) {
            Ok(Standing::Over) => {}
            Ok(Standing::Watched) => watched = true,
            Ok(Standing::Lost(loss)) => losses.push((service.name, loss)),
            // Said once: what cannot be read now could not be read a minute later.
            Err(error) => reasons.push(format!("the library of {} is not watched: {error}", service.name)),
        }
    }
    if !losses.is_empty() {
        match Bus::connect() {
            Ok(bus) => {
                for (name, loss) in losses {
                    reasons.extend(back(root, &bus, &name, loss).err());
                }
            }
            Err(error) => reasons.extend(losses.iter().map(|(_, loss)| not_back(&loss.what, &error))),
        }
    } else if !watched {
        let stopped = Bus::connect().and_then(|bus| bus.stop(TIMER).map_err(|failure| failure.to_string()));
        reasons.extend(stopped.err().map(|error| format!("{TIMER} goes on: {error}")));
    }
    if reasons.is_empty() { Ok(()) } else { Err(reasons) }
}

/// One look at a service.
fn look(root: &Root, service: &Service) -> Result<Standing, String> {
    let name = &service.name;
    let job = jobs::told(root, name).map_err(|error| error.to_string())?;
    let at_work = |job: &Report| job.end.is_none() && jobs::is_alive(job.pid);
    if is_open(root, name) || job.as_ref().is_some_and(at_work) {
        return Ok(Standing::Watched);
    }
    // A way back that was refused, or undone, is somebody's affair by now.
    let failed = |end: &End| end.result != Ended::Done;
    if job.is_some_and(|job| job.task == Task::Rollback && job.end.as_ref().is_some_and(failed)) {
        return Ok(Standing::Over);
    }
    let Some((migration, scanned)) = watched(root, service)? else {
        return Ok(Standing::Over);
    };
    let story = Story::told(&migration)?;
    let now = facts::holdings(root, service, &story.all_places());
    if !now.unknown.is_empty() {
        return Ok(Standing::Watched);
    }
    let id = &migration.transaction().id;
    let before = story.library.by_scan(&now.library);
    Ok(match guard(&before, &now.library) {
        lost @ Verdict::Lost(_) => Standing::Lost(Loss {
            what: format!("the library of {name} is not what it was before it moved: {lost}"),
            snapshot: id.clone(),
        }),
        Verdict::Whole if now.scanned.is_some_and(|now| now != scanned) => {
            disk::write_as(&seen(root, service), id.as_bytes(), Over::Replace, 0o600)
                .map_err(|error| error.to_string())?;
            lines::notice(&format!(
                "{name} has gone through its media, and its library is what it was"
            ));
            Standing::Over
        }
        Verdict::Whole => Standing::Watched,
    })
}

/// The migration after which the service is watched, and when it had gone through its media by then; none: it is not watched.
fn watched(root: &Root, service: &Service) -> Result<Option<(Progress, String)>, String> {
    let said = |error: disk::DiskError| error.to_string();
    if !root.join(service.name.owner_marker()).exists() {
        return Ok(None);
    }
    let past = past(&root.join(transaction::DIR), &service.name).map_err(said)?;
    let latest = past.into_iter().next_back();
    let Some(Past { progress, ended }) = latest.filter(|past| has_moved(&past.progress)) else {
        return Ok(None);
    };
    let noted = progress.noted(Step::Probation);
    let Some(scanned) = noted.and_then(|note| Some(note.get(SCANNED)?.as_str()?.to_owned())) else {
        return Ok(None);
    };
    let age = Duration::from_micros(realtime_usec().saturating_sub(ended));
    let seen = disk::read(&seen(root, service), ID_MAX).map_err(said)?;
    let is_over = seen.is_some_and(|id| id == progress.transaction().id.as_bytes());
    if is_over || age > LONGEST {
        return Ok(None);
    }
    Ok(Some((progress, scanned)))
}

/// The file that names the migration whose first scan is over.
fn seen(root: &Root, service: &Service) -> PathBuf {
    let home = root.join(transaction::DIR).join(transaction::TRANSACTIONS);
    home.join(service.name.as_str()).join("scanned")
}

/// Rolls it back, to the data as it was; what there is now is kept beside. People are told how that ended.
fn back(root: &Root, bus: &Bus, name: &ServiceName, loss: Loss) -> Result<(), String> {
    let Loss { what, snapshot } = loss;
    // The job that does it writes more, and takes a while.
    lines::error(&format!("{what}; it goes back to {snapshot}"));
    let request = Request {
        data: Data::Restore,
        snapshot: Some(snapshot),
        ..Request::default()
    };
    let unit = Task::Rollback.unit(name.as_str());
    let done = jobs::ask(root, name, &request)
        .map_err(|error| error.to_string())
        .and_then(|()| bus.run(&unit).map_err(|failure| failure.to_string()));
    match done {
        Ok(()) => {
            let sentence = format!(
                "{what}; it runs natively again, with its data as it was (nixarr-migrate snapshots {name} has the other)"
            );
            lines::error(&told(root, bus, name, sentence));
            Ok(())
        }
        Err(error) => Err(told(root, bus, name, not_back(&what, &error))),
    }
}

fn not_back(what: &str, error: &str) -> String {
    format!("{what}; it did not go back: {error} (nixarr-migrate status says why)")
}

/// Tells people, and what was told.
fn told(root: &Root, bus: &Bus, name: &ServiceName, sentence: String) -> String {
    let alert = Alert {
        service: name.to_string(),
        event: Event::LibraryLost,
        health: Health::Unhealthy,
        detail: sentence.clone(),
    };
    let begun = alert::write(root, &alert)
        .map_err(|error| error.to_string())
        .and_then(|()| {
            bus.begin(&name.alert_unit())
                .map_err(|failure| failure.to_string())
        });
    match begun {
        Ok(()) => sentence,
        Err(error) => format!("{sentence}; nobody was told: {error}"),
    }
}
