//! What a directory of the source has, and what its counterpart has beyond that.

use std::borrow::Cow;
use std::ffi::CStr;

use rustix::io::Errno;

use super::entries::Item;
use super::error::TreeError;
use super::found::Found;
use super::manifest::Directory;
use super::place;
use super::remove::remove;
use super::sides::Sides;
use super::stamp::{Kind, Look};
use super::walk::{Entry, Folder, Mode, Walk};

impl<'a> Walk<'a> {
    /// What the list has of a directory in which no name was made or removed since it was written.
    pub fn as_listed(&self, folder: &Folder<'a>, source: &Look) -> Option<&'a Directory> {
        let Mode::Refresh(manifest) = self.mode else {
            return None;
        };
        folder
            .known
            .filter(|known| known.settled && known.stamp == Some(source.stamp))
            .filter(|_| manifest.left_out == self.left_out)
    }

    /// The names that the list has of it.
    pub fn listed(known: &'a Directory) -> Vec<Entry<'a>> {
        let entry = |(index, (name, item)): (usize, (&'a CStr, &'a Item))| Entry {
            name: Cow::Borrowed(name),
            hint: matches!(item, Item::Directory(_)).then_some(Kind::Directory),
            known: Some(item),
            index: Some(index),
        };
        known.entries.iter().enumerate().map(entry).collect()
    }

    /// The names of a directory, and whether the target's is as it should be; what else the target has is removed.
    pub fn list(
        &self,
        folder: &Folder<'a>,
        sides: &Sides<'a>,
        source: &Look,
        found: &mut Found<'a>,
    ) -> Result<(Vec<Entry<'a>>, bool), TreeError> {
        let path = || folder.place.path(self.from, None);
        let names = place::reopened(&sides.from)
            .and_then(place::list)
            .map_err(|errno| TreeError::io("list", &path())(errno))?;
        let mut entries: Vec<Entry<'a>> = names
            .into_iter()
            .filter(|(name, _)| !folder.exclude.has(name.to_bytes()))
            .map(|(name, hint)| Entry {
                known: folder.known.and_then(|known| known.entries.find(&name)),
                hint: Kind::hinted(hint),
                name: Cow::Owned(name.into_c_string()),
                index: None,
            })
            .collect();
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let should_be = match self.mode {
            Mode::Fresh => None,
            Mode::Refresh(_) => Some(source.stamp),
            Mode::Restore(_) => {
                let path = || folder.place.path(self.to, None);
                let target = Look::of(sides.to()?);
                Some(
                    target
                        .map_err(|errno| TreeError::io("look at", &path())(errno))?
                        .stamp,
                )
            }
        };
        let same = should_be.is_some() && folder.known.is_some_and(|known| known.stamp == should_be);
        self.remove_others(folder, sides, &entries, found)?;
        Ok((entries, same))
    }

    /// Removes from the target what the source does not have.
    fn remove_others(
        &self,
        folder: &Folder<'a>,
        sides: &Sides<'a>,
        entries: &[Entry<'_>],
        found: &mut Found<'a>,
    ) -> Result<(), TreeError> {
        let others: Vec<Cow<'_, CStr>> = match self.mode {
            Mode::Fresh => return Ok(()),
            Mode::Refresh(_) => {
                let known = folder.known.into_iter().flat_map(|known| known.entries.iter());
                known.map(|(name, _)| Cow::Borrowed(name)).collect()
            }
            Mode::Restore(_) => {
                let path = || folder.place.path(self.to, None);
                let here = place::list(sides.to()?).map_err(|errno| TreeError::io("list", &path())(errno))?;
                let names = here.into_iter().map(|(name, _)| name.into_c_string());
                names.map(Cow::Owned).collect()
            }
        };
        for name in others {
            let wanted = entries.binary_search_by(|entry| entry.name.cmp(&name)).is_ok();
            if wanted || (matches!(self.mode, Mode::Restore(_)) && self.stays(folder, sides, &name, found)?) {
                continue;
            }
            let path = folder.place.path(self.to, Some(&name));
            remove(sides.to()?, &name, &path, self.progress)?;
            found.report.removed += 1;
            folder.touch();
        }
        Ok(())
    }

    /// Whether what a restore finds is none of its business.
    fn stays(
        &self,
        folder: &Folder<'_>,
        sides: &Sides<'a>,
        name: &CStr,
        found: &mut Found<'a>,
    ) -> Result<bool, TreeError> {
        if folder.exclude.has(name.to_bytes()) || folder.exclude.inside(name.to_bytes()).is_some() {
            return Ok(true);
        }
        match Look::at(sides.to()?, name) {
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
}
