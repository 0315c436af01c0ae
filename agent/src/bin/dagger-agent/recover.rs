//! Steps of the ladder, carried out: looking around, asking systemd, telling people.

use std::net::IpAddr;
use std::time::Duration;

use dagger_agent::adapter::bus;
use dagger_agent::adapter::surroundings::{self, Seen, Subject};
use dagger_agent::adapter::survey::Survey;
use dagger_agent::adapter::systemd::Order;
use dagger_agent::adapter::{clock, journal, past};
use dagger_agent::domain::event::{self, Event};
use dagger_agent::domain::health::Health;
use dagger_agent::domain::machine::{Effect, Happened};
use dagger_agent::domain::media::Record;
use dagger_agent::domain::observation::Observation;
use dagger_agent::domain::recovery::Action;
use dagger_agent::domain::schedule;
use dagger_agent::domain::surroundings::{Activity, Place, Surroundings};
use dagger_agent::domain::verdict::Phase;

use crate::agent::{Agent, Key};
use crate::entry::Entry;
use crate::publish::{self, Signal};

/// A bad answer to a question that was so late says nothing.
const LATE: Duration = Duration::from_secs(1);
/// A bad answer so soon after a jump of the clock, a sleep or a standstill says nothing either.
const JUMP: Duration = Duration::from_secs(10);
/// As many of an application's last lines are told when it is given up.
const LAST_LINES: u32 = 20;

/// A disk that has not answered by then does not answer.
const LOOK: Duration = Duration::from_secs(5);
/// Services that fall within this time of each other fall together.
const WITH: Duration = Duration::from_mins(1);
/// How often media is looked at while nothing says that it has changed.
const MEDIA: Duration = Duration::from_secs(15);

/// What somebody found who looked in a task of its own.
pub enum Find {
    /// Around a service: what was seen, and the lines that it has written meanwhile.
    Around(Key, Seen, u64),
    /// Media of these services is gone.
    Lost(Vec<Key>, Place),
    /// Who has the suite's ports.
    Ports(Survey),
    /// systemd has taken the job with this number, or says why not; and who waits for that.
    Begun(u64, Result<(), String>, Option<bus::Answer<u64>>),
    /// The run of a job's unit.
    Invocation(u64, String),
}

impl Agent {
    /// What one step of a machine has brought up.
    pub async fn act(&mut self, key: &Key, effects: Vec<Effect>) -> zbus::Result<()> {
        for effect in effects {
            match effect {
                Effect::Act(action) => self.carry_out(key, action).await?,
                Effect::Resumed => self.tell(key, &event::RESUMED, &[("DAGGER_DETAIL", "the pause is over")]),
                Effect::Became(_) | Effect::Took(_) | Effect::Watchdog(_) => {}
            }
        }
        Ok(())
    }

    async fn carry_out(&mut self, key: &Key, action: Action) -> zbus::Result<()> {
        self.alert_of_step(key, &action);
        match action {
            Action::Look => self.look(key),
            Action::Waits(cause) => {
                let values = [
                    ("DAGGER_DETAIL", &*cause.to_string()),
                    ("DAGGER_CAUSE", cause.word()),
                ];
                self.tell(key, &event::WAITING, &values);
            }
            Action::Restart {
                attempt,
                hold,
                because,
            } => {
                self.tell(
                    key,
                    &event::RECOVERY_STARTED,
                    &[("DAGGER_DETAIL", &format!("{because} (attempt {attempt})"))],
                );
                if hold {
                    self.hold_dependants(key);
                }
                self.order(key, Order::Restart);
                if let Some(entry) = self.services.get_mut(key) {
                    entry.recoveries += 1;
                }
                let because = &because;
                self.signal(key, Signal::Started { attempt, because }).await?;
            }
            Action::Withdraw(place) => {
                self.tell(key, &event::MEDIA_LOST, &[("DAGGER_DETAIL", &place.to_string())]);
                self.order(key, Order::Restart);
            }
            Action::Start => self.order(key, Order::Start),
            Action::GiveUp(because) => {
                self.order(key, Order::Stop);
                self.tell_last_words(key, because.clone());
                let detail = &because;
                self.signal(
                    key,
                    Signal::Finished {
                        recovered: false,
                        detail,
                    },
                )
                .await?;
            }
            Action::Recovered { after, attempts } => self.recovered(key, after, attempts).await?,
        }
        Ok(())
    }

    async fn recovered(&mut self, key: &Key, after: Duration, attempts: u32) -> zbus::Result<()> {
        let seconds = after.as_secs();
        let detail = match attempts {
            0 => format!("after {seconds} s, by itself"),
            1 => format!("after {seconds} s and 1 restart"),
            _ => format!("after {seconds} s; {attempts} restarts within the last hour"),
        };
        self.tell(key, &event::RECOVERY_FINISHED, &[("DAGGER_DETAIL", &detail)]);
        for entry in self.services.values_mut() {
            if entry.service.wants.iter().any(|wanted| **wanted == **key) {
                entry.held = Duration::ZERO;
            }
        }
        let detail = &detail;
        self.signal(
            key,
            Signal::Finished {
                recovered: true,
                detail,
            },
        )
        .await
    }

    /// Whether a bad answer would not be the service's own doing.
    pub fn excused(&self, key: &Key, observation: &Observation, now: Duration) -> bool {
        let Some(entry) = self.services.get(key) else {
            return true;
        };
        let jumped = self.jump.is_some_and(|(at, _)| now < at + JUMP);
        // A limit that ended late: it was we who did not get to look.
        let slow = match observation {
            Observation::TimedOut { after, .. } => {
                entry.asked_for(now).is_some_and(|took| took > *after + LATE)
            }
            _ => false,
        };
        let late = entry.late > LATE || slow;
        if late {
            log::debug!("{key}: asked or answered late, so a bad answer would not count");
        }
        late || jumped || now < entry.held
    }

    /// Looks around for a service, in a task of its own: a disk that does not answer must hold up nobody.
    fn look(&mut self, key: &Key) {
        let Some(entry) = self.services.get_mut(key) else {
            return;
        };
        if std::mem::replace(&mut entry.looked, true) {
            return;
        }
        let mut subject = Subject {
            cgroup: None,
            places: entry.service.places.clone(),
            at_start: entry.at_start.clone(),
        };
        let (before, unit) = (entry.sample.clone(), entry.unit().name.clone());
        let (key, finds) = (key.clone(), self.finds.clone());
        let (looker, systemd) = (self.looker.clone(), self.systemd.clone());
        tokio::spawn(async move {
            match systemd.control_group(&unit).await {
                Ok(group) => subject.cgroup = Some(group).filter(|group| !group.is_empty()),
                Err(error) => log::debug!("{unit}: its control group is not known: {error}"),
            }
            let seen = looker.look_within(subject, before, LOOK).await;
            let mut lines = 0;
            if !seen.activity.over.is_zero() {
                let seconds = seen.activity.over.as_secs().max(1);
                lines = past::lines_since(&unit, seconds).await.unwrap_or_else(|error| {
                    log::warn!("{unit}: whether it writes to its log is not known: {error}");
                    0
                });
            }
            // The receiver is only gone when the program ends.
            let _ = finds.send(Find::Around(key, seen, lines));
        });
    }

    /// Holds the media of all services that run against how it was when they started; one look for all that have the same.
    pub fn check_media(&mut self, now: Duration) {
        let mut records: Vec<(&Record, Vec<Key>)> = Vec::new();
        for (key, entry) in &self.services {
            let Some(record) = entry.media() else { continue };
            match records.iter_mut().find(|(known, _)| *known == record) {
                Some((_, keys)) => keys.push(key.clone()),
                None => records.push((record, vec![key.clone()])),
            }
        }
        self.media_due = if records.is_empty() {
            Duration::MAX
        } else {
            schedule::after(&"media", 1, MEDIA, now)
        };
        for (record, keys) in records {
            let (record, looker, finds) = (record.clone(), self.looker.clone(), self.finds.clone());
            tokio::spawn(async move {
                if let Some(place) = looker.media_within(record, LOOK).await {
                    // As above.
                    let _ = finds.send(Find::Lost(keys, place));
                }
            });
        }
    }

    /// Media may be gone, or what a service waits for may be back.
    pub fn mounts_changed(&mut self) {
        let now = clock::monotonic();
        self.media_due = now;
        let waiting: Vec<Key> = self
            .services
            .iter()
            .filter(|(_, entry)| entry.machine.recovery().cause().is_some())
            .map(|(key, _)| key.clone())
            .collect();
        for key in waiting {
            self.look(&key);
        }
    }

    /// Somebody has looked.
    pub async fn found(&mut self, find: Find) -> zbus::Result<()> {
        match find {
            Find::Around(key, seen, lines) => self.found_around(&key, seen, lines).await,
            Find::Ports(survey) => self.found_ports(survey).await,
            Find::Begun(number, begun, answer) => self.job_begun(number, begun, answer).await,
            Find::Invocation(number, id) => self.job_invocation(number, id).await,
            Find::Lost(keys, place) => {
                for key in keys {
                    if self.services.get(&key).and_then(Entry::media).is_some() {
                        self.happened(&key, &Happened::Lost(place.clone())).await?;
                    }
                }
                Ok(())
            }
        }
    }

    /// What the loop itself knows is added to what was seen, as it is now.
    async fn found_around(&mut self, key: &Key, seen: Seen, lines: u64) -> zbus::Result<()> {
        let now = clock::monotonic();
        let Some(entry) = self.services.get_mut(key) else {
            return Ok(());
        };
        entry.looked = false;
        entry.sample = Some(seen.sample.clone());
        let mut found = Surroundings::default();
        seen.put_into(&mut found);
        found.activity.lines = lines;
        // An application that answers, and wrongly, is not too busy to answer, and neither is a machine.
        let wrong = matches!(entry.answer, Some(Observation::Bad { .. }));
        if wrong {
            found.activity = Activity {
                over: found.activity.over,
                ..Activity::default()
            };
            found.pressure = None;
        }
        let fell = entry.fell;
        let phase = entry.unit().phase();
        // A unit whose dependency has failed stays queued for ever (systemd 257), or stops (252).
        let queued = entry.unit().sub_state == "auto-restart-queued";
        found.down =
            matches!(phase, Phase::Stopped | Phase::Failed) || (phase == Phase::Restarting && queued);
        found.late = if wrong { Duration::ZERO } else { entry.late };
        found.jump = self.jump.map(|(at, what)| (now.saturating_sub(at), what));
        found.restarted = self
            .restarted
            .as_ref()
            .filter(|(other, _)| other != key)
            .map(|(other, at)| (other.to_string(), now.saturating_sub(*at)));
        let wants = entry.service.wants.clone();
        found.offline = self.offline(key);
        found.together = if wrong { (0, 0) } else { self.fallen_with(fell) };
        found.providers = wants
            .into_iter()
            .filter_map(|name| {
                let health = self.services.get(&*name)?.machine.health();
                let sick = matches!(health, Health::Unhealthy | Health::Recovering | Health::Failed);
                sick.then_some((name, health))
            })
            .collect();
        if let Some(entry) = self.services.get_mut(key) {
            entry.around = Some(found.clone());
        }
        self.happened(key, &Happened::Found(Box::new(found))).await
    }

    /// The interface over which a service is asked, when it is down. Another namespace has interfaces of its own.
    fn offline(&self, key: &Key) -> Option<&'static str> {
        let probe = &self.services.get(key)?.service.probe;
        let host = probe.host.as_str();
        let loopback = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        (loopback && probe.netns.is_none())
            .then(|| surroundings::loopback_down(&self.root))
            .flatten()
    }

    /// Services that ceased to answer within a minute of this time, and all that run.
    fn fallen_with(&self, fell: Duration) -> (usize, usize) {
        let running = || {
            self.services
                .values()
                .filter(|entry| entry.unit().phase() == Phase::Active)
        };
        let silent = running().filter(|entry| {
            let sick = !matches!(
                entry.machine.health(),
                Health::Healthy | Health::Degraded | Health::Starting
            );
            let wrong = matches!(entry.answer, Some(Observation::Bad { .. }));
            sick && !wrong && entry.fell.abs_diff(fell) <= WITH
        });
        (silent.count(), running().count())
    }

    /// A unit of ours was to be started, and something that it requires could not be.
    pub async fn unstarted(&mut self, unit: &str) -> zbus::Result<()> {
        let Some(key) = self.units.get(unit).cloned() else {
            return Ok(());
        };
        let ours = self
            .services
            .get(&key)
            .is_some_and(|entry| entry.own.name == unit);
        if !ours {
            return Ok(());
        }
        let why = format!(
            "something that {unit} requires could not be started, a mount for instance: systemctl list-dependencies {unit} shows it"
        );
        self.happened(&key, &Happened::Unstarted(why)).await
    }

    /// systemd would not do what it was asked.
    pub async fn denied(&mut self, unit: &str, why: String) -> zbus::Result<()> {
        log::warn!("systemd does not do what it was asked with {unit}: {why}");
        match self.units.get(unit).cloned() {
            Some(key) => self.happened(&key, &Happened::Denied(why)).await,
            None => Ok(()),
        }
    }

    /// Machines that have something to do although nothing happened.
    pub async fn tick_due(&mut self) -> zbus::Result<()> {
        let now = clock::monotonic();
        while let Some((key, _)) = self.ticks.pop(now) {
            self.happened(&key, &Happened::Tick).await?;
        }
        Ok(())
    }

    /// A service's verdict is another one: those that want it are judged again, now that it answers.
    pub fn others(&mut self, key: &Key, became: Health, now: Duration) {
        if !matches!(became, Health::Healthy | Health::Degraded) {
            return;
        }
        let dependants: Vec<Key> = self
            .services
            .iter()
            .filter(|(_, entry)| entry.service.wants.iter().any(|wanted| **wanted == **key))
            .filter(|(_, entry)| entry.unit().phase().is_up() && entry.machine.health() != Health::Healthy)
            .map(|(dependant, _)| dependant.clone())
            .collect();
        for dependant in dependants {
            self.schedule.set(&dependant, now);
        }
    }

    /// Services that want this one are not judged by bad answers while it starts.
    fn hold_dependants(&mut self, key: &Key) {
        let Some(budget) = self
            .services
            .get(key)
            .map(|entry| entry.service.policy.recovery.budget)
        else {
            return;
        };
        let until = clock::monotonic() + budget;
        for entry in self.services.values_mut() {
            if entry.service.wants.iter().any(|wanted| **wanted == **key) {
                entry.held = until;
            }
        }
    }

    fn order(&mut self, key: &Key, order: Order) {
        let Some(entry) = self.services.get(key) else {
            return;
        };
        if order == Order::Restart {
            self.restarted = Some((key.clone(), clock::monotonic()));
        }
        // Only our own unit is ever touched.
        self.systemd
            .order(order, entry.own.name.clone(), self.news.clone());
    }

    fn tell(&self, key: &Key, event: &Event, values: &[(&str, &str)]) {
        if let Some(entry) = self.services.get(key) {
            publish::tell_event(entry, event, values);
        }
    }

    async fn signal(&self, key: &Key, signal: Signal<'_>) -> zbus::Result<()> {
        match self.services.get(key) {
            Some(entry) => self.bus.signal(&entry.service.name, signal).await,
            None => Ok(()),
        }
    }

    /// One message with the reason and the last lines that the application wrote.
    fn tell_last_words(&self, key: &Key, because: String) {
        let Some(entry) = self.services.get(key) else {
            return;
        };
        let (service, unit) = (key.clone(), entry.own.name.clone());
        tokio::spawn(async move {
            let lines = match past::last_lines(&unit, LAST_LINES).await {
                Ok(lines) => lines.join("\n"),
                Err(error) => format!("(its last lines cannot be read: {error})"),
            };
            let detail = format!("{because}\n{lines}");
            journal::tell(
                &event::GIVEN_UP,
                &[
                    ("DAGGER_SERVICE", &service),
                    ("DAGGER_UNIT", &unit),
                    ("DAGGER_DETAIL", &detail),
                ],
            );
        });
    }
}
