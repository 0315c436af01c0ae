//! Disks that are full, work that is stopped in the middle, and what is left then.

use super::*;

#[test]
fn a_restore_that_is_cut_off_anywhere_is_completed_by_another_one() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new("cut");
    let (from, to) = (scratch.dir("from"), scratch.dir("to"));
    fill(&from);
    let (options, progress) = (Options::default(), Progress::default());
    let (manifest, _) = copy(&tree(&from), &tree(&to), &options, &progress).unwrap();
    let mut cut = 0;
    for after in [0, 1, 10, 100, 300, 500] {
        round::change(&from);
        let progress = Progress::default();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while progress.files() < after {
                    std::hint::spin_loop();
                }
                progress.stop();
            });
            match restore(&tree(&to), &manifest, &tree(&from), &options, &progress) {
                Ok(_) => {}
                Err(TreeError::Stopped) => cut += 1,
                Err(other) => panic!("{other}"),
            }
        });
        // As a power cut leaves it.
        write(&from.join("MediaCover/.dagger-1-1"), b"half a fi");
        restore(
            &tree(&to),
            &manifest,
            &tree(&from),
            &options,
            &Progress::default(),
        )
        .unwrap();
        assert_same(&to, &from, &format!("cut off after {after}"));
    }
    assert!(cut > 2, "{cut}");
}

#[test]
fn a_stop_ends_a_copy_also_in_the_middle_of_a_large_file() {
    let scratch = Scratch::new("stop");
    let (from, to) = (scratch.dir("from"), scratch.dir("to"));
    write(&from.join("large"), &noise(1, 100 << 20));
    let options = Options {
        share: false,
        ..Options::default()
    };
    let progress = Progress::default();
    let result = std::thread::scope(|scope| {
        scope.spawn(|| {
            while progress.bytes() == 0 {
                std::hint::spin_loop();
            }
            progress.stop();
        });
        copy(&tree(&from), &tree(&to), &options, &progress)
    });
    assert!(matches!(result, Err(TreeError::Stopped)), "{result:?}");
    assert!(progress.bytes() < 100 << 20);
}

#[test]
fn what_is_not_there_is_named() {
    let scratch = Scratch::new("none");
    let error = Tree::open(&scratch.path("none")).unwrap_err().to_string();
    assert!(error.ends_with("/none is not there"), "{error}");
    symlink("/", scratch.path("link")).unwrap();
    let error = Tree::open(&scratch.path("link")).unwrap_err().to_string();
    assert!(error.contains("is a symbolic link to /"), "{error}");
}
