//! Removes a directory with all that is in it, with a few descriptors and little memory however deep it is: a directory
//! inside a directory is moved up before its turn comes.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, FileType, RenameFlags};
use rustix::io::Errno;

use super::Progress;
use super::error::TreeError;
use super::place::{self, Name};

/// Removes the entry of this name from an open directory, whatever it is; one that is not there is no error. No link is
/// followed, and what is mounted there stays and is an error. `path` is the entry's, for messages.
pub fn remove(dir: impl AsFd, name: &CStr, path: &Path, progress: &Progress) -> Result<(), TreeError> {
    match rustix::fs::unlinkat(&dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(other) => return Err(TreeError::io("remove", path)(other)),
    }
    let failed = |errno| TreeError::io("remove", path)(mounted(errno));
    let top = place::enter(&dir, name).map_err(failed)?;
    loop {
        progress.check()?;
        let entries = place::reopened(&top).and_then(place::list).map_err(failed)?;
        if entries.is_empty() {
            match rustix::fs::unlinkat(&dir, name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => return Ok(()),
                // Somebody put something into it.
                Err(Errno::NOTEMPTY) => continue,
                Err(other) => return Err(failed(other)),
            }
        }
        for (entry, hint) in entries {
            clear(&top, &entry, hint).map_err(failed)?;
        }
    }
}

/// A name that no other entry has: for what is on its way in or out. What a crash left of them is no part of any copy, so
/// the next restore removes it.
pub(super) fn spare_name() -> CString {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    CString::new(format!(".dagger-{}-{number}", std::process::id())).unwrap_or_default()
}

/// One entry of the top: gone, or, when it holds directories, empty but for what was put there meanwhile.
fn clear(top: &OwnedFd, name: &Name, hint: FileType) -> rustix::io::Result<()> {
    if hint != FileType::Directory {
        match rustix::fs::unlinkat(top, &**name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR) => {}
            Err(other) => return Err(other),
        }
    }
    let dir = match place::enter(top, &**name) {
        Ok(dir) => dir,
        // It is something else by now: the next round sees it.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
        Err(other) => return Err(other),
    };
    for (entry, hint) in place::list(&dir)? {
        let flags = if hint == FileType::Directory {
            AtFlags::REMOVEDIR
        } else {
            AtFlags::empty()
        };
        match rustix::fs::unlinkat(&dir, &*entry, flags) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(Errno::NOTEMPTY | Errno::ISDIR) => move_up(&dir, &entry, top)?,
            Err(other) => return Err(other),
        }
    }
    match rustix::fs::unlinkat(top, &**name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::NOTDIR) => Ok(()),
        Err(other) => Err(other),
    }
}

fn move_up(dir: &OwnedFd, entry: &Name, top: &OwnedFd) -> rustix::io::Result<()> {
    loop {
        match rustix::fs::renameat_with(dir, &**entry, top, &*spare_name(), RenameFlags::NOREPLACE) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::EXIST) => {}
            Err(other) => return Err(other),
        }
    }
}

/// openat2(2) has its own word for "something is mounted there".
pub(super) fn mounted(errno: Errno) -> Errno {
    if errno == Errno::XDEV { Errno::BUSY } else { errno }
}
