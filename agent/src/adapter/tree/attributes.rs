//! Owner, mode, extended attributes (POSIX ACLs and capabilities are among them) and times.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::stamp::{Kind, Look, Moment, Stamp};

/// The longest list of names, and the longest value, that the kernel gives (XATTR_LIST_MAX, XATTR_SIZE_MAX).
const XATTR_MAX: usize = 64 << 10;

/// Gives an open file or directory what another one has; `old` is what it has, where that is known. Says whether all
/// extended attributes could be kept: not every file system has all kinds.
pub fn give(from: impl AsFd, to: impl AsFd, look: &Look, old: Option<&Look>) -> rustix::io::Result<bool> {
    let stamp = &look.stamp;
    let owner = |stamp: &Stamp| (stamp.uid, stamp.gid);
    let given = old.is_none_or(|old| owner(&old.stamp) != owner(stamp));
    if given {
        rustix::fs::fchown(
            &to,
            Some(Uid::from_raw(stamp.uid)),
            Some(Gid::from_raw(stamp.gid)),
        )?;
    }
    // After the owner: giving away takes the set-user-ID bit, and a capability. So does writing.
    if given || stamp.mode & 0o6000 != 0 || old.is_none_or(|old| old.stamp.mode != stamp.mode) {
        rustix::fs::fchmod(&to, Mode::from_raw_mode(stamp.mode))?;
    }
    let kept = give_extended(&from, &to)?;
    rustix::fs::futimens(&to, &times(look))?;
    Ok(kept)
}

/// The same for a symbolic link or a pipe, which is not opened.
pub fn give_unopened(
    (from, from_name): (impl AsFd, &CStr),
    (to, to_name): (impl AsFd, &CStr),
    look: &Look,
) -> rustix::io::Result<bool> {
    let stamp = &look.stamp;
    let (uid, gid) = (Uid::from_raw(stamp.uid), Gid::from_raw(stamp.gid));
    rustix::fs::chownat(&to, to_name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if stamp.kind == Kind::Fifo {
        let pipe = hold(&to, to_name)?;
        rustix::fs::chmod(in_proc(&pipe), Mode::from_raw_mode(stamp.mode))?;
    }
    let kept = give_extended_unopened(from, from_name, &to, to_name)?;
    rustix::fs::utimensat(&to, to_name, &times(look), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(kept)
}

fn times(look: &Look) -> Timestamps {
    let spec = |moment: Moment| Timespec {
        tv_sec: moment.seconds,
        tv_nsec: moment.nanoseconds.into(),
    };
    Timestamps {
        last_access: spec(look.accessed),
        last_modification: spec(look.stamp.modified),
    }
}

fn give_extended(from: impl AsFd, to: impl AsFd) -> rustix::io::Result<bool> {
    let wanted = names(|buffer| rustix::fs::flistxattr(&from, buffer))?;
    // What came by itself, from the directory's default ACL for one.
    for name in names(|buffer| rustix::fs::flistxattr(&to, buffer))? {
        if !wanted.contains(&name) {
            forgiving(rustix::fs::fremovexattr(&to, &*name))?;
        }
    }
    let mut kept = true;
    for name in wanted {
        let mut value = Vec::with_capacity(XATTR_MAX);
        match rustix::fs::fgetxattr(&from, &*name, rustix::buffer::spare_capacity(&mut value)) {
            Ok(_) => {}
            // Taken away meanwhile.
            Err(Errno::NODATA) => continue,
            Err(other) => return Err(other),
        }
        kept &= forgiving(rustix::fs::fsetxattr(&to, &*name, &value, XattrFlags::empty()))?;
    }
    Ok(kept)
}

/// An entry itself, open for nothing but to be named.
fn hold(dir: impl AsFd, name: &CStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

/// The descriptor's name in /proc: it stands for the entry itself, also where that is a link (proc_pid_fd(5)).
fn in_proc(file: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

fn give_extended_unopened(
    from: impl AsFd,
    from_name: &CStr,
    to: impl AsFd,
    to_name: &CStr,
) -> rustix::io::Result<bool> {
    let source = hold(&from, from_name)?;
    let source_path = in_proc(&source);
    let wanted = names(|buffer| rustix::fs::listxattr(&*source_path, buffer))?;
    if wanted.is_empty() {
        return Ok(true);
    }
    let target = hold(&to, to_name)?;
    let target_path = in_proc(&target);
    let mut kept = true;
    for name in wanted {
        let mut value = Vec::with_capacity(XATTR_MAX);
        rustix::fs::getxattr(&*source_path, &*name, rustix::buffer::spare_capacity(&mut value))?;
        kept &= forgiving(rustix::fs::setxattr(
            &*target_path,
            &*name,
            &value,
            XattrFlags::empty(),
        ))?;
    }
    Ok(kept)
}

/// The names of a list. Most files have none, and a file system may know none at all.
fn names(
    mut list: impl FnMut(rustix::buffer::SpareCapacity<'_, u8>) -> rustix::io::Result<usize>,
) -> rustix::io::Result<Vec<CString>> {
    for room in [512, XATTR_MAX] {
        let mut bytes = Vec::with_capacity(room);
        match list(rustix::buffer::spare_capacity(&mut bytes)) {
            Ok(_) => {
                return Ok(bytes
                    .split(|byte| *byte == 0)
                    .filter(|name| !name.is_empty())
                    .filter_map(|name| CString::new(name).ok())
                    .collect());
            }
            Err(Errno::RANGE) => {}
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(other) => return Err(other),
        }
    }
    Err(Errno::RANGE)
}

/// Whether the file system could: another one may have no such attribute.
fn forgiving(result: rustix::io::Result<()>) -> rustix::io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::NODATA) => Ok(false),
        Err(other) => Err(other),
    }
}
