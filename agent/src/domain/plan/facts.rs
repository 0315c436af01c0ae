//! What was found on the machine before a migration: plain data, filled by `adapter/facts`, judged by the plan.
//!
//! Paths are the host's, absolute and without links. No secret is in any of it: of settings and environment only those
//! are taken that are named in [`super::native`] and in the adapter's tables.

use serde::{Deserialize, Serialize};

use crate::domain::library::Counts;

/// Everything that was found about one service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The native unit; none: there is none on this machine.
    pub native: Option<Native>,
    /// The marker is there: the container owns the data already.
    pub owned: bool,
    /// The directories of the native state, one a role of the container's state.
    pub places: Vec<Place>,
    /// The databases in them.
    pub databases: Vec<Database>,
    /// What the application's own files say, as far as a migration needs it.
    pub settings: Vec<Setting>,
    /// Paths that the application has written down.
    pub stored: Vec<Stored>,
    /// The media trees of the container.
    pub media: Vec<Media>,
    /// Where snapshots would lie.
    pub room: Room,
    /// Rules that give one of the directories to somebody at each boot.
    pub boot: Vec<Rule>,
    /// Processes of others with files of the state open.
    pub holders: Vec<Holder>,
    /// The container's image; none: it is not in podman's store yet.
    pub image: Option<Image>,
    /// How long the container's unit last took to start, until the application answered, in milliseconds; none: it has not
    /// started since the machine booted.
    pub start_ms: Option<u64>,
    /// Device nodes that the native process has open (`/dev/dri/renderD128`).
    pub devices: Vec<String>,
    /// What the library holds now.
    pub library: Counts,
    /// When the application last went through its media, in its own words, empty for never; none: this is not known of it.
    pub scanned: Option<String>,
    /// How fast this machine copies.
    pub pace: Pace,
    /// How long the container is watched, by the configuration, in milliseconds.
    pub probation_ms: u64,
    /// What could not be looked at, and why, one sentence each.
    pub unknown: Vec<String>,
}

/// A rule of tmpfiles.d(5) about a directory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// File and line.
    pub at: String,
    /// The directory.
    pub path: String,
    /// Its type.
    pub kind: String,
    /// Mode, user and group, as they are written.
    pub fields: [String; 3],
}

impl Rule {
    /// Whether it gives the directory to somebody at each boot: with a colon before it an owner counts only when it is made.
    pub fn gives_back(&self) -> bool {
        let [_, user, group] = &self.fields;
        [user, group]
            .into_iter()
            .any(|owner| owner != "-" && !owner.starts_with(':'))
    }

    /// Whether systemd goes by only one of two rules: it takes the first, by the names of their files.
    pub fn is_instead_of(&self, other: &Self) -> bool {
        let adjusts = |rule: &Self| rule.kind.starts_with(['z', 'Z']);
        self.path == other.path && adjusts(self) == adjusts(other)
    }
}

/// A user and a group, by number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Who {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.uid, self.gid)
    }
}

/// The native unit, by systemd's own properties.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Native {
    /// Its name.
    pub unit: String,
    /// It runs.
    pub active: bool,
    /// Who installed it, as far as can be told.
    pub layout: Layout,
    /// Name of its user, empty for root.
    pub user: String,
    /// Numbers of user and group.
    pub who: Who,
    /// Its other groups, of the unit and of the user.
    pub groups: Vec<u32>,
    /// `DynamicUser=`: another number at each start.
    pub dynamic_user: bool,
    /// Words of `ExecStart=`, the program first.
    pub argv: Vec<String>,
    /// Variables that decide about places and ports; all others are left out.
    pub environment: Vec<(String, String)>,
    /// `NetworkNamespacePath=`.
    pub namespace: Option<String>,
    /// How long its last stop took, in milliseconds; none: nobody has stopped it since the machine booted.
    pub stop_ms: Option<u64>,
    /// How long systemd gives it to stop (`TimeoutStopUSec`), in milliseconds; none: without end.
    pub stop_limit_ms: Option<u64>,
    /// Settings files that the unit itself writes anew at each start.
    pub regenerated: Vec<String>,
}

/// Who installed a native unit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// nixarr's modules.
    Nixarr,
    /// NixOS's own modules.
    Nixos,
    /// A package of Debian's kind.
    Debian,
    /// The application's own installer.
    Upstream,
    /// Somebody else.
    #[default]
    Other,
}

impl Layout {
    /// For people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Nixarr => "nixarr",
            Self::Nixos => "NixOS",
            Self::Debian => "a package",
            Self::Upstream => "the application's own installer",
            Self::Other => "somebody",
        }
    }
}

/// One directory of the native state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// `config`, `data`: the role of the container's mount.
    pub role: String,
    /// Where it is, links resolved.
    pub path: String,
    /// Whether it is there at all.
    pub there: bool,
    /// Its owner.
    pub owner: Who,
    /// Owners of everything in it, with how many entries each has, the most first.
    pub owners: Vec<(Who, u64)>,
    /// The file system that it lies on.
    pub system: FileSystem,
    /// Bytes on disk of everything in it.
    pub bytes: u64,
    /// How many entries.
    pub files: u64,
    /// Mount points below it.
    pub mounts: Vec<String>,
    /// Links in it that lead out of all places, a bounded number.
    pub links: Vec<Link>,
    /// Files with a further name outside, a bounded number of each owner's.
    pub shared: Vec<Shared>,
    /// Device nodes, pipes, sockets and files with a setuid bit, a bounded number.
    pub special: Vec<String>,
    /// Marker files at its top: `.jellyfin-data`.
    pub markers: Vec<String>,
    /// Files that would make the application do something at its next start: `sonarr.restore`, a filled `restore/`.
    pub pending: Vec<String>,
}

/// A symbolic link.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Where it is.
    pub path: String,
    /// What it leads to, absolute and without links; as written when it leads nowhere.
    pub target: String,
}

/// A file that has a further name outside of the place (a hard link).
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Shared {
    /// Whose it is.
    pub owner: Who,
    /// One of its names in the place.
    pub path: String,
}

/// A file system and what it can do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSystem {
    /// Its kind, as mountinfo has it: `ext4`, `nfs4`, `fuse.mergerfs`.
    pub kind: String,
    /// Where it is mounted.
    pub mount: String,
    /// Files can share their blocks (FICLONE).
    pub reflink: bool,
    /// Bytes that are free for others than root.
    pub free: u64,
}

impl FileSystem {
    /// Whether SQLite's locks and shared memory do not work on it for certain (<https://www.sqlite.org/wal.html>, "all
    /// processes must be on the same host"; howtocorrupt.html, 2.1).
    pub fn is_risky(&self) -> bool {
        const KINDS: [&str; 12] = [
            "nfs",
            "nfs4",
            "cifs",
            "smb3",
            "smbfs",
            "9p",
            "ceph",
            "afs",
            "glusterfs",
            "fuse",
            "fuseblk",
            "virtiofs",
        ];
        KINDS.contains(&self.kind.as_str()) || self.kind.starts_with("fuse.")
    }
}

/// One database.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    /// Where it is.
    pub path: String,
    /// Bytes, its log included.
    pub bytes: u64,
    /// Version of its schema; none: it has no table of versions.
    pub schema: Option<Schema>,
    /// What SQLite says of it.
    pub integrity: Integrity,
}

/// How far a schema is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schema {
    /// The highest number in `VersionInfo` (Servarr).
    Number(i64),
    /// The last of a series of names that sort (`__EFMigrationsHistory`), or the only one (`alembic_version`).
    Name(String),
}

impl std::fmt::Display for Schema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// Whether a database is whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Integrity {
    /// Nobody looked, and why.
    Unknown(String),
    /// SQLite has nothing to say.
    #[default]
    Good,
    /// Its first complaint.
    Damaged(String),
}

/// How a settings file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Elements below one root element.
    Xml,
    /// One object.
    Json,
    /// Mappings of mappings.
    Yaml,
}

/// One value of an application's own settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// The file, links resolved.
    pub file: String,
    /// How it is written.
    pub format: Format,
    /// The keys that lead there, the root element of XML left out.
    pub key: Vec<String>,
    /// What it says; none: the key is not there.
    pub value: Option<String>,
}

impl Setting {
    /// `config.xml: BindAddress`.
    pub fn name(&self) -> String {
        let file = self.file.rsplit('/').next().unwrap_or(&self.file);
        format!("{file}: {}", self.key.join("."))
    }
}

/// What an application does with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Use {
    /// Its library lies there.
    Library,
    /// Downloads lie there.
    Downloads,
    /// What it deletes goes there.
    RecycleBin,
    /// It looks there for new things.
    Watch,
    /// It runs it.
    Script,
    /// It puts its own backups there.
    Backup,
    /// Working files that can be made anew.
    Scratch,
}

impl Use {
    /// For people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Library => "library",
            Self::Downloads => "downloads",
            Self::RecycleBin => "recycle bin",
            Self::Watch => "watched directory",
            Self::Script => "script",
            Self::Backup => "backups",
            Self::Scratch => "working files",
        }
    }
}

/// A path that the application has written down, in a database or in its settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// As it is written there.
    pub path: String,
    /// What it is for.
    pub for_what: Use,
    /// Where it stands: `sonarr.db: RootFolders`.
    pub from: String,
    /// How many entries name it, or something below it.
    pub count: u64,
    /// Whether it is there on the host; none: nobody could look.
    pub there: Option<bool>,
    /// Where it really is, when links lead elsewhere.
    pub real: Option<String>,
}

/// A media tree that the container mounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Media {
    /// Its path on the host.
    pub path: String,
    /// How it is.
    pub state: MediaState,
    /// The file system that it lies on.
    pub system: FileSystem,
}

/// How a media tree is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MediaState {
    /// It is there and holds something.
    Good,
    /// It is not there.
    Missing,
    /// Nothing is in it.
    Empty,
    /// Its file system is read-only.
    ReadOnly,
    /// It cannot be looked at: the system's words.
    Unreadable(String),
}

/// Where snapshots go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// The directory.
    pub path: String,
    /// Its file system.
    pub system: FileSystem,
}

/// A process that is not the native unit's and has files of the state open, or a unit that is set up to write there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The unit; none: a process outside of all units.
    pub unit: Option<String>,
    /// The process; none: the unit does not run.
    pub pid: Option<u32>,
    /// What the process is called.
    pub name: String,
    /// The file or directory.
    pub path: String,
}

/// The container's image, as podman's store has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Label `org.opencontainers.image.version`; empty without one.
    pub version: String,
    /// `sha256:...`; empty when it came from no registry.
    pub digest: String,
}

/// How fast files are copied and read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// Bytes a second.
    pub bytes: u64,
    /// Files a second, beside their bytes.
    pub files: u64,
}

/// What an old disk does.
impl Default for Pace {
    fn default() -> Self {
        Self {
            bytes: 100 << 20,
            files: 4000,
        }
    }
}
