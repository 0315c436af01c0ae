//! The way back to the native unit: what stands in it, found before anything is stopped.

use std::path::Path;
use std::sync::Arc;

use dagger_agent::adapter::snapshot::Store;
use dagger_agent::adapter::transaction::past;
use dagger_agent::adapter::tree;
use dagger_agent::domain::job::Request;
use dagger_agent::domain::plan::facts::{Facts, Schema};
use dagger_agent::domain::plan::schema::{Knows, knows};
use dagger_agent::domain::snapshot::Label;
use dagger_agent::domain::transaction::record::Ending;
use dagger_agent::domain::transaction::{Data, Progress, Verb};
use dagger_suite::diagnostic::Diagnostic;
use dagger_suite::names::{Root, ServiceName};

use crate::bus::Bus;
use crate::look::{self, Looked};
use crate::run::{Ready, Refused, ready as begin};
use crate::story::Story;

/// Looks, and makes the transaction of it.
pub fn ready(
    root: &Root,
    dir: &Path,
    service: &ServiceName,
    request: &Request,
    bus: &Bus,
) -> Result<Ready, Refused> {
    let Some(looked) = look::look(root, service, bus, false)? else {
        return Err(unknown(root, service));
    };
    if !looked.facts.owned {
        return Err(Refused {
            why: format!("{service}'s data belongs to its native unit already"),
            todo: None,
        });
    }
    let Some(native) = &looked.facts.native else {
        return Err(no_native(&looked));
    };
    let before = migrated(dir, service)?;
    let story = before.as_ref().map(Story::told).transpose()?;
    let snapshot = match request.data {
        Data::Keep => {
            legible(service, &looked.facts, story.as_ref(), &looked.service.kind)?;
            None
        }
        Data::Restore => Some(chosen(root, service, request, before.as_ref(), bus)?),
    };
    let container = bus
        .standing(&looked.service.name.unit())
        .map_err(|failure| failure.to_string())?;
    let story = Story {
        native: native.unit.clone(),
        ran: !container.is_down(),
        gift: story.as_ref().and_then(|story| story.gift),
        edits: story.map(|story| story.edits).unwrap_or_default(),
        label: label(&looked),
        ..looked.story()
    };
    let options = story.options(request.data, snapshot);
    Ok(begin(service, Verb::Rollback, options, None, story))
}

/// A service that has left the configuration, is turned off or broken in it. Where its data lies, which its native unit is
/// and what keeps that one away meanwhile is all said there: with it the way back is the usual one.
fn unknown(root: &Root, service: &ServiceName) -> Refused {
    let loaded = dagger_suite::load(root);
    let again = format!("run `systemctl daemon-reload`, then `nixarr-migrate rollback {service}`");
    let broken = loaded.broken.iter().find(|broken| broken.name == *service);
    let mistake = match broken {
        Some(broken) => broken.messages.first().cloned(),
        None => loaded.file_errors().next().map(Diagnostic::one_line),
    };
    let (why, todo) = if let Some(mistake) = mistake {
        (
            format!("its configuration cannot be read: {mistake}"),
            format!("mend that (`daggerctl config check`), {again}"),
        )
    } else if loaded.suite.off.contains(service) {
        (
            format!("{service} is turned off (`enable = false`)"),
            format!("take that line out, {again}, and turn it off again"),
        )
    } else {
        (
            format!(
                "{service} is not in the configuration, which says where its data is and which its native unit"
            ),
            format!(
                "put [services.{service}] back into /etc/dagger/dagger.toml, {again}, and take the table out when it is native"
            ),
        )
    };
    let todo = Some(todo);
    Refused { why, todo }
}

fn no_native(looked: &Looked) -> Refused {
    let names: Vec<_> = looked
        .service
        .native
        .iter()
        .map(|unit| unit.name.as_str())
        .collect();
    Refused {
        why: format!("{} has no native unit on this machine", looked.service.name),
        todo: Some(if names.is_empty() {
            format!(
                "name it: `native = \"UNIT.service\"` in [services.{}]",
                looked.service.name
            )
        } else {
            format!("install the package that has {} again", names.join(" or "))
        }),
    }
}

/// Whether it has brought the service into its container.
pub fn has_moved(progress: &Progress) -> bool {
    let verb = progress.transaction().verb;
    matches!(verb, Verb::Migrate | Verb::Promote) && progress.ending() == Some(Ending::Committed)
}

/// The migration that the service came to its container by; none: it never was native here, or the log is gone.
pub fn migrated(dir: &Path, service: &ServiceName) -> Result<Option<Progress>, Refused> {
    let past = past(dir, service).map_err(|error| Refused::from(error.to_string()))?;
    let mut found = past.into_iter().map(|past| past.progress);
    Ok(found.rfind(has_moved))
}

/// The snapshot that the data becomes. It is read through first: a damaged one is no way back.
fn chosen(
    root: &Root,
    service: &ServiceName,
    request: &Request,
    before: Option<&Progress>,
    bus: &Bus,
) -> Result<String, Refused> {
    let id = match (&request.snapshot, before) {
        (Some(id), _) => id.clone(),
        (None, Some(before)) => before.transaction().id.clone(),
        (None, None) => {
            return Err(Refused {
                why: format!("there is no migration of {service} whose snapshot could be put back"),
                todo: Some(format!("name one: nixarr-migrate snapshots {service} lists them")),
            });
        }
    };
    let work = Arc::new(tree::Progress::default());
    bus.cancel().guards(Some(Arc::clone(&work)));
    let found = Store::new(root)
        .find(service, &id)
        .and_then(|snapshot| snapshot.verify(&tree::Options::default(), &work));
    bus.cancel().guards(None);
    let verdicts = found.map_err(|error| Refused::from(error.to_string()))?;
    match verdicts.values().find_map(tree::Verdict::damage) {
        None => Ok(id),
        Some(damage) => Err(Refused {
            why: format!("the snapshot {id} is damaged: {damage}"),
            todo: Some(format!(
                "name another one (nixarr-migrate snapshots {service} --verify), or go back with the data as it is: nixarr-migrate rollback {service}"
            )),
        }),
    }
}

/// Whether the native version can read what the container's has made of the data. It is known when the schema is still
/// the one that was migrated, or when that version is known to know it.
fn legible(service: &ServiceName, facts: &Facts, before: Option<&Story>, kind: &str) -> Result<(), Refused> {
    let version = before.and_then(|story| story.label.version.clone());
    for database in &facts.databases {
        let Some(schema) = &database.schema else { continue };
        let name = database.path.rsplit('/').next().unwrap_or(&database.path);
        let was = before.and_then(|story| story.label.schemas.get(name));
        if was.is_none_or(|was| *was == schema.to_string()) {
            continue;
        }
        if let (Schema::Number(number), Some(version)) = (schema, &version)
            && knows(kind, version, *number) == Knows::Yes
        {
            continue;
        }
        return Err(Refused {
            why: format!(
                "the container has brought {name} from schema {} to {schema}, and the native version cannot be expected to read that",
                was.map_or("?", String::as_str)
            ),
            todo: Some(format!(
                "either go back to the data as it was (nixarr-migrate rollback {service} --to-snapshot; what was added since stays in a snapshot), or bring the native install to the container's version first"
            )),
        });
    }
    Ok(())
}

/// The image's own words on it: it was the container that ran on the data.
fn label(looked: &Looked) -> Label {
    let image = looked.facts.image.as_ref();
    Label {
        version: image
            .map(|image| image.version.clone())
            .filter(|version| !version.is_empty()),
        digest: image
            .map(|image| image.digest.clone())
            .filter(|digest| !digest.is_empty()),
        ..looked.label("rollback")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_configuration_does_not_know_is_told_its_way_back() {
        let dir = std::env::temp_dir().join(format!("dagger-rollback-unknown-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(dir.join("etc/dagger")).unwrap();
        let root = Root::new(dir.canonicalize().unwrap());
        let sonarr = ServiceName::parse("sonarr").unwrap();
        for (toml, said, first) in [
            (
                "[suite]\n",
                "is not in the configuration",
                "put [services.sonarr] back",
            ),
            (
                "[services.sonarr]\nenable = false\n",
                "is turned off",
                "take that line out",
            ),
            ("[services.sonarr]\nprot = 1\n", "unknown key `prot`", "mend that"),
            ("[suite\n", "cannot be read", "mend that"),
        ] {
            std::fs::write(dir.join("etc/dagger/dagger.toml"), toml).unwrap();
            let refused = unknown(&root, &sonarr);
            let todo = refused.todo.unwrap();
            assert!(refused.why.contains(said), "{toml:?}: {}", refused.why);
            assert!(
                todo.starts_with(first) && todo.contains("`nixarr-migrate rollback sonarr`"),
                "{toml:?}: {todo}"
            );
        }
        std::fs::remove_dir_all(dir).unwrap();
    }
}
