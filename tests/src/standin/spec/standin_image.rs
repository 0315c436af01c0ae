//! The init of a LinuxServer image: facts, section 6.1. Needs root, as those images do.

use std::fs;
use std::os::unix::fs::{MetadataExt, lchown};

use nix::sys::signal::Signal;

use crate::support::{Directory, Standin, free_port, until};

fn root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        println!("skipped: needs root");
    }
    root
}

/// Whether the program can be started again by another user, which a target directory need not allow.
fn reachable() -> bool {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_standin"));
    let open = program
        .ancestors()
        .all(|path| path.metadata().is_ok_and(|data| data.mode() & 1 == 1));
    if !open {
        println!("skipped: {} is not reachable for other users", program.display());
    }
    open
}

fn start(directory: &Directory, name: &str, environment: &[(&str, &str)]) -> Standin {
    let port = free_port();
    let (number, config) = (port.to_string(), directory.path().display().to_string());
    let mut all = vec![
        ("STANDIN_IMAGE", "lsio"),
        ("STANDIN_CONFIG", &config),
        ("SONARR__SERVER__PORT", &number),
    ];
    all.extend_from_slice(environment);
    Standin::start(directory, port, &[name], &all)
}

fn owner(directory: &Directory, name: &str) -> (u32, u32) {
    let data = fs::symlink_metadata(directory.at(name)).unwrap();
    (data.uid(), data.gid())
}

#[test]
fn runs_as_puid_and_pgid_and_owns_everything_below_config() {
    if !root() {
        return;
    }
    let directory = Directory::new();
    directory.write("deep/er/file", "x");
    std::os::unix::fs::symlink("/nonexistent", directory.at("dangling")).unwrap();
    let sonarr = start(
        &directory,
        "sonarr",
        &[("PUID", "4242"), ("PGID", "4243"), ("UMASK", "002")],
    );
    sonarr.until("/ping", 200);
    let state = sonarr.get("/standin/state").json();
    assert_eq!(
        (state["uid"].as_u64(), state["gid"].as_u64()),
        (Some(4242), Some(4243))
    );
    for name in ["", "deep/er/file", "sonarr.db", "config.xml"] {
        assert_eq!(owner(&directory, name), (4242, 4243), "{name:?}");
    }
    assert_eq!(
        owner(&directory, "dangling"),
        (0, 0),
        "a dangling link is left alone"
    );
    assert_eq!(
        fs::metadata(directory.at("config.xml")).unwrap().mode() & 0o777,
        0o664,
        "UMASK"
    );
    let pid = state["pid"].as_u64().unwrap();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("Groups:\t4243 \n"), "no group is kept: {status}");
}

#[test]
fn without_puid_it_is_911() {
    if !root() {
        return;
    }
    let directory = Directory::new();
    let sonarr = start(&directory, "sonarr", &[]);
    sonarr.until("/ping", 200);
    assert_eq!(owner(&directory, "sonarr.db"), (911, 911));
}

#[test]
fn jellyfin_is_chowned_one_level_deep() {
    if !root() {
        return;
    }
    let directory = Directory::new();
    directory.write("data/data/jellyfin-old.db", "x");
    let _jellyfin = start(
        &directory,
        "jellyfin",
        &[
            ("PUID", "4242"),
            ("PGID", "4242"),
            ("STANDIN_FAIL_START", "exit 1"),
        ],
    );
    until("it is chowned", || {
        (owner(&directory, "data") == (4242, 4242)).then_some(())
    });
    assert_eq!(owner(&directory, "data/data/jellyfin-old.db"), (0, 0));
}

#[test]
fn what_is_owned_already_is_not_touched() {
    if !root() {
        return;
    }
    let directory = Directory::new();
    directory.write("file", "x");
    for path in [directory.path().to_owned(), directory.at("file")] {
        lchown(path, Some(4242), Some(4242)).unwrap();
    }
    let before = fs::metadata(directory.at("file")).unwrap();
    start(&directory, "sonarr", &[("PUID", "4242"), ("PGID", "4242")]).until("/ping", 200);
    let after = fs::metadata(directory.at("file")).unwrap();
    assert_eq!(
        (before.ctime(), before.ctime_nsec()),
        (after.ctime(), after.ctime_nsec())
    );
}

#[test]
fn sigterm_is_passed_on_and_the_container_ends_with_0() {
    if !root() {
        return;
    }
    let directory = Directory::new();
    let mut sonarr = start(&directory, "sonarr", &[]);
    sonarr.until("/ping", 200);
    assert_eq!(sonarr.stop(), Some(0));
    assert!(sonarr.output().contains("Application is shutting down..."));
    assert!(!directory.at("sonarr.db-wal").exists());
}

#[test]
fn a_dead_application_is_started_again() {
    if !root() {
        return;
    }
    let directory = Directory::new();
    let mut sonarr = start(&directory, "sonarr", &[]);
    sonarr.until("/ping", 200);
    let pid = sonarr.get("/standin/state").json()["pid"].clone();
    directory.fault("exit 3 once\n");
    let now = until("another one answers", || {
        let answer = sonarr.request("GET", "/standin/state", "")?;
        Some(answer.json()["pid"].clone()).filter(|now| *now != pid)
    });
    assert_ne!(now, pid);
    assert_eq!(directory.read("fault"), "");
    assert_eq!(sonarr.stop(), Some(0));
}

#[test]
fn bazarr_inside_is_stopped_by_sigterm_and_then_killed() {
    if !root() || !reachable() {
        return;
    }
    let directory = Directory::new();
    let port = free_port();
    directory.write("config/config.yaml", &format!("general:\n  port: {port}\n"));
    let mut bazarr = start(&directory, "bazarr", &[]);
    bazarr.port = port;
    bazarr.until("/api/system/ping", 200);
    let since = std::time::Instant::now();
    bazarr.signal(Signal::SIGTERM);
    assert_eq!(bazarr.wait().code(), Some(0));
    assert!(
        since.elapsed().as_millis() > 2500,
        "three seconds of grace for the child that SIGTERM does not end"
    );
    assert!(bazarr.request("GET", "/", "").is_none());
}

#[test]
fn a_file_variable_becomes_the_variable() {
    if !root() {
        return;
    }
    let directory = Directory::new();
    directory.write("secret", "0123456789abcdef");
    let secret = directory.at("secret").display().to_string();
    let sonarr = start(&directory, "sonarr", &[("FILE__SONARR__AUTH__APIKEY", &secret)]);
    sonarr.until("/ping", 200);
    assert_eq!(sonarr.with_key("/api/v3/health", "0123456789abcdef").status, 200);
}

#[test]
fn started_as_a_user_it_stays_that_user_and_chowns_nothing() {
    if !root() || !reachable() {
        return;
    }
    let directory = Directory::new();
    directory.write("file", "x");
    lchown(directory.path(), Some(4242), Some(4242)).unwrap();
    let port = free_port();
    let (number, config) = (port.to_string(), directory.path().display().to_string());
    let environment = [
        ("STANDIN_IMAGE", "lsio"),
        ("STANDIN_CONFIG", &config),
        ("SONARR__SERVER__PORT", &number),
        ("PUID", "1"),
    ];
    let mut sonarr = Standin::start_as(&directory, port, &["sonarr"], &environment, Some(4242));
    sonarr.until("/ping", 200);
    assert_eq!(sonarr.get("/standin/state").json()["uid"], 4242);
    assert_eq!(
        (owner(&directory, "file"), owner(&directory, "sonarr.db")),
        ((0, 0), (4242, 4242))
    );
    assert_eq!(sonarr.stop(), Some(0));
}
