//! Native units that must keep their condition although the service they belong to cannot run: after a typo in a
//! migrated service's table, or in the file as a whole, the native unit must not start on the container's data.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog;
use crate::layers::Layers;
use crate::model::{Broken, Guard, Service};
use crate::names::ServiceName;
use crate::node::Table;
use crate::source::UnitDirs;
use crate::value;

/// The native units that are on this machine and belong to what cannot run. With `torn` the configuration as a whole is
/// in doubt: then every application of the catalogue may be one that was migrated. Where no marker is, the condition
/// changes nothing.
pub fn guards(
    units: &UnitDirs,
    merged: &Table,
    broken: &[Broken],
    services: &[Service],
    torn: bool,
) -> Vec<Guard> {
    let covered: BTreeSet<&str> = services
        .iter()
        .flat_map(|service| &service.native)
        .map(|native| native.name.as_str())
        .collect();
    let mut guards: BTreeMap<String, Guard> = BTreeMap::new();
    let mut guard = |service: &ServiceName, unit: String| {
        if !covered.contains(unit.as_str()) && units.hold(&unit) {
            guards.entry(unit.clone()).or_insert_with(|| Guard {
                service: service.clone(),
                unit,
            });
        }
    };
    for it in broken {
        let name = it.name.as_str();
        let table = merged.table("services").and_then(|services| services.table(name));
        for unit in own(table).into_iter().chain(known(name)) {
            guard(&it.name, unit);
        }
    }
    let running = |name: &str| services.iter().any(|service| service.name.as_str() == name);
    for name in catalog::names().filter(|name| torn && !running(name)) {
        if let Ok(service) = ServiceName::parse(name) {
            for unit in known(name) {
                guard(&service, unit);
            }
        }
    }
    guards.into_values().collect()
}

/// What the user names, as far as it is a unit at all: the table is one that has mistakes.
fn own(table: Option<&Table>) -> Vec<String> {
    let layers = Layers {
        user: table,
        ..Layers::default()
    };
    let mut units = layers.texts("native");
    units.retain(|unit| value::unit(unit).is_ok());
    units
}

/// What the catalogue names.
fn known(name: &str) -> Vec<String> {
    let entry = catalog::built_in(name);
    let layers = Layers {
        base: entry.as_ref(),
        ..Layers::default()
    };
    layers.texts("native")
}
