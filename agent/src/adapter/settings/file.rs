//! A settings file that is replaced as a whole: beside it, synced, with the same owner, mode and extended attributes, and
//! renamed over it. A reader, and a machine that lost power, sees the old content or the new one.

use std::ffi::{CStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, XattrFlags};
use rustix::io::Errno;

use crate::adapter::disk::{self, DiskError};

/// No settings file of these applications comes near it.
const FILE_MAX: u64 = 4 << 20;
/// What the kernel allows for a list of names and for a value (XATTR_LIST_MAX, XATTR_SIZE_MAX).
const XATTR_MAX: usize = 64 << 10;

/// A settings file, held by its directory: nothing on the way to it is a link, and what is written goes where it was read.
pub struct SettingsFile {
    path: PathBuf,
    dir: OwnedFd,
    name: OsString,
    file: File,
    inode: u64,
    /// What is in it.
    pub text: String,
}

impl SettingsFile {
    /// Opens and reads it; none when it is not there.
    pub fn open(path: &Path) -> Result<Option<Self>, DiskError> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(DiskError::NotPlain(path.to_owned()));
        };
        let Some(dir) = disk::open_dir(parent)? else {
            return Ok(None);
        };
        let failed = |what| {
            move |source: io::Error| DiskError::Io {
                what,
                path: path.to_owned(),
                source,
            }
        };
        // Without NONBLOCK a pipe in the place of the file would be waited for.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&dir, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(failed("open")(error.into())),
        };
        let stat = rustix::fs::fstat(&file).map_err(|error| failed("open")(error.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(DiskError::NotAFile(path.to_owned()));
        }
        let mut bytes = Vec::new();
        (&file)
            .take(FILE_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(failed("read"))?;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > FILE_MAX {
            return Err(failed("read")(io::Error::other(format!(
                "it is larger than {FILE_MAX} bytes"
            ))));
        }
        let text =
            String::from_utf8(bytes).map_err(|_| failed("read")(io::Error::other("it is not UTF-8")))?;
        Ok(Some(Self {
            path: path.to_owned(),
            dir,
            name: name.to_owned(),
            file,
            inode: stat.st_ino,
            text,
        }))
    }

    /// Puts `text` in its place. Refused when the file is not the one that was read any more.
    pub fn replace(self, text: &str) -> Result<(), DiskError> {
        let mut temporary = OsString::from(".");
        temporary.push(&self.name);
        temporary.push(".dagger.tmp");
        let result = self.written(&temporary, text);
        if result.is_err() {
            // The reason is already known; a temporary file that stays behind changes nothing about it.
            let _ = rustix::fs::unlinkat(&self.dir, &*temporary, AtFlags::empty());
        }
        result.map_err(|source| DiskError::Io {
            what: "write",
            path: self.path.clone(),
            source,
        })
    }

    fn written(&self, temporary: &OsString, text: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.dir, &**temporary, AtFlags::empty()) {
            // Left by a job that lost power half way.
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut new = File::from(rustix::fs::openat(
            &self.dir,
            &**temporary,
            flags,
            Mode::from_raw_mode(0o600),
        )?);
        new.write_all(text.as_bytes())?;
        let stat = rustix::fs::fstat(&self.file)?;
        disk::chown(&new, stat.st_uid, stat.st_gid)?;
        self.copy_attributes(&new)?;
        // After the owner: changing that takes setuid bits away. After the attributes: an ACL speaks of the mode, too.
        rustix::fs::fchmod(&new, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
        new.sync_all()?;
        let now = rustix::fs::statat(&self.dir, &*self.name, AtFlags::SYMLINK_NOFOLLOW)?;
        if now.st_ino != self.inode || now.st_mtime != stat.st_mtime || now.st_size != stat.st_size {
            return Err(io::Error::other("somebody else has written it meanwhile"));
        }
        rustix::fs::renameat(&self.dir, &**temporary, &self.dir, &*self.name)?;
        rustix::fs::fsync(&self.dir)?;
        Ok(())
    }

    fn copy_attributes(&self, new: &File) -> io::Result<()> {
        let mut names = vec![0_u8; XATTR_MAX];
        let length = match rustix::fs::flistxattr(self.file.as_fd(), names.as_mut_slice()) {
            Ok(length) => length,
            // The file system has none.
            Err(Errno::NOTSUP) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        names.truncate(length);
        let mut value = vec![0_u8; XATTR_MAX];
        for name in names.split_inclusive(|byte| *byte == 0) {
            let name = CStr::from_bytes_with_nul(name).map_err(io::Error::other)?;
            let length = rustix::fs::fgetxattr(self.file.as_fd(), name, value.as_mut_slice())?;
            let value = value.get(..length).unwrap_or_default();
            match rustix::fs::fsetxattr(new.as_fd(), name, value, XattrFlags::empty()) {
                // A label of the system's own policy: the new file got its own when it was made.
                Err(Errno::PERM | Errno::NOTSUP) if name.to_bytes().starts_with(b"security.") => {}
                other => other?,
            }
        }
        Ok(())
    }
}
