//! Connections that are kept between two questions: they save work, and no answer is another one for it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use dagger_agent::adapter::probe::line::{FRESH, Kept, Line};
use dagger_agent::adapter::probe::probe_without_limit;
use dagger_agent::domain::observation::Observation;
use dagger_suite::probe::{Kind, Probe};

const GOOD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"status\":\"OK\"}";
const ANOTHER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

/// What is sent for a question; then the connection stays, or is closed.
enum Reply {
    Stay(&'static str),
    Close(&'static str),
}

use Reply::{Close, Stay};

/// A server that takes so many connections, and then closes its port; each connection has a thread.
struct Server {
    address: SocketAddr,
    taken: Arc<AtomicUsize>,
}

impl Server {
    /// `reply` is told which connection it is, and which question on it; both from 1 on.
    fn new(most: usize, reply: impl Fn(usize, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let taken = Arc::new(AtomicUsize::new(0));
        let (reply, counter) = (Arc::new(reply), taken.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().take(most) {
                let (mut stream, reply) = (stream.unwrap(), reply.clone());
                let connection = counter.fetch_add(1, Ordering::SeqCst) + 1;
                std::thread::spawn(move || {
                    for question in 1.. {
                        if !read_head(&mut stream) {
                            return;
                        }
                        let (bytes, stays) = match reply(connection, question) {
                            Stay(bytes) => (bytes, true),
                            Close(bytes) => (bytes, false),
                        };
                        if stream.write_all(bytes.as_bytes()).is_err() || !stays {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, taken }
    }

    fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }
}

/// Whether there was a question.
fn read_head(stream: &mut TcpStream) -> bool {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while stream.read(&mut byte).is_ok_and(|count| count == 1) {
        head.push(byte[0]);
        if head.ends_with(b"\r\n\r\n") {
            return true;
        }
    }
    false
}

/// Somebody who asks a server over and over and keeps what comes back.
struct Asker {
    question: Probe,
    kept: Option<Kept>,
}

impl Asker {
    fn of(server: &Server) -> Self {
        let question = Probe {
            kind: Kind::Servarr,
            host: server.address.ip().to_string(),
            port: server.address.port(),
            path: "/ping".into(),
            expect: 200,
            body: None,
            timeout: Duration::from_secs(5),
            netns: None,
            container: String::new(),
            command: Vec::new(),
        };
        Self { question, kept: None }
    }

    async fn ask(&mut self) -> Observation {
        let line = Line::Keep(self.kept.take());
        let connected = AtomicBool::new(false);
        let (seen, kept) = probe_without_limit(&self.question, &[], &connected, line).await;
        self.kept = kept;
        seen
    }

    async fn good(&mut self) {
        let seen = self.ask().await;
        assert!(seen.is_good(), "{seen}");
    }
}

/// No timer runs in any of these, so that a clock that stands still stands still.
fn run(story: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(story);
}

#[test]
fn one_connection_serves_many_questions() {
    let server = Server::new(9, |_, _| Stay(GOOD));
    let mut asker = Asker::of(&server);
    run(async {
        for _ in 0..5 {
            asker.good().await;
        }
        assert_eq!(server.taken(), 1);
        // Who does not keep it asks for it to be closed, and the server has a connection more.
        let connected = AtomicBool::new(false);
        let (seen, kept) = probe_without_limit(&asker.question, &[], &connected, Line::Once).await;
        assert!(seen.is_good() && kept.is_none());
        assert_eq!(server.taken(), 2);
    });
}

#[test]
fn a_connection_that_the_server_has_closed_meanwhile_is_no_bad_answer() {
    for server in [
        Server::new(9, |_, _| Close(GOOD)),
        // As late as it can: when the question has been read.
        Server::new(9, |_, question| match question {
            1 => Stay(GOOD),
            _ => Close(""),
        }),
        // In the middle of the answer.
        Server::new(9, |_, question| match question {
            1 => Stay(GOOD),
            _ => Close("HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"),
        }),
    ] {
        let mut asker = Asker::of(&server);
        run(async {
            for turn in 1..4 {
                asker.good().await;
                assert_eq!(server.taken(), turn);
            }
        });
    }
}

#[test]
fn a_server_that_closes_is_believed() {
    for reply in [
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 15\r\n\r\n{\"status\":\"OK\"}",
        "HTTP/1.0 200 OK\r\nContent-Length: 15\r\n\r\n{\"status\":\"OK\"}",
        "HTTP/1.1 200 OK\r\n\r\n{\"status\":\"OK\"}",
    ] {
        let server = Server::new(9, move |_, _| Close(reply));
        let mut asker = Asker::of(&server);
        run(async {
            asker.good().await;
            assert!(asker.kept.is_none(), "{reply:?}");
        });
    }
}

#[test]
fn a_port_that_takes_nobody_any_more_is_found_out_within_the_bound() {
    let server = Server::new(1, |_, _| Stay(GOOD));
    let mut asker = Asker::of(&server);
    run(async {
        asker.good().await;
        tokio::time::advance(FRESH.saturating_sub(Duration::from_millis(1))).await;
        // It answers those whom it has.
        asker.good().await;
        tokio::time::advance(Duration::from_millis(1)).await;
        let seen = asker.ask().await;
        assert!(matches!(seen, Observation::Refused { .. }), "{seen}");
        assert!(asker.kept.is_none());
    });
}

#[test]
fn a_bad_answer_comes_from_a_fresh_connection() {
    // A kept one that says nonsense (a server's own time-out, say) is no evidence.
    let server = Server::new(9, |_, question| match question {
        1 => Stay(GOOD),
        _ => Stay("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"),
    });
    let mut asker = Asker::of(&server);
    run(async {
        asker.good().await;
        asker.good().await;
        assert_eq!(server.taken(), 2);
    });
    // Another application has taken the port, and the one that was there has gone.
    let server = Server::new(9, |connection, _| match connection {
        1 => Close(GOOD),
        _ => Stay(ANOTHER),
    });
    let mut asker = Asker::of(&server);
    run(async {
        asker.good().await;
        let seen = asker.ask().await;
        assert!(seen.to_string().contains("another application"), "{seen}");
        assert!(asker.kept.is_none(), "the next question has a fresh one");
    });
}

#[test]
fn an_unusual_answer_is_read_over_a_fresh_connection() {
    let usual =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n{\"status\r\n7\r\n\":\"OK\"}\r\n0\r\n\r\n";
    let trailers =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nf\r\n{\"status\":\"OK\"}\r\n0\r\nX: y\r\n\r\n";
    let interim =
        "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"status\":\"OK\"}";
    for (reply, connections) in [(usual, 1), (trailers, 3), (interim, 3)] {
        let server = Server::new(9, move |_, _| Stay(reply));
        let mut asker = Asker::of(&server);
        run(async {
            for _ in 0..3 {
                asker.good().await;
            }
        });
        assert_eq!(server.taken(), connections, "{reply:?}");
    }
}

#[test]
fn a_long_answer_has_no_connection_kept() {
    static LONG: LazyLock<String> = LazyLock::new(|| {
        let body = format!("{{\"status\":\"OK\",\"words\":\"{}\"}}", "x".repeat(20_000));
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    });
    let server = Server::new(9, |_, _| Stay(&LONG));
    let mut asker = Asker::of(&server);
    run(async {
        asker.good().await;
        assert!(asker.kept.is_none());
    });
}

#[test]
fn bytes_that_nobody_asked_for_are_no_answer() {
    // With the answer: it is good, and the connection is not used again.
    let twice = "HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"status\":\"OK\"}HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"status\":\"OK\"}";
    let server = Server::new(9, move |_, _| Stay(twice));
    let mut asker = Asker::of(&server);
    run(async {
        asker.good().await;
        assert!(asker.kept.is_none());
    });
    // After it: the answer to the next question is not what was there before it.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Server::new(1, |_, _| Stay(GOOD));
    let mut asker = Asker::of(&server);
    asker.question.port = listener.local_addr().unwrap().port();
    run(async {
        let first = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            assert!(read_head(&mut stream));
            stream.write_all(GOOD.as_bytes()).unwrap();
            (listener, stream)
        });
        asker.good().await;
        assert!(asker.kept.is_some());
        let (listener, mut stream) = first.join().unwrap();
        stream.write_all(GOOD.as_bytes()).unwrap();
        let second = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            assert!(read_head(&mut stream));
            stream
                .write_all(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
                .unwrap();
        });
        let seen = asker.ask().await;
        assert!(seen.to_string().contains("HTTP 500"), "{seen}");
        second.join().unwrap();
    });
}

#[test]
fn a_connection_to_another_target_is_not_used() {
    let (server, other) = (
        Server::new(9, |_, _| Stay(GOOD)),
        Server::new(9, |_, _| Stay(ANOTHER)),
    );
    let mut asker = Asker::of(&server);
    run(async {
        asker.good().await;
        asker.question.port = other.address.port();
        let seen = asker.ask().await;
        assert!(seen.to_string().contains("another application"), "{seen}");
    });
}
