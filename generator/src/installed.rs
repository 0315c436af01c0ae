//! What is on this machine beside the suite: native units (unit files, templates of instances, what other generators make
//! units of), and the name servers of network namespaces.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use crate::names::Root;

/// Where systemd finds unit files that others install, the first one that has a name decides (systemd.unit(5), "Unit
/// File Load Path"). The last one is mostly the one before it: `/lib` is a link where /usr is merged.
pub(crate) const UNIT_DIRS: [&str; 5] = [
    "etc/systemd/system",
    "run/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
];

/// Where Quadlet looks for what it makes units of (podman-systemd.unit(5)).
const QUADLET_DIRS: [&str; 3] = [
    "run/containers/systemd",
    "etc/containers/systemd",
    "usr/share/containers/systemd",
];

/// How deep below each of [`QUADLET_DIRS`] is looked: a link that leads round must not hold up a boot.
const QUADLET_DEPTH: usize = 4;

/// Where systemd-sysv-generator(8) finds scripts.
const INIT_DIR: &str = "etc/init.d";

/// Where ip-netns(8) keeps what belongs to a namespace.
const NETNS_DIR: &str = "etc/netns";

/// What is installed below a root.
pub struct Installed {
    /// The directories of unit files that there are.
    dirs: Vec<PathBuf>,
    /// Names without suffix that Quadlet or systemd-sysv-generator(8) makes a service of.
    generated: BTreeSet<String>,
    namespaces: PathBuf,
}

impl Installed {
    /// Looks for the directories. The other generators run beside this one: what they write is not there yet, only what
    /// they write it from.
    pub fn find(root: &Root) -> Self {
        let lib = root.join("lib");
        let merged = fs::symlink_metadata(&lib).is_ok_and(|meta| meta.is_symlink());
        let mut dirs: Vec<PathBuf> = UNIT_DIRS.iter().map(|dir| root.join(dir)).collect();
        dirs.retain(|dir| !(merged && dir.starts_with(&lib)) && dir.is_dir());
        let mut generated = BTreeSet::new();
        for dir in QUADLET_DIRS {
            quadlets_in(&root.join(dir), QUADLET_DEPTH, &mut generated);
        }
        scripts_in(&root.join(INIT_DIR), &mut generated);
        Self {
            dirs,
            generated,
            namespaces: root.join(NETNS_DIR),
        }
    }

    /// Whether there is a unit of this name, as a file, as an instance of a template, or made by another generator. A
    /// mask (an empty file, or a link to /dev/null) is a decision of the administrator: then there is none.
    pub fn hold(&self, unit: &str) -> bool {
        let template = template(unit).map(|(template, _)| template);
        let names = || std::iter::once(unit).chain(template.as_deref());
        let file = names().find_map(|name| self.file(name));
        file.unwrap_or_else(|| names().any(|name| self.generated(name)))
    }

    /// Whether a named network namespace has name servers of its own, where podman and ip-netns(8) look for them.
    pub fn resolver(&self, namespace: &str) -> bool {
        let name = Path::new(namespace).file_name().unwrap_or_default();
        self.namespaces.join(name).join("resolv.conf").is_file()
    }

    /// Whether the file of this name that counts is a unit rather than a mask; none without any.
    fn file(&self, unit: &str) -> Option<bool> {
        self.dirs.iter().find_map(|dir| {
            let path = dir.join(unit);
            fs::symlink_metadata(&path).ok().map(|meta| !masks(&path, &meta))
        })
    }

    fn generated(&self, unit: &str) -> bool {
        self.generated
            .contains(unit.strip_suffix(".service").unwrap_or(unit))
    }
}

/// `tv@.service` and `main` for `tv@main.service`.
pub(crate) fn template(unit: &str) -> Option<(String, &str)> {
    let (name, instance) = unit.split_once('@')?;
    let (instance, suffix) = instance
        .rsplit_once('.')
        .filter(|(instance, _)| !instance.is_empty())?;
    Some((format!("{name}@.{suffix}"), instance))
}

/// Whether what lies there is a mask.
pub(crate) fn is_mask(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| masks(path, &meta))
}

/// What systemd takes for "masked". A link that leads nowhere is not: below another root it may be an absolute one.
fn masks(path: &Path, meta: &Metadata) -> bool {
    if !meta.is_symlink() {
        return meta.is_file() && meta.len() == 0;
    }
    fs::read_link(path).is_ok_and(|to| to == Path::new("/dev/null"))
        || fs::metadata(path)
            .is_ok_and(|meta| meta.file_type().is_char_device() || (meta.is_file() && meta.len() == 0))
}

fn quadlets_in(dir: &Path, depth: usize, found: &mut BTreeSet<String>) {
    // Mostly there is no such directory; one that cannot be read is nothing that Quadlet could read.
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let suffix = path.extension().and_then(|suffix| suffix.to_str());
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        match (suffix, stem) {
            (Some("container" | "kube"), Some(stem))
                if entry.metadata().is_ok_and(|meta| !masks(&path, &meta)) =>
            {
                found.insert(stem.to_owned());
            }
            _ if depth > 0 && path.is_dir() => quadlets_in(&path, depth - 1, found),
            _ => {}
        }
    }
}

fn scripts_in(dir: &Path, found: &mut BTreeSet<String>) {
    // As above: no such directory is as good as an empty one.
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        // Only a link has to be followed to know what it is.
        let is_file = entry
            .file_type()
            .is_ok_and(|kind| kind.is_file() || (kind.is_symlink() && entry.path().is_file()));
        if is_file {
            found.insert(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch as Dir;

    trait Look {
        fn found(&self) -> Installed;
    }
    impl Look for Dir {
        fn found(&self) -> Installed {
            Installed::find(&self.root())
        }
    }

    #[test]
    fn a_mask_decides_over_the_file_below_it() {
        let dir = Dir::new("mask");
        for unit in ["a", "b", "c", "d"] {
            dir.put(&format!("usr/lib/systemd/system/{unit}.service"), "[Unit]\n");
        }
        dir.link("etc/systemd/system/b.service", "/dev/null")
            .put("run/systemd/system/c.service", "")
            .link("run/systemd/system/d.service", "/dev/null")
            .put("etc/systemd/system/d.service", "[Unit]\n");
        let found = dir.found();
        assert!(found.hold("a.service") && found.hold("d.service"));
        assert!(!found.hold("b.service") && !found.hold("c.service") && !found.hold("e.service"));
    }

    #[test]
    fn an_instance_is_there_with_its_template() {
        let dir = Dir::new("template");
        dir.put("usr/lib/systemd/system/tv@.service", "[Unit]\n")
            .link("etc/systemd/system/tv@off.service", "/dev/null");
        let found = dir.found();
        assert!(found.hold("tv@main.service") && found.hold("tv@.service"));
        assert!(!found.hold("tv@off.service") && !found.hold("films@main.service"));
    }

    #[test]
    fn what_other_generators_make_units_of_is_there() {
        let dir = Dir::new("generated");
        dir.put("etc/containers/systemd/media/sonarr.container", "[Container]\n")
            .put("etc/containers/systemd/tv@.container", "[Container]\n")
            .put("usr/share/containers/systemd/off.container", "[Container]\n")
            .link("etc/systemd/system/off.service", "/dev/null")
            .link("etc/containers/systemd/round", ".")
            .put("etc/init.d/sabnzbdplus", "#!/bin/sh\n");
        let found = dir.found();
        for unit in ["sonarr.service", "tv@main.service", "sabnzbdplus.service"] {
            assert!(found.hold(unit), "{unit}");
        }
        assert!(!found.hold("off.service") && !found.hold("radarr.service"));
    }

    #[test]
    fn a_merged_usr_is_looked_at_once_and_a_split_one_whole() {
        let dir = Dir::new("merged");
        dir.put("usr/lib/systemd/system/a.service", "[Unit]\n")
            .link("lib", "usr/lib");
        assert!(dir.found().hold("a.service"));
        assert_eq!(dir.found().dirs.len(), 1);
        let dir = Dir::new("split");
        dir.put("lib/systemd/system/a.service", "[Unit]\n");
        assert!(dir.found().hold("a.service"));
    }
}
