//! The walk through a tree: a task a directory, then the files with several names, then what directories themselves carry.

use std::borrow::Cow;
use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::Mode as Bits;
use rustix::io::Errno;

use super::again;
use super::content::Means;
use super::entries::{Item, Leaf};
use super::error::{Shown, TreeError};
use super::exclude::Exclude;
use super::found::{Found, Listing};
use super::links::Member;
use super::manifest::{self, Manifest};
use super::place::{self, DEPTH_MAX, Place, Tree};
use super::queue::Queue;
use super::remove::remove;
use super::sides::Sides;
use super::stamp::{Kind, Look, Moment};
use super::{Options, Progress, Report, attributes};

/// Entries of one directory that are one task.
pub(super) const BATCH: usize = 256;

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
    pub left_out: Vec<PathBuf>,
    threads: usize,
    /// When the walk began: what was changed later, or shortly before, may change again within the same tick.
    pub began: Moment,
    numbers: AtomicU32,
    found: Mutex<Found<'a>>,
}

/// A directory on the way.
pub(super) struct Folder<'a> {
    pub place: Arc<Place>,
    /// Its number in the new list.
    pub number: u32,
    /// What the list that is there says of it.
    pub known: Option<&'a manifest::Directory>,
    pub exclude: Exclude,
    /// The target is not what it should be, or something in it was made or removed: owner, mode and times are set again.
    touched: AtomicBool,
}

impl Folder<'_> {
    pub fn touch(&self) {
        self.touched.store(true, Ordering::Relaxed);
    }
}

/// A name in a directory of the source.
pub(super) struct Entry<'a> {
    pub name: Cow<'a, CStr>,
    pub hint: Option<Kind>,
    pub known: Option<&'a Item>,
    /// Its place in the list that is there, when that has all names of the directory and no others.
    pub index: Option<usize>,
}

impl<'a> Entry<'a> {
    /// What the list says of it, when it is no directory there.
    pub fn known_leaf(&self) -> Option<&'a Leaf> {
        match self.known {
            Some(Item::Leaf(leaf)) => Some(leaf),
            _ => None,
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
            began: Moment::now(),
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
                        self.forget(&folder, &entries, &mut found)?;
                    }
                }
            }
            self.keep(found);
            Ok(())
        })?;
        self.link_all()?;
        self.finish_all()?;
        let again = self.take_again();
        let (from, to, threads, progress) = (self.from, self.to, self.threads, self.progress);
        std::thread::scope(|scope| {
            let whole = scope.spawn(|| self.done());
            rustix::fs::syncfs(to.top()).map_err(TreeError::io("write out", to.path()))?;
            let changed = again::look(from, again, threads, progress)?;
            let (manifest, mut report) = whole
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            report.changed.add(changed);
            Ok((manifest, report))
        })
    }

    fn done(self) -> (Manifest, Report) {
        let found = self.found.into_inner().unwrap_or_else(PoisonError::into_inner);
        let count = self.numbers.into_inner().try_into().unwrap_or(usize::MAX);
        found.done(count, self.left_out)
    }

    pub fn threads(&self) -> usize {
        self.threads
    }

    /// What was found about files with several names, to be worked on.
    pub fn take_groups(&self) -> Vec<Vec<Member<'a>>> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut found.groups).into_values().collect()
    }

    fn take_again(&self) -> Vec<again::Again> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut found.again)
    }

    pub fn keep(&self, part: Found<'a>) {
        // Not one by one: all threads count in one place.
        self.progress.add_files(part.report.kept);
        self.found
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .add(part);
    }

    /// A directory on both sides; none when there is nothing to do in it.
    pub fn open(&self, folder: &Folder<'a>, found: &mut Found<'a>) -> Result<Option<Sides<'a>>, TreeError> {
        let to = match self.mode {
            Mode::Refresh(_) => None,
            Mode::Fresh | Mode::Restore(_) => match folder.place.open(self.to) {
                Ok(to) => Some(to),
                Err(Errno::XDEV) => {
                    found.report.mounts.note(&folder.place.path(self.to, None));
                    return Ok(None);
                }
                Err(other) => return Err(TreeError::io("open", &folder.place.path(self.to, None))(other)),
            },
        };
        match self.reach(folder) {
            Ok(from) => {
                let sides = Sides::new(from, &folder.place, self.to);
                return Ok(Some(match to {
                    Some(to) => sides.with(to),
                    None => sides,
                }));
            }
            Err(Errno::XDEV) => found.report.mounts.note(&folder.place.path(self.from, None)),
            // It went away, or is something else by now.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                found.report.changed.note(&folder.place.path(self.from, None));
            }
            Err(other) => return Err(TreeError::io("open", &folder.place.path(self.from, None))(other)),
        }
        Ok(None)
    }

    fn reach(&self, folder: &Folder<'a>) -> rustix::io::Result<OwnedFd> {
        match self.mode {
            Mode::Refresh(_) => folder.place.hold(self.from),
            Mode::Fresh | Mode::Restore(_) => folder.place.open(self.from),
        }
    }

    /// Removes what a copy that is brought up to date has in a directory that the source has no longer: a list never says
    /// less than what is there.
    pub fn forget(
        &self,
        folder: &Folder<'a>,
        entries: &[Entry<'a>],
        found: &mut Found<'a>,
    ) -> Result<(), TreeError> {
        let mut known = entries.iter().filter(|entry| entry.known.is_some()).peekable();
        if !matches!(self.mode, Mode::Refresh(_)) || known.peek().is_none() {
            return Ok(());
        }
        let to = folder.place.open(self.to);
        let to = to.map_err(|errno| TreeError::io("open", &folder.place.path(self.to, None))(errno))?;
        for entry in known {
            let path = folder.place.path(self.to, Some(&entry.name));
            remove(&to, &entry.name, &path, self.progress)?;
            found.remove(folder, entry);
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
            let known = folder.known.map(Self::listed).unwrap_or_default();
            return self.forget(folder, &known, found);
        };
        let path = || folder.place.path(self.from, None);
        let source = Look::of(&sides.from).map_err(|errno| TreeError::io("look at", &path())(errno))?;
        let (mut entries, same, base) = if let Some(known) = self.as_listed(folder, &source) {
            (Self::listed(known), true, Some(&known.entries))
        } else {
            let (entries, same) = self.list(folder, &sides, &source, found)?;
            (entries, same, None)
        };
        if !same {
            folder.touch();
        }
        let listing = Listing {
            number: folder.number,
            stamp: source.stamp,
            settled: source.stamp.changed.is_old(self.began),
            names: entries.len(),
            base,
        };
        found.list(folder, listing);
        while entries.len() > BATCH {
            let batch = entries.split_off(entries.len() - BATCH);
            queue.push(Task::Entries(Arc::clone(folder), batch));
        }
        self.entries(queue, folder, &sides, entries, found)
    }

    fn entries(
        &self,
        queue: &Queue<Task<'a>>,
        folder: &Arc<Folder<'a>>,
        sides: &Sides<'a>,
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
        sides: &Sides<'a>,
        entry: &Entry<'a>,
        found: &mut Found<'a>,
    ) -> Result<(), TreeError> {
        let path = || folder.place.path(self.to, Some(&entry.name));
        let place = folder.place.below(&entry.name);
        if place.depth() > DEPTH_MAX {
            return Err(TreeError::TooDeep(Shown::new(&place.path(self.from, None))));
        }
        let known = match (self.mode, entry.known) {
            (Mode::Refresh(manifest) | Mode::Restore(manifest), Some(Item::Directory(number))) => {
                manifest.directory(*number)
            }
            _ => None,
        };
        let mut new = false;
        let is_there = match self.mode {
            Mode::Fresh => false,
            Mode::Refresh(_) => known.is_some(),
            Mode::Restore(_) => match Look::at(sides.to()?, &entry.name) {
                Ok(look) => look.stamp.kind == Kind::Directory,
                Err(_) => false,
            },
        };
        if !is_there {
            if !matches!(self.mode, Mode::Fresh) {
                remove(sides.to()?, &entry.name, &path(), self.progress)?;
            }
            rustix::fs::mkdirat(sides.to()?, &*entry.name, Bits::RWXU)
                .map_err(|errno| TreeError::io("make", &path())(errno))?;
            folder.touch();
            new = true;
        }
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        found.record(folder, entry, Item::Directory(number));
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

    fn finish(&self, folder: &Folder<'a>, sides: &Sides<'a>, found: &mut Found<'a>) -> Result<(), TreeError> {
        let path = || folder.place.path(self.to, None);
        let look = Look::of(&sides.from).map_err(|errno| TreeError::io("look at", &path())(errno))?;
        // Attributes are those of something that is open (open(2), O_PATH).
        let open =
            |dir: &OwnedFd| place::reopened(dir).map_err(|errno| TreeError::io("open", &path())(errno));
        let (from, to) = (open(&sides.from)?, open(sides.to()?)?);
        let kept = attributes::give(from, to, &look, None)
            .map_err(|errno| TreeError::io("set owner, mode and times of", &path())(errno))?;
        if !kept {
            found.report.unkept.note(&path());
        }
        Ok(())
    }
}
