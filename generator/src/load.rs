//! From files to the suite: find, read, check, merge, resolve, compare. Never fails: what is wrong becomes diagnostics
//! and services that refuse to start.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::beside::{self, PortOf};
use crate::catalog::Catalog;
use crate::check::Checker;
use crate::cross;
use crate::diagnostic::{Diagnostic, Severity, Sources, Span};
use crate::guard;
use crate::installed::Installed;
use crate::layers::{Layers, number, text};
use crate::model::{Broken, Keep, Service, Suite};
use crate::names::{self, Root, ServiceName};
use crate::node::{Node, Table, Value};
use crate::schema::{self, Kind};
use crate::service::{self, Context, Defaults};
use crate::shadow;
use crate::source::{self, File};
use crate::spread::spread;
use crate::value;

/// Everything that came of the configuration.
pub struct Loaded {
    /// The services that can run.
    pub suite: Suite,
    /// The services that cannot, each with its reasons.
    pub broken: Vec<Broken>,
    /// Every mistake and every warning, in the order of the files.
    pub diagnostics: Vec<Diagnostic>,
    /// Whether there was any configuration at all.
    pub configured: bool,
}

impl Loaded {
    /// Mistakes that belong to no service: they go to the unit that stands for the configuration as a whole.
    pub fn file_errors(&self) -> impl Iterator<Item = &Diagnostic> {
        self.diagnostics
            .iter()
            .filter(|it| it.severity == Severity::Error && it.service.is_none())
    }
}

/// Reads the configuration below the root.
pub fn load(root: &Root) -> Loaded {
    load_and(root, None)
}

/// The same, with a look at what stands beside the suite on this machine: see [`crate::beside`].
pub fn load_beside(root: &Root, port_of: PortOf<'_>) -> Loaded {
    load_and(root, Some(port_of))
}

fn load_and(root: &Root, look_beside: Option<PortOf<'_>>) -> Loaded {
    let mut found = source::find(root);
    let mut diagnostics = std::mem::take(&mut found.unreadable);
    let configured = !found.config.is_empty() || !diagnostics.is_empty();
    let mut merged = Table::default();
    let mut checked = Checked::default();
    for file in found.config {
        checked.file(&file, &found.sources);
        merged.merge(file.parsed.table);
    }
    shadow::inherit(&mut merged);
    let entries = enabled(&merged);
    let wanted = entries.iter().map(|(name, table, _)| kind_of(name, table));
    let (mut catalog, said) = Catalog::load(wanted, found.catalog, &mut found.sources);
    diagnostics.extend(said);
    for (name, table, _) in &entries {
        if catalog.get(kind_of(name, table)).is_none() {
            let image = table.get("image").and_then(text).unwrap_or_default();
            catalog.generic(image);
        }
    }
    let sources = &found.sources;
    let defaults = Defaults::new(merged.table("suite"));
    let installed = Installed::find(root);
    let resolved = spread(&entries, |entries| {
        let mut resolver = Resolver {
            installed: &installed,
            merged: &merged,
            catalog: &catalog,
            defaults: &defaults,
            checker: Checker::new(sources),
            services: Vec::with_capacity(entries.len()),
        };
        for (name, table, at) in entries {
            if !checked.hurt.contains_key(*name) && !checked.wrong.contains(*name) {
                resolver.service(name, table, *at);
            }
        }
        (resolver.services, resolver.checker.diagnostics)
    });
    let mut compared = Checker::new(sources);
    let mut resolved = resolved.into_iter();
    // Grown in place: moving all services into a list of their own would touch twice the memory.
    let (mut services, said) = resolved.next().unwrap_or_default();
    compared.diagnostics.extend(said);
    for (some, said) in resolved {
        services.extend(some);
        compared.diagnostics.extend(said);
    }
    cross::check(&mut services, &merged, defaults.media.as_deref(), &mut compared);
    diagnostics.append(&mut checked.diagnostics);
    diagnostics.append(&mut compared.diagnostics);
    let broken = broken(&merged, &diagnostics, &checked.hurt, sources);
    services.retain(|service| !broken.iter().any(|it| it.name == service.name));
    let guards = guard::guards(&installed, &merged, &catalog, &services);
    if let Some(port_of) = look_beside {
        let mut beside = Checker::new(sources);
        let places = cross::Places { merged: &merged };
        beside::check(root, &services, &guards, &catalog, port_of, &places, &mut beside);
        diagnostics.append(&mut beside.diagnostics);
    }
    let suite = Layers {
        user: merged.table("suite"),
        ..Layers::default()
    };
    Loaded {
        suite: Suite {
            guards,
            off: off(&merged),
            services,
            start_at_boot: suite.boolean("start-at-boot").unwrap_or(true),
            probation: suite.duration("probation").unwrap_or(Duration::from_secs(30)),
            library_guard: suite.boolean("library-guard").unwrap_or(true),
            keep: keep(suite),
            podman: suite.owned("podman").unwrap_or_else(|| names::PODMAN.into()),
            source: main_source(&merged, sources),
        },
        broken,
        diagnostics,
        configured,
    }
}

fn keep(suite: Layers<'_>) -> Keep {
    let default = Keep::default();
    Keep {
        count: suite
            .node("snapshots-count")
            .and_then(number)
            .unwrap_or(default.count),
        age: suite.duration("snapshots-age").unwrap_or(default.age),
        floor: suite
            .owned("snapshots-floor")
            .and_then(|text| value::bytes(&text).ok())
            .unwrap_or(default.floor),
    }
}

/// The catalogue entry that a service is made from.
fn kind_of<'a>(name: &'a str, table: &'a Table) -> &'a str {
    table.get("like").and_then(text).unwrap_or(name)
}

/// The services that are not turned off, with the places of their names.
fn enabled(merged: &Table) -> Vec<(&str, &Table, Span)> {
    let services = merged.table("services").into_iter().flat_map(Table::iter);
    services
        .filter_map(|(name, entry)| match &entry.node.value {
            Value::Table(table) => Some((name, table, entry.key_at)),
            _ => None,
        })
        .filter(|(_, table, _)| !is_off(table))
        .collect()
}

/// The services that are turned off.
fn off(merged: &Table) -> Vec<ServiceName> {
    let tables = merged.table("services").into_iter().flat_map(Table::iter);
    tables
        .filter(|(_, entry)| matches!(&entry.node.value, Value::Table(table) if is_off(table)))
        .filter_map(|(name, _)| ServiceName::parse(name).ok())
        .collect()
}

fn is_off(table: &Table) -> bool {
    matches!(
        table.get("enable"),
        Some(Node {
            value: Value::Boolean(false),
            ..
        })
    )
}

fn main_source(merged: &Table, sources: &Sources) -> String {
    let at = merged
        .entry("suite")
        .or_else(|| merged.entry("services"))
        .map(|entry| entry.key_at.file);
    at.map_or_else(
        || "/etc/dagger/dagger.toml".to_owned(),
        |file| sources.name(file).to_owned(),
    )
}

/// Mistakes in single files, and which services they make unusable.
#[derive(Default)]
struct Checked {
    diagnostics: Vec<Diagnostic>,
    /// Service name -> why, for mistakes that are not its own diagnostics.
    hurt: BTreeMap<String, Vec<String>>,
    /// Services with mistakes of their own: nothing more is made of their values.
    wrong: BTreeSet<String>,
}

impl Checked {
    fn file(&mut self, file: &File, sources: &Sources) {
        let errors = file.parsed.diagnostics(sources);
        if let Some(first) = errors.first() {
            self.torn(file, first, sources);
        }
        self.diagnostics.extend(errors);
        let mut checker = Checker::new(sources);
        for (key, entry) in file.parsed.table.iter() {
            let before = checker.diagnostics.len();
            match &entry.node.value {
                Value::Table(services) if key == "services" => {
                    for (name, entry) in services.iter() {
                        // A name that is none has no unit to carry the message.
                        checker.service = ServiceName::parse(name).ok().map(|_| name.to_owned());
                        checker.node(name, &entry.node, &Kind::Table(schema::SERVICE));
                    }
                    checker.service = None;
                }
                _ => checker.table(&Table::of(key, entry.clone()), schema::FILE, &[]),
            }
            if key == "suite" {
                // Without [suite] as it was meant, no service would run as it was meant.
                let reasons = checker.diagnostics.iter().skip(before).map(Diagnostic::one_line);
                self.hurt.entry(EVERY.into()).or_default().extend(reasons);
            }
        }
        for name in checker.diagnostics.iter().filter_map(|it| it.service.clone()) {
            self.wrong.insert(name);
        }
        self.diagnostics.append(&mut checker.diagnostics);
    }

    /// A file with a syntax error: what stands before the error counts, what comes from there on is refused. The parser
    /// goes on behind an error, but what it then sees need not be what was meant.
    fn torn(&mut self, file: &File, first: &Diagnostic, sources: &Sources) {
        let start = file.parsed.errors.first().map_or(0, |(at, _)| at.start) as usize;
        let headers = headers(sources.text(file.id));
        // A text that was never closed swallows the tables behind it, and belongs to the one before them.
        let swallowed = |header: &Header<'_>| match header.service {
            "" => file.parsed.table.get(header.top).is_none(),
            name => file
                .parsed
                .table
                .table("services")
                .is_none_or(|table| table.get(name).is_none()),
        };
        let mut any = false;
        for (index, header) in headers.iter().enumerate() {
            let next = headers.get(index + 1);
            let end = next.map_or(usize::MAX, |next| next.at);
            if end > start || swallowed(header) || next.is_some_and(swallowed) {
                any = true;
                let name = if header.service.is_empty() {
                    EVERY
                } else {
                    header.service
                };
                self.hurt
                    .entry(name.to_owned())
                    .or_default()
                    .push(first.one_line());
            }
        }
        if !any {
            self.hurt.entry(EVERY.into()).or_default().push(first.one_line());
        }
    }
}

/// Stands for all services; not a name that one can have.
const EVERY: &str = "*";

/// A table header of a TOML text: `[services.NAME...]`, or another one with an empty name.
struct Header<'a> {
    at: usize,
    /// First part of its name.
    top: &'a str,
    service: &'a str,
}

fn headers(text: &str) -> Vec<Header<'_>> {
    let mut headers = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim();
        if trimmed.starts_with('[') {
            let (top, rest) = first_part(trimmed.trim_start_matches('['));
            let service = rest
                .strip_prefix('.')
                .filter(|_| top == "services")
                .map_or("", |rest| first_part(rest).0);
            headers.push(Header { at, top, service });
        }
        at += line.len();
    }
    headers
}

/// The first part of a dotted name, and what comes behind it.
fn first_part(path: &str) -> (&str, &str) {
    let path = path.trim_start().trim_start_matches(['"', '\'']);
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let end = path.find(|c| !plain(c)).unwrap_or(path.len());
    let (part, rest) = path.split_at(end);
    (part, rest.trim_start_matches(['"', '\'']).trim_start())
}

/// The services that cannot run, with every reason.
fn broken(
    merged: &Table,
    diagnostics: &[Diagnostic],
    hurt: &BTreeMap<String, Vec<String>>,
    sources: &Sources,
) -> Vec<Broken> {
    let mut reasons: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for it in diagnostics.iter().filter(|it| it.severity == Severity::Error) {
        if let Some(name) = &it.service {
            reasons.entry(name).or_default().push(it.one_line());
        }
    }
    for (name, why) in hurt.iter().filter(|(name, _)| *name != EVERY) {
        reasons.entry(name).or_default().extend(why.iter().cloned());
    }
    if reasons.is_empty() && hurt.is_empty() {
        return Vec::new();
    }
    let enabled = enabled(merged);
    if let Some(why) = hurt.get(EVERY).filter(|why| !why.is_empty()) {
        for (name, _, _) in &enabled {
            reasons.entry(name).or_default().extend(why.iter().cloned());
        }
    }
    let at = |name| merged.table("services").and_then(|services| services.entry(name));
    let off = |name: &str| {
        let table = merged.table("services").and_then(|services| services.table(name));
        table.is_some() && !enabled.iter().any(|(other, ..)| *other == name)
    };
    reasons
        .into_iter()
        .filter(|(name, _)| !off(name))
        .filter_map(|(name, messages)| {
            let file = at(name).map(|entry| entry.key_at.file);
            let source = file.map_or_else(
                || main_source(merged, sources),
                |file| sources.name(file).to_owned(),
            );
            // A name that is none has no unit: its mistakes go to the configuration's own.
            ServiceName::parse(name).ok().map(|name| Broken {
                name,
                messages,
                source,
            })
        })
        .collect()
}

struct Resolver<'a> {
    merged: &'a Table,
    installed: &'a Installed,
    catalog: &'a Catalog,
    defaults: &'a Defaults,
    checker: Checker<'a>,
    services: Vec<Service>,
}

impl<'a> Resolver<'a> {
    fn service(&mut self, name: &str, table: &Table, at: Span) {
        let parsed = match ServiceName::parse(name) {
            Ok(parsed) => parsed,
            Err(problem) => {
                self.checker.service = None;
                self.checker.error(at, problem, None);
                return;
            }
        };
        self.checker.service = Some(name.to_owned());
        if self.is_nobodys_shadow(table) {
            return;
        }
        let kind = kind_of(name, table);
        let base = match self.catalog.get(kind) {
            Some(Ok(base)) => Some(base),
            Some(Err(wrong)) => {
                let first = wrong.first().map(Diagnostic::one_line).unwrap_or_default();
                self.checker
                    .error(at, format!("its catalogue entry cannot be used: {first}"), None);
                return;
            }
            None => self.unknown_kind(kind, table),
        };
        let mut layers = Layers {
            user: Some(table),
            layout: None,
            base,
        };
        layers.layout = service::layout(layers, &mut self.checker);
        let context = Context {
            defaults: self.defaults,
            name: parsed,
            kind,
            at,
            source: self.checker.sources.name(at.file).to_owned(),
            installed: self.installed,
        };
        self.services
            .extend(service::resolve(context, layers, &mut self.checker));
    }

    /// A shadow needs a service that it is the shadow of, and that is not a shadow itself.
    fn is_nobodys_shadow(&mut self, table: &Table) -> bool {
        let Some(node) = table.get(shadow::KEY) else {
            return false;
        };
        let origin = text(node).unwrap_or_default();
        let services = self.merged.table("services");
        let found = services.and_then(|services| services.table(origin));
        let good = found.is_some_and(|origin| origin.get(shadow::KEY).is_none() && !is_off(origin));
        if !good {
            let problem = format!("there is no service {origin:?} that it could be the shadow of");
            self.checker.error(node.at, problem, None);
        }
        !good
    }

    /// Only the name may lead nowhere: a service that the user describes needs no entry, `like` does.
    fn unknown_kind(&mut self, kind: &str, table: &Table) -> Option<&'a Table> {
        if let Some(node) = table.get("like") {
            let near = crate::diagnostic::nearest(kind, crate::catalog::names());
            let help = near.map(|near| format!("did you mean {near:?}?"));
            self.checker.error(
                node.at,
                format!("there is nothing {kind:?} in the catalogue"),
                help,
            );
        }
        let image = table.get("image").and_then(text).unwrap_or_default();
        self.catalog.generic_for(image)
    }
}

#[cfg(test)]
mod tests;
