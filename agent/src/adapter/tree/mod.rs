//! Whole directory trees: copied, brought up to date, put back, read through, removed.
//!
//! The directory that is copied belongs to an application that talks to the internet, and whoever took that over may
//! change it while it is copied. So everything goes by descriptors below one top (`place`): no link is followed, nothing
//! outside of the top is read or written, no mount is crossed, no existing file that others can reach is written into (it is
//! replaced by a new one), and neither depth nor width nor names can make the copy end or ask for much memory.
//!
//! ```text
//! walk    directory by directory, a few threads
//! listing what is in one: what is new, what is as it was, what has gone
//! leaf    one file, link or pipe        content     its bytes        attributes  owner, mode, ACLs, times
//! links   files with several names      manifest    the list beside the copy     entries  its names
//! encoding, decoding  that list in a file           pieces      of it, between two threads
//! found   what a walk finds out, and the new list   again       a second look at what was copied anew
//! sides   a directory on both sides     check       checksums
//! owner   what one user has, given to another              changes     what became of a tree
//! ```
//!
//! Kept are contents with their holes, owners, all mode bits, extended attributes (ACLs and capabilities among them), times
//! to the nanosecond, which names are one file, links as they are, and pipes. Left out, and reported, are sockets and
//! devices, and what other file systems hold that are mounted inside. A btrfs subvolume is copied as any other directory:
//! sharing its blocks file by file costs little more than a snapshot of it, and asks nothing of how the state is laid out.
//!
//! Modules in order: each uses only those above it.

pub mod error;

pub mod stamp;

pub mod place;

pub mod exclude;

mod entries;

pub mod manifest;

mod pieces;

mod encoding;

mod decoding;

mod queue;

mod sides;

mod attributes;

mod content;

mod remove;

mod owner;

mod changes;

mod walk;

mod found;

mod listing;

mod leaf;

mod again;

mod links;

mod check;

#[cfg(test)]
pub(super) mod tests;

use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

pub use changes::{Changes, Seen};
pub use check::{Damage, Verdict, seal, verify};
pub use error::{Shown, TreeError};
pub use manifest::Manifest;
pub use owner::{Gift, give};
pub use place::{DEPTH_MAX, Tree, enter};
pub use remove::remove;

use crate::domain::plan::facts::Who;
use walk::{Mode, Walk};

/// How far the work is, and whether it shall stop; the caller reads and writes it from another thread.
#[derive(Debug, Default)]
pub struct Progress {
    files: AtomicU64,
    bytes: AtomicU64,
    stop: AtomicBool,
}

impl Progress {
    /// Files, links and pipes that are done, as they are or new.
    pub fn files(&self) -> u64 {
        self.files.load(Ordering::Relaxed)
    }

    /// Bytes that were copied or read.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Makes the work end with [`TreeError::Stopped`]; a large file is not waited for.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn check(&self) -> Result<(), TreeError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(TreeError::Stopped);
        }
        Ok(())
    }

    fn add_files(&self, count: u64) {
        self.files.fetch_add(count, Ordering::Relaxed);
    }

    fn add_bytes(&self, count: u64) {
        self.bytes.fetch_add(count, Ordering::Relaxed);
    }
}

/// How a tree is copied.
#[derive(Debug, Clone)]
pub struct Options {
    /// What is not copied: paths from the top, each with all below it. A restore leaves them where they are.
    pub leave_out: Vec<PathBuf>,
    /// Blocks are shared where the file system can.
    pub share: bool,
    /// Threads that work on it; 0 is twice as many as there are processors, four at most: now and then each of them waits for
    /// the file system.
    pub threads: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            leave_out: Vec::new(),
            share: true,
            threads: 0,
        }
    }
}

impl Options {
    fn threads(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism()
                .map_or(1, NonZero::get)
                .saturating_mul(2)
                .min(4),
            some => some,
        }
    }
}

/// Paths that something is said of: how many, and the first of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Noted {
    /// All.
    pub count: u64,
    /// At most [`Noted::MOST`], with the tree's own path.
    pub first: Vec<Shown>,
}

impl Noted {
    /// So many paths are kept.
    pub const MOST: usize = 100;

    /// One more.
    pub fn note(&mut self, path: &std::path::Path) {
        self.count += 1;
        if self.first.len() < Self::MOST {
            self.first.push(Shown::new(path));
        }
    }

    fn add(&mut self, other: Self) {
        self.count += other.count;
        let room = Self::MOST.saturating_sub(self.first.len());
        self.first.extend(other.first.into_iter().take(room));
    }
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Files, links and pipes that were made.
    pub made: u64,
    /// Bytes of the files among them, holes counted.
    pub bytes: u64,
    /// Of the files made, those that share their blocks with the source.
    pub shared: u64,
    /// Files, links and pipes that were as they should be.
    pub kept: u64,
    /// Entries that were removed, each with all below it.
    pub removed: u64,
    /// Changed or gone while they were copied: the copy may have any mix of old and new, and [`refresh`] copies them again.
    pub changed: Noted,
    /// Something is mounted there; what it holds was neither copied nor touched.
    pub mounts: Noted,
    /// Sockets and devices.
    pub left_out: Noted,
    /// Extended attributes that the other file system does not have.
    pub unkept: Noted,
    /// Files that have further names outside of the tree, by their owners: a copy cannot keep these together.
    pub linked_outside: BTreeMap<Who, Noted>,
}

impl Report {
    fn add(&mut self, other: Self) {
        self.made += other.made;
        self.bytes += other.bytes;
        self.shared += other.shared;
        self.kept += other.kept;
        self.removed += other.removed;
        self.changed.add(other.changed);
        self.mounts.add(other.mounts);
        self.left_out.add(other.left_out);
        self.unkept.add(other.unkept);
        for (owner, noted) in other.linked_outside {
            self.linked_outside.entry(owner).or_default().add(noted);
        }
    }
}

/// Copies a tree into an empty directory that only root can reach.
///
/// What the source has not written yet is written first (syncfs(2)), so that a later change is seen by its time; when this
/// returns the copy is on disk. The list and the report say what it holds. After an error the copy is of no use.
pub fn copy(
    from: &Tree,
    to: &Tree,
    options: &Options,
    progress: &Progress,
) -> Result<(Manifest, Report), TreeError> {
    Walk::new(from, to, Mode::Fresh, options, progress).run()
}

/// Brings a copy in line with its source: what changed is copied again, what has gone is removed.
///
/// `manifest` is the list that [`copy`] or this gave for this copy; a file whose size, times, owner, mode and number are as
/// they were is not opened. What was copied anew is looked at once more when all is on disk, so that one who goes on writing
/// to it is told of ([`Report::changed`]). After an error the copy is of no use, and so is its list.
pub fn refresh(
    from: &Tree,
    to: &Tree,
    manifest: &Manifest,
    options: &Options,
    progress: &Progress,
) -> Result<(Manifest, Report), TreeError> {
    Walk::new(from, to, Mode::Refresh(manifest), options, progress).run()
}

/// Makes a tree again what its copy is, in place: the top directory itself stays, and so do files that nobody wrote to
/// since they were copied, what the copy had left out, sockets, devices and mounts. All else is replaced or removed.
///
/// Each file is the old one or the whole new one at any time. A restore that was cut off is completed by another one.
pub fn restore(
    copy: &Tree,
    manifest: &Manifest,
    to: &Tree,
    options: &Options,
    progress: &Progress,
) -> Result<Report, TreeError> {
    let options = Options {
        leave_out: manifest.left_out.clone(),
        ..options.clone()
    };
    let walk = Walk::new(copy, to, Mode::Restore(manifest), &options, progress);
    walk.run().map(|(_, report)| report)
}
