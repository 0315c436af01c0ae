//! Every key of the configuration, once: its kind, its meaning, its default. The check of what the user wrote, the
//! suggestions for what was misspelt and the reference page are made from these tables.

/// What a value may be.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// Any text but for NUL, carried byte for byte.
    Text,
    /// A whole number within bounds, both included.
    Number(i64, i64),
    /// A port number, 1 to 65535.
    Port,
    /// An absolute path without `..`.
    Path,
    /// A time span: `90s`, `5min`, `1h 30min`, or a number of seconds.
    Duration,
    /// An amount of memory: `512M`, `2G`, `50%` or `infinity` (systemd.resource-control(5)).
    Size,
    /// A percentage of one processor: `150%`.
    Percent,
    /// A umask in octal: `"002"`.
    Umask,
    /// A signal: `SIGTERM`.
    Signal,
    /// The name of a service.
    Service,
    /// The name of a systemd unit, with its suffix.
    Unit,
    /// A URL for `Documentation=`.
    Url,
    /// An image reference with a registry, by tag or digest.
    Image,
    /// A time zone of the IANA database, or `local`.
    Timezone,
    /// The path part of a URL.
    UrlPath,
    /// `host`, `bridge` or `ns:/path`.
    Network,
    /// A device: an absolute path or a CDI name, with a leading `-` when the service can do without.
    Device,
    /// A capability of capabilities(7), with or without `CAP_`.
    Capability,
    /// A group by number, or by its name inside the image.
    Group,
    /// A mount point inside, with options for podman: `/run:exec,mode=1777`.
    Tmpfs,
    /// Directory of the state, or a table of directories by role.
    State,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list.
    List(&'static Kind),
    /// One value or a list of them.
    OneOrMany(&'static Kind),
    /// A table with keys of the user's own.
    Map(&'static Kind),
    /// A table with these keys.
    Table(&'static [Key]),
}

/// One key.
#[derive(Debug)]
pub struct Key {
    /// The key as it is written.
    pub name: &'static str,
    /// What its value may be.
    pub kind: Kind,
    /// What stands when it is not written, in words.
    pub default: &'static str,
    /// What it does, in one or two sentences.
    pub doc: &'static str,
}

const fn key(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key {
        name,
        kind,
        default,
        doc,
    }
}

/// The top level of a configuration file.
pub static FILE: &[Key] = &[
    key("suite", Kind::Table(SUITE), "", "What all services share."),
    key(
        "services",
        Kind::Map(&Kind::Table(SERVICE)),
        "",
        "One table a service; a table that is there is enabled.",
    ),
];

/// `[suite]`.
pub static SUITE: &[Key] = &[
    key(
        "media",
        Kind::Path,
        "none",
        "The media tree. It is mounted at the same path inside, because the applications store absolute paths.",
    ),
    key(
        "state",
        Kind::Path,
        "`/var/lib/nixarr`",
        "Each service's state is `<state>/<service>`, as nixarr lays it out.",
    ),
    key(
        "user",
        Kind::Number(0, 4_294_967_294),
        "568",
        "Numeric user that owns new state. State that is already there keeps its owner, and the application runs as that.",
    ),
    key(
        "group",
        Kind::Number(0, 4_294_967_294),
        "568",
        "Numeric group that owns new state.",
    ),
    key(
        "timezone",
        Kind::Timezone,
        "the host's (`local`)",
        "Time zone inside the containers.",
    ),
    key(
        "umask",
        Kind::Umask,
        "`\"002\"`",
        "Umask of the applications: with a shared media group, others of the group must be able to write.",
    ),
    key("podman", Kind::Path, "`/usr/bin/podman`", "The podman program."),
    key(
        "start-at-boot",
        Kind::Boolean,
        "true",
        "Whether the suite starts at boot. If not, `systemctl start dagger.target` does it.",
    ),
];

/// `[services.NAME]`; the catalogue's files have the same keys.
pub static SERVICE: &[Key] = &[
    key(
        "enable",
        Kind::Boolean,
        "true",
        "`false` keeps the text and turns the service off.",
    ),
    key(
        "like",
        Kind::Text,
        "the service's own name",
        "Catalogue entry that the service is made from. For a second instance: `[services.sonarr-4k] like = \"sonarr\"`.",
    ),
    key(
        "layout",
        Kind::Text,
        "the catalogue's",
        "Which of the images that the catalogue knows for this service is used, with its layout of directories (`upstream` or `linuxserver` for Jellyfin).",
    ),
    key(
        "description",
        Kind::Text,
        "the catalogue's title",
        "What people call it; the unit's `Description=`.",
    ),
    key(
        "documentation",
        Kind::List(&Kind::Url),
        "the catalogue's",
        "URLs for the unit's `Documentation=`.",
    ),
    key(
        "image",
        Kind::Image,
        "the catalogue's",
        "Image reference with its registry, by tag or by digest (`...@sha256:...`).",
    ),
    key(
        "pull",
        Kind::Choice(&["missing", "newer", "always", "never"]),
        "`missing`",
        "When the image is fetched. It happens in a unit of its own, `dagger-pull@NAME.service`.",
    ),
    key(
        "port",
        Kind::Port,
        "the catalogue's",
        "The main port, on the host (or in the namespace).",
    ),
    key(
        "peer-port",
        Kind::Port,
        "the catalogue's",
        "Port for peers of a download client, TCP and UDP.",
    ),
    key(
        "ports",
        Kind::List(&Kind::Table(PORT)),
        "the catalogue's",
        "Further ports that the application binds.",
    ),
    key(
        "network",
        Kind::Network,
        "`host`",
        "`host`: the host's own stack. `bridge`: podman's bridge, ports are published. `ns:/run/netns/NAME`: joins a named network namespace, of a VPN for instance.",
    ),
    key(
        "url-base",
        Kind::UrlPath,
        "none",
        "URL base that is set inside the application, so that probes and links find it.",
    ),
    key(
        "state",
        Kind::State,
        "`<suite.state>/<service>`",
        "Directory of the application's own state, or a table of directories by role (`state = { data = \"/var/lib/jellyfin\", config = \"/etc/jellyfin\" }`).",
    ),
    key(
        "media",
        Kind::Choice(&["rw", "ro", "none"]),
        "the catalogue's, else `none`",
        "How the media tree is mounted.",
    ),
    key(
        "volumes",
        Kind::List(&Kind::Table(VOLUME)),
        "none",
        "Further directories or files of the host.",
    ),
    key(
        "tmpfs",
        Kind::List(&Kind::Tmpfs),
        "none",
        "Paths inside that are kept in memory, with podman's options: `/transcode:size=8G`.",
    ),
    key(
        "user",
        Kind::Number(0, 4_294_967_294),
        "`suite.user`",
        "Numeric user of the application. Written here it is a demand: state of another owner is refused, never silently changed.",
    ),
    key(
        "group",
        Kind::Number(0, 4_294_967_294),
        "`suite.group`",
        "Numeric group of the application; a demand, like `user`.",
    ),
    key("umask", Kind::Umask, "`suite.umask`", "Umask of the application."),
    key(
        "timezone",
        Kind::Timezone,
        "`suite.timezone`",
        "Time zone inside.",
    ),
    key(
        "environment",
        Kind::Map(&Kind::Text),
        "none",
        "Environment of the application. Values are taken literally: `%` and `$` mean themselves. No secrets here: everybody can read units.",
    ),
    key(
        "environment-files",
        Kind::List(&Kind::Path),
        "none",
        "Files with environment, in podman's format (podman-run(1), `--env-file`).",
    ),
    key(
        "entrypoint",
        Kind::Text,
        "the image's",
        "Program that is run in place of the image's.",
    ),
    key(
        "command",
        Kind::List(&Kind::Text),
        "the image's",
        "Words for the program, taken literally; no shell sees them.",
    ),
    key(
        "devices",
        Kind::List(&Kind::Device),
        "none",
        "Device nodes, directories of them, or CDI names. The groups of the nodes come along. A leading `-`: the service can do without.",
    ),
    key(
        "groups",
        Kind::List(&Kind::Group),
        "none",
        "Further groups of the application.",
    ),
    key(
        "identity",
        Kind::Choice(&["puid", "user", "image"]),
        "the catalogue's, else by the image",
        "How the image learns who to run as: `puid` (PUID and PGID, LinuxServer), `user` (podman's `--user`), `image` (its own user).",
    ),
    key(
        "capabilities",
        Kind::List(&Kind::Capability),
        "the catalogue's",
        "Capabilities that the image needs; all others are dropped.",
    ),
    key(
        "no-new-privileges",
        Kind::Boolean,
        "true",
        "Whether set-user-ID programs inside lose their power.",
    ),
    key(
        "read-only",
        Kind::Boolean,
        "false",
        "Whether the image's root file system is read-only inside.",
    ),
    key(
        "init",
        Kind::Boolean,
        "the catalogue's",
        "Whether podman puts an init in front of the application (for images without one).",
    ),
    key("shm-size", Kind::Size, "podman's", "Size of `/dev/shm` inside."),
    key("seccomp-profile", Kind::Path, "podman's", "Seccomp profile."),
    key(
        "apparmor-profile",
        Kind::Text,
        "podman's",
        "AppArmor profile, already loaded.",
    ),
    key("memory-max", Kind::Size, "none", "`MemoryMax=` of the unit."),
    key("memory-high", Kind::Size, "none", "`MemoryHigh=` of the unit."),
    key(
        "cpu-quota",
        Kind::Percent,
        "none",
        "`CPUQuota=` of the unit: `200%` is two processors.",
    ),
    key(
        "cpu-weight",
        Kind::Number(1, 10_000),
        "none",
        "`CPUWeight=` of the unit.",
    ),
    key(
        "io-weight",
        Kind::Number(1, 10_000),
        "none",
        "`IOWeight=` of the unit.",
    ),
    key(
        "tasks-max",
        Kind::Number(1, 4_194_304),
        "none",
        "`TasksMax=` of the unit.",
    ),
    key(
        "health",
        Kind::Table(HEALTH),
        "the catalogue's",
        "How the service is asked whether it is well.",
    ),
    key(
        "start-budget",
        Kind::Duration,
        "the catalogue's, else `2min`",
        "How long a start may take until the application answers.",
    ),
    key(
        "stop-signal",
        Kind::Signal,
        "the catalogue's, else `SIGTERM`",
        "Signal that asks the application to stop.",
    ),
    key(
        "stop-timeout",
        Kind::Duration,
        "the catalogue's, else `30s`",
        "How long it may take to stop before it is killed.",
    ),
    key(
        "native",
        Kind::OneOrMany(&Kind::Unit),
        "the catalogue's",
        "Native units that may own the same data. One that is installed and the container never run together.",
    ),
    key(
        "wants",
        Kind::List(&Kind::Service),
        "the catalogue's",
        "Services of the suite that should answer before this one starts.",
    ),
    key(
        "podman-args",
        Kind::List(&Kind::Text),
        "none",
        "Further words for `podman run`, just before the image. The escape hatch: nothing checks them.",
    ),
];

/// `ports = [...]`.
pub static PORT: &[Key] = &[
    key("name", Kind::Text, "the number", "What it is for."),
    key("port", Kind::Port, "must be given", "Port on the host."),
    key(
        "container-port",
        Kind::Port,
        "the same",
        "Port inside; differs only with `network = \"bridge\"`.",
    ),
    key("protocol", Kind::Choice(&["tcp", "udp"]), "`tcp`", "Transport."),
];

/// `volumes = [...]`.
pub static VOLUME: &[Key] = &[
    key("source", Kind::Path, "must be given", "Path on the host."),
    key("target", Kind::Path, "the same", "Path inside."),
    key("read-only", Kind::Boolean, "false", "Whether writing is refused."),
];

/// `health = {...}`.
pub static HEALTH: &[Key] = &[
    key(
        "kind",
        Kind::Choice(HEALTH_KINDS),
        "`http` when there is a `path`, else `tcp`",
        "The tongue that the application speaks.",
    ),
    key("path", Kind::UrlPath, "`/`", "Path of the request."),
    key(
        "expect",
        Kind::Number(100, 599),
        "200",
        "Status of the good answer (kind `http`).",
    ),
    key(
        "body",
        Kind::Text,
        "anything",
        "Text that the body of a good answer holds (kind `http`).",
    ),
    key("port", Kind::Port, "the main port", "TCP port that is asked."),
    key("timeout", Kind::Duration, "`5s`", "How long one try may take."),
    key("interval", Kind::Duration, "`15s`", "How often the agent asks."),
    key(
        "failures",
        Kind::Number(1, 100),
        "3",
        "How many bad answers in a row make the service unhealthy.",
    ),
    key(
        "command",
        Kind::List(&Kind::Text),
        "none",
        "Command that is run inside the container (kind `exec`, the last resort: it costs a hundred times a request).",
    ),
];

/// The words of [`crate::probe::Kind::ALL`]; a test holds the two together.
const HEALTH_KINDS: &[&str] = &[
    "servarr",
    "bazarr",
    "jellyfin",
    "transmission",
    "http",
    "tcp",
    "exec",
];

/// Keys that only the catalogue's files have, beside those of [`SERVICE`].
pub static CATALOG: &[Key] = &[
    key(
        "title",
        Kind::Text,
        "the entry's name",
        "What people call the application.",
    ),
    key(
        "port-by",
        Kind::Table(PORT_BY),
        "not at all",
        "How the application learns of a port that is not its own default.",
    ),
    key(
        "state-layout",
        Kind::List(&Kind::Table(STATE_LAYOUT)),
        "one directory at `/config`",
        "Where the image looks for its state.",
    ),
    key(
        "layouts",
        Kind::Map(&Kind::Table(LAYOUT)),
        "none",
        "Other images of the same application; each replaces the keys that it names.",
    ),
];

/// `port-by = {...}`.
pub static PORT_BY: &[Key] = &[
    key(
        "environment",
        Kind::Text,
        "none",
        "An environment variable carries it.",
    ),
    key(
        "argument",
        Kind::Text,
        "none",
        "A word of the command carries it: `--port={}`.",
    ),
    key(
        "peer-argument",
        Kind::Text,
        "none",
        "A word of the command carries the peer port.",
    ),
    key(
        "file",
        Kind::Text,
        "none",
        "Only the application's own settings carry it; the text says which file and key.",
    ),
];

/// `state-layout = [...]`.
pub static STATE_LAYOUT: &[Key] = &[
    key(
        "role",
        Kind::Text,
        "must be given",
        "What the directory is: `config`, `data`, `cache`.",
    ),
    key(
        "below",
        Kind::Text,
        "the state directory itself",
        "Directory below the service's state.",
    ),
    key(
        "target",
        Kind::Path,
        "the same path as outside",
        "Where the image looks for it.",
    ),
];

/// `[layouts.NAME]`: the keys of a service that depend on the image.
pub static LAYOUT: &[Key] = &[
    key("image", Kind::Image, "", "Image reference."),
    key("documentation", Kind::List(&Kind::Url), "", "URLs."),
    key(
        "identity",
        Kind::Choice(&["puid", "user", "image"]),
        "",
        "How the image learns who to run as.",
    ),
    key(
        "capabilities",
        Kind::List(&Kind::Capability),
        "",
        "Capabilities that the image needs.",
    ),
    key("environment", Kind::Map(&Kind::Text), "", "Environment."),
    key("entrypoint", Kind::Text, "", "Program."),
    key("command", Kind::List(&Kind::Text), "", "Words for the program."),
    key("tmpfs", Kind::List(&Kind::Tmpfs), "", "Paths in memory."),
    key("init", Kind::Boolean, "", "Whether podman adds an init."),
    key(
        "state-layout",
        Kind::List(&Kind::Table(STATE_LAYOUT)),
        "",
        "Where the image looks for its state.",
    ),
    key(
        "port-by",
        Kind::Table(PORT_BY),
        "",
        "How the application learns of a port.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_probe_has_its_word() {
        let words: Vec<_> = crate::probe::Kind::ALL.iter().map(|(word, _)| *word).collect();
        assert_eq!(words, HEALTH_KINDS);
    }

    #[test]
    fn every_key_is_documented_once_and_in_kebab_case() {
        for table in [
            FILE,
            SUITE,
            SERVICE,
            PORT,
            VOLUME,
            HEALTH,
            CATALOG,
            PORT_BY,
            STATE_LAYOUT,
            LAYOUT,
        ] {
            for (index, key) in table.iter().enumerate() {
                assert!(
                    key.doc.ends_with(['.', '`']) || key.doc.ends_with(')'),
                    "{}",
                    key.name
                );
                assert!(
                    key.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'),
                    "{}",
                    key.name
                );
                assert!(
                    !table[..index].iter().any(|other| other.name == key.name),
                    "{} twice",
                    key.name
                );
            }
        }
    }
}
