//! Which process has a socket open.

use std::fs;
use std::path::Path;

use super::cgroup::Cgroups;

/// A process that has the socket open; when several share it, the oldest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its name (proc_pid_comm(5)), without control characters.
    pub name: String,
    /// Path of its own cgroup in the unified tree.
    pub cgroup: String,
}

/// Looks through the socket's cgroup, and through all processes when the kernel did not tell the group or it holds none:
/// a socket may have been handed on.
pub fn of_socket(groups: &Cgroups, path: Option<&str>, inode: u32) -> Option<Process> {
    if inode == 0 {
        return None;
    }
    let wanted = format!("socket:[{inode}]");
    path.and_then(|path| first(groups.processes(path), &wanted))
        .or_else(|| first(all(), &wanted))
}

fn first(mut pids: Vec<u32>, wanted: &str) -> Option<Process> {
    pids.sort_unstable();
    let pid = pids.into_iter().find(|pid| has_open(*pid, wanted))?;
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}"));
    let name = read("comm")
        .ok()?
        .trim_end()
        .chars()
        .filter(|c| !c.is_control())
        .collect();
    Some(Process {
        pid,
        name,
        cgroup: unified_of(&read("cgroup").unwrap_or_default()).to_owned(),
    })
}

/// Processes that vanish while they are looked at, and those that we may not look into, do not have it.
fn has_open(pid: u32, wanted: &str) -> bool {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target == Path::new(wanted)))
}

fn all() -> Vec<u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .collect()
}

/// The unified tree's line of /proc/PID/cgroup (cgroups(7)): `0::/path`.
pub fn unified_of(text: &str) -> &str {
    text.lines()
        .find_map(|line| line.strip_prefix("0::"))
        .unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unified_line_counts() {
        assert_eq!(
            unified_of("2:cpu:/a\n0::/system.slice/x.service\n"),
            "/system.slice/x.service"
        );
        assert_eq!(unified_of("2:cpu:/a\n"), "");
    }
}
