//! Leaves nothing behind: machines are disposed of by name alone, also those of a run that was killed.

use super::{cgroup, disk, host};
use anyhow::{Context, Result};
use nix::mount::{MntFlags, umount2};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The machines of this process, for the signal handler.
static OWN: Mutex<Vec<String>> = Mutex::new(Vec::new());
/// Whether a signal has come that ends this process.
static STOPPED: AtomicBool = AtomicBool::new(false);

/// Where a machine's tmpfs is mounted.
pub fn place(machine: &str) -> PathBuf {
    Path::new(host::RUN).join(machine)
}

/// The lock that a machine's owner holds; its text is the machine's control group.
pub fn lock_file(machine: &str) -> PathBuf {
    Path::new(host::RUN).join(format!("{machine}.lock"))
}

/// The control group's name in the hierarchy, and the unit's where the host runs systemd.
pub fn group_name(machine: &str) -> String {
    format!("dagger-rig-{machine}")
}

/// Counts `machine` among this process's own.
pub fn adopt(machine: &str) {
    if let Ok(mut own) = OWN.lock() {
        own.push(machine.to_owned());
    }
}

/// Kills a machine, unmounts what was its disk, and removes every trace of it.
pub fn dispose(machine: &str) {
    power_off(machine);
    for mount in [place(machine).join("root"), place(machine)] {
        // Not mounted: an earlier attempt got that far.
        let _ = umount2(&mount, MntFlags::MNT_DETACH);
    }
    // An empty mount point by now; were it not, the next sweep would find it.
    let _ = std::fs::remove_dir(place(machine));
    cgroup::remove(&group_name(machine));
    let _ = std::fs::remove_file(lock_file(machine));
    if let Ok(mut own) = OWN.lock() {
        own.retain(|name| name != machine);
    }
}

/// Kills every process of a machine at once: a power cut for everything but the disk.
pub fn power_off(machine: &str) {
    let group = std::fs::read_to_string(lock_file(machine)).unwrap_or_default();
    if !group.trim().is_empty() {
        cgroup::kill(Path::new(group.trim()));
    }
}

/// Disposes of machines whose owner is gone: a test run that was killed leaves them running.
pub fn leftovers() -> Result<()> {
    std::fs::create_dir_all(host::RUN).with_context(|| format!("create {}", host::RUN))?;
    for entry in std::fs::read_dir(host::RUN)
        .with_context(|| format!("read {}", host::RUN))?
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(machine) = name.strip_suffix(".lock") else {
            continue;
        };
        if let Some(lock) = host::try_lock(&entry.path())? {
            dispose(machine);
            drop(lock);
        }
    }
    Ok(())
}

/// Disposes of this process's machines on SIGINT, SIGTERM and SIGHUP, and ends as the signal would have.
pub fn on_signals() -> Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut signals =
        signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]).context("signal handlers")?;
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            STOPPED.store(true, Ordering::Relaxed);
            eprintln!("\n    stopped by signal {signal}; removing the machines");
            let own = OWN.lock().map(|own| own.clone()).unwrap_or_default();
            disk::release();
            for machine in &own {
                dispose(machine);
            }
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

/// Never returns where a signal is about to end this process: what fails then fails because its machine is being removed,
/// and says nothing.
pub fn hold_if_stopped() {
    while STOPPED.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_secs(1));
    }
}
