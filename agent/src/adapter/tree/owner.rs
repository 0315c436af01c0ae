//! Gives what one user has in a tree to another.

use std::sync::Arc;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::Progress;
use super::error::TreeError;
use super::place::{self, DEPTH_MAX, Place, Tree};
use super::stamp::{Kind, Look};
use crate::domain::plan::facts::Who;

/// An entry itself, whatever it is: what was looked at is what changes hands, whatever has its name by then.
const HANDLE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Who had it, and who gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gift {
    /// Only what belongs to this user is given; of the groups only this one changes.
    pub from: Who,
    /// To whom.
    pub to: Who,
}

impl Gift {
    /// The way back.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self {
            from: self.to,
            to: self.from,
        }
    }

    fn of(self, uid: u32, gid: u32) -> Option<Who> {
        let Self { from, to } = self;
        let gid = if gid == from.gid { to.gid } else { gid };
        (uid == from.uid).then_some(Who { uid: to.uid, gid })
    }
}

/// Gives the whole tree, its top included; how many entries changed hands. What was cut off is completed by another one.
///
/// What belongs to others is left alone, so that a name that somebody has put there gives away nothing but what was the
/// giver's own. No link is followed and no mount is crossed. The kernel takes set-user-ID bits off what is given (chown(2)).
pub fn give(tree: &Tree, gift: Gift, progress: &Progress) -> Result<u64, TreeError> {
    let mut given = 0;
    let top = Look::of(tree.top()).map_err(TreeError::io("look at", tree.path()))?;
    if let Some(pair) = gift.of(top.stamp.uid, top.stamp.gid) {
        rustix::fs::fchown(
            tree.top(),
            Some(Uid::from_raw(pair.uid)),
            Some(Gid::from_raw(pair.gid)),
        )
        .map_err(TreeError::io("give away", tree.path()))?;
        given += 1;
    }
    let mut left = vec![Place::top()];
    while let Some(place) = left.pop() {
        progress.check()?;
        given += directory(tree, &place, gift, &mut left, progress)?;
    }
    Ok(given)
}

fn directory(
    tree: &Tree,
    place: &Arc<Place>,
    gift: Gift,
    left: &mut Vec<Arc<Place>>,
    progress: &Progress,
) -> Result<u64, TreeError> {
    let failed = |errno| TreeError::io("give away", &place.path(tree, None))(errno);
    let dir = match place.open(tree) {
        Ok(dir) => dir,
        // It has gone, or something else is in its place.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(0),
        Err(errno) => return Err(failed(errno)),
    };
    let mut given = 0;
    for (name, _) in place::list(&dir).map_err(failed)? {
        let entry = match rustix::fs::openat(&dir, &*name, HANDLE, Mode::empty()) {
            Ok(entry) => entry,
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(failed(errno)),
        };
        let look = Look::of(&entry).map_err(failed)?;
        if look.mount {
            continue;
        }
        if let Some(pair) = gift.of(look.stamp.uid, look.stamp.gid) {
            let (uid, gid) = (Uid::from_raw(pair.uid), Gid::from_raw(pair.gid));
            rustix::fs::chownat(&entry, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH)
                .map_err(|errno| TreeError::io("give away", &place.path(tree, Some(&name)))(errno))?;
            given += 1;
        }
        progress.add_files(1);
        if look.stamp.kind == Kind::Directory && place.depth() < DEPTH_MAX {
            left.push(place.below(&name));
        }
    }
    Ok(given)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, chown, lchown, symlink};

    #[test]
    fn what_is_the_givers_changes_hands_and_nothing_else() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = std::env::temp_dir().join(format!("dagger-give-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(dir.join("state/deep/er")).unwrap();
        let dir = dir.canonicalize().unwrap();
        let at = |name: &str| dir.join(name);
        for name in ["state/file", "state/deep/er/file", "state/theirs", "victim"] {
            std::fs::write(at(name), name).unwrap();
        }
        symlink("../victim", at("state/link")).unwrap();
        for name in [
            "state",
            "state/deep",
            "state/deep/er",
            "state/file",
            "state/deep/er/file",
            "victim",
        ] {
            chown(at(name), Some(274), Some(169)).unwrap();
        }
        chown(at("state/theirs"), Some(7), Some(169)).unwrap();
        chown(at("state/file"), Some(274), Some(5)).unwrap();
        lchown(at("state/link"), Some(274), Some(169)).unwrap();
        let gift = Gift {
            from: Who { uid: 274, gid: 169 },
            to: Who { uid: 1000, gid: 100 },
        };
        let tree = Tree::open(&at("state")).unwrap();
        assert_eq!(give(&tree, gift, &Progress::default()).unwrap(), 6);
        let owner = |name: &str| {
            let meta = std::fs::symlink_metadata(at(name)).unwrap();
            (meta.uid(), meta.gid())
        };
        assert_eq!(owner("state"), (1000, 100));
        assert_eq!(owner("state/deep/er/file"), (1000, 100));
        assert_eq!(owner("state/link"), (1000, 100));
        assert_eq!(owner("state/file"), (1000, 5), "another group stays");
        assert_eq!(owner("state/theirs"), (7, 169), "what is somebody else's stays");
        assert_eq!(owner("victim"), (274, 169), "no link is followed");
        // Again: nothing is left to give. And back.
        assert_eq!(give(&tree, gift, &Progress::default()).unwrap(), 0);
        assert_eq!(give(&tree, gift.reversed(), &Progress::default()).unwrap(), 6);
        assert_eq!((owner("state/link"), owner("state/file")), ((274, 169), (274, 5)));
        std::fs::remove_dir_all(dir).unwrap();
    }
}
