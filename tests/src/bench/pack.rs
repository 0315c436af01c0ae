//! A directory as one file, which `floor` writes out again.
//!
//! ```text
//! kind: 1 byte, d (directory), f (file) or l (link) · length of the path: u32 · length of the content: u32 (little endian)
//! path, relative · content: the file's bytes, or the link's target
//! ```

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What is at a path.
#[derive(Debug, PartialEq, Eq)]
pub enum Entry {
    /// A directory.
    Directory,
    /// A file with these bytes.
    File(Vec<u8>),
    /// A link to this target.
    Link(Vec<u8>),
}

impl Entry {
    /// How many bytes of content it has.
    pub fn size(&self) -> usize {
        match self {
            Self::Directory => 0,
            Self::File(bytes) | Self::Link(bytes) => bytes.len(),
        }
    }
}

/// Everything below a directory by its relative path; a directory comes before what is in it.
pub fn read(directory: &Path) -> Result<BTreeMap<Vec<u8>, Entry>> {
    let mut entries = BTreeMap::new();
    let mut left = vec![directory.to_path_buf()];
    while let Some(place) = left.pop() {
        for entry in std::fs::read_dir(&place).with_context(|| format!("read {}", place.display()))? {
            let path = entry.context("read a directory")?.path();
            let kind = path.symlink_metadata().context("look at an entry")?.file_type();
            let content = if kind.is_symlink() {
                Entry::Link(bytes(
                    std::fs::read_link(&path).context("read a link")?.as_os_str(),
                ))
            } else if kind.is_dir() {
                left.push(path.clone());
                Entry::Directory
            } else {
                Entry::File(std::fs::read(&path).with_context(|| format!("read {}", path.display()))?)
            };
            let inside = path.strip_prefix(directory).context("an entry outside")?;
            entries.insert(bytes(inside.as_os_str()), content);
        }
    }
    Ok(entries)
}

/// The entries as one file.
pub fn pack(entries: &BTreeMap<Vec<u8>, Entry>) -> Result<Vec<u8>> {
    let mut packed = Vec::new();
    for (path, entry) in entries {
        let (kind, content): (u8, &[u8]) = match entry {
            Entry::Directory => (b'd', &[]),
            Entry::File(content) => (b'f', content),
            Entry::Link(target) => (b'l', target),
        };
        packed.push(kind);
        for part in [path.as_slice(), content] {
            packed.extend(u32::try_from(part.len()).context("too large")?.to_le_bytes());
        }
        packed.extend(path);
        packed.extend(content);
    }
    Ok(packed)
}

fn bytes(text: &OsStr) -> Vec<u8> {
    text.as_bytes().to_vec()
}
