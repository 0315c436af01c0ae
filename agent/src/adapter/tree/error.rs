//! What can go wrong with a tree, and how its paths are shown.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::adapter::disk::{DiskError, advice};

/// What can go wrong; each message names the path, and what to do where that is known.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The top of a tree cannot be reached.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The top of a tree is not there.
    #[error("{} is not there", .0.display())]
    Missing(PathBuf),
    /// The system said no.
    #[error("cannot {what} {path}: {source}{}", advice(source))]
    Io {
        /// What was tried: `open`, `write`.
        what: &'static str,
        /// With what.
        path: Shown,
        /// What the system said.
        source: io::Error,
    },
    /// Directories within directories, more than any application makes.
    #[error("{0} lies more than {most} directories deep: no application does this; remove it, then try again", most = super::DEPTH_MAX)]
    TooDeep(Shown),
    /// [`super::Progress::stop`] was called.
    #[error("stopped as was asked for")]
    Stopped,
    /// The list of what a copy holds is not one that was finished.
    #[error("{path} does not list a finished copy ({why}): make a new one")]
    Manifest {
        /// The file.
        path: Shown,
        /// What is wrong with it.
        why: String,
    },
}

impl TreeError {
    /// `cannot WHAT PATH: ...`.
    pub fn io(what: &'static str, path: &Path) -> impl FnOnce(Errno) -> Self {
        move |errno| Self::Io {
            what,
            path: Shown::new(path),
            source: errno.into(),
        }
    }
}

/// A path for people: on one line whatever bytes it has, and not longer than a line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shown(String);

/// More characters of a path than this say nothing more.
const SHOWN_MAX: usize = 500;

impl Shown {
    /// Of this path.
    pub fn new(path: &Path) -> Self {
        let text = path.to_string_lossy();
        let mut shown = String::new();
        for character in text.chars() {
            if character.is_control() {
                shown.extend(character.escape_default());
            } else {
                shown.push(character);
            }
        }
        let count = shown.chars().count();
        if count > SHOWN_MAX {
            let half = SHOWN_MAX / 2;
            let head: String = shown.chars().take(half).collect();
            let tail: String = shown.chars().skip(count - half).collect();
            shown = format!("{head}[...]{tail}");
        }
        Self(shown)
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    #[test]
    fn a_hostile_name_stays_on_one_line() {
        let path = Path::new(OsStr::from_bytes(b"/a/b\nsonarr is healthy\xff\x1b[2J"));
        let shown = Shown::new(path).to_string();
        assert_eq!(shown, "/a/b\\nsonarr is healthy\u{fffd}\\u{1b}[2J");
        let long = PathBuf::from("x/".repeat(5000));
        assert!(Shown::new(&long).to_string().len() < 600);
    }

    #[test]
    fn a_full_disk_says_what_to_do() {
        let error = TreeError::io("write", Path::new("/s/a"))(Errno::NOSPC).to_string();
        assert!(
            error.starts_with("cannot write /s/a: No space left") && error.contains("make room"),
            "{error}"
        );
    }
}
