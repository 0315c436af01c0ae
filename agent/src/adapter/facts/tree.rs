//! A directory of the state, looked through by descriptor: no link is followed, and no mount below it is entered; what the
//! snapshot copies is what is looked at.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use dagger_suite::names::Root;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::adapter::disk::{self, DiskError};
use crate::adapter::mounts::Mounts;
use crate::adapter::tree::enter;
use crate::domain::plan::facts::{FileSystem, Link, Place, Shared, Who};

/// So many of a kind are listed.
const LISTED_MAX: usize = 20;
/// Deeper than this no application goes; each level holds a descriptor.
const DEPTH_MAX: usize = 100;
/// Whole blocks, in which a file system counts (stat(2), st_blocks).
const BLOCK: u64 = 512;

/// Looks at a directory of the state. `all` are the directories of the whole state: a link from one to another stays inside.
pub fn look(
    root: &Root,
    role: &str,
    path: &str,
    all: &[String],
    mounts: &Mounts,
) -> Result<Place, DiskError> {
    let at = root.join(path);
    let mut place = Place {
        role: role.to_owned(),
        path: path.to_owned(),
        ..Place::default()
    };
    let Some(dir) = disk::open_dir(&at)? else {
        return Ok(place);
    };
    place.there = true;
    place.system = system(root, &at, mounts);
    place.mounts = mounts
        .below(&at)
        .take(LISTED_MAX)
        .map(|point| text(&root.inside(point)))
        .collect();
    let failed = |source| DiskError::Io {
        what: "look through",
        path: at.clone(),
        source,
    };
    let stat = rustix::fs::fstat(&dir).map_err(|errno| failed(errno.into()))?;
    place.owner = who(&stat);
    let mut walk = Walk {
        root,
        all,
        owners: BTreeMap::new(),
        names: HashMap::new(),
        place: &mut place,
    };
    walk.count(&stat);
    walk.below(&dir, &at, 0).map_err(failed)?;
    let Walk { owners, names, .. } = walk;
    let mut owners: Vec<_> = owners.into_iter().collect();
    owners.sort_by_key(|(_, many)| std::cmp::Reverse(*many));
    place.owners = owners;
    place.shared = shared(names.into_values());
    Ok(place)
}

/// The files that have names elsewhere, too: of each owner some, so that nobody's are hidden behind many of another's.
fn shared(names: impl Iterator<Item = Named>) -> Vec<Shared> {
    let mut shared: Vec<_> = names
        .filter(|name| name.seen < name.links)
        .map(|name| name.shared)
        .collect();
    shared.sort();
    let mut of = BTreeMap::<Who, usize>::new();
    shared.retain(|file| {
        let many = of.entry(file.owner).or_default();
        *many += 1;
        *many <= LISTED_MAX
    });
    shared
}

/// The file system that a path lies on. What it can share is not known here.
pub fn system(root: &Root, path: &Path, mounts: &Mounts) -> FileSystem {
    let mount = mounts.of(path);
    let free = rustix::fs::statvfs(path).map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize));
    FileSystem {
        kind: mount.map(|mount| mount.kind.clone()).unwrap_or_default(),
        mount: mount.map_or_else(|| "/".to_owned(), |mount| text(&root.inside(&mount.point))),
        reflink: false,
        free,
    }
}

/// Whether files in this directory can share their blocks (ioctl_ficlone(2)): tried with two files that have no names.
pub fn can_share(dir: &Path) -> bool {
    let tried = || -> rustix::io::Result<()> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        let from = rustix::fs::open(dir, flags, mode)?;
        let to = rustix::fs::open(dir, flags, mode)?;
        rustix::io::write(&from, &[1; 4096])?;
        rustix::fs::ioctl_ficlone(&to, &from)
    };
    tried().is_ok()
}

/// A file with several names.
struct Named {
    shared: Shared,
    seen: u64,
    links: u64,
}

struct Walk<'a> {
    root: &'a Root,
    all: &'a [String],
    owners: BTreeMap<Who, u64>,
    /// By device, too: each subvolume of a btrfs counts its inodes for itself.
    names: HashMap<(u64, u64), Named>,
    place: &'a mut Place,
}

impl Walk<'_> {
    fn count(&mut self, stat: &Stat) {
        self.place.files += 1;
        self.place.bytes = self
            .place
            .bytes
            .saturating_add(u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(BLOCK));
        *self.owners.entry(who(stat)).or_default() += 1;
    }

    fn below(&mut self, dir: &OwnedFd, path: &Path, depth: usize) -> io::Result<()> {
        if depth > DEPTH_MAX {
            return Err(io::Error::other(format!(
                "it is more than {DEPTH_MAX} directories deep"
            )));
        }
        for entry in rustix::fs::Dir::read_from(dir)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let here = path.join(OsStr::from_bytes(name));
            let stat = match rustix::fs::statat(dir, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                // It went away meanwhile: the application runs.
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            };
            let kind = FileType::from_raw_mode(stat.st_mode);
            if kind == FileType::Directory {
                // By a mount alone, and not by the device's number: a subvolume of a btrfs has another one.
                match enter(dir, entry.file_name()) {
                    Ok(next) => {
                        self.note(&here, name, depth, &stat);
                        self.below(&next, &here, depth + 1)?;
                    }
                    // Something is mounted on it, and named by that; or it was taken away, or something else put in its
                    // place.
                    Err(Errno::XDEV | Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                    Err(error) => return Err(error.into()),
                }
                continue;
            }
            self.note(&here, name, depth, &stat);
            if kind == FileType::Symlink
                && let Ok(target) = rustix::fs::readlinkat(dir.as_fd(), entry.file_name(), Vec::new())
            {
                self.link(path, &here, Path::new(OsStr::from_bytes(target.to_bytes())));
            }
        }
        Ok(())
    }

    fn note(&mut self, here: &Path, name: &[u8], depth: usize, stat: &Stat) {
        let kind = FileType::from_raw_mode(stat.st_mode);
        let shown = || text(&self.root.inside(here));
        if kind == FileType::RegularFile && stat.st_nlink > 1 {
            let links = stat.st_nlink;
            let named = self
                .names
                .entry((stat.st_dev, stat.st_ino))
                .or_insert_with(|| Named {
                    shared: Shared {
                        owner: who(stat),
                        path: shown(),
                    },
                    seen: 0,
                    links,
                });
            named.seen += 1;
            if named.seen > 1 {
                // Its blocks were counted with its first name.
                self.place.files += 1;
                *self.owners.entry(who(stat)).or_default() += 1;
                return;
            }
        }
        let special = match kind {
            FileType::RegularFile => stat.st_mode & 0o6000 != 0 && stat.st_mode & 0o111 != 0,
            FileType::Directory | FileType::Symlink | FileType::Socket => false,
            _ => true,
        };
        if special && self.place.special.len() < LISTED_MAX {
            let path = shown();
            self.place.special.push(path);
        }
        if depth == 0 && name.starts_with(b".jellyfin-") {
            self.place
                .markers
                .push(String::from_utf8_lossy(name).into_owned());
        }
        // DatabaseRestorationService.cs: it takes the database's place at the next start.
        if depth == 0 && name.ends_with(b".restore") {
            let path = shown();
            self.place.pending.push(path);
        }
        self.count(stat);
    }

    /// Keeps a link that leads out of the state.
    fn link(&mut self, dir: &Path, here: &Path, target: &Path) {
        if self.place.links.len() >= LISTED_MAX {
            return;
        }
        let absolute = if target.is_absolute() {
            self.root.join(target)
        } else {
            dir.join(target)
        };
        // Only to name it: nothing behind it is opened.
        let real = std::fs::canonicalize(&absolute).unwrap_or_else(|_| plain(&absolute));
        let inside = |path: &Path| {
            self.all
                .iter()
                .any(|place| path.starts_with(self.root.join(place)))
        };
        if !inside(&real) {
            self.place.links.push(Link {
                path: text(&self.root.inside(here)),
                target: text(&self.root.inside(&real)),
            });
        }
    }
}

/// Without `.` and `..`, by the names alone.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

fn who(stat: &Stat) -> Who {
    Who {
        uid: stat.st_uid,
        gid: stat.st_gid,
    }
}

/// Where links lead that are on the way to something; what is not there stays as it is written.
pub(super) fn real(root: &Root, path: &str) -> String {
    let real = std::fs::canonicalize(root.join(path));
    real.map_or_else(|_| path.to_owned(), |real| text(&root.inside(&real)))
}

pub(super) fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::apart::{apart, run};
    use crate::adapter::tree::tests::Scratch;
    use crate::adapter::tree::tests::systems::{mounted, unmount};
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn scratch(name: &str) -> Root {
        let dir = std::env::temp_dir().join(format!("dagger-facts-tree-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(dir.join("s/deep/er")).unwrap();
        std::fs::create_dir_all(dir.join("etc")).unwrap();
        Root::new(dir.canonicalize().unwrap())
    }

    fn seen(root: &Root) -> Place {
        let mounts = Mounts::now().unwrap();
        look(
            root,
            "config",
            "/s",
            &["/s".to_owned(), "/data".to_owned()],
            &mounts,
        )
        .unwrap()
    }

    #[test]
    fn a_tree_is_counted() {
        let root = scratch("count");
        std::fs::write(root.join("/s/deep/er/file"), vec![1; 10_000]).unwrap();
        std::fs::hard_link(root.join("/s/deep/er/file"), root.join("/s/deep/again")).unwrap();
        let place = seen(&root);
        assert!(place.there);
        assert_eq!(place.files, 5, "three directories, one file by two names");
        assert!((10_000..60_000).contains(&place.bytes), "{}", place.bytes);
        assert_eq!(place.shared, [], "both names are in it");
        assert_eq!(place.owners.len(), 1);
        let gone = look(&root, "config", "/none", &[], &Mounts::default()).unwrap();
        assert!(!gone.there);
    }

    #[test]
    fn what_leads_out_is_named() {
        let root = scratch("out");
        std::fs::write(root.join("/etc/settings.json"), "{}").unwrap();
        std::fs::write(root.join("/etc/other"), "").unwrap();
        std::fs::hard_link(root.join("/etc/other"), root.join("/s/shared")).unwrap();
        symlink("../etc/settings.json", root.join("/s/settings.json")).unwrap();
        symlink("deep", root.join("/s/inside")).unwrap();
        symlink("/nowhere/../gone", root.join("/s/dangling")).unwrap();
        symlink("../data/x", root.join("/s/other-role")).unwrap();
        let mut place = seen(&root);
        place.links.sort_by(|one, other| one.path.cmp(&other.path));
        let links: Vec<_> = place
            .links
            .iter()
            .map(|link| (link.path.as_str(), link.target.as_str()))
            .collect();
        assert_eq!(
            links,
            [
                ("/s/dangling", "/gone"),
                ("/s/settings.json", "/etc/settings.json")
            ]
        );
        let own = Shared {
            owner: place.owner,
            path: "/s/shared".into(),
        };
        assert_eq!(place.shared, [own]);
    }

    /// Whoever wants to hide a name among many has only files of one's own for that.
    #[test]
    fn anothers_file_is_named_whatever_else_there_is() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let root = scratch("hidden");
        for number in 0..LISTED_MAX + 5 {
            let (here, there) = (format!("/s/{number:03}"), format!("/etc/{number:03}"));
            std::fs::write(root.join(&there), "").unwrap();
            std::fs::hard_link(root.join(&there), root.join(&here)).unwrap();
        }
        std::fs::write(root.join("/etc/theirs"), "").unwrap();
        std::os::unix::fs::chown(root.join("/etc/theirs"), Some(275), Some(169)).unwrap();
        std::fs::hard_link(root.join("/etc/theirs"), root.join("/s/zzz")).unwrap();
        let place = seen(&root);
        assert_eq!(place.shared.len(), LISTED_MAX + 1);
        let theirs = Shared {
            owner: Who { uid: 275, gid: 169 },
            path: "/s/zzz".into(),
        };
        assert!(place.shared.contains(&theirs), "{:?}", place.shared);
    }

    #[test]
    fn what_does_not_belong_there_is_named() {
        let root = scratch("special");
        rustix::fs::mkfifoat(rustix::fs::CWD, root.join("/s/pipe"), Mode::from_raw_mode(0o600)).unwrap();
        std::fs::write(root.join("/s/program"), "").unwrap();
        std::fs::set_permissions(root.join("/s/program"), PermissionsExt::from_mode(0o4755)).unwrap();
        std::fs::write(root.join("/s/.jellyfin-data"), "").unwrap();
        std::fs::write(root.join("/s/deep/.jellyfin-log"), "").unwrap();
        std::fs::write(root.join("/s/sonarr.restore"), "").unwrap();
        let mut place = seen(&root);
        place.special.sort();
        assert_eq!(place.special, ["/s/pipe", "/s/program"]);
        assert_eq!(place.markers, [".jellyfin-data"], "only its top counts");
        assert_eq!(place.pending, ["/s/sonarr.restore"]);
    }

    /// A link in the place of a directory on the way is no way.
    #[test]
    fn a_link_on_the_way_is_refused() {
        let root = scratch("way");
        symlink("s", root.join("/link")).unwrap();
        let error = look(&root, "config", "/link", &[], &Mounts::default()).unwrap_err();
        assert!(error.to_string().contains("symbolic link"), "{error}");
    }

    /// What the copy enters is looked at: the room that it takes, and the names that lead out of it.
    #[test]
    fn a_subvolume_is_part_of_the_state_and_a_mount_is_not() {
        if !apart("adapter::facts::tree::tests::a_subvolume_is_part_of_the_state_and_a_mount_is_not") {
            return;
        }
        let scratch = Scratch::new("facts-subvolume");
        let Some(top) = mounted(&scratch, "btrfs") else {
            return;
        };
        let (state, media) = (top.join("s"), top.join("s/media"));
        for dir in [&media, &top.join("films")] {
            std::fs::create_dir_all(dir).unwrap();
        }
        // Both files have the first number of their subvolume.
        let volumes = [state.join("MediaCover"), state.join("Backups")];
        for volume in &volumes {
            if !run("btrfs", &["subvolume", "create"], volume) {
                return;
            }
            std::fs::write(volume.join("own"), vec![1; 1 << 20]).unwrap();
            std::fs::hard_link(volume.join("own"), volume.join("again")).unwrap();
        }
        std::fs::write(top.join("films/film"), vec![1; 1 << 20]).unwrap();
        // Of the same file system: no number tells it.
        let films = top.join("films");
        assert!(run("mount", &["--bind", films.to_str().unwrap()], &media));
        let place = seen(&Root::new(&top));
        assert_eq!(
            place.files,
            1 + 2 + 2 * 2,
            "the top, two directories, and two files by two names"
        );
        assert!((2 << 20..3 << 20).contains(&place.bytes), "{} bytes", place.bytes);
        assert_eq!(place.shared, [], "all names are in it");
        assert_eq!(place.mounts, ["/s/media"]);
        unmount(&media);
        unmount(&top);
    }
}
