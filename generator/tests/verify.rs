//! What systemd itself says about the units of the golden cases: nothing. And what the package may not depend on.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Says that a test could not run, in words that `tests/run` counts.
fn skip(why: &str) {
    println!("SKIPPED: {why}");
}

fn manifest() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A root with everything that a machine would have beside the generated units: the static units, and programs at the
/// paths that the units name.
fn machine(name: &str, units: &Path) -> PathBuf {
    let root = std::env::temp_dir().join(format!("dagger-verify-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&root);
    let system = root.join("etc/systemd/system");
    fs::create_dir_all(&system).unwrap();
    for entry in fs::read_dir(units).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, system.join(path.file_name().unwrap())).unwrap();
        }
    }
    for (unit, text) in [
        ("dagger.target", "[Unit]\nDescription=x\n"),
        ("dagger.slice", "[Unit]\nDescription=x\n"),
        ("network.target", ""),
        ("basic.target", ""),
        ("sysinit.target", ""),
        ("shutdown.target", ""),
    ] {
        fs::write(system.join(unit), text).unwrap();
    }
    for program in [
        "usr/bin/podman",
        "opt/podman/bin/podman",
        "usr/libexec/dagger/dagger-gate",
        "usr/lib/systemd/systemd-socket-proxyd",
    ] {
        let path = root.join(program);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy("/bin/true", path).unwrap();
    }
    root
}

#[test]
fn systemd_analyze_verify_is_quiet() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        return skip("systemd-analyze is not installed");
    }
    let mut checked = 0;
    for case in fs::read_dir(manifest().join("tests/golden")).unwrap() {
        let case = case.unwrap().path();
        let units = case.join("expected/normal");
        if !units.is_dir() {
            continue;
        }
        let name = case.file_name().unwrap().to_str().unwrap();
        let root = machine(name, &units);
        let mut services: Vec<String> = fs::read_dir(&units)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".service"))
            .collect();
        services.sort();
        let output = Command::new("systemd-analyze")
            .args(["verify", "--man=no", "--recursive-errors=no"])
            .arg(format!("--root={}", root.display()))
            .args(&services)
            .output()
            .unwrap();
        let said =
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.is_empty(), "{name}: {said}");
        checked += services.len();
        fs::remove_dir_all(&root).unwrap();
    }
    assert!(checked > 20, "only {checked} units were verified");
}

#[test]
fn systemd_analyze_verify_would_see_a_mistake() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        return skip("systemd-analyze is not installed");
    }
    let root = machine("mistake", &manifest().join("tests/golden/suite/expected/normal"));
    let unit = root.join("etc/systemd/system/dagger-sonarr.service");
    let text = fs::read_to_string(&unit)
        .unwrap()
        .replace("RestartSec=10", "RestartSec=10\nRestartSteps=x");
    fs::write(&unit, text).unwrap();
    let output = Command::new("systemd-analyze")
        .args([
            "verify",
            "--man=no",
            "--recursive-errors=no",
            "dagger-sonarr.service",
        ])
        .arg(format!("--root={}", root.display()))
        .output()
        .unwrap();
    assert!(
        !output.stderr.is_empty(),
        "a wrong key passed in silence: this check checks nothing"
    );
    fs::remove_dir_all(&root).unwrap();
}

#[test]
fn the_package_depends_on_no_runtime_and_no_bus() {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--package",
            "dagger-generator",
            "--edges",
            "normal,build",
            "--prefix",
            "none",
            "--offline",
        ])
        .current_dir(manifest())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let tree = String::from_utf8(output.stdout).unwrap();
    let names: Vec<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(
        names.contains(&"dagger-generator") && names.contains(&"toml"),
        "{tree}"
    );
    for heavy in ["tokio", "zbus", "nix", "serde_json", "dagger-agent"] {
        assert!(
            !names.contains(&heavy),
            "{heavy} is in the generator's tree:\n{tree}"
        );
    }
}
