//! Programs that ours call, played by a script.

use std::path::Path;
use std::process::Command;

/// Writes a program that stands for another, podman for instance; its path as a word.
pub fn program(path: &Path, script: &str) -> String {
    // Written by a process of its own: a descriptor open for writing here could be inherited by a child that another test
    // starts at this moment, and a program that is open for writing cannot be run (ETXTBSY).
    let text = format!("#!/bin/sh\n{script}\n");
    let write = r#"printf %s "$1" > "$2" && chmod 755 "$2""#;
    let written = Command::new("sh")
        .args(["-c", write, "sh", &text])
        .arg(path)
        .status();
    assert!(written.unwrap().success());
    path.display().to_string()
}
