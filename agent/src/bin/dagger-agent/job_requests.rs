//! What callers ask of jobs: begin one, stop one, what one has found, which snapshots there are.

use dagger_agent::adapter::bus::{Answer, BusError, SnapshotView, snapshots};
use dagger_agent::adapter::{clock, jobs};
use dagger_agent::domain::follow::Followed;
use dagger_agent::domain::job::{Request, Task};
use dagger_suite::names::ServiceName;

use crate::agent::Agent;
use crate::recover::Find;

impl Agent {
    /// Whether this task could be begun now.
    pub fn ready(&self, task: Task, service: &str) -> Result<(), BusError> {
        // A service that has left the configuration, or is broken in it, may be half way, or have left something: its job
        // ends that, or says what has to be done first.
        let ends = matches!(task, Task::Rollback | Task::Resume | Task::Discard);
        let traces = || {
            let left = ServiceName::parse(service).is_ok_and(|name| {
                let mut paths = [name.owner_marker(), name.shadow_file()].into_iter();
                paths.any(|path| self.root.join(path).exists())
            });
            left || self.is_interrupted(service)
        };
        let known = self.services.contains_key(service) || (ends && traces());
        if !known {
            return Err(BusError::NoSuchService(format!(
                "the configuration has no service {service:?}"
            )));
        }
        match self.jobs.table.holder(service) {
            Some(holder) => Err(BusError::Busy(holder)),
            None => Ok(()),
        }
    }

    /// Asks for a task on a service; the job's number. It begins with [`Agent::start_job`].
    pub fn ask_job(&mut self, by: u32, task: Task, service: &str, request: Request) -> Result<u64, BusError> {
        self.ready(task, service)?;
        let name = ServiceName::parse(service).map_err(BusError::NoSuchService)?;
        let now = clock::realtime_usec();
        let number = self.jobs.table.ask(Some(by), task, service, now);
        let left = jobs::keep_number(&self.root, number)
            .and_then(|()| jobs::forget_plan(&self.root, &name))
            .and_then(|()| jobs::ask(&self.root, &name, &Request { number, ..request }));
        if let Err(error) = left {
            self.jobs.table.withdraw(number);
            return Err(BusError::Failed(format!(
                "{service}: the job cannot be asked for: {error}"
            )));
        }
        Ok(number)
    }

    /// Has systemd start the job's unit; the caller is answered when it has taken that.
    pub fn start_job(&self, number: u64, answer: Option<Answer<u64>>) {
        let Some(job) = self.jobs.table.get(number) else {
            return;
        };
        let (systemd, finds) = (self.systemd.clone(), self.finds.clone());
        let unit = job.task.unit(&job.service);
        tokio::spawn(async move {
            let begun = systemd.begin(&unit).await.map_err(|error| error.to_string());
            // The receiver is only gone when the program ends.
            let _ = finds.send(Find::Begun(number, begun, answer));
        });
    }

    /// Begins a task for a caller.
    pub fn begin_for(&mut self, uid: u32, task: Task, service: &str, request: Request, answer: Answer<u64>) {
        match self.ask_job(uid, task, service, request) {
            Ok(number) => self.start_job(number, Some(answer)),
            Err(error) => {
                let _ = answer.send(Err(error));
            }
        }
    }

    /// systemd has taken a job, or has not.
    pub async fn job_begun(
        &mut self,
        number: u64,
        begun: Result<(), String>,
        answer: Option<Answer<u64>>,
    ) -> zbus::Result<()> {
        let why = match begun {
            Ok(()) => {
                self.job_changed(number).await?;
                if let Some(answer) = answer {
                    let _ = answer.send(Ok(number));
                }
                return Ok(());
            }
            Err(why) => why,
        };
        let Some(job) = self.jobs.table.get(number).cloned() else {
            return Ok(());
        };
        self.withdraw_job(number).await?;
        if let Ok(name) = ServiceName::parse(&job.service) {
            // Nobody will take it.
            let _ = jobs::asked(&self.root, &name);
        }
        let unit = job.task.unit(&job.service);
        let why = format!("systemd does not start {unit}: {why}");
        if let Some(answer) = answer {
            let _ = answer.send(Err(BusError::Failed(why.clone())));
        }
        self.leave_alone(&job.service).await?;
        self.sequence_not_begun(number, why).await
    }

    /// Asks a job to stop.
    pub fn cancel_job(&mut self, number: u64, answer: Answer<()>) {
        let number = self.jobs.sequences.cancel(number).unwrap_or(number);
        let job = self.jobs.table.get(number).filter(|job| !job.is_over());
        let Some(job) = job else {
            let _ = answer.send(Err(BusError::NothingToDo("it is over".into())));
            return;
        };
        if let (false, Some(report)) = (self.jobs.table.is_up(job), &job.report) {
            let why = format!(
                "it does not run as a unit of its own: end process {} where it was started",
                report.pid
            );
            let _ = answer.send(Err(BusError::Failed(why)));
            return;
        }
        let (systemd, unit) = (self.systemd.clone(), job.task.unit(&job.service));
        tokio::spawn(async move {
            let asked = systemd.cancel(&unit).await;
            let _ = answer.send(
                asked.map_err(|error| BusError::Failed(format!("{unit} cannot be asked to stop: {error}"))),
            );
        });
    }

    /// What a job has found, for those who may know it.
    pub fn plan_of(&self, uid: u32, number: u64) -> Result<String, BusError> {
        let none = |why: &str| BusError::NothingToDo(why.to_owned());
        let looks = |job: &&Followed| matches!(job.task, Task::Plan | Task::Migrate);
        let job = self.jobs.table.get(number).filter(looks);
        let job = job.ok_or_else(|| none("this job has no plan"))?;
        if uid != 0 && job.by != Some(uid) {
            return Err(BusError::NotAuthorized(
                "a plan is for root and for whoever asked for it: ask for one of your own".into(),
            ));
        }
        let later = self.jobs.table.all().filter(looks);
        if later
            .into_iter()
            .any(|other| other.service == job.service && other.number > number)
        {
            return Err(none("a later look has taken its place"));
        }
        let name = ServiceName::parse(&job.service).map_err(BusError::NoSuchService)?;
        let plan = jobs::plan_text(&self.root, &name);
        plan.map_err(|error| BusError::Failed(error.to_string()))?
            .ok_or_else(|| none("there is no plan (yet)"))
    }

    /// The labels of snapshots, read in a thread of its own: a disk that does not answer must hold up nobody.
    pub fn list_snapshots(&self, service: Option<&str>, answer: Answer<Vec<SnapshotView>>) {
        let names: Vec<ServiceName> = match service {
            None => self
                .services
                .values()
                .map(|entry| entry.service.name.clone())
                .collect(),
            Some(service) => match ServiceName::parse(service) {
                Ok(name) => vec![name],
                Err(why) => {
                    let _ = answer.send(Err(BusError::NoSuchService(why)));
                    return;
                }
            },
        };
        let root = self.root.clone();
        tokio::task::spawn_blocking(move || answer.send(Ok(snapshots::list(&root, &names))));
    }
}
