//! Names with what they are, in one piece of memory: a list of a hundred thousand files is read, walked and written without
//! a hundred thousand allocations.

use std::collections::BTreeSet;
use std::ffi::CStr;

use super::stamp::Stamp;

/// BLAKE3 of a content.
pub type Hash = [u8; 32];

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Item {
    /// The directory of this number.
    Directory(u32),
    /// Anything else.
    Leaf(Leaf),
}

/// What is known of a file, a link or a pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leaf {
    /// What its source looked like.
    pub stamp: Stamp,
    /// The copy is surely what that stamp stands for: nobody wrote while it was read or shortly before.
    pub settled: bool,
    /// Of the content of a file, or of what a link says.
    pub hash: Option<Hash>,
}

/// Entries of a directory.
#[derive(Debug, Clone, Default)]
pub(super) struct Entries {
    /// Each with its end.
    names: Vec<u8>,
    /// Where each name begins, and what it is.
    items: Vec<(usize, Item)>,
}

impl Entries {
    /// With room for so many.
    pub fn with_capacity(count: usize) -> Self {
        Self {
            names: Vec::with_capacity(count.saturating_mul(16)),
            items: Vec::with_capacity(count),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Adds one at the end. A name has no zero in it.
    pub fn push(&mut self, name: &[u8], item: Item) {
        self.items.push((self.names.len(), item));
        self.names.extend_from_slice(name);
        self.names.push(0);
    }

    /// Adds all of another list at the end.
    pub fn append(&mut self, other: Self) {
        if self.items.is_empty() {
            *self = other;
            return;
        }
        for (name, item) in other.iter() {
            self.push(name.to_bytes(), *item);
        }
    }

    /// Puts them in the order of their names, which [`Entries::find`] needs.
    pub fn sort(&mut self) {
        let names = &self.names;
        if !self.items.is_sorted_by_key(|(at, _)| name(names, *at)) {
            self.items
                .sort_unstable_by(|(a, _), (b, _)| name(names, *a).cmp(name(names, *b)));
        }
    }

    /// What has this name, in a list that is in order.
    pub fn find(&self, wanted: &CStr) -> Option<&Item> {
        let at = self
            .items
            .binary_search_by(|(at, _)| name(&self.names, *at).cmp(wanted))
            .ok()?;
        self.items.get(at).map(|(_, item)| item)
    }

    /// All but those of these places.
    pub fn without(&self, removed: &BTreeSet<usize>) -> Self {
        let mut rest = Self::with_capacity(self.len().saturating_sub(removed.len()));
        for (index, (name, item)) in self.iter().enumerate() {
            if !removed.contains(&index) {
                rest.push(name.to_bytes(), *item);
            }
        }
        rest
    }

    /// Of this place in the list.
    pub fn item_mut(&mut self, index: usize) -> Option<&mut Item> {
        self.items.get_mut(index).map(|(_, item)| item)
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = (&CStr, &Item)> {
        self.items.iter().map(|(at, item)| (name(&self.names, *at), item))
    }
}

/// The name that begins there.
fn name(names: &[u8], at: usize) -> &CStr {
    names
        .get(at..)
        .and_then(|rest| CStr::from_bytes_until_nul(rest).ok())
        .unwrap_or_default()
}

/// Two lists are the same when their names and items are, however these came into memory.
impl PartialEq for Entries {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Entries {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_found_by_name_once_in_order() {
        let mut entries = Entries::default();
        for (name, number) in [(b"b".as_slice(), 2), (b"abc", 1), (b"", 0)] {
            entries.push(name, Item::Directory(number));
        }
        let mut other = Entries::with_capacity(1);
        other.push(b"ab", Item::Directory(3));
        entries.append(other);
        entries.sort();
        let names: Vec<&CStr> = entries.iter().map(|(name, _)| name).collect();
        assert_eq!(names, [c"", c"ab", c"abc", c"b"]);
        assert_eq!(entries.find(c"abc"), Some(&Item::Directory(1)));
        assert_eq!(entries.find(c"abcd"), None);
        if let Some(item) = entries.item_mut(3) {
            *item = Item::Directory(9);
        }
        assert_eq!(entries.find(c"b"), Some(&Item::Directory(9)));
        assert_eq!(entries.len(), 4);
    }

    #[test]
    fn the_same_entries_are_the_same_list() {
        let (mut one, mut two) = (Entries::default(), Entries::default());
        for name in [b"a", b"b"] {
            one.push(name, Item::Directory(1));
        }
        for name in [b"b", b"a"] {
            two.push(name, Item::Directory(1));
        }
        assert_ne!(one, two);
        two.sort();
        assert_eq!(one, two);
    }
}
