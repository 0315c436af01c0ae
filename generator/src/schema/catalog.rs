//! The keys that only the catalogue's files have.

use super::{Key, Kind, key};

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
        "databases",
        Kind::List(&Kind::Text),
        "none",
        "SQLite databases that are checked every week, each `{state.ROLE}/FILE`.",
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
    key(
        "fixed",
        Kind::Boolean,
        "false",
        "Nothing carries it: the application has no other port than its own.",
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
    key(
        "assumed",
        Kind::Boolean,
        "false",
        "Whether that is only a guess, for images of which nothing is known.",
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
    key(
        "disposable",
        Kind::List(&Kind::Path),
        "",
        "Volumes of the image that this layout does not use.",
    ),
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
