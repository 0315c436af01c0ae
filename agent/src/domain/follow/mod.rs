//! Jobs as the agent follows them: what each has said, whether anybody is still at it, and which service is in whose hands.
//!
//! A [`Table`] takes three kinds of news: what a job writes ([`Table::hear`]), what systemd says of its unit
//! ([`Table::unit`]), and that nobody is at it any more ([`Table::gone`]). A job that was started by hand is in it, too.

pub mod all;

use super::job::{End, Ended, Report, Task};

/// So many jobs that are over are remembered.
const KEPT: usize = 32;

/// What a job is doing, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It has been asked for, and has not begun.
    Queued,
    /// It is at work.
    Running,
    /// It undoes what it has done.
    Undoing,
    /// It is over.
    Done,
}

impl State {
    /// The word on the bus.
    pub fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Undoing => "undoing",
            Self::Done => "done",
        }
    }
}

/// One job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// Its number on the bus.
    pub number: u64,
    /// What is done.
    pub task: Task,
    /// To which service.
    pub service: String,
    /// The user who asked the agent for it; none: nobody did.
    pub by: Option<u32>,
    /// When it was asked for or, one that nobody asked the agent for, begun; in µs since 1970.
    pub since: u64,
    /// What it last said.
    pub report: Option<Report>,
    /// How it ended; none while it is not over.
    pub end: Option<End>,
    /// When it was over, in µs since 1970; 0: it is not.
    pub ended: u64,
    /// Its unit seems to have ended before it said anything. That may be older than its start: systemd is asked again.
    doubted: bool,
}

impl Followed {
    /// What it is doing.
    pub fn state(&self) -> State {
        match (&self.end, &self.report) {
            (Some(_), _) => State::Done,
            (None, None) => State::Queued,
            (None, Some(report)) if report.back.is_some() => State::Undoing,
            (None, Some(_)) => State::Running,
        }
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        self.end.is_some()
    }

    /// Whether it changes the service, or only looks.
    pub fn changes(&self) -> bool {
        self.task != Task::Plan
    }

    /// What happens to the service, for people: `being migrated: step stop`.
    pub fn words(&self) -> String {
        let doing = match self.task {
            Task::Plan => "being looked at",
            Task::Migrate => "being migrated",
            Task::Rollback => "being rolled back",
            Task::Resume => "being put in order",
            Task::Shadow => "getting a shadow",
            Task::Promote => "being taken over by its shadow",
            Task::Discard => "losing its shadow",
            Task::Rehearse => "being rehearsed",
        };
        let step = self.report.as_ref().and_then(|report| report.step);
        match (self.state(), step) {
            (State::Undoing, Some(step)) => format!("{doing}, which is being undone: step {}", step.word()),
            (State::Undoing, None) => format!("{doing}, which is being undone"),
            (_, Some(step)) => format!("{doing}: step {}", step.word()),
            (_, None) => doing.to_owned(),
        }
    }

    /// Whether it is this job that says so.
    fn says(&self, report: &Report) -> bool {
        let heard = self.report.as_ref();
        match report.number {
            // Started by hand: there is nothing but its beginning to know it by.
            0 => heard.is_some_and(|heard| heard.number == 0 && heard.began == report.began),
            number => number == self.number,
        }
    }

    /// Nobody is at it any more, and it did not say how it ended.
    fn lost(&self) -> End {
        let service = &self.service;
        let unit = self.task.unit(service);
        let (result, sentence, todo) = match (self.task, &self.report) {
            (_, None) => (
                Ended::Refused,
                format!("{unit} ended before it began"),
                Some(format!("`systemctl status {unit}` says why")),
            ),
            (Task::Plan, Some(_)) => (
                Ended::Undone,
                format!("the look at {service} was ended before it was over; it changes nothing"),
                None,
            ),
            (task, Some(_)) => (
                Ended::Stuck,
                format!(
                    "the job ({} {service}) ended in the middle, and nobody has finished or undone what it began",
                    task.word()
                ),
                Some(format!("nixarr-migrate resume {service}")),
            ),
        };
        End::new(result, sentence, todo)
    }
}

/// All jobs that are known. There are few, so they are looked for one by one.
#[derive(Debug, Default)]
pub struct Table {
    /// By number.
    jobs: Vec<Followed>,
    /// Units of jobs that run.
    up: Vec<String>,
    last: u64,
}

impl Table {
    /// No number up to this one is given out.
    pub fn begin_after(&mut self, number: u64) {
        self.last = self.last.max(number);
    }

    /// A number that no job has had.
    pub fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// A job is asked for; its number.
    pub fn ask(&mut self, by: Option<u32>, task: Task, service: &str, now: u64) -> u64 {
        let number = self.number();
        self.put(number, by, task, service, now);
        number
    }

    fn put(&mut self, number: u64, by: Option<u32>, task: Task, service: &str, since: u64) {
        self.begin_after(number);
        let place = self.jobs.partition_point(|job| job.number < number);
        let job = Followed {
            number,
            by,
            task,
            service: service.to_owned(),
            since,
            report: None,
            end: None,
            ended: 0,
            doubted: false,
        };
        self.jobs.insert(place, job);
    }

    /// A job was not begun after all.
    pub fn withdraw(&mut self, number: u64) {
        self.jobs.retain(|job| job.number != number);
    }

    /// A job has said something; its number.
    pub fn hear(&mut self, report: Report, now: u64) -> u64 {
        let known = self.jobs.iter().rev().find(|job| {
            let same = job.service == report.service;
            same && job.says(&report)
        });
        let number = match (known, report.number) {
            (Some(job), _) => job.number,
            (None, 0) => self.ask(None, report.task, &report.service, report.began),
            (None, number) => {
                self.put(number, None, report.task, &report.service, report.began);
                number
            }
        };
        if let Some(job) = self.get_mut(number) {
            // One that was given up for lost and goes on is not over.
            if job.report.as_ref() != Some(&report) {
                job.end = None;
                job.ended = 0;
            }
            job.report = Some(report);
        }
        self.settle(number, now);
        number
    }

    /// A unit of a job runs, or does not any more; the jobs that this is about.
    pub fn unit(&mut self, unit: &str, up: bool, now: u64) -> Vec<u64> {
        let Some((task, service)) = Task::of_unit(unit) else {
            return Vec::new();
        };
        let was = self.up.iter().position(|known| known == unit);
        match was {
            None if up => self.up.push(unit.to_owned()),
            Some(place) if !up => drop(self.up.swap_remove(place)),
            _ => {}
        }
        let about: Vec<u64> = self
            .open()
            .filter(|job| job.task == task && job.service == service)
            .map(|job| job.number)
            .collect();
        for number in &about {
            self.settle(*number, now);
            let Some(job) = self.get_mut(*number) else {
                continue;
            };
            if up {
                job.doubted = false;
            } else if job.report.is_none() && !job.doubted {
                job.doubted = was.is_some();
            } else if was.is_some() || job.doubted {
                self.gone(*number, now);
            }
        }
        about
    }

    /// Nobody is at a job any more.
    pub fn gone(&mut self, number: u64, now: u64) {
        self.settle(number, now);
        if let Some(job) = self.get_mut(number).filter(|job| !job.is_over()) {
            job.end = Some(job.lost());
            job.ended = now;
        }
    }

    /// A job that has said its last word is over when its unit is.
    fn settle(&mut self, number: u64, now: u64) {
        let Some(job) = self.get(number).filter(|job| !job.is_over() && !self.is_up(job)) else {
            return;
        };
        let end = job.report.as_ref().and_then(|report| report.end.clone());
        if let (Some(end), Some(job)) = (end, self.get_mut(number)) {
            job.end = Some(end);
            job.ended = now;
        }
    }

    /// Whether a job's unit runs.
    pub fn is_up(&self, job: &Followed) -> bool {
        self.up.contains(&job.task.unit(&job.service))
    }

    /// The job with this number.
    pub fn get(&self, number: u64) -> Option<&Followed> {
        self.jobs.iter().find(|job| job.number == number)
    }

    fn get_mut(&mut self, number: u64) -> Option<&mut Followed> {
        self.jobs.iter_mut().find(|job| job.number == number)
    }

    /// All of them, the oldest first.
    pub fn all(&self) -> impl Iterator<Item = &Followed> {
        self.jobs.iter()
    }

    /// Those that are not over.
    pub fn open(&self) -> impl Iterator<Item = &Followed> {
        self.jobs.iter().filter(|job| !job.is_over())
    }

    /// Units that systemd is to be asked after now and then: what it says of itself and what it answers may overtake each
    /// other, and one that has ended would be taken to run for ever.
    pub fn units(&self) -> Vec<String> {
        let mut units = self.up.clone();
        units.extend(self.open().map(|job| job.task.unit(&job.service)));
        units.sort();
        units.dedup();
        units
    }

    /// Who is at work on a service, in words; none: nobody.
    pub fn holder(&self, service: &str) -> Option<String> {
        if let Some(job) = self.open().find(|job| job.service == service) {
            let unit = job.task.unit(service);
            return Some(format!(
                "{service} is {} (job {}, {unit}); `nixarr-migrate status` shows how far it is",
                job.words(),
                job.number
            ));
        }
        let of = |unit: &&String| Task::of_unit(unit).is_some_and(|(_, of)| of == service);
        let unit = self.up.iter().find(of)?;
        Some(format!("{service} is in the hands of {unit}"))
    }

    /// The job that changes a service now.
    pub fn changing(&self, service: &str) -> Option<&Followed> {
        self.open().find(|job| job.service == service && job.changes())
    }

    /// Forgets jobs that have long been over; their numbers.
    pub fn forget(&mut self) -> Vec<u64> {
        let mut forgotten = Vec::new();
        loop {
            let over = || self.jobs.iter().filter(|job| job.is_over());
            if over().count() <= KEPT {
                return forgotten;
            }
            let Some(number) = over().min_by_key(|job| job.ended).map(|job| job.number) else {
                return forgotten;
            };
            self.withdraw(number);
            forgotten.push(number);
        }
    }
}

#[cfg(test)]
mod tests;
