//! Directories and small files below a root, reached by descriptors: no symbolic link is ever followed, and a file is
//! either the old one or the new one, also after a power cut.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Uid};
use rustix::io::Errno;

/// What can go wrong; each message names the path.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// A part of the path is a symbolic link.
    #[error("{path} is a symbolic link to {target}: write the real path into the configuration", path = path.display(), target = target.display())]
    Symlink {
        /// The link.
        path: PathBuf,
        /// What it points to, as it is written there.
        target: PathBuf,
    },
    /// A part of the path is something else than a directory.
    #[error("{} is not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// A directory, a pipe or a device where a file belongs.
    #[error("{} is not a plain file", .0.display())]
    NotAFile(PathBuf),
    /// `..` or an empty path.
    #[error("{} is not a plain absolute path", .0.display())]
    NotPlain(PathBuf),
    /// The system said no.
    #[error("cannot {what} {}: {source}{}", path.display(), advice(source))]
    Io {
        /// What was tried: `make`, `open`, `write`.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl DiskError {
    fn io(what: &'static str, path: &Path) -> impl FnOnce(Errno) -> Self {
        let path = path.to_owned();
        move |errno| Self::Io {
            what,
            path,
            source: errno.into(),
        }
    }
}

/// What helps, for the errors that are about the machine rather than about one file.
pub fn advice(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::NOSPC | Errno::DQUOT) => "; make room there (df -h, df -i), then try again",
        Some(Errno::ROFS) => {
            "; mount it read-write (dmesg says whether an error made it read-only), then try again"
        }
        Some(Errno::IO) => "; the disk cannot read or write it: journalctl -k says more",
        Some(Errno::MFILE | Errno::NFILE) => "; raise LimitNOFILE= of the unit, then try again",
        Some(Errno::BUSY) => "; something is mounted there (findmnt), unmount it, then try again",
        _ => "",
    }
}

/// Owner and mode of the last directory that [`make_dir`] makes; those on the way to it are root's, 0755.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaf {
    /// Permission bits.
    pub mode: u32,
    /// User and group; none: whoever makes it.
    pub owner: Option<(u32, u32)>,
}

/// What [`make_dir`] found or made.
#[derive(Debug)]
pub struct Made {
    /// The directory, open.
    pub dir: OwnedFd,
    /// It was not there before.
    pub new: bool,
}

/// The directory with this name, made with all its parents where they are missing.
///
/// What is there is left as it is. Each directory that is made is on disk before this returns.
pub fn make_dir(path: &Path, leaf: Leaf) -> Result<Made, DiskError> {
    let (mut dir, names) = start(path)?;
    let mut here = PathBuf::from("/");
    let mut new = false;
    for (index, name) in names.iter().enumerate() {
        let parent = here.clone();
        here.push(name);
        let next = match enter(dir.as_fd(), name, &here) {
            Ok(next) => next,
            Err(DiskError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                new = true;
                let last = index + 1 == names.len();
                let leaf = if last {
                    leaf
                } else {
                    Leaf {
                        mode: 0o755,
                        owner: None,
                    }
                };
                let made = make_one(dir.as_fd(), name, &here, leaf)?;
                rustix::fs::fsync(&dir).map_err(DiskError::io("write", &parent))?;
                made
            }
            Err(other) => return Err(other),
        };
        dir = next;
    }
    Ok(Made { dir, new })
}

/// The directory with this name; none when it, or one on the way to it, is not there.
pub fn open_dir(path: &Path) -> Result<Option<OwnedFd>, DiskError> {
    let (mut dir, names) = start(path)?;
    let mut here = PathBuf::from("/");
    for name in names {
        here.push(name);
        dir = match enter(dir.as_fd(), name, &here) {
            Ok(next) => next,
            Err(DiskError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(other) => return Err(other),
        };
    }
    Ok(Some(dir))
}

/// `/`, open, and the names that lead from there.
fn start(path: &Path) -> Result<(OwnedFd, Vec<&OsStr>), DiskError> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir => {}
            Component::Normal(name) => names.push(name),
            Component::Prefix(_) | Component::CurDir | Component::ParentDir => {
                return Err(DiskError::NotPlain(path.to_owned()));
            }
        }
    }
    if names.is_empty() || !path.is_absolute() {
        return Err(DiskError::NotPlain(path.to_owned()));
    }
    let root = Path::new("/");
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(root, flags, Mode::empty()).map_err(DiskError::io("open", root))?;
    Ok((dir, names))
}

fn enter(dir: impl AsFd, name: &OsStr, here: &Path) -> Result<OwnedFd, DiskError> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    match rustix::fs::openat(&dir, name, flags, Mode::empty()) {
        Ok(next) => Ok(next),
        // A link and a plain file give the same answer here; people want to know which.
        Err(Errno::NOTDIR | Errno::LOOP) => Err(match rustix::fs::readlinkat(&dir, name, Vec::new()) {
            Ok(target) => DiskError::Symlink {
                path: here.to_owned(),
                target: PathBuf::from(OsStr::new(&*target.to_string_lossy())),
            },
            Err(_) => DiskError::NotADirectory(here.to_owned()),
        }),
        Err(other) => Err(DiskError::io("open", here)(other)),
    }
}

fn make_one(dir: impl AsFd, name: &OsStr, here: &Path, leaf: Leaf) -> Result<OwnedFd, DiskError> {
    match rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o700)) {
        // Another gate was faster: the directory is there, and that is what was asked for.
        Ok(()) | Err(Errno::EXIST) => {}
        Err(other) => return Err(DiskError::io("make", here)(other)),
    }
    let made = enter(&dir, name, here)?;
    if let Some((uid, gid)) = leaf.owner {
        chown(made.as_fd(), uid, gid).map_err(DiskError::io("give away", here))?;
    }
    rustix::fs::fchmod(&made, Mode::from_raw_mode(leaf.mode))
        .map_err(DiskError::io("set the mode of", here))?;
    Ok(made)
}

/// Gives an open file or directory, and nothing below it, to somebody.
pub fn chown(file: impl AsFd, uid: u32, gid: u32) -> rustix::io::Result<()> {
    rustix::fs::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
}

/// The content of a plain file; none when it, or a directory on the way to it, is not there.
///
/// Nothing is waited for and nobody else's file is read in its place: a link, a pipe or a device is an error, and so is a
/// file of more than `limit` bytes.
pub fn read(path: &Path, limit: usize) -> Result<Option<Vec<u8>>, DiskError> {
    let Some(file) = open_file(path)? else {
        return Ok(None);
    };
    let failed = |source| DiskError::Io {
        what: "read",
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(most).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > limit {
        return Err(failed(io::Error::other(format!(
            "it is larger than {limit} bytes"
        ))));
    }
    Ok(Some(bytes))
}

/// A plain file, open for reading; none when it, or a directory on the way to it, is not there.
pub fn open_file(path: &Path) -> Result<Option<File>, DiskError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(DiskError::NotPlain(path.to_owned()));
    };
    let Some(dir) = open_dir(parent)? else {
        return Ok(None);
    };
    // Without NONBLOCK a pipe in the place of the file would be waited for.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(&dir, name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP) => {
            let target =
                rustix::fs::readlinkat(&dir, name, Vec::new()).map_err(DiskError::io("open", path))?;
            return Err(DiskError::Symlink {
                path: path.to_owned(),
                target: PathBuf::from(OsStr::new(&*target.to_string_lossy())),
            });
        }
        Err(other) => return Err(DiskError::io("open", path)(other)),
    };
    let stat = rustix::fs::fstat(&file).map_err(DiskError::io("open", path))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(DiskError::NotAFile(path.to_owned()));
    }
    Ok(Some(file))
}

/// Removes the file of this name from its directory, which is open; one that is not there is no error.
pub fn remove(dir: impl AsFd, path: &Path) -> Result<(), DiskError> {
    let name = path
        .file_name()
        .ok_or_else(|| DiskError::NotPlain(path.to_owned()))?;
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(other) => Err(DiskError::io("remove", path)(other)),
    }
}

/// Whether an open directory holds nothing that anybody put there.
pub fn is_empty(dir: impl AsFd) -> io::Result<bool> {
    Ok(owners(dir, 1)?.is_empty())
}

/// User and group of the first `most` entries of an open directory; links are not followed.
///
/// `lost+found`, which mkfs puts into every ext4 file system, is none of them.
pub fn owners(dir: impl AsFd, most: usize) -> io::Result<Vec<(u32, u32)>> {
    let mut owners = Vec::new();
    for entry in rustix::fs::Dir::read_from(&dir)? {
        let entry = entry?;
        if matches!(entry.file_name().to_bytes(), b"." | b".." | b"lost+found") {
            continue;
        }
        match rustix::fs::statat(&dir, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => owners.push((stat.st_uid, stat.st_gid)),
            // It went away meanwhile.
            Err(Errno::NOENT) => {}
            Err(other) => return Err(other.into()),
        }
        if owners.len() >= most {
            break;
        }
    }
    Ok(owners)
}

/// Names of what an open directory holds, so many at most, in no order.
pub fn names(dir: impl AsFd, most: usize) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(OsStr::from_bytes(name).to_owned());
        }
        if names.len() == most {
            break;
        }
    }
    Ok(names)
}

/// Whether a file of the same name may be there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// It is replaced.
    Replace,
    /// It stays, and the new content is dropped.
    Keep,
}

/// Writes a file as a whole, mode 0644: a reader, and a machine that lost power, sees the old content or the new one.
///
/// Missing directories on the way are made, 0755. The result says whether the file was written (always, but for
/// [`Over::Keep`] with a file there).
pub fn write(path: &Path, content: &[u8], over: Over) -> Result<bool, DiskError> {
    write_as(path, content, over, 0o644)
}

/// The same with these permission bits.
pub fn write_as(path: &Path, content: &[u8], over: Over, mode: u32) -> Result<bool, DiskError> {
    write_with(path, over, mode, |file| file.write_all(content))
}

/// The same with what a function puts there.
pub fn write_with(
    path: &Path,
    over: Over,
    mode: u32,
    put: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<bool, DiskError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(DiskError::NotPlain(path.to_owned()));
    };
    let dir = make_dir(
        parent,
        Leaf {
            mode: 0o755,
            owner: None,
        },
    )?
    .dir;
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}.tmp", std::process::id()));
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(mode);
    let mut open = rustix::fs::openat(&dir, &*temporary, flags, mode);
    if matches!(open, Err(Errno::EXIST)) {
        // Left by a gate of the same number that lost power half way.
        rustix::fs::unlinkat(&dir, &*temporary, AtFlags::empty()).map_err(DiskError::io("remove", path))?;
        open = rustix::fs::openat(&dir, &*temporary, flags, mode);
    }
    let mut file = File::from(open.map_err(DiskError::io("write", path))?);
    let rename = match over {
        Over::Replace => RenameFlags::empty(),
        Over::Keep => RenameFlags::NOREPLACE,
    };
    let result = put(&mut file)
        .and_then(|()| Ok(rustix::fs::fchmod(&file, mode)?))
        .and_then(|()| file.sync_all())
        .and_then(|()| Ok(rustix::fs::renameat_with(&dir, &*temporary, &dir, name, rename)?));
    match result {
        Ok(()) => {
            rustix::fs::fsync(&dir).map_err(DiskError::io("write", parent))?;
            Ok(true)
        }
        Err(source) => {
            // The reason is already known; a temporary file that stays behind changes nothing about it.
            let _ = rustix::fs::unlinkat(&dir, &*temporary, AtFlags::empty());
            if over == Over::Keep && source.kind() == io::ErrorKind::AlreadyExists {
                return Ok(false);
            }
            Err(DiskError::Io {
                what: "write",
                path: path.to_owned(),
                source,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("dagger-disk-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir(&dir).unwrap();
        dir.canonicalize().unwrap()
    }

    #[test]
    fn directories_are_made_once() {
        let dir = scratch("make");
        let leaf = Leaf {
            mode: 0o750,
            owner: None,
        };
        assert!(make_dir(&dir.join("a/b"), leaf).unwrap().new);
        assert!(
            !make_dir(
                &dir.join("a/b"),
                Leaf {
                    mode: 0o700,
                    owner: None
                }
            )
            .unwrap()
            .new
        );
        let mode = |path: &str| std::fs::metadata(dir.join(path)).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode("a"), mode("a/b")), (0o755, 0o750));
        assert!(open_dir(&dir.join("a/b/c")).unwrap().is_none());
        assert!(is_empty(open_dir(&dir.join("a/b")).unwrap().unwrap()).unwrap());
        assert!(!is_empty(open_dir(&dir.join("a")).unwrap().unwrap()).unwrap());
    }

    #[test]
    fn links_are_named_and_not_followed() {
        let dir = scratch("links");
        std::fs::create_dir(dir.join("real")).unwrap();
        symlink("real", dir.join("link")).unwrap();
        symlink("/nowhere", dir.join("dangling")).unwrap();
        std::fs::write(dir.join("file"), "").unwrap();
        let leaf = Leaf {
            mode: 0o750,
            owner: None,
        };
        for (path, says) in [
            ("link/x", "is a symbolic link to real"),
            ("link", "is a symbolic link to real"),
            ("dangling", "is a symbolic link to /nowhere"),
            ("file/x", "is not a directory"),
            ("real/../x", "not a plain absolute path"),
        ] {
            let error = make_dir(&dir.join(path), leaf).unwrap_err().to_string();
            assert!(error.contains(says), "{path}: {error}");
            assert!(open_dir(&dir.join(path)).is_err(), "{path}");
        }
        assert_eq!(std::fs::read_dir(dir.join("real")).unwrap().count(), 0);
    }

    #[test]
    fn only_plain_files_of_a_fair_size_are_read() {
        let dir = scratch("read");
        std::fs::write(dir.join("file"), "12345").unwrap();
        symlink("file", dir.join("link")).unwrap();
        symlink(".", dir.join("way")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, dir.join("pipe"), Mode::from_raw_mode(0o600)).unwrap();
        std::fs::create_dir(dir.join("dir")).unwrap();
        assert_eq!(read(&dir.join("file"), 5).unwrap().unwrap(), b"12345");
        assert_eq!(read(&dir.join("none"), 5).unwrap(), None);
        assert_eq!(read(&dir.join("none/file"), 5).unwrap(), None);
        for (name, limit, says) in [
            ("file", 4, "larger than 4 bytes"),
            ("link", 9, "is a symbolic link to file"),
            ("way/file", 9, "is a symbolic link to ."),
            ("pipe", 9, "is not a plain file"),
            ("dir", 9, "is not a plain file"),
        ] {
            let error = read(&dir.join(name), limit).unwrap_err().to_string();
            assert!(error.contains(says), "{name}: {error}");
        }
    }

    #[test]
    fn files_are_whole_and_readable_by_all() {
        let dir = scratch("write");
        let path = dir.join("new/file");
        assert!(write(&path, b"one", Over::Keep).unwrap());
        assert!(!write(&path, b"two", Over::Keep).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        assert!(write(&path, b"three", Over::Replace).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), b"three");
        let meta = std::fs::metadata(&path).unwrap();
        assert_eq!(meta.mode() & 0o7777, 0o644);
        assert_eq!(
            std::fs::read_dir(dir.join("new")).unwrap().count(),
            1,
            "no temporary file is left"
        );
    }

    #[test]
    fn a_link_in_the_place_of_the_file_is_replaced_not_followed() {
        let dir = scratch("write-link");
        std::fs::write(dir.join("victim"), "safe").unwrap();
        symlink("victim", dir.join("file")).unwrap();
        assert!(write(&dir.join("file"), b"new", Over::Replace).unwrap());
        assert_eq!(std::fs::read(dir.join("victim")).unwrap(), b"safe");
        assert_eq!(std::fs::read(dir.join("file")).unwrap(), b"new");
    }
}
