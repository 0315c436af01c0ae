//! The directories that a service needs: whether they are there, writable, and with room.

use std::io;
use std::path::Path;

use dagger_suite::names::Root;
use rustix::fs::StatVfs;

use super::{Subject, mounts};
use crate::adapter::media::{self, words};
use crate::adapter::mounts::Mounts;
use crate::domain::media::Record;
use crate::domain::surroundings::{Place, Trouble};

/// What a directory is to the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Its own state: it writes there.
    State,
    /// Media that it writes to.
    Media,
    /// Media that it only reads: neither a full nor a read-only file system hinders it.
    MediaRead,
}

impl Kind {
    /// Whether an application would take its emptiness for a library without films.
    pub fn is_media(self) -> bool {
        matches!(self, Self::Media | Self::MediaRead)
    }
}

/// A directory that a service needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Absolute path.
    pub path: String,
    /// What it is to the service.
    pub kind: Kind,
}

/// Everything that is wrong with a service's directories. `at` hears of each before it is touched.
pub(super) fn troubles(root: &Root, subject: &Subject, at: &dyn Fn(&Wanted)) -> Vec<Place> {
    let mounts = mounts();
    let lost = subject
        .at_start
        .as_ref()
        .and_then(|record| lost_by(root, record, &mounts, at));
    let lost: Vec<_> = lost.into_iter().collect();
    let others = subject.places.iter().filter_map(|wanted| {
        at(wanted);
        let known = lost.iter().any(|place| place.path == wanted.path);
        let trouble = trouble(root, wanted, &mounts).filter(|_| !known)?;
        Some(Place {
            path: wanted.path.clone(),
            media: wanted.kind.is_media(),
            trouble,
        })
    });
    let others: Vec<_> = others.collect();
    lost.into_iter().chain(others).collect()
}

/// What of the media is not as it was at the start.
pub(super) fn lost(root: &Root, at_start: &Record, at: &dyn Fn(&Wanted)) -> Option<Place> {
    lost_by(root, at_start, &mounts(), at)
}

fn lost_by(root: &Root, at_start: &Record, mounts: &Mounts, at: &dyn Fn(&Wanted)) -> Option<Place> {
    at_start.spots.iter().find_map(|spot| {
        at(&Wanted {
            path: spot.path.clone(),
            kind: Kind::Media,
        });
        media::check_one(root, spot, mounts)
    })
}

fn trouble(root: &Root, wanted: &Wanted, mounts: &Mounts) -> Option<Trouble> {
    // The sandbox shows something else there.
    if media::hidden(&wanted.path) {
        return None;
    }
    let path = root.join(&wanted.path);
    let left = match room(&path, mounts) {
        Ok(left) => left?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(Trouble::NotMounted),
        Err(error) => return Some(Trouble::Unreadable(words(&error))),
    };
    if wanted.kind == Kind::MediaRead {
        return None;
    }
    if mounts.of(&path).is_some_and(|mount| mount.read_only) {
        return Some(Trouble::ReadOnly);
    }
    Trouble::by_room(
        left.f_bavail.saturating_mul(left.f_frsize),
        left.f_files,
        left.f_favail,
    )
}

/// Room on the file system of a path; none where it may not be seen. State is its application's alone (nixarr's is 0700),
/// so that the mount that it lies on may have to stand for it.
fn room(path: &Path, mounts: &Mounts) -> io::Result<Option<StatVfs>> {
    let denied = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    let ask = |path: &Path| rustix::fs::statvfs(path).map_err(io::Error::from);
    let asked = match (ask(path), mounts.of(path)) {
        (Err(error), Some(mount)) if denied(&error) => ask(&mount.point),
        (asked, _) => asked,
    };
    match asked {
        Ok(room) => Ok(Some(room)),
        Err(error) if denied(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(path: &str, kind: Kind) -> Wanted {
        Wanted {
            path: path.into(),
            kind,
        }
    }

    /// Without the sandbox's own places being in the way: tests live in /tmp.
    fn scratch(name: &str) -> Root {
        let dir = std::env::temp_dir().join(format!("dagger-places-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(dir.join("state")).unwrap();
        Root::new(dir)
    }

    #[test]
    fn a_directory_that_is_gone_is_told_by_its_name() {
        let root = scratch("gone");
        let subject = Subject {
            places: vec![wanted("/state", Kind::State), wanted("/fun", Kind::MediaRead)],
            ..Subject::default()
        };
        let found = troubles(&root, &subject, &|_| ());
        let said: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(said, ["/fun is not mounted"]);
        assert!(found[0].media);
    }

    #[test]
    fn what_a_read_only_file_system_hinders_is_who_writes() {
        let path = scratch("read-only").join("/state");
        let table = format!(
            "1 0 0:1 / / rw - ext4 x rw\n2 1 0:2 / {} rw - ext4 x ro\n",
            path.display()
        );
        let mounts = Mounts::parse(table.as_bytes());
        let root = scratch("read-only");
        let trouble = |kind| trouble(&root, &wanted("/state", kind), &mounts);
        assert_eq!(trouble(Kind::State), Some(Trouble::ReadOnly));
        assert_eq!(trouble(Kind::Media), Some(Trouble::ReadOnly));
        assert_eq!(trouble(Kind::MediaRead), None);
    }
}
