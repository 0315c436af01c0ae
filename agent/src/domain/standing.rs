//! One service by itself, for [`super::why`]: all that is known of it, what was seen at it, and what follows from its
//! answers.

use std::time::Duration;

use super::health::Health;
use super::machine::Machine;
use super::observation::Observation;
use super::surroundings::{Cause, Surroundings, Trouble};
use super::verdict::Phase;

/// How the main process of a unit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With this status. A container's is passed on by podman: 128 and a signal's number where a signal ended it.
    Status(i32),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    /// By systemd's `ExecMainCode` and `ExecMainStatus` (org.freedesktop.systemd1(5)), which are those of waitid(2); none
    /// while it runs, or when it never ran.
    pub fn of(code: i32, status: i32) -> Option<Self> {
        match code {
            1 => Some(Self::Status(status)),
            2 | 3 => Some(Self::Signal(status)),
            _ => None,
        }
    }

    /// The signal that ended it, directly or inside its container.
    fn signal(self) -> Option<i32> {
        match self {
            Self::Signal(number) => Some(number),
            Self::Status(status @ 129..=192) => Some(status - 128),
            Self::Status(_) => None,
        }
    }
}

/// All that is known of one service at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// The verdict.
    pub health: Health,
    /// The reason for it, in words.
    pub detail: String,
    /// Since when it has been neither healthy nor degraded, or, where it is one of these, since when it is; CLOCK_MONOTONIC.
    pub since: Duration,
    /// Services that it would like to find answering.
    pub wants: Vec<String>,
    /// The unit that runs it.
    pub unit: String,
    /// What that unit is doing.
    pub phase: Phase,
    /// It is masked (`LoadState=masked`).
    pub masked: bool,
    /// systemd's `Result=` of it: `success`, `exit-code`, `oom-kill`, `timeout`; empty: not known.
    pub result: String,
    /// How its main process ended, once it has.
    pub exit: Option<Exit>,
    /// The gate's reason where it does not let it start.
    pub refused: Option<String>,
    /// The last answer of this run; while the agent restarts it, still that of the run before.
    pub answer: Option<Observation>,
    /// What is waited for.
    pub cause: Option<Cause>,
    /// What was found by the last look since it fell; none: nobody has looked.
    pub surroundings: Option<Surroundings>,
    /// What the application says of itself.
    pub problems: Vec<String>,
    /// Nothing is done about it.
    pub paused: bool,
    /// Restarts by the agent within the window.
    pub attempts: u32,
}

impl Standing {
    /// What the machine of a service knows; everything else is empty and to be filled in.
    pub fn of(machine: &Machine, phase: Phase) -> Self {
        Self {
            health: machine.health(),
            detail: machine.detail(),
            since: Duration::ZERO,
            wants: Vec::new(),
            unit: String::new(),
            phase,
            masked: false,
            result: String::new(),
            exit: None,
            refused: None,
            answer: None,
            cause: machine.recovery().cause().cloned(),
            surroundings: None,
            problems: machine.problems().to_vec(),
            paused: machine.paused().is_some(),
            attempts: machine.recovery().attempts(),
        }
    }

    /// Whether it does its work.
    pub(super) fn is_well(&self) -> bool {
        self.health == Health::Healthy || (self.health == Health::Degraded && !self.problems.is_empty())
    }

    /// Whether its unit has ended and nobody stopped it. What the agent has given up it has also stopped, and then only an
    /// end that no stop makes tells.
    fn ended_by_itself(&self) -> bool {
        let by_stop = |exit: Exit| exit == Exit::Status(0) || matches!(exit.signal(), Some(9 | 15));
        match self.phase {
            Phase::Restarting | Phase::Failed => true,
            Phase::Stopped => self.health == Health::Failed && self.exit.is_some_and(|exit| !by_stop(exit)),
            Phase::Unloaded | Phase::Activating | Phase::Active | Phase::Deactivating => false,
        }
    }

    /// What was found by the last look; an empty one where nobody looked.
    pub(super) fn found(&self) -> Surroundings {
        self.surroundings.clone().unwrap_or_default()
    }
}

/// Where a service's trouble comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Root {
    /// The service whose own trouble it is; none: the machine's.
    pub(super) of: Option<String>,
    /// The same word for the same trouble of the machine.
    key: String,
    /// What it is: what follows the name of the service in a sentence, else a sentence of its own.
    pub(super) fact: String,
    /// The fact was seen.
    pub(super) seen: bool,
    /// The fact is why the service that was asked about does not answer; never certain along a dependency.
    pub(super) follows: bool,
}

impl Root {
    pub(super) fn own(name: &str, fact: impl Into<String>, seen: bool) -> Self {
        Self {
            of: Some(name.to_owned()),
            key: String::new(),
            fact: fact.into(),
            seen,
            follows: true,
        }
    }

    /// What stands around a service as the root.
    pub(super) fn around(cause: &Cause) -> Self {
        let (key, follows) = match cause {
            // An application answers with full media; without room for its own state it does not.
            Cause::Place(place) => (
                format!("{} {}", cause.word(), place.path),
                !(place.media && place.trouble == Trouble::Full),
            ),
            _ => (cause.word().to_owned(), false),
        };
        Self {
            of: None,
            key,
            fact: cause.to_string(),
            seen: true,
            follows,
        }
    }

    /// Whether it is the same one, seen from another service.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.of == other.of && self.key == other.key
    }
}

/// What was seen at the service itself. None: it does not answer, and nothing at it says why.
pub(super) fn direct(name: &str, standing: &Standing) -> Option<Root> {
    let seen = |fact: String| Some(Root::own(name, fact, true));
    let detail = &standing.detail;
    let stopped_by_somebody = matches!(
        standing.health,
        Health::Healthy | Health::Degraded | Health::Inactive
    );
    if standing.phase == Phase::Deactivating && stopped_by_somebody {
        return seen(stopped(standing));
    }
    match (standing.health, standing.problems.as_slice()) {
        (Health::Healthy, _) => return seen(format!("is healthy: {detail}")),
        (Health::Degraded, [_, ..]) => return seen(format!("works, and says itself: {detail}")),
        _ => {}
    }
    if standing.masked && !standing.phase.is_up() {
        let unit = &standing.unit;
        return seen(format!("is masked, so it cannot start (systemctl unmask {unit})"));
    }
    if standing.phase == Phase::Unloaded {
        return seen("has no unit (systemctl daemon-reload makes it)".into());
    }
    match &standing.cause {
        Some(place @ Cause::Place(_)) => return Some(Root::around(place)),
        Some(Cause::Frozen) => return seen(FROZEN.into()),
        Some(Cause::Stuck(how)) => return seen(stuck(how)),
        Some(Cause::Refused(words)) => return seen(format!("cannot start: {words}")),
        Some(
            Cause::Jump(_)
            | Cause::Load(_)
            | Cause::Together(_)
            | Cause::Provider(..)
            | Cause::Progress(_)
            | Cause::Turn(_),
        )
        | None => {}
    }
    match standing.health {
        Health::Inactive => return seen(stopped(standing)),
        Health::Starting => return seen(starting(standing)),
        _ => {}
    }
    at_it(name, standing, &standing.found())
}

/// What a look around found at the service, or systemd says of its end.
fn at_it(name: &str, standing: &Standing, found: &Surroundings) -> Option<Root> {
    let seen = |fact: String| Some(Root::own(name, fact, true));
    // About the newest start, whatever the runs before it were like.
    if let Some(words) = &standing.refused {
        return seen(format!("cannot start: {words}"));
    }
    if let Some(place) = found.places.iter().max_by_key(|place| place.media) {
        return Some(Root::around(&Cause::Place(place.clone())));
    }
    // What has ended does not stand still any more.
    if standing.ended_by_itself() {
        let (fact, seen) = ended(standing, found);
        return Some(Root::own(name, fact, seen));
    }
    if found.frozen {
        return seen(FROZEN.into());
    }
    if let Some(how) = found.stuck {
        return seen(stuck(how));
    }
    if found.oom_kills > 0 {
        let fact = format!(
            "does not recover from want of memory: {}",
            killed(found.oom_kills)
        );
        return Some(Root::own(name, fact, false));
    }
    match &standing.answer {
        Some(Observation::Unable { detail }) => seen(format!("cannot be asked: {detail}")),
        _ => None,
    }
}

/// What follows from the answers of a service where nothing around it explains them.
pub(super) fn concluded(name: &str, standing: &Standing, cause: Option<&Cause>) -> Root {
    let own = |fact: String, seen| Root::own(name, fact, seen);
    match cause {
        Some(Cause::Progress(what)) => return own(format!("is at work: {what}"), false),
        Some(Cause::Turn(other)) => {
            return own(
                format!("waits for its turn: {other} was restarted a moment ago"),
                false,
            );
        }
        _ => {}
    }
    let mut root = match &standing.answer {
        _ if standing.health == Health::Degraded => own(comes_and_goes(standing), true),
        Some(Observation::Bad { detail }) => own(format!("answers, but wrongly: {detail}"), true),
        Some(refused @ Observation::Refused { .. }) => own(format!("runs, but {refused}"), true),
        Some(Observation::Starting { detail }) => own(
            format!("is still starting after all this time, and says: {detail}"),
            true,
        ),
        Some(silent @ Observation::TimedOut { .. }) => own(format!("hangs: {silent}"), false),
        Some(good @ Observation::Good { .. }) => own(format!("comes back: {good}"), false),
        Some(Observation::Unable { .. }) | None => {
            own(format!("does not answer: {}", standing.detail), false)
        }
    };
    if standing.health == Health::Failed && standing.attempts > 0 {
        let times = times(standing.attempts);
        root.fact = format!("{}; restarted {times} without avail", root.fact);
    }
    root
}

/// What is known of the service, line by line.
pub(super) fn evidence(name: &str, standing: &Standing) -> Vec<String> {
    let mut lines = vec![format!(
        "{name} is {}: {}",
        standing.health.word(),
        standing.detail
    )];
    if let Some(answer) = &standing.answer {
        lines.push(format!("last answer of {name}: {answer}"));
    }
    if let Some(words) = &standing.refused {
        lines.push(format!("the gate of {name} says: {words}"));
    }
    if let (Some(exit), Phase::Restarting | Phase::Failed | Phase::Stopped) = (standing.exit, standing.phase)
    {
        let result = match standing.result.as_str() {
            "" => String::new(),
            result => format!(" (systemd's Result={result})"),
        };
        lines.push(format!("the main process of {name} {}{result}", how(exit)));
    }
    if let Some(found) = &standing.surroundings {
        lines.extend(around(name, found));
    }
    for problem in &standing.problems {
        lines.push(format!("{name} says itself: {problem}"));
    }
    if standing.attempts > 0 {
        lines.push(format!(
            "{name} was restarted {} by the agent",
            times(standing.attempts)
        ));
    }
    if standing.paused {
        lines.push(format!("recovery of {name} is paused (daggerctl resume {name})"));
    }
    lines
}

/// What a look around found, line by line.
fn around(name: &str, found: &Surroundings) -> Vec<String> {
    let mut lines: Vec<String> = found.places.iter().map(ToString::to_string).collect();
    if found.frozen {
        lines.push(format!("the control group of {name} is frozen"));
    }
    if let Some(how) = found.stuck {
        lines.push(format!("{name}: {how}"));
    }
    if found.oom_kills > 0 {
        lines.push(format!("{name}: {}", killed(found.oom_kills)));
    }
    if let Some((percent, what)) = found.pressure {
        lines.push(format!(
            "tasks of the machine waited for {what} {percent:.0} % of the last ten seconds"
        ));
    }
    if !found.late.is_zero() {
        lines.push(format!(
            "the agent's own questions were {} ms late",
            found.late.as_millis()
        ));
    }
    if let Some((ago, what)) = found.jump {
        lines.push(format!("{what} {} s before the look", ago.as_secs()));
    }
    lines
}

const FROZEN: &str = "is frozen (podman unpause or systemctl thaw wakes it)";

fn stuck(how: &str) -> String {
    format!("stands still: {how}")
}

fn killed(kills: u64) -> String {
    match kills {
        1 => "the kernel killed one of its processes for want of memory".into(),
        kills => format!("the kernel killed {kills} of its processes for want of memory"),
    }
}

fn times(count: u32) -> String {
    match count {
        1 => "once".into(),
        count => format!("{count} times"),
    }
}

/// A unit that does not run and should not.
fn stopped(standing: &Standing) -> String {
    match (standing.phase, standing.exit) {
        (Phase::Deactivating, _) => "is being stopped, and has not ended yet".into(),
        (_, Some(_)) => format!("was stopped (systemctl start {} starts it)", standing.unit),
        (_, None) => format!(
            "has not been started (systemctl start {} starts it)",
            standing.unit
        ),
    }
}

/// A service that may still take its time.
fn starting(standing: &Standing) -> String {
    if let Some(Observation::Starting { detail }) = &standing.answer {
        return format!("is starting, and says: {detail}");
    }
    format!(
        "is starting: {}",
        standing.detail.trim_start_matches("starting: ")
    )
}

/// A service that falls and stands up again.
fn comes_and_goes(standing: &Standing) -> String {
    let detail = standing.detail.trim_start_matches("it ");
    if detail.starts_with("comes and goes") {
        detail.to_owned()
    } else {
        format!("comes and goes: {detail}")
    }
}

/// Why a unit ended by itself, and whether that was seen.
fn ended(standing: &Standing, found: &Surroundings) -> (String, bool) {
    let signal = standing.exit.and_then(Exit::signal);
    match (standing.result.as_str(), standing.exit) {
        ("oom-kill", _) => (
            format!("ran out of memory: {}", killed(found.oom_kills.max(1))),
            true,
        ),
        _ if found.oom_kills > 0 && signal == Some(9) => {
            (format!("ran out of memory: {}", killed(found.oom_kills)), true)
        }
        _ if found.oom_kills > 0 => (format!("ran out of memory: {}", killed(found.oom_kills)), false),
        ("watchdog", _) => ("hung: systemd's watchdog has ended it".into(), false),
        ("timeout", _) if signal == Some(9) => (
            "did not end when it was told to, and systemd killed it".into(),
            false,
        ),
        ("timeout", _) => ("did not start within its time limit".into(), false),
        // podman-run(1): podman itself failed. An application may use the number as well.
        (_, Some(Exit::Status(125))) => (
            format!(
                "has no container: podman could not make one (exit status 125), and journalctl -u {} says why, \
                 a missing image for instance",
                standing.unit
            ),
            false,
        ),
        (_, Some(exit)) => (how(exit), true),
        ("start-limit-hit", None) => (
            "was started too often in a row, and systemd has given it up".into(),
            true,
        ),
        ("" | "success", None) => ("ended by itself".into(), false),
        (result, None) => (format!("ended by itself (systemd's Result={result})"), false),
    }
}

/// How a process ended, in words.
fn how(exit: Exit) -> String {
    const NAMES: [(i32, &str); 8] = [
        (4, "SIGILL"),
        (6, "SIGABRT"),
        (7, "SIGBUS"),
        (8, "SIGFPE"),
        (9, "SIGKILL"),
        (11, "SIGSEGV"),
        (15, "SIGTERM"),
        (31, "SIGSYS"),
    ];
    let name = |number| {
        NAMES
            .iter()
            .find(|(each, _)| *each == number)
            .map(|(_, name)| *name)
    };
    match (exit, exit.signal()) {
        (Exit::Status(status), Some(signal)) => match name(signal) {
            Some(name) => format!("ended with exit status {status}, which is {name}"),
            None => format!("ended by itself with exit status {status}"),
        },
        (Exit::Status(status), None) => format!("ended by itself with exit status {status}"),
        (Exit::Signal(signal), _) => match name(signal) {
            Some(name) => format!("was ended by {name}"),
            None => format!("was ended by signal {signal}"),
        },
    }
}
