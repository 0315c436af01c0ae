//! Unit files of this machine, and what systemd would make of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::text::{self, Line};
use crate::installed::{is_mask, template};
use crate::model::Protocol;
use crate::names::Root;

/// Where systemd looks, the first one that has a name decides (systemd.unit(5), "Unit File Load Path").
const DIRS: [&str; 8] = [
    "run/systemd/generator.early",
    "etc/systemd/system",
    "run/systemd/system",
    "run/systemd/generator",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
    "run/systemd/generator.late",
];

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

/// All unit files that systemd would find, those that generators made among them.
pub(super) struct Units {
    root: Root,
    dirs: Vec<PathBuf>,
    /// Names that a `.wants`, `.requires` or `.upholds` directory links to.
    wanted: BTreeSet<String>,
}

impl Units {
    pub fn find(root: &Root) -> Self {
        let dirs = DIRS.iter().map(|dir| root.join(dir));
        let mut units = Self {
            root: root.clone(),
            dirs: dirs.filter(|dir| dir.is_dir()).collect(),
            wanted: BTreeSet::new(),
        };
        for dir in units.dirs.clone() {
            for (_, path) in entries(&dir) {
                let links = ["wants", "requires", "upholds"];
                if links
                    .iter()
                    .any(|end| path.extension().is_some_and(|it| it == *end))
                {
                    let names = entries(&path).into_iter().map(|(name, _)| name);
                    units.wanted.extend(names);
                }
            }
        }
        units
    }

    /// What systemd listens on by itself: the socket units that are enabled, instances of templates among them. One that
    /// nobody has enabled is in nobody's way.
    pub fn listening(&self) -> Vec<Listens> {
        // Ours are made of the same configuration, whose services were compared with each other already.
        let theirs = |name: &&String| name.ends_with(".socket") && !name.starts_with("dagger-");
        let names = self.wanted.iter().filter(theirs);
        names.flat_map(|name| self.listens(name)).collect()
    }

    /// What a socket unit listens on, its drop-ins in the order of their names.
    fn listens(&self, name: &str) -> Vec<Listens> {
        let template = template(name);
        let instance = template.as_ref().map_or("", |(_, instance)| *instance);
        let mut found = Vec::new();
        for (file, lines) in self.read(name) {
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

    /// The lines of a unit: of its own file or its template's, then of its drop-ins. One that is not there, or is masked, has
    /// none.
    pub fn read(&self, name: &str) -> Vec<(PathBuf, Vec<Line>)> {
        let template = template(name).map(|(template, _)| template);
        let file = |name: &str| {
            let mut paths = self.dirs.iter().map(|dir| dir.join(name));
            paths.find(|path| fs::symlink_metadata(path).is_ok())
        };
        let Some(path) = file(name).or_else(|| file(template.as_ref()?)) else {
            return Vec::new();
        };
        if is_mask(&path) {
            return Vec::new();
        }
        let lines = text::read(&path);
        let names = drop_in_names(name, template.as_deref());
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        std::iter::once((path, lines))
            .chain(self.drop_ins(&names))
            .collect()
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

/// The names that a unit's drop-ins may go by, its own first: its template's, those that it begins with up to a dash, and
/// the kind of unit (systemd.unit(5)).
fn drop_in_names(name: &str, template: Option<&str>) -> Vec<String> {
    let mut names = vec![name.to_owned()];
    names.extend(template.map(str::to_owned));
    let Some((stem, kind)) = name.rsplit_once('.') else {
        return names;
    };
    let stem = stem.split_once('@').map_or(stem, |(stem, _)| stem);
    let dashes = stem.rmatch_indices('-').map(|(at, _)| at);
    let begins = dashes.filter(|at| at + 1 < stem.len());
    names.extend(begins.filter_map(|at| Some(format!("{}-.{kind}", stem.get(..at)?))));
    names.push(kind.to_owned());
    names
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
    fn drop_ins_go_by_every_name_that_systemd_looks_for() {
        assert_eq!(
            drop_in_names("a-b-c@x-y.socket", Some("a-b-c@.socket")),
            [
                "a-b-c@x-y.socket",
                "a-b-c@.socket",
                "a-b-.socket",
                "a-.socket",
                "socket"
            ]
        );
        assert_eq!(drop_in_names("web-.socket", None), ["web-.socket", "socket"]);
        assert_eq!(drop_in_names("web.socket", None), ["web.socket", "socket"]);
    }

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
