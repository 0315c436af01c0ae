//! What a shadow is made of, and what a rehearsal has found.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use dagger_agent::adapter::listed;
use dagger_agent::adapter::tree::{self, Changes, Noted, Seen, Tree};
use dagger_agent::adapter::{facts, image};
use dagger_agent::domain::library::Counts;
use dagger_agent::domain::plan::bytes;
use dagger_agent::domain::ports::suggest::free_port;
use dagger_agent::domain::transaction::{Failure, Step, Verb};
use dagger_suite::model::{IdentityStyle, Network, Protocol};
use dagger_suite::names::{Root, ServiceName};
use serde_json::{Value, json};

use crate::look::Looked;
use crate::run::Refused;
use crate::shadow;
use crate::story::{Shadow, Story};
use crate::world::Work;

/// The steps of a migration, beside the start, in which its service is away.
const AWAY: [Step; 5] = [Step::Stop, Step::Refresh, Step::Check, Step::Adjust, Step::Flip];

/// So many paths of a kind are named in a sentence, and so many in the journal.
const NAMED: usize = 3;
const LISTED: usize = 50;

/// The shadow that a service gets.
pub fn made(root: &Root, looked: &Looked, story: &Story, verb: Verb) -> Result<Shadow, Refused> {
    let service = &looked.service;
    let name = service.name.shadow()?;
    let suite = dagger_suite::load(root).suite;
    if suite.services.iter().any(|other| other.name == name) {
        return Err(Refused {
            why: format!("{name}, as its shadow would be called, is a service of the suite"),
            todo: Some(format!("give that one another name than [services.{name}]")),
        });
    }
    for file in story.edits.iter().map(|edit| &edit.file).chain(&story.databases) {
        shadow::moved(story, &service.name, file)?;
    }
    let main = service.ports.iter().find(|claim| claim.protocol == Protocol::Tcp);
    let port = match main {
        Some(main) if verb == Verb::Shadow => {
            let mut taken = listed::of_the_machine()
                .map_err(|error| format!("which ports are taken cannot be read: {error}"))?;
            taken.extend(claimed(&suite.services));
            Some(free(main.port, &taken)?)
        }
        _ => None,
    };
    let table = table(looked, story, &name, port)?;
    Ok(Shadow {
        name: name.to_string(),
        port,
        table,
    })
}

/// The ports of the host that services of the suite have, running or not.
fn claimed(services: &[dagger_suite::model::Service]) -> impl Iterator<Item = u16> {
    services.iter().flat_map(|service| {
        let on_host = !matches!(service.network, Network::Namespace(_));
        let own = service.ports.iter().filter(move |_| on_host);
        own.map(|claim| claim.port).chain(service.front)
    })
}

/// What Linux takes for outgoing connections by itself: a network of one's own says nothing of the machine's.
fn free(wanted: u16, taken: &BTreeSet<u16>) -> Result<u16, Refused> {
    let found = free_port(wanted, |port| taken.contains(&port), &(32768..=60999));
    found.ok_or_else(|| Refused::from("no port is free that it could be looked at by".to_owned()))
}

/// Its table in the configuration, with what is different about it: nothing of what the user wrote is in it.
fn table(looked: &Looked, story: &Story, name: &ServiceName, port: Option<u16>) -> Result<String, Refused> {
    let service = &looked.service;
    let mut text = format!(
        "# The shadow of {0}, by `nixarr-migrate`. It goes with `nixarr-migrate discard {0}`, and with the next boot.\n\
         [services.{name}]\nshadow-of = \"{0}\"\nnetwork = \"private\"\nhealth = {{ host = \"127.0.0.1\" }}\n",
        service.name
    );
    // Writing to a text cannot fail.
    if let Some(port) = port {
        let _ = writeln!(text, "front-port = {port}");
    }
    if service.identity.style != IdentityStyle::Image
        && let Some(to) = story.run_as
    {
        let _ = writeln!(text, "user = {}\ngroup = {}", to.uid, to.gid);
    }
    let _ = writeln!(text, "[services.{name}.state]");
    for mount in &service.state {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if !mount.role.chars().all(plain) {
            return Err(format!("{:?} is no name of a directory", mount.role).into());
        }
        let _ = writeln!(
            text,
            "{} = \"{}\"",
            mount.role,
            shadow::data(&service.name, &mount.role)
        );
    }
    Ok(text)
}

/// What the container has made of the copy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// What the library holds.
    library: Counts,
    /// The databases' schemas, by their files' names.
    schemas: Vec<(String, String)>,
    /// The application's version in the image, as far as that says.
    version: Option<String>,
    /// What became of the files, by role.
    changes: Vec<(String, Changes)>,
}

/// How the copy's directories are now, by role.
pub fn seen(work: &Work<'_>, story: &Story) -> Result<Vec<(String, Seen)>, String> {
    let look = |(role, path): (String, String)| {
        let tree = Tree::open(&work.root.join(path)).map_err(|error| error.to_string())?;
        let seen = Seen::of(&tree, &tree::Progress::default()).map_err(|error| error.to_string())?;
        Ok((role, seen))
    };
    story.shadow_places(work.service).into_iter().map(look).collect()
}

/// What the container has made of the copy's files.
fn changes(work: &Work<'_>, story: &Story) -> Result<Vec<(String, Changes)>, String> {
    let now = seen(work, story)?;
    let before = work.before.iter().zip(&now);
    Ok(before
        .map(|((role, before), (_, now))| (role.clone(), before.until(now)))
        .collect())
}

/// Looks at the copy that the container runs on.
pub fn look(work: &mut Work<'_>, story: &Story) -> Result<Value, Failure> {
    let shadow = story.shadow()?;
    let services = dagger_suite::load(work.root).suite.services;
    let service = services.into_iter().find(|it| it.name.as_str() == shadow.name);
    let service = service.ok_or_else(|| format!("{} has left the configuration", shadow.name))?;
    let held = facts::holdings(work.root, &service, &story.shadow_places(work.service));
    let schemas = held.databases.iter().filter_map(|database| {
        let name = database.path.rsplit('/').next()?.to_owned();
        Some((name, database.schema.as_ref()?.to_string()))
    });
    let found = Found {
        schemas: schemas.collect(),
        version: image::recorded(work.root, work.service)
            .ok()
            .flatten()
            .map(|image| image.version)
            .filter(|version| !version.is_empty()),
        library: held.library,
        changes: changes(work, story)?,
    };
    found
        .changes
        .iter()
        .for_each(|(role, changes)| list(role, changes));
    let note = json!({ "schemas": found.schemas });
    work.found = Some(found);
    Ok(note)
}

/// What is said when all went well.
pub fn sentence(work: &Work<'_>, story: &Story) -> String {
    let service = work.service;
    let Story { size, label, .. } = story;
    let took = |step: Step| work.took(step).unwrap_or_default();
    let planned = AWAY.into_iter().filter_map(|step| story.cost(step));
    let away = planned.sum::<u64>() + took(Step::StartShadow);
    let stop = if story.ran && story.cost(Step::Stop).is_none() {
        format!(" and for as long as {} takes to stop", story.native)
    } else {
        String::new()
    };
    let mut said = format!(
        "the rehearsal of {service}'s migration went well, and nothing of it is left; the real one copies {} in {} files \
         (here {}) while {} runs, and is away for about {}{stop}",
        bytes(size.bytes),
        size.files,
        seconds(took(Step::Clone)),
        story.native,
        seconds(away),
    );
    let found = work.found.clone().unwrap_or_default();
    if let Some(version) = &found.version {
        let _ = match &label.version {
            Some(before) if before == version => write!(said, "; its version stays {version}"),
            Some(before) => write!(said, "; its version goes from {before} to {version}"),
            None => write!(said, "; the image has version {version}"),
        };
    }
    for (name, schema) in &found.schemas {
        let _ = match label.schemas.get(name) {
            Some(before) if before != schema => {
                write!(said, "; {name} goes from schema {before} to {schema}")
            }
            _ => write!(said, "; {name} keeps its schema {schema}"),
        };
    }
    for edit in &story.edits {
        let key = edit.key.join(".");
        let _ = write!(said, "; {key} in {} becomes {:?}", edit.file, edit.after);
    }
    if let Some(gift) = story.gift {
        let _ = write!(said, "; the files of {} become those of {}", gift.from, gift.to);
    }
    let items = found.library.items.iter().filter(|(_, count)| **count > 0);
    let held = items.map(|(what, count)| format!("{count} {what}"));
    let roots = found.library.roots.len();
    let held: Vec<_> = held
        .chain((roots > 0).then(|| format!("{roots} root folders")))
        .collect();
    if !held.is_empty() {
        let _ = write!(said, "; the container found {}", held.join(", "));
    }
    said.push_str(&files(&found.changes));
    said
}

/// The three things that become of files.
fn kinds(changes: &Changes) -> [(&'static str, &Noted); 3] {
    [
        ("changed", &changes.changed),
        ("made", &changes.made),
        ("removed", &changes.removed),
    ]
}

/// For the journal, more of them than a sentence holds.
fn list(role: &str, changes: &Changes) {
    for (what, noted) in kinds(changes) {
        for path in noted.first.iter().take(LISTED) {
            println!("{what} in {role}: {path}");
        }
        if let more @ 1.. = noted.count.saturating_sub(LISTED as u64) {
            println!("{what} in {role}: {more} more");
        }
    }
}

/// `; of the files in config it changed 2 (sonarr.db, config.xml), made none and removed none`.
fn files(changes: &[(String, Changes)]) -> String {
    let mut said = String::new();
    for (role, became) in changes {
        let [written, made, removed] = kinds(became).map(|(what, noted)| {
            let first: Vec<String> = noted.first.iter().take(NAMED).map(ToString::to_string).collect();
            match noted.count {
                0 => format!("{what} none"),
                count if count > NAMED as u64 => format!("{what} {count} ({}, ...)", first.join(", ")),
                count => format!("{what} {count} ({})", first.join(", ")),
            }
        });
        // Writing to a text cannot fail.
        let _ = write!(
            said,
            "; of the files in {role} it {written}, {made} and {removed}"
        );
    }
    said
}

fn seconds(ms: u64) -> String {
    if ms < 1000 {
        return format!("{ms} ms");
    }
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_the_files_is_one_sentence_with_the_first_of_them() {
        let some = |names: &[&str]| {
            let mut noted = Noted::default();
            for name in names {
                noted.note(name.as_ref());
            }
            noted
        };
        let changes = Changes {
            changed: some(&["sonarr.db"]),
            made: some(&["logs/1", "logs/2", "logs/3", "logs/4"]),
            removed: Noted::default(),
        };
        assert_eq!(
            files(&[("config".into(), changes)]),
            "; of the files in config it changed 1 (sonarr.db), made 4 (logs/1, logs/2, logs/3, ...) and removed none"
        );
    }
}
