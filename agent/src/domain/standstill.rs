//! Was that a jump of the clock, a sleep of the machine, or did we ourselves stand still? Told from clocks alone.

use std::time::Duration;

/// A smaller difference is the clock's own business (adjtimex(2)).
const JUMP: Duration = Duration::from_secs(5);
/// The machine slept for longer than this.
const SLEPT: Duration = Duration::from_secs(1);
/// We woke so much later than we had asked for.
const STOOD: Duration = Duration::from_secs(2);

/// Three clocks at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clocks {
    /// CLOCK_MONOTONIC.
    pub monotonic: Duration,
    /// CLOCK_BOOTTIME: it goes on while the machine sleeps.
    pub boottime: Duration,
    /// CLOCK_REALTIME: people set it.
    pub realtime: Duration,
}

/// What happened between two looks at the clocks, where anything did. `due`: when we had asked to be woken at the latest.
pub fn between(before: Clocks, now: Clocks, due: Duration) -> Option<&'static str> {
    let slept = gap(now.boottime, now.monotonic).saturating_sub(gap(before.boottime, before.monotonic));
    if slept > SLEPT {
        return Some("the machine woke from sleep");
    }
    if now.monotonic > due.saturating_add(STOOD) {
        return Some("the agent stood still");
    }
    let was = gap(before.realtime, before.boottime);
    let is = gap(now.realtime, now.boottime);
    (was.abs_diff(is) > JUMP).then_some("the clock jumped")
}

fn gap(later: Duration, earlier: Duration) -> Duration {
    later.saturating_sub(earlier)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clocks(monotonic: u64, boottime: u64, realtime: u64) -> Clocks {
        Clocks {
            monotonic: Duration::from_secs(monotonic),
            boottime: Duration::from_secs(boottime),
            realtime: Duration::from_secs(realtime),
        }
    }

    #[test]
    fn each_kind_is_told_from_the_others() {
        let before = clocks(100, 100, 1_000_100);
        let due = Duration::from_secs(110);
        for (now, says) in [
            (clocks(110, 110, 1_000_110), None),
            (clocks(111, 111, 1_000_112), None),
            (clocks(110, 3710, 1_003_710), Some("the machine woke from sleep")),
            (clocks(150, 150, 1_000_150), Some("the agent stood still")),
            (clocks(110, 110, 1_003_710), Some("the clock jumped")),
            (clocks(110, 110, 999_000), Some("the clock jumped")),
        ] {
            assert_eq!(between(before, now, due), says, "{now:?}");
        }
        assert_eq!(between(before, clocks(900, 900, 1_000_900), Duration::MAX), None);
    }
}
