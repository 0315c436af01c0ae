//! Time zones that this machine does not know. Whether they are written as zones are is checked elsewhere; which there are, only
//! the database says.

use crate::check::Checker;
use crate::diagnostic::nearest;
use crate::model::Service;
use crate::names::Root;
use crate::node::{Node, Table, Value};

/// Where the database lies (tzfile(5)).
const ZONES: &str = "/usr/share/zoneinfo";

/// Warns of each zone that the user wrote and the database does not hold. podman refuses to start a container with it.
pub fn check(root: &Root, services: &[Service], merged: &Table, checker: &mut Checker<'_>) {
    // Without the database nothing is known.
    if !root.join(ZONES).is_dir() {
        return;
    }
    let suite = merged.table("suite").and_then(|table| table.get("timezone"));
    let one = |service: &Service| {
        let table = merged.table("services")?.table(service.name.as_str())?;
        table.get("timezone")
    };
    tell(root, suite, checker);
    for service in services {
        checker.service = Some(service.name.as_str().to_owned());
        tell(root, one(service), checker);
        checker.service = None;
    }
}

fn tell(root: &Root, node: Option<&Node>, checker: &mut Checker<'_>) {
    let Some(Node {
        value: Value::Text(zone),
        at,
        ..
    }) = node
    else {
        return;
    };
    // Podman's word for the zone of the machine.
    if zone.as_ref() == "local" || root.join(ZONES).join(zone.as_ref()).is_file() {
        return;
    }
    let names = beside(root, zone);
    let help = nearest(zone, names.iter().map(String::as_str)).map_or_else(
        || "`timedatectl list-timezones` lists them".to_owned(),
        |near| format!("did you mean {near:?}? `timedatectl list-timezones` lists them"),
    );
    checker.warning(
        *at,
        format!("this machine knows no time zone {zone:?} (it is not below {ZONES}): containers do not start with it"),
        Some(help),
    );
}

/// The zones of the same area: a misspelt city is the usual mistake.
fn beside(root: &Root, zone: &str) -> Vec<String> {
    let (area, _) = zone.rsplit_once('/').unwrap_or_default();
    let Ok(entries) = std::fs::read_dir(root.join(ZONES).join(area)) else {
        return Vec::new();
    };
    let names = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    names
        .map(|name| {
            if area.is_empty() {
                name
            } else {
                format!("{area}/{name}")
            }
        })
        .collect()
}
