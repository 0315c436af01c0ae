//! Tasks on the whole suite: one job after the other.

use dagger_agent::adapter::bus::{Answer, BusError, JobView, Owner};
use dagger_agent::adapter::clock;
use dagger_agent::domain::follow::all::{All, Member, order};
use dagger_agent::domain::job::{End, Ended, Request, Task};

use crate::agent::Agent;

/// So many that are over are remembered.
const KEPT: usize = 4;

/// One of them.
struct Sequence {
    number: u64,
    all: All,
    /// Who asked for it.
    by: u32,
    /// When it began and ended, in µs since 1970.
    since: u64,
    ended: u64,
}

/// All of them, the oldest first.
#[derive(Default)]
pub struct Sequences(Vec<Sequence>);

impl Sequences {
    /// Nothing more of it is begun; the job that is at work for it. None when there is no such sequence.
    pub fn cancel(&mut self, number: u64) -> Option<u64> {
        let sequence = self.get_mut(number).filter(|it| it.all.end.is_none())?;
        sequence.all.cancelled = true;
        sequence.all.current
    }

    /// Numbers of those that have long been over, which are forgotten.
    pub fn forget(&mut self) -> Vec<u64> {
        let over = self.0.iter().filter(|it| it.all.end.is_some());
        let many = over.count().saturating_sub(KEPT);
        let over = self.0.iter().filter(|it| it.all.end.is_some());
        let numbers: Vec<u64> = over.take(many).map(|it| it.number).collect();
        self.0.retain(|it| !numbers.contains(&it.number));
        numbers
    }

    fn get(&self, number: u64) -> Option<&Sequence> {
        self.0.iter().find(|it| it.number == number)
    }

    fn get_mut(&mut self, number: u64) -> Option<&mut Sequence> {
        self.0.iter_mut().find(|it| it.number == number)
    }

    fn is_at_work(&self) -> bool {
        self.0.iter().any(|it| it.all.end.is_none())
    }

    /// The one that a job is done for.
    fn of(&self, job: u64) -> Option<u64> {
        let of = self.0.iter().find(|it| it.all.current == Some(job));
        of.map(|it| it.number)
    }
}

impl Agent {
    /// The services that a task on the whole suite is about, what others want first.
    pub fn order_of(&self, task: Task) -> Result<Vec<String>, BusError> {
        if self.jobs.sequences.is_at_work() {
            return Err(BusError::Busy(
                "the whole suite is at it already: `nixarr-migrate status` shows how far it is".into(),
            ));
        }
        let from = match task {
            Task::Rollback => Owner::Container,
            _ => Owner::Native,
        };
        let members: Vec<Member<'_>> = self
            .services
            .iter()
            .filter(|(_, entry)| entry.native.is_some() && entry.owner == from)
            .map(|(key, entry)| Member {
                name: key,
                wants: &entry.service.wants,
            })
            .collect();
        if members.is_empty() {
            let nothing = match task {
                Task::Rollback => {
                    "nothing to roll back: no service that has a native unit runs in its container"
                }
                _ => "nothing to migrate: every service that has a native unit runs in its container already",
            };
            return Err(BusError::NothingToDo(nothing.into()));
        }
        Ok(order(&members))
    }

    /// Begins a task on these services.
    pub async fn begin_all(
        &mut self,
        by: u32,
        task: Task,
        order: Vec<String>,
        answer: Answer<u64>,
    ) -> zbus::Result<()> {
        // While polkit was asked somebody else may have begun.
        if let Err(busy) = self.order_of(task) {
            let _ = answer.send(Err(busy));
            return Ok(());
        }
        let number = self.jobs.table.number();
        let since = clock::realtime_usec();
        let all = All::new(task, order);
        let view = JobView::of_all(number, since, 0, &all, None);
        self.jobs.sequences.0.push(Sequence {
            number,
            all,
            by,
            since,
            ended: 0,
        });
        self.put_job(number, view).await?;
        let _ = answer.send(Ok(number));
        self.go_on_with(number).await
    }

    /// Begins with the next service, and shows how far it is.
    async fn go_on_with(&mut self, number: u64) -> zbus::Result<()> {
        let Some(sequence) = self.jobs.sequences.get(number) else {
            return Ok(());
        };
        let next = sequence.all.next().map(str::to_owned);
        if let Some(service) = next {
            let (by, task) = (sequence.by, sequence.all.task);
            let begun = self.ask_job(by, task, &service, Request::default());
            if let Ok(job) = begun {
                self.start_job(job, None);
            }
            if let Some(sequence) = self.jobs.sequences.get_mut(number) {
                match begun {
                    Ok(job) => sequence.all.current = Some(job),
                    Err(error) => sequence
                        .all
                        .ended(&End::new(Ended::Refused, error.to_string(), None)),
                }
            }
        }
        self.show_sequence(number).await
    }

    /// A job that may be done for a sequence is where it was not before.
    pub async fn sequence_changed(&mut self, job: u64) -> zbus::Result<()> {
        let Some(number) = self.jobs.sequences.of(job) else {
            return Ok(());
        };
        let end = self.jobs.table.get(job).and_then(|job| job.end.clone());
        let Some(end) = end else {
            return self.show_sequence(number).await;
        };
        if let Some(sequence) = self.jobs.sequences.get_mut(number) {
            sequence.all.ended(&end);
        }
        self.go_on_with(number).await
    }

    /// systemd has not taken the job of a sequence.
    pub async fn sequence_not_begun(&mut self, job: u64, why: String) -> zbus::Result<()> {
        let Some(number) = self.jobs.sequences.of(job) else {
            return Ok(());
        };
        if let Some(sequence) = self.jobs.sequences.get_mut(number) {
            sequence.all.ended(&End::new(Ended::Refused, why, None));
        }
        self.show_sequence(number).await
    }

    async fn show_sequence(&mut self, number: u64) -> zbus::Result<()> {
        let Some(sequence) = self.jobs.sequences.get_mut(number) else {
            return Ok(());
        };
        if sequence.all.end.is_some() && sequence.ended == 0 {
            sequence.ended = clock::realtime_usec();
        }
        let Sequence {
            all, since, ended, ..
        } = sequence;
        let (since, ended, current) = (*since, *ended, all.current);
        let all = all.clone();
        let current = current.and_then(|job| self.jobs.view(job));
        let view = JobView::of_all(number, since, ended, &all, current.as_ref());
        self.publish_job(number, view).await?;
        if ended == 0 {
            return Ok(());
        }
        self.forget_jobs().await
    }
}
