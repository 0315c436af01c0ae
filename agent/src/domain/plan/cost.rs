//! The steps of a migration, what each reads and writes, what it costs, and how it is undone.

use dagger_suite::model::Service;
use serde::{Deserialize, Serialize};

use super::adjust::Adjustment;
use super::bytes;
use super::facts::{Facts, Pace, Place, Who};

/// What stays free beside a copy.
const SPARE: u64 = 256 << 20;
/// What a file system needs for the names and inodes of a tree whose blocks are shared, a file.
const ENTRY: u64 = 1024;
/// A unit that says nothing of its starts takes about so long, in milliseconds.
const START_MS: u64 = 3000;
/// A stop that nothing holds up.
const STOP_MS: u64 = 2000;
/// So much of a tree has changed between a snapshot and the stop: one part in so many.
const CHANGED: u64 = 100;
/// A file that is written, and the directory that is synced.
const SYNC_MS: u64 = 50;

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Which.
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

/// The steps by name, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Everything is looked at once more.
    Preflight,
    /// The image is fetched.
    Pull,
    /// The state is copied while the native unit runs.
    Snapshot,
    /// The native unit is stopped.
    Stop,
    /// What changed since is copied.
    CatchUp,
    /// The databases are closed and checked.
    Databases,
    /// Settings are changed.
    Settings,
    /// Files are given to the user that the configuration names.
    Ownership,
    /// The marker says that the container owns the data.
    Marker,
    /// The container is started.
    Start,
    /// It is watched.
    Probation,
    /// It is said to be done.
    Commit,
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
    /// How long it takes, in milliseconds.
    pub ms: u64,
}

/// How long the service does not answer, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Downtime {
    /// As far as can be told.
    pub likely_ms: u64,
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
    let mut steps = vec![story.preflight()];
    if facts.image.is_none() {
        steps.push(story.pull());
    }
    steps.extend([story.snapshot(), story.stop(), story.catch_up()]);
    if !story.databases.is_empty() {
        steps.push(story.check());
    }
    if !changes.is_empty() {
        steps.push(settings(changes));
    }
    steps.extend(story.ownership());
    steps.extend([story.marker(), story.start(), story.probation(), story.commit()]);
    steps
}

/// How long the service is away.
pub fn downtime(service: &Service, facts: &Facts, steps: &[Step]) -> Downtime {
    let down = steps.iter().filter(|step| step.down);
    let work = sum(down
        .clone()
        .filter(|step| !matches!(step.kind, Kind::Stop | Kind::Start))
        .map(|step| step.cost.ms));
    let stop = facts.native.as_ref().and_then(|native| native.stop_limit_ms);
    let start = u64::try_from(service.start_budget.as_millis()).unwrap_or(u64::MAX);
    Downtime {
        likely_ms: sum(down.map(|step| step.cost.ms)),
        at_most_ms: stop.map(|stop| stop.saturating_add(start).saturating_add(work)),
    }
}

/// A step that touches nothing, with its words.
fn step(kind: Kind, does: impl Into<String>) -> Step {
    let down = matches!(
        kind,
        Kind::Stop
            | Kind::CatchUp
            | Kind::Databases
            | Kind::Settings
            | Kind::Ownership
            | Kind::Marker
            | Kind::Start
    );
    Step {
        kind,
        does: does.into(),
        reads: Vec::new(),
        writes: Vec::new(),
        cost: Cost::default(),
        undo: "nothing to undo".into(),
        down,
    }
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

    fn preflight(&self) -> Step {
        let read = self.database_bytes();
        Step {
            reads: self.places.clone(),
            cost: Cost {
                read,
                ms: time(self.facts.pace, read, 0),
                ..Cost::default()
            },
            ..step(
                Kind::Preflight,
                "look at everything once more, and take the library's counts",
            )
        }
    }

    fn pull(&self) -> Step {
        Step {
            undo: "the image stays in podman's store".into(),
            ..step(
                Kind::Pull,
                format!("fetch {} while {} runs", self.service.image, self.native),
            )
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
            "sharing its blocks".to_owned()
        } else {
            format!("copying {}", bytes(cost.written))
        };
        Step {
            reads: self.places.clone(),
            writes: vec![self.facts.room.path.clone()],
            cost,
            undo: "the snapshot is removed".into(),
            ..step(
                Kind::Snapshot,
                format!("snapshot the state while {} runs, {how}", self.native),
            )
        }
    }

    fn stop(&self) -> Step {
        let running = self.facts.native.as_ref().is_some_and(|native| native.active);
        Step {
            cost: Cost {
                ms: if running { STOP_MS } else { 0 },
                ..Cost::default()
            },
            undo: format!("{} is started again", self.native),
            ..step(Kind::Stop, format!("stop {}", self.native))
        }
    }

    fn catch_up(&self) -> Step {
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
            ..step(Kind::CatchUp, "bring the snapshot up to what changed since")
        }
    }

    fn check(&self) -> Step {
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
                Kind::Databases,
                "write the databases' logs into them, and have SQLite check them",
            )
        }
    }

    /// Only where the service itself names another user than the data's: else nothing is given away (docker-plex#78).
    fn ownership(&self) -> Option<Step> {
        let owner = owner(self.facts)?;
        let wanted = wanted(self.service, owner);
        if wanted == owner {
            return None;
        }
        let files = sum(kept(self.facts).map(|place| place.files));
        Some(Step {
            reads: self.places.clone(),
            writes: self.places.clone(),
            cost: Cost {
                files,
                ms: time(self.facts.pace, 0, files),
                ..Cost::default()
            },
            undo: "every file gets its recorded owner back".into(),
            ..step(
                Kind::Ownership,
                format!("give the state to {wanted}, as the configuration says; it belongs to {owner}"),
            )
        })
    }

    fn marker(&self) -> Step {
        let marker = self.service.name.owner_marker();
        Step {
            writes: vec![marker],
            cost: Cost {
                files: 1,
                ms: SYNC_MS,
                ..Cost::default()
            },
            undo: "the marker is removed".into(),
            ..step(Kind::Marker, "write down that the container owns the data")
        }
    }

    fn start(&self) -> Step {
        let native = self.facts.native.as_ref();
        Step {
            cost: Cost {
                ms: native.and_then(|native| native.start_ms).unwrap_or(START_MS),
                ..Cost::default()
            },
            undo: format!("{} is stopped", self.service.name.unit()),
            ..step(Kind::Start, format!("start {}", self.service.name.unit()))
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
            ..step(Kind::Probation, "watch its health, and count its library again")
        }
    }

    fn commit(&self) -> Step {
        Step {
            undo: format!("nixarr-migrate rollback {}", self.service.name),
            ..step(Kind::Commit, "keep the snapshot, and call it done")
        }
    }
}

fn settings(changes: &[Adjustment]) -> Step {
    let mut writes: Vec<_> = changes.iter().map(|change| change.file.clone()).collect();
    writes.sort();
    writes.dedup();
    let words: Vec<_> = changes
        .iter()
        .map(|change| {
            let before = change.before.as_deref().unwrap_or("nothing");
            format!("{} from {before} to {}", change.name(), change.after)
        })
        .collect();
    let files = u64::try_from(writes.len()).unwrap_or(u64::MAX);
    Step {
        reads: writes.clone(),
        writes,
        cost: Cost {
            files,
            ms: files.saturating_mul(SYNC_MS),
            ..Cost::default()
        },
        undo: "each value gets its old bytes back, unless the application has changed it meanwhile".into(),
        ..step(Kind::Settings, format!("set {}", words.join(", ")))
    }
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
