//! The list of a copy in a file, which lies beside the copy, never in it. It is written and read a piece at a time: one of a
//! hundred thousand files takes megabytes, and memory that is touched for the first time costs more than what is put there.
//!
//! Numbers are little-endian, names have their length before them:
//!
//! ```text
//! "dagger-manifest 1\n"
//! paths that were left out:  count u32, each  length u32, bytes
//! directories, the top first: count u32, each
//!     0, or 1 and stamp, or 2 and stamp: what the list has of it is surely all of it
//!     entries: count u32, each  length u16, name, then one of
//!         'd' number u32              a directory: its place in this list
//!         'l' stamp, settled u8, 0    anything else; its content was not hashed
//!         'l' stamp, settled u8, 1, hash [32]
//! BLAKE3 of all before it [32]
//! stamp: kind u8, mode u32, uid u32, gid u32, inode u64, size u64, mtime i64 u32, ctime i64 u32
//! ```
//!
//! A list without its end, or with another end, is refused: a copy that was being made has none.

use std::ffi::CStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::entries::Item;
use super::error::TreeError;
use super::manifest::{Directory, Manifest};
use super::pieces::{self, Emptier, Filler};
use super::stamp::{Kind, Stamp};
use crate::adapter::disk::{self, Over};

/// Where each begins.
pub(super) const MAGIC: &[u8] = b"dagger-manifest 1\n";

/// So much is read or written at once.
pub(super) const PIECE: usize = 256 << 10;

/// No part is longer: a name has 65,535 bytes at the most, and what follows it some hundred.
pub(super) const PART_MAX: usize = 1 << 17;

impl Manifest {
    /// Writes it as a whole, mode 0600.
    pub fn write(&self, path: &Path) -> Result<(), TreeError> {
        disk::write_with(path, Over::Replace, 0o600, |file| encode(self, file))?;
        Ok(())
    }
}

/// Writes it all. One thread puts it together, another one sums it up and writes it.
pub(super) fn encode(manifest: &Manifest, to: impl Write + Send) -> io::Result<()> {
    let (filler, emptier) = pieces::pair(PIECE + PART_MAX);
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || write(&emptier, to));
        let out = Out {
            to: filler,
            piece: Vec::with_capacity(PIECE + PART_MAX),
        };
        // When the writer has gone already, it says why.
        let _ = out.all(manifest);
        writer
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn write(pieces: &Emptier, mut to: impl Write) -> io::Result<()> {
    let mut sum = blake3::Hasher::new();
    while let Some(piece) = pieces.take() {
        sum.update(&piece);
        to.write_all(&piece)?;
        pieces.give(piece);
    }
    to.write_all(sum.finalize().as_bytes())
}

/// What is put together; every step is none when nobody takes it any more.
struct Out {
    to: Filler,
    piece: Vec<u8>,
}

impl Out {
    fn all(mut self, manifest: &Manifest) -> Option<()> {
        self.piece.extend_from_slice(MAGIC);
        put_count(&mut self.piece, manifest.left_out.len());
        for path in &manifest.left_out {
            put_count(&mut self.piece, path.as_os_str().len());
            self.piece.extend_from_slice(path.as_os_str().as_bytes());
        }
        put_count(&mut self.piece, manifest.directories.len());
        for directory in &manifest.directories {
            put_directory(&mut self.piece, directory);
            for (name, item) in directory.entries.iter() {
                put_entry(&mut self.piece, name, item);
                self.full()?;
            }
            self.full()?;
        }
        self.to.give(self.piece);
        Some(())
    }

    /// Hands over what there is, when it is enough.
    fn full(&mut self) -> Option<()> {
        if self.piece.len() >= PIECE {
            let mut next = self.to.take()?;
            next.clear();
            self.to.give(std::mem::replace(&mut self.piece, next));
        }
        Some(())
    }
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    // Memory ends long before the numbers do.
    out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
}

/// All but its entries.
fn put_directory(out: &mut Vec<u8>, directory: &Directory) {
    out.push(match (directory.stamp, directory.settled) {
        (None, _) => 0,
        (Some(_), false) => 1,
        (Some(_), true) => 2,
    });
    if let Some(stamp) = &directory.stamp {
        put_stamp(out, stamp);
    }
    put_count(out, directory.entries.len());
}

fn put_entry(out: &mut Vec<u8>, name: &CStr, item: &Item) {
    let name = name.to_bytes();
    out.extend_from_slice(&u16::try_from(name.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend_from_slice(name);
    match item {
        Item::Directory(number) => {
            out.push(b'd');
            out.extend_from_slice(&number.to_le_bytes());
        }
        Item::Leaf(leaf) => {
            out.push(b'l');
            put_stamp(out, &leaf.stamp);
            out.push(leaf.settled.into());
            out.push(leaf.hash.is_some().into());
            out.extend_from_slice(leaf.hash.as_ref().map_or(&[][..], |hash| hash));
        }
    }
}

/// Bytes of a stamp.
pub(super) const STAMP: usize = 1 + 3 * 4 + 2 * 8 + 2 * (8 + 4);

fn put_stamp(out: &mut Vec<u8>, stamp: &Stamp) {
    let (mut bytes, mut at) = ([0; STAMP], 0);
    let mut put = |number: &[u8]| {
        let end = at + number.len();
        if let Some(place) = bytes.get_mut(at..end) {
            place.copy_from_slice(number);
        }
        at = end;
    };
    put(&[match stamp.kind {
        Kind::File => b'f',
        Kind::Directory => b'd',
        Kind::Symlink => b'l',
        Kind::Fifo => b'p',
        Kind::Socket => b's',
        Kind::Device => b'c',
    }]);
    for number in [stamp.mode, stamp.uid, stamp.gid] {
        put(&number.to_le_bytes());
    }
    for number in [stamp.inode, stamp.size] {
        put(&number.to_le_bytes());
    }
    for moment in [stamp.modified, stamp.changed] {
        put(&moment.seconds.to_le_bytes());
        put(&moment.nanoseconds.to_le_bytes());
    }
    out.extend_from_slice(&bytes);
}
