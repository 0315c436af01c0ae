//! Do probes come to an end, and new ones to a beginning? Only then does the agent feed its own watchdog.

use std::time::Duration;

/// How much later than planned something may happen on a busy machine.
const GRACE: Duration = Duration::from_secs(5);

/// By when the agent's probes are to go on. Times are of CLOCK_MONOTONIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Probes {
    /// When the next one is to be put into the queue.
    pub due: Option<Duration>,
    /// When the first one that is open is given up.
    pub ends: Option<Duration>,
    /// Where some wait for room: when all that were ever begun have ended, so that there is room.
    pub room: Option<Duration>,
}

impl Probes {
    /// What does not go on, if anything.
    pub fn stuck(&self, now: Duration) -> Option<&'static str> {
        let rows = [
            (self.ends, GRACE * 2, "a probe does not come to an end"),
            (self.due, GRACE, "a probe that is due is not begun"),
            (self.room, GRACE * 2, "probes wait for room that nobody takes"),
        ];
        let mut late = rows
            .into_iter()
            .filter(|(at, grace, _)| at.is_some_and(|at| now > at.saturating_add(*grace)));
        late.next().map(|(.., says)| says)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agents_own_watchdog_starves_when_probes_make_no_progress() {
        let at = Duration::from_secs;
        let due = |second| Probes {
            due: Some(at(second)),
            ..Probes::default()
        };
        let ends = |second| Probes {
            ends: Some(at(second)),
            ..Probes::default()
        };
        let room = |second| Probes {
            room: Some(at(second)),
            ..Probes::default()
        };
        for (probes, says) in [
            (Probes::default(), None),
            (due(2000), None),
            (due(995), None),
            (due(994), Some("a probe that is due is not begun")),
            (ends(2000), None),
            (ends(990), None),
            (ends(989), Some("a probe does not come to an end")),
            (room(990), None),
            (room(989), Some("probes wait for room that nobody takes")),
            (
                Probes {
                    due: Some(at(2000)),
                    ..ends(989)
                },
                Some("a probe does not come to an end"),
            ),
        ] {
            assert_eq!(probes.stuck(at(1000)), says, "{probes:?}");
        }
    }
}
