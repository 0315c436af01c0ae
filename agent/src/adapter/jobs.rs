//! Jobs as files below `/run/dagger/job`: what the agent asks for, and what the job says. All of it is root's.
//!
//! | file | written by | holds |
//! |---|---|---|
//! | `<service>.request` | agent | [`Request`], taken away by the job that reads it |
//! | `<service>.progress` | job | [`Report`], replaced as a whole |
//! | `<service>.plan` | job | [`Plan`](crate::domain::plan::Plan) of the last look |
//! | `<service>.pull` | job | nothing: while it is there the image may be fetched although the native unit owns the service |

use std::io;
use std::path::PathBuf;

use dagger_suite::names::{JOB_DIR, Root, ServiceName};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::disk::{self, DiskError, Over};
use crate::domain::job::{Report, Request};
use crate::domain::plan::Plan;

/// No file of a job comes near it.
const MAX: usize = 4 << 20;

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

/// Keeps a plan.
pub fn keep_plan(root: &Root, service: &ServiceName, plan: &Plan) -> Result<(), JobError> {
    write(root, service, "plan", plan)
}

/// The plan of the last look.
pub fn plan(root: &Root, service: &ServiceName) -> Result<Option<Plan>, JobError> {
    read(root, service, "plan")
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
