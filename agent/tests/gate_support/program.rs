//! Programs that the gate calls, played by a script.

use std::process::Command;

use super::gate_support::Machine;

/// A program that stands for podman.
pub fn program(machine: &Machine, script: &str) -> String {
    let path = machine.root.join("program");
    // Written by a process of its own: a descriptor open for writing here could be inherited by a child that another test
    // starts at this moment, and a program that is open for writing cannot be run (ETXTBSY).
    let text = format!("#!/bin/sh\n{script}\n");
    let write = r#"printf %s "$1" > "$2" && chmod 755 "$2""#;
    let written = Command::new("sh")
        .args(["-c", write, "sh", &text])
        .arg(&path)
        .status();
    assert!(written.unwrap().success());
    path.display().to_string()
}
