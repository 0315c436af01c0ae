//! Outputs onto the disk, and what would change there. The only module of the library that writes.
//!
//! When a unit can be seen half-written: systemd empties its generator directories, runs all generators, and loads units
//! only when the last one has ended, so in its own hands nobody reads what we write before it is complete. A file that is
//! not there yet is therefore created and written once, with three system calls. A file that *is* there means that the
//! directory is somebody's (a run by hand, two at once): then the new text goes to a file beside it that is renamed into
//! place, so that whoever reads sees the old one or the new one (podman #29004 is what happens otherwise).

mod diff;

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write as _};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::names;
use crate::render::{Content, HEADER, OWNER_DROP_IN, Output, Rendering};
use crate::spread::spread;

/// Something that could not be written or removed; everything else was.
#[derive(Debug)]
pub struct Failure {
    /// The path, the directory included.
    pub path: PathBuf,
    /// What was tried: `make`, `write`, `remove`, `read`.
    pub action: &'static str,
    /// Why not.
    pub error: io::Error,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cannot {} {}: {}",
            self.action,
            self.path.display(),
            self.error
        )
    }
}

/// Makes the directory hold these outputs and no older ones of ours. Goes on after a failure; returns all of them.
pub fn write(dir: &Path, outputs: &[Output]) -> Vec<Failure> {
    let (mut failures, old) = prepare(dir);
    remove_stale(dir, &old, outputs, &mut failures);
    failures.extend(put_all(dir, outputs));
    failures
}

/// The same for all that a suite becomes. Into an empty directory, which is what systemd gives, a large suite is written
/// by several threads, each as it renders.
pub fn write_suite(dir: &Path, rendering: &Rendering) -> Vec<Failure> {
    let (mut failures, old) = prepare(dir);
    if !old.is_empty() {
        failures.extend(write(dir, &rendering.all()));
        return failures;
    }
    let written = spread(rendering.services(), |services| {
        put_all(dir, &rendering.of(services))
    });
    failures.extend(written.into_iter().flatten());
    failures.extend(put_all(dir, &rendering.rest()));
    failures
}

/// Makes the directory; returns what went wrong and what an earlier run left in it.
fn prepare(dir: &Path) -> (Vec<Failure>, Vec<String>) {
    let mut failures = Vec::new();
    if let Err(error) = fs::create_dir_all(dir) {
        failures.push(Failure {
            path: dir.to_path_buf(),
            action: "make",
            error,
        });
    }
    let old = ours(dir, &mut failures);
    (failures, old)
}

fn put_all(dir: &Path, outputs: &[Output]) -> Vec<Failure> {
    let mut failures = Vec::new();
    let mut path = PathBuf::new();
    for output in outputs {
        path.clear();
        path.push(dir);
        path.push(&output.path);
        if let Err(error) = put(&path, &output.content) {
            failures.push(Failure {
                path: path.clone(),
                action: "write",
                error,
            });
        }
    }
    failures
}

/// What [`write()`] would change, as a unified diff; empty when nothing would. Failures are what could not be read.
pub fn diff(dir: &Path, outputs: &[Output]) -> (String, Vec<Failure>) {
    let mut failures = Vec::new();
    let mut text = String::new();
    let mut old: BTreeSet<String> = ours(dir, &mut failures).into_iter().collect();
    let mut outputs: Vec<&Output> = outputs.iter().collect();
    outputs.sort_by(|a, b| a.path.cmp(&b.path));
    for output in outputs {
        old.remove(&output.path);
        let before = read(&dir.join(&output.path), &mut failures);
        diff::one(&mut text, &output.path, before.as_ref(), Some(&output.content));
    }
    for path in old {
        let before = read(&dir.join(&path), &mut failures);
        diff::one(&mut text, &path, before.as_ref(), None);
    }
    (text, failures)
}

/// Puts one thing in its place, with the directory that it is the first one in.
fn put(path: &Path, content: &Content) -> io::Result<()> {
    let put = || match content {
        Content::File(text) => put_file(path, text),
        Content::Link(target) => put_link(path, target),
    };
    match (put(), path.parent()) {
        (Err(error), Some(parent)) if error.kind() == ErrorKind::NotFound => {
            // Whatever is wrong with it shows now.
            let _ = fs::create_dir(parent);
            put()
        }
        (done, _) => done,
    }
}

fn put_file(path: &Path, text: &str) -> io::Result<()> {
    match create(path, text) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let beside = beside(path);
            remove_if_there(&beside)?;
            create(&beside, text)?;
            rename(&beside, path)
        }
        other => other,
    }
}

fn put_link(path: &Path, target: &str) -> io::Result<()> {
    match symlink(target, path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            if fs::read_link(path).is_ok_and(|there| there.as_os_str() == target) {
                return Ok(());
            }
            let beside = beside(path);
            remove_if_there(&beside)?;
            symlink(target, &beside)?;
            rename(&beside, path)
        }
        other => other,
    }
}

/// A new file with this text, or none at all.
fn create(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(path)?;
    file.write_all(text.as_bytes()).inspect_err(|_| {
        // A disk that is full: half a unit is worse than none. When this fails too, the error that counts is the first.
        let _ = fs::remove_file(path);
    })
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to).inspect_err(|_| {
        // As above: the error that counts is the one that is returned.
        let _ = fs::remove_file(from);
    })
}

/// A name in the same directory that systemd does not take for a unit, and that no other process uses.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".#{name}.{}", std::process::id()))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes what an earlier run left and this one does not write. In systemd's hands the directory is empty and this is
/// the reading of one directory.
fn remove_stale(dir: &Path, old: &[String], outputs: &[Output], failures: &mut Vec<Failure>) {
    if old.is_empty() {
        return;
    }
    let new: BTreeSet<&str> = outputs.iter().map(|output| output.path.as_str()).collect();
    for path in old.iter().filter(|path| !new.contains(path.as_str())) {
        let path = dir.join(path);
        if let Err(error) = remove_if_there(&path) {
            failures.push(Failure {
                path: path.clone(),
                action: "remove",
                error,
            });
        }
        if let Some(parent) = path.parent().filter(|parent| *parent != dir) {
            // Only when it is empty; others may have their drop-ins and links in it.
            let _ = fs::remove_dir(parent);
        }
    }
}

/// Everything in the directory that an earlier run of ours wrote, sorted.
fn ours(dir: &Path, failures: &mut Vec<Failure>) -> Vec<String> {
    let mut found = Vec::new();
    for name in entries(dir, failures) {
        if name.starts_with("dagger-") && name.ends_with(".service") {
            if begins_with_header(&dir.join(&name)) {
                found.push(name);
            }
        } else if name.ends_with(".service.d") {
            let path = format!("{name}/{OWNER_DROP_IN}");
            if begins_with_header(&dir.join(&path)) {
                found.push(path);
            }
        } else if let Some(target) = name.strip_suffix(".wants") {
            let linked = entries(&dir.join(&name), failures)
                .into_iter()
                .filter(|unit| match target {
                    names::TARGET => unit.starts_with("dagger-"),
                    _ => unit == names::TARGET,
                });
            found.extend(linked.map(|unit| format!("{name}/{unit}")));
        }
    }
    found.sort_unstable();
    found
}

/// Names in a directory; those that are not UTF-8 are not ours.
fn entries(dir: &Path, failures: &mut Vec<Failure>) -> Vec<String> {
    let read = fs::read_dir(dir).and_then(|entries| {
        let names = entries.map(|entry| entry.map(|entry| entry.file_name().into_string().ok()));
        names.filter_map(Result::transpose).collect()
    });
    match read {
        Ok(names) => names,
        Err(error) => {
            if error.kind() != ErrorKind::NotFound {
                failures.push(Failure {
                    path: dir.to_path_buf(),
                    action: "read",
                    error,
                });
            }
            Vec::new()
        }
    }
}

/// Whether the file is one that we wrote: nothing else may be removed, whatever its name.
fn begins_with_header(path: &Path) -> bool {
    let mut head = [0; HEADER.len() + 2];
    File::open(path)
        .and_then(|mut file| file.read_exact(&mut head))
        .is_ok()
        && head.strip_prefix(b"# ") == Some(HEADER.as_bytes())
}

/// What is at a path now.
fn read(path: &Path, failures: &mut Vec<Failure>) -> Option<Content> {
    let content = match fs::read_link(path) {
        Ok(target) => Ok(Content::Link(target.to_string_lossy().into_owned())),
        Err(error) if error.kind() == ErrorKind::InvalidInput => {
            fs::read(path).map(|bytes| Content::File(String::from_utf8_lossy(&bytes).into_owned()))
        }
        Err(error) => Err(error),
    };
    match content {
        Ok(content) => Some(content),
        Err(error) => {
            if error.kind() != ErrorKind::NotFound {
                failures.push(Failure {
                    path: path.to_path_buf(),
                    action: "read",
                    error,
                });
            }
            None
        }
    }
}

#[cfg(test)]
mod tests;
