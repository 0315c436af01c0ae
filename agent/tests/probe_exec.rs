//! Probes of kind exec: a command inside the container, by way of podman.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "gate_support/program.rs"]
mod program;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use dagger_agent::adapter::probe::probe_with;
use dagger_suite::probe::{Kind, Probe};
use program::program;

/// A program that stands for podman: it is called as `podman exec CONTAINER COMMAND...`.
fn podman(name: &str, script: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("dagger-podman-{}-{name}", std::process::id()));
    program(&path, script);
    path
}

fn question() -> Probe {
    Probe {
        kind: Kind::Exec,
        host: "127.0.0.1".into(),
        port: 1,
        path: "/".into(),
        expect: 200,
        body: None,
        timeout: Duration::from_millis(700),
        netns: None,
        container: "dagger-test".into(),
        command: vec!["check".into(), "a b".into(), "$x".into()],
    }
}

#[test]
fn commands_are_judged_by_their_end() {
    let question = question();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    for (name, script, says) in [
        (
            "argv",
            r#"[ "$#|$1|$2|$3|$4|$5" = '5|exec|dagger-test|check|a b|$x' ]"#,
            "`check` ended with 0 in ",
        ),
        (
            "bad",
            "echo fine; echo 'no database' >&2; exit 3",
            "`check` ended with 3: no database",
        ),
        (
            "podman",
            "echo 'no such container' >&2; exit 125",
            "podman could not run `check`: no such container",
        ),
        ("absent", "exit 127", "there is no `check` in the container"),
        ("killed", "kill -9 $$", "`check` was killed by a signal"),
        (
            "loud",
            "head -c 3000000 /dev/zero; exit 1",
            "`check` ended with 1",
        ),
        ("slow", "exec sleep 30", "no answer within 700 ms"),
    ] {
        let program = podman(name, script);
        let begin = Instant::now();
        let seen = runtime.block_on(probe_with(&question, &program));
        assert!(begin.elapsed() < Duration::from_secs(2), "{name}");
        assert!(seen.to_string().starts_with(says), "{name}: {seen}");
        std::fs::remove_file(program).unwrap();
    }
    let seen = runtime.block_on(probe_with(&question, &PathBuf::from("/nowhere/podman")));
    assert!(
        seen.to_string().starts_with("cannot run /nowhere/podman"),
        "{seen}"
    );
}

#[test]
fn podman_does_not_outlive_the_limit() {
    let mark = std::env::temp_dir().join(format!("dagger-podman-pid-{}", std::process::id()));
    let program = podman("pid", &format!("echo $$ > {}; exec sleep 30", mark.display()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    assert!(!runtime.block_on(probe_with(&question(), &program)).is_good());
    let pid = std::fs::read_to_string(&mark).unwrap();
    // Gone, or at most waiting to be reaped; the kernel may take a moment.
    let status = || std::fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap_or_default();
    let deadline = Instant::now() + Duration::from_secs(2);
    while !(status().is_empty() || status().contains("State:\tZ")) {
        assert!(Instant::now() < deadline, "podman outlived the limit");
        std::thread::yield_now();
    }
    std::fs::remove_file(program).unwrap();
    std::fs::remove_file(mark).unwrap();
}
