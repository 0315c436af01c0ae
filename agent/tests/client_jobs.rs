//! The client about jobs: what it shows before, meanwhile and at the end, what it asks, and how it ends.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, helpers outside of test functions included"
)]

#[path = "client/world.rs"]
#[allow(dead_code, reason = "only parts of the shared world are needed here")]
mod world;

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dagger_agent::adapter::bus::{Owner, ServiceView};
use dagger_agent::domain::health::Health;
use rustix::process::{Pid, Signal, kill_process};
use world::{World, run, service};

const NAMES: [&str; 5] = ["sonarr", "radarr", "bazarr", "lidarr", "whisparr"];

/// Five services that are native.
fn native(name: &str) -> Option<World> {
    let world = World::with_bus(name)?;
    configure(&world);
    let services = NAMES.map(|name| ServiceView {
        owner: Owner::Native,
        unit: format!("{name}.service"),
        ..service(name, Health::Healthy)
    });
    world.agent(services.into(), &[]);
    world.polkit();
    Some(world)
}

fn configure(world: &World) {
    let mut text = String::from("[suite]\nmedia = \"/srv/media\"\n");
    for name in NAMES {
        text.extend(["[services.", name, "]\n"]);
        world.put(&format!("usr/lib/systemd/system/{name}.service"), "[Service]\n");
    }
    world.put("etc/dagger/dagger.toml", &text);
}

#[test]
fn a_migration_is_shown_asked_about_followed_and_summed_up() {
    let Some(world) = native("job") else { return };
    let migrate = |words: &[&str]| {
        let words: Vec<&str> = ["migrate"].iter().chain(words).copied().collect();
        run(&mut world.called("nixarr-migrate", &words))
    };
    let (code, out, err) = migrate(&["sonarr"]);
    assert_eq!(code, 1, "{out}{err}");
    assert!(
        out.starts_with("sonarr: from sonarr.service to dagger-sonarr.service\n"),
        "{out}"
    );
    assert!(
        err.contains("nothing was begun") && err.contains("--yes"),
        "{err}"
    );

    let (code, out, err) = migrate(&["sonarr", "--yes"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert_eq!(
        out,
        "\
the job is queued
[1/3] pull: the image is fetched
[2/3] stop: the service stops
[3/3] start: the service starts
sonarr has ended
  snapshot: 20261124-migrate (nixarr-migrate snapshots sonarr)
  the way back: nixarr-migrate rollback sonarr
"
    );
    let (code, out, _) = migrate(&["sonarr", "--yes", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (code, &json["result"], &json["verb"]),
        (0, &"done".into(), &"migrate".into())
    );

    let (code, out, _) = migrate(&["sonarr", "--dry-run"]);
    assert!(code == 0 && out.contains("steps:"), "{out}");
    let (code, out, _) = migrate(&["sonarr", "--dry-run", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &json["unit"]), (0, &"dagger-sonarr.service".into()));
    let (code, out, _) = run(&mut world.client(&["plan", "bazarr"]));
    assert!(
        code == 1 && out.contains("! there is no room for the snapshot\n    -> make room\n"),
        "{out}"
    );
    assert_eq!(
        migrate(&["bazarr"]).0,
        1,
        "what stands in the way stands in it without a question"
    );

    let (code, out, err) = migrate(&["sonar", "--yes"]);
    assert!(code == 2 && err.contains("did you mean `sonarr`?"), "{out}{err}");
}

#[test]
fn what_goes_wrong_is_said_with_its_reason() {
    let Some(world) = native("wrong") else { return };
    let (code, out, _) = run(&mut world.client(&["migrate", "radarr", "-y"]));
    assert_eq!(code, 1);
    assert!(
        out.contains("it goes back: it did not stop\n[undo] stop: the service starts as it was\n"),
        "{out}"
    );
    assert!(
        out.ends_with("radarr is as it was\n  why: it did not stop\n"),
        "{out}"
    );
    let (code, out, err) = run(&mut world.client(&["migrate", "whisparr", "-y"]));
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("being migrated: step stop (job 9)"), "{err}");
    let (code, _, err) = run(&mut world.client(&["discard", "sonarr", "-y"]));
    assert!(code == 4 && err.contains("not authorized"), "{err}");
}

#[test]
fn the_way_back_says_what_becomes_of_the_data() {
    let Some(world) = native("back") else { return };
    let rollback = |words: &[&str]| {
        let words: Vec<&str> = ["rollback", "sonarr"].iter().chain(words).copied().collect();
        run(&mut world.called("nixarr-migrate", &words))
    };
    let (code, _, err) = rollback(&[]);
    assert!(
        code == 1 && err.contains("What the container has written goes back, too"),
        "{err}"
    );
    let (_, _, err) = rollback(&["--to-snapshot"]);
    assert!(err.contains("what it was before the migration"), "{err}");
    let (code, out, _) = rollback(&["--yes"]);
    assert!(code == 0 && out.contains("sonarr has ended\n"), "{out}");
    let (_, out, _) = rollback(&["--yes", "--to-snapshot", "20261124"]);
    assert!(out.contains("restored 20261124\n"), "{out}");
    let (code, out, _) = run(&mut world.client(&["rollback", "all", "-y"]));
    assert!(code == 0 && out.contains("nothing to roll back"), "{out}");
    world.put("var/lib/dagger/owner/sonarr", "");
    let (code, out, _) = run(&mut world.client(&["rollback", "all", "-y"]));
    assert!(code == 0 && out.contains("all of sonarr\n"), "{out}");
    assert_eq!(
        run(&mut world.client(&["rollback", "all", "-y", "--to-snapshot"])).0,
        2
    );
}

#[test]
fn where_nothing_is_left_to_migrate_every_word_for_it_says_so() {
    let Some(world) = native("nothing") else {
        return;
    };
    for name in NAMES {
        world.put(&format!("var/lib/dagger/owner/{name}"), "");
    }
    for words in [
        &["plan", "all"][..],
        &["migrate", "all", "--dry-run"],
        &["migrate", "all", "--yes"],
    ] {
        let (code, out, _) = run(&mut world.called("nixarr-migrate", words));
        assert!(
            code == 0 && out.starts_with("nothing to migrate: "),
            "{words:?}: {out}"
        );
    }
}

#[test]
fn nobody_has_to_wait_and_a_job_can_be_found_again_and_stopped() {
    let Some(world) = native("detach") else { return };
    let (code, out, _) = run(&mut world.client(&["migrate", "lidarr", "-y", "--detach"]));
    assert_eq!(code, 0);
    assert!(out.contains("journalctl -f _SYSTEMD_INVOCATION_ID=ab12"), "{out}");
    let (code, out, err) = run(&mut world.called("nixarr-migrate", &["status"]));
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("lidarr    native  lidarr.service"), "{out}");
    let row = out.lines().find(|line| line.starts_with("1  ")).unwrap();
    assert!(row.contains("lidarr   migrate"), "{out}");
    let (_, out, _) = run(&mut world.called("nixarr-migrate", &["status", "--json"]));
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (
            &json["jobs"][0]["service"],
            json["services"].as_array().unwrap().len()
        ),
        (&"lidarr".into(), 5)
    );
    let (code, out, _) = run(&mut world.client(&["cancel", "lidarr"]));
    assert!(code == 0 && out.contains("job 1 was asked to stop"), "{out}");
    let (code, _, err) = run(&mut world.client(&["cancel", "bazarr"]));
    assert!(code == 1 && err.contains("no job is at work on bazarr"), "{err}");
}

#[test]
fn ctrl_c_without_a_terminal_leaves_the_job_alone() {
    let Some(world) = native("interrupt") else { return };
    let mut client = world
        .client(&["migrate", "lidarr", "--yes"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = client.stdout.take().unwrap();
    let mut seen = vec![0; 64];
    assert!(out.read(&mut seen).unwrap() > 0, "it has begun");
    kill_process(Pid::from_child(&client), Signal::INT).unwrap();
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("it goes on by itself (job 1)"), "{rest}");
    assert_eq!(client.wait().unwrap().code(), Some(1));
    let (_, out, _) = run(&mut world.called("nixarr-migrate", &["status"]));
    assert!(out.contains("lidarr   migrate"), "{out}");
}

/// The client in a terminal of its own (script(1)); what is typed, each as soon as the text before it is there.
fn in_terminal(world: &World, words: &[&str], typed: &[(&str, &str)]) -> Option<(i32, String)> {
    let client = world.called("nixarr-migrate", words);
    let line: Vec<String> = std::iter::once(client.get_program())
        .chain(client.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let mut script = Command::new("script");
    // `exec`: a shell that waits would take the terminal's interrupt for its own, and end with 130.
    script.args(["-qefc", &format!("exec {}", line.join(" ")), "/dev/null"]);
    script.envs(client.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let started = script
        .env("TERM", "dumb")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut script) = started else {
        eprintln!("skipped: there is no script(1) here");
        return None;
    };
    let (mut keys, mut screen) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
    let (send, shown) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut part = [0; 1024];
        while let Ok(count @ 1..) = screen.read(&mut part) {
            let _ = send.send(String::from_utf8_lossy(&part[..count]).into_owned());
        }
    });
    let mut text = String::new();
    for (after, key) in typed {
        let begin = Instant::now();
        while !text.contains(after) {
            assert!(
                begin.elapsed() < Duration::from_secs(20),
                "no {after:?} in {text}"
            );
            text.extend(shown.recv_timeout(Duration::from_millis(100)));
        }
        keys.write_all(key.as_bytes()).unwrap();
    }
    let status = script.wait().unwrap();
    text.extend(shown.iter());
    Some((status.code().unwrap(), text))
}

#[test]
fn on_a_terminal_one_types_the_name_and_progress_lives() {
    let Some(world) = native("terminal") else { return };
    let ask = "Type sonarr to go on: ";
    let Some((code, text)) = in_terminal(&world, &["migrate", "sonarr"], &[(ask, "yes\r")]) else {
        return;
    };
    assert!(code == 1 && text.contains("nothing was begun"), "{text}");
    let typed = [(ask, "sonarr\r")];
    let (code, text) = in_terminal(&world, &["migrate", "sonarr"], &typed).unwrap();
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("\r\x1b[K[2/3] stop: the service stops"), "{text:?}");
    assert!(
        text.contains("the way back: nixarr-migrate rollback sonarr"),
        "{text}"
    );
}

#[test]
fn ctrl_c_on_a_terminal_asks() {
    let Some(world) = native("ctrl-c") else { return };
    let words = ["migrate", "lidarr", "--yes"];
    let running = "[1/3] pull";
    let Some((code, text)) = in_terminal(&world, &words, &[(running, "\x03"), ("(c)ancel", "c\r")]) else {
        return;
    };
    assert_eq!(code, 1, "{text}");
    assert!(
        text.contains("it was asked to stop") && text.contains("lidarr is as it was"),
        "{text}"
    );
    let typed = [(running, "\x03"), ("(c)ancel", "d\r")];
    let (_, text) = in_terminal(&world, &words, &typed).unwrap();
    assert!(text.contains("it goes on by itself (job 2)"), "{text}");
    let typed = [(running, "\x03"), ("(c)ancel", "\x03")];
    let (_, text) = in_terminal(&world, &words, &typed).unwrap();
    assert!(text.contains("it goes on by itself (job 3)"), "{text}");
}

#[test]
fn snapshots_are_listed() {
    let Some(world) = native("snapshots") else { return };
    let (code, out, _) = run(world.client(&["snapshots"]).env("TZ", "UTC"));
    assert_eq!(code, 0);
    let rows: Vec<Vec<&str>> = out
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        rows[0],
        ["SERVICE", "ID", "MADE", "FOR", "FILES", "SIZE", "VERSION"]
    );
    assert_eq!(
        rows[1],
        [
            "sonarr",
            "20261124-migrate",
            "2026-11-24",
            "13:08:39",
            "migrate",
            "12",
            "3",
            "MiB",
            "4.0.15"
        ]
    );
    let (_, out, _) = run(&mut world.client(&["snapshots", "sonarr", "--json"]));
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&json[0]["id"], &json[0]["bytes"]),
        (&"20261124-migrate".into(), &(3 << 20).into())
    );
    let (_, out, _) = run(&mut world.client(&["snapshots", "radarr"]));
    assert_eq!(out, "no snapshots\n");
}

/// What a job of systemd's would leave, by a systemctl that plays it.
const ALONE: &str = r#"
job=$DAGGER_ROOT/run/dagger/job
now=$(date +%s%6N)
case $1 in
start)
	echo "$2" >>"$DAGGER_ROOT/started"
	cat "$job/sonarr.request" >>"$DAGGER_ROOT/started" && rm "$job/sonarr.request"
	say() { printf '{"number":0,"task":"rollback","service":"sonarr","pid":1,"began":%s,"at":%s,"place":1,"steps":2%s}' "$now" "$now" "$1" >"$job/x" && mv "$job/x" "$job/sonarr.progress"; }
	say ',"step":"stop"'
	sleep 0.5
	say ',"end":{"result":"done","sentence":"sonarr is native again","owner":"native"}'
	;;
show) echo inactive ;;
esac
"#;

#[test]
fn root_needs_no_agent() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: this is for root");
        return;
    }
    let world = World::new("alone");
    configure(&world);
    world.script("systemctl", ALONE);
    let (code, out, err) = run(&mut world.called("nixarr-migrate", &["rollback", "sonarr", "--yes"]));
    assert_eq!(code, 0, "{out}{err}");
    assert!(
        err.contains("the agent cannot be reached")
            && err.contains("systemd alone starts dagger-rollback@sonarr.service"),
        "{err}"
    );
    assert_eq!(out, "[1/2] stop: the service stops\nsonarr is native again\n");
    let words = ["rollback", "sonarr", "--yes", "--to-snapshot", "20261124"];
    assert_eq!(run(&mut world.called("nixarr-migrate", &words)).0, 0);
    let started = std::fs::read_to_string(world.dir.join("root/started")).unwrap();
    assert!(
        started.contains("dagger-rollback@sonarr.service") && started.contains("20261124"),
        "{started}"
    );
    world.script("systemctl", "case $1 in show) echo failed ;; *) exit 1 ;; esac");
    let (code, out, _) = run(&mut world.called("nixarr-migrate", &["rollback", "sonarr", "--yes"]));
    assert!(
        code == 1 && out.contains("dagger-rollback@sonarr.service ended before it began"),
        "{out}"
    );
    let (code, _, err) = run(&mut world.called("nixarr-migrate", &["rollback", "all", "--yes"]));
    assert_eq!(code, 0, "nothing is in its container: {err}");
    let (code, out, _) = run(&mut world.called("nixarr-migrate", &["snapshots"]));
    assert_eq!((code, out.as_str()), (0, "no snapshots\n"));
}
