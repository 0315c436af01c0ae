//! Sockets as they are read on a machine where nothing holds still: they come and go by the thousand, vanish between two
//! looks, and live in many namespaces. Whatever happens, nobody is named who does not have the port.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dagger_agent::adapter::sockets::dump::{self, Which};
use dagger_agent::adapter::sockets::groups::Groups;
use dagger_agent::adapter::sockets::{self, netns};
use dagger_agent::adapter::survey;
use dagger_agent::domain::conflict::{Claim, Port, Wanted};
use dagger_suite::model::Protocol;
use dagger_suite::names::Root;

/// One test at a time: a process that another one starts has all sockets of this one until it is another program.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// More than one datagram holds (about 260): the kernel interrupts its answer, and goes on where it was.
const STEADY: usize = 700;
const CHURN: Duration = Duration::from_secs(1);

/// Ends the churn however the test ends.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Listeners and UDP sockets, bound and closed again as fast as that goes.
fn churn(done: &AtomicBool, binds: &AtomicUsize) {
    while !done.load(Ordering::Relaxed) {
        let listeners = ["127.0.0.1:0", "0.0.0.0:0", "127.0.0.2:0"].map(TcpListener::bind);
        let sockets = ["127.0.0.1:0", "0.0.0.0:0"].map(UdpSocket::bind);
        binds.fetch_add(listeners.len() + sockets.len(), Ordering::Relaxed);
        std::thread::sleep(Duration::from_micros(500));
    }
}

#[test]
fn what_holds_still_is_told_once_while_a_thousand_a_second_come_and_go() {
    let _alone = alone();
    let steady: Vec<TcpListener> = (0..STEADY)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    let addresses: Vec<SocketAddr> = steady.iter().map(|one| one.local_addr().unwrap()).collect();
    let (done, binds) = (AtomicBool::new(false), AtomicUsize::new(0));
    let began = Instant::now();
    let mut looks = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| churn(&done, &binds));
        let _end = End(&done);
        while began.elapsed() < CHURN {
            let mut told: BTreeMap<SocketAddr, usize> = BTreeMap::new();
            for found in dump::servers().unwrap() {
                if found.protocol == Protocol::Tcp {
                    *told.entry(found.address).or_default() += 1;
                }
            }
            let wrong: Vec<_> = addresses
                .iter()
                .filter(|address| told.get(address) != Some(&1))
                .collect();
            assert_eq!(wrong, Vec::<&SocketAddr>::new(), "of {STEADY} at look {looks}");
            let ports: Vec<u16> = addresses.iter().step_by(100).map(SocketAddr::port).collect();
            let some = dump::on_ports(Protocol::Tcp, &ports, Which::Listening).unwrap();
            let ours = some.iter().filter(|found| addresses.contains(&found.address));
            assert_eq!(ours.count(), ports.len());
            looks += 1;
        }
    });
    let rate = f64::from(u32::try_from(binds.into_inner()).unwrap()) / began.elapsed().as_secs_f64();
    println!("{rate:.0} binds a second, {looks} looks");
    assert!(
        looks > 20 && rate > 1000.0,
        "{rate:.0} binds a second, {looks} looks"
    );
}

/// The kernel's answer is old when it is read: who has gone since has no process, and nobody else is taken for it.
#[test]
fn a_socket_that_vanishes_after_the_dump_has_no_process() {
    let _alone = alone();
    // Outside of the range from which the others here get theirs.
    let listener = (2000..9000)
        .find_map(|port| TcpListener::bind(("127.0.0.9", port)).ok())
        .unwrap();
    let port = Port {
        protocol: Protocol::Tcp,
        number: listener.local_addr().unwrap().port(),
    };
    let found = dump::on_port(port, Which::All).unwrap();
    assert_eq!(found.len(), 1);
    drop(listener);
    // Whoever comes next on the port is another socket.
    let next = TcpListener::bind(("127.0.0.9", port.number)).unwrap();
    let mut groups = Groups::new().unwrap();
    groups.learn(&found);
    let holders = sockets::name(&groups, &found);
    assert_eq!(holders[0].process, None);
    drop(next);
    assert!(sockets::holders(port).unwrap().is_empty());
}

/// A network namespace that lives as long as this.
struct Namespace(Child);

impl Namespace {
    /// None where we may not make any.
    fn new() -> Option<Self> {
        let mut child = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo here; exec sleep 60"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut said = [0; 4];
        child.stdout.as_mut()?.read_exact(&mut said).ok()?;
        Some(Self(child))
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.0.id()))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_hundred_namespaces_are_looked_at_each_by_itself() {
    let _alone = alone();
    let namespaces: Vec<Namespace> = (0..100).map_while(|_| Namespace::new()).collect();
    if namespaces.len() < 100 {
        println!("skipped: network namespaces need privilege");
        return;
    }
    let port = Port {
        protocol: Protocol::Tcp,
        number: 8989,
    };
    // In every second one somebody listens, as in the host's, where nobody of these services is.
    let listeners: Vec<TcpListener> = namespaces
        .iter()
        .step_by(2)
        .map(|one| netns::within(Some(&one.path()), || TcpListener::bind("0.0.0.0:8989")).unwrap())
        .collect();
    let wanted: Vec<Wanted> = namespaces
        .iter()
        .enumerate()
        .map(|(number, one)| Wanted {
            service: format!("s{number}"),
            unit: format!("dagger-s{number}.service"),
            native: None,
            namespace: Some(one.path().display().to_string()),
            ports: vec![Claim {
                what: "web".into(),
                port,
            }],
        })
        .collect();
    let began = Instant::now();
    let survey = survey::look(&Root::new("/"), &wanted);
    println!("{:?} for {} namespaces", began.elapsed(), wanted.len());
    assert_eq!(survey.blind, Vec::<String>::new());
    let mut told: Vec<Option<&str>> = survey.held.iter().map(|held| held.namespace.as_deref()).collect();
    told.sort_unstable();
    let mut expected: Vec<Option<&str>> = wanted
        .iter()
        .step_by(2)
        .map(|wanted| wanted.namespace.as_deref())
        .collect();
    expected.sort_unstable();
    assert_eq!(told, expected, "{} listeners", listeners.len());
    assert!(
        survey
            .held
            .iter()
            .all(|held| held.holder.process.as_ref().map(|process| process.pid) == Some(std::process::id()))
    );
}

/// Tells a process of this program that it is the one to hold a port.
const HOLDER: &str = "DAGGER_TEST_SOCKET";

/// Control groups of the test's own, removed at the end.
struct Own(Vec<PathBuf>);

impl Own {
    /// None where they cannot be made.
    fn new(units: &[&str]) -> Option<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let line = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
        let slice =
            PathBuf::from(line.split(' ').nth(4)?).join(format!("daggersockets{}.slice", std::process::id()));
        let groups: Vec<PathBuf> = units.iter().map(|unit| slice.join(unit)).collect();
        groups
            .iter()
            .all(|group| std::fs::create_dir_all(group).is_ok())
            .then_some(Self(groups))
    }

    fn take(&self, number: usize, process: u32) -> bool {
        std::fs::write(self.0[number].join("cgroup.procs"), process.to_string()).is_ok()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        for group in &self.0 {
            let _ = std::fs::remove_dir(group);
        }
        let _ = std::fs::remove_dir(self.0[0].parent().unwrap());
    }
}

fn hold() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("\nport {}", listener.local_addr().unwrap().port());
    std::io::stdin().read_line(&mut line).unwrap();
}

/// As podman does it for a published port: the socket is made in a login, and kept by a process of another unit.
#[test]
fn a_socket_that_was_handed_on_is_named_after_who_has_it_and_never_after_its_maker() {
    if std::env::var_os(HOLDER).is_some() {
        return hold();
    }
    let _alone = alone();
    let Some(groups) = Own::new(&["made\\x2dhere.scope", "lives\\x2dhere.service"]) else {
        println!("skipped: control groups cannot be made");
        return;
    };
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "a_socket_that_was_handed_on_is_named_after_who_has_it_and_never_after_its_maker",
            "--nocapture",
        ])
        .env(HOLDER, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    if !groups.take(0, child.id()) {
        println!("skipped: processes cannot be moved");
        child.kill().unwrap();
        child.wait().unwrap();
        return;
    }
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"go\n").unwrap();
    let number = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("port ")?.parse().ok())
        .unwrap();
    let port = Port {
        protocol: Protocol::Tcp,
        number,
    };
    let unit = || {
        let holders = sockets::holders(port).unwrap();
        assert_eq!(
            holders[0].process.as_ref().map(|process| process.pid),
            Some(child.id())
        );
        holders[0].unit.as_ref().map(|unit| unit.name.clone())
    };
    assert_eq!(unit().as_deref(), Some("made\\x2dhere.scope"));
    assert!(groups.take(1, child.id()));
    assert_eq!(unit().as_deref(), Some("lives\\x2dhere.service"));
    // The kernel still tells the number of a group that nobody can look up any more.
    std::fs::remove_dir(&groups.0[0]).unwrap();
    assert!(dump::on_port(port, Which::Listening).unwrap()[0].cgroup.is_some());
    assert_eq!(unit().as_deref(), Some("lives\\x2dhere.service"));
    drop(input);
    child.wait().unwrap();
    assert!(sockets::holders(port).unwrap().is_empty());
}
