//! Checksums of a copy: written once, compared whenever somebody wants to know that it is still good.

use std::ffi::CStr;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;

use super::entries::{Hash, Item, Leaf};
use super::error::{Shown, TreeError};
use super::manifest::Manifest;
use super::place::{self, Place, Tree};
use super::queue::Queue;
use super::stamp::{Kind, Look};
use super::{Noted, Options, Progress};

/// Bytes that are read at once.
const BUFFER: usize = 256 << 10;

/// In what way an entry of a copy is not what its list says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// It is not there, or something else is.
    Missing,
    /// Nobody listed it.
    Strange,
    /// Size, owner, mode or time differ.
    Attributes,
    /// The content differs.
    Content,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "is not there",
            Self::Strange => "was not part of it",
            Self::Attributes => "has another size, owner, mode or time",
            Self::Content => "has another content",
        })
    }
}

/// What a look through a copy came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Files, links and pipes that were looked at.
    pub files: u64,
    /// Of these, files and links whose list has no checksum: the content was read and could not be compared.
    pub unsealed: u64,
    /// How many entries are damaged.
    pub damaged: u64,
    /// The first of them, at most [`Noted::MOST`].
    pub first: Vec<(Shown, Damage)>,
}

impl Verdict {
    /// The copy is what its list says.
    pub fn is_good(&self) -> bool {
        self.damaged == 0
    }

    /// What is wrong with it, in words; none when nothing is.
    pub fn damage(&self) -> Option<String> {
        let (path, damage) = self.first.first()?;
        Some(match self.damaged {
            1 => format!("{path} {damage}"),
            more => format!("{path} {damage}, and {} more are damaged", more - 1),
        })
    }

    fn note(&mut self, path: &std::path::Path, damage: Damage) {
        self.damaged += 1;
        if self.first.len() < Noted::MOST {
            self.first.push((Shown::new(path), damage));
        }
    }

    fn add(&mut self, other: Self) {
        self.files += other.files;
        self.unsealed += other.unsealed;
        self.damaged += other.damaged;
        let room = Noted::MOST.saturating_sub(self.first.len());
        self.first.extend(other.first.into_iter().take(room));
    }
}

/// Adds the checksum of each content that has none yet. It reads the whole copy, so it is for when nobody waits.
pub fn seal(
    copy: &Tree,
    manifest: &mut Manifest,
    options: &Options,
    progress: &Progress,
) -> Result<Verdict, TreeError> {
    let (verdict, hashes) = read(copy, manifest, options, progress, false)?;
    for (number, index, hash) in hashes {
        let directory = usize::try_from(number)
            .ok()
            .and_then(|at| manifest.directories.get_mut(at));
        let item = directory.and_then(|directory| Arc::make_mut(&mut directory.entries).item_mut(index));
        if let Some(Item::Leaf(leaf)) = item {
            leaf.hash = Some(hash);
        }
    }
    Ok(verdict)
}

/// Reads the whole copy and compares it with its list. Damage is a verdict; an error is that it could not be found out.
pub fn verify(
    copy: &Tree,
    manifest: &Manifest,
    options: &Options,
    progress: &Progress,
) -> Result<Verdict, TreeError> {
    read(copy, manifest, options, progress, true).map(|(verdict, _)| verdict)
}

/// A directory of the list, and the index of an entry in it, with its checksum.
type Sum = (u32, usize, Hash);

struct Check<'a> {
    copy: &'a Tree,
    manifest: &'a Manifest,
    progress: &'a Progress,
    again: bool,
    found: Mutex<(Verdict, Vec<Sum>)>,
}

fn read(
    copy: &Tree,
    manifest: &Manifest,
    options: &Options,
    progress: &Progress,
    again: bool,
) -> Result<(Verdict, Vec<Sum>), TreeError> {
    let check = Check {
        copy,
        manifest,
        progress,
        again,
        found: Mutex::default(),
    };
    Queue::run(
        vec![(Place::top(), 0)],
        options.threads(),
        |queue, (place, number)| check.directory(queue, &place, number),
    )?;
    Ok(check.found.into_inner().unwrap_or_else(PoisonError::into_inner))
}

impl Check<'_> {
    fn directory(
        &self,
        queue: &Queue<(Arc<Place>, u32)>,
        place: &Arc<Place>,
        number: u32,
    ) -> Result<(), TreeError> {
        let (mut verdict, mut sums) = (Verdict::default(), Vec::new());
        let path = || place.path(self.copy, None);
        let dir = match place.open(self.copy) {
            Ok(dir) => dir,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                verdict.note(&path(), Damage::Missing);
                self.keep(verdict, sums);
                return Ok(());
            }
            Err(other) => return Err(TreeError::io("open", &path())(other)),
        };
        let Some(listed) = self.manifest.directory(number) else {
            return Ok(());
        };
        for (name, _) in place::list(&dir).map_err(|errno| TreeError::io("list", &path())(errno))? {
            if listed.entries.find(&name).is_none() {
                verdict.note(&place.path(self.copy, Some(&name)), Damage::Strange);
            }
        }
        for (index, (name, item)) in listed.entries.iter().enumerate() {
            self.progress.check()?;
            match item {
                Item::Directory(number) => queue.push((place.below(name), *number)),
                Item::Leaf(leaf) => {
                    let path = || place.path(self.copy, Some(name));
                    let result = self.leaf(&dir, name, leaf);
                    match result.map_err(|failed| failed.told(&path()))? {
                        Ok(Some(hash)) if leaf.hash.is_none() => sums.push((number, index, hash)),
                        Ok(_) => {}
                        Err(damage) => verdict.note(&path(), damage),
                    }
                    verdict.files += 1;
                    verdict.unsealed += u64::from(leaf.hash.is_none() && leaf.stamp.kind != Kind::Fifo);
                    self.progress.add_files(1);
                }
            }
        }
        self.keep(verdict, sums);
        Ok(())
    }

    fn keep(&self, verdict: Verdict, sums: Vec<Sum>) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.0.add(verdict);
        found.1.extend(sums);
    }

    /// The checksum of an entry, or what is wrong with it; none for a pipe, and for what has one that is not asked for.
    fn leaf(&self, dir: &OwnedFd, name: &CStr, leaf: &Leaf) -> Result<Result<Option<Hash>, Damage>, Failed> {
        let look = match Look::at(dir, name) {
            Ok(look) if look.stamp.kind == leaf.stamp.kind => look,
            Ok(_) | Err(Errno::NOENT) => return Ok(Err(Damage::Missing)),
            Err(other) => return Err(Failed::System("look at", other)),
        };
        if leaf.settled && !look.stamp.is_alike(&leaf.stamp) {
            return Ok(Err(Damage::Attributes));
        }
        if leaf.hash.is_some() && !self.again {
            return Ok(Ok(None));
        }
        let hash = match leaf.stamp.kind {
            Kind::File => {
                let file = place::read(dir, name).map_err(|errno| Failed::System("open", errno))?;
                self.sum(&file)?
            }
            Kind::Symlink => {
                let target = rustix::fs::readlinkat(dir, name, Vec::new())
                    .map_err(|errno| Failed::System("read", errno))?;
                *blake3::hash(target.to_bytes()).as_bytes()
            }
            _ => return Ok(Ok(None)),
        };
        match leaf.hash {
            Some(wanted) if wanted != hash => Ok(Err(Damage::Content)),
            _ => Ok(Ok(Some(hash))),
        }
    }

    fn sum(&self, file: impl AsFd) -> Result<Hash, Failed> {
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; BUFFER];
        loop {
            self.progress.check().map_err(|_| Failed::Stopped)?;
            match rustix::io::read(&file, buffer.as_mut_slice()) {
                Ok(0) => return Ok(*hasher.finalize().as_bytes()),
                Ok(read) => {
                    hasher.update(buffer.get(..read).unwrap_or_default());
                    self.progress.add_bytes(u64::try_from(read).unwrap_or_default());
                }
                Err(Errno::INTR) => {}
                Err(other) => return Err(Failed::System("read", other)),
            }
        }
    }
}

/// Why something could not be found out, before it has a path.
enum Failed {
    System(&'static str, Errno),
    Stopped,
}

impl Failed {
    fn told(self, path: &std::path::Path) -> TreeError {
        match self {
            Self::System(what, errno) => TreeError::io(what, path)(errno),
            Self::Stopped => TreeError::Stopped,
        }
    }
}
