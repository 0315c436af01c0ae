//! Real file systems in files, each in a mount namespace that goes with its test.

use super::round::{round, wait_until_old};
use super::*;
use crate::adapter::apart::{self, run};

/// Whether the test of this name runs with mounts of its own.
fn apart(test: &str) -> bool {
    apart::apart(&format!("adapter::tree::tests::systems::{test}"))
}

/// A file system of this kind, mounted; none when this machine cannot.
pub fn mounted(scratch: &Scratch, kind: &str) -> Option<PathBuf> {
    let dir = scratch.dir(&format!("mounted-{kind}"));
    let (make, words): (&str, &[&str]) = match kind {
        "ext4" => ("mkfs.ext4", &["-q"]),
        "xfs" => ("mkfs.xfs", &["-q", "-m", "reflink=1"]),
        "btrfs" => ("mkfs.btrfs", &["-q"]),
        _ => return run("mount", &["-t", "tmpfs", "-o", "size=1G", "none"], &dir).then_some(dir),
    };
    let image = scratch.path(&format!("{kind}.img"));
    File::create(&image).unwrap().set_len(2 << 30).unwrap();
    let image_text = image.to_str().unwrap();
    let good = run(make, words, &image) && run("mount", &["-o", "loop", image_text], &dir);
    good.then_some(dir)
}

fn on(kind: &str, shares: bool) {
    let scratch = Scratch::new(kind);
    let Some(dir) = mounted(&scratch, kind) else {
        return;
    };
    let make = |name: &str| {
        let path = dir.join(name);
        fs::create_dir(&path).unwrap();
        path
    };
    let (from, to, back) = (make("from"), make("to"), make("back"));
    fill(&from);
    wait_until_old();
    let report = round(&from, &to, &back, &Options::default());
    assert_eq!(report.shared > 0, shares, "{report:?}");
    // By hand, although it could share.
    let (from, to, back) = (make("from-2"), make("to-2"), make("back-2"));
    fill(&from);
    wait_until_old();
    let options = Options {
        share: false,
        ..Options::default()
    };
    assert_eq!(round(&from, &to, &back, &options).shared, 0);
    // Five gigabytes, of which next to nothing is there.
    let (from, to) = (make("from-3"), make("to-3"));
    let huge = File::create(from.join("huge")).unwrap();
    huge.set_len(5 << 30).unwrap();
    huge.write_all_at(&noise(7, 10_000), 4 << 30).unwrap();
    drop(huge);
    copy(&tree(&from), &tree(&to), &options, &Progress::default()).unwrap();
    assert_same(&from, &to, "sparse");
    unmount(&dir);
}

pub fn unmount(dir: &Path) {
    assert!(run("umount", &[], dir));
}

#[test]
fn on_ext4() {
    if apart("on_ext4") {
        on("ext4", false);
    }
}

#[test]
fn on_xfs() {
    if apart("on_xfs") {
        on("xfs", true);
    }
}

#[test]
fn on_btrfs() {
    if apart("on_btrfs") {
        on("btrfs", true);
    }
}

#[test]
fn on_tmpfs() {
    if apart("on_tmpfs") {
        on("tmpfs", false);
    }
}

#[test]
fn from_one_file_system_to_another() {
    if !apart("from_one_file_system_to_another") {
        return;
    }
    let scratch = Scratch::new("two");
    let (Some(one), Some(other)) = (mounted(&scratch, "tmpfs"), mounted(&scratch, "xfs")) else {
        return;
    };
    let (from, to) = (one.join("from"), other.join("to"));
    fs::create_dir(&from).unwrap();
    fs::create_dir(&to).unwrap();
    fill(&from);
    let (_, report) = copy(
        &tree(&from),
        &tree(&to),
        &Options::default(),
        &Progress::default(),
    )
    .unwrap();
    assert_eq!((report.shared, report.unkept.count), (0, 0));
    let (left, right) = (told(&from), told(&to));
    // Blocks are of another size there, so holes begin and end elsewhere.
    assert_eq!(left.keys().collect::<Vec<_>>(), right.keys().collect::<Vec<_>>());
    assert!(fs::metadata(to.join("sparse")).unwrap().blocks() * 512 < 1 << 20);
    unmount(&one);
    unmount(&other);
}

#[test]
fn a_full_or_read_only_disk_is_an_error_that_helps() {
    if !apart("a_full_or_read_only_disk_is_an_error_that_helps") {
        return;
    }
    let scratch = Scratch::new("full");
    let from = scratch.dir("from");
    for index in 0..20 {
        write(&from.join(format!("{index}")), &noise(index, 1 << 20));
    }
    let to = scratch.dir("to");
    assert!(run("mount", &["-t", "tmpfs", "-o", "size=4M", "none"], &to));
    let (options, progress) = (Options::default(), Progress::default());
    let error = copy(&tree(&from), &tree(&to), &options, &progress)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(&format!("{}/", to.display())) && error.contains("make room"),
        "{error}"
    );
    unmount(&to);
    assert!(run("mount", &["-t", "tmpfs", "-o", "ro", "none"], &to));
    let error = copy(&tree(&from), &tree(&to), &options, &progress)
        .unwrap_err()
        .to_string();
    assert!(error.contains("read-write"), "{error}");
    unmount(&to);
}

#[test]
fn what_is_mounted_inside_is_neither_copied_nor_touched() {
    if !apart("what_is_mounted_inside_is_neither_copied_nor_touched") {
        return;
    }
    let scratch = Scratch::new("inside");
    let (from, to) = (scratch.dir("from"), scratch.dir("to"));
    write(&from.join("file"), b"own");
    let media = scratch.dir("from/media");
    write(&from.join("bound"), b"");
    assert!(run("mount", &["-t", "tmpfs", "none"], &media));
    write(&media.join("film"), b"film");
    let other = scratch.path("other");
    write(&other, b"other");
    assert!(run(
        "mount",
        &["--bind", other.to_str().unwrap()],
        &from.join("bound")
    ));
    let (options, progress) = (Options::default(), Progress::default());
    let (manifest, report) = copy(&tree(&from), &tree(&to), &options, &progress).unwrap();
    assert_eq!(report.mounts.count, 2, "{report:?}");
    assert_eq!(
        (report.made, fs::read_dir(to.join("media")).unwrap().count()),
        (1, 0)
    );
    let (manifest, report) = refresh(&tree(&from), &tree(&to), &manifest, &options, &progress).unwrap();
    assert_eq!(report.mounts.count, 2, "{report:?}");
    let report = restore(&tree(&to), &manifest, &tree(&from), &options, &progress).unwrap();
    assert!(report.mounts.count > 0);
    assert_eq!(fs::read(media.join("film")).unwrap(), b"film");
    assert_eq!(fs::read(from.join("bound")).unwrap(), b"other");
    unmount(&media);
    unmount(&from.join("bound"));
}
