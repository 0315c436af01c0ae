//! Jobs: begun for callers, followed by what they say and what systemd says of their units, published; and services that
//! one is at work on are left alone.

use std::time::Duration;

use dagger_agent::adapter::bus::JobView;
use dagger_agent::adapter::job_watch::Said;
use dagger_agent::adapter::systemd::Change;
use dagger_agent::adapter::{clock, jobs, journal};
use dagger_agent::domain::event::{self, Event};
use dagger_agent::domain::follow::{Followed, Table};
use dagger_agent::domain::health::Health;
use dagger_agent::domain::job::{Ended, Task};
use dagger_agent::domain::machine::Happened;
use dagger_suite::names::ServiceName;
use tokio::sync::watch;
use zbus::message::Sequence;

use crate::agent::{Agent, Key};
use crate::publish;
use crate::recover::Find;
use crate::sequence::Sequences;

/// How far a job is within its step is told so often at most.
const PACE: Duration = Duration::from_millis(250);
/// Whether somebody is at work on a job at all is looked at so often.
const CHECK: Duration = Duration::from_secs(5);

/// A job on the bus.
struct Shown {
    /// Its number.
    number: u64,
    /// The object holds the other end.
    view: watch::Sender<JobView>,
    /// When it was last told of.
    told: Duration,
    /// There is more to tell.
    stale: bool,
    /// systemd's id of the unit's run.
    invocation: String,
}

/// All jobs.
#[derive(Default)]
pub struct Jobs {
    /// What is known of them.
    pub table: Table,
    /// Tasks on the whole suite.
    pub sequences: Sequences,
    shown: Vec<Shown>,
    /// When something was last heard of a job's unit.
    heard: Sequence,
    /// When the open ones are checked again.
    check: Duration,
}

impl Jobs {
    /// When there is something to do although nothing comes in.
    pub fn wakes(&self) -> Option<Duration> {
        let stale = self.shown.iter().filter(|shown| shown.stale);
        let told = stale.map(|shown| shown.told + PACE);
        let check = (!self.table.units().is_empty()).then_some(self.check);
        told.chain(check).min()
    }

    fn shown(&self, number: u64) -> Option<&Shown> {
        self.shown.iter().find(|shown| shown.number == number)
    }

    fn shown_mut(&mut self, number: u64) -> Option<&mut Shown> {
        self.shown.iter_mut().find(|shown| shown.number == number)
    }

    /// What a job shows.
    pub fn view(&self, number: u64) -> Option<JobView> {
        self.shown(number).map(|shown| shown.view.borrow().clone())
    }
}

impl Agent {
    /// What jobs have left and what runs, before anybody can ask for one.
    pub async fn find_jobs(&mut self) -> zbus::Result<()> {
        let now = clock::realtime_usec();
        self.jobs.table.begin_after(jobs::last_number(&self.root));
        for report in jobs::all(&self.root, |error| log::warn!("{error}")) {
            self.jobs.table.hear(report, now);
        }
        for unit in self.systemd.running_jobs().await? {
            self.jobs.table.unit(&unit, true, now);
        }
        self.end_dead_jobs(now);
        for number in self.jobs.table.forget() {
            log::debug!("job {number} was over long ago");
        }
        let numbers: Vec<u64> = self.jobs.table.all().map(|job| job.number).collect();
        for number in numbers {
            self.show_job(number).await?;
        }
        // An agent before this one may have left services alone for jobs that are over by now.
        let services: Vec<String> = self.services.keys().map(ToString::to_string).collect();
        for service in services {
            self.leave_alone(&service).await?;
        }
        Ok(())
    }

    /// Jobs have said something.
    pub async fn heard(&mut self, said: Vec<Said>) -> zbus::Result<()> {
        for said in said {
            let services = match said {
                Said::By(service) => vec![service],
                Said::Much => self.open_services(),
            };
            for service in services {
                self.read_job(&service).await?;
            }
        }
        Ok(())
    }

    fn open_services(&self) -> Vec<ServiceName> {
        let open = self.jobs.table.open();
        open.filter_map(|job| ServiceName::parse(&job.service).ok())
            .collect()
    }

    async fn read_job(&mut self, service: &ServiceName) -> zbus::Result<()> {
        match jobs::told(&self.root, service) {
            Ok(None) => Ok(()),
            Ok(Some(report)) => {
                let number = self.jobs.table.hear(report, clock::realtime_usec());
                self.job_changed(number).await
            }
            Err(error) => {
                log::warn!("{service}: what its job says cannot be read: {error}");
                Ok(())
            }
        }
    }

    /// systemd says something of a job's unit.
    pub async fn job_unit(&mut self, unit: &str, change: &Change) -> zbus::Result<()> {
        // What was overtaken is looked at again before long.
        let Some(state) = change
            .active_state
            .as_ref()
            .filter(|_| !change.is_overtaken(self.jobs.heard))
        else {
            return Ok(());
        };
        self.jobs.heard = self.jobs.heard.max(change.at);
        let up = !matches!(state.as_str(), "inactive" | "failed");
        if let Some(service) = Task::of_unit(unit).and_then(|(_, name)| ServiceName::parse(name).ok())
            && !up
        {
            // Its last word may still be on the way to us.
            self.read_job(&service).await?;
        }
        for number in self.jobs.table.unit(unit, up, clock::realtime_usec()) {
            if up {
                self.ask_invocation(number, unit);
            }
            self.job_changed(number).await?;
        }
        Ok(())
    }

    fn ask_invocation(&self, number: u64, unit: &str) {
        let known = self
            .jobs
            .shown(number)
            .is_some_and(|shown| !shown.invocation.is_empty());
        if known {
            return;
        }
        let (systemd, finds, unit) = (self.systemd.clone(), self.finds.clone(), unit.to_owned());
        tokio::spawn(async move {
            match systemd.invocation(&unit).await {
                // As above.
                Ok(id) if !id.is_empty() => drop(finds.send(Find::Invocation(number, id))),
                Ok(_) => {}
                Err(error) => log::debug!("{unit}: which run it is is not known: {error}"),
            }
        });
    }

    /// Which run of its unit a job is.
    pub async fn job_invocation(&mut self, number: u64, id: String) -> zbus::Result<()> {
        if let Some(shown) = self.jobs.shown_mut(number) {
            shown.invocation = id;
        }
        self.job_changed(number).await
    }

    /// What is due: jobs that have more to tell, and open ones that nobody may be at work on any more.
    pub async fn jobs_due(&mut self) -> zbus::Result<()> {
        let now = clock::monotonic();
        let due = |shown: &Shown| (shown.stale && now >= shown.told + PACE).then_some(shown.number);
        let numbers: Vec<u64> = self.jobs.shown.iter().filter_map(due).collect();
        for number in numbers {
            self.job_changed(number).await?;
        }
        let units = self.jobs.table.units();
        if units.is_empty() || now < self.jobs.check {
            return Ok(());
        }
        self.jobs.check = now + CHECK;
        self.systemd.ask(units, self.news.clone());
        for service in self.open_services() {
            self.read_job(&service).await?;
        }
        for number in self.end_dead_jobs(clock::realtime_usec()) {
            self.job_changed(number).await?;
        }
        Ok(())
    }

    /// Jobs without a unit, started by hand or by another unit, whose process has gone.
    fn end_dead_jobs(&mut self, now: u64) -> Vec<u64> {
        let table = &self.jobs.table;
        let dead = |job: &&Followed| {
            let pid = job.report.as_ref().map(|report| report.pid);
            !table.is_up(job) && pid.is_some_and(|pid| !jobs::is_alive(pid))
        };
        let numbers: Vec<u64> = table.open().filter(dead).map(|job| job.number).collect();
        for number in &numbers {
            self.jobs.table.gone(*number, now);
        }
        numbers
    }

    /// Puts a job on the bus, where it is not there yet.
    pub async fn show_job(&mut self, number: u64) -> zbus::Result<()> {
        if self.jobs.shown(number).is_some() {
            return Ok(());
        }
        let Some(job) = self.jobs.table.get(number) else {
            return Ok(());
        };
        let view = JobView::of(job, "");
        let (service, unit) = (job.service.clone(), view.unit.clone());
        let is_new = !job.is_over();
        self.put_job(number, view).await?;
        if is_new {
            self.ask_invocation(number, &unit);
            self.leave_alone(&service).await?;
        }
        Ok(())
    }

    /// Puts a job's object up.
    pub async fn put_job(&mut self, number: u64, view: JobView) -> zbus::Result<()> {
        if !view.is_over() {
            tell(
                &event::JOB_BEGAN,
                &view,
                &asked_by(self.jobs.table.get(number).and_then(|job| job.by), &view),
            );
        }
        let view = watch::Sender::new(view);
        self.bus.add_job(number, view.subscribe()).await?;
        let shown = Shown {
            number,
            view,
            told: clock::monotonic(),
            stale: false,
            invocation: String::new(),
        };
        self.jobs.shown.push(shown);
        Ok(())
    }

    /// What follows from news of a job.
    pub async fn job_changed(&mut self, number: u64) -> zbus::Result<()> {
        self.show_job(number).await?;
        let (Some(job), Some(shown)) = (self.jobs.table.get(number), self.jobs.shown(number)) else {
            return Ok(());
        };
        let (view, service) = (JobView::of(job, &shown.invocation), job.service.clone());
        let was_over = shown.view.borrow().is_over();
        self.publish_job(number, view.clone()).await?;
        self.leave_alone(&service).await?;
        if view.is_over() && !was_over {
            self.job_over(&view).await?;
        }
        self.sequence_changed(number).await
    }

    /// Shows what is new about a job: where it is at once, how far it is now and then.
    pub async fn publish_job(&mut self, number: u64, view: JobView) -> zbus::Result<()> {
        let Some(shown) = self.jobs.shown_mut(number) else {
            return Ok(());
        };
        let now = clock::monotonic();
        let old = shown.view.borrow().clone();
        shown.stale = view != old;
        if !shown.stale || (!view.is_elsewhere(&old) && now < shown.told + PACE) {
            return Ok(());
        }
        shown.stale = false;
        shown.told = now;
        shown.view.send_replace(view.clone());
        self.bus.job(number, &view, &old).await
    }

    async fn job_over(&mut self, view: &JobView) -> zbus::Result<()> {
        let event = if view.result == Ended::Done.word() {
            &event::JOB_DONE
        } else {
            &event::JOB_FAILED
        };
        tell(event, view, &last_words(view));
        self.forget_jobs().await
    }

    /// A job was not begun after all.
    pub async fn withdraw_job(&mut self, number: u64) -> zbus::Result<()> {
        self.jobs.table.withdraw(number);
        self.take_down(vec![number]).await
    }

    /// Takes down what has long been over.
    pub async fn forget_jobs(&mut self) -> zbus::Result<()> {
        let mut gone = self.jobs.table.forget();
        gone.extend(self.jobs.sequences.forget());
        self.take_down(gone).await
    }

    async fn take_down(&mut self, numbers: Vec<u64>) -> zbus::Result<()> {
        for number in numbers {
            if self.jobs.shown(number).is_some() {
                self.jobs.shown.retain(|shown| shown.number != number);
                self.bus.remove_job(number).await?;
            }
        }
        Ok(())
    }

    /// Whether something was begun with a service and is not over.
    pub fn is_interrupted(&self, service: &str) -> bool {
        let log = format!("/var/lib/dagger/transactions/{service}/log");
        self.root.join(log).exists()
    }

    /// The agent's recovery keeps its hands off a service that a job is at work on, and has it back afterwards.
    pub async fn leave_alone(&mut self, service: &str) -> zbus::Result<()> {
        let Some((key, _)) = self.services.get_key_value(service) else {
            return Ok(());
        };
        let key: Key = key.clone();
        let changing = self.jobs.table.changing(service);
        let (taken, work) = (
            changing.is_some(),
            changing.map_or_else(String::new, Followed::words),
        );
        let interrupted = !taken && self.is_interrupted(service);
        let Some(entry) = self.services.get_mut(&key) else {
            return Ok(());
        };
        let was_taken = entry.machine.is_taken();
        if was_taken == taken && entry.work == work && entry.interrupted == interrupted {
            return Ok(());
        }
        entry.work = work;
        entry.interrupted = interrupted;
        if was_taken != taken {
            self.keep = true;
            self.happened(&key, &Happened::Taken(taken)).await?;
        }
        let Some(entry) = self.services.get(&key) else {
            return Ok(());
        };
        self.bus.service(entry, publish::view(entry)).await?;
        // What nobody was told while the job was at work.
        if was_taken && !taken && entry.machine.health() == Health::Failed {
            self.alert_of_verdict(&key, Health::Healthy, Health::Failed);
        }
        Ok(())
    }
}

fn asked_by(uid: Option<u32>, view: &JobView) -> String {
    let what = format!("job {}, {}", view.number, view.verb);
    match uid {
        Some(uid) => format!("{what}, asked for by user {uid}"),
        None => format!("{what}, started by hand"),
    }
}

fn last_words(view: &JobView) -> String {
    if view.remedy.is_empty() {
        view.sentence.clone()
    } else {
        format!("{} ({})", view.sentence, view.remedy)
    }
}

/// Tells the journal of a job. A look is no news, and a task on the whole suite is told of service by service.
fn tell(event: &Event, view: &JobView, detail: &str) {
    if view.service.is_empty() || view.verb == Task::Plan.word() {
        return;
    }
    let values = [
        ("DAGGER_SERVICE", view.service.as_str()),
        ("DAGGER_JOB", view.verb.as_str()),
        ("DAGGER_DETAIL", detail),
        ("DAGGER_UNIT", view.unit.as_str()),
    ];
    journal::tell(event, &values);
}
