//! Which process has a socket open.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Dir, Mode, OFlags, openat, readlinkat};

use super::container::{self, Container};
use crate::adapter::cgroups::Cgroups;

/// A process that has the socket open; when several share it, the oldest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its name (proc_pid_comm(5)), without control characters.
    pub name: String,
    /// Path of its own cgroup: in the unified tree, or in systemd's own where there is no other.
    pub cgroup: String,
    /// The container that it holds the port for, when it is a container engine's helper.
    pub container: Option<Container>,
}

/// A socket that is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// Its inode.
    pub inode: u32,
    /// Path of the cgroup that it was made in.
    pub group: Option<&'a str>,
}

/// The processes that have sockets open, by inode. Those of other users are seen only with CAP_SYS_PTRACE.
///
/// Each socket's own cgroup is looked through first, then all processes for those that are left: a socket may have been
/// handed on, and the kernel may not have told its group.
pub fn of_sockets(groups: &Cgroups, wanted: &[Wanted<'_>]) -> BTreeMap<u32, Process> {
    let mut left: BTreeSet<u32> = wanted.iter().map(|wanted| wanted.inode).collect();
    // What nobody has open has no inode.
    left.remove(&0);
    let mut found = BTreeMap::new();
    // The root holds everything: that is the second walk.
    let paths: BTreeSet<&str> = wanted.iter().filter_map(|wanted| wanted.group).collect();
    for path in paths.into_iter().filter(|path| *path != "/") {
        search(groups.processes(path), &mut left, &mut found);
    }
    if !left.is_empty() {
        search(all(), &mut left, &mut found);
    }
    found
}

fn search(mut pids: Vec<u32>, left: &mut BTreeSet<u32>, found: &mut BTreeMap<u32, Process>) {
    pids.sort_unstable();
    for pid in pids {
        if left.is_empty() {
            return;
        }
        // Processes that vanish while they are looked at, and those that we may not look into, have none of them.
        let Some(directory) = open(pid) else { continue };
        let sockets = sockets_of(directory.as_fd(), left);
        if sockets.is_empty() {
            continue;
        }
        let Some(process) = describe(pid, directory.as_fd()) else {
            continue;
        };
        for inode in sockets {
            left.remove(&inode);
            found.insert(inode, process.clone());
        }
    }
}

/// A process's directory. What is read through it is that process's or an error: its number may be given to another one
/// meanwhile.
fn open(pid: u32) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, format!("/proc/{pid}"), flags, Mode::empty()).ok()
}

/// Those of the inodes that the process has open.
fn sockets_of(process: BorrowedFd<'_>, left: &BTreeSet<u32>) -> BTreeSet<u32> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(descriptors) = openat(process, "fd", flags, Mode::empty()) else {
        return BTreeSet::new();
    };
    let Ok(entries) = Dir::read_from(&descriptors) else {
        return BTreeSet::new();
    };
    let mut buffer = Vec::new();
    let mut sockets = BTreeSet::new();
    for entry in entries.flatten() {
        let Ok(target) = readlinkat(&descriptors, entry.file_name(), buffer) else {
            buffer = Vec::new();
            continue;
        };
        sockets.extend(inode_of(target.to_bytes()).filter(|inode| left.contains(inode)));
        if sockets.len() == left.len() {
            break;
        }
        buffer = target.into_bytes();
    }
    sockets
}

/// `socket:[12345]` (proc_pid_fd(5)).
fn inode_of(target: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(target).ok()?;
    text.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

fn describe(pid: u32, process: BorrowedFd<'_>) -> Option<Process> {
    let name = read(process, "comm")?;
    let name: String = name.trim_end().chars().filter(|c| !c.is_control()).collect();
    let container = if container::is_helper(&name) {
        let line = read(process, "cmdline").unwrap_or_default();
        container::of_helper(&name, &line.split('\0').collect::<Vec<_>>())
    } else {
        None
    };
    let cgroup = read(process, "cgroup").unwrap_or_default();
    Some(Process {
        pid,
        cgroup: group_of(&cgroup).to_owned(),
        name,
        container,
    })
}

fn read(process: BorrowedFd<'_>, file: &str) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let mut bytes = Vec::new();
    File::from(openat(process, file, flags, Mode::empty()).ok()?)
        .read_to_end(&mut bytes)
        .ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Processes of a group and those below it, with their names, oldest first: who may be meant where nobody may be looked
/// into.
pub fn of_group(groups: &Cgroups, path: &str, most: usize) -> Vec<Process> {
    let mut pids = groups.processes(path);
    pids.sort_unstable();
    pids.into_iter()
        .filter_map(|pid| describe(pid, open(pid)?.as_fd()))
        .take(most)
        .collect()
}

fn all() -> Vec<u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .collect()
}

/// The group in /proc/PID/cgroup (cgroups(7)): `0::/path`, or systemd's own tree (`1:name=systemd:/path`) on machines where
/// the unified one is not used.
pub fn group_of(text: &str) -> &str {
    let unified = text.lines().find_map(|line| line.strip_prefix("0::"));
    let older = text
        .lines()
        .find_map(|line| line.split_once(':')?.1.strip_prefix("name=systemd:"));
    unified
        .filter(|path| *path != "/")
        .or(older)
        .or(unified)
        .unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unified_line_counts_where_it_says_something() {
        for (text, path) in [
            (
                "2:cpu:/a\n0::/system.slice/x.service\n",
                "/system.slice/x.service",
            ),
            (
                "2:cpu:/a\n1:name=systemd:/system.slice/y.service\n0::/\n",
                "/system.slice/y.service",
            ),
            (
                "1:name=systemd:/system.slice/y.service\n0::/system.slice/x.service\n",
                "/system.slice/x.service",
            ),
            (
                "1:name=systemd:/system.slice/y.service\n",
                "/system.slice/y.service",
            ),
            ("0::/\n", "/"),
            ("2:cpu:/a\n", ""),
        ] {
            assert_eq!(group_of(text), path, "{text}");
        }
    }

    #[test]
    fn links_to_sockets_are_told_from_others() {
        assert_eq!(inode_of(b"socket:[4711]"), Some(4711));
        for other in [
            "socket:[]",
            "socket:[x]",
            "/socket:[1]",
            "pipe:[4711]",
            "socket:[99999999999]",
        ] {
            assert_eq!(inode_of(other.as_bytes()), None, "{other}");
        }
    }
}
