//! What the system says of an entry, and the part of it that tells whether the entry changed.

use std::ffi::CStr;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, FileType, Statx, StatxAttributes, StatxFlags, StatxTimestamp};

use crate::adapter::clock;

/// What an entry of a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A plain file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link: kept as it is, never followed.
    Symlink,
    /// A pipe with a name.
    Fifo,
    /// A socket: only its maker can make it again, so it is left out.
    Socket,
    /// A device node. State directories have none; making one takes a power that the job does not have, so it is left out.
    Device,
}

impl Kind {
    /// Whether a copy has it.
    pub fn is_kept(self) -> bool {
        !matches!(self, Self::Socket | Self::Device)
    }

    /// As the file type of a directory entry; none when the file system does not say.
    pub fn hinted(hint: FileType) -> Option<Self> {
        match hint {
            FileType::RegularFile => Some(Self::File),
            FileType::Directory => Some(Self::Directory),
            FileType::Symlink => Some(Self::Symlink),
            FileType::Fifo => Some(Self::Fifo),
            FileType::Socket => Some(Self::Socket),
            FileType::CharacterDevice | FileType::BlockDevice => Some(Self::Device),
            FileType::Unknown => None,
        }
    }
}

/// A point in time of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Seconds since 1970.
    pub seconds: i64,
    /// Nanoseconds of the second.
    pub nanoseconds: u32,
}

/// Something that was changed so shortly before may change again without another time: file systems count in steps of some
/// milliseconds, some of a second.
const STEP: i64 = 1;

impl Moment {
    /// Now, by the clock that file systems have their times from.
    pub fn now() -> Self {
        let now = clock::realtime();
        Self {
            seconds: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
            nanoseconds: now.subsec_nanos(),
        }
    }

    /// Whether whatever is changed from then on gets another time than this.
    pub fn is_old(self, then: Self) -> bool {
        self.seconds < then.seconds.saturating_sub(STEP)
    }
}

impl From<StatxTimestamp> for Moment {
    fn from(time: StatxTimestamp) -> Self {
        Self {
            seconds: time.tv_sec,
            nanoseconds: time.tv_nsec,
        }
    }
}

/// Two equal stamps of one name mean that nothing was written to it in between: the kernel sets `changed` itself, and
/// nobody can set it back but by the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// What it is.
    pub kind: Kind,
    /// Permission bits, set-user-ID and the like among them.
    pub mode: u32,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Number within the file system.
    pub inode: u64,
    /// Bytes; of a symbolic link the length of what it says.
    pub size: u64,
    /// When the content was written (mtime).
    pub modified: Moment,
    /// When anything of it was changed (ctime).
    pub changed: Moment,
}

impl Stamp {
    /// Whether a copy has what its source had; its number and the time of its making are its own.
    pub fn is_alike(&self, source: &Self) -> bool {
        let own = Self {
            inode: source.inode,
            changed: source.changed,
            ..*self
        };
        own == *source
    }
}

/// All that is asked about an entry.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// What tells whether it changed.
    pub stamp: Stamp,
    /// The device that it is on; not the same over a reboot.
    pub device: (u32, u32),
    /// Names that it has.
    pub links: u32,
    /// Bytes that it takes on the disk.
    pub allocated: u64,
    /// When it was read (atime).
    pub accessed: Moment,
    /// Another file system, or a bind mount, lies here.
    pub mount: bool,
}

impl Look {
    /// At the entry of this name in an open directory; a link is looked at itself.
    pub fn at(dir: impl AsFd, name: &CStr) -> rustix::io::Result<Self> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
        rustix::fs::statx(dir, name, flags, StatxFlags::BASIC_STATS).map(Self::from)
    }

    /// At what is open.
    pub fn of(file: impl AsFd) -> rustix::io::Result<Self> {
        rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS).map(Self::from)
    }

    /// Some of its content is holes, which take no room.
    pub fn is_sparse(&self) -> bool {
        self.allocated < self.stamp.size
    }
}

impl From<Statx> for Look {
    fn from(stat: Statx) -> Self {
        let mode = u32::from(stat.stx_mode);
        let kind = Kind::hinted(FileType::from_raw_mode(mode)).unwrap_or(Kind::Device);
        Self {
            stamp: Stamp {
                kind,
                mode: mode & 0o7777,
                uid: stat.stx_uid,
                gid: stat.stx_gid,
                inode: stat.stx_ino,
                size: stat.stx_size,
                modified: stat.stx_mtime.into(),
                changed: stat.stx_ctime.into(),
            },
            device: (stat.stx_dev_major, stat.stx_dev_minor),
            links: stat.stx_nlink,
            allocated: stat.stx_blocks.saturating_mul(512),
            accessed: stat.stx_atime.into(),
            mount: stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
        }
    }
}
