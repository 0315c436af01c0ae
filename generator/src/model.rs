//! The suite, resolved: every value is there, parsed and checked. No later code sees a string that could still be wrong.

use std::borrow::Cow;
use std::time::Duration;

use crate::names::ServiceName;
use crate::probe::Probe;

/// The role of a mount of the media tree.
pub const MEDIA: &str = "media";

/// What the port is called by which people find a service in a namespace.
pub const FRONT: &str = "front";

/// The whole suite.
#[derive(Debug, Clone)]
pub struct Suite {
    /// Services that can run, by name.
    pub services: Vec<Service>,
    /// Whether `dagger.target` is part of `multi-user.target`.
    pub start_at_boot: bool,
    /// How long a service that has changed hands is watched before that is final.
    pub probation: Duration,
    /// Whether its library is watched for longer.
    pub library_guard: bool,
    /// Which snapshots are kept.
    pub keep: Keep,
    /// The podman program, an absolute path.
    pub podman: String,
    /// Native units of services that do not run; they keep their condition.
    pub guards: Vec<Guard>,
    /// Services that are turned off; those that run know why they do not start again.
    pub off: Vec<ServiceName>,
    /// Main file of the configuration, for units that stand for no file in particular.
    pub source: String,
}

/// Which snapshots of one service are kept. The newest always is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// So many, the newest ones.
    pub count: usize,
    /// For so long.
    pub age: Duration,
    /// As long as so many bytes are free where they lie.
    pub floor: u64,
}

impl Default for Keep {
    fn default() -> Self {
        Self {
            count: 5,
            age: Duration::from_hours(24 * 30),
            floor: 5 << 30,
        }
    }
}

/// A service that cannot run: the unit that stands for it refuses to start and says why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The name, when it can be one; without it the message goes to `dagger-config-error.service`.
    pub name: ServiceName,
    /// One sentence a mistake, each with its place.
    pub messages: Vec<String>,
    /// File of the service, for `SourcePath=`.
    pub source: String,
}

/// A native unit whose service does not run: it cannot, was turned off, or was taken out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// The service whose marker decides.
    pub service: ServiceName,
    /// The native unit.
    pub unit: String,
}

/// One service.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// The catalogue entry it is made from, or its own name.
    pub kind: String,
    /// What people call it: "Sonarr".
    pub title: String,
    /// URLs for `Documentation=`.
    pub documentation: Vec<String>,
    /// File in which the user wrote it, for `SourcePath=`.
    pub source: String,
    /// The service whose shadow it is; none: it is a service of its own.
    pub shadow_of: Option<ServiceName>,
    /// Image reference, by tag or digest.
    pub image: String,
    /// When the image is fetched.
    pub pull: Pull,
    /// Who the application runs as.
    pub identity: Identity,
    /// Where the application listens.
    pub network: Network,
    /// Port on this machine's own 127.0.0.1 at which the main port is to be had, where that is in a network namespace.
    pub front: Option<u16>,
    /// Name servers inside; none are podman's choice.
    pub dns: Vec<String>,
    /// Every port that it binds, the main one first.
    pub ports: Vec<Claim>,
    /// Where people find it: `http://localhost:8989/base`. None when it has no web page.
    pub url: Option<String>,
    /// How it is asked whether it is well.
    pub probe: Probe,
    /// How often the agent asks.
    pub interval: Duration,
    /// How many bad answers in a row make it unhealthy.
    pub failures: u32,
    /// How many good answers in a row make it healthy again.
    pub successes: u32,
    /// How many times within an hour the agent restarts it before it leaves it failed.
    pub restarts: u32,
    /// Whether the agent restarts it at all.
    pub auto_recover: bool,
    /// Whether it may be migrated although its native unit writes the settings file anew at each start.
    pub accept_regenerated: bool,
    /// How long no good answer may come before systemd kills and restarts the unit; none: never.
    pub watchdog: Option<Duration>,
    /// How long a start may take before it is called failed.
    pub start_budget: Duration,
    /// Its own state, in the order in which they must be mounted.
    pub state: Vec<Mount>,
    /// Everything else that is mounted: media, volumes.
    pub mounts: Vec<Mount>,
    /// Paths of tmpfs inside, with podman's options (`/run:exec,mode=1777`).
    pub tmpfs: Vec<String>,
    /// Volumes of the image that nothing is mounted at, and whose content may go.
    pub disposable: Vec<String>,
    /// Environment of the application, by name.
    pub environment: Vec<(String, String)>,
    /// Files in podman's own format (podman-run(1), `--env-file`).
    pub environment_files: Vec<String>,
    /// `--entrypoint`, one program.
    pub entrypoint: Option<String>,
    /// Words after the image.
    pub command: Vec<String>,
    /// Umask inside, four octal digits.
    pub umask: Option<String>,
    /// IANA name, or `local`.
    pub timezone: Option<String>,
    /// Device nodes, directories of them, or CDI names.
    pub devices: Vec<Device>,
    /// Further groups, by number or by a name inside the image.
    pub groups: Vec<String>,
    /// Capabilities that are left, upper case without `CAP_`; all others are dropped.
    pub capabilities: Vec<String>,
    /// `no-new-privileges`.
    pub no_new_privileges: bool,
    /// Root file system read-only.
    pub read_only: bool,
    /// An init (catatonit) as PID 1.
    pub init: bool,
    /// `--shm-size`.
    pub shm_size: Option<String>,
    /// Path of a seccomp profile.
    pub seccomp_profile: Option<String>,
    /// Name of an AppArmor profile.
    pub apparmor_profile: Option<String>,
    /// `--security-opt=label=`.
    pub selinux_label: Option<String>,
    /// Where the application's output goes, podman's word.
    pub log_driver: String,
    /// Limits by systemd: directive and value (`MemoryMax`, `2G`), in the order of systemd.resource-control(5).
    pub limits: Vec<(&'static str, String)>,
    /// Signal that asks the application to stop, `SIGTERM` and its like.
    pub stop_signal: String,
    /// How long it may take to stop before it is killed.
    pub stop_timeout: Duration,
    /// Native units that may own the same data.
    pub native: Vec<NativeUnit>,
    /// Services of the suite that should answer before this one starts.
    pub wants: Vec<ServiceName>,
    /// SQLite databases that the application keeps in its state, by absolute path outside.
    pub databases: Vec<String>,
    /// Words for `podman run`, just before the image. The escape hatch.
    pub podman_args: Vec<String>,
}

impl Service {
    /// The mounts of the media tree: what the application must never see as an empty library.
    pub fn media(&self) -> impl Iterator<Item = &Mount> {
        self.mounts.iter().filter(|mount| mount.role == MEDIA)
    }

    /// The port of the host that [`Self::front`] is.
    pub fn front_claim(&self) -> Option<Claim> {
        self.front.map(|port| Claim {
            name: FRONT.into(),
            protocol: Protocol::Tcp,
            port,
            inside: port,
        })
    }

    /// Whether its network is one of its own, with nothing but itself in it.
    pub fn is_alone(&self) -> bool {
        matches!(&self.network, Network::Namespace(path) if *path == self.name.netns())
    }

    /// How long systemd waits for each step of the unit's stop (`TimeoutStopSec=`). The application has [`Self::stop_timeout`];
    /// podman kills it then and cleans up, and systemd must not do that in the middle (podman #26640: a container that is
    /// "stopping" for ever).
    pub fn longest_stop(&self) -> Duration {
        self.stop_timeout.saturating_add(STOP_MARGIN)
    }

    /// What its units are called; one of two of a kind with its name, as the other has the same title.
    pub fn called(&self) -> Cow<'_, str> {
        if self.shadow_of.is_some() || self.kind == self.name.as_str() {
            Cow::Borrowed(&self.title)
        } else {
            Cow::Owned(format!("{} ({})", self.title, self.name))
        }
    }
}

/// See [`Service::longest_stop`].
const STOP_MARGIN: Duration = Duration::from_secs(30);

/// When an image is fetched (podman-run(1), `--pull`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pull {
    /// Only when it is not there.
    Missing,
    /// When the registry has another one.
    Newer,
    /// Before each start.
    Always,
    /// Never: somebody else brings it.
    Never,
}

impl Pull {
    /// All policies with their words.
    pub const ALL: [(&'static str, Self); 4] = [
        ("missing", Self::Missing),
        ("newer", Self::Newer),
        ("always", Self::Always),
        ("never", Self::Never),
    ];

    /// The word for this policy.
    pub fn word(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, pull)| *pull == self)
            .map_or("missing", |(word, _)| word)
    }
}

/// Who the application runs as, and how its image is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// How the image learns of it.
    pub style: IdentityStyle,
    /// Numeric user.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// The service itself names the user: state of another one is a refusal, not something to adopt.
    pub uid_explicit: bool,
    /// The same of the group.
    pub gid_explicit: bool,
}

/// How an image learns which user to run as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdentityStyle {
    /// `PUID` and `PGID` in the environment; starts as root and drops (LinuxServer, hotio).
    Puid,
    /// `--user UID:GID`.
    User,
    /// The image's own user, whatever it is.
    Image,
}

/// Where the application listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// The host's own stack.
    Host,
    /// podman's bridge, ports published.
    Bridge,
    /// A named network namespace, by absolute path.
    Namespace(String),
}

/// Transport of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// `tcp` or `udp`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// A port that a service wants for itself, on every address of its network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// What it is for: `web`, `peer`.
    pub name: String,
    /// Transport.
    pub protocol: Protocol,
    /// Port outside (on the host, or in the namespace).
    pub port: u16,
    /// Port inside the container; differs from `port` only on a bridge.
    pub inside: u16,
}

/// A directory or file of the host that is visible inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What it is: `config`, `data`, `media`, or a volume's number.
    pub role: String,
    /// Absolute path on the host.
    pub source: String,
    /// Absolute path inside.
    pub target: String,
    /// Writing is refused.
    pub read_only: bool,
}

/// A device that is handed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Absolute path, or a CDI name (`nvidia.com/gpu=all`).
    pub name: String,
    /// The service starts without it.
    pub optional: bool,
}

/// A native unit that may own the same service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NativeUnit {
    /// Its name, with suffix.
    pub name: String,
    /// A unit of that name is on this machine ([`crate::installed`]).
    pub present: bool,
    /// The user names it: it gets its condition also while it is not on this machine, as far as can be seen.
    pub named: bool,
}
