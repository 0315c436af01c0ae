//! Snapshots of services' data, and where they lie:
//!
//! ```text
//! /var/lib/dagger/snapshots/            0700: what is in them keeps its owners and modes, and only root gets there
//!   sonarr/
//!     20261124-101500/                  finished: it got this name last
//!       label.json                      of what, when, why: domain::snapshot::Label
//!       data/state/...                  one directory a role
//!       manifest/state                  its list, with checksums once it is sealed
//!     .new-20261124-111500/             being made, or left by a crash
//!     .gone-20261124-091500/            being removed, or left by a crash
//! ```

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use dagger_suite::names::{Root, ServiceName};
use rustix::fs::RenameFlags;
use rustix::io::Errno;

use super::disk::{self, DiskError, Leaf, Over};
use super::tree::{self, Manifest, Options, Progress, Report, Tree, TreeError, Verdict};
use crate::domain::snapshot::{Held, Label};

/// Where.
pub const SNAPSHOT_DIR: &str = "/var/lib/dagger/snapshots";

/// More snapshots of a service are not looked at; a policy keeps a handful.
const MOST: usize = 10_000;

/// A label is some hundred bytes.
const LABEL_MAX: usize = 1 << 20;

const NEW: &str = ".new-";
const GONE: &str = ".gone-";

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// With the files in it.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// With its place.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The name of a snapshot or of a role.
    #[error("{0:?} is no name for a snapshot: letters, digits and hyphens, 64 at most")]
    Name(String),
    /// One of this name is there and finished.
    #[error("{service} has a snapshot {id} already")]
    Exists {
        /// Whose.
        service: ServiceName,
        /// Which.
        id: String,
    },
    /// There is none of this name.
    #[error("{service} has no snapshot {id}: daggerctl snapshots {service} lists them")]
    None {
        /// Whose.
        service: ServiceName,
        /// Which.
        id: String,
    },
    /// A role was never copied, or its copying was cut off.
    #[error(
        "the snapshot {id} of {service} has no finished copy of its directory {role}: it is of no use, make a new one"
    )]
    Unfinished {
        /// Whose.
        service: ServiceName,
        /// Which.
        id: String,
        /// Which directory.
        role: String,
    },
    /// Its label cannot be read.
    #[error("{path} is no label of a snapshot: {why}", path = path.display())]
    Label {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// All snapshots.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
}

/// A snapshot that is being made.
#[derive(Debug)]
pub struct Draft {
    service: ServiceName,
    id: String,
    dir: PathBuf,
    done: PathBuf,
}

/// A finished snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its name, unique for the service.
    pub id: String,
    /// What is written on it.
    pub label: Label,
    service: ServiceName,
    dir: PathBuf,
}

impl Store {
    /// The one below this root.
    pub fn new(root: &Root) -> Self {
        Self::at(root, SNAPSHOT_DIR)
    }

    /// Another one, of copies that are not kept for later: laid out alike, and nobody's list has them.
    pub fn at(root: &Root, dir: &str) -> Self {
        Self { dir: root.join(dir) }
    }

    /// Where it is, made when it is missing.
    pub fn place(&self) -> Result<&Path, SnapshotError> {
        private(&self.dir)?;
        Ok(&self.dir)
    }

    /// Begins a snapshot. What a crash left of one of this name is removed.
    pub fn begin(
        &self,
        service: &ServiceName,
        id: &str,
        progress: &Progress,
    ) -> Result<Draft, SnapshotError> {
        let draft = self.draft(service, id)?;
        if disk::open_dir(&draft.done)?.is_some() {
            return Err(SnapshotError::Exists {
                service: service.clone(),
                id: id.to_owned(),
            });
        }
        private(&self.dir)?;
        let home = private(&self.home(service))?;
        remove(&home, &draft.dir, progress)?;
        for dir in [
            draft.dir.clone(),
            draft.dir.join("data"),
            draft.dir.join("manifest"),
        ] {
            private(&dir)?;
        }
        Ok(draft)
    }

    /// Goes on with a snapshot that another process began; none when there is no such.
    pub fn resume(&self, service: &ServiceName, id: &str) -> Result<Option<Draft>, SnapshotError> {
        let draft = self.draft(service, id)?;
        Ok(disk::open_dir(&draft.dir)?.map(|_| draft))
    }

    /// All finished ones of a service, the oldest first. Those that cannot be read are errors beside them.
    pub fn list(&self, service: &ServiceName) -> Result<(Vec<Snapshot>, Vec<SnapshotError>), SnapshotError> {
        let (mut found, mut errors) = (Vec::new(), Vec::new());
        for name in self.names(service)? {
            let Some(id) = name.to_str().filter(|id| is_name(id)) else {
                continue;
            };
            match self.find(service, id) {
                Ok(snapshot) => found.push(snapshot),
                Err(error) => errors.push(error),
            }
        }
        found.sort_by(|a, b| (a.label.when, &a.id).cmp(&(b.label.when, &b.id)));
        Ok((found, errors))
    }

    /// The finished one of this name.
    pub fn find(&self, service: &ServiceName, id: &str) -> Result<Snapshot, SnapshotError> {
        let dir = self.draft(service, id)?.done;
        let path = dir.join("label.json");
        let Some(text) = disk::read(&path, LABEL_MAX)? else {
            return Err(SnapshotError::None {
                service: service.clone(),
                id: id.to_owned(),
            });
        };
        let label = serde_json::from_slice(&text).map_err(|error| SnapshotError::Label {
            path,
            why: error.to_string(),
        })?;
        Ok(Snapshot {
            id: id.to_owned(),
            label,
            service: service.clone(),
            dir,
        })
    }

    /// Removes one, finished or not; one that is not there is no error. It is gone from the list at once.
    pub fn delete(&self, service: &ServiceName, id: &str, progress: &Progress) -> Result<(), SnapshotError> {
        let draft = self.draft(service, id)?;
        let home = self.home(service);
        let Some(dir) = disk::open_dir(&home)? else {
            return Ok(());
        };
        let gone = home.join(format!("{GONE}{id}"));
        for there in [&draft.done, &draft.dir] {
            remove(&dir, &gone, progress)?;
            if rename(&dir, there, &gone)? {
                sync(&dir, &home)?;
            }
            remove(&dir, &gone, progress)?;
        }
        Ok(())
    }

    /// Removes what crashes left of a service's snapshots, but for those that are being made and named here.
    pub fn sweep(
        &self,
        service: &ServiceName,
        but: &[&str],
        progress: &Progress,
    ) -> Result<(), SnapshotError> {
        let home = self.home(service);
        let Some(dir) = disk::open_dir(&home)? else {
            return Ok(());
        };
        for name in self.leftovers(service, but)? {
            remove(&dir, &home.join(&name), progress)?;
        }
        Ok(())
    }

    /// Whether [`Store::sweep`] would find nothing.
    pub fn is_swept(&self, service: &ServiceName) -> Result<bool, SnapshotError> {
        Ok(self.leftovers(service, &[])?.is_empty())
    }

    fn leftovers(
        &self,
        service: &ServiceName,
        but: &[&str],
    ) -> Result<Vec<std::ffi::OsString>, SnapshotError> {
        let mut names = self.names(service)?;
        names.retain(|name| {
            let text = name.to_string_lossy();
            let new = text.strip_prefix(NEW).is_some_and(|id| !but.contains(&id));
            new || text.starts_with(GONE)
        });
        Ok(names)
    }

    fn home(&self, service: &ServiceName) -> PathBuf {
        self.dir.join(service.as_str())
    }

    /// All services that have any.
    pub fn services(&self) -> Result<Vec<ServiceName>, SnapshotError> {
        let service = |name: std::ffi::OsString| ServiceName::parse(name.to_str()?).ok();
        Ok(listed(&self.dir)?.into_iter().filter_map(service).collect())
    }

    fn names(&self, service: &ServiceName) -> Result<Vec<std::ffi::OsString>, SnapshotError> {
        listed(&self.home(service))
    }

    fn draft(&self, service: &ServiceName, id: &str) -> Result<Draft, SnapshotError> {
        let home = self.home(service);
        Ok(Draft {
            service: service.clone(),
            id: named(id)?.to_owned(),
            dir: home.join(format!("{NEW}{id}")),
            done: home.join(id),
        })
    }
}

impl Draft {
    /// Where the copy of this role lies.
    pub fn data(&self, role: &str) -> PathBuf {
        self.dir.join("data").join(role)
    }

    /// Copies one of the application's directories; what was copied of it before is removed first.
    pub fn copy(
        &self,
        role: &str,
        from: &Tree,
        options: &Options,
        progress: &Progress,
    ) -> Result<Report, SnapshotError> {
        let list = self.unlist(named(role)?)?;
        let data = self.data(role);
        let parent = private(&self.dir.join("data"))?;
        remove(&parent, &data, progress)?;
        let to = Tree::new(private(&data)?, &data);
        let (manifest, report) = tree::copy(from, &to, options, progress)?;
        manifest.write(&list)?;
        Ok(report)
    }

    /// Brings that copy up to date. When it fails the copy is of no use any more: copy it again, or drop the draft.
    pub fn refresh(
        &self,
        role: &str,
        from: &Tree,
        options: &Options,
        progress: &Progress,
    ) -> Result<Report, SnapshotError> {
        let manifest = self.manifest(named(role)?)?;
        let list = self.unlist(role)?;
        let to = Tree::open(&self.data(role))?;
        let (manifest, report) = tree::refresh(from, &to, &manifest, options, progress)?;
        manifest.write(&list)?;
        Ok(report)
    }

    /// Puts the label on it, with the sizes filled in, and gives it its name. It is on disk when this returns.
    pub fn finish(self, mut label: Label) -> Result<Snapshot, SnapshotError> {
        (label.files, label.bytes) = (0, 0);
        for role in label.roles.keys() {
            let manifest = self.manifest(named(role)?)?;
            label.files += manifest.files();
            label.bytes = label.bytes.saturating_add(manifest.bytes());
        }
        let text = serde_json::to_vec_pretty(&label).unwrap_or_default();
        disk::write_as(&self.dir.join("label.json"), &text, Over::Replace, 0o600)?;
        let home = self.done.parent().unwrap_or(&self.done);
        let dir = private(home)?;
        sync(&private(&self.dir)?, &self.dir)?;
        if !rename(&dir, &self.dir, &self.done)? {
            return Err(SnapshotError::None {
                service: self.service,
                id: self.id,
            });
        }
        sync(&dir, home)?;
        Ok(Snapshot {
            id: self.id,
            label,
            service: self.service,
            dir: self.done,
        })
    }

    fn manifest(&self, role: &str) -> Result<Manifest, SnapshotError> {
        Manifest::read(&self.dir.join("manifest").join(role))?.ok_or_else(|| SnapshotError::Unfinished {
            service: self.service.clone(),
            id: self.id.clone(),
            role: role.to_owned(),
        })
    }

    /// Takes the list away before its copy is touched: a copy without one is never taken for whole.
    fn unlist(&self, role: &str) -> Result<PathBuf, SnapshotError> {
        let lists = self.dir.join("manifest");
        let dir = private(&lists)?;
        let list = lists.join(role);
        disk::remove(&dir, &list)?;
        sync(&dir, &lists)?;
        Ok(list)
    }
}

impl Snapshot {
    /// Whose data it is.
    pub fn service(&self) -> &ServiceName {
        &self.service
    }

    /// As far as its keeping is concerned.
    pub fn held(&self) -> Held {
        Held {
            id: self.id.clone(),
            when: self.label.when,
            bytes: self.label.bytes,
            pinned: self.label.pinned,
        }
    }

    /// One of its directories, and the list of what is in it.
    pub fn role(&self, role: &str) -> Result<(Tree, Manifest), SnapshotError> {
        let tree = Tree::open(&self.dir.join("data").join(named(role)?))?;
        let list = Manifest::read(&self.list(role))?;
        let list = list.ok_or_else(|| SnapshotError::Unfinished {
            service: self.service.clone(),
            id: self.id.clone(),
            role: role.to_owned(),
        })?;
        Ok((tree, list))
    }

    /// Makes a directory again what it was, see [`tree::restore`].
    pub fn restore(
        &self,
        role: &str,
        to: &Tree,
        options: &Options,
        progress: &Progress,
    ) -> Result<Report, SnapshotError> {
        let (copy, manifest) = self.role(role)?;
        Ok(tree::restore(&copy, &manifest, to, options, progress)?)
    }

    /// Writes down the checksums of all that it holds. It reads everything, so it is for when nobody waits.
    pub fn seal(
        &self,
        options: &Options,
        progress: &Progress,
    ) -> Result<BTreeMap<String, Verdict>, SnapshotError> {
        self.each(|role, copy, mut manifest| {
            let verdict = tree::seal(&copy, &mut manifest, options, progress)?;
            manifest.write(&self.list(role))?;
            Ok(verdict)
        })
    }

    /// Whether all that it holds has its checksum.
    pub fn is_sealed(&self) -> Result<bool, SnapshotError> {
        let mut roles = self.label.roles.keys().map(|role| self.role(role));
        roles.try_fold(true, |sealed, role| Ok(sealed && role?.1.is_sealed()))
    }

    /// Reads everything and compares it with the lists and their checksums, role by role.
    pub fn verify(
        &self,
        options: &Options,
        progress: &Progress,
    ) -> Result<BTreeMap<String, Verdict>, SnapshotError> {
        self.each(|_, copy, manifest| Ok(tree::verify(&copy, &manifest, options, progress)?))
    }

    fn each(
        &self,
        look: impl Fn(&str, Tree, Manifest) -> Result<Verdict, SnapshotError>,
    ) -> Result<BTreeMap<String, Verdict>, SnapshotError> {
        let roles = self.label.roles.keys();
        roles
            .map(|role| {
                let (copy, manifest) = self.role(role)?;
                Ok((role.clone(), look(role, copy, manifest)?))
            })
            .collect()
    }

    fn list(&self, role: &str) -> PathBuf {
        self.dir.join("manifest").join(role)
    }
}

fn is_name(name: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !name.is_empty() && name.len() <= 64 && name.bytes().all(good)
}

fn named(name: &str) -> Result<&str, SnapshotError> {
    if is_name(name) {
        Ok(name)
    } else {
        Err(SnapshotError::Name(name.to_owned()))
    }
}

fn listed(dir: &Path) -> Result<Vec<std::ffi::OsString>, SnapshotError> {
    let Some(open) = disk::open_dir(dir)? else {
        return Ok(Vec::new());
    };
    let failed = |source| DiskError::Io {
        what: "list",
        path: dir.to_owned(),
        source,
    };
    Ok(disk::names(&open, MOST).map_err(failed)?)
}

/// A directory that only root can enter.
fn private(path: &Path) -> Result<OwnedFd, DiskError> {
    let leaf = Leaf {
        mode: 0o700,
        owner: None,
    };
    Ok(disk::make_dir(path, leaf)?.dir)
}

/// Whether there was something to rename. Both names are in this directory.
fn rename(dir: &OwnedFd, from: &Path, to: &Path) -> Result<bool, TreeError> {
    let (Some(old), Some(new)) = (from.file_name(), to.file_name()) else {
        return Ok(false);
    };
    match rustix::fs::renameat_with(dir, old, dir, new, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(other) => Err(TreeError::io("rename", from)(other)),
    }
}

fn remove(dir: &OwnedFd, path: &Path, progress: &Progress) -> Result<(), TreeError> {
    let name = path.file_name().map(OsStr::as_bytes).unwrap_or_default();
    let Ok(name) = CString::new(name) else {
        return Ok(());
    };
    tree::remove(dir, &name, path, progress)
}

fn sync(dir: &OwnedFd, path: &Path) -> Result<(), TreeError> {
    rustix::fs::fsync(dir).map_err(TreeError::io("write out", path))
}

#[cfg(test)]
mod tests;
