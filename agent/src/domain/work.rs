//! Whether an application that does not answer yet is at work: two measurements, and the rule that compares them.

use std::time::Duration;

/// Part of one processor, in percent, that is work. Less is what the timers of an idle runtime need.
const BUSY_PERCENT: u32 = 2;
/// Bytes written between two looks that are work. A migration writes its journal and its log; a hang writes nothing.
const BUSY_BYTES: u64 = 256;

/// What the processes of a unit have done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    /// Processor time.
    pub cpu: Duration,
    /// Bytes handed to write(2) and its kin, wherever to.
    pub written: u64,
}

impl Work {
    /// Whether more than idling was done since `before`, which was measured `elapsed` ago.
    pub fn went_on(self, before: Self, elapsed: Duration) -> bool {
        let cpu = self.cpu.saturating_sub(before.cpu);
        let written = self.written.saturating_sub(before.written);
        cpu > elapsed * BUSY_PERCENT / 100 || written >= BUSY_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn computing_and_writing_are_work_and_timers_are_not() {
        let before = Work {
            cpu: Duration::from_secs(7),
            written: 4096,
        };
        let after = |cpu, written| Work {
            cpu: before.cpu + Duration::from_millis(cpu),
            written: before.written + written,
        };
        let second = Duration::from_secs(1);
        for (now, is_work) in [
            (after(0, 0), false),
            (after(15, 8), false),
            (after(25, 0), true),
            (after(0, 256), true),
        ] {
            assert_eq!(now.went_on(before, second), is_work, "{now:?}");
        }
        assert!(
            !Work::default().went_on(before, second),
            "a process that ended took its figures with it"
        );
    }
}
