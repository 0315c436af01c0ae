//! What the steps of one transaction need to know. It stands in the log's first record: after a crash nothing else is asked,
//! neither the configuration nor systemd.

use dagger_agent::adapter::settings::Edit;
use dagger_agent::adapter::tree::Gift;
use dagger_agent::domain::forecast::Forecast;
use dagger_agent::domain::job::Amount;
use dagger_agent::domain::library::Counts;
use dagger_agent::domain::plan::hands::Hands;
use dagger_agent::domain::snapshot::Label;
use dagger_agent::domain::transaction::{Data, Options, Progress, RunAs, Side, Step, Transaction, forward};
use dagger_suite::names::ServiceName;
use serde::{Deserialize, Serialize};

use crate::shadow;

/// One of the application's directories.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// What it is: `config`, `data`.
    pub role: String,
    /// Where it lies.
    pub path: String,
    /// It is part of the snapshot.
    pub kept: bool,
}

/// The container on a copy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shadow {
    /// Its name as a service.
    pub name: String,
    /// The port that people look at it by; none: nobody does.
    pub port: Option<u16>,
    /// What the configuration says of it.
    pub table: String,
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Story {
    /// The container's unit.
    pub container: String,
    /// The unit that fetches its image.
    pub pull: String,
    /// The native unit.
    pub native: String,
    /// Whether the old side ran when it was begun: then it runs again when it is undone.
    pub ran: bool,
    /// The directories.
    pub places: Vec<Place>,
    /// The databases in them.
    pub databases: Vec<String>,
    /// What the library held.
    pub library: Counts,
    /// Settings that change on the way to the container.
    pub edits: Vec<Edit>,
    /// Files that are given to another user on the way to the container, where the configuration names one.
    pub gift: Option<Gift>,
    /// Whose files change hands on the way to the container, by the job or by the image itself.
    pub hands: Option<Hands>,
    /// Who the container runs as.
    pub run_as: Option<RunAs>,
    /// The container on a copy, where the transaction is about one.
    pub shadow: Option<Shadow>,
    /// What the snapshot is labelled with.
    pub label: Label,
    /// How much the directories hold.
    pub size: Amount,
    /// How long the steps take, in ms, as far as that could be told.
    pub costs: Vec<(Step, u64)>,
    /// Time between two checks of the new side, in ms.
    pub every_ms: u64,
    /// So many good checks in a row are wanted.
    pub checks: u32,
    /// So long the new side may take to be well, in ms.
    pub patience_ms: u64,
}

impl Story {
    /// The story of a transaction.
    pub fn of(transaction: &Transaction) -> Result<Self, String> {
        serde_json::from_value(transaction.plan.clone())
            .map_err(|error| format!("the log does not say what the steps need: {error}"))
    }

    /// The same, of one that is under way.
    pub fn told(progress: &Progress) -> Result<Self, String> {
        Self::of(progress.transaction())
    }

    /// What the transaction is asked for: a step in which there is nothing to do is none.
    pub fn options(&self, data: Data, snapshot: Option<String>) -> Options {
        Options {
            data,
            snapshot,
            nothing_to_adjust: self.edits.is_empty() && self.gift.is_none(),
        }
    }

    /// The unit of a side.
    pub fn unit(&self, side: Side) -> &str {
        match side {
            Side::Native => &self.native,
            Side::Container => &self.container,
        }
    }

    /// All of its directories, by role and path.
    pub fn all_places(&self) -> Vec<(String, String)> {
        let place = |place: &Place| (place.role.clone(), place.path.clone());
        self.places.iter().map(place).collect()
    }

    /// The directories that a snapshot holds.
    pub fn kept(&self) -> impl Iterator<Item = &Place> {
        self.places.iter().filter(|place| place.kept)
    }

    /// The shadow that the transaction is about.
    pub fn shadow(&self) -> Result<&Shadow, String> {
        let shadow = self.shadow.as_ref();
        shadow.ok_or_else(|| "the log does not say of which shadow it is".to_owned())
    }

    /// Where a shadow has its directories, by role.
    pub fn shadow_places(&self, service: &ServiceName) -> Vec<(String, String)> {
        let place = |place: &Place| (place.role.clone(), shadow::data(service, &place.role));
        self.kept().map(place).collect()
    }

    /// About how long a step takes, in ms; none when that is not known.
    pub fn cost(&self, step: Step) -> Option<u64> {
        self.costs.iter().find(|(it, _)| *it == step).map(|(_, ms)| *ms)
    }

    /// How long it takes, as far as the plan knows.
    pub fn forecast(&self, steps: &[Step]) -> Forecast {
        Forecast {
            steps: forward(steps).collect(),
            costs: self.costs.clone(),
        }
    }
}
