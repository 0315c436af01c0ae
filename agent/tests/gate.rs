//! The gate before the start, as a unit uses it: called with the words that the generator writes, below a root of its own.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod gate_support;

use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};
use std::time::Duration;

use gate_support::Machine;

fn root_runs_this() -> bool {
    let root = std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0);
    if !root {
        eprintln!("skipped: only root can give directories away");
    }
    root
}

#[test]
fn a_first_start_makes_what_is_missing() {
    if !root_runs_this() {
        return;
    }
    let machine = Machine::new("first");
    let done = machine.run(&[
        "pre",
        "--service=jellyfin",
        "--owner=568:569",
        "--state=/var/lib/nixarr/jellyfin/config",
        "--state=/var/lib/nixarr/jellyfin/data",
        "--device=-/dev/dri",
    ]);
    assert_eq!((done.code, done.told.as_str()), (0, ""), "{}", done.said);
    let env = machine.read("run/dagger/gate/jellyfin.env");
    assert_eq!(
        env,
        "DAGGER_UID=568\nDAGGER_GID=569\nDAGGER_DEVICE_ARGS=\"\"\nDAGGER_STATE_DIR=\"/var/lib/nixarr/jellyfin/config\"\n"
    );
    for dir in ["config", "data"] {
        let meta = std::fs::metadata(machine.root.join("var/lib/nixarr/jellyfin").join(dir)).unwrap();
        assert_eq!(
            (meta.uid(), meta.gid(), meta.mode() & 0o7777),
            (568, 569, 0o750),
            "{dir}"
        );
    }
    let parent = std::fs::metadata(machine.root.join("var/lib/nixarr/jellyfin")).unwrap();
    assert_eq!((parent.uid(), parent.mode() & 0o7777), (0, 0o755));
    assert!(
        done.said
            .contains("made the state directory /var/lib/nixarr/jellyfin/data for 568:569")
    );
}

/// nixarr#86: one application has another group; docker-plex#78: chown at each start. Who is there stays.
#[test]
fn nixarr_86_the_owner_of_the_data_runs_the_service() {
    if !root_runs_this() {
        return;
    }
    let machine = Machine::new("adopt");
    let state = machine.root.join("s/sonarr");
    std::fs::create_dir_all(&state).unwrap();
    std::fs::write(state.join("sonarr.db"), "").unwrap();
    std::os::unix::fs::chown(&state, Some(274), Some(169)).unwrap();
    let words = ["pre", "--service=sonarr", "--owner=568:568", "--state=/s/sonarr"];
    assert_eq!(machine.run(&words).code, 0);
    assert!(
        machine
            .read("run/dagger/gate/sonarr.env")
            .starts_with("DAGGER_UID=274\nDAGGER_GID=169\n")
    );

    let mut explicit = words.to_vec();
    explicit.push("--uid-explicit");
    let done = machine.run(&explicit);
    assert_eq!(done.code, 1);
    assert!(
        done.told
            .starts_with("STATUS=/s/sonarr belongs to 274:169, but `user` of sonarr says 568"),
        "{}",
        done.told
    );
    assert_eq!(
        std::fs::metadata(&state).unwrap().uid(),
        274,
        "nothing is chowned"
    );

    std::fs::create_dir_all(machine.root.join("var/lib/dagger/owner")).unwrap();
    std::fs::write(
        machine.root.join("var/lib/dagger/owner/sonarr"),
        "DAGGER_UID=9\nDAGGER_GID=8\n",
    )
    .unwrap();
    let done = machine.run(&words);
    assert_eq!(done.code, 1);
    assert!(
        done.told.starts_with(
            "STATUS=/s/sonarr belongs to 274:169, but sonarr runs as 9:8 (marker /var/lib/dagger/owner/sonarr)"
        ),
        "{}",
        done.told
    );

    std::os::unix::fs::chown(&state, Some(9), Some(8)).unwrap();
    assert_eq!(machine.run(&words).code, 0);
    assert!(
        machine
            .read("run/dagger/gate/sonarr.env")
            .starts_with("DAGGER_UID=9\nDAGGER_GID=8\n")
    );
}

/// docker-plex#78: an image gives all that it finds to the user that it is told. A place of root's is no licence for it.
#[test]
fn docker_plex_78_what_lies_in_a_directory_of_roots_names_the_user() {
    if !root_runs_this() {
        return;
    }
    let machine = Machine::new("roots");
    let state = machine.root.join("s/sonarr");
    std::fs::create_dir_all(&state).unwrap();
    let words = [
        "pre",
        "--service=sonarr",
        "--owner=568:568",
        "--gid-explicit",
        "--state=/s/sonarr",
    ];
    let file = |name: &str, uid| {
        std::fs::write(state.join(name), "").unwrap();
        std::os::unix::fs::lchown(state.join(name), Some(uid), Some(568)).unwrap();
    };
    file("backup.zip", 0);
    let done = machine.run(&words);
    assert!(
        done.said
            .contains("/s/sonarr and all that lies in it belongs to root"),
        "{}",
        done.said
    );
    file("sonarr.db", 275);
    assert_eq!(machine.run(&words).code, 0);
    assert!(
        machine
            .read("run/dagger/gate/sonarr.env")
            .starts_with("DAGGER_UID=275\nDAGGER_GID=568\n")
    );
    file("config.xml", 276);
    let done = machine.run(&words);
    assert_eq!(done.code, 1);
    assert!(
        done.said.contains("holds files of several users (275, 276)"),
        "{}",
        done.said
    );
    assert_eq!(std::fs::metadata(&state).unwrap().uid(), 0);
}

/// A disk that is not mounted: the application must not begin anew in the place where it belongs.
#[test]
fn state_that_is_gone_is_not_begun_anew() {
    let machine = Machine::new("gone");
    let owner = std::fs::metadata(&machine.root).unwrap();
    let marker = machine.root.join("var/lib/dagger/owner/sonarr");
    std::fs::create_dir_all(marker.parent().unwrap()).unwrap();
    let text = format!("DAGGER_UID={}\nDAGGER_GID={}\n", owner.uid(), owner.gid());
    std::fs::write(&marker, &text).unwrap();
    let configured = format!("--owner={}:{}", owner.uid(), owner.gid());
    let words = ["pre", "--service=sonarr", &configured, "--state=/s/sonarr"];
    let refused = || {
        let done = machine.run(&words);
        assert_eq!(done.code, 1);
        assert!(
            done.told
                .starts_with("STATUS=/s/sonarr is empty or not there, but sonarr kept its data there")
                && done.told.contains("(rm /var/lib/dagger/owner/sonarr)"),
            "{}",
            done.told
        );
    };
    refused();
    assert!(!machine.root.join("s").exists(), "nothing is made");
    std::fs::create_dir_all(machine.root.join("s/sonarr/lost+found")).unwrap();
    refused();
    std::fs::write(machine.root.join("s/sonarr/sonarr.db"), "").unwrap();
    assert_eq!(machine.run(&words).code, 0);

    // An application that keeps nothing is not asked for what it never had.
    std::fs::remove_file(machine.root.join("s/sonarr/sonarr.db")).unwrap();
    std::fs::write(&marker, format!("{text}DAGGER_STATE=unused\n")).unwrap();
    assert_eq!(machine.run(&words).code, 0, "{}", machine.run(&words).said);
    // To begin anew is a decision, and so it is made.
    std::fs::remove_file(&marker).unwrap();
    assert_eq!(machine.run(&words).code, 0);
}

/// nixflix#160: a directory without the execute right for the application's user looks empty, and nobody says why.
#[test]
fn nixflix_160_a_directory_that_the_user_cannot_enter_is_named() {
    if !root_runs_this() {
        return;
    }
    let machine = Machine::new("enter");
    let media = machine.root.join("above/fun");
    std::fs::create_dir_all(&media).unwrap();
    let mode = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    };
    mode(&media, 0o754);
    let words = [
        "pre",
        "--service=sonarr",
        "--owner=568:569",
        "--state=/s/sonarr",
        "--need=/above/fun",
    ];
    let done = machine.run(&words);
    assert_eq!(done.code, 0, "{}", done.said);
    let says = "/above/fun cannot be entered by 568:569, as which sonarr runs";
    assert!(done.said.contains(says), "{}", done.said);
    assert!(!done.said.contains("/s/sonarr cannot"), "{}", done.said);
    // By its group; and what lies above on the host is not on the way inside.
    std::os::unix::fs::chown(&media, None, Some(569)).unwrap();
    mode(&media, 0o750);
    mode(media.parent().unwrap(), 0o700);
    assert!(!machine.run(&words).said.contains("cannot be entered"));
}

/// nixarr#35: a missing directory must be named before systemd says 226/NAMESPACE, and all that is wrong at once.
#[test]
fn nixarr_35_everything_that_is_missing_is_named_and_nothing_is_made() {
    let machine = Machine::new("missing");
    let done = machine.run(&[
        "pre",
        "--service=sonarr",
        "--owner=568:568",
        "--state=/s/sonarr",
        "--need=/fun",
        "--need=/fun/.incomplete",
        "--device=/dev/dri",
        "--netns=/run/netns/dagger-is-not-there",
        "--claim=tcp:1",
    ]);
    assert_eq!(done.code, 1);
    for part in [
        "/fun, which sonarr",
        "/fun/.incomplete, which",
        "/dev/dri of sonarr",
        "/run/netns/dagger-is-not-there",
    ] {
        assert!(
            done.said.contains(part) && done.told.contains(part),
            "{part}: {}",
            done.said
        );
    }
    assert!(!machine.root.join("s").exists());
    assert!(!machine.root.join("run").exists());
}

#[test]
fn a_link_in_the_way_to_the_state_is_refused() {
    let machine = Machine::new("link");
    std::fs::create_dir(machine.root.join("elsewhere")).unwrap();
    symlink("elsewhere", machine.root.join("s")).unwrap();
    let done = machine.run(&["pre", "--service=sonarr", "--owner=568:568", "--state=/s/sonarr"]);
    assert_eq!(done.code, 1);
    assert!(
        done.said.contains("is a symbolic link to elsewhere"),
        "{}",
        done.said
    );
    assert_eq!(
        std::fs::read_dir(machine.root.join("elsewhere")).unwrap().count(),
        0
    );
}

/// freenet-core#3177: 174 restarts in 30 minutes, because nobody looked at the port first.
/// The unit was masked while it ran, so systemd did not know what to remove when it ended.
#[test]
fn the_id_of_an_earlier_container_is_not_in_the_way() {
    if !root_runs_this() {
        return;
    }
    let machine = Machine::new("cid");
    let dir = machine.root.join("run/dagger-sonarr");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("cid"), "d166d65cc81e").unwrap();
    let words = ["pre", "--service=sonarr", "--owner=568:568", "--state=/s/sonarr"];
    let done = machine.run(&words);
    assert_eq!(done.code, 0, "{}", done.said);
    assert!(!dir.join("cid").exists());
    assert!(
        done.said.contains("run/dagger-sonarr/cid was left by a run"),
        "{}",
        done.said
    );
    let again = machine.run(&words);
    assert!(!again.said.contains("cid"), "{}", again.said);
}

#[test]
fn a_taken_port_fails_at_once_and_names_the_process() {
    let machine = Machine::new("port");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = UdpSocket::bind("[::]:0").unwrap();
    let claim = format!("--claim=tcp:{}", listener.local_addr().unwrap().port());
    let other = format!("--claim=udp:{}", socket.local_addr().unwrap().port());
    let done = machine.run(&["pre", "--service=radarr", "--owner=568:568", &claim, &other]);
    assert_eq!(done.code, 1);
    assert!(done.took < Duration::from_secs(1), "{:?}", done.took);
    for part in [
        format!(
            "PID {}, listening on {}",
            std::process::id(),
            listener.local_addr().unwrap()
        ),
        format!(
            "PID {}, bound to *:{}",
            std::process::id(),
            socket.local_addr().unwrap().port()
        ),
        "which radarr needs, is taken by".into(),
    ] {
        assert!(
            done.said.contains(&part) && done.told.contains(&part),
            "{part}: {}",
            done.said
        );
    }
    drop((listener, socket));
    assert_eq!(
        machine
            .run(&["pre", "--service=radarr", "--owner=568:568", &claim, &other])
            .code,
        0
    );
}

/// podman alone would say that it has no such image, in words that lead nowhere.
#[test]
fn an_image_that_could_not_be_fetched_is_why_the_service_does_not_start() {
    let machine = Machine::new("no-image");
    let bin = machine.root.join("bin");
    std::fs::create_dir(&bin).unwrap();
    let program = |name: &str, text: &str| {
        let path = bin.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        path.display().to_string()
    };
    program("systemctl", "");
    let podman = program(
        "podman",
        "echo 'Error: reading manifest: manifest unknown' >&2; exit 125",
    );
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let podman = format!("--podman={podman}");
    let image = || {
        let words = [
            "image",
            "--service=sonarr",
            "--image=example.org/sonarr:1",
            &podman,
        ];
        machine.run_with(&words, &[("PATH", &path)])
    };
    let pre = || machine.run(&["pre", "--service=sonarr", "--owner=568:568", &podman]);
    assert_eq!(pre().code, 0, "nobody has tried");
    assert_eq!(image().code, 1);
    let done = pre();
    let why = "cannot fetch the image example.org/sonarr:1 of sonarr: reading manifest: manifest unknown: check the name";
    assert!(
        done.code == 1 && done.told.contains(&format!("STATUS={why}")),
        "{} {}",
        done.said,
        done.told
    );
    program(
        "podman",
        r#"echo '[{"Id": "1", "Digest": "", "Labels": {}, "Created": ""}]'"#,
    );
    let fetched = image();
    assert_eq!(fetched.code, 0, "{}", fetched.said);
    let done = pre();
    assert_eq!(done.code, 0, "it is here now: {}", done.said);
}

#[test]
fn words_that_nobody_writes_are_usage_errors() {
    let machine = Machine::new("usage");
    for words in [
        &["pre", "--owner=1:1"][..],
        &["pre", "--service=a/b", "--owner=1:1"],
        &["pre", "--service=x", "--owner=1"],
        &["pre", "--service=x", "--owner=1:1", "--claim=tcp:0"],
        &["pre", "--service=x", "--owner=1:1", "--frobnicate"],
        &["pre", "--service=x", "--owner"],
        &["post", "--service=x", "--budget=0", "--probe=tcp"],
        &["image", "--service=x", "--image=y", "--pull=sometimes"],
        &["frobnicate"],
        &[],
    ] {
        assert_eq!(machine.run(words).code, 2, "{words:?}");
    }
}

#[test]
fn a_broken_service_says_why() {
    let machine = Machine::new("refuse");
    let done = machine.run(&[
        "refuse",
        "--service=config-error",
        "--",
        "/etc/dagger/dagger.toml:3:1: unknown key",
    ]);
    assert_eq!(done.code, 78);
    assert_eq!(
        done.said,
        "config-error: /etc/dagger/dagger.toml:3:1: unknown key\n"
    );
    assert_eq!(
        done.told,
        "STATUS=config-error: /etc/dagger/dagger.toml:3:1: unknown key\n"
    );
}

/// A gate that carried the bus along would be three times as large, and slower to start, six times at each boot.
#[test]
fn the_gate_links_no_bus() {
    let Ok(output) = std::process::Command::new("nm")
        .arg(env!("CARGO_BIN_EXE_dagger-gate"))
        .output()
    else {
        eprintln!("skipped: no nm(1) here");
        return;
    };
    let symbols = String::from_utf8_lossy(&output.stdout);
    if symbols.contains("dagger_gate") {
        assert!(!symbols.lines().any(|line| line.contains("zbus")));
    } else {
        eprintln!("skipped: this build has no symbols");
    }
}
