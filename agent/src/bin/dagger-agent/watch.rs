//! News of units and answers of applications, in.

use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use dagger_agent::adapter::bus::{Owner, ServiceView};
use dagger_agent::adapter::systemd::{Change, News};
use dagger_agent::adapter::{clock, image, media, probe, well};
use dagger_agent::domain::health::Health;
use dagger_agent::domain::job::Task;
use dagger_agent::domain::machine::{Effect, Happened};
use dagger_agent::domain::progress::Probes;
use dagger_agent::domain::schedule;
use dagger_agent::domain::verdict::Phase;
use dagger_suite::probe::Kind;

use crate::agent::{Agent, Key};
use crate::entry::{Answer, Question};
use crate::publish;

/// Probes at once: enough for a thousand services that answer, few enough that those which do not cost little.
const IN_FLIGHT: usize = 32;

impl Agent {
    /// systemd has something to say.
    pub async fn news(&mut self, news: News) -> zbus::Result<()> {
        match news {
            News::Unit(name, change) if name == well::WELL_UNIT || name == well::CHECK_UNIT => {
                let ended = change.active_state.is_some_and(|state| state == "inactive");
                if ended { self.read_well().await } else { Ok(()) }
            }
            News::Unit(name, change) if Task::of_unit(&name).is_some() => self.job_unit(&name, &change).await,
            News::Unit(name, change) => {
                if self.conflicts.is_with(&name) {
                    self.conflicts.changed();
                }
                let Some(key) = self.units.get(&name).cloned() else {
                    return Ok(());
                };
                let change = self.settled(&name, change);
                let Some(unit) = self
                    .services
                    .get_mut(&key)
                    .and_then(|entry| entry.unit_mut(&name))
                else {
                    return Ok(());
                };
                if change.is_overtaken(unit.heard) {
                    self.systemd.ask(vec![name], self.news.clone());
                    return Ok(());
                }
                let before = unit.phase();
                if unit.merge(change) {
                    if unit.phase() != before {
                        self.conflicts.changed();
                    }
                    self.judge_unit(&key).await?;
                }
                Ok(())
            }
            News::Reloaded => {
                self.reload = true;
                Ok(())
            }
            News::Unstarted(unit) => self.unstarted(&unit).await,
            News::Denied(unit, why) => self.denied(&unit, why).await,
            News::Failed(error) => {
                // The next news of each unit mends what is missing now.
                log::warn!("systemd does not say how the units are: {error}");
                Ok(())
            }
            News::Ended => Ok(()),
        }
    }

    /// What the applications say of themselves, as the programs that ask them have left it.
    pub async fn read_well(&mut self) -> zbus::Result<()> {
        let keys: Vec<Key> = self.services.keys().cloned().collect();
        for key in keys {
            let Some(entry) = self.services.get(&key) else {
                continue;
            };
            let well = well::read(&self.root, &entry.service.name).unwrap_or_else(|error| {
                log::warn!("{key}: what it says of itself cannot be read: {error}");
                None
            });
            let problems = well.map(|well| well.problems).unwrap_or_default();
            if problems != entry.machine.problems() {
                self.happened(&key, &Happened::Well(problems)).await?;
            }
        }
        Ok(())
    }

    /// Looks again at everything about a service that a change of its unit may have changed.
    pub async fn judge_unit(&mut self, key: &Key) -> zbus::Result<()> {
        let interrupted = self.jobs.table.changing(key).is_none() && self.is_interrupted(key);
        let Some(entry) = self.services.get_mut(key) else {
            return Ok(());
        };
        entry.interrupted = interrupted;
        // The same test as the units' `ConditionPathExists=`.
        entry.owner = entry.owner_by(self.root.join(entry.service.name.owner_marker()).exists());
        entry.image = match image::recorded(&self.root, &entry.service.name) {
            // Of the native version nobody says what it is.
            Ok(record) => record
                .filter(|_| entry.owner != Owner::Native)
                .map(|image| (image.digest, image.version))
                .unwrap_or_default(),
            Err(error) => {
                log::debug!("{key}: the record of its image is not used: {error}");
                <(String, String)>::default()
            }
        };
        let unit = entry.unit();
        let (phase, started) = (unit.phase(), unit.started);
        let now_judged = (phase, started, unit.is_masked());
        if entry.judged.replace(now_judged) == Some(now_judged) {
            let view = publish::view(entry);
            publish::status(entry, &view);
            return self.bus.service(entry, view).await;
        }
        entry.hang_up();
        let now = clock::monotonic();
        if phase == Phase::Active {
            entry.at_start = media::read(&self.root, &entry.service.name).unwrap_or_else(|error| {
                log::warn!("{key}: {error}");
                None
            });
            self.media_due = self.media_due.min(now);
        }
        if phase == Phase::Activating {
            entry.sample = None;
            // The answers of a run that the agent itself has ended still say why.
            if entry.machine.health() != Health::Recovering {
                entry.answer = None;
            }
        }
        match phase {
            Phase::Active => self.schedule.set(key, now),
            Phase::Activating => self.schedule.set(key, now + Duration::from_secs(1)),
            Phase::Unloaded | Phase::Stopped | Phase::Restarting | Phase::Deactivating | Phase::Failed => {
                self.schedule.remove(key);
            }
        }
        let news = entry.unit_news();
        self.happened(key, &news).await
    }

    /// An application has answered, or has not.
    pub async fn answer(&mut self, key: &Key, answer: Answer) -> zbus::Result<()> {
        let Answer {
            number,
            observation,
            kept,
        } = answer;
        let Some(entry) = self.services.get_mut(key) else {
            return Ok(());
        };
        // None: the answer to a question that was given up a moment ago.
        let Some(question) = entry.question.take_if(|question| question.number == number) else {
            return Ok(());
        };
        entry.connection = kept.filter(|_| question.keeps);
        self.in_flight = self.in_flight.saturating_sub(1);
        self.limits.remove(key);
        let now = clock::monotonic();
        entry.answered = Some(now);
        let rounds = std::mem::take(&mut entry.rounds);
        log::debug!("{key}: {observation}");
        let excused = self.excused(key, &observation, now);
        if let Some(entry) = self.services.get_mut(key) {
            entry.asked = None;
            if observation.is_good() {
                entry.good += 1;
            } else {
                entry.bad += 1;
            }
            if !excused {
                entry.answer = Some(observation.clone());
            }
        }
        let happened = Happened::Observed { observation, excused };
        self.happened(key, &happened).await?;
        if let Some(entry) = self.services.get(key)
            && entry.unit().phase().is_up()
        {
            let at = schedule::after(key, self.services.len(), entry.interval(), now);
            self.schedule.set(key, at);
        }
        self.end_rounds(rounds);
        Ok(())
    }

    /// Before 254 systemd says `failed` in the same words on the way to a restart as at the end, and the rest a moment later:
    /// what it still says when it is asked is so.
    fn settled(&self, name: &str, change: Change) -> Change {
        if change.asked || change.sub_state.as_deref() != Some("failed") {
            return change;
        }
        self.systemd.ask(vec![name.to_owned()], self.news.clone());
        Change {
            active_state: None,
            sub_state: None,
            job: None,
            ..change
        }
    }

    /// One step of a service's machine, and everything that follows from it.
    pub async fn happened(&mut self, key: &Key, happened: &Happened) -> zbus::Result<()> {
        let now = clock::monotonic();
        let Some(entry) = self.services.get_mut(key) else {
            return Ok(());
        };
        let first = entry.view.borrow().active_state.is_empty();
        let before = entry.machine.health();
        let (machine, effects) = entry.machine.step(&entry.service.policy, happened, now);
        // An answer like the one before it: but for the time it took there is nothing to tell anybody.
        let news = first || machine != entry.machine || !matches!(happened, Happened::Observed { .. });
        entry.machine = machine;
        let (mut became, mut took) = (None, None);
        for effect in &effects {
            match effect {
                Effect::Became(health) => became = Some(*health),
                Effect::Took(latency) => took = Some(usec(*latency)),
                Effect::Watchdog(watchdog) => publish::watchdog(entry, *watchdog),
                Effect::Act(_) | Effect::Resumed => {}
            }
        }
        if let Some(latency_usec) = took {
            // Nobody waits for this alone.
            entry.view.send_if_modified(|view| {
                view.latency_usec = latency_usec;
                false
            });
        }
        if !news {
            return Ok(());
        }
        let after = entry.machine.health();
        let well = |health| matches!(health, Health::Healthy | Health::Degraded);
        if well(before) != well(after) || entry.fell.is_zero() {
            entry.fell = now;
        }
        if well(after) {
            entry.around = None;
        }
        match entry.machine.wakes() {
            Some(at) => self.ticks.set(key, at),
            None => self.ticks.remove(key),
        }
        let mut view = publish::view(entry);
        self.keep |= effects
            .iter()
            .any(|effect| matches!(effect, Effect::Became(_) | Effect::Act(_) | Effect::Resumed));
        self.stale |= became.is_some();
        if let Some(health) = became {
            view.since = clock::realtime_usec();
            // What already ran when the agent came is not news; what it finds broken is.
            if !(first && matches!(health, Health::Starting)) {
                publish::tell(entry, &view);
            }
        }
        publish::status(entry, &view);
        let detail = view.health_detail.clone();
        self.publish(key, view).await?;
        if let Some(after) = became {
            let name = self.services.get(key).map(|entry| entry.service.name.clone());
            if let Some(name) = name {
                let detail = &detail;
                self.bus
                    .signal(
                        &name,
                        publish::Signal::Health {
                            before,
                            after,
                            detail,
                        },
                    )
                    .await?;
            }
            self.others(key, after, now);
            self.alert_of_verdict(key, before, after);
            self.pace.changed();
        }
        self.act(key, effects).await
    }

    async fn publish(&self, key: &Key, view: ServiceView) -> zbus::Result<()> {
        match self.services.get(key) {
            Some(entry) => self.bus.service(entry, view).await,
            None => Ok(()),
        }
    }

    /// Begins the probes that are due, as far as there is room.
    pub fn begin_due(&mut self) {
        let now = clock::monotonic();
        while let Some((key, due)) = self.schedule.pop(now) {
            self.enqueue(&key, due);
        }
        while self.in_flight < IN_FLIGHT
            && let Some(key) = self.queue.pop_front()
        {
            self.begin(&key, now);
        }
    }

    /// Puts a service into the queue of those that are to be asked, unless it is there or is being asked.
    pub fn enqueue(&mut self, key: &Key, due: Duration) {
        if let Some(entry) = self.services.get_mut(key)
            && !entry.queued
            && entry.asked.is_none()
        {
            entry.queued = true;
            entry.due = due;
            self.queue.push_back(key.clone());
        }
    }

    fn begin(&mut self, key: &Key, now: Duration) {
        let Some(entry) = self.services.get_mut(key) else {
            return;
        };
        entry.queued = false;
        entry.asked = Some(now);
        entry.late = now.saturating_sub(entry.due);
        self.in_flight += 1;
        self.last_question += 1;
        let number = self.last_question;
        let question = entry.service.probe.clone();
        let until = now + question.timeout;
        self.limits.set(key, until);
        self.room = self.room.max(until);
        let runner = match question.kind {
            Kind::Exec => runner(&self.configuration.podman, question.timeout),
            _ => Vec::new(),
        };
        let (key, answers, line) = (key.clone(), self.answers.clone(), entry.line());
        let connected = Arc::new(AtomicBool::new(false));
        let seen = connected.clone();
        // Without a timer of its own: a timer of tokio's costs a write to wake the thread that sets it, and the loop's
        // alarm is there anyway.
        let task = tokio::spawn(async move {
            let (observation, kept) = probe::probe_without_limit(&question, &runner, &seen, line).await;
            let answer = Answer {
                number,
                observation,
                kept,
            };
            // The receiver is only gone when the program ends.
            let _ = answers.send((key, answer));
        });
        entry.question = Some(Question {
            number,
            connected,
            task: task.abort_handle(),
            until,
            keeps: true,
        });
    }

    /// Gives up the questions whose time is over.
    pub async fn give_up_late(&mut self) -> zbus::Result<()> {
        let now = clock::monotonic();
        while let Some((key, _)) = self.limits.pop(now) {
            let Some(entry) = self.services.get(&key) else {
                continue;
            };
            let Some(question) = &entry.question else { continue };
            question.task.abort();
            let answer = Answer {
                number: question.number,
                observation: probe::timed_out(&entry.service.probe, &question.connected),
                kept: None,
            };
            self.answer(&key, answer).await?;
        }
        Ok(())
    }

    /// Whether probes go on: what feeds our own watchdog.
    pub fn makes_progress(&self, now: Duration) -> bool {
        let open = self.services.values().filter_map(|entry| entry.question.as_ref());
        let probes = Probes {
            due: self.schedule.next(),
            ends: open.map(|question| question.until).min(),
            room: (!self.queue.is_empty()).then_some(self.room),
        };
        match probes.stuck(now) {
            Some(what) => {
                log::warn!("{what}: the watchdog is not fed");
                false
            }
            None => true,
        }
    }
}

/// How podman is run for probes of kind `exec`: by systemd, as a unit of its own that is gone afterwards.
///
/// The agent's own sandbox neither lets podman write nor gives it the powers that it needs.
fn runner(podman: &str, limit: Duration) -> Vec<OsString> {
    let limit = format!("--property=RuntimeMaxSec={}ms", limit.as_millis());
    [
        "systemd-run",
        "--quiet",
        "--collect",
        "--wait",
        "--pipe",
        // A good answer is no news for the journal.
        "--property=LogLevelMax=warning",
        limit.as_str(),
        "--",
        podman,
    ]
    .map(OsString::from)
    .into()
}

/// Microseconds as the bus carries them.
fn usec(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
