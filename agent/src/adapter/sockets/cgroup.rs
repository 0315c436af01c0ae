//! From a cgroup's id to its path, and from the path to the unit that it belongs to.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::DirEntryExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The control group tree that carries socket ids: the unified one.
#[derive(Debug)]
pub struct Cgroups {
    mount: PathBuf,
}

/// Deeper than this no tree goes in practice; the walk must end whatever it finds.
const DEPTH_MAX: usize = 32;

impl Cgroups {
    /// Finds where the unified tree is mounted: `/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` on hybrid machines.
    pub fn mounted() -> io::Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        Ok(Self {
            mount: unified(&mounts).unwrap_or_else(|| PathBuf::from("/sys/fs/cgroup")),
        })
    }

    /// Path below the mount of the group with this id, `/system.slice/x.service`; none when it is gone or out of sight.
    ///
    /// The id is the inode number of the group's directory, so readdir(3) alone finds it.
    pub fn path_of(&self, id: u64) -> Option<String> {
        use std::os::unix::fs::MetadataExt as _;
        if fs::metadata(&self.mount).ok()?.ino() == id {
            return Some("/".into());
        }
        let path = search(&self.mount, id, 0)?;
        let below = path.strip_prefix(&self.mount).ok()?;
        Some(format!("/{}", below.to_str()?))
    }

    /// Names of the groups right below a group; none when it is not there.
    pub fn children(&self, path: &str) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.mount.join(path.trim_start_matches('/'))) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                names.extend(entry.file_name().into_string());
            }
        }
        Ok(names)
    }

    /// Processes in the group and in all groups below it.
    pub fn processes(&self, path: &str) -> Vec<u32> {
        let mut pids = Vec::new();
        collect(&self.mount.join(path.trim_start_matches('/')), &mut pids, 0);
        pids
    }

    /// Processor time that the group and all groups below it have used, also by processes that have ended (`cpu.stat`,
    /// which is there whether or not the controller is on).
    pub fn cpu(&self, path: &str) -> io::Result<Duration> {
        let file = self.mount.join(path.trim_start_matches('/')).join("cpu.stat");
        let text = fs::read_to_string(&file)?;
        text.lines()
            .find_map(|line| line.strip_prefix("usage_usec ")?.parse().ok())
            .map(Duration::from_micros)
            .ok_or_else(|| io::Error::other(format!("{} is not understood", file.display())))
    }
}

/// Mount point of the first cgroup2 file system in a mountinfo text (proc(5)).
fn unified(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        if right.split(' ').next()? != "cgroup2" {
            return None;
        }
        left.split(' ').nth(4).map(PathBuf::from)
    })
}

/// Breadth first would need a queue; a unit lies two to four levels deep, so this is as good.
fn search(dir: &Path, id: u64, depth: usize) -> Option<PathBuf> {
    if depth > DEPTH_MAX {
        return None;
    }
    let mut below = Vec::new();
    for entry in fs::read_dir(dir).ok()?.flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if entry.ino() == id {
            return Some(entry.path());
        }
        below.push(entry.path());
    }
    below.iter().find_map(|dir| search(dir, id, depth + 1))
}

fn collect(dir: &Path, pids: &mut Vec<u32>, depth: usize) {
    if depth > DEPTH_MAX {
        return;
    }
    // A group that vanished meanwhile has no processes.
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), pids, depth + 1);
        }
    }
}

/// A unit, as its cgroup's path names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Name with suffix: `transmission-daemon.service`.
    pub name: String,
    /// For a unit of a user's own manager: that user's number.
    pub user: Option<u32>,
    /// For a scope that a container engine made: the engine's word and the container's short id.
    pub container: Option<(&'static str, String)>,
}

impl Unit {
    /// A scope holds processes that somebody else started: a login, a container engine. There is nothing to disable.
    pub fn is_scope(&self) -> bool {
        is_unit(&self.name, ".scope")
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match self.user {
            Some(user) => write!(f, " of user {user}"),
            None => Ok(()),
        }
    }
}

/// The unit that a cgroup path lies in, if any: the first part that is no slice (systemd's own rule), and below a user's
/// manager once more.
pub fn unit_of(path: &str) -> Option<Unit> {
    let mut parts = path.split('/').filter(|part| !part.is_empty()).map(unescape);
    let name = parts
        .find(|part| !is_unit(part, ".slice"))
        .filter(|part| is_any_unit(part))?;
    let user = name
        .strip_prefix("user@")
        .and_then(|rest| rest.strip_suffix(".service"))
        .and_then(|number| number.parse::<u32>().ok());
    if let Some(user) = user
        && let Some(inner) = parts
            .find(|part| !is_unit(part, ".slice"))
            .filter(|part| is_any_unit(part))
    {
        return Some(unit(inner, Some(user)));
    }
    Some(unit(name, None))
}

fn unit(name: &str, user: Option<u32>) -> Unit {
    Unit {
        name: name.to_owned(),
        user,
        container: container(name),
    }
}

/// `libpod-<id>.scope` is podman's, `docker-<id>.scope` Docker's (with systemd as cgroup manager).
fn container(name: &str) -> Option<(&'static str, String)> {
    let scope = name.strip_suffix(".scope")?;
    [("podman", "libpod-"), ("docker", "docker-")]
        .into_iter()
        .find_map(|(engine, prefix)| {
            let id = scope.strip_prefix(prefix)?;
            let id = id.strip_prefix("conmon-").unwrap_or(id);
            (id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
                .then(|| (engine, id.chars().take(12).collect()))
        })
}

/// systemd puts a `_` in front of names that the kernel might mistake for its own files.
fn unescape(part: &str) -> &str {
    part.strip_prefix('_').unwrap_or(part)
}

fn is_unit(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix).is_some_and(|stem| !stem.is_empty())
}

fn is_any_unit(name: &str) -> bool {
    [".service", ".scope", ".socket", ".mount", ".swap"]
        .iter()
        .any(|suffix| is_unit(name, suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(path: &str) -> Option<String> {
        unit_of(path).map(|unit| unit.to_string())
    }

    #[test]
    fn units_are_read_off_paths() {
        for (path, says) in [
            (
                "/system.slice/transmission-daemon.service",
                Some("transmission-daemon.service"),
            ),
            (
                "/dagger.slice/dagger-sonarr.service/libpod-payload-0a/x",
                Some("dagger-sonarr.service"),
            ),
            (
                "/system.slice/system-getty.slice/getty@tty1.service",
                Some("getty@tty1.service"),
            ),
            ("/init.scope", Some("init.scope")),
            ("/system.slice/_cpu.service", Some("cpu.service")),
            (
                "/user.slice/user-0.slice/session-3.scope",
                Some("session-3.scope"),
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/web.service",
                Some("web.service of user 1000"),
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service/init.scope",
                Some("init.scope of user 1000"),
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service",
                Some("user@1000.service"),
            ),
            ("/", None),
            ("", None),
            ("/lxc/box", None),
            ("/system.slice", None),
            ("/.service", None),
        ] {
            assert_eq!(name(path).as_deref(), says, "{path}");
        }
    }

    #[test]
    fn containers_of_other_engines_are_told() {
        let id = "0123456789abcdef".repeat(4);
        let unit = unit_of(&format!("/machine.slice/libpod-{id}.scope/container")).unwrap();
        assert_eq!(unit.container, Some(("podman", "0123456789ab".into())));
        let unit = unit_of(&format!("/system.slice/docker-{id}.scope")).unwrap();
        assert_eq!(unit.container, Some(("docker", "0123456789ab".into())));
        assert_eq!(unit_of("/system.slice/docker-x.scope").unwrap().container, None);
    }

    #[test]
    fn the_unified_tree_is_found_on_hybrid_machines() {
        let hybrid = "30 24 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n\
                      31 30 0:27 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw\n\
                      32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        assert_eq!(unified(hybrid), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(unified("garbage\n"), None);
    }

    #[test]
    fn a_group_is_found_by_its_inode() {
        use std::os::unix::fs::MetadataExt as _;
        let groups = Cgroups::mounted().unwrap();
        let here = fs::metadata(&groups.mount).unwrap().ino();
        assert_eq!(groups.path_of(here).as_deref(), Some("/"));
        assert_eq!(groups.path_of(u64::MAX), None);
    }
}
