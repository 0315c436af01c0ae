//! Services as the configuration makes them, and facts of a machine on which nothing stands in the way.

use dagger_suite::model::Service;
use dagger_suite::names::Root;

use super::facts::*;
use super::finding::Code;
use super::*;
use crate::domain::transaction::{Options, Step as Kind, Verb, forward, steps};

mod lessons;

mod blocked;

mod told;

const SUITE: &str = "[suite]\nmedia = \"/fun\"\nstate = \"/var/lib/nixarr\"\n";

/// The service that a configuration describes.
pub(crate) fn service(name: &str, more: &str) -> Service {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("dagger-plan-{}-{number}", std::process::id()));
    std::fs::create_dir_all(dir.join("etc/dagger")).unwrap();
    let text = format!("{SUITE}[services.{name}]\n{more}\n");
    std::fs::write(dir.join("etc/dagger/dagger.toml"), text).unwrap();
    let suite = dagger_suite::load(&Root::new(&dir)).suite;
    std::fs::remove_dir_all(&dir).unwrap();
    suite
        .services
        .into_iter()
        .next()
        .expect("the configuration is good")
}

pub(crate) fn sonarr() -> Service {
    service("sonarr", "")
}

pub(crate) fn bazarr() -> Service {
    service("bazarr", "")
}

pub(crate) fn transmission() -> Service {
    service("transmission", "")
}

pub(crate) fn jellyfin() -> Service {
    service("jellyfin", "")
}

pub(crate) fn local() -> FileSystem {
    FileSystem {
        kind: "ext4".into(),
        mount: "/".into(),
        reflink: false,
        free: 100 << 30,
    }
}

/// A service whose native state lies where the configuration says, on a machine with room and media.
pub(crate) fn good(service: &Service) -> Facts {
    let who = Who { uid: 274, gid: 169 };
    let places = service.state.iter().map(|mount| Place {
        role: mount.role.clone(),
        path: mount.source.clone(),
        there: true,
        owner: who,
        owners: vec![(who, 100)],
        system: local(),
        bytes: 1 << 30,
        files: 100,
        ..Place::default()
    });
    let databases = service.databases.iter().map(|path| Database {
        path: path.clone(),
        bytes: 50 << 20,
        schema: None,
        integrity: Integrity::Good,
    });
    Facts {
        native: Some(Native {
            unit: service.native[0].name.clone(),
            active: true,
            who,
            stop_limit_ms: Some(90_000),
            ..Native::default()
        }),
        places: places.collect(),
        databases: databases.collect(),
        media: vec![Media {
            path: "/fun".into(),
            state: MediaState::Good,
            system: local(),
        }],
        room: Room {
            path: "/var/lib/dagger/snapshots".into(),
            system: local(),
        },
        image: Some(Image::default()),
        probation_ms: 30_000,
        ..Facts::default()
    }
}

/// The kinds of what stands in the way.
pub(crate) fn codes(findings: &[Finding]) -> Vec<Code> {
    findings.iter().map(|finding| finding.code).collect()
}

/// The one thing that stands in the way, as it is printed.
pub(crate) fn only(service: &Service, facts: &Facts) -> (Code, String) {
    let plan = plan(service, facts);
    let [one] = plan.blockers.as_slice() else {
        panic!("{:#?}", plan.blockers);
    };
    (one.code, one.to_string())
}

#[test]
fn a_good_machine_has_a_plan_without_a_word() {
    for service in [sonarr(), bazarr(), transmission(), jellyfin()] {
        let plan = plan(&service, &good(&service));
        assert_eq!(plan.blockers, [], "{}", service.name);
        assert_eq!(plan.warnings, [], "{}", service.name);
        assert_eq!(
            plan.adjustments,
            [],
            "often nothing must change: {}",
            service.name
        );
    }
}

#[test]
fn a_plan_survives_json() {
    let service = sonarr();
    let mut facts = good(&service);
    facts.holders.push(Holder {
        unit: None,
        pid: Some(7),
        name: "sqlite3".into(),
        path: "/x".into(),
    });
    let plan = plan(&service, &facts);
    let text = serde_json::to_string(&plan).unwrap();
    assert!(text.contains(r#""code":"second-owner""#), "{text}");
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
    let text = serde_json::to_string(&facts).unwrap();
    assert_eq!(serde_json::from_str::<Facts>(&text).unwrap(), facts);
}

#[test]
fn people_read_steps_costs_and_the_way_back() {
    let service = sonarr();
    let text = plan(&service, &good(&service)).to_string();
    for line in [
        "sonarr: from sonarr.service to dagger-sonarr.service\n",
        " 2. snapshot: the data is copied to a snapshot while sonarr.service runs [1.0 GiB, ",
        "\n      reads /var/lib/nixarr/sonarr, writes /var/lib/dagger/snapshots\n",
        "\n      reads and writes /var/lib/nixarr/sonarr/sonarr.db",
        "\n      writes /var/lib/dagger/owner/sonarr\n",
        " 3. stop: sonarr.service stops  (down)\n",
        "undone: sonarr.service is started again\n",
        "the way back: nixarr-migrate rollback sonarr\n",
        " 8. probation: it has to be well for a while, with everything in it that was there before [30 s]\n",
        "down for about ",
    ] {
        assert!(text.contains(line), "{line:?} is not in:\n{text}");
    }
    let reads = text.matches("reads /var/lib/nixarr/sonarr,").count();
    assert_eq!(reads, 1, "what goes on where it was is told once:\n{text}");
    let blocked = refused("sonar").to_string();
    assert_eq!(
        blocked,
        "sonar cannot be migrated yet; nothing was touched\n  ! sonar is not in the configuration\n  -> write a table [services.sonar] into /etc/dagger/dagger.toml and run `systemctl daemon-reload`\n".replace("\n  ->", "\n    ->")
    );
}

#[test]
fn sizes_are_for_people() {
    let say = |count| bytes(count);
    assert_eq!(
        [
            say(0),
            say(1023),
            say(1024),
            say(1536),
            say(20 << 20),
            say(u64::MAX)
        ],
        ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "20 MiB", "16383 PiB"]
    );
}

#[test]
fn only_stop_to_start_is_downtime() {
    let service = sonarr();
    let mut facts = good(&service);
    facts.room.system.reflink = true;
    facts.places[0].system.reflink = true;
    facts.places[0].bytes = 20 << 30;
    facts.places[0].files = 200_000;
    let plan = plan(&service, &facts);
    let down: Vec<_> = plan
        .steps
        .iter()
        .filter(|step| step.down)
        .map(|step| step.kind)
        .collect();
    assert_eq!(
        down,
        [Kind::Stop, Kind::Refresh, Kind::Check, Kind::Flip, Kind::Start]
    );
    let snapshot = plan
        .steps
        .iter()
        .find(|step| step.kind == Kind::Snapshot)
        .unwrap();
    assert_eq!(snapshot.cost.written, 0, "blocks are shared");
    assert!(plan.downtime.work_ms < snapshot.cost.ms, "{:?}", plan.downtime);
    assert!(plan.downtime.at_most_ms.unwrap() >= 90_000);
    // What is down lies between the stop and the start, without a hole.
    let first = plan.steps.iter().position(|step| step.down).unwrap();
    let last = plan.steps.iter().rposition(|step| step.down).unwrap();
    assert!(plan.steps[first..=last].iter().all(|step| step.down));
}

#[test]
fn a_plan_tells_of_the_steps_that_the_job_counts() {
    let service = sonarr();
    let mut facts = good(&service);
    let words = |facts: &Facts| -> Vec<&str> {
        let plan = plan(&service, facts);
        plan.steps.iter().map(|step| step.kind.word()).collect()
    };
    let most = [
        "pull",
        "snapshot",
        "stop",
        "refresh",
        "check",
        "flip",
        "start",
        "probation",
    ];
    assert_eq!(words(&facts), most);
    facts.image = None;
    facts.databases.clear();
    assert_eq!(words(&facts), most, "whatever there is to do in them");
    let does = |facts: &Facts| plan(&service, facts).steps[0].does.clone();
    assert_eq!(
        does(&facts),
        "lscr.io/linuxserver/sonarr:latest is fetched, unless it is here, while sonarr.service runs"
    );
    let bridged = self::service("sonarr", "network = \"bridge\"");
    facts.settings.push(Setting {
        file: "/s/config.xml".into(),
        format: Format::Xml,
        key: vec!["BindAddress".into()],
        value: Some("127.0.0.1".into()),
    });
    let plan = plan(&bridged, &facts);
    assert!(!plan.adjustments.is_empty());
    let all = Options::default();
    let counted: Vec<Kind> = forward(&steps(Verb::Migrate, &all)).collect();
    let told: Vec<Kind> = plan.steps.iter().map(|step| step.kind).collect();
    assert_eq!(told, counted);
}

/// A second or a minute: how long an application takes to stop and to start nobody knows who has not seen it.
#[test]
fn a_downtime_is_made_of_what_was_seen_and_names_the_rest() {
    let service = sonarr();
    let mut facts = good(&service);
    let mut down = |stop_ms, start_ms| {
        facts.start_ms = start_ms;
        facts.native.as_mut().unwrap().stop_ms = stop_ms;
        let text = plan(&service, &facts).to_string();
        let line = text.lines().find(|line| line.starts_with("down for "));
        line.unwrap().to_owned()
    };
    assert_eq!(
        down(None, None),
        "down for about 1.1 s, and for as long as sonarr.service takes to stop and dagger-sonarr.service to start; at most 6 min"
    );
    assert_eq!(
        down(Some(2000), None),
        "down for about 3.1 s, and for as long as dagger-sonarr.service takes to start; at most 6 min"
    );
    assert_eq!(
        down(None, Some(4000)),
        "down for about 5.1 s, and for as long as sonarr.service takes to stop; at most 6 min"
    );
    assert_eq!(
        down(Some(2000), Some(4000)),
        "down for about 7.1 s; at most 6 min"
    );
    facts.native.as_mut().unwrap().active = false;
    let stopped = plan(&service, &facts);
    assert_eq!(stopped.downtime.stop_ms, Some(0), "it does not run");
}
