//! A machine that stands still for a while, as one does whose host suspends it, takes a snapshot of it or swaps.

use super::{Machine, sweep};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

impl Machine {
    /// Lets no process of the machine run for so long; its clocks go on (cgroups(7), `cgroup.freeze`).
    pub fn stand_still(&self, time: Duration) -> Result<()> {
        let frozen = Frozen::new(&sweep::lock_file(&self.name))?;
        std::thread::sleep(time);
        frozen.thaw()
    }
}

/// A group that does not run; dropping it lets it go on.
struct Frozen(PathBuf);

impl Frozen {
    fn new(lock: &Path) -> Result<Self> {
        let group = std::fs::read_to_string(lock).with_context(|| format!("read {}", lock.display()))?;
        ensure!(!group.trim().is_empty(), "{} names no group", lock.display());
        let frozen = Self(PathBuf::from(group.trim()));
        frozen.set("1")?;
        let began = Instant::now();
        let state = frozen.0.join("cgroup.events");
        while !std::fs::read_to_string(&state).is_ok_and(|text| text.contains("frozen 1")) {
            ensure!(
                began.elapsed() < Duration::from_secs(10),
                "{} does not freeze",
                frozen.0.display()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(frozen)
    }

    fn set(&self, value: &str) -> Result<()> {
        let file = self.0.join("cgroup.freeze");
        std::fs::write(&file, value).with_context(|| format!("write {}", file.display()))
    }

    fn thaw(self) -> Result<()> {
        self.set("0")
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // After `thaw` this says the same once more; after an error there is nobody left to tell.
        let _ = self.set("0");
    }
}
