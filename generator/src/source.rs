//! Which files count, and their texts. With [`crate::installed`] the only file of the library that
//! reads the disk.
//!
//! Precedence is systemd's (systemd.unit(5), "Unit File Load Path" and drop-ins): of files with the same name, `/etc`
//! wins over `/run` wins over `/usr/lib`; different names are read in the order of their names. A file that is empty or
//! a link to `/dev/null` masks those below it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use crate::diagnostic::{Diagnostic, Severity, Sources, Span};
use crate::names::{CONFIG_DIRS, CONFIG_FILE, Root};
use crate::node::{self, Parsed};

/// The largest file that is read. A thousand services need a tenth of it.
pub const MAX_FILE: u64 = 4 * 1024 * 1024;

/// A link that leads back to itself (`ErrorKind::FilesystemLoop` is not stable yet).
const ELOOP: i32 = 40;

/// A file that was read and parsed.
pub struct File {
    /// Index in [`Sources`].
    pub id: u32,
    /// What it says.
    pub parsed: Parsed,
}

/// Everything that was found.
#[derive(Default)]
pub struct Found {
    /// Files of the configuration, in the order in which later ones win.
    pub config: Vec<File>,
    /// Files of the user's catalogue, likewise; the name without suffix is the entry's.
    pub catalog: Vec<(String, File)>,
    /// The texts, for diagnostics.
    pub sources: Sources,
    /// Files that could not be read at all.
    pub unreadable: Vec<Diagnostic>,
}

/// Finds and reads everything below the root.
pub fn find(root: &Root) -> Found {
    let mut found = Found::default();
    for name in [CONFIG_FILE, "dagger.json"] {
        let path = CONFIG_DIRS
            .iter()
            .map(|dir| root.join(dir).join(name))
            .find(|path| exists(path));
        if let Some(file) = path.and_then(|path| read(root, &path, &mut found)) {
            found.config.push(file);
        }
    }
    for (_, path) in listed(root, "conf.d", &mut found.unreadable) {
        if let Some(file) = read(root, &path, &mut found) {
            found.config.push(file);
        }
    }
    for (name, path) in listed(root, "catalog", &mut found.unreadable) {
        if let Some(file) = read(root, &path, &mut found) {
            let entry = name.rsplit_once('.').map_or(name.as_str(), |(entry, _)| entry);
            found.catalog.push((entry.to_owned(), file));
        }
    }
    found
}

fn exists(path: &Path) -> bool {
    // A broken link is there, and is reported when it is read.
    fs::symlink_metadata(path).is_ok()
}

/// The files of a directory of drop-ins, by name, each from the directory that wins.
fn listed(root: &Root, dir: &str, unreadable: &mut Vec<Diagnostic>) -> BTreeMap<String, PathBuf> {
    let mut files = BTreeMap::new();
    // Lowest precedence first: later insertions win.
    for base in CONFIG_DIRS.iter().rev() {
        let path = root.join(base).join(dir);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => {
                unreadable.push(cannot_read(root, &path, &error));
                continue;
            }
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                let help = Some("rename it: names of drop-ins are UTF-8".to_owned());
                let shown = root.inside(&entry.path()).to_string_lossy().into_owned();
                unreadable.push(Diagnostic::of_file(shown, "the file's name is not UTF-8", help));
                continue;
            };
            // Editors and package managers leave files behind: only these two endings count, and nothing hidden.
            let suffix = Path::new(name).extension().and_then(|suffix| suffix.to_str());
            if !name.starts_with('.') && matches!(suffix, Some("toml" | "json")) {
                files.insert(name.to_owned(), entry.path());
            }
        }
    }
    files
}

/// Reads one file; None when it masks, or when it cannot be used (then a diagnostic is kept).
fn read(root: &Root, path: &Path, found: &mut Found) -> Option<File> {
    if fs::read_link(path).is_ok_and(|to| to == Path::new("/dev/null")) {
        return None;
    }
    let shown = root.inside(path).to_string_lossy().into_owned();
    match bytes(path) {
        Err(error) => {
            found.unreadable.push(cannot_read(root, path, &error));
            None
        }
        Ok(bytes) if bytes.is_empty() => None,
        Ok(bytes) => {
            let text = match String::from_utf8(bytes) {
                Ok(text) => text,
                Err(error) => {
                    found.unreadable.push(not_utf8(shown, &error));
                    return None;
                }
            };
            let id = found.sources.add(shown, text);
            let text = found.sources.text(id);
            let json = path.extension().is_some_and(|suffix| suffix == "json");
            let parsed = if json {
                node::parse_json(text, id)
            } else {
                node::parse_toml(text, id)
            };
            Some(File { id, parsed })
        }
    }
}

fn bytes(path: &Path) -> std::io::Result<Vec<u8>> {
    // Looked at before it is opened: opening a FIFO would wait for a writer, and a generator never waits.
    let meta = fs::metadata(path)?;
    if meta.is_dir() {
        return Err(std::io::Error::other("it is a directory"));
    }
    if !meta.is_file() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    let too_large = || std::io::Error::other(format!("it is larger than {} MiB", MAX_FILE / 1024 / 1024));
    if meta.len() > MAX_FILE {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0) + 1);
    fs::File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(too_large());
    }
    Ok(bytes)
}

fn cannot_read(root: &Root, path: &Path, error: &std::io::Error) -> Diagnostic {
    let shown = root.inside(path).to_string_lossy().into_owned();
    let help = match error.kind() {
        ErrorKind::PermissionDenied => Some("run as root, or make it readable".to_owned()),
        ErrorKind::NotFound => Some("the link points to nothing: mend or remove it".to_owned()),
        _ => None,
    };
    let problem = match error.raw_os_error() {
        Some(ELOOP) => "the file cannot be read: a link leads back to itself".to_owned(),
        _ => format!("the file cannot be read: {error}"),
    };
    Diagnostic::of_file(shown, problem, help)
}

/// The place of the first byte that is not UTF-8.
fn not_utf8(shown: String, error: &std::string::FromUtf8Error) -> Diagnostic {
    let valid = error.utf8_error().valid_up_to();
    let mut sources = Sources::default();
    let file = sources.add(shown, String::from_utf8_lossy(error.as_bytes()));
    let at = u32::try_from(valid).unwrap_or(u32::MAX);
    let byte = error.as_bytes().get(valid).copied().unwrap_or_default();
    sources.at(
        Span {
            file,
            start: at,
            end: at,
        },
        Severity::Error,
        format!("the file is not UTF-8: byte 0x{byte:02x}"),
        Some("save it as UTF-8".to_owned()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch as Dir;

    trait Look {
        fn found(&self) -> Found;
        fn names(&self) -> Vec<String>;
        fn refused(&self) -> String;
    }
    impl Look for Dir {
        fn found(&self) -> Found {
            find(&self.root())
        }
        fn names(&self) -> Vec<String> {
            let found = self.found();
            found
                .config
                .iter()
                .map(|file| found.sources.name(file.id).to_owned())
                .collect()
        }
        fn refused(&self) -> String {
            let found = self.found();
            assert!(found.config.is_empty());
            found.unreadable.iter().map(|it| it.one_line() + "\n").collect()
        }
    }

    #[test]
    fn precedence_is_systemds() {
        let dir = Dir::new("precedence");
        dir.put("usr/lib/dagger/dagger.toml", "a=1")
            .put("etc/dagger/dagger.toml", "a=2")
            .put("usr/lib/dagger/conf.d/50-x.toml", "a=3")
            .put("run/dagger/conf.d/50-x.toml", "a=4")
            .put("usr/lib/dagger/conf.d/90-y.toml", "a=5")
            .put("etc/dagger/conf.d/10-z.json", "{}")
            .put("etc/dagger/conf.d/ignored.txt", "x")
            .put("etc/dagger/conf.d/.hidden.toml", "x");
        assert_eq!(
            dir.names(),
            [
                "/etc/dagger/dagger.toml",
                "/etc/dagger/conf.d/10-z.json",
                "/run/dagger/conf.d/50-x.toml",
                "/usr/lib/dagger/conf.d/90-y.toml",
            ]
        );
    }

    #[test]
    fn empty_files_and_links_to_dev_null_mask() {
        let dir = Dir::new("mask");
        dir.put("usr/lib/dagger/dagger.toml", "a=1")
            .put("etc/dagger/dagger.toml", "")
            .put("usr/lib/dagger/conf.d/a.toml", "a=1")
            .link("etc/dagger/conf.d/a.toml", "/dev/null");
        assert!(dir.names().is_empty());
        assert!(dir.found().unreadable.is_empty());
    }

    #[test]
    fn nothing_there_is_nothing_wrong() {
        let dir = Dir::new("nothing");
        assert_eq!(dir.refused(), "");
    }

    #[test]
    fn files_that_cannot_be_used_are_named() {
        let dir = Dir::new("unusable");
        fs::create_dir_all(dir.path().join("etc/dagger/dagger.toml")).unwrap();
        dir.link("etc/dagger/conf.d/loop.toml", "loop.toml")
            .link("etc/dagger/conf.d/lost.toml", "nowhere")
            .link("etc/dagger/conf.d/zero.toml", "/dev/zero")
            .put("etc/dagger/conf.d/latin.toml", b"[suite]\n# \xe4\n");
        let big = fs::File::create(dir.path().join("etc/dagger/conf.d/big.toml")).unwrap();
        big.set_len(100 * 1024 * 1024).unwrap();
        let said = dir.refused();
        for part in [
            "dagger.toml: the file cannot be read: it is a directory",
            "loop.toml: the file cannot be read: a link leads back to itself",
            "lost.toml: the file cannot be read: No such file",
            "the link points to nothing",
            "zero.toml: the file cannot be read: it is not a regular file",
            "latin.toml:2:3: the file is not UTF-8: byte 0xe4",
            "big.toml: the file cannot be read: it is larger than 4 MiB",
        ] {
            assert!(said.contains(part), "{part} is not in\n{said}");
        }
    }
}
