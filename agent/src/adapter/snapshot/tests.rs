//! A snapshot from its beginning to its removal, and what crashes leave in between.

use super::*;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

struct World {
    root: Root,
    dir: PathBuf,
    service: ServiceName,
}

impl World {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("dagger-store-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("state/logs")).unwrap();
        let dir = dir.canonicalize().unwrap();
        fs::write(dir.join("state/sonarr.db"), "old").unwrap();
        fs::write(dir.join("state/logs/1"), "log").unwrap();
        Self {
            root: Root::new(&dir),
            service: ServiceName::parse("sonarr").unwrap(),
            dir,
        }
    }

    fn store(&self) -> Store {
        Store::new(&self.root)
    }

    fn state(&self) -> Tree {
        Tree::open(&self.dir.join("state")).unwrap()
    }

    fn label(when: u64) -> Label {
        Label {
            service: "sonarr".into(),
            when,
            why: "migrate".into(),
            roles: BTreeMap::from([("state".into(), "/var/lib/nixarr/sonarr".into())]),
            ..Label::default()
        }
    }

    fn make(&self, id: &str, when: u64) -> Snapshot {
        let (options, progress) = (Options::default(), Progress::default());
        let draft = self.store().begin(&self.service, id, &progress).unwrap();
        draft.copy("state", &self.state(), &options, &progress).unwrap();
        draft.finish(Self::label(when)).unwrap()
    }

    fn home(&self) -> Vec<String> {
        let names = fs::read_dir(self.dir.join("var/lib/dagger/snapshots/sonarr")).unwrap();
        let mut names: Vec<_> = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[test]
fn from_the_first_copy_to_the_restore() {
    let world = World::new("whole");
    let progress = Progress::default();
    let options = Options {
        leave_out: vec!["logs".into()],
        ..Options::default()
    };
    let draft = world.store().begin(&world.service, "a-1", &progress).unwrap();
    draft.copy("state", &world.state(), &options, &progress).unwrap();
    // Another process goes on, after the service was stopped.
    fs::write(world.dir.join("state/sonarr.db"), "last words").unwrap();
    assert!(
        world.store().list(&world.service).unwrap().0.is_empty(),
        "a draft is listed"
    );
    let draft = world.store().resume(&world.service, "a-1").unwrap().unwrap();
    draft
        .refresh("state", &world.state(), &options, &progress)
        .unwrap();
    let made = draft.finish(World::label(7)).unwrap();
    assert_eq!((made.label.files, made.label.bytes), (1, 10));
    let found = world.store().find(&world.service, "a-1").unwrap();
    assert_eq!(found, made);
    assert_eq!(
        world.store().services().unwrap(),
        std::slice::from_ref(&world.service)
    );
    assert!(!found.is_sealed().unwrap());
    assert!(found.seal(&options, &progress).unwrap()["state"].is_good());
    assert!(found.is_sealed().unwrap());
    let verdict = &found.verify(&options, &progress).unwrap()["state"];
    assert_eq!((verdict.files, verdict.unsealed, verdict.damaged), (1, 0, 0));

    fs::write(world.dir.join("state/sonarr.db"), "the new world's").unwrap();
    found
        .restore("state", &world.state(), &Options::default(), &progress)
        .unwrap();
    assert_eq!(
        fs::read_to_string(world.dir.join("state/sonarr.db")).unwrap(),
        "last words"
    );
    assert_eq!(fs::read_to_string(world.dir.join("state/logs/1")).unwrap(), "log");
    let bits = fs::metadata(world.dir.join("var/lib/dagger/snapshots"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(bits & 0o7777, 0o700);
}

#[test]
fn a_copy_that_was_cut_off_is_never_taken_for_whole() {
    let world = World::new("cut");
    let (options, progress) = (Options::default(), Progress::default());
    let draft = world.store().begin(&world.service, "a", &progress).unwrap();
    draft.copy("state", &world.state(), &options, &progress).unwrap();
    let stopped = Progress::default();
    stopped.stop();
    fs::write(world.dir.join("state/sonarr.db"), "changed").unwrap();
    assert!(
        draft
            .refresh("state", &world.state(), &options, &stopped)
            .is_err()
    );
    let error = draft
        .refresh("state", &world.state(), &options, &progress)
        .unwrap_err();
    assert!(matches!(error, SnapshotError::Unfinished { .. }), "{error}");
    let error = draft.finish(World::label(1)).unwrap_err().to_string();
    assert!(
        error.contains("no finished copy of its directory state"),
        "{error}"
    );
    assert!(world.store().list(&world.service).unwrap().0.is_empty());
    // Begun again it is made again.
    world.make("a", 1);
    let error = world.store().begin(&world.service, "a", &progress).unwrap_err();
    assert!(matches!(error, SnapshotError::Exists { .. }), "{error}");
}

#[test]
fn what_crashes_left_is_swept_and_what_is_being_made_stays() {
    let world = World::new("sweep");
    let progress = Progress::default();
    for (id, made) in [("second", 2), ("first", 1)] {
        world.make(id, made);
    }
    for id in ["mine", "left"] {
        world.store().begin(&world.service, id, &progress).unwrap();
    }
    fs::create_dir_all(world.dir.join("var/lib/dagger/snapshots/sonarr/.gone-x/data")).unwrap();
    world.store().sweep(&world.service, &["mine"], &progress).unwrap();
    assert_eq!(world.home(), [".new-mine", "first", "second"]);
    let (listed, errors) = world.store().list(&world.service).unwrap();
    assert!(errors.is_empty());
    let ids: Vec<_> = listed.iter().map(|snapshot| snapshot.id.as_str()).collect();
    assert_eq!(ids, ["first", "second"]);
    for id in ["first", "mine", "never"] {
        world.store().delete(&world.service, id, &progress).unwrap();
    }
    assert_eq!(world.home(), ["second"]);
    assert!(matches!(
        world.store().find(&world.service, "first"),
        Err(SnapshotError::None { .. })
    ));
}

#[test]
fn a_name_leads_nowhere_else() {
    let world = World::new("names");
    let progress = Progress::default();
    for id in ["", ".", "..", "a/b", "../x", ".new-a", "a\n", &"a".repeat(65)] {
        let error = world.store().begin(&world.service, id, &progress).unwrap_err();
        assert!(matches!(error, SnapshotError::Name(_)), "{id:?}");
        assert!(
            world.store().delete(&world.service, id, &progress).is_err(),
            "{id:?}"
        );
    }
}
