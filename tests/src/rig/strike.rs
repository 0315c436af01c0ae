//! A process of the machine, killed at a chosen one of its system calls (ptrace(2)): before it, and so after the one before.
//!
//! strace(1) cannot do that: of a set of calls it counts each kind by itself, and each thread.

use super::Machine;
use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::HashSet;

/// What makes a step durable, or changes a name. Each has the descriptor of its place first.
const CALLS: &[libc::c_long] = &[
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_syncfs,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_unlinkat,
];

impl Machine {
    /// Lets a process go on that has stopped itself, and kills it at the `call`th call (from 1) of all its threads that makes
    /// something durable; one that makes fewer comes to its end. Returns when it has ended: how many of them it made, and
    /// `call` where it was killed.
    pub fn kill_at(&self, pid: u32, call: u64) -> Result<u64> {
        let host = i32::try_from(self.stopped(pid)?).context("a number of a process")?;
        // A thread waits for what it traces itself, and for nothing else: the machines are children of others.
        std::thread::scope(|scope| {
            let tracer = scope.spawn(|| strike(Pid::from_raw(host), call));
            tracer
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

fn strike(process: Pid, call: u64) -> Result<u64> {
    let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE;
    ptrace::seize(process, options).context("trace a process")?;
    let mut inside = HashSet::new();
    let mut made = 0;
    kill(process, Signal::SIGCONT).context("let a process go on")?;
    loop {
        let (thread, signal) = match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)) {
            Ok(WaitStatus::PtraceSyscall(thread)) => {
                // Each call stops twice: before it, and after it.
                if inside.remove(&thread) {
                    (thread, None)
                } else {
                    inside.insert(thread);
                    if made < call && is_durable(thread) {
                        made += 1;
                        if made == call {
                            kill(process, Signal::SIGKILL).context("kill a process")?;
                        }
                    }
                    (thread, None)
                }
            }
            Ok(WaitStatus::Stopped(thread, signal)) => (thread, Some(signal)),
            Ok(WaitStatus::PtraceEvent(thread, ..)) => (thread, None),
            Ok(WaitStatus::Exited(thread, _) | WaitStatus::Signaled(thread, ..)) => {
                inside.remove(&thread);
                continue;
            }
            Ok(other) => bail!("a traced process: {other:?}"),
            Err(Errno::ECHILD) => return Ok(made),
            Err(error) => return Err(error).context("wait for a traced process"),
        };
        // Before a call at which it is killed it does not get any further: nothing lets this thread go on.
        if made == call {
            continue;
        }
        match ptrace::syscall(thread, signal) {
            // It has been killed meanwhile, by somebody else.
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => return Err(error).context("let a traced process go on"),
        }
    }
}

/// Whether a thread that has stopped is about to make one of them. What is in /run is on no disk, and how often a job tells
/// there how far it is depends on how long it takes.
fn is_durable(thread: Pid) -> bool {
    let Ok(registers) = ptrace::getregs(thread) else {
        return false;
    };
    #[cfg(target_arch = "x86_64")]
    let (number, descriptor) = (registers.orig_rax, registers.rdi);
    #[cfg(target_arch = "aarch64")]
    let (number, descriptor) = (registers.regs[8], registers.regs[0]);
    let place = || std::fs::read_link(format!("/proc/{thread}/fd/{descriptor}"));
    libc::c_long::try_from(number).is_ok_and(|number| CALLS.contains(&number))
        && !place().is_ok_and(|place| place.starts_with("/run"))
}
