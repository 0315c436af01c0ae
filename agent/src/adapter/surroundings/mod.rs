//! The look around: what of a service and of the machine explains that it does not answer.
//!
//! - [`processes`]: its control group and what its processes do. Read from memory of the kernel: never slow.
//! - [`places`]: its directories. One on a network file system that does not answer holds up whoever asks, for as long as it
//!   likes; [`Looker`] gives such a question a thread of its own and a limit.
//! - [`pressure`]: the load of the whole machine.

pub mod processes;

pub mod places;

pub mod pressure;

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use dagger_suite::names::Root;
use tokio::sync::oneshot;

pub use places::{Kind, Wanted};
pub use processes::Sample;

use super::clock;
use super::mounts::Mounts;
use crate::domain::media::Record;
use crate::domain::surroundings::{Activity, Place, Surroundings, Trouble};

/// Threads that may stand still on dead file systems at once: monitoring.service has `TasksMax=64`.
const STUCK_MAX: usize = 8;

/// Whom to look at.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Subject {
    /// Path of the unit's control group (`ControlGroup=` of systemd), `/dagger.slice/dagger-sonarr.service`; none: it does
    /// not run.
    pub cgroup: Option<String>,
    /// Its directories, state first.
    pub places: Vec<Wanted>,
    /// How its media was at its last good start.
    pub at_start: Option<Record>,
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Seen {
    /// See [`Surroundings::frozen`].
    pub frozen: bool,
    /// See [`Surroundings::stuck`].
    pub stuck: Option<&'static str>,
    /// See [`Surroundings::oom_kills`].
    pub oom_kills: u64,
    /// See [`Surroundings::activity`]; without the lines of the journal.
    pub activity: Activity,
    /// See [`Surroundings::places`].
    pub places: Vec<Place>,
    /// See [`Surroundings::pressure`].
    pub pressure: Option<(f64, &'static str)>,
    /// What the next look needs to know of this one.
    pub sample: Sample,
}

impl Seen {
    /// Puts it where the decision is made; what else stands there stays.
    pub fn put_into(self, surroundings: &mut Surroundings) {
        surroundings.frozen = self.frozen;
        surroundings.stuck = self.stuck;
        surroundings.oom_kills = self.oom_kills;
        surroundings.activity = Activity {
            lines: surroundings.activity.lines,
            ..self.activity
        };
        surroundings.places = self.places;
        surroundings.pressure = self.pressure;
    }
}

/// Looks at everything at once. It may take for ever where a network file system does not answer: see [`Looker`].
pub fn look(root: &Root, subject: &Subject, before: Option<&Sample>) -> Seen {
    Seen {
        places: places::troubles(root, subject, &|_| ()),
        ..look_at_processes(root, subject, before)
    }
}

/// Everything but the directories.
fn look_at_processes(root: &Root, subject: &Subject, before: Option<&Sample>) -> Seen {
    let group = subject.cgroup.as_deref();
    let found = group.map(|group| processes::look(root, group, before, clock::monotonic()));
    let found = found.unwrap_or_default();
    Seen {
        frozen: found.frozen,
        stuck: found.stuck,
        oom_kills: found.oom_kills,
        activity: found.activity,
        sample: found.sample,
        pressure: pressure::worst(root),
        places: Vec::new(),
    }
}

/// The loopback interface, when it is down: `IFF_UP` of netdevice(7) in `/sys/class/net/lo/flags`. Where the file cannot
/// be read, nobody can tell.
pub fn loopback_down(root: &Root) -> Option<&'static str> {
    let text = std::fs::read_to_string(root.join("/sys/class/net/lo/flags")).ok()?;
    let flags = u32::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()?;
    (flags & 1 == 0).then_some("lo")
}

/// Looks within a time limit, however dead a file system is.
#[derive(Debug, Clone)]
pub struct Looker {
    root: Root,
    /// Paths on which a thread stands still right now.
    stuck: Arc<Mutex<Vec<Wanted>>>,
}

impl Looker {
    /// A looker below a root.
    pub fn new(root: Root) -> Self {
        Self {
            root,
            stuck: Arc::default(),
        }
    }

    /// [`look`]; a directory that has not answered by then has [`Trouble::Unreadable`].
    pub async fn look_within(&self, subject: Subject, before: Option<Sample>, limit: Duration) -> Seen {
        let seen = look_at_processes(&self.root, &subject, before.as_ref());
        let (root, asked) = (self.root.clone(), subject.clone());
        let places = self.within(&subject.places, limit, move |at| {
            places::troubles(&root, &asked, at)
        });
        Seen {
            places: places.await,
            ..seen
        }
    }

    /// What is wrong with the media of a service that runs, by the record of its start.
    pub async fn media_within(&self, at_start: Record, limit: Duration) -> Option<Place> {
        let spots = at_start.spots.iter().map(|spot| spot.path.clone());
        let wanted: Vec<_> = spots
            .map(|path| Wanted {
                path,
                kind: Kind::Media,
            })
            .collect();
        let root = self.root.clone();
        let found = self.within(&wanted, limit, move |at| {
            places::lost(&root, &at_start, at).into_iter().collect()
        });
        found.await.into_iter().next()
    }

    /// Asks in a thread of its own. `work` says which path it is about to look at.
    async fn within(
        &self,
        wanted: &[Wanted],
        limit: Duration,
        work: impl FnOnce(&dyn Fn(&Wanted)) -> Vec<Place> + Send + 'static,
    ) -> Vec<Place> {
        let stuck = lock(&self.stuck).clone();
        // A second thread would only stand there, too.
        if let Some(known) = wanted.iter().find(|wanted| stuck.contains(wanted)) {
            return vec![unanswered(known)];
        }
        if stuck.len() >= STUCK_MAX {
            log::debug!("{STUCK_MAX} questions to disks have no answer: no further one is asked");
            return Vec::new();
        }
        let at = Arc::new(Mutex::new(None));
        let (tell, told) = oneshot::channel();
        let (here, others) = (Arc::clone(&at), Arc::clone(&self.stuck));
        let spawned = thread::Builder::new().name("look".into()).spawn(move || {
            let places = work(&|wanted| *lock(&here) = Some(wanted.clone()));
            if let Some(last) = lock(&here).take() {
                lock(&others).retain(|stuck| *stuck != last);
            }
            // Nobody waits any more when the limit is over.
            let _ = tell.send(places);
        });
        if let Err(error) = spawned {
            log::warn!("cannot look at directories: {error}");
            return Vec::new();
        }
        if let Ok(answer) = tokio::time::timeout(limit, told).await {
            return answer.unwrap_or_default();
        }
        // While this is held, the thread cannot say that it has come through after all.
        let Some(hangs) = lock(&at)
            .clone()
            .inspect(|hangs| lock(&self.stuck).push(hangs.clone()))
        else {
            return Vec::new();
        };
        vec![unanswered(&hangs)]
    }
}

fn unanswered(wanted: &Wanted) -> Place {
    Place {
        path: wanted.path.clone(),
        media: wanted.kind.is_media(),
        trouble: Trouble::Unreadable("it does not answer".into()),
    }
}

/// Nothing that is done under these locks can leave something half done.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The mount table; one that cannot be read explains nothing.
fn mounts() -> Mounts {
    Mounts::now().unwrap_or_else(|error| {
        log::debug!("the mount table cannot be read: {error}");
        Mounts::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loopback_interface_that_is_down_is_told() {
        let dir = std::env::temp_dir().join(format!("dagger-loopback-{}", std::process::id()));
        let root = Root::new(&dir);
        assert_eq!(loopback_down(&root), None, "nobody can tell");
        std::fs::create_dir_all(root.join("/sys/class/net/lo")).unwrap();
        for (flags, says) in [("0x9\n", None), ("0x8\n", Some("lo")), ("soup", None)] {
            std::fs::write(root.join("/sys/class/net/lo/flags"), flags).unwrap();
            assert_eq!(loopback_down(&root), says, "{flags}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }

    fn fun() -> Vec<Wanted> {
        vec![Wanted {
            path: "/fun".into(),
            kind: Kind::Media,
        }]
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_dead_disk_holds_up_one_thread_and_nobody_else() {
        let looker = Looker::new(Root::new("/nowhere"));
        let limit = Duration::from_millis(50);
        let (free, freed) = std::sync::mpsc::channel::<()>();
        let wanted = fun();
        let path = wanted[0].clone();
        let found = looker
            .within(&wanted, limit, move |at| {
                at(&path);
                let _ = freed.recv();
                Vec::new()
            })
            .await;
        assert_eq!(found[0].to_string(), "/fun cannot be read: it does not answer");
        // Known by now: no second thread.
        let again = looker.within(&wanted, limit, |_| unreachable!()).await;
        assert_eq!(again, found);
        drop(free);
        for _ in 0..100 {
            if lock(&looker.stuck).is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(looker.within(&wanted, limit, |_| Vec::new()).await.is_empty());
    }
}
