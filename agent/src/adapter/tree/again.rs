//! A second look, when all is written out, at what a copy had to take anew: who wrote to a file before it was copied may well
//! go on afterwards, and the moment in which one file is copied is too short to see that.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::place::Place;
use super::stamp::{Look, Stamp};
use super::{Noted, Tree};

/// An entry that was copied, and what it was when that was over.
#[derive(Debug)]
pub(super) struct Again {
    place: Arc<Place>,
    name: CString,
    stamp: Stamp,
}

impl Again {
    pub fn new(place: &Arc<Place>, name: &CStr, stamp: Stamp) -> Self {
        Self {
            place: Arc::clone(place),
            name: name.to_owned(),
            stamp,
        }
    }
}

/// Those that are not what they were. What cannot be looked at is not what it was.
pub(super) fn look(tree: &Tree, entries: Vec<Again>) -> Noted {
    let mut changed = Noted::default();
    let mut last: Option<(Arc<Place>, Option<OwnedFd>)> = None;
    for Again { place, name, stamp } in entries {
        let dir = match last.take() {
            Some((before, dir)) if Arc::ptr_eq(&before, &place) => dir,
            _ => place.hold(tree).ok(),
        };
        let now = dir.as_ref().and_then(|dir| Look::at(dir, &name).ok());
        if now.is_none_or(|now| now.stamp != stamp) {
            changed.note(&place.path(tree, Some(&name)));
        }
        last = Some((place, dir));
    }
    changed
}
