//! Imports run one way, and the order of the modules is the order of their dependencies: `lib.rs` says so, this holds it.
#![expect(clippy::unwrap_used, reason = "a test that fails says so by ending")]

use std::fs;
use std::path::{Path, PathBuf};

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// All Rust files below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The code of a file: no comments, and nothing from its tests on.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]").next().unwrap().to_owned();
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect()
}

/// The modules that a file declares, in order.
fn declared(path: &Path) -> Vec<String> {
    code(path)
        .lines()
        .filter_map(|line| {
            line.trim()
                .strip_prefix("pub mod ")?
                .strip_suffix(';')
                .map(str::to_owned)
        })
        .collect()
}

/// Every `word` in the files below `dir` is a mistake.
fn refuse(dir: &str, words: &[&str]) {
    for path in files(&source().join(dir)) {
        // The stories of a `tests.rs` are tests, too.
        if path.ends_with("tests.rs") {
            continue;
        }
        let code = code(&path);
        for word in words {
            assert!(!code.contains(word), "{} mentions {word}", path.display());
        }
    }
}

#[test]
fn the_domain_asks_nobody() {
    refuse(
        "domain",
        &[
            "crate::adapter",
            "zbus",
            "tokio",
            "rustix",
            "log::",
            "std::fs",
            "std::net",
            "std::process",
            "std::env",
            "Instant::now",
            "SystemTime",
        ],
    );
}

#[test]
fn the_gate_does_not_speak_on_the_bus() {
    refuse("bin/dagger-gate", &["zbus", "adapter::bus", "adapter::systemd"]);
}

/// Whoever holds a key does nothing else, and whoever touches data asks systemd and the agent, and nobody on a network.
#[test]
fn keys_stay_off_the_bus_and_jobs_off_the_network() {
    refuse("bin/dagger-well", &["zbus", "adapter::bus", "adapter::systemd"]);
    refuse(
        "bin/dagger-job",
        &[
            "hyper",
            "std::net",
            "tokio::net",
            "adapter::probe",
            "adapter::sockets",
        ],
    );
}

#[test]
fn no_layer_knows_the_programs() {
    refuse("adapter", &["crate::cli", "clap"]);
}

#[test]
fn a_module_imports_only_what_is_declared_above_it() {
    for layer in ["domain", "adapter", "adapter/bus"] {
        let dir = source().join(layer);
        let order = declared(&dir.join("mod.rs"));
        assert!(order.len() > 2, "{order:?}");
        for (index, module) in order.iter().enumerate() {
            let file = dir.join(format!("{module}.rs"));
            let paths = if file.exists() {
                vec![file]
            } else {
                files(&dir.join(module))
            };
            for path in paths {
                // Inside a module of several files, `super` is the module itself.
                let sibling = if path.parent() == Some(&dir) {
                    "use super::"
                } else {
                    "use super::super::"
                };
                for later in order.get(index..).unwrap_or_default() {
                    let code = code(&path);
                    let absolute = format!("crate::{}::{later}", layer.replace('/', "::"));
                    let relative = format!("{sibling}{later}");
                    let own = later == module;
                    for import in [absolute, relative] {
                        let found = ["::", ";", " "]
                            .iter()
                            .any(|end| code.contains(&format!("{import}{end}")));
                        assert!(
                            !found || own,
                            "{} imports {later}, which is declared below it",
                            path.display()
                        );
                    }
                }
            }
        }
    }
}
