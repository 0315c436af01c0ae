//! Callers on the bus: one queue, one place that limits, coalesces and answers.

use std::time::Duration;

use dagger_agent::adapter::bus::{Answer, Ask, BusError, Checked, Request};
use dagger_agent::adapter::clock;

use crate::agent::{Agent, Key, Round};

/// An answer this young is given again: callers cannot make an application answer more often than this.
const FRESH: Duration = Duration::from_millis(100);

impl Agent {
    /// One request, in the order of their coming.
    pub async fn request(&mut self, request: Request) -> zbus::Result<()> {
        let Request { caller, ask } = request;
        let admitted = self.throttle.admit(&caller, clock::monotonic());
        match ask {
            Ask::Check(_, answer) if !admitted => reply(answer, Err(throttled())),
            Ask::Reload(answer) if !admitted => reply(answer, Err(throttled())),
            Ask::Check(name, answer) => self.check(name.as_deref(), answer),
            Ask::Reload(answer) => {
                self.reload().await?;
                reply(answer, self.verdict_on_configuration());
            }
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
            let error = BusError::NoSuchService(format!("the configuration has no service {name:?}"));
            return reply(answer, Err(error));
        }
        self.last_round += 1;
        let now = clock::monotonic();
        let mut left = 0;
        for key in &keys {
            let Some(entry) = self.services.get_mut(key) else {
                continue;
            };
            let fresh = entry.answered.is_some_and(|at| now < at + FRESH);
            if !entry.unit().phase().is_up() || (fresh && entry.asked.is_none()) {
                continue;
            }
            entry.rounds.push(self.last_round);
            left += 1;
            self.schedule.remove(key);
            self.enqueue(key);
        }
        let round = Round { keys, left, answer };
        if left == 0 {
            self.complete(round);
        } else {
            self.rounds.insert(self.last_round, round);
        }
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

fn throttled() -> BusError {
    BusError::Throttled("too many requests from one caller: wait a second".into())
}
