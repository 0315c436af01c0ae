//! The look around before anything is done to a service that does not answer: what was found, and whether that explains it.
//!
//! [`Surroundings::cause`] is the whole decision. Each [`Cause`] has its sentence, the time that it is waited for, and what
//! comes after that time.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::health::Health;

/// A file system with less than this left counts as full: SQLite needs room for its journal.
const FULL_BYTES: u64 = 16 << 20;
/// So many inodes left, or fewer, count as none. File systems without fixed inodes (btrfs) say 0 of 0.
const FULL_INODES: u64 = 16;
/// Share of the last ten seconds in which tasks stood still for want of a processor, memory or the disk, in percent:
/// beyond it, a late answer says nothing about the application (Linux, Documentation/accounting/psi.rst).
const LOADED_PERCENT: f64 = 60.0;
/// A question that was itself so late says the same.
const LATE: Duration = Duration::from_secs(1);
/// After a jump of the clock, a resume or a standstill, applications get this long to find themselves.
const SETTLE: Duration = Duration::from_mins(1);
/// So many services that fail together are no coincidence where they are most of those that run.
const TOGETHER: usize = 3;
/// Restarts of two services are at least so far apart.
pub const APART: Duration = Duration::from_secs(5);
/// Less processor time than this between two looks is no sign of work, as a share in percent: an event loop that waits
/// costs about so much.
const WORK_PERCENT: u32 = 5;
/// Bytes read or written between two looks that are a sign of work.
const WORK_BYTES: u64 = 1 << 20;

/// What is wrong with a place on the disk that a service needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trouble {
    /// It is not mounted, though it was when the service started, or it is not there at all.
    NotMounted,
    /// Nothing is in it, though something was when the service started.
    Empty,
    /// No room is left: bytes and inodes.
    Full,
    /// The kernel mounted it read-only, or somebody did.
    ReadOnly,
    /// It cannot be looked at: the system's own words.
    Unreadable(String),
}

/// A place on the disk with trouble.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Absolute path.
    pub path: String,
    /// It is media: what the application must never see as an empty library.
    pub media: bool,
    /// What is wrong.
    pub trouble: Trouble,
}

impl Place {
    /// Whether an application can fail to answer for this. Media that is full or read-only is a nuisance: it answers.
    fn hinders(&self) -> bool {
        !(self.media && matches!(self.trouble, Trouble::Full | Trouble::ReadOnly))
    }
}

impl Trouble {
    /// Whether a file system with this much left, of this many inodes, is full.
    pub fn by_room(bytes: u64, inodes: u64, inodes_free: u64) -> Option<Self> {
        (bytes < FULL_BYTES || (inodes > 0 && inodes_free <= FULL_INODES)).then_some(Self::Full)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match &self.trouble {
            Trouble::NotMounted => write!(f, "{path} is not mounted"),
            Trouble::Empty => write!(f, "{path} is empty and was not before"),
            Trouble::Full => write!(f, "{path} is full"),
            Trouble::ReadOnly => write!(f, "{path} is read-only"),
            Trouble::Unreadable(error) => write!(f, "{path} cannot be read: {error}"),
        }
    }
}

/// What the service's own processes did since the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Activity {
    /// Time between the two looks; zero on the first one.
    pub over: Duration,
    /// Processor time used.
    pub cpu: Duration,
    /// Bytes read and written.
    pub bytes: u64,
    /// Lines written to the journal.
    pub lines: u64,
}

impl Activity {
    /// What was seen of work, in words.
    fn work(&self) -> Option<&'static str> {
        if self.over.is_zero() {
            return None;
        }
        if self.bytes >= WORK_BYTES {
            return Some("it reads and writes");
        }
        if self.lines > 0 {
            return Some("it writes to its log");
        }
        (self.cpu * 100 >= self.over * WORK_PERCENT).then_some("it uses the processor")
    }
}

/// Everything that was found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Surroundings {
    /// Its unit does not run, and systemd does not start it by itself.
    pub down: bool,
    /// Somebody froze its control group (`systemctl freeze`, `podman pause`).
    pub frozen: bool,
    /// All of its processes are stopped (SIGSTOP) or wait for a disk that does not answer (state D).
    pub stuck: Option<&'static str>,
    /// Processes of it that the kernel killed for want of memory since the start.
    pub oom_kills: u64,
    /// What its processes did.
    pub activity: Activity,
    /// Places on the disk with trouble.
    pub places: Vec<Place>,
    /// Services that it wants, and that are not healthy.
    pub providers: Vec<(String, Health)>,
    /// Share of the last ten seconds in which everything stood still, in percent, and for want of what.
    pub pressure: Option<(f64, &'static str)>,
    /// How late our own questions were.
    pub late: Duration,
    /// How long ago the clock jumped, the machine resumed, or we ourselves stood still; in words, what.
    pub jump: Option<(Duration, &'static str)>,
    /// The interface over which it is asked is down: its name.
    pub offline: Option<&'static str>,
    /// Services that have ceased to answer within a minute of this one, itself among them, and all that run.
    pub together: (usize, usize),
    /// The last restart that we made: of which service, how long ago.
    pub restarted: Option<(String, Duration)>,
}

/// Why a service does not answer, where it is not the service's own doing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Cause {
    /// A place on the disk.
    Place(Place),
    /// Its control group is frozen.
    Frozen,
    /// Its processes are stopped or stand in the kernel.
    Stuck(String),
    /// The clock jumped, or the machine stood still.
    Jump(String),
    /// The machine has too much to do.
    Load(String),
    /// Most services ceased to answer at the same time.
    Together(String),
    /// A service that it wants is not healthy.
    Provider(String, Health),
    /// It is at work.
    Progress(String),
    /// Another service was restarted a moment ago.
    Turn(String),
    /// The gate does not let it start: its words.
    Refused(String),
}

/// What comes when a cause has been waited for as long as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// It is treated as if there were no cause: the ladder goes on.
    Act,
    /// Nothing that we could do would help: it is called failed, and watched on.
    Fail,
}

impl Cause {
    /// How long it is waited for.
    pub fn patience(&self, budget: Duration) -> (Duration, After) {
        const HOUR: Duration = Duration::from_hours(1);
        match self {
            // An operator did it, or a disk that may still come back.
            Self::Place(_) | Self::Refused(_) | Self::Frozen | Self::Stuck(_) => (HOUR, After::Fail),
            Self::Jump(_) => (SETTLE * 2, After::Act),
            Self::Load(_) | Self::Together(_) => (Duration::from_mins(15), After::Act),
            Self::Provider(..) => (Duration::from_mins(10), After::Act),
            Self::Progress(_) => (budget.max(Duration::from_mins(2)) * 2, After::Act),
            Self::Turn(_) => (APART * 60, After::Act),
        }
    }

    /// One word for programs: the value of `DAGGER_CAUSE=`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Place(place) => match place.trouble {
                Trouble::NotMounted => "not-mounted",
                Trouble::Empty => "emptied",
                Trouble::Full => "disk-full",
                Trouble::ReadOnly => "read-only",
                Trouble::Unreadable(_) => "disk-error",
            },
            Self::Frozen => "frozen",
            Self::Stuck(_) => "stuck",
            Self::Jump(_) => "jump",
            Self::Load(_) => "load",
            Self::Together(_) => "together",
            Self::Provider(..) => "provider",
            Self::Progress(_) => "progress",
            Self::Turn(_) => "turn",
            Self::Refused(_) => "refused",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Place(place) => place.fmt(f),
            Self::Frozen => f.write_str("it is frozen (podman unpause or systemctl thaw wakes it)"),
            Self::Stuck(why)
            | Self::Jump(why)
            | Self::Load(why)
            | Self::Together(why)
            | Self::Refused(why) => f.write_str(why),
            Self::Provider(name, health) => write!(f, "{name}, which it wants, is {}", health.word()),
            Self::Progress(what) => write!(f, "{what}, so it is at work"),
            Self::Turn(name) => write!(f, "{name} was restarted a moment ago"),
        }
    }
}

impl Surroundings {
    /// What explains that a service does not answer; none: it is the service itself.
    ///
    /// The order is that of certainty: what is seen at the service and its places goes before what the machine as a whole
    /// does, and signs of work come last, because everything before them looks like work, too.
    pub fn cause(&self) -> Option<Cause> {
        let worst = |media| {
            self.places
                .iter()
                .find(|place| place.media == media && place.hinders())
        };
        if let Some(place) = worst(true).or_else(|| worst(false)) {
            return Some(Cause::Place(place.clone()));
        }
        if self.frozen {
            return Some(Cause::Frozen);
        }
        if let Some(why) = self.stuck {
            return Some(Cause::Stuck(why.into()));
        }
        if let Some((_, what)) = self.jump.filter(|(ago, _)| *ago < SETTLE) {
            return Some(Cause::Jump(format!("{what} a moment ago")));
        }
        if let Some((percent, what)) = self.pressure.filter(|(percent, _)| *percent >= LOADED_PERCENT) {
            return Some(Cause::Load(format!(
                "the machine is under load: tasks waited for {what} {percent:.0} % of the time"
            )));
        }
        if self.late >= LATE {
            return Some(Cause::Load(format!(
                "the machine is under load: the question itself was {:.1} s late",
                self.late.as_secs_f64()
            )));
        }
        // Before the others have been asked as often as this one, they cannot say the same.
        if let Some(interface) = self.offline {
            return Some(Cause::Together(format!(
                "the network interface {interface} is down: no application can be asked"
            )));
        }
        let (sick, all) = self.together;
        if sick >= TOGETHER && sick * 2 > all {
            return Some(Cause::Together(format!(
                "{sick} of {all} services ceased to answer at the same time: it is the machine, or its network"
            )));
        }
        if let Some((name, health)) = self.providers.first() {
            return Some(Cause::Provider(name.clone(), *health));
        }
        if let Some(what) = self.activity.work() {
            return Some(Cause::Progress(what.into()));
        }
        let (name, _) = self.restarted.as_ref().filter(|(_, ago)| *ago < APART)?;
        Some(Cause::Turn(name.clone()))
    }
}
