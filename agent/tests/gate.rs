//! The gate as a unit uses it: called with the words that the generator writes, below a root of its own, with a notify socket.

use std::io::Write as _;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// A root directory and a manager that listens for notifications.
struct Machine {
    root: PathBuf,
    notify: UnixDatagram,
    environment: Vec<(&'static str, String)>,
}

/// What the gate did.
struct Done {
    code: i32,
    /// Standard error.
    said: String,
    /// All notifications, one line each.
    told: String,
    took: Duration,
}

impl Machine {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("dagger-gate-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        std::fs::create_dir(&root).unwrap();
        let root = root.canonicalize().unwrap();
        let notify = UnixDatagram::bind(root.join("notify")).unwrap();
        notify.set_nonblocking(true).unwrap();
        Self {
            root,
            notify,
            environment: Vec::new(),
        }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dagger-gate"));
        command
            .args(words)
            .env("DAGGER_ROOT", &self.root)
            .env("NOTIFY_SOCKET", self.root.join("notify"))
            .env_remove("MAINPID")
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    fn run(&self, words: &[&str]) -> Done {
        let begin = Instant::now();
        let output = self.command(words).output().unwrap();
        self.done(&output, begin)
    }

    fn done(&self, output: &Output, begin: Instant) -> Done {
        let mut told = String::new();
        let mut bytes = [0; 4096];
        while let Ok(count) = self.notify.recv(&mut bytes) {
            told.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
        }
        Done {
            code: output.status.code().unwrap(),
            said: String::from_utf8(output.stderr.clone()).unwrap(),
            told,
            took: begin.elapsed(),
        }
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.root.join(path)).unwrap()
    }

    /// A program of the machine's own.
    fn program(&self, script: &str) -> String {
        let path = self.root.join("program");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        path.display().to_string()
    }
}

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
    assert_eq!(env, "DAGGER_UID=568\nDAGGER_GID=569\nDAGGER_DEVICE_ARGS=\"\"\n");
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
    explicit.push("--owner-explicit");
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
    assert_eq!(machine.run(&words).code, 0);
    assert!(
        machine
            .read("run/dagger/gate/sonarr.env")
            .starts_with("DAGGER_UID=9\nDAGGER_GID=8\n")
    );
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
            let _ = std::io::Read::read(&mut stream, &mut [0; 1024]);
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
    let mut machine = Machine::new("post");
    machine.environment = vec![("DAGGER_UID", "274".into()), ("DAGGER_GID", "169".into())];
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
    let done = machine.run(&words);
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
    let begin = Instant::now();
    let port = format!("--port={}", http("Healthy", Duration::from_secs(60)));
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
    let took = begin.elapsed();
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
    let begin = Instant::now();
    let output = machine
        .command(&[
            "post",
            "--service=sonarr",
            "--budget=30",
            "--probe=servarr",
            "--port=1",
        ])
        .env("MAINPID", main.id().to_string())
        .output()
        .unwrap();
    let done = machine.done(&output, begin);
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
        "[ $1 = image ] && echo '{INSPECT}' || touch {}/pulled",
        machine.root.display()
    );
    let podman = format!("--podman={}", machine.program(&script));
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

#[test]
fn an_image_that_nobody_has_is_told_with_podmans_words() {
    let machine = Machine::new("unknown");
    let podman =
        machine.program("echo 'Error: reading manifest 9 in docker.io/x: manifest unknown' >&2; exit 125");
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
        assert!(!Path::new(&machine.root.join("run/dagger/image/sonarr")).exists());
    }
}
