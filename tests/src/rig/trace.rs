//! A process of the machine whose system calls are listed, take longer or fail (strace(1), `inject=`).

use super::Machine;
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

impl Machine {
    /// The number that the host knows a process of the machine by.
    pub fn host_pid(&self, pid: u32) -> Result<u32> {
        let of = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/pid"));
        let here = of(self.leader).context("the machine is off")?;
        for entry in std::fs::read_dir("/proc").context("list /proc")?.flatten() {
            let Some(host) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            if of(host).ok() != Some(here.clone()) {
                continue;
            }
            let status =
                std::fs::read_to_string(PathBuf::from(format!("/proc/{host}/status"))).unwrap_or_default();
            let inside = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
            if inside.and_then(|line| line.split_whitespace().last()) == Some(&pid.to_string()) {
                return Ok(host);
            }
        }
        bail!("process {pid} of {} is not there", self.name)
    }

    /// Lets a process go on that has stopped itself; from then on what its threads ask of the kernel fails, or takes longer,
    /// as these words say (strace(1), `inject=`: `fsync:error=EIO:when=3`).
    pub fn disturb(&self, pid: u32, injections: &[&str]) -> Result<()> {
        self.disturb_at(pid, injections, None)
    }

    /// The same for those calls alone that are about the file or the directory with this path.
    pub fn disturb_at(&self, pid: u32, injections: &[&str], path: Option<&str>) -> Result<()> {
        let calls: Vec<&str> = injections
            .iter()
            .filter_map(|injection| injection.split(':').next())
            .collect();
        let trace = format!("trace={}", calls.join(","));
        let injected = injections.iter().map(|injection| format!("inject={injection}"));
        let what: Vec<String> = std::iter::once(trace).chain(injected).collect();
        let what: Vec<&str> = what.iter().map(String::as_str).collect();
        let list = self.on_disk("/var/tmp/rig-disturbed");
        let mut how = vec!["-q", "-f", "-y"];
        how.extend(path.iter().flat_map(|path| ["-P", path]));
        let mut strace = self.traced(pid, &list, &how, &what)?;
        // It ends with the process.
        std::thread::spawn(move || strace.wait());
        Ok(())
    }

    /// Lets a process go on that has stopped itself, and lists what its threads ask of the kernel, of these calls, until it has
    /// ended: a line each, with the time and with the path of each descriptor.
    pub fn listed(&self, pid: u32, calls: &[&str]) -> Result<String> {
        let list = self.on_disk("/var/tmp/rig-listed");
        let trace = format!("trace={}", calls.join(","));
        let mut strace = self.traced(pid, &list, &["-q", "-f", "-y", "-ttt", "-s", "200"], &[&trace])?;
        strace.wait().context("wait for strace")?;
        std::fs::read_to_string(&list).with_context(|| format!("read {}", list.display()))
    }

    /// The number that the host knows a process by that stops itself, once it has.
    pub(super) fn stopped(&self, pid: u32) -> Result<u32> {
        let host = self.host_pid(pid)?;
        let stopped = format!("/proc/{host}/stat");
        let began = Instant::now();
        while !std::fs::read_to_string(&stopped).is_ok_and(|stat| stat.contains(") T ")) {
            ensure!(
                began.elapsed() < Duration::from_secs(10),
                "process {pid} does not stop"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(host)
    }

    /// strace(1) at a process that has stopped itself, and that goes on when it is attached.
    fn traced(&self, pid: u32, list: &Path, how: &[&str], what: &[&str]) -> Result<Child> {
        let host = self.stopped(pid)?;
        let strace = Command::new("strace")
            .arg("-o")
            .arg(list)
            .args(how)
            .args(what.iter().flat_map(|what| ["-e", what]))
            .args(["-p", &host.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("start strace")?;
        let traced = format!("/proc/{host}/status");
        let is_traced = || std::fs::read_to_string(&traced).is_ok_and(|text| !text.contains("TracerPid:\t0"));
        let began = Instant::now();
        while !is_traced() {
            ensure!(
                began.elapsed() < Duration::from_secs(10),
                "strace does not attach"
            );
            std::thread::sleep(Duration::from_millis(2));
        }
        self.ok(&format!("kill -CONT {pid}"))?;
        Ok(strace)
    }
}
