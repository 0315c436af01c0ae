//! `conflicts`: what stands in the suite's way, who it is, and what to do. The agent knows since when; without it, what the
//! kernel and systemd say at this moment is shown.

use std::fmt::Write as _;

use dagger_agent::adapter::bus::{ConflictView, Owner};
use dagger_agent::cli::ConflictsArgs;
use dagger_agent::domain::conflict::suggest::Suggestion;
use dagger_agent::domain::conflict::{self, Conflict, Holder, Kind, Known, MANAGER, Units, Wanted};
use dagger_agent::domain::verdict::Phase;
use dagger_suite::names::{Root, exit};
use serde::Serialize;

use crate::bus::Bus;
use crate::error::Error;
use crate::ports::{Look, Users, process, way_out};
use crate::screen::{Screen, print, print_json};
use crate::status::{now, report, without_agent};
use crate::suite::known;
use crate::text::{Cell, Tone, ago, clean, table};

/// One conflict. Field names are those of the JSON form, which scripts rely on: only ever add.
#[derive(Debug, Serialize)]
struct Row {
    kind: String,
    service: String,
    what: Option<String>,
    protocol: Option<String>,
    port: Option<u16>,
    namespace: Option<String>,
    unit: Option<String>,
    manager: Option<u32>,
    container: Option<String>,
    process: Option<String>,
    pid: Option<u32>,
    user: Option<u32>,
    address: Option<String>,
    /// Microseconds of CLOCK_REALTIME, 0 where nobody knows.
    since: u64,
    sentence: String,
    breaks: String,
    remedy: String,
}

/// Everything that is shown.
#[derive(Debug, Serialize)]
struct Report {
    conflicts: Vec<Row>,
    suggestions: Vec<Suggestion>,
}

/// `daggerctl conflicts`.
pub async fn conflicts(args: &ConflictsArgs, screen: Screen) -> Result<u8, Error> {
    let root = Root::from_env();
    let look = Look::now(&root);
    for word in &args.services {
        known(word, look.services.iter().map(|service| service.name.as_str()))?;
    }
    let bus = Bus::connect().await?;
    let (views, reason) = match bus.conflicts().await {
        Ok(views) => (views, None),
        Err(reason @ (Error::NoAgent(_) | Error::Failed(_))) => (unaided(&bus, &look).await?, Some(reason)),
        Err(other) => return Err(other),
    };
    let asked = |view: &ConflictView| args.services.is_empty() || args.services.contains(&view.service);
    let conflicts: Vec<Row> = views
        .into_iter()
        .filter(asked)
        .map(|view| row(&look, view))
        .collect();
    let suggestions = if args.suggest {
        suggestions(&look, &conflicts, &args.services)
    } else {
        Vec::new()
    };
    let found = !conflicts.is_empty();
    let shown = Report {
        conflicts,
        suggestions,
    };
    if args.json {
        print_json(&shown)?;
    } else {
        print(&text(&shown, &Users::read(&root), now(), screen.colour))?;
    }
    look.warn();
    let code = if found { exit::NOT_HEALTHY } else { exit::GOOD };
    Ok(without_agent("daggerctl", reason, code))
}

/// The same by what the kernel and systemd say.
async fn unaided(bus: &Bus, look: &Look) -> Result<Vec<ConflictView>, Error> {
    let (report, _) = report(bus).await?;
    let mut services = Vec::new();
    for service in &look.services {
        let wanted = conflict::wanted(service);
        let Some(known) = report
            .services
            .iter()
            .find(|known| known.view.name == wanted.service)
        else {
            continue;
        };
        let natively = known.view.owner == Owner::Native;
        let phase = Phase::of("loaded", &known.view.active_state, &known.view.sub_state);
        // Only the unit that owns the data was asked how it is.
        let units = Units {
            own: if natively { Phase::Stopped } else { phase },
            native: natively.then_some(phase),
            natively,
            ran: known.view.main_pid != 0,
        };
        services.push((wanted, units));
    }
    let services: Vec<(&Wanted, Units)> = services.iter().map(|(wanted, units)| (wanted, *units)).collect();
    let conflicts = conflict::conflicts(&services, &look.survey.held);
    let wanted_by = |name: &str| -> Vec<&str> {
        look.services
            .iter()
            .filter(|service| service.wants.iter().any(|wanted| wanted.as_str() == name))
            .map(|service| service.name.as_str())
            .collect()
    };
    Ok(conflicts
        .into_iter()
        .map(|conflict| {
            let wanted_by = wanted_by(&conflict.service);
            ConflictView::of(&Known { conflict, since: 0 }, &wanted_by)
        })
        .collect())
}

fn row(look: &Look, view: ConflictView) -> Row {
    let own = seen(look, &view);
    let process = own.and_then(|holder| holder.process.as_ref());
    let user = own.and_then(|holder| holder.user);
    let view = own.and_then(|holder| retold(look, &view, holder)).unwrap_or(view);
    Row {
        process: view.process.or(process.map(|process| process.name.clone())),
        pid: view.pid.or(process.map(|process| process.pid)),
        user: view.user.or(user),
        container: view.container,
        unit: view.unit,
        kind: view.kind,
        service: view.service,
        what: view.what,
        protocol: view.protocol,
        port: view.port,
        namespace: view.namespace,
        manager: view.manager,
        address: view.address,
        since: view.since,
        sentence: view.sentence,
        breaks: view.breaks,
        remedy: view.remedy,
    }
}

/// The same holder, as we see it ourselves: at the same address, and where several are there, of the same unit.
fn seen<'a>(look: &'a Look, view: &ConflictView) -> Option<&'a Holder> {
    let same = |held: &&conflict::Held| {
        held.namespace == view.namespace
            && Some(held.port.number) == view.port
            && Some(held.port.protocol.word()) == view.protocol.as_deref()
            && Some(held.holder.address.to_string()) == view.address
    };
    let all: Vec<&Holder> = look
        .survey
        .held
        .iter()
        .filter(same)
        .map(|held| &held.holder)
        .collect();
    match all.as_slice() {
        [one] => Some(one),
        several => several
            .iter()
            .copied()
            .find(|holder| holder.named() == view.unit.as_deref()),
    }
}

/// A conflict told again, where we know the holder's process: the agent's sandbox does not let it look into processes, so
/// it names the unit in which the socket was made. What systemd holds is told by the agent, which asks it for whom.
fn retold(look: &Look, view: &ConflictView, holder: &Holder) -> Option<ConflictView> {
    let kind = [Kind::Taken, Kind::Answered]
        .into_iter()
        .find(|kind| kind.word() == view.kind)?;
    if holder.process.is_none() || holder.is(MANAGER) {
        return None;
    }
    let service = look
        .services
        .iter()
        .find(|service| service.name.as_str() == view.service)?;
    let wanted = conflict::wanted(service);
    let claim = wanted.ports.into_iter().find(|claim| {
        Some(claim.port.number) == view.port && Some(claim.port.protocol.word()) == view.protocol.as_deref()
    })?;
    let conflict = Conflict {
        kind,
        service: wanted.service,
        unit: wanted.unit,
        claim: Some(claim),
        namespace: wanted.namespace,
        holder: Some(holder.clone()),
        native: None,
    };
    let known = Known {
        conflict,
        since: view.since,
    };
    Some(ConflictView {
        breaks: view.breaks.clone(),
        ..ConflictView::of(&known, &[])
    })
}

/// Another port for each that somebody else has, or for all of the services that are named.
fn suggestions(look: &Look, conflicts: &[Row], named: &[String]) -> Vec<Suggestion> {
    let mut all: Vec<Suggestion> = Vec::new();
    for service in &look.services {
        let name = service.name.as_str();
        for claim in &service.ports {
            let taken = conflicts.iter().any(|row| {
                row.service == name
                    && row.port == Some(claim.port)
                    && row.protocol.as_deref() == Some(claim.protocol.word())
            });
            let known = all
                .iter()
                .any(|other| other.service == name && other.what == claim.name);
            if !known && (taken || named.iter().any(|word| word == name)) {
                all.extend(look.suggest(service, claim));
            }
        }
    }
    all
}

fn text(report: &Report, users: &Users, now: u64, colour: bool) -> String {
    let mut text = String::new();
    if report.conflicts.is_empty() {
        text.push_str("no conflicts\n");
    } else {
        let mut rows = vec![
            ["SERVICE", "WHAT", "HELD BY", "PROCESS", "USER", "SINCE"]
                .map(|name| Cell::left(name, Tone::Heading))
                .to_vec(),
        ];
        rows.extend(report.conflicts.iter().map(|row| cells(row, users, now)));
        text.push_str(&table(&rows, colour));
    }
    for row in &report.conflicts {
        let _ = write!(
            text,
            "\n{}: {}\n  {}\n",
            row.service,
            clean(&row.sentence),
            clean(&row.breaks)
        );
    }
    for suggestion in &report.suggestions {
        text.push('\n');
        text.push_str(&way_out(suggestion, colour));
    }
    text
}

fn cells(row: &Row, users: &Users, now: u64) -> Vec<Cell> {
    let what = match (&row.protocol, row.port, &row.what) {
        (Some(protocol), Some(port), Some(what)) => format!("{protocol} {port} ({what})"),
        _ => "data".into(),
    };
    let unit = match (&row.unit, row.manager) {
        (Some(unit), Some(user)) => format!("{unit} of {}", users.name(user)),
        (Some(unit), None) => unit.clone(),
        (None, _) => String::new(),
    };
    vec![
        Cell::left(&row.service, Tone::Plain),
        Cell::left(what, Tone::Plain),
        Cell::left(row.container.as_ref().unwrap_or(&unit), Tone::Bad),
        Cell::left(process(row.process.as_deref(), row.pid), Tone::Plain),
        Cell::left(
            row.user.map(|user| users.name(user)).unwrap_or_default(),
            Tone::Plain,
        ),
        Cell::left(ago(row.since, now), Tone::Plain),
    ]
}
