//! `org.nixarr.Dagger1.Job`: one job, at work or over.

use dagger_suite::names::{BUS_ROOT, ServiceName};
use tokio::sync::{mpsc, watch};
use zbus::{Connection, OwnedVariant, interface, message::Header};

use super::authorize::{Deed, authorize};
use super::{Ask, BusError, JobView, Request, ask};
use crate::domain::job;
use crate::domain::job::Task;
use crate::domain::transaction::Data;

/// Object path of a job.
pub fn path(number: u64) -> String {
    format!("{BUS_ROOT}/job/{number}")
}

/// The polkit action of a task.
pub fn action(task: Task) -> String {
    ["org.nixarr.dagger1.", task.word()].concat()
}

/// The polkit action of cancelling a job.
const CANCEL: &str = "org.nixarr.dagger1.cancel";

/// What a task is asked for, from the options of a call. What is not known is refused: it would not be done.
pub fn request(
    task: Task,
    options: impl IntoIterator<Item = (String, OwnedVariant)>,
) -> Result<job::Request, BusError> {
    let mut request = job::Request::default();
    for (key, value) in options {
        let text = String::try_from(value);
        match (task, key.as_str(), text.as_deref()) {
            (Task::Rollback, "data", Ok("keep")) => request.data = Data::Keep,
            (Task::Rollback, "data", Ok("restore")) => request.data = Data::Restore,
            (Task::Rollback, "data", _) => {
                return Err(BusError::InvalidArgument(
                    "`data` is \"keep\" or \"restore\"".into(),
                ));
            }
            (Task::Rollback, "snapshot", Ok(id)) if is_id(id) => request.snapshot = Some(id.to_owned()),
            (Task::Rollback, "snapshot", _) => {
                return Err(BusError::InvalidArgument(
                    "`snapshot` is the id of a snapshot: letters, digits and hyphens".into(),
                ));
            }
            (task, key, _) => {
                return Err(BusError::InvalidArgument(format!(
                    "{} knows no option {key:?}",
                    task.word()
                )));
            }
        }
    }
    if request.snapshot.is_some() && request.data == Data::Keep {
        return Err(BusError::InvalidArgument(
            "a snapshot is for data = \"restore\": with \"keep\" nothing of it is used".into(),
        ));
    }
    Ok(request)
}

fn is_id(id: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    !id.is_empty() && id.len() <= 64 && id.chars().all(plain)
}

/// The object at `/org/nixarr/Dagger1/job/<n>`.
#[derive(Debug)]
pub struct JobObject {
    view: watch::Receiver<JobView>,
    queue: mpsc::Sender<Request>,
}

impl JobObject {
    /// An object that shows what `view` holds and puts its questions into `queue`.
    pub fn new(view: watch::Receiver<JobView>, queue: mpsc::Sender<Request>) -> Self {
        Self { view, queue }
    }

    /// Reads one thing of the view.
    fn of<T>(&self, of: impl FnOnce(&JobView) -> T) -> T {
        of(&self.view.borrow())
    }
}

#[interface(
    name = "org.nixarr.Dagger1.Job",
    proxy(default_service = "org.nixarr.Dagger1", visibility = "pub")
)]
impl JobObject {
    /// Asks the job to stop. What it has done is undone, the service runs as it did before, and Result becomes "undone"; a
    /// job that has turned its corner (the other side runs already) may finish instead. Of MigrateAll() and RollbackAll():
    /// the service that is at work is cancelled, and the rest stays untouched. Asks polkit for org.nixarr.dagger1.cancel.
    /// Errors: org.nixarr.Dagger1.Error.NotAuthorized, .InteractiveAuthorizationRequired, .NothingToDo when it is over,
    /// .Throttled, .Failed.
    #[zbus(proxy(allow_interactive_auth))]
    async fn cancel(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), BusError> {
        ask(&self.queue, connection, &header, Ask::Admit).await?;
        // A task on the whole suite has its service where others have their step.
        let service = self.of(|view| match view.service.as_str() {
            "" => view.step.clone(),
            service => service.to_owned(),
        });
        let unit = ServiceName::parse(&service).map_or_else(|_| String::new(), |name| name.unit());
        let deed = Deed {
            action: CANCEL,
            service: &service,
            unit: &unit,
        };
        authorize(connection, &header, deed).await?;
        let number = self.of(|view| view.number);
        ask(&self.queue, connection, &header, |answer| {
            Ask::Cancel(number, answer)
        })
        .await
    }

    /// What a look has found, as JSON: what stands in the way with what to do about it, what should be known, and each step
    /// with its cost and how it is undone. Jobs of Plan() have it once they are done, those of Migrate() once they have begun
    /// their first step. It names paths of other users' data, so it is for root and for whoever asked for the job.
    /// Errors: org.nixarr.Dagger1.Error.NotAuthorized, .NothingToDo when there is none, .Throttled.
    #[zbus(out_args("plan"))]
    async fn plan(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<String, BusError> {
        let number = self.of(|view| view.number);
        ask(&self.queue, connection, &header, |answer| {
            Ask::PlanOf(number, answer)
        })
        .await
    }

    /// Its number. A job that is over stays on the bus while it is among the last 32.
    #[zbus(property(emits_changed_signal = "const"))]
    fn number(&self) -> u64 {
        self.of(|view| view.number)
    }

    /// The service; empty for a job on the whole suite.
    #[zbus(property(emits_changed_signal = "const"))]
    fn service(&self) -> String {
        self.of(|view| view.service.clone())
    }

    /// What is done: "plan", "migrate", "rollback", "resume", "shadow", "promote", "discard", "rehearse", "migrate-all", "rollback-all".
    #[zbus(property(emits_changed_signal = "const"))]
    fn verb(&self) -> String {
        self.of(|view| view.verb.clone())
    }

    /// The systemd unit that does it; for a job on the whole suite the one that is at work now.
    #[zbus(property)]
    fn unit(&self) -> String {
        self.of(|view| view.unit.clone())
    }

    /// "queued", "running", "undoing" or "done".
    #[zbus(property)]
    fn state(&self) -> String {
        self.of(|view| view.state.clone())
    }

    /// When it began, in microseconds of CLOCK_REALTIME.
    #[zbus(property(emits_changed_signal = "const"))]
    fn began(&self) -> u64 {
        self.of(|view| view.began)
    }

    /// When it was over; 0: it is not.
    #[zbus(property)]
    fn ended(&self) -> u64 {
        self.of(|view| view.ended)
    }

    /// The step that it is at, in one word; of a job on the whole suite the service.
    #[zbus(property)]
    fn step(&self) -> String {
        self.of(|view| view.step.clone())
    }

    /// The step's place among its steps, from 1.
    #[zbus(property)]
    fn place(&self) -> u32 {
        self.of(|view| view.place)
    }

    /// How many steps there are.
    #[zbus(property)]
    fn steps(&self) -> u32 {
        self.of(|view| view.steps)
    }

    /// Files that the step has done. How far it is within a step is signalled four times a second at most.
    #[zbus(property)]
    fn files_done(&self) -> u64 {
        self.of(|view| view.files_done)
    }

    /// Files that the step has to do; 0: that is not known.
    #[zbus(property)]
    fn files_total(&self) -> u64 {
        self.of(|view| view.files_total)
    }

    /// Bytes that the step has done.
    #[zbus(property)]
    fn bytes_done(&self) -> u64 {
        self.of(|view| view.bytes_done)
    }

    /// Bytes that the step has to do; 0: that is not known.
    #[zbus(property)]
    fn bytes_total(&self) -> u64 {
        self.of(|view| view.bytes_total)
    }

    /// About how long it will still take, in microseconds; the largest number: that is not known.
    #[zbus(property, name = "RemainingUSec")]
    fn remaining_usec(&self) -> u64 {
        self.of(|view| view.remaining_usec)
    }

    /// Why it goes back, while and after it does.
    #[zbus(property)]
    fn reason(&self) -> String {
        self.of(|view| view.reason.clone())
    }

    /// How it ended: "done", "undone" (as it was before), "refused" (nothing was begun), "later" (the rest follows when the
    /// machine has booted) or "stuck" (half way: it needs a person); empty while it has not.
    #[zbus(property)]
    fn result(&self) -> String {
        self.of(|view| view.result.clone())
    }

    /// How it ended, in one sentence.
    #[zbus(property)]
    fn sentence(&self) -> String {
        self.of(|view| view.sentence.clone())
    }

    /// What can be done about that, or next; empty: nothing has to be.
    #[zbus(property)]
    fn remedy(&self) -> String {
        self.of(|view| view.remedy.clone())
    }

    /// Who owns the service afterwards: "container" or "native"; empty where that was not looked at.
    #[zbus(property)]
    fn owner(&self) -> String {
        self.of(|view| view.owner.clone())
    }

    /// Id of the snapshot that is kept; Snapshots() of the manager has its label.
    #[zbus(property)]
    fn snapshot(&self) -> String {
        self.of(|view| view.snapshot.clone())
    }

    /// How long the service was away, in microseconds; the largest number: it was not, or that is not known.
    #[zbus(property, name = "DownUSec")]
    fn down_usec(&self) -> u64 {
        self.of(|view| view.down_usec)
    }

    /// systemd's id of the unit's run, in hex: `journalctl _SYSTEMD_INVOCATION_ID=...` shows what this job wrote, and nothing
    /// else. Empty until it has begun, and for jobs of an earlier agent.
    #[zbus(property, name = "InvocationID")]
    fn invocation(&self) -> String {
        self.of(|view| view.invocation.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(task: Task, options: &[(&str, &str)]) -> Result<job::Request, BusError> {
        let value = |text: &str| OwnedVariant::try_from(zbus::Variant::from(text)).unwrap();
        let options = options.iter().map(|(key, text)| ((*key).to_owned(), value(text)));
        request(task, options)
    }

    #[test]
    fn options_are_understood_or_refused() {
        assert_eq!(of(Task::Migrate, &[]).unwrap(), job::Request::default());
        let restored = of(
            Task::Rollback,
            &[("data", "restore"), ("snapshot", "20261124-1-migrate")],
        )
        .unwrap();
        assert_eq!(restored.data, Data::Restore);
        assert_eq!(restored.snapshot.as_deref(), Some("20261124-1-migrate"));
        for (task, options) in [
            (Task::Migrate, &[("data", "keep")][..]),
            (Task::Rollback, &[("date", "keep")]),
            (Task::Rollback, &[("data", "throw")]),
            (Task::Rollback, &[("data", "restore"), ("snapshot", "../x")]),
            (Task::Rollback, &[("data", "restore"), ("snapshot", "")]),
            (Task::Rollback, &[("snapshot", "20261124")]),
        ] {
            let refused = of(task, options);
            assert!(
                matches!(refused, Err(BusError::InvalidArgument(_))),
                "{options:?}: {refused:?}"
            );
        }
    }
}
