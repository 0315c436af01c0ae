//! Looks at a machine before a migration and fills [`Facts`]. Everything here reads; the few bytes that are written are
//! the copies of databases in a directory of our own, and two nameless files where snapshots go.
//!
//! [`unit::ask`] asks systemd and is the only part that needs the bus; [`look`] does the rest, and needs to be root.

pub mod account;

mod tree;

mod boot;

mod told;

mod library;

mod scan;

mod torrents;

pub mod holders;

pub mod unit;

mod still;

pub use still::port;

use std::ffi::OsString;
use std::path::Path;

use dagger_suite::model::Service;
use dagger_suite::names::Root;

use self::unit::Unit;
use super::database::{self, Found};
use super::disk;
use super::media;
use super::mounts::Mounts;
use super::owner;
use crate::domain::library::Counts;
use crate::domain::media::Now;
use crate::domain::plan::facts::{
    Database, Facts, FileSystem, Image, Integrity, Media, MediaState, Native, Place, Room, Stored,
};
use crate::domain::plan::native::{self, Family, family};

/// What a look needs to know.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Where everything is looked for.
    pub root: &'a Root,
    /// The service, as the configuration has it.
    pub service: &'a Service,
    /// Its native unit, as [`unit::ask`] tells of it.
    pub unit: Option<&'a Unit>,
    /// Its image in podman's store.
    pub image: Option<&'a Image>,
    /// Where snapshots go, an absolute path below the root.
    pub snapshots: &'a str,
    /// A directory of our own, 0700, for the copies of databases that are checked; none: they are not checked.
    pub space: Option<&'a Path>,
}

/// Looks at everything. What cannot be looked at is told in [`Facts::unknown`], and stops nothing.
pub fn look(subject: &Subject<'_>) -> Facts {
    let Subject { root, service, .. } = *subject;
    let mut facts = Facts {
        image: subject.image.cloned(),
        ..Facts::default()
    };
    match owner::read(root, &service.name) {
        Ok(marker) => facts.owned = marker.is_some(),
        Err(error) => facts.unknown.push(error.to_string()),
    }
    let Some(unit) = subject.unit else {
        return facts;
    };
    let native = unit.native(root, &service.kind, &mut facts.unknown);
    let mounts = Mounts::now().unwrap_or_else(|error| {
        facts
            .unknown
            .push(format!("what is mounted where was not read: {error}"));
        Mounts::default()
    });
    facts.room = room(root, subject.snapshots, &mounts);
    places(subject, &native, &mounts, &mut facts);
    let (settings, stored) = told::read(root, &service.kind, &facts.places, &mut facts.unknown);
    facts.settings = settings;
    facts.stored = stored;
    databases(subject, &mut facts);
    files(subject, &mut facts);
    for stored in &mut facts.stored {
        find(root, stored);
    }
    facts.boot = boot::look(root, &facts.places, &mut facts.unknown);
    let hosts = hosts(root, &mut facts.unknown);
    facts.media = service
        .media()
        .map(|mount| media_of(root, &mount.source, &mounts, &hosts))
        .collect();
    let paths: Vec<_> = facts.places.iter().map(|place| place.path.clone()).collect();
    let open = holders::look(root, &native.unit, &paths);
    facts.holders = open.holders;
    facts.devices = open.devices;
    if open.hidden > 0 {
        facts.unknown.push(format!(
            "whether others use the state is not known for {} processes",
            open.hidden
        ));
    }
    facts.native = Some(native);
    facts
}

/// What the library holds, in these places (role and path) that an earlier look has found. Beside it what could not be read.
pub fn library(root: &Root, service: &Service, places: &[(String, String)]) -> (Counts, Vec<String>) {
    let facts = holdings(root, service, places);
    (facts.library, facts.unknown)
}

/// The same with the databases themselves; nothing else is looked at.
pub fn holdings(root: &Root, service: &Service, places: &[(String, String)]) -> Facts {
    let subject = Subject {
        root,
        service,
        unit: None,
        image: None,
        snapshots: "",
        space: None,
    };
    let places = places.iter().map(|(role, path)| Place {
        role: role.clone(),
        path: path.clone(),
        there: true,
        ..Place::default()
    });
    let mut facts = Facts {
        places: places.collect(),
        ..Facts::default()
    };
    databases(&subject, &mut facts);
    files(&subject, &mut facts);
    facts
}

/// The directories of the native state: where the unit says, and where nothing is known of the application, where the
/// configuration says.
fn places(subject: &Subject<'_>, native: &Native, mounts: &Mounts, facts: &mut Facts) {
    let Subject { root, service, .. } = *subject;
    let mut named = native::directories(&service.kind, native);
    if named.is_empty() {
        let state = service.state.iter();
        named = state
            .map(|mount| (mount.role.clone(), mount.source.clone()))
            .collect();
    }
    // The image may keep in one directory what the native install keeps in several.
    named.retain(|(role, _)| service.state.iter().any(|mount| mount.role == *role));
    let real: Vec<(String, String)> = named
        .into_iter()
        .map(|(role, path)| (role, tree::real(root, &path)))
        .collect();
    let all: Vec<String> = real.iter().map(|(_, path)| path.clone()).collect();
    for (role, path) in &real {
        match tree::look(root, role, path, &all, mounts) {
            Ok(mut place) => {
                place.system.reflink =
                    facts.room.system.reflink && place.system.mount == facts.room.system.mount;
                place.pending.extend(restore(root, &service.kind, path));
                facts.places.push(place);
            }
            Err(error) => {
                facts.unknown.push(error.to_string());
                facts.places.push(Place {
                    role: role.clone(),
                    path: path.clone(),
                    there: true,
                    owner: native.who,
                    system: tree::system(root, &root.join(path), mounts),
                    ..Place::default()
                });
            }
        }
    }
}

/// Bazarr's `restore`, when something is in it (utilities/backup.py): at its start it takes the data's place.
fn restore(root: &Root, kind: &str, path: &str) -> Option<String> {
    let waiting = format!("{path}/restore");
    let dir = disk::open_dir(&root.join(&waiting)).ok()??;
    let filled = family(kind) == Family::Bazarr && !disk::is_empty(dir).ok()?;
    filled.then_some(waiting)
}

fn room(root: &Root, path: &str, mounts: &Mounts) -> Room {
    // The first migration makes it: what is above it tells of its file system.
    let at = root.join(path);
    let there = at.ancestors().find(|dir| dir.is_dir()).unwrap_or(&at);
    Room {
        path: path.to_owned(),
        system: FileSystem {
            reflink: tree::can_share(there),
            ..tree::system(root, there, mounts)
        },
    }
}

/// The databases that the catalogue names, where the native state has them.
fn databases(subject: &Subject<'_>, facts: &mut Facts) {
    let Subject { root, service, .. } = *subject;
    for configured in &service.databases {
        let Some(path) = native_path(service, &facts.places, configured) else {
            continue;
        };
        let at = root.join(&path);
        let bytes = database::files(&at)
            .filter_map(|path| Some(std::fs::symlink_metadata(path).ok()?.len()))
            .sum();
        let name = path.rsplit('/').next().unwrap_or(&path).to_owned();
        let told = match database::ask(&at, |connection| library::tell(connection, &name)) {
            Ok(None) => continue,
            Ok(Some(told)) => told,
            Err(error) => {
                facts.unknown.push(format!("{path} was not read: {error}"));
                library::Told::default()
            }
        };
        let reached = |dir: &str| holds_something(root, dir);
        let counted = told.library(reached);
        facts.library.items.extend(counted.items);
        facts.library.roots.extend(counted.roots);
        facts.scanned = facts.scanned.take().or(told.scanned);
        let mut stored = told.stored;
        if family(&service.kind) == Family::Bazarr {
            // As Sonarr and Radarr named them: with path mappings they need not exist here.
            stored.retain(|stored| root.join(&stored.path).exists());
        }
        facts.stored.extend(stored);
        facts.databases.push(Database {
            path,
            bytes,
            schema: told.schema,
            integrity: subject.space.map_or_else(
                || Integrity::Unknown("it was not asked for".into()),
                |space| integrity(&at, space),
            ),
        });
    }
}

/// Where a file of the configured state is in the native one.
fn native_path(service: &Service, places: &[Place], configured: &str) -> Option<String> {
    let mounts = service.state.iter();
    let mount = mounts
        .filter(|mount| Path::new(configured).starts_with(&mount.source))
        .max_by_key(|mount| mount.source.len())?;
    let place = places.iter().find(|place| place.role == mount.role)?;
    let rest = configured.strip_prefix(mount.source.as_str())?;
    Some(format!("{}{rest}", place.path))
}

fn integrity(at: &Path, space: &Path) -> Integrity {
    let copy = space.join("facts.db");
    let checked = database::clear(&copy).and_then(|()| database::check(at, &copy));
    match database::clear(&copy).and(checked) {
        Ok(Found::Good | Found::Nothing) => Integrity::Good,
        Ok(Found::Damaged(how)) => Integrity::Damaged(how),
        Err(error) => Integrity::Unknown(error),
    }
}

/// What some applications keep as files.
fn files(subject: &Subject<'_>, facts: &mut Facts) {
    let Subject { root, service, .. } = *subject;
    let path = |role: &str| {
        let place = facts
            .places
            .iter()
            .find(|place| place.role == role && place.there)?;
        Some(root.join(&place.path))
    };
    match family(&service.kind) {
        Family::Transmission => {
            if let Some(config) = path("config") {
                let found = torrents::look(&config, &mut facts.unknown);
                facts.library.items.extend(found.counts);
                facts.stored.extend(found.stored);
            }
        }
        Family::Jellyfin => {
            if let Some(data) = path("data") {
                let found = libraries(&data, &mut facts.unknown);
                for stored in &found {
                    let reached = holds_something(root, &stored.path);
                    facts.library.roots.insert(stored.path.clone(), reached);
                }
                facts.stored.extend(found);
                facts.scanned = Some(scan::last(&data, &mut facts.unknown));
            }
        }
        Family::Servarr(_) | Family::Bazarr | Family::Other => {}
    }
}

/// What lies in a directory of the application's; one that is not there is empty.
fn names(dir: &Path, most: usize, unknown: &mut Vec<String>) -> Vec<OsString> {
    let listed = match disk::open_dir(dir) {
        Ok(None) => return Vec::new(),
        Ok(Some(open)) => disk::names(open, most).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    listed.unwrap_or_else(|error| {
        unknown.push(format!("{} was not listed: {error}", dir.display()));
        Vec::new()
    })
}

/// Jellyfin's libraries: directories of links to media, each a file with one path (`root/default/*/*.mblink`).
fn libraries(data: &Path, unknown: &mut Vec<String>) -> Vec<Stored> {
    /// More entries of one directory are not looked at.
    const ENTRIES_MAX: usize = 200;
    /// A path is no longer (PATH_MAX).
    const LINK_MAX: usize = 4096;
    let top = data.join("root/default");
    let mut names = |dir: &Path| match disk::open_dir(dir) {
        Ok(Some(open)) => disk::names(open, ENTRIES_MAX).unwrap_or_default(),
        // Files lie beside the libraries.
        Ok(None) | Err(disk::DiskError::NotADirectory(_)) => Vec::new(),
        Err(error) => {
            unknown.push(format!("a library was not read: {error}"));
            Vec::new()
        }
    };
    let mut found = Vec::new();
    for library in names(&top) {
        let dir = top.join(&library);
        for file in names(&dir) {
            if Path::new(&file).extension().is_none_or(|end| end != "mblink") {
                continue;
            }
            let Ok(Some(bytes)) = disk::read(&dir.join(&file), LINK_MAX) else {
                continue;
            };
            let path = String::from_utf8_lossy(&bytes).trim().to_owned();
            if path.starts_with('/') {
                let from = format!("the library {}", library.to_string_lossy());
                found.push(told::said(path, crate::domain::plan::facts::Use::Library, from));
            }
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

/// Whether a stored path is there, and where links lead.
fn find(root: &Root, stored: &mut Stored) {
    let at = root.join(&stored.path);
    match std::fs::canonicalize(&at) {
        Ok(real) => {
            stored.there = Some(true);
            let real = tree::text(&root.inside(&real));
            stored.real = (real != stored.path.trim_end_matches('/')).then_some(real);
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => stored.there = Some(false),
        Err(_) => {}
    }
}

fn holds_something(root: &Root, path: &str) -> bool {
    let entries = std::fs::read_dir(root.join(path));
    entries.is_ok_and(|mut entries| entries.next().is_some())
}

/// What is mounted where for those who are not confined as this process is.
fn hosts(root: &Root, unknown: &mut Vec<String>) -> Mounts {
    match Mounts::of_the_host(root) {
        Ok(mounts) => mounts,
        // Another root than the machine's has no processes.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Mounts::default(),
        Err(error) => {
            unknown.push(format!("which bind mounts are read-only was not read: {error}"));
            Mounts::default()
        }
    }
}

fn media_of(root: &Root, path: &str, mounts: &Mounts, hosts: &Mounts) -> Media {
    let at = root.join(path);
    let real = std::fs::canonicalize(&at).unwrap_or_else(|_| at.clone());
    let read_only = mounts.of(&real).is_some_and(|mount| mount.read_only)
        || hosts.of(&real).is_some_and(|mount| mount.view_read_only);
    let state = match media::look(root, path, mounts) {
        Now::Missing => MediaState::Missing,
        Now::Broken(error) => MediaState::Unreadable(error),
        Now::There(spot) if spot.held == Some(false) => MediaState::Empty,
        Now::There(_) if read_only => MediaState::ReadOnly,
        Now::There(_) | Now::Hidden => MediaState::Good,
    };
    Media {
        path: path.to_owned(),
        state,
        system: tree::system(root, &at, mounts),
    }
}

#[cfg(test)]
mod tests;
