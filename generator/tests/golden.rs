//! Golden trees: `tests/golden/<case>/{etc,run,usr}` is a root, `expected/` what the program makes of it.
//!
//! Run with `DAGGER_BLESS=1` after a change that is meant, then review `expected/` as units, in `git diff`.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a directory holds: relative path -> text, links as `-> target`.
type Tree = BTreeMap<String, String>;

fn read_tree(dir: &Path, base: &Path, tree: &mut Tree) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(base).unwrap().to_str().unwrap().to_owned();
        if let Ok(target) = fs::read_link(&path) {
            tree.insert(name, format!("-> {}\n", target.display()));
        } else if path.is_dir() {
            read_tree(&path, base, tree);
        } else {
            tree.insert(name, fs::read_to_string(&path).unwrap());
        }
    }
}

fn tree(dir: &Path) -> Tree {
    let mut tree = Tree::new();
    read_tree(dir, dir, &mut tree);
    tree
}

/// Runs the program on a case as systemd does; returns what it wrote, and what it said under `log`.
fn generate(case: &Path, scratch: &Path) -> Tree {
    let _ = fs::remove_dir_all(scratch);
    for dir in ["normal", "early", "late"] {
        fs::create_dir_all(scratch.join(dir)).unwrap();
    }
    let output = Command::new(env!("CARGO_BIN_EXE_dagger-generator"))
        .args(["normal", "early", "late"].map(|dir| scratch.join(dir)))
        .env("DAGGER_ROOT", case)
        .env_remove("SYSTEMD_SCOPE")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}: the generator must never fail",
        case.display()
    );
    assert_eq!(output.stdout, b"");
    fs::write(scratch.join("log"), output.stderr).unwrap();
    tree(scratch)
}

/// Links are kept as files of their own kind, so that a case reads the same in every archive.
fn bless(expected: &Path, made: &Tree) {
    let _ = fs::remove_dir_all(expected);
    for (path, text) in made {
        let path = expected.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match text.strip_prefix("-> ") {
            Some(target) => std::os::unix::fs::symlink(target.trim_end(), path).unwrap(),
            None => fs::write(path, text).unwrap(),
        }
    }
}

fn compare(case: &str, expected: &Tree, made: &Tree) -> Vec<String> {
    let mut wrong = Vec::new();
    for path in expected
        .keys()
        .chain(made.keys().filter(|path| !expected.contains_key(*path)))
    {
        match (expected.get(path), made.get(path)) {
            (Some(_), None) => wrong.push(format!("{case}: {path} was not written")),
            (None, Some(text)) => wrong.push(format!("{case}: {path} is new:\n{text}")),
            (Some(old), Some(new)) if old != new => {
                let lines = old.lines().zip(new.lines()).find(|(old, new)| old != new);
                let (old, new) = lines.unwrap_or(("(the end of one of them)", ""));
                wrong.push(format!("{case}: {path} differs first at\n- {old}\n+ {new}"));
            }
            _ => {}
        }
    }
    wrong
}

fn cases() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut cases: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    cases.sort();
    cases
}

#[test]
fn every_case_becomes_what_is_expected() {
    let bless_them = std::env::var_os("DAGGER_BLESS").is_some();
    let mut wrong = Vec::new();
    for case in cases() {
        let name = case.file_name().unwrap().to_str().unwrap().to_owned();
        let scratch = std::env::temp_dir().join(format!("dagger-golden-{name}-{}", std::process::id()));
        let made = generate(&case, &scratch);
        // The same input gives the same bytes, also into a directory that holds them already.
        assert_eq!(made, generate(&case, &scratch), "{name}: not the same twice");
        fs::remove_dir_all(&scratch).unwrap();
        let expected = case.join("expected");
        if bless_them {
            bless(&expected, &made);
        }
        wrong.extend(compare(&name, &tree(&expected), &made));
    }
    assert!(
        wrong.is_empty(),
        "{}\n(DAGGER_BLESS=1 takes what is made for what is expected)",
        wrong.join("\n")
    );
}

#[test]
fn a_dry_run_shows_what_generating_would_write() {
    if std::env::var_os("DAGGER_BLESS").is_some() {
        return; // The other test is writing what this one reads.
    }
    for case in cases() {
        let output = Command::new(env!("CARGO_BIN_EXE_dagger-generator"))
            .arg("--dry-run")
            .env("DAGGER_ROOT", &case)
            .output()
            .unwrap();
        let shown = String::from_utf8(output.stdout).unwrap();
        let expected = tree(&case.join("expected/normal"));
        for (path, text) in &expected {
            assert!(
                shown.contains(&format!("--- /dev/null\n+++ {path}\n")),
                "{}: {path}\n{shown}",
                case.display()
            );
            for line in text.lines() {
                assert!(
                    shown.contains(&format!("+{line}\n")),
                    "{}: {path}: {line}",
                    case.display()
                );
            }
        }
        assert_eq!(
            shown.matches("\n+++ ").count(),
            expected.len(),
            "{}",
            case.display()
        );
    }
}
