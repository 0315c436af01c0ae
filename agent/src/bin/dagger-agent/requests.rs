//! Callers on the bus: one queue, one place that limits, coalesces and answers.

use std::time::Duration;

use dagger_agent::adapter::bus::{Answer, Ask, BusError, Checked, Request, Told};
use dagger_agent::adapter::clock;
use dagger_agent::domain::event;
use dagger_agent::domain::machine::Happened;
use dagger_agent::domain::why;
use dagger_suite::probe::Kind;

use crate::agent::{Agent, Key, Round};
use crate::publish;

/// An answer this young is given again: callers cannot make an application answer more often than this.
const FRESH: Duration = Duration::from_millis(100);
/// The same for probes of kind `exec`, which cost a hundred times as much.
const FRESH_EXEC: Duration = Duration::from_secs(2);

impl Agent {
    /// One request, in the order of their coming.
    pub async fn request(&mut self, request: Request) -> zbus::Result<()> {
        let Request { uid, ask } = request;
        let admitted = self.throttle.admit(uid, clock::monotonic());
        if !admitted && !ask.is_authorized() {
            ask.refuse(throttled());
            return Ok(());
        }
        match ask {
            Ask::Conflicts(answer) => self.ask_conflicts(answer),
            Ask::Admit(answer) => reply(answer, Ok(())),
            Ask::Pause(name, length, answer) => {
                let until = match length {
                    Duration::ZERO => Duration::MAX,
                    length => clock::monotonic() + length,
                };
                let done = self.pause(&name, until).await?;
                reply(answer, done);
            }
            Ask::Resume(name, answer) => {
                let done = self.resume(&name).await?;
                reply(answer, done);
            }
            Ask::Why(name, answer) => reply(answer, self.why(&name)),
            Ask::Check(name, answer) => self.check(name.as_deref(), answer),
            Ask::Reload(answer) => {
                self.reload().await?;
                reply(answer, self.verdict_on_configuration());
            }
            Ask::Ready(task, name, answer) => reply(answer, self.ready(task, &name)),
            Ask::Begin(task, name, request, answer) => self.begin_for(uid, task, &name, request, answer),
            Ask::Order(task, answer) => reply(answer, self.order_of(task)),
            Ask::BeginAll(task, order, answer) => self.begin_all(uid, task, order, answer).await?,
            Ask::Cancel(number, answer) => self.cancel_job(number, answer),
            Ask::PlanOf(number, answer) => reply(answer, self.plan_of(uid, number)),
            Ask::Snapshots(name, answer) => self.list_snapshots(name.as_deref(), answer),
        }
        Ok(())
    }

    fn check(&mut self, name: Option<&str>, answer: Answer<Vec<Checked>>) {
        let keys: Vec<Key> = match name {
            None => self.services.keys().cloned().collect(),
            Some(name) => self
                .services
                .get_key_value(name)
                .map(|(key, _)| key.clone())
                .into_iter()
                .collect(),
        };
        if let (Some(name), true) = (name, keys.is_empty()) {
            return reply(answer, Err(no_such_service(name)));
        }
        self.last_round += 1;
        let now = clock::monotonic();
        let mut left = 0;
        for key in &keys {
            let Some(entry) = self.services.get_mut(key) else {
                continue;
            };
            let age = match entry.service.probe.kind {
                Kind::Exec => FRESH_EXEC,
                _ => FRESH,
            };
            let fresh = entry.answered.is_some_and(|at| now < at + age);
            if !entry.unit().phase().is_up() || (fresh && entry.asked.is_none()) {
                continue;
            }
            entry.rounds.push(self.last_round);
            left += 1;
            self.schedule.remove(key);
            self.enqueue(key, now);
        }
        let round = Round { keys, left, answer };
        if left == 0 {
            self.complete(round);
        } else {
            self.rounds.insert(self.last_round, round);
        }
    }

    async fn pause(&mut self, name: &str, until: Duration) -> zbus::Result<Result<(), BusError>> {
        let Some((key, entry)) = self.services.get_key_value(name) else {
            return Ok(Err(no_such_service(name)));
        };
        let key = key.clone();
        let detail = match until {
            Duration::MAX => "until somebody resumes it".to_owned(),
            until => format!("for {} s", until.saturating_sub(clock::monotonic()).as_secs()),
        };
        publish::tell_event(entry, &event::PAUSED, &[("DAGGER_DETAIL", &detail)]);
        self.keep = true;
        self.happened(&key, &Happened::Pause(until)).await?;
        Ok(Ok(()))
    }

    async fn resume(&mut self, name: &str) -> zbus::Result<Result<(), BusError>> {
        let Some((key, entry)) = self.services.get_key_value(name) else {
            return Ok(Err(no_such_service(name)));
        };
        let key = key.clone();
        if entry.machine.paused().is_some() {
            publish::tell_event(
                entry,
                &event::RESUMED,
                &[("DAGGER_DETAIL", "somebody has resumed it")],
            );
        }
        self.keep = true;
        self.happened(&key, &Happened::Resume).await?;
        Ok(Ok(()))
    }

    fn why(&self, name: &str) -> Result<Told, BusError> {
        if !self.services.contains_key(name) {
            return Err(no_such_service(name));
        }
        let suite = self
            .services
            .iter()
            .map(|(key, entry)| (key.to_string(), entry.standing()))
            .collect();
        let why = why::why(&suite, name);
        Ok((why.sentence, why.certain, why.evidence))
    }

    /// One of the services that these rounds wait for has answered, or is gone.
    pub fn end_rounds(&mut self, rounds: Vec<u64>) {
        for number in rounds {
            let Some(round) = self.rounds.get_mut(&number) else {
                continue;
            };
            round.left = round.left.saturating_sub(1);
            if round.left == 0
                && let Some(round) = self.rounds.remove(&number)
            {
                self.complete(round);
            }
        }
    }

    fn complete(&self, round: Round) {
        let checked = round
            .keys
            .iter()
            .filter_map(|key| self.services.get(key))
            .map(|entry| {
                let view = entry.view.borrow();
                (
                    view.name.clone(),
                    view.health.word().to_owned(),
                    view.health_detail.clone(),
                )
            })
            .collect();
        reply(round.answer, Ok(checked));
    }

    fn verdict_on_configuration(&self) -> Result<(), BusError> {
        match self.configuration.errors.as_slice() {
            [] => Ok(()),
            [one] => Err(BusError::ConfigurationInvalid(one.clone())),
            [first, others @ ..] => Err(BusError::ConfigurationInvalid(format!(
                "{first} (and {} more: see ConfigurationErrors)",
                others.len()
            ))),
        }
    }
}

/// Answers a caller; one that has gone meanwhile is not missed.
fn reply<T>(answer: Answer<T>, result: Result<T, BusError>) {
    let _ = answer.send(result);
}

fn no_such_service(name: &str) -> BusError {
    BusError::NoSuchService(format!("the configuration has no service {name:?}"))
}

fn throttled() -> BusError {
    BusError::Throttled("too many requests from one user: wait a second".into())
}
