//! Every fixed name, once: paths, unit names, bus names, exit codes, and the escapes that lead from one to the other.
//!
//! Scripts and other people's tools rely on these, so they change with a major version only.

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};

/// Well-known bus name of the agent.
pub const BUS_NAME: &str = "org.nixarr.Dagger1";
/// Object path of the manager object.
pub const BUS_ROOT: &str = "/org/nixarr/Dagger1";
/// The agent's unit: `journalctl -u monitoring` is its log.
pub const AGENT_UNIT: &str = "monitoring.service";
/// The target that stands for the whole suite.
pub const TARGET: &str = "dagger.target";
/// The slice that all services of the suite live in.
pub const SLICE: &str = "dagger.slice";
/// The unit that stands for configuration files that could not be read as a whole.
pub const CONFIG_ERROR_UNIT: &str = "dagger-config-error.service";
/// The podman program, where the configuration knows no other.
pub const PODMAN: &str = "/usr/bin/podman";
/// systemd's own proxy, which is in no directory that systemd looks for programs in. Where a distribution has it elsewhere
/// (NixOS), `DAGGER_SOCKET_PROXYD` says so when this is built.
pub const SOCKET_PROXYD: &str = match option_env!("DAGGER_SOCKET_PROXYD") {
    Some(path) => path,
    None => "/usr/lib/systemd/systemd-socket-proxyd",
};
/// Directories of configuration, highest precedence first (the order of systemd.unit(5)).
pub const CONFIG_DIRS: [&str; 3] = ["etc/dagger", "run/dagger", "usr/lib/dagger"];
/// The main configuration file below each of [`CONFIG_DIRS`].
pub const CONFIG_FILE: &str = "dagger.toml";
/// Owner markers: one file a service, present while the container owns the service's data.
pub const OWNER_DIR: &str = "/var/lib/dagger/owner";
/// Holds: one file a service, present while neither the container nor the native unit may start, because the service is
/// changing hands or because that went wrong.
pub const HOLD_DIR: &str = "/var/lib/dagger/hold";
/// The unit that, at boot and before any service, finishes or undoes what a crash left.
pub const RECOVER_UNIT: &str = "dagger-recover.service";
/// What the agent asks of jobs, and what these say: see `adapter/jobs` of the agent.
pub const JOB_DIR: &str = "/run/dagger/job";
/// What the gate leaves for the unit it runs in: an environment file a service.
pub const GATE_DIR: &str = "/run/dagger/gate";
/// Copies of services' data that their shadows run on, a directory a service: root's alone.
pub const SHADOW_DIR: &str = "/var/lib/dagger/shadows";
/// The last alert of each service: an environment file a service, for `dagger-alert@<service>.service`.
pub const ALERT_DIR: &str = "/run/dagger/alert";
/// What is known of each service's image: a JSON file a service.
pub const IMAGE_DIR: &str = "/run/dagger/image";

/// Exit codes of the client and of `--check`.
pub mod exit {
    /// Everything is as asked for.
    pub const GOOD: u8 = 0;
    /// Refused or failed.
    pub const FAILED: u8 = 1;
    /// The command line was not understood.
    pub const USAGE: u8 = 2;
    /// Something is not healthy, or conflicts were found.
    pub const NOT_HEALTHY: u8 = 3;
    /// polkit said no.
    pub const NOT_AUTHORIZED: u8 = 4;
    /// The agent cannot be reached on the bus.
    pub const NO_AGENT: u8 = 5;
    /// A unit that stands for a mistake in the configuration (`EX_CONFIG` of sysexits.h).
    pub const CONFIG: u8 = 78;
}

/// Names that would collide with the suite's own units (`dagger-agent.service` and its like).
const RESERVED: [&str; 24] = [
    "agent",
    "alert",
    "config-error",
    "discard",
    "disarm",
    "front",
    "gate",
    "guard",
    "job",
    "metrics",
    "migrate",
    "netns",
    "plan",
    "promote",
    "pull",
    "quick-check",
    "recover",
    "rehearse",
    "resume",
    "rollback",
    "seal",
    "shadow",
    "sweep",
    "well",
];

/// The longest service name: unit names end at 255 bytes and ours carry a prefix and a suffix, host names end at 63.
pub const SERVICE_NAME_MAX: usize = 63;

/// The name of a service: lower-case letters, digits and inner hyphens, as in a host name (RFC 1123 label).
///
/// ```
/// use dagger_suite::names::ServiceName;
/// assert_eq!(ServiceName::parse("sonarr-4k").unwrap().unit(), "dagger-sonarr-4k.service");
/// assert!(ServiceName::parse("a/b").is_err());
/// assert!(ServiceName::parse("Sonarr").unwrap_err().contains("lower-case"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName(String);

impl ServiceName {
    /// Takes a name that follows the rule above; the error is a sentence that says which part of it was broken.
    pub fn parse(name: &str) -> Result<Self, String> {
        if name.is_empty() {
            return Err("a service name cannot be empty".into());
        }
        if name.len() > SERVICE_NAME_MAX {
            return Err(format!(
                "this service name has {} characters, at most {SERVICE_NAME_MAX} are allowed",
                name.len()
            ));
        }
        if let Some(bad) = name.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-')) {
            return Err(format!(
                "{bad:?} cannot stand in a service name: use lower-case letters, digits and hyphens"
            ));
        }
        if name.starts_with('-') || name.ends_with('-') {
            return Err("a service name cannot begin or end with a hyphen".into());
        }
        if RESERVED.contains(&name) {
            return Err(format!(
                "`{name}` is a name that dagger's own units use: choose another"
            ));
        }
        Ok(Self(name.to_owned()))
    }

    /// The bare name, as the user wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `dagger-<service>.service`.
    pub fn unit(&self) -> String {
        ["dagger-", &self.0, ".service"].concat()
    }

    /// The service that a unit of the suite stands for; none for the suite's own helpers, and for anybody else's.
    pub fn of_unit(unit: &str) -> Option<Self> {
        Self::parse(unit.strip_prefix("dagger-")?.strip_suffix(".service")?).ok()
    }

    /// The oneshot that fetches the service's image: `dagger-pull@<service>.service`.
    pub fn pull_unit(&self) -> String {
        ["dagger-pull@", &self.0, ".service"].concat()
    }

    /// The oneshot that tells people of what happened to the service: `dagger-alert@<service>.service`.
    pub fn alert_unit(&self) -> String {
        ["dagger-alert@", &self.0, ".service"].concat()
    }

    /// Name of the container, the same as the unit's without its suffix.
    pub fn container(&self) -> String {
        ["dagger-", &self.0].concat()
    }

    /// Its shadow's name: `sonarr-shadow`. Names have an end, and so may this be none.
    pub fn shadow(&self) -> Result<Self, String> {
        Self::parse(&[&self.0, "-shadow"].concat())
    }

    /// The drop-in of the configuration that makes its shadow.
    pub fn shadow_file(&self) -> String {
        format!("/run/dagger/conf.d/90-shadow-{}.toml", self.0)
    }

    /// The oneshot that makes a network of its own for it: `dagger-netns@<service>.service`.
    pub fn netns_unit(&self) -> String {
        ["dagger-netns@", &self.0, ".service"].concat()
    }

    /// What that makes.
    pub fn netns(&self) -> String {
        ["/run/netns/dagger-", &self.0].concat()
    }

    /// The oneshot that removes what its container left in podman's store: `dagger-sweep@<service>.service`.
    pub fn sweep_unit(&self) -> String {
        ["dagger-sweep@", &self.0, ".service"].concat()
    }

    /// The socket at its `front-port`: `dagger-front@<service>.socket`.
    pub fn front_socket(&self) -> String {
        ["dagger-front@", &self.0, ".socket"].concat()
    }

    /// Path of the owner marker.
    pub fn owner_marker(&self) -> String {
        format!("{OWNER_DIR}/{}", self.0)
    }

    /// Object path of the service on the bus.
    pub fn object_path(&self) -> String {
        format!("{BUS_ROOT}/service/{}", path_element(&self.0))
    }
}

/// A name as one element of an object path: bytes that a path cannot carry, and a digit in front, become `_` and two hex
/// digits, as systemd escapes unit names (`sd_bus_path_encode(3)`).
///
/// ```
/// assert_eq!(dagger_suite::names::path_element("4k.service"), "_34k_2eservice");
/// ```
pub fn path_element(name: &str) -> String {
    // It spells the empty name so.
    if name.is_empty() {
        return "_".into();
    }
    let mut element = String::with_capacity(name.len());
    for (index, byte) in name.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (index > 0 && byte.is_ascii_digit()) {
            element.push(char::from(byte));
        } else {
            let _ = write!(element, "_{byte:02x}");
        }
    }
    element
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The directory under which every program looks for everything: `/`, or `DAGGER_ROOT` (tests, image builds).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root(PathBuf);

impl Root {
    /// Takes `DAGGER_ROOT` from the environment, `/` without it.
    pub fn from_env() -> Self {
        Self::new(std::env::var_os("DAGGER_ROOT").map_or_else(|| PathBuf::from("/"), PathBuf::from))
    }

    /// A root of one's own.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self(dir.into())
    }

    /// Where the absolute (or already relative) path lies below this root.
    pub fn join(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The path as it will be seen inside the root: `DIR/etc/x` becomes `/etc/x`.
    pub fn inside(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.0)
            .map_or_else(|_| path.to_owned(), |rest| Path::new("/").join(rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_refused() {
        for (name, says) in [
            ("", "empty"),
            ("a/b", "'/'"),
            ("Sonarr", "lower-case"),
            ("so.narr", "'.'"),
            ("a@b", "'@'"),
            ("a\\x2d", "'\\\\'"),
            ("-a", "hyphen"),
            ("a-", "hyphen"),
            ("agent", "dagger's own"),
            (&"x".repeat(300), "300"),
        ] {
            let error = ServiceName::parse(name).unwrap_err();
            assert!(error.contains(says), "{name}: {error}");
        }
    }

    #[test]
    fn the_suites_helpers_are_not_services() {
        let name = |unit| ServiceName::of_unit(unit).map(|name| name.to_string());
        assert_eq!(name("dagger-sonarr-4k.service").as_deref(), Some("sonarr-4k"));
        for unit in [
            "dagger-pull@sonarr.service",
            "dagger-agent.service",
            "dagger-config-error.service",
            "x.service",
        ] {
            assert_eq!(name(unit), None, "{unit}");
        }
    }

    /// A service of such a name would take the place of a unit of ours.
    #[test]
    fn every_unit_of_ours_has_a_reserved_name() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../units/lib/systemd/system");
        let mut count = 0;
        for entry in std::fs::read_dir(dir).unwrap() {
            let unit = entry.unwrap().file_name().into_string().unwrap();
            let Some(rest) = unit.strip_prefix("dagger-") else {
                continue;
            };
            let name = rest.split(['@', '.']).next().unwrap();
            // `dagger-.service.d` is for all of them.
            let reserved = name.is_empty() || ServiceName::parse(name).is_err();
            assert!(reserved, "a service could be named `{name}`, like {unit}");
            count += 1;
        }
        assert!(count > 20, "{count} units");
    }

    #[test]
    fn object_paths_carry_every_name() {
        let path = |name: &str| ServiceName::parse(name).unwrap().object_path();
        assert_eq!(path("sonarr-4k"), "/org/nixarr/Dagger1/service/sonarr_2d4k");
        assert_eq!(path("4k"), "/org/nixarr/Dagger1/service/_34k");
    }

    #[test]
    fn root_moves_paths_there_and_back() {
        let root = Root::new("/tmp/r");
        assert_eq!(root.join("/etc/x"), Path::new("/tmp/r/etc/x"));
        assert_eq!(root.inside(Path::new("/tmp/r/etc/x")), Path::new("/etc/x"));
        assert_eq!(Root::new("/").inside(Path::new("/etc/x")), Path::new("/etc/x"));
    }
}
