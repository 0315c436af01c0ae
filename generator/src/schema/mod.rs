//! Every key of the configuration, once: its kind, its meaning, its default. The check of what the user wrote, the
//! suggestions for what was misspelt and the reference page are made from these tables.

mod service;
mod catalog;

pub use catalog::{CATALOG, LAYOUT, PORT_BY, STATE_LAYOUT};
pub use service::SERVICE;

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
    /// The absolute path of a program.
    Program,
    /// The absolute path of a file that podman reads.
    PodmanFile,
    /// A time span: `90s`, `5min`, `1h 30min`, or a number of seconds.
    Duration,
    /// A time span of at least ten seconds, or `off`.
    Watchdog,
    /// An amount of memory in figures, for podman: `512M`, `2G`.
    Bytes,
    /// The address of a machine, in figures.
    Address,
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
    /// `host`, `bridge`, `private` or `ns:/path`.
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
    key(
        "podman",
        Kind::Program,
        "`/usr/bin/podman`",
        "The podman program.",
    ),
    key(
        "start-at-boot",
        Kind::Boolean,
        "true",
        "Whether the suite starts at boot. If not, `systemctl start dagger.target` does it.",
    ),
    key(
        "probation",
        Kind::Duration,
        "`30s`",
        "How long a service that has changed hands is watched before that is final. Until then anything that goes wrong undoes it.",
    ),
    key(
        "library-guard",
        Kind::Boolean,
        "true",
        "Whether a service that has moved is rolled back, with its data as it was, when its library shrinks within a day and before its first scan is over.",
    ),
    key(
        "snapshots-count",
        Kind::Number(1, 1000),
        "5",
        "How many snapshots of a service are kept, the newest ones. The newest is kept whatever else is said here.",
    ),
    key(
        "snapshots-age",
        Kind::Duration,
        "`30d`",
        "How long a snapshot is kept.",
    ),
    key(
        "snapshots-floor",
        Kind::Bytes,
        "`5G`",
        "How much room is left free where snapshots lie: with less of it the oldest go first.",
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
    key(
        "host",
        Kind::Address,
        "`127.0.0.1`",
        "Address that is asked, for an application that listens on one address only.",
    ),
    key("port", Kind::Port, "the main port", "TCP port that is asked."),
    key("timeout", Kind::Duration, "`5s`", "How long one try may take."),
    key(
        "interval",
        Kind::Duration,
        "`15s`",
        "How often the agent asks; more often than once a second it does not.",
    ),
    key(
        "failures",
        Kind::Number(1, 100),
        "3",
        "How many bad answers in a row make the service unhealthy.",
    ),
    key(
        "successes",
        Kind::Number(1, 10),
        "1",
        "How many good answers in a row make a service healthy again that was not.",
    ),
    key(
        "restarts",
        Kind::Number(1, 20),
        "3",
        "How many times within an hour the agent restarts a service that stays unhealthy, before it leaves it `failed`.",
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
