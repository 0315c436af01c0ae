//! Conflicts on the bus: the real agent, real sockets, and a systemd that the test plays. Needs no root.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails says so by ending"
)]

#[path = "bus/world.rs"]
#[allow(dead_code, reason = "only parts of the shared world are needed here")]
mod world;

use std::collections::HashMap;
use std::future::poll_fn;
use std::net::TcpListener;
use std::pin::Pin;
use std::time::{Duration, Instant};

use dagger_agent::adapter::bus::{ManagerProxy, ServiceView, client};
use world::{LIMIT, STOPPED, World};
use zbus::export::futures_core::Stream;
use zbus::{Connection, MatchRule, MessageStream, OwnedVariant, Variant};

/// The service as the bus shows it, as soon as it is as wanted.
async fn until(caller: &Connection, wanted: impl Fn(&ServiceView) -> bool) -> ServiceView {
    let begin = Instant::now();
    loop {
        let view = client::suite(caller).await.unwrap().1.remove(0);
        if wanted(&view) {
            return view;
        }
        assert!(begin.elapsed() < LIMIT, "it stays {view:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_port_that_somebody_has_is_told_once_and_what_waits_for_it_starts_when_it_is_free() {
    let Some(mut world) = World::new("conflicts").await else {
        return;
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    world.configure(&[("app", port)]);
    world.unit("dagger-app.service", STOPPED).await;
    world.start().await;
    let caller = world.caller().await;
    let view = until(&caller, |view| !view.conflicts.is_empty()).await;
    let sentence = format!("TCP port {port}, which app needs, is taken by ");
    assert!(view.conflicts[0].starts_with(&sentence), "{view:?}");
    let manager = ManagerProxy::new(&caller).await.unwrap();
    let rule = MatchRule::builder()
        .sender("org.nixarr.Dagger1")
        .member("PropertiesChanged")
        .build()
        .unwrap();
    let mut signals = MessageStream::for_match_rule(rule, &caller, None).await.unwrap();
    assert_eq!(manager.conflict_count().await.unwrap(), 1);
    let conflicts = manager.conflicts().await.unwrap();
    assert_eq!(conflicts.len(), 1);
    assert_eq!(
        (
            conflicts[0].kind.as_str(),
            conflicts[0].service.as_str(),
            conflicts[0].port
        ),
        ("taken", "app", Some(port))
    );
    assert!(
        conflicts[0].since > 0 && conflicts[0].breaks.contains("does not start"),
        "{conflicts:?}"
    );

    // It was to be started, and the gate has said no.
    world
        .refuse("dagger-app.service", &format!("{sentence}x: stop it"))
        .await;
    until(&caller, |view| view.sub_state == "auto-restart").await;
    manager.conflicts().await.unwrap();
    assert!(world.restarted.lock().unwrap().is_empty(), "the port is taken");
    drop(listener);
    let begin = Instant::now();
    while world.restarted.lock().unwrap().is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(5), "{}", world.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(*world.restarted.lock().unwrap(), ["dagger-app.service"]);
    until(&caller, |view| view.conflicts.is_empty()).await;
    assert_eq!(manager.conflict_count().await.unwrap(), 0);
    // Both properties are signalled with their new values: the service's sentences and the manager's number.
    let (mut sentences, mut number) = (false, false);
    while !(sentences && number) {
        let signal = poll_fn(|context| Pin::new(&mut signals).poll_next(context));
        let signal = tokio::time::timeout(LIMIT, signal)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        let body = signal.body();
        let (_, changed, _): (String, HashMap<String, OwnedVariant>, Vec<String>) =
            body.deserialize().unwrap();
        sentences |= changed
            .get("Conflicts")
            .is_some_and(|value| !format!("{value:?}").contains("TCP port"));
        number |= changed
            .get("ConflictCount")
            .is_some_and(|value| matches!(**value, Variant::U32(0)));
    }
    // However often it is looked: once.
    manager.conflicts().await.unwrap();
    assert_eq!(world.restarted.lock().unwrap().len(), 1);
    for line in ["Conflict: TCP port", "Conflict over: "] {
        assert_eq!(world.log().matches(line).count(), 1, "{line} in {}", world.log());
    }
}

#[tokio::test]
async fn what_is_stopped_or_not_to_be_touched_is_not_started() {
    let Some(mut world) = World::new("conflicts-off").await else {
        return;
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    world.configure(&[("app", port)]);
    let toml = std::fs::read_to_string(world.path("etc/dagger/dagger.toml")).unwrap();
    world.put("etc/dagger/dagger.toml", &format!("{toml}auto-recover = false\n"));
    world.unit("dagger-app.service", STOPPED).await;
    world.start().await;
    let caller = world.caller().await;
    let manager = ManagerProxy::new(&caller).await.unwrap();
    let refusal = format!("TCP port {port}, which app needs, is taken by x: stop it");
    world.refuse("dagger-app.service", &refusal).await;
    until(&caller, |view| {
        view.sub_state == "auto-restart" && !view.conflicts.is_empty()
    })
    .await;
    drop(listener);
    assert!(manager.conflicts().await.unwrap().is_empty());
    assert!(world.restarted.lock().unwrap().is_empty(), "auto-recover is off");
    // Switched on, but an operator has stopped it meanwhile.
    world.change("dagger-app.service", STOPPED).await;
    world.put("etc/dagger/dagger.toml", &toml);
    world.reloaded().await;
    until(&caller, |view| view.sub_state == "dead").await;
    assert!(manager.conflicts().await.unwrap().is_empty());
    assert!(world.restarted.lock().unwrap().is_empty(), "it is stopped");
}
