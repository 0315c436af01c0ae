//! Those who do not listen on the bus: alerts, each in a unit of its own, and metrics, in a file.

use std::time::Duration;

use dagger_agent::adapter::systemd::Order;
use dagger_agent::adapter::{alert, clock, metrics};
use dagger_agent::domain::alert::{Alert, Event};
use dagger_agent::domain::health::Health;
use dagger_agent::domain::metrics::{Own, Row, text, up};
use dagger_agent::domain::observation::Observation;
use dagger_agent::domain::recovery::{Action, Stage};

use crate::agent::{Agent, Key};
use crate::entry::Entry;

/// Whom to tell; without it only what somebody has to act upon is worth a process, for hooks of the user's own.
const TARGETS: &str = "/etc/dagger/alert.toml";

impl Agent {
    /// A verdict is another one.
    pub fn alert_of_verdict(&mut self, key: &Key, before: Health, after: Health) {
        // A job stops and starts it, and tells itself what comes of that.
        let Some(entry) = self
            .services
            .get_mut(key)
            .filter(|entry| !entry.machine.is_taken())
        else {
            return;
        };
        let event = match (after, &entry.machine.recovery().stage) {
            (Health::Failed, Stage::GivenUp { .. }) => Event::GivenUp,
            (Health::Failed, Stage::Waiting { .. }) => Event::WaitingOverdue,
            (Health::Failed, _) => Event::Failed,
            (Health::Unhealthy, _) if self.root.join(TARGETS).exists() => Event::Unhealthy,
            // Also when somebody has started it in between.
            (Health::Healthy | Health::Degraded, _) if before == Health::Failed || entry.alarmed => {
                Event::Recovered
            }
            _ => return,
        };
        entry.alarmed = event != Event::Recovered && (entry.alarmed || after == Health::Failed);
        if let Some(entry) = self.services.get(key) {
            self.alert(entry, event);
        }
    }

    /// A step of the ladder has been taken.
    pub fn alert_of_step(&self, key: &Key, action: &Action) {
        let Some(entry) = self.services.get(key) else {
            return;
        };
        match action {
            Action::Withdraw(_) => self.alert(entry, Event::MediaLost),
            Action::Recovered { .. } if self.root.join(TARGETS).exists() => {
                self.alert(entry, Event::Recovered);
            }
            _ => {}
        }
    }

    /// Writes the event down and has systemd tell it; nobody waits for that.
    fn alert(&self, entry: &Entry, event: Event) {
        if entry.service.shadow {
            return;
        }
        let view = entry.view.borrow();
        let alert = Alert {
            service: view.name.clone(),
            event,
            health: entry.machine.health(),
            detail: entry.machine.detail(),
        };
        if let Err(error) = alert::write(&self.root, &alert) {
            log::warn!("{}: nobody is told: {error}", view.name);
            return;
        }
        self.systemd
            .order(Order::Start, entry.service.name.alert_unit(), self.news.clone());
    }

    /// Writes the metrics where that is due; it never wakes anybody for it.
    pub fn write_metrics(&mut self, now: Duration) {
        if !self.pace.due(now) {
            return;
        }
        let views: Vec<_> = self
            .services
            .values()
            .map(|entry| (entry, entry.view.borrow().clone()))
            .collect();
        let rows: Vec<Row<'_>> = views
            .iter()
            .map(|(entry, view)| Row {
                service: &view.name,
                health: view.health,
                since: Duration::from_micros(view.since),
                up: up(entry.answer.as_ref().map(Observation::is_good), view.health),
                latency: Some(view.latency_usec)
                    .filter(|usec| *usec > 0)
                    .map(Duration::from_micros),
                good: entry.good,
                bad: entry.bad,
                recoveries: entry.recoveries,
                paused: view.paused_until > 0,
                problems: view.problems.len(),
                started: (view.main_pid != 0)
                    .then(|| Duration::from_micros(clock::realtime_usec_at(entry.unit().started))),
                cause: Some(view.cause.as_str()).filter(|cause| !cause.is_empty()),
            })
            .collect();
        let own = Own {
            version: env!("CARGO_PKG_VERSION"),
            started: self.began,
            written: clock::realtime(),
        };
        if let Err(error) = metrics::write(&self.root, &text(&own, &rows)) {
            log::warn!("the metrics are not written: {error}");
        }
    }

    /// Nobody looks at the services any more: no metric may say that one is up.
    pub fn remove_metrics(&self) {
        if let Err(error) = metrics::remove(&self.root) {
            log::warn!("the metrics stay where they are: {error}");
        }
    }
}
