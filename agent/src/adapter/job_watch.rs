//! Word of what jobs say, at once: the kernel tells of every file of theirs that is replaced (inotify(7)).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use dagger_suite::names::{JOB_DIR, Root, ServiceName};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::descriptor::watched;
use super::disk::{self, Leaf};

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// The job of this service has said something.
    By(ServiceName),
    /// More was said than the kernel could remember: everything is to be looked at.
    Much,
}

/// The directory of jobs, watched.
#[derive(Debug)]
pub struct Watch(AsyncFd<OwnedFd>);

impl Watch {
    /// Watches from now on, and makes the directory where it is missing. Needs a tokio runtime with I/O.
    pub fn new(root: &Root) -> io::Result<Self> {
        let dir = root.join(JOB_DIR);
        let leaf = Leaf {
            mode: 0o755,
            owner: None,
        };
        disk::make_dir(&dir, leaf).map_err(io::Error::other)?;
        let queue = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        inotify::add_watch(&queue, &dir, WatchFlags::MOVED_TO | WatchFlags::ONLYDIR)?;
        Ok(Self(watched(queue, Interest::READABLE)?))
    }

    /// Waits for the next. It may be given up and waited for again: nothing is lost.
    pub async fn said(&mut self) -> io::Result<Vec<Said>> {
        loop {
            let mut ready = self.0.ready(Interest::READABLE).await?;
            let said = read(self.0.get_ref())?;
            if said.is_empty() {
                ready.clear_ready();
            } else {
                return Ok(said);
            }
        }
    }
}

/// As much as fits into one buffer; nothing when there is nothing.
fn read(queue: &OwnedFd) -> io::Result<Vec<Said>> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(queue, &mut buffer);
    let mut said = Vec::new();
    loop {
        let event = match events.next() {
            Ok(event) => event,
            Err(Errno::WOULDBLOCK) => return Ok(said),
            Err(errno) => return Err(errno.into()),
        };
        if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
            said.push(Said::Much);
        }
        if event.events().contains(ReadFlags::IGNORED) {
            return Err(io::Error::other(format!("{JOB_DIR} was removed")));
        }
        let name = event
            .file_name()
            .map(|name| String::from_utf8_lossy(name.to_bytes()));
        let service = name.as_deref().and_then(of_progress);
        said.extend(service.map(Said::By).filter(|by| !said.contains(by)));
        if events.is_buffer_empty() {
            return Ok(said);
        }
    }
}

/// The service of a file's name, where that is a job's report.
pub fn of_progress(name: &str) -> Option<ServiceName> {
    let path = Path::new(name);
    let progress = path.extension()? == "progress";
    ServiceName::parse(path.file_stem()?.to_str()?)
        .ok()
        .filter(|_| progress)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::jobs;
    use crate::domain::job::{Report, Request, Task};

    #[tokio::test(flavor = "current_thread")]
    async fn what_a_job_says_is_heard_and_nothing_else() {
        let dir = std::env::temp_dir().join(format!("dagger-job-watch-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        let root = Root::new(dir.canonicalize().unwrap());
        let mut watch = Watch::new(&root).unwrap();
        let sonarr = ServiceName::parse("sonarr").unwrap();
        jobs::ask(&root, &sonarr, &Request::default()).unwrap();
        let waited = tokio::time::timeout(std::time::Duration::from_millis(50), watch.said()).await;
        assert!(waited.is_err());
        for pid in 1..4 {
            jobs::tell(&root, &sonarr, &Report::begun(Task::Migrate, "sonarr", pid, 1)).unwrap();
        }
        assert_eq!(watch.said().await.unwrap(), [Said::By(sonarr)], "together, once");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
