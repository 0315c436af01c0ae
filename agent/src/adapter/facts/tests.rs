//! Native installs as they lie on a disk, from the look to the plan.

use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::PathBuf;

use rusqlite::Connection;

use super::*;
use crate::adapter::apart;
use crate::domain::plan::finding::Code;
use crate::domain::plan::plan;

struct Ground {
    dir: PathBuf,
    root: Root,
}

impl Ground {
    fn new(name: &str, service: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("dagger-facts-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        let dir = dir.canonicalize().unwrap();
        let root = Root::new(&dir);
        let this = Self { dir, root };
        this.write(
            "/etc/dagger/dagger.toml",
            &format!("[suite]\nmedia = \"/fun\"\nstate = \"/var/lib/nixarr\"\n{service}\n"),
        );
        this.write("/fun/tv/a/a.mkv", "");
        for empty in ["/space", "/proc"] {
            std::fs::create_dir_all(this.root.join(empty)).unwrap();
        }
        this
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn service(&self) -> Service {
        let loaded = dagger_suite::load(&self.root);
        loaded.suite.services.into_iter().next().unwrap()
    }

    fn look(&self, unit: &Unit) -> (Service, Facts) {
        let service = self.service();
        let facts = look(&Subject {
            root: &self.root,
            service: &service,
            unit: Some(unit),
            image: None,
            snapshots: "/var/lib/dagger/snapshots",
            space: Some(&self.root.join("/space")),
        });
        (service, facts)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn unit(name: &str, argv: &str) -> Unit {
    Unit {
        name: name.into(),
        fragment: format!("/usr/lib/systemd/system/{name}"),
        active_state: "active".into(),
        argv: argv.split(' ').map(str::to_owned).collect(),
        ..Unit::default()
    }
}

fn codes(service: &Service, facts: &Facts) -> Vec<Code> {
    plan(service, facts)
        .blockers
        .iter()
        .map(|blocker| blocker.code)
        .collect()
}

/// transmission-daemon of Debian 12, as its package lays it out.
#[test]
fn debians_transmission_from_the_disk_to_the_plan() {
    let state = "/var/lib/transmission-daemon/.config/transmission-daemon";
    let more = "[services.transmission]\nnative = \"transmission-daemon.service\"";
    let ground = Ground::new("debian", more);
    ground.write(
        "/etc/transmission-daemon/settings.json",
        r#"{"download-dir": "/var/lib/transmission-daemon/downloads", "rpc-port": 9091, "rpc-bind-address": "0.0.0.0"}"#,
    );
    ground.write("/var/lib/transmission-daemon/downloads/x", "");
    ground.write(&format!("{state}/torrents/a.torrent"), "");
    ground.write(
        &format!("{state}/resume/a.resume"),
        "d11:destination10:/fun/movese",
    );
    symlink(
        "../../../../../etc/transmission-daemon/settings.json",
        ground.root.join(format!("{state}/settings.json")),
    )
    .unwrap();
    symlink(
        ".config/transmission-daemon",
        ground.root.join("/var/lib/transmission-daemon/info"),
    )
    .unwrap();
    ground.write(
        "/etc/passwd",
        "debian-transmission:x:106:112::/var/lib/transmission-daemon:/bin/false\n",
    );
    let mut native = unit(
        "transmission-daemon.service",
        "/usr/bin/transmission-daemon -f --log-error",
    );
    native.user = "debian-transmission".into();
    let (service, facts) = ground.look(&native);
    assert_eq!(facts.unknown, [""; 0]);
    assert_eq!(facts.places[0].path, state);
    assert_eq!(facts.library.items.get("torrents"), Some(&1));
    assert_eq!(
        codes(&service, &facts),
        [Code::StateElsewhere, Code::HiddenLink, Code::HiddenPath],
        "{:#?}",
        plan(&service, &facts).blockers
    );
    // What the plan says is written down, and it is let through.
    let volumes = "[{ source = \"/etc/transmission-daemon\" }, { source = \"/var/lib/transmission-daemon/downloads\" }]";
    ground.write(
        "/etc/dagger/dagger.toml",
        &format!("[suite]\nmedia = \"/fun\"\n{more}\nstate = \"{state}\"\nvolumes = {volumes}\n"),
    );
    let (service, facts) = ground.look(&native);
    assert_eq!(plan(&service, &facts).blockers, []);
}

#[test]
fn nixarrs_sonarr_from_the_disk_to_the_plan() {
    let ground = Ground::new("nixarr", "[services.sonarr]");
    let state = "/var/lib/nixarr/sonarr";
    ground.write(
        &format!("{state}/config.xml"),
        "<Config>\n  <BindAddress>*</BindAddress>\n</Config>\n",
    );
    let database = ground.root.join(format!("{state}/sonarr.db"));
    let connection = Connection::open(&database).unwrap();
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; CREATE TABLE VersionInfo (Version INTEGER); INSERT INTO VersionInfo VALUES (217);
             CREATE TABLE RootFolders (Id INTEGER PRIMARY KEY, Path TEXT); INSERT INTO RootFolders (Path) VALUES ('/fun/tv/');
             CREATE TABLE Series (Id INTEGER PRIMARY KEY, Path TEXT); INSERT INTO Series (Path) VALUES ('/fun/tv/a'), ('/mnt/b');",
        )
        .unwrap();
    drop(connection);
    let native = unit(
        "sonarr.service",
        &format!("/nix/store/x/bin/Sonarr -nobrowser -data={state}"),
    );
    let (service, facts) = ground.look(&native);
    assert_eq!(facts.unknown, [""; 0]);
    assert_eq!(facts.databases[0].integrity, Integrity::Good);
    assert_eq!(facts.library.items.get("series"), Some(&2));
    assert_eq!(facts.library.roots.get("/fun/tv/"), Some(&true));
    assert_eq!(
        facts.places[0].owner.uid,
        std::fs::metadata(&database).unwrap().uid()
    );
    assert_eq!(
        codes(&service, &facts),
        [Code::HiddenPath],
        "/mnt is not mounted inside"
    );
    assert_eq!(std::fs::read_dir(ground.root.join("/space")).unwrap().count(), 0);
}

/// It was damaged before, and that is found before anybody can be blamed.
#[test]
fn sonarr_5924_damage_is_found_on_the_disk() {
    let ground = Ground::new("damage", "[services.sonarr]");
    ground.write(
        "/var/lib/nixarr/sonarr/sonarr.db",
        &"this is no database at all".repeat(400),
    );
    let native = unit(
        "sonarr.service",
        "/opt/Sonarr/Sonarr -data=/var/lib/nixarr/sonarr",
    );
    let (service, facts) = ground.look(&native);
    assert_eq!(codes(&service, &facts), [Code::Damaged], "{:?}", facts.databases);
}

/// What would stand in the way of Sonarr's migration, as it lies on this disk.
fn sonarrs(ground: &Ground) -> (Facts, Vec<Code>) {
    let (service, facts) = ground.look(&unit(
        "sonarr.service",
        "/opt/Sonarr/Sonarr -data=/var/lib/nixarr/sonarr",
    ));
    let codes = codes(&service, &facts);
    (facts, codes)
}

/// Whether a share is one is told by the kind of its file system.
#[test]
fn sonarr_3051_the_file_system_that_the_state_lies_on_is_known() {
    let name = "adapter::facts::tests::sonarr_3051_the_file_system_that_the_state_lies_on_is_known";
    if !apart::apart(name) {
        return;
    }
    let ground = Ground::new("system", "[services.sonarr]");
    let state = ground.root.join("/var/lib/nixarr/sonarr");
    std::fs::create_dir_all(&state).unwrap();
    assert!(apart::run("mount", &["-t", "ramfs", "none"], &state));
    ground.write("/var/lib/nixarr/sonarr/config.xml", "<Config></Config>\n");
    let (facts, codes) = sonarrs(&ground);
    let system = &facts.places[0].system;
    assert_eq!(
        (system.kind.as_str(), system.mount.as_str()),
        ("ramfs", "/var/lib/nixarr/sonarr")
    );
    assert_eq!(codes, []);
    assert!(apart::run("umount", &[], &state));
}

#[test]
fn radarr_3128_media_that_is_away_empty_or_read_only_is_seen_as_such() {
    let name = "adapter::facts::tests::radarr_3128_media_that_is_away_empty_or_read_only_is_seen_as_such";
    if !apart::apart(name) {
        return;
    }
    let ground = Ground::new("media", "[services.sonarr]");
    ground.write("/var/lib/nixarr/sonarr/config.xml", "<Config></Config>\n");
    let seen = || {
        let (facts, codes) = sonarrs(&ground);
        let media = facts.media.into_iter().next().unwrap();
        (media.state, media.system.kind, codes)
    };
    let (state, below, codes) = seen();
    assert_eq!((state, codes), (MediaState::Good, vec![]));
    let fun = ground.root.join("/fun");
    assert!(apart::run("mount", &["-t", "ramfs", "none"], &fun));
    std::fs::write(fun.join(".keep"), "").unwrap();
    let ramfs = "ramfs".to_owned();
    assert_eq!(seen(), (MediaState::Empty, ramfs, vec![Code::MediaMissing]));
    assert!(apart::run("umount", &[], &fun));
    assert!(apart::run("mount", &["-t", "tmpfs", "none"], &fun));
    std::fs::write(fun.join("film.mkv"), "").unwrap();
    assert_eq!(seen(), (MediaState::Good, "tmpfs".to_owned(), vec![]));
    assert!(apart::run("mount", &["-o", "remount,ro"], &fun));
    let read_only = (
        MediaState::ReadOnly,
        "tmpfs".to_owned(),
        vec![Code::MediaReadOnly],
    );
    assert_eq!(seen(), read_only);
    assert!(apart::run("mount", &["-o", "remount,rw"], &fun));
    // A bind mount may be read-only although its file system is not; this process's own view, a sandbox, does not count.
    assert!(apart::run("mount", &["-o", "remount,bind,ro"], &fun));
    assert_eq!(seen(), (MediaState::Good, "tmpfs".to_owned(), vec![]));
    ground.write(
        "/proc/1/mountinfo",
        &std::fs::read_to_string("/proc/self/mountinfo").unwrap(),
    );
    assert_eq!(seen(), read_only);
    assert!(apart::run("umount", &[], &fun));
    std::fs::remove_dir_all(&fun).unwrap();
    assert_eq!(seen(), (MediaState::Missing, below, vec![Code::MediaMissing]));
}
