//! Every fault of the file, as a client meets it.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crate::support::{Directory, Standin, free_port, parse, until};

const PING: &str = "GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
const SHORT: Duration = Duration::from_millis(400);

fn start(directory: &Directory, environment: &[(&str, &str)]) -> Standin {
    let port = free_port();
    let (number, data) = (port.to_string(), format!("-data={}", directory.path().display()));
    let mut all = vec![("RADARR__SERVER__PORT", number.as_str())];
    all.extend_from_slice(environment);
    let radarr = Standin::start(directory, port, &["radarr", &data], &all);
    radarr.until("/ping", 200);
    radarr
}

#[test]
fn live_switching_between_faults_and_none() {
    let directory = Directory::new();
    let radarr = start(&directory, &[]);
    directory.fault("500\n");
    assert_eq!(radarr.get("/ping").status, 500);
    directory.fault("404\n");
    assert_eq!(radarr.get("/ping").status, 404);
    directory.fault("wrong-body\n");
    assert!(radarr.get("/ping").body.contains("<title>"));
    directory.fault("redirect-loop\n");
    let first = radarr.get("/ping");
    assert_eq!(
        (first.status, first.header("location")),
        (302, Some("/ping?turn=1"))
    );
    assert_eq!(
        radarr.get("/ping?turn=1").header("location"),
        Some("/ping?turn=2")
    );
    directory.fault("");
    assert_eq!(radarr.get("/ping").status, 200);
}

#[test]
fn hang_slow_and_trickle() {
    let directory = Directory::new();
    let radarr = start(&directory, &[]);
    directory.fault("hang\n");
    assert!(radarr.raw(PING, SHORT).is_err());
    directory.fault("slow 500ms\n");
    let since = Instant::now();
    assert_eq!(radarr.get("/ping").status, 200);
    assert!(since.elapsed() >= Duration::from_millis(500));
    directory.fault("trickle 1ms\n");
    let since = Instant::now();
    assert_eq!(radarr.get("/ping").status, 200);
    assert!(since.elapsed() >= Duration::from_millis(150));
}

#[test]
fn refuse_closes_the_port_and_opens_it_again() {
    let directory = Directory::new();
    let radarr = start(&directory, &[]);
    directory.fault("refuse\n");
    until("the port is closed", || {
        radarr.request("GET", "/ping", "").is_none().then_some(())
    });
    directory.fault("");
    radarr.until("/ping", 200);
}

#[test]
fn answers_that_break_a_client() {
    let directory = Directory::new();
    let radarr = start(&directory, &[]);
    directory.fault("corrupt\n");
    assert!(parse(&radarr.raw(PING, SHORT).unwrap()).is_none());
    directory.fault("truncate\n");
    let short = radarr.get("/ping");
    assert!(short.header("content-length").unwrap().parse::<usize>().unwrap() > short.body.len());
    directory.fault("many-headers 20000\n");
    let answer = radarr.get("/ping");
    assert!(answer.head.lines().count() > 20_000 && answer.json()["status"] == "OK");
    directory.fault("endless-body\n");
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", radarr.port)).unwrap();
    stream.write_all(PING.as_bytes()).unwrap();
    let mut much = vec![0; 8 << 20];
    stream.read_exact(&mut much).unwrap();
}

#[test]
fn flapping() {
    let directory = Directory::new();
    let radarr = start(&directory, &[]);
    directory.fault("flap 300ms\n");
    for status in [503, 200, 503, 200] {
        radarr.until("/ping", status);
    }
}

#[test]
fn exit_and_signal() {
    use std::os::unix::process::ExitStatusExt;
    let directory = Directory::new();
    let mut radarr = start(&directory, &[]);
    directory.fault("exit 7 once\n500\n");
    assert_eq!(radarr.wait().code(), Some(7));
    assert_eq!(directory.read("fault"), "500\n");
    directory.fault("");
    let mut radarr = start(&directory, &[]);
    directory.fault("signal 11\n");
    assert_eq!(radarr.wait().signal(), Some(11));
}

#[test]
fn leaking_memory() {
    let directory = Directory::new();
    let radarr = start(&directory, &[]);
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", radarr.child.id())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap()
            .to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let before = resident();
    directory.fault("leak 100M\n");
    until("30 MB are gone", || (resident() > before + 30_000).then_some(()));
    assert_eq!(radarr.get("/ping").status, 200);
}

#[test]
fn ignoring_sigterm_and_a_slow_stop() {
    let directory = Directory::new();
    let mut radarr = start(&directory, &[]);
    directory.fault("ignore-sigterm\n");
    radarr.signal(nix::sys::signal::Signal::SIGTERM);
    std::thread::sleep(SHORT);
    assert!(radarr.child.try_wait().unwrap().is_none());
    directory.fault("slow-stop 600ms\n");
    let since = Instant::now();
    assert_eq!(radarr.stop(), Some(0));
    assert!(since.elapsed() >= Duration::from_millis(600));
}

#[test]
fn a_mistake_in_the_file_is_named() {
    let directory = Directory::new();
    let radarr = start(&directory, &[]);
    directory.fault("explode\n");
    until("it is named", || {
        radarr
            .output()
            .contains("\"explode\" is not a fault")
            .then_some(())
    });
    assert_eq!(radarr.get("/ping").status, 200);
}
