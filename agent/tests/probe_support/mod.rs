//! A server that answers what a test wants, and a look at it through a probe.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dagger_agent::adapter::probe::probe;
use dagger_agent::domain::observation::Observation;
use dagger_suite::probe::{Kind, Probe};

/// What a server does with one connection, after it has read the request's head.
type Act = dyn Fn(&mut TcpStream, &str) + Send + Sync;

/// A server of one's own on a port of its own; each connection has a thread.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    /// How many connections it has taken.
    pub asked: Arc<AtomicUsize>,
}

impl Server {
    pub fn new(act: impl Fn(&mut TcpStream, &str) + Send + Sync + 'static) -> Self {
        Self::on("127.0.0.1:0", act)
    }

    pub fn on(address: &str, act: impl Fn(&mut TcpStream, &str) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let (act, counter): (Arc<Act>, _) = (Arc::new(act), asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(mut stream), act) = (stream, act.clone()) else {
                    continue;
                };
                counter.fetch_add(1, Ordering::Relaxed);
                std::thread::spawn(move || {
                    let head = read_head(&mut stream);
                    act(&mut stream, &head);
                });
            }
        });
        Self { address, asked }
    }

    /// Answers everything with these bytes and closes.
    pub fn fixed(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::new(move |stream, _| {
            let _ = stream.write_all(&bytes);
        })
    }

    /// Sends the first bytes once and then the second ones for ever.
    pub fn endless(first: &'static [u8], then: Vec<u8>, pause: Duration) -> Self {
        Self::new(move |stream, _| {
            let mut sent = stream.write_all(first);
            while sent.is_ok() {
                std::thread::sleep(pause);
                sent = stream.write_all(&then);
            }
        })
    }

    pub fn probe(&self, kind: Kind, path: &str) -> Probe {
        Probe {
            kind,
            host: self.address.ip().to_string(),
            port: self.address.port(),
            path: path.into(),
            expect: 200,
            body: None,
            timeout: Duration::from_millis(700),
            netns: None,
            container: "dagger-test".into(),
            command: Vec::new(),
        }
    }
}

fn read_head(stream: &mut TcpStream) -> String {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

pub fn answer(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

pub fn look(question: &Probe) -> Observation {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let begin = Instant::now();
    let seen = runtime.block_on(probe(question));
    let (took, text) = (begin.elapsed(), seen.to_string());
    assert!(
        took < question.timeout + Duration::from_millis(500),
        "{took:?}: {text}"
    );
    assert!(
        text.chars().count() < 500 && !text.chars().any(char::is_control),
        "{text:?}"
    );
    seen
}

pub fn detail(seen: &Observation) -> String {
    match seen {
        Observation::Good { .. } => format!("good: {seen}"),
        Observation::Starting { .. } => format!("starting: {seen}"),
        Observation::Bad { .. } => format!("bad: {seen}"),
        Observation::Refused { .. } => format!("refused: {seen}"),
        Observation::TimedOut { .. } => format!("timed out: {seen}"),
        Observation::Unable { .. } => format!("unable: {seen}"),
    }
}
