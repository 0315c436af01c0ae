//! The walk through a tree: a task a directory, then the files with several names, then what directories themselves carry.

use std::collections::HashMap;
use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::Mode as Bits;
use rustix::io::Errno;

use super::content::Means;
use super::error::{Shown, TreeError};
use super::exclude::Exclude;
use super::links::Member;
use super::manifest::{self, Item, Leaf, Manifest, Record};
use super::place::{self, DEPTH_MAX, Name, Place, Tree};
use super::queue::Queue;
use super::remove::remove;
use super::stamp::{Kind, Look, Stamp};
use super::{Options, Progress, Report, attributes};

/// Entries of one directory that are one task.
const BATCH: usize = 256;

/// What is known of the target before the walk.
#[derive(Debug, Clone, Copy)]
pub(super) enum Mode<'a> {
    /// It is empty.
    Fresh,
    /// It is what this list says.
    Refresh(&'a Manifest),
    /// It is what it is; the source is a copy with this list.
    Restore(&'a Manifest),
}

/// One walk.
pub(super) struct Walk<'a> {
    pub from: &'a Tree,
    pub to: &'a Tree,
    pub mode: Mode<'a>,
    pub means: Means,
    pub progress: &'a Progress,
    exclude: Exclude,
    left_out: Vec<PathBuf>,
    threads: usize,
    numbers: AtomicU32,
    found: Mutex<Found<'a>>,
}

/// A directory on the way.
pub(super) struct Folder<'a> {
    pub place: Arc<Place>,
    /// Its number in the new list.
    pub number: u32,
    /// What the list that is there says of it.
    known: Option<&'a manifest::Directory>,
    exclude: Exclude,
    /// The target is not what it should be, or something in it was made or removed: owner, mode and times are set again.
    touched: AtomicBool,
}

impl Folder<'_> {
    pub fn touch(&self) {
        self.touched.store(true, Ordering::Relaxed);
    }
}

/// A directory open on both sides.
pub(super) struct Sides {
    pub from: OwnedFd,
    pub to: OwnedFd,
}

/// A name in a directory of the source.
pub(super) struct Entry<'a> {
    pub name: Name,
    pub hint: Option<Kind>,
    pub known: Option<&'a Record>,
}

impl Entry<'_> {
    /// What the list says of it, when it is no directory there.
    pub fn known_leaf(&self) -> Option<&Leaf> {
        match self.known.map(|record| &record.item) {
            Some(Item::Leaf(leaf)) => Some(leaf),
            _ => None,
        }
    }
}

/// What tasks find out.
#[derive(Default)]
pub(super) struct Found<'a> {
    records: Vec<(u32, Vec<Record>)>,
    stamps: Vec<(u32, Stamp)>,
    folders: Vec<Arc<Folder<'a>>>,
    pub groups: HashMap<((u32, u32), u64), Vec<Member<'a>>>,
    pub report: Report,
}

impl Found<'_> {
    pub fn record(&mut self, folder: &Folder<'_>, name: &CStr, item: Item) {
        let record = Record {
            name: name.into(),
            item,
        };
        match self.records.last_mut() {
            Some((number, records)) if *number == folder.number => records.push(record),
            _ => self.records.push((folder.number, vec![record])),
        }
    }
}

enum Task<'a> {
    Folder(Arc<Folder<'a>>),
    Entries(Arc<Folder<'a>>, Vec<Entry<'a>>),
}

impl<'a> Walk<'a> {
    pub fn new(
        from: &'a Tree,
        to: &'a Tree,
        mode: Mode<'a>,
        options: &Options,
        progress: &'a Progress,
    ) -> Self {
        Self {
            from,
            to,
            mode,
            means: Means::new(options.share),
            progress,
            exclude: Exclude::new(&options.leave_out),
            left_out: options.leave_out.clone(),
            threads: options.threads(),
            numbers: AtomicU32::new(1),
            found: Mutex::default(),
        }
    }

    pub fn run(self) -> Result<(Manifest, Report), TreeError> {
        if !matches!(self.mode, Mode::Restore(_)) {
            // Pages that are dirty already can be written to through a mapping without a new time.
            rustix::fs::syncfs(self.from.top()).map_err(TreeError::io("write out", self.from.path()))?;
        }
        let top = Folder {
            place: Place::top(),
            number: 0,
            known: match self.mode {
                Mode::Fresh => None,
                Mode::Refresh(manifest) | Mode::Restore(manifest) => manifest.directory(0),
            },
            exclude: self.exclude.clone(),
            touched: AtomicBool::new(false),
        };
        Queue::run(vec![Task::Folder(Arc::new(top))], self.threads, |queue, task| {
            let mut found = Found::default();
            match task {
                Task::Folder(folder) => self.visit(queue, &folder, &mut found)?,
                Task::Entries(folder, entries) => {
                    if let Some(sides) = self.open(&folder, &mut found)? {
                        self.entries(queue, &folder, &sides, entries, &mut found)?;
                    } else {
                        let known = entries.iter().filter(|entry| entry.known.is_some());
                        let names: Vec<&CStr> = known.map(|entry| &*entry.name).collect();
                        self.forget(&folder, &names, &mut found)?;
                    }
                }
            }
            self.keep(found);
            Ok(())
        })?;
        self.link_all()?;
        self.finish_all()?;
        rustix::fs::syncfs(self.to.top()).map_err(TreeError::io("write out", self.to.path()))?;
        Ok(self.done())
    }

    fn done(self) -> (Manifest, Report) {
        let found = self.found.into_inner().unwrap_or_else(PoisonError::into_inner);
        let count = self.numbers.into_inner().try_into().unwrap_or(usize::MAX);
        let mut directories = vec![manifest::Directory::default(); count];
        let mut at = |number: u32, change: &mut dyn FnMut(&mut manifest::Directory)| {
            let directory = usize::try_from(number)
                .ok()
                .and_then(|at| directories.get_mut(at));
            directory.map(change);
        };
        for (number, stamp) in found.stamps {
            at(number, &mut |directory| directory.stamp = Some(stamp));
        }
        for (number, mut records) in found.records {
            at(number, &mut |directory| directory.entries.append(&mut records));
        }
        for directory in &mut directories {
            directory.entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        }
        let manifest = Manifest {
            left_out: self.left_out,
            directories,
        };
        (manifest, found.report)
    }

    pub fn threads(&self) -> usize {
        self.threads
    }

    /// What was found about files with several names, to be worked on.
    pub fn take_groups(&self) -> Vec<Vec<Member<'a>>> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut found.groups).into_values().collect()
    }

    pub fn keep(&self, part: Found<'a>) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.records.extend(part.records);
        found.stamps.extend(part.stamps);
        found.folders.extend(part.folders);
        found.report.add(part.report);
        for (key, members) in part.groups {
            found.groups.entry(key).or_default().extend(members);
        }
    }

    /// A directory on both sides; none when there is nothing to do in it.
    pub fn open(&self, folder: &Folder<'a>, found: &mut Found<'a>) -> Result<Option<Sides>, TreeError> {
        let to = match folder.place.open(self.to) {
            Ok(to) => to,
            Err(Errno::XDEV) => {
                found.report.mounts.note(&folder.place.path(self.to, None));
                return Ok(None);
            }
            Err(other) => return Err(TreeError::io("open", &folder.place.path(self.to, None))(other)),
        };
        match folder.place.open(self.from) {
            Ok(from) => return Ok(Some(Sides { from, to })),
            Err(Errno::XDEV) => found.report.mounts.note(&folder.place.path(self.from, None)),
            // It went away, or is something else by now.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                found.report.changed.note(&folder.place.path(self.from, None));
            }
            Err(other) => return Err(TreeError::io("open", &folder.place.path(self.from, None))(other)),
        }
        Ok(None)
    }

    /// Removes what a copy that is brought up to date has in a directory that the source has no longer: a list never says
    /// less than what is there.
    pub fn forget(
        &self,
        folder: &Folder<'a>,
        names: &[&CStr],
        found: &mut Found<'a>,
    ) -> Result<(), TreeError> {
        let (Mode::Refresh(_), false) = (self.mode, names.is_empty()) else {
            return Ok(());
        };
        let to = folder.place.open(self.to);
        let to = to.map_err(|errno| TreeError::io("open", &folder.place.path(self.to, None))(errno))?;
        for name in names {
            remove(&to, name, &folder.place.path(self.to, Some(name)), self.progress)?;
            found.report.removed += 1;
        }
        folder.touch();
        Ok(())
    }

    fn visit(
        &self,
        queue: &Queue<Task<'a>>,
        folder: &Arc<Folder<'a>>,
        found: &mut Found<'a>,
    ) -> Result<(), TreeError> {
        self.progress.check()?;
        let Some(sides) = self.open(folder, found)? else {
            let known = folder
                .known
                .map(|known| known.entries.as_slice())
                .unwrap_or_default();
            let names: Vec<&CStr> = known.iter().map(|record| &*record.name).collect();
            return self.forget(folder, &names, found);
        };
        let from_path = || folder.place.path(self.from, None);
        let source = Look::of(&sides.from).map_err(|errno| TreeError::io("look at", &from_path())(errno))?;
        let names = place::list(&sides.from).map_err(|errno| TreeError::io("list", &from_path())(errno))?;
        let mut entries: Vec<Entry<'a>> = names
            .into_iter()
            .filter(|(name, _)| !folder.exclude.has(name.to_bytes()))
            .map(|(name, hint)| Entry {
                known: folder.known.and_then(|known| known.find(name.to_bytes())),
                hint: Kind::hinted(hint),
                name,
            })
            .collect();
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let same = match self.mode {
            Mode::Fresh => false,
            Mode::Refresh(_) => folder
                .known
                .is_some_and(|known| known.stamp == Some(source.stamp)),
            Mode::Restore(_) => {
                let path = || folder.place.path(self.to, None);
                let target = Look::of(&sides.to).map_err(|errno| TreeError::io("look at", &path())(errno))?;
                folder
                    .known
                    .is_some_and(|known| known.stamp == Some(target.stamp))
            }
        };
        if !same {
            folder.touch();
        }
        self.remove_others(folder, &sides.to, &entries, found)?;
        found.stamps.push((folder.number, source.stamp));
        found.folders.push(Arc::clone(folder));
        while entries.len() > BATCH {
            let batch = entries.split_off(entries.len() - BATCH);
            queue.push(Task::Entries(Arc::clone(folder), batch));
        }
        self.entries(queue, folder, &sides, entries, found)
    }

    /// Removes from the target what the source does not have.
    fn remove_others(
        &self,
        folder: &Folder<'a>,
        to: &OwnedFd,
        entries: &[Entry<'_>],
        found: &mut Found<'a>,
    ) -> Result<(), TreeError> {
        let others: Vec<Name> = match self.mode {
            Mode::Fresh => return Ok(()),
            Mode::Refresh(_) => {
                let known = folder
                    .known
                    .map(|known| known.entries.as_slice())
                    .unwrap_or_default();
                known.iter().map(|record| record.name.clone()).collect()
            }
            Mode::Restore(_) => {
                let path = || folder.place.path(self.to, None);
                let here = place::list(to).map_err(|errno| TreeError::io("list", &path())(errno))?;
                here.into_iter().map(|(name, _)| name).collect()
            }
        };
        for name in others {
            let wanted = entries.binary_search_by(|entry| entry.name.cmp(&name)).is_ok();
            if wanted || (matches!(self.mode, Mode::Restore(_)) && self.stays(folder, to, &name, found)?) {
                continue;
            }
            let path = folder.place.path(self.to, Some(&name));
            remove(to, &name, &path, self.progress)?;
            found.report.removed += 1;
            folder.touch();
        }
        Ok(())
    }

    /// Whether what a restore finds is none of its business.
    fn stays(
        &self,
        folder: &Folder<'_>,
        to: &OwnedFd,
        name: &Name,
        found: &mut Found<'a>,
    ) -> Result<bool, TreeError> {
        if folder.exclude.has(name.to_bytes()) || folder.exclude.inside(name.to_bytes()).is_some() {
            return Ok(true);
        }
        match Look::at(to, name) {
            Ok(look) if look.mount => {
                found.report.mounts.note(&folder.place.path(self.to, Some(name)));
                Ok(true)
            }
            Ok(look) => Ok(!look.stamp.kind.is_kept()),
            Err(Errno::NOENT) => Ok(true),
            Err(other) => Err(TreeError::io("look at", &folder.place.path(self.to, Some(name)))(
                other,
            )),
        }
    }

    fn entries(
        &self,
        queue: &Queue<Task<'a>>,
        folder: &Arc<Folder<'a>>,
        sides: &Sides,
        entries: Vec<Entry<'a>>,
        found: &mut Found<'a>,
    ) -> Result<(), TreeError> {
        for entry in entries {
            self.progress.check()?;
            if entry.hint == Some(Kind::Directory) {
                self.enter(queue, folder, sides, &entry, found)?;
            } else if self.leaf(folder, sides, &entry, found)? == Some(Kind::Directory) {
                // The file system did not say so, or it is one by now.
                self.enter(queue, folder, sides, &entry, found)?;
            }
        }
        Ok(())
    }

    /// Makes the directory of this name where it is missing, and adds it to the work.
    fn enter(
        &self,
        queue: &Queue<Task<'a>>,
        folder: &Arc<Folder<'a>>,
        sides: &Sides,
        entry: &Entry<'a>,
        found: &mut Found<'a>,
    ) -> Result<(), TreeError> {
        let path = || folder.place.path(self.to, Some(&entry.name));
        let place = folder.place.below(&entry.name);
        if place.depth() > DEPTH_MAX {
            return Err(TreeError::TooDeep(Shown::new(&place.path(self.from, None))));
        }
        let known = match (self.mode, entry.known.map(|record| record.item)) {
            (Mode::Refresh(manifest) | Mode::Restore(manifest), Some(Item::Directory(number))) => {
                manifest.directory(number)
            }
            _ => None,
        };
        let mut new = false;
        let is_there = match self.mode {
            Mode::Fresh => false,
            Mode::Refresh(_) => known.is_some(),
            Mode::Restore(_) => match Look::at(&sides.to, &entry.name) {
                Ok(look) => look.stamp.kind == Kind::Directory,
                Err(_) => false,
            },
        };
        if !is_there {
            if !matches!(self.mode, Mode::Fresh) {
                remove(&sides.to, &entry.name, &path(), self.progress)?;
            }
            rustix::fs::mkdirat(&sides.to, &*entry.name, Bits::RWXU)
                .map_err(|errno| TreeError::io("make", &path())(errno))?;
            folder.touch();
            new = true;
        }
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        found.record(folder, &entry.name, Item::Directory(number));
        queue.push(Task::Folder(Arc::new(Folder {
            place,
            number,
            known,
            exclude: folder
                .exclude
                .inside(entry.name.to_bytes())
                .cloned()
                .unwrap_or_default(),
            touched: AtomicBool::new(new),
        })));
        Ok(())
    }

    /// Owner, mode and times of directories, when nothing is made in them any more.
    fn finish_all(&self) -> Result<(), TreeError> {
        let folders = {
            let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut found.folders)
        };
        let touched: Vec<_> = folders
            .into_iter()
            .filter(|folder| folder.touched.load(Ordering::Relaxed))
            .collect();
        let tasks = touched.chunks(BATCH).map(<[_]>::to_vec).collect();
        Queue::run(tasks, self.threads, |_, folders: Vec<Arc<Folder<'a>>>| {
            let mut found = Found::default();
            for folder in folders {
                self.progress.check()?;
                if let Some(sides) = self.open(&folder, &mut found)? {
                    self.finish(&folder, &sides, &mut found)?;
                }
            }
            self.keep(found);
            Ok(())
        })
    }

    fn finish(&self, folder: &Folder<'a>, sides: &Sides, found: &mut Found<'a>) -> Result<(), TreeError> {
        let path = || folder.place.path(self.to, None);
        let look = Look::of(&sides.from).map_err(|errno| TreeError::io("look at", &path())(errno))?;
        let kept = attributes::give(&sides.from, &sides.to, &look)
            .map_err(|errno| TreeError::io("set owner, mode and times of", &path())(errno))?;
        if !kept {
            found.report.unkept.note(&path());
        }
        Ok(())
    }
}
