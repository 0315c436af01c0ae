//! Alerts: what somebody is woken for. The agent writes one as an environment file and starts a unit; what happens then,
//! and that it happens neither too often nor never, is said here.
//!
//! - [`target`]  where alerts go: `/etc/dagger/alert.toml`
//! - [`ledger`]  how often
//! - [`message`] what is sent: one payload a kind of target

pub mod target;

pub mod ledger;

pub mod message;

use std::fmt::Write as _;

use super::health::Health;

/// What an alert is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// All that could be done has been done; the service is stopped.
    GivenUp,
    /// systemd or the agent has given the service up.
    Failed,
    /// It should answer and does not.
    Unhealthy,
    /// It answers again.
    Recovered,
    /// Its media is gone.
    MediaLost,
    /// What it waits for has not come in time.
    WaitingOverdue,
    /// Its library shrank after it had moved into its container.
    LibraryLost,
    /// Nothing happened: somebody tries whether alerts arrive.
    Test,
}

/// One row a kind of event.
struct Row {
    event: Event,
    /// Value of `DAGGER_EVENT=` and of `events` in alert.toml.
    word: &'static str,
    /// What happened; the service's name stands before it.
    sentence: &'static str,
    /// 1 (nothing to do) to 5 (now), as ntfy counts.
    urgency: u8,
}

const ROWS: [Row; 8] = [
    Row {
        event: Event::GivenUp,
        word: "given-up",
        sentence: "is stopped and not restarted any more",
        urgency: 5,
    },
    Row {
        event: Event::Failed,
        word: "failed",
        sentence: "failed",
        urgency: 5,
    },
    Row {
        event: Event::Unhealthy,
        word: "unhealthy",
        sentence: "is unhealthy",
        urgency: 4,
    },
    Row {
        event: Event::Recovered,
        word: "recovered",
        sentence: "answers again",
        urgency: 3,
    },
    Row {
        event: Event::MediaLost,
        word: "media-lost",
        sentence: "has lost its media",
        urgency: 5,
    },
    Row {
        event: Event::WaitingOverdue,
        word: "waiting-overdue",
        sentence: "has waited too long",
        urgency: 4,
    },
    Row {
        event: Event::LibraryLost,
        word: "library-lost",
        sentence: "has lost some of its library",
        urgency: 5,
    },
    Row {
        event: Event::Test,
        word: "test",
        sentence: "is fine: this is a test",
        urgency: 2,
    },
];

/// The words that `events` in alert.toml may name: all but the test, which always goes everywhere.
pub const WORDS: [&str; 7] = [
    "given-up",
    "failed",
    "unhealthy",
    "recovered",
    "media-lost",
    "waiting-overdue",
    "library-lost",
];

impl Event {
    fn row(self) -> &'static Row {
        // Every event has its row: a test walks them.
        let [first, ..] = &ROWS;
        ROWS.iter().find(|row| row.event == self).unwrap_or(first)
    }

    /// The word for programs.
    pub fn word(self) -> &'static str {
        self.row().word
    }

    /// The event for a word.
    pub fn from_word(word: &str) -> Option<Self> {
        ROWS.iter().find(|row| row.word == word).map(|row| row.event)
    }

    fn sentence(self) -> &'static str {
        self.row().sentence
    }

    fn urgency(self) -> u8 {
        self.row().urgency
    }
}

/// The longest detail that is carried, in characters: chat services cut or refuse longer messages.
const DETAIL_MAX: usize = 1000;

/// One alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// The service.
    pub service: String,
    /// What happened to it.
    pub event: Event,
    /// Its verdict.
    pub health: Health,
    /// Why, in one sentence.
    pub detail: String,
}

impl Alert {
    /// As the environment file that a unit reads (`EnvironmentFile=`, systemd.exec(5)).
    pub fn to_environment(&self) -> String {
        let mut text = String::new();
        for (name, value) in [
            ("DAGGER_SERVICE", self.service.as_str()),
            ("DAGGER_EVENT", self.event.word()),
            ("DAGGER_HEALTH", self.health.word()),
            ("DAGGER_DETAIL", &self.detail),
        ] {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name}={}", quoted(&one_line(value, DETAIL_MAX)));
        }
        text
    }

    /// Reads such a file back; unknown variables and comments may stand in it. The error is a sentence.
    pub fn from_environment(text: &str) -> Result<Self, String> {
        let value = |name: &str| {
            text.lines()
                .filter_map(|line| line.trim().split_once('='))
                .filter(|(key, _)| *key == name)
                .map(|(_, value)| unquoted(value))
                .next_back()
        };
        let needed = |name: &str| value(name).ok_or_else(|| format!("there is no {name}= in it"));
        let word = needed("DAGGER_EVENT")?;
        Ok(Self {
            service: needed("DAGGER_SERVICE")?,
            event: Event::from_word(&word).ok_or_else(|| format!("DAGGER_EVENT={word} is not known"))?,
            health: Health::from_word(&value("DAGGER_HEALTH").unwrap_or_default()),
            detail: value("DAGGER_DETAIL").unwrap_or_default(),
        })
    }
}

/// Why systemd calls a unit failed, as `MONITOR_SERVICE_RESULT=` has it (systemd.exec(5)), in words for people.
const RESULTS: [(&str, &str); 9] = [
    (
        "start-limit-hit",
        "it ended so often that systemd does not start it again",
    ),
    ("exit-code", "one of its commands ended with an error"),
    ("signal", "one of its commands was killed by a signal"),
    ("core-dump", "one of its commands crashed"),
    ("watchdog", "it did not answer, and systemd stopped it"),
    ("timeout", "it took too long to start or to stop"),
    ("oom-kill", "it ran out of memory"),
    ("protocol", "it did not come up as its unit says"),
    ("resources", "systemd could not start it"),
];

impl Alert {
    /// What systemd says on its own when a unit has failed (`OnFailure=`): the agent may not run. `result` and `status` are
    /// the values of `MONITOR_SERVICE_RESULT` and `MONITOR_EXIT_STATUS`.
    pub fn of_systemd(service: &str, result: &str, status: Option<&str>) -> Self {
        let known = RESULTS.iter().find(|(word, _)| *word == result);
        let mut detail =
            known.map_or_else(|| format!("systemd says: {result}"), |(_, words)| (*words).into());
        if let Some(status) = status.filter(|status| !status.is_empty()) {
            let _ = write!(detail, " (status {status})");
        }
        Self {
            service: service.to_owned(),
            event: Event::Failed,
            health: Health::Failed,
            detail,
        }
    }
}

/// Text of an application, made fit for one line: it may hold anything.
pub fn one_line(text: &str, longest: usize) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut line: String = plain.clone().take(longest).collect();
    if plain.count() > longest {
        line.pop();
        line.push('…');
    }
    line
}

/// A value in double quotes, with what systemd would take for more than itself escaped.
fn quoted(value: &str) -> String {
    let mut text = String::from("\"");
    for c in value.chars() {
        if matches!(c, '"' | '\\' | '`' | '$') {
            text.push('\\');
        }
        text.push(c);
    }
    text.push('"');
    text
}

fn unquoted(value: &str) -> String {
    let value = value.trim();
    let Some(inner) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return value.to_owned();
    };
    let mut text = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match (c, chars.clone().next()) {
            ('\\', Some(next @ ('"' | '\\' | '`' | '$'))) => {
                chars.next();
                text.push(next);
            }
            _ => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_has_one_row_and_every_word_an_event() {
        for row in &ROWS {
            assert_eq!(row.event.word(), row.word);
            assert_eq!(Event::from_word(row.word), Some(row.event));
            assert!((1..=5).contains(&row.urgency));
            assert_eq!(WORDS.contains(&row.word), row.event != Event::Test);
        }
        assert_eq!(WORDS.len() + 1, ROWS.len());
    }

    #[test]
    fn an_application_cannot_write_variables_of_its_own() {
        let alert = Alert {
            service: "sonarr".into(),
            event: Event::Failed,
            health: Health::Failed,
            detail: "said \"$HOME\" `id` \\ and\nLD_PRELOAD=/x".into(),
        };
        let text = alert.to_environment();
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(
            text.ends_with("DAGGER_DETAIL=\"said \\\"\\$HOME\\\" \\`id\\` \\\\ and LD_PRELOAD=/x\"\n"),
            "{text}"
        );
        let back = Alert::from_environment(&text).unwrap();
        assert_eq!(back.detail, "said \"$HOME\" `id` \\ and LD_PRELOAD=/x");
        assert_eq!(
            Alert {
                detail: alert.detail.clone(),
                ..back
            },
            alert
        );
    }

    #[test]
    fn a_file_by_hand_is_read_as_well() {
        let alert =
            Alert::from_environment("# mine\nDAGGER_SERVICE=sonarr\nDAGGER_EVENT=unhealthy\n").unwrap();
        assert_eq!((alert.event, alert.health), (Event::Unhealthy, Health::Unknown));
        for (text, says) in [
            ("DAGGER_SERVICE=sonarr", "no DAGGER_EVENT="),
            ("DAGGER_EVENT=failed", "no DAGGER_SERVICE="),
            (
                "DAGGER_EVENT=burning\nDAGGER_SERVICE=x",
                "DAGGER_EVENT=burning is not known",
            ),
        ] {
            assert!(
                Alert::from_environment(text).unwrap_err().contains(says),
                "{text}"
            );
        }
    }

    #[test]
    fn systemd_speaks_for_itself_when_the_agent_cannot() {
        let detail = |result, status| Alert::of_systemd("sonarr", result, status).detail;
        assert_eq!(
            detail("exit-code", Some("78")),
            "one of its commands ended with an error (status 78)"
        );
        assert_eq!(detail("new-word", None), "systemd says: new-word");
        assert_eq!(Alert::of_systemd("sonarr", "timeout", None).event, Event::Failed);
    }

    #[test]
    fn a_long_detail_is_cut_where_it_can_be_seen() {
        assert_eq!(one_line("äöü", 3), "äöü");
        assert_eq!(one_line("äöüß", 3), "äö…");
    }
}
