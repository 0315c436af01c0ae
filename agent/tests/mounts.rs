//! Real file systems that come and go, in a mount namespace of the test's own.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "../src/adapter/apart.rs"]
mod apart;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use apart::{apart, run};
use dagger_agent::adapter::media;
use dagger_agent::adapter::mounts::{Mounts, Watch};
use dagger_agent::domain::surroundings::{Place, Trouble};
use dagger_suite::names::{Root, ServiceName};

fn mount(dir: &Path) {
    assert!(run("mount", &["-t", "tmpfs", "none"], dir));
}

fn unmount(dir: &Path) {
    assert!(run("umount", &["--lazy"], dir));
}

fn scratch(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("dagger-mounts-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(dir.join("fun")).unwrap();
    dir.canonicalize().unwrap()
}

#[test]
fn radarr_3128_a_disk_that_goes_is_missed_and_one_below_it_too() {
    if !apart("radarr_3128_a_disk_that_goes_is_missed_and_one_below_it_too") {
        return;
    }
    let dir = scratch("missed");
    let root = Root::new(&dir);
    let service = ServiceName::parse("radarr").unwrap();
    let fun = dir.join("fun");
    mount(&fun);
    fs::create_dir(fun.join("tv")).unwrap();
    mount(&fun.join("tv"));
    fs::create_dir(fun.join("tv/series")).unwrap();
    media::write(&root, &service, &["/fun".into()]).unwrap();
    let record = media::read(&root, &service).unwrap().unwrap();
    let check = || media::check(&root, &record, &Mounts::now().unwrap());
    let gone = |path: &str| {
        Some(Place {
            path: path.into(),
            media: true,
            trouble: Trouble::NotMounted,
        })
    };
    assert_eq!(check(), None);
    unmount(&fun.join("tv"));
    assert_eq!(check(), gone("/fun/tv"));
    // Something else in its place, but nothing of what was there.
    mount(&fun.join("tv"));
    assert_eq!(check().unwrap().trouble, Trouble::Empty);
    unmount(&fun);
    assert_eq!(check(), gone("/fun"));
}

#[test]
fn every_mount_and_unmount_of_media_is_heard_of_at_once() {
    if !apart("every_mount_and_unmount_of_media_is_heard_of_at_once") {
        return;
    }
    let dir = scratch("heard");
    let (fun, other) = (dir.join("fun"), dir.join("other"));
    fs::create_dir(&other).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(async {
        let mut watch = Watch::new(vec![fun.clone()]).unwrap();
        for change in [mount, unmount, mount, unmount] {
            change(&other);
            let waited = tokio::time::timeout(Duration::from_millis(100), watch.changed()).await;
            assert!(waited.is_err(), "what is nobody's media is no news");
            change(&fun);
            tokio::time::timeout(Duration::from_secs(2), watch.changed())
                .await
                .unwrap()
                .unwrap();
        }
    });
}
