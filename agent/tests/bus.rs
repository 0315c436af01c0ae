//! The agent on a bus: the real program, a private dbus-daemon, and a systemd that the tests play. Needs no root.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::format_collect,
    reason = "a test that fails says so by ending"
)]

#[path = "bus/world.rs"]
#[allow(dead_code, reason = "only parts of the shared world are needed here")]
mod world;

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dagger_agent::adapter::bus::{BusError, ManagerProxy, Owner, QUEUE, ServiceProxy, ServiceView, client};
use dagger_agent::domain::health::Health;
use rustix::process::Signal;
use world::{ACTIVE, Application, LIMIT, STOPPED, World};
use zbus::export::futures_core::Stream;
use zbus::fdo::IntrospectableProxy;
use zbus::{Connection, MatchRule, MessageStream, OwnedVariant};

const FAILED: (&str, &str, &str, u32) = ("loaded", "failed", "failed", 0);

/// The service as the bus shows it, as soon as it is as wanted.
async fn until(caller: &Connection, name: &str, wanted: impl Fn(&ServiceView) -> bool) -> ServiceView {
    let begin = Instant::now();
    loop {
        let (_, services) = client::suite(caller).await.unwrap();
        let view = services.into_iter().find(|view| view.name == name);
        match view {
            Some(view) if wanted(&view) => return view,
            other => assert!(begin.elapsed() < LIMIT, "it stays {other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn service<'a>(caller: &Connection, name: &str) -> ServiceProxy<'a> {
    ServiceProxy::builder(caller)
        .path(format!("/org/nixarr/Dagger1/service/{name}"))
        .build()
        .await
        .unwrap()
}

#[tokio::test]
async fn a_verdict_follows_the_unit_and_the_answers() {
    let Some(mut world) = World::new("verdict").await else {
        return;
    };
    let app = Application::start(Duration::ZERO);
    world.configure(&[("app", app.port)]);
    world.put(
        "run/dagger/image/app",
        r#"{"reference":"x","id":"y","digest":"sha256:1","version":"4.0","created":"z"}"#,
    );
    world.unit("dagger-app.service", STOPPED).await;
    world.start().await;
    let caller = world.caller().await;
    let view = until(&caller, "app", |view| !view.active_state.is_empty()).await;
    assert_eq!((view.health, view.owner), (Health::Inactive, Owner::None));

    world.change("dagger-app.service", ACTIVE).await;
    let view = until(&caller, "app", |view| view.health == Health::Healthy).await;
    assert_eq!((view.main_pid, view.owner), (4321, Owner::Container));
    assert_eq!(
        (view.image_digest.as_str(), view.version.as_str()),
        ("sha256:1", "4.0")
    );
    assert!(
        view.latency_usec > 0 && view.health_detail.contains("200"),
        "{view:?}"
    );

    app.good.store(false, Ordering::Relaxed);
    let bad = until(&caller, "app", |view| view.health == Health::Unhealthy).await;
    assert!(
        bad.health_detail.contains("500") && bad.since > view.since,
        "{bad:?}"
    );
    assert_eq!(client::suite(&caller).await.unwrap().0.health, Health::Unhealthy);

    world.change("dagger-app.service", FAILED).await;
    until(&caller, "app", |view| view.health == Health::Failed).await;
    let asked = app.asked.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(
        app.asked.load(Ordering::Relaxed),
        asked,
        "a unit that does not run is not asked"
    );
    for line in ["app is healthy: ", "app is unhealthy: ", "app failed: "] {
        assert_eq!(world.log().matches(line).count(), 1, "{line} in {}", world.log());
    }
}

#[tokio::test]
async fn nothing_is_said_while_nothing_changes() {
    let Some(mut world) = World::new("silence").await else {
        return;
    };
    let app = Application::start(Duration::ZERO);
    world.configure(&[("app", app.port)]);
    world.unit("dagger-app.service", ACTIVE).await;
    world.start().await;
    let caller = world.caller().await;
    until(&caller, "app", |view| view.health == Health::Healthy).await;
    let rule = MatchRule::builder().sender("org.nixarr.Dagger1").build().unwrap();
    let mut stream = MessageStream::for_match_rule(rule, &caller, None).await.unwrap();
    let (log, asked) = (world.log(), app.asked.load(Ordering::Relaxed));
    let signal = poll_fn(|context| Pin::new(&mut stream).poll_next(context));
    let heard = tokio::time::timeout(Duration::from_millis(3500), signal).await;
    assert!(heard.is_err(), "{heard:?}");
    assert!(
        app.asked.load(Ordering::Relaxed) >= asked + 3,
        "it goes on asking"
    );
    assert_eq!(world.log(), log);
}

#[tokio::test]
async fn services_come_and_go_with_a_daemon_reload() {
    let Some(mut world) = World::new("reload").await else {
        return;
    };
    let app = Application::start(Duration::ZERO);
    world.configure(&[("one", app.port), ("two", 2)]);
    world.unit("dagger-one.service", ACTIVE).await;
    world.unit("dagger-two.service", STOPPED).await;
    world.start().await;
    let caller = world.caller().await;
    let one = until(&caller, "one", |view| view.health == Health::Healthy).await;

    world.configure(&[("one", app.port), ("three", 3)]);
    world.reloaded().await;
    let three = until(&caller, "three", |view| view.health == Health::Unknown).await;
    assert!(three.health_detail.contains("daemon-reload"), "{three:?}");
    let (manager, services) = client::suite(&caller).await.unwrap();
    let names: Vec<&str> = services.iter().map(|view| view.name.as_str()).collect();
    assert_eq!(names, ["one", "three"]);
    assert_eq!(manager.services.len(), 2);
    assert_eq!(services[0].since, one.since, "what stays keeps its verdict");

    world.put("etc/dagger/dagger.toml", "[services.sonar]\n");
    let error = ManagerProxy::new(&caller)
        .await
        .unwrap()
        .reload()
        .await
        .unwrap_err();
    assert!(error.to_string().contains("did you mean"), "{error}");
    let (manager, services) = client::suite(&caller).await.unwrap();
    assert!(
        services.is_empty() && manager.configuration_errors.len() == 1,
        "{manager:?}"
    );
    assert!(
        world
            .log()
            .contains("Mistake in the configuration: /etc/dagger/dagger.toml:1:")
    );
}

/// Asked after all units, systemd has said that this one is stopped; it starts while the rest of the answers is still on its
/// way.
#[tokio::test]
async fn what_systemd_says_of_a_unit_is_not_overtaken_by_what_it_was_asked_before() {
    let Some(mut world) = World::new("overtaken").await else {
        return;
    };
    let (app, other) = (
        Application::start(Duration::ZERO),
        Application::start(Duration::ZERO),
    );
    world.configure(&[("app", app.port), ("other", other.port)]);
    world.unit("dagger-app.service", STOPPED).await;
    world.unit("dagger-other.service", ACTIVE).await;
    world.start().await;
    let caller = world.caller().await;
    until(&caller, "other", |view| view.health == Health::Healthy).await;

    world.slow.store(700, Ordering::Relaxed);
    world.reloaded().await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    world.change("dagger-app.service", ACTIVE).await;
    until(&caller, "app", |view| view.health == Health::Healthy).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    let view = until(&caller, "app", |_| true).await;
    assert_eq!((view.health, view.main_pid), (Health::Healthy, 4321), "{view:?}");
}

#[tokio::test]
async fn the_marker_and_the_native_unit_decide_who_owns_a_service() {
    let Some(mut world) = World::new("owner").await else {
        return;
    };
    let app = Application::start(Duration::ZERO);
    let text = format!(
        "[suite]\nmedia = \"/fun\"\n[services.sonarr]\nport = {}\nnative = \"sonarr.service\"\n",
        app.port
    );
    world.put("etc/dagger/dagger.toml", &text);
    world.put(
        "etc/systemd/system/sonarr.service",
        "[Service]\nExecStart=/bin/true\n",
    );
    // Of a container that ran before.
    world.put(
        "run/dagger/image/sonarr",
        r#"{"reference":"x","id":"y","digest":"sha256:1","version":"4.0","created":"z"}"#,
    );
    world.unit("dagger-sonarr.service", STOPPED).await;
    world
        .unit("sonarr.service", ("loaded", "active", "running", 77))
        .await;
    world.start().await;
    let caller = world.caller().await;
    let view = until(&caller, "sonarr", |view| view.main_pid == 77).await;
    assert_eq!(
        (view.owner, view.unit.as_str(), view.version.as_str()),
        (Owner::Native, "sonarr.service", "")
    );

    world.put("var/lib/dagger/owner/sonarr", "DAGGER_UID=1\nDAGGER_GID=1\n");
    world.change("sonarr.service", STOPPED).await;
    let view = until(&caller, "sonarr", |view| view.owner == Owner::Container).await;
    assert_eq!(
        (view.unit.as_str(), view.health, view.version.as_str()),
        ("dagger-sonarr.service", Health::Inactive, "4.0")
    );
    assert!(world.path("var/lib/dagger/owner/sonarr").exists());
}

#[tokio::test]
async fn checks_that_come_together_share_a_probe_and_a_flood_is_turned_away() {
    let Some(mut world) = World::new("flood").await else {
        return;
    };
    let app = Application::start(Duration::from_millis(400));
    world.configure(&[("app", app.port)]);
    world.unit("dagger-app.service", ACTIVE).await;
    world.start().await;
    let caller = world.caller().await;
    until(&caller, "app", |view| view.health == Health::Healthy).await;

    let before = app.asked.load(Ordering::Relaxed);
    let begin = Instant::now();
    let mut calls = Vec::new();
    for _ in 0..15 {
        let (caller, proxy) = (caller.clone(), service(&caller, "app").await);
        calls.push(tokio::spawn(async move {
            let _ = caller;
            proxy.check().await
        }));
    }
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().0, "healthy");
    }
    let asked = app.asked.load(Ordering::Relaxed) - before;
    let rounds = u32::try_from(begin.elapsed().as_millis() / 400).unwrap() + 1;
    assert!(
        asked <= rounds,
        "{asked} probes for 15 calls in {:?}",
        begin.elapsed()
    );

    let mut throttled = 0_usize;
    let mut calls = Vec::new();
    for _ in 0..100 {
        let proxy = service(&caller, "app").await;
        calls.push(tokio::spawn(async move { proxy.check().await }));
    }
    for call in calls {
        match call.await.unwrap() {
            Ok(_) => {}
            Err(BusError::Throttled(_)) => throttled += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    // root is turned away by nothing but a queue that is full, and tests may be root's; what others get, the stories in
    // machines show.
    if rustix::process::geteuid().is_root() {
        assert!(throttled <= 100 - QUEUE, "{throttled} of 100");
    } else {
        assert!(throttled > 60, "{throttled} of 100");
    }
    let other = world.caller().await;
    assert_eq!(
        service(&other, "app").await.check().await.unwrap().0,
        "healthy",
        "others are served"
    );
}

#[tokio::test]
async fn systemd_is_told_when_it_is_ready_reloads_and_stops() {
    let Some(mut world) = World::new("notify").await else {
        return;
    };
    world.configure(&[]);
    world.start().await;
    assert_eq!(world.notification(), "STATUS=no services are configured\n");
    assert_eq!(world.notification(), "READY=1\n");
    world.signal(Signal::HUP);
    let reloading = world.notification();
    assert!(
        reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="),
        "{reloading}"
    );
    assert_eq!(world.notification(), "READY=1\n");
    world.signal(Signal::TERM);
    assert!(world.notification().starts_with("STOPPING=1\n"));
    assert_eq!(world.ended(), Some(0));
}

#[tokio::test]
async fn a_bus_that_goes_away_ends_the_agent_with_an_error() {
    let Some(mut world) = World::new("lost").await else {
        return;
    };
    world.configure(&[]);
    world.start().await;
    world.end_bus();
    assert_eq!(world.ended(), Some(1));
    assert!(world.log().contains("the system bus is lost"), "{}", world.log());
}

#[tokio::test]
async fn every_member_is_documented_where_it_is_introspected() {
    let Some(mut world) = World::new("docs").await else {
        return;
    };
    world.configure(&[("app", 1)]);
    world.start().await;
    let caller = world.caller().await;
    for (path, interface, members) in [
        ("/org/nixarr/Dagger1", "org.nixarr.Dagger1.Manager", 19),
        (
            "/org/nixarr/Dagger1/service/app",
            "org.nixarr.Dagger1.Service",
            32,
        ),
    ] {
        let proxy = IntrospectableProxy::builder(&caller)
            .destination("org.nixarr.Dagger1")
            .path(path)
            .build()
            .await
            .unwrap();
        let xml = proxy.introspect().await.unwrap();
        let (_, ours) = xml
            .split_once(&format!("<interface name=\"{interface}\">"))
            .unwrap();
        let (ours, _) = ours.split_once("</interface>").unwrap();
        let mut documented = false;
        let mut found = 0;
        for line in ours.lines().map(str::trim) {
            if line.starts_with("<method") || line.starts_with("<property") || line.starts_with("<signal") {
                assert!(documented, "{interface}: {line}");
                found += 1;
            }
            documented = line == "-->" || (documented && line.is_empty());
        }
        assert_eq!(found, members, "{ours}");
    }
}

#[tokio::test]
async fn a_property_that_is_published_is_the_one_that_is_read() {
    let Some(mut world) = World::new("getters").await else {
        return;
    };
    let app = Application::start(Duration::ZERO);
    world.configure(&[("app", app.port)]);
    world.unit("dagger-app.service", ACTIVE).await;
    world.start().await;
    let caller = world.caller().await;
    let view = until(&caller, "app", |view| view.health == Health::Healthy).await;
    let properties: HashMap<String, OwnedVariant> = caller
        .call_method(
            Some("org.nixarr.Dagger1"),
            "/org/nixarr/Dagger1/service/app",
            Some("org.freedesktop.DBus.Properties"),
            "GetAll",
            &"org.nixarr.Dagger1.Service",
        )
        .await
        .unwrap()
        .body()
        .deserialize()
        .unwrap();
    let expected = view.properties();
    assert_eq!(properties.len(), expected.len());
    for (name, value) in expected {
        assert_eq!(
            properties[name].value_signature(),
            value.value_signature(),
            "{name}"
        );
        if name != "LatencyUSec" {
            assert_eq!(*properties[name], value, "{name}");
        }
    }
}

#[tokio::test]
async fn a_thousand_services_are_watched() {
    let Some(mut world) = World::new("thousand").await else {
        return;
    };
    let app = Application::start(Duration::ZERO);
    let names: Vec<String> = (0..1000).map(|n| format!("s{n}")).collect();
    let text: String = names
        .iter()
        .enumerate()
        .map(|(n, name)| {
            format!(
                "[services.{name}]\nimage = \"localhost/x:1\"\nport = {}\n\
                 health = {{ kind = \"http\", path = \"/\", interval = \"30s\" }}\n",
                10_000 + n
            )
        })
        .collect();
    let one = format!(
        "[services.live]\nimage = \"localhost/x:1\"\nport = {}\nhealth = {{ kind = \"http\", path = \"/\" }}\n",
        app.port
    );
    world.put("etc/dagger/dagger.toml", &(text + &one));
    world.unit("dagger-live.service", ACTIVE).await;
    let took = world.start().await;
    let caller = world.caller().await;
    until(&caller, "live", |view| view.health == Health::Healthy).await;
    let (manager, services) = client::suite(&caller).await.unwrap();
    assert_eq!((services.len(), manager.services.len()), (1001, 1001));
    assert!(
        manager.configuration_errors.is_empty(),
        "{:?}",
        manager.configuration_errors.first()
    );
    assert!(took < LIMIT / 2, "{took:?}");
}
