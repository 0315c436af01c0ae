//! A control group for each machine: two machines never share one, and killing it is the power switch.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// Where cgroup v2 is mounted: `/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` on a hybrid host.
pub fn unified_root() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ');
        let place = words.nth(1)?;
        (words.next()? == "cgroup2").then(|| PathBuf::from(place))
    })
}

/// Where systemd's own named hierarchy is mounted on a hybrid host; nspawn makes groups in it too.
fn named_root() -> Option<PathBuf> {
    let place = Path::new("/sys/fs/cgroup/systemd");
    place.is_dir().then(|| place.to_path_buf())
}

/// Whether the host's init is systemd, which then hands out the groups.
pub fn host_has_systemd() -> bool {
    Path::new("/run/systemd/system").is_dir()
        && std::fs::read_to_string("/proc/1/comm").is_ok_and(|comm| comm.trim() == "systemd")
}

/// The group of a machine, on a host without systemd made here.
pub fn make(unit: &str) -> Result<Vec<PathBuf>> {
    let mut groups = Vec::new();
    for root in unified_root().into_iter().chain(named_root()) {
        let group = root.join(unit);
        std::fs::create_dir_all(&group).with_context(|| format!("create {}", group.display()))?;
        groups.push(group);
    }
    Ok(groups)
}

/// The cgroup v2 directory that a process is in.
pub fn of(pid: u32) -> Result<PathBuf> {
    let root = unified_root().context("no cgroup v2 hierarchy")?;
    let text =
        std::fs::read_to_string(format!("/proc/{pid}/cgroup")).with_context(|| format!("cgroup of {pid}"))?;
    let path = text
        .lines()
        .find_map(|line| line.strip_prefix("0::/"))
        .context("process has no cgroup v2")?;
    Ok(root.join(path))
}

/// Kills whatever is in a group or below it, and waits until it is gone.
pub fn kill(group: &Path) {
    for _ in 0..200 {
        let populated = std::fs::read_to_string(group.join("cgroup.events"))
            .is_ok_and(|text| text.contains("populated 1"));
        if !populated {
            return;
        }
        // Kernels before 5.14 lack cgroup.kill: then every process is killed one by one.
        if std::fs::write(group.join("cgroup.kill"), "1").is_err() {
            kill_each(group);
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

fn kill_each(group: &Path) {
    for child in directories(group) {
        kill_each(&child);
    }
    for pid in std::fs::read_to_string(group.join("cgroup.procs"))
        .unwrap_or_default()
        .lines()
    {
        if let Ok(pid) = pid.parse() {
            // It may have ended by itself in the meantime, which is as good.
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
}

/// Removes a group and those below it, in every hierarchy; what is still in use stays.
pub fn remove(unit: &str) {
    for root in unified_root().into_iter().chain(named_root()) {
        remove_tree(&root.join(unit));
    }
}

fn remove_tree(group: &Path) {
    for child in directories(group) {
        remove_tree(&child);
    }
    // A group that cannot be removed is empty and costs nothing; the next sweep tries again.
    let _ = std::fs::remove_dir(group);
}

fn directories(group: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(group) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}
