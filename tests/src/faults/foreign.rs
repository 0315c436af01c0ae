//! Faults that are nobody's of the six: whatever becomes of the verdicts, no service is restarted for them.

use super::dice::Dice;
use super::stage::{STATE, Stage};
use crate::rig::{Disk, Machine, clock};
use anyhow::{Context, Result, ensure};
use std::time::Duration;

/// After all six are healthy again, nothing late may come.
const QUIET: Duration = Duration::from_secs(3);

/// Lets a fault happen for so long and takes it back; the word is what it is about, for faults that are about one thing of
/// several. Says which service somebody has stopped and started meanwhile, if any: that one alone has a new run.
type Act = fn(&Stage, Duration, &'static str) -> Result<Option<&'static str>>;

/// A kind of fault.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Its name, for people.
    pub name: &'static str,
    /// The services that it is about, or how far a clock goes; where it is about none, the word means nothing.
    on: &'static [&'static str],
    /// The shortest and the longest time that it lasts, in milliseconds.
    lasts: (u64, u64),
    act: Act,
}

const STANDINS: &[&str] = &["bazarr", "jellyfin", "prowlarr", "radarr", "sonarr"];
/// Those that others want.
const PROVIDERS: &[&str] = &["prowlarr", "transmission"];
const NOBODY: &[&str] = &["nobody"];
const SLOW_DISK: &str = "slow-disk";
/// How far the clock goes, in seconds: a time server that comes late, and more than anything is waited for by the agent.
const STEPS: &[&str] = &["+5", "-5", "+60", "-60", "+600", "-600"];
const CLOCK_STEP: &str = "clock-step";

const fn kind(name: &'static str, on: &'static [&'static str], lasts: (u64, u64), act: Act) -> Kind {
    Kind { name, on, lasts, act }
}

/// All kinds.
pub const KINDS: &[Kind] = &[
    kind("load", NOBODY, (5_000, 15_000), load),
    kind("standstill", NOBODY, (2_000, 40_000), standstill),
    kind("paused-container", STANDINS, (3_000, 15_000), paused),
    kind("frozen-unit", STANDINS, (3_000, 15_000), frozen),
    kind("stopped-processes", STANDINS, (3_000, 15_000), stopped),
    kind(
        "slow-answers",
        STANDINS,
        (5_000, 10_000),
        |stage, time, service| faulty(stage, time, service, "slow 500ms"),
    ),
    kind("hiccup", STANDINS, (300, 1_200), |stage, time, service| {
        faulty(stage, time, service, "500")
    }),
    kind("full-disk", NOBODY, (3_000, 10_000), full),
    kind("writes-that-are-waited-for", NOBODY, (3_000, 10_000), writes),
    kind(SLOW_DISK, NOBODY, (5_000, 30_000), slow_disk),
    kind("provider-stopped", PROVIDERS, (3_000, 12_000), provider),
    kind("loopback-down", NOBODY, (2_000, 12_000), loopback),
    kind("agent-killed", NOBODY, (1_000, 5_000), killed),
    kind("agent-off", NOBODY, (1_000, 40_000), off),
    kind("agent-hangs", NOBODY, (2_000, 45_000), hangs),
    kind("agent-restarted", NOBODY, (1_000, 3_000), restarted),
    kind("daemon-reload", NOBODY, (1_000, 3_000), reload),
];

/// A kind that is not done to a machine but to its host, with everything on it: only where somebody has said that it may
/// ([`clock::ALLOWED`]).
pub const STEPS_OF_THE_CLOCK: Kind = kind(CLOCK_STEP, STEPS, (2_000, 10_000), steps);

impl Kind {
    /// Whether this host can do that.
    pub fn is_possible(&self) -> bool {
        match self.name {
            SLOW_DISK => Disk::can_be_slow(),
            CLOCK_STEP => clock::may_be_stepped(),
            _ => true,
        }
    }

    /// What is missing where it is not possible, for the end of a sentence.
    pub fn without(&self) -> &'static str {
        match self.name {
            CLOCK_STEP => {
                ": it steps the clock of the host with everything on it, so DAGGER_STEP_CLOCK=1 has to allow it"
            }
            _ => "",
        }
    }
}

/// A fault that is about to happen.
#[derive(Debug)]
pub struct Case {
    kind: Kind,
    service: &'static str,
    time: Duration,
}

impl Case {
    /// One of these kinds, by chance, for as long as chance wants.
    pub fn by_chance(kinds: &[Kind], dice: &mut Dice) -> Result<Self> {
        let kind = *dice.one(kinds).context("no kinds")?;
        let service = dice.one(kind.on).context("no service")?;
        let time = dice.millis(kind.lasts.0, kind.lasts.1);
        Ok(Self { kind, service, time })
    }

    /// One of this kind, not longer than this unless it has to be.
    pub fn of(kind: Kind, dice: &mut Dice, at_most: Duration) -> Result<Self> {
        let service = dice.one(kind.on).context("no service")?;
        let (low, high) = (
            Duration::from_millis(kind.lasts.0),
            Duration::from_millis(kind.lasts.1),
        );
        let time = high.min(at_most).max(low);
        Ok(Self { kind, service, time })
    }

    /// For people: what happens, to whom, for how long.
    pub fn name(&self) -> String {
        let on = if self.kind.on == NOBODY {
            String::new()
        } else {
            format!(" of {}", self.service)
        };
        format!("{}{on} for {:.1} s", self.kind.name, self.time.as_secs_f64())
    }

    /// Lets it happen, waits until all are healthy again, and looks whether anybody was restarted.
    pub fn run(&self, stage: &Stage) -> Result<()> {
        let before = stage.runs()?;
        let renewed = (self.kind.act)(stage, self.time, self.service)?;
        let healed = stage.heal();
        // Worse than late is wrong: that is said first.
        stage.untouched(&before, renewed)?;
        healed?;
        std::thread::sleep(QUIET);
        stage.untouched(&before, renewed)
    }
}

/// A script, a pause, and another script.
fn around(machine: &Machine, begin: &str, time: Duration, end: &str) -> Result<()> {
    machine.ok(begin)?;
    std::thread::sleep(time);
    machine.ok(end)?;
    Ok(())
}

/// More than the machine can do, ahead of everything else.
fn load(stage: &Stage, time: Duration, _: &'static str) -> Result<Option<&'static str>> {
    around(
        &stage.machine,
        "for n in $(seq $((4 * $(nproc)))); do systemd-run -q --unit=load-$n --nice=-15 sh -c 'while :; do :; done' || exit; done",
        time,
        "systemctl stop 'load-*.service'",
    )?;
    Ok(None)
}

/// As when the host suspends the machine: nothing in it runs, and time goes on.
fn standstill(stage: &Stage, time: Duration, _: &'static str) -> Result<Option<&'static str>> {
    stage.machine.stand_still(time)?;
    Ok(None)
}

fn paused(stage: &Stage, time: Duration, service: &'static str) -> Result<Option<&'static str>> {
    let podman = |verb: &str| format!("podman {verb} dagger-{service}");
    around(&stage.machine, &podman("pause"), time, &podman("unpause"))?;
    Ok(None)
}

fn frozen(stage: &Stage, time: Duration, service: &'static str) -> Result<Option<&'static str>> {
    let systemctl = |verb: &str| format!("systemctl {verb} dagger-{service}.service");
    around(&stage.machine, &systemctl("freeze"), time, &systemctl("thaw"))?;
    Ok(None)
}

fn stopped(stage: &Stage, time: Duration, service: &'static str) -> Result<Option<&'static str>> {
    // The container's processes; conmon, which stands for the unit, goes on.
    let send = |signal: &str| format!("podman top dagger-{service} hpid | tail -n +2 | xargs kill -{signal}");
    around(&stage.machine, &send("STOP"), time, &send("CONT"))?;
    Ok(None)
}

fn faulty(stage: &Stage, time: Duration, service: &'static str, lines: &str) -> Result<Option<&'static str>> {
    stage.machine.fault(service, lines)?;
    std::thread::sleep(time);
    stage.machine.fault(service, "")?;
    Ok(None)
}

/// Nobody can write any more; what could be is taken back.
fn full(stage: &Stage, time: Duration, _: &'static str) -> Result<Option<&'static str>> {
    around(
        &stage.machine,
        &format!("! dd if=/dev/zero of={STATE}/filler bs=1M 2>/dev/null"),
        time,
        &format!("rm {STATE}/filler"),
    )?;
    Ok(None)
}

/// Many small writes that each wait for the disk.
fn writes(stage: &Stage, time: Duration, _: &'static str) -> Result<Option<&'static str>> {
    around(
        &stage.machine,
        "for n in 1 2 3 4; do systemd-run -q --unit=write-$n sh -c 'while :; do dd if=/dev/zero of=/var/tmp/written-$$ bs=4k count=2000 oflag=dsync 2>/dev/null; done' || exit; done",
        time,
        "systemctl stop 'write-*.service'; rm -f /var/tmp/written-*",
    )?;
    Ok(None)
}

/// The disk with the state is as good as gone: one read and one write a second.
fn slow_disk(stage: &Stage, time: Duration, _: &'static str) -> Result<Option<&'static str>> {
    stage.disk.slow(1, time)?;
    Ok(None)
}

/// What others want is stopped by its operator, and started again: those who want it go on.
fn provider(stage: &Stage, time: Duration, service: &'static str) -> Result<Option<&'static str>> {
    let unit = format!("dagger-{service}.service");
    stage.machine.ok(&format!("systemctl stop {unit}"))?;
    std::thread::sleep(time);
    let meanwhile = stage.machine.unit(&unit, "ActiveState")?;
    stage.machine.ok(&format!("systemctl start {unit}"))?;
    ensure!(
        meanwhile == "inactive",
        "{unit} was stopped by hand and is {meanwhile}: somebody has fought that"
    );
    Ok(Some(service))
}

fn loopback(stage: &Stage, time: Duration, _: &'static str) -> Result<Option<&'static str>> {
    around(&stage.machine, "ip link set lo down", time, "ip link set lo up")?;
    Ok(None)
}

fn killed(stage: &Stage, time: Duration, _: &'static str) -> Result<Option<&'static str>> {
    stage.machine.ok("systemctl kill -s KILL monitoring.service")?;
    std::thread::sleep(time);
    back(stage)
}

fn off(stage: &Stage, time: Duration, _: &'static str) -> Result<Option<&'static str>> {
    around(
        &stage.machine,
        "systemctl stop monitoring.service",
        time,
        "systemctl start monitoring.service",
    )?;
    back(stage)
}

/// Longer than its own watchdog waits: then systemd starts it again.
fn hangs(stage: &Stage, time: Duration, _: &'static str) -> Result<Option<&'static str>> {
    stage.machine.ok("systemctl kill -s STOP monitoring.service")?;
    std::thread::sleep(time);
    // Where systemd was faster there is another process, which is not stopped.
    stage
        .machine
        .ok("systemctl kill -s CONT monitoring.service || :")?;
    back(stage)
}

fn restarted(stage: &Stage, time: Duration, _: &'static str) -> Result<Option<&'static str>> {
    stage.machine.ok("systemctl restart monitoring.service")?;
    std::thread::sleep(time);
    back(stage)
}

fn reload(stage: &Stage, time: Duration, _: &'static str) -> Result<Option<&'static str>> {
    stage.machine.ok("systemctl daemon-reload")?;
    std::thread::sleep(time);
    Ok(None)
}

/// CLOCK_REALTIME goes by so many seconds, and back again.
fn steps(_: &Stage, time: Duration, seconds: &'static str) -> Result<Option<&'static str>> {
    clock::step(seconds.parse().context(seconds)?, time)?;
    Ok(None)
}

/// Waits until the agent is there again.
fn back(stage: &Stage) -> Result<Option<&'static str>> {
    stage
        .machine
        .wait_unit("monitoring.service", "active", Duration::from_mins(1))?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_comes_up_within_its_times() {
        let mut left: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
        for number in 0..1000 {
            let case = Case::by_chance(KINDS, &mut Dice::of(1, number)).unwrap();
            left.retain(|name| *name != case.kind.name);
            let millis = u64::try_from(case.time.as_millis()).unwrap();
            assert!(
                (case.kind.lasts.0..=case.kind.lasts.1).contains(&millis),
                "{}",
                case.name()
            );
        }
        assert_eq!(left, [""; 0]);
        let short = Case::of(KINDS[1], &mut Dice::of(1, 1), Duration::from_secs(5)).unwrap();
        assert_eq!(short.name(), "standstill for 5.0 s");
    }
}
