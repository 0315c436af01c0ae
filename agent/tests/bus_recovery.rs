//! What the agent does about an application that does not answer, as listeners on the bus and systemd see it: the real
//! program, a private dbus-daemon, and a systemd that the tests play. Needs no root.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails says so by ending"
)]

#[path = "bus/world.rs"]
#[allow(dead_code, reason = "only parts of the shared world are needed here")]
mod world;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dagger_agent::adapter::bus::client;
use dagger_agent::domain::health::Health;
use world::{ACTIVE, Application, LIMIT, World};
use zbus::export::futures_core::Stream;
use zbus::{Connection, MatchRule, Message, MessageStream};

const STOPS: (&str, &str, &str, u32) = ("loaded", "deactivating", "stop", 4321);
const STARTS: (&str, &str, &str, u32) = ("loaded", "activating", "start", 5432);
const AGAIN: (&str, &str, &str, u32) = ("loaded", "active", "running", 5432);

/// The agent's signals about the service `app`.
async fn signals(caller: &Connection) -> MessageStream {
    let rule = MatchRule::builder()
        .sender("org.nixarr.Dagger1")
        .path("/org/nixarr/Dagger1/service/app")
        .interface("org.nixarr.Dagger1.Service")
        .build()
        .unwrap();
    MessageStream::for_match_rule(rule, caller, None).await.unwrap()
}

/// The next signal with this name.
async fn next(stream: &mut MessageStream, name: &str) -> Message {
    let found = async {
        loop {
            let message = poll_fn(|context| Pin::new(&mut *stream).poll_next(context)).await;
            let message = message.unwrap().unwrap();
            if message
                .header()
                .member()
                .is_some_and(|member| member.as_str() == name)
            {
                return message;
            }
        }
    };
    tokio::time::timeout(LIMIT, found).await.unwrap()
}

#[tokio::test]
async fn recovery_started_and_recovery_finished_say_what_and_why() {
    let Some(mut world) = World::new("recovery").await else {
        return;
    };
    let app = Application::start(Duration::ZERO);
    world.configure(&[("app", app.port)]);
    world.unit("dagger-app.service", ACTIVE).await;
    world.start().await;
    let caller = world.caller().await;
    let mut stream = signals(&caller).await;
    let begin = Instant::now();
    while client::suite(&caller).await.unwrap().0.health != Health::Healthy {
        assert!(begin.elapsed() < LIMIT, "it does not become healthy");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    app.good.store(false, Ordering::Relaxed);
    // The one before may be of how it became healthy.
    let (before, after, detail) = loop {
        let message = next(&mut stream, "HealthChanged").await;
        let said: (String, String, String) = message.body().deserialize().unwrap();
        if said.1 != "healthy" {
            break said;
        }
    };
    assert_eq!((before.as_str(), after.as_str()), ("healthy", "unhealthy"));
    assert!(detail.contains("HTTP 500"), "{detail}");
    let started = next(&mut stream, "RecoveryStarted").await;
    let (attempt, because): (u32, String) = started.body().deserialize().unwrap();
    assert_eq!(attempt, 1);
    assert!(
        because.starts_with("it has not answered for ")
            && because.ends_with("nothing around it explains that"),
        "{because}"
    );
    let begin = Instant::now();
    while *world.restarted.lock().unwrap() != ["dagger-app.service"] {
        assert!(begin.elapsed() < LIMIT, "systemd was not asked");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    app.good.store(true, Ordering::Relaxed);
    for unit in [STOPS, STARTS, AGAIN] {
        world.change("dagger-app.service", unit).await;
    }
    let finished = next(&mut stream, "RecoveryFinished").await;
    let (recovered, detail): (bool, String) = finished.body().deserialize().unwrap();
    assert!(recovered, "{detail}");
    assert!(
        detail.starts_with("after ") && detail.ends_with(" s and 1 restart"),
        "{detail}"
    );
}

/// Applications that hang are no reason to restart the agent: their probes end all the same.
#[tokio::test]
async fn the_agents_own_watchdog_is_fed_while_probes_end_and_not_while_it_stands_still() {
    let Some(mut world) = World::new("watchdog").await else {
        return;
    };
    let apps: Vec<(String, Application)> = (0..40)
        .map(|n| (format!("app{n}"), Application::start(Duration::from_hours(1))))
        .collect();
    let services: Vec<(&str, u16)> = apps.iter().map(|(name, app)| (name.as_str(), app.port)).collect();
    world.configure(&services);
    for (name, _) in &apps {
        world.unit(&format!("dagger-{name}.service"), ACTIVE).await;
    }
    world.start_with(&[("WATCHDOG_USEC", "1000000")]).await;
    let fed = |world: &World, within: Duration| {
        let begin = Instant::now();
        let mut count = 0;
        while begin.elapsed() < within {
            count += u32::from(
                world.notification_within(Duration::from_millis(100)).as_deref() == Some("WATCHDOG=1\n"),
            );
        }
        count
    };
    let while_they_hang = fed(&world, Duration::from_secs(6));
    assert!(while_they_hang >= 6, "fed {while_they_hang} times");
    for (name, app) in &apps {
        assert!(app.asked.load(Ordering::Relaxed) > 0, "{name} was not asked");
    }
    world.signal(rustix::process::Signal::STOP);
    fed(&world, Duration::from_millis(500));
    assert_eq!(fed(&world, Duration::from_secs(2)), 0);
    world.signal(rustix::process::Signal::CONT);
    assert!(fed(&world, Duration::from_secs(3)) > 0);
}
