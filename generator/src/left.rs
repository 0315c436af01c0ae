//! Services that run although the configuration has no unit for them: taken out, turned off, or behind a mistake.
//!
//! A unit that has lost its file is one that nobody can do anything about: systemd hears no word from it any more, not even
//! that its watchdog is to be stopped, and does not know how it is stopped. So one that runs keeps a unit until it has ended.

use std::fs;

use crate::installed::Installed;
use crate::load::Loaded;
use crate::model::Broken;
use crate::names::{Root, SLICE, ServiceName};

/// Where the control groups of what runs are (Linux, Documentation/admin-guide/cgroup-v2.rst).
const GROUPS: &str = "/sys/fs/cgroup";

/// The services that run and are not among those that were loaded, each with the reason.
pub fn left(root: &Root, loaded: &Loaded) -> Vec<Broken> {
    let known = |name: &ServiceName| {
        let good = loaded.suite.services.iter().any(|service| service.name == *name);
        good || loaded.broken.iter().any(|broken| broken.name == *name)
    };
    let mut left: Vec<ServiceName> = running(root).into_iter().filter(|name| !known(name)).collect();
    if left.is_empty() {
        return Vec::new();
    }
    // Somebody else's unit that lies in our slice is none of ours.
    let installed = Installed::find(root);
    left.retain(|name| !installed.hold(&name.unit()));
    left.sort_unstable();
    left.into_iter()
        .map(|name| Broken {
            messages: vec![reason(loaded, &name)],
            source: loaded.suite.source.clone(),
            name,
        })
        .collect()
}

/// The services that have a control group: those of which something runs.
fn running(root: &Root) -> Vec<ServiceName> {
    // At boot there is no such directory yet.
    let Ok(entries) = fs::read_dir(root.join(GROUPS).join(SLICE)) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| ServiceName::of_unit(entry.file_name().to_str()?))
        .collect()
}

fn reason(loaded: &Loaded, name: &ServiceName) -> String {
    if loaded.suite.off.contains(name) {
        return format!("{}: {name} is turned off (`enable = false`)", loaded.suite.source);
    }
    match loaded.file_errors().next() {
        Some(mistake) => format!(
            "{name} is not in the configuration, as far as that can be read: {}",
            mistake.one_line()
        ),
        None => format!("{name} is not in the configuration"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn what_runs_without_a_place_in_the_configuration_is_left_over() {
        let dir = Scratch::new("left");
        dir.put(
            "etc/dagger/dagger.toml",
            "[services.sonarr]\n[services.radarr]\nport = 0\n[services.lidarr]\nenable = false\n",
        )
        .put("usr/lib/systemd/system/dagger-theirs.service", "[Unit]\n");
        for unit in [
            "dagger-sonarr.service",
            "dagger-radarr.service",
            "dagger-lidarr.service",
            "dagger-bazarr.service",
            "dagger-theirs.service",
            "dagger-recover.service",
            "dagger-pull@bazarr.service",
            "other.service",
        ] {
            dir.put(&format!("sys/fs/cgroup/dagger.slice/{unit}/cgroup.procs"), "");
        }
        let left = |dir: &Scratch| left(&dir.root(), &crate::load(&dir.root()));
        let words = |left: Vec<Broken>| -> Vec<String> {
            left.iter().map(|broken| broken.messages.join("; ")).collect()
        };
        assert_eq!(
            words(left(&dir)),
            [
                "bazarr is not in the configuration",
                "/etc/dagger/dagger.toml: lidarr is turned off (`enable = false`)"
            ]
        );
        dir.put("etc/dagger/dagger.toml", "[suite\n");
        let torn = words(left(&dir));
        assert_eq!(torn.len(), 4);
        assert!(
            torn.iter()
                .all(|said| said.contains("as far as that can be read: /etc/dagger/dagger.toml:1:")),
            "{torn:?}"
        );
        assert!(left(&Scratch::new("left-none")).is_empty());
    }
}
