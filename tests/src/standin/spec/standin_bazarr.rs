//! Bazarr: facts, sections 1.3, 2.2, 3.2 and 4.

use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::{Directory, Standin, free_port, until, verify};

fn start(directory: &Directory, environment: &[(&str, &str)]) -> Standin {
    let port = free_port();
    let mut all = vec![("STANDIN_WRAPPER_POLL", "100ms")];
    all.extend_from_slice(environment);
    let config = directory.path().display().to_string();
    Standin::start(
        directory,
        port,
        &[
            "bazarr",
            "--no-update",
            "--config",
            &config,
            "--port",
            &port.to_string(),
        ],
        &all,
    )
}

fn key(directory: &Directory) -> String {
    let text = directory.read("config/config.yaml");
    text.split("auth:")
        .nth(1)
        .unwrap()
        .split("apikey: ")
        .nth(1)
        .unwrap()
        .lines()
        .next()
        .unwrap()
        .to_owned()
}

/// Ids of the wrapper's children.
fn child(bazarr: &Standin) -> Option<i32> {
    let id = bazarr.child.id();
    let text = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    text.split_whitespace().next().and_then(|text| text.parse().ok())
}

#[test]
fn ping_is_anonymous_and_only_below_api() {
    let directory = Directory::new();
    let bazarr = start(&directory, &[]);
    let answer = bazarr.until("/api/system/ping", 200);
    assert_eq!(answer.json(), serde_json::json!({ "status": "OK" }));
    assert_eq!(
        answer.header("content-length"),
        Some("17"),
        "as Python writes it, with a blank and a newline"
    );
    let page = bazarr.get("/ping");
    assert_eq!((page.status, page.header("location")), (302, Some("/")));
    assert_eq!(bazarr.get("/").status, 200);
}

#[test]
fn health_and_status_need_the_key() {
    let directory = Directory::new();
    let bazarr = start(&directory, &[]);
    bazarr.until("/api/system/ping", 200);
    let key = key(&directory);
    assert_eq!(bazarr.get("/api/system/health").status, 401);
    assert_eq!(bazarr.with_key("/api/system/health", "wrong").status, 401);
    assert_eq!(
        bazarr.get(&format!("/api/system/health?apikey={key}")).json()["data"][0]["object"],
        "Missing languages profile"
    );
    let status = bazarr.with_key("/api/system/status", &key).json();
    assert_eq!(
        status["data"]["bazarr_config_directory"],
        directory.path().to_str().unwrap()
    );
    assert!(status["data"]["database_migration"].is_string() && status["data"]["bazarr_version"].is_string());
}

#[test]
fn the_base_url_moves_everything() {
    let directory = Directory::new();
    directory.write("config/config.yaml", "general:\n  base_url: /subs\n");
    let bazarr = start(&directory, &[]);
    bazarr.until("/subs/api/system/ping", 200);
    let bare = bazarr.get("/api/system/ping");
    assert_eq!((bare.status, bare.header("location")), (302, Some("/subs/")));
}

#[test]
fn migrating_accepts_connections_and_answers_nobody() {
    let directory = Directory::new();
    let bazarr = start(&directory, &[("STANDIN_MIGRATE", "1500ms")]);
    until("the port is open", || {
        TcpStream::connect(("127.0.0.1", bazarr.port)).ok()
    });
    let request = "GET /api/system/ping HTTP/1.1\r\nConnection: close\r\n\r\n";
    assert!(
        bazarr.raw(request, Duration::from_millis(300)).is_err(),
        "HTTP times out"
    );
    bazarr.until("/api/system/ping", 200);
}

#[test]
fn a_dead_child_leaves_a_living_wrapper_without_a_port() {
    let directory = Directory::new();
    let mut bazarr = start(&directory, &[]);
    bazarr.until("/api/system/ping", 200);
    let child = nix::unistd::Pid::from_raw(child(&bazarr).unwrap());
    nix::sys::signal::kill(child, Signal::SIGKILL).unwrap();
    until("the port is closed", || {
        bazarr.request("GET", "/", "").is_none().then_some(())
    });
    std::thread::sleep(Duration::from_millis(300));
    assert!(
        bazarr.child.try_wait().unwrap().is_none(),
        "nobody watches the child"
    );
}

#[test]
fn sigint_to_the_group_is_code_156() {
    let directory = Directory::new();
    let mut bazarr = start(&directory, &[]);
    bazarr.until("/api/system/ping", 200);
    bazarr.signal_group(Signal::SIGINT);
    assert_eq!(bazarr.wait().code(), Some(156));
    assert!(verify(directory.path()).unwrap().rows > 0);
    assert!(!directory.at("bazarr.stop").exists());
}

#[test]
fn sigterm_kills_the_wrapper_while_the_child_only_closes_its_database() {
    use std::os::unix::process::ExitStatusExt;
    let directory = Directory::new();
    let mut bazarr = start(&directory, &[]);
    bazarr.until("/api/system/ping", 200);
    bazarr.signal_group(Signal::SIGTERM);
    assert_eq!(bazarr.wait().signal(), Some(15));
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(bazarr.get("/api/system/ping").status, 200, "the child lives");
    let rows = bazarr.rows();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(bazarr.rows(), rows, "and writes no more");
    assert_eq!(
        bazarr.with_key("/api/system/status", &key(&directory)).status,
        500
    );
}

#[test]
fn shutdown_by_the_api_is_code_0_and_restart_makes_a_new_child() {
    let directory = Directory::new();
    let mut bazarr = start(&directory, &[]);
    bazarr.until("/api/system/ping", 200);
    let before = child(&bazarr);
    let ask = |action: &str| {
        bazarr.request(
            "POST",
            &format!("/api/system?action={action}"),
            &format!("X-API-KEY: {}\r\n", key(&directory)),
        )
    };
    assert_eq!(ask("restart").unwrap().status, 204);
    until("another child runs", || {
        child(&bazarr).filter(|now| Some(*now) != before)
    });
    bazarr.until("/api/system/ping", 200);
    assert_eq!(ask("shutdown").unwrap().status, 204);
    assert_eq!(bazarr.wait().code(), Some(0));
}

#[test]
fn a_taken_port_falls_back_to_6767_or_is_code_151() {
    let directory = Directory::new();
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    directory.write("config/config.yaml", &format!("general:\n  port: {port}\n"));
    let config = directory.path().display().to_string();
    let run = || {
        Standin::start(
            &directory,
            6767,
            &["bazarr", "--config", &config],
            &[("STANDIN_WRAPPER_POLL", "100ms")],
        )
    };
    {
        let bazarr = run();
        bazarr.until("/api/system/ping", 200);
    }
    let fallback = until("6767 is free again", || TcpListener::bind("0.0.0.0:6767").ok());
    assert_eq!(run().wait().code(), Some(151));
    drop(fallback);
}

#[test]
fn a_configuration_that_is_no_yaml_is_code_155() {
    let directory = Directory::new();
    directory.write("config/config.yaml", "[general]\nport = 6767\n");
    assert_eq!(start(&directory, &[]).wait().code(), Some(155));
}

#[test]
fn a_newer_database_is_refused_and_the_wrapper_lives() {
    let directory = Directory::new();
    let mut new = start(&directory, &[("STANDIN_SCHEMA", "ffff00001111")]);
    new.until("/api/system/ping", 200);
    new.signal_group(Signal::SIGINT);
    new.wait();
    let mut old = start(&directory, &[]);
    until("it refuses", || {
        old.output()
            .contains("Can't locate revision identified by 'ffff00001111'")
            .then_some(())
    });
    std::thread::sleep(Duration::from_millis(300));
    assert!(old.request("GET", "/", "").is_none() && old.child.try_wait().unwrap().is_none());
}

#[test]
fn the_database_has_a_rollback_journal_and_leftovers_are_dropped() {
    let directory = Directory::new();
    let mut first = start(&directory, &[]);
    first.until("/api/system/ping", 200);
    first.signal_group(Signal::SIGINT);
    first.wait();
    let database = rusqlite::Connection::open(directory.at("db/bazarr.db")).unwrap();
    let mode: String = database
        .query_row("PRAGMA journal_mode", [], |row| row.get(0))
        .unwrap();
    assert_eq!(mode, "delete");
    database
        .execute_batch("CREATE TABLE _alembic_tmp_table_episodes (x)")
        .unwrap();
    start(&directory, &[]).until("/api/system/ping", 200);
    let left: i64 = database
        .query_row(
            "SELECT count(*) FROM sqlite_master WHERE name LIKE '%alembic_tmp%'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(left, 0);
}
