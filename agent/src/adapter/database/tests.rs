//! Databases in use, at rest, damaged, and swapped under whoever looks.

use super::*;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags};

fn scratch(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("dagger-database-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(dir.join("state")).unwrap();
    std::fs::create_dir(dir.join("room")).unwrap();
    dir.canonicalize().unwrap()
}

fn fill(path: &Path, mode: &str) -> Connection {
    let database = Connection::open(path).unwrap();
    database
        .execute_batch(&format!(
            "PRAGMA journal_mode = {mode}; CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
             INSERT INTO t SELECT i, 'some text of row ' || i FROM n;"
        ))
        .unwrap();
    database
}

/// All that can be told of the files of a directory.
fn files(dir: &Path) -> BTreeMap<String, (u64, i64, i64, u64)> {
    std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let data = entry.metadata().unwrap();
            let mut sum = DefaultHasher::new();
            std::fs::read(entry.path()).unwrap().hash(&mut sum);
            (
                entry.file_name().into_string().unwrap(),
                (data.ino(), data.mtime(), data.mtime_nsec(), sum.finish()),
            )
        })
        .collect()
}

/// Holds a database open in a process of its own, as an application does: inside one process SQLite shares what is
/// open already. The test below starts it with a path; without one there is nothing to do.
#[test]
fn holder() {
    let Ok(path) = std::env::var("DAGGER_TEST_HOLD") else {
        return;
    };
    let mode = std::env::var("DAGGER_TEST_MODE").unwrap();
    let database = fill(Path::new(&path), &mode);
    println!("held");
    let _ = io::stdin().read(&mut [0]);
    drop(database);
}

fn hold(path: &Path, mode: &str) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "adapter::database::tests::holder", "--nocapture"])
        .env("DAGGER_TEST_HOLD", path)
        .env("DAGGER_TEST_MODE", mode)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let out = child.stdout.as_mut().unwrap();
    while !said.contains("held") {
        let mut byte = [0];
        assert_eq!(out.read(&mut byte).unwrap(), 1, "{said}");
        said.push(char::from(byte[0]));
    }
    child
}

#[test]
fn a_good_database_in_use_is_good_and_stays_as_it_is() {
    for mode in ["WAL", "DELETE"] {
        let dir = scratch(mode);
        let source = dir.join("state/a ?#%.db");
        let mut holder = hold(&source, mode);
        let before = files(&dir.join("state"));
        assert_eq!(before.len(), if mode == "WAL" { 3 } else { 1 });
        assert_eq!(
            check(&source, &dir.join("room/copy.db")),
            Ok(Found::Good),
            "{mode}"
        );
        assert_eq!(files(&dir.join("state")), before, "{mode}: something was written");
        // What is in the log only was copied, too.
        let copy = Connection::open(dir.join("room/copy.db")).unwrap();
        let rows: i64 = copy
            .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
            .unwrap();
        assert_eq!(rows, 20_000, "{mode}");
        holder.stdin.take().unwrap().write_all(b"x").unwrap();
        assert!(holder.wait().unwrap().success());
    }
}

#[test]
fn questions_are_answered_and_change_nothing() {
    let count = |connection: &Connection| {
        connection.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0))
    };
    for mode in ["WAL", "DELETE"] {
        let dir = scratch(&format!("ask-{mode}"));
        let source = dir.join("state/a.db");
        let mut holder = hold(&source, mode);
        let before = files(&dir.join("state"));
        assert_eq!(ask(&source, count), Ok(Some(20_000)), "{mode}");
        assert_eq!(files(&dir.join("state")), before, "{mode}: something was written");
        holder.stdin.take().unwrap().write_all(b"x").unwrap();
        assert!(holder.wait().unwrap().success());
        let before = files(&dir.join("state"));
        assert_eq!(ask(&source, count), Ok(Some(20_000)), "{mode}, at rest");
        assert_eq!(files(&dir.join("state")), before, "{mode}: it was woken");
    }
    let dir = scratch("ask-none");
    assert_eq!(ask(&dir.join("state/none.db"), count), Ok(None));
}

/// Nobody has it open: there is no log and no `-shm`, and none is made.
#[test]
fn a_database_at_rest_is_not_woken() {
    let dir = scratch("rest");
    let source = dir.join("state/rest.db");
    drop(fill(&source, "WAL"));
    let before = files(&dir.join("state"));
    assert_eq!(before.len(), 1);
    assert_eq!(check(&source, &dir.join("room/copy.db")), Ok(Found::Good));
    assert_eq!(files(&dir.join("state")), before);
}

#[test]
fn damage_is_told_in_sqlites_words() {
    let dir = scratch("damage");
    let source = dir.join("state/bad.db");
    drop(fill(&source, "DELETE"));
    let file = std::fs::OpenOptions::new().write(true).open(&source).unwrap();
    for page in 20..40 {
        file.write_all_at(&[0xa5; 4096], page * 4096).unwrap();
    }
    let Ok(Found::Damaged(words)) = check(&source, &dir.join("room/copy.db")) else {
        panic!("not found");
    };
    assert!(!words.is_empty() && !words.starts_with("***"), "{words}");
    std::fs::write(&source, "this is no database at all".repeat(400)).unwrap();
    let _ = std::fs::remove_file(dir.join("room/copy.db"));
    let Ok(Found::Damaged(words)) = check(&source, &dir.join("room/copy.db")) else {
        panic!("not found");
    };
    assert!(words.contains("not a database"), "{words}");
}

#[test]
fn what_is_no_file_of_the_service_is_refused() {
    let dir = scratch("refuse");
    let copy = dir.join("room/copy.db");
    assert_eq!(check(&dir.join("state/none.db"), &copy), Ok(Found::Nothing));
    drop(fill(&dir.join("other.db"), "DELETE"));
    std::os::unix::fs::symlink("../other.db", dir.join("state/link.db")).unwrap();
    std::os::unix::fs::symlink("..", dir.join("state/way")).unwrap();
    for (path, says) in [
        ("state/link.db", "symbolic link"),
        ("state/way/other.db", "symbolic link"),
        ("state", "not a plain file"),
    ] {
        let error = check(&dir.join(path), &copy).unwrap_err();
        assert!(error.contains(says), "{path}: {error}");
    }
    let huge = dir.join("state/huge.db");
    std::fs::File::create(&huge).unwrap().set_len(1 << 43).unwrap();
    let error = check(&huge, &copy).unwrap_err();
    assert!(error.contains("MiB are needed"), "{error}");
    assert!(!copy.exists());
}

/// A database whose log was left beside it, as after a kill: whoever opens it to write empties that.
fn left(dir: &Path, name: &str) {
    let made = dir.join("room/made.db");
    let open = fill(&made, "WAL");
    for (from, to) in super::files(&made).zip(super::files(&dir.join(name))).take(2) {
        std::fs::copy(from, to).unwrap();
    }
    drop(open);
    std::fs::remove_file(made).unwrap();
}

#[test]
fn a_log_that_was_left_is_written_into_its_database() {
    let dir = scratch("settle");
    left(&dir, "state/a.db");
    assert!(dir.join("state/a.db-wal").metadata().unwrap().len() > 0);
    assert_eq!(settle(&dir.join("state/a.db")), Ok((Found::Good, 0)));
    let names: Vec<_> = files(&dir.join("state")).into_keys().collect();
    assert_eq!(names, ["a.db"]);
}

/// Another application's database of the same name, in a directory that comes in the place of the own one at any moment.
#[test]
fn a_directory_that_is_swapped_for_a_link_leads_to_nobodys_database() {
    let dir = scratch("swap");
    for name in ["state/own", "out"] {
        std::fs::create_dir(dir.join(name)).unwrap();
        left(&dir, &format!("{name}/a.db"));
    }
    std::os::unix::fs::symlink("../out", dir.join("state/link")).unwrap();
    let before = files(&dir.join("out"));
    assert_eq!(before.len(), 2);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (own, link) = (dir.join("state/own"), dir.join("state/link"));
            while !over.load(Ordering::Relaxed) {
                let _ = rustix::fs::renameat_with(CWD, &own, CWD, &link, RenameFlags::EXCHANGE);
            }
        });
        let source = dir.join("state/own/a.db");
        let mut good = 0;
        for _ in 0..400 {
            good += u32::from(matches!(settle(&source), Ok((Found::Good, _))));
            let _ = check(&source, &dir.join("room/copy.db"));
            let _ = clear(&dir.join("room/copy.db"));
            if files(&dir.join("out")) != before {
                break;
            }
        }
        over.store(true, Ordering::Relaxed);
        println!("{good} of them were good");
    });
    assert_eq!(
        files(&dir.join("out")),
        before,
        "another's database was written to"
    );
}
