//! Native units that must keep their condition although the service they belong to does not run: after a typo in a
//! migrated service's table, or when it was turned off or taken out, the native unit must not start on the container's
//! data, or beside the container that is still running. Where no marker is, the condition changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::Catalog;
use crate::installed::Installed;
use crate::layers::Layers;
use crate::model::{Guard, Service};
use crate::names::ServiceName;
use crate::node::{Table, Value};
use crate::value;

/// The native units of everything that does not run: whatever a table of the configuration names, and of the catalogue
/// those that are on this machine.
pub fn guards(installed: &Installed, merged: &Table, catalog: &Catalog, services: &[Service]) -> Vec<Guard> {
    let mut guards = Guards::new(services);
    let tables = || merged.table("services").into_iter().flat_map(Table::iter);
    for (name, entry) in tables() {
        if let Value::Table(table) = &entry.node.value {
            guards.add(name, own(table), |_| true);
        }
    }
    for name in catalog.every() {
        guards.add(name, known(catalog, name), |unit| installed.hold(unit));
    }
    guards.found.into_values().collect()
}

struct Guards<'a> {
    running: BTreeSet<&'a str>,
    /// Native units of what runs: those have their condition from there.
    covered: BTreeSet<&'a str>,
    found: BTreeMap<String, Guard>,
}

impl<'a> Guards<'a> {
    fn new(services: &'a [Service]) -> Self {
        let natives = services.iter().flat_map(|service| &service.native);
        Self {
            running: services.iter().map(|service| service.name.as_str()).collect(),
            covered: natives.map(|native| native.name.as_str()).collect(),
            found: BTreeMap::new(),
        }
    }

    /// The first one that names a unit keeps it.
    fn add(&mut self, name: &str, units: Vec<String>, wanted: impl Fn(&str) -> bool) {
        if self.running.contains(name) {
            return;
        }
        let Ok(service) = ServiceName::parse(name) else {
            return;
        };
        for unit in units {
            if !self.covered.contains(unit.as_str()) && !self.found.contains_key(&unit) && wanted(&unit) {
                let service = service.clone();
                self.found.insert(unit.clone(), Guard { service, unit });
            }
        }
    }
}

/// What the user names, as far as it is a unit at all: the table may be one that has mistakes.
fn own(table: &Table) -> Vec<String> {
    units(Layers {
        user: Some(table),
        ..Layers::default()
    })
}

/// What the catalogue names.
fn known(catalog: &Catalog, name: &str) -> Vec<String> {
    let entry = catalog.values(name);
    units(Layers {
        base: entry.as_deref(),
        ..Layers::default()
    })
}

fn units(layers: Layers<'_>) -> Vec<String> {
    let mut units = layers.texts("native");
    units.retain(|unit| value::unit(unit).is_ok());
    units
}
