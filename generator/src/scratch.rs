//! A directory for a test, which goes away with it.
#![allow(clippy::unwrap_used, reason = "a test that cannot make its files fails")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::names::Root;

/// The directory.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// An empty one; `name` says whose it is, where one is left behind.
    pub(crate) fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let own = format!("dagger-{name}-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(own);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The same as the root of a machine.
    pub(crate) fn root(&self) -> Root {
        Root::new(&self.0)
    }

    /// Writes a file, and the directories on the way to it.
    pub(crate) fn put(&self, path: &str, text: impl AsRef<[u8]>) -> &Self {
        fs::write(self.place(path), text).unwrap();
        self
    }

    /// Makes a symbolic link, and the directories on the way to it.
    pub(crate) fn link(&self, path: &str, to: &str) -> &Self {
        symlink(to, self.place(path)).unwrap();
        self
    }

    fn place(&self, path: &str) -> PathBuf {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
