//! Jellyfin: no key lies on the disk, but its libraries do. Each is a directory of links to media by absolute path, as
//! Jellyfin sees it; one that leads nowhere, or to nothing, would be scanned as an empty library.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};

use dagger_agent::adapter::disk;
use dagger_agent::adapter::probe::call::{Call, call};
use dagger_agent::domain::wellness;
use dagger_suite::model::Service;
use dagger_suite::names::Root;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::{Findings, LIMIT};

/// More entries of one directory are not looked at.
const ENTRIES_MAX: usize = 200;
/// A path is no longer (PATH_MAX).
const LINK_MAX: usize = 4096;
/// Where the health answer lives, below the base URL.
const HEALTH: &str = "/health";

/// Who it is, and whether its media is there.
pub async fn jellyfin(root: &Root, service: &Service) -> Findings {
    let mut findings = Findings::default();
    let identity = identity(service).await;
    match libraries(root, service) {
        Ok(problems) => findings.problems = problems,
        Err(error) => findings.error = Some(error),
    }
    match identity {
        Ok(identity) => {
            findings.problems.extend(wellness::stranger(
                Some("Jellyfin Server"),
                &identity,
                service.probe.port,
            ));
            findings.identity = Some(identity);
        }
        Err(error) => {
            findings.error = Some(match findings.error {
                Some(first) => format!("{first}; {error}"),
                None => error,
            });
        }
    }
    findings
}

async fn identity(service: &Service) -> Result<wellness::Identity, String> {
    let base = service.probe.path.strip_suffix(HEALTH).unwrap_or_default();
    let question = Call {
        path: &format!("{base}/System/Info/Public"),
        headers: &[],
        body: None,
        limit: LIMIT,
    };
    let answer = call(&service.probe, &question).await?;
    match answer.status {
        200 => wellness::jellyfin_info(&answer.body),
        503 => Err("it is starting (HTTP 503)".into()),
        status => Err(format!("it answers HTTP {status} to {}", question.path)),
    }
}

/// A sentence for each path of a library that is not there or empty.
fn libraries(root: &Root, service: &Service) -> Result<Vec<String>, String> {
    let Some(data) = service.state.iter().find(|mount| mount.role == "data") else {
        return Ok(Vec::new());
    };
    let top = root.join(format!("{}/root/default", data.source));
    let mut problems = Vec::new();
    for library in names(&top)? {
        let dir = top.join(&library);
        for file in names(&dir)? {
            if Path::new(&file).extension() != Some(OsStr::new("mblink")) {
                continue;
            }
            let bytes = disk::read(&dir.join(&file), LINK_MAX).map_err(|error| error.to_string())?;
            let path = String::from_utf8_lossy(&bytes.unwrap_or_default())
                .trim()
                .to_owned();
            if let Some(what) = look(root, service, Path::new(&path)) {
                problems.push(format!("library {}: {path} {what}", library.to_string_lossy()));
            }
        }
    }
    Ok(problems)
}

/// Names of what a directory holds, in order; nothing when it is not there, or is a file.
fn names(dir: &Path) -> Result<Vec<std::ffi::OsString>, String> {
    let open = match disk::open_dir(dir) {
        Ok(Some(open)) => open,
        Ok(None) | Err(disk::DiskError::NotADirectory(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error.to_string()),
    };
    let mut names = disk::names(open.as_fd(), ENTRIES_MAX)
        .map_err(|error| format!("cannot read {}: {error}", dir.display()))?;
    names.sort();
    Ok(names)
}

/// What is wrong with a path as the container sees it; nothing when it is fine, or cannot be told from here.
fn look(root: &Root, service: &Service, path: &Path) -> Option<&'static str> {
    let plain = path
        .components()
        .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !plain || !path.is_absolute() {
        return None;
    }
    let Some((source, below)) = outside(service, path) else {
        return Some("is not visible inside: none of the service's mounts holds it");
    };
    match enter(&root.join(source), &below).map(|dir| disk::is_empty(dir.as_fd())) {
        Err(Errno::NOENT) => Some("is not there"),
        Ok(Ok(true)) => Some("is empty"),
        // A link, or a directory that is not ours to open: that is not for us to judge.
        Err(_) | Ok(_) => None,
    }
}

/// Opens a directory below a mount. Whoever writes the library's files chooses the path, so no link is followed: no
/// question leads out of the mount. (openat2(2) would say the same in one call, but `RestrictSUIDSGID=` takes it away.)
fn enter(mount: &Path, below: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let mut dir = rustix::fs::open(mount, flags, Mode::empty())?;
    for name in below {
        dir = rustix::fs::openat(&dir, name, flags | OFlags::NOFOLLOW, Mode::empty())?;
    }
    Ok(dir)
}

/// The mount that holds a path, and the rest of the path below it.
fn outside<'a>(service: &'a Service, path: &Path) -> Option<(&'a str, PathBuf)> {
    service
        .state
        .iter()
        .chain(&service.mounts)
        .filter_map(|mount| Some((mount, path.strip_prefix(&mount.target).ok()?)))
        .max_by_key(|(mount, _)| mount.target.len())
        .map(|(mount, below)| (mount.source.as_str(), below.to_owned()))
}
