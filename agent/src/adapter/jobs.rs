//! Jobs as files below `/run/dagger/job`: what the agent asks for, and what the job says. All of it is root's.
//!
//! | file | written by | holds |
//! |---|---|---|
//! | `<service>.request` | agent | [`Request`], taken away by the job that reads it |
//! | `<service>.progress` | job | [`Report`], replaced as a whole |
//! | `<service>.plan` | job | [`Plan`](crate::domain::plan::Plan) of the last look |
//! | `number` | agent | the last number that a job got, so that an agent after this one gives out others |
//! | `<service>.pull` | job | nothing: while it is there the image may be fetched although the native unit owns the service |

use std::io;
use std::path::PathBuf;

use dagger_suite::names::{JOB_DIR, Root, ServiceName};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::disk::{self, DiskError, Over};
use crate::domain::job::{Report, Request};
use crate::domain::plan::Plan;

/// No file of a job comes near it.
const MAX: usize = 4 << 20;
/// More files than these are not looked at: there is a handful for each service.
const MOST: usize = 100_000;
/// See [`last_number`].
const NUMBER: &str = "/run/dagger/job/number";

/// A job's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The system said no.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// It holds something else.
    #[error("{path} is not what a job says: {why}")]
    Content {
        /// Which file.
        path: String,
        /// Why not.
        why: String,
    },
}

fn path(root: &Root, service: &ServiceName, what: &str) -> PathBuf {
    root.join(format!("{JOB_DIR}/{service}.{what}"))
}

fn write(root: &Root, service: &ServiceName, what: &str, content: &impl Serialize) -> Result<(), JobError> {
    let path = path(root, service, what);
    let text = serde_json::to_string(content).map_err(|error| JobError::Content {
        path: path.display().to_string(),
        why: error.to_string(),
    })?;
    disk::write_as(&path, text.as_bytes(), Over::Replace, 0o600)?;
    Ok(())
}

fn read<T: DeserializeOwned>(root: &Root, service: &ServiceName, what: &str) -> Result<Option<T>, JobError> {
    let path = path(root, service, what);
    let Some(bytes) = disk::read(&path, MAX)? else {
        return Ok(None);
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| JobError::Content {
            path: path.display().to_string(),
            why: error.to_string(),
        })
}

fn remove(root: &Root, service: &ServiceName, what: &str) -> io::Result<()> {
    match std::fs::remove_file(path(root, service, what)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Leaves a request for the job that is started next.
pub fn ask(root: &Root, service: &ServiceName, request: &Request) -> Result<(), JobError> {
    write(root, service, "request", request)
}

/// Takes the request that was left, if any: it is not there any more afterwards.
pub fn asked(root: &Root, service: &ServiceName) -> Result<Option<Request>, JobError> {
    let request = read(root, service, "request");
    // One that cannot be read must not stay either.
    remove(root, service, "request").map_err(|error| JobError::Content {
        path: path(root, service, "request").display().to_string(),
        why: error.to_string(),
    })?;
    request
}

/// Says how far a job has come.
pub fn tell(root: &Root, service: &ServiceName, report: &Report) -> Result<(), JobError> {
    write(root, service, "progress", report)
}

/// What a service's last job said.
pub fn told(root: &Root, service: &ServiceName) -> Result<Option<Report>, JobError> {
    read(root, service, "progress")
}

/// What every service's last job said. A report that cannot be read is told to `unreadable`, and left out.
pub fn all(root: &Root, mut unreadable: impl FnMut(&JobError)) -> Vec<Report> {
    let dir = root.join(JOB_DIR);
    let names = match disk::open_dir(&dir) {
        Ok(None) => Vec::new(),
        Ok(Some(open)) => disk::names(&open, MOST).unwrap_or_default(),
        Err(error) => {
            unreadable(&error.into());
            Vec::new()
        }
    };
    let mut reports = Vec::new();
    for name in names {
        let service = name.to_str().and_then(|name| name.strip_suffix(".progress"));
        let Some(Ok(service)) = service.map(ServiceName::parse) else {
            continue;
        };
        match told(root, &service) {
            Ok(report) => reports.extend(report),
            Err(error) => unreadable(&error),
        }
    }
    reports
}

/// Whether a process is there.
pub fn is_alive(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    // One that may not be signalled is there.
    pid.is_some_and(|pid| test_kill_process(pid) != Err(Errno::SRCH))
}

/// The last number that a job got; 0: none.
pub fn last_number(root: &Root) -> u64 {
    let text = disk::read(&root.join(NUMBER), 64).ok().flatten();
    text.and_then(|text| String::from_utf8(text).ok()?.trim().parse().ok())
        .unwrap_or_default()
}

/// Remembers the last number that a job got.
pub fn keep_number(root: &Root, number: u64) -> Result<(), JobError> {
    disk::write_as(
        &root.join(NUMBER),
        number.to_string().as_bytes(),
        Over::Replace,
        0o600,
    )?;
    Ok(())
}

/// Keeps a plan.
pub fn keep_plan(root: &Root, service: &ServiceName, plan: &Plan) -> Result<(), JobError> {
    write(root, service, "plan", plan)
}

/// Takes an older plan away: what is there afterwards is of the look that is begun now.
pub fn forget_plan(root: &Root, service: &ServiceName) -> Result<(), JobError> {
    remove(root, service, "plan").map_err(|error| JobError::Content {
        path: path(root, service, "plan").display().to_string(),
        why: error.to_string(),
    })
}

/// The plan of the last look.
pub fn plan(root: &Root, service: &ServiceName) -> Result<Option<Plan>, JobError> {
    read(root, service, "plan")
}

/// The same as it stands there, in JSON.
pub fn plan_text(root: &Root, service: &ServiceName) -> Result<Option<String>, JobError> {
    let bytes = disk::read(&path(root, service, "plan"), MAX)?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// Allows the image to be fetched, or no more.
pub fn allow_pull(root: &Root, service: &ServiceName, allowed: bool) -> Result<(), JobError> {
    let path = path(root, service, "pull");
    if allowed {
        disk::write_as(&path, b"", Over::Replace, 0o600)?;
        return Ok(());
    }
    remove(root, service, "pull").map_err(|error| JobError::Content {
        path: path.display().to_string(),
        why: error.to_string(),
    })
}
