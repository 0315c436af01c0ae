//! Jobs over the bus: the real agent, a systemd, a polkit and jobs that the tests play. Needs no root.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails says so by ending"
)]

#[path = "bus/world.rs"]
#[allow(dead_code, reason = "only parts of the shared world are needed here")]
mod world;

#[path = "bus/stage.rs"]
mod stage;

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::time::{Duration, Instant};

use dagger_agent::adapter::bus::{BusError, JobProxy, JobView, ManagerProxy, client};
use dagger_agent::adapter::jobs;
use dagger_agent::domain::job::{Ended, Report, Request, Task};
use dagger_agent::domain::plan::Plan;
use dagger_agent::domain::transaction::{Data, Step};
use stage::*;
use world::LIMIT;
use zbus::export::futures_core::Stream;
use zbus::{MatchRule, MessageStream, OwnedObjectPath, OwnedVariant, Variant};

#[tokio::test]
async fn a_job_is_begun_followed_cancelled_and_remembered() {
    let Some(stage) = Stage::sonarr("job").await else {
        return;
    };
    let path = stage.migrate("sonarr").await.unwrap();
    assert_eq!(stage.questions(), ["migrate sonarr dagger-sonarr.service"]);
    assert_eq!(stage.orders(), [format!("start {UNIT}")]);
    let view = stage.until(&path, |view| view.state == "queued").await;
    assert_eq!((view.verb.as_str(), view.unit.as_str()), ("migrate", UNIT));
    let request = jobs::asked(&stage.root(), &name("sonarr")).unwrap().unwrap();
    assert_eq!(request.number, number(&path));

    stage.world.change(UNIT, UP).await;
    let mut at_stop = report(request.number, "sonarr");
    at_stop.step = Some(Step::Stop);
    at_stop.place = 3;
    at_stop.steps = 9;
    at_stop.total.bytes = 1 << 30;
    stage.tell(&at_stop);
    let view = stage
        .until(&path, |view| view.step == "stop" && !view.invocation.is_empty())
        .await;
    assert_eq!((view.place, view.steps, view.bytes_total), (3, 9, 1 << 30));
    assert_eq!(view.invocation, "ab".repeat(16));
    assert_eq!(stage.work("sonarr").await, "being migrated: step stop");
    let busy = stage.migrate("sonarr").await.unwrap_err();
    let BusError::Busy(text) = &busy else {
        panic!("{busy:?}")
    };
    assert!(text.contains(UNIT) && text.contains("step stop"), "{text}");
    assert_eq!(
        stage.questions(),
        [""; 0],
        "nobody is asked for a password for that"
    );

    let job = JobProxy::builder(&stage.caller)
        .path(path.clone())
        .build()
        .await
        .unwrap();
    job.cancel().await.unwrap();
    assert_eq!(stage.questions(), ["cancel sonarr dagger-sonarr.service"]);
    assert_eq!(stage.orders(), [format!("kill {UNIT} main 15")]);
    at_stop.back = Some("somebody cancelled it".into());
    stage.tell(&at_stop);
    let view = stage.until(&path, |view| view.state == "undoing").await;
    assert_eq!(view.reason, "somebody cancelled it");

    at_stop.step = None;
    stage.tell(&ended(at_stop, Ended::Undone));
    stage.world.change(UNIT, DOWN).await;
    let view = stage.until(&path, JobView::is_over).await;
    assert_eq!(
        (view.result.as_str(), view.sentence.as_str()),
        ("undone", "sonarr has ended")
    );
    assert_eq!(
        (view.snapshot.as_str(), view.down_usec),
        ("20261124-migrate", 1_500_000)
    );
    assert_eq!(stage.work("sonarr").await, "");
    let over = job.cancel().await.unwrap_err();
    assert!(matches!(over, BusError::NothingToDo(_)), "{over:?}");
    let log = stage.world.log();
    assert!(log.contains("sonarr: migrate has begun: job 1"), "{log}");
    assert!(
        log.contains("sonarr: migrate was not done: sonarr has ended (look at it)"),
        "{log}"
    );
    assert!(stage.migrate("sonarr").await.is_ok(), "and another one may begin");
}

#[tokio::test]
async fn whoever_may_not_changes_nothing() {
    let Some(stage) = Stage::sonarr("denied").await else {
        return;
    };
    for verb in [
        "plan", "migrate", "rollback", "resume", "shadow", "promote", "discard", "rehearse",
    ] {
        stage.mood(verb, Mood::Denies);
    }
    let manager = stage.manager().await;
    let sonarr = || "sonarr".to_owned();
    let refused = [
        manager.plan(sonarr()).await,
        manager.migrate(sonarr(), HashMap::new()).await,
        manager.rollback(sonarr(), HashMap::new()).await,
        manager.resume(sonarr()).await,
        manager.shadow(sonarr()).await,
        manager.promote(sonarr()).await,
        manager.discard(sonarr()).await,
        manager.rehearse(sonarr()).await,
        manager.migrate_all().await,
    ];
    for (index, refused) in refused.into_iter().enumerate() {
        assert!(
            matches!(refused, Err(BusError::NotAuthorized(_))),
            "{index}: {refused:?}"
        );
    }
    assert_eq!(
        stage.world.log().matches("Denied: org.nixarr.dagger1.").count(),
        9
    );
    stage.questions();
    // What makes no sense is refused before anybody is asked.
    let missing = stage.migrate("sonar").await;
    assert!(matches!(missing, Err(BusError::NoSuchService(_))), "{missing:?}");
    let broken = stage.migrate("../x").await;
    assert!(matches!(broken, Err(BusError::NoSuchService(_))), "{broken:?}");
    let value = OwnedVariant::try_from(Variant::from("x")).unwrap();
    let options = HashMap::from([("force".to_owned(), value)]);
    let unknown = manager.migrate(sonarr(), options).await;
    assert!(
        matches!(unknown, Err(BusError::InvalidArgument(_))),
        "{unknown:?}"
    );
    assert_eq!(stage.questions(), [""; 0]);

    stage.mood("migrate", Mood::WantsPassword);
    let silent = stage
        .caller
        .call_method(
            Some("org.nixarr.Dagger1"),
            "/org/nixarr/Dagger1",
            Some("org.nixarr.Dagger1.Manager"),
            "Migrate",
            &("sonarr", HashMap::<String, OwnedVariant>::new()),
        )
        .await
        .unwrap_err()
        .to_string();
    assert!(silent.contains("InteractiveAuthorizationRequired"), "{silent}");
    assert_eq!(stage.orders(), [""; 0], "nothing was begun");
    assert_eq!(jobs::asked(&stage.root(), &name("sonarr")).unwrap(), None);
    assert!(client::jobs(&stage.caller).await.unwrap().is_empty());
}

#[tokio::test]
async fn one_who_waits_for_a_password_holds_up_nobody_and_a_flood_of_them_is_turned_away() {
    let Some(stage) = Stage::new("waits", &[("sonarr", &[]), ("radarr", &[])]).await else {
        return;
    };
    stage.mood("migrate", Mood::Waits);
    let mut waiting = Vec::new();
    for _ in 0..8 {
        let caller = stage.world.caller().await;
        waiting.push(tokio::spawn(async move {
            let manager = ManagerProxy::new(&caller).await.unwrap();
            manager.migrate("sonarr".into(), HashMap::new()).await
        }));
    }
    let begin = Instant::now();
    while stage.polkit.1.lock().unwrap().len() < 8 {
        assert!(begin.elapsed() < LIMIT);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let ninth = stage.migrate("radarr").await;
    assert!(matches!(ninth, Err(BusError::Throttled(_))), "{ninth:?}");
    assert!(stage.manager().await.check().await.is_ok(), "others are served");
    // Those who go away take their questions with them.
    for waiting in waiting {
        waiting.abort();
    }
    assert_eq!(stage.orders(), [""; 0]);
}

#[tokio::test]
async fn jobs_outlive_the_agent_and_those_that_are_started_by_hand_are_seen() {
    let Some(mut stage) = Stage::new("restart", &[("sonarr", &[]), ("radarr", &[])]).await else {
        return;
    };
    let over = stage.migrate("radarr").await.unwrap();
    stage.play(number(&over), "radarr", Ended::Undone).await;
    stage.until(&over, JobView::is_over).await;
    let open = stage.migrate("sonarr").await.unwrap();
    stage.world.change(UNIT, UP).await;
    let mut said = report(number(&open), "sonarr");
    said.step = Some(Step::Snapshot);
    stage.tell(&said);
    stage.until(&open, |view| view.step == "snapshot").await;

    stage.world.signal(rustix::process::Signal::KILL);
    stage.world.ended();
    said.step = Some(Step::Start);
    stage.tell(&said);
    stage.world.start().await;
    let view = stage.until(&open, |view| !view.invocation.is_empty()).await;
    assert_eq!((view.state.as_str(), view.step.as_str()), ("running", "start"));
    assert_eq!(stage.until(&over, JobView::is_over).await.result, "undone");
    assert_eq!(stage.work("sonarr").await, "being migrated: step start");
    // SIGKILL, and what finishes it is killed, too.
    stage.world.put("var/lib/dagger/transactions/sonarr/log", "");
    stage.world.change(UNIT, DOWN).await;
    let view = stage.until(&open, JobView::is_over).await;
    assert_eq!(
        (view.result.as_str(), view.remedy.as_str()),
        ("stuck", "nixarr-migrate resume sonarr")
    );
    let (_, services) = client::suite(&stage.caller).await.unwrap();
    assert!(
        services
            .iter()
            .any(|view| view.name == "sonarr" && view.interrupted)
    );

    // By hand: nobody asked the agent.
    let mut by_hand = Report::begun(Task::Resume, "sonarr", std::process::id(), 9_000_000);
    stage.tell(&by_hand);
    let third = OwnedObjectPath::try_from("/org/nixarr/Dagger1/job/3").unwrap();
    let begin = Instant::now();
    while client::jobs(&stage.caller).await.unwrap().len() < 3 {
        assert!(begin.elapsed() < LIMIT, "{}", stage.world.log());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stage
        .until(&third, |view| view.verb == "resume" && view.state == "running")
        .await;
    by_hand.pid = 0x7fff_fffe;
    stage.tell(&by_hand);
    stage.until(&third, |view| view.result == "stuck").await;
}

#[tokio::test]
async fn a_job_that_systemd_does_not_take_leaves_nothing() {
    let Some(stage) = Stage::sonarr("masked").await else {
        return;
    };
    stage.world.unit(UNIT, ("masked", "inactive", "dead", 0)).await;
    let refused = stage.migrate("sonarr").await.unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("is masked") && text.contains(UNIT), "{text}");
    assert_eq!(jobs::asked(&stage.root(), &name("sonarr")).unwrap(), None);
    assert!(client::jobs(&stage.caller).await.unwrap().is_empty());
    assert_eq!(stage.work("sonarr").await, "");
}

#[tokio::test]
async fn a_rollback_says_what_becomes_of_the_data() {
    let Some(stage) = Stage::sonarr("options").await else {
        return;
    };
    let value = |text: &str| OwnedVariant::try_from(Variant::from(text)).unwrap();
    let options = HashMap::from([
        ("data".to_owned(), value("restore")),
        ("snapshot".to_owned(), value("20261124-migrate")),
    ]);
    let path = stage
        .manager()
        .await
        .rollback("sonarr".into(), options)
        .await
        .unwrap();
    let request = jobs::asked(&stage.root(), &name("sonarr")).unwrap().unwrap();
    let wanted = Request {
        number: number(&path),
        data: Data::Restore,
        snapshot: Some("20261124-migrate".into()),
    };
    assert_eq!(request, wanted);
}

#[tokio::test]
async fn a_plan_is_for_whoever_asked_for_it() {
    let Some(stage) = Stage::sonarr("plan").await else {
        return;
    };
    let path = stage.manager().await.plan("sonarr".into()).await.unwrap();
    let job = JobProxy::builder(&stage.caller)
        .path(path.clone())
        .build()
        .await
        .unwrap();
    let early = job.plan().await.unwrap_err();
    assert!(matches!(early, BusError::NothingToDo(_)), "{early:?}");
    let plan = Plan {
        service: "sonarr".into(),
        ..Plan::default()
    };
    jobs::keep_plan(&stage.root(), &name("sonarr"), &plan).unwrap();
    let unit = "dagger-plan@sonarr.service";
    stage.world.change(unit, UP).await;
    let said = Report {
        task: Task::Plan,
        ..report(number(&path), "sonarr")
    };
    stage.tell(&ended(said, Ended::Done));
    stage.world.change(unit, DOWN).await;
    stage.until(&path, JobView::is_over).await;
    let told: Plan = serde_json::from_str(&job.plan().await.unwrap()).unwrap();
    assert_eq!(told, plan);
    assert_eq!(stage.work("sonarr").await, "", "a look changes nothing");
    assert!(!stage.world.log().contains("plan is done"), "and is no news");
}

#[tokio::test]
async fn the_whole_suite_goes_in_order_stops_at_the_first_failure_and_goes_on() {
    let suite: [(&str, &[&str]); 3] = [
        ("sonarr", &["prowlarr"]),
        ("radarr", &["prowlarr"]),
        ("prowlarr", &[]),
    ];
    let Some(stage) = Stage::new("all", &suite).await else {
        return;
    };
    let path = stage.manager().await.migrate_all().await.unwrap();
    let asked = stage.questions();
    assert_eq!(asked.len(), 3, "each before anything is begun: {asked:?}");
    stage.play(0, "prowlarr", Ended::Done).await;
    let view = stage.until(&path, |view| view.place == 2).await;
    assert_eq!(
        (view.verb.as_str(), view.step.as_str(), view.steps),
        ("migrate-all", "radarr", 3)
    );
    let busy = stage.manager().await.migrate_all().await;
    assert!(matches!(busy, Err(BusError::Busy(_))), "{busy:?}");
    stage.play(0, "radarr", Ended::Undone).await;
    let view = stage.until(&path, JobView::is_over).await;
    assert_eq!(
        view.sentence,
        "stopped at radarr: radarr has ended; migrated: prowlarr; untouched: sonarr"
    );
    assert!(
        !stage
            .orders()
            .contains(&"start dagger-migrate@sonarr.service".to_owned())
    );

    let path = stage.manager().await.migrate_all().await.unwrap();
    stage.play(0, "radarr", Ended::Done).await;
    stage.play(0, "sonarr", Ended::Done).await;
    let view = stage.until(&path, JobView::is_over).await;
    assert_eq!(view.sentence, "migrated: radarr, sonarr", "prowlarr was done");
    assert_eq!(stage.orders().len(), 2);
    let nothing = stage.manager().await.migrate_all().await;
    assert!(matches!(nothing, Err(BusError::NothingToDo(_))), "{nothing:?}");
    assert_eq!(stage.orders().len(), 0);
}

/// Four jobs that talk all the time: what is signalled, and what it costs.
#[tokio::test]
async fn progress_is_told_a_few_times_a_second_and_costs_little_memory() {
    let services: [(&str, &[&str]); 4] = [("a", &[]), ("b", &[]), ("c", &[]), ("d", &[])];
    let Some(stage) = Stage::new("pace", &services).await else {
        return;
    };
    let before = stage.world.resident();
    let mut paths = Vec::new();
    for (service, _) in services {
        let path = stage.migrate(service).await.unwrap();
        stage.world.change(&Task::Migrate.unit(service), UP).await;
        paths.push((path, service));
    }
    let rule = MatchRule::builder()
        .sender("org.nixarr.Dagger1")
        .interface("org.freedesktop.DBus.Properties")
        .path_namespace("/org/nixarr/Dagger1/job")
        .build()
        .unwrap();
    let mut stream = MessageStream::for_match_rule(rule, &stage.caller, None)
        .await
        .unwrap();
    let begin = Instant::now();
    let mut bytes = 0;
    while begin.elapsed() < Duration::from_secs(2) {
        bytes += 1;
        for (path, service) in &paths {
            let mut said = report(number(path), service);
            said.step = Some(Step::Snapshot);
            said.done.bytes = bytes;
            stage.tell(&said);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for (path, _) in &paths {
        stage.until(path, |view| view.bytes_done == bytes).await;
    }
    let mut signals = 0;
    loop {
        let next = poll_fn(|context| Pin::new(&mut stream).poll_next(context));
        match tokio::time::timeout(Duration::from_millis(300), next).await {
            Ok(Some(_)) => signals += 1,
            _ => break,
        }
    }
    assert!(
        bytes > 20 && (4..=4 * 14).contains(&signals),
        "{signals} signals of {bytes} reports each"
    );
    let after = stage.world.resident();
    assert!(after < before + 1024, "{before} KiB, then {after} KiB");
}

#[tokio::test]
async fn recovery_keeps_its_hands_off_while_a_job_is_at_work() {
    let Some(stage) = Stage::sonarr("hands").await else {
        return;
    };
    stage
        .world
        .put("var/lib/dagger/owner/sonarr", "DAGGER_UID=1\nDAGGER_GID=1\n");
    stage.world.change("sonarr.service", DOWN).await;
    let path = stage.migrate("sonarr").await.unwrap();
    stage.world.change(UNIT, UP).await;
    stage.tell(&report(number(&path), "sonarr"));
    stage.until(&path, |view| view.state == "running").await;
    // The container ends again and again: that would make the agent look around, and act.
    for pid in 100..106 {
        stage
            .world
            .change("dagger-sonarr.service", ("loaded", "active", "running", pid))
            .await;
        stage
            .world
            .change(
                "dagger-sonarr.service",
                ("loaded", "activating", "auto-restart", 0),
            )
            .await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(stage.world.restarted.lock().unwrap().is_empty());
    assert_eq!(stage.orders(), [format!("start {UNIT}")]);
    let log = stage.world.log();
    for said in ["is restarted", "is left alone", "not restarted any more"] {
        assert!(!log.contains(said), "{log}");
    }
}
