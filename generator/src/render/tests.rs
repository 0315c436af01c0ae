use std::time::Duration;

use super::*;
use crate::model::{
    Claim, Device, Identity, IdentityStyle, Keep, Mount, NativeUnit, Network, Protocol, Pull, Service,
};
use crate::names::ServiceName;
use crate::probe::{Kind, Probe};

fn name(name: &str) -> ServiceName {
    ServiceName::parse(name).unwrap()
}

fn sonarr() -> Service {
    Service {
        name: name("sonarr"),
        kind: "sonarr".into(),
        title: "Sonarr".into(),
        documentation: vec!["https://wiki.servarr.com/sonarr".into()],
        source: "/etc/dagger/dagger.toml".into(),
        image: "lscr.io/linuxserver/sonarr:latest".into(),
        pull: Pull::Missing,
        identity: Identity {
            style: IdentityStyle::Puid,
            uid: 568,
            gid: 569,
            uid_explicit: false,
            gid_explicit: false,
        },
        network: Network::Host,
        front: None,
        shadow_of: None,
        dns: Vec::new(),
        ports: vec![Claim {
            name: "web".into(),
            protocol: Protocol::Tcp,
            port: 8989,
            inside: 8989,
        }],
        url: Some("http://localhost:8989".into()),
        probe: Probe {
            kind: Kind::Servarr,
            host: "127.0.0.1".into(),
            port: 8989,
            path: "/ping".into(),
            expect: 200,
            body: None,
            timeout: Duration::from_secs(5),
            netns: None,
            container: "dagger-sonarr".into(),
            command: Vec::new(),
        },
        interval: Duration::from_secs(30),
        failures: 3,
        successes: 1,
        restarts: 3,
        auto_recover: true,
        accept_regenerated: false,
        watchdog: Some(Duration::from_mins(10)),
        start_budget: Duration::from_mins(2),
        state: vec![mount("/var/lib/nixarr/sonarr", "/config", false)],
        mounts: vec![mount("/fun", "/fun", false)],
        tmpfs: Vec::new(),
        disposable: Vec::new(),
        environment: vec![("SONARR__SERVER__PORT".into(), "8989".into())],
        environment_files: Vec::new(),
        entrypoint: None,
        command: Vec::new(),
        umask: Some("0002".into()),
        timezone: Some("Europe/Berlin".into()),
        devices: Vec::new(),
        groups: Vec::new(),
        capabilities: vec!["CHOWN".into(), "SETUID".into(), "SETGID".into()],
        no_new_privileges: true,
        read_only: false,
        init: false,
        shm_size: None,
        seccomp_profile: None,
        apparmor_profile: None,
        selinux_label: None,
        log_driver: "passthrough".into(),
        limits: vec![("MemoryMax", "50%".into())],
        stop_signal: "SIGTERM".into(),
        stop_timeout: Duration::from_secs(20),
        native: Vec::new(),
        wants: Vec::new(),
        databases: Vec::new(),
        podman_args: Vec::new(),
    }
}

fn mount(source: &str, target: &str, read_only: bool) -> Mount {
    Mount {
        role: "config".into(),
        source: source.into(),
        target: target.into(),
        read_only,
    }
}

fn suite(mut services: Vec<Service>) -> Suite {
    services.sort_by(|a, b| a.name.cmp(&b.name));
    Suite {
        guards: Vec::new(),
        off: Vec::new(),
        services,
        start_at_boot: true,
        probation: Duration::from_secs(30),
        library_guard: true,
        keep: Keep::default(),
        podman: "/usr/bin/podman".into(),
        source: "/etc/dagger/dagger.toml".into(),
    }
}

fn outputs(services: Vec<Service>) -> Vec<Output> {
    render(&suite(services), &[], &[], &Programs::below("/usr"))
}

fn text(outputs: &[Output], path: &str) -> String {
    let found = outputs.iter().find(|output| output.path == path);
    match found.map(|output| &output.content) {
        Some(Content::File(text)) => text.clone(),
        other => panic!("{path}: {other:?}"),
    }
}

fn sonarr_unit(change: impl FnOnce(&mut Service)) -> String {
    let mut service = sonarr();
    change(&mut service);
    text(&outputs(vec![service]), "dagger-sonarr.service")
}

/// Whether a line `KEY=...` of the unit holds this text.
#[track_caller]
fn holds(unit: &str, key: &str, part: &str) {
    let joined = unit.replace("\\\n", " ");
    let found = joined
        .lines()
        .any(|line| line.starts_with(&format!("{key}=")) && line.contains(part));
    assert!(found, "no {key}= with {part:?} in\n{unit}");
}

#[test]
fn the_unit_of_a_service_in_full() {
    let unit = sonarr_unit(|_| {});
    for directive in [
        "Type=notify",
        "KillMode=mixed",
        "Delegate=yes",
        "PartOf=dagger.target",
        "Slice=dagger.slice",
    ] {
        assert!(unit.contains(&format!("\n{directive}\n")), "{directive}\n{unit}");
    }
    assert!(!unit.contains("network-online"), "{unit}");
    holds(
        &unit,
        "ExecStart",
        " --env=PUID=${DAGGER_UID} --env=PGID=${DAGGER_GID} ",
    );
    holds(&unit, "ExecStartPre", "pre --service=sonarr ");
}

#[test]
fn each_identity_reaches_the_image_in_its_own_way() {
    let unit = |style| sonarr_unit(|service| service.identity.style = style);
    holds(
        &unit(IdentityStyle::Puid),
        "ExecStart",
        "--env=TZ=Europe/Berlin --env=PUID=${DAGGER_UID}",
    );
    holds(
        &unit(IdentityStyle::User),
        "ExecStart",
        " --user=${DAGGER_UID}:${DAGGER_GID} ",
    );
    let own = unit(IdentityStyle::Image);
    for said in [
        "DAGGER_UID",
        "--owner=",
        "--write-marker",
        "/var/lib/dagger/owner/sonarr",
    ] {
        assert!(
            !own.contains(said),
            "nothing is known of the image's own user: {said}\n{own}"
        );
    }
    let given = sonarr_unit(|service| service.environment.push(("TZ".into(), "UTC".into())));
    assert_eq!(
        given.matches("--env=TZ=").count(),
        1,
        "the user's own zone is not written over\n{given}"
    );
}

#[test]
fn the_marker_file_has_the_last_word_on_who_the_application_runs_as() {
    let unit = sonarr_unit(|_| {});
    let order = [
        "DAGGER_UID=568 DAGGER_GID=569",
        "-/run/dagger/gate/sonarr.env",
        "-/var/lib/dagger/owner/sonarr",
    ];
    let places: Vec<usize> = order.iter().map(|part| unit.find(part).unwrap()).collect();
    assert!(places.is_sorted(), "{places:?}\n{unit}");
}

#[test]
fn a_native_unit_that_is_there_and_ours_never_start_both() {
    let native = |name: &str, present| NativeUnit {
        name: name.into(),
        present,
        named: !present,
    };
    let mut service = sonarr();
    service.native = vec![native("sonarr.service", true), native("nzbdrone.service", false)];
    let outputs = outputs(vec![service]);
    let marker = "/var/lib/dagger/owner/sonarr";
    let theirs = text(&outputs, "sonarr.service.d/50-dagger-owner.conf");
    holds(&theirs, "ConditionPathExists", &format!("=!{marker}"));
    holds(&theirs, "RequiresMountsFor", "/var/lib/dagger/owner");
    let ours = text(&outputs, "dagger-sonarr.service");
    holds(&ours, "ConditionPathExists", &format!("={marker}"));
    // While it changes hands neither starts; what a crash left is settled before either does.
    for side in [&ours, &theirs] {
        holds(side, "ConditionPathExists", "=!/var/lib/dagger/hold/sonarr");
        holds(side, "After", "dagger-recover.service");
        holds(side, "Wants", "dagger-recover.service");
    }
    // The image is fetched for the container, or for a migration to it.
    let pull = text(&outputs, "dagger-pull@sonarr.service");
    holds(&pull, "ConditionPathExists", &format!("=|{marker}"));
    holds(&pull, "ConditionPathExists", "=|/run/dagger/job/sonarr.pull");
    assert!(
        !ours.contains("--write-marker") && !ours.contains("Conflicts="),
        "{ours}"
    );
    let later = text(&outputs, "nzbdrone.service.d/50-dagger-owner.conf");
    holds(&later, "ConditionPathExists", &format!("=!{marker}"));
    holds(&sonarr_unit(|_| {}), "ExecStartPost", "--write-marker");
    assert!(!sonarr_unit(|_| {}).contains("ConditionPathExists=/"));
}

#[test]
fn dependencies_are_soft_and_only_on_what_is_there() {
    let mut prowlarr = sonarr();
    prowlarr.name = name("prowlarr");
    let mut service = sonarr();
    service.wants = vec![name("prowlarr"), name("sonarr"), name("transmission")];
    let unit = text(&outputs(vec![service, prowlarr]), "dagger-sonarr.service");
    assert!(
        unit.contains("\nWants=dagger-recover.service dagger-pull@sonarr.service dagger-prowlarr.service\n"),
        "{unit}"
    );
    assert!(
        unit.contains("\nAfter=network.target dagger-recover.service dagger-pull@sonarr.service dagger-prowlarr.service\n"),
        "{unit}"
    );
}

#[test]
fn podman_26640_systemd_waits_longer_than_podman() {
    let unit = sonarr_unit(|service| service.stop_timeout = Duration::from_millis(90_500));
    holds(&unit, "ExecStop", "--time=91 dagger-sonarr");
    holds(&unit, "ExecStart", "--stop-timeout=91");
    holds(&unit, "TimeoutStopSec", "121");
}

#[test]
fn the_signal_of_the_application_is_used_on_every_way_down() {
    let unit = sonarr_unit(|service| service.stop_signal = "SIGINT".into());
    for (key, value) in [
        ("ExecStart", "--stop-signal=SIGINT"),
        ("KillSignal", "SIGINT"),
        ("SuccessExitStatus", "130"),
    ] {
        holds(&unit, key, value);
    }
    let unit = sonarr_unit(|service| service.stop_signal = "SIGRTMIN+3".into());
    assert!(
        !unit.contains("KillSignal") && !unit.contains("SuccessExitStatus"),
        "{unit}"
    );
}

#[test]
fn devices_are_named_to_the_gate_and_come_back_as_words() {
    let device = |name: &str, optional| Device {
        name: name.into(),
        optional,
    };
    let unit =
        sonarr_unit(|service| service.devices = vec![device("/dev/dri", false), device("/dev/x", true)]);
    holds(&unit, "ExecStartPre", " --device=/dev/dri ");
    holds(&unit, "ExecStartPre", " --device=-/dev/x");
    holds(&unit, "ExecStart", " $DAGGER_DEVICE_ARGS ");
    assert!(!sonarr_unit(|_| {}).contains("DEVICE_ARGS"));
}

#[test]
fn a_mistake_becomes_a_unit_that_says_so() {
    let broken = Broken {
        name: name("radarr"),
        messages: vec![
            "/etc/dagger/dagger.toml:4:1: unknown key `prot`".into(),
            "x".repeat(200_000),
        ],
        source: "/etc/dagger/dagger.toml".into(),
    };
    let error = Diagnostic::of_file("/etc/dagger/conf.d/x.toml", "cannot be read", None);
    let outputs = render(
        &suite(vec![sonarr()]),
        &[broken],
        [&error],
        &Programs::below("/usr"),
    );
    let radarr = text(&outputs, "dagger-radarr.service");
    holds(
        &radarr,
        "ExecStart",
        "refuse --service=radarr -- \"/etc/dagger/dagger.toml:4:1: unknown key `prot`; xxx",
    );
    assert!(
        radarr.len() < 8 << 10,
        "the kernel takes no argument of any length: {}",
        radarr.len()
    );
    holds(
        &text(&outputs, "dagger-config-error.service"),
        "ExecStart",
        "conf.d/x.toml: cannot be read",
    );
    for unit in [
        "dagger-radarr.service",
        "dagger-config-error.service",
        "dagger-sonarr.service",
    ] {
        let link = Content::Link(format!("../{unit}"));
        assert!(
            outputs
                .iter()
                .any(|it| it.path == format!("dagger.target.wants/{unit}") && it.content == link)
        );
    }
}

#[test]
fn no_two_units_have_one_description() {
    let mut other = sonarr();
    other.name = name("sonarr-4k");
    let suite = suite(vec![sonarr(), other]);
    let units = render(&suite, &[], &[], &Programs::below("/usr"));
    let texts = units.iter().filter_map(|it| match &it.content {
        Content::File(text) => Some(text),
        Content::Link(_) => None,
    });
    let mut said: Vec<_> = texts
        .filter_map(|text| text.lines().find(|line| line.starts_with("Description=")))
        .collect();
    said.sort_unstable();
    assert_eq!(
        said,
        [
            "Description=Image of Sonarr",
            "Description=Image of Sonarr (sonarr-4k)",
            "Description=Sonarr",
            "Description=Sonarr (sonarr-4k)"
        ]
    );
}

#[test]
fn values_that_no_unit_can_carry_refuse_and_do_not_vanish() {
    let unit = sonarr_unit(|service| service.command = vec!["x".repeat(200_000)]);
    holds(&unit, "ExecStart", "refuse --service=sonarr");
    holds(&unit, "ExecStart", "too long");
}

#[test]
fn a_unit_that_refuses_stops_what_still_runs_as_the_whole_unit_would() {
    let suite = suite(vec![sonarr()]);
    let broken = |service: &str| Broken {
        name: name(service),
        messages: vec!["it says so".into()],
        source: "/etc/dagger/dagger.toml".into(),
    };
    let (wrong, left) = ([broken("lidarr")], [broken("plex")]);
    let programs = Programs::below("/usr");
    let outputs = Rendering::new(&suite, &wrong, &[], &programs)
        .with_left(&left)
        .all();
    let whole = text(&outputs, "dagger-sonarr.service");
    for service in ["lidarr", "plex"] {
        let unit = text(&outputs, &format!("dagger-{service}.service"));
        for key in [
            "PartOf",
            "Slice",
            "NotifyAccess",
            "Delegate",
            "KillMode",
            "OOMPolicy",
            "RuntimeDirectory",
            "ExecStopPost",
        ] {
            let line = |unit: &str| {
                let mut lines = unit.lines().map(str::to_owned);
                lines.find(|line| line.starts_with(&format!("{key}=")))
            };
            assert_eq!(line(&unit), line(&whole), "{service}: {key}");
        }
        let stop = format!("podman --events-backend=none stop --ignore dagger-{service}");
        holds(&unit, "ExecStop", &stop);
        holds(&unit, "SuccessExitStatus", "143");
        holds(&unit, "ExecStart", "it says so");
    }
    let linked = |service: &str| {
        let link = format!("dagger.target.wants/dagger-{service}.service");
        outputs.iter().any(|it| it.path == link)
    };
    assert!(linked("lidarr") && !linked("plex"));
    holds(
        &text(&outputs, "dagger-lidarr.service"),
        "OnFailure",
        "=dagger-alert@lidarr.service",
    );
    assert!(!text(&outputs, "dagger-plex.service").contains("OnFailure="));
}

#[test]
fn nothing_in_nothing_out() {
    assert_eq!(outputs(Vec::new()), []);
    let mut suite = suite(vec![sonarr()]);
    suite.start_at_boot = false;
    let outputs = render(&suite, &[], &[], &Programs::below("/usr"));
    assert!(!outputs.iter().any(|output| output.path.starts_with("multi-user")));
}
