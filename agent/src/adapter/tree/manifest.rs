//! What a copy holds, and what each file's source looked like when it was copied.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::entries::{Entries, Item, Leaf};
use super::stamp::{Kind, Stamp};

/// A list of everything in a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// What was left out, relative to the top.
    pub left_out: Vec<PathBuf>,
    /// Directories by number; the top is 0.
    pub(super) directories: Vec<Directory>,
}

/// One directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Directory {
    /// What its source looked like; none when it went away meanwhile.
    pub stamp: Option<Stamp>,
    /// A directory with that stamp has these names and no others: nothing in it was left out, and nothing was made or
    /// removed while it was listed or shortly before.
    pub settled: bool,
    /// In the order of their names.
    pub entries: Arc<Entries>,
}

impl Manifest {
    pub(super) fn directory(&self, number: u32) -> Option<&Directory> {
        self.directories.get(usize::try_from(number).ok()?)
    }

    /// Entries that are no directories.
    pub fn files(&self) -> u64 {
        self.leaves().count().try_into().unwrap_or(u64::MAX)
    }

    /// Bytes of all files, holes counted; a file with several names counts once.
    pub fn bytes(&self) -> u64 {
        let mut seen = HashSet::new();
        self.leaves()
            .filter(|leaf| leaf.stamp.kind == Kind::File && seen.insert(leaf.stamp.inode))
            .fold(0, |sum, leaf| sum.saturating_add(leaf.stamp.size))
    }

    /// Whether every content has its checksum.
    pub fn is_sealed(&self) -> bool {
        self.leaves()
            .all(|leaf| leaf.hash.is_some() || leaf.stamp.kind == Kind::Fifo)
    }

    fn leaves(&self) -> impl Iterator<Item = &Leaf> {
        let entries = self
            .directories
            .iter()
            .flat_map(|directory| directory.entries.iter());
        entries.filter_map(|(_, item)| match item {
            Item::Leaf(leaf) => Some(leaf),
            Item::Directory(_) => None,
        })
    }
}
