//! Wall-clock time as the applications print it: UTC, no time zone data needed in an image.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A civil date and time in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Civil {
    /// Proleptic Gregorian year.
    pub year: i64,
    /// 1 to 12.
    pub month: u64,
    /// 1 to 31.
    pub day: u64,
    /// 0 to 23.
    pub hour: u64,
    /// 0 to 59.
    pub minute: u64,
    /// 0 to 59.
    pub second: u64,
    /// 0 to 999.
    pub millisecond: u32,
}

impl Civil {
    /// The present moment.
    pub fn now() -> Self {
        Self::from_epoch(
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or(Duration::ZERO),
        )
    }

    /// The moment that lies `since` after 1970-01-01T00:00:00Z.
    pub fn from_epoch(since: Duration) -> Self {
        let seconds = since.as_secs();
        // Days to a civil date, by eras of 400 years that start on March 1st, so that the leap day is the last one.
        let shifted = seconds / 86_400 + 719_468;
        let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let month = if from_march < 10 {
            from_march + 3
        } else {
            from_march - 9
        };
        let year = i64::try_from(year_of_era + era * 400).unwrap_or(i64::MAX) + i64::from(month <= 2);
        Self {
            year,
            month,
            day: day_of_year - (153 * from_march + 2) / 5 + 1,
            hour: seconds / 3600 % 24,
            minute: seconds / 60 % 60,
            second: seconds % 60,
            millisecond: since.subsec_millis(),
        }
    }

    /// `2026-01-31`.
    pub fn date(&self) -> String {
        format!("{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }

    /// `23:59:59`.
    pub fn time(&self) -> String {
        format!("{:02}:{:02}:{:02}", self.hour, self.minute, self.second)
    }

    /// `2026-01-31T23:59:59Z`, the form of every JSON answer and database row.
    pub fn iso(&self) -> String {
        format!("{}T{}Z", self.date(), self.time())
    }

    /// `Sat, 31 Jan 2026 23:59:59 GMT`, the form of an HTTP `Date` header.
    pub fn http(&self) -> String {
        const DAYS: [&str; 7] = ["Sat", "Sun", "Mon", "Tue", "Wed", "Thu", "Fri"];
        const MONTHS: [&str; 12] = [
            "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
        ];
        let pick = |names: &[&'static str], index: u64| {
            usize::try_from(index)
                .ok()
                .and_then(|index| names.get(index))
                .copied()
                .unwrap_or("???")
        };
        let weekday = pick(&DAYS, self.zeller());
        let month = pick(&MONTHS, self.month.saturating_sub(1));
        format!(
            "{weekday}, {:02} {month} {:04} {} GMT",
            self.day,
            self.year,
            self.time()
        )
    }

    /// Day of the week by Zeller's rule, 0 being Saturday.
    fn zeller(&self) -> u64 {
        let before_march = self.month < 3;
        let month = if before_march { self.month + 12 } else { self.month };
        let year = u64::try_from(self.year).unwrap_or(0) - u64::from(before_march);
        (self.day + 13 * (month + 1) / 5 + year + year / 4 - year / 100 + year / 400) % 7
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        let epoch = Civil::from_epoch(Duration::ZERO);
        assert_eq!(epoch.iso(), "1970-01-01T00:00:00Z");
        assert_eq!(epoch.http(), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(
            Civil::from_epoch(Duration::from_secs(1_709_210_096)).iso(),
            "2024-02-29T12:34:56Z"
        );
        assert_eq!(
            Civil::from_epoch(Duration::from_secs(1_735_689_599)).http(),
            "Tue, 31 Dec 2024 23:59:59 GMT"
        );
    }
}
