//! The client about conflicts: who is in the way, what breaks, another port and what goes with it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, helpers outside of test functions included"
)]

#[path = "client/world.rs"]
#[allow(dead_code, reason = "only parts of the shared world are needed here")]
mod world;

use std::net::TcpListener;

use dagger_agent::domain::health::Health;
use world::{World, run, service};

const TOML: &str = "[suite]\nmedia = \"/srv/media\"\n[services.sonarr]\nport = PORT\n[services.bazarr]\n";

/// A world whose sonarr wants a port that this test has.
fn taken(world: &World) -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    world.put("etc/dagger/dagger.toml", &TOML.replace("PORT", &port.to_string()));
    world.put("etc/passwd", "www-data:x:33:33::/var/www:/bin/false\n");
    listener
}

#[test]
fn who_is_in_the_way_and_what_to_do_is_shown() {
    let Some(world) = World::with_bus("conflicts") else {
        return;
    };
    let listener = taken(&world);
    let port = listener.local_addr().unwrap().port();
    let mut sonarr = service("sonarr", Health::Unhealthy);
    sonarr.conflicts = vec![format!(
        "TCP port {port}, which sonarr needs, is taken by web.service"
    )];
    sonarr.port = port;
    world.agent(vec![sonarr, service("bazarr", Health::Healthy)], &[]);

    let (code, out, err) = run(&mut world.client(&["conflicts"]));
    assert_eq!((code, err.as_str()), (3, ""), "{out}");
    let row: Vec<&str> = out.lines().nth(1).unwrap().split_whitespace().collect();
    let number = port.to_string();
    assert_eq!(
        row[..7],
        ["sonarr", "tcp", &number, "(web)", "web.service", "-", "www-data"]
    );
    assert!(
        out.contains("which sonarr needs, is taken by web.service"),
        "{out}"
    );
    assert!(
        out.contains("sonarr does not start until the port is free"),
        "{out}"
    );

    let (code, out, _) = run(&mut world.client(&["conflicts", "sonarr", "--json", "--suggest"]));
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &json["conflicts"][0]["unit"]), (3, &"web.service".into()));
    let suggestion = &json["suggestions"][0];
    assert_eq!(
        (&suggestion["from"], &suggestion["table"]),
        (&port.into(), &"[services.sonarr]".into())
    );
    assert_eq!(suggestion["also"][0]["service"], "bazarr");
    assert_eq!(
        run(&mut world.client(&["conflicts", "sonarr", "--json", "--suggest"])).1,
        out,
        "stable"
    );

    let (code, out, _) = run(&mut world.client(&["conflicts", "bazarr"]));
    assert_eq!((code, out.as_str()), (0, "no conflicts\n"));
    let (code, _, err) = run(&mut world.client(&["conflicts", "sonar"]));
    assert!(code == 2 && err.contains("did you mean `sonarr`?"), "{err}");

    let (_, out, _) = run(&mut world.called("nixarr-migration-status", &[]));
    assert!(
        out.contains("which sonarr needs, is taken by web.service"),
        "{out}"
    );
}

#[test]
fn without_the_agent_the_kernel_and_systemd_say_what_they_know() {
    let Some(world) = World::with_bus("conflicts-no-agent") else {
        return;
    };
    let listener = taken(&world);
    let port = listener.local_addr().unwrap().port();
    world.systemd(&[("dagger-sonarr.service", "inactive", "dead")]);
    let (code, out, err) = run(&mut world.client(&["conflicts"]));
    assert!(
        code == 5 && err.contains("agent cannot be reached"),
        "{code} {err}"
    );
    assert!(
        out.contains(&format!("TCP port {port}, which sonarr needs, is taken by")),
        "{out}"
    );
}

#[test]
fn every_port_of_the_suite_is_listed_without_any_bus() {
    let world = World::new("ports");
    let listener = taken(&world);
    let port = listener.local_addr().unwrap().port().to_string();
    let (code, out, _) = run(&mut world.client(&["ports"]));
    assert_eq!(code, 3, "{out}");
    let rows: Vec<Vec<&str>> = out
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows[0][..4], ["SERVICE", "WHAT", "PORT", "STATE"]);
    assert_eq!(rows[1][..4], ["bazarr", "web", "tcp", "6767"]);
    assert_eq!(rows[2][..5], ["sonarr", "web", "tcp", &port, "taken"]);
    let pid = format!("({})", std::process::id());
    assert!(rows[2].contains(&pid.as_str()), "the process is this one: {out}");
    let (_, out, _) = run(&mut world.client(&["ports", "sonarr", "--suggest"]));
    assert!(
        out.contains("/etc/dagger/dagger.toml, below [services.sonarr]:\n    port = "),
        "{out}"
    );
    assert!(out.contains("bazarr: Settings, Sonarr: Port = "), "{out}");
    drop(listener);
    let (_, out, _) = run(&mut world.client(&["ports", "sonarr"]));
    assert!(out.contains("free"), "{out}");
}
