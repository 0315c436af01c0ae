//! Configurations of any size, and where everything of a measurement lies.

use anyhow::{Context, Result, ensure};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The six, in the order in which they repeat.
const KINDS: [&str; 6] = [
    "sonarr",
    "radarr",
    "prowlarr",
    "bazarr",
    "jellyfin",
    "transmission",
];

/// A configuration of that many services: the six, then more of each kind with ports and state of their own.
pub fn toml(count: usize) -> String {
    let mut text = String::from(
        "[suite]\nmedia = \"/fun\"\nstate = \"/var/lib/nixarr\"\nuser = 568\ngroup = 568\ntimezone = \"Europe/Berlin\"\n",
    );
    for (number, kind) in KINDS.iter().cycle().take(count).enumerate() {
        let round = number / KINDS.len();
        if round == 0 {
            let _ = writeln!(text, "\n[services.{kind}]");
        } else {
            let port = 10_000 + number;
            let _ = writeln!(
                text,
                "\n[services.{kind}-{round}]\nlike = \"{kind}\"\nport = {port}"
            );
        }
        match *kind {
            "transmission" => {
                let _ = writeln!(text, "peer-port = {}", 40_000 + number);
            }
            "jellyfin" if round > 0 => {
                let port = 20_000 + number;
                let _ = writeln!(
                    text,
                    "ports = [{{ name = \"discovery\", port = {port}, container-port = 7359, protocol = \"udp\" }}]"
                );
            }
            _ => {}
        }
        // These two read their port from their own settings only.
        if round > 0 && matches!(*kind, "bazarr" | "jellyfin") {
            text.push_str("network = \"bridge\"\n");
        }
    }
    text
}

/// A directory on a tmpfs that is removed with this value.
pub struct Scratch(PathBuf);

impl Scratch {
    /// An empty one.
    pub fn new() -> Result<Self> {
        let found = ["/dev/shm", "/run"].map(Path::new).into_iter().find(|path| {
            nix::sys::statfs::statfs(*path)
                .is_ok_and(|data| data.filesystem_type() == nix::sys::statfs::TMPFS_MAGIC)
        });
        let place = found
            .context("neither /dev/shm nor /run is a tmpfs")?
            .join(format!("dagger-bench-{}", std::process::id()));
        std::fs::create_dir(&place).with_context(|| format!("make {}", place.display()))?;
        Ok(Self(place))
    }

    /// A path in it.
    pub fn join(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    /// Writes a file in it, with the directories above.
    pub fn put(&self, path: &str, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.join(path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
        }
        std::fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    /// An empty directory in it; what was there is gone.
    pub fn fresh(&self, path: &str) -> Result<PathBuf> {
        let path = self.join(path);
        crate::rig::tree::remove(&path)?;
        std::fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        ensure!(path.is_dir(), "{} is not there", path.display());
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left on a tmpfs is gone with the next boot at the latest.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_services_as_asked_for_each_with_its_port() {
        let text = toml(100);
        assert_eq!(text.matches("\n[services.").count(), 100);
        assert_eq!(text.matches("\nport = ").count(), 94);
        assert_eq!(toml(6).matches("like").count(), 0);
        assert!(text.contains("[services.sonarr-16]\nlike = \"sonarr\"\nport = 10096\n"));
    }
}
