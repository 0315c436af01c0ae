//! Probation: the new side has to be well for a while, and to hold what the old one held.

use std::time::{Duration, Instant};

use dagger_agent::adapter::facts;
use dagger_agent::domain::job::Amount;
use dagger_agent::domain::library::{Verdict, guard};
use dagger_agent::domain::transaction::{Failure, Side};
use dagger_suite::model::Service;
use dagger_suite::names::ServiceName;
use serde_json::{Value, json};

use crate::bus::cancelled;
use crate::story::Story;
use crate::world::Work;

/// The note of when the application had gone through its media last, which the library guard reads.
pub const SCANNED: &str = "scanned";

/// What one look has found.
enum Look {
    /// All is well.
    Good,
    /// Not yet, and why.
    Wait(String),
    /// It will not be.
    Bad(String),
}

/// What is watched.
pub struct Watched {
    unit: String,
    name: ServiceName,
    /// Its directories: role and path.
    places: Vec<(String, String)>,
}

impl Watched {
    /// One side of the service.
    pub fn side(work: &Work<'_>, story: &Story, side: Side) -> Self {
        Self {
            unit: story.unit(side).to_owned(),
            name: work.service.clone(),
            places: story.all_places(),
        }
    }

    /// Its shadow.
    pub fn shadow(work: &Work<'_>, story: &Story) -> Result<Self, String> {
        let name = ServiceName::parse(&story.shadow()?.name)?;
        Ok(Self {
            unit: name.unit(),
            places: story.shadow_places(work.service),
            name,
        })
    }
}

/// Watches until so many looks in a row were good.
pub fn watch(work: &Work<'_>, story: &Story, watched: &Watched) -> Result<Value, Failure> {
    let bus = work
        .bus
        .ok_or_else(|| "nothing can be watched while the machine boots".to_owned())?;
    work.teller.work(None, Amount::default());
    let service = service(work, watched);
    let every = Duration::from_millis(story.every_ms.max(100));
    let end = Instant::now() + Duration::from_millis(story.patience_ms);
    let restarts = bus.restarts(&watched.unit);
    // A scan that has ended after this one is one of the new side.
    let scanned = service
        .as_ref()
        .and_then(|service| facts::holdings(work.root, service, &watched.places).scanned);
    let mut good = 0;
    let mut why = String::new();
    while good < story.checks {
        if bus.cancel().is_asked() {
            return Err(cancelled().into());
        }
        // Between two looks it may have died, and be well again by now.
        if bus.restarts(&watched.unit) > restarts {
            return Err(died(&watched.unit).into());
        }
        match look(work, story, watched, service.as_ref()) {
            Look::Good => good += 1,
            Look::Wait(reason) => {
                good = 0;
                why = reason;
            }
            Look::Bad(reason) => return Err(reason.into()),
        }
        if good < story.checks && Instant::now() > end {
            return Err(format!("it was not well in time: {why}").into());
        }
        if good < story.checks {
            bus.pause(every);
        }
    }
    Ok(json!({ "checks": good, SCANNED: scanned }))
}

fn died(unit: &str) -> String {
    format!("{unit} has died (see `journalctl -u {unit}`)")
}

/// The service as the configuration has it; one that has left it is watched by its unit alone.
fn service(work: &Work<'_>, watched: &Watched) -> Option<Service> {
    let services = dagger_suite::load(work.root).suite.services;
    services.into_iter().find(|service| service.name == watched.name)
}

fn look(work: &Work<'_>, story: &Story, watched: &Watched, service: Option<&Service>) -> Look {
    let unit = watched.unit.as_str();
    let Some(bus) = work.bus else {
        return Look::Bad("systemd cannot be asked".into());
    };
    match bus.standing(unit) {
        Ok(standing) if standing.is_down() => {
            return Look::Bad(format!(
                "{unit} is {} (see `journalctl -u {unit}`)",
                standing.active
            ));
        }
        // systemd has it start again: it has died.
        Ok(standing) if standing.sub.starts_with("auto-restart") => {
            return Look::Bad(died(unit));
        }
        Ok(standing) if standing.active != "active" => {
            return Look::Wait(format!("{unit} is {}", standing.active));
        }
        Ok(_) => {}
        Err(failure) => return Look::Wait(failure.to_string()),
    }
    if let Some(service) = service {
        let (now, unread) = facts::library(work.root, service, &watched.places);
        if let Some(reason) = unread.first() {
            return Look::Wait(reason.clone());
        }
        if let lost @ Verdict::Lost(_) = guard(&story.library, &now) {
            return Look::Bad(format!("the library is not what it was: {lost}"));
        }
    }
    // Without an agent that it is active has to do: its start waited for a first good answer.
    match bus.health(&watched.name) {
        // Degraded is what an application says of itself while it answers: nothing that a change of hands could mend.
        Some((health, _)) if matches!(health.as_str(), "healthy" | "degraded") => Look::Good,
        Some((health, detail)) => Look::Wait(format!("{unit} is {health}: {detail}")),
        None => Look::Good,
    }
}
