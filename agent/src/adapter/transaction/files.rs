//! The calls that a transaction's own files are made of, and the real disk behind them.
//!
//! Names are relative to one directory. What was written is certain only after [`Files::sync`]; that a name is there, or
//! gone, only after [`Files::sync_dir`] of its directory. The callers know that, and a disk in the tests holds them to it.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::adapter::disk::{self, DiskError, Leaf};

/// The largest file that is read: a log has some dozens of lines.
const MOST: u64 = 4 << 20;

/// A directory with files in it.
pub trait Files {
    /// The content; none when there is no such file.
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>>;
    /// Makes the file, which is not there, with this content.
    fn create(&mut self, name: &str, content: &[u8]) -> io::Result<()>;
    /// Adds to the end of the file.
    fn append(&mut self, name: &str, content: &[u8]) -> io::Result<()>;
    /// Keeps room for so many bytes more. Where the file system cannot, there is none.
    fn reserve(&mut self, name: &str, bytes: u64) -> io::Result<()>;
    /// The content is on disk when this returns.
    #[track_caller]
    fn sync(&mut self, name: &str) -> io::Result<()>;
    /// Makes the directory, 0700; one that is there stays.
    fn make_dir(&mut self, name: &str) -> io::Result<()>;
    /// The names in the directory are on disk when this returns.
    #[track_caller]
    fn sync_dir(&mut self, name: &str) -> io::Result<()>;
    /// Gives the file another name, in the same directory, in the place of what has it.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
    /// Gives the file a second name; one that is taken stays as it is.
    fn link(&mut self, from: &str, to: &str) -> io::Result<()>;
    /// Takes the name away; one that is not there is no error.
    fn remove(&mut self, name: &str) -> io::Result<()>;
}

/// The real disk: everything is reached from one open directory, and neither a symbolic link nor `..` leads out of it
/// (openat2(2), RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS).
#[derive(Debug)]
pub struct Below {
    dir: OwnedFd,
    path: PathBuf,
}

impl Below {
    /// Opens `/var/lib/dagger` below a root (an absolute, plain path), with the directories of transactions in it.
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        for (name, mode) in [
            (super::TRANSACTIONS, 0o700),
            (super::HOLD, 0o755),
            (super::OWNER, 0o755),
        ] {
            disk::make_dir(&path.join(name), Leaf { mode, owner: None })?;
        }
        let leaf = Leaf {
            mode: 0o755,
            owner: None,
        };
        Ok(Self {
            dir: disk::make_dir(path, leaf)?.dir,
            path: path.to_owned(),
        })
    }

    /// Where a name lies, for people.
    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn at(&self, name: &str, flags: OFlags, mode: u32) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let mode = Mode::from_raw_mode(mode);
        rustix::fs::openat2(&self.dir, name, flags | OFlags::CLOEXEC, mode, resolve)
            .map_err(|errno| self.named(name, errno))
    }

    fn named(&self, name: &str, errno: Errno) -> io::Error {
        let error = io::Error::from(errno);
        let (path, advice) = (self.path(name), disk::advice(&error));
        io::Error::new(error.kind(), format!("{}: {error}{advice}", path.display()))
    }

    /// The open directory that a name lies in, and the last part of the name.
    fn parent<'a>(&self, name: &'a str) -> io::Result<(OwnedFd, &'a str)> {
        let (dir, last) = name.rsplit_once('/').unwrap_or((".", name));
        Ok((self.at(dir, OFlags::DIRECTORY | OFlags::RDONLY, 0)?, last))
    }
}

impl Files for Below {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        // Without NONBLOCK a pipe in the place of the file would be waited for.
        let file = match self.at(name, OFlags::RDONLY | OFlags::NONBLOCK, 0) {
            Ok(file) => File::from(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut content = Vec::new();
        file.take(MOST + 1).read_to_end(&mut content)?;
        if u64::try_from(content.len()).is_ok_and(|length| length > MOST) {
            return Err(io::Error::other(format!(
                "{} is larger than {MOST} bytes",
                self.path(name).display()
            )));
        }
        Ok(Some(content))
    }

    fn create(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
        File::from(self.at(name, flags, 0o644)?).write_all(content)
    }

    fn append(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        File::from(self.at(name, OFlags::WRONLY | OFlags::APPEND, 0)?).write_all(content)
    }

    fn reserve(&mut self, name: &str, bytes: u64) -> io::Result<()> {
        let file = self.at(name, OFlags::WRONLY, 0)?;
        let size = u64::try_from(rustix::fs::fstat(&file)?.st_size).unwrap_or(0);
        match rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, size, bytes) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            Err(errno) => Err(self.named(name, errno)),
        }
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        let file = self.at(name, OFlags::RDONLY, 0)?;
        rustix::fs::fsync(&file).map_err(|errno| self.named(name, errno))
    }

    fn make_dir(&mut self, name: &str) -> io::Result<()> {
        let (dir, last) = self.parent(name)?;
        match rustix::fs::mkdirat(&dir, last, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(self.named(name, errno)),
        }
    }

    fn sync_dir(&mut self, name: &str) -> io::Result<()> {
        let dir = self.at(name, OFlags::DIRECTORY | OFlags::RDONLY, 0)?;
        rustix::fs::fsync(&dir).map_err(|errno| self.named(name, errno))
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let ((old, from_last), (new, to_last)) = (self.parent(from)?, self.parent(to)?);
        rustix::fs::renameat(&old, from_last, &new, to_last).map_err(|errno| self.named(from, errno))
    }

    fn link(&mut self, from: &str, to: &str) -> io::Result<()> {
        let ((old, from_last), (new, to_last)) = (self.parent(from)?, self.parent(to)?);
        match rustix::fs::linkat(old.as_fd(), from_last, &new, to_last, AtFlags::empty()) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(self.named(to, errno)),
        }
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        let (dir, last) = self.parent(name)?;
        match rustix::fs::unlinkat(&dir, last, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.named(name, errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("dagger-files-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir(&dir).unwrap();
        dir.canonicalize().unwrap()
    }

    #[test]
    fn files_come_go_and_have_two_names() {
        let dir = scratch("names");
        let mut files = Below::open(&dir).unwrap();
        files.make_dir("transactions/a").unwrap();
        files.make_dir("transactions/a").unwrap();
        assert_eq!(files.read("transactions/a/log").unwrap(), None);
        files.create("transactions/a/log", b"one").unwrap();
        assert!(files.create("transactions/a/log", b"two").is_err());
        files.reserve("transactions/a/log", 4096).unwrap();
        files.append("transactions/a/log", b" more").unwrap();
        files.sync("transactions/a/log").unwrap();
        files.sync_dir("transactions/a").unwrap();
        files.link("transactions/a/log", "hold/a").unwrap();
        files.link("transactions/a/log", "hold/a").unwrap();
        files
            .rename("transactions/a/log", "transactions/a/1.log")
            .unwrap();
        files.remove("transactions/a/1.log").unwrap();
        files.remove("transactions/a/1.log").unwrap();
        assert_eq!(files.read("hold/a").unwrap().unwrap(), b"one more");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn no_name_leads_out() {
        let dir = scratch("out");
        let mut files = Below::open(&dir.join("state")).unwrap();
        std::fs::write(dir.join("victim"), "safe").unwrap();
        symlink("../..", dir.join("state/transactions/way")).unwrap();
        symlink("../../victim", dir.join("state/transactions/link")).unwrap();
        for name in ["transactions/way/victim", "transactions/link", "../victim"] {
            assert!(files.read(name).is_err(), "{name}");
            assert!(files.append(name, b"x").is_err(), "{name}");
        }
        assert!(files.create("transactions/way/new", b"x").is_err());
        assert!(files.remove("transactions/way/victim").is_err());
        assert_eq!(std::fs::read(dir.join("victim")).unwrap(), b"safe");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
