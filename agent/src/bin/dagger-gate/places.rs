//! Paths before the start: what must be there, the service's own directories, and device nodes with their groups.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use dagger_agent::adapter::disk::{self, DiskError, Leaf};
use dagger_agent::adapter::owner::{self, Owner};
use dagger_suite::names::{Root, ServiceName};

/// A sentence for each path that must be there and is not.
pub fn missing(root: &Root, service: &ServiceName, needs: &[String]) -> Vec<String> {
    needs
        .iter()
        .filter_map(|path| match fs::metadata(root.join(path)) {
            Ok(_) => None,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some(format!(
                "{path}, which {service} needs, is not there: make it, or mount what belongs there"
            )),
            Err(error) => Some(format!(
                "{path}, which {service} needs, cannot be looked at: {error}"
            )),
        })
        .collect()
}

/// The most entries that are looked at to learn whose a directory is: applications keep their databases at its top, and
/// a few dozen names there.
const ENTRIES_MAX: usize = 1000;

/// Owner of a state directory that is there and holds something.
pub fn owner_of(root: &Root, path: &str) -> Result<Option<Owner>, String> {
    let state = |error: &dyn std::fmt::Display| format!("the state directory {path} cannot be used: {error}");
    let Some(dir) = disk::open_dir(&root.join(path)).map_err(|error| state(&error))? else {
        return Ok(None);
    };
    let entries = disk::owners(dir.as_fd(), ENTRIES_MAX).map_err(|error| state(&error))?;
    if entries.is_empty() {
        return Ok(None);
    }
    let entries: Vec<Owner> = entries.into_iter().map(|(uid, gid)| Owner { uid, gid }).collect();
    let stat = rustix::fs::fstat(&dir).map_err(|error| state(&error))?;
    let top = Owner {
        uid: stat.st_uid,
        gid: stat.st_gid,
    };
    owner::of_tree(top, &entries).map(Some).map_err(|uids| {
        let uids: Vec<String> = uids.iter().map(u32::to_string).collect();
        format!(
            "{path} belongs to root and holds files of several users ({}): give it to the one that the application is to \
             run as (chown -R UID:GID {path}); nothing was changed",
            uids.join(", ")
        )
    })
}

/// Whether a directory holds something; one that cannot be looked at is taken as if it did.
pub fn holds_something(root: &Root, path: &str) -> bool {
    !matches!(owner_of(root, path), Ok(None))
}

/// What happened to a state directory.
#[derive(Debug, PartialEq, Eq)]
pub enum State {
    /// It was there.
    There,
    /// It was made, for the owner.
    Made,
    /// It was there, empty and root's; it is the owner's now.
    Given,
}

/// Makes a state directory where there is none. One with content is never touched.
///
/// An empty one of root's is given to the owner: somebody made the place and left the rest to us.
pub fn state(root: &Root, path: &str, owner: Option<Owner>) -> Result<State, String> {
    let leaf = Leaf {
        mode: 0o750,
        owner: owner.map(|owner| (owner.uid, owner.gid)),
    };
    let failed = |error: DiskError| format!("the state directory {path} cannot be made: {error}");
    let made = disk::make_dir(&root.join(path), leaf).map_err(failed)?;
    if made.new {
        return Ok(State::Made);
    }
    let Some(owner) = owner.filter(|owner| owner.uid != 0) else {
        return Ok(State::There);
    };
    let given = || -> io::Result<bool> {
        if rustix::fs::fstat(&made.dir)?.st_uid != 0 || !disk::is_empty(made.dir.as_fd())? {
            return Ok(false);
        }
        disk::chown(&made.dir, owner.uid, owner.gid)?;
        Ok(true)
    };
    match given() {
        Ok(true) => Ok(State::Given),
        Ok(false) => Ok(State::There),
        Err(error) => Err(format!(
            "the empty state directory {path} cannot be given to {owner}: {error}"
        )),
    }
}

/// What the devices of a service come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Devices {
    /// Words for `podman run`.
    pub words: Vec<String>,
    /// One sentence for each device that must be there and is not, or cannot be handed on.
    pub problems: Vec<String>,
    /// Optional devices that are not there.
    pub absent: Vec<String>,
}

/// Looks at the nodes and takes their groups: the number of `render` differs from machine to machine.
pub fn devices(root: &Root, service: &ServiceName, specs: &[String]) -> Devices {
    let mut devices = Devices::default();
    let mut groups = BTreeSet::new();
    for spec in specs {
        let (name, optional) = spec
            .strip_prefix('-')
            .map_or((spec.as_str(), false), |name| (name, true));
        if let Some(bad) = name.chars().find(|c| !plain(*c, name.starts_with('/'))) {
            devices.problems.push(format!(
                "the device {name:?} of {service} cannot be handed on: {bad:?} stands in it"
            ));
            continue;
        }
        // A CDI name (`nvidia.com/gpu=all`): podman resolves it, and says best what is wrong when it must be there.
        if !name.starts_with('/') {
            if optional && !is_described(root, name) {
                devices.absent.push(name.to_owned());
            } else {
                devices.words.push(format!("--device={name}"));
            }
            continue;
        }
        match nodes(&root.join(name)) {
            Ok(found) => {
                devices.words.push(format!("--device={name}"));
                groups.extend(found.into_iter().filter(|group| *group != 0));
            }
            Err(_) if optional => devices.absent.push(name.to_owned()),
            Err(error) => devices.problems.push(no_device(service, name, &error)),
        }
    }
    devices
        .words
        .extend(groups.iter().map(|group| format!("--group-add={group}")));
    devices
}

/// Where the descriptions of CDI devices lie (Container Device Interface specification, and podman's own default).
const CDI_DIRS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
/// The most that is read of a description; the driver's own have some ten kilobytes.
const CDI_BYTES: u64 = 4 << 20;

/// Whether some description is of the name's kind: `nvidia.com/gpu` in `nvidia.com/gpu=all`.
fn is_described(root: &Root, name: &str) -> bool {
    let kind = name.split('=').next().unwrap_or(name);
    CDI_DIRS
        .iter()
        .filter_map(|dir| fs::read_dir(root.join(dir)).ok())
        .flatten()
        .flatten()
        .filter(|entry| {
            let path = entry.path();
            path.extension()
                .is_some_and(|end| end == "json" || end == "yaml" || end == "yml")
        })
        .filter_map(|entry| {
            let mut text = String::new();
            let file = fs::File::open(entry.path()).ok()?;
            file.take(CDI_BYTES).read_to_string(&mut text).ok()?;
            Some(text)
        })
        .any(|text| kind_of(&text).as_deref() == Some(kind))
}

/// The `kind` of a description, which is JSON or YAML; in both it is a word of the outermost table.
fn kind_of(text: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Described {
        kind: String,
    }
    if let Ok(described) = serde_json::from_str::<Described>(text) {
        return Some(described.kind);
    }
    let value = text.lines().find_map(|line| line.strip_prefix("kind:"))?;
    Some(value.trim().trim_matches(['"', '\'']).to_owned())
}

fn no_device(service: &ServiceName, name: &str, error: &io::Error) -> String {
    let why = if error.kind() == io::ErrorKind::NotFound {
        "it is not there".to_owned()
    } else {
        error.to_string()
    };
    format!(
        "the device {name} of {service} cannot be used ({why}): is its driver loaded? Written as \"-{name}\" in `devices`, \
         {service} starts without it"
    )
}

/// systemd splits the variable at blanks and reads quotes in it, podman splits a path at colons; no device needs these.
fn plain(c: char, path: bool) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '.' | '-' | '=' | '+' | '@') || (c == ':' && !path)
}

/// Groups of the node, or of all nodes below the directory.
fn nodes(path: &Path) -> io::Result<Vec<u32>> {
    let meta = fs::metadata(path)?;
    if !meta.is_dir() {
        let kind = meta.file_type();
        return if kind.is_char_device() || kind.is_block_device() {
            Ok(vec![meta.gid()])
        } else {
            Err(io::Error::other("it is not a device"))
        };
    }
    let mut groups = Vec::new();
    let mut dirs: Vec<PathBuf> = vec![path.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                dirs.push(entry.path());
            } else if kind.is_char_device() || kind.is_block_device() {
                groups.push(entry.metadata()?.gid());
            }
        }
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices_of(root: &Root, specs: &[&str]) -> Devices {
        let specs: Vec<String> = specs.iter().map(|spec| (*spec).to_owned()).collect();
        devices(root, &ServiceName::parse("jellyfin").unwrap(), &specs)
    }

    #[test]
    fn devices_bring_the_groups_of_their_nodes() {
        let root = Root::new("/");
        let group = fs::metadata("/dev/null").unwrap().gid();
        let found = devices_of(
            &root,
            &["/dev/null", "-/dev/dagger-is-not-there", "nvidia.com/gpu=all"],
        );
        let mut words = vec![
            "--device=/dev/null".to_owned(),
            "--device=nvidia.com/gpu=all".to_owned(),
        ];
        if group != 0 {
            words.push(format!("--group-add={group}"));
        }
        assert_eq!(found.words, words);
        assert_eq!(found.absent, ["/dev/dagger-is-not-there"]);
        assert!(found.problems.is_empty());
    }

    #[test]
    fn an_optional_device_of_a_driver_is_left_out_where_nobody_describes_it() {
        let dir = std::env::temp_dir().join(format!("dagger-cdi-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("etc/cdi")).unwrap();
        let root = Root::new(dir.canonicalize().unwrap());
        let found = || devices_of(&root, &["-nvidia.com/gpu=all"]);
        assert_eq!(found().absent, ["nvidia.com/gpu=all"]);
        assert!(found().words.is_empty());
        for (name, text) in [
            (
                "a.yaml",
                "cdiVersion: 0.5.0\nkind: \"nvidia.com/gpu\"\ndevices:\n- name: all\n",
            ),
            ("a.json", r#"{"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu"}"#),
        ] {
            fs::write(dir.join("etc/cdi").join(name), text).unwrap();
            assert_eq!(found().words, ["--device=nvidia.com/gpu=all"], "{name}");
            fs::remove_file(dir.join("etc/cdi").join(name)).unwrap();
        }
        fs::write(dir.join("etc/cdi/b.json"), r#"{"kind": "amd.com/gpu"}"#).unwrap();
        assert_eq!(found().absent, ["nvidia.com/gpu=all"]);
        // Demanded, it is podman's to refuse.
        assert_eq!(devices_of(&root, &["nvidia.com/gpu=all"]).words.len(), 1);
    }

    #[test]
    fn devices_that_cannot_be_had_are_named() {
        let root = Root::new("/");
        for (spec, says) in [
            (
                "/dev/dagger-is-not-there",
                "(it is not there): is its driver loaded? Written as \"-/dev/dagger",
            ),
            ("/proc/version", "it is not a device"),
            ("/dev/a b", "' ' stands in it"),
            ("/dev/a\"b", "'\"' stands in it"),
            ("/dev/a:/dev/b", "':' stands in it"),
        ] {
            let problems = devices_of(&root, &[spec]).problems;
            assert!(problems[0].contains(says), "{problems:?}");
        }
    }
}
