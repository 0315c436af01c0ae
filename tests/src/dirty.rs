//! What a process has written and not yet made durable, read off a list of its system calls (strace(1), `-f -y`).
//!
//! A file's content and attributes are durable after a sync of it, names in a directory after one of that, and everything after
//! a syncfs(2) of its file system (here: of any). A sync counts for what had ended before it began, and once it has ended.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The calls that a list has to hold. A call that an architecture does not have is no mistake.
pub const CALLS: &[&str] = &[
    "openat",
    "openat2",
    "?open",
    "?creat",
    "write",
    "pwrite64",
    "writev",
    "pwritev",
    "pwritev2",
    "sendfile",
    "copy_file_range",
    "ioctl",
    "ftruncate",
    "fallocate",
    "fchown",
    "fchownat",
    "?chown",
    "?lchown",
    "fchmod",
    "fchmodat",
    "?chmod",
    "utimensat",
    "fsetxattr",
    "fremovexattr",
    "?rename",
    "renameat",
    "renameat2",
    "?link",
    "linkat",
    "?unlink",
    "unlinkat",
    "?symlink",
    "symlinkat",
    "?mkdir",
    "mkdirat",
    "?rmdir",
    "?mknod",
    "mknodat",
    "fsync",
    "fdatasync",
    "syncfs",
];

/// One thing that is in memory only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Item {
    /// What a file holds, or its attributes; or those of a directory.
    File(PathBuf),
    /// Which names there are in a directory.
    Names(PathBuf),
}

impl Item {
    fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Names(path) => path,
        }
    }

    fn moved(&self, from: &Path, to: &Path) -> Self {
        let moved = |path: &Path| match path.strip_prefix(from) {
            Ok(rest) if rest.as_os_str().is_empty() => to.to_owned(),
            Ok(rest) => to.join(rest),
            Err(_) => path.to_owned(),
        };
        match self {
            Self::File(path) => Self::File(moved(path)),
            Self::Names(path) => Self::Names(moved(path)),
        }
    }
}

/// What was in memory only when a line was added to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// The line, as far as the list shows it.
    pub line: String,
    /// How many calls have changed anything below the places since the line before.
    pub changes: usize,
    /// Everything that was in memory only.
    pub dirty: Vec<Item>,
}

/// Reads a list, and tells of each time when something was written to `log`; only what lies below `places` counts.
pub fn moments(list: &str, log: &Path, places: &[&Path]) -> Vec<Moment> {
    let mut reader = Reader {
        places,
        ..Reader::default()
    };
    let mut found = Vec::new();
    for (number, line) in list.lines().enumerate() {
        let Some((process, line)) = line.split_once(char::is_whitespace) else {
            continue;
        };
        // The time.
        let Some((_, line)) = line.trim_start().split_once(' ') else {
            continue;
        };
        let (call, ended) = if let Some((_, rest)) = line.split_once(" resumed>") {
            let Some((began, head)) = reader.open.remove(process) else {
                continue;
            };
            (Call::read(&format!("{head}{rest}"), began), true)
        } else if let Some((head, _)) = line.split_once(" <unfinished ...>") {
            reader.open.insert(process.to_owned(), (number, head.to_owned()));
            (Call::read(head, number), false)
        } else {
            (Call::read(line, number), true)
        };
        let Some(call) = call else { continue };
        if call.began == number && call.name == "write" && call.places.first().is_some_and(|to| to == log) {
            found.push(Moment {
                line: call.text.clone(),
                changes: std::mem::take(&mut reader.changes),
                dirty: reader.dirty.keys().cloned().collect(),
            });
        }
        if ended && call.good {
            reader.take(&call, number);
        }
    }
    found
}

#[derive(Default)]
struct Reader<'a> {
    places: &'a [&'a Path],
    /// What is in memory only, and in which line that ended which made it so.
    dirty: BTreeMap<Item, usize>,
    changes: usize,
    /// Calls that have begun and not ended, by process.
    open: BTreeMap<String, (usize, String)>,
}

impl Reader<'_> {
    fn take(&mut self, call: &Call, number: usize) {
        let Some(first) = call.places.first() else { return };
        let last = call.places.last().unwrap_or(first);
        match call.name.as_str() {
            "syncfs" => self.dirty.retain(|_, made| *made >= call.began),
            "fsync" | "fdatasync" => {
                self.dirty
                    .retain(|item, made| item.path() != first || *made >= call.began);
            }
            "open" | "openat" | "openat2" | "creat" => {
                // One that may have been there already is new for all that is known.
                if call.text.contains("O_CREAT") || call.name == "creat" {
                    self.name(first, number);
                }
                if call.text.contains("O_TRUNC") {
                    self.note(Item::File(first.clone()), number);
                }
            }
            "ioctl" if !call.text.contains("FICLONE") => {}
            "rename" | "renameat" | "renameat2" => {
                let dirty = std::mem::take(&mut self.dirty);
                let moved = dirty.into_iter().map(|(item, at)| (item.moved(first, last), at));
                self.dirty = moved.collect();
                self.name(first, number);
                self.name(last, number);
            }
            "unlink" | "unlinkat" | "rmdir" => {
                self.dirty.retain(|item, _| !item.path().starts_with(first));
                self.name(first, number);
            }
            "link" | "linkat" | "symlink" | "symlinkat" | "mkdir" | "mkdirat" | "mknod" | "mknodat" => {
                self.name(last, number);
            }
            // The file that is written to, where there are two.
            "copy_file_range" => self.note(Item::File(last.clone()), number),
            _ => self.note(Item::File(first.clone()), number),
        }
    }

    fn name(&mut self, path: &Path, number: usize) {
        if let Some(parent) = path.parent().filter(|_| !is_passing(path)) {
            self.note(Item::Names(parent.to_owned()), number);
        }
    }

    fn note(&mut self, item: Item, number: usize) {
        let counts = !matches!(&item, Item::File(path) if is_passing(path));
        if counts && self.places.iter().any(|place| item.path().starts_with(place)) {
            self.changes += 1;
            self.dirty.insert(item, number);
        }
    }
}

/// Whether a file is SQLite's between two processes, or has no name: nobody looks for it after a power cut.
fn is_passing(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with("-shm") || name.ends_with("-wal") || name.starts_with('#')
}

/// One call: `renameat2(5</a>, "b", 5</a>, "c", 0) = 0`.
struct Call {
    name: String,
    /// Its arguments and how it ended.
    text: String,
    /// What it is about: each descriptor's path, with the name behind it; and names that need none.
    places: Vec<PathBuf>,
    good: bool,
    began: usize,
}

impl Call {
    fn read(line: &str, began: usize) -> Option<Self> {
        let (name, text) = line.split_once('(')?;
        let mut places: Vec<PathBuf> = Vec::new();
        let mut is_base = false;
        // What is written may hold anything; its descriptor comes first.
        let arguments = text.rsplit_once(") = ").map_or(text, |(arguments, _)| arguments);
        for field in arguments.split(", ") {
            let named = field
                .strip_prefix('"')
                .map(|field| field.trim_end_matches(&[')', '"'][..]));
            match (named, place(field)) {
                (Some(named), _) if is_base => {
                    if let Some(base) = places.last_mut() {
                        *base = base.join(named);
                    }
                    is_base = false;
                }
                (Some(named), _) if named.starts_with('/') => places.push(named.into()),
                (None, Some(place)) => {
                    places.push(place);
                    is_base = !name.contains("write");
                }
                _ => is_base = false,
            }
        }
        Some(Self {
            name: name.to_owned(),
            text: text.to_owned(),
            places,
            good: !text.contains(") = -1 ") && !text.ends_with(") = ?"),
            began,
        })
    }
}

/// The path that stands with a descriptor: `5</a/b>`, `AT_FDCWD</>`.
fn place(field: &str) -> Option<PathBuf> {
    let (number, path) = field.split_once('<')?;
    let is_descriptor = number == "AT_FDCWD" || number.bytes().all(|byte| byte.is_ascii_digit());
    let (path, _) = path.rsplit_once('>')?;
    let path = path.trim_end_matches(">(deleted)");
    (is_descriptor && path.starts_with('/')).then(|| path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is dirty at each line of the log.
    fn dirty(calls: &[&str]) -> Vec<Vec<String>> {
        let lines: Vec<String> = calls.iter().map(|call| format!("7 1.0 {call}")).collect();
        told(&lines.join("\n"))
    }

    fn told(list: &str) -> Vec<Vec<String>> {
        let found = moments(list, Path::new("/t/log"), &[Path::new("/s")]);
        let short = |item: &Item| match item {
            Item::File(path) => format!("file {}", path.display()),
            Item::Names(path) => format!("names {}", path.display()),
        };
        found
            .iter()
            .map(|moment| moment.dirty.iter().map(short).collect())
            .collect()
    }

    const DONE: &str = r#"write(3</t/log>, "done", 4) = 4"#;

    #[test]
    fn a_file_and_its_name_are_each_synced_by_themselves() {
        let made = r#"openat2(4</s>, "a", {flags=O_WRONLY|O_CREAT|O_EXCL, mode=0600}, 24) = 5</s/a>"#;
        let written = r#"write(5</s/a>, "x, \"y\") = 1", 9) = 9"#;
        let (file, dir) = ("fsync(5</s/a>) = 0", "fsync(4</s>) = 0");
        assert_eq!(dirty(&[made, written, DONE]), [["file /s/a", "names /s"]]);
        assert_eq!(dirty(&[made, written, file, DONE]), [["names /s"]]);
        assert_eq!(dirty(&[made, written, dir, DONE]), [["file /s/a"]]);
        assert_eq!(dirty(&[made, written, file, dir, DONE]), [[""; 0]]);
        assert_eq!(dirty(&[made, written, "syncfs(9</s/else>) = 0", DONE]), [[""; 0]]);
        assert_eq!(dirty(&[made, written, file, dir, written, DONE]), [["file /s/a"]]);
        assert_eq!(dirty(&["write(5</elsewhere/a>, \"x\", 1) = 1", DONE]), [[""; 0]]);
    }

    #[test]
    fn what_is_renamed_takes_along_what_is_not_on_disk_and_what_is_removed_is_gone() {
        let written = r#"pwrite64(5</s/new/a>, "x", 1, 0) = 1"#;
        let renamed = r#"renameat2(4</s>, "new", 4</s>, "old", RENAME_NOREPLACE) = 0"#;
        assert_eq!(dirty(&[written, renamed, DONE]), [["file /s/old/a", "names /s"]]);
        let gone = r#"unlinkat(6</s/new>, "a", 0) = 0"#;
        assert_eq!(dirty(&[written, gone, DONE]), [["names /s/new"]]);
        let failed = r#"unlinkat(6</s/new>, "a", 0) = -1 ENOENT (No such file or directory)"#;
        assert_eq!(dirty(&[failed, DONE]), [[""; 0]]);
        let copied = "copy_file_range(5</else/a>, NULL, 6</s/b>, NULL, 9, 0) = 9";
        assert_eq!(dirty(&[copied, DONE]), [["file /s/b"]]);
        let linked = r#"symlinkat("/away", 6</s/new>, "link") = 0"#;
        assert_eq!(dirty(&[linked, DONE]), [["names /s/new"]]);
    }

    #[test]
    fn a_sync_counts_for_what_had_ended_before_it_began_and_once_it_has_ended() {
        let list = |lines: &[&str]| lines.join("\n");
        let during = list(&[
            r#"7 1.0 pwrite64(5</s/a>, "x", 1, 0) = 1"#,
            "7 1.1 syncfs(4</s> <unfinished ...>",
            r#"8 1.2 pwrite64(6</s/b>, "x", 1, 0) = 1"#,
            "7 1.3 <... syncfs resumed>) = 0",
            r#"7 1.4 write(3</t/log>, "done", 4) = 4"#,
        ]);
        assert_eq!(told(&during), [["file /s/b"]]);
        let early = list(&[
            r#"7 1.0 pwrite64(5</s/a>, "x", 1, 0) = 1"#,
            "8 1.1 syncfs(4</s> <unfinished ...>",
            r#"7 1.2 write(3</t/log>, "done", 4) = 4"#,
            "8 1.3 <... syncfs resumed>) = 0",
        ]);
        assert_eq!(told(&early), [["file /s/a"]]);
    }
}
