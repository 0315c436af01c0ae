//! The client as its callers see it: output, exit codes, and what it says when there is nobody to ask.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, helpers outside of test functions included"
)]

#[path = "client/world.rs"]
#[allow(dead_code, reason = "only parts of the shared world are needed here")]
mod world;

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use dagger_agent::domain::health::Health;
use world::{World, run, service};

const SIX: &str = "[suite]\nmedia = \"/srv/media\"\n[services.sonarr]\n[services.radarr]\n";

#[test]
fn status_is_a_table_and_a_document() {
    let Some(world) = World::with_bus("status") else {
        return;
    };
    world.agent(
        vec![
            service("sonarr", Health::Healthy),
            service("radarr", Health::Unhealthy),
        ],
        &["f:1:2: bad"],
    );
    world.systemd(&[
        ("dagger-sonarr.service", "active", "running"),
        ("dagger-radarr.service", "active", "running"),
    ]);
    let (code, out, err) = run(&mut world.client(&["status"]));
    assert_eq!((code, err.as_str()), (0, ""));
    let lines: Vec<Vec<&str>> = out
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines[0],
        [
            "SERVICE", "OWNER", "STATE", "HEALTH", "SINCE", "LATENCY", "PORT", "MEMORY", "VERSION"
        ]
    );
    assert_eq!(lines[1][..4], ["radarr", "container", "active", "unhealthy"]);
    assert!(
        lines[2].ends_with(&["3.2", "ms", "8989", "100", "MiB", "4.0.15"]),
        "{out}"
    );
    assert!(
        out.contains("radarr: unhealthy: HTTP 200 in 3 ms (systemctl status dagger-radarr.service)\n"),
        "{out}"
    );
    assert!(out.contains("configuration: f:1:2: bad\n"), "{out}");
    assert!(!out.contains('\x1b'), "colour without a terminal");

    let (code, out, _) = run(&mut world.client(&["--json"]));
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (code, &json["agent"], &json["version"]),
        (0, &true.into(), &"9.9.9".into())
    );
    assert_eq!(
        (&json["health"], &json["services"][0]["name"]),
        (&"unhealthy".into(), &"radarr".into())
    );
    assert_eq!(json["services"][1]["memory_bytes"], 100 << 20);
    assert_eq!(json["services"][1]["wants"], serde_json::json!(["prowlarr"]));
}

#[test]
fn health_and_check_answer_by_their_exit_code() {
    let Some(world) = World::with_bus("health") else {
        return;
    };
    world.agent(
        vec![
            service("sonarr", Health::Healthy),
            service("radarr", Health::Starting),
        ],
        &[],
    );
    let (code, out, _) = run(&mut world.client(&["health"]));
    assert_eq!(
        (code, out.as_str()),
        (
            3,
            "radarr  starting  HTTP 200 in 3 ms\nsonarr  healthy   HTTP 200 in 3 ms\n"
        )
    );
    assert_eq!(run(&mut world.client(&["health", "sonarr"])).0, 0);
    let (code, out, _) = run(&mut world.client(&["check"]));
    assert_eq!(code, 3);
    assert!(out.contains("radarr  starting  asked: HTTP 200"), "{out}");
    let (code, out, _) = run(&mut world.client(&["check", "sonarr", "--json"]));
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    let wanted = serde_json::json!([{"name": "sonarr", "health": "healthy", "health_detail": "asked: HTTP 200 in 3 ms"}]);
    assert_eq!((code, json), (0, wanted));
    let (code, out, err) = run(&mut world.client(&["health", "sonar"]));
    assert_eq!(
        (code, out.as_str(), err.as_str()),
        (
            2,
            "",
            "daggerctl: no service is named `sonar`; did you mean `sonarr`?\n"
        )
    );
}

#[test]
fn a_mistake_in_the_configuration_is_not_health() {
    let Some(world) = World::with_bus("mistake") else {
        return;
    };
    world.agent(
        vec![service("sonarr", Health::Healthy)],
        &["dagger.toml:1:1: wrong"],
    );
    let (code, _, err) = run(&mut world.client(&["health"]));
    assert_eq!(
        (code, err.as_str()),
        (3, "daggerctl: configuration: dagger.toml:1:1: wrong\n")
    );
}

#[test]
fn watch_shows_a_change_when_the_bus_tells_of_it() {
    let Some(world) = World::with_bus("watch") else {
        return;
    };
    let changes = world.agent(vec![service("sonarr", Health::Starting)], &[]);
    let mut client = world
        .client(&["status", "--watch", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(client.stdout.take().unwrap()).lines();
    let mut health = || {
        let line: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        line["services"][0]["health"].as_str().unwrap().to_owned()
    };
    assert_eq!(health(), "starting");
    changes.send(service("sonarr", Health::Healthy)).unwrap();
    assert_eq!(health(), "healthy");
    client.kill().unwrap();
    client.wait().unwrap();
}

#[test]
fn without_the_agent_systemd_still_says_what_it_knows() {
    let Some(world) = World::with_bus("no-agent") else {
        return;
    };
    world.put("etc/dagger/dagger.toml", SIX);
    world.put("var/lib/dagger/owner/sonarr", "");
    world.put("usr/lib/systemd/system/radarr.service", "[Service]\n");
    world.systemd(&[
        ("dagger-sonarr.service", "active", "running"),
        ("dagger-pull@sonarr.service", "inactive", "dead"),
        ("dagger-agent.service", "failed", "failed"),
        ("radarr.service", "active", "running"),
    ]);
    let (code, out, err) = run(&mut world.client(&["status"]));
    assert_eq!(code, 5);
    let lines: Vec<Vec<&str>> = out
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines[1][..4], ["radarr", "native", "active", "unknown"]);
    assert_eq!(lines[2][..4], ["sonarr", "container", "active", "unknown"]);
    assert_eq!(lines.len(), 3, "{out}");
    assert_eq!(err.lines().count(), 1, "one sentence: {err}");
    assert!(
        err.contains("agent cannot be reached") && err.contains("systemctl start monitoring"),
        "{err}"
    );
    let (code, out, err) = run(&mut world.client(&["health"]));
    assert_eq!((code, out.as_str(), err.lines().count()), (5, "", 1));
}

#[test]
fn without_a_bus_there_is_one_clear_sentence() {
    let world = World::new("no-bus");
    world.put("etc/dagger/dagger.toml", SIX);
    for words in [&["status"][..], &["health"], &["check"], &["status", "--watch"]] {
        let (code, out, err) = run(&mut world.client(words));
        assert_eq!(
            (code, out.as_str(), err.lines().count()),
            (5, "", 1),
            "{words:?}: {err}"
        );
        assert!(err.contains("no system bus"), "{err}");
    }
}

#[test]
fn status_of_one_is_that_one_alone() {
    let Some(world) = World::with_bus("status-one") else {
        return;
    };
    world.put(
        "etc/dagger/dagger.toml",
        &format!("{SIX}[services.jellyfin]\nprot = 1\n"),
    );
    world.agent(
        vec![
            service("sonarr", Health::Healthy),
            service("radarr", Health::Unhealthy),
        ],
        &["f:1:2: bad"],
    );
    let (code, out, _) = run(&mut world.client(&["status", "sonarr"]));
    assert_eq!((code, out.lines().count()), (0, 2), "{out}");
    assert!(out.contains("\nsonarr "), "{out}");
    let (_, out, _) = run(&mut world.client(&["status", "sonarr", "--json"]));
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["services"].as_array().unwrap().len(), 1);
    assert_eq!(json["health"], "healthy");
    let (code, out, err) = run(&mut world.client(&["status", "radar"]));
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("did you mean `radarr`?"), "{err}");
    // It is there, and cannot run.
    let (code, _, err) = run(&mut world.client(&["status", "jellyfin"]));
    assert_eq!(code, 1, "{err}");
    assert!(
        err.contains("jellyfin cannot start: ") && err.contains("prot"),
        "{err}"
    );
}

#[test]
fn a_stop_of_the_suite_waits_for_its_services() {
    let world = World::new("stop");
    world.put("etc/dagger/dagger.toml", SIX);
    world.script(
        "systemctl",
        "case $1 in show) echo 'dagger-pull@sonarr.service dagger-sonarr.service dagger-gone.service' ;; *) echo \"$@\" ;; esac",
    );
    let (code, out, _) = run(&mut world.client(&["stop"]));
    assert_eq!(
        (code, out.as_str()),
        (
            0,
            "stop dagger.target dagger-sonarr.service dagger-gone.service\n"
        )
    );
}

/// systemd skips the container's unit then, and systemctl calls that a success.
#[test]
fn what_the_native_unit_owns_is_not_started_in_silence() {
    let world = World::new("native-start");
    let toml = SIX.replace(
        "[services.sonarr]\n",
        "[services.sonarr]\nnative = \"sonarr.service\"\n",
    );
    world.put("etc/dagger/dagger.toml", &toml);
    world.put(
        "usr/lib/systemd/system/sonarr.service",
        "[Service]\nExecStart=/bin/true\n",
    );
    world.program("systemctl", 0);
    for verb in ["start", "stop", "restart"] {
        let (code, out, err) = run(&mut world.client(&[verb, "sonarr"]));
        assert_eq!((code, out.as_str()), (1, ""), "{err}");
        for words in [
            "sonarr belongs to its native unit sonarr.service".to_owned(),
            format!("`systemctl {verb} sonarr.service`"),
            "`nixarr-migrate migrate sonarr`".to_owned(),
        ] {
            assert!(err.contains(&words), "{err}");
        }
    }
    // The others are started all the same.
    let (code, out, _) = run(&mut world.client(&["start", "sonarr", "radarr"]));
    assert_eq!(
        (code, out.replace('\n', " ").as_str()),
        (1, "systemctl start dagger-radarr.service ")
    );
    world.put("var/lib/dagger/owner/sonarr", "");
    let (code, out, err) = run(&mut world.client(&["start", "sonarr"]));
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("dagger-sonarr.service"), "{out}");
}

#[test]
fn units_are_systemctls_and_logs_are_journalctls() {
    let world = World::new("words");
    world.put("etc/dagger/dagger.toml", SIX);
    world.program("systemctl", 0);
    world.program("journalctl", 0);
    let said = |words: &[&str]| run(&mut world.client(words)).1.replace('\n', " ");
    assert_eq!(
        said(&["start", "sonarr", "radarr"]),
        "systemctl start dagger-sonarr.service dagger-radarr.service "
    );
    assert_eq!(said(&["start"]), "systemctl start dagger.target ");
    assert_eq!(
        said(&["logs", "sonarr", "-fn5"]),
        "journalctl -u dagger-sonarr.service -u dagger-pull@sonarr.service -n 5 -f "
    );
    assert_eq!(said(&["logs"]), "journalctl -u dagger-* -u monitoring.service ");
    let (code, out, err) = run(&mut world.client(&["restart", "sonar"]));
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("did you mean `sonarr`?"), "{err}");
    for (status, ours) in [(1, 1), (4, 4), (5, 1)] {
        world.program("systemctl", status);
        assert_eq!(run(&mut world.client(&["start"])).0, ours);
    }
    // systemctl has no status of its own for this one.
    world.script(
        "systemctl",
        "echo 'Failed to start x: Interactive authentication required.' >&2; exit 1",
    );
    let (code, _, err) = run(&mut world.client(&["start"]));
    assert_eq!(
        (code, err.as_str()),
        (4, "Failed to start x: Interactive authentication required.\n")
    );
}

#[test]
fn mistakes_in_the_configuration_are_all_shown() {
    let world = World::new("config");
    let (code, out, _) = run(&mut world.client(&["config", "check"]));
    assert_eq!(
        (code, out.as_str()),
        (0, "there is no configuration: write /etc/dagger/dagger.toml\n")
    );
    world.put("etc/dagger/dagger.toml", SIX);
    let (code, out, err) = run(&mut world.client(&["config", "check"]));
    assert_eq!(
        (code, out.as_str(), err.as_str()),
        (0, "2 services good, 0 warnings\n", "")
    );
    let (code, out, _) = run(&mut world.client(&["config", "show"]));
    assert_eq!(code, 0);
    assert!(out.contains("\n[services.sonarr]\nlike = \"sonarr\"\n"), "{out}");
    assert!(out.contains("target = \"/config\""), "{out}");
    let (_, out, _) = run(&mut world.client(&["config", "show", "--json"]));
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["services"]["radarr"]["health"]["kind"], "servarr");

    world.put(
        "etc/dagger/conf.d/x.toml",
        "[services.sonarr]\nprot = 1\n[services.radarr]\nport = \"8989\"\n",
    );
    let (code, out, _) = run(&mut world.client(&["config", "check"]));
    assert_eq!(code, 1);
    for part in [
        "/etc/dagger/conf.d/x.toml:2:1: error",
        "x.toml:4:8: error",
        "2 errors",
        "2 cannot run",
    ] {
        assert!(out.contains(part), "{part} is not in\n{out}");
    }
    assert_eq!(run(&mut world.client(&["config", "show"])).0, 1);
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let world = World::new("pipe");
    world.put("etc/dagger/dagger.toml", SIX);
    let mut client = world.client(&["config", "show"]);
    let mut client = client
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(client.stdout.take());
    let ended = client.wait_with_output().unwrap();
    assert_eq!(
        (ended.status.code(), ended.stderr.as_slice()),
        (Some(0), &b""[..])
    );
}

#[test]
fn the_other_names_answer() {
    let Some(world) = World::with_bus("names") else {
        return;
    };
    world.put("etc/dagger/dagger.toml", SIX);
    world.put("usr/lib/systemd/system/sonarr.service", "[Service]\n");
    let (code, out, err) = run(&mut world.called("nixarr-migration-status", &[]));
    assert_eq!(code, 5, "no agent yet");
    assert!(out.contains("sonarr   native  sonarr.service  unknown"), "{out}");
    assert!(
        err.starts_with("nixarr-migration-status: the agent cannot be reached"),
        "{err}"
    );

    world.agent(
        vec![
            service("sonarr", Health::Healthy),
            service("radarr", Health::Failed),
        ],
        &[],
    );
    let (code, out, _) = run(&mut world.called("nixarr-migration-status", &["--json"]));
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &json[1]["owner"]), (0, &"container".into()));
    assert_eq!(
        json[1]["native_units"],
        serde_json::json!([{"name": "sonarr.service", "present": true}])
    );

    let (code, out, _) = run(&mut world.called("dagger-nixarr-summary", &[]));
    assert_eq!((code, out.lines().next()), (3, Some("1 of 2 services healthy")));
    assert!(out.contains("radarr: failed"), "{out}");

    let (code, out, _) = run(&mut world.called("nixarr-migrate", &[]));
    assert!(code == 0 && out.contains("sonarr   container"), "{out}");
}

#[test]
fn a_wrong_command_line_is_status_2() {
    let world = World::new("usage");
    for words in [
        &["no-such-verb"][..],
        &["status", "--no-such-option"],
        &["logs", "-n", "many"],
    ] {
        assert_eq!(run(&mut world.client(words)).0, 2, "{words:?}");
    }
}
