//! A snapshot as it stands on the bus: what `Snapshots()` of the manager returns, a dictionary each.

use dagger_suite::names::{Root, ServiceName};
use zbus::{DeserializeDict, SerializeDict, Type};

use crate::adapter::snapshot::{Snapshot, SnapshotError, Store};

/// Not more are shown of one service.
const MOST: usize = 100;

/// One snapshot. What is not known is left out of the dictionary; keys may be added, never changed.
#[derive(Debug, Clone, PartialEq, Eq, Default, SerializeDict, DeserializeDict, Type)]
#[zbus(signature = "dict", rename_all = "PascalCase")]
pub struct SnapshotView {
    /// Whose data it is.
    pub service: String,
    /// Its name, unique for the service.
    pub id: String,
    /// When it was made, in microseconds of CLOCK_REALTIME.
    pub when: u64,
    /// For what: "migrate", "rollback".
    pub why: String,
    /// Files in it.
    pub files: u64,
    /// Bytes in them: an upper bound of the room that it takes.
    pub bytes: u64,
    /// It is kept whatever the policy says.
    pub pinned: bool,
    /// The application's version that wrote it.
    pub version: Option<String>,
    /// The image that ran on it; none: it was the native unit's.
    pub digest: Option<String>,
    /// What is wrong with it, where its label cannot be read.
    pub problem: Option<String>,
}

impl SnapshotView {
    fn of(service: &ServiceName, snapshot: Snapshot) -> Self {
        let Snapshot { id, label, .. } = snapshot;
        Self {
            service: service.to_string(),
            id,
            when: label.when,
            why: label.why,
            files: label.files,
            bytes: label.bytes,
            pinned: label.pinned,
            version: label.version,
            digest: label.digest,
            problem: None,
        }
    }

    fn broken(service: &ServiceName, error: &SnapshotError) -> Self {
        Self {
            service: service.to_string(),
            problem: Some(error.to_string()),
            ..Self::default()
        }
    }
}

/// All snapshots of these services, each service's oldest first. Only their labels are read, never the data.
pub fn list(root: &Root, services: &[ServiceName]) -> Vec<SnapshotView> {
    let store = Store::new(root);
    let mut all = Vec::new();
    for service in services {
        match store.list(service) {
            Ok((found, errors)) => {
                let late = found.len().saturating_sub(MOST);
                all.extend(
                    errors
                        .iter()
                        .take(MOST)
                        .map(|error| SnapshotView::broken(service, error)),
                );
                all.extend(
                    found
                        .into_iter()
                        .skip(late)
                        .map(|snapshot| SnapshotView::of(service, snapshot)),
                );
            }
            Err(error) => all.push(SnapshotView::broken(service, &error)),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_shown_and_those_that_cannot_be_read_are_named() {
        let dir = std::env::temp_dir().join(format!("dagger-snapshot-view-{}", std::process::id()));
        let root = Root::new(&dir);
        let put = |id: &str, text: &str| {
            let place = root.join("/var/lib/dagger/snapshots/sonarr").join(id);
            std::fs::create_dir_all(&place).unwrap();
            std::fs::write(place.join("label.json"), text).unwrap();
        };
        put(
            "20261124-migrate",
            r#"{"service":"sonarr","when":5,"why":"migrate","bytes":9}"#,
        );
        put("20261125-migrate", "{");
        let names = ["sonarr", "radarr"].map(|name| ServiceName::parse(name).unwrap());
        let all = list(&root, &names);
        assert_eq!(all.len(), 2);
        assert!(
            all[0].problem.as_ref().unwrap().contains("20261125-migrate"),
            "{all:?}"
        );
        assert_eq!(
            (all[1].id.as_str(), all[1].when, all[1].bytes),
            ("20261124-migrate", 5, 9)
        );
        std::fs::remove_dir_all(dir).unwrap();
    }
}
