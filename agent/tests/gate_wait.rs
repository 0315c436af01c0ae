//! The gate's waits: for the application's answer, and for the image.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod gate_support;
#[path = "gate_support/program.rs"]
mod program;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use gate_support::Machine;
use program::program;

fn http(reply: &'static str, after: Duration) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let begin = Instant::now();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let body = if begin.elapsed() < after {
                "Degraded"
            } else {
                reply
            };
            let _ = stream.read(&mut [0; 1024]);
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
        }
    });
    port
}

/// dockmon#7: called failed after a constant time although the application was at work.
#[test]
fn dockmon_7_a_migration_is_waited_for_beyond_the_budget() {
    let machine = Machine::new("post");
    let port = format!("--port={}", http("Healthy", Duration::from_millis(1500)));
    let words = [
        "post",
        "--service=jellyfin",
        "--budget=1",
        "--write-marker",
        "--probe=jellyfin",
        &port,
        "--path=/health",
    ];
    let done = machine.run_with(&words, &[("DAGGER_UID", "274"), ("DAGGER_GID", "169")]);
    assert_eq!(done.code, 0, "{}", done.said);
    assert!(
        done.took > Duration::from_millis(1400) && done.took < Duration::from_secs(3),
        "{:?}",
        done.took
    );
    assert!(
        done.told
            .contains("STATUS=waiting for jellyfin: Degraded: Jellyfin is starting or migrating its data\n")
    );
    assert!(
        done.told.matches("EXTEND_TIMEOUT_USEC=").count() > 2,
        "{}",
        done.told
    );
    assert!(
        done.told
            .trim_end()
            .rsplit('\n')
            .next()
            .unwrap()
            .starts_with("STATUS=jellyfin answers: Healthy in ")
    );
    assert_eq!(
        machine.read("var/lib/dagger/owner/jellyfin"),
        "DAGGER_UID=274\nDAGGER_GID=169\n"
    );
    assert!(
        done.said.contains("belongs to the container from now on"),
        "{}",
        done.said
    );
}

#[test]
fn patience_has_an_end_that_says_the_last_answer() {
    let machine = Machine::new("patience");
    let port = format!("--port={}", http("Healthy", Duration::from_mins(1)));
    let words = [
        "post",
        "--service=jellyfin",
        "--budget=1",
        "--write-marker",
        "--probe=jellyfin",
        &port,
    ];
    let done = machine.run(&words);
    assert_eq!(done.code, 1);
    let took = done.took;
    assert!(
        took >= Duration::from_secs(6) && took < Duration::from_secs(8),
        "{took:?}"
    );
    assert!(
        done.told
            .contains("did not become ready within 6 s; the last answer: Degraded"),
        "{}",
        done.told
    );
    assert!(
        !machine.root.join("var").exists(),
        "no marker without a good answer"
    );
}

/// nixflix#236: a wait that failed with no reason.
#[test]
fn nixflix_236_the_last_probe_error_is_told() {
    let machine = Machine::new("budget");
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let done = machine.run(&[
        "post",
        "--service=sonarr",
        "--budget=1",
        "--probe=servarr",
        &format!("--port={port}"),
    ]);
    assert_eq!(done.code, 1);
    assert!(done.took < Duration::from_secs(2), "{:?}", done.took);
    let says = format!("the last answer: nobody listens on 127.0.0.1:{port}");
    assert!(
        done.said.contains(&says) && done.told.contains(&says),
        "{}",
        done.said
    );
    assert!(done.said.contains("journalctl -u dagger-sonarr.service"));
}

#[test]
fn the_end_of_the_main_process_ends_the_wait() {
    let machine = Machine::new("mainpid");
    let mut main = Command::new("sleep").arg("0.3").spawn().unwrap();
    let words = [
        "post",
        "--service=sonarr",
        "--budget=30",
        "--probe=servarr",
        "--port=1",
    ];
    let done = machine.run_with(&words, &[("MAINPID", &main.id().to_string())]);
    assert_eq!(done.code, 1);
    assert!(done.took < Duration::from_secs(2), "{:?}", done.took);
    assert!(
        done.told.contains("STATUS=sonarr ended before it answered"),
        "{}",
        done.told
    );
    main.wait().unwrap();
}

const INSPECT: &str = r#"[{"Id":"3f57","Digest":"sha256:9a","Created":"2026-11-24T07:39:00Z","Labels":{"org.opencontainers.image.version":"4.0"}}]"#;

#[test]
fn an_image_that_is_there_is_recorded_and_nothing_is_fetched() {
    let machine = Machine::new("image");
    let script = format!(
        "[ $3 = image ] && echo '{INSPECT}' || touch {}/pulled",
        machine.root.display()
    );
    let podman = format!("--podman={}", program(&machine.root.join("program"), &script));
    let done = machine.run(&[
        "image",
        "--service=sonarr",
        "--image=localhost/sonarr:1",
        "--pull=missing",
        &podman,
    ]);
    assert_eq!((done.code, done.said.as_str()), (0, ""));
    assert!(!machine.root.join("pulled").exists());
    let record = machine.read("run/dagger/image/sonarr");
    for part in [
        r#""reference": "localhost/sonarr:1""#,
        r#""digest": "sha256:9a""#,
        r#""version": "4.0""#,
    ] {
        assert!(record.contains(part), "{record}");
    }
}

/// An anonymous volume goes with the container, at each stop: an image that keeps data where nothing is mounted is refused,
/// also when it has been there for long.
#[test]
fn an_image_whose_data_would_be_lost_is_refused_each_time() {
    let machine = Machine::new("volumes");
    let inspect = INSPECT.replacen(
        r#""Id""#,
        r#""Config":{"Volumes":{"/data":{},"/config":{}}},"Id""#,
        1,
    );
    let podman = format!(
        "--podman={}",
        program(&machine.root.join("program"), &format!("echo '{inspect}'"))
    );
    let words = [
        "image",
        "--service=navidrome",
        "--image=x:1",
        "--pull=missing",
        "--covered=/config",
        &podman,
    ];
    for _ in 0..2 {
        let done = machine.run(&words);
        assert_eq!(done.code, 1);
        let says = "the image x:1 keeps data in /data, where nothing of navidrome is mounted: it would be lost at each stop";
        assert!(
            done.told.contains(says) && done.said.contains("state-target = \"/data\""),
            "{}",
            done.said
        );
    }
    let mut covered = words.to_vec();
    covered.push("--covered=/data");
    assert_eq!(machine.run(&covered).code, 0);
}

/// A registry that takes the connection and then says nothing must not hold a service whose image is there.
#[test]
fn a_fetch_that_stalls_holds_nobody_who_has_the_image() {
    let machine = Machine::new("stall");
    let script = format!("[ $3 = image ] && echo '{INSPECT}' || exec sleep 60");
    let podman = format!("--podman={}", program(&machine.root.join("program"), &script));
    for pull in ["--pull=newer", "--pull=always"] {
        let done = machine.run(&[
            "image",
            "--service=sonarr",
            "--image=x:1",
            pull,
            "--stall=1",
            &podman,
        ]);
        assert_eq!(done.code, 0, "{}", done.said);
        assert!(done.took < Duration::from_secs(10), "{:?}", done.took);
        assert!(
            done.said
                .contains("nothing came for 1 s; sonarr starts with the image that is here"),
            "{}",
            done.said
        );
    }
}

/// Starting podman takes tens of milliseconds of CPU, at each start of each service.
#[test]
fn podman_is_not_asked_twice_while_its_store_stands_still() {
    let machine = Machine::new("store");
    let list = machine.root.join("overlay-images/images.json");
    std::fs::create_dir(list.parent().unwrap()).unwrap();
    let change = || {
        std::fs::write(machine.root.join("new"), "[]").unwrap();
        let old = SystemTime::now() - Duration::from_secs(9);
        std::fs::File::open(machine.root.join("new"))
            .unwrap()
            .set_modified(old)
            .unwrap();
        std::fs::rename(machine.root.join("new"), &list).unwrap();
    };
    change();
    let driver = format!(
        r#""GraphDriver":{{"Name":"overlay","Data":{{"UpperDir":"{}/overlay/a/diff"}}}},"Id""#,
        machine.root.display()
    );
    let answer = INSPECT.replacen(r#""Id""#, &driver, 1);
    let podman = format!(
        "--podman={}",
        program(
            &machine.root.join("program"),
            &format!("echo >> {}/asked; echo '{answer}'", machine.root.display())
        )
    );
    let asked = || machine.read("asked").lines().count();
    let run = |image: &str| {
        machine
            .run(&["image", "--service=sonarr", image, "--pull=missing", &podman])
            .code
    };
    for (image, count) in [
        ("--image=a:1", 1),
        ("--image=a:1", 1),
        ("--image=a:2", 2),
        ("--image=a:2", 2),
    ] {
        assert_eq!((run(image), asked()), (0, count), "{image}");
    }
    change();
    assert_eq!((run("--image=a:2"), asked()), (0, 3), "the store has changed");
}

#[test]
fn an_image_that_nobody_has_is_told_with_podmans_words() {
    let machine = Machine::new("unknown");
    let podman = program(
        &machine.root.join("program"),
        "echo 'Error: reading manifest 9 in docker.io/x: manifest unknown' >&2; exit 125",
    );
    let podman = format!("--podman={podman}");
    for (pull, says) in [
        ("--pull=never", "and `pull` is `never`: load it"),
        (
            "--pull=missing",
            "reading manifest 9 in docker.io/x: manifest unknown: check the name and the network",
        ),
    ] {
        let done = machine.run(&[
            "image",
            "--service=sonarr",
            "--image=docker.io/x:9",
            pull,
            &podman,
        ]);
        assert_eq!(done.code, 1);
        assert!(
            done.said.contains(says) && done.told.contains(says),
            "{}",
            done.said
        );
        assert!(!machine.root.join("run/dagger/image/sonarr").exists());
    }
}

/// A listener that appears on a port after a while, and until then nobody.
fn late_port(after: Duration) -> u16 {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    std::thread::spawn(move || {
        std::thread::sleep(after);
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let body = r#"{"status": "OK"}"#;
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
        }
    });
    port
}

/// Waits for a Servarr with a closed port and a budget of one second. The journal says what `journal` does; the main
/// process runs `script`.
fn wait_for_servarr(name: &str, after: Duration, journal: &str, script: &str) -> gate_support::Done {
    let machine = Machine::new(name);
    let port = format!("--port={}", late_port(after));
    let bin = machine.root.join("bin");
    std::fs::create_dir(&bin).unwrap();
    let asked = machine.root.join("asked");
    let journalctl = format!("echo \"$@\" >> {}; echo '{journal}'", asked.display());
    program(&bin.join("journalctl"), &journalctl);
    let mut main = Command::new("sh").args(["-c", script]).spawn().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let words = [
        "post",
        "--service=sonarr",
        "--budget=1",
        "--probe=servarr",
        "--path=/ping",
        &port,
    ];
    let done = machine.run_with(
        &words,
        &[
            ("PATH", path.as_str()),
            ("INVOCATION_ID", "a7"),
            ("MAINPID", &main.id().to_string()),
        ],
    );
    main.kill().unwrap();
    main.wait().unwrap();
    assert!(machine.read("asked").contains("_SYSTEMD_INVOCATION_ID=a7"));
    done
}

const MIGRATING: &str = "[Info] MigrationController: *** Migrating data source=/config/sonarr.db ***";

/// The port is closed while a Servarr migrates: killed at the end of its budget it would begin again for ever.
#[test]
fn a_servarr_migration_outlives_the_budget_while_its_port_is_closed() {
    let done = wait_for_servarr("migrate", Duration::from_secs(3), MIGRATING, "sleep 60");
    assert_eq!(done.code, 0, "{}", done.said);
    let says = "waiting for sonarr: its journal says that it migrates its database";
    assert!(done.told.contains(&format!("STATUS={says}")), "{}", done.told);
    assert_eq!(done.said.matches(says).count(), 1, "told once: {}", done.said);
}

#[test]
fn a_migration_at_work_is_never_ended_and_that_is_told() {
    let busy = "while :; do :; done";
    let done = wait_for_servarr("endless", Duration::from_secs(8), MIGRATING, busy);
    assert_eq!(done.code, 0, "{}", done.said);
    assert!(
        done.said
            .contains("sonarr does not answer after 6 s, 6 times its `start-budget`; it is visibly at work"),
        "{}",
        done.said
    );
    assert!(
        done.told.contains("STATUS=waiting for sonarr, at work for 6 s: "),
        "{}",
        done.told
    );
}

#[test]
fn patience_with_a_migration_that_does_nothing_has_an_end() {
    let done = wait_for_servarr("stuck", Duration::from_mins(1), MIGRATING, "sleep 60");
    assert_eq!(done.code, 1);
    assert!(
        done.took >= Duration::from_secs(6) && done.took < Duration::from_secs(8),
        "{:?}",
        done.took
    );
    assert!(
        done.said
            .contains("the last answer: its journal says that it migrates"),
        "{}",
        done.said
    );
}

#[test]
fn a_closed_port_without_a_migration_gets_its_budget_and_no_more() {
    let done = wait_for_servarr(
        "closed",
        Duration::from_mins(1),
        "[Info] Bootstrap: Starting",
        "sleep 60",
    );
    assert_eq!(done.code, 1);
    assert!(done.took < Duration::from_secs(2), "{:?}", done.took);
}
