//! `dagger-alert`, called as its unit calls it: what arrives at each kind of target, and what never leaves.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A directory for the unit to live in.
struct Place {
    root: PathBuf,
}

impl Place {
    fn new(name: &str, toml: &str) -> Self {
        let root = std::env::temp_dir().join(format!("dagger-alert-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        for dir in ["etc/dagger", "run/dagger/alert"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        let root = root.canonicalize().unwrap();
        fs::write(root.join("etc/dagger/alert.toml"), toml).unwrap();
        Self { root }
    }

    /// As the agent writes it.
    fn event(&self, event: &str, detail: &str) {
        // The clock of the file system ticks in steps of a few milliseconds.
        std::thread::sleep(Duration::from_millis(20));
        let text = format!(
            "DAGGER_SERVICE=\"sonarr\"\nDAGGER_EVENT=\"{event}\"\nDAGGER_HEALTH=\"failed\"\nDAGGER_DETAIL=\"{detail}\"\n"
        );
        fs::write(self.root.join("run/dagger/alert/sonarr.env"), text).unwrap();
    }

    fn command(&self, word: &str) -> Command {
        self.command_with(&[word])
    }

    fn command_with(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dagger-alert"));
        command
            .args(words)
            .env("DAGGER_ROOT", &self.root)
            .env("DAGGER_HOST", "mediabox")
            .env_remove("JOURNAL_STREAM")
            .env_remove("http_proxy")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn run(&self, word: &str) -> (i32, String) {
        ended(&self.command(word).output().unwrap())
    }

    /// Another program of the test's own.
    fn program(&self, name: &str, script: &str) -> String {
        let path = self.root.join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

fn ended(output: &Output) -> (i32, String) {
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stderr.clone()).unwrap(),
    )
}

/// A request as it arrived.
struct Request {
    line: String,
    headers: Vec<String>,
    body: String,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        let head = format!("{}: ", name.to_lowercase());
        self.headers
            .iter()
            .find(|header| header.to_lowercase().starts_with(&head))
            .and_then(|header| header.get(head.len()..))
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// A server that answers everything with this status after this time, and tells what it was asked.
fn server(status: &'static str, after: Duration) -> (String, Receiver<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut lines = reader.by_ref().lines().map(Result::unwrap);
            let line = lines.next().unwrap();
            let headers: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
            let mut request = Request {
                line,
                headers,
                body: String::new(),
            };
            let length = request.header("Content-Length").unwrap().parse().unwrap();
            reader.take(length).read_to_string(&mut request.body).unwrap();
            let _ = tell.send(request);
            std::thread::sleep(after);
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
        }
    });
    (url, told)
}

fn no_curl() -> bool {
    let missing = Command::new("curl").arg("--version").output().is_err();
    if missing {
        println!("skipped: curl is not installed");
    }
    missing
}

fn next(told: &Receiver<Request>) -> Request {
    told.recv_timeout(Duration::from_secs(10)).expect("a request")
}

#[test]
fn each_kind_gets_what_it_understands() {
    if no_curl() {
        return;
    }
    let (url, told) = server("200 OK", Duration::ZERO);
    for (kind, path, lines) in [
        ("ntfy", "/topic", "token = \"tk_S\""),
        ("gotify", "/base/", "token = \"A1\""),
        ("discord", "/api/webhooks/1/S", ""),
        ("webhook", "/hook?a=1", "token = \"S\""),
    ] {
        let toml = format!("[[alert]]\nkind = \"{kind}\"\nurl = \"{url}{path}\"\n{lines}\n");
        let place = Place::new(kind, &toml);
        place.event("given-up", "@everyone: HTTP 500 \\\"x\\\\y\\\" äöü [1]{2}");
        let (code, said) = place.run("sonarr");
        assert_eq!(
            (code, said.as_str()),
            (0, format!("sonarr: given-up: told {kind} 1\n").as_str())
        );
        let request = next(&told);
        let title = "sonarr is stopped and not restarted any more on mediabox";
        let detail = "@everyone: HTTP 500 \"x\\y\" äöü [1]{2}";
        match kind {
            "ntfy" => {
                assert_eq!(request.line, "POST /topic HTTP/1.1");
                assert_eq!(request.body, detail);
                for (name, value) in [
                    ("Title", title),
                    ("Priority", "5"),
                    ("Tags", "given-up"),
                    ("Authorization", "Bearer tk_S"),
                    ("Content-Type", "text/plain; charset=utf-8"),
                ] {
                    assert_eq!(request.header(name), Some(value), "{name}");
                }
            }
            "gotify" => {
                assert_eq!(request.line, "POST /base/message HTTP/1.1");
                assert_eq!(request.header("X-Gotify-Key"), Some("A1"));
                assert_eq!(request.header("Content-Type"), Some("application/json"));
                assert_eq!(
                    request.json(),
                    json!({"title": title, "message": detail, "priority": 8})
                );
            }
            "discord" => {
                assert_eq!(request.line, "POST /api/webhooks/1/S HTTP/1.1");
                let content = format!("**{title}**\n{detail}");
                let quiet = json!({"parse": []});
                assert_eq!(
                    request.json(),
                    json!({"content": content, "allowed_mentions": quiet})
                );
            }
            _ => {
                assert_eq!(request.line, "POST /hook?a=1 HTTP/1.1");
                assert_eq!(request.header("Authorization"), Some("Bearer S"));
                let mut body = request.json();
                let time = body.as_object_mut().unwrap().remove("time").unwrap();
                assert!(time.as_u64().unwrap() > 1_700_000_000, "{time}");
                let expected = json!({
                    "service": "sonarr", "event": "given-up", "health": "failed", "detail": detail,
                    "title": title, "host": "mediabox", "held_back": 0,
                });
                assert_eq!(body, expected);
            }
        }
    }
}

#[test]
fn mail_is_written_for_sendmail() {
    let place = Place::new("mail", "");
    let sendmail = place.program("sendmail", "echo \"$@\" > \"$0.args\"\ncat > \"$0.mail\"");
    let toml =
        format!("[[alert]]\nkind = \"sendmail\"\nto = \"Me <me@example.org>\"\nsendmail = \"{sendmail}\"\n");
    fs::write(place.root.join("etc/dagger/alert.toml"), toml).unwrap();
    place.event("media-lost", "/fun is not mounted");
    assert_eq!(
        place.run("sonarr"),
        (0, "sonarr: media-lost: told sendmail 1\n".into())
    );
    assert_eq!(
        fs::read_to_string(place.root.join("sendmail.args")).unwrap(),
        "-i -t\n"
    );
    let mail = fs::read_to_string(place.root.join("sendmail.mail")).unwrap();
    let (head, body) = mail.split_once("\n\n").unwrap();
    assert!(
        head.starts_with("To: Me <me@example.org>\nSubject: sonarr has lost its media on mediabox\n"),
        "{head}"
    );
    assert!(
        body.contains("\n/fun is not mounted\n") && body.contains("journalctl -u dagger-sonarr"),
        "{body}"
    );
}

#[test]
fn an_event_is_told_once_and_the_next_says_what_was_held_back() {
    if no_curl() {
        return;
    }
    let (url, told) = server("200 OK", Duration::ZERO);
    let toml = format!(
        "[[alert]]\nkind = \"ntfy\"\nurl = \"{url}/a\"\nmin-interval = \"2s\"\n\
         [[alert]]\nkind = \"ntfy\"\nurl = \"{url}/b\"\nevents = [\"recovered\"]\n"
    );
    let place = Place::new("once", &toml);
    place.event("unhealthy", "one");
    assert_eq!(place.run("sonarr").1, "sonarr: unhealthy: told ntfy 1\n");
    assert_eq!(
        place.run("sonarr"),
        (0, String::new()),
        "the same event again is no event"
    );
    place.event("unhealthy", "two");
    assert_eq!(place.run("sonarr"), (0, String::new()));
    std::thread::sleep(Duration::from_secs(2));
    place.event("unhealthy", "three");
    assert_eq!(place.run("sonarr").1, "sonarr: unhealthy: told ntfy 1\n");
    let bodies: Vec<_> = told.try_iter().map(|request| request.body).collect();
    assert_eq!(bodies, ["one", "three\n(1 more like this were held back before)"]);
}

#[test]
fn systemd_alone_is_told_of_and_with_the_agent_it_is_one() {
    if no_curl() {
        return;
    }
    let (url, told) = server("200 OK", Duration::ZERO);
    let place = Place::new(
        "onfailure",
        &format!("[[alert]]\nkind = \"ntfy\"\nurl = \"{url}\"\n"),
    );
    let failed = |place: &Place, word: &[&str]| -> Child {
        let mut command = place.command_with(word);
        command
            .env("MONITOR_SERVICE_RESULT", "exit-code")
            .env("MONITOR_EXIT_STATUS", "1");
        command.spawn().unwrap()
    };
    let (condition, start) = (["--lasts", "sonarr"], ["sonarr"]);
    // The agent lives: its word comes a moment later, and is the one that is told.
    let begin = Instant::now();
    let unit = failed(&place, &condition);
    std::thread::sleep(Duration::from_millis(500));
    place.event("given-up", "restarted three times in vain");
    assert_eq!(ended(&unit.wait_with_output().unwrap()), (0, String::new()));
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    assert_eq!(
        ended(&failed(&place, &start).wait_with_output().unwrap()).1,
        "sonarr: given-up: told ntfy 1\n"
    );
    // Also where it says less: the unit comes back, or the agent will say that it does not.
    place.event("unhealthy", "it ended by itself; systemd starts it again");
    assert_eq!(
        ended(&failed(&place, &start).wait_with_output().unwrap()).1,
        "sonarr: unhealthy: told ntfy 1\n"
    );
    // The agent is dead: what it wrote long ago is not told again.
    let place = Place::new(
        "onfailure-alone",
        &format!("[[alert]]\nkind = \"ntfy\"\nurl = \"{url}\"\n"),
    );
    place.event("recovered", "answers again");
    place.run("sonarr");
    // systemd does not answer here, and in doubt it is told.
    let unit = failed(&place, &condition).wait_with_output().unwrap();
    assert_eq!(ended(&unit), (0, String::new()));
    let unit = failed(&place, &start).wait_with_output().unwrap();
    assert_eq!(ended(&unit).1, "sonarr: failed: told ntfy 1\n");
    let bodies: Vec<_> = told.try_iter().map(|request| request.body).collect();
    assert_eq!(
        bodies,
        [
            "restarted three times in vain",
            "it ended by itself; systemd starts it again",
            "answers again",
            "one of its commands ended with an error (status 1)"
        ]
    );
}

/// systemd 257 starts the unit before each start that `Restart=` brings, every systemd does in a restart that had to kill.
#[test]
fn a_unit_that_starts_again_has_not_failed() {
    let place = Place::new("again", "");
    let path = format!("{}:{}", place.root.display(), std::env::var("PATH").unwrap());
    let asked = place.root.join("asked");
    for (shown, code) in [
        ("ActiveState=activating", 1),
        ("ActiveState=active", 1),
        ("Job=117\nActiveState=failed", 1),
        ("ActiveState=failed", 0),
    ] {
        place.program(
            "systemctl",
            &format!("echo \"$@\" >{}\necho '{shown}'", asked.display()),
        );
        let mut command = place.command_with(&["--lasts", "sonarr"]);
        command.env("PATH", &path);
        let says = [
            "",
            "dagger-sonarr.service runs or is about to, so nothing is told\n",
        ][code];
        let code = i32::try_from(code).unwrap();
        assert_eq!(
            ended(&command.output().unwrap()),
            (code, says.to_owned()),
            "{shown}"
        );
        assert_eq!(
            fs::read_to_string(&asked).unwrap(),
            "show --property=ActiveState,Job -- dagger-sonarr.service\n"
        );
    }
    // The agent starts it for what has just happened, or somebody tries: nothing is asked.
    fs::remove_file(&asked).unwrap();
    let mut test = place.command_with(&["--lasts", "test"]);
    assert_eq!(ended(&test.env("PATH", &path).output().unwrap()).0, 0);
    place.event("given-up", "no answer");
    let mut command = place.command_with(&["--lasts", "sonarr"]);
    assert_eq!(ended(&command.env("PATH", &path).output().unwrap()).0, 0);
    assert!(!asked.exists());
}

/// Every process of this user, but for the test: what `ps` and `/proc` show of it.
fn shown_to_others() -> String {
    let mut shown = String::new();
    let own = std::process::id().to_string();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if name == own || !name.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        for file in ["cmdline", "environ"] {
            let bytes = fs::read(entry.path().join(file)).unwrap_or_default();
            let _ = writeln!(shown, "{}", String::from_utf8_lossy(&bytes));
        }
    }
    shown
}

#[test]
fn no_secret_is_in_a_command_line_an_environment_or_the_journal() {
    if no_curl() {
        return;
    }
    // Put together here, so that the test itself does not show it either.
    let secret = ["geh", "eim", "nis"].concat();
    let (url, told) = server("404 Not Found", Duration::from_secs(1));
    let toml = format!(
        "[[alert]]\nkind = \"discord\"\nurl = \"{url}/{secret}\"\n\
         [[alert]]\nkind = \"webhook\"\nurl = \"http://127.0.0.1:1/{secret}\"\ntoken = \"{secret}\"\n"
    );
    let place = Place::new("secret", &toml);
    place.event("failed", "x");
    let unit = place.command("sonarr").spawn().unwrap();
    assert!(next(&told).line.contains(&secret), "it does leave");
    let shown = shown_to_others();
    assert!(shown.contains("--config"), "curl is seen at work");
    assert!(!shown.contains(&secret));
    let (code, said) = ended(&unit.wait_with_output().unwrap());
    assert_eq!(code, 1);
    assert!(!said.contains(&secret), "{said}");
    assert!(
        said.contains("sonarr: failed: discord 1 could not be told: curl: (22)"),
        "{said}"
    );
    assert!(
        said.contains("sonarr: failed: webhook 2 could not be told: curl: (7)"),
        "{said}"
    );
    assert!(!place.run("--check").1.contains(&secret));
    let text = fs::read_to_string(place.root.join("etc/dagger/alert.toml")).unwrap();
    fs::write(
        place.root.join("etc/dagger/alert.toml"),
        text.replace("token", "tokken"),
    )
    .unwrap();
    let (code, said) = place.run("--check");
    assert!(
        code == 78 && said.contains("alert.toml:7:1: unknown key `tokken`"),
        "{said}"
    );
    assert!(!said.contains(&secret), "{said}");
}

#[test]
fn a_target_that_hangs_holds_up_no_other_and_has_an_end() {
    if no_curl() {
        return;
    }
    let (hanging, _asked) = server("200 OK", Duration::from_mins(10));
    let (url, told) = server("200 OK", Duration::ZERO);
    let place = Place::new("hanging", "");
    let sendmail = place.program("sendmail", "exec sleep 600");
    let toml = format!(
        "[[alert]]\nkind = \"ntfy\"\nurl = \"{hanging}\"\n\
         [[alert]]\nkind = \"sendmail\"\nto = \"root\"\nsendmail = \"{sendmail}\"\n\
         [[alert]]\nkind = \"ntfy\"\nurl = \"{url}\"\n"
    );
    fs::write(place.root.join("etc/dagger/alert.toml"), toml).unwrap();
    place.event("failed", "x");
    let begin = Instant::now();
    let unit = place.command("sonarr").spawn().unwrap();
    assert_eq!(next(&told).body, "x");
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "the good one waits for nobody"
    );
    let (code, said) = ended(&unit.wait_with_output().unwrap());
    assert_eq!(code, 1);
    // TimeoutStartSec=30 of the unit is never reached.
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    assert!(said.contains("ntfy 1 could not be told: curl: (28)"), "{said}");
    assert!(said.contains("sendmail 2 could not be told: "), "{said}");
    // What could not be told is not held back the next time.
    place.event("failed", "y");
    fs::write(
        place.root.join("etc/dagger/alert.toml"),
        format!("[[alert]]\nkind = \"ntfy\"\nurl = \"{url}\"\n"),
    )
    .unwrap();
    assert_eq!(place.run("sonarr").1, "sonarr: failed: told ntfy 1\n");
}

#[test]
fn without_a_configuration_nothing_happens_and_a_test_arrives_everywhere() {
    let place = Place::new("nothing", "");
    fs::remove_file(place.root.join("etc/dagger/alert.toml")).unwrap();
    place.event("failed", "x");
    assert_eq!(place.run("sonarr"), (0, String::new()));
    assert_eq!(place.run("Sonarr").0, 2);
    let sendmail = place.program("sendmail", "cat > \"$0.mail\"");
    let toml = format!(
        "[[alert]]\nkind = \"sendmail\"\nto = \"root\"\nsendmail = \"{sendmail}\"\nevents = [\"failed\"]\n"
    );
    fs::write(place.root.join("etc/dagger/alert.toml"), toml).unwrap();
    for _ in 0..2 {
        assert_eq!(place.run("test"), (0, "test: test: told sendmail 1\n".into()));
    }
    let mail = fs::read_to_string(place.root.join("sendmail.mail")).unwrap();
    assert!(
        mail.contains("Subject: test is fine: this is a test on mediabox\n"),
        "{mail}"
    );
}

#[test]
fn somebody_who_asks_what_it_is_hears_it() {
    for (program, name) in [
        (env!("CARGO_BIN_EXE_dagger-alert"), "dagger-alert"),
        (env!("CARGO_BIN_EXE_dagger-gate"), "dagger-gate"),
        (env!("CARGO_BIN_EXE_dagger-job"), "dagger-job"),
        (env!("CARGO_BIN_EXE_dagger-well"), "dagger-well"),
        (env!("CARGO_BIN_EXE_dagger-agent"), "dagger-agent"),
    ] {
        for word in ["--help", "-h", "--version", "-V"] {
            let output = Command::new(program).arg(word).output().unwrap();
            let said = String::from_utf8(output.stdout).unwrap();
            assert_eq!(output.status.code(), Some(0), "{name} {word}: {said}");
            assert!(said.contains(name), "{name} {word}: {said}");
        }
    }
}
