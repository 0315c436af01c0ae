use std::time::Duration;

use super::*;
use crate::model::{Claim, Identity, IdentityStyle, Mount, Network, Protocol, Pull, Service};
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
            explicit: false,
        },
        network: Network::Host,
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
        start_budget: Duration::from_mins(2),
        state: vec![mount("/var/lib/nixarr/sonarr", "/config", false)],
        mounts: vec![mount("/fun", "/fun", false)],
        tmpfs: Vec::new(),
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
        limits: vec![("MemoryMax", "50%".into())],
        stop_signal: "SIGTERM".into(),
        stop_timeout: Duration::from_secs(20),
        native: Vec::new(),
        wants: Vec::new(),
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
        services,
        start_at_boot: true,
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
