//! A second look, when all is written out, at what a copy had to take anew: who wrote to a file before it was copied may well
//! go on afterwards, and the moment in which one file is copied is too short to see that.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use super::error::TreeError;
use super::place::Place;
use super::queue::Queue;
use super::stamp::{Look, Stamp};
use super::{Noted, Progress, Tree};

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

/// So many are one task.
const BATCH: usize = 128;

/// Those that are not what they were. What cannot be looked at is not what it was.
pub(super) fn look(
    tree: &Tree,
    mut entries: Vec<Again>,
    threads: usize,
    progress: &Progress,
) -> Result<Noted, TreeError> {
    let mut tasks = Vec::with_capacity(entries.len().div_ceil(BATCH));
    while !entries.is_empty() {
        tasks.push(entries.split_off(entries.len().saturating_sub(BATCH)));
    }
    let changed = Mutex::new(Noted::default());
    Queue::run(tasks, threads, |_, entries| {
        progress.check()?;
        let part = look_at(tree, entries);
        changed.lock().unwrap_or_else(PoisonError::into_inner).add(part);
        Ok(())
    })?;
    Ok(changed.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn look_at(tree: &Tree, entries: Vec<Again>) -> Noted {
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
