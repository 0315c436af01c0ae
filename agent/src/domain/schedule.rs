//! When each service is asked next: due times in order, spread so that services with one interval do not come at once.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};
use std::time::Duration;

/// Due times are multiples of this, so that services that fall together cost one wake-up.
const SLOT: Duration = Duration::from_millis(50);

/// Due times (CLOCK_MONOTONIC) by service.
#[derive(Debug)]
pub struct Schedule<K> {
    order: BTreeSet<(Duration, K)>,
    due: HashMap<K, Duration>,
}

impl<K> Default for Schedule<K> {
    fn default() -> Self {
        Self {
            order: BTreeSet::new(),
            due: HashMap::new(),
        }
    }
}

impl<K: Clone + Ord + Hash> Schedule<K> {
    /// Sets when `key` is due, in place of what was set before.
    pub fn set(&mut self, key: &K, at: Duration) {
        self.remove(key);
        self.order.insert((at, key.clone()));
        self.due.insert(key.clone(), at);
    }

    /// Brings `key` forward to `at`, where it is due at all and later than that.
    pub fn no_later(&mut self, key: &K, at: Duration) {
        if self.due.get(key).is_some_and(|due| *due > at) {
            self.set(key, at);
        }
    }

    /// Forgets `key`.
    pub fn remove(&mut self, key: &K) {
        if let Some(at) = self.due.remove(key) {
            self.order.remove(&(at, key.clone()));
        }
    }

    /// The next due time of all.
    pub fn next(&self) -> Option<Duration> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes out one key that is due at `now`, with the time at which it was.
    pub fn pop(&mut self, now: Duration) -> Option<(K, Duration)> {
        if self.next()? > now {
            return None;
        }
        let (at, key) = self.order.pop_first()?;
        self.due.remove(&key);
        Some((key, at))
    }
}

/// So many services are asked at once. What a probe costs is mostly the waking for it: together they cost half of what
/// they cost one by one.
const TOGETHER: usize = 16;

/// The first time after `now` that belongs to `key`, one of `count`, on a grid of `interval`.
///
/// The grid is the same at every start, and intervals do not drift however late an answer was. A small suite is asked
/// all at once; a thousand services are spread over the interval in groups.
pub fn after<K: Hash>(key: &K, count: usize, interval: Duration, now: Duration) -> Duration {
    let slots = u64::try_from(interval.as_millis() / SLOT.as_millis())
        .unwrap_or(u64::MAX)
        .max(1);
    let groups = u64::try_from(count.div_ceil(TOGETHER))
        .unwrap_or(u64::MAX)
        .clamp(1, slots);
    let group = BuildHasherDefault::<DefaultHasher>::default().hash_one(key) % groups;
    let phase = group * (slots / groups);
    let slot_now = u64::try_from(now.as_millis() / SLOT.as_millis()).unwrap_or(u64::MAX);
    let turn = slot_now / slots * slots + phase;
    let turn = if turn > slot_now { turn } else { turn + slots };
    SLOT * u32::try_from(turn).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn keys_come_in_order_and_once() {
        let mut schedule = Schedule::default();
        for (key, at) in [("b", 3), ("a", 1), ("c", 8), ("a", 4)] {
            schedule.set(&key, s(at));
        }
        for (key, at) in [("b", 5), ("c", 2), ("a", 9), ("d", 1)] {
            schedule.no_later(&key, s(at));
        }
        assert_eq!(schedule.next(), Some(s(2)));
        assert_eq!(schedule.pop(s(1)), None);
        assert_eq!(schedule.pop(s(9)), Some(("c", s(2))));
        schedule.remove(&"b");
        assert_eq!(schedule.pop(s(9)), Some(("a", s(4))));
        assert_eq!(schedule.pop(s(9)), None);
    }

    #[test]
    fn an_interval_never_drifts_and_is_never_skipped() {
        let interval = s(10);
        let mut at = after(&"sonarr", 100, interval, s(1234));
        for late in [0, 1, 49, 999, 9000] {
            let next = after(&"sonarr", 100, interval, at + Duration::from_millis(late));
            assert_eq!(next, at + interval, "{late} ms late");
            at = next;
        }
    }

    #[test]
    fn a_thousand_services_are_spread() {
        let mut per_second = [0_u32; 10];
        for n in 0..1000 {
            let at = after(&format!("service-{n}"), 1000, s(10), s(500)).saturating_sub(s(500));
            per_second[usize::try_from(at.as_secs()).unwrap().min(9)] += 1;
        }
        assert!(per_second.iter().all(|n| (60..160).contains(n)), "{per_second:?}");
    }

    #[test]
    fn a_small_suite_is_asked_all_at_once() {
        let at = |key: &str| after(&key, 6, s(15), s(500));
        assert_eq!(at("sonarr"), at("radarr"));
        assert_eq!(at("sonarr"), at("jellyfin"));
    }
}
