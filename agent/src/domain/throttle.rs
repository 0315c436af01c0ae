//! How often a caller may make the agent work: a token bucket each.

use std::collections::HashMap;
use std::time::Duration;

/// Requests that a caller may make at once.
const BURST: u32 = 20;
/// A used request comes back after this time.
const REFILL: Duration = Duration::from_millis(200);
/// Callers that are remembered; a bus has fewer connections than this for one user.
const CALLERS: usize = 1024;

/// The buckets of all callers that have asked lately. Empty while nobody asks.
#[derive(Debug, Default)]
pub struct Throttle {
    /// By caller: until when its used requests take to come back. In the past: it has all of them.
    repaid: HashMap<String, Duration>,
}

impl Throttle {
    /// Whether `caller` may have a request carried out at `now` (CLOCK_MONOTONIC); counts it when it may.
    pub fn admit(&mut self, caller: &str, now: Duration) -> bool {
        if self.repaid.len() >= CALLERS {
            self.repaid.retain(|_, repaid| *repaid > now);
        }
        let known = self.repaid.get(caller).copied();
        if known.is_none() && self.repaid.len() >= CALLERS {
            return false;
        }
        let repaid = known.unwrap_or(now).max(now) + REFILL;
        let allowed = repaid <= now + REFILL * BURST;
        if allowed {
            self.repaid.insert(caller.to_owned(), repaid);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_a_steady_rate() {
        let mut throttle = Throttle::default();
        let t = Duration::from_secs(100);
        let admitted = (0..1000).filter(|_| throttle.admit(":1.1", t)).count();
        assert_eq!(admitted, BURST as usize);
        assert!(throttle.admit(":1.2", t), "another caller is not affected");
        assert!(throttle.admit(":1.1", t + REFILL));
        assert!(!throttle.admit(":1.1", t + REFILL));
        let later = t + REFILL * (BURST + 1);
        assert_eq!(
            (0..1000).filter(|_| throttle.admit(":1.1", later)).count(),
            BURST as usize
        );
    }

    #[test]
    fn memory_is_bounded_however_many_callers_come() {
        let mut throttle = Throttle::default();
        let t = Duration::from_secs(1);
        let admitted = (0..10 * CALLERS)
            .filter(|n| throttle.admit(&format!(":1.{n}"), t))
            .count();
        assert_eq!(admitted, CALLERS);
        assert_eq!(throttle.repaid.len(), CALLERS);
        assert!(
            throttle.admit(":1.new", t + REFILL),
            "those who have waited make room"
        );
    }
}
