//! A small world for the client: a bus of its own, an agent and a systemd that say what the test wants, a root with a
//! configuration, and programs that only write down how they were called.

#[path = "jobs.rs"]
mod jobs;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc as threads;

use dagger_agent::adapter::bus::{
    Ask, BusError, ConflictView, Manager, ManagerView, Owner, ServiceObject, ServiceView,
};
use dagger_agent::domain::health::Health;
use dagger_suite::names::{BUS_NAME, BUS_ROOT, ServiceName};
use tokio::sync::{mpsc, watch};
use zbus::{connection, fdo, interface};

/// See the module.
pub struct World {
    /// Directory of the test: `root/` is the machine's root, `bin/` comes first in PATH.
    pub dir: PathBuf,
    bus: Option<(Child, String)>,
}

impl World {
    /// An empty world without a bus.
    pub fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("dagger-client-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        for below in ["root/etc/dagger", "bin"] {
            fs::create_dir_all(dir.join(below)).unwrap();
        }
        Self { dir, bus: None }
    }

    /// Starts a bus. None, said aloud, where there is no dbus-daemon.
    pub fn with_bus(name: &str) -> Option<Self> {
        let mut world = Self::new(name);
        let config = world.dir.join("bus.conf");
        let text = format!(
            "<busconfig><type>system</type><listen>unix:path={}</listen><auth>EXTERNAL</auth><policy context=\"default\">\
             <allow own=\"*\"/><allow send_destination=\"*\"/><allow receive_sender=\"*\"/></policy></busconfig>",
            world.dir.join("bus").display()
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
        world.bus = Some((daemon, address.trim().to_owned()));
        Some(world)
    }

    /// Writes a file below the root.
    pub fn put(&self, path: &str, text: &str) {
        let path = self.dir.join("root").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A program that writes its name and its words, one a line, and ends with a status.
    pub fn program(&self, name: &str, status: u8) {
        self.script(name, &format!("printf '%s\\n' {name} \"$@\"\nexit {status}"));
    }

    /// A program of one's own.
    pub fn script(&self, name: &str, text: &str) {
        let path = self.dir.join("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The client, ready to be run in this world.
    pub fn client(&self, words: &[&str]) -> Command {
        self.called("daggerctl", words)
    }

    /// The client under another name.
    pub fn called(&self, name: &str, words: &[&str]) -> Command {
        let program = self.dir.join(name);
        if fs::symlink_metadata(&program).is_err() {
            symlink(env!("CARGO_BIN_EXE_daggerctl"), &program).unwrap();
        }
        let path = format!(
            "{}:{}",
            self.dir.join("bin").display(),
            std::env::var("PATH").unwrap()
        );
        let nowhere = format!("unix:path={}", self.dir.join("no-bus").display());
        let mut command = Command::new(program);
        command
            .args(words)
            .env("PATH", path)
            .env("DAGGER_ROOT", self.dir.join("root"))
            .env(
                "DBUS_SYSTEM_BUS_ADDRESS",
                self.bus.as_ref().map_or(nowhere, |(_, address)| address.clone()),
            );
        command
    }

    /// Serves an agent that shows these services. What is sent into the channel takes the place of the first service.
    pub fn agent(&self, services: Vec<ServiceView>, mistakes: &[&str]) -> threads::Sender<ServiceView> {
        let address = self.bus.as_ref().unwrap().1.clone();
        let manager = ManagerView {
            version: "9.9.9".into(),
            health: Health::worst(services.iter().map(|service| service.health)),
            services: Vec::new(),
            configuration_errors: mistakes.iter().map(|&mistake| mistake.to_owned()).collect(),
            conflict_count: 0,
        };
        in_background(move |ready, changes| serve_agent(address, manager, services, ready, changes))
    }

    /// Serves a polkit that would ask for a password, and gets it.
    pub fn polkit(&self) {
        let address = self.bus.as_ref().unwrap().1.clone();
        in_background(move |ready, _| async move {
            let builder = connection::Builder::address(address.as_str())
                .name("org.freedesktop.PolicyKit1")
                .serve_at("/org/freedesktop/PolicyKit1/Authority", Polkit);
            let _connection = builder.build().await.unwrap();
            ready.send(()).unwrap();
            std::future::pending::<()>().await;
        });
    }

    /// Serves a systemd that has these units loaded: name, active and sub state.
    pub fn systemd(&self, units: &'static [(&'static str, &'static str, &'static str)]) {
        let address = self.bus.as_ref().unwrap().1.clone();
        in_background(move |ready, _| async move {
            let mut builder = connection::Builder::address(address.as_str())
                .name("org.freedesktop.systemd1")
                .serve_at("/org/freedesktop/systemd1", Systemd(units));
            for (unit, active, sub) in units {
                builder = builder.serve_at(systemd_path(unit), Unit);
                builder = builder.serve_at(systemd_path(unit), State(active, sub));
            }
            let _connection = builder.build().await.unwrap();
            ready.send(()).unwrap();
            std::future::pending::<()>().await;
        });
    }
}

/// A polkit that allows what it may ask people about, and nothing else.
struct Polkit;

/// A subject: its kind, and what identifies it.
type Subject = (String, std::collections::HashMap<String, zbus::OwnedVariant>);

#[allow(
    clippy::needless_pass_by_value,
    clippy::unused_self,
    reason = "the interface macro hands arguments over as values; every polkit of the test says the same"
)]
#[interface(name = "org.freedesktop.PolicyKit1.Authority")]
impl Polkit {
    fn check_authorization(
        &self,
        subject: Subject,
        action: String,
        details: std::collections::HashMap<String, String>,
        flags: u32,
        cancellation: String,
    ) -> (bool, bool, std::collections::HashMap<String, String>) {
        let asks = flags & 1 == 1;
        let pause = action == "org.nixarr.dagger1.pause" && details["service"] == "sonarr";
        let job = ["plan", "migrate", "rollback", "resume", "cancel"]
            .iter()
            .any(|verb| action == format!("org.nixarr.dagger1.{verb}"));
        let right = subject.0 == "system-bus-name" && (pause || job) && cancellation.is_empty();
        (asks && right, !asks, std::collections::HashMap::new())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some((daemon, _)) = &mut self.bus {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Runs a server on a thread of its own until the test ends, and waits until it serves.
fn in_background<F: Future<Output = ()>>(
    server: impl FnOnce(threads::Sender<()>, threads::Receiver<ServiceView>) -> F + Send + 'static,
) -> threads::Sender<ServiceView> {
    let (ready, is_ready) = threads::channel();
    let (changes, received) = threads::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(server(ready, received));
    });
    is_ready.recv().expect("the server did not start");
    changes
}

async fn serve_agent(
    address: String,
    manager: ManagerView,
    services: Vec<ServiceView>,
    ready: threads::Sender<()>,
    changes: threads::Receiver<ServiceView>,
) {
    let (queue, mut requests) = mpsc::channel(8);
    let (_manager, manager) = watch::channel(manager);
    let mut builder = connection::Builder::address(address.as_str())
        .name(BUS_NAME)
        .serve_at(BUS_ROOT, fdo::ObjectManager)
        .serve_at(BUS_ROOT, Manager::new(manager, queue.clone()));
    let mut views = Vec::new();
    for service in services {
        let path = ServiceName::parse(&service.name).unwrap().object_path();
        let (view, shown) = watch::channel(service);
        builder = builder.serve_at(path.clone(), ServiceObject::new(shown, queue.clone()));
        views.push((path, view));
    }
    let connection = builder.build().await.unwrap();
    ready.send(()).unwrap();
    let mut busy = 2;
    let mut jobs = jobs::Jobs::new(connection.clone(), queue);
    loop {
        let pause = tokio::time::sleep(std::time::Duration::from_millis(10));
        tokio::select! {
            Some(request) = requests.recv() => {
                let Some(ask) = jobs.answer(request.ask).await else { continue };
                let views: Vec<_> = views.iter().map(|(_, view)| view.borrow().clone()).collect();
                answer(ask, views, &mut busy);
            }
            () = pause => {
                let Ok(change) = changes.try_recv() else { continue };
                views[0].1.send_replace(change);
                let object = connection.object_server().interface::<_, ServiceObject>(views[0].0.as_str()).await.unwrap();
                object.get().await.health_changed(object.signal_emitter()).await.unwrap();
            }
        }
    }
}

/// Answers as the agent would: `why` is put off `busy` times, and a pause must be one of two hours, of sonarr.
fn answer(ask: Ask, views: Vec<ServiceView>, busy: &mut u32) {
    match ask {
        Ask::Check(name, answer) => {
            let asked = |view: &ServiceView| name.as_deref().is_none_or(|name| name == view.name);
            let views = views.into_iter().filter(asked);
            let checked = views.map(|v| {
                (
                    v.name,
                    v.health.word().into(),
                    format!("asked: {}", v.health_detail),
                )
            });
            let _ = answer.send(Ok(checked.collect()));
        }
        Ask::Why(_, answer) if *busy > 0 => {
            *busy -= 1;
            let _ = answer.send(Err(BusError::Throttled("later".into())));
        }
        Ask::Why(name, answer) => {
            let told = format!("/srv/media is not mounted; {} waits for it", views[0].name);
            let _ = answer.send(Ok((told, true, vec![format!("{name} was looked at")])));
        }
        Ask::Conflicts(answer) => {
            let taken = views.iter().filter(|view| !view.conflicts.is_empty());
            let _ = answer.send(Ok(taken.map(conflict).collect()));
        }
        Ask::Admit(answer) | Ask::Resume(_, answer) | Ask::Reload(answer) => {
            let _ = answer.send(Ok(()));
        }
        Ask::Pause(name, length, answer) => {
            let asked = (name.as_str(), length.as_secs());
            let _ = answer.send(match asked {
                ("sonarr", 7200 | 0) => Ok(()),
                other => Err(BusError::Failed(format!("not what was asked: {other:?}"))),
            });
        }
        other => other.refuse(BusError::Failed("not in this world".into())),
    }
}

/// Somebody else has the port of a service that says so.
fn conflict(view: &ServiceView) -> ConflictView {
    ConflictView {
        kind: "taken".into(),
        service: view.name.clone(),
        sentence: view.conflicts[0].clone(),
        breaks: format!("{} does not start until the port is free", view.name),
        remedy: "stop it".into(),
        since: 1,
        protocol: Some("tcp".into()),
        port: Some(view.port),
        what: Some("web".into()),
        address: Some("0.0.0.0:1".into()),
        unit: Some("web.service".into()),
        user: Some(33),
        ..ConflictView::default()
    }
}

/// Object path of a unit (sd_bus_path_encode(3)), for the names that the tests use.
fn systemd_path(unit: &str) -> String {
    let escaped = unit.replace('-', "_2d").replace('.', "_2e").replace('@', "_40");
    format!("/org/freedesktop/systemd1/unit/{escaped}")
}

struct Systemd(&'static [(&'static str, &'static str, &'static str)]);

type Row = (
    String,
    String,
    String,
    String,
    String,
    String,
    zbus::OwnedObjectPath,
    u32,
    String,
    zbus::OwnedObjectPath,
);

#[allow(
    clippy::needless_pass_by_value,
    reason = "the interface macro hands arguments over as values"
)]
#[interface(name = "org.freedesktop.systemd1.Manager")]
impl Systemd {
    fn list_units_by_patterns(&self, states: Vec<String>, patterns: Vec<String>) -> Vec<Row> {
        assert_eq!(patterns, ["dagger-*.service"]);
        let none = || zbus::OwnedObjectPath::try_from("/").unwrap();
        let text = str::to_owned;
        self.0
            .iter()
            .filter(|(unit, ..)| unit.starts_with("dagger-"))
            .filter(|(_, active, _)| states.is_empty() || states.iter().any(|state| state == active))
            .map(|(unit, active, sub)| {
                let path = zbus::OwnedObjectPath::try_from(systemd_path(unit)).unwrap();
                (
                    text(unit),
                    text(""),
                    text("loaded"),
                    text(active),
                    text(sub),
                    text(""),
                    path,
                    0,
                    text(""),
                    none(),
                )
            })
            .collect()
    }
}

struct State(&'static str, &'static str);

#[interface(name = "org.freedesktop.systemd1.Unit")]
impl State {
    #[zbus(property)]
    fn active_state(&self) -> String {
        self.0.into()
    }

    #[zbus(property)]
    fn sub_state(&self) -> String {
        self.1.into()
    }
}

struct Unit;

#[allow(clippy::unused_self, reason = "every unit of the test says the same")]
#[interface(name = "org.freedesktop.systemd1.Service")]
impl Unit {
    #[zbus(property)]
    fn memory_current(&self) -> u64 {
        100 << 20
    }

    #[zbus(property, name = "MainPID")]
    fn main_pid(&self) -> u32 {
        4711
    }
}

/// A service as the agent would show it.
pub fn service(name: &str, health: Health) -> ServiceView {
    ServiceView {
        name: name.into(),
        kind: name.into(),
        unit: format!("dagger-{name}.service"),
        owner: Owner::Container,
        active_state: "active".into(),
        sub_state: "running".into(),
        health,
        health_detail: "HTTP 200 in 3 ms".into(),
        since: 1,
        latency_usec: 3200,
        port: 8989,
        url: "http://localhost:8989".into(),
        image: "lscr.io/linuxserver/x:latest".into(),
        image_digest: "sha256:0".into(),
        version: "4.0.15".into(),
        main_pid: 42,
        wants: vec!["prowlarr".into()],
        cause: String::new(),
        problems: Vec::new(),
        conflicts: Vec::new(),
        paused_until: 0,
        recoveries: 0,
        work: String::new(),
        interrupted: false,
    }
}

/// Runs a command: status, standard output, standard error.
pub fn run(command: &mut Command) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        status.code().expect("ended by a signal"),
        text(stdout),
        text(stderr),
    )
}
