//! `units/install` into a directory: everything in its place, a second run changes nothing, and what was installed goes
//! away again without a trace, while what others put there stays.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, helpers outside of test functions included"
)]

#[path = "client/world.rs"]
#[allow(dead_code, reason = "only parts of the shared world are needed here")]
mod world;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use world::{World, run};

struct Target {
    world: World,
}

impl Target {
    fn new(name: &str) -> Self {
        let world = World::new(name);
        for program in [
            "dagger-generator",
            "dagger-agent",
            "dagger-gate",
            "dagger-alert",
            "dagger-well",
            "dagger-job",
            "daggerctl",
        ] {
            fs::write(world.dir.join("bin").join(program), program).unwrap();
        }
        Self { world }
    }

    fn dest(&self) -> PathBuf {
        self.world.dir.join("package root")
    }

    fn install(&self, words: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../units/install"));
        command
            .arg("--destdir")
            .arg(self.dest())
            .arg("--programs")
            .arg(self.world.dir.join("bin"))
            .args(words);
        run(&mut command)
    }

    /// Every path below the destination, without it.
    fn tree(&self) -> BTreeSet<String> {
        fn walk(dir: &Path, base: &Path, into: &mut BTreeSet<String>) {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                let path = entry.path();
                into.insert(path.strip_prefix(base).unwrap().to_string_lossy().into_owned());
                if entry.file_type().unwrap().is_dir() {
                    walk(&path, base, into);
                }
            }
        }
        let mut tree = BTreeSet::new();
        walk(&self.dest(), &self.dest(), &mut tree);
        tree
    }
}

#[test]
fn everything_in_its_place_twice_and_away_again() {
    let target = Target::new("install");
    let (code, out, err) = target.install(&[]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let tree = target.tree();
    for path in [
        "usr/bin/daggerctl",
        "usr/bin/nixarr-migrate",
        "usr/lib/systemd/system-generators/dagger-generator",
        "usr/libexec/dagger/dagger-agent",
        "usr/libexec/dagger/dagger-gate",
        "usr/libexec/dagger/dagger-alert",
        "usr/libexec/dagger/dagger-well",
        "usr/libexec/dagger/dagger-job",
        "usr/lib/tmpfiles.d/dagger.conf",
        "usr/lib/sysusers.d/dagger.conf",
        "usr/share/doc/dagger/dagger.toml.example",
    ] {
        assert!(tree.contains(path), "{path} is missing");
    }
    let link = fs::read_link(target.dest().join("usr/bin/nixarr-migrate")).unwrap();
    assert_eq!(link, Path::new("daggerctl"));
    let mode = |path: &str| {
        fs::metadata(target.dest().join(path))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(
        (mode("usr/bin/daggerctl"), mode("usr/lib/tmpfiles.d/dagger.conf")),
        (0o755, 0o644)
    );
    assert!(out.contains("  new      /usr/bin/daggerctl\n"), "{out}");

    let (code, out, _) = target.install(&[]);
    assert_eq!(code, 0);
    assert!(out.contains("Nothing to change"), "{out}");
    assert!(!out.contains("  new") && !out.contains("  changed"), "{out}");

    let config = target.dest().join("etc/dagger/dagger.toml");
    let foreign = target.dest().join("usr/lib/tmpfiles.d/other.conf");
    fs::create_dir_all(config.parent().unwrap()).unwrap();
    fs::write(&config, "").unwrap();
    fs::write(&foreign, "").unwrap();
    let (code, out, _) = target.install(&["--uninstall"]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("Left alone"), "{out}");
    let left = [
        "etc",
        "etc/dagger",
        "etc/dagger/dagger.toml",
        "usr",
        "usr/lib",
        "usr/lib/tmpfiles.d",
        "usr/lib/tmpfiles.d/other.conf",
    ];
    assert_eq!(target.tree(), left.map(String::from).into());
    assert_eq!(
        target.install(&["--uninstall"]).0,
        1,
        "there is nothing to remove any more"
    );
}

#[test]
fn an_update_replaces_what_differs_and_removes_what_is_gone() {
    let target = Target::new("update");
    target.install(&[]);
    // As an earlier version would have left it.
    let manifest = target.dest().join("usr/share/dagger/manifest");
    let old = fs::read_to_string(&manifest).unwrap() + "f /usr/lib/systemd/system/dagger-old.service\n";
    fs::write(&manifest, old).unwrap();
    let gone = target.dest().join("usr/lib/systemd/system/dagger-old.service");
    fs::create_dir_all(gone.parent().unwrap()).unwrap();
    fs::write(&gone, "").unwrap();
    fs::write(target.dest().join("usr/bin/daggerctl"), "old").unwrap();
    let (code, out, _) = target.install(&[]);
    assert_eq!(code, 0);
    assert!(out.contains("  changed  /usr/bin/daggerctl\n"), "{out}");
    assert!(
        out.contains("  removed  /usr/lib/systemd/system/dagger-old.service\n"),
        "{out}"
    );
    assert!(!gone.exists());
    assert_eq!(
        fs::read_to_string(target.dest().join("usr/bin/daggerctl")).unwrap(),
        "daggerctl"
    );
}

#[test]
fn pages_come_from_the_program_that_makes_them() {
    let target = Target::new("pages");
    assert!(
        target.install(&[]).1.contains("No manual pages and completions"),
        "not even said"
    );
    let make = "mkdir -p \"$1/share/man/man1\" && echo page >\"$1/share/man/man1/x.1\"";
    target.world.script("dagger-docs", make);
    let (code, out, _) = target.install(&[]);
    assert!(
        code == 0 && out.contains("  new      /usr/share/man/man1/x.1\n"),
        "{out}"
    );
    assert!(!target.tree().contains("usr/bin/dagger-docs"));
    target.world.script("dagger-docs", "echo no room >&2; exit 1");
    let (code, _, err) = target.install(&[]);
    assert!(
        code == 1 && err.contains("no room") && err.contains("could not write"),
        "{err}"
    );
}

#[test]
fn missing_programs_are_named_and_nothing_is_changed() {
    let target = Target::new("missing");
    fs::remove_file(target.world.dir.join("bin/dagger-gate")).unwrap();
    let (code, _, err) = target.install(&[]);
    assert_eq!(code, 1);
    assert!(
        err.contains(": dagger-gate\n") && err.contains("units/build"),
        "{err}"
    );
    assert!(target.tree().is_empty());
}

#[test]
fn another_prefix_is_written_into_the_units() {
    let target = Target::new("prefix");
    let (code, out, _) = target.install(&["--prefix=/usr/local"]);
    assert_eq!(code, 0, "{out}");
    let tree = target.tree();
    assert!(tree.contains("usr/local/libexec/dagger/dagger-agent"));
    for path in tree.iter().filter(|path| path.ends_with(".service")) {
        let text = fs::read_to_string(target.dest().join(path)).unwrap();
        assert!(!text.contains("/usr/libexec/dagger"), "{path}: {text}");
    }
    // D-Bus and polkit do not look below /usr/local.
    let policy = |path: &str| path.ends_with(".policy") || path.contains("dbus-1/system.d/");
    for path in tree.iter().filter(|path| policy(path)) {
        assert!(
            path.starts_with("etc/") || path.starts_with("usr/share/"),
            "{path}"
        );
    }
    assert_eq!(target.install(&["--prefix=/usr/local", "--uninstall"]).0, 0);
    assert!(target.tree().is_empty(), "{:?}", target.tree());
}

#[test]
fn wrong_options_are_refused_before_anything_happens() {
    let target = Target::new("options");
    for words in [
        &["--prefix", "usr"][..],
        &["--prefix", "/a|b"],
        &["--prefix", "/../x"],
        &["--what"],
        &["--prefix"],
    ] {
        assert_eq!(target.install(words).0, 2, "{words:?}");
    }
    assert!(target.tree().is_empty());
}
