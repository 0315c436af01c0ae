//! What a copy leaves out: paths from the top of a tree, each with all that is below it.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, PathBuf};

/// The paths as a tree, so that a walk looks at one level at a time.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Exclude {
    below: BTreeMap<Vec<u8>, Exclude>,
    whole: bool,
}

impl Exclude {
    /// Of relative paths: `sonarr.pid`, `logs`, `data/SQLiteBackups`. One that is not plain (empty, absolute, with `..`)
    /// leaves nothing out.
    pub fn new(paths: &[PathBuf]) -> Self {
        let mut all = Self::default();
        for path in paths {
            let names: Option<Vec<&[u8]>> = path
                .components()
                .map(|component| match component {
                    Component::Normal(name) => Some(name.as_bytes()),
                    _ => None,
                })
                .collect();
            let Some(names) = names.filter(|names| !names.is_empty()) else {
                continue;
            };
            let mut here = &mut all;
            for name in names {
                here = here.below.entry(name.to_vec()).or_default();
            }
            here.whole = true;
        }
        all
    }

    /// Whether the entry of this name is left out.
    pub fn has(&self, name: &[u8]) -> bool {
        self.below.get(name).is_some_and(|entry| entry.whole)
    }

    /// What is left out inside the directory of this name.
    pub fn inside(&self, name: &[u8]) -> Option<&Self> {
        self.below.get(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_left_out_with_all_below_it_and_nothing_else() {
        let paths = ["sonarr.pid", "data/logs", "/etc", "a/../b", ""].map(PathBuf::from);
        let exclude = Exclude::new(&paths);
        assert!(exclude.has(b"sonarr.pid"));
        assert!(!exclude.has(b"data") && !exclude.has(b"etc") && !exclude.has(b"b") && !exclude.has(b"a"));
        assert!(exclude.inside(b"data").unwrap().has(b"logs"));
        assert!(!exclude.has(b"logs"));
    }
}
