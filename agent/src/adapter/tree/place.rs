//! Directories of a tree, named by the way that leads to them and opened anew for each use: however deep and wide a tree
//! is, only a handful of descriptors is open, and what was swapped for a link meanwhile is not entered.

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::error::TreeError;
use crate::adapter::disk;

/// More levels than this are refused: opening by the way costs as much as the way is long, so time grows with the square.
pub const DEPTH_MAX: usize = 4096;

/// The longest piece of a way that one call takes (PATH_MAX, with its end).
const PIECE_MAX: usize = 4096;

/// Nothing that a path goes through is a link or leads out of the tree or to another mount (openat2(2)).
const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// A name within a directory.
pub type Name = Box<CStr>;

/// A tree: its top, open, and how it is called in messages.
#[derive(Debug)]
pub struct Tree {
    top: OwnedFd,
    path: PathBuf,
}

impl Tree {
    /// The directory of this absolute path, no part of which is a symbolic link.
    pub fn open(path: &Path) -> Result<Self, TreeError> {
        let top = disk::open_dir(path)?.ok_or_else(|| TreeError::Missing(path.to_owned()))?;
        Ok(Self::new(top, path))
    }

    /// A directory that is open already.
    pub fn new(top: OwnedFd, path: &Path) -> Self {
        Self {
            top,
            path: path.to_owned(),
        }
    }

    /// Its top.
    pub fn top(&self) -> BorrowedFd<'_> {
        self.top.as_fd()
    }

    /// How it is called.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A directory of a tree; its top has no parent.
#[derive(Debug)]
pub struct Place {
    parent: Option<Arc<Place>>,
    name: Name,
    depth: usize,
}

impl Place {
    /// The top.
    pub fn top() -> Arc<Self> {
        Arc::new(Self {
            parent: None,
            name: c".".into(),
            depth: 0,
        })
    }

    /// A directory in this one.
    pub fn below(self: &Arc<Self>, name: &CStr) -> Arc<Self> {
        Arc::new(Self {
            parent: Some(Arc::clone(self)),
            name: name.into(),
            depth: self.depth + 1,
        })
    }

    /// How many directories lead to it.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// It, in that tree, open for reading and for work on its entries.
    pub fn open(&self, tree: &Tree) -> rustix::io::Result<OwnedFd> {
        self.reach(tree, OFlags::RDONLY)
    }

    /// It, in that tree, open for work on its entries only: that is quicker, and all that most directories of a copy that is
    /// brought up to date are opened for (O_PATH, open(2)).
    pub fn hold(&self, tree: &Tree) -> rustix::io::Result<OwnedFd> {
        self.reach(tree, OFlags::PATH)
    }

    fn reach(&self, tree: &Tree, how: OFlags) -> rustix::io::Result<OwnedFd> {
        let mut names = self.names();
        let mut dir: Option<OwnedFd> = None;
        loop {
            let mut piece = Vec::new();
            while let Some(name) = names.last() {
                if piece.len() + 1 + name.len() >= PIECE_MAX {
                    break;
                }
                if !piece.is_empty() {
                    piece.push(b'/');
                }
                piece.extend_from_slice(name);
                names.pop();
            }
            if piece.is_empty() {
                piece.push(b'.');
            }
            let from = dir.as_ref().map_or(tree.top(), AsFd::as_fd);
            let next = enter_as(from, piece.as_slice(), how)?;
            if names.is_empty() {
                return Ok(next);
            }
            dir = Some(next);
        }
    }

    /// An entry of it, with the tree's own path, for messages.
    pub fn path(&self, tree: &Tree, entry: Option<&CStr>) -> PathBuf {
        let mut path = tree.path.clone();
        path.push(self.inside());
        if let Some(entry) = entry {
            path.push(OsStr::from_bytes(entry.to_bytes()));
        }
        path
    }

    /// The way from the top.
    pub fn inside(&self) -> PathBuf {
        self.names().into_iter().rev().map(OsStr::from_bytes).collect()
    }

    /// Its name and those of the directories that lead to it; the first one last.
    fn names(&self) -> Vec<&[u8]> {
        let mut names = Vec::with_capacity(self.depth);
        let mut place = self;
        while let Some(parent) = &place.parent {
            names.push(place.name.to_bytes());
            place = parent;
        }
        names
    }
}

/// One after the other: a deep tree is a long chain, and a chain that is dropped link within link ends on the stack.
impl Drop for Place {
    fn drop(&mut self) {
        let mut next = self.parent.take();
        while let Some(mut place) = next.and_then(Arc::into_inner) {
            next = place.parent.take();
        }
    }
}

/// A directory below an open one. Neither a link nor a mount is on the way to it.
pub fn enter(dir: impl AsFd, path: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    enter_as(dir, path, OFlags::RDONLY)
}

/// The same directory, open for reading from its beginning; it may have been held only.
pub fn reopened(dir: impl AsFd) -> rustix::io::Result<OwnedFd> {
    enter(dir, c".")
}

fn enter_as(dir: impl AsFd, path: impl rustix::path::Arg, how: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | how;
    rustix::fs::openat2(dir, path, flags, Mode::empty(), RESOLVE)
}

/// A plain file of an open directory, for reading. What is no plain file may be opened, too, and is never waited for: the
/// caller looks at what it got.
pub fn read(dir: impl AsFd, name: &CStr) -> rustix::io::Result<OwnedFd> {
    // Reading for a copy is no use of the file: its last access stays what it was.
    let flags = OFlags::RDONLY
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::NOCTTY
        | OFlags::NOATIME
        | OFlags::CLOEXEC;
    rustix::fs::openat2(dir, name, flags, Mode::empty(), RESOLVE)
}

/// All names of an open directory with what the file system says that they are.
pub fn list(dir: impl AsFd) -> rustix::io::Result<Vec<(Name, rustix::fs::FileType)>> {
    let mut buffer = Vec::with_capacity(32 * 1024);
    let mut entries = rustix::fs::RawDir::new(dir, buffer.spare_capacity_mut());
    let mut found = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            found.push((name.into(), entry.file_type()));
        }
    }
    Ok(found)
}

/// Whether these bytes can be the name of an entry.
pub fn is_name(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes != b"." && bytes != b".." && !bytes.contains(&b'/') && !bytes.contains(&0)
}
