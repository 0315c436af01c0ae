//! What the rig keeps on the host, and whether the host lets it boot a machine at all.
//!
//! ```text
//! /var/cache/dagger-rig/          DAGGER_RIG_CACHE    kept: everything here is made again when it is missing
//!   tree-trixie-<key>/            a Debian release, made by mmdebstrap
//!   images-trixie-<key>/          a podman store, mounted read-only into machines
//! /run/dagger-rig/<machine>/      a tmpfs that lives as long as its machine: overlay, container store, console
//! /run/dagger-rig/<machine>.lock  locked by the process that owns the machine
//! ```

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// Where machines live while they run.
pub const RUN: &str = "/run/dagger-rig";

/// The cache directory: `DAGGER_RIG_CACHE`, else `/var/cache/dagger-rig`.
pub fn cache() -> PathBuf {
    std::env::var_os("DAGGER_RIG_CACHE").map_or_else(|| PathBuf::from("/var/cache/dagger-rig"), PathBuf::from)
}

/// Takes a lock file, waiting for whoever holds it; it is given back when the value is dropped.
pub fn lock(path: &Path) -> Result<Flock<File>> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
    }
    let file = open_lock(path)?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| anyhow::anyhow!("lock {}: {errno}", path.display()))
}

/// Takes a lock file if nobody holds it.
pub fn try_lock(path: &Path) -> Result<Option<Flock<File>>> {
    Ok(Flock::lock(open_lock(path)?, FlockArg::LockExclusiveNonblock).ok())
}

fn open_lock(path: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .with_context(|| format!("open {}", path.display()))
}

/// Says why no machine can be booted here, or `Ok` when the host has what it takes.
/// It looks at rights, programs and mounts only; a machine that then fails to boot is a failure, not a skip.
pub fn can_boot() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("not root");
    }
    for program in ["systemd-nspawn", "mmdebstrap", "nsenter"] {
        if find_program(program).is_none() {
            bail!("{program} is not installed (apt-get install systemd-container mmdebstrap util-linux)");
        }
    }
    if super::cgroup::unified_root().is_none() {
        bail!("no cgroup v2 hierarchy is mounted");
    }
    let probe = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--uts", "--ipc", "--net"])
        .args(["sh", "-c", "mount -t tmpfs rig /mnt && mkdir /mnt/a /mnt/b /mnt/c /mnt/d && mount -t overlay -o lowerdir=/mnt/a,upperdir=/mnt/b,workdir=/mnt/c rig /mnt/d"])
        .output()
        .context("run unshare")?;
    if !probe.status.success() {
        bail!(
            "no right to make namespaces and mounts: {}",
            String::from_utf8_lossy(&probe.stderr).trim()
        );
    }
    Ok(())
}

/// Whether this process has CAP_SYS_RESOURCE (number 24), which virtual machines of some build services lack.
pub fn may_raise_limits() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & (1 << 24) != 0)
}

/// The first program of that name in PATH.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

/// A short, stable name for what a cached thing was made from: another recipe gets another name.
pub fn key(parts: &[&str]) -> String {
    let bytes: Vec<u8> = parts.iter().flat_map(|part| part.bytes().chain([0])).collect();
    key_of_bytes(&bytes)
}

/// The same for a file's contents (FNV-1a, 64 bits).
pub fn key_of_bytes(bytes: &[u8]) -> String {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", bytes.iter().fold(0xcbf2_9ce4_8422_2325, step))
}

/// How many cached directories of one kind are kept although nobody uses them: that of the sources as they are, and that of
/// the commit before, so that going back and forth between two makes nothing anew.
const KEPT: usize = 2;
/// The cached directories that this process uses.
static HELD: Mutex<Vec<(PathBuf, Flock<File>)>> = Mutex::new(Vec::new());

/// Marks a cached directory as used just now, and keeps it from being forgotten for as long as this process lives.
pub fn hold(place: &Path) -> Result<()> {
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    if held.iter().any(|(one, _)| one == place) {
        return Ok(());
    }
    let directory = File::open(place).with_context(|| format!("open {}", place.display()))?;
    let now = std::fs::FileTimes::new().set_modified(std::time::SystemTime::now());
    directory
        .set_times(now)
        .with_context(|| format!("touch {}", place.display()))?;
    let lock = Flock::lock(directory, FlockArg::LockShared)
        .map_err(|(_, errno)| anyhow::anyhow!("lock {}: {errno}", place.display()))?;
    held.push((place.to_owned(), lock));
    Ok(())
}

/// Removes the cached directories whose name begins like this, but for the [`KEPT`] used last and those that a process holds:
/// each build of the programs makes another, and a machine on which nobody looks would fill its disk.
pub fn forget(prefix: &str) -> Result<()> {
    forget_in(&cache(), prefix)
}

fn forget_in(cache: &Path, prefix: &str) -> Result<()> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(cache).context("read the cache")?.flatten() {
        let named = entry.file_name().to_string_lossy().starts_with(prefix);
        // One that goes away in this moment is forgotten already.
        let Ok(data) = entry.metadata() else { continue };
        if named && data.is_dir() {
            found.push((
                data.modified().context("time of a cached directory")?,
                entry.path(),
            ));
        }
    }
    found.sort();
    for (_, place) in found.iter().rev().skip(KEPT) {
        let directory = File::open(place).with_context(|| format!("open {}", place.display()))?;
        if let Ok(_lock) = Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            super::tree::remove(place)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_recipe_gets_another_key() {
        assert_eq!(key(&["trixie", "podman"]), key(&["trixie", "podman"]));
        assert_ne!(key(&["trixie", "podman"]), key(&["trixiepod", "man"]));
    }

    #[test]
    fn what_many_builds_left_in_the_cache_goes_but_for_the_last_and_what_is_in_use() {
        let cache = std::env::temp_dir().join(format!("rig-cache-{}", std::process::id()));
        for (age, name) in ["a-5", "a-4", "a-3", "a-2", "a-1", "b-9"].iter().enumerate() {
            std::fs::create_dir_all(cache.join(name).join("usr/bin")).expect("directory");
            let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(age as u64);
            let times = std::fs::FileTimes::new().set_modified(time);
            let directory = File::open(cache.join(name)).expect("open");
            directory.set_times(times).expect("times");
        }
        let used = File::open(cache.join("a-4")).expect("open");
        let used = Flock::lock(used, FlockArg::LockShared).expect("lock");
        std::fs::write(cache.join("a-x.lock"), "").expect("lock file");
        forget_in(&cache, "a-").expect("forget");
        let mut left: Vec<_> = std::fs::read_dir(&cache)
            .expect("read")
            .map(|entry| entry.expect("entry").file_name())
            .collect();
        left.sort();
        drop(used);
        std::fs::remove_dir_all(&cache).expect("remove");
        assert_eq!(left, ["a-1", "a-2", "a-4", "a-x.lock", "b-9"]);
    }
}
