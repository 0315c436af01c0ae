//! Reads what `encoding` writes, and takes nothing else for a list.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::encoding::{MAGIC, PART_MAX, PIECE, STAMP};
use super::entries::{Entries, Item, Leaf};
use super::error::{Shown, TreeError};
use super::manifest::{Directory, Manifest};
use super::pieces::{self, Emptier, Filler};
use super::place;
use super::stamp::{Kind, Moment, Stamp};
use crate::adapter::disk::{self, DiskError};

/// A list larger than this is none of ours: it would be of about ten million files.
const SIZE_MAX: u64 = 1 << 30;

/// Bytes of the checksum at the end.
const SUM: usize = blake3::OUT_LEN;

/// Room for so many entries is made before they are read.
const ENTRIES_MAX: usize = 1 << 12;

/// Why a list cannot be read.
#[derive(Debug)]
enum Fault {
    /// It is none, or not whole.
    Broken(&'static str),
    /// The system said no.
    Io(io::Error),
}

impl From<&'static str> for Fault {
    fn from(why: &'static str) -> Self {
        Self::Broken(why)
    }
}

/// Any part that is not there or not possible.
const BROKEN: &str = "it is cut off or was changed";

impl Manifest {
    /// Reads a list; none when there is no file of this name.
    pub fn read(path: &Path) -> Result<Option<Self>, TreeError> {
        let Some(file) = disk::open_file(path)? else {
            return Ok(None);
        };
        decode_file(&file).map(Some).map_err(|fault| match fault {
            Fault::Broken(why) => TreeError::Manifest {
                path: Shown::new(path),
                why: why.to_owned(),
            },
            Fault::Io(source) => TreeError::from(DiskError::Io {
                what: "read",
                path: path.to_owned(),
                source,
            }),
        })
    }
}

fn decode_file(file: &File) -> Result<Manifest, Fault> {
    let length = file.metadata().map_err(Fault::Io)?.len();
    if length > SIZE_MAX {
        return Err(Fault::Broken("it is too large"));
    }
    decode(file, length)
}

/// What is there of a part.
struct Reader<'a>(&'a [u8]);

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

/// All of a directory but its entries, and how many of these there are.
fn directory(reader: &mut Reader<'_>) -> Result<(Directory, u32), &'static str> {
    let (stamp, settled) = match reader.byte()? {
        0 => (None, false),
        1 => (Some(reader.stamp()?), false),
        2 => (Some(reader.stamp()?), true),
        _ => return Err(BROKEN),
    };
    let directory = Directory {
        stamp,
        settled,
        entries: Arc::default(),
    };
    Ok((directory, reader.u32()?))
}

/// What is read.
struct In {
    from: Emptier,
    /// Bytes before the checksum that did not arrive yet.
    left: u64,
    piece: Vec<u8>,
    /// Where in the piece the next part begins.
    at: usize,
}

impl In {
    /// One part.
    fn part<T>(&mut self, read: impl FnOnce(&mut Reader<'_>) -> Result<T, &'static str>) -> Result<T, Fault> {
        if self.piece.len() - self.at < PART_MAX && self.left > 0 {
            self.refill();
        }
        let mut reader = Reader(self.piece.get(self.at..).unwrap_or_default());
        let value = read(&mut reader)?;
        self.at = self.piece.len() - reader.0.len();
        Ok(value)
    }

    fn refill(&mut self) {
        self.piece.drain(..self.at);
        self.at = 0;
        match self.from.take() {
            Some(piece) => {
                self.left = self.left.saturating_sub(piece.len() as u64);
                self.piece.extend_from_slice(&piece);
                self.from.give(piece);
            }
            // A file that is shorter than it was has no more to come.
            None => self.left = 0,
        }
    }

    /// A number of parts. Each takes a byte at the least: no count makes us ask for more memory than the file is large.
    fn count(&mut self) -> Result<usize, Fault> {
        let count = self.part(|reader| reader.array().map(u32::from_le_bytes))?;
        self.possible(count)
    }

    fn possible(&self, count: u32) -> Result<usize, Fault> {
        let rest = self.left.saturating_add((self.piece.len() - self.at) as u64);
        if u64::from(count) > rest {
            return Err(BROKEN.into());
        }
        usize::try_from(count).map_err(|_| BROKEN.into())
    }

    fn directory(&mut self) -> Result<Directory, Fault> {
        let (mut directory, count) = self.part(directory)?;
        let count = self.possible(count)?;
        // Each takes four bytes at the least, so that a wrong count costs little.
        let mut entries = Entries::with_capacity(count.min(ENTRIES_MAX));
        for _ in 0..count {
            self.part(|reader| reader.entry(&mut entries))?;
        }
        directory.entries = Arc::new(entries);
        Ok(directory)
    }

    fn all(mut self) -> Result<Manifest, Fault> {
        self.part(|reader| match reader.take(MAGIC.len()) {
            Ok(MAGIC) => Ok(()),
            _ => Err("another version wrote it"),
        })?;
        let mut left_out = Vec::new();
        for _ in 0..self.count()? {
            left_out.push(self.part(|reader| {
                let length = usize::try_from(reader.u32()?).map_err(|_| BROKEN)?;
                Ok(PathBuf::from(OsStr::from_bytes(reader.take(length)?)))
            })?);
        }
        let mut directories = Vec::new();
        for _ in 0..self.count()? {
            directories.push(self.directory()?);
        }
        if directories.is_empty() || self.left > 0 || self.at < self.piece.len() {
            return Err(BROKEN.into());
        }
        Ok(Manifest {
            left_out,
            directories,
        })
    }
}

/// So many bytes. One thread reads them and sums them up, another one makes a list of them; it is one when both say so.
fn decode(from: impl Read + Send, length: u64) -> Result<Manifest, Fault> {
    let left = length.checked_sub(SUM as u64).ok_or(BROKEN)?;
    let (filler, emptier) = pieces::pair(PIECE);
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || read(from, left, &filler));
        let all = In {
            from: emptier,
            left,
            piece: Vec::with_capacity(PIECE + PART_MAX),
            at: 0,
        };
        let manifest = all.all();
        let right = reader
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match right {
            Err(error) => Err(Fault::Io(error)),
            Ok(true) => manifest,
            Ok(false) => manifest.and(Err(BROKEN.into())),
        }
    })
}

/// Reads all; says whether the right checksum is at the end.
fn read(mut from: impl Read, mut left: u64, pieces: &Filler) -> io::Result<bool> {
    let mut sum = blake3::Hasher::new();
    while left > 0 {
        let Some(mut piece) = pieces.take() else {
            return Ok(false);
        };
        let length = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        piece.resize(length, 0);
        let whole = read_exact(&mut from, &mut piece)?;
        sum.update(&piece);
        pieces.give(piece);
        if !whole {
            return Ok(false);
        }
        left -= length as u64;
    }
    let mut end = [0; SUM];
    Ok(read_exact(&mut from, &mut end)? && sum.finalize() == end)
}

/// Whether there was as much as that.
fn read_exact(mut from: impl Read, to: &mut [u8]) -> io::Result<bool> {
    match from.read_exact(to) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::super::encoding;
    use super::*;

    fn encode(manifest: &Manifest) -> Vec<u8> {
        let mut bytes = Vec::new();
        encoding::encode(manifest, &mut bytes).unwrap();
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Manifest, Fault> {
        super::decode(bytes, bytes.len() as u64)
    }

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
                    entries: Arc::new(entries),
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
        assert_eq!(decode(&encode(&manifest)).unwrap(), manifest);
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

    /// Of many pieces, with names of all lengths across their borders.
    #[test]
    fn a_long_one_is_written_and_read() {
        let mut manifest = sample();
        let leaf = manifest.directories[0]
            .entries
            .iter()
            .next()
            .map(|(_, item)| *item);
        for number in 0..20 {
            let mut entries = Entries::default();
            for name in 0..2000 {
                let name = format!("{name:04}{}", "x".repeat((name * 7 + number) % 251));
                entries.push(name.as_bytes(), leaf.unwrap());
            }
            manifest.directories.push(Directory {
                entries: Arc::new(entries),
                ..Directory::default()
            });
        }
        let bytes = encode(&manifest);
        assert!(bytes.len() > 8 * PIECE);
        assert_eq!(decode(&bytes).unwrap(), manifest);
        for length in (0..bytes.len()).step_by(PIECE / 3) {
            assert!(decode(&bytes[..length]).is_err(), "{length}");
            // It was longer when its length was asked.
            assert!(
                super::decode(&bytes[..length], bytes.len() as u64).is_err(),
                "{length}"
            );
        }
    }
}
