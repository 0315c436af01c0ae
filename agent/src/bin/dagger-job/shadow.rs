//! The steps about a shadow: a service's container on a copy of its data, in a network of its own, beside the native unit.
//!
//! ```text
//! /var/lib/dagger/shadows/sonarr/clone/data/config   what it runs on; only root gets there but through the container
//! /run/dagger/conf.d/90-shadow-sonarr.toml           what makes a unit of it; gone with the next boot
//! ```
//!
//! What the shadow writes is never the service's: the native unit goes on writing, and only what that wrote is migrated.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use dagger_agent::adapter::clock::realtime_usec;
use dagger_agent::adapter::database::{self, Found};
use dagger_agent::adapter::disk::{self, Over};
use dagger_agent::adapter::snapshot::{Draft, Store};
use dagger_agent::adapter::tree::{self, Options, Tree};
use dagger_agent::adapter::{media, settings};
use dagger_agent::domain::transaction::{Failure, Way};
use dagger_suite::names::{GATE_DIR, IMAGE_DIR, Root, SHADOW_DIR, ServiceName};
use rustix::fs::Mode;
use serde_json::{Value, json};

use crate::bus::Bus;
use crate::data::{label, said};
use crate::run;
use crate::story::{Place, Story};
use crate::world::{Work, at};

/// The only copy that a service has here.
const CLONE: &str = "clone";

/// A copy of a database before it takes its place.
const SPARE: &str = "database";

/// More services than any machine has.
const MOST: usize = 10_000;

fn store(root: &Root) -> Store {
    Store::at(root, SHADOW_DIR)
}

/// Where a shadow finds one of its directories.
pub fn data(service: &ServiceName, role: &str) -> String {
    format!("{SHADOW_DIR}/{service}/{CLONE}/data/{role}")
}

/// Whether a service has a shadow.
pub fn is_there(root: &Root, service: &ServiceName) -> bool {
    root.join(service.shadow_file()).exists()
}

/// Whether anything of one is left.
pub fn is_left(root: &Root, service: &ServiceName) -> bool {
    is_there(root, service) || root.join(format!("{SHADOW_DIR}/{service}")).exists()
}

/// Copies the data while its service runs: the databases by SQLite's own backup, as no copy of their files would do.
pub fn clone(work: &Work<'_>, story: &Story) -> Result<Value, Failure> {
    // What an earlier boot has left.
    remove(work.root, work.service).map_err(Failure::from)?;
    work.work(Way::Forward, story.size, |progress| {
        let draft = store(work.root)
            .begin(work.service, CLONE, progress)
            .map_err(|error| said(&error))?;
        for place in story.kept() {
            copy(work.root, &draft, place, progress)?;
        }
        for path in &story.databases {
            copy_database(work.root, story, &draft, path)?;
        }
        draft
            .finish(label(story, realtime_usec()))
            .map_err(|error| said(&error))?;
        for edit in &story.edits {
            let edit = settings::Edit {
                file: moved(story, work.service, &edit.file)?,
                ..edit.clone()
            };
            settings::apply(work.root, &edit).map_err(|error| error.to_string())?;
        }
        let gift = story.gift.into_iter();
        for (gift, place) in gift.flat_map(|gift| story.kept().map(move |place| (gift, place))) {
            let tree = Tree::open(&work.root.join(data(work.service, &place.role)));
            let tree = tree.map_err(|error| error.to_string())?;
            tree::give(&tree, gift, progress).map_err(|error| error.to_string())?;
        }
        Ok(json!({ "files": progress.files(), "bytes": progress.bytes() }))
    })
}

fn copy(root: &Root, draft: &Draft, place: &Place, progress: &tree::Progress) -> Result<(), String> {
    let from = Tree::open(&at(root, place)).map_err(|error| error.to_string())?;
    let report = draft
        .copy(&place.role, &from, &Options::default(), progress)
        .map_err(|error| said(&error))?;
    if report.changed.count > 0 {
        // What was written to meanwhile is copied again; of what is written to all the time, logs, a mix does.
        draft
            .refresh(&place.role, &from, &Options::default(), progress)
            .map_err(|error| said(&error))?;
    }
    Ok(())
}

/// The directory that a file of the service lies in, and the file's path in it.
fn place<'a>(story: &'a Story, path: &'a str) -> Option<(&'a Place, &'a str)> {
    let mut places: Vec<_> = story.kept().collect();
    places.sort_by_key(|place| std::cmp::Reverse(place.path.len()));
    places.into_iter().find_map(|place| {
        let rest = path.strip_prefix(place.path.as_str())?.strip_prefix('/')?;
        Some((place, rest))
    })
}

/// A file's place in the copy.
pub fn moved(story: &Story, service: &ServiceName, path: &str) -> Result<String, String> {
    let (place, rest) = place(story, path)
        .ok_or_else(|| format!("{path} lies in none of the directories that are copied"))?;
    Ok(format!("{}/{rest}", data(service, &place.role)))
}

fn copy_database(root: &Root, story: &Story, draft: &Draft, path: &str) -> Result<(), String> {
    let (place, rest) = place(story, path)
        .ok_or_else(|| format!("{path} lies in none of the directories that are copied"))?;
    let target = draft.data(&place.role).join(rest);
    // Beside the directories, where no application ever comes: SQLite goes by names.
    let spare = draft.data(SPARE).with_extension("db");
    clear(&spare)?;
    match database::check(&root.join(path), &spare)
        .map_err(|why| format!("{path} cannot be copied: {why}"))?
    {
        Found::Nothing => return Ok(()),
        Found::Damaged(how) => return Err(format!("{path} is damaged: {how}")),
        Found::Good => {}
    }
    put(&spare, &target)
}

/// Puts a database in the place of the copy of its file, with that one's owner and mode.
fn put(spare: &Path, target: &Path) -> Result<(), String> {
    let failed = |errno: rustix::io::Errno| format!("cannot put {} in place: {errno}", target.display());
    let told = |error: disk::DiskError| error.to_string();
    let here = target.parent().unwrap_or(target);
    let Some(dir) = disk::open_dir(here).map_err(told)? else {
        return Err(format!("{} is not there", here.display()));
    };
    let was = disk::open_file(target).map_err(told)?;
    let was = was.ok_or_else(|| format!("{} is not there", target.display()))?;
    let was = was.metadata().map_err(|error| error.to_string())?;
    let made = disk::open_file(spare).map_err(told)?;
    let made = made.ok_or_else(|| format!("{} is not there", spare.display()))?;
    disk::chown(&made, was.uid(), was.gid()).map_err(failed)?;
    rustix::fs::fchmod(&made, Mode::from_raw_mode(was.mode() & 0o7777)).map_err(failed)?;
    for path in database::files(target).skip(1) {
        disk::remove(&dir, &path).map_err(told)?;
    }
    let name = target.file_name().unwrap_or_default();
    rustix::fs::renameat(rustix::fs::CWD, spare, &dir, name).map_err(failed)
}

fn clear(path: &Path) -> Result<(), String> {
    let here = path.parent().unwrap_or(path);
    let Some(dir) = disk::open_dir(here).map_err(|error| error.to_string())? else {
        return Ok(());
    };
    for path in database::files(path) {
        disk::remove(&dir, &path).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Makes a unit of it, and starts that: it is up when the application answers.
pub fn start(work: &Work<'_>, story: &Story) -> Result<Value, Failure> {
    let (bus, shadow) = (work.systemd()?, story.shadow()?);
    let name = ServiceName::parse(&shadow.name)?;
    let file = work.root.join(work.service.shadow_file());
    disk::write(&file, shadow.table.as_bytes(), Over::Replace)
        .map_err(|error| Failure::from(error.to_string()))?;
    bus.reload()?;
    bus.start(&name.unit())?;
    if shadow.port.is_some() {
        bus.start(&name.front_socket())?;
    }
    Ok(Value::Null)
}

/// Stops it, and takes away everything but its copy. What is gone already is no error.
pub fn stop(root: &Root, service: &ServiceName, bus: Option<&Bus>) -> Result<(), Failure> {
    let name = service.shadow()?;
    let front = name.front_socket();
    let units = [
        name.unit(),
        front.replace(".socket", ".service"),
        front,
        name.netns_unit(),
    ];
    for unit in &units {
        if let Some(bus) = bus {
            bus.stop(unit)?;
        }
    }
    let file = root.join(service.shadow_file());
    take_away(&file)?;
    if let Some(bus) = bus {
        bus.reload()?;
        for unit in &units {
            bus.forget(unit);
        }
        // A container that lost its power is still in podman's store.
        bus.run(&name.sweep_unit())?;
    }
    let records = [
        format!("{GATE_DIR}/{name}.env"),
        format!("{GATE_DIR}/{name}.image"),
        format!("{IMAGE_DIR}/{name}"),
        media::record_path(&name),
    ];
    for path in records {
        take_away(&root.join(path))?;
    }
    // systemd has done so, but for a unit that a change of the configuration has made another one.
    Ok(clear_away(&root.join(format!("/run/{}", name.container())))?)
}

fn clear_away(path: &Path) -> Result<(), String> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(());
    };
    let name = CString::new(name.as_bytes()).map_err(|error| error.to_string())?;
    match disk::open_dir(parent).map_err(|error| error.to_string())? {
        Some(dir) => {
            tree::remove(&dir, &name, path, &tree::Progress::default()).map_err(|error| error.to_string())
        }
        None => Ok(()),
    }
}

fn take_away(path: &Path) -> Result<(), String> {
    let parent = path.parent().unwrap_or(path);
    let told = |error: disk::DiskError| error.to_string();
    match disk::open_dir(parent).map_err(told)? {
        Some(dir) => disk::remove(&dir, path).map_err(told),
        None => Ok(()),
    }
}

/// Removes its copy, whole or half.
pub fn remove(root: &Root, service: &ServiceName) -> Result<(), String> {
    let progress = tree::Progress::default();
    let store = store(root);
    store
        .delete(service, CLONE, &progress)
        .and_then(|()| store.sweep(service, &[], &progress))
        .map_err(|error| said(&error))?;
    let home = root.join(format!("{SHADOW_DIR}/{service}"));
    match std::fs::remove_dir(&home) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("cannot remove {}: {error}", home.display()))
        }
        _ => Ok(()),
    }
}

/// Removes what is left of shadows that went with the boot before this one.
pub fn sweep(root: &Root) -> Result<(), Vec<String>> {
    let mut reasons = Vec::new();
    for service in leftovers(root).map_err(|why| vec![why])? {
        let swept = run::lock(root, "discard", &service)
            .map_err(|refused| refused.why)
            .and_then(|_lock| {
                if run::is_open(root, &service) {
                    return Ok(());
                }
                println!("the shadow of {service} went with the boot before this one; its copy goes, too");
                stop(root, &service, Some(&Bus::connect()?)).map_err(|failure| failure.to_string())?;
                remove(root, &service)
            });
        if let Err(why) = swept {
            reasons.push(format!("what is left of the shadow of {service} stays: {why}"));
        }
    }
    if reasons.is_empty() { Ok(()) } else { Err(reasons) }
}

fn leftovers(root: &Root) -> Result<Vec<ServiceName>, String> {
    let dir = root.join(SHADOW_DIR);
    let Some(open) = disk::open_dir(&dir).map_err(|error| error.to_string())? else {
        return Ok(Vec::new());
    };
    let names =
        disk::names(open, MOST).map_err(|error| format!("{} cannot be listed: {error}", dir.display()))?;
    let services = names
        .iter()
        .filter_map(|name| ServiceName::parse(name.to_str()?).ok());
    Ok(services.filter(|service| !is_there(root, service)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::PathBuf;

    fn sonarr() -> ServiceName {
        ServiceName::parse("sonarr").unwrap()
    }

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("dagger-shadow-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("data/config")).unwrap();
        dir.canonicalize().unwrap()
    }

    #[test]
    fn a_file_is_moved_with_the_innermost_directory_that_it_lies_in() {
        let place = |role: &str, path: &str| Place {
            role: role.into(),
            path: path.into(),
            kept: role != "cache",
        };
        let story = Story {
            places: vec![
                place("data", "/srv/j"),
                place("config", "/srv/j/config"),
                place("cache", "/srv/c"),
            ],
            ..Story::default()
        };
        let moved = |path: &str| moved(&story, &sonarr(), path);
        let clone = "/var/lib/dagger/shadows/sonarr/clone/data";
        assert_eq!(moved("/srv/j/a.db"), Ok(format!("{clone}/data/a.db")));
        assert_eq!(moved("/srv/j/config/b.xml"), Ok(format!("{clone}/config/b.xml")));
        for lost in ["/srv/jay/a.db", "/srv/c/x", "/etc/x", "/srv/j"] {
            assert!(moved(lost).is_err(), "{lost}");
        }
    }

    #[test]
    fn a_database_takes_the_place_of_its_copy_with_that_ones_mode_and_without_its_log() {
        let dir = scratch("put");
        let (spare, target) = (dir.join("data/database.db"), dir.join("data/config/a.db"));
        fs::write(&spare, "whole").unwrap();
        fs::write(&target, "torn").unwrap();
        fs::write(dir.join("data/config/a.db-wal"), "log").unwrap();
        fs::set_permissions(&target, PermissionsExt::from_mode(0o640)).unwrap();
        put(&spare, &target).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "whole");
        assert_eq!(fs::metadata(&target).unwrap().mode() & 0o7777, 0o640);
        let names: Vec<_> = fs::read_dir(dir.join("data/config")).unwrap().collect();
        assert_eq!(names.len(), 1, "{names:?}");
        fs::remove_dir_all(dir).unwrap();
    }

    /// What is in the log only is in the copy, too, whatever the copy of its files had come to.
    #[test]
    fn a_database_in_use_is_whole_in_the_copy() {
        let dir = scratch("use");
        let root = Root::new(&dir);
        let state = dir.join("srv/sonarr");
        fs::create_dir_all(&state).unwrap();
        let database = rusqlite::Connection::open(state.join("a.db")).unwrap();
        let fill = "PRAGMA journal_mode = WAL; CREATE TABLE t (a); INSERT INTO t VALUES (1), (2);";
        database.execute_batch(fill).unwrap();
        let place = Place {
            role: "config".into(),
            path: "/srv/sonarr".into(),
            kept: true,
        };
        let progress = tree::Progress::default();
        let draft = store(&root).begin(&sonarr(), CLONE, &progress).unwrap();
        copy(&root, &draft, &place, &progress).unwrap();
        database.execute_batch("INSERT INTO t VALUES (3)").unwrap();
        let target = draft.data("config").join("a.db");
        fs::write(&target, "torn").unwrap();
        let story = Story {
            places: vec![place],
            ..Story::default()
        };
        copy_database(&root, &story, &draft, "/srv/sonarr/a.db").unwrap();
        copy_database(&root, &story, &draft, "/srv/sonarr/none.db").unwrap();
        let names: Vec<_> = fs::read_dir(draft.data("config")).unwrap().collect();
        assert_eq!(names.len(), 1, "{names:?}");
        let copied = rusqlite::Connection::open(&target).unwrap();
        let rows = copied.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0));
        assert_eq!(rows, Ok(3));
        fs::remove_dir_all(dir).unwrap();
    }

    /// The copy was made of a directory that an application can write to.
    #[test]
    fn a_database_is_put_nowhere_through_a_link() {
        let dir = scratch("link");
        let spare = dir.join("data/database.db");
        fs::write(dir.join("outside.db"), "mine").unwrap();
        symlink("../../outside.db", dir.join("data/config/a.db")).unwrap();
        symlink("..", dir.join("data/config/up")).unwrap();
        for target in ["data/config/a.db", "data/config/up/outside.db"] {
            fs::write(&spare, "whole").unwrap();
            let error = put(&spare, &dir.join(target)).unwrap_err();
            assert!(error.contains("symbolic link"), "{error}");
        }
        assert_eq!(fs::read_to_string(dir.join("outside.db")).unwrap(), "mine");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_is_left_of_a_shadow_goes_as_a_whole_and_more_than_once() {
        let dir = scratch("left");
        let root = Root::new(&dir);
        let home = dir.join("var/lib/dagger/shadows/sonarr");
        assert!(!is_left(&root, &sonarr()));
        for half in ["clone/data/config", ".new-clone/data", ".gone-clone"] {
            fs::create_dir_all(home.join(half)).unwrap();
        }
        assert!(is_left(&root, &sonarr()) && !is_there(&root, &sonarr()));
        assert_eq!(leftovers(&root), Ok(vec![sonarr()]));
        remove(&root, &sonarr()).unwrap();
        remove(&root, &sonarr()).unwrap();
        assert!(!home.exists());
        assert_eq!(leftovers(&root), Ok(vec![]));
        fs::remove_dir_all(dir).unwrap();
    }
}
