//! Looking at media trees, and the record `/var/lib/dagger/media/<service>` of how they were at the last good start.
//!
//! The gate writes the record when the application answers, and holds the tree against it before the next start; the agent
//! does so while the application runs. What follows from a difference is [`crate::domain::media`]'s to say.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use dagger_suite::names::{Root, ServiceName};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::disk::{self, DiskError, Over};
use super::mounts::Mounts;
use crate::domain::media::{Now, Record, Spot};
use crate::domain::surroundings::{Place, Trouble};

/// Directory of the records, one a service.
pub const MEDIA_DIR: &str = "/var/lib/dagger/media";

/// Places that monitoring.service's sandbox hides or replaces (`ProtectHome=`, `PrivateTmp=`): the agent sees something
/// else there than the application does.
const HIDDEN: [&str; 5] = ["/home", "/root", "/run/user", "/tmp", "/var/tmp"];

/// Path of a service's record.
pub fn record_path(service: &ServiceName) -> String {
    format!("{MEDIA_DIR}/{service}")
}

/// Reading a record went wrong. Whoever asks goes on without it.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It is there and cannot be read.
    #[error("{path}, which remembers how the media was, cannot be read: {source}")]
    Unreadable {
        /// Its path.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// It is there and says something else.
    #[error("{path} does not say how the media was: {source}; remove it, the next good start writes it anew")]
    Malformed {
        /// Its path.
        path: String,
        /// What is wrong in it.
        source: serde_json::Error,
    },
}

/// Reads the record; none before the first good start.
pub fn read(root: &Root, service: &ServiceName) -> Result<Option<Record>, RecordError> {
    let path = record_path(service);
    match fs::read(root.join(&path)) {
        Ok(text) => match serde_json::from_slice(&text) {
            Ok(record) => Ok(Some(record)),
            Err(source) => Err(RecordError::Malformed { path, source }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(RecordError::Unreadable { path, source }),
    }
}

/// Writes how the media is now, for root alone: names of mounts are nobody else's business.
pub fn write(root: &Root, service: &ServiceName, media: &[String]) -> Result<(), DiskError> {
    let path = root.join(record_path(service));
    let failed = |source| DiskError::Io {
        what: "write",
        path: path.clone(),
        source,
    };
    let record = record(root, media).map_err(failed)?;
    let text = serde_json::to_vec_pretty(&record).map_err(|error| failed(error.into()))?;
    disk::write_as(&path, &text, Over::Replace, 0o600).map(|_| ())
}

/// How the media is now: each tree, and everything that is mounted below it.
fn record(root: &Root, media: &[String]) -> io::Result<Record> {
    let mounts = Mounts::now()?;
    let mut spots = Vec::new();
    for path in media {
        let top = root.join(path);
        let real = fs::canonicalize(&top).unwrap_or(top);
        let below = mounts.below(&real).map(|point| root.inside(point));
        // What is no text cannot be written down; what is mounted twice is one place.
        let mut below: Vec<_> = below
            .filter_map(|point| point.to_str().map(str::to_owned))
            .collect();
        below.sort();
        below.dedup();
        for path in [path.clone()].into_iter().chain(below) {
            if let Now::There(spot) = look(root, &path, &mounts) {
                spots.push(spot);
            }
        }
    }
    Ok(Record { spots })
}

/// How a place is now. It may take for ever where a network file system does not answer.
pub fn look(root: &Root, path: &str, mounts: &Mounts) -> Now {
    let opened = match open(&root.join(path)) {
        Ok(Some(opened)) => opened,
        Ok(None) => return Now::Missing,
        Err(error) => return now(&error),
    };
    let Opened { directory, real } = opened;
    let held = match directory.map(holds).transpose() {
        Ok(held) => held,
        Err(error) => match now(&error) {
            Now::Hidden => None,
            other => return other,
        },
    };
    let mount = mounts.of(&real);
    Now::There(Spot {
        path: path.to_owned(),
        mount: mount.map_or_else(|| "/".into(), |mount| mount.point.to_string_lossy().into_owned()),
        kind: mount.map(|mount| mount.kind.clone()).unwrap_or_default(),
        held,
    })
}

/// An error, as far as it says something about the disk.
fn now(error: &io::Error) -> Now {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Now::Missing,
        io::ErrorKind::PermissionDenied => Now::Hidden,
        _ => Now::Broken(words(error)),
    }
}

/// The system's words without its number: "Input/output error".
pub(super) fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error")
        .map_or(text.clone(), |(words, _)| words.to_owned())
}

struct Opened {
    /// None: whoever looks may not list it.
    directory: Option<std::os::fd::OwnedFd>,
    /// Without links.
    real: PathBuf,
}

/// Links are followed down to the directory that the administrator named. What is mounted below it was named by the
/// kernel, without any.
fn open(path: &Path) -> io::Result<Option<Opened>> {
    let real = match fs::canonicalize(path) {
        Ok(real) => real,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let directory = match rustix::fs::open(&real, flags, Mode::empty()) {
        Ok(directory) => Some(directory),
        Err(Errno::ACCESS | Errno::PERM) => None,
        Err(other) => return Err(other.into()),
    };
    Ok(Some(Opened { directory, real }))
}

/// Whether a directory holds anything but hidden files and `lost+found`.
fn holds(directory: impl AsFd) -> io::Result<bool> {
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !name.starts_with(b".") && name != b"lost+found" {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What is wrong with the media of an application that runs, by the record of its start: the agent's question. Where the
/// sandbox lets the agent see nothing, nothing is wrong.
pub fn check(root: &Root, at_start: &Record, mounts: &Mounts) -> Option<Place> {
    at_start
        .spots
        .iter()
        .find_map(|before| check_one(root, before, mounts))
}

/// The same for one of its places.
pub(super) fn check_one(root: &Root, before: &Spot, mounts: &Mounts) -> Option<Place> {
    if hidden(&before.path) {
        return None;
    }
    let trouble = before.lost(&look(root, &before.path, mounts))?;
    Some(Place {
        path: before.path.clone(),
        media: true,
        trouble,
    })
}

/// What keeps an application from being started on a place: the gate's question. The gate has no sandbox.
pub fn refused(root: &Root, before: &Spot, mounts: &Mounts) -> Option<Trouble> {
    before.refused(&look(root, &before.path, mounts))
}

/// Whether the sandbox shows something else in this place.
pub fn hidden(path: &str) -> bool {
    HIDDEN.iter().any(|hidden| Path::new(path).starts_with(hidden))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn scratch(name: &str) -> (Root, ServiceName) {
        let dir = std::env::temp_dir().join(format!("dagger-media-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("fun/tv")).unwrap();
        (
            Root::new(dir.canonicalize().unwrap()),
            ServiceName::parse("sonarr").unwrap(),
        )
    }

    #[test]
    fn a_tree_that_was_emptied_is_seen_and_its_record_is_roots_alone() {
        let (root, service) = scratch("emptied");
        assert_eq!(read(&root, &service).unwrap(), None);
        write(&root, &service, &["/fun".into()]).unwrap();
        let mode = fs::metadata(root.join(record_path(&service)))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o600);
        let record = read(&root, &service).unwrap().unwrap();
        let mounts = Mounts::now().unwrap();
        assert_eq!(check(&root, &record, &mounts), None);
        fs::remove_dir(root.join("/fun/tv")).unwrap();
        // A mark of the bare mount point is no media.
        fs::write(root.join("/fun/.not-mounted"), "").unwrap();
        let place = check(&root, &record, &mounts).unwrap();
        assert_eq!((place.path.as_str(), place.trouble), ("/fun", Trouble::Empty));
        fs::remove_dir_all(root.join("/fun")).unwrap();
        assert_eq!(
            check(&root, &record, &mounts).unwrap().trouble,
            Trouble::NotMounted
        );
    }

    #[test]
    fn a_record_that_is_none_says_what_to_do() {
        let (root, service) = scratch("malformed");
        write(&root, &service, &[]).unwrap();
        fs::write(root.join(record_path(&service)), "{").unwrap();
        let error = read(&root, &service).unwrap_err().to_string();
        assert!(
            error.contains("/var/lib/dagger/media/sonarr") && error.contains("remove it"),
            "{error}"
        );
    }

    #[test]
    fn the_sandbox_is_no_loss_of_media() {
        assert!(hidden("/home/me/films") && hidden("/var/tmp") && !hidden("/homes") && !hidden("/fun"));
    }
}
