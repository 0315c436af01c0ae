//! The tree of control groups (Linux, Documentation/admin-guide/cgroup-v2.rst), walked by path or by id.

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::{DirEntryExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dagger_suite::names::Root;

use super::mounts::Mounts;

/// Deeper than this no tree goes in practice; the walk must end whatever it finds.
const DEPTH_MAX: usize = 32;
/// Links to a directory that has none below it: its own name and its `.`.
const LEAF: u64 = 2;

/// The unified tree: the one that carries the ids of sockets and holds processes only at its ends.
#[derive(Debug, Clone)]
pub struct Cgroups {
    /// None on machines that have only the older trees (version 1).
    mount: Option<PathBuf>,
}

/// One group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Path below the mount, `/system.slice/x.service`.
    pub path: String,
    /// The kernel's number for it: the inode number of its directory. No other group gets it while the machine runs.
    pub id: u64,
}

impl Cgroups {
    /// Finds where the unified tree is mounted: `/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` on hybrid machines.
    pub fn mounted() -> io::Result<Self> {
        Ok(Self::of(&Mounts::now()?, &Root::new("/")))
    }

    /// The tree of a machine whose files lie below `root`; without its table of mounts, where it usually lies.
    pub fn below(root: &Root) -> Self {
        match fs::read(root.join("/proc/self/mountinfo")) {
            Ok(table) => Self::of(&Mounts::parse(&table), root),
            Err(_) => Self {
                mount: Some(root.join("/sys/fs/cgroup")),
            },
        }
    }

    fn of(mounts: &Mounts, root: &Root) -> Self {
        Self {
            mount: mounts.first_of("cgroup2").map(|point| root.join(point)),
        }
    }

    /// Whether there is a unified tree at all.
    pub fn is_there(&self) -> bool {
        self.mount.is_some()
    }

    /// Directory of a group, whether or not it is there.
    pub fn directory(&self, path: &str) -> Option<PathBuf> {
        Some(self.mount.as_ref()?.join(path.trim_start_matches('/')))
    }

    /// The kernel's number for a group; none when it is not there.
    pub fn id_of(&self, path: &str) -> Option<u64> {
        fs::metadata(self.directory(path)?).ok().map(|group| group.ino())
    }

    /// Calls `visit` for the group and for every one below it, those above first, until it breaks. What vanishes meanwhile
    /// is left out.
    pub fn walk(&self, path: &str, mut visit: impl FnMut(Group) -> ControlFlow<()>) {
        let Some(dir) = self.directory(path) else {
            return;
        };
        let Ok(found) = fs::metadata(&dir) else {
            return;
        };
        let path = format!("/{}", path.trim_matches('/'));
        if visit(Group {
            path: path.clone(),
            id: found.ino(),
        })
        .is_continue()
        {
            let _ = descend(&dir, path.trim_end_matches('/'), 0, &mut visit);
        }
    }

    /// Names of the groups right below a group; none when it is not there.
    pub fn children(&self, path: &str) -> io::Result<Vec<String>> {
        let Some(dir) = self.directory(path) else {
            return Ok(Vec::new());
        };
        let entries = match fs::read_dir(dir) {
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

    /// Processes in the group itself. A group that vanished meanwhile has none.
    pub fn members(&self, path: &str) -> Vec<u32> {
        let text = self
            .directory(path)
            .and_then(|dir| fs::read_to_string(dir.join("cgroup.procs")).ok())
            .unwrap_or_default();
        text.lines().filter_map(|line| line.parse::<u32>().ok()).collect()
    }

    /// Processes in the group and in all groups below it.
    pub fn processes(&self, path: &str) -> Vec<u32> {
        let mut pids = Vec::new();
        self.walk(path, |group| {
            pids.extend(self.members(&group.path));
            ControlFlow::Continue(())
        });
        pids
    }

    /// Processor time that the group and all groups below it have used, also by processes that have ended (`cpu.stat`,
    /// which is there whether or not the controller is on).
    pub fn cpu(&self, path: &str) -> io::Result<Duration> {
        let dir = self.directory(path).ok_or(io::ErrorKind::NotFound)?;
        let file = dir.join("cpu.stat");
        let text = fs::read_to_string(&file)?;
        text.lines()
            .find_map(|line| line.strip_prefix("usage_usec ")?.parse().ok())
            .map(Duration::from_micros)
            .ok_or_else(|| io::Error::other(format!("{} is not understood", file.display())))
    }
}

/// Groups are told from files by readdir(3) alone, and those with nothing below by their number of links: most groups are
/// of that kind, and each has dozens of files.
fn descend(
    dir: &Path,
    path: &str,
    depth: usize,
    visit: &mut dyn FnMut(Group) -> ControlFlow<()>,
) -> ControlFlow<()> {
    if depth > DEPTH_MAX {
        return ControlFlow::Continue(());
    }
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        // A name that is no UTF-8 is none of systemd's.
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let below = format!("{path}/{name}");
        visit(Group {
            path: below.clone(),
            id: entry.ino(),
        })?;
        if entry.metadata().is_ok_and(|found| found.nlink() != LEAF) {
            descend(&entry.path(), &below, depth + 1, visit)?;
        }
    }
    ControlFlow::Continue(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(table: &str) -> Option<PathBuf> {
        Cgroups::of(&Mounts::parse(table.as_bytes()), &Root::new("/")).mount
    }

    #[test]
    fn the_unified_tree_is_found_on_hybrid_machines() {
        let old = "30 24 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n\
                   32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                   33 30 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n";
        let hybrid = format!("{old}31 30 0:27 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw\n");
        assert_eq!(mount(&hybrid), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        let new = "25 22 0:24 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(mount(new), Some(PathBuf::from("/sys/fs/cgroup")));
        // Inode numbers of a tmpfs would pass for ids of groups.
        assert_eq!(mount(old), None);
        assert_eq!(mount("garbage\n"), None);
    }

    #[test]
    fn without_a_unified_tree_nothing_is_found() {
        let none = Cgroups { mount: None };
        assert!(!none.is_there());
        assert_eq!(none.id_of("/"), None);
        none.walk("/", |group| panic!("{group:?}"));
        assert!(none.processes("/").is_empty());
        assert!(none.children("/").unwrap().is_empty());
        assert!(none.cpu("/").is_err());
    }

    #[test]
    fn every_group_is_visited_and_the_walk_can_be_left() {
        let root = std::env::temp_dir().join(format!("dagger-cgroups-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let groups = ["a.slice", "a.slice/b.service", "a.slice/b.service/c", "d.service"];
        for group in groups {
            let dir = root.join("sys/fs/cgroup").join(group);
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("cgroup.procs"), format!("{}\n", group.len())).unwrap();
        }
        let tree = Cgroups::below(&Root::new(&root));
        let mut seen = Vec::new();
        tree.walk("/", |group| {
            assert_eq!(tree.id_of(&group.path), Some(group.id));
            seen.push(group.path);
            ControlFlow::Continue(())
        });
        seen.sort_unstable();
        let all = [
            "/",
            "/a.slice",
            "/a.slice/b.service",
            "/a.slice/b.service/c",
            "/d.service",
        ];
        assert_eq!(seen, all);
        assert_eq!(tree.processes("a.slice/b.service"), [17, 19]);
        let mut count = 0;
        tree.walk("/", |_| {
            count += 1;
            ControlFlow::Break(())
        });
        assert_eq!(count, 1);
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn the_machines_own_tree_has_a_root() {
        let groups = Cgroups::mounted().unwrap();
        assert_eq!(groups.is_there(), groups.id_of("/").is_some());
    }
}
