//! What one probe costs. Run in release, on a quiet machine:
//! `cargo test --release -p dagger-agent --test probe_cost -- --ignored --nocapture`
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use dagger_agent::adapter::probe::probe;
use dagger_suite::probe::{Kind, Probe};
use rustix::time::{ClockId, clock_gettime};

const ROUNDS: u32 = 5000;
/// Marks the process that plays the application, so that its work is not counted as ours.
const SERVER: &str = "DAGGER_TEST_SERVER";

fn serve() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("\nport {}", listener.local_addr().unwrap().port());
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{\"status\": \"OK\"}",
        );
    }
}

fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap())
}

#[test]
#[ignore = "a measurement, which wants a release build"]
fn one_probe_costs_less_than_a_third_of_a_millisecond() {
    if std::env::var_os(SERVER).is_some() {
        return serve();
    }
    let mut server = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--nocapture"])
        .env(SERVER, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let port = lines.find_map(|line| line.unwrap().strip_prefix("port ")?.parse::<u16>().ok());
    let question = Probe {
        kind: Kind::Servarr,
        host: "127.0.0.1".into(),
        port: port.unwrap(),
        path: "/ping".into(),
        expect: 200,
        body: None,
        timeout: Duration::from_secs(5),
        netns: None,
        container: String::new(),
        command: Vec::new(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let begin = cpu();
    for _ in 0..ROUNDS {
        assert!(runtime.block_on(probe(&question)).is_good());
    }
    let each = cpu().saturating_sub(begin) / ROUNDS;
    server.kill().unwrap();
    server.wait().unwrap();
    println!("one probe: {} us of CPU", each.as_micros());
    assert!(each < Duration::from_micros(300), "{each:?}");
}
