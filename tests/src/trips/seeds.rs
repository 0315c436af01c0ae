//! A tree of all that a file can be.

use anyhow::{Context, Result};
use rustix::fs::{CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};

use crate::faults::dice::Dice;

const NAMES: [&[u8]; 6] = [
    b"poster.jpg",
    b"a\nsonarr is healthy",
    b"\xff\xfe no text",
    b" -rf",
    "日本 語.nfo".as_bytes(),
    b"\x1b[2J",
];
const MODES: [u32; 7] = [0o644, 0o600, 0o664, 0o000, 0o4755, 0o2755, 0o444];
const DIRECTORY_MODES: [u32; 4] = [0o755, 0o2775, 0o700, 0o1777];

/// Plants it. `foreign`: some of it belongs to others.
pub fn plant(dir: &Path, dice: &mut Dice, owner: (u32, u32), foreign: bool) -> Result<()> {
    let mut directories = vec![dir.to_owned()];
    fs::create_dir(dir).with_context(|| format!("make {}", dir.display()))?;
    for number in 0..dice.number(3, 8) {
        let above = dice.one(&directories).cloned().unwrap_or_default();
        let path = above.join(format!("d{number}"));
        fs::create_dir(&path)?;
        directories.push(path);
    }
    let mut files = Vec::new();
    for number in 0..dice.number(10, 40) {
        let above = dice.one(&directories).cloned().unwrap_or_default();
        let name = dice.one(&NAMES).copied().unwrap_or_default();
        let mut name = name.to_vec();
        name.extend_from_slice(format!(" {number}").as_bytes());
        let path = above.join(OsStr::from_bytes(&name));
        file(&path, dice)?;
        files.push(path);
    }
    special(dir, &directories, &files, dice)?;
    for path in everything(dir)? {
        attributes(&path, dice, owner, foreign)?;
    }
    // Times last, the deepest first: what is made in a directory changes its own.
    let mut all = everything(dir)?;
    all.reverse();
    for path in all {
        let moment = |dice: &mut Dice| Timespec {
            tv_sec: i64::try_from(dice.number(1, 1_700_000_000)).unwrap_or(1),
            tv_nsec: i64::try_from(dice.number(0, 999_999_999)).unwrap_or(1),
        };
        let times = Timestamps {
            last_access: moment(dice),
            last_modification: moment(dice),
        };
        rustix::fs::utimensat(CWD, &path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

fn file(path: &Path, dice: &mut Dice) -> Result<()> {
    let file = File::create(path).with_context(|| format!("make {}", path.display()))?;
    let noise = |dice: &mut Dice, length: u64| -> Vec<u8> {
        (0..length.div_ceil(8))
            .flat_map(|_| dice.number(0, u64::MAX - 1).to_le_bytes())
            .collect()
    };
    match dice.number(0, 4) {
        // Mostly holes, with an end that is one.
        0 => {
            let size = dice.number(1, 64) << 20;
            file.set_len(size)?;
            for _ in 0..dice.number(1, 4) {
                file.write_all_at(&noise(dice, 4096), dice.number(0, size / 8192) * 4096)?;
            }
            file.set_len(size)?;
        }
        1 => {}
        _ => {
            let length = dice.number(1, 200_000);
            file.write_all_at(&noise(dice, length), 0)?;
        }
    }
    Ok(())
}

/// Further names, links, pipes.
fn special(dir: &Path, directories: &[PathBuf], files: &[PathBuf], dice: &mut Dice) -> Result<()> {
    for number in 0..3 {
        let place = dice.one(directories).cloned().unwrap_or_default();
        if let Some(file) = dice.one(files) {
            for further in 0..dice.number(1, 3) {
                fs::hard_link(file, place.join(format!("same {number} {further}")))?;
            }
        }
        symlink("d0", dir.join(format!("link {number}")))?;
        let pipe = place.join(format!("pipe {number}"));
        rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR, 0)?;
    }
    symlink("nowhere", dir.join("dangling"))?;
    Ok(())
}

fn everything(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut all = vec![dir.to_owned()];
    let mut at = 0;
    while let Some(path) = all.get(at).cloned() {
        at += 1;
        if fs::symlink_metadata(&path)?.is_dir() {
            for entry in fs::read_dir(&path)? {
                all.push(entry?.path());
            }
        }
    }
    Ok(all)
}

fn attributes(path: &Path, dice: &mut Dice, (uid, gid): (u32, u32), foreign: bool) -> Result<()> {
    let meta = fs::symlink_metadata(path)?;
    let others = foreign && dice.number(0, 9) == 0;
    lchown(
        path,
        Some(if others { 1000 } else { uid }),
        Some(if others { 1000 } else { gid }),
    )?;
    if meta.is_symlink() {
        return Ok(());
    }
    let modes = if meta.is_dir() {
        &DIRECTORY_MODES[..]
    } else {
        &MODES[..]
    };
    let mode = dice.one(modes).copied().unwrap_or(0o600);
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    if !meta.is_dir() && !meta.is_file() {
        return Ok(());
    }
    if dice.number(0, 3) == 0 {
        rustix::fs::setxattr(path, "user.comment", b"a \0 b", XattrFlags::empty())
            .context("an attribute of the user's")?;
    }
    if dice.number(0, 3) == 0 {
        rustix::fs::setxattr(path, "system.posix_acl_access", &acl(), XattrFlags::empty())
            .context("an ACL")?;
    }
    Ok(())
}

/// `u::rw-,u:1234:r--,g::r--,m::r--,o::---` as the kernel has it (linux/posix_acl_xattr.h).
fn acl() -> Vec<u8> {
    let none = u32::MAX;
    let entries: [(u16, u16, u32); 5] = [
        (1, 6, none),
        (2, 4, 1234),
        (4, 4, none),
        (16, 4, none),
        (32, 0, none),
    ];
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, bits, id) in entries {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&bits.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}
