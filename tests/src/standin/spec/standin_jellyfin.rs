//! Jellyfin: facts, sections 1.2, 2.4, 3.4 and 4.

use std::time::Duration;

use crate::support::{Directory, Standin, free_port, until, verify};

fn start(directory: &Directory, environment: &[(&str, &str)], base: &str) -> Standin {
    let port = free_port();
    let network = format!(
        "<NetworkConfiguration><InternalHttpPort>{port}</InternalHttpPort><BaseUrl>{base}</BaseUrl></NetworkConfiguration>"
    );
    directory.write("config/network.xml", &network);
    let at = |name: &str| directory.at(name).display().to_string();
    let (data, config, cache, log) = (at("data"), at("config"), at("cache"), at("log"));
    let mut all = vec![
        ("JELLYFIN_DATA_DIR", data.as_str()),
        ("JELLYFIN_CONFIG_DIR", &config),
        ("JELLYFIN_CACHE_DIR", &cache),
        ("JELLYFIN_LOG_DIR", &log),
    ];
    all.extend_from_slice(environment);
    Standin::start(directory, port, &["jellyfin"], &all)
}

fn healthy(jellyfin: &Standin, path: &str) {
    until("it is healthy", || {
        jellyfin
            .request("GET", path, "")
            .filter(|answer| answer.status == 200 && answer.body == "Healthy")
    });
}

#[test]
fn migrating_is_200_degraded_and_the_real_server_follows_on_the_same_port() {
    let directory = Directory::new();
    let jellyfin = start(
        &directory,
        &[("STANDIN_MIGRATE", "1500ms"), ("STANDIN_SLOW_START", "500ms")],
        "",
    );
    let first = jellyfin.until("/health", 200);
    assert_eq!(first.body, "Degraded");
    let page = jellyfin.get("/web/");
    assert_eq!(
        (
            page.status,
            page.header("retry-after"),
            page.header("content-type")
        ),
        (503, Some("005"), Some("text/html"))
    );
    let public = jellyfin.get("/System/Info/Public");
    assert_eq!(
        (public.status, public.json()["StartupWizardCompleted"].as_bool()),
        (200, Some(false)),
        "the trap: 200 while it migrates"
    );
    let loading = until("the real server is loading", || {
        jellyfin
            .request("GET", "/System/Info/Public", "")
            .filter(|answer| answer.status == 503)
    });
    assert!(loading.header("retry-after").is_none() && loading.body.contains("loading"));
    assert_eq!(jellyfin.get("/System/Ping").status, 200);
    healthy(&jellyfin, "/health");
}

#[test]
fn public_information_waits_and_then_says_later() {
    let directory = Directory::new();
    let jellyfin = start(&directory, &[("STANDIN_MIGRATE", "60s")], "");
    jellyfin.until("/health", 200);
    let answer = jellyfin.get("/System/Info/Public");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("005")));
}

#[test]
fn healthy_public_information_and_ping() {
    let directory = Directory::new();
    let mut jellyfin = start(&directory, &[], "");
    healthy(&jellyfin, "/health");
    let public = jellyfin.get("/System/Info/Public").json();
    for field in [
        "LocalAddress",
        "ServerName",
        "Version",
        "ProductName",
        "Id",
        "StartupWizardCompleted",
    ] {
        assert!(!public[field].is_null(), "{field}");
    }
    assert_eq!(
        public["Id"].as_str().unwrap(),
        directory.read("data/data/device.txt")
    );
    assert_eq!(jellyfin.get("/system/ping").body, "\"Jellyfin Server\"");
    assert_eq!(jellyfin.get("/").header("location"), Some("/web/"));
    assert_eq!(jellyfin.stop(), Some(0));
    assert!(
        verify(&directory.at("data"))
            .unwrap()
            .schema
            .unwrap()
            .ends_with("_DetachUserDataInsteadOfDelete")
    );
}

#[test]
fn a_base_url_redirects_with_302_once_the_real_server_is_up() {
    let directory = Directory::new();
    let jellyfin = start(&directory, &[("STANDIN_MIGRATE", "400ms")], "video");
    assert_eq!(
        jellyfin.until("/health", 200).body,
        "Degraded",
        "the setup server ignores the base"
    );
    let bare = jellyfin.until("/health", 302);
    assert_eq!(bare.header("location"), Some("/video/health"));
    healthy(&jellyfin, "/video/health");
}

#[test]
fn a_failed_migration_is_503_unhealthy_and_ends_with_0() {
    let directory = Directory::new();
    let mut jellyfin = start(
        &directory,
        &[("STANDIN_FAIL_START", "1"), ("STANDIN_FAIL_WAIT", "1s")],
        "",
    );
    assert_eq!(jellyfin.until("/health", 503).body, "Unhealthy");
    assert_eq!(
        jellyfin.wait().code(),
        Some(0),
        "so Restart=on-failure does not fire"
    );
}

#[test]
fn a_corrupt_database_is_a_failed_start() {
    let directory = Directory::new();
    directory.write("data/data/jellyfin.db", &"this is not a database ".repeat(1000));
    assert_eq!(start(&directory, &[], "").until("/health", 503).body, "Unhealthy");
}

#[test]
fn a_database_that_vanished_is_unhealthy() {
    let directory = Directory::new();
    let jellyfin = start(&directory, &[], "");
    healthy(&jellyfin, "/health");
    for name in ["jellyfin.db", "jellyfin.db-wal", "jellyfin.db-shm"] {
        std::fs::remove_file(directory.at("data/data").join(name)).unwrap();
    }
    assert_eq!(jellyfin.until("/health", 503).body, "Unhealthy");
}

#[test]
fn a_foreign_marker_is_a_crash_before_any_port() {
    let directory = Directory::new();
    directory.write("config/.jellyfin-data", "");
    let mut jellyfin = start(&directory, &[], "");
    assert_eq!(jellyfin.wait().code(), Some(134));
    assert!(
        jellyfin
            .output()
            .contains("Expected to find only .jellyfin-config but found marker for")
    );
    assert!(
        !directory.at("log").join("log").exists()
            && std::fs::read_dir(directory.at("log")).unwrap().count() == 0
    );
}

#[test]
fn a_named_web_directory_must_be_there_unless_there_is_no_client() {
    let directory = Directory::new();
    assert_eq!(
        start(&directory, &[("JELLYFIN_WEB_DIR", "/nonexistent")], "")
            .wait()
            .code(),
        Some(1)
    );
    let at = |name: &str| directory.at(name).display().to_string();
    let arguments = [
        "jellyfin",
        "--datadir",
        &at("data"),
        "--cachedir",
        &at("cache"),
        "--webdir=/nonexistent",
        "--nowebclient",
    ];
    let mut other = Standin::start(&directory, 8096, &arguments, &[("STANDIN_FAIL_START", "exit 7")]);
    assert_eq!(other.wait().code(), Some(7), "past the check");
}

#[test]
fn information_needs_a_token_once_the_wizard_is_complete() {
    let directory = Directory::new();
    let jellyfin = start(&directory, &[], "");
    healthy(&jellyfin, "/health");
    assert_eq!(jellyfin.get("/System/Info").status, 200);
    assert_eq!(jellyfin.get("/Startup/Configuration").status, 200);
    assert_eq!(
        jellyfin.request("POST", "/Startup/Complete", "").unwrap().status,
        204
    );
    assert_eq!(jellyfin.get("/Startup/Configuration").status, 401);
    assert_eq!(jellyfin.get("/System/Info").status, 401);
    assert_eq!(
        jellyfin.get("/System/Info/Public").json()["StartupWizardCompleted"],
        true
    );
    let database = rusqlite::Connection::open(directory.at("data/data/jellyfin.db")).unwrap();
    let token: String = database
        .query_row("SELECT AccessToken FROM ApiKeys", [], |row| row.get(0))
        .unwrap();
    let known = |header: &str| jellyfin.request("GET", "/System/Info", header).unwrap().status;
    assert_eq!(
        known(&format!("Authorization: MediaBrowser Token=\"{token}\"\r\n")),
        200
    );
    assert_eq!(known(&format!("X-Emby-Token: {token}\r\n")), 200);
    assert_eq!(known("X-Emby-Token: wrong\r\n"), 401);
}

#[test]
fn an_upgrade_copies_the_database_and_a_downgrade_is_not_noticed() {
    let directory = Directory::new();
    let run = |schema: &str| {
        let mut jellyfin = start(
            &directory,
            &[("STANDIN_SCHEMA", schema), ("STANDIN_MIGRATE", "400ms")],
            "",
        );
        jellyfin.until("/health", 200);
        std::thread::sleep(Duration::from_millis(100));
        let copies = std::fs::read_dir(directory.at("data/data/SQLiteBackups")).map_or(0, Iterator::count);
        healthy(&jellyfin, "/health");
        assert_eq!(jellyfin.stop(), Some(0));
        (copies, verify(&directory.at("data")).unwrap().schema.unwrap())
    };
    let (old, new) = (
        "20250609115616_DetachUserDataInsteadOfDelete",
        "20260101000000_Next",
    );
    assert_eq!(run(old), (0, old.to_owned()));
    assert_eq!(run(new), (1, new.to_owned()));
    assert_eq!(
        run(old),
        (0, new.to_owned()),
        "and the copy is gone after success"
    );
}
