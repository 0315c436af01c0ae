//! Conflicts: looked for where something has changed, and seldom otherwise; told when they begin and when they end. What
//! waits for a port is started as soon as it is free.

use std::collections::BTreeMap;
use std::time::Duration;

use dagger_agent::adapter::bus::{Answer, ConflictView, Owner};
use dagger_agent::adapter::clock;
use dagger_agent::adapter::sockets::socket_unit;
use dagger_agent::adapter::survey::{self, Survey};
use dagger_agent::adapter::systemd::{Order, Systemd};
use dagger_agent::domain::conflict::{self, Conflict, Kind, Known, MANAGER, Units, Wanted, words};
use dagger_agent::domain::event::{self, Event};
use dagger_agent::domain::schedule;
use dagger_agent::domain::verdict::Phase;

use crate::agent::{Agent, Key};
use crate::entry::{Entry, Unit};
use crate::publish;
use crate::recover::Find;

/// What changes together is looked at once: so long after the first of it.
const SOON: Duration = Duration::from_millis(200);
/// How often is looked while a service waits for a port.
const OFTEN: Duration = Duration::from_secs(2);
/// How often is looked while nothing changes.
const SELDOM: Duration = Duration::from_mins(1);
/// A start that a free port called for is not called for again so soon, whatever is seen: systemd itself tries as often.
const AGAIN: Duration = Duration::from_secs(10);

/// What is known of conflicts.
pub struct Conflicts {
    /// When is looked next (CLOCK_MONOTONIC).
    pub due: Duration,
    /// When the last look began.
    looked: Duration,
    /// Somebody looks at this moment.
    looking: bool,
    /// What was found.
    known: Vec<Known>,
    /// Callers who wait for a look.
    waiting: Vec<Answer<Vec<ConflictView>>>,
    /// Where nobody could look, as it was last said.
    blind: Vec<String>,
    /// Why no unit can be told, as it was last said.
    dim: Option<&'static str>,
    /// When which service was started because its port was free.
    started: BTreeMap<Key, Duration>,
}

impl Default for Conflicts {
    fn default() -> Self {
        Self {
            due: Duration::MAX,
            looked: Duration::ZERO,
            looking: false,
            known: Vec::new(),
            waiting: Vec::new(),
            blind: Vec::new(),
            dim: None,
            started: BTreeMap::new(),
        }
    }
}

impl Conflicts {
    /// Something has changed that conflicts may come of, or end with.
    pub fn changed(&mut self) {
        self.due = self.due.min(clock::monotonic() + SOON);
    }

    /// A unit is the holder of something that was found.
    pub fn is_with(&self, unit: &str) -> bool {
        self.known
            .iter()
            .any(|known| known.conflict.identity() == Some(unit))
    }

    /// Sentences about one service.
    fn of(&self, service: &str) -> Vec<String> {
        self.known
            .iter()
            .filter(|known| known.conflict.service == service)
            .map(|known| words::sentence(&known.conflict))
            .collect()
    }
}

impl Agent {
    /// Somebody asks: the answer is a look that begins now, or as soon as may be after the last one. Everybody may ask.
    pub fn ask_conflicts(&mut self, answer: Answer<Vec<ConflictView>>) {
        self.conflicts.waiting.push(answer);
        self.conflicts.due = self.conflicts.due.min(self.conflicts.looked + SOON);
    }

    /// Begins to look, where that is due, in a thread of its own.
    pub fn look_at_ports(&mut self, now: Duration) {
        if now < self.conflicts.due || self.conflicts.looking {
            return;
        }
        self.conflicts.due = Duration::MAX;
        self.conflicts.looking = true;
        self.conflicts.looked = now;
        let wanted: Vec<Wanted> = self
            .services
            .values()
            .map(|entry| entry.service.wanted.clone())
            .collect();
        let (finds, systemd, root) = (self.finds.clone(), self.systemd.clone(), self.root.clone());
        tokio::spawn(async move {
            let looked = tokio::task::spawn_blocking(move || survey::look(&root, &wanted)).await;
            let mut survey = looked.unwrap_or_else(|error| Survey {
                blind: vec![format!("the ports cannot be looked at: {error}")],
                ..Survey::default()
            });
            name_sockets(&systemd, &mut survey).await;
            // The receiver is only gone when the program ends.
            let _ = finds.send(Find::Ports(survey));
        });
    }

    /// Somebody has looked.
    pub async fn found_ports(&mut self, survey: Survey) -> zbus::Result<()> {
        self.conflicts.looking = false;
        let now = clock::monotonic();
        if survey.blind.is_empty() {
            self.take_in(&survey).await?;
            self.start_what_waits(now);
        }
        if survey.blind != self.conflicts.blind {
            for sentence in &survey.blind {
                log::warn!("{sentence}; conflicts are as they were last seen");
            }
            self.conflicts.blind = survey.blind;
        }
        if let Some(sentence) = survey.dim
            && self.conflicts.dim.replace(sentence) != survey.dim
        {
            log::warn!("{sentence}");
        }
        let next = if self.services.values().any(waits_for_port) {
            now + OFTEN
        } else {
            schedule::after(&"ports", 1, SELDOM, now)
        };
        self.conflicts.due = self.conflicts.due.min(next);
        let views = self.conflict_views();
        for answer in std::mem::take(&mut self.conflicts.waiting) {
            // One that has gone meanwhile is not missed.
            let _ = answer.send(Ok(views.clone()));
        }
        Ok(())
    }

    /// What has begun and what has ended, to everybody who hears of it.
    async fn take_in(&mut self, survey: &Survey) -> zbus::Result<()> {
        let services: Vec<(&Wanted, Units)> = self
            .services
            .values()
            .map(|entry| (&entry.service.wanted, units(entry)))
            .collect();
        let found = conflict::conflicts(&services, &survey.held);
        let change = conflict::change(&self.conflicts.known, found, clock::realtime_usec());
        self.conflicts.known = change.now;
        for conflict in &change.ended {
            self.tell_conflict(conflict, &event::CONFLICT_ENDED, &words::over(conflict));
        }
        for conflict in &change.begun {
            self.tell_conflict(conflict, &event::CONFLICT_BEGAN, &words::sentence(conflict));
        }
        let keys: Vec<Key> = self.services.keys().cloned().collect();
        for key in keys {
            let conflicts = self.conflicts.of(&key);
            let Some(entry) = self.services.get(&key) else {
                continue;
            };
            let mut view = entry.view.borrow().clone();
            if view.conflicts != conflicts {
                view.conflicts = conflicts;
                self.bus.service(entry, view).await?;
            }
        }
        let count = u32::try_from(self.conflicts.known.len()).unwrap_or(u32::MAX);
        self.bus.manager(|view| view.conflict_count = count).await
    }

    fn tell_conflict(&self, conflict: &Conflict, event: &Event, detail: &str) {
        let Some(entry) = self.services.get(conflict.service.as_str()) else {
            return;
        };
        let port = conflict
            .claim
            .as_ref()
            .map(|claim| format!("{}:{}", claim.port.protocol.word(), claim.port.number));
        let mut values = vec![
            ("DAGGER_DETAIL", detail),
            ("DAGGER_CONFLICT", conflict.kind.word()),
        ];
        values.extend(port.as_deref().map(|port| ("DAGGER_PORT", port)));
        values.extend(conflict.with().map(|unit| ("DAGGER_HOLDER", unit)));
        publish::tell_event(entry, event, &values);
    }

    /// Starts what the gate has refused over a port, now that all its ports are free, instead of waiting for systemd's own
    /// next try. Only what systemd is about to start anyway: what somebody has stopped stays as it is.
    fn start_what_waits(&mut self, now: Duration) {
        self.conflicts.started.retain(|_, at| now < *at + AGAIN);
        let free: Vec<Key> =
            self.services
                .iter()
                .filter(|(key, entry)| {
                    let taken =
                        self.conflicts.known.iter().any(|known| {
                            known.conflict.kind == Kind::Taken && known.conflict.service == ***key
                        });
                    waits_for_port(entry) && !taken && !self.conflicts.started.contains_key(*key)
                })
                .map(|(key, _)| key.clone())
                .collect();
        for key in free {
            if let Some(entry) = self.services.get(&key) {
                log::info!("{key}: its ports are free, it is started");
                self.systemd
                    .order(Order::TryRestart, entry.own.name.clone(), self.news.clone());
            }
            self.conflicts.started.insert(key, now);
        }
    }

    fn conflict_views(&self) -> Vec<ConflictView> {
        self.conflicts
            .known
            .iter()
            .map(|known| {
                let wanted_by: Vec<&str> = self
                    .services
                    .values()
                    .filter(|entry| entry.service.wants.contains(&known.conflict.service))
                    .map(|entry| entry.service.name.as_str())
                    .collect();
                ConflictView::of(known, &wanted_by)
            })
            .collect()
    }
}

fn units(entry: &Entry) -> Units {
    let natively = entry.owner == Owner::Native;
    let native = entry.native.as_ref();
    Units {
        own: entry.own.phase(),
        native: native.map(Unit::phase),
        natively,
        ran: native.filter(|_| natively).unwrap_or(&entry.own).ran,
    }
}

/// The gate has refused it over a port, systemd is about to try again, and nobody wants it left alone.
fn waits_for_port(entry: &Entry) -> bool {
    let refused = entry.own.phase() == Phase::Restarting
        && entry
            .own
            .refused()
            .is_some_and(|words| words::is_about_a_port(&words, entry.service.name.as_str()));
    refused
        && entry.owner != Owner::Native
        && entry.service.policy.recovery.automatic
        && entry.machine.paused().is_none()
}

/// Where systemd holds a port itself, it alone knows for which socket unit.
async fn name_sockets(systemd: &Systemd, survey: &mut Survey) {
    let mut held: Vec<_> = survey
        .held
        .iter_mut()
        .filter(|held| held.holder.is(MANAGER))
        .collect();
    if held.is_empty() {
        return;
    }
    match systemd.listens().await {
        Ok(known) => {
            for held in &mut held {
                let unit = socket_unit::of(&known, held.port.protocol, held.holder.address);
                held.holder.socket = unit.map(str::to_owned);
            }
        }
        Err(error) => log::debug!("systemd does not say what it listens on: {error}"),
    }
}
