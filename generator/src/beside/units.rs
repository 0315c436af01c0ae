//! Unit files of this machine, and what systemd would make of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::text::{self, Line};
use crate::installed::{UNIT_DIRS, is_mask, template};
use crate::model::Protocol;
use crate::names::Root;

/// An address that a socket unit listens on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listens {
    /// The unit.
    pub unit: String,
    /// The file that says so, or the drop-in.
    pub file: String,
    /// The line in it.
    pub line: usize,
    /// Transport.
    pub protocol: Protocol,
    /// Its port.
    pub port: u16,
}

/// All unit files that systemd would find, by name: the first directory that has a name decides.
pub(super) struct Units {
    root: Root,
    dirs: Vec<PathBuf>,
    sockets: BTreeMap<String, PathBuf>,
    /// Names that a `.wants`, `.requires` or `.upholds` directory links to.
    wanted: BTreeSet<String>,
}

impl Units {
    pub fn find(root: &Root) -> Self {
        let dirs = UNIT_DIRS.iter().map(|dir| root.join(dir));
        let mut units = Self {
            root: root.clone(),
            dirs: dirs.filter(|dir| dir.is_dir()).collect(),
            sockets: BTreeMap::new(),
            wanted: BTreeSet::new(),
        };
        for dir in units.dirs.clone() {
            for (name, path) in entries(&dir) {
                match path.extension().and_then(|end| end.to_str()) {
                    Some("socket") => {
                        units.sockets.entry(name).or_insert(path);
                    }
                    Some("wants" | "requires" | "upholds") => {
                        units
                            .wanted
                            .extend(entries(&path).into_iter().map(|(name, _)| name));
                    }
                    _ => {}
                }
            }
        }
        units
    }

    /// What systemd listens on by itself: the socket units that are enabled, instances of templates among them. One that
    /// nobody has enabled is in nobody's way.
    pub fn listening(&self) -> Vec<Listens> {
        let names = self.wanted.iter().filter(|name| name.ends_with(".socket"));
        names.flat_map(|name| self.listens(name)).collect()
    }

    /// What a socket unit listens on, its drop-ins in the order of their names.
    fn listens(&self, name: &str) -> Vec<Listens> {
        let template = template(name);
        let of = |name: &str| self.sockets.get(name).map(PathBuf::as_path);
        let Some(path) = of(name).or_else(|| of(&template.as_ref()?.0)) else {
            return Vec::new();
        };
        if is_mask(path) {
            return Vec::new();
        }
        let instance = template.as_ref().map_or("", |(_, instance)| *instance);
        let names: Vec<&str> = std::iter::once(name)
            .chain(template.as_ref().map(|(template, _)| template.as_str()))
            .collect();
        let mut found = Vec::new();
        let lines = std::iter::once((path.to_owned(), text::read(path))).chain(self.drop_ins(&names));
        for (file, lines) in lines {
            for line in lines.into_iter().filter(|line| line.section == "Socket") {
                self.take(name, instance, &file, &line, &mut found);
            }
        }
        found
    }

    fn take(&self, unit: &str, instance: &str, file: &Path, line: &Line, found: &mut Vec<Listens>) {
        let protocol = match line.key.as_str() {
            "ListenStream" => Protocol::Tcp,
            "ListenDatagram" => Protocol::Udp,
            _ => return,
        };
        if line.value.is_empty() {
            // An empty one takes back all that were said before (systemd.socket(5)).
            found.clear();
            return;
        }
        let address = line.value.replace("%i", instance).replace("%I", instance);
        found.extend(port(&address).map(|port| Listens {
            unit: unit.to_owned(),
            file: self.shown(file),
            line: line.number,
            protocol,
            port,
        }));
    }

    /// The drop-ins of a unit, which is known by these names: of files that are called the same the first one counts.
    pub fn drop_ins(&self, names: &[&str]) -> Vec<(PathBuf, Vec<Line>)> {
        let mut files: BTreeMap<String, PathBuf> = BTreeMap::new();
        for name in names {
            for dir in &self.dirs {
                for (file, path) in entries(&dir.join(format!("{name}.d"))) {
                    if Path::new(&file).extension().is_some_and(|end| end == "conf") {
                        files.entry(file).or_insert(path);
                    }
                }
            }
        }
        let read = |path: PathBuf| {
            let lines = text::read(&path);
            (path, lines)
        };
        files.into_values().map(read).collect()
    }

    /// A unit file of this name where it comes before what generators write.
    pub fn before_generators(&self, name: &str) -> Option<PathBuf> {
        let dirs = ["etc/systemd/system", "run/systemd/system"];
        dirs.iter()
            .map(|dir| self.root.join(dir).join(name))
            .find(|path| fs::symlink_metadata(path).is_ok())
    }

    /// A path as people know it.
    pub fn shown(&self, path: &Path) -> String {
        self.root.inside(path).display().to_string()
    }
}

/// The names in a directory, each with its path; one that is not there is empty.
fn entries(dir: &Path) -> Vec<(String, PathBuf)> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let named = |entry: fs::DirEntry| Some((entry.file_name().into_string().ok()?, entry.path()));
    let mut found: Vec<_> = entries.flatten().filter_map(named).collect();
    found.sort();
    found
}

/// `8989`, `127.0.0.1:8989`, `[::]:8989%eth0`; sockets of files, of the abstract name space and of vsock have no port.
fn port(address: &str) -> Option<u16> {
    if address.starts_with(['/', '@', '~']) || address.starts_with("vsock:") {
        return None;
    }
    let (address, _) = address.split_once('%').unwrap_or((address, ""));
    address.rsplit(':').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_off_addresses() {
        for (address, says) in [
            ("8989", Some(8989)),
            ("127.0.0.1:8989", Some(8989)),
            ("[::]:8989", Some(8989)),
            ("[fe80::1]:8989%eth0", Some(8989)),
            ("/run/x:1", None),
            ("@x:1", None),
            ("vsock:2:1", None),
            ("%i", None),
            ("", None),
            ("70000", None),
        ] {
            assert_eq!(port(address), says, "{address}");
        }
    }
}
