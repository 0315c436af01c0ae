//! Root trees: a Debian release with the packages that a machine needs, made once by mmdebstrap.

use super::{host, progress};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Changed when a tree made by an older rig is no longer good.
const RECIPE: &str = "2";

/// What every machine has. Recommended packages are left out, so what podman needs for a bridge is named here.
const BASE: &[&str] = &[
    "systemd",
    "systemd-sysv",
    "dbus",
    "polkitd",
    "libpam-systemd",
    "podman",
    "crun",
    "conmon",
    "netavark",
    "aardvark-dns",
    "nftables",
    "iptables",
    "catatonit",
    "runc",
    "uidmap",
    "busybox-static",
    "socat",
    "sqlite3",
    "curl",
    "ca-certificates",
    "iproute2",
    "procps",
    "bash-completion",
];

/// A Debian release that machines are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// Debian 13: systemd 257, podman 5.4.
    Trixie,
    /// Debian 12: systemd 252, podman 4.3.
    Bookworm,
}

impl Suite {
    /// The release's name in the archive.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trixie => "trixie",
            Self::Bookworm => "bookworm",
        }
    }
}

/// The tree of `suite` with the packages `extra` besides the usual ones; made when it is not in the cache yet.
pub fn tree(suite: Suite, extra: &[&str]) -> Result<PathBuf> {
    let packages: Vec<&str> = BASE.iter().chain(extra).copied().collect();
    let label = if extra.is_empty() {
        suite.name().to_owned()
    } else {
        format!("{} with {}", suite.name(), extra.join(", "))
    };
    cached(
        "tree",
        suite,
        &packages,
        &format!("root tree of {label} by mmdebstrap"),
        "minbase",
    )
}

/// Only the files of `packages` and of what they need, unpacked and not set up: what an image is made of.
pub fn unpacked(suite: Suite, packages: &[&str]) -> Result<PathBuf> {
    cached(
        "files",
        suite,
        packages,
        &format!("files of {} by mmdebstrap", packages.join(", ")),
        "extract",
    )
}

fn cached(kind: &str, suite: Suite, packages: &[&str], label: &str, variant: &str) -> Result<PathBuf> {
    let list = packages.join(",");
    let place = host::cache().join(format!(
        "{kind}-{}-{}",
        suite.name(),
        host::key(&[RECIPE, suite.name(), &list])
    ));
    let _lock = host::lock(&host::cache().join(format!("{kind}-{}.lock", suite.name())))?;
    if place.is_dir() {
        return Ok(place);
    }
    let unfinished = place.with_extension("new");
    remove(&unfinished)?;
    progress::during(label, || mmdebstrap(variant, suite, &list, &unfinished))?;
    std::fs::rename(&unfinished, &place).with_context(|| format!("rename {}", unfinished.display()))?;
    Ok(place)
}

fn mmdebstrap(variant: &str, suite: Suite, packages: &str, place: &Path) -> Result<()> {
    let mut command = Command::new("mmdebstrap");
    command
        .arg(format!("--variant={variant}"))
        .arg("--aptopt=APT::Install-Recommends \"false\"");
    command
        .arg("--dpkgopt=path-exclude=/usr/share/doc/*")
        .arg("--dpkgopt=path-exclude=/usr/share/locale/*");
    command
        .arg(format!("--include={packages}"))
        .arg(suite.name())
        .arg(place);
    if let Some(mirror) = std::env::var_os("DAGGER_RIG_MIRROR") {
        command.arg(mirror);
    }
    let output = command.output().context("run mmdebstrap")?;
    if !output.status.success() {
        bail!(
            "mmdebstrap {}: {}\n{}",
            suite.name(),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// Removes a directory tree that may not be there.
pub fn remove(place: &Path) -> Result<()> {
    match std::fs::remove_dir_all(place) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", place.display()))
        }
        _ => Ok(()),
    }
}
