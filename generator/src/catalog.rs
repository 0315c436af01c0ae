//! What is known of applications: the files of `catalog/`, compiled in, with the user's own on top.

use std::collections::BTreeMap;

use crate::check::Checker;
use crate::diagnostic::{Diagnostic, Severity, Sources};
use crate::node::{self, Table};
use crate::schema;
use crate::source::File;

include!(concat!(env!("OUT_DIR"), "/catalog.rs"));

/// The entries that a configuration needs.
#[derive(Default)]
pub struct Catalog {
    entries: BTreeMap<String, Entry>,
    generic: BTreeMap<String, Table>,
}

struct Entry {
    table: Table,
    /// Why the user's file for it cannot be used.
    wrong: Vec<Diagnostic>,
}

/// Names of all entries that are compiled in.
pub fn names() -> impl Iterator<Item = &'static str> {
    ENTRIES.iter().map(|(name, _)| *name)
}

/// Text of an entry that is compiled in.
pub fn text(name: &str) -> Option<&'static str> {
    find(ENTRIES, name)
}

fn find(files: &'static [(&str, &str)], name: &str) -> Option<&'static str> {
    files
        .binary_search_by_key(&name, |(entry, _)| entry)
        .ok()
        .and_then(|at| files.get(at))
        .map(|(_, text)| *text)
}

impl Catalog {
    /// Takes the entries that are asked for: each is parsed only when some service needs it, because this runs at
    /// every boot.
    pub fn load<'a>(
        wanted: impl Iterator<Item = &'a str>,
        user: Vec<(String, File)>,
        sources: &mut Sources,
    ) -> (Self, Vec<Diagnostic>) {
        let mut catalog = Self::default();
        let mut said = Vec::new();
        for name in wanted {
            if !catalog.entries.contains_key(name)
                && let Some(text) = text(name)
            {
                let table = built_in(name, text, sources);
                catalog.entries.insert(
                    name.to_owned(),
                    Entry {
                        table,
                        wrong: Vec::new(),
                    },
                );
            }
        }
        for (name, file) in user {
            let mut wrong = file.parsed.diagnostics(sources);
            let mut checker = Checker::new(sources);
            checker.table(&file.parsed.table, schema::SERVICE, schema::CATALOG);
            wrong.append(&mut checker.diagnostics);
            wrong.retain(|it| it.severity == Severity::Error);
            said.extend(wrong.iter().cloned());
            if !catalog.entries.contains_key(&name) {
                let table = text(&name)
                    .map(|text| built_in(&name, text, sources))
                    .unwrap_or_default();
                catalog.entries.insert(
                    name.clone(),
                    Entry {
                        table,
                        wrong: Vec::new(),
                    },
                );
            }
            if let Some(entry) = catalog.entries.get_mut(&name) {
                entry.table.merge(file.parsed.table);
                entry.wrong.extend(wrong);
            }
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

    /// What is assumed of an image that no entry describes: the habits of LinuxServer and hotio are known.
    pub fn generic(&mut self, image: &str, sources: &mut Sources) {
        let name = generic_name(image);
        if !self.generic.contains_key(name)
            && let Some(text) = find(GENERIC, name)
        {
            self.generic
                .insert(name.to_owned(), built_in(name, text, sources));
        }
    }

    /// The table that [`Catalog::generic`] made ready for this image.
    pub fn generic_for(&self, image: &str) -> Option<&Table> {
        self.generic.get(generic_name(image))
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

fn built_in(name: &str, text: &'static str, sources: &mut Sources) -> Table {
    let file = sources.add(format!("catalog/{name}.toml"), text);
    node::parse_toml(text, file).table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_follows_the_schema_and_is_complete() {
        for (name, text) in ENTRIES.iter().chain(GENERIC) {
            let mut sources = Sources::default();
            let file = sources.add(*name, *text);
            let parsed = node::parse_toml(text, file);
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
