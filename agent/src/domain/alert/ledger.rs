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
    /// The class that was told last.
    last: String,
    /// By class.
    classes: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    /// When it was told, CLOCK_BOOTTIME.
    at: Option<Duration>,
    /// How many were held back since.
    held_back: u32,
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
    /// Whether `target` is to hear of `event` at `now` (CLOCK_BOOTTIME): at most one of a class within `interval`.
    ///
    /// With one exception, so that the last thing people heard is never better than the truth: bad news is told when
    /// the target was last told that all is well. As that is held back like the rest, a service that comes and goes
    /// gives three messages and then silence.
    pub fn judge(&self, target: &str, event: Event, interval: Duration, now: Duration) -> Verdict {
        let told = self.targets.get(target);
        let Some(entry) = told.and_then(|told| told.classes.get(event.class())) else {
            return Verdict::Tell { held_back: 0 };
        };
        let all_is_well = Event::Recovered.class();
        let better = event.class() != all_is_well && told.is_some_and(|told| told.last == all_is_well);
        let over = entry.at.is_none_or(|at| now.saturating_sub(at) >= interval);
        if over || better || event == Event::Test {
            Verdict::Tell {
                held_back: entry.held_back,
            }
        } else {
            Verdict::HoldBack
        }
    }

    /// The target was told. One that could not be told is not noted: the next event is tried again.
    pub fn told(&mut self, target: &str, event: Event, now: Duration) {
        let told = self.targets.entry(target.to_owned()).or_default();
        event.class().clone_into(&mut told.last);
        let entry = Entry {
            at: Some(now),
            held_back: 0,
        };
        told.classes.insert(event.class().to_owned(), entry);
    }

    /// The event was held back.
    pub fn held_back(&mut self, target: &str, event: Event) {
        let told = self.targets.entry(target.to_owned()).or_default();
        let entry = told.classes.entry(event.class().to_owned()).or_default();
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

    #[test]
    fn the_agents_word_and_systemds_for_the_same_are_one() {
        let events = [(0, Event::GivenUp), (1, Event::Failed), (2, Event::MediaLost)];
        assert_eq!(
            heard(&mut Ledger::default(), &events),
            [(0, Event::GivenUp, 0), (2, Event::MediaLost, 0)]
        );
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
