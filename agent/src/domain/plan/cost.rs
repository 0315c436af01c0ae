//! What each step of a migration does on this machine: what it reads and writes, what it costs, and how it is undone.

use dagger_suite::model::{Pull, Service};
use serde::{Deserialize, Serialize};

use super::adjust::Adjustment;
use super::facts::{Facts, Pace, Place, Who};
use crate::domain::transaction::{self, Options, Step as Kind, Verb, Way, forward};

/// What stays free beside a copy.
const SPARE: u64 = 256 << 20;
/// What a file system needs for the names and inodes of a tree whose blocks are shared, a file.
const ENTRY: u64 = 1024;
/// So much of a tree has changed between a snapshot and the stop: one part in so many.
const CHANGED: u64 = 100;
/// A file that is written, and the directory that is synced.
const SYNC_MS: u64 = 50;

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Which of the transaction's it is.
    pub kind: Kind,
    /// What it does, for people.
    pub does: String,
    /// Paths that it reads.
    pub reads: Vec<String>,
    /// Paths that it writes.
    pub writes: Vec<String>,
    /// What it costs.
    pub cost: Cost,
    /// How it is undone, for people.
    pub undo: String,
    /// The service does not answer meanwhile.
    pub down: bool,
}

/// What a step costs, as far as can be told before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Bytes that are read.
    pub read: u64,
    /// Bytes that are written, and stay.
    pub written: u64,
    /// Files that are touched.
    pub files: u64,
    /// How long it takes, in milliseconds; 0: no time, or nobody knows.
    pub ms: u64,
}

/// How long the service does not answer, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Downtime {
    /// What the job itself does meanwhile.
    pub work_ms: u64,
    /// What the native unit takes to stop, as it last took. None: nobody has seen it.
    pub stop_ms: Option<u64>,
    /// What the container takes to start, likewise.
    pub start_ms: Option<u64>,
    /// The longest that the limits of both units allow, beside the work on the files. None: a limit is missing.
    pub at_most_ms: Option<u64>,
}

/// Whether a directory is part of the state that is snapshotted: all of an application's directories or none
/// (jellyfin#14571), without what it makes anew by itself.
pub fn is_kept(role: &str) -> bool {
    !matches!(role, "cache" | "log")
}

/// The directories of the state that are there and are part of the snapshot.
pub fn kept(facts: &Facts) -> impl Iterator<Item = &Place> {
    facts
        .places
        .iter()
        .filter(|place| place.there && is_kept(&place.role))
}

/// Whether the snapshot of a place shares its blocks.
fn shares(facts: &Facts, place: &Place) -> bool {
    place.system.reflink && place.system.mount == facts.room.system.mount
}

/// Bytes that must be free where snapshots lie.
pub fn room(facts: &Facts) -> u64 {
    let copied = kept(facts).map(|place| {
        if shares(facts, place) {
            place.files.saturating_mul(ENTRY)
        } else {
            place.bytes
        }
    });
    // The databases are written to afterwards, and do not share their blocks for long.
    let databases = facts.databases.iter().map(|database| database.bytes);
    let own = if kept(facts).all(|place| shares(facts, place)) {
        sum(databases)
    } else {
        0
    };
    sum(copied).saturating_add(own).saturating_add(SPARE)
}

/// The steps in their order.
pub fn steps(service: &Service, facts: &Facts, changes: &[Adjustment]) -> Vec<Step> {
    let story = Story {
        service,
        facts,
        native: facts
            .native
            .as_ref()
            .map_or("the native unit", |native| native.unit.as_str()),
        places: kept(facts).map(|place| place.path.clone()).collect(),
        databases: facts
            .databases
            .iter()
            .map(|database| database.path.clone())
            .collect(),
    };
    let gift = gift(service, facts);
    let options = Options {
        nothing_to_adjust: changes.is_empty() && gift.is_none(),
        ..Options::default()
    };
    forward(&transaction::steps(Verb::Migrate, &options))
        .map(|kind| story.step(kind, changes, gift))
        .collect()
}

/// How long the service is away.
pub fn downtime(service: &Service, facts: &Facts, steps: &[Step]) -> Downtime {
    let down = steps.iter().filter(|step| step.down);
    let own = down.filter(|step| !matches!(step.kind, Kind::Stop | Kind::Start));
    let work = sum(own.map(|step| step.cost.ms));
    let stop = facts.native.as_ref().and_then(|native| native.stop_limit_ms);
    let start = u64::try_from(service.start_budget.as_millis()).unwrap_or(u64::MAX);
    Downtime {
        work_ms: work,
        stop_ms: stopping(facts),
        start_ms: facts.start_ms,
        at_most_ms: stop.map(|stop| stop.saturating_add(start).saturating_add(work)),
    }
}

/// How long the native unit takes to stop.
fn stopping(facts: &Facts) -> Option<u64> {
    match &facts.native {
        Some(native) if native.active => native.stop_ms,
        _ => Some(0),
    }
}

/// A step that touches nothing, with its words.
fn step(kind: Kind, does: impl Into<String>) -> Step {
    Step {
        kind,
        does: does.into(),
        reads: Vec::new(),
        writes: Vec::new(),
        cost: Cost::default(),
        undo: "nothing to undo".into(),
        down: kind.holds(Way::Forward) || kind == Kind::Start,
    }
}

/// Who the state belongs to, and who it is given to: only where the service itself names another user than the data's, else
/// nothing is given away (docker-plex#78).
pub fn gift(service: &Service, facts: &Facts) -> Option<(Who, Who)> {
    let from = owner(facts)?;
    let to = wanted(service, from);
    (from != to).then_some((from, to))
}

/// What the steps speak of.
struct Story<'a> {
    service: &'a Service,
    facts: &'a Facts,
    native: &'a str,
    places: Vec<String>,
    databases: Vec<String>,
}

impl Story<'_> {
    fn database_bytes(&self) -> u64 {
        sum(self.facts.databases.iter().map(|database| database.bytes))
    }

    /// A step as it is here.
    fn step(&self, kind: Kind, changes: &[Adjustment], gift: Option<(Who, Who)>) -> Step {
        match kind {
            Kind::Pull => self.pull(),
            Kind::Snapshot => self.snapshot(),
            Kind::Stop => self.stop(),
            Kind::Refresh => self.refresh(),
            Kind::Check => self.check(),
            Kind::Adjust => self.adjust(changes, gift),
            Kind::Flip => self.flip(),
            Kind::Start => self.start(),
            Kind::Probation => self.probation(),
            // No migration takes these on its way forward.
            Kind::StopShadow
            | Kind::DropShadow
            | Kind::Clone
            | Kind::StartShadow
            | Kind::Restore
            | Kind::PutBack
            | Kind::SetAside => step(kind, kind.word()),
        }
    }

    fn pull(&self) -> Step {
        let Service { image, pull, .. } = self.service;
        let native = self.native;
        let does = match (pull, &self.facts.image) {
            (Pull::Missing | Pull::Never, Some(_)) => {
                return step(Kind::Pull, format!("{image} is here, and is looked at once more"));
            }
            (Pull::Never, None) => {
                return step(Kind::Pull, format!("{image} has to be here, and is looked at"));
            }
            // Nobody has looked into podman's store since the machine booted.
            (Pull::Missing, None) => format!("{image} is fetched, unless it is here, while {native} runs"),
            (Pull::Newer | Pull::Always, _) => format!("{image} is fetched while {native} runs"),
        };
        Step {
            undo: "the image stays in podman's store".into(),
            ..step(Kind::Pull, does)
        }
    }

    fn snapshot(&self) -> Step {
        let mut cost = Cost::default();
        for place in kept(self.facts) {
            let copied = if shares(self.facts, place) { 0 } else { place.bytes };
            cost.read = cost.read.saturating_add(copied);
            cost.written = cost.written.saturating_add(copied);
            cost.files = cost.files.saturating_add(place.files);
        }
        cost.ms = time(self.facts.pace, cost.read, cost.files);
        let how = if cost.written == 0 {
            ", and shares its blocks"
        } else {
            ""
        };
        Step {
            reads: self.places.clone(),
            writes: vec![self.facts.room.path.clone()],
            cost,
            undo: "the snapshot is removed".into(),
            ..step(
                Kind::Snapshot,
                format!("the data is copied to a snapshot while {} runs{how}", self.native),
            )
        }
    }

    fn stop(&self) -> Step {
        Step {
            cost: Cost {
                ms: stopping(self.facts).unwrap_or(0),
                ..Cost::default()
            },
            undo: format!("{} is started again", self.native),
            ..step(Kind::Stop, format!("{} stops", self.native))
        }
    }

    fn refresh(&self) -> Step {
        let tree = sum(kept(self.facts).map(|place| place.bytes));
        let files = sum(kept(self.facts).map(|place| place.files)) / CHANGED;
        let shared = kept(self.facts).all(|place| shares(self.facts, place));
        let changed = (tree / CHANGED).max(self.database_bytes()).min(tree);
        let copied = if shared { 0 } else { changed };
        Step {
            reads: self.places.clone(),
            writes: vec![self.facts.room.path.clone()],
            cost: Cost {
                read: copied,
                written: copied,
                files,
                ms: time(self.facts.pace, copied, files),
            },
            undo: "the snapshot is removed".into(),
            ..step(Kind::Refresh, "what has changed since goes into the snapshot")
        }
    }

    fn check(&self) -> Step {
        if self.databases.is_empty() {
            return step(Kind::Check, "there are no databases to look through");
        }
        let read = self.database_bytes();
        Step {
            reads: self.databases.clone(),
            writes: self.databases.clone(),
            cost: Cost {
                read,
                files: u64::try_from(self.databases.len()).unwrap_or(u64::MAX),
                ms: time(self.facts.pace, read, 0),
                ..Cost::default()
            },
            undo: "the snapshot's databases are put back".into(),
            ..step(
                Kind::Check,
                "the databases' logs are written into them, and SQLite looks through them",
            )
        }
    }

    fn adjust(&self, changes: &[Adjustment], gift: Option<(Who, Who)>) -> Step {
        let mut all = step(Kind::Adjust, "");
        let (mut does, mut undo) = (Vec::new(), Vec::new());
        if !changes.is_empty() {
            all.writes = changes.iter().map(|change| change.file.clone()).collect();
            all.writes.sort();
            all.writes.dedup();
            all.cost.files = u64::try_from(all.writes.len()).unwrap_or(u64::MAX);
            all.cost.ms = all.cost.files.saturating_mul(SYNC_MS);
            let set: Vec<_> = changes.iter().map(set).collect();
            does.push(set.join(", "));
            undo.push("each value gets its old bytes back, unless the application has changed it meanwhile");
        }
        if let Some((from, to)) = gift {
            let files = sum(kept(self.facts).map(|place| place.files));
            all.writes.extend(self.places.iter().cloned());
            all.cost.files = all.cost.files.saturating_add(files);
            all.cost.ms = all.cost.ms.saturating_add(time(self.facts.pace, 0, files));
            does.push(format!(
                "the state is given to {to}, as the configuration says; it belongs to {from}"
            ));
            undo.push("every file gets its recorded owner back");
        }
        Step {
            reads: all.writes.clone(),
            does: does.join("; "),
            undo: undo.join("; "),
            ..all
        }
    }

    fn flip(&self) -> Step {
        let marker = self.service.name.owner_marker();
        Step {
            writes: vec![marker],
            cost: Cost {
                files: 1,
                ms: SYNC_MS,
                ..Cost::default()
            },
            undo: "the marker is removed".into(),
            ..step(Kind::Flip, "it changes hands: the container owns the data")
        }
    }

    fn start(&self) -> Step {
        Step {
            cost: Cost {
                ms: self.facts.start_ms.unwrap_or(0),
                ..Cost::default()
            },
            undo: format!("{} is stopped", self.service.name.unit()),
            ..step(Kind::Start, format!("{} starts", self.service.name.unit()))
        }
    }

    fn probation(&self) -> Step {
        Step {
            cost: Cost {
                ms: self.facts.probation_ms,
                ..Cost::default()
            },
            undo: format!(
                "when it is not well, or something of the library is missing, everything above is undone and {} runs again",
                self.native
            ),
            ..step(
                Kind::Probation,
                "it has to be well for a while, with everything in it that was there before",
            )
        }
    }
}

/// One change for people.
fn set(change: &Adjustment) -> String {
    let before = change.before.as_deref().unwrap_or("nothing");
    format!("{} from {before} to {}", change.name(), change.after)
}

/// Who the container runs as on data of this owner: another only where the service itself names one.
pub fn wanted(service: &Service, owner: Who) -> Who {
    let identity = &service.identity;
    Who {
        uid: if identity.uid_explicit {
            identity.uid
        } else {
            owner.uid
        },
        gid: if identity.gid_explicit {
            identity.gid
        } else {
            owner.gid
        },
    }
}

/// Who the state belongs to: the first place's owner; the native unit's own where root keeps the place.
pub fn owner(facts: &Facts) -> Option<Who> {
    let place = kept(facts).next()?;
    let native = facts.native.as_ref().map(|native| native.who);
    Some(match (place.owner, native) {
        (Who { uid: 0, .. }, Some(native)) => native,
        // A group `root` says nothing: nixarr's directories have it while the application runs with the media group.
        (Who { uid, gid: 0 }, Some(native)) if native.uid == uid => native,
        (owner, _) => owner,
    })
}

fn time(pace: Pace, bytes: u64, files: u64) -> u64 {
    let part = |many: u64, pace: u64| many.saturating_mul(1000) / pace.max(1);
    part(bytes, pace.bytes).saturating_add(part(files, pace.files))
}

fn sum(numbers: impl Iterator<Item = u64>) -> u64 {
    numbers.fold(0, u64::saturating_add)
}
