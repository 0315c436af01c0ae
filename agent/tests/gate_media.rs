//! The gate and the media tree: an application never sees a library that has become empty.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[allow(dead_code, reason = "nobody asks how long it took")]
mod gate_support;

use std::fs;
use std::net::TcpListener;

use gate_support::{Done, Machine};

/// A machine with a film in `/fun`, and radarr started well on it.
fn started(name: &str) -> Machine {
    let machine = Machine::new(name);
    fs::create_dir_all(machine.root.join("fun/films")).unwrap();
    good_start(&machine);
    machine
}

fn good_start(machine: &Machine) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("--port={}", listener.local_addr().unwrap().port());
    let words = [
        "post",
        "--service=radarr",
        "--budget=5",
        "--media=/fun",
        "--probe=tcp",
        &port,
    ];
    let done = machine.run(&words);
    assert_eq!(done.code, 0, "{}", done.said);
}

fn pre(machine: &Machine) -> Done {
    machine.run(&["pre", "--service=radarr", "--media=/fun"])
}

#[test]
fn radarr_3128_an_emptied_library_is_not_shown_to_the_application() {
    let machine = started("emptied");
    assert_eq!(pre(&machine).code, 0);
    fs::remove_dir(machine.root.join("fun/films")).unwrap();
    let done = pre(&machine);
    assert_eq!(done.code, 1, "{}", done.said);
    for part in [
        "/fun is empty and was not before",
        "radarr would take its media for deleted",
        "rm /var/lib/dagger/media/radarr",
    ] {
        assert!(
            done.said.contains(part) && done.told.contains(part),
            "{part}: {}",
            done.said
        );
    }
    // Back again: nothing has to be said or done.
    fs::create_dir(machine.root.join("fun/films")).unwrap();
    assert_eq!(pre(&machine).code, 0);
}

#[test]
fn a_library_that_is_meant_to_be_empty_is_let_through_by_the_command_that_was_told() {
    let machine = started("meant");
    fs::remove_dir(machine.root.join("fun/films")).unwrap();
    assert_eq!(pre(&machine).code, 1);
    fs::remove_file(machine.root.join("var/lib/dagger/media/radarr")).unwrap();
    assert_eq!(pre(&machine).code, 0);
    good_start(&machine);
    assert_eq!(pre(&machine).code, 0, "an empty library is known by now");
}

#[test]
fn a_library_that_is_gone_has_one_sentence() {
    let machine = started("gone");
    fs::remove_dir_all(machine.root.join("fun")).unwrap();
    let done = pre(&machine);
    assert_eq!(done.code, 1);
    assert_eq!(done.said.lines().count(), 1, "{}", done.said);
    assert!(
        done.said.contains("/fun, which radarr needs, is not there"),
        "{}",
        done.said
    );
}

#[test]
fn a_record_that_is_broken_keeps_nobody_from_starting() {
    let machine = started("record");
    fs::write(machine.root.join("var/lib/dagger/media/radarr"), "{").unwrap();
    let done = pre(&machine);
    assert_eq!(done.code, 0, "{}", done.said);
    assert!(
        done.said.contains("/var/lib/dagger/media/radarr") && done.said.contains("remove it"),
        "{}",
        done.said
    );
}
