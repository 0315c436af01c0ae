//! What the processes of our own unit have done: the kernel's figures of their control group.

use std::fs;
use std::io;
use std::time::Duration;

use super::cgroups::Cgroups;
use crate::domain::work::Work;

/// Where systemd puts the control processes (`ExecStartPost=`, so ourselves) of a unit with `Delegate=yes`.
const CONTROL: &str = ".control";

/// The processes of a unit, without its control processes.
#[derive(Debug)]
pub enum Workers {
    /// All that is in the unit's control group.
    Unit(Cgroups, String),
    /// One process: we do not run inside the unit, or there is no unified tree.
    Process(u32),
}

impl Workers {
    /// The workers of `unit` when we run inside it, else the process `main` alone.
    pub fn of(unit: &str, main: u32) -> io::Result<Self> {
        let own = fs::read_to_string("/proc/self/cgroup")?;
        Ok(match group_of(&own, unit) {
            Some(path) => Self::Unit(Cgroups::mounted()?, path),
            None => Self::Process(main),
        })
    }

    /// Their work so far.
    pub fn measure(&self) -> io::Result<Work> {
        match self {
            Self::Unit(groups, path) => {
                let control = format!("{path}/{CONTROL}");
                let ours = groups.cpu(&control).unwrap_or_default();
                let control = groups.processes(&control);
                let written = groups
                    .processes(path)
                    .into_iter()
                    .filter(|pid| !control.contains(pid))
                    // A process that ended meanwhile writes nothing more.
                    .filter_map(|pid| written(pid).ok())
                    .sum();
                Ok(Work {
                    cpu: groups.cpu(path)?.saturating_sub(ours),
                    written,
                })
            }
            Self::Process(pid) => Ok(Work {
                cpu: cpu(*pid)?,
                written: written(*pid)?,
            }),
        }
    }
}

/// Path of the unit's group in the unified tree, from /proc/self/cgroup (cgroups(7)).
fn group_of(own: &str, unit: &str) -> Option<String> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mut group = String::new();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        group.push('/');
        group.push_str(part);
        if part == unit {
            return Some(group);
        }
    }
    None
}

/// Processor time of a process: nanoseconds, the first field of /proc/PID/schedstat (Documentation/scheduler/sched-stats).
fn cpu(pid: u32) -> io::Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat"))?;
    let nanos = text.split(' ').next().and_then(|word| word.parse::<u64>().ok());
    nanos
        .map(Duration::from_nanos)
        .ok_or_else(|| io::Error::other(format!("/proc/{pid}/schedstat is not understood")))
}

/// Bytes that a process has read and written so far, files, pipes and connections alike.
pub fn moved(pid: u32) -> io::Result<u64> {
    Ok(io_of(pid, "rchar: ")?.saturating_add(written(pid)?))
}

fn written(pid: u32) -> io::Result<u64> {
    io_of(pid, "wchar: ")
}

/// A line of /proc/PID/io (proc_pid_io(5)).
fn io_of(pid: u32, field: &str) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/io"))?;
    text.lines()
        .find_map(|line| line.strip_prefix(field)?.trim().parse().ok())
        .ok_or_else(|| io::Error::other(format!("/proc/{pid}/io is not understood")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_of_the_unit_is_found_from_inside() {
        let own = "1:name=systemd:/x\n0::/dagger.slice/dagger-sonarr.service/.control\n";
        assert_eq!(
            group_of(own, "dagger-sonarr.service").as_deref(),
            Some("/dagger.slice/dagger-sonarr.service")
        );
        assert_eq!(group_of(own, "dagger-radarr.service"), None);
        assert_eq!(group_of("0::/\n", "dagger-sonarr.service"), None);
    }

    #[test]
    fn a_process_that_writes_is_seen_at_work() {
        let me = Workers::Process(std::process::id());
        let before = me.measure().unwrap();
        fs::write("/dev/null", [0; 4096]).unwrap();
        let after = me.measure().unwrap();
        assert!(after.written >= before.written + 4096, "{before:?} {after:?}");
        assert!(after.cpu >= before.cpu);
    }
}
