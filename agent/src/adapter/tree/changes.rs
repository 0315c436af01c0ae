//! What became of a tree between two looks at it: only what the system says of its files is compared, nothing is read.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::error::TreeError;
use super::place::{self, DEPTH_MAX, Place, Tree};
use super::stamp::{Kind, Look, Stamp};
use super::{Noted, Progress};

/// What SQLite keeps beside a database while that is open: what is in it is the database's.
const LOGS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// All files of a tree at one time, links and pipes among them, by their paths from its top. It is for a tree that was copied:
/// of the application's own nobody can tell how much memory that takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen(BTreeMap<PathBuf, Stamp>);

/// What became of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Written to, or given another owner or mode.
    pub changed: Noted,
    /// Not there before.
    pub made: Noted,
    /// Not there any more.
    pub removed: Noted,
}

impl Seen {
    /// Looks at a tree. No link is followed and no mount is crossed.
    pub fn of(tree: &Tree, progress: &Progress) -> Result<Self, TreeError> {
        let mut seen = BTreeMap::new();
        let mut left = vec![Place::top()];
        while let Some(here) = left.pop() {
            progress.check()?;
            let failed = |errno| TreeError::io("look through", &here.path(tree, None))(errno);
            let dir = match here.open(tree) {
                Ok(dir) => dir,
                // It has gone, or something else is in its place.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(errno) => return Err(failed(errno)),
            };
            for (name, _) in place::list(&dir).map_err(failed)? {
                let look = match Look::at(&dir, &name) {
                    Ok(look) => look,
                    Err(Errno::NOENT) => continue,
                    Err(errno) => return Err(failed(errno)),
                };
                match look.stamp.kind {
                    Kind::Directory if !look.mount && here.depth() < DEPTH_MAX => {
                        left.push(here.below(&name));
                    }
                    Kind::File | Kind::Symlink | Kind::Fifo => {
                        let path = here.inside().join(OsStr::from_bytes(name.to_bytes()));
                        seen.insert(path, look.stamp);
                    }
                    Kind::Directory | Kind::Socket | Kind::Device => {}
                }
            }
        }
        Ok(Self(seen))
    }

    /// What became of them until a later look.
    pub fn until(&self, later: &Self) -> Changes {
        let (mut changed, mut made) = (BTreeSet::new(), BTreeSet::new());
        for (path, stamp) in &later.0 {
            match (self.0.get(path), self.database_of(path)) {
                (Some(before), None) if before.is_alike(stamp) => {}
                (Some(_), None) => _ = changed.insert(path.as_path()),
                (_, Some(database)) => _ = changed.insert(database),
                (None, None) => _ = made.insert(path.as_path()),
            }
        }
        let removed = self.0.keys().filter(|path| !later.0.contains_key(*path));
        let removed = removed.filter(|path| self.database_of(path).is_none());
        let noted = |paths: &mut dyn Iterator<Item = &Path>| {
            let mut noted = Noted::default();
            paths.for_each(|path| noted.note(path));
            noted
        };
        Changes {
            changed: noted(&mut changed.into_iter()),
            made: noted(&mut made.into_iter()),
            removed: noted(&mut removed.map(PathBuf::as_path)),
        }
    }

    /// The database that something is a part of.
    fn database_of(&self, path: &Path) -> Option<&Path> {
        let name = path.to_str()?;
        let database = LOGS.iter().find_map(|end| name.strip_suffix(end))?;
        self.0
            .get_key_value(Path::new(database))
            .map(|(path, _)| path.as_path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn paths(noted: &Noted) -> Vec<String> {
        assert_eq!(noted.count, noted.first.len() as u64);
        noted.first.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_was_written_made_and_removed_is_told_and_nothing_else() {
        let dir = std::env::temp_dir().join(format!("dagger-changes-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("logs/old")).unwrap();
        let dir = dir.canonicalize().unwrap();
        for name in ["a.db", "config.xml", "kept", "mode", "logs/old/1", "logs/0"] {
            fs::write(dir.join(name), name).unwrap();
        }
        symlink("kept", dir.join("link")).unwrap();
        let seen = || Seen::of(&Tree::open(&dir).unwrap(), &Progress::default()).unwrap();
        let before = seen();
        assert_eq!(before.until(&before), Changes::default());
        fs::write(dir.join("config.xml"), "longer than it was").unwrap();
        // Read by whoever likes, and given to whom it belongs: nothing is another then.
        fs::read(dir.join("kept")).unwrap();
        let top = fs::metadata(&dir).unwrap();
        let own = std::os::unix::fs::MetadataExt::uid(&top);
        std::os::unix::fs::lchown(dir.join("kept"), Some(own), None).unwrap();
        fs::set_permissions(dir.join("mode"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::remove_dir_all(dir.join("logs/old")).unwrap();
        fs::create_dir(dir.join("new")).unwrap();
        fs::write(dir.join("new/file"), "").unwrap();
        fs::remove_file(dir.join("link")).unwrap();
        symlink("mode", dir.join("link")).unwrap();
        // What a database in use has beside it is the database.
        fs::write(dir.join("a.db-wal"), "log").unwrap();
        fs::write(dir.join("a.db-shm"), "index").unwrap();
        fs::write(dir.join("lone-wal"), "").unwrap();
        let changes = before.until(&seen());
        assert_eq!(paths(&changes.changed), ["a.db", "config.xml", "link", "mode"]);
        assert_eq!(paths(&changes.made), ["lone-wal", "new/file"]);
        assert_eq!(paths(&changes.removed), ["logs/old/1"]);
        fs::remove_dir_all(dir).unwrap();
    }
}
