//! Probation: the new side has to be well for a while, and to hold what the old one held.

use std::time::{Duration, Instant};

use dagger_agent::adapter::facts;
use dagger_agent::domain::job::Amount;
use dagger_agent::domain::library::{Verdict, guard};
use dagger_agent::domain::transaction::{Failure, Side};
use dagger_suite::model::Service;
use serde_json::{Value, json};

use crate::bus::cancelled;
use crate::story::Story;
use crate::world::Work;

/// What one look has found.
enum Look {
    /// All is well.
    Good,
    /// Not yet, and why.
    Wait(String),
    /// It will not be.
    Bad(String),
}

/// Watches until so many looks in a row were good.
pub fn watch(work: &Work<'_>, story: &Story, side: Side) -> Result<Value, Failure> {
    let bus = work
        .bus
        .ok_or_else(|| "nothing can be watched while the machine boots".to_owned())?;
    work.teller.work(None, Amount::default());
    let service = service(work);
    let every = Duration::from_millis(story.every_ms.max(100));
    let end = Instant::now() + Duration::from_millis(story.patience_ms);
    let mut good = 0;
    let mut why = String::new();
    while good < story.checks {
        if bus.cancel().is_asked() {
            return Err(cancelled().into());
        }
        match look(work, story, side, service.as_ref()) {
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
    Ok(json!({ "checks": good }))
}

/// The service as the configuration has it; one that has left it is watched by its unit alone.
fn service(work: &Work<'_>) -> Option<Service> {
    let services = dagger_suite::load(work.root).suite.services;
    services.into_iter().find(|service| service.name == *work.service)
}

fn look(work: &Work<'_>, story: &Story, side: Side, service: Option<&Service>) -> Look {
    let unit = story.unit(side);
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
            return Look::Bad(format!("{unit} has died (see `journalctl -u {unit}`)"));
        }
        Ok(standing) if standing.active != "active" => {
            return Look::Wait(format!("{unit} is {}", standing.active));
        }
        Ok(_) => {}
        Err(failure) => return Look::Wait(failure.to_string()),
    }
    if let Some(service) = service {
        let places: Vec<_> = story
            .places
            .iter()
            .map(|place| (place.role.clone(), place.path.clone()))
            .collect();
        let (now, unread) = facts::library(work.root, service, &places);
        if let Some(reason) = unread.first() {
            return Look::Wait(reason.clone());
        }
        if let lost @ Verdict::Lost(_) = guard(&story.library, &now) {
            return Look::Bad(format!("the library is not what it was: {lost}"));
        }
    }
    // Without an agent that it is active has to do: its start waited for a first good answer.
    match bus.health(work.service) {
        // Degraded is what an application says of itself while it answers: nothing that a change of hands could mend.
        Some((health, _)) if matches!(health.as_str(), "healthy" | "degraded") => Look::Good,
        Some((health, detail)) => Look::Wait(format!("{unit} is {health}: {detail}")),
        None => Look::Good,
    }
}
