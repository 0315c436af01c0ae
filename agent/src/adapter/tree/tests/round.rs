//! What is copied is the same, stays the same, and comes back the same.

use super::*;
use std::os::unix::net::UnixListener;

/// All that an application, an update and an administrator do to a state directory between two looks.
pub fn change(top: &Path) {
    write(&top.join("MediaCover/many/7"), b"longer than it was before");
    fs::remove_file(top.join("MediaCover/many/8")).unwrap();
    write(&top.join("MediaCover/many/new"), b"new");
    fs::set_permissions(top.join("MediaCover/many/9"), fs::Permissions::from_mode(0o604)).unwrap();
    std::os::unix::fs::lchown(top.join("MediaCover/many/10"), Some(9), Some(9)).unwrap();
    attribute(&top.join("MediaCover/many/11"), "user.later", b"yes");
    // The same size, and the time set back: only the kernel's own time tells.
    let twelve = top.join("MediaCover/many/12");
    let times = fs::metadata(&twelve).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&twelve).unwrap();
    file.write_all_at(b"overwritten", 0).unwrap();
    file.set_modified(times.modified().unwrap()).unwrap();
    // One kind becomes another.
    fs::remove_file(top.join("small")).unwrap();
    write(&top.join("small/is/a/directory"), b"now");
    fs::remove_dir_all(top.join("nothing")).unwrap();
    write(&top.join("nothing"), b"a file");
    fs::remove_file(top.join("absolute")).unwrap();
    symlink("elsewhere", top.join("absolute")).unwrap();
    fs::remove_file(top.join("pipe")).unwrap();
    fs::create_dir(top.join("pipe")).unwrap();
    // A group loses one name and gets another.
    fs::remove_file(top.join("linked/two")).unwrap();
    fs::hard_link(top.join("linked/one"), top.join("linked/four")).unwrap();
    fs::OpenOptions::new()
        .write(true)
        .open(top.join("sparse"))
        .unwrap()
        .write_all_at(b"x", 50 << 20)
        .unwrap();
    fs::set_permissions(top.join("MediaCover/1"), fs::Permissions::from_mode(0o711)).unwrap();
}

/// Copy, change, refresh, seal, verify, change, restore; on whatever file system this is.
pub fn round(from: &Path, to: &Path, back: &Path, options: &Options) -> Report {
    let progress = Progress::default();
    let (manifest, report) = copy(&tree(from), &tree(to), options, &progress).unwrap();
    assert_same(from, to, "copied");
    assert_eq!(report.unkept, Noted::default());
    assert_eq!(report.changed, Noted::default());
    assert_eq!(manifest.files(), report.made);
    assert_eq!(progress.files(), report.made);
    assert_eq!(manifest.bytes(), report.bytes);

    change(from);
    let (mut manifest, second) = refresh(&tree(from), &tree(to), &manifest, options, &progress).unwrap();
    assert_same(from, to, "refreshed");
    assert_eq!(second.changed, Noted::default());
    assert_eq!(manifest.files(), second.made + second.kept);

    let verdict = seal(&tree(to), &mut manifest, options, &progress).unwrap();
    assert!(verdict.is_good(), "{verdict:?}");
    assert!(manifest.is_sealed());
    let verdict = verify(&tree(to), &manifest, options, &progress).unwrap();
    assert_eq!(
        (verdict.damaged, verdict.unsealed, verdict.files),
        (0, 0, manifest.files()),
        "{verdict:?}"
    );

    // In place, over what the new world wrote.
    fs::remove_dir_all(from.join("MediaCover/1")).unwrap();
    write(&from.join("sonarr.db"), b"migrated to another schema");
    write(&from.join("new/and/deep"), b"not of the old world");
    symlink("/", from.join("new/root")).unwrap();
    fs::remove_dir_all(from.join("small")).unwrap();
    write(&from.join("small"), b"a file again");
    fs::remove_file(from.join("nothing")).unwrap();
    fs::create_dir(from.join("nothing")).unwrap();
    fs::remove_file(from.join("linked/one")).unwrap();
    write(&from.join("linked/one"), b"no longer one of three");
    let top = fs::metadata(from).unwrap().ino();
    let third = restore(&tree(to), &manifest, &tree(from), options, &progress).unwrap();
    assert_same(to, from, "restored");
    assert_eq!(
        fs::metadata(from).unwrap().ino(),
        top,
        "the top is another directory"
    );
    assert!(third.removed > 0 && third.made > 0 && third.made < manifest.files());
    restore(&tree(to), &manifest, &tree(from), options, &progress).unwrap();
    assert_same(to, from, "restored twice");
    // To another place, which is empty.
    restore(&tree(to), &manifest, &tree(back), options, &progress).unwrap();
    assert_same(to, back, "restored elsewhere");
    assert!(
        verify(&tree(to), &manifest, options, &progress)
            .unwrap()
            .is_good(),
        "a restore changed the copy"
    );
    report
}

#[test]
fn a_tree_comes_back_as_it_was() {
    if !is_root() {
        return;
    }
    for (threads, share) in [(1, true), (3, false)] {
        let scratch = Scratch::new(&format!("round-{threads}"));
        let from = scratch.dir("from");
        fill(&from);
        let options = Options {
            share,
            threads,
            ..Options::default()
        };
        wait_until_old();
        round(&from, &scratch.dir("to"), &scratch.dir("back"), &options);
    }
}

/// Until a change to anything that was written before would have another time.
pub fn wait_until_old() {
    let written = crate::adapter::clock::realtime().as_secs();
    while crate::adapter::clock::realtime().as_secs() <= written + 1 {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn a_refresh_opens_nothing_that_is_as_it_was() {
    let scratch = Scratch::new("kept");
    let (from, to) = (scratch.dir("from"), scratch.dir("to"));
    for index in 0..300 {
        write(&from.join(format!("{}/{index}", index % 7)), &noise(index, 50));
    }
    wait_until_old();
    let (options, progress) = (Options::default(), Progress::default());
    let (manifest, _) = copy(&tree(&from), &tree(&to), &options, &progress).unwrap();
    write(&from.join("3/3"), b"changed");
    let before = fs::metadata(to.join("4/4")).unwrap();
    let (_, report) = refresh(&tree(&from), &tree(&to), &manifest, &options, &progress).unwrap();
    assert_eq!((report.made, report.kept, report.removed), (1, 299, 0));
    let after = fs::metadata(to.join("4/4")).unwrap();
    assert_eq!(
        (before.ino(), before.ctime_nsec()),
        (after.ino(), after.ctime_nsec())
    );
    assert_same(&from, &to, "refreshed");
}

/// A copy that is brought up to date is written in place: nothing of what a file was may stay, be it behind its end or in a
/// hole.
#[test]
fn nothing_of_what_a_file_was_stays_in_its_copy() {
    for share in [true, false] {
        let scratch = Scratch::new(&format!("shorter-{share}"));
        let (from, to) = (scratch.dir("from"), scratch.dir("to"));
        for name in ["shorter", "empty", "holes", "mode", "two"] {
            write(&from.join(name), &noise(1, 300_000));
        }
        wait_until_old();
        let options = Options {
            share,
            ..Options::default()
        };
        let progress = Progress::default();
        let (manifest, _) = copy(&tree(&from), &tree(&to), &options, &progress).unwrap();
        write(&from.join("shorter"), b"short");
        write(&from.join("empty"), b"");
        let holes = File::create(from.join("holes")).unwrap();
        holes.set_len(300_000).unwrap();
        holes.write_all_at(b"x", 200_000).unwrap();
        fs::set_permissions(from.join("mode"), fs::Permissions::from_mode(0o4711)).unwrap();
        write(&from.join("two"), b"two names");
        fs::hard_link(from.join("two"), from.join("too")).unwrap();
        wait_until_old();
        let (manifest, report) = refresh(&tree(&from), &tree(&to), &manifest, &options, &progress).unwrap();
        assert_eq!((report.made, report.kept), (6, 0));
        assert_same(&from, &to, "refreshed");
        // Of two names again one: the other's copy stays what it is.
        fs::remove_file(from.join("two")).unwrap();
        write(&from.join("two"), b"another");
        refresh(&tree(&from), &tree(&to), &manifest, &options, &progress).unwrap();
        assert_same(&from, &to, "refreshed again");
    }
}

/// A directory whose names are known is not listed again; what of it was not copied is told of each time all the same.
#[test]
fn what_is_left_out_is_told_of_each_time() {
    let scratch = Scratch::new("told");
    let (from, to) = (scratch.dir("from"), scratch.dir("to"));
    for name in ["a", "kept/b", "dropped/c"] {
        write(&from.join(name), b"data");
    }
    let _socket = UnixListener::bind(from.join("socket")).unwrap();
    wait_until_old();
    let (mut options, progress) = (Options::default(), Progress::default());
    let (manifest, first) = copy(&tree(&from), &tree(&to), &options, &progress).unwrap();
    let (manifest, second) = refresh(&tree(&from), &tree(&to), &manifest, &options, &progress).unwrap();
    assert_eq!(first.left_out, second.left_out);
    assert_eq!(second.left_out.count, 1);
    options.leave_out = vec!["dropped".into()];
    let (_, third) = refresh(&tree(&from), &tree(&to), &manifest, &options, &progress).unwrap();
    assert_eq!((third.kept, third.removed), (2, 1));
    assert!(!to.join("dropped").exists());
}

/// A file that was written to right before it was copied could be written to again within the same tick of the clock.
#[test]
fn what_changed_a_moment_ago_is_copied_again() {
    let scratch = Scratch::new("moment");
    let (from, to) = (scratch.dir("from"), scratch.dir("to"));
    write(&from.join("hot"), b"hot");
    let (options, progress) = (Options::default(), Progress::default());
    let (manifest, _) = copy(&tree(&from), &tree(&to), &options, &progress).unwrap();
    let (_, report) = refresh(&tree(&from), &tree(&to), &manifest, &options, &progress).unwrap();
    assert_eq!((report.made, report.kept), (1, 0));
}

#[test]
fn what_is_left_out_is_not_copied_and_not_touched_by_a_restore() {
    let scratch = Scratch::new("out");
    let (from, to) = (scratch.dir("from"), scratch.dir("to"));
    for path in [
        "sonarr.pid",
        "logs/a",
        "logs/b/c",
        "data/SQLiteBackups/x",
        "data/keep",
        "keep",
    ] {
        write(&from.join(path), b"old");
    }
    let options = Options {
        leave_out: ["sonarr.pid", "logs", "data/SQLiteBackups"]
            .map(PathBuf::from)
            .to_vec(),
        ..Options::default()
    };
    let progress = Progress::default();
    let (manifest, report) = copy(&tree(&from), &tree(&to), &options, &progress).unwrap();
    assert_eq!(report.made, 2);
    assert!(!to.join("logs").exists() && !to.join("sonarr.pid").exists() && to.join("data/keep").exists());
    for path in [
        "sonarr.pid",
        "logs/b/c",
        "data/keep",
        "data/SQLiteBackups/x",
        "data/new",
        "logs/new",
    ] {
        write(&from.join(path), b"new");
    }
    restore(
        &tree(&to),
        &manifest,
        &tree(&from),
        &Options::default(),
        &progress,
    )
    .unwrap();
    for (path, says) in [
        ("sonarr.pid", "new"),
        ("logs/b/c", "new"),
        ("logs/new", "new"),
        ("data/SQLiteBackups/x", "new"),
        ("data/keep", "old"),
    ] {
        assert_eq!(fs::read_to_string(from.join(path)).unwrap(), says, "{path}");
    }
    assert!(!from.join("data/new").exists());
}

#[test]
fn sockets_and_devices_are_left_out_and_left_alone() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new("special");
    let (from, to) = (scratch.dir("from"), scratch.dir("to"));
    write(&from.join("file"), b"file");
    let _socket = UnixListener::bind(from.join("socket")).unwrap();
    let device = rustix::fs::makedev(1, 3);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        from.join("null"),
        FileType::CharacterDevice,
        Mode::RWXU,
        device,
    )
    .unwrap();
    let (options, progress) = (Options::default(), Progress::default());
    let (manifest, report) = copy(&tree(&from), &tree(&to), &options, &progress).unwrap();
    assert_eq!((report.made, report.left_out.count), (1, 2));
    assert_eq!(fs::read_dir(&to).unwrap().count(), 1);
    restore(&tree(&to), &manifest, &tree(&from), &options, &progress).unwrap();
    assert!(from.join("socket").exists() && from.join("null").exists());
}

#[test]
fn damage_is_found() {
    let scratch = Scratch::new("damage");
    let (from, to) = (scratch.dir("from"), scratch.dir("to"));
    for name in ["content", "attributes", "missing", "dir/same"] {
        write(&from.join(name), &noise(1, 10_000));
    }
    symlink("here", from.join("link")).unwrap();
    wait_until_old();
    let (options, progress) = (Options::default(), Progress::default());
    let (mut manifest, _) = copy(&tree(&from), &tree(&to), &options, &progress).unwrap();
    seal(&tree(&to), &mut manifest, &options, &progress).unwrap();
    let path = to.join("content");
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"rot", 5000).unwrap();
    file.set_modified(modified).unwrap();
    fs::set_permissions(to.join("attributes"), fs::Permissions::from_mode(0o777)).unwrap();
    fs::remove_file(to.join("missing")).unwrap();
    write(&to.join("dir/strange"), b"");
    let verdict = verify(&tree(&to), &manifest, &options, &progress).unwrap();
    let mut found: Vec<_> = verdict
        .first
        .iter()
        .map(|(path, damage)| {
            let path = path.to_string();
            (
                path.strip_prefix(&format!("{}/", to.display()))
                    .unwrap()
                    .to_owned(),
                *damage,
            )
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let wanted = [
        ("attributes", Damage::Attributes),
        ("content", Damage::Content),
        ("dir/strange", Damage::Strange),
        ("missing", Damage::Missing),
    ];
    assert_eq!(found, wanted.map(|(path, damage)| (path.to_owned(), damage)));
}
