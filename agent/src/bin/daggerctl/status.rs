//! `status`, `health`, `check`: what is asked of the agent.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dagger_agent::adapter::bus::Owner;
use dagger_agent::cli::{HealthArgs, StatusArgs};
use dagger_agent::domain::health::Health;
use dagger_suite::names::{Root, exit};
use serde::Serialize;
use tokio::time::{sleep, timeout};

use crate::bus::Bus;
use crate::error::Error;
use crate::report::Report;
use crate::screen::{Screen, print, print_json, warn};
use crate::show;
use crate::suite::{Suite, known};

/// A burst of signals is one change: how long the burst may last.
const BURST: Duration = Duration::from_millis(100);
/// Memory and spans of time change without a signal: how often they are drawn anew on a terminal.
const REFRESH: Duration = Duration::from_secs(5);
/// Clears a terminal: home, erase to the end (ECMA-48).
const CLEAR: &str = "\x1b[H\x1b[J";

/// One line of `health` and `check`. Field names are those of the JSON form.
#[derive(Debug, Serialize)]
struct Verdict {
    name: String,
    health: Health,
    health_detail: String,
}

/// Now, in microseconds of CLOCK_REALTIME.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// The report of the agent, or of systemd together with the reason why the agent said nothing.
pub async fn report(bus: &Bus) -> Result<(Report, Option<Error>), Error> {
    match bus.report().await {
        Ok(report) => Ok((report, None)),
        Err(reason) => {
            // systemd's own failure would only hide the reason that matters.
            let Ok(units) = bus.units().await else {
                return Err(reason);
            };
            let suite = Suite::read(Root::from_env());
            let mut services = suite.complete(units);
            for service in services
                .iter_mut()
                .filter(|service| service.view.owner == Owner::Native)
            {
                // As the agent does it: the unit that is shown is the one that owns the data.
                if let Some(unit) = suite.native_unit(&service.view.name) {
                    unit.clone_into(&mut service.view.unit);
                    bus.observe(service).await;
                }
            }
            Ok((Report::of_systemd(services), Some(reason)))
        }
    }
}

/// The same of these services alone; all without any.
async fn report_of(bus: &Bus, services: &[String]) -> Result<(Report, Option<Error>), Error> {
    let (mut report, reason) = report(bus).await?;
    for word in services {
        if let Err(error) = known(word, report.names()) {
            let suite = Suite::read(Root::from_env());
            let mistake = suite.mistake(word);
            return Err(mistake.map_or(error, |mistake| {
                Error::Failed(format!("{word} cannot start: {}", crate::text::clean(mistake)))
            }));
        }
    }
    if !services.is_empty() {
        report.only(services);
    }
    Ok((report, reason))
}

/// Ends a command that worked with what systemd knows: the sentence goes beside the output, the code says it too.
pub fn without_agent(program: &str, reason: Option<Error>, code: u8) -> u8 {
    reason.map_or(code, |reason| {
        warn(
            program,
            &format!("{reason}; the above is what can be said without it"),
        );
        reason.exit()
    })
}

/// `daggerctl status`.
pub async fn status(services: &[String], args: &StatusArgs, screen: Screen) -> Result<u8, Error> {
    let bus = Bus::connect().await?;
    if args.watch {
        return watch(&bus, services, args.json, screen).await;
    }
    let (report, reason) = report_of(&bus, services).await?;
    if args.json {
        print_json(&report)?;
    } else {
        print(&show::status(&report, now(), screen.colour))?;
    }
    Ok(without_agent("daggerctl", reason, exit::GOOD))
}

/// Shows the status anew at every change, until the reader or the bus goes away. On a terminal each takes the place of the
/// last; elsewhere each is a block of its own, or one line of JSON, and only what differs is written.
async fn watch(bus: &Bus, services: &[String], json: bool, screen: Screen) -> Result<u8, Error> {
    // Before the first report, so that no change falls between the two.
    let mut changes = bus.changes().await?;
    let mut last = String::new();
    loop {
        let (report, reason) = report_of(bus, services).await?;
        let mut text = if json {
            let line = serde_json::to_string(&report);
            line.map_err(|error| Error::Failed(format!("cannot make JSON: {error}")))? + "\n"
        } else {
            show::status(&report, now(), screen.colour)
        };
        if let Some(reason) = reason.filter(|_| !json) {
            text = format!("{text}\n{reason}; the above is what can be said without it\n");
        }
        let drawn = match (screen.terminal && !json, text == last) {
            (true, _) => print(&format!("{CLEAR}{text}"))?,
            (false, true) => true,
            (false, false) => print(&if json || last.is_empty() {
                text.clone()
            } else {
                format!("\n{text}")
            })?,
        };
        if !drawn {
            return Ok(exit::GOOD);
        }
        last = text;
        if screen.terminal {
            // A refresh that no signal asked for is what the time limit is for.
            timeout(REFRESH, changes.next()).await.unwrap_or(Ok(()))?;
        } else {
            changes.next().await?;
        }
        let burst = sleep(BURST);
        tokio::pin!(burst);
        loop {
            tokio::select! {
                () = &mut burst => break,
                next = changes.next() => next?,
            }
        }
    }
}

/// `daggerctl health`: what the agent thinks, without asking the applications.
pub async fn health(args: &HealthArgs, screen: Screen) -> Result<u8, Error> {
    let report = Bus::connect().await?.report().await?;
    for word in &args.services {
        known(word, report.names())?;
    }
    let asked = |name: &str| args.services.is_empty() || args.services.iter().any(|word| word == name);
    let verdicts = report
        .services
        .iter()
        .map(|service| &service.view)
        .filter(|view| asked(&view.name));
    let verdicts: Vec<_> = verdicts
        .map(|view| Verdict {
            name: view.name.clone(),
            health: view.health,
            health_detail: view.health_detail.clone(),
        })
        .collect();
    let mistakes = if args.services.is_empty() {
        report.configuration_errors
    } else {
        Vec::new()
    };
    say(&verdicts, &mistakes, args.json, screen)
}

/// `daggerctl check`: asks the applications now.
pub async fn check(args: &HealthArgs, screen: Screen) -> Result<u8, Error> {
    let bus = Bus::connect().await?;
    let checked = if args.services.is_empty() {
        bus.check_all().await?
    } else {
        let report = bus.report().await?;
        let mut checked = Vec::new();
        for word in &args.services {
            checked.push(bus.check(&known(word, report.names())?).await?);
        }
        checked
    };
    let verdicts: Vec<_> = checked
        .into_iter()
        .map(|(name, health, health_detail)| Verdict {
            name,
            health: Health::from_word(&health),
            health_detail,
        })
        .collect();
    let mistakes = if verdicts.is_empty() {
        bus.report().await?.configuration_errors
    } else {
        Vec::new()
    };
    say(&verdicts, &mistakes, args.json, screen)
}

/// Prints verdicts; the code says whether all of them are good.
fn say(verdicts: &[Verdict], mistakes: &[String], json: bool, screen: Screen) -> Result<u8, Error> {
    if json {
        print_json(&verdicts)?;
    } else if verdicts.is_empty() && mistakes.is_empty() {
        print(show::NOTHING)?;
    } else {
        let lines = verdicts
            .iter()
            .map(|v| (v.name.as_str(), v.health, v.health_detail.as_str()));
        print(&show::verdicts(lines, screen.colour))?;
    }
    for mistake in mistakes {
        warn(
            "daggerctl",
            &format!("configuration: {}", crate::text::clean(mistake)),
        );
    }
    let good = mistakes.is_empty() && verdicts.iter().all(|verdict| verdict.health == Health::Healthy);
    Ok(if good { exit::GOOD } else { exit::NOT_HEALTHY })
}
