//! One file, link or pipe: kept when it is as it was, made when not.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode as Bits, OFlags};
use rustix::io::Errno;

use super::again::Again;
use super::content::Failure;
use super::entries::{Item, Leaf};
use super::error::TreeError;
use super::found::Found;
use super::links::Member;
use super::remove::{remove, spare_name};
use super::sides::Sides;
use super::stamp::{Kind, Look};
use super::walk::{Entry, Folder, Mode, Walk};
use super::{attributes, place};

/// A file as it was copied.
pub(super) struct Made {
    pub leaf: Leaf,
    /// The new file, open.
    pub file: OwnedFd,
}

impl<'a> Walk<'a> {
    /// Works on an entry that is no directory. The answer is what it is, when that is a directory after all.
    pub fn leaf(
        &self,
        folder: &Arc<Folder<'a>>,
        sides: &Sides<'a>,
        entry: &Entry<'a>,
        found: &mut Found<'a>,
    ) -> Result<Option<Kind>, TreeError> {
        if let Mode::Restore(_) = self.mode
            && let Some((leaf, look)) = self.untouched(folder, sides, entry)?
        {
            if look.links > 1
                && let Some(source) = self.look(folder, sides, &entry.name, found)?
            {
                group(folder, entry, source, Some(leaf), found);
            } else {
                found.keep(folder, entry, Item::Leaf(leaf));
            }
            return Ok(None);
        }
        if matches!(self.mode, Mode::Fresh) && entry.hint == Some(Kind::File) {
            // Opened at once: one call less for each of many files.
            return self.file(folder, sides, entry, None, found);
        }
        let Some(look) = self.look(folder, sides, &entry.name, found)? else {
            self.drop_known(folder, sides, entry, found)?;
            return Ok(None);
        };
        if look.mount && look.stamp.kind != Kind::Directory {
            found
                .report
                .mounts
                .note(&folder.place.path(self.from, Some(&entry.name)));
            self.drop_known(folder, sides, entry, found)?;
            return Ok(None);
        }
        let same = match (self.mode, entry.known_leaf()) {
            (Mode::Refresh(_), Some(leaf)) if leaf.settled && leaf.stamp == look.stamp => Some(*leaf),
            _ => None,
        };
        match (look.stamp.kind, same) {
            (Kind::Directory, _) => return Ok(Some(Kind::Directory)),
            (Kind::File, same) if look.links > 1 => group(folder, entry, look, same, found),
            (_, Some(leaf)) => found.keep(folder, entry, Item::Leaf(leaf)),
            (Kind::File, None) => return self.file(folder, sides, entry, Some(&look), found),
            (Kind::Symlink | Kind::Fifo, None) => self.unopened(folder, sides, entry, &look, found)?,
            (Kind::Socket | Kind::Device, None) => {
                found
                    .report
                    .left_out
                    .note(&folder.place.path(self.from, Some(&entry.name)));
                self.drop_known(folder, sides, entry, found)?;
            }
        }
        Ok(None)
    }

    /// The target's own file, when it is the one that was copied and nobody wrote to it since.
    fn untouched(
        &self,
        folder: &Folder<'a>,
        sides: &Sides<'a>,
        entry: &Entry<'a>,
    ) -> Result<Option<(Leaf, Look)>, TreeError> {
        let Some(leaf) = entry.known_leaf().filter(|leaf| leaf.settled) else {
            return Ok(None);
        };
        match Look::at(sides.to()?, &entry.name) {
            Ok(look) => Ok((look.stamp == leaf.stamp).then_some((*leaf, look))),
            Err(Errno::NOENT) => Ok(None),
            Err(other) => {
                let path = folder.place.path(self.to, Some(&entry.name));
                Err(TreeError::io("look at", &path)(other))
            }
        }
    }

    fn look(
        &self,
        folder: &Folder<'a>,
        sides: &Sides<'a>,
        name: &CStr,
        found: &mut Found<'a>,
    ) -> Result<Option<Look>, TreeError> {
        match Look::at(&sides.from, name) {
            Ok(look) => Ok(Some(look)),
            Err(Errno::NOENT) => {
                found
                    .report
                    .changed
                    .note(&folder.place.path(self.from, Some(name)));
                Ok(None)
            }
            Err(other) => Err(TreeError::io(
                "look at",
                &folder.place.path(self.from, Some(name)),
            )(other)),
        }
    }

    /// What a copy that is brought up to date has under a name that the source has no longer.
    fn drop_known(
        &self,
        folder: &Folder<'a>,
        sides: &Sides<'a>,
        entry: &Entry<'a>,
        found: &mut Found<'a>,
    ) -> Result<(), TreeError> {
        if matches!(self.mode, Mode::Refresh(_)) && entry.known.is_some() {
            let path = folder.place.path(self.to, Some(&entry.name));
            remove(sides.to()?, &entry.name, &path, self.progress)?;
            found.remove(folder, entry);
            folder.touch();
        }
        Ok(())
    }

    /// A file with one name, or, when `look` is none, whatever it turns out to be.
    fn file(
        &self,
        folder: &Arc<Folder<'a>>,
        sides: &Sides<'a>,
        entry: &Entry<'a>,
        look: Option<&Look>,
        found: &mut Found<'a>,
    ) -> Result<Option<Kind>, TreeError> {
        let Some((file, now)) = self.open_file(folder, sides, &entry.name, found)? else {
            self.drop_known(folder, sides, entry, found)?;
            return Ok(None);
        };
        if now.links > 1 && look.is_none() {
            group(folder, entry, now, None, found);
            return Ok(None);
        }
        let made = self.make_file(folder, sides, entry, &file, &now, found)?;
        found.record(folder, entry, Item::Leaf(made.leaf));
        Ok(None)
    }

    /// The source's file, open; none, and noted, when it is no plain file any more.
    pub fn open_file(
        &self,
        folder: &Folder<'a>,
        sides: &Sides<'a>,
        name: &CStr,
        found: &mut Found<'a>,
    ) -> Result<Option<(OwnedFd, Look)>, TreeError> {
        let path = || folder.place.path(self.from, Some(name));
        let file = match place::read(&sides.from, name) {
            Ok(file) => file,
            Err(Errno::XDEV) => {
                found.report.mounts.note(&path());
                return Ok(None);
            }
            // Gone, or a link, a socket or a device by now.
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::NODEV) => {
                found.report.changed.note(&path());
                return Ok(None);
            }
            Err(other) => return Err(TreeError::io("open", &path())(other)),
        };
        let look = Look::of(&file).map_err(|errno| TreeError::io("look at", &path())(errno))?;
        if look.stamp.kind != Kind::File {
            found.report.changed.note(&path());
            return Ok(None);
        }
        Ok(Some((file, look)))
    }

    /// A file with all that the source has.
    pub fn make_file(
        &self,
        folder: &Folder<'a>,
        sides: &Sides<'a>,
        entry: &Entry<'a>,
        from: &OwnedFd,
        look: &Look,
        found: &mut Found<'a>,
    ) -> Result<Made, TreeError> {
        let path = || folder.place.path(self.to, Some(&entry.name));
        let (file, after) = if let Some((file, old)) = self.old_file(sides, entry)? {
            let after = self.fill(folder, entry, (from, look), (&file, Some(&old)), found)?;
            (file, after)
        } else {
            self.put(folder, sides, entry, |name| {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = rustix::fs::openat(sides.to()?, name, flags, Bits::RUSR | Bits::WUSR)
                    .map_err(|errno| TreeError::io("make", &path())(errno))?;
                let after = self.fill(folder, entry, (from, look), (&file, None), found)?;
                Ok((file, after))
            })?
        };
        found.report.bytes += look.stamp.size;
        let leaf = self.made(folder, &entry.name, look, &after, found);
        Ok(Made { leaf, file })
    }

    /// The file of a copy that is brought up to date, to be written anew in place: its directory stays as it is. None when
    /// there is none that has this name alone.
    fn old_file(&self, sides: &Sides<'a>, entry: &Entry<'a>) -> Result<Option<(OwnedFd, Look)>, TreeError> {
        let is_file = entry
            .known_leaf()
            .is_some_and(|leaf| leaf.stamp.kind == Kind::File);
        let (Mode::Refresh(_), true) = (self.mode, is_file) else {
            return Ok(None);
        };
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        // What cannot be opened or looked at is replaced.
        let file = rustix::fs::openat(sides.to()?, &*entry.name, flags, Bits::empty()).ok();
        Ok(file
            .and_then(|file| Look::of(&file).ok().map(|look| (file, look)))
            .filter(|(_, look)| look.stamp.kind == Kind::File && look.links == 1))
    }

    /// Content, owner, mode, attributes and times of the source; what the source looks like afterwards.
    fn fill(
        &self,
        folder: &Folder<'a>,
        entry: &Entry<'a>,
        (from, look): (&OwnedFd, &Look),
        (file, old): (&OwnedFd, Option<&Look>),
        found: &mut Found<'a>,
    ) -> Result<Look, TreeError> {
        let path = || folder.place.path(self.to, Some(&entry.name));
        let from_path = || folder.place.path(self.from, Some(&entry.name));
        let shared =
            self.means
                .copy(from, file, look, old, self.progress)
                .map_err(|failure| match failure {
                    Failure::Read(errno) => TreeError::io("read", &from_path())(errno),
                    Failure::Write(errno) => TreeError::io("write", &path())(errno),
                    Failure::Stopped => TreeError::Stopped,
                })?;
        found.report.shared += u64::from(shared);
        // Owner and mode as they are now: who writes to a file takes its set-user-ID bit, and what was written may be in the
        // copy.
        let after = Look::of(from).map_err(|errno| TreeError::io("look at", &from_path())(errno))?;
        let kept = attributes::give(from, file, &after, old)
            .map_err(|errno| TreeError::io("set owner, mode and times of", &path())(errno))?;
        if !kept {
            found.report.unkept.note(&path());
        }
        Ok(after)
    }

    /// A link or a pipe, which is never opened.
    fn unopened(
        &self,
        folder: &Folder<'a>,
        sides: &Sides<'a>,
        entry: &Entry<'a>,
        look: &Look,
        found: &mut Found<'a>,
    ) -> Result<(), TreeError> {
        let path = || folder.place.path(self.to, Some(&entry.name));
        let target = match look.stamp.kind {
            Kind::Symlink => match rustix::fs::readlinkat(&sides.from, &*entry.name, Vec::new()) {
                Ok(target) => Some(target),
                Err(Errno::NOENT | Errno::INVAL) => {
                    found
                        .report
                        .changed
                        .note(&folder.place.path(self.from, Some(&entry.name)));
                    return self.drop_known(folder, sides, entry, found);
                }
                Err(other) => {
                    let path = folder.place.path(self.from, Some(&entry.name));
                    return Err(TreeError::io("read", &path)(other));
                }
            },
            _ => None,
        };
        self.put(folder, sides, entry, |name| {
            let made = match &target {
                Some(target) => rustix::fs::symlinkat(&**target, sides.to()?, name),
                None => rustix::fs::mknodat(sides.to()?, name, FileType::Fifo, Bits::RUSR | Bits::WUSR, 0),
            };
            made.map_err(|errno| TreeError::io("make", &path())(errno))?;
            match attributes::give_unopened((&sides.from, &entry.name), (sides.to()?, name), look) {
                // In the second case the source has gone: it is noted below.
                Ok(true) | Err(Errno::NOENT) => {}
                Ok(false) => found.report.unkept.note(&path()),
                Err(other) => return Err(TreeError::io("set owner, mode and times of", &path())(other)),
            }
            Ok(())
        })?;
        let after = Look::at(&sides.from, &entry.name).unwrap_or(Look { links: 0, ..*look });
        let mut leaf = self.made(folder, &entry.name, look, &after, found);
        leaf.settled &= after.links > 0;
        found.record(folder, entry, Item::Leaf(leaf));
        Ok(())
    }

    /// What is known of something that was just made, and whether it changed meanwhile.
    fn made(
        &self,
        folder: &Folder<'a>,
        name: &CStr,
        look: &Look,
        after: &Look,
        found: &mut Found<'a>,
    ) -> Leaf {
        found.report.made += 1;
        self.progress.add_files(1);
        let still = look.stamp == after.stamp;
        if !still {
            found
                .report
                .changed
                .note(&folder.place.path(self.from, Some(name)));
        } else if matches!(self.mode, Mode::Refresh(_)) {
            found.again.push(Again::new(&folder.place, name, after.stamp));
        }
        Leaf {
            stamp: look.stamp,
            settled: still && look.stamp.changed.is_old(self.began),
            hash: None,
        }
    }

    /// Makes something under a name where something else may be. In a tree that others see it takes that place in one step.
    pub fn put<T>(
        &self,
        folder: &Folder<'a>,
        sides: &Sides<'a>,
        entry: &Entry<'a>,
        make: impl FnOnce(&CStr) -> Result<T, TreeError>,
    ) -> Result<T, TreeError> {
        let path = || folder.place.path(self.to, Some(&entry.name));
        folder.touch();
        match self.mode {
            Mode::Fresh => make(&entry.name),
            Mode::Refresh(_) => {
                if entry.known.is_some() {
                    remove(sides.to()?, &entry.name, &path(), self.progress)?;
                }
                make(&entry.name)
            }
            Mode::Restore(_) => {
                let spare = spare_name();
                let result = make(&spare).and_then(|done| {
                    self.replace(folder, sides, &spare, &entry.name)?;
                    Ok(done)
                });
                if result.is_err() {
                    // The reason is already known; what stays behind is removed by the next restore.
                    let _ = rustix::fs::unlinkat(sides.to()?, &*spare, AtFlags::empty());
                }
                result
            }
        }
    }

    /// Gives what was made the name that it is for.
    fn replace(
        &self,
        folder: &Folder<'a>,
        sides: &Sides<'a>,
        spare: &CStr,
        name: &CStr,
    ) -> Result<(), TreeError> {
        let path = || folder.place.path(self.to, Some(name));
        let to = sides.to()?;
        let mut result = rustix::fs::renameat(to, spare, to, name);
        if result == Err(Errno::ISDIR) {
            remove(to, name, &path(), self.progress)?;
            result = rustix::fs::renameat(to, spare, to, name);
        }
        result.map_err(|errno| TreeError::io("replace", &path())(errno))
    }
}

/// Puts a file aside until all its names are known.
fn group<'a>(
    folder: &Arc<Folder<'a>>,
    entry: &Entry<'a>,
    look: Look,
    same: Option<Leaf>,
    found: &mut Found<'a>,
) {
    let key = (look.device, look.stamp.inode);
    found.groups.entry(key).or_default().push(Member {
        folder: Arc::clone(folder),
        name: entry.name.clone(),
        known: entry.known,
        index: entry.index,
        look,
        same,
    });
}
