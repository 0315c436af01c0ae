//! Looks at a service and its machine, and makes of it a plan, and of the plan the story of a transaction.

use std::time::Duration;

use dagger_agent::adapter::disk::{self, Leaf};
use dagger_agent::adapter::facts::unit::{self, Unit};
use dagger_agent::adapter::facts::{self, Subject};
use dagger_agent::adapter::snapshot::SNAPSHOT_DIR;
use dagger_agent::adapter::{image, settings};
use dagger_agent::domain::job::Amount;
use dagger_agent::domain::plan::cost::{is_kept, kept};
use dagger_agent::domain::plan::facts::{Facts, Image};
use dagger_agent::domain::plan::{self, Plan};
use dagger_agent::domain::snapshot::Label;
use dagger_agent::domain::transaction::{Failure, Step};
use dagger_suite::model::Service;
use dagger_suite::names::{Root, ServiceName};

use crate::bus::Bus;
use crate::story::{Place, Story};

/// Copies of databases lie here while SQLite looks through them.
const SPACE: &str = "/var/cache/dagger/job";

/// Fewer good looks in a row say nothing.
const CHECKS_MIN: u32 = 3;

/// The longest time between two looks of a probation.
const EVERY_MAX: Duration = Duration::from_secs(10);

/// A service and its machine.
pub struct Looked {
    /// As the configuration has it.
    pub service: Service,
    /// What was found.
    pub facts: Facts,
    /// How long its probation is.
    pub probation: Duration,
}

/// Looks at a service; none when the configuration has no such. `deep`: its databases are looked through, too.
pub fn look(root: &Root, name: &ServiceName, bus: &Bus, deep: bool) -> Result<Option<Looked>, String> {
    let suite = dagger_suite::load(root).suite;
    let probation = suite.probation;
    let Some(service) = suite.services.into_iter().find(|it| it.name == *name) else {
        return Ok(None);
    };
    let native = native(&service, bus)?;
    let container = asked(&service.name.unit(), bus)?;
    let image = image::recorded(root, name)
        .map_err(|error| format!("what is known of its image cannot be read: {error}"))?
        .filter(|image| image.reference == service.image)
        .map(|image| Image {
            version: image.version,
            digest: image.digest,
        });
    let space = root.join(format!("{SPACE}/{name}"));
    if deep {
        let leaf = Leaf {
            mode: 0o700,
            owner: None,
        };
        disk::make_dir(&space, leaf).map_err(|error| error.to_string())?;
    }
    let mut facts = facts::look(&Subject {
        root,
        service: &service,
        unit: native.as_ref(),
        image: image.as_ref(),
        snapshots: SNAPSHOT_DIR,
        space: deep.then_some(space.as_path()),
    });
    facts.probation_ms = millis(probation);
    facts.start_ms = container.and_then(|unit| unit.start_us).map(|us| us / 1000);
    Ok(Some(Looked {
        service,
        facts,
        probation,
    }))
}

/// The first of the service's native units that systemd knows.
fn native(service: &Service, bus: &Bus) -> Result<Option<Unit>, String> {
    for unit in &service.native {
        if let Some(unit) = asked(&unit.name, bus)? {
            return Ok(Some(unit));
        }
    }
    Ok(None)
}

/// What systemd says of a unit, where it has one of that name.
fn asked(unit: &str, bus: &Bus) -> Result<Option<Unit>, String> {
    bus.wait(unit::ask(bus.connection(), unit))
        .map_err(|error| format!("systemd does not tell of {unit}: {error}"))
}

/// Now that the image is there: does anything stand in the way that was not known before?
pub fn again(root: &Root, name: &ServiceName, bus: &Bus) -> Result<(), Failure> {
    let Some(looked) = look(root, name, bus, false)? else {
        return Err(format!("{name} has left the configuration").into());
    };
    match plan::plan(&looked.service, &looked.facts)
        .blockers
        .into_iter()
        .next()
    {
        None => Ok(()),
        Some(finding) => Err(Failure {
            why: finding.what,
            todo: Some(finding.remedy).filter(|todo| !todo.is_empty()),
        }),
    }
}

impl Looked {
    /// The story of a migration by this plan.
    pub fn migration(&self, root: &Root, plan: &Plan) -> Result<Story, String> {
        let edits = plan
            .adjustments
            .iter()
            .map(|change| settings::prepare(root, change).map_err(|error| error.to_string()));
        let edits = edits.collect::<Result<Vec<_>, String>>()?;
        Ok(Story {
            edits,
            costs: costs(plan),
            label: Label {
                version: plan.label.get("native-version").cloned(),
                ..self.label("migrate")
            },
            library: plan.library.clone(),
            ..self.story()
        })
    }

    /// What is written on a snapshot, whoever has run on the data.
    pub fn label(&self, why: &str) -> Label {
        let schemas = self.facts.databases.iter().filter_map(|database| {
            let name = database.path.rsplit('/').next()?.to_owned();
            let schema = database.schema.as_ref()?.to_string();
            (!schema.is_empty()).then_some((name, schema))
        });
        Label {
            service: self.service.name.to_string(),
            schemas: schemas.collect(),
            why: why.to_owned(),
            ..Label::default()
        }
    }

    /// What the stories of all verbs have in common.
    pub fn story(&self) -> Story {
        let Self { service, facts, .. } = self;
        let places: Vec<Place> = facts
            .places
            .iter()
            .filter(|place| place.there)
            .map(|place| Place {
                role: place.role.clone(),
                path: place.path.clone(),
                kept: is_kept(&place.role),
            })
            .collect();
        let (every, checks) = looks(self.probation, service.successes);
        Story {
            container: service.name.unit(),
            pull: service.name.pull_unit(),
            native: facts
                .native
                .as_ref()
                .map(|native| native.unit.clone())
                .unwrap_or_default(),
            ran: facts.native.as_ref().is_some_and(|native| native.active),
            places,
            databases: facts
                .databases
                .iter()
                .map(|database| database.path.clone())
                .collect(),
            library: facts.library.clone(),
            size: Amount {
                files: kept(facts).map(|place| place.files).sum(),
                bytes: kept(facts).map(|place| place.bytes).sum(),
            },
            every_ms: millis(every),
            checks,
            patience_ms: millis(service.start_budget + 3 * self.probation),
            ..Story::default()
        }
    }
}

/// The time between two looks of a probation, and how many there are: one as it begins, and one as it ends.
fn looks(probation: Duration, successes: u32) -> (Duration, u32) {
    let least = successes.max(CHECKS_MIN);
    let every = (probation / (least - 1)).min(EVERY_MAX);
    let between = probation.as_millis().div_ceil(every.as_millis().max(1));
    let checks = u32::try_from(between).unwrap_or(u32::MAX).saturating_add(1);
    (every, checks.max(least))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// How long the plan's steps take, where that is known. A shadow's are as long as those that they stand for.
fn costs(plan: &Plan) -> Vec<(Step, u64)> {
    let steps = |step: Step| match step {
        Step::Snapshot => vec![step, Step::Clone],
        Step::Start => vec![step, Step::StartShadow],
        other => vec![other],
    };
    plan.steps
        .iter()
        .filter(|it| it.cost.ms > 0)
        .flat_map(|it| steps(it.kind).into_iter().map(|step| (step, it.cost.ms)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probation_is_watched_to_its_end() {
        let seconds = Duration::from_secs;
        assert_eq!(looks(seconds(30), 1), (seconds(10), 4));
        assert_eq!(looks(seconds(4), 1), (seconds(2), 3));
        assert_eq!(looks(seconds(300), 1), (seconds(10), 31));
        assert_eq!(looks(seconds(25), 1), (seconds(10), 4), "not a moment less");
        assert_eq!(
            looks(seconds(9), 10),
            (seconds(1), 10),
            "as many good answers as the service wants"
        );
        for (probation, successes) in (1..400).flat_map(|probation| [(probation, 1), (probation, 10)]) {
            let (every, checks) = looks(seconds(probation), successes);
            assert!(
                every * (checks - 1) + Duration::from_millis(1) >= seconds(probation),
                "{probation} s"
            );
            assert!(checks >= successes.max(CHECKS_MIN));
        }
    }
}
