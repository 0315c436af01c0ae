//! `dagger-job quick-check`: a damaged database is found while there is still a backup of a good one (Radarr#9007,
//! Sonarr#5924).

use std::path::{Path, PathBuf};

use dagger_agent::adapter::clock::realtime_usec;
use dagger_agent::adapter::database::{self, Found};
use dagger_agent::adapter::disk::{self, Leaf};
use dagger_agent::adapter::well::{self, Source, Well};
use dagger_agent::domain::wellness;
use dagger_suite::model::Service;
use dagger_suite::names::Root;

/// Where copies lie while they are looked at; the unit's `CacheDirectory=`, 0700.
const SPACE: &str = "/var/cache/dagger/quick-check";

/// Checks the services that are named, or all. A service that does not run is left alone: nobody writes to it.
pub fn run(root: &Root, words: &[String]) -> Result<(), Vec<String>> {
    let services = well::chosen(dagger_suite::load(root).suite.services, words)?;
    let space = root.join(SPACE);
    let leaf = Leaf {
        mode: 0o700,
        owner: None,
    };
    disk::make_dir(&space, leaf).map_err(|error| vec![error.to_string()])?;
    let mut reasons = Vec::new();
    for service in services {
        if service.databases.is_empty() || !well::runs(root, &service.name) {
            continue;
        }
        let well = check(root, &service, &space);
        if let Err(error) = well::write(root, &service.name, Source::Databases, &well) {
            reasons.push(format!(
                "what was found out about {} cannot be kept: {error}",
                service.name
            ));
        }
    }
    if reasons.is_empty() { Ok(()) } else { Err(reasons) }
}

fn check(root: &Root, service: &Service, space: &Path) -> Well {
    let (mut problems, mut errors) = (Vec::new(), Vec::new());
    for path in &service.databases {
        match one(root, path, space) {
            Ok(problem) => problems.extend(problem),
            Err(error) => errors.push(format!("{path} was not checked: {error}")),
        }
    }
    Well {
        at: realtime_usec(),
        problems: wellness::bounded(problems, &[]),
        identity: None,
        error: (!errors.is_empty()).then(|| wellness::clean(&errors.join("; "), &[])),
    }
}

/// The problem with one database, if any; the error says why it was not looked at.
fn one(root: &Root, path: &str, space: &Path) -> Result<Option<String>, String> {
    let source = root.join(path);
    let copy = space.join("copy.db");
    // Also what a run left that lost power.
    database::clear(&copy)?;
    let found = database::check(&source, &copy);
    database::clear(&copy)?;
    let name = PathBuf::from(path)
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    Ok(match found? {
        Found::Nothing | Found::Good => None,
        Found::Damaged(how) => Some(format!(
            "{name} is damaged: {how}; stop the service and restore a backup"
        )),
    })
}
