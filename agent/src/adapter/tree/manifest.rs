//! What a copy holds, and what each file's source looked like when it was copied.
//!
//! The list lies beside the copy, never in it. On disk (numbers little-endian, names with their length before them):
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

use std::collections::HashSet;
use std::ffi::CStr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use super::entries::{Entries, Item, Leaf};
use super::error::{Shown, TreeError};
use super::place;
use super::stamp::{Kind, Moment, Stamp};
use crate::adapter::disk::{self, Over};

const MAGIC: &[u8] = b"dagger-manifest 1\n";

/// A list larger than this is none of ours: it would be of about ten million files.
const SIZE_MAX: usize = 1 << 30;

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
    pub entries: Entries,
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

    /// Reads a list; none when there is no file of this name.
    pub fn read(path: &Path) -> Result<Option<Self>, TreeError> {
        let Some(bytes) = disk::read(path, SIZE_MAX)? else {
            return Ok(None);
        };
        decode(&bytes).map(Some).map_err(|why| TreeError::Manifest {
            path: Shown::new(path),
            why: why.to_owned(),
        })
    }

    /// Writes it as a whole, mode 0600.
    pub fn write(&self, path: &Path) -> Result<(), TreeError> {
        disk::write_as(path, &encode(self), Over::Replace, 0o600)?;
        Ok(())
    }
}

fn encode(manifest: &Manifest) -> Vec<u8> {
    let entries: usize = manifest.directories.iter().map(|one| one.entries.len()).sum();
    let mut out = Vec::with_capacity(MAGIC.len() + (entries + manifest.directories.len()) * 128);
    out.extend_from_slice(MAGIC);
    put_count(&mut out, manifest.left_out.len());
    for path in &manifest.left_out {
        put_count(&mut out, path.as_os_str().len());
        out.extend_from_slice(path.as_os_str().as_bytes());
    }
    put_count(&mut out, manifest.directories.len());
    for directory in &manifest.directories {
        out.push(match (directory.stamp, directory.settled) {
            (None, _) => 0,
            (Some(_), false) => 1,
            (Some(_), true) => 2,
        });
        if let Some(stamp) = &directory.stamp {
            put_stamp(&mut out, stamp);
        }
        put_count(&mut out, directory.entries.len());
        for (name, item) in directory.entries.iter() {
            put_entry(&mut out, name, item);
        }
    }
    let sum = blake3::hash(&out);
    out.extend_from_slice(sum.as_bytes());
    out
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    // Memory ends long before the numbers do.
    out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
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
const STAMP: usize = 1 + 3 * 4 + 2 * 8 + 2 * (8 + 4);

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

/// What is left to read.
struct Reader<'a>(&'a [u8]);

/// Any part that is not there or not possible.
const BROKEN: &str = "it is cut off or was changed";

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], &'static str> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(BROKEN)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const LENGTH: usize>(&mut self) -> Result<[u8; LENGTH], &'static str> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(BROKEN)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, &'static str> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Result<u32, &'static str> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, &'static str> {
        self.array().map(u64::from_le_bytes)
    }

    fn count(&mut self) -> Result<usize, &'static str> {
        let count = usize::try_from(self.u32()?).map_err(|_| BROKEN)?;
        // Each takes a byte at the least: no count makes us ask for more memory than the file is large.
        if count > self.0.len() {
            return Err(BROKEN);
        }
        Ok(count)
    }

    fn flag(&mut self) -> Result<bool, &'static str> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(BROKEN),
        }
    }

    fn moment(&mut self) -> Result<Moment, &'static str> {
        Ok(Moment {
            seconds: self.array().map(i64::from_le_bytes)?,
            nanoseconds: self.u32()?,
        })
    }

    fn stamp(&mut self) -> Result<Stamp, &'static str> {
        // Of a fixed length, so that the rest is not asked at each number.
        let bytes: [u8; STAMP] = self.array()?;
        Reader(&bytes).whole_stamp()
    }

    fn whole_stamp(&mut self) -> Result<Stamp, &'static str> {
        let kind = match self.byte()? {
            b'f' => Kind::File,
            b'd' => Kind::Directory,
            b'l' => Kind::Symlink,
            b'p' => Kind::Fifo,
            b's' => Kind::Socket,
            b'c' => Kind::Device,
            _ => return Err(BROKEN),
        };
        Ok(Stamp {
            kind,
            mode: self.u32()?,
            uid: self.u32()?,
            gid: self.u32()?,
            inode: self.u64()?,
            size: self.u64()?,
            modified: self.moment()?,
            changed: self.moment()?,
        })
    }

    fn directory(&mut self) -> Result<Directory, &'static str> {
        let (stamp, settled) = match self.byte()? {
            0 => (None, false),
            1 => (Some(self.stamp()?), false),
            2 => (Some(self.stamp()?), true),
            _ => return Err(BROKEN),
        };
        let count = self.count()?;
        // Each takes four bytes at the least.
        let mut entries = Entries::with_capacity(count.min(self.0.len() / 4));
        for _ in 0..count {
            self.entry(&mut entries)?;
        }
        Ok(Directory {
            stamp,
            settled,
            entries,
        })
    }

    fn entry(&mut self, entries: &mut Entries) -> Result<(), &'static str> {
        let length = usize::from(u16::from_le_bytes(self.array()?));
        let name = self.take(length)?;
        if !place::is_name(name) {
            return Err(BROKEN);
        }
        let item = match self.byte()? {
            b'd' => Item::Directory(self.u32()?),
            b'l' => Item::Leaf(Leaf {
                stamp: self.stamp()?,
                settled: self.flag()?,
                hash: if self.flag()? { Some(self.array()?) } else { None },
            }),
            _ => return Err(BROKEN),
        };
        entries.push(name, item);
        Ok(())
    }
}

fn decode(bytes: &[u8]) -> Result<Manifest, &'static str> {
    let (body, sum) = bytes.split_last_chunk::<32>().ok_or(BROKEN)?;
    let body = body.strip_prefix(MAGIC).ok_or("another version wrote it")?;
    let (whole, _) = bytes.split_at(bytes.len() - sum.len());
    if blake3::hash(whole) != *sum {
        return Err(BROKEN);
    }
    let mut reader = Reader(body);
    let left_out = (0..reader.count()?)
        .map(|_| {
            let length = reader.count()?;
            Ok(PathBuf::from(std::ffi::OsString::from_vec(
                reader.take(length)?.to_vec(),
            )))
        })
        .collect::<Result<_, &'static str>>()?;
    let mut directories = Vec::new();
    for _ in 0..reader.count()? {
        directories.push(reader.directory()?);
    }
    if !reader.0.is_empty() || directories.is_empty() {
        return Err(BROKEN);
    }
    Ok(Manifest {
        left_out,
        directories,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Manifest {
        let stamp = |kind, size| Stamp {
            kind,
            mode: 0o4755,
            uid: 274,
            gid: 169,
            inode: 7,
            size,
            modified: Moment {
                seconds: -3,
                nanoseconds: 999_999_999,
            },
            changed: Moment {
                seconds: 1 << 40,
                nanoseconds: 1,
            },
        };
        let leaf = |kind, hash| {
            Item::Leaf(Leaf {
                stamp: stamp(kind, 5),
                settled: true,
                hash,
            })
        };
        let mut entries = Entries::default();
        entries.push(b"a\n\xff", leaf(Kind::File, Some([9; 32])));
        entries.push(b"dir", Item::Directory(1));
        entries.push(b"link", leaf(Kind::Symlink, None));
        Manifest {
            left_out: vec!["sonarr.pid".into(), "logs".into()],
            directories: vec![
                Directory {
                    stamp: Some(stamp(Kind::Directory, 0)),
                    settled: true,
                    entries,
                },
                Directory {
                    stamp: Some(stamp(Kind::Directory, 9)),
                    ..Directory::default()
                },
                Directory::default(),
            ],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let manifest = sample();
        assert_eq!(decode(&encode(&manifest)), Ok(manifest.clone()));
        assert_eq!((manifest.files(), manifest.bytes()), (2, 5));
        assert!(!manifest.is_sealed());
        let top = manifest.directory(0).unwrap();
        assert!(top.entries.find(c"link").is_some() && top.entries.find(c"lin").is_none());
    }

    #[test]
    fn a_list_that_is_cut_off_or_changed_is_none() {
        let bytes = encode(&sample());
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err(), "{length}");
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x40;
            assert!(decode(&changed).is_err(), "{at}");
        }
    }

    /// Also one with a right sum: nothing in it makes us ask for a lot of memory or end.
    #[test]
    fn no_bytes_make_it_end() {
        let bytes = encode(&sample());
        let body = &bytes[..bytes.len() - 32];
        for at in MAGIC.len()..body.len() {
            let mut changed = body.to_vec();
            changed[at] = 0xff;
            let sum = blake3::hash(&changed);
            changed.extend_from_slice(sum.as_bytes());
            // Right or wrong: it returns.
            let _ = decode(&changed);
        }
    }
}
