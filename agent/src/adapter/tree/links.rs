//! Files with several names: all of them are known only after the walk. One is copied, the others become further names of
//! the copy.

use std::borrow::Cow;
use std::ffi::CStr;
use std::sync::Arc;

use rustix::fs::AtFlags;

use super::entries::{Item, Leaf};
use super::error::TreeError;
use super::found::Found;
use super::queue::Queue;
use super::stamp::Look;
use super::walk::{Entry, Folder, Walk};
use crate::domain::plan::facts::Who;

/// One of the names.
pub(super) struct Member<'a> {
    pub folder: Arc<Folder<'a>>,
    pub name: Cow<'a, CStr>,
    pub known: Option<&'a Item>,
    pub index: Option<usize>,
    pub look: Look,
    /// What the target has under this name is as it should be.
    pub same: Option<Leaf>,
}

impl<'a> Member<'a> {
    fn entry(&self) -> Entry<'a> {
        Entry {
            name: self.name.clone(),
            hint: None,
            known: self.known,
            index: self.index,
        }
    }
}

impl<'a> Walk<'a> {
    /// All files that were found with several names.
    pub fn link_all(&self) -> Result<(), TreeError> {
        Queue::run(
            self.take_groups(),
            self.threads(),
            |_, members: Vec<Member<'a>>| {
                let mut found = Found::default();
                self.link(&members, &mut found)?;
                self.keep(found);
                Ok(())
            },
        )
    }

    fn link(&self, members: &[Member<'a>], found: &mut Found<'a>) -> Result<(), TreeError> {
        self.progress.check()?;
        let Some(first) = members.first() else {
            return Ok(());
        };
        if first.look.links > u32::try_from(members.len()).unwrap_or(u32::MAX) {
            let owner = Who {
                uid: first.look.stamp.uid,
                gid: first.look.stamp.gid,
            };
            found
                .report
                .linked_outside
                .entry(owner)
                .or_default()
                .note(&first.folder.place.path(self.from, Some(&first.name)));
        }
        if members.iter().all(|member| member.same.is_some()) {
            for member in members {
                if let Some(leaf) = member.same {
                    found.keep(&member.folder, &member.entry(), Item::Leaf(leaf));
                }
            }
            return Ok(());
        }
        let source = match self.open(&first.folder, found)? {
            Some(sides) => {
                let opened = self.open_file(&first.folder, &sides, &first.name, found)?;
                opened.map(|(file, look)| (sides, file, look))
            }
            None => None,
        };
        let Some((sides, file, look)) = source else {
            // Gone, and told of: whatever the other names are by now, they are found the next time.
            return members.iter().try_for_each(|member| self.unlist(member, found));
        };
        let made = self.make_file(&first.folder, &sides, &first.entry(), &file, &look, found)?;
        found.record(&first.folder, &first.entry(), Item::Leaf(made.leaf));
        for member in members.iter().skip(1) {
            let Some(sides) = self.open(&member.folder, found)? else {
                self.unlist(member, found)?;
                continue;
            };
            let path = || member.folder.place.path(self.to, Some(&member.name));
            self.put(&member.folder, &sides, &member.entry(), |name| {
                // By the open file: whatever has the first name by now, this is the one that was made (open(2), AT_EMPTY_PATH).
                rustix::fs::linkat(&made.file, c"", sides.to()?, name, AtFlags::EMPTY_PATH)
                    .map_err(|errno| TreeError::io("link", &path())(errno))
            })?;
            found.report.made += 1;
            self.progress.add_files(1);
            let mut leaf = Leaf {
                stamp: member.look.stamp,
                ..made.leaf
            };
            // Another file by now, or written to in between.
            leaf.settled &= member.look.stamp == look.stamp;
            found.record(&member.folder, &member.entry(), Item::Leaf(leaf));
        }
        Ok(())
    }

    /// What the copy has under this name goes: the new list does not have it.
    fn unlist(&self, member: &Member<'a>, found: &mut Found<'a>) -> Result<(), TreeError> {
        self.forget(&member.folder, &[member.entry()], found)
    }
}
