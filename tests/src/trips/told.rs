//! All that can be told of a tree.

use anyhow::{Context, Result};
use rustix::fs::SeekFrom;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hasher as _};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// By path from the top.
pub type Told = BTreeMap<PathBuf, String>;

/// Reads a tree. Nothing of it is changed, but for the times of reading.
pub fn tell(top: &Path) -> Result<Told> {
    let mut told = Told::new();
    let mut names: HashMap<u64, PathBuf> = HashMap::new();
    let mut left = vec![top.to_owned()];
    while let Some(path) = left.pop() {
        let inside = path.strip_prefix(top)?.to_owned();
        let entry = one(&path, &inside, &mut names).with_context(|| format!("look at {}", path.display()))?;
        told.insert(inside, entry);
        if fs::symlink_metadata(&path)?.is_dir() {
            let mut below = fs::read_dir(&path)?
                .map(|entry| Ok(entry?.path()))
                .collect::<io::Result<Vec<_>>>()?;
            below.sort();
            left.extend(below.into_iter().rev());
        }
    }
    Ok(told)
}

fn one(path: &Path, inside: &Path, names: &mut HashMap<u64, PathBuf>) -> Result<String> {
    let meta = fs::symlink_metadata(path)?;
    let mut said = vec![format!(
        "{:o} {}:{} {}.{:09}",
        meta.mode(),
        meta.uid(),
        meta.gid(),
        meta.mtime(),
        meta.mtime_nsec()
    )];
    if meta.is_symlink() {
        said.push(format!("-> {}", fs::read_link(path)?.display()));
        return Ok(said.join(" "));
    }
    if !meta.is_dir() && meta.nlink() > 1 {
        // The first name of those that are one file.
        let first = names.entry(meta.ino()).or_insert_with(|| inside.to_owned());
        said.push(format!("is {} of {}", first.display(), meta.nlink()));
    }
    if meta.is_file() {
        let file = File::open(path)?;
        said.push(format!("{} bytes, data at {:?}", meta.len(), data(&file)?));
        said.push(format!("sum {:x}", sum(&file)?));
    }
    if meta.is_file() || meta.is_dir() {
        said.push(attributes(path)?);
    }
    Ok(said.join(" "))
}

/// Where it has no holes.
fn data(file: &File) -> Result<Vec<(u64, u64)>> {
    let (mut found, mut end) = (Vec::new(), 0);
    loop {
        let start = match rustix::fs::seek(file, SeekFrom::Data(end)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        end = rustix::fs::seek(file, SeekFrom::Hole(start))?;
        found.push((start, end));
    }
    rustix::fs::seek(file, SeekFrom::Start(0))?;
    Ok(found)
}

fn sum(mut file: &File) -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(hasher.finish());
        }
        hasher.write(buffer.get(..read).unwrap_or_default());
    }
}

fn attributes(path: &Path) -> Result<String> {
    let mut list = vec![0; 65_536];
    let length = rustix::fs::listxattr(path, list.as_mut_slice())?;
    list.truncate(length);
    let mut said = Vec::new();
    for name in list.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 65_536];
        let length = rustix::fs::getxattr(path, name, value.as_mut_slice())?;
        value.truncate(length);
        said.push(format!(" {}={value:?}", String::from_utf8_lossy(name)));
    }
    said.sort();
    Ok(said.concat())
}
