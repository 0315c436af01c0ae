//! How often a user may make the agent work: a token bucket each. A caller's connection is no measure: everybody may open
//! another one.

use std::collections::HashMap;
use std::time::Duration;

/// Requests that a caller may make at once.
const BURST: u32 = 20;
/// A used request comes back after this time.
const REFILL: Duration = Duration::from_millis(200);
/// Users that are remembered.
const USERS: usize = 1024;

/// The buckets of all users that have asked lately. Empty while nobody asks.
#[derive(Debug, Default)]
pub struct Throttle {
    /// By user: until when the used requests take to come back. In the past: all of them are there.
    repaid: HashMap<u32, Duration>,
}

impl Throttle {
    /// Whether the user `uid` may have a request carried out at `now` (CLOCK_MONOTONIC); counts it when it may. root always
    /// may.
    pub fn admit(&mut self, uid: u32, now: Duration) -> bool {
        if uid == 0 {
            return true;
        }
        if self.repaid.len() >= USERS {
            self.repaid.retain(|_, repaid| *repaid > now);
        }
        let known = self.repaid.get(&uid).copied();
        if known.is_none() && self.repaid.len() >= USERS {
            return false;
        }
        let repaid = known.unwrap_or(now).max(now) + REFILL;
        let allowed = repaid <= now + REFILL * BURST;
        if allowed {
            self.repaid.insert(uid, repaid);
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
        let admitted = (0..1000).filter(|_| throttle.admit(1, t)).count();
        assert_eq!(admitted, BURST as usize);
        assert!(throttle.admit(2, t), "another user is not affected");
        assert!(throttle.admit(1, t + REFILL));
        assert!(!throttle.admit(1, t + REFILL));
        let later = t + REFILL * (BURST + 1);
        assert_eq!(
            (0..1000).filter(|_| throttle.admit(1, later)).count(),
            BURST as usize
        );
    }

    #[test]
    fn memory_is_bounded_however_many_users_come() {
        let mut throttle = Throttle::default();
        let t = Duration::from_secs(1);
        let users = u32::try_from(USERS).unwrap();
        let admitted = (1..=10 * users).filter(|uid| throttle.admit(*uid, t)).count();
        assert_eq!(admitted, USERS);
        assert_eq!(throttle.repaid.len(), USERS);
        assert!(throttle.admit(0, t), "root is never locked out");
        assert!(
            throttle.admit(u32::MAX, t + REFILL),
            "those who have waited make room"
        );
    }
}
