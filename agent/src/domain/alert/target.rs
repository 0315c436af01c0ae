//! Where alerts go: the targets of `/etc/dagger/alert.toml`.

use std::time::Duration;

use dagger_suite::check::Checker;
use dagger_suite::diagnostic::{Diagnostic, Sources, Span};
use dagger_suite::layers::{self, Layers};
use dagger_suite::node::{self, Node};
use dagger_suite::schema::{Key, Kind};

use super::{Event, WORDS};

/// How long a target is left alone after an event of the same kind, unless it says otherwise.
const MIN_INTERVAL: Duration = Duration::from_mins(10);

const SENDMAIL: &str = "/usr/sbin/sendmail";

/// The ways that a message can be posted, with their words.
const POSTS: [(&str, Style); 4] = [
    ("ntfy", Style::Ntfy),
    ("gotify", Style::Gotify),
    ("discord", Style::Discord),
    ("webhook", Style::Webhook),
];

const fn key(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key {
        name,
        kind,
        default,
        doc,
    }
}

/// The keys of the file.
pub static FILE: [Key; 1] = [key(
    "alert",
    Kind::List(&Kind::Table(&TARGET)),
    "",
    "One table a target.",
)];

/// The keys of a target.
pub static TARGET: [Key; 7] = [
    key(
        "kind",
        Kind::Choice(&["ntfy", "gotify", "discord", "webhook", "sendmail"]),
        "",
        "What the target understands. `webhook` takes a JSON object by POST.",
    ),
    key(
        "url",
        Kind::Text,
        "",
        "Where to post: the topic of ntfy, the server of Gotify, the whole webhook of Discord.",
    ),
    key(
        "token",
        Kind::Text,
        "none",
        "The application's token for Gotify, an access token for ntfy and webhooks.",
    ),
    key("to", Kind::Text, "", "Who gets the mail: an address."),
    key(
        "sendmail",
        Kind::Program,
        SENDMAIL,
        "The program that takes mail, called with `-i -t`.",
    ),
    key(
        "events",
        Kind::List(&Kind::Choice(&WORDS)),
        "all",
        "The events that this target is told of.",
    ),
    key(
        "min-interval",
        Kind::Duration,
        "10min",
        "At most one message of a kind in this time; how many were held back is said in the next.",
    ),
];

/// How a message is posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// <https://docs.ntfy.sh/publish/>
    Ntfy,
    /// <https://gotify.net/docs/pushmsg>
    Gotify,
    /// <https://discord.com/developers/docs/resources/webhook#execute-webhook>
    Discord,
    /// A JSON object of our own.
    Webhook,
}

/// The way to a target.
#[derive(Clone, PartialEq, Eq)]
pub enum Way {
    /// By HTTP.
    Post {
        /// In which form.
        style: Style,
        /// Where to; for some it is the secret itself.
        url: String,
        /// What opens the door, where one is needed.
        token: Option<String>,
    },
    /// By mail.
    Mail {
        /// The program.
        sendmail: String,
        /// The address.
        to: String,
    },
}

/// A target.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    /// What it is called in messages and in the ledger: its kind and its number in the file.
    pub name: String,
    /// The way to it.
    pub way: Way,
    /// The events that it is told of; empty: all.
    events: Vec<Event>,
    /// At most one of a kind in this time.
    pub min_interval: Duration,
}

impl Target {
    /// Whether it is told of this event.
    pub fn wants(&self, event: Event) -> bool {
        self.events.is_empty() || event == Event::Test || self.events.contains(&event)
    }

    /// What must not be shown to anybody.
    pub fn secrets(&self) -> Vec<&str> {
        match &self.way {
            Way::Post { url, token, .. } => {
                // The host's name is no secret, and an error that names it helps.
                let path = url
                    .split_once("://")
                    .and_then(|(_, rest)| rest.find('/').and_then(|at| rest.get(at..)));
                let path = path.filter(|path| path.len() > 1);
                [Some(url.as_str()), path, token.as_deref()]
                    .into_iter()
                    .flatten()
                    .collect()
            }
            Way::Mail { .. } => Vec::new(),
        }
    }
}

/// Reads the file. What it says wrongly is said with its place and without its secrets; a file with a mistake has no
/// targets, so that nobody relies on half of them.
pub fn read(name: &str, text: &str) -> Result<Vec<Target>, Vec<String>> {
    let mut sources = Sources::default();
    let file = sources.add(name, text);
    let parsed = node::parse_toml(text, file);
    let syntax = parsed.diagnostics(&sources);
    let mut checker = Checker::new(&sources);
    checker.table(&parsed.table, &FILE, &[]);
    let top = Layers {
        user: Some(&parsed.table),
        ..Layers::default()
    };
    let items = top.list("alert").unwrap_or_default();
    let targets: Vec<_> = items
        .iter()
        .enumerate()
        .filter_map(|(index, item)| target(&mut checker, item, index + 1))
        .collect();
    let said: Vec<_> = syntax.iter().chain(&checker.diagnostics).map(sentence).collect();
    if said.is_empty() { Ok(targets) } else { Err(said) }
}

/// A message may be repeated in the journal: what it advises for a line with a secret could quote the secret.
fn sentence(diagnostic: &Diagnostic) -> String {
    if ["token", "url"].iter().any(|word| diagnostic.text.contains(word)) {
        format!("{}: {}", diagnostic.place(), diagnostic.problem)
    } else {
        diagnostic.one_line()
    }
}

fn target(checker: &mut Checker<'_>, node: &Node, number: usize) -> Option<Target> {
    let item = layers::item(node);
    let Some(kind) = item.text("kind") else {
        checker.error(node.at, "this alert has no `kind`", None);
        return None;
    };
    let way = match POSTS.iter().find(|(word, _)| *word == kind) {
        Some((_, style)) => post(checker, node.at, item, *style)?,
        None if kind == "sendmail" => mail(checker, node.at, item)?,
        // The checker has said so.
        None => return None,
    };
    Some(Target {
        name: format!("{kind} {number}"),
        way,
        events: item.each_text("events").filter_map(Event::from_word).collect(),
        min_interval: item.duration("min-interval").unwrap_or(MIN_INTERVAL),
    })
}

fn post(checker: &mut Checker<'_>, at: Span, item: Layers<'_>, style: Style) -> Option<Way> {
    let Some(url) = item.text("url") else {
        checker.error(at, "this alert needs a `url`", None);
        return None;
    };
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    let host = ["https://", "http://"]
        .iter()
        .find_map(|scheme| url.strip_prefix(scheme));
    if !plain(url) || host.is_none_or(|host| host.is_empty() || host.starts_with('/')) {
        let at = item.at("url").unwrap_or(at);
        checker.error(at, "this is not a URL of http or https (RFC 3986)", None);
        return None;
    }
    let token = item.owned("token");
    if token
        .as_deref()
        .is_some_and(|token| token.is_empty() || !plain(token))
    {
        let at = item.at("token").unwrap_or(at);
        checker.error(at, "a token is one word of ASCII characters", None);
        return None;
    }
    if style == Style::Gotify && token.is_none() {
        checker.error(at, "gotify needs the `token` of an application", None);
        return None;
    }
    Some(Way::Post {
        style,
        url: url.to_owned(),
        token,
    })
}

fn mail(checker: &mut Checker<'_>, at: Span, item: Layers<'_>) -> Option<Way> {
    let Some(to) = item.owned("to") else {
        checker.error(at, "sendmail needs `to`, an address", None);
        return None;
    };
    if to.trim().is_empty() || to.chars().any(char::is_control) {
        let at = item.at("to").unwrap_or(at);
        checker.error(at, "an address is one line of text", None);
        return None;
    }
    Some(Way::Mail {
        sendmail: item.owned("sendmail").unwrap_or_else(|| SENDMAIL.to_owned()),
        to,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_read_with_what_it_needs() {
        let targets = read(
            "alert.toml",
            r#"
[[alert]]
kind = "ntfy"
url = "https://ntfy.sh/topic"
events = ["failed", "recovered"]
min-interval = "1h"
[[alert]]
kind = "gotify"
url = "http://gotify.lan"
token = "A1"
[[alert]]
kind = "sendmail"
to = "root"
"#,
        )
        .unwrap_or_else(|said| panic!("{said:?}"));
        let names: Vec<_> = targets.iter().map(|target| target.name.as_str()).collect();
        assert_eq!(names, ["ntfy 1", "gotify 2", "sendmail 3"]);
        let ntfy = &targets[0];
        assert!(ntfy.wants(Event::Failed) && !ntfy.wants(Event::Unhealthy) && ntfy.wants(Event::Test));
        assert_eq!(ntfy.min_interval, Duration::from_hours(1));
        assert!(targets[1].wants(Event::Unhealthy));
        assert_eq!(targets[1].min_interval, Duration::from_mins(10));
        assert!(read("alert.toml", "").unwrap().is_empty());
    }

    #[test]
    fn mistakes_are_said_with_their_place_and_without_secrets() {
        for (text, says) in [
            (
                "kind = \"ntfi\"",
                "alert.toml:2:8: \"ntfi\" is not known here (did you mean \"ntfy\"?)",
            ),
            ("kind = \"ntfy\"", "alert.toml:1:1: this alert needs a `url`"),
            (
                "url = \"https://x/SECRET\"",
                "alert.toml:1:1: this alert has no `kind`",
            ),
            (
                "kind = \"ntfy\"\nurl = \"ftp://x/SECRET\"",
                "alert.toml:3:7: this is not a URL of http or https (RFC 3986)",
            ),
            (
                "kind = \"ntfy\"\nurl = \"https:///SECRET\"",
                "alert.toml:3:7: this is not a URL of http or https (RFC 3986)",
            ),
            (
                "kind = \"ntfy\"\nurl = \"https://x/\\nSECRET\"",
                "alert.toml:3:7: this is not a URL of http or https (RFC 3986)",
            ),
            (
                "kind = \"gotify\"\nurl = \"https://x\"",
                "alert.toml:1:1: gotify needs the `token` of an application",
            ),
            (
                "kind = \"webhook\"\nurl = \"https://x\"\ntoken = 34343",
                "alert.toml:4:9: `token` must be a text, this is a number",
            ),
            (
                "kind = \"webhook\"\nurl = \"https://x\"\ntoken = \"SECRET x\"",
                "alert.toml:4:9: a token is one word of ASCII characters",
            ),
            (
                "kind = \"webhook\"\nurl = \"https://x\"\ntoken = \"SECRET",
                "alert.toml:4:",
            ),
            (
                "kind = \"sendmail\"",
                "alert.toml:1:1: sendmail needs `to`, an address",
            ),
            (
                "kind = \"sendmail\"\nto = \"a\\nBcc: b\"",
                "alert.toml:3:6: an address is one line of text",
            ),
            (
                "kind = \"sendmail\"\nto = \"a\"\nevents = [\"test\"]",
                "alert.toml:4:11: \"test\" is not known here",
            ),
            (
                "kind = \"sendmail\"\nto = \"a\"\nmin_interval = 1",
                "alert.toml:4:1: unknown key `min_interval` (did you mean `min-interval`?)",
            ),
        ] {
            let said = read("alert.toml", &format!("[[alert]]\n{text}"))
                .err()
                .unwrap_or_default();
            assert!(said.iter().any(|line| line.starts_with(says)), "{text}: {said:?}");
            assert!(
                !said
                    .iter()
                    .any(|line| line.contains("SECRET") || line.contains("34343")),
                "{said:?}"
            );
        }
    }

    #[test]
    fn the_path_and_the_token_are_secrets_and_the_host_is_not() {
        let targets = read(
            "alert.toml",
            "[[alert]]\nkind = \"webhook\"\nurl = \"https://host/a/b\"\ntoken = \"t\"\n[[alert]]\nkind = \"ntfy\"\nurl = \"https://host/\"\n",
        )
        .unwrap();
        assert_eq!(targets[0].secrets(), ["https://host/a/b", "/a/b", "t"]);
        assert_eq!(targets[1].secrets(), ["https://host/"]);
    }
}
