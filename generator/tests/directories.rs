//! Output directories that are missing, read-only or full: the boot goes on, every loss is said, nothing is half there.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::path::Path;
use std::process::Command;

/// What came of one run in a mount namespace of its own.
struct Ran {
    log: String,
    /// Name and size of each file that is in the directory afterwards.
    files: Vec<(String, u64)>,
}

/// Runs the program on the golden suite, with `options` for a fresh tmpfs at the output directory; none without the power
/// to mount.
fn into_tmpfs(options: &str, before: &str) -> Option<Ran> {
    let scratch = std::env::temp_dir().join(format!(
        "dagger-directories-{}-{}",
        options.len(),
        std::process::id()
    ));
    std::fs::create_dir_all(&scratch).unwrap();
    let script = format!(
        "mount -t tmpfs -o {options} none \"$1\" 2>/dev/null || exit 77; {before}; \
         \"$2\" \"$1\" \"$1\" \"$1\" || exit 78; cd \"$1\"; find . -type f -printf '%P %s\\n'"
    );
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", &script, "sh"])
        .arg(&scratch)
        .arg(env!("CARGO_BIN_EXE_dagger-generator"))
        .env(
            "DAGGER_ROOT",
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/suite"),
        )
        .env_remove("SYSTEMD_SCOPE")
        .output();
    std::fs::remove_dir_all(&scratch).unwrap();
    let output = output
        .ok()
        .filter(|output| output.status.success() || output.status.code() == Some(78));
    let Some(output) = output else {
        println!("SKIPPED: no power to mount a file system");
        return None;
    };
    assert!(output.status.success(), "the generator failed: {output:?}");
    let listed = String::from_utf8(output.stdout).unwrap();
    let files = listed.lines().filter_map(|line| line.split_once(' '));
    Some(Ran {
        log: String::from_utf8(output.stderr).unwrap(),
        files: files
            .map(|(name, size)| (name.to_owned(), size.parse().unwrap()))
            .collect(),
    })
}

/// Sizes of the same files when nothing is in the way.
fn whole(name: &str) -> u64 {
    let expected = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/suite/expected/normal");
    std::fs::metadata(expected.join(name)).unwrap().len()
}

#[test]
fn a_full_directory_holds_whole_units_or_none() {
    let Some(ran) = into_tmpfs("size=48k", "true") else {
        return;
    };
    assert!(ran.log.contains("No space left on device"), "{}", ran.log);
    let units = ran
        .files
        .iter()
        .filter(|(name, _)| name.ends_with(".service"))
        .count();
    assert!((1..12).contains(&units), "{:?}", ran.files);
    for (name, size) in &ran.files {
        assert_eq!(*size, whole(name), "{name} is half written");
    }
    let lost = ran
        .log
        .lines()
        .filter(|line| line.contains("cannot write ") && line.contains(".service: No space"));
    assert_eq!(lost.count() + units, 12, "each loss is said\n{}", ran.log);
}

#[test]
fn a_read_only_directory_is_said_and_no_more() {
    let Some(ran) = into_tmpfs("size=1m", "mount -o remount,ro \"$1\"") else {
        return;
    };
    assert!(ran.files.is_empty());
    assert!(ran.log.contains("Read-only file system"), "{}", ran.log);
}

#[test]
fn a_missing_directory_is_made() {
    let scratch = std::env::temp_dir().join(format!("dagger-directories-missing-{}", std::process::id()));
    let normal = scratch.join("not/there");
    let output = Command::new(env!("CARGO_BIN_EXE_dagger-generator"))
        .args([&normal, &scratch.join("early"), &scratch.join("late")])
        .env(
            "DAGGER_ROOT",
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/suite"),
        )
        .env_remove("SYSTEMD_SCOPE")
        .output()
        .unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert!(normal.join("dagger-sonarr.service").is_file());
    std::fs::remove_dir_all(&scratch).unwrap();
}

#[test]
fn a_second_run_removes_what_is_gone_and_says_whole_paths() {
    let scratch = std::env::temp_dir().join(format!("dagger-directories-again-{}", std::process::id()));
    let normal = scratch.join("normal");
    let run = |case: &str| {
        Command::new(env!("CARGO_BIN_EXE_dagger-generator"))
            .current_dir(&scratch)
            // As people run it by hand: relative to where they are.
            .args(["normal", "early", "late"])
            .env(
                "DAGGER_ROOT",
                Path::new(env!("CARGO_MANIFEST_DIR"))
                    .join("tests/golden")
                    .join(case),
            )
            .env_remove("SYSTEMD_SCOPE")
            .output()
            .unwrap()
    };
    std::fs::create_dir_all(&normal).unwrap();
    let suite = run("suite");
    assert!(suite.status.success() && suite.stderr.is_empty(), "{suite:?}");
    assert!(normal.join("dagger-radarr.service").is_file());
    // Somebody's directory where a unit belongs, and a suite without most of the services.
    std::fs::remove_file(normal.join("dagger-sonarr.service")).unwrap();
    std::fs::create_dir_all(normal.join("dagger-sonarr.service/mine")).unwrap();
    let fewer = run("two-of-one-kind");
    let said = String::from_utf8(fewer.stderr).unwrap();
    assert!(
        said.contains("cannot write normal/dagger-sonarr.service: "),
        "{said}"
    );
    assert!(!normal.join("dagger-radarr.service").exists());
    assert!(
        !normal
            .join("dagger.target.wants/dagger-radarr.service")
            .is_symlink()
    );
    assert!(normal.join("dagger-sonarr-4k.service").is_file());
    std::fs::remove_dir_all(&scratch).unwrap();
}
