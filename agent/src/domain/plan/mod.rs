//! The plan of a migration: a function of the configuration and of what was found on the machine.
//!
//! [`plan`] decides and touches nothing. What stands in the way comes with what to do about it, what should be known is
//! told, and each step says what it reads, writes and costs, and how it is undone. [`Plan`] is plain data: it travels as
//! JSON, and its `Display` is what `--dry-run` prints.

pub mod facts;

pub mod finding;

pub mod boot;

pub mod sight;

pub mod native;

pub mod schema;

pub mod adjust;

pub mod cost;

pub mod hands;

pub mod blockers;

pub mod media;

pub mod warnings;

mod text;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;

use dagger_suite::model::Service;
use serde::{Deserialize, Serialize};

use self::adjust::Adjustment;
use self::cost::{Downtime, Step};
use self::facts::{Facts, Who};
use self::finding::Finding;
use super::library::Counts;

/// What a migration will do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The service.
    pub service: String,
    /// Its container's unit.
    pub unit: String,
    /// Its native unit.
    pub native: Option<String>,
    /// Who the container runs as, and whose files they stay.
    pub owner: Option<Who>,
    /// What stands in the way: with any of these nothing is begun.
    pub blockers: Vec<Finding>,
    /// What should be known.
    pub warnings: Vec<Finding>,
    /// The steps in their order.
    pub steps: Vec<Step>,
    /// What changes in the application's own settings.
    pub adjustments: Vec<Adjustment>,
    /// How long the service is away.
    pub downtime: Downtime,
    /// What the library holds; the guard compares with it.
    pub library: Counts,
    /// What a snapshot is to be labelled with: versions, schemas and digest (jellyfin#17111).
    pub label: BTreeMap<String, String>,
}

impl Plan {
    /// Whether anything stands in the way.
    pub fn is_blocked(&self) -> bool {
        !self.blockers.is_empty()
    }
}

/// The plan for a service that is in the configuration.
pub fn plan(service: &Service, facts: &Facts) -> Plan {
    let (adjustments, asked) = adjust::adjustments(service, facts);
    let mut blockers = blockers::blockers(service, facts, &adjustments);
    let pointless = facts.owned || facts.native.is_none();
    if !pointless {
        blockers.extend(asked);
    }
    let head = Plan {
        service: service.name.to_string(),
        unit: service.name.unit(),
        native: facts.native.as_ref().map(|native| native.unit.clone()),
        blockers,
        ..Plan::default()
    };
    if pointless {
        return head;
    }
    let steps = cost::steps(service, facts, &adjustments);
    Plan {
        owner: cost::owner(facts),
        warnings: warnings::warnings(service, facts, &adjustments),
        downtime: cost::downtime(service, facts, &steps),
        steps,
        adjustments,
        library: facts.library.clone(),
        label: label(service, facts),
        ..head
    }
}

/// The plan for a name that is in no configuration.
pub fn refused(name: &str) -> Plan {
    Plan {
        service: name.to_owned(),
        blockers: vec![blockers::not_configured(name)],
        ..Plan::default()
    }
}

fn label(service: &Service, facts: &Facts) -> BTreeMap<String, String> {
    let mut label = BTreeMap::new();
    let mut say = |key: &str, value: &str| {
        if !value.is_empty() {
            label.insert(key.to_owned(), value.to_owned());
        }
    };
    say("service", service.name.as_str());
    say("image", &service.image);
    if let Some(native) = &facts.native {
        say("native-unit", &native.unit);
    }
    if let Some(image) = &facts.image {
        say("image-version", &image.version);
        say("image-digest", &image.digest);
    }
    if let Some(version) = blockers::last_version(facts) {
        say("native-version", version);
    }
    for database in &facts.databases {
        if let Some(schema) = &database.schema {
            let name = database.path.rsplit('/').next().unwrap_or(&database.path);
            say(&format!("schema-{name}"), &schema.to_string());
        }
    }
    label
}

/// Bytes for people: powers of 1024, one figure after the point below ten.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut power: u32 = 0;
    while power < 5 && (count >> (10 * (power + 1))) > 0 {
        power += 1;
    }
    let unit = usize::try_from(power)
        .ok()
        .and_then(|at| UNITS.get(at))
        .unwrap_or(&"B");
    let whole = count >> (10 * power);
    if power > 0 && whole < 10 {
        let tenth = ((count >> (10 * (power - 1))) & 1023) * 10 / 1024;
        format!("{whole}.{tenth} {unit}")
    } else {
        format!("{whole} {unit}")
    }
}
