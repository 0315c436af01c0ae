//! A disk that can lose power: what was not synced is there afterwards, or not, or half.

use std::collections::BTreeMap;
use std::io;
use std::panic::Location;

use dagger_agent::adapter::transaction::Files;

use crate::power::Power;

/// Where in the code something is synced.
pub type Site = &'static Location<'static>;

type Names = BTreeMap<String, usize>;

/// A change of names in one directory; each happens or does not.
#[derive(Debug, Clone)]
enum Change {
    Put(String, usize),
    Drop(String),
    /// The old name goes and the new one comes at once.
    Move(String, String, usize),
}

impl Change {
    fn apply(&self, names: &mut Names) {
        match self {
            Self::Put(name, file) => {
                names.insert(name.clone(), *file);
            }
            Self::Drop(name) => {
                names.remove(name);
            }
            Self::Move(from, to, file) => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Dir {
    now: Names,
    safe: Names,
    unsynced: Vec<Change>,
}

#[derive(Debug, Clone, Default)]
struct File {
    now: Vec<u8>,
    safe: Vec<u8>,
}

/// The disk, and the power it runs on.
#[derive(Debug, Clone)]
pub struct Disk {
    pub power: Power,
    files: Vec<File>,
    dirs: BTreeMap<String, Dir>,
    /// A sync that is taken out of the code, for once.
    pub without: Option<Site>,
    /// All that were passed.
    pub sites: Vec<Site>,
}

impl Disk {
    pub fn new(power: Power) -> Self {
        let mut disk = Self {
            power,
            files: Vec::new(),
            dirs: BTreeMap::new(),
            without: None,
            sites: Vec::new(),
        };
        for dir in ["transactions", "hold", "owner"] {
            disk.dirs.insert(dir.to_owned(), Dir::default());
        }
        disk
    }

    /// Puts something there that was there long before.
    pub fn settle(&mut self, name: &str, content: &[u8]) {
        let (dir, last) = split(name);
        self.files.push(File {
            now: content.to_vec(),
            safe: content.to_vec(),
        });
        let file = self.files.len() - 1;
        let dir = self.dirs.entry(dir.to_owned()).or_default();
        dir.now.insert(last.to_owned(), file);
        dir.safe.insert(last.to_owned(), file);
    }

    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// The power is gone. Of what was not synced the dice decide, each thing for itself: none of it, all of it, or any part.
    pub fn lose_power(&mut self) {
        let Self {
            power, files, dirs, ..
        } = self;
        for file in files {
            if file.now == file.safe {
                continue;
            }
            if file.now.starts_with(&file.safe) {
                // What was added may have arrived in part, or as room without content.
                let added = file.now.len() - file.safe.len();
                let arrived = power.part(added);
                let mut content = file.now[..file.safe.len() + arrived].to_vec();
                if arrived < added && power.yes() {
                    content.resize(content.len() + (added - arrived).min(7), 0);
                }
                file.safe = content;
            } else if power.yes() {
                file.safe.clone_from(&file.now);
            }
            file.now.clone_from(&file.safe);
        }
        for dir in dirs.values_mut() {
            for change in std::mem::take(&mut dir.unsynced) {
                if power.yes() {
                    change.apply(&mut dir.safe);
                }
            }
            dir.now.clone_from(&dir.safe);
        }
        // A directory is there when its name is.
        let made: Vec<String> = dirs.keys().filter(|name| name.contains('/')).cloned().collect();
        for name in made {
            let (parent, last) = split(&name);
            if !dirs.get(parent).is_some_and(|dir| dir.now.contains_key(last)) {
                dirs.remove(&name);
            }
        }
    }

    fn find(&self, name: &str) -> Option<usize> {
        let (dir, last) = split(name);
        self.dirs.get(dir)?.now.get(last).copied()
    }

    fn change(&mut self, dir: &str, change: Change) -> io::Result<()> {
        let dir = self.dirs.get_mut(dir).ok_or(io::ErrorKind::NotFound)?;
        change.apply(&mut dir.now);
        dir.unsynced.push(change);
        Ok(())
    }

    fn synced(&mut self, site: Site) -> bool {
        if !self.sites.contains(&site) {
            self.sites.push(site);
        }
        self.without != Some(site)
    }

    fn file(&mut self, name: &str) -> io::Result<&mut File> {
        let file = self.find(name).ok_or(io::ErrorKind::NotFound)?;
        self.files
            .get_mut(file)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn split(name: &str) -> (&str, &str) {
    name.rsplit_once('/').unwrap_or(("", name))
}

/// Each call is a point at which the power may go, before it and after it.
impl Files for Disk {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self
            .find(name)
            .and_then(|file| self.files.get(file))
            .map(|file| file.now.clone()))
    }

    fn create(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        self.power.point()?;
        if self.find(name).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.files.push(File {
            now: content.to_vec(),
            safe: Vec::new(),
        });
        let (dir, last) = split(name);
        let file = self.files.len() - 1;
        self.change(dir, Change::Put(last.to_owned(), file))?;
        self.power.point()
    }

    fn append(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        self.power.point()?;
        self.file(name)?.now.extend_from_slice(content);
        self.power.point()
    }

    fn reserve(&mut self, _: &str, _: u64) -> io::Result<()> {
        Ok(())
    }

    #[track_caller]
    fn sync(&mut self, name: &str) -> io::Result<()> {
        let site = Location::caller();
        self.power.point()?;
        if self.synced(site) {
            let file = self.file(name)?;
            file.safe.clone_from(&file.now);
        }
        self.power.point()
    }

    fn make_dir(&mut self, name: &str) -> io::Result<()> {
        self.power.point()?;
        if !self.dirs.contains_key(name) {
            let (parent, last) = split(name);
            self.change(parent, Change::Put(last.to_owned(), usize::MAX))?;
            self.dirs.insert(name.to_owned(), Dir::default());
        }
        self.power.point()
    }

    #[track_caller]
    fn sync_dir(&mut self, name: &str) -> io::Result<()> {
        let site = Location::caller();
        self.power.point()?;
        if self.synced(site) {
            let dir = self.dirs.get_mut(name).ok_or(io::ErrorKind::NotFound)?;
            dir.unsynced.clear();
            dir.safe.clone_from(&dir.now);
        }
        self.power.point()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.power.point()?;
        let file = self.find(from).ok_or(io::ErrorKind::NotFound)?;
        let ((dir, from), (_, to)) = (split(from), split(to));
        self.change(dir, Change::Move(from.to_owned(), to.to_owned(), file))?;
        self.power.point()
    }

    fn link(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.power.point()?;
        if self.find(to).is_none() {
            let file = self.find(from).ok_or(io::ErrorKind::NotFound)?;
            let (dir, last) = split(to);
            self.change(dir, Change::Put(last.to_owned(), file))?;
        }
        self.power.point()
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.power.point()?;
        if self.find(name).is_some() {
            let (dir, last) = split(name);
            self.change(dir, Change::Drop(last.to_owned()))?;
        }
        self.power.point()
    }
}
