//! What is known of applications: the files of `catalog/`, compiled in, with the user's own on top.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::check::Checker;
use crate::diagnostic::{Diagnostic, Severity, Sources, Span};
use crate::node::{Entry, Node, Table, Text, Value};
use crate::schema;
use crate::source::File;

/// The values of a file, as `build.rs` read them.
type BuiltIn = &'static [(Text, Entry)];

include!(concat!(env!("OUT_DIR"), "/catalog.rs"));

/// The entries that a configuration needs.
#[derive(Default)]
pub struct Catalog {
    entries: BTreeMap<String, Known>,
    generic: BTreeMap<&'static str, Table>,
}

struct Known {
    table: Table,
    /// Why the user's file for it cannot be used.
    wrong: Vec<Diagnostic>,
}

/// Names of all entries that are compiled in.
pub fn names() -> impl Iterator<Item = &'static str> {
    ENTRIES.iter().map(|(name, _)| *name)
}

/// The values of an entry that is compiled in.
pub fn built_in(name: &str) -> Option<Table> {
    find(ENTRIES, name)
}

fn find(files: &'static [(&str, BuiltIn)], name: &str) -> Option<Table> {
    let at = files.binary_search_by_key(&name, |(entry, _)| entry).ok()?;
    files.get(at).map(|(_, values)| Table::fixed(values))
}

impl Catalog {
    /// Takes the entries that are asked for, and all that the user has.
    pub fn load<'a>(
        wanted: impl Iterator<Item = &'a str>,
        user: Vec<(String, File)>,
        sources: &mut Sources,
    ) -> (Self, Vec<Diagnostic>) {
        sources.built_in(FILES);
        let mut catalog = Self::default();
        let mut said = Vec::new();
        for name in wanted {
            if !catalog.entries.contains_key(name)
                && let Some(table) = built_in(name)
            {
                catalog.entries.insert(name.to_owned(), Known::good(table));
            }
        }
        for (name, file) in user {
            let mut wrong = file.parsed.diagnostics(sources);
            let mut checker = Checker::new(sources);
            checker.table(&file.parsed.table, schema::SERVICE, schema::CATALOG);
            wrong.append(&mut checker.diagnostics);
            wrong.retain(|it| it.severity == Severity::Error);
            said.extend(wrong.iter().cloned());
            let fresh = || Known::good(built_in(&name).unwrap_or_default());
            let entry = catalog.entries.entry(name.clone()).or_insert_with(fresh);
            entry.table.merge(file.parsed.table);
            entry.wrong.extend(wrong);
        }
        (catalog, said)
    }

    /// The entry of that name, or the mistakes that make it unusable.
    pub fn get(&self, name: &str) -> Option<Result<&Table, &[Diagnostic]>> {
        self.entries.get(name).map(|entry| {
            if entry.wrong.is_empty() {
                Ok(&entry.table)
            } else {
                Err(entry.wrong.as_slice())
            }
        })
    }

    /// The values of an entry, right or wrong, also of one that nobody asked for.
    pub fn values(&self, name: &str) -> Option<Cow<'_, Table>> {
        match self.entries.get(name) {
            Some(entry) => Some(Cow::Borrowed(&entry.table)),
            None => built_in(name).map(Cow::Owned),
        }
    }

    /// Names of all entries, the user's own among them.
    pub fn every(&self) -> impl Iterator<Item = &str> {
        let built_in = ENTRIES.iter().map(|(name, _)| *name);
        let more = self.entries.keys().map(String::as_str);
        more.filter(|name| find(ENTRIES, name).is_none()).chain(built_in)
    }

    /// What is assumed of an image that no entry describes: the habits of LinuxServer and hotio are known.
    pub fn generic(&mut self, image: &str) {
        let name = generic_name(image);
        if let Some(table) = find(GENERIC, name) {
            self.generic.insert(name, table);
        }
    }

    /// The table that [`Catalog::generic`] made ready for this image.
    pub fn generic_for(&self, image: &str) -> Option<&Table> {
        self.generic.get(generic_name(image))
    }
}

impl Known {
    fn good(table: Table) -> Self {
        Self {
            table,
            wrong: Vec::new(),
        }
    }
}

fn generic_name(image: &str) -> &'static str {
    if is_linuxserver(image) {
        "linuxserver"
    } else {
        "other"
    }
}

/// Whether an image follows LinuxServer's habits (PUID and PGID, state at `/config`).
pub fn is_linuxserver(image: &str) -> bool {
    image.contains("/linuxserver/") || image.contains("/hotio/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node;

    #[test]
    fn every_entry_follows_the_schema_and_is_complete() {
        let mut sources = Sources::default();
        sources.built_in(FILES);
        for (file, (name, values)) in (0..).zip(ENTRIES.iter().chain(GENERIC)) {
            let file = u32::MAX - file;
            let parsed = node::parse_toml(sources.text(file), file);
            assert_eq!(
                parsed.table,
                Table::fixed(values),
                "{name}: build.rs reads something else"
            );
            let mut checker = Checker::new(&sources);
            checker.table(&parsed.table, schema::SERVICE, schema::CATALOG);
            let said: Vec<_> = parsed
                .diagnostics(&sources)
                .into_iter()
                .chain(checker.diagnostics)
                .collect();
            assert!(said.is_empty(), "{said:#?}");
            if find(GENERIC, name).is_none() {
                for key in [
                    "title",
                    "documentation",
                    "port",
                    "port-by",
                    "media",
                    "health",
                    "start-budget",
                    "native",
                ] {
                    assert!(parsed.table.get(key).is_some(), "{name}: no {key}");
                }
            }
        }
    }

    #[test]
    fn the_suite_and_its_friends_are_there() {
        let names: Vec<_> = names().collect();
        for name in [
            "sonarr",
            "radarr",
            "prowlarr",
            "bazarr",
            "transmission",
            "jellyfin",
            "lidarr",
            "readarr",
            "whisparr",
            "sabnzbd",
            "qbittorrent",
            "jellyseerr",
            "plex",
            "audiobookshelf",
            "flaresolverr",
        ] {
            assert!(names.contains(&name), "{name}");
        }
    }
}
