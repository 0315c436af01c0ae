//! Which snapshots are kept: the policy is looked after at the end of each job, and once a week of all services.

use dagger_agent::adapter::clock::realtime_usec;
use dagger_agent::adapter::snapshot::{Snapshot, SnapshotError, Store};
use dagger_agent::adapter::transaction;
use dagger_agent::adapter::tree;
use dagger_agent::domain::snapshot::choose;
use dagger_suite::names::{Root, ServiceName};

use crate::rollback;
use crate::run;
use crate::tell::line;

/// Removes what is not kept any longer of a service that is this process's own. What cannot be removed is tried again the
/// next time.
pub fn one(root: &Root, service: &ServiceName) {
    if let Err(why) = remove(root, &Store::new(root), service) {
        line(&format!("old snapshots of {service} were not removed: {why}"));
    }
}

/// The same of all services that have snapshots. One that a job is at work on, or that is half way, is left alone: what the
/// job needs is the job's affair.
pub fn all(root: &Root) -> Result<(), Vec<String>> {
    let store = Store::new(root);
    let services = store.services().map_err(|error| vec![error.to_string()])?;
    let mut reasons = Vec::new();
    for service in services {
        let done = is_tidy(root, &store, &service).and_then(|tidy| {
            // It is not locked for nothing: whoever wants to migrate it meanwhile would be turned away.
            if tidy {
                return Ok(());
            }
            let Ok(_lock) = run::lock(root, "tidy", &service) else {
                return Ok(());
            };
            if run::is_open(root, &service) {
                return Ok(());
            }
            remove(root, &store, &service)
        });
        if let Err(why) = done {
            reasons.push(format!("old snapshots of {service} were not removed: {why}"));
        }
    }
    if reasons.is_empty() { Ok(()) } else { Err(reasons) }
}

fn is_tidy(root: &Root, store: &Store, service: &ServiceName) -> Result<bool, String> {
    let swept = store.is_swept(service).map_err(|error| error.to_string())?;
    Ok(swept && unkept(root, store, service)?.is_empty())
}

fn remove(root: &Root, store: &Store, service: &ServiceName) -> Result<(), String> {
    let progress = tree::Progress::default();
    let said = |error: SnapshotError| error.to_string();
    store.sweep(service, &[], &progress).map_err(said)?;
    for id in unkept(root, store, service)? {
        line(&format!("the snapshot {id} of {service} is not kept any longer"));
        store.delete(service, &id, &progress).map_err(said)?;
    }
    Ok(())
}

/// What the policy does not keep, the oldest first. The data as it was before the container took over stays while the
/// container has it: `rollback --to-snapshot` makes it that again.
fn unkept(root: &Root, store: &Store, service: &ServiceName) -> Result<Vec<String>, String> {
    let (found, _) = store.list(service).map_err(|error| error.to_string())?;
    let back = way_back(root, service)?;
    let mut held: Vec<_> = found.iter().map(Snapshot::held).collect();
    for one in &mut held {
        one.pinned |= back.as_ref() == Some(&one.id);
    }
    let place = store.place().map_err(|error| error.to_string())?;
    let free =
        rustix::fs::statvfs(place).map_or(u64::MAX, |stat| stat.f_bavail.saturating_mul(stat.f_frsize));
    let keep = dagger_suite::load(root).suite.keep;
    Ok(choose(&held, &keep, realtime_usec(), free))
}

fn way_back(root: &Root, service: &ServiceName) -> Result<Option<String>, String> {
    if !root.join(service.owner_marker()).exists() {
        return Ok(None);
    }
    let migrated =
        rollback::migrated(&root.join(transaction::DIR), service).map_err(|refused| refused.why)?;
    Ok(migrated.map(|progress| progress.transaction().id.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    use dagger_agent::domain::transaction::record::{Ending, Line, Record};
    use dagger_agent::domain::transaction::{Options, Transaction, Verb, forward, steps};

    fn scratch(name: &str) -> Root {
        let dir = std::env::temp_dir().join(format!("dagger-tidy-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("etc/dagger")).unwrap();
        fs::write(
            dir.join("etc/dagger/dagger.toml"),
            "[suite]\nsnapshots-age = \"1h\"\nsnapshots-floor = \"0\"\n",
        )
        .unwrap();
        Root::new(dir.canonicalize().unwrap())
    }

    fn named(name: &str) -> ServiceName {
        ServiceName::parse(name).unwrap()
    }

    /// Snapshots of 1970, the first one the oldest.
    fn snapshots(root: &Root, service: &str, ids: &[&str]) {
        for (when, id) in (1..).zip(ids) {
            let place = root.join(format!("/var/lib/dagger/snapshots/{service}/{id}"));
            fs::create_dir_all(&place).unwrap();
            let label = format!(r#"{{"service":"{service}","when":{when}}}"#);
            fs::write(place.join("label.json"), label).unwrap();
        }
    }

    fn kept(root: &Root, service: &str) -> Vec<String> {
        let dir = root.join(format!("/var/lib/dagger/snapshots/{service}"));
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// The log of a migration that is over.
    fn migrated(root: &Root, service: &str, id: &str) {
        let transaction = Transaction {
            id: id.to_owned(),
            service: service.to_owned(),
            verb: Verb::Migrate,
            options: Options::default(),
            run_as: None,
            plan: serde_json::Value::Null,
        };
        let all = steps(Verb::Migrate, &transaction.options);
        let mut records = vec![Record::Begin { transaction }];
        for step in forward(&all) {
            let undo = serde_json::Value::Null;
            records.extend([Record::Intent { step }, Record::Done { step, undo }]);
        }
        let result = Ending::Committed;
        records.extend([Record::Commit, Record::End { result }]);
        let lines = (0..).zip(records).map(|(n, record)| Line::new(n, n, record));
        let text: String = lines.map(|line| line.text().unwrap()).collect();
        let home = root.join(format!("/var/lib/dagger/transactions/{service}"));
        fs::create_dir_all(&home).unwrap();
        fs::write(home.join(format!("{id}.log")), text).unwrap();
    }

    #[test]
    fn what_is_too_old_goes_also_of_services_that_no_job_is_about() {
        let root = scratch("all");
        snapshots(&root, "radarr", &["a-migrate-aside", "b-migrate"]);
        snapshots(&root, "sonarr", &["a-migrate", ".new-b-migrate", "c-migrate"]);
        snapshots(&root, "lidarr", &["a-migrate"]);
        all(&root).unwrap();
        assert_eq!(kept(&root, "radarr"), ["b-migrate"], "the newest always");
        assert_eq!(kept(&root, "sonarr"), ["c-migrate"]);
        assert!(
            !root.join("/var/lib/dagger/transactions/lidarr").exists(),
            "it was locked although there is nothing to do"
        );
        fs::remove_dir_all(root.join("/")).unwrap();
    }

    #[test]
    fn what_a_job_is_at_work_on_or_has_left_half_way_is_left_alone() {
        let root = scratch("busy");
        let both = ["a-migrate", "b-migrate"];
        for service in ["radarr", "sonarr"] {
            snapshots(&root, service, &both);
        }
        let home = root.join("/var/lib/dagger/transactions/sonarr");
        fs::create_dir_all(&home).unwrap();
        fs::write(home.join("log"), "").unwrap();
        {
            let Ok(_lock) = run::lock(&root, "migrate", &named("radarr")) else {
                panic!("it is nobody's")
            };
            all(&root).unwrap();
            assert_eq!(kept(&root, "radarr"), both);
            assert_eq!(kept(&root, "sonarr"), both);
        }
        fs::remove_file(home.join("log")).unwrap();
        all(&root).unwrap();
        assert_eq!(kept(&root, "radarr"), ["b-migrate"]);
        assert_eq!(kept(&root, "sonarr"), ["b-migrate"]);
        fs::remove_dir_all(root.join("/")).unwrap();
    }

    #[test]
    fn the_data_from_before_the_container_stays_while_the_container_has_it() {
        let root = scratch("back");
        let ids = ["a-migrate", "b-migrate", "c-rollback-aside"];
        snapshots(&root, "sonarr", &ids);
        migrated(&root, "sonarr", "b-migrate");
        let marker = root.join(named("sonarr").owner_marker());
        fs::create_dir_all(marker.parent().unwrap()).unwrap();
        fs::write(&marker, "").unwrap();
        one(&root, &named("sonarr"));
        assert_eq!(kept(&root, "sonarr"), ["b-migrate", "c-rollback-aside"]);
        fs::remove_file(marker).unwrap();
        one(&root, &named("sonarr"));
        assert_eq!(kept(&root, "sonarr"), ["c-rollback-aside"]);
        fs::remove_dir_all(root.join("/")).unwrap();
    }
}
