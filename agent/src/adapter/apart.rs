//! Tests with mounts of their own: each in a mount namespace that goes with it.

use std::path::Path;
use std::process::Command;

/// Whether this runs with mounts of its own. If not, the test of this name (with its modules) is run again, so.
pub fn apart(test: &str) -> bool {
    const APART: &str = "DAGGER_TEST_APART";
    if std::env::var_os(APART).is_some() {
        return true;
    }
    let words = ["--mount", "--propagation=private", "--"];
    let allowed = Command::new("unshare").args(words).arg("true").status();
    if !allowed.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no power to make a mount namespace");
        return false;
    }
    let mut again = Command::new("unshare");
    again.args(words).arg(std::env::current_exe().unwrap());
    let ran = again
        .args(["--exact", test, "--nocapture"])
        .env(APART, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout) + String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && said.contains("1 passed"), "{said}");
    eprintln!("{said}");
    false
}

/// Runs a program on a path; where it cannot do its work, that is said.
pub fn run(program: &str, words: &[&str], path: &Path) -> bool {
    match Command::new(program).args(words).arg(path).output() {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            eprintln!("skipped: {program}: {}", String::from_utf8_lossy(&output.stderr));
            false
        }
        Err(error) => {
            eprintln!("skipped: {program}: {error}");
            false
        }
    }
}
