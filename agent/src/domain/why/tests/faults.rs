//! Injected faults: what the agent knows of each, and what it must say.

use std::collections::BTreeMap;

use super::story::{Story, bad, crash, good, hangs, place, refused, s, silent, suite};
use crate::domain::health::Health;
use crate::domain::machine::Happened;
use crate::domain::observation::Observation;
use crate::domain::recovery::Stage;
use crate::domain::standing::{Exit, Standing};
use crate::domain::surroundings::{Activity, Surroundings, Trouble};
use crate::domain::verdict::Phase;

/// A fault: its name, what the agent knows, and words that the right sentence holds.
pub(super) type Case = (&'static str, BTreeMap<String, Standing>, &'static str);

/// What is the application's own doing.
#[allow(clippy::too_many_lines, reason = "a table")]
pub(super) fn own_faults() -> Vec<Case> {
    let none = Surroundings::default();
    let answers = |detail| Story::up().falls(&bad(detail)).found(&none).alone();
    let starts = |observation| {
        Story::down()
            .unit(Phase::Activating, None)
            .after(5)
            .answers(observation)
            .alone()
    };
    let migrating = Observation::Starting {
        detail: "it is migrating its database".into(),
    };
    let mut flaps = Story::up();
    for _ in 0..4 {
        flaps.falls(&bad("HTTP 503")).after(5).answers(good());
    }
    let mut given_up = Story::up();
    for _ in 0..4 {
        given_up.falls(&silent()).found(&none);
        if matches!(given_up.machine.recovery().stage, Stage::BackOff { .. }) {
            given_up.after(600).happens(&Happened::Tick).found(&none);
        }
        if matches!(given_up.machine.recovery().stage, Stage::Restarting { .. }) {
            given_up.unit(Phase::Activating, None).unit(Phase::Active, None);
        }
    }
    given_up.unit(Phase::Stopped, None);
    let kills = Surroundings {
        oom_kills: 2,
        ..Surroundings::default()
    };
    let mut oom = Story::up();
    oom.ends("exit-code", Exit::Status(137)).standing.surroundings = Some(kills);
    let mut problems = Story::up();
    problems.happens(&Happened::Well(vec!["Indexers unavailable: rarbg".into()]));
    vec![
        ("hang", hangs(&none), "sonarr probably hangs"),
        (
            "crash",
            crash("signal", Exit::Signal(11)),
            "sonarr was ended by SIGSEGV",
        ),
        (
            "crash inside",
            crash("exit-code", Exit::Status(139)),
            "exit status 139, which is SIGSEGV",
        ),
        (
            "exit status",
            crash("exit-code", Exit::Status(3)),
            "sonarr ended by itself with exit status 3",
        ),
        (
            "killed",
            crash("signal", Exit::Signal(9)),
            "sonarr was ended by SIGKILL",
        ),
        (
            "watchdog",
            crash("watchdog", Exit::Signal(6)),
            "sonarr probably hung: systemd's watchdog",
        ),
        (
            "500",
            answers("HTTP 500"),
            "sonarr answers, but wrongly: HTTP 500",
        ),
        (
            "refused port",
            Story::up().falls(&refused()).found(&none).alone(),
            "runs, but nobody listens on",
        ),
        (
            "zombie",
            Story::up().falls(&refused()).found(&none).alone(),
            "runs, but nobody listens on",
        ),
        (
            "out of memory",
            crash("oom-kill", Exit::Signal(9)),
            "sonarr ran out of memory",
        ),
        (
            "out of memory inside",
            oom.alone(),
            "sonarr ran out of memory: the kernel killed 2",
        ),
        (
            "ignored SIGTERM",
            crash("timeout", Exit::Signal(9)),
            "did not end when it was told to",
        ),
        (
            "no such image",
            crash("exit-code", Exit::Status(125)),
            "sonarr probably has no container",
        ),
        (
            "garbage",
            answers("it does not speak HTTP"),
            "wrongly: it does not speak HTTP",
        ),
        (
            "endless body",
            answers("more than 64 KiB of body"),
            "wrongly: more than 64 KiB",
        ),
        (
            "headers",
            answers("more than 100 headers"),
            "wrongly: more than 100 headers",
        ),
        ("trickle", hangs(&none), "sonarr probably hangs"),
        (
            "wrong body",
            answers("this is not sonarr but radarr"),
            "wrongly: this is not sonarr",
        ),
        (
            "redirect loop",
            answers("HTTP 302 to /login"),
            "wrongly: HTTP 302",
        ),
        (
            "migration",
            starts(migrating),
            "sonarr is starting, and says: it is migrating its database",
        ),
        (
            "slow start",
            starts(refused()),
            "sonarr is starting: nobody listens",
        ),
        (
            "flapping",
            flaps.alone(),
            "sonarr comes and goes, 4 times within 30 minutes",
        ),
        (
            "given up",
            given_up.alone(),
            "hangs: the connection is taken, but no answer comes within 5 s; restarted 3 times",
        ),
        (
            "its own words",
            problems.alone(),
            "works, and says itself: Indexers unavailable",
        ),
    ]
}

/// What stands around it.
#[allow(clippy::too_many_lines, reason = "a table")]
pub(super) fn faults_around() -> Vec<Case> {
    let around = Surroundings::default;
    let load = |what| {
        hangs(&Surroundings {
            pressure: Some((82.0, what)),
            ..around()
        })
    };
    let work = Activity {
        over: s(2),
        bytes: 64 << 20,
        ..Activity::default()
    };
    let stuck = |how| {
        hangs(&Surroundings {
            stuck: Some(how),
            ..around()
        })
    };
    let jump = |what| {
        hangs(&Surroundings {
            jump: Some((s(20), what)),
            ..around()
        })
    };
    let state = "/var/lib/nixarr/sonarr";
    vec![
        (
            "disk full",
            hangs(&place(state, false, Trouble::Full)),
            "/var/lib/nixarr/sonarr is full; sonarr waits for it",
        ),
        (
            "read-only",
            hangs(&place(state, false, Trouble::ReadOnly)),
            "sonarr is read-only; sonarr waits for it",
        ),
        (
            "disk error",
            hangs(&place(
                "/fun",
                true,
                Trouble::Unreadable("Input/output error".into()),
            )),
            "/fun cannot be read: Input/output error; sonarr waits",
        ),
        (
            "not mounted",
            hangs(&place("/fun", true, Trouble::NotMounted)),
            "/fun is not mounted; sonarr waits for it",
        ),
        (
            "emptied",
            hangs(&place("/fun", true, Trouble::Empty)),
            "/fun is empty and was not before",
        ),
        (
            "frozen",
            hangs(&Surroundings {
                frozen: true,
                ..around()
            }),
            "sonarr is frozen",
        ),
        (
            "stopped",
            stuck("its processes are stopped (SIGSTOP)"),
            "sonarr stands still: its processes are stopped",
        ),
        (
            "D state",
            stuck("its processes wait for a disk that does not answer"),
            "wait for a disk",
        ),
        (
            "load, processor",
            load("a processor"),
            "waited for a processor 82 % of the time; that is probably why sonarr",
        ),
        ("load, memory", load("memory"), "waited for memory 82 %"),
        ("load, disk", load("the disk"), "waited for the disk 82 %"),
        (
            "late",
            hangs(&Surroundings {
                late: s(3),
                ..around()
            }),
            "the question itself was 3.0 s late",
        ),
        (
            "clock",
            jump("the clock was set"),
            "the clock was set a moment ago; that is probably why sonarr",
        ),
        (
            "resume",
            jump("the machine resumed"),
            "the machine resumed a moment ago",
        ),
        (
            "at work",
            hangs(&Surroundings {
                activity: work,
                ..around()
            }),
            "sonarr probably is at work: it reads and writes",
        ),
    ]
}

/// What somebody did, or did not do.
pub(super) fn faults_of_people() -> Vec<Case> {
    let unable = Observation::Unable {
        detail: "/run/netns/wg: No such file or directory".into(),
    };
    let gate = |words| Story::up().unit(Phase::Restarting, Some(words)).alone();
    let mut stopped = Story::up();
    stopped.standing.exit = Some(Exit::Status(0));
    stopped.unit(Phase::Stopped, None);
    let mut masked = Story::down();
    masked.unit(Phase::Unloaded, None).standing.masked = true;
    let mut paused = Story::up();
    paused.happens(&Happened::Pause(s(9000))).falls(&bad("HTTP 500"));
    vec![
        (
            "netns gone",
            Story::up().falls(&unable).alone(),
            "sonarr cannot be asked: /run/netns/wg",
        ),
        (
            "port taken",
            gate("TCP port 8989 is taken by old.service"),
            "sonarr cannot start: TCP port 8989 is taken",
        ),
        (
            "mistake",
            gate("/etc/dagger/dagger.toml:4:1: unknown key `prot`"),
            "unknown key `prot`",
        ),
        ("masked", masked.alone(), "sonarr is masked"),
        (
            "deleted",
            Story::down().unit(Phase::Unloaded, None).alone(),
            "sonarr has no unit",
        ),
        ("operator's stop", stopped.alone(), "sonarr was stopped"),
        (
            "slow stop",
            Story::up().unit(Phase::Deactivating, None).alone(),
            "is being stopped, and has not ended",
        ),
        (
            "paused",
            paused.alone(),
            "sonarr answers, but wrongly: HTTP 500 (recovery is paused)",
        ),
        (
            "not started",
            Story::down().alone(),
            "sonarr has not been started",
        ),
    ]
}

/// What comes from another service, and what only looks so.
pub(super) fn faults_of_others() -> Vec<Case> {
    let fallen = |later, observation| {
        let mut story = Story::up();
        story
            .after(later)
            .falls(&observation)
            .found(&Surroundings::default());
        story
    };
    let waits = |later, observation, provider: &str| {
        let mut story = Story::up();
        story.after(later).falls(&observation).found(&Surroundings {
            providers: vec![(provider.to_owned(), Health::Unhealthy)],
            ..Surroundings::default()
        });
        story
    };
    let frozen = Surroundings {
        frozen: true,
        ..Surroundings::default()
    };
    let chain = suite([
        ("sonarr", waits(40, silent(), "prowlarr").wants(&["prowlarr"])),
        (
            "prowlarr",
            waits(20, silent(), "flaresolverr").wants(&["flaresolverr"]),
        ),
        (
            "flaresolverr",
            Story::up().falls(&silent()).found(&frozen).wants(&[]),
        ),
    ]);
    let pair = |sonarr: &Story, prowlarr: &Story| {
        suite([
            ("sonarr", sonarr.wants(&["prowlarr"])),
            ("prowlarr", prowlarr.wants(&[])),
        ])
    };
    let mut crashed = Story::up();
    crashed.after(30).ends("exit-code", Exit::Status(1));
    let mut circle = pair(&fallen(20, silent()), &fallen(0, bad("HTTP 500")));
    if let Some(prowlarr) = circle.get_mut("prowlarr") {
        prowlarr.wants = vec!["sonarr".into()];
    }
    vec![
        (
            "provider down",
            pair(&waits(30, bad("HTTP 503"), "prowlarr"), &crashed_at(0)),
            "prowlarr ended by itself with exit status 1; that is probably why sonarr does not answer",
        ),
        (
            "provider's provider",
            chain,
            "flaresolverr is frozen (podman unpause or systemctl thaw wakes it); that is probably why prowlarr and sonarr do",
        ),
        (
            "fell after",
            pair(&fallen(0, bad("HTTP 500")), &fallen(60, silent())),
            "sonarr answers, but wrongly",
        ),
        (
            "fell long before",
            pair(&fallen(3000, bad("HTTP 500")), &fallen(0, silent())),
            "sonarr answers, but wrongly",
        ),
        (
            "both, and its own crash",
            pair(&crashed, &fallen(0, silent())),
            "sonarr ended by itself with exit status 1",
        ),
        (
            "circle",
            circle,
            "prowlarr answers, but wrongly: HTTP 500; that is probably why sonarr",
        ),
    ]
}

pub(super) fn crashed_at(later: u64) -> Story {
    let mut story = Story::up();
    story.after(later).ends("exit-code", Exit::Status(1));
    story
}

/// Where what is seen says something else than what was done: here it may be wrong, and must not be certain of it.
pub(super) fn misleading_faults() -> Vec<Case> {
    let found = |found: Surroundings| hangs(&found);
    let full_media = place("/fun", true, Trouble::Full);
    let busy = Surroundings {
        pressure: Some((90.0, "a processor")),
        ..Surroundings::default()
    };
    let spin = Surroundings {
        activity: Activity {
            over: s(2),
            cpu: s(2),
            ..Activity::default()
        },
        ..Surroundings::default()
    };
    let kills = Surroundings {
        oom_kills: 1,
        ..Surroundings::default()
    };
    let mut unlucky = Story::up();
    unlucky.after(30).falls(&silent()).found(&Surroundings::default());
    let unlucky = suite([
        ("sonarr", unlucky.wants(&["prowlarr"])),
        ("prowlarr", Story::up().falls(&bad("HTTP 500")).wants(&[])),
    ]);
    vec![
        ("hang, and full media", found(full_media), "sonarr probably hangs"),
        ("hang, and load", found(busy), "sonarr probably hangs"),
        ("hang that spins", found(spin), "sonarr probably hangs"),
        ("hang, and a killed child", found(kills), "sonarr probably hangs"),
        ("hang by itself, provider down", unlucky, "sonarr probably hangs"),
        (
            "application that uses 125",
            crash("exit-code", Exit::Status(125)),
            "ended by itself with exit status 125",
        ),
    ]
}
