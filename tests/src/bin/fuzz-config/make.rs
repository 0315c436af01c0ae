//! Configurations: made from the schema, so that most of them are nearly right, or from others by small damage.

use std::fmt::Write as _;

use dagger_suite::schema::{FILE, Key, Kind};

use crate::support::random::Random;

/// Whole files to begin with: the golden cases.
const SEEDS: [&str; 7] = [
    include_str!("../../../../generator/tests/golden/suite/etc/dagger/dagger.toml"),
    include_str!("../../../../generator/tests/golden/escaping/etc/dagger/dagger.toml"),
    include_str!("../../../../generator/tests/golden/networks/etc/dagger/dagger.toml"),
    include_str!("../../../../generator/tests/golden/two-of-one-kind/etc/dagger/dagger.toml"),
    include_str!("../../../../generator/tests/golden/broken-service/etc/dagger/dagger.toml"),
    include_str!("../../../../generator/tests/golden/broken-file/etc/dagger/conf.d/50-more.toml"),
    "{\"suite\": {\"media\": \"/fun\"}, \"services\": {\"sonarr\": {\"environment\": {\"A\": \"\\u0001 %\"}}}}",
];

/// Pieces that mean something to TOML, JSON, podman, systemd or us.
const PIECES: [&str; 44] = [
    "\"",
    "'",
    "'''",
    "\"\"\"",
    "\\",
    "\\u0000",
    "\\uFFFE",
    "\n",
    "\r\n",
    "\t",
    "#",
    "[",
    "]",
    "[[",
    "{",
    "}",
    "=",
    ",",
    ".",
    "-",
    "%",
    "%%",
    "$",
    "${DAGGER_UID}",
    ";",
    ":",
    "/",
    "/..",
    "//",
    "true",
    "false",
    "0",
    "65536",
    "8989",
    "1979-05-27",
    "inf",
    "0x7f",
    "[services.sonarr]\n",
    "like = \"sonarr\"\n",
    "enable = false\n",
    "\u{feff}",
    "\u{202e}",
    "ä",
    "{state.config}",
];

/// Files that led somewhere new are damaged again; this many are kept.
const KEPT: usize = 4096;

/// The source of configurations.
pub struct Maker {
    random: Random,
    corpus: Vec<String>,
}

impl Maker {
    /// The same seed makes the same configurations, as long as the same ones are kept.
    pub fn new(seed: u64) -> Self {
        Self {
            random: Random(seed | 1),
            corpus: SEEDS.map(str::to_owned).to_vec(),
        }
    }

    /// A file that led somewhere new.
    pub fn keep(&mut self, text: &str) {
        if self.corpus.len() < KEPT {
            self.corpus.push(text.to_owned());
        } else {
            let at = self.random.below(KEPT);
            if let Some(place) = self.corpus.get_mut(at) {
                text.clone_into(place);
            }
        }
    }

    /// A number below `end`, for the caller's own choices.
    pub fn below(&mut self, end: usize) -> usize {
        self.random.below(end)
    }

    /// The next configuration.
    pub fn next(&mut self) -> String {
        match self.random.below(3) {
            0 => self.damaged(),
            _ => self.nearly_right(),
        }
    }

    fn damaged(&mut self) -> String {
        let mut text = self.seed().to_owned();
        for _ in 0..=self.random.below(4) {
            let at = boundary(&text, self.random.below(text.len() + 1));
            let end = boundary(&text, (at + self.random.below(24)).min(text.len()));
            match self.random.below(5) {
                0 => text.insert_str(at, PIECES.get(self.random.below(PIECES.len())).unwrap_or(&"")),
                1 => text.insert_str(at, &self.random.text()),
                2 => text.replace_range(at..end, ""),
                3 => {
                    let again = text.get(at..end).unwrap_or("").to_owned();
                    text.insert_str(at, &again);
                }
                _ => {
                    let other = self.seed();
                    let from = boundary(other, other.len() / 2);
                    let piece = other.get(from..).unwrap_or("").to_owned();
                    text.insert_str(at, &piece);
                }
            }
            text.truncate(boundary(&text, 64 << 10));
        }
        text
    }

    fn seed(&mut self) -> &str {
        let at = self.random.below(self.corpus.len());
        self.corpus.get(at).map_or("", String::as_str)
    }

    fn nearly_right(&mut self) -> String {
        let mut text = String::new();
        if self.random.below(2) == 0 {
            text.push_str("[suite]\nmedia = \"/fun\"\n");
        }
        for key in FILE {
            match key.kind {
                Kind::Table(keys) if self.random.below(4) == 0 && text.is_empty() => {
                    let _ = writeln!(text, "[{}]", key.name);
                    self.lines(&mut text, keys, 2);
                }
                Kind::Map(Kind::Table(keys)) => {
                    for _ in 0..=self.random.below(3) {
                        self.service(&mut text, key.name, keys);
                    }
                }
                _ => {}
            }
        }
        text
    }

    fn service(&mut self, text: &mut String, table: &str, keys: &'static [Key]) {
        const NAMES: [&str; 10] = [
            "sonarr",
            "radarr",
            "bazarr",
            "jellyfin",
            "transmission",
            "plex",
            "odd",
            "x-4k",
            "sabnzbd",
            "prowlarr",
        ];
        let name = NAMES.get(self.random.below(NAMES.len())).unwrap_or(&"odd");
        let _ = writeln!(text, "[{table}.{name}]");
        if matches!(*name, "odd" | "x-4k") {
            text.push_str("image = \"localhost/odd:1\"\nport = 8080\n");
        }
        self.lines(text, keys, 4);
    }

    /// Some lines with keys of a table, each at most once.
    fn lines(&mut self, text: &mut String, keys: &'static [Key], most: usize) {
        let mut at = 0;
        for _ in 0..self.random.below(most + 1) {
            at += 1 + self.random.below(keys.len() / most + 1);
            let Some(key) = keys
                .get(at - 1)
                .filter(|key| !matches!(key.name, "image" | "port"))
            else {
                continue;
            };
            text.push_str(key.name);
            text.push_str(" = ");
            self.value(text, &key.kind);
            text.push('\n');
        }
    }

    fn value(&mut self, text: &mut String, kind: &Kind) {
        if self.random.below(24) == 0 {
            // Of another kind than it should be.
            let other =
                [Kind::Text, Kind::Boolean, Kind::Port, Kind::List(&Kind::Text)][self.random.below(4)];
            return self.value(text, &other);
        }
        match kind {
            Kind::Boolean => text.push_str(["true", "false"][self.random.below(2)]),
            Kind::Number(low, high) => {
                let _ = write!(text, "{}", [*low, *high, 7, -1][self.random.below(4)]);
            }
            Kind::Port => text.push_str(["80", "8989", "65535", "0", "65536", "1"][self.random.below(6)]),
            Kind::List(of) | Kind::OneOrMany(of) => self.list(text, of),
            Kind::Map(of) => {
                text.push('{');
                for at in 0..self.random.below(3) {
                    let name = self.random.text();
                    text.push_str(if at == 0 { "A" } else { ", " });
                    if at > 0 {
                        quoted(text, &name);
                    }
                    text.push('=');
                    self.value(text, of);
                }
                text.push('}');
            }
            Kind::Table(keys) => self.table(text, keys),
            other => {
                let word = self.word(other);
                quoted(text, &word);
            }
        }
    }

    fn list(&mut self, text: &mut String, of: &Kind) {
        text.push('[');
        for at in 0..self.random.below(4) {
            text.push_str(if at == 0 { "" } else { ", " });
            self.value(text, of);
        }
        text.push(']');
    }

    fn table(&mut self, text: &mut String, keys: &'static [Key]) {
        text.push('{');
        let mut first = true;
        for key in keys {
            if self.random.below(3) > 0 {
                text.push_str(if first { "" } else { ", " });
                first = false;
                let _ = write!(text, "{} = ", key.name);
                self.value(text, &key.kind);
            }
        }
        text.push('}');
    }

    /// A text of a kind: mostly right, or anything.
    fn word(&mut self, kind: &Kind) -> String {
        let any = self.random.text();
        let right: &[&str] = match kind {
            Kind::Path | Kind::Program | Kind::PodmanFile | Kind::State | Kind::UrlPath => {
                return format!("/{any}");
            }
            Kind::Text => return any,
            _ if self.random.below(6) == 0 => return any,
            Kind::Duration => &["90s", "5min", "0", "1h 30min", "500ms"],
            Kind::Watchdog => &["off", "10min", "30", "1s"],
            Kind::Size => &["512M", "2G", "50%", "infinity"],
            Kind::Bytes => &["64M", "2G", "4096"],
            Kind::Address => &["10.2.0.1", "fd00::1"],
            Kind::Percent => &["150%", "5%"],
            Kind::Umask => &["002", "0077"],
            Kind::Signal => &["SIGTERM", "SIGINT", "SIGRTMIN+3", "QUIT"],
            Kind::Service => &["sonarr", "radarr", "odd", "x-4k", "nobody"],
            Kind::Unit => &["sonarr.service", "x@y.service", "transmission-daemon.service"],
            Kind::Url => &["https://example.org/a%20b", "man:podman(1)"],
            Kind::Image => &[
                "localhost/a:1",
                "docker.io/a/b@sha256:0000000000000000000000000000000000000000000000000000000000000000",
            ],
            Kind::Timezone => &["Europe/Berlin", "local", "UTC"],
            Kind::Network => &["host", "bridge", "ns:/run/netns/wg", "ns:/a b"],
            Kind::Device => &["/dev/dri", "-/dev/video0", "nvidia.com/gpu=all"],
            Kind::Capability => &["CHOWN", "CAP_SETUID", "net_admin"],
            Kind::Group => &["44", "video", "render"],
            Kind::Tmpfs => &["/run:exec,mode=1777", "/tmp"],
            Kind::Choice(words) => words,
            _ => &["x"],
        };
        right
            .get(self.random.below(right.len()))
            .map_or(any, |word| (*word).to_owned())
    }
}

/// As a TOML basic string.
fn quoted(text: &mut String, word: &str) {
    text.push('"');
    for c in word.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(text, "\\u{:04X}", u32::from(c));
            }
            c => text.push(c),
        }
    }
    text.push('"');
}

fn boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len()))
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0)
}
