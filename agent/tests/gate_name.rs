//! The container's name, with a store as podman writes it and a podman that is played.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

#[allow(dead_code, reason = "nothing is read back here")]
mod gate_support;
#[path = "gate_support/program.rs"]
mod program;

use gate_support::{Done, Machine};
use program::program;

const LIST: &str =
    r#"[{"id":"52b634170277dc82ff","names":["dagger-sonarr"],"created":"2026-11-28T07:46:27.74777614Z"}]"#;

/// A machine whose store has a container of our name, in the list as `list` says.
fn machine(name: &str, list: &str) -> Machine {
    let machine = Machine::new(name);
    for (file, text) in [
        (
            "etc/containers/storage.conf",
            "[storage]\ndriver = \"vfs\"\ngraphroot = \"/srv/store\"\n",
        ),
        ("srv/store/vfs-containers/containers.json", list),
    ] {
        let path = machine.root.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    machine
}

fn pre(machine: &Machine, script: &str) -> Done {
    let podman = format!("--podman={}", program(&machine.root.join("program"), script));
    machine.run(&["pre", "--service=sonarr", &podman])
}

#[test]
fn whoever_made_the_container_decides_before_any_image_is_known() {
    let machine = machine("name-whose", LIST);
    let done = pre(&machine, "echo 'dagger-sonarr.service|x:1'");
    assert_eq!(
        (done.code, done.said.as_str()),
        (0, ""),
        "what a crash left of ours"
    );
    for (says, who) in [
        ("'|x:1'", "no unit of systemd's made it"),
        ("'<no value>|x:1'", "no unit of systemd's made it"),
        ("'mine.service|x:1'", "mine.service made it"),
    ] {
        let done = pre(&machine, &format!("echo {says}"));
        assert_eq!(done.code, 1);
        assert!(
            done.said
                .contains("the container 52b634170277 (image x:1, of 2026-11-28")
                && done.said.contains(who)
                && done.said.contains("podman rename dagger-sonarr NEWNAME"),
            "{}",
            done.said
        );
    }
}

/// `podman run --replace` removes what has the name: where nobody can say whose it is, nothing is started.
#[test]
fn a_container_that_podman_cannot_tell_of_is_not_replaced() {
    let machine = machine("name-untold", LIST);
    for (script, why) in [
        // A lock that cannot be had, a database that is damaged: both commands fail.
        (
            "echo 'Error: database is locked' >&2; exit 125",
            "(database is locked)",
        ),
        (
            "[ $1 = inspect ] && exit 125 || exit 0",
            "(podman gave no reason)",
        ),
        ("echo nonsense", "(its answer is not understood)"),
    ] {
        let done = pre(&machine, script);
        assert_eq!(done.code, 1, "{script}");
        assert!(
            done.said.contains("may have the name dagger-sonarr")
                && done.said.contains(why)
                && done.told.contains("podman rm --force dagger-sonarr"),
            "{}",
            done.said
        );
    }
    let done = machine.run(&["pre", "--service=sonarr", "--podman=/nowhere/podman"]);
    assert!(
        done.code == 1 && done.said.contains("cannot run /nowhere/podman"),
        "{}",
        done.said
    );
    // It has gone meanwhile, or only its line is left: podman replaces nobody.
    let done = pre(&machine, "[ $1 = inspect ] && exit 125 || exit 1");
    assert_eq!((done.code, done.said.as_str()), (0, ""));
}

#[test]
fn a_list_that_cannot_be_read_is_asked_of_podman() {
    let machine = machine("name-unread", "[{");
    let done = pre(
        &machine,
        "[ \"$*\" = 'container exists dagger-sonarr' ] && exit 1",
    );
    assert_eq!((done.code, done.said.as_str()), (0, ""), "nobody has the name");
    for script in ["exit 0", "exit 125"] {
        let done = pre(&machine, script);
        assert_eq!(done.code, 1);
        assert!(
            done.said
                .contains("vfs-containers/containers.json cannot be read"),
            "{}",
            done.said
        );
    }
}
