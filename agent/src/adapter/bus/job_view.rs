//! A job as it stands on the bus: its properties as plain values, one table for getters, change signals and client.

use std::collections::HashMap;

use serde::{Serialize, Serializer};
use zbus::{OwnedVariant, Variant};

use super::view::{changed, take};
use crate::domain::follow::all::All;
use crate::domain::follow::{Followed, State};
use crate::domain::job::{End, Task};
use crate::domain::transaction::{Side, Step};

/// The properties of one job. [`crate::adapter::bus::job`] says what each means.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[allow(missing_docs, reason = "documented once, at the properties of the interface")]
pub struct JobView {
    pub number: u64,
    pub service: String,
    pub verb: String,
    pub unit: String,
    pub state: String,
    pub began: u64,
    pub ended: u64,
    pub step: String,
    pub place: u32,
    pub steps: u32,
    pub files_done: u64,
    pub files_total: u64,
    pub bytes_done: u64,
    pub bytes_total: u64,
    #[serde(serialize_with = "known")]
    pub remaining_usec: u64,
    pub reason: String,
    pub result: String,
    pub sentence: String,
    pub remedy: String,
    pub owner: String,
    pub snapshot: String,
    #[serde(serialize_with = "known")]
    pub down_usec: u64,
    pub invocation: String,
}

/// What stands for a time that is not known.
pub const UNKNOWN: u64 = u64::MAX;

/// What is not known is null in JSON.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
fn known<S: Serializer>(usec: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    Some(*usec).filter(|usec| *usec != UNKNOWN).serialize(serializer)
}

impl JobView {
    /// How a job is shown. `invocation` is systemd's id of its unit's run, where it is known.
    pub fn of(job: &Followed, invocation: &str) -> Self {
        let mut view = Self {
            number: job.number,
            service: job.service.clone(),
            verb: job.task.word().into(),
            unit: job.task.unit(&job.service),
            state: job.state().word().into(),
            began: job.since,
            ended: job.ended,
            remaining_usec: UNKNOWN,
            invocation: invocation.to_owned(),
            ..Self::default()
        };
        if let Some(report) = &job.report {
            view.step = report.step.map_or(String::new(), |step| step.word().into());
            view.place = report.place;
            view.steps = report.steps;
            view.files_done = report.done.files;
            view.files_total = report.total.files;
            view.bytes_done = report.done.bytes;
            view.bytes_total = report.total.bytes;
            view.remaining_usec = report.remaining_ms.map_or(UNKNOWN, |ms| ms.saturating_mul(1000));
            view.reason = report.back.clone().unwrap_or_default();
        }
        if let Some(end) = &job.end {
            view.end(end);
        }
        view
    }

    /// How a task on the whole suite is shown. `current` is the job of the service that is at work.
    pub fn of_all(number: u64, began: u64, ended: u64, all: &All, current: Option<&Self>) -> Self {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let mut view = Self {
            number,
            verb: format!("{}-all", all.task.word()),
            unit: current.map_or_else(String::new, |job| job.unit.clone()),
            state: current.map_or_else(|| State::Running.word().into(), |job| job.state.clone()),
            began,
            ended,
            step: all.at().to_owned(),
            place: count(all.done + 1).min(count(all.order.len())),
            steps: count(all.order.len()),
            remaining_usec: UNKNOWN,
            invocation: current.map_or_else(String::new, |job| job.invocation.clone()),
            ..Self::default()
        };
        // A part that is over does not make the whole so.
        if view.state == State::Done.word() {
            view.state = State::Running.word().into();
        }
        if let Some(end) = &all.end {
            view.state = State::Done.word().into();
            view.end(end);
        }
        view
    }

    fn end(&mut self, end: &End) {
        self.remaining_usec = 0;
        self.result = end.result.word().into();
        self.sentence.clone_from(&end.sentence);
        self.remedy = end.todo.clone().unwrap_or_default();
        self.owner = match end.owner {
            None => String::new(),
            Some(Side::Native) => "native".into(),
            Some(Side::Container) => "container".into(),
        };
        self.snapshot = end.snapshot.clone().unwrap_or_default();
        self.down_usec = end.down_ms.map_or(UNKNOWN, |ms| ms.saturating_mul(1000));
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        self.state == State::Done.word()
    }

    /// What it does; none: a task on the whole suite, or a word of a newer agent.
    pub fn task(&self) -> Option<Task> {
        Task::from_word(&self.verb)
    }

    /// Whether this is told at once: where it is, rather than how far.
    pub fn is_elsewhere(&self, old: &Self) -> bool {
        (
            &self.state,
            &self.step,
            &self.reason,
            &self.unit,
            &self.invocation,
        ) != (&old.state, &old.step, &old.reason, &old.unit, &old.invocation)
    }

    /// The step that it is at, where it is one of ours.
    pub fn step(&self) -> Option<Step> {
        Step::ALL.into_iter().find(|step| step.word() == self.step)
    }

    /// All properties by their names on the bus.
    pub fn properties(&self) -> [(&'static str, Variant<'_>); 23] {
        [
            ("Number", Variant::from(self.number)),
            ("Service", Variant::from(self.service.as_str())),
            ("Verb", Variant::from(self.verb.as_str())),
            ("Unit", Variant::from(self.unit.as_str())),
            ("State", Variant::from(self.state.as_str())),
            ("Began", Variant::from(self.began)),
            ("Ended", Variant::from(self.ended)),
            ("Step", Variant::from(self.step.as_str())),
            ("Place", Variant::from(self.place)),
            ("Steps", Variant::from(self.steps)),
            ("FilesDone", Variant::from(self.files_done)),
            ("FilesTotal", Variant::from(self.files_total)),
            ("BytesDone", Variant::from(self.bytes_done)),
            ("BytesTotal", Variant::from(self.bytes_total)),
            ("RemainingUSec", Variant::from(self.remaining_usec)),
            ("Reason", Variant::from(self.reason.as_str())),
            ("Result", Variant::from(self.result.as_str())),
            ("Sentence", Variant::from(self.sentence.as_str())),
            ("Remedy", Variant::from(self.remedy.as_str())),
            ("Owner", Variant::from(self.owner.as_str())),
            ("Snapshot", Variant::from(self.snapshot.as_str())),
            ("DownUSec", Variant::from(self.down_usec)),
            ("InvocationID", Variant::from(self.invocation.as_str())),
        ]
    }

    /// Reads what the agent sent; what it did not send is empty.
    pub fn from_properties(properties: &HashMap<String, OwnedVariant>) -> Self {
        let text = |name| take::<String>(properties, name);
        Self {
            number: take(properties, "Number"),
            service: text("Service"),
            verb: text("Verb"),
            unit: text("Unit"),
            state: text("State"),
            began: take(properties, "Began"),
            ended: take(properties, "Ended"),
            step: text("Step"),
            place: take(properties, "Place"),
            steps: take(properties, "Steps"),
            files_done: take(properties, "FilesDone"),
            files_total: take(properties, "FilesTotal"),
            bytes_done: take(properties, "BytesDone"),
            bytes_total: take(properties, "BytesTotal"),
            remaining_usec: take(properties, "RemainingUSec"),
            reason: text("Reason"),
            result: text("Result"),
            sentence: text("Sentence"),
            remedy: text("Remedy"),
            owner: text("Owner"),
            snapshot: text("Snapshot"),
            down_usec: take(properties, "DownUSec"),
            invocation: text("InvocationID"),
        }
    }

    /// What differs from `old`, by name: the content of one `PropertiesChanged` signal.
    pub fn changes(&self, old: &Self) -> HashMap<&'static str, Variant<'_>> {
        changed(self.properties(), old.properties())
    }
}
