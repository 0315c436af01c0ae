//! A stand-in started for one test, and a client that shows what was really sent.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// A directory that vanishes with the value.
pub struct Directory(PathBuf);

impl Directory {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "standin-spec-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::SeqCst)
        );
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.at(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.at(name).parent().unwrap()).unwrap();
        fs::write(self.at(name), text).unwrap();
    }

    /// Puts faults in force, as a test's user does.
    pub fn fault(&self, lines: &str) {
        fs::write(self.at("fault.new"), lines).unwrap();
        fs::rename(self.at("fault.new"), self.at("fault")).unwrap();
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A port that nobody listens on just now.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// Waits until `found` has an answer.
pub fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(value) = found() {
            return value;
        }
        assert!(since.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// An answer as it came over the wire, its chunks put together.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .filter(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .next()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A running stand-in, in a process group of its own; it dies with the value.
pub struct Standin {
    pub child: Child,
    pub port: u16,
    output: PathBuf,
}

impl Standin {
    /// Starts `arguments` with `environment`; the output goes to a file beside `directory`.
    pub fn start(directory: &Directory, port: u16, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_as(directory, port, arguments, environment, None)
    }

    /// The same, as another user and group.
    pub fn start_as(
        directory: &Directory,
        port: u16,
        arguments: &[&str],
        environment: &[(&str, &str)],
        user: Option<u32>,
    ) -> Self {
        let output = directory.path().with_extension("log");
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(&output)
            .unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_standin"));
        command
            .args(arguments)
            .env("STANDIN_IMAGE", "native")
            .env("STANDIN_WRITE_INTERVAL", "20ms");
        command.envs(environment.iter().copied()).process_group(0);
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        if let Some(user) = user {
            command.uid(user).gid(user);
        }
        Self {
            child: command.spawn().unwrap(),
            port,
            output,
        }
    }

    pub fn output(&self) -> String {
        fs::read_to_string(&self.output).unwrap()
    }

    /// Sends a request as it stands, and reads until the other side closes.
    pub fn raw(&self, request: &str, timeout: Duration) -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(timeout))?;
        stream.write_all(request.as_bytes())?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// One request with headers (each ended by `\r\n`); nothing when the port is closed.
    pub fn request(&self, method: &str, path: &str, headers: &str) -> Option<Answer> {
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
        parse(&self.raw(&request, PATIENCE).ok()?)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, "")
            .unwrap_or_else(|| panic!("GET {path}: no answer\n{}", self.output()))
    }

    pub fn with_key(&self, path: &str, key: &str) -> Answer {
        self.request("GET", path, &format!("X-Api-Key: {key}\r\n"))
            .unwrap()
    }

    /// Waits until `GET path` gets `status`, and gives that answer.
    pub fn until(&self, path: &str, status: u16) -> Answer {
        until(&format!("{path} answers {status}"), || {
            self.request("GET", path, "")
                .filter(|answer| answer.status == status)
        })
    }

    /// Rows written so far.
    pub fn rows(&self) -> i64 {
        self.get("/standin/state").json()["rows"].as_i64().unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// To the whole process group, as systemd does with `KillMode=control-group`.
    pub fn signal_group(&self, signal: Signal) {
        killpg(self.pid(), signal).unwrap();
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    pub fn wait(&mut self) -> ExitStatus {
        until("the process ends", || self.child.try_wait().unwrap())
    }

    /// SIGTERM and the exit code.
    pub fn stop(&mut self) -> Option<i32> {
        self.signal(Signal::SIGTERM);
        self.wait().code()
    }
}

impl Drop for Standin {
    fn drop(&mut self) {
        // The init gives its service a process group of its own, which nothing else would end.
        let id = self.child.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|text| text.parse().ok()) {
            let _ = killpg(Pid::from_raw(child), Signal::SIGKILL);
        }
        let _ = killpg(self.pid(), Signal::SIGKILL);
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.output);
    }
}

pub fn parse(bytes: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let chunked = head.contains("Transfer-Encoding: chunked");
    let body = if chunked { dechunk(body) } else { body.to_owned() };
    Some(Answer {
        status,
        head: head.to_owned(),
        body,
    })
}

fn dechunk(mut text: &str) -> String {
    let mut out = String::new();
    while let Some((size, rest)) = text.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        out.push_str(&rest[..size.min(rest.len())]);
        text = rest.get(size + 2..).unwrap_or_default();
    }
    out
}

/// What `standin verify` says of a path.
pub fn verify(path: &Path) -> Result<dagger_tests::standin::verify::Found, String> {
    dagger_tests::standin::verify::verify(path)
}
