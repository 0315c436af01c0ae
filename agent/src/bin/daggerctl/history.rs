//! `history`: what happened to the services, by the journal. The agent reads it for everybody; without the agent the
//! client reads it itself, which takes a user that may.

use dagger_agent::adapter::past;
use dagger_agent::cli::HistoryArgs;
use dagger_agent::domain::health::Health;
use dagger_suite::names::{Root, ServiceName, exit};
use serde::Serialize;

use crate::bus::Bus;
use crate::error::Error;
use crate::screen::{Screen, print, print_json, warn};
use crate::show::tone;
use crate::status::without_agent;
use crate::suite::{Suite, known};
use crate::text::{Cell, Tone, table};
use crate::when;

/// One event. Field names are those of the JSON form.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Row {
    /// When, in microseconds of CLOCK_REALTIME.
    time_usec: u64,
    service: String,
    /// What happened, in one word: a verdict, `recovery-started`, `paused`.
    event: String,
    message: String,
}

/// `daggerctl history`.
pub async fn history(args: &HistoryArgs, screen: Screen) -> Result<u8, Error> {
    let (rows, reason) = match by_agent(args).await {
        Ok(rows) => (rows, None),
        Err(reason @ (Error::NoAgent(_) | Error::Failed(_))) => match by_journal(args).await? {
            Ok(rows) => (rows, Some(reason)),
            Err(error) => {
                warn(
                    "daggerctl",
                    &format!("the journal cannot be read here either: {error}"),
                );
                return Err(reason);
            }
        },
        Err(other) => return Err(other),
    };
    let rows = newest(rows, args.lines);
    if args.json {
        print_json(&rows)?;
    } else if rows.is_empty() {
        print("nothing has happened, as far as the journal knows\n")?;
    } else {
        let times: Vec<u64> = rows.iter().map(|row| row.time_usec).collect();
        print(&text(&rows, &when::local(&times), screen.colour))?;
    }
    Ok(without_agent("daggerctl", reason, exit::GOOD))
}

/// What the agent tells.
async fn by_agent(args: &HistoryArgs) -> Result<Vec<Row>, Error> {
    let bus = Bus::connect().await?;
    let report = bus.report().await?;
    let names = match &args.service {
        Some(word) => vec![known(word, report.names())?],
        None => report
            .names()
            .map(|name| ServiceName::parse(name).map_err(Error::Failed))
            .collect::<Result<_, _>>()?,
    };
    let mut rows = Vec::new();
    for name in names {
        let events = bus.history(&name, args.lines).await?;
        rows.extend(events.into_iter().map(|(time_usec, event, message)| Row {
            time_usec,
            service: name.to_string(),
            event,
            message,
        }));
    }
    Ok(rows)
}

/// What the journal tells, where this user may read it. The outer error is about the command line.
async fn by_journal(args: &HistoryArgs) -> Result<std::io::Result<Vec<Row>>, Error> {
    let suite = Suite::read(Root::from_env());
    let names = match &args.service {
        Some(word) => suite.names(std::slice::from_ref(word))?,
        None => suite
            .services()
            .iter()
            .map(|service| service.name.clone())
            .collect(),
    };
    let mut rows = Vec::new();
    for name in names {
        match past::events(name.as_str(), args.lines).await {
            Ok(events) => rows.extend(events.into_iter().map(|event| Row {
                time_usec: event.at,
                service: name.to_string(),
                event: event.what,
                message: event.message,
            })),
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(rows))
}

/// The newest so many of all, oldest first.
fn newest(mut rows: Vec<Row>, count: u32) -> Vec<Row> {
    rows.sort_by_key(|row| row.time_usec);
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    rows.split_off(rows.len().saturating_sub(count))
}

/// A line for each event: when, and what. The message names the service.
fn text(rows: &[Row], times: &[String], colour: bool) -> String {
    let lines: Vec<_> = rows
        .iter()
        .zip(times)
        .map(|(row, time)| {
            vec![
                Cell::left(time, Tone::Dim),
                Cell::left(&row.message, tone_of(&row.event)),
            ]
        })
        .collect();
    table(&lines, colour)
}

fn tone_of(event: &str) -> Tone {
    match event {
        "recovery-finished" => Tone::Good,
        "waiting" | "recovery-started" => Tone::Warn,
        "given-up" | "media-lost" => Tone::Bad,
        verdict => match Health::from_word(verdict) {
            Health::Inactive | Health::Unknown => Tone::Plain,
            health => tone(health),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_all_services_are_merged_by_time() {
        let row = |time_usec, service: &str, event: &str| Row {
            time_usec,
            service: service.into(),
            event: event.into(),
            message: format!("{service} is {event}"),
        };
        let rows = vec![
            row(1, "radarr", "healthy"),
            row(5, "radarr", "unhealthy"),
            row(3, "sonarr", "starting"),
            row(4, "sonarr", "healthy"),
        ];
        let rows = newest(rows, 3);
        let times: Vec<String> = rows.iter().map(|row| format!("t{}", row.time_usec)).collect();
        assert_eq!(
            text(&rows, &times, false),
            "t3  sonarr is starting\nt4  sonarr is healthy\nt5  radarr is unhealthy\n"
        );
        assert!(newest(Vec::new(), 3).is_empty());
    }
}
