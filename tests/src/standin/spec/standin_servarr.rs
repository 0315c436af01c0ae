//! Sonarr, Radarr, Prowlarr and kin: facts, sections 1.1, 2.1, 3.1 and 4.

use std::net::TcpListener;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::{Directory, Standin, free_port, until, verify};

fn start(directory: &Directory, environment: &[(&str, &str)]) -> Standin {
    let port = free_port();
    let (number, data) = (port.to_string(), format!("-data={}", directory.path().display()));
    let mut all = vec![("SONARR__SERVER__PORT", number.as_str())];
    all.extend_from_slice(environment);
    Standin::start(directory, port, &["sonarr", "-nobrowser", &data], &all)
}

fn key(directory: &Directory) -> String {
    let text = directory.read("config.xml");
    text.split("<ApiKey>")
        .nth(1)
        .unwrap()
        .split('<')
        .next()
        .unwrap()
        .to_owned()
}

#[test]
fn ping_is_anonymous_json_for_get_and_head() {
    let directory = Directory::new();
    let sonarr = start(&directory, &[]);
    let answer = sonarr.until("/ping", 200);
    assert_eq!(answer.json(), serde_json::json!({ "status": "OK" }));
    assert_eq!(answer.body, "{\n  \"status\": \"OK\"\n}", "the originals indent");
    assert!(
        answer
            .header("content-type")
            .unwrap()
            .starts_with("application/json")
    );
    let head = sonarr.request("HEAD", "/ping", "").unwrap();
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(sonarr.request("POST", "/ping", "").unwrap().status, 405);
}

#[test]
fn every_one_of_the_family_starts_on_its_port_with_its_api() {
    for (name, api) in [
        ("radarr", "v3"),
        ("prowlarr", "v1"),
        ("lidarr", "v1"),
        ("readarr", "v1"),
        ("whisparr", "v3"),
    ] {
        let directory = Directory::new();
        let port = free_port();
        let (variable, number) = (format!("{}__SERVER__PORT", name.to_uppercase()), port.to_string());
        let data = format!("-data={}", directory.path().display());
        let mut app = Standin::start(&directory, port, &[name, &data], &[(&variable, &number)]);
        app.until("/ping", 200);
        assert_eq!(
            app.with_key(&format!("/api/{api}/health"), &key(&directory))
                .status,
            200,
            "{name}"
        );
        assert_eq!(app.stop(), Some(0), "{name}");
        assert!(verify(directory.path()).unwrap().rows > 0, "{name}");
    }
}

#[test]
fn health_and_status_need_the_key_in_one_of_three_places() {
    let directory = Directory::new();
    let sonarr = start(&directory, &[]);
    sonarr.until("/ping", 200);
    let (path, key) = ("/api/v3/system/status", key(&directory));
    let refused = sonarr.get(path);
    assert_eq!((refused.status, refused.body.as_str()), (401, ""));
    assert_eq!(sonarr.with_key(path, "wrong").status, 401);
    assert_eq!(sonarr.get(&format!("{path}?apikey={key}")).status, 200);
    assert_eq!(
        sonarr
            .request("GET", path, &format!("Authorization: Bearer {key}\r\n"))
            .unwrap()
            .status,
        200
    );
    let status = sonarr.with_key(path, &key).json();
    assert_eq!(status["appName"], "Sonarr");
    assert_eq!(status["migrationVersion"], 217);
    assert_eq!(status["appData"], directory.path().to_str().unwrap());
    let health = sonarr.with_key("/api/v3/health", &key).json();
    let item = &health.as_array().unwrap()[0];
    assert!(["ok", "notice", "warning", "error"].contains(&item["type"].as_str().unwrap()));
    assert!(item["source"].is_string() && item["message"].is_string() && item["wikiUrl"].is_string());
    assert_eq!(sonarr.get("/api/v3/nothing").status, 401);
    assert_eq!(sonarr.with_key("/api/v3/nothing", &key).status, 404);
}

#[test]
fn a_url_base_redirects_with_307_but_authorization_comes_first() {
    let directory = Directory::new();
    let sonarr = start(&directory, &[("SONARR__SERVER__URLBASE", "tv")]);
    assert_eq!(sonarr.until("/tv/ping", 200).json()["status"], "OK");
    let bare = sonarr.get("/ping?x=1");
    assert_eq!(
        (bare.status, bare.header("location")),
        (307, Some("/tv/ping?x=1"))
    );
    assert_eq!(sonarr.get("/api/v3/health").status, 401);
    assert_eq!(sonarr.with_key("/api/v3/health", &key(&directory)).status, 307);
}

#[test]
fn starting_is_503_in_text_or_json() {
    let directory = Directory::new();
    let sonarr = start(&directory, &[("STANDIN_SLOW_START", "1s")]);
    let text = sonarr.until("/ping", 503);
    assert_eq!(text.body, "Sonarr is starting up, please try again later");
    let json = sonarr.with_key("/api/v3/health", &key(&directory));
    assert_eq!(
        (json.status, json.json()["errorMessage"].is_string()),
        (503, true)
    );
    sonarr.until("/ping", 200);
}

#[test]
fn the_port_is_closed_while_the_database_migrates() {
    let directory = Directory::new();
    let sonarr = start(&directory, &[("STANDIN_MIGRATE", "700ms")]);
    until("the migration is logged", || {
        sonarr
            .output()
            .contains("*** Migrating data source=")
            .then_some(())
    });
    for _ in 0..10 {
        assert!(sonarr.request("GET", "/ping", "").is_none(), "refused");
        std::thread::sleep(Duration::from_millis(20));
    }
    sonarr.until("/ping", 200);
}

#[test]
fn a_corrupt_database_leaves_a_process_without_a_port_and_then_code_3() {
    let directory = Directory::new();
    directory.write("sonarr.db", &"this is not a database ".repeat(1000));
    let mut sonarr = start(&directory, &[("STANDIN_FAIL_WAIT", "700ms")]);
    until("it waits", || {
        sonarr
            .output()
            .contains("waiting for user intervention...")
            .then_some(())
    });
    assert!(
        sonarr
            .output()
            .contains("sonarr.db is corrupt, restore from backup if available.")
    );
    assert!(sonarr.request("GET", "/ping", "").is_none() && sonarr.child.try_wait().unwrap().is_none());
    assert_eq!(sonarr.wait().code(), Some(3));
    let data = format!("-data={}", directory.path().display());
    let mut at_once = Standin::start(&directory, 0, &["sonarr", &data, "-exitimmediately"], &[]);
    assert_eq!(at_once.wait().code(), Some(3));
}

#[test]
fn a_corrupt_log_database_is_made_anew() {
    let directory = Directory::new();
    directory.write("logs.db", &"this is not a database ".repeat(1000));
    start(&directory, &[]).until("/ping", 200);
}

#[test]
fn a_broken_config_is_a_failed_start() {
    for text in ["", "<Config></Config><Config></Config>"] {
        let directory = Directory::new();
        directory.write("config.xml", text);
        assert_eq!(
            start(&directory, &[("STANDIN_FAIL_WAIT", "0")]).wait().code(),
            Some(3),
            "{text:?}"
        );
    }
}

#[test]
fn a_taken_port_is_code_2() {
    let directory = Directory::new();
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    assert_eq!(
        start(
            &directory,
            &[("SONARR__SERVER__PORT", &port), ("sonarr__server__port", &port)]
        )
        .wait()
        .code(),
        Some(2)
    );
}

#[test]
fn a_bare_port_variable_leaks_in() {
    let directory = Directory::new();
    let port = free_port();
    let (number, data) = (port.to_string(), format!("-data={}", directory.path().display()));
    let sonarr = Standin::start(&directory, port, &["sonarr", &data], &[("PORT", &number)]);
    sonarr.until("/ping", 200);
    assert!(
        directory.read("config.xml").contains("<Port>8989</Port>"),
        "the application believes its file"
    );
}

#[test]
fn sigterm_is_a_clean_end_and_nothing_is_lost() {
    let directory = Directory::new();
    let mut sonarr = start(&directory, &[]);
    sonarr.until("/ping", 200);
    until("rows are written", || (sonarr.rows() > 5).then_some(()));
    assert!(directory.at("sonarr.db-wal").exists(), "write-ahead log");
    directory.write("config.xml", "<Config><Port>1</Port></Config>");
    assert_eq!(sonarr.stop(), Some(0));
    assert!(!directory.at("sonarr.db-wal").exists(), "checkpointed at the end");
    assert!(
        directory.read("config.xml").contains("<ApiKey>"),
        "the file was written back at the end"
    );
    let found = verify(directory.path()).unwrap();
    assert!(found.rows > 5 && found.schema.as_deref() == Some("217"));
}

#[test]
fn sigkill_loses_no_committed_row() {
    let directory = Directory::new();
    let mut sonarr = start(&directory, &[]);
    sonarr.until("/ping", 200);
    let before = until("rows are written", || {
        Some(sonarr.rows()).filter(|rows| *rows > 5)
    });
    sonarr.signal(Signal::SIGKILL);
    sonarr.wait();
    assert!(verify(directory.path()).unwrap().rows >= before);
    let again = start(&directory, &[]);
    again.until("/ping", 200);
    until("it writes on", || (again.rows() > before + 1).then_some(()));
    assert_eq!(verify(directory.path()).unwrap().overlaps, 0);
}

#[test]
fn the_schema_only_moves_up_and_a_newer_one_is_not_noticed() {
    let directory = Directory::new();
    let run = |schema: &str| {
        let mut sonarr = start(&directory, &[("STANDIN_SCHEMA", schema)]);
        sonarr.until("/ping", 200);
        assert_eq!(sonarr.stop(), Some(0));
        verify(directory.path()).unwrap().schema
    };
    assert_eq!(run("217").as_deref(), Some("217"));
    assert_eq!(run("230").as_deref(), Some("230"));
    assert_eq!(run("217").as_deref(), Some("230"));
}

#[test]
fn killed_in_a_migration_the_schema_is_the_old_one() {
    let directory = Directory::new();
    let mut first = start(&directory, &[]);
    first.until("/ping", 200);
    first.stop();
    let mut sonarr = start(
        &directory,
        &[("STANDIN_SCHEMA", "218"), ("STANDIN_MIGRATE", "30s")],
    );
    until("it migrates", || {
        sonarr.output().contains("218: step_218 migrating").then_some(())
    });
    sonarr.signal(Signal::SIGKILL);
    sonarr.wait();
    assert_eq!(verify(directory.path()).unwrap().schema.as_deref(), Some("217"));
}

#[test]
fn shutdown_by_the_api_and_a_waiting_restore() {
    let directory = Directory::new();
    let mut sonarr = start(&directory, &[]);
    sonarr.until("/ping", 200);
    let answer = sonarr
        .request(
            "POST",
            "/api/v3/system/shutdown",
            &format!("X-Api-Key: {}\r\n", key(&directory)),
        )
        .unwrap();
    assert_eq!(answer.json(), serde_json::json!({ "shuttingDown": true }));
    assert_eq!(sonarr.wait().code(), Some(0));
    let rows = verify(directory.path()).unwrap().rows;
    std::fs::rename(directory.at("sonarr.db"), directory.at("sonarr.restore")).unwrap();
    start(&directory, &[]).until("/ping", 200);
    assert!(!directory.at("sonarr.restore").exists());
    assert!(verify(directory.path()).unwrap().rows >= rows);
}

#[test]
fn the_pages_ask_for_a_login_only_when_one_is_set() {
    let directory = Directory::new();
    let open = start(&directory, &[]);
    open.until("/ping", 200);
    assert_eq!(open.get("/").status, 200);
    let closed = start(&directory, &[("SONARR__AUTH__METHOD", "Forms")]);
    closed.until("/ping", 200);
    let page = closed.get("/");
    assert_eq!(
        (page.status, page.header("location")),
        (302, Some("/login?returnUrl=%2F"))
    );
}
