//! How long the gate waits for an application: the budget, and what makes it longer.
//!
//! An application that says that it is at work is believed for [`BUDGETS_MAX`] budgets. After that its word alone is not
//! enough: it is waited for as long as the kernel sees it work, because a migration that is killed in the middle begins
//! again at best, and leaves a broken database at worst. People see it in the unit's status and can stop the unit.

use std::time::{Duration, Instant};

use dagger_agent::adapter::work::Workers;
use dagger_agent::adapter::{notify, past};
use dagger_agent::domain::work::Work;
use dagger_suite::names::ServiceName;
use sd_notify::NotifyState;

use crate::say;

/// The pause between two tries is this part of the time that has gone by: nobody waits more than 5 % longer than needed.
const PAUSE_PART: u32 = 20;
/// Its shortest.
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// Its longest.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// An application that keeps saying that it is starting is believed for so many budgets in all.
const BUDGETS_MAX: u32 = 6;
/// systemd's own limit is put off until so long after ours, so that ours comes first and says why.
const MARGIN: Duration = Duration::from_secs(10);
/// The journal and the kernel are asked this part of a budget after the last time.
const LOOK_PART: u32 = 10;
/// Not more often than this: each look at the journal is a process.
const LOOK_MIN: Duration = Duration::from_millis(200);
/// Not more seldom than this.
const LOOK_MAX: Duration = Duration::from_secs(10);

/// The two ends of the wait: the budget after the last word of progress, and the end of all patience.
pub struct Limits {
    begin: Instant,
    budget: Duration,
    until: Instant,
}

impl Limits {
    pub fn new(budget: Duration) -> Self {
        let begin = Instant::now();
        Self {
            begin,
            budget,
            until: begin + budget,
        }
    }

    /// The application says that it is at work: the budget begins again, within the bound.
    pub fn extend(&mut self) {
        let bound = self.begin + self.budget * BUDGETS_MAX;
        self.until = self.until.max((Instant::now() + self.budget).min(bound));
    }

    /// The application was seen at work: the budget begins again, without a bound.
    pub fn renew(&mut self) {
        self.until = Instant::now() + self.budget;
    }

    pub fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    pub fn waited(&self) -> Duration {
        self.begin.elapsed()
    }

    /// Most of what is left is used up: time to look closer.
    pub fn is_short(&self) -> bool {
        self.left() <= self.budget / 2
    }

    /// Longer than any word is believed.
    pub fn is_beyond_belief(&self) -> bool {
        self.waited() > self.budget * BUDGETS_MAX
    }

    fn look(&self) -> Duration {
        (self.budget / LOOK_PART).clamp(LOOK_MIN, LOOK_MAX)
    }

    pub fn pause(&self) -> Duration {
        (self.waited() / PAUSE_PART)
            .clamp(PAUSE_MIN, PAUSE_MAX)
            .min(self.left())
    }

    /// Tells systemd, whose own limit would end the wait without a word about the application.
    ///
    /// A try that began within the limit is let finish.
    pub fn tell(&self, one_try: Duration) {
        let micros = u32::try_from((self.left() + one_try + MARGIN).as_micros()).unwrap_or(u32::MAX);
        if let Err(error) = notify::own(&[NotifyState::ExtendTimeoutUsec(micros)]) {
            say::warning(&format!("systemd does not take our time limit: {error}"));
        }
    }
}

/// What Sonarr, Radarr, Lidarr, Prowlarr and Readarr write before they touch their database, with the port still closed
/// (their `MigrationController`).
const MIGRATING: &str = "*** Migrating";
/// The newest lines that are looked at: the sentence comes at the beginning, and few follow it while the port is closed.
const JOURNAL_LINES: u32 = 5000;

/// Whether the unit's journal has said since its start that the database is being migrated.
pub struct Journal {
    seen: bool,
    asked: Option<Instant>,
    complained: bool,
}

impl Journal {
    pub fn new() -> Self {
        Self {
            seen: false,
            asked: None,
            complained: false,
        }
    }

    /// Asks `journalctl` when the time is short, and not more often than the limits say; what was seen once stays true.
    pub async fn tells_of_a_migration(&mut self, service: &ServiceName, limits: &Limits) -> bool {
        if self.seen {
            return true;
        }
        if !limits.is_short() || self.asked.is_some_and(|asked| asked.elapsed() < limits.look()) {
            return false;
        }
        self.asked = Some(Instant::now());
        // Called by hand there is no invocation whose lines could be told from older ones.
        let Ok(invocation) = std::env::var("INVOCATION_ID") else {
            return false;
        };
        match past::lines_of_run(&invocation, JOURNAL_LINES).await {
            Ok(text) => self.seen = text.contains(MIGRATING),
            Err(error) if !self.complained => {
                say::warning(&format!(
                    "journalctl does not show what {service} wrote ({error}): a database migration gets no time beyond \
                     `start-budget`"
                ));
                self.complained = true;
            }
            Err(_) => {}
        }
        self.seen
    }
}

/// The unit's processes, as the kernel sees them at work.
pub struct Watch {
    workers: Workers,
    before: Option<(Instant, Work)>,
    told: bool,
}

impl Watch {
    /// None where there is no main process to watch, as in a call by hand.
    pub fn of(service: &ServiceName) -> Option<Self> {
        let main = std::env::var("MAINPID").ok()?.parse().ok()?;
        match Workers::of(&service.unit(), main) {
            Ok(workers) => Some(Self {
                workers,
                before: None,
                told: false,
            }),
            Err(error) => {
                say::warning(&format!(
                    "whether {service} is at work cannot be seen ({error}): only its answers count"
                ));
                None
            }
        }
    }

    /// Whether work was done since the last look; none when that look was a moment ago, or is the first one.
    pub fn goes_on(&mut self, limits: &Limits) -> Option<bool> {
        if self
            .before
            .is_some_and(|(when, _)| when.elapsed() < limits.look())
        {
            return None;
        }
        // Processes that are gone do no work; the end of the main process is seen elsewhere.
        let now = self.workers.measure().ok()?;
        let before = self.before.replace((Instant::now(), now));
        before.map(|(when, before)| now.went_on(before, when.elapsed()))
    }

    /// Says once, in the journal, that the wait has become longer than any word is believed.
    pub fn tell(&mut self, service: &ServiceName, limits: &Limits, said: &str) {
        if !self.told {
            say::warning(&format!(
                "{service} does not answer after {} s, {BUDGETS_MAX} times its `start-budget`; it is visibly at work, so it is \
                 waited for, and not ended in the middle (last: {said})",
                limits.waited().as_secs()
            ));
            self.told = true;
        }
    }
}
