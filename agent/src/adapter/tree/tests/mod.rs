//! Trees as applications and attackers make them, and all that can be told of a tree.

mod attacks;
mod round;
pub mod systems;
mod troubles;

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom as Seek, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, SeekFrom, Timespec, Timestamps, XattrFlags};

use super::*;

/// A directory of a test's own, gone with it.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        Self::within(&std::env::temp_dir(), name)
    }

    pub fn within(dir: &Path, name: &str) -> Self {
        let dir = dir.join(format!("dagger-tree-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        Self(dir.canonicalize().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // With our own: the standard library's is too deep for some of these trees.
        let parent = disk::open_dir(self.0.parent().unwrap()).unwrap().unwrap();
        let name = CString::new(self.0.file_name().unwrap().as_bytes()).unwrap();
        let removed = remove(parent, &name, &self.0, &Progress::default());
        assert!(removed.is_ok() || std::thread::panicking(), "{removed:?}");
    }
}

use crate::adapter::disk;

/// Owners, devices and mounts are root's to give.
pub fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: not root");
    }
    root
}

pub fn tree(path: &Path) -> Tree {
    Tree::open(path).unwrap()
}

/// All that can be told of an entry. Equal descriptions are equal trees.
#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    kind: &'static str,
    mode: u32,
    owner: (u32, u32),
    modified: (i64, i64),
    says: Vec<u8>,
    data: Vec<(u64, u64)>,
    attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first path of those that are this file.
    group: Vec<u8>,
}

/// A tree by the paths of its entries, the top among them. Sockets and devices are left out.
pub fn told(top: &Path) -> BTreeMap<Vec<u8>, Told> {
    let mut paths = vec![PathBuf::new()];
    let mut seen = BTreeMap::new();
    let mut all = BTreeMap::new();
    while let Some(path) = paths.pop() {
        let full = if path.as_os_str().is_empty() {
            top.to_owned()
        } else {
            top.join(&path)
        };
        let data = full.symlink_metadata().unwrap();
        let kind = match FileType::from_raw_mode(data.mode()) {
            FileType::RegularFile => "file",
            FileType::Directory => "directory",
            FileType::Symlink => "link",
            FileType::Fifo => "pipe",
            _ => continue,
        };
        if kind == "directory" {
            let mut below: Vec<_> = fs::read_dir(&full)
                .unwrap()
                .map(|entry| path.join(entry.unwrap().file_name()))
                .collect();
            below.sort();
            paths.extend(below.into_iter().rev());
        }
        let name = path.as_os_str().as_bytes().to_vec();
        let group = match kind {
            "file" => seen.entry(data.ino()).or_insert_with(|| name.clone()).clone(),
            _ => Vec::new(),
        };
        let (says, extents) = match kind {
            "file" => content(&full),
            "link" => (
                fs::read_link(&full).unwrap().as_os_str().as_bytes().to_vec(),
                Vec::new(),
            ),
            _ => (Vec::new(), Vec::new()),
        };
        all.insert(
            name,
            Told {
                kind,
                mode: data.mode() & 0o7777,
                owner: (data.uid(), data.gid()),
                modified: (data.mtime(), data.mtime_nsec()),
                says,
                data: extents,
                attributes: if kind == "link" {
                    BTreeMap::new()
                } else {
                    attributes_of(&full)
                },
                group,
            },
        );
    }
    all
}

/// The checksum of a file, and where it is no hole.
fn content(path: &Path) -> (Vec<u8>, Vec<(u64, u64)>) {
    let mut file = File::open(path).unwrap();
    let mut sum = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    let mut extents = Vec::new();
    let size = file.metadata().unwrap().len();
    let mut end = 0;
    while end < size {
        let Ok(start) = rustix::fs::seek(&file, SeekFrom::Data(end)) else {
            break;
        };
        end = rustix::fs::seek(&file, SeekFrom::Hole(start)).unwrap();
        extents.push((start, end));
    }
    // Holes are taken as read: they are zeros, and the extents say where they are.
    for (start, end) in &extents {
        file.seek(Seek::Start(*start)).unwrap();
        let mut left = end - start;
        while left > 0 {
            let most = usize::try_from(left).unwrap().min(buffer.len());
            let read = file.read(&mut buffer[..most]).unwrap();
            if read == 0 {
                break;
            }
            sum.update(&buffer[..read]);
            left -= read as u64;
        }
    }
    sum.update(&size.to_le_bytes());
    (sum.finalize().as_bytes().to_vec(), extents)
}

fn attributes_of(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut list = vec![0; 65536];
    let length = rustix::fs::listxattr(path, &mut list[..]).unwrap_or(0);
    let names = list[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = vec![0; 65536];
            let length = rustix::fs::getxattr(path, name, &mut value[..]).unwrap();
            value.truncate(length);
            (name.to_vec(), value)
        })
        .collect()
}

/// What differs between two trees, for a message that can be read.
pub fn assert_same(left: &Path, right: &Path, what: &str) {
    let (left, right) = (told(left), told(right));
    for (path, entry) in &left {
        let path_text = String::from_utf8_lossy(path);
        assert_eq!(Some(entry), right.get(path), "{what}: {path_text}");
    }
    for path in right.keys() {
        assert!(
            left.contains_key(path),
            "{what}: there is also {}",
            String::from_utf8_lossy(path)
        );
    }
}

/// Bytes that compress badly and differ by seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut out = vec![0; length];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut out);
    out
}

pub fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    File::create(path).unwrap().write_all(bytes).unwrap();
}

fn attribute(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::setxattr(path, name, value, XattrFlags::empty()).unwrap();
}

/// `user::rw-,user:ID:r--,group::r--,mask::r--,other::---` as the kernel takes it (linux/posix_acl_xattr.h).
fn acl(id: u32) -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, bits, id) in [
        (1_u16, 6_u16, u32::MAX),
        (2, 4, id),
        (4, 4, u32::MAX),
        (16, 4, u32::MAX),
        (32, 0, u32::MAX),
    ] {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&bits.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

fn owner(path: &Path, uid: u32, gid: u32, mode: u32) {
    std::os::unix::fs::lchown(path, Some(uid), Some(gid)).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Sets the last change of each entry to a time of its own, long ago and odd to the nanosecond.
pub fn age(top: &Path) {
    let paths: Vec<Vec<u8>> = told(top).into_keys().rev().collect();
    for (index, path) in paths.iter().enumerate() {
        let path = top.join(OsStr::from_bytes(path));
        let time = Timespec {
            tv_sec: 1_000_000_000 + i64::try_from(index).unwrap(),
            tv_nsec: 123_456_789,
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        rustix::fs::utimensat(rustix::fs::CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

/// One of everything that a state directory may hold.
pub fn fill(top: &Path) {
    write(&top.join("sonarr.db"), &noise(1, 300_000));
    write(&top.join("empty"), b"");
    write(&top.join("small"), b"x");
    write(&top.join("MediaCover/1/poster.jpg"), &noise(2, 70_000));
    for index in 0..600 {
        write(&top.join(format!("MediaCover/many/{index}")), &noise(index, 100));
    }
    write(&top.join(OsStr::from_bytes(b"a\nname \xff")), b"odd");
    fs::create_dir_all(top.join("nothing/in/here")).unwrap();
    let sparse = File::create(top.join("sparse")).unwrap();
    for (at, length) in [(1 << 20, 5000), (40 << 20, 70_000), (41 << 20, 1)] {
        sparse.write_all_at(&noise(at, length), at).unwrap();
    }
    sparse.set_len(64 << 20).unwrap();
    File::create(top.join("hole")).unwrap().set_len(1 << 20).unwrap();
    write(&top.join("linked/one"), &noise(3, 5000));
    fs::create_dir(top.join("linked/below")).unwrap();
    fs::hard_link(top.join("linked/one"), top.join("linked/two")).unwrap();
    fs::hard_link(top.join("linked/one"), top.join("linked/below/three")).unwrap();
    symlink("/etc/passwd", top.join("absolute")).unwrap();
    symlink("nowhere/at/all", top.join("dangling")).unwrap();
    std::os::unix::fs::lchown(top.join("dangling"), Some(274), Some(169)).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        top.join("pipe"),
        FileType::Fifo,
        Mode::empty(),
        0,
    )
    .unwrap();
    owner(&top.join("pipe"), 274, 169, 0o622);
    owner(&top.join("sonarr.db"), 274, 169, 0o600);
    owner(&top.join("small"), 0, 169, 0o6755);
    owner(&top.join("linked/one"), 274, 274, 0o440);
    owner(&top.join("MediaCover"), 274, 169, 0o2775);
    owner(&top.join("nothing"), 274, 169, 0o1777);
    owner(&top.join("nothing/in"), 274, 0, 0o500);
    attribute(&top.join("sonarr.db"), "user.note", b"kept");
    attribute(&top.join("MediaCover"), "user.empty", b"");
    attribute(&top.join("sonarr.db"), "system.posix_acl_access", &acl(1234));
    attribute(&top.join("MediaCover"), "system.posix_acl_default", &acl(4321));
    // cap_net_bind_service+ep, as setcap writes it.
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    attribute(&top.join("empty"), "security.capability", &capability);
    owner(top, 274, 169, 0o750);
    age(top);
}

/// Names that a tree has below a directory, however deep it is.
pub fn depth(top: &Path) -> usize {
    let mut dir: OwnedFd = disk::open_dir(top).unwrap().unwrap();
    for depth in 0.. {
        match enter(&dir, c"d") {
            Ok(next) => dir = next,
            Err(_) => return depth,
        }
    }
    0
}
