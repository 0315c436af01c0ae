//! What the client says about causes and the past, and how it asks the agent to leave a service alone.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, helpers outside of test functions included"
)]

#[path = "client/world.rs"]
#[allow(dead_code, reason = "only parts of the shared world are needed here")]
mod world;

use dagger_agent::domain::event;
use dagger_agent::domain::health::Health;
use world::{World, run, service};

const TWO: &str = "[suite]\nmedia = \"/srv/media\"\n[services.sonarr]\n[services.radarr]\n";

#[test]
fn why_tells_a_cause_once_and_what_it_rests_on() {
    let Some(world) = World::with_bus("why") else {
        return;
    };
    world.agent(
        vec![
            service("sonarr", Health::Unhealthy),
            service("radarr", Health::Failed),
            service("prowlarr", Health::Healthy),
        ],
        &[],
    );
    let (code, out, err) = run(&mut world.client(&["why"]));
    assert_eq!(
        (code, out.as_str(), err.as_str()),
        (
            3,
            "/srv/media is not mounted; sonarr waits for it\n  radarr was looked at\n  sonarr was looked at\n",
            ""
        )
    );
    let (code, out, _) = run(&mut world.client(&["why", "radarr", "--json"]));
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    let wanted = serde_json::json!([{
        "name": "radarr", "health": "failed", "sentence": "/srv/media is not mounted; sonarr waits for it",
        "certain": true, "evidence": ["radarr was looked at"]
    }]);
    assert_eq!((code, json), (3, wanted));
    assert_eq!(run(&mut world.client(&["why", "prowlarr"])).0, 0);
    let (code, _, err) = run(&mut world.client(&["why", "sonar"]));
    assert_eq!(code, 2);
    assert!(err.contains("did you mean `sonarr`?"), "{err}");
}

#[test]
fn why_of_a_service_with_a_mistake_is_the_mistake() {
    let Some(world) = World::with_bus("why-mistake") else {
        return;
    };
    world.put(
        "etc/dagger/dagger.toml",
        "[suite]\nmedia = \"/srv/media\"\n[services.sonarr]\nprot = 1\n",
    );
    world.agent(
        vec![service("radarr", Health::Healthy)],
        &["dagger.toml:4:1: unknown key"],
    );
    let (code, out, _) = run(&mut world.client(&["why", "sonarr"]));
    assert_eq!(code, 3);
    assert!(
        out.starts_with("sonarr cannot start: ")
            && out.contains("dagger.toml:4:1")
            && out.contains("did you mean"),
        "{out}"
    );
    let (code, out, err) = run(&mut world.client(&["why"]));
    assert_eq!((code, out.as_str()), (3, ""));
    assert!(
        err.contains("configuration: dagger.toml:4:1: unknown key"),
        "{err}"
    );
}

#[test]
fn why_of_a_good_suite_is_short() {
    let Some(world) = World::with_bus("why-good") else {
        return;
    };
    world.agent(vec![service("sonarr", Health::Healthy)], &[]);
    let (code, out, _) = run(&mut world.client(&["why"]));
    assert_eq!((code, out.as_str()), (0, "every service is healthy\n"));
}

#[test]
fn a_pause_is_asked_of_the_agent_and_polkit_decides() {
    let Some(world) = World::with_bus("pause") else {
        return;
    };
    world.agent(
        vec![
            service("sonarr", Health::Unhealthy),
            service("radarr", Health::Healthy),
        ],
        &[],
    );
    let (code, out, err) = run(&mut world.client(&["pause", "sonarr"]));
    assert_eq!((code, out.as_str()), (4, ""), "{err}");
    assert!(err.contains("not authorized"), "{err}");

    world.polkit();
    let (code, out, err) = run(&mut world.client(&["pause", "sonarr", "--for", "2h"]));
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(
        out,
        "sonarr is left alone for 2 h, however it answers; it is watched on\n"
    );
    let (code, out, _) = run(&mut world.client(&["pause", "sonarr"]));
    assert!(code == 0 && out.contains("until `daggerctl resume`"), "{out}");
    let (code, out, _) = run(&mut world.client(&["resume", "sonarr"]));
    assert_eq!((code, out.as_str()), (0, "the pause of sonarr is over\n"));
    assert_eq!(
        run(&mut world.client(&["pause", "radarr"])).0,
        4,
        "polkit allows sonarr only"
    );
    assert_eq!(run(&mut world.client(&["pause", "sonar"])).0, 2);
    for wrong in [
        &["pause"][..],
        &["pause", "sonarr", "--for", "soon"],
        &["pause", "sonarr", "--for", "60 days"],
    ] {
        let (code, out, _) = run(&mut world.client(wrong));
        assert_eq!((code, out.as_str()), (2, ""), "{wrong:?}");
    }
}

#[test]
fn status_shows_what_is_waited_for_and_what_is_paused() {
    let Some(world) = World::with_bus("paused") else {
        return;
    };
    let mut waiting = service("radarr", Health::Unhealthy);
    waiting.health_detail = "waiting: /fun is not mounted".into();
    waiting.cause = "not-mounted".into();
    let mut paused = service("sonarr", Health::Healthy);
    paused.paused_until = u64::MAX;
    world.agent(vec![waiting, paused], &[]);
    let (_, out, _) = run(&mut world.client(&["status"]));
    for line in [
        "radarr: unhealthy: waiting: /fun is not mounted (systemctl status dagger-radarr.service)\n",
        "sonarr: recovery is paused until somebody resumes it (daggerctl resume sonarr)\n",
    ] {
        assert!(out.contains(line), "{line} is not in\n{out}");
    }
    let (code, out, _) = run(&mut world.called("dagger-nixarr-summary", &[]));
    assert!(code == 3 && out.contains("sonarr: recovery is paused"), "{out}");
    let (_, out, _) = run(&mut world.client(&["status", "--json"]));
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    let service = &json["services"][0];
    assert_eq!(
        (
            &service["cause"],
            &service["paused_until"],
            &service["recoveries"]
        ),
        (&"not-mounted".into(), &0.into(), &0.into())
    );
}

/// A journal with two events of each service.
fn journal(world: &World) {
    let line = |second: u64, id: &str, message: &str| {
        format!(
            "echo '{{\"__REALTIME_TIMESTAMP\":\"{second}000000\",\"MESSAGE_ID\":\"{id}\",\"MESSAGE\":\"{message}\"}}'"
        )
    };
    let of = |name: &str, first: u64| {
        let healthy = line(first, event::HEALTHY.id, &format!("{name} is healthy: HTTP 200"));
        let fallen = line(
            first + 10,
            event::UNHEALTHY.id,
            &format!("{name} is unhealthy: HTTP 500"),
        );
        format!("*DAGGER_SERVICE={name}*) {healthy}; {fallen};;")
    };
    let (sonarr, radarr) = (of("sonarr", 1_790_000_000), of("radarr", 1_790_000_005));
    world.script("journalctl", &format!("case \"$*\" in\n{sonarr}\n{radarr}\nesac"));
}

#[test]
fn history_without_the_agent_is_the_journals() {
    let world = World::new("history");
    world.put("etc/dagger/dagger.toml", TWO);
    journal(&world);
    let client = |words: &[&str]| {
        let mut client = world.client(words);
        run(client.env("TZ", "UTC"))
    };
    let (code, out, err) = client(&["history", "-n3"]);
    assert_eq!(
        (code, out.as_str()),
        (
            5,
            "\
2026-09-21 14:13:25  radarr is healthy: HTTP 200
2026-09-21 14:13:30  sonarr is unhealthy: HTTP 500
2026-09-21 14:13:35  radarr is unhealthy: HTTP 500
"
        )
    );
    assert!(err.contains("the agent cannot be reached"), "{err}");
    let (_, out, _) = client(&["history", "sonarr", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 2);
    assert_eq!(
        json[0],
        serde_json::json!({"time_usec": 1_790_000_000_000_000_u64, "service": "sonarr", "event": "healthy",
                           "message": "sonarr is healthy: HTTP 200"})
    );
    assert_eq!(client(&["history", "sonar"]).0, 2);
    assert_eq!(client(&["history", "-n0"]).0, 2);

    // A user who may not read the journal is told so, and not that nothing has happened.
    world.script(
        "journalctl",
        "echo 'No journal files were opened due to insufficient permissions.' >&2; exit 1",
    );
    let (code, out, err) = client(&["history"]);
    assert_eq!((code, out.as_str(), err.lines().count()), (5, "", 2), "{err}");
    assert!(err.contains("insufficient permissions"), "{err}");
}
