//! A small world for the agent: a bus of its own, a systemd that says what the test wants, an application that answers what
//! the test wants, and the real program.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dagger_suite::names::BUS_NAME;
use zbus::fdo::{self, DBusProxy, Properties};
use zbus::names::InterfaceName;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, OwnedObjectPath, Variant, connection, interface};

/// A unit that runs, as systemd tells of it: LoadState, ActiveState, SubState, MainPID.
pub const ACTIVE: (&str, &str, &str, u32) = ("loaded", "active", "running", 4321);
/// One that does not.
pub const STOPPED: (&str, &str, &str, u32) = ("loaded", "inactive", "dead", 0);

const MANAGER: &str = "/org/freedesktop/systemd1";
/// Longer than anything here may take on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(30);

/// A unit as the fake systemd has it: load state, active state, sub state, main process.
type Unit = (&'static str, &'static str, &'static str, u32);
type Row = (
    String,
    String,
    String,
    String,
    String,
    String,
    OwnedObjectPath,
    u32,
    String,
    OwnedObjectPath,
);

/// The fake systemd's manager: its units, those that it was asked to restart, and what it was asked to do with jobs.
struct Manager(
    Arc<Mutex<HashMap<String, Unit>>>,
    Arc<Mutex<Vec<String>>>,
    Arc<Mutex<Vec<String>>>,
);

#[allow(
    clippy::needless_pass_by_value,
    reason = "the interface macro hands arguments over as values"
)]
#[interface(name = "org.freedesktop.systemd1.Manager")]
impl Manager {
    #[expect(clippy::unused_self, reason = "a method of an interface has one")]
    fn subscribe(&self) {}

    fn try_restart_unit(&self, name: String, mode: &str) -> OwnedObjectPath {
        assert_eq!(mode, "replace");
        self.1.lock().unwrap().push(name);
        OwnedObjectPath::try_from("/job/1").unwrap()
    }

    fn restart_unit(&self, name: String, mode: &str) -> OwnedObjectPath {
        self.try_restart_unit(name, mode)
    }

    /// A unit that is masked is refused; what becomes of others, the test says.
    fn start_unit(&self, name: String, mode: &str) -> fdo::Result<OwnedObjectPath> {
        assert_eq!(mode, "fail");
        let masked = self
            .0
            .lock()
            .unwrap()
            .get(&name)
            .is_some_and(|unit| unit.0 == "masked");
        if masked {
            return Err(fdo::Error::Failed(format!("Unit {name} is masked.")));
        }
        self.2.lock().unwrap().push(format!("start {name}"));
        Ok(OwnedObjectPath::try_from("/job/2").unwrap())
    }

    fn kill_unit(&self, name: String, whom: &str, signal: i32) {
        self.2
            .lock()
            .unwrap()
            .push(format!("kill {name} {whom} {signal}"));
    }

    fn list_units_by_patterns(&self, states: Vec<String>, patterns: Vec<String>) -> Vec<Row> {
        assert_eq!(patterns, ["dagger-*@*.service"]);
        let units = self.0.lock().unwrap();
        let fits =
            |(name, unit): &(&String, &Unit)| name.contains('@') && states.contains(&unit.1.to_owned());
        let names: Vec<String> = units.iter().filter(fits).map(|(name, _)| name.clone()).collect();
        drop(units);
        self.list_units_by_names(names)
    }

    fn list_units_by_names(&self, names: Vec<String>) -> Vec<Row> {
        let units = self.0.lock().unwrap();
        let row = |name: String| {
            let (load, active, sub, _) =
                units
                    .get(&name)
                    .copied()
                    .unwrap_or(("not-found", "inactive", "dead", 0));
            let path = OwnedObjectPath::try_from(path(&name)).unwrap();
            let job = OwnedObjectPath::try_from("/").unwrap();
            let [load, active, sub] = [load, active, sub].map(str::to_owned);
            (
                name.clone(),
                name,
                load,
                active,
                sub,
                String::new(),
                path,
                0,
                String::new(),
                job,
            )
        };
        names.into_iter().map(row).collect()
    }
}

/// The parts of a unit that are read one by one.
struct UnitObject;

#[interface(name = "org.freedesktop.systemd1.Unit")]
impl UnitObject {
    #[zbus(property)]
    #[expect(clippy::unused_self, reason = "a property of an interface has one")]
    fn inactive_exit_timestamp_monotonic(&self) -> u64 {
        1
    }

    #[zbus(property, name = "InvocationID")]
    #[expect(clippy::unused_self, reason = "a property of an interface has one")]
    fn invocation_id(&self) -> Vec<u8> {
        vec![0xab; 16]
    }
}

struct ServiceObject {
    main_pid: u32,
    /// So many milliseconds it takes to say so.
    slow: Arc<AtomicU32>,
}

#[interface(name = "org.freedesktop.systemd1.Service")]
impl ServiceObject {
    #[zbus(property)]
    #[expect(clippy::unused_self, reason = "a property of an interface has one")]
    fn status_text(&self) -> String {
        String::new()
    }

    #[zbus(property, name = "MainPID")]
    async fn main_pid(&self) -> u32 {
        let slow = self.slow.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(slow.into())).await;
        self.main_pid
    }
}

fn path(unit: &str) -> String {
    let escaped: String = unit
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'0'..=b'9' => char::from(byte).to_string(),
            other => format!("_{other:02x}"),
        })
        .collect();
    format!("{MANAGER}/unit/{escaped}")
}

/// An HTTP application that counts how often it was asked.
pub struct Application {
    /// Where it listens.
    pub port: u16,
    /// Whether it answers as it should.
    pub good: Arc<AtomicBool>,
    /// How often it was asked.
    pub asked: Arc<AtomicU32>,
}

impl Application {
    /// Each answer takes `delay`.
    pub fn start(delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (good, asked) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU32::new(0)));
        let (is_good, count) = (good.clone(), asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::Relaxed);
                let good = is_good.load(Ordering::Relaxed);
                std::thread::spawn(move || {
                    let mut stream = stream;
                    let mut request = [0; 1024];
                    let _ = stream.read(&mut request);
                    std::thread::sleep(delay);
                    let status = if good { "200 OK" } else { "500 No" };
                    let _ = write!(
                        stream,
                        "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                    );
                });
            }
        });
        Self { port, good, asked }
    }
}

/// See the module.
pub struct World {
    dir: PathBuf,
    daemon: Child,
    address: String,
    units: Arc<Mutex<HashMap<String, Unit>>>,
    /// Units that systemd was asked to restart unless they are stopped.
    pub restarted: Arc<Mutex<Vec<String>>>,
    /// What systemd was asked to do with units of jobs: `start NAME`, `kill NAME main 15`.
    pub asked: Arc<Mutex<Vec<String>>>,
    /// So many milliseconds it takes systemd to say what a unit's main process is.
    pub slow: Arc<AtomicU32>,
    systemd: Option<Connection>,
    agent: Option<Child>,
    notify: UnixDatagram,
}

impl World {
    /// A bus with the fake systemd on it. None, said aloud, where there is no dbus-daemon.
    pub async fn new(name: &str) -> Option<Self> {
        let dir = std::env::temp_dir().join(format!("dagger-bus-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("root/etc/dagger")).unwrap();
        let config = dir.join("bus.conf");
        let text = format!(
            "<busconfig><type>system</type><listen>unix:path={}</listen><auth>EXTERNAL</auth><policy context=\"default\">\
             <allow own=\"*\"/><allow send_destination=\"*\"/><allow receive_sender=\"*\"/></policy></busconfig>",
            dir.join("bus").display()
        );
        fs::write(&config, text).unwrap();
        let started = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", config.display()))
            .args(["--nofork", "--print-address"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut daemon) = started else {
            eprintln!("skipped: there is no dbus-daemon here");
            return None;
        };
        let mut address = String::new();
        BufReader::new(daemon.stdout.take().unwrap())
            .read_line(&mut address)
            .unwrap();
        let address = address.trim().to_owned();
        let units = Arc::new(Mutex::new(HashMap::new()));
        let restarted = Arc::new(Mutex::new(Vec::new()));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let systemd = connection::Builder::address(address.as_str())
            .serve_at(MANAGER, Manager(units.clone(), restarted.clone(), asked.clone()))
            .name("org.freedesktop.systemd1")
            .build()
            .await
            .unwrap();
        let notify = UnixDatagram::bind(dir.join("notify")).unwrap();
        notify.set_read_timeout(Some(LIMIT)).unwrap();
        Some(Self {
            dir,
            daemon,
            address,
            units,
            restarted,
            asked,
            slow: Arc::default(),
            systemd: Some(systemd),
            agent: None,
            notify,
        })
    }

    fn systemd(&self) -> &Connection {
        self.systemd.as_ref().unwrap()
    }

    /// Writes a file below the root.
    pub fn put(&self, path: &str, text: &str) {
        let path = self.dir.join("root").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Writes the configuration: one service a name, asked once a second on its port.
    pub fn configure(&self, services: &[(&str, u16)]) {
        let table = |(name, port): &(&str, u16)| {
            format!(
                "[services.{name}]\nimage = \"localhost/x:1\"\nport = {port}\nstart-budget = \"1s\"\n\
                 health = {{ kind = \"http\", path = \"/ping\", interval = \"1s\", timeout = \"2s\", failures = 2 }}\n"
            )
        };
        for (name, _) in services {
            fs::create_dir_all(self.dir.join("root/var/lib/nixarr").join(name)).unwrap();
        }
        let text: String = services.iter().map(table).collect();
        self.put("etc/dagger/dagger.toml", &text);
    }

    /// What systemd knows before the agent comes.
    pub async fn unit(&self, name: &str, unit: Unit) {
        self.units.lock().unwrap().insert(name.into(), unit);
        let server = self.systemd().object_server();
        let path = path(name);
        server.at(path.as_str(), UnitObject).await.unwrap();
        let _ = server.remove::<ServiceObject, _>(path.as_str()).await;
        let object = ServiceObject {
            main_pid: unit.3,
            slow: self.slow.clone(),
        };
        server.at(path.as_str(), object).await.unwrap();
    }

    /// systemd says that a unit changed.
    pub async fn change(&self, name: &str, unit: Unit) {
        self.unit(name, unit).await;
        let path = path(name);
        let emitter = SignalEmitter::new(self.systemd(), path.as_str()).unwrap();
        let of_service = HashMap::from([("MainPID", Variant::from(unit.3))]);
        let of_unit = HashMap::from([
            ("ActiveState", Variant::from(unit.1)),
            ("SubState", Variant::from(unit.2)),
        ]);
        for (interface, properties) in [("Service", of_service), ("Unit", of_unit)] {
            let interface = InterfaceName::try_from(format!("org.freedesktop.systemd1.{interface}")).unwrap();
            Properties::properties_changed(&emitter, interface, properties, (&[]).into())
                .await
                .unwrap();
        }
    }

    /// The gate refuses a start, with these words, and systemd is about to try again.
    pub async fn refuse(&self, name: &str, words: &str) {
        let path = path(name);
        let emitter = SignalEmitter::new(self.systemd(), path.as_str()).unwrap();
        let interface = InterfaceName::try_from("org.freedesktop.systemd1.Service").unwrap();
        let status = HashMap::from([("StatusText", Variant::from(words))]);
        Properties::properties_changed(&emitter, interface, status, (&[]).into())
            .await
            .unwrap();
        self.change(name, ("loaded", "activating", "auto-restart", 0))
            .await;
    }

    /// systemd says that it has read its units again.
    pub async fn reloaded(&self) {
        for active in [true, false] {
            self.systemd()
                .emit_signal(
                    None::<&str>,
                    MANAGER,
                    "org.freedesktop.systemd1.Manager",
                    "Reloading",
                    &active,
                )
                .await
                .unwrap();
        }
    }

    /// Starts the agent and waits until it owns its name; how long that took.
    pub async fn start(&mut self) -> Duration {
        self.start_with(&[]).await
    }

    /// The same with more in its environment.
    pub async fn start_with(&mut self, environment: &[(&str, &str)]) -> Duration {
        let begin = Instant::now();
        let child = Command::new(env!("CARGO_BIN_EXE_dagger-agent"))
            .env("DBUS_SYSTEM_BUS_ADDRESS", &self.address)
            .env("DAGGER_ROOT", self.dir.join("root"))
            .env("NOTIFY_SOCKET", self.dir.join("notify"))
            .env_remove("JOURNAL_STREAM")
            .envs(environment.iter().copied())
            .stderr(fs::File::create(self.dir.join("log")).unwrap())
            .spawn()
            .unwrap();
        self.agent = Some(child);
        let bus = DBusProxy::new(self.systemd()).await.unwrap();
        let name = zbus::names::BusName::try_from(BUS_NAME).unwrap();
        while !bus.name_has_owner(name.as_ref()).await.unwrap() {
            assert!(
                begin.elapsed() < LIMIT,
                "the agent does not come up: {}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        begin.elapsed()
    }

    /// Puts something else on the bus, under a name.
    pub async fn serve<I: zbus::object_server::Interface>(
        &self,
        name: &'static str,
        path: &'static str,
        object: I,
    ) -> Connection {
        connection::Builder::address(self.address.as_str())
            .serve_at(path, object)
            .name(name)
            .build()
            .await
            .unwrap()
    }

    /// A connection for a caller.
    pub async fn caller(&self) -> Connection {
        connection::Builder::address(self.address.as_str())
            .build()
            .await
            .unwrap()
    }

    /// What the agent has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// The next message to systemd's notify socket.
    pub fn notification(&self) -> String {
        self.notification_within(LIMIT).unwrap()
    }

    /// The next message to systemd's notify socket, where one comes within this time.
    pub fn notification_within(&self, limit: Duration) -> Option<String> {
        self.notify.set_read_timeout(Some(limit)).unwrap();
        let mut buffer = [0; 4096];
        let length = self.notify.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }

    /// Sends the agent a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(self.agent.as_ref().unwrap());
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Memory of the agent that is resident, in KiB.
    pub fn resident(&self) -> u64 {
        let pid = self.agent.as_ref().unwrap().id();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Takes the bus away.
    pub fn end_bus(&mut self) {
        self.systemd = None;
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
    }

    /// Waits until the agent ends, and returns its exit code.
    pub fn ended(&mut self) -> Option<i32> {
        let begin = Instant::now();
        let agent = self.agent.as_mut().unwrap();
        while begin.elapsed() < LIMIT {
            if let Some(status) = agent.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the agent does not end");
    }

    /// A path below the root.
    pub fn path(&self, path: &str) -> PathBuf {
        self.dir.join("root").join(Path::new(path))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(agent) = &mut self.agent {
            let _ = agent.kill();
            let _ = agent.wait();
        }
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}
