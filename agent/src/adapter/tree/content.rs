//! The bytes of a file: shared where the file system can (FICLONE), copied by the kernel where not, by hand where neither
//! works. Holes stay holes.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::Progress;
use super::stamp::Look;

/// So many bytes between two looks at whether to stop.
const STRIDE: u64 = 16 << 20;

/// Up to this size two calls by hand are quicker than the kernel's own way.
const SMALL: u64 = 64 << 10;

/// Bytes that are copied by hand at once.
const BUFFER: usize = 128 << 10;

/// Why a content was not copied.
#[derive(Debug)]
pub enum Failure {
    /// Reading the source.
    Read(Errno),
    /// Writing the copy.
    Write(Errno),
    /// It was asked to stop.
    Stopped,
}

/// What the two file systems can do together, as found out by trying.
#[derive(Debug)]
pub struct Means {
    share: AtomicBool,
    kernel: AtomicBool,
}

impl Means {
    /// Everything until it turns out otherwise; without `share` blocks are never shared.
    pub fn new(share: bool) -> Self {
        Self {
            share: AtomicBool::new(share),
            kernel: AtomicBool::new(true),
        }
    }

    /// Makes a file's content that of another one; `old` is what it has, and none for a new one. Says whether its blocks are shared.
    pub fn copy(
        &self,
        from: impl AsFd,
        to: impl AsFd,
        look: &Look,
        old: Option<&Look>,
        progress: &Progress,
    ) -> Result<bool, Failure> {
        let size = look.stamp.size;
        let empty = |to: &_| rustix::fs::ftruncate(to, 0).map_err(Failure::Write);
        let longer = old.is_some_and(|old| old.stamp.size > size);
        if longer {
            // Blocks are shared up to the end of both only (ioctl_ficlone(2)).
            empty(&to)?;
        }
        if size > 0 && self.share.load(Ordering::Relaxed) {
            match rustix::fs::ioctl_ficlone(&to, &from) {
                Ok(()) => {
                    progress.add_bytes(size);
                    return Ok(true);
                }
                // Neither this file nor any other of these file systems.
                Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::NOTTY | Errno::NOSYS) => {
                    self.share.store(false, Ordering::Relaxed);
                }
                // Not this one: a swap file, or one whose blocks are never shared (ioctl_ficlone(2)).
                Err(Errno::INVAL | Errno::TXTBSY | Errno::PERM) => {}
                Err(other) => return Err(Failure::Write(other)),
            }
        }
        if old.is_some() && !longer {
            // Nothing of it shows through a hole.
            empty(&to)?;
        }
        if size == 0 {
            return Ok(false);
        }
        if look.is_sparse() {
            self.copy_data(&from, &to, size, progress)?;
        } else {
            self.copy_range(&from, &to, 0, size, progress)?;
        }
        Ok(false)
    }

    /// Between holes.
    fn copy_data(
        &self,
        from: impl AsFd,
        to: impl AsFd,
        size: u64,
        progress: &Progress,
    ) -> Result<(), Failure> {
        let mut end = 0;
        while end < size {
            let start = match rustix::fs::seek(&from, SeekFrom::Data(end)) {
                Ok(start) => start,
                // A hole up to the end.
                Err(Errno::NXIO) => break,
                Err(other) => return Err(Failure::Read(other)),
            };
            end = rustix::fs::seek(&from, SeekFrom::Hole(start)).map_err(Failure::Read)?;
            self.copy_range(&from, &to, start, end.min(size), progress)?;
        }
        rustix::fs::ftruncate(&to, size).map_err(Failure::Write)
    }

    /// From `start` to `end`, or as far as there is something: who shortens a file meanwhile is noticed by its stamp.
    fn copy_range(
        &self,
        from: impl AsFd,
        to: impl AsFd,
        mut start: u64,
        end: u64,
        progress: &Progress,
    ) -> Result<(), Failure> {
        while start < end {
            progress.check().map_err(|_| Failure::Stopped)?;
            let left = end - start;
            let done = if left > SMALL && self.kernel.load(Ordering::Relaxed) {
                self.by_kernel(&from, &to, start, left.min(STRIDE))?
            } else {
                by_hand(&from, &to, start, left.min(STRIDE))?
            };
            if done == 0 {
                break;
            }
            progress.add_bytes(done);
            start += done;
        }
        Ok(())
    }

    fn by_kernel(&self, from: impl AsFd, to: impl AsFd, at: u64, length: u64) -> Result<u64, Failure> {
        let (mut read, mut written) = (at, at);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        match rustix::fs::copy_file_range(&from, Some(&mut read), &to, Some(&mut written), length) {
            Ok(done) => Ok(u64::try_from(done).unwrap_or(u64::MAX)),
            Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::NOSYS | Errno::INVAL) => {
                self.kernel.store(false, Ordering::Relaxed);
                by_hand(from, to, at, length.try_into().unwrap_or(u64::MAX))
            }
            Err(other) => Err(Failure::Write(other)),
        }
    }
}

fn by_hand(from: impl AsFd, to: impl AsFd, at: u64, length: u64) -> Result<u64, Failure> {
    let mut buffer = vec![0; usize::try_from(length).unwrap_or(BUFFER).min(BUFFER)];
    let mut done = 0;
    while done < length {
        let rest = usize::try_from(length - done).unwrap_or(BUFFER).min(BUFFER);
        let room = buffer.get_mut(..rest).unwrap_or_default();
        let read = match rustix::io::pread(&from, room, at + done) {
            Ok(0) => break,
            Ok(read) => read,
            Err(Errno::INTR) => continue,
            Err(other) => return Err(Failure::Read(other)),
        };
        let mut bytes = buffer.get(..read).unwrap_or_default();
        while !bytes.is_empty() {
            match rustix::io::pwrite(&to, bytes, at + done) {
                Ok(0) => return Err(Failure::Write(Errno::NOSPC)),
                Ok(written) => {
                    bytes = bytes.get(written..).unwrap_or_default();
                    done += u64::try_from(written).unwrap_or(u64::MAX);
                }
                Err(Errno::INTR) => {}
                Err(other) => return Err(Failure::Write(other)),
            }
        }
    }
    Ok(done)
}
