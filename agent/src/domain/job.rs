//! A job: one task on one service, done by a process of its own. What is asked of it, and what it says of itself.
//!
//! The agent asks and listens, `dagger-job` works and tells; neither knows the other's process. Both are plain data here,
//! and travel as JSON files (`adapter/jobs`).

use serde::{Deserialize, Serialize};

use super::transaction::{Data, Side, Step, Verb};

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Look, and say what a migration would do.
    Plan,
    /// From the native unit into the container.
    Migrate,
    /// From the container back to the native unit.
    Rollback,
    /// Finish or undo what was interrupted.
    Resume,
    /// The container on a copy of the data, beside the native unit.
    Shadow,
    /// The shadow goes, and the container takes over.
    Promote,
    /// The shadow goes, and its copy.
    Discard,
    /// A migration on a copy of the data, which is thrown away.
    Rehearse,
}

impl Task {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Plan,
        Self::Migrate,
        Self::Rollback,
        Self::Resume,
        Self::Shadow,
        Self::Promote,
        Self::Discard,
        Self::Rehearse,
    ];

    /// Its name: in unit names, polkit actions and on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Migrate => "migrate",
            Self::Rollback => "rollback",
            Self::Resume => "resume",
            Self::Shadow => "shadow",
            Self::Promote => "promote",
            Self::Discard => "discard",
            Self::Rehearse => "rehearse",
        }
    }

    /// The task with this name.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|task| task.word() == word)
    }

    /// The transaction that does it; none where nothing is begun.
    pub fn verb(self) -> Option<Verb> {
        match self {
            Self::Plan | Self::Resume => None,
            Self::Migrate => Some(Verb::Migrate),
            Self::Rollback => Some(Verb::Rollback),
            Self::Shadow => Some(Verb::Shadow),
            Self::Promote => Some(Verb::Promote),
            Self::Discard => Some(Verb::Discard),
            Self::Rehearse => Some(Verb::Rehearse),
        }
    }

    /// The unit that does it: `dagger-migrate@sonarr.service`.
    pub fn unit(self, service: &str) -> String {
        ["dagger-", self.word(), "@", service, ".service"].concat()
    }

    /// The task and the service of a unit's name.
    pub fn of_unit(unit: &str) -> Option<(Self, &str)> {
        let (task, rest) = unit.strip_prefix("dagger-")?.split_once('@')?;
        let service = rest.strip_suffix(".service")?;
        Some((Self::from_word(task)?, service))
    }
}

/// What is asked for, beyond task and service, which the unit's name says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Request {
    /// The job's number on the bus; 0 for one that was started by hand.
    pub number: u64,
    /// Of a rollback: what happens to what the container has written.
    pub data: Data,
    /// Of a rollback to a snapshot: which; none: the one of the last migration.
    pub snapshot: Option<String>,
}

/// How far a job has come, as it last said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// [`Request::number`].
    pub number: u64,
    /// What is done.
    pub task: Task,
    /// To which service.
    pub service: String,
    /// The transaction's name, which its snapshot has, too; empty while there is none.
    #[serde(default)]
    pub id: String,
    /// Its process.
    pub pid: u32,
    /// When it began, in µs since 1970.
    pub began: u64,
    /// When this was said, in µs since 1970.
    pub at: u64,
    /// What it is at; none before the first step and after the last.
    #[serde(default)]
    pub step: Option<Step>,
    /// Why it goes back; none while it does not.
    #[serde(default)]
    pub back: Option<String>,
    /// The step's place among its steps, from 1.
    #[serde(default)]
    pub place: u32,
    /// How many steps there are.
    #[serde(default)]
    pub steps: u32,
    /// How much of the step is done.
    #[serde(default)]
    pub done: Amount,
    /// How much there is to do in the step, as far as it is known; 0: it is not.
    #[serde(default)]
    pub total: Amount,
    /// About how long it will still take, in ms, by the plan.
    #[serde(default)]
    pub remaining_ms: Option<u64>,
    /// How it ended; none while it works.
    #[serde(default)]
    pub end: Option<End>,
}

impl Report {
    /// The first word of a job that has just begun, `now` in µs since 1970.
    pub fn begun(task: Task, service: &str, pid: u32, now: u64) -> Self {
        Self {
            number: 0,
            task,
            service: service.to_owned(),
            id: String::new(),
            pid,
            began: now,
            at: now,
            step: None,
            back: None,
            place: 0,
            steps: 0,
            done: Amount::default(),
            total: Amount::default(),
            remaining_ms: None,
            end: None,
        }
    }
}

/// So much of a tree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// Files.
    pub files: u64,
    /// Bytes.
    pub bytes: u64,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct End {
    /// In one word.
    pub result: Ended,
    /// In one sentence, for people.
    pub sentence: String,
    /// What a person can do about it, or may want to do next.
    #[serde(default)]
    pub todo: Option<String>,
    /// Who owns the service now; none where that was not looked at.
    #[serde(default)]
    pub owner: Option<Side>,
    /// The snapshot that is kept, by its id.
    #[serde(default)]
    pub snapshot: Option<String>,
    /// How long the service was away, in ms.
    #[serde(default)]
    pub down_ms: Option<u64>,
}

impl End {
    /// One of which nothing but this is to be said.
    pub fn new(result: Ended, sentence: impl Into<String>, todo: Option<String>) -> Self {
        Self {
            result,
            sentence: sentence.into(),
            todo,
            owner: None,
            snapshot: None,
            down_ms: None,
        }
    }
}

/// How a job ended, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// It is as it was asked for.
    Done,
    /// It is as it was before.
    Undone,
    /// Nothing was begun.
    Refused,
    /// What is left has to wait until the machine has booted.
    Later,
    /// It stays open, and needs a person.
    Stuck,
}

impl Ended {
    /// Its name, on the bus and in the journal.
    pub fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Undone => "undone",
            Self::Refused => "refused",
            Self::Later => "later",
            Self::Stuck => "stuck",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_lead_to_their_task_and_service() {
        for task in Task::ALL {
            let unit = task.unit("sonarr-4k");
            assert_eq!(Task::of_unit(&unit), Some((task, "sonarr-4k")), "{unit}");
            assert_eq!(serde_json::to_value(task).unwrap(), task.word());
        }
        for other in [
            "dagger-pull@sonarr.service",
            "dagger-sonarr.service",
            "dagger-plan@a.timer",
        ] {
            assert_eq!(Task::of_unit(other), None, "{other}");
        }
    }

    #[test]
    fn a_request_may_be_empty_and_holds_nothing_unknown() {
        assert_eq!(serde_json::from_str::<Request>("{}").unwrap(), Request::default());
        assert!(serde_json::from_str::<Request>(r#"{"run":"sh"}"#).is_err());
    }
}
