//! What a walk finds out, task by task, and the list that is made of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use super::Report;
use super::again::Again;
use super::entries::{Entries, Item};
use super::links::Member;
use super::manifest::{Directory, Manifest};
use super::stamp::Stamp;
use super::walk::{BATCH, Entry, Folder};

/// What tasks find out.
#[derive(Default)]
pub(super) struct Found<'a> {
    entries: Vec<(u32, Entries)>,
    edits: Vec<Edit>,
    listings: Vec<Listing<'a>>,
    pub folders: Vec<Arc<Folder<'a>>>,
    pub groups: HashMap<((u32, u32), u64), Vec<Member<'a>>>,
    pub report: Report,
    /// What was copied anew into a copy that is brought up to date, and held still as long as that took.
    pub again: Vec<Again>,
}

/// A directory of the source as it was when it was listed.
pub(super) struct Listing<'a> {
    pub number: u32,
    pub stamp: Stamp,
    /// What was made or removed later gives it another stamp.
    pub settled: bool,
    /// How many names it had.
    pub names: usize,
    /// The list that was there has the same names: what is not said of one of them is as it says.
    pub base: Option<&'a Arc<Entries>>,
}

/// What is no longer as a directory's old list says.
struct Edit {
    directory: u32,
    /// The name's place in that list.
    index: usize,
    /// None when the copy does not have it any more.
    item: Option<Item>,
}

impl<'a> Found<'a> {
    /// What a name is.
    pub fn record(&mut self, folder: &Folder<'_>, entry: &Entry<'_>, item: Item) {
        if let Some(index) = entry.index {
            self.edit(folder, index, Some(item));
            return;
        }
        match self.entries.last_mut() {
            Some((number, entries)) if *number == folder.number => {
                entries.push(entry.name.to_bytes(), item);
            }
            _ => {
                let mut entries =
                    Entries::with_capacity(folder.known.map_or(0, |known| known.entries.len()).min(BATCH));
                entries.push(entry.name.to_bytes(), item);
                self.entries.push((folder.number, entries));
            }
        }
    }

    /// A name is what the list that was there says of it.
    pub fn keep(&mut self, folder: &Folder<'_>, entry: &Entry<'_>, item: Item) {
        self.report.kept += 1;
        if entry.index.is_none() {
            self.record(folder, entry, item);
        }
    }

    /// The copy does not have a name any more.
    pub fn remove(&mut self, folder: &Folder<'_>, entry: &Entry<'_>) {
        self.report.removed += 1;
        if let Some(index) = entry.index {
            self.edit(folder, index, None);
        }
    }

    fn edit(&mut self, folder: &Folder<'_>, index: usize, item: Option<Item>) {
        self.edits.push(Edit {
            directory: folder.number,
            index,
            item,
        });
    }

    /// A directory whose entries are worked on.
    pub fn list(&mut self, folder: &Arc<Folder<'a>>, listing: Listing<'a>) {
        self.folders.push(Arc::clone(folder));
        self.listings.push(listing);
    }

    /// With what another task found out.
    pub fn add(&mut self, other: Self) {
        self.entries.extend(other.entries);
        self.edits.extend(other.edits);
        self.listings.extend(other.listings);
        self.folders.extend(other.folders);
        self.report.add(other.report);
        self.again.extend(other.again);
        for (key, members) in other.groups {
            self.groups.entry(key).or_default().extend(members);
        }
    }

    /// The list of all, of so many directories.
    pub fn done(self, count: usize, left_out: Vec<PathBuf>) -> (Manifest, Report) {
        let mut directories = vec![Directory::default(); count];
        for (number, entries) in self.entries {
            if let Some(directory) = at(&mut directories, number) {
                Arc::make_mut(&mut directory.entries).append(entries);
            }
        }
        for listing in &self.listings {
            if let (Some(directory), Some(base)) = (at(&mut directories, listing.number), listing.base) {
                directory.entries = Arc::clone(base);
            }
        }
        apply(&mut directories, self.edits);
        for listing in self.listings {
            if let Some(directory) = at(&mut directories, listing.number) {
                directory.stamp = Some(listing.stamp);
                directory.settled = listing.settled && directory.entries.len() == listing.names;
                if listing.base.is_none() {
                    Arc::make_mut(&mut directory.entries).sort();
                }
            }
        }
        let manifest = Manifest {
            left_out,
            directories,
        };
        (manifest, self.report)
    }
}

fn apply(directories: &mut [Directory], edits: Vec<Edit>) {
    let mut removed: BTreeMap<u32, BTreeSet<usize>> = BTreeMap::new();
    for edit in edits {
        match edit.item {
            None => _ = removed.entry(edit.directory).or_default().insert(edit.index),
            Some(item) => {
                let directory = at(directories, edit.directory);
                let old = directory
                    .and_then(|directory| Arc::make_mut(&mut directory.entries).item_mut(edit.index));
                if let Some(old) = old {
                    *old = item;
                }
            }
        }
    }
    for (number, removed) in removed {
        if let Some(directory) = at(directories, number) {
            directory.entries = Arc::new(directory.entries.without(&removed));
        }
    }
}

/// The directory of this number.
fn at(directories: &mut [Directory], number: u32) -> Option<&mut Directory> {
    directories.get_mut(usize::try_from(number).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::tree::stamp::{Kind, Moment};

    fn numbers(entries: &Entries) -> Vec<(&str, u32)> {
        let number = |item: &Item| match item {
            Item::Directory(number) => *number,
            Item::Leaf(_) => 0,
        };
        entries
            .iter()
            .map(|(name, item)| (name.to_str().unwrap(), number(item)))
            .collect()
    }

    #[test]
    fn an_old_list_is_taken_over_but_for_what_was_found() {
        let time = Moment {
            seconds: 1,
            nanoseconds: 0,
        };
        let stamp = Stamp {
            kind: Kind::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
            inode: 1,
            size: 0,
            modified: time,
            changed: time,
        };
        let mut old = Entries::default();
        for (name, number) in [(b"a", 1), (b"b", 2), (b"c", 3), (b"d", 4)] {
            old.push(name, Item::Directory(number));
        }
        let old = Arc::new(old);
        let listing = |number, names, base| Listing {
            number,
            stamp,
            settled: true,
            names,
            base,
        };
        let edit = |directory, index, item| Edit {
            directory,
            index,
            item,
        };
        let mut found = Found {
            listings: vec![listing(0, 4, Some(&old)), listing(1, 4, Some(&old))],
            edits: vec![
                edit(1, 0, None),
                edit(1, 3, Some(Item::Directory(9))),
                // Nothing of the kind is there.
                edit(1, 4, Some(Item::Directory(5))),
                edit(7, 0, None),
            ],
            ..Found::default()
        };
        let mut new = Entries::default();
        new.push(b"z", Item::Directory(1));
        new.push(b"y", Item::Directory(2));
        found.add(Found {
            listings: vec![listing(2, 2, None)],
            entries: vec![(2, new)],
            edits: vec![edit(1, 2, None)],
            ..Found::default()
        });
        let (manifest, _) = found.done(3, Vec::new());
        let lists: Vec<_> = manifest
            .directories
            .iter()
            .map(|directory| (numbers(&directory.entries), directory.settled))
            .collect();
        let same = vec![("a", 1), ("b", 2), ("c", 3), ("d", 4)];
        assert_eq!(lists[0], (same.clone(), true));
        // Two names less than there were: the next time the directory is listed again.
        assert_eq!(lists[1], (vec![("b", 2), ("d", 9)], false));
        assert_eq!(lists[2], (vec![("y", 2), ("z", 1)], true));
        assert_eq!(numbers(&old), same);
    }
}
