//! The three other names of this program, which scripts written for nixarr look for. They say what is known today.

use dagger_agent::adapter::bus::Owner;
use dagger_agent::domain::health::Health;
use dagger_suite::names::{Root, exit};
use serde::Serialize;

use crate::bus::Bus;
use crate::error::Error;
use crate::report::Report;
use crate::screen::{Screen, print, print_json};
use crate::show::{NOTHING, summary as summary_text, tone};
use crate::status::{now, report, without_agent};
use crate::suite::Suite;
use crate::text::{Cell, Tone, clean, table};

/// The names, as they stand before an error.
pub const MIGRATE: &str = "nixarr-migrate";
/// What is said of a service that is half way; its name stands before and behind it.
pub const INTERRUPTED: &str = ": something was begun with it and is not over: nixarr-migrate resume ";
/// See [`migration_status`].
pub const MIGRATION_STATUS: &str = "nixarr-migration-status";
/// See [`summary`].
pub const SUMMARY: &str = "dagger-nixarr-summary";

/// One row of `nixarr-migration-status`. Field names are those of the JSON form.
#[derive(Debug, Serialize)]
pub struct Row {
    name: String,
    owner: Owner,
    native_units: Vec<Native>,
    health: Health,
    health_detail: String,
    /// What stands in its way, one sentence each.
    conflicts: Vec<String>,
    /// What a job is doing to it; empty: none is.
    work: String,
    /// Something was begun with it and is not over, and no job is at work on that.
    interrupted: bool,
}

/// A native unit that may own the same data.
#[derive(Debug, Serialize)]
struct Native {
    name: String,
    present: bool,
}

/// `nixarr-migration-status`.
pub async fn migration_status(json: bool, screen: Screen) -> Result<u8, Error> {
    let (rows, reason) = owners().await?;
    if json {
        print_json(&rows)?;
    } else {
        print(&text(&rows, screen.colour))?;
    }
    Ok(without_agent(MIGRATION_STATUS, reason, exit::GOOD))
}

/// Who owns every service; with the reason why the agent did not say it, where it did not.
pub async fn owners() -> Result<(Vec<Row>, Option<Error>), Error> {
    let suite = Suite::read(Root::from_env());
    let asked = match Bus::connect().await {
        Ok(bus) => report(&bus).await,
        Err(reason) => Err(reason),
    };
    // The owner can be said without any bus at all.
    let (report, reason) = asked.unwrap_or_else(|reason| (Report::of_systemd(suite.unasked()), Some(reason)));
    Ok((rows(&suite, report), reason))
}

fn rows(suite: &Suite, report: Report) -> Vec<Row> {
    let native = |name: &str| {
        let configured = suite
            .services()
            .iter()
            .find(|service| service.name.as_str() == name);
        let units = configured.map_or(&[][..], |service| service.native.as_slice());
        units
            .iter()
            .map(|(name, present)| Native {
                name: name.clone(),
                present: *present,
            })
            .collect()
    };
    let services = report.services.into_iter().map(|service| service.view);
    services
        .map(|view| Row {
            native_units: native(&view.name),
            name: view.name,
            owner: view.owner,
            health: view.health,
            health_detail: view.health_detail,
            conflicts: view.conflicts,
            work: view.work,
            interrupted: view.interrupted,
        })
        .collect()
}

/// The owners as a table, with what should be known below it.
pub fn text(rows: &[Row], colour: bool) -> String {
    if rows.is_empty() {
        return NOTHING.to_owned();
    }
    let headings = ["SERVICE", "OWNER", "NATIVE UNIT", "HEALTH"];
    let mut lines = vec![
        headings
            .iter()
            .map(|name| Cell::left(name, Tone::Heading))
            .collect::<Vec<_>>(),
    ];
    lines.extend(rows.iter().map(|row| {
        let present: Vec<_> = row
            .native_units
            .iter()
            .filter(|unit| unit.present)
            .map(|unit| unit.name.as_str())
            .collect();
        let native = if present.is_empty() {
            "not present".to_owned()
        } else {
            present.join(", ")
        };
        vec![
            Cell::left(&row.name, Tone::Plain),
            Cell::left(row.owner.word(), Tone::Plain),
            Cell::left(native, Tone::Plain),
            Cell::left(row.health.word(), tone(row.health)),
        ]
    }));
    let mut text = table(&lines, colour);
    for row in rows {
        if !row.work.is_empty() {
            text.extend(["\n", &row.name, " is ", &clean(&row.work), "\n"]);
        }
        if row.interrupted {
            text.extend(["\n", &row.name, INTERRUPTED, &row.name, "\n"]);
        }
        for conflict in &row.conflicts {
            text.extend(["\n", &row.name, ": ", &clean(conflict), "\n"]);
        }
    }
    text
}

/// `dagger-nixarr-summary`.
pub async fn summary(screen: Screen) -> Result<u8, Error> {
    let (report, reason) = report(&Bus::connect().await?).await?;
    print(&summary_text(&report, now(), screen.colour))?;
    let good = report.configuration_errors.is_empty()
        && report.services.iter().all(|s| {
            matches!(s.view.health, Health::Healthy | Health::Inactive) && s.view.conflicts.is_empty()
        });
    Ok(without_agent(
        SUMMARY,
        reason,
        if good { exit::GOOD } else { exit::NOT_HEALTHY },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_service_has_an_owner_and_its_native_unit() {
        let row = |name: &str, owner, present| Row {
            name: name.into(),
            owner,
            native_units: vec![Native {
                name: format!("{name}.service"),
                present,
            }],
            health: Health::Healthy,
            health_detail: String::new(),
            conflicts: Vec::new(),
            work: String::new(),
            interrupted: false,
        };
        let rows = [
            row("radarr", Owner::Native, true),
            Row {
                conflicts: vec!["TCP port 8989 of sonarr is answered by web.service, too: stop it".into()],
                ..row("sonarr", Owner::Container, false)
            },
        ];
        assert_eq!(
            text(&rows, false),
            "\
SERVICE  OWNER      NATIVE UNIT     HEALTH
radarr   native     radarr.service  healthy
sonarr   container  not present     healthy

sonarr: TCP port 8989 of sonarr is answered by web.service, too: stop it
"
        );
    }
}
