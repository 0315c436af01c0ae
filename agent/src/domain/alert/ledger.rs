//! How often a target is told: what was told, when, and what was held back since.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Event;

/// What one service's alerts have done; kept as a file below `/run`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// The event that was handled last, by the time of its file (nanoseconds of CLOCK_REALTIME).
    pub handled: Option<u64>,
    /// By target.
    targets: BTreeMap<String, Told>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    /// The event that was told last, by its word.
    last: String,
    /// By event.
    events: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    /// When it was told, CLOCK_BOOTTIME.
    at: Option<Duration>,
    /// How many were held back since.
    held_back: u32,
}

impl Told {
    /// When one of these was told last.
    fn newest(&self, events: &[Event]) -> Option<Duration> {
        let entries = events.iter().filter_map(|event| self.events.get(event.word()));
        entries.filter_map(|entry| entry.at).max()
    }
}

/// What to do with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Tell it, and that so many like it were held back.
    Tell {
        /// Since the last one that was told.
        held_back: u32,
    },
    /// The target has heard it not long ago.
    HoldBack,
}

impl Ledger {
    /// Whether `target` is to hear of `event` at `now` (CLOCK_BOOTTIME): at most one of a kind within `interval`.
    ///
    /// With one exception, so that the last thing people heard is the truth: what turns it round is told. Bad news is told
    /// when the target was last told that all is well; that a service answers again, when it was last told that the service
    /// was given up. As a recovery after anything else is held back like the rest, a service that comes and goes gives three
    /// messages and then silence; one that is given up has taken the whole ladder for it.
    pub fn judge(&self, target: &str, event: Event, interval: Duration, now: Duration) -> Verdict {
        let Some(told) = self.targets.get(target) else {
            return Verdict::Tell { held_back: 0 };
        };
        let last = Event::from_word(&told.last);
        let entry = told.events.get(event.word());
        let turns = match event {
            Event::Recovered => last == Some(Event::GivenUp),
            _ => last == Some(Event::Recovered),
        };
        let held_back = entry.map_or(0, |entry| entry.held_back);
        // systemd's "failed" is no news to whoever knows that the agent has given up.
        let known = match event {
            Event::Failed => told.newest(&[Event::Failed, Event::GivenUp]),
            _ => told.newest(&[event]),
        };
        let over = known.is_none_or(|at| now.saturating_sub(at) >= interval);
        if over || turns || event == Event::Test {
            Verdict::Tell { held_back }
        } else {
            Verdict::HoldBack
        }
    }

    /// The target was told. One that could not be told is not noted: the next event is tried again.
    pub fn told(&mut self, target: &str, event: Event, now: Duration) {
        let told = self.targets.entry(target.to_owned()).or_default();
        event.word().clone_into(&mut told.last);
        let entry = Entry {
            at: Some(now),
            held_back: 0,
        };
        told.events.insert(event.word().to_owned(), entry);
    }

    /// The event was held back.
    pub fn held_back(&mut self, target: &str, event: Event) {
        let told = self.targets.entry(target.to_owned()).or_default();
        let entry = told.events.entry(event.word().to_owned()).or_default();
        entry.held_back = entry.held_back.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: Duration = Duration::from_mins(10);

    /// What the target hears of these events.
    fn heard(ledger: &mut Ledger, events: &[(u64, Event)]) -> Vec<(u64, Event, u32)> {
        let mut heard = Vec::new();
        for (at, event) in events {
            let now = Duration::from_secs(1000 + at);
            match ledger.judge("ntfy 1", *event, TEN, now) {
                Verdict::Tell { held_back } => {
                    ledger.told("ntfy 1", *event, now);
                    heard.push((*at, *event, held_back));
                }
                Verdict::HoldBack => ledger.held_back("ntfy 1", *event),
            }
        }
        heard
    }

    #[test]
    fn one_in_ten_minutes_and_the_next_says_how_many_were_held_back() {
        let unhealthy = |at| (at, Event::Unhealthy);
        let events = [
            unhealthy(0),
            unhealthy(60),
            unhealthy(599),
            unhealthy(600),
            unhealthy(1200),
        ];
        assert_eq!(
            heard(&mut Ledger::default(), &events),
            [
                (0, Event::Unhealthy, 0),
                (600, Event::Unhealthy, 2),
                (1200, Event::Unhealthy, 0)
            ]
        );
    }

    /// What is told of two or three events that follow each other closely.
    #[test]
    fn what_is_news_after_what() {
        use Event::{Failed, GivenUp, MediaLost, Recovered, Unhealthy};
        for (events, told) in [
            // The agent's word after systemd's says more; systemd's after the agent's says nothing.
            (vec![Failed, GivenUp], vec![Failed, GivenUp]),
            (vec![GivenUp, Failed], vec![GivenUp]),
            (vec![GivenUp, MediaLost], vec![GivenUp, MediaLost]),
            // Somebody who was woken hears that it is over, each time.
            (
                vec![Failed, Recovered, GivenUp, Recovered],
                vec![Failed, Recovered, GivenUp, Recovered],
            ),
            (
                vec![GivenUp, Recovered, GivenUp, Recovered],
                vec![GivenUp, Recovered, GivenUp, Recovered],
            ),
            (vec![GivenUp, Failed, Recovered], vec![GivenUp, Recovered]),
            // Bad news after good news is news, whatever kind it is.
            (vec![GivenUp, Recovered, Failed], vec![GivenUp, Recovered, Failed]),
            (
                vec![Unhealthy, Recovered, Unhealthy, Recovered],
                vec![Unhealthy, Recovered, Unhealthy],
            ),
            (vec![GivenUp, GivenUp], vec![GivenUp]),
        ] {
            let timed: Vec<_> = (0..).zip(events.iter().copied()).collect();
            let heard = heard(&mut Ledger::default(), &timed);
            let heard: Vec<_> = heard.into_iter().map(|(_, event, _)| event).collect();
            assert_eq!(heard, told, "{events:?}");
        }
    }

    #[test]
    fn a_service_that_comes_and_goes_is_three_messages_and_the_last_is_not_too_good() {
        let events: Vec<_> = (0..100)
            .map(|at| {
                (
                    at,
                    if at % 2 == 0 {
                        Event::Failed
                    } else {
                        Event::Recovered
                    },
                )
            })
            .collect();
        assert_eq!(
            heard(&mut Ledger::default(), &events),
            [
                (0, Event::Failed, 0),
                (1, Event::Recovered, 0),
                (2, Event::Failed, 0)
            ]
        );
    }

    #[test]
    fn each_target_has_its_own_account() {
        let mut ledger = Ledger::default();
        heard(&mut ledger, &[(0, Event::Failed)]);
        let now = Duration::from_secs(1001);
        assert_eq!(ledger.judge("ntfy 1", Event::Failed, TEN, now), Verdict::HoldBack);
        assert_eq!(
            ledger.judge("discord 2", Event::Failed, TEN, now),
            Verdict::Tell { held_back: 0 }
        );
    }

    #[test]
    fn it_comes_back_from_its_file_as_it_was() {
        let mut ledger = Ledger {
            handled: Some(u64::MAX),
            ..Ledger::default()
        };
        heard(&mut ledger, &[(0, Event::Failed), (1, Event::Failed)]);
        let text = serde_json::to_string(&ledger).unwrap();
        assert_eq!(serde_json::from_str::<Ledger>(&text).unwrap(), ledger);
    }
}
