//! A service's control group (Linux, Documentation/admin-guide/cgroup-v2.rst) and what its processes do
//! (proc_pid_stat(5)).
//!
//! The agent may read both in its sandbox: `ProtectProc=invisible` does not hide processes from the group root.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dagger_suite::names::Root;

use crate::adapter::cgroups::Cgroups;
use crate::domain::surroundings::Activity;

/// More threads than this are not looked at: the application's own come first.
const THREADS_MAX: usize = 1024;
/// Processes around a container that are not the application.
const HELPERS: [&str; 5] = ["conmon", "podman", "crun", "runc", "catatonit"];

/// What the next look needs to know of this one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sample {
    /// When it was taken (CLOCK_MONOTONIC).
    at: Duration,
    /// Processor time of the group so far.
    cpu: Duration,
    /// Bytes that it has read and written so far.
    bytes: u64,
    /// Threads that stood in the kernel.
    waiting: Vec<Standing>,
}

/// A thread that waits for its disk, and runs less often than this, has a disk that takes 50 ms and more for each thing that
/// is wanted of it; the slowest that is well takes a fifth of that.
const SLOW_PER_SECOND: f64 = 20.0;

/// A thread in state D. When it is seen again with the same number of switches, it has not run in between.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Standing {
    thread: u32,
    /// When it began, in ticks since the machine's: numbers are used again.
    began: u64,
    switches: u64,
}

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) frozen: bool,
    pub(super) stuck: Option<&'static str>,
    pub(super) oom_kills: u64,
    pub(super) activity: Activity,
    pub(super) sample: Sample,
}

/// Looks at a control group and everything below it.
pub(super) fn look(root: &Root, group: &str, before: Option<&Sample>, now: Duration) -> Found {
    let tree = Cgroups::below(root);
    // The root of the tree, which has no such file, is no service's.
    let dir = tree
        .directory(group)
        .filter(|dir| dir.join("cgroup.events").exists());
    let Some(dir) = dir else {
        return Found::default();
    };
    let mut groups = Vec::new();
    tree.walk(group, |group| {
        groups.push(group.path);
        ControlFlow::Continue(())
    });
    let processes: Vec<_> = groups
        .iter()
        .flat_map(|group| processes(root, &tree, group))
        .collect();
    let sample = Sample {
        at: now,
        cpu: Duration::from_micros(value(&dir.join("cpu.stat"), "usage_usec").unwrap_or(0)),
        bytes: bytes(&dir.join("io.stat")),
        waiting: waiting(root, &processes),
    };
    Found {
        frozen: groups
            .iter()
            .filter_map(|group| tree.directory(group))
            .any(|dir| is_frozen(&dir)),
        stuck: stuck(&processes, &sample, before),
        oom_kills: value(&dir.join("memory.events"), "oom_kill").unwrap_or(0),
        activity: before.map(|before| activity(before, &sample)).unwrap_or_default(),
        sample,
    }
}

/// podman freezes the group of the container's payload, systemd that of the unit. What holds no process does not count.
fn is_frozen(group: &Path) -> bool {
    let events = group.join("cgroup.events");
    value(&events, "frozen") == Some(1) && value(&events, "populated") == Some(1)
}

/// A number of a file of lines `name number`. Files of controllers that are off are not there.
fn value(path: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(word, _)| *word == name)
        .and_then(|(_, number)| number.trim().parse().ok())
}

/// `8:0 rbytes=1 wbytes=2 rios=...`, a line a disk.
fn bytes(path: &Path) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace()
        .filter_map(|word| word.split_once('='))
        .filter(|(name, _)| matches!(*name, "rbytes" | "wbytes"))
        .filter_map(|(_, number)| number.parse::<u64>().ok())
        .fold(0, u64::saturating_add)
}

/// Nothing is said over a restart, which begins a new count.
fn activity(before: &Sample, now: &Sample) -> Activity {
    let cpu = now.cpu.checked_sub(before.cpu);
    let bytes = now.bytes.checked_sub(before.bytes);
    match (now.at.checked_sub(before.at), cpu, bytes) {
        (Some(over), Some(cpu), Some(bytes)) => Activity {
            over,
            cpu,
            bytes,
            lines: 0,
        },
        _ => Activity::default(),
    }
}

/// One line of a `stat` file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stat {
    id: u32,
    name: String,
    state: char,
    began: u64,
    /// Resident pages.
    resident: u64,
}

/// `158 (standin) S 156 158 ...`; a name may hold anything, brackets too.
fn stat(text: &str) -> Option<Stat> {
    let (id, rest) = text.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let mut words = rest.split_whitespace();
    let state = words.next()?.chars().next()?;
    Some(Stat {
        id: id.parse().ok()?,
        name: name.to_owned(),
        state,
        // Fields 22 and 24; the state is field 3.
        began: words.nth(18)?.parse().ok()?,
        resident: words.nth(1)?.parse().ok()?,
    })
}

/// The application's processes in a group.
fn processes(root: &Root, tree: &Cgroups, group: &str) -> Vec<Stat> {
    let one = |number: u32| stat(&fs::read_to_string(root.join(format!("/proc/{number}/stat"))).ok()?);
    let stats = tree.members(group).into_iter().filter_map(one);
    stats
        .filter(|stat| !HELPERS.contains(&stat.name.as_str()))
        .collect()
}

/// Threads of the processes that stand in the kernel. The first thread alone says little: applications wait for their disk
/// in others.
fn waiting(root: &Root, processes: &[Stat]) -> Vec<Standing> {
    let tasks = processes.iter().flat_map(|process| {
        let dir = root.join(format!("/proc/{}/task", process.id));
        fs::read_dir(dir).into_iter().flatten().flatten()
    });
    let standing = |dir: PathBuf| {
        let stat = stat(&fs::read_to_string(dir.join("stat")).ok()?).filter(|stat| stat.state == 'D')?;
        let status = fs::read_to_string(dir.join("status")).ok()?;
        let switches = status
            .lines()
            .filter_map(|line| line.split_once("ctxt_switches:"));
        Some(Standing {
            thread: stat.id,
            began: stat.began,
            switches: switches
                .filter_map(|(_, number)| number.trim().parse::<u64>().ok())
                .sum(),
        })
    };
    tasks
        .take(THREADS_MAX)
        .filter_map(|task| standing(task.path()))
        .collect()
}

/// Why the processes cannot answer, when it is not their own doing.
fn stuck(processes: &[Stat], now: &Sample, before: Option<&Sample>) -> Option<&'static str> {
    // Somebody may have stopped the application and not the small process that started it.
    let application = processes.iter().max_by_key(|process| process.resident)?;
    if application.state == 'T' {
        return Some("its processes are stopped (SIGCONT wakes them)");
    }
    let before = before?;
    let dead = |standing: &Standing| before.waiting.contains(standing);
    if now.waiting.iter().any(dead) {
        return Some("its processes wait for a disk that does not answer");
    }
    // One that stands at both looks and hardly ran in between has waited for nearly each thing that it wanted.
    let spent = now.at.saturating_sub(before.at).as_secs_f64();
    let slow = |standing: &Standing| {
        before.waiting.iter().any(|old| {
            let ran = u32::try_from(standing.switches.saturating_sub(old.switches)).unwrap_or(u32::MAX);
            let same = (old.thread, old.began) == (standing.thread, standing.began);
            same && f64::from(ran) < spent * SLOW_PER_SECOND
        })
    };
    now.waiting
        .iter()
        .any(slow)
        .then_some("its processes wait for a disk that is very slow")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: &str = "/dagger.slice/dagger-sonarr.service";

    /// A machine of files: one unit with a container's payload of one process.
    struct World(PathBuf);

    impl World {
        fn new(name: &str) -> Self {
            let world = Self(std::env::temp_dir().join(format!("dagger-look-{}-{name}", std::process::id())));
            let _ = fs::remove_dir_all(&world.0);
            let payload = "sys/fs/cgroup/dagger.slice/dagger-sonarr.service/libpod-payload-5e";
            let unit = "sys/fs/cgroup/dagger.slice/dagger-sonarr.service";
            for group in [unit, payload] {
                world.file(&format!("{group}/cgroup.events"), "populated 1\nfrozen 0\n");
            }
            world.file(&format!("{unit}/cgroup.procs"), "7\n");
            world.file(&format!("{payload}/cgroup.procs"), "8\n9\n");
            world.process(7, "conmon", 'S', 900);
            world.process(8, "s6 (x) svscan", 'S', 2);
            world.process(9, "Sonarr", 'S', 500);
            world.usage(1_000_000, 0);
            world
        }

        fn file(&self, path: &str, text: &str) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn process(&self, id: u32, name: &str, state: char, resident: u32) {
            self.file(&format!("proc/{id}/stat"), &stat_line(id, name, state, resident));
        }

        fn thread(&self, state: char, switches: u32) {
            self.file("proc/9/task/10/stat", &stat_line(10, "pool", state, 500));
            let status = format!(
                "Name:\tpool\nvoluntary_ctxt_switches:\t{switches}\nnonvoluntary_ctxt_switches:\t1\n"
            );
            self.file("proc/9/task/10/status", &status);
        }

        fn usage(&self, cpu: u64, written: u64) {
            let unit = "sys/fs/cgroup/dagger.slice/dagger-sonarr.service";
            self.file(
                &format!("{unit}/cpu.stat"),
                &format!("usage_usec {cpu}\nuser_usec 1\n"),
            );
            self.file(
                &format!("{unit}/io.stat"),
                &format!("8:0 rbytes=5 wbytes={written} rios=7\n8:16 rbytes=2 wbytes=0\n"),
            );
        }

        fn look(&self, before: Option<&Sample>, at: u64) -> Found {
            look(&Root::new(&self.0), GROUP, before, Duration::from_secs(at))
        }
    }

    fn stat_line(id: u32, name: &str, state: char, resident: u32) -> String {
        let zeros = "0 ".repeat(18);
        format!("{id} ({name}) {state} {zeros}77 1000 {resident} 0\n")
    }

    #[test]
    fn a_quiet_service_explains_nothing() {
        let world = World::new("quiet");
        let first = world.look(None, 10);
        assert_eq!((first.frozen, first.stuck, first.oom_kills), (false, None, 0));
        assert_eq!(first.activity, Activity::default());
        let second = world.look(Some(&first.sample), 15);
        assert_eq!(second.activity.over, Duration::from_secs(5));
        assert_eq!((second.activity.cpu, second.activity.bytes), (Duration::ZERO, 0));
    }

    #[test]
    fn work_is_counted_between_two_looks_and_not_over_a_restart() {
        let world = World::new("work");
        let first = world.look(None, 10);
        world.usage(3_500_000, 4096);
        let second = world.look(Some(&first.sample), 15);
        assert_eq!(second.activity.cpu, Duration::from_millis(2500));
        assert_eq!(second.activity.bytes, 4096);
        world.usage(20_000, 0);
        assert_eq!(world.look(Some(&second.sample), 20).activity, Activity::default());
    }

    #[test]
    fn a_paused_container_is_frozen_though_its_unit_is_not() {
        let world = World::new("frozen");
        let payload = "sys/fs/cgroup/dagger.slice/dagger-sonarr.service/libpod-payload-5e/cgroup.events";
        world.file(payload, "populated 1\nfrozen 1\n");
        assert!(world.look(None, 1).frozen);
        // A group that waits for its first process.
        world.file(payload, "populated 0\nfrozen 1\n");
        assert!(!world.look(None, 1).frozen);
    }

    #[test]
    fn the_application_is_stopped_though_its_init_is_not() {
        let world = World::new("stopped");
        world.process(9, "Sonarr", 'T', 500);
        assert!(world.look(None, 1).stuck.unwrap().contains("SIGCONT"));
        world.process(9, "Sonarr", 'S', 500);
        world.process(8, "s6 (x) svscan", 'T', 2);
        assert_eq!(world.look(None, 1).stuck, None);
    }

    #[test]
    fn a_thread_that_stood_for_the_whole_of_two_looks_waits_for_its_disk() {
        let world = World::new("disk");
        world.thread('D', 40);
        let first = world.look(None, 10);
        assert_eq!(first.stuck, None, "once is a busy disk");
        assert!(
            world
                .look(Some(&first.sample), 15)
                .stuck
                .unwrap()
                .contains("disk")
        );
        // Once a second or so: a disk that answers, and hardly.
        world.thread('D', 46);
        assert!(
            world
                .look(Some(&first.sample), 15)
                .stuck
                .unwrap()
                .contains("slow")
        );
        world.thread('D', 540);
        assert_eq!(
            world.look(Some(&first.sample), 15).stuck,
            None,
            "it ran in between"
        );
    }

    #[test]
    fn what_the_kernel_killed_is_counted() {
        let world = World::new("oom");
        world.file(
            "sys/fs/cgroup/dagger.slice/dagger-sonarr.service/memory.events",
            "low 0\noom 2\noom_kill 3\n",
        );
        assert_eq!(world.look(None, 1).oom_kills, 3);
    }

    #[test]
    fn a_unit_that_is_gone_explains_nothing() {
        let found = look(&Root::new("/nowhere"), GROUP, None, Duration::from_secs(1));
        assert!(!found.frozen && found.stuck.is_none());
    }
}
