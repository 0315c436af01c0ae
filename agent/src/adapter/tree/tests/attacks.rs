//! What the application's user, or whoever took the application over, can do while its data is copied or put back.

use super::round::wait_until_old;
use super::*;
use crate::domain::plan::facts::Who;
use rustix::fs::{CWD, RenameFlags};
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

const SECRET: &str = "root's own words";

/// Runs `attack` again and again while `work` runs.
fn under(attack: impl Fn() + Sync, work: impl FnOnce()) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                attack();
            }
        });
        let stop = Stop(&done);
        work();
        drop(stop);
    });
}

/// Ends the attack also when the work fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn exchange(a: &Path, b: &Path) {
    let _ = rustix::fs::renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE);
}

/// A secret outside of the tree: a directory with files of the names that the tree has.
fn secret(scratch: &Scratch) -> PathBuf {
    let outside = scratch.dir("outside");
    for index in 0..20 {
        write(&outside.join(format!("{index}")), SECRET.as_bytes());
    }
    write(&outside.join("below/0"), SECRET.as_bytes());
    age(&outside);
    outside
}

fn has_secret(top: &Path) -> bool {
    let sum = content(&top.parent().unwrap().join("outside/0")).0;
    told(top).values().any(|entry| entry.says == sum)
}

#[test]
fn a_directory_swapped_for_a_link_is_not_entered() {
    let scratch = Scratch::new("swap");
    let from = scratch.dir("from");
    secret(&scratch);
    for index in 0..20 {
        write(&from.join(format!("d/{index}")), b"own");
        write(&from.join(format!("e/{index}")), b"own");
    }
    write(&from.join("d/below/0"), b"own");
    let link = scratch.path("link");
    symlink("../outside", &link).unwrap();
    let (options, progress) = (Options::default(), Progress::default());
    let (mut entered, mut swapped) = (0, 0);
    under(
        || exchange(&from.join("d"), &link),
        || {
            for round in 0..150 {
                let to = scratch.dir(&format!("to-{round}"));
                let (manifest, _) = copy(&tree(&from), &tree(&to), &options, &progress).unwrap();
                refresh(&tree(&from), &tree(&to), &manifest, &options, &progress).unwrap();
                assert!(!has_secret(&to), "round {round}");
                if to
                    .join("d")
                    .symlink_metadata()
                    .is_ok_and(|data| data.is_symlink())
                {
                    swapped += 1;
                } else {
                    entered += 1;
                }
                remove(
                    disk::open_dir(to.parent().unwrap()).unwrap().unwrap(),
                    &CString::new(format!("to-{round}")).unwrap(),
                    &to,
                    &progress,
                )
                .unwrap();
            }
        },
    );
    assert!(
        entered > 0 && swapped > 0,
        "the attack did not take place: {entered}, {swapped}"
    );
}

#[test]
fn a_file_swapped_for_a_link_or_a_pipe_is_neither_followed_nor_waited_for() {
    let scratch = Scratch::new("files");
    let from = scratch.dir("from");
    secret(&scratch);
    for index in 0..20 {
        write(&from.join(format!("{index}")), b"own");
    }
    let (link, pipe) = (scratch.path("link"), scratch.path("pipe"));
    symlink("../outside/0", &link).unwrap();
    rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
    let (options, progress) = (Options::default(), Progress::default());
    under(
        || {
            exchange(&from.join("3"), &link);
            exchange(&from.join("4"), &pipe);
        },
        || {
            for round in 0..150 {
                let to = scratch.dir(&format!("to-{round}"));
                let (manifest, _) = copy(&tree(&from), &tree(&to), &options, &progress).unwrap();
                refresh(&tree(&from), &tree(&to), &manifest, &options, &progress).unwrap();
                assert!(!has_secret(&to), "round {round}");
            }
        },
    );
}

#[test]
fn a_restore_writes_nothing_outside_whatever_is_swapped() {
    let scratch = Scratch::new("restore");
    let (from, to) = (scratch.dir("from"), scratch.dir("to"));
    let outside = secret(&scratch);
    for index in 0..20 {
        write(&from.join(format!("d/{index}")), b"own");
    }
    let (options, progress) = (Options::default(), Progress::default());
    let (manifest, _) = copy(&tree(&from), &tree(&to), &options, &progress).unwrap();
    let before = told(&outside);
    let (d, turn) = (from.join("d"), AtomicU32::new(0));
    let mut failures = 0;
    under(
        || {
            // Whatever the restore has made of it, it is a link for a moment, and then a directory again.
            let aside = scratch.path(&format!("aside-{}", turn.fetch_add(1, Ordering::Relaxed)));
            let _ = fs::rename(&d, &aside);
            let _ = symlink("../outside", &d);
            std::thread::yield_now();
            let _ = fs::remove_file(&d);
            if fs::rename(&aside, &d).is_err() {
                let _ = fs::remove_dir_all(&aside);
            }
        },
        || {
            for _ in 0..150 {
                failures +=
                    u32::from(restore(&tree(&to), &manifest, &tree(&from), &options, &progress).is_err());
            }
        },
    );
    assert!(told(&outside) == before, "something outside was written to");
    assert!(failures > 0, "the attack did not take place");
    // Left in peace, it ends well.
    restore(&tree(&to), &manifest, &tree(&from), &options, &progress).unwrap();
    assert_same(&to, &from, "restored");
}

/// Another file of the machine gets a name in the state directory: it is replaced there, not written into.
#[test]
fn a_planted_hard_link_is_replaced_and_its_file_stays_as_it_was() {
    let scratch = Scratch::new("plant");
    let (from, to) = (scratch.dir("from"), scratch.dir("to"));
    write(&from.join("settings.json"), b"own");
    write(&from.join("second"), b"own");
    let (options, progress) = (Options::default(), Progress::default());
    let (manifest, _) = copy(&tree(&from), &tree(&to), &options, &progress).unwrap();
    let other = scratch.path("other");
    write(&other, SECRET.as_bytes());
    fs::set_permissions(&other, fs::Permissions::from_mode(0o600)).unwrap();
    let before = fs::metadata(&other).unwrap();
    for name in ["settings.json", "second", "third"] {
        let _ = fs::remove_file(from.join(name));
        fs::hard_link(&other, from.join(name)).unwrap();
    }
    restore(&tree(&to), &manifest, &tree(&from), &options, &progress).unwrap();
    let after = fs::metadata(&other).unwrap();
    assert_eq!(fs::read_to_string(&other).unwrap(), SECRET);
    assert_eq!(
        (after.mode(), after.uid(), after.nlink()),
        (before.mode(), before.uid(), 1)
    );
    assert_same(&to, &from, "restored");
}

#[test]
fn a_file_with_names_outside_is_copied_and_told_of() {
    let scratch = Scratch::new("outside-links");
    let (from, to) = (scratch.dir("from"), scratch.dir("to"));
    write(&from.join("a"), b"own");
    fs::hard_link(from.join("a"), scratch.path("b")).unwrap();
    let (_, report) = copy(
        &tree(&from),
        &tree(&to),
        &Options::default(),
        &Progress::default(),
    )
    .unwrap();
    let outside: Vec<u64> = report.linked_outside.values().map(|noted| noted.count).collect();
    assert_eq!(outside, [1]);
    assert_eq!(fs::read(to.join("a")).unwrap(), b"own");
    assert_eq!(fs::metadata(to.join("a")).unwrap().nlink(), 1);
}

/// Thousands of levels: no path of it fits into one call, and nothing here calls itself.
#[test]
fn depth_is_no_trouble_and_has_an_end() {
    let scratch = Scratch::new("deep");
    let (from, to) = (scratch.dir("from"), scratch.dir("to"));
    let dig = |top: &Path, levels: usize| {
        let mut dir = disk::open_dir(top).unwrap().unwrap();
        for _ in 0..levels {
            let _ = rustix::fs::mkdirat(&dir, c"d", Mode::RWXU);
            dir = enter(&dir, c"d").unwrap();
        }
        write_in(&dir);
    };
    dig(&from, 2100);
    let (options, progress) = (Options::default(), Progress::default());
    let (manifest, report) = copy(&tree(&from), &tree(&to), &options, &progress).unwrap();
    assert_eq!((report.made, depth(&to)), (1, 2100));
    let verdict = verify(&tree(&to), &manifest, &options, &progress).unwrap();
    assert_eq!((verdict.files, verdict.damaged), (1, 0));
    dig(&from, DEPTH_MAX + 10);
    let error = refresh(&tree(&from), &tree(&to), &manifest, &options, &progress).unwrap_err();
    assert!(matches!(error, TreeError::TooDeep(_)), "{error}");
    assert!(error.to_string().len() < 1000);
    // And a restore removes it nevertheless.
    let empty = scratch.dir("empty");
    let (manifest, _) = copy(&tree(&scratch.dir("nothing")), &tree(&empty), &options, &progress).unwrap();
    restore(&tree(&empty), &manifest, &tree(&from), &options, &progress).unwrap();
    assert_eq!(fs::read_dir(&from).unwrap().count(), 0);
}

fn write_in(dir: &OwnedFd) {
    use rustix::fs::OFlags;
    let _ = rustix::fs::openat(dir, c"file", OFlags::CREATE | OFlags::WRONLY, Mode::RWXU).unwrap();
}

/// A file that is set-user-ID loses the bit when somebody else writes to it; a copy of what was written must not have it.
#[test]
fn what_is_written_while_it_is_copied_is_told_of_and_copied_again() {
    let scratch = Scratch::new("busy");
    let from = scratch.dir("from");
    write(&from.join("busy"), &noise(1, 32 << 20));
    write(&from.join("calm"), b"calm");
    wait_until_old();
    let options = Options {
        share: false,
        ..Options::default()
    };
    let progress = Progress::default();
    let file = fs::OpenOptions::new()
        .write(true)
        .open(from.join("busy"))
        .unwrap();
    let bytes = noise(2, 4096);
    let mut first = None;
    under(
        || file.write_all_at(&bytes, 16 << 20).unwrap(),
        || {
            // The writer may get no turn during one copy; not during all of them.
            for round in 0..100 {
                let to = scratch.dir(&format!("to-{round}"));
                let (manifest, report) = copy(&tree(&from), &tree(&to), &options, &progress).unwrap();
                if report.changed.count > 0 {
                    first = Some((to, manifest, report));
                    break;
                }
                fs::remove_dir_all(to).unwrap();
            }
        },
    );
    let (to, manifest, report) = first.expect("it was written to all the time, and not told of");
    assert_eq!(report.changed.count, 1, "{report:?}");
    assert!(report.changed.first[0].to_string().ends_with("/busy"));
    let (_, report) = refresh(&tree(&from), &tree(&to), &manifest, &options, &progress).unwrap();
    assert_eq!((report.made, report.kept, report.changed.count), (1, 1, 0));
    assert_same(&from, &to, "refreshed");
}

/// Small files among many are copied in a moment, in which their writer is hardly ever at work. There are some of them, because
/// the last to be copied may not be written to any more before all is over.
#[test]
fn who_goes_on_writing_after_a_file_was_copied_again_is_told_of() {
    let scratch = Scratch::new("goes-on");
    let (from, to) = (scratch.dir("from"), scratch.dir("to"));
    let fill = |byte: &[u8]| {
        for number in 0..2000 {
            write(&from.join(number.to_string()), byte);
        }
    };
    let logs: Vec<PathBuf> = (0..20).map(|number| from.join(format!("log-{number}"))).collect();
    fill(b"old");
    for log in &logs {
        write(log, b"");
    }
    wait_until_old();
    let (options, progress) = (Options::default(), Progress::default());
    let (manifest, _) = copy(&tree(&from), &tree(&to), &options, &progress).unwrap();
    fill(b"new");
    let append = |log: &PathBuf| fs::OpenOptions::new().append(true).open(log).unwrap();
    let open: Vec<_> = logs.iter().map(append).collect();
    let more = || {
        for mut log in &open {
            log.write_all(b"more").unwrap();
        }
    };
    more();
    let mut report = Report::default();
    under(
        || {
            more();
            std::thread::sleep(std::time::Duration::from_millis(5));
        },
        || (_, report) = refresh(&tree(&from), &tree(&to), &manifest, &options, &progress).unwrap(),
    );
    assert_eq!(report.made, 2020, "{report:?}");
    assert!((1..=20).contains(&report.changed.count), "{report:?}");
    let told = |entry: &dyn std::fmt::Display| entry.to_string().contains("/log-");
    assert!(report.changed.first.iter().all(|entry| told(entry)), "{report:?}");
}

/// Somebody else's file gets a name in the tree just before it would change hands. Whoever may write to a file may give it
/// further names (protected_hardlinks in proc_sys_fs(5)): those of a media group may do that to each other's.
#[test]
fn what_is_swapped_for_anothers_file_is_not_given_away() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new("give-swap");
    let from = scratch.dir("from");
    for index in 0..20 {
        write(&from.join(format!("{index}")), b"own");
    }
    let (theirs, plant) = (scratch.path("theirs"), scratch.path("plant"));
    write(&theirs, SECRET.as_bytes());
    let who = |uid, gid| Who { uid, gid };
    for path in fs::read_dir(&from).unwrap().map(|entry| entry.unwrap().path()) {
        std::os::unix::fs::chown(path, Some(274), Some(169)).unwrap();
    }
    std::os::unix::fs::chown(&theirs, Some(7), Some(169)).unwrap();
    fs::hard_link(&theirs, &plant).unwrap();
    let gift = Gift {
        from: who(274, 169),
        to: who(1000, 100),
    };
    let given = AtomicU32::new(0);
    under(
        || {
            for index in 0..20 {
                exchange(&from.join(format!("{index}")), &plant);
            }
        },
        || {
            for round in 0..2000 {
                for gift in [gift, gift.reversed()] {
                    let count = give(&tree(&from), gift, &Progress::default()).unwrap();
                    given.fetch_add(u32::try_from(count).unwrap(), Ordering::Relaxed);
                    let owner = fs::metadata(&theirs).unwrap();
                    assert_eq!((owner.uid(), owner.gid()), (7, 169), "round {round}");
                }
            }
        },
    );
    assert!(given.into_inner() > 2000, "hardly anything changed hands");
}
