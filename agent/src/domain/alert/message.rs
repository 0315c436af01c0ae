//! What is sent: one payload a kind of target, and how it is handed to the program that sends it.

use std::fmt::Write as _;

use serde_json::json;

use super::target::{Style, Target, Way};
use super::{Alert, one_line};

/// An alert on its way to a target.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// What happened.
    pub alert: &'a Alert,
    /// The name of the machine.
    pub host: &'a str,
    /// When, in seconds of CLOCK_REALTIME.
    pub time: u64,
    /// How many like it were held back before.
    pub held_back: u32,
}

/// How a message leaves: a program, its arguments, what it reads. No argument holds a secret or a word of an application.
#[derive(Clone, PartialEq, Eq)]
pub struct Letter {
    /// The program.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<&'static str>,
    /// Its standard input.
    pub input: String,
}

/// curl's options that are the same for all: how long it may take, and that it asks nobody but the URL that is written
/// (curl(1)). A redirect is not followed: it could lead anywhere.
const CURL: &str = "\
silent
show-error
fail
globoff
output = \"/dev/null\"
proto = \"=http,https\"
connect-timeout = 5
max-time = 10
retry = 2
retry-delay = 1
retry-max-time = 5
";

impl Message<'_> {
    /// `sonarr failed on mediabox`.
    pub fn title(&self) -> String {
        let title = format!(
            "{} {} on {}",
            self.alert.service,
            self.alert.event.sentence(),
            self.host
        );
        one_line(&title, 200)
    }

    /// The detail, and what was held back.
    pub fn text(&self) -> String {
        let mut text = self.alert.detail.clone();
        if self.held_back > 0 {
            let _ = write!(
                text,
                "\n({} more like this were held back before)",
                self.held_back
            );
        }
        text
    }

    /// The letter to a target.
    pub fn to(&self, target: &Target) -> Letter {
        match &target.way {
            Way::Post { style, url, token } => Letter {
                program: "curl".into(),
                // `-q`: no curlrc of anybody; the rest by standard input, where no other process can read it.
                arguments: vec!["-q", "--config", "-"],
                input: self.post(*style, url, token.as_deref()).config(),
            },
            Way::Mail { sendmail, to } => Letter {
                program: sendmail.clone(),
                arguments: vec!["-i", "-t"],
                input: self.mail(to),
            },
        }
    }

    fn post(&self, style: Style, url: &str, token: Option<&str>) -> Post {
        let bearer = token.map(|token| format!("Authorization: Bearer {token}"));
        let json = "Content-Type: application/json".to_owned();
        match style {
            Style::Ntfy => Post {
                url: url.to_owned(),
                headers: [
                    format!("Title: {}", self.title()),
                    format!("Priority: {}", self.alert.event.urgency()),
                    format!("Tags: {}", self.alert.event.word()),
                    "Content-Type: text/plain; charset=utf-8".into(),
                ]
                .into_iter()
                .chain(bearer)
                .collect(),
                body: self.text(),
            },
            Style::Gotify => Post {
                url: format!(
                    "{}/message",
                    url.trim_end_matches('/').trim_end_matches("/message")
                ),
                headers: [json]
                    .into_iter()
                    .chain(token.map(|token| format!("X-Gotify-Key: {token}")))
                    .collect(),
                // Gotify counts from 0 to 10, and makes a noise from 4 on.
                body: json!({
                    "title": self.title(),
                    "message": self.text(),
                    "priority": 2 * self.alert.event.urgency() - 2,
                })
                .to_string(),
            },
            Style::Discord => Post {
                url: url.to_owned(),
                headers: vec![json],
                // An application's words must not call everybody on the server.
                body: json!({
                    "content": format!("**{}**\n{}", self.title(), self.text()),
                    "allowed_mentions": { "parse": [] },
                })
                .to_string(),
            },
            Style::Webhook => Post {
                url: url.to_owned(),
                headers: [json].into_iter().chain(bearer).collect(),
                body: json!({
                    "service": self.alert.service,
                    "event": self.alert.event.word(),
                    "health": self.alert.health.word(),
                    "detail": self.alert.detail,
                    "title": self.title(),
                    "host": self.host,
                    "time": self.time,
                    "held_back": self.held_back,
                })
                .to_string(),
            },
        }
    }

    fn mail(&self, to: &str) -> String {
        let service = &self.alert.service;
        format!(
            "To: {}\nSubject: {}\nAuto-Submitted: auto-generated\nMIME-Version: 1.0\n\
             Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n\
             {}\n\n{}\n\nWhat to look at:\n  daggerctl status\n  journalctl -x -u monitoring DAGGER_SERVICE={service}\n  \
             journalctl -u dagger-{service}\n",
            one_line(to, 1000),
            // Headers are ASCII (RFC 5322).
            self.title().replace(|c: char| !c.is_ascii(), "?"),
            self.title(),
            self.text(),
        )
    }
}

struct Post {
    url: String,
    headers: Vec<String>,
    body: String,
}

impl Post {
    /// As curl's configuration (curl(1), `--config`).
    fn config(&self) -> String {
        let mut text = String::from(CURL);
        let mut set = |name: &str, value: &str| {
            let _ = writeln!(text, "{name} = {}", quoted(value));
        };
        set("url", &self.url);
        for header in &self.headers {
            set("header", header);
        }
        // Not `data`, which takes a body that begins with @ for the name of a file.
        set("data-raw", &self.body);
        text
    }
}

/// In double quotes curl knows these escapes and no others.
fn quoted(value: &str) -> String {
    let mut text = String::from("\"");
    for c in value.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}
