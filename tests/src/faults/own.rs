//! Faults of a service's own: it has to be found out in time, restarted, and healthy again by itself.

use super::dice::Dice;
use super::stage::{FAILURES, INTERVAL, Run, Stage, TIMEOUT};
use crate::bench::meter::QUESTIONS;
use crate::standin::bazarr;
use crate::standin::server::STATE;
use crate::suite::SIX;
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

/// Longer than the second attempt of the ladder waits.
const HEALED: Duration = Duration::from_secs(150);
/// What a busy machine may add to a time.
const SLACK: Duration = Duration::from_millis(1500);

/// What the agent can see of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// The process ends: systemd says so.
    Gone,
    /// It ends after a while, by what it does meanwhile.
    GoneLater,
    /// A wrong answer at once.
    Answers,
    /// No answer until the question's time is up.
    Silent,
}

/// Images that start the application again by themselves, within the container: nobody outside has anything to do, and
/// may not even see it. The others are the first process of their container, which no signal of its own ends
/// (pid_namespaces(7)).
const SUPERVISED: &[&str] = &["prowlarr", "radarr", "sonarr"];

impl Seen {
    /// The time within which it has to be noticed; none: that depends on the application.
    fn limit(self) -> Option<Duration> {
        match self {
            Self::Gone => Some(INTERVAL),
            Self::GoneLater => None,
            Self::Answers => Some(INTERVAL * (FAILURES + 1)),
            Self::Silent => Some((INTERVAL + TIMEOUT) * FAILURES + INTERVAL),
        }
    }
}

/// How it is done.
#[derive(Debug, Clone, Copy)]
enum How {
    /// Lines of the stand-in's fault file, one of them by chance; `;` parts lines of one file.
    File(&'static [&'static str]),
    /// A signal to the first process of the container.
    Signal(&'static str),
    /// The application's child is killed, and its parent does not care.
    Child,
}

/// A kind of fault.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Its name, for people.
    pub name: &'static str,
    /// The services that can have it.
    on: &'static [&'static str],
    how: How,
    seen: Seen,
}

const STANDINS: &[&str] = &["bazarr", "jellyfin", "prowlarr", "radarr", "sonarr"];
/// Those whose container ends with them. Bazarr's goes on without its child, which is a kind of its own.
const SINGLE: &[&str] = &["jellyfin", "prowlarr", "radarr", "sonarr"];
const BAZARR: &[&str] = &["bazarr"];
/// Those whose answer has a body that counts.
const BODY: &[&str] = &["bazarr", "jellyfin"];

const fn kind(name: &'static str, on: &'static [&'static str], seen: Seen, how: How) -> Kind {
    Kind { name, on, how, seen }
}

/// All kinds.
pub const KINDS: &[Kind] = &[
    kind("crash", &SIX, Seen::Gone, How::Signal("KILL")),
    kind(
        "exit",
        SINGLE,
        Seen::Gone,
        How::File(&["exit 1 once", "exit 0 once", "exit 139 once"]),
    ),
    kind(
        "segmentation-fault",
        SUPERVISED,
        Seen::Gone,
        How::File(&["signal 11 once", "signal 6 once"]),
    ),
    kind("hang", STANDINS, Seen::Silent, How::File(&["hang"])),
    kind(
        "hang-that-ignores-sigterm",
        STANDINS,
        Seen::Silent,
        How::File(&["hang;ignore-sigterm"]),
    ),
    kind(
        "error-status",
        STANDINS,
        Seen::Answers,
        How::File(&["500", "502", "503;ignore-sigterm"]),
    ),
    kind("refused-port", STANDINS, Seen::Answers, How::File(&["refuse"])),
    kind("corrupt-answer", STANDINS, Seen::Answers, How::File(&["corrupt"])),
    kind(
        "foreign-answer",
        STANDINS,
        Seen::Answers,
        How::File(&["wrong-body"]),
    ),
    kind(
        "redirects-without-end",
        STANDINS,
        Seen::Answers,
        How::File(&["redirect-loop"]),
    ),
    kind(
        "headers-without-end",
        STANDINS,
        Seen::Answers,
        How::File(&["many-headers"]),
    ),
    kind(
        "body-without-end",
        BODY,
        Seen::Answers,
        How::File(&["endless-body"]),
    ),
    kind(
        "one-byte-at-a-time",
        STANDINS,
        Seen::Silent,
        How::File(&["trickle 200ms"]),
    ),
    kind(
        "leak-until-out-of-memory",
        SINGLE,
        Seen::GoneLater,
        How::File(&["leak 100M"]),
    ),
    kind("dead-child", BAZARR, Seen::Answers, How::Child),
];

/// A fault that is about to happen.
#[derive(Debug)]
pub struct Case {
    kind: Kind,
    service: &'static str,
    lines: &'static str,
}

/// How a repair went.
#[derive(Debug, Clone, Copy)]
pub struct Repair {
    /// The time to the first verdict, as a share of what it may take: more than 1 is late. None where nothing is promised.
    pub noticed: Option<f64>,
    /// The time from the fault until the service was healthy again.
    pub healed: Duration,
}

impl Case {
    /// One of these kinds, by chance, on a service by chance.
    pub fn by_chance(kinds: &[Kind], dice: &mut Dice) -> Result<Self> {
        let kind = *dice.one(kinds).context("no kinds")?;
        let service = dice.one(kind.on).context("no service")?;
        let lines = match kind.how {
            How::File(choices) => dice.one(choices).context("no lines")?,
            How::Signal(_) | How::Child => "",
        };
        Ok(Self { kind, service, lines })
    }

    /// One of this kind, on another service each turn: the second restart of one and the same is waited for.
    pub fn in_turn(kind: Kind, turn: usize) -> Result<Self> {
        let mut services = kind.on.iter().cycle().skip(turn);
        let service = services.next().context("no service")?;
        let lines = match kind.how {
            How::File(choices) => choices.first().context("no lines")?,
            How::Signal(_) | How::Child => "",
        };
        Ok(Self { kind, service, lines })
    }

    /// To whom it happens.
    pub fn service(&self) -> &'static str {
        self.service
    }

    /// For people: what happens to whom.
    pub fn name(&self) -> String {
        let lines = if self.lines.is_empty() {
            String::new()
        } else {
            format!(" ({})", self.lines)
        };
        format!("{} of {}{lines}", self.kind.name, self.service)
    }

    /// Lets it happen and looks on until the service is healthy again.
    pub fn run(&self, stage: &Stage) -> Result<Repair> {
        let before = stage.runs()?;
        let process = self.process(stage);
        let (since, began) = (now()?, Instant::now());
        self.inject(stage)?;
        // By now it is there, whenever in between that was: a busy machine takes its time over a command.
        let there = now()?;
        self.heal(stage, &before, process, began)
            .with_context(|| stage.machine.account_of(self.service))?;
        let healed = began.elapsed();
        stage.untouched(&before, Some(self.service))?;
        let limit = self.kind.seen.limit().filter(|_| !self.within());
        let noticed = match limit {
            Some(limit) => {
                let at = stage.noticed(self.service, since)?;
                let took = at.context("nobody has noticed it")?.saturating_sub(there);
                Some(took.as_secs_f64() / (limit + SLACK).as_secs_f64())
            }
            None => None,
        };
        Ok(Repair { noticed, healed })
    }

    /// Whether the image repairs it, and not systemd.
    fn within(&self) -> bool {
        let ends = matches!(self.kind.seen, Seen::Gone | Seen::GoneLater);
        ends && matches!(self.kind.how, How::File(_)) && SUPERVISED.contains(&self.service)
    }

    /// The application's process, as it counts itself; none while it does not answer.
    fn process(&self, stage: &Stage) -> Option<u64> {
        let (_, port, _) = QUESTIONS.iter().find(|(service, ..)| *service == self.service)?;
        let answer = stage.machine.http(&format!("http://127.0.0.1:{port}{STATE}"));
        let said: serde_json::Value = serde_json::from_str(&answer.ok()?.1).ok()?;
        said.get("pid")?.as_u64()
    }

    fn inject(&self, stage: &Stage) -> Result<()> {
        let machine = &stage.machine;
        match self.kind.how {
            How::File(_) => machine.fault(self.service, &self.lines.replace(';', "\n")),
            How::Signal(signal) => {
                machine.ok(&format!("podman kill --signal {signal} dagger-{}", self.service))?;
                Ok(())
            }
            How::Child => {
                machine.ok(&format!("pkill -KILL -f '{}'", bazarr::MAIN))?;
                Ok(())
            }
        }
    }

    /// Waits for a new run, takes the fault back, which only the old one had, and waits until the new one is healthy.
    fn heal(
        &self,
        stage: &Stage,
        before: &BTreeMap<String, Run>,
        process: Option<u64>,
        began: Instant,
    ) -> Result<()> {
        let old = before.get(self.service).context("no such service")?;
        loop {
            let now = stage.invocation(self.service);
            if now.is_some_and(|now| now != old.invocation) {
                break;
            }
            if self.within() && self.process(stage).is_some_and(|pid| Some(pid) != process) {
                break;
            }
            if began.elapsed() > HEALED {
                self.take_back(stage)?;
                bail!(
                    "not restarted within {HEALED:?}; it is {}",
                    stage.machine.health(self.service)
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        self.take_back(stage)?;
        let left = HEALED.saturating_sub(began.elapsed());
        stage.machine.wait_health(self.service, "healthy", left)
    }

    fn take_back(&self, stage: &Stage) -> Result<()> {
        match self.kind.how {
            How::File(_) => stage.machine.fault(self.service, ""),
            How::Signal(_) | How::Child => Ok(()),
        }
    }
}

/// CLOCK_REALTIME, which a machine shares with its host, as its journal counts it.
fn now() -> Result<Duration> {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .context("the clock")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::standin::fault::Fault;

    #[test]
    fn every_line_is_one_that_the_stand_in_knows() {
        for kind in KINDS {
            let How::File(choices) = kind.how else { continue };
            assert!(!kind.on.contains(&"transmission"), "{}", kind.name);
            for line in choices.iter().flat_map(|lines| lines.split(';')) {
                assert!(matches!(Fault::parse(line), Ok(Some(_))), "{line:?}");
            }
        }
    }

    #[test]
    fn every_kind_comes_up_and_says_what_it_is() {
        let mut left: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
        for number in 0..1000 {
            let case = Case::by_chance(KINDS, &mut Dice::of(1, number)).unwrap();
            left.retain(|name| *name != case.kind.name);
            assert!(case.kind.on.contains(&case.service), "{}", case.name());
        }
        assert_eq!(left, [""; 0]);
    }
}
