//! The clocks, and an alarm. The domain never reads one: it is told the time.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::{Errno, read};
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::descriptor::watched;

/// CLOCK_MONOTONIC: what systemd's `...Monotonic` properties and all due times are counted in.
pub fn monotonic() -> Duration {
    read_clock(ClockId::Monotonic)
}

/// CLOCK_BOOTTIME: the same, and it goes on while the machine sleeps.
pub fn boottime() -> Duration {
    read_clock(ClockId::Boottime)
}

/// CLOCK_REALTIME since 1970, or zero before that.
pub fn realtime() -> Duration {
    read_clock(ClockId::Realtime)
}

/// CLOCK_REALTIME in microseconds at a time of CLOCK_MONOTONIC, as far as that can be told now; the largest number for
/// [`Duration::MAX`].
pub fn realtime_usec_at(at: Duration) -> u64 {
    if at == Duration::MAX {
        return u64::MAX;
    }
    let then = (realtime() + at).saturating_sub(monotonic());
    u64::try_from(then.as_micros()).unwrap_or(u64::MAX)
}

/// The same time of CLOCK_REALTIME as was told before, where it was meant: told anew it is some microseconds off, as the two
/// clocks cannot be read at once, and that would be a change on the bus each time.
pub fn steady(before: u64, now: u64) -> u64 {
    if now.abs_diff(before) < 1_000_000 {
        before
    } else {
        now
    }
}

fn read_clock(id: ClockId) -> Duration {
    let now = clock_gettime(id);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let nanoseconds = u32::try_from(now.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanoseconds)
}

/// CLOCK_REALTIME in microseconds, as the bus carries it.
pub fn realtime_usec() -> u64 {
    u64::try_from(realtime().as_micros()).unwrap_or(u64::MAX)
}

/// A time in microseconds of CLOCK_REALTIME as `2026-11-24 13:08:39Z`, by the civil calendar (days from
/// 0000-03-01, in eras of 400 years).
pub fn utc(time: u64) -> String {
    let seconds = time / 1_000_000;
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months from March, so that the leap day is the last of the year.
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = era * 400 + year_of_era + next;
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z")
}

/// Rings once, at a time of CLOCK_MONOTONIC (timerfd_create(2)).
///
/// tokio's own timers wake the process several times on the way to a time that is far off; a daemon that mostly waits
/// should wake when there is something to do.
pub struct Alarm {
    timer: AsyncFd<OwnedFd>,
    at: Duration,
}

impl Alarm {
    /// An alarm that is not set. Needs a tokio runtime with I/O.
    pub fn new() -> io::Result<Self> {
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        Ok(Self {
            timer: watched(timer, Interest::READABLE)?,
            at: Duration::MAX,
        })
    }

    /// Sets it to a time, in place of the one before. A time that has passed rings at once; [`Duration::MAX`] never.
    pub fn set(&mut self, at: Duration) -> io::Result<()> {
        if at == self.at {
            return Ok(());
        }
        let zero = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let value = match i64::try_from(at.as_secs()) {
            // All zeroes would mean "never" to the kernel.
            Ok(seconds) => Timespec {
                tv_sec: seconds,
                tv_nsec: i64::from(at.subsec_nanos().max(1)),
            },
            Err(_) => zero,
        };
        let spec = Itimerspec {
            it_interval: zero,
            it_value: value,
        };
        timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::ABSTIME, &spec)?;
        self.at = at;
        Ok(())
    }

    /// Waits until it rings; then it is not set any more.
    pub async fn rings(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.timer.readable().await?;
            let mut count = [0; 8];
            let seen = read(self.timer.get_ref(), &mut count);
            ready.clear_ready();
            match seen {
                Ok(_) => {
                    self.at = Duration::MAX;
                    return Ok(());
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, said) in [
            (0, "1970-01-01 00:00:00Z"),
            (951_782_400, "2000-02-29 00:00:00Z"),
            (1_735_689_599, "2024-12-31 23:59:59Z"),
            (1_795_525_719, "2026-11-24 13:08:39Z"),
        ] {
            assert_eq!(utc(seconds * 1_000_000), said);
        }
    }

    #[test]
    fn a_time_is_told_anew_only_where_it_is_another() {
        let until = 1_795_898_774_632_949;
        assert_eq!(steady(until, until - 1), until);
        assert_eq!(steady(until, until + 3_600_000_000), until + 3_600_000_000);
        assert_eq!(steady(0, until), until);
        assert_eq!(steady(u64::MAX, until), until);
        assert_eq!(steady(until, u64::MAX), u64::MAX);
    }

    #[test]
    fn an_alarm_rings_when_it_is_set_and_not_before() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut alarm = Alarm::new().unwrap();
            let begin = monotonic();
            alarm.set(begin + Duration::from_mins(5)).unwrap();
            alarm.set(begin + Duration::from_millis(20)).unwrap();
            alarm.rings().await.unwrap();
            let took = monotonic().saturating_sub(begin);
            assert!(
                took >= Duration::from_millis(20) && took < Duration::from_secs(5),
                "{took:?}"
            );
            // What has passed rings at once, also the very beginning of the clock.
            alarm.set(Duration::ZERO).unwrap();
            alarm.rings().await.unwrap();
        });
    }
}
