//! What stands beside the suite on this machine and will be in its way: only files are read, so that it is known before
//! anything starts. The generator does not look (its units are a function of the configuration); `daggerctl config check` does.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::catalog::Catalog;
use crate::check::Checker;
use crate::cross::Places;
use crate::installed::{UNIT_DIRS, is_mask};
use crate::model::{Guard, Network, Protocol, Service};
use crate::names::Root;

/// No unit file comes near it.
const FILE_MAX: u64 = 256 << 10;

/// Says of each service what is in its way.
pub fn check(
    root: &Root,
    services: &[Service],
    guards: &[Guard],
    catalog: &Catalog,
    places: &Places<'_>,
    checker: &mut Checker<'_>,
) {
    let units = Units::find(root);
    let sockets: Vec<Listens> = units
        .enabled_sockets()
        .flat_map(|name| units.listens(name))
        .collect();
    for service in services {
        overridden(service, &units, places, checker);
        for claim in &service.ports {
            // What listens in another network is in nobody's way.
            if matches!(service.network, Network::Namespace(_)) {
                continue;
            }
            let key = crate::cross::port_key(&claim.name);
            let (port, word) = (claim.port, claim.protocol.word());
            for socket in sockets
                .iter()
                .filter(|it| it.port == port && it.protocol == claim.protocol)
            {
                warn(
                    checker,
                    service,
                    places.of(service, &[key, "like"]),
                    format!(
                        "port {port}/{word} is what {} listens on ({}:{})",
                        socket.unit, socket.file, socket.line
                    ),
                    format!(
                        "give it another: {key} = ..., or: systemctl disable --now {}",
                        socket.unit
                    ),
                );
            }
            for guard in guards
                .iter()
                .filter(|it| claim.protocol == Protocol::Tcp && usual_port(catalog, it) == Some(port))
            {
                warn(
                    checker,
                    service,
                    places.of(service, &[key, "like"]),
                    format!(
                        "port {port}/{word} is the usual one of {}, which is installed on this machine",
                        guard.unit
                    ),
                    format!(
                        "give it another: {key} = ..., or: systemctl disable --now {}",
                        guard.unit
                    ),
                );
            }
        }
    }
}

fn warn(
    checker: &mut Checker<'_>,
    service: &Service,
    at: crate::diagnostic::Span,
    problem: String,
    help: String,
) {
    checker.service = Some(service.name.as_str().to_owned());
    checker.warning(at, problem, Some(help));
    checker.service = None;
}

/// The port that an application has unless somebody gives it another.
fn usual_port(catalog: &Catalog, guard: &Guard) -> Option<u16> {
    let values = catalog.values(guard.service.as_str())?;
    let port = values.get("port")?;
    crate::layers::number(port)
}

/// A file of the administrator's in the place of the unit that is made of the configuration (systemd.unit(5): /etc and /run
/// come before what generators write).
fn overridden(service: &Service, units: &Units, places: &Places<'_>, checker: &mut Checker<'_>) {
    let name = service.name.unit();
    let Some(path) = units.before_generators(&name) else {
        return;
    };
    let shown = units.shown(&path);
    let (problem, help) = if is_mask(&path) {
        (
            format!("{name} is masked by {shown}: it does not start"),
            format!("systemctl unmask {name}"),
        )
    } else {
        (
            format!(
                "{shown} takes the place of the unit that is made of this: what stands here has no effect"
            ),
            format!("remove it, and put what should be different into a drop-in: systemctl edit {name}"),
        )
    };
    warn(checker, service, places.of(service, &[]), problem, help);
}

/// One line of a socket unit.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Listens {
    unit: String,
    file: String,
    line: usize,
    protocol: Protocol,
    port: u16,
}

/// All unit files that systemd would find, by name: the first directory that has a name decides.
struct Units {
    root: Root,
    dirs: Vec<PathBuf>,
    sockets: BTreeMap<String, PathBuf>,
    /// Names that a `.wants` or `.requires` directory links to.
    wanted: Vec<String>,
}

impl Units {
    fn find(root: &Root) -> Self {
        let mut units = Self {
            root: root.clone(),
            dirs: UNIT_DIRS
                .iter()
                .map(|dir| root.join(dir))
                .filter(|dir| dir.is_dir())
                .collect(),
            sockets: BTreeMap::new(),
            wanted: Vec::new(),
        };
        for dir in units.dirs.clone() {
            for (name, path) in entries(&dir) {
                match path.extension().and_then(|end| end.to_str()) {
                    Some("socket") => {
                        units.sockets.entry(name).or_insert(path);
                    }
                    Some("wants" | "requires") => {
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

    fn enabled_sockets(&self) -> impl Iterator<Item = &str> {
        let names = self
            .sockets
            .iter()
            .filter(|(name, path)| self.wanted.contains(name) && !is_mask(path));
        names.map(|(name, _)| name.as_str())
    }

    /// What a socket unit listens on, its drop-ins in the order of their names.
    fn listens(&self, name: &str) -> Vec<Listens> {
        let mut files: BTreeMap<String, PathBuf> = BTreeMap::new();
        for dir in &self.dirs {
            for (file, path) in entries(&dir.join(format!("{name}.d"))) {
                if Path::new(&file).extension().is_some_and(|end| end == "conf") {
                    files.entry(file).or_insert(path);
                }
            }
        }
        let mut found = Vec::new();
        for path in self.sockets.get(name).into_iter().chain(files.values()) {
            self.read(name, path, &mut found);
        }
        found
    }

    fn read(&self, unit: &str, path: &Path, found: &mut Vec<Listens>) {
        let small = fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() <= FILE_MAX);
        // One that cannot be read is one that systemd cannot read either.
        let Some(text) = small.then(|| fs::read_to_string(path).ok()).flatten() else {
            return;
        };
        let mut section = "";
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.starts_with('[') {
                section = line;
            }
            let Some((key, value)) = line.split_once('=').filter(|_| section == "[Socket]") else {
                continue;
            };
            let protocol = match key.trim() {
                "ListenStream" => Protocol::Tcp,
                "ListenDatagram" => Protocol::Udp,
                _ => continue,
            };
            if value.trim().is_empty() {
                // An empty one takes back all that were said before (systemd.socket(5)).
                found.clear();
                continue;
            }
            if let Some(port) = port(value.trim()) {
                found.push(Listens {
                    unit: unit.to_owned(),
                    file: self.shown(path),
                    line: index + 1,
                    protocol,
                    port,
                });
            }
        }
    }

    /// A unit file of this name where it comes before what generators write.
    fn before_generators(&self, name: &str) -> Option<PathBuf> {
        let dirs = ["etc/systemd/system", "run/systemd/system"];
        dirs.iter()
            .map(|dir| self.root.join(dir).join(name))
            .find(|path| fs::symlink_metadata(path).is_ok())
    }

    fn shown(&self, path: &Path) -> String {
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

/// `8989`, `127.0.0.1:8989`, `[::]:8989`; sockets of files, of the abstract name space and of vsock have no port.
fn port(address: &str) -> Option<u16> {
    if address.starts_with(['/', '@', '~']) || address.starts_with("vsock:") {
        return None;
    }
    address.rsplit(':').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use crate::diagnostic::Severity;
    use crate::load;
    use crate::scratch::Scratch;

    const TOML: &str = "[suite]\nmedia = \"/fun\"\n\n[services.sonarr]\nport = 9999\n\n[services.transmission]\npeer-port = 51413\n";

    /// What `config check` says of it, one line a warning.
    fn said(dir: &Scratch) -> Vec<String> {
        let loaded = load::load_beside(&dir.root());
        assert!(
            loaded
                .diagnostics
                .iter()
                .all(|it| it.severity == Severity::Warning)
        );
        loaded.diagnostics.iter().map(ToString::to_string).collect()
    }

    fn suite(name: &str) -> Scratch {
        let dir = Scratch::new(name);
        dir.put("etc/dagger/dagger.toml", TOML);
        dir
    }

    #[test]
    fn a_socket_unit_on_a_port_is_named_with_its_line() {
        let dir = suite("beside-socket");
        dir.put(
            "usr/lib/systemd/system/web.socket",
            "[Unit]\n[Socket]\nListenStream=/run/web\nListenStream=127.0.0.1:9999\n",
        )
        .put(
            "etc/systemd/system/peer.socket",
            "[Socket]\nListenDatagram=[::]:51413\nListenStream=51414\n",
        )
        .put("etc/systemd/system/off.socket", "[Socket]\nListenStream=9999\n");
        assert!(said(&dir).is_empty(), "nobody has enabled them");
        dir.link(
            "etc/systemd/system/sockets.target.wants/web.socket",
            "/usr/lib/systemd/system/web.socket",
        )
        .link(
            "etc/systemd/system/sockets.target.wants/peer.socket",
            "../peer.socket",
        );
        let said = said(&dir);
        assert_eq!(said.len(), 2, "{said:#?}");
        assert!(
            said[0].contains("dagger.toml:5:8")
                && said[0].contains(
                    "port 9999/tcp is what web.socket listens on (/usr/lib/systemd/system/web.socket:4)"
                ),
            "{said:#?}"
        );
        assert!(
            said[1].contains("dagger.toml:8:13")
                && said[1].contains("port 51413/udp is what peer.socket listens on"),
            "{said:#?}"
        );
    }

    #[test]
    fn a_drop_in_moves_a_socket_and_a_mask_silences_it() {
        let dir = suite("beside-drop-in");
        dir.put(
            "usr/lib/systemd/system/web.socket",
            "[Socket]\nListenStream=9999\n",
        )
        .link(
            "etc/systemd/system/sockets.target.wants/web.socket",
            "/usr/lib/systemd/system/web.socket",
        )
        .put(
            "etc/systemd/system/web.socket.d/port.conf",
            "[Socket]\nListenStream=\nListenStream=9998\n",
        );
        assert!(said(&dir).is_empty());
        let dir = suite("beside-mask");
        dir.put(
            "usr/lib/systemd/system/web.socket",
            "[Socket]\nListenStream=9999\n",
        )
        .link(
            "usr/lib/systemd/system/sockets.target.wants/web.socket",
            "../web.socket",
        );
        assert_eq!(said(&dir).len(), 1);
        dir.link("etc/systemd/system/web.socket", "/dev/null");
        assert!(said(&dir).is_empty());
    }

    #[test]
    fn a_file_in_the_place_of_our_unit_is_named() {
        let dir = suite("beside-file");
        dir.put(
            "etc/systemd/system/dagger-sonarr.service",
            "[Service]\nExecStart=/bin/true\n",
        )
        .put(
            "etc/systemd/system/dagger-transmission.service.d/more.conf",
            "[Service]\nNice=5\n",
        );
        let said = said(&dir);
        assert_eq!(said.len(), 1, "{said:#?}");
        assert!(
            said[0].contains("/etc/systemd/system/dagger-sonarr.service takes the place"),
            "{said:#?}"
        );
        let dir = suite("beside-masked");
        dir.link("etc/systemd/system/dagger-sonarr.service", "/dev/null");
        assert!(
            self::said(&dir)[0].contains("is masked by"),
            "{:#?}",
            self::said(&dir)
        );
    }

    #[test]
    fn a_native_unit_of_nobody_has_its_usual_port() {
        let dir = Scratch::new("beside-native");
        dir.put(
            "etc/dagger/dagger.toml",
            "[suite]\nmedia = \"/fun\"\n\n[services.sonarr]\nport = 7878\n",
        );
        assert!(said(&dir).is_empty());
        dir.put(
            "usr/lib/systemd/system/radarr.service",
            "[Service]\nExecStart=/opt/Radarr/Radarr\n",
        );
        let said = said(&dir);
        assert_eq!(said.len(), 1, "{said:#?}");
        assert!(
            said[0].contains("dagger.toml:5:8") && said[0].contains("the usual one of radarr.service"),
            "{said:#?}"
        );
    }
}
