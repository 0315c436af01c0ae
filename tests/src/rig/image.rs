//! The images of the suite without a registry, under the very names that the catalogue uses.
//!
//! Transmission is Debian's own program; the other five are the stand-in. They are imported once into a podman store in
//! the cache, which machines get as an additional, read-only image store: a fresh machine has them the moment it boots.

use super::{Machine, Spec, Suite, host, progress, tree};
use crate::standin::servarr;
use anyhow::{Context, Result, ensure};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where a machine finds the images.
const INSIDE: &str = "/var/lib/rig-images";
/// Changed when a store made by an older rig is no longer good.
const RECIPE: &str = "1";
/// Tells podman about the additional store; otherwise the values that podman has without any file.
const STORAGE_CONF: &str = "[storage]\ndriver = \"overlay\"\nrunroot = \"/run/containers/storage\"\n\
    graphroot = \"/var/lib/containers/storage\"\n[storage.options]\nadditionalimagestores = [\"/var/lib/rig-images\"]\n";

/// What an image is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Root {
    /// The stand-in, which takes the application's name as its first argument.
    StandIn,
    /// Debian's transmission-daemon and what it needs.
    Transmission,
}

/// An image: its name, the application's version and the image's own build of it, which are its label, what is in it and the Dockerfile lines that make it behave as the real one.
struct Image {
    reference: &'static str,
    version: &'static str,
    build: &'static str,
    root: Root,
    changes: &'static [&'static str],
}

const IMAGES: &[Image] = &[
    Image {
        reference: "lscr.io/linuxserver/sonarr:latest",
        version: servarr::SONARR,
        build: "-ls310",
        root: Root::StandIn,
        changes: &[
            "ENTRYPOINT [\"/standin\",\"sonarr\"]",
            "EXPOSE 8989",
            "VOLUME /config",
        ],
    },
    Image {
        reference: "lscr.io/linuxserver/radarr:latest",
        version: servarr::RADARR,
        build: "-ls299",
        root: Root::StandIn,
        changes: &[
            "ENTRYPOINT [\"/standin\",\"radarr\"]",
            "EXPOSE 7878",
            "VOLUME /config",
        ],
    },
    Image {
        reference: "lscr.io/linuxserver/prowlarr:latest",
        version: servarr::PROWLARR,
        build: "-ls144",
        root: Root::StandIn,
        changes: &[
            "ENTRYPOINT [\"/standin\",\"prowlarr\"]",
            "EXPOSE 9696",
            "VOLUME /config",
        ],
    },
    Image {
        reference: "lscr.io/linuxserver/bazarr:latest",
        version: "v1.5.3-ls338",
        build: "",
        root: Root::StandIn,
        changes: &[
            "ENTRYPOINT [\"/standin\",\"bazarr\"]",
            "EXPOSE 6767",
            "VOLUME /config",
        ],
    },
    Image {
        reference: "docker.io/jellyfin/jellyfin:latest",
        version: "10.11.6",
        build: "",
        root: Root::StandIn,
        changes: &[
            "ENTRYPOINT [\"/standin\",\"jellyfin\"]",
            "EXPOSE 8096",
            "VOLUME /config",
            "VOLUME /cache",
            "ENV JELLYFIN_DATA_DIR=/config",
            "ENV JELLYFIN_CONFIG_DIR=/config/config",
            "ENV JELLYFIN_LOG_DIR=/config/log",
            "ENV JELLYFIN_CACHE_DIR=/cache",
        ],
    },
    Image {
        reference: "lscr.io/linuxserver/jellyfin:latest",
        version: "10.11.6ubu2404-ls30",
        build: "",
        root: Root::StandIn,
        changes: &[
            "ENTRYPOINT [\"/standin\",\"jellyfin\"]",
            "ENV STANDIN_IMAGE=lsio",
            "EXPOSE 8096",
            "VOLUME /config",
        ],
    },
    Image {
        reference: "lscr.io/linuxserver/lidarr:latest",
        version: servarr::LIDARR,
        build: "-ls20",
        root: Root::StandIn,
        changes: &[
            "ENTRYPOINT [\"/standin\",\"lidarr\"]",
            "EXPOSE 8686",
            "VOLUME /config",
        ],
    },
    Image {
        reference: "lscr.io/linuxserver/transmission:latest",
        version: "4.1.0-r0-ls320",
        build: "",
        root: Root::Transmission,
        changes: &[
            "ENTRYPOINT [\"/init\"]",
            "EXPOSE 9091",
            "EXPOSE 51413",
            "VOLUME /config",
        ],
    },
];

/// The references of all images that machines have.
pub fn references() -> impl Iterator<Item = &'static str> {
    IMAGES.iter().map(|image| image.reference)
}

impl Spec {
    /// Gives the machine the suite's images; `standin` is the statically linked stand-in.
    pub fn with_images(self, suite: Suite, standin: &Path) -> Result<Self> {
        let store = store(suite, standin)?;
        Ok(self
            .bind_read_only(store, INSIDE)
            .file("/etc/containers/storage.conf", STORAGE_CONF))
    }
}

/// The podman store with the images, made when it is not in the cache yet.
fn store(suite: Suite, standin: &Path) -> Result<PathBuf> {
    let program =
        std::fs::read(standin).with_context(|| format!("read the stand-in {}", standin.display()))?;
    let recipe: Vec<String> = IMAGES
        .iter()
        .map(|image| format!("{} {}", image.reference, image.changes.join(" ")))
        .collect();
    let recipe = host::key(&[RECIPE, &recipe.join("\n"), &host::key_of_bytes(&program)]);
    let place = host::cache().join(format!("images-{}-{recipe}", suite.name()));
    let _lock = host::lock(&host::cache().join(format!("images-{}.lock", suite.name())))?;
    if place.is_dir() {
        host::hold(&place)?;
        return Ok(place);
    }
    let roots = [Root::StandIn, Root::Transmission].map(|root| stage(root, &place, standin));
    let [standin, transmission] = roots;
    let (standin, transmission) = (standin?, transmission?);
    progress::during(format!("images for {}", suite.name()), || {
        import(suite, &place, &standin, &transmission)
    })?;
    for staged in [standin, transmission] {
        tree::remove(&staged)?;
    }
    host::hold(&place)?;
    host::forget(&format!("images-{}-", suite.name()))?;
    Ok(place)
}

/// Lays out an image's root directory on the host.
fn stage(root: Root, place: &Path, standin: &Path) -> Result<PathBuf> {
    let staged = place.with_extension(match root {
        Root::StandIn => "standin",
        Root::Transmission => "transmission",
    });
    tree::remove(&staged)?;
    let files = match root {
        Root::StandIn => tree::unpacked(Suite::Trixie, &["base-files", "busybox-static", "tzdata"])?,
        Root::Transmission => tree::unpacked(
            Suite::Trixie,
            &[
                "base-files",
                "busybox-static",
                "tzdata",
                "transmission-daemon",
                "transmission-cli",
            ],
        )?,
    };
    copy(&files, &staged)?;
    for directory in ["config", "cache", "tmp", "run"] {
        std::fs::create_dir_all(staged.join(directory)).with_context(|| format!("create {directory}"))?;
    }
    std::fs::set_permissions(staged.join("tmp"), PermissionsExt::from_mode(0o1777))
        .context("mode of /tmp")?;
    let users = "root:x:0:0:root:/root:/bin/sh\nabc:x:911:911::/config:/bin/false\nnobody:x:65534:65534::/:/bin/false\n";
    std::fs::write(staged.join("etc/passwd"), users).context("write passwd")?;
    std::fs::write(staged.join("etc/group"), "root:x:0:\nabc:x:911:\n").context("write group")?;
    for applet in [
        "sh", "ls", "cat", "id", "ps", "stat", "kill", "env", "date", "sleep",
    ] {
        symlink("busybox", staged.join("usr/bin").join(applet)).with_context(|| format!("link {applet}"))?;
    }
    if root == Root::StandIn {
        std::fs::copy(standin, staged.join("standin")).context("copy the stand-in")?;
    }
    Ok(staged)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp")
        .arg("-a")
        .arg("--reflink=auto")
        .arg(from)
        .arg(to)
        .status()
        .context("run cp")?;
    ensure!(
        status.success(),
        "cp -a {} {}: {status}",
        from.display(),
        to.display()
    );
    Ok(())
}

/// Imports all images in a machine of that release, so that the store is in the form that its podman knows.
fn import(suite: Suite, place: &Path, standin: &Path, transmission: &Path) -> Result<()> {
    let spec = Spec::new("images", suite)?
        .bind_read_only(standin, "/run/standin")
        .bind_read_only(transmission, "/run/transmission");
    let machine = Machine::boot(spec)?;
    for image in IMAGES {
        let root = if image.root == Root::StandIn {
            "/run/standin"
        } else {
            "/run/transmission"
        };
        let label = format!(
            "LABEL org.opencontainers.image.version={}{}",
            image.version, image.build
        );
        let changes: Vec<String> = image
            .changes
            .iter()
            .copied()
            .chain([label.as_str()])
            .map(|change| format!("--change '{change}'"))
            .collect();
        machine.ok(&format!(
            "set -o pipefail; tar -C {root} -c . | podman import --quiet {} - {}",
            changes.join(" "),
            image.reference
        ))?;
    }
    let unfinished = place.with_extension("new");
    tree::remove(&unfinished)?;
    copy(&machine.container_store(), &unfinished)?;
    std::fs::rename(&unfinished, place).with_context(|| format!("rename {}", unfinished.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_labelled_with_the_version_that_its_application_says() {
        let mut seen = 0;
        for application in &servarr::FAMILY {
            let name = format!("/{}:", application.name.to_lowercase());
            for image in IMAGES.iter().filter(|image| image.reference.contains(&name)) {
                assert_eq!(image.version, application.version, "{}", image.reference);
                seen += 1;
            }
        }
        assert_eq!(seen, 4);
    }
}
