//! Who holds a port: listeners in control groups laid out as systemd lays them out, read by the gate as root.
//! Skipped where groups cannot be made.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

#[allow(dead_code, reason = "nothing is read back here")]
mod gate_support;

use std::io::{BufRead as _, BufReader, IoSlice, Write as _};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use gate_support::Machine;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// Tells the process that plays the holder how long to hold, in milliseconds.
const HOLDER: &str = "DAGGER_TEST_HOLDER";
/// The test that also is the holder.
const TEST: &str = "a_unit_in_the_way_is_named_and_our_own_is_waited_for";

/// A control group in a slice of the test's own, removed at the end.
struct Group(PathBuf);

/// Tests run side by side: each group has a slice of its own.
static MADE: AtomicU32 = AtomicU32::new(0);

impl Group {
    fn new(unit: &str) -> Option<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let line = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
        let mount = PathBuf::from(line.split(' ').nth(4)?);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let slice = mount.join(format!("daggertest{}x{number}.slice", std::process::id()));
        let group = slice.join(unit);
        match std::fs::create_dir_all(&group) {
            Ok(()) => Some(Self(group)),
            Err(error) => {
                eprintln!(
                    "skipped: cannot make the control group {}: {error}",
                    group.display()
                );
                None
            }
        }
    }

    /// A process in this group that listens. Its socket also lies on the way to whoever holds the last of these, so that it
    /// listens for longer than the process lives.
    fn listener(&self, millis: u32) -> Option<(Child, u16, UnixStream)> {
        let (mut near, far) = UnixStream::pair().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", TEST, "--nocapture"])
            .env(HOLDER, millis.to_string())
            .stdin(OwnedFd::from(far))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // A socket belongs to the group that its maker is in at that moment: move first, then let it go on.
        if let Err(error) = std::fs::write(self.0.join("cgroup.procs"), child.id().to_string()) {
            eprintln!("skipped: cannot move a process: {error}");
            child.kill().unwrap();
            child.wait().unwrap();
            return None;
        }
        near.write_all(b"go\n").unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("port ")?.parse().ok());
        Some((child, port.unwrap(), near))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
        let _ = std::fs::remove_dir(self.0.parent().unwrap());
    }
}

fn hold(millis: &str) {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let sockets = [listener.as_fd()];
    assert!(control.push(SendAncillaryMessage::ScmRights(&sockets)));
    let byte = [IoSlice::new(b".")];
    sendmsg(std::io::stdin(), &byte, &mut control, SendFlags::empty()).unwrap();
    println!("\nport {}", listener.local_addr().unwrap().port());
    std::thread::sleep(Duration::from_millis(millis.parse().unwrap()));
}

fn pre(machine: &Machine, port: u16) -> gate_support::Done {
    machine.run(&[
        "pre",
        "--service=sonarr",
        "--owner=568:568",
        &format!("--claim=tcp:{port}"),
    ])
}

#[test]
fn a_unit_in_the_way_is_named_and_our_own_is_waited_for() {
    if let Ok(millis) = std::env::var(HOLDER) {
        return hold(&millis);
    }
    let machine = Machine::new("holder");
    for (unit, millis, code, says) in [
        (
            "transmission-daemon.service",
            60_000,
            1,
            "is taken by transmission-daemon.service (process gate_holder-",
        ),
        // Our own previous container, which is about to go.
        ("dagger-sonarr.service", 500, 0, ""),
        (
            "dagger-sonarr.service",
            60_000,
            1,
            "its previous container does not end",
        ),
        ("dagger-sonarr-4k.service", 60_000, 1, "both belong to the suite"),
    ] {
        let Some(group) = Group::new(unit) else { return };
        let Some((mut child, port, near)) = group.listener(millis) else {
            return;
        };
        drop(near);
        let done = pre(&machine, port);
        let _ = child.kill();
        child.wait().unwrap();
        assert_eq!(done.code, code, "{unit}: {}", done.said);
        assert!(
            done.said.contains(says) && done.told.contains(says),
            "{unit}: {}",
            done.said
        );
        let own = unit == "dagger-sonarr.service";
        let limit = if own {
            Duration::from_secs(3)
        } else {
            Duration::from_secs(1)
        };
        assert!(done.took < limit, "{unit}: {:?}", done.took);
        assert!(!done.said.contains(&format!("PID {}", std::process::id())));
    }
}

/// Between the look at sockets and the look at processes, the one who has it ends.
#[test]
fn one_who_ends_while_he_is_looked_at_is_waited_for() {
    let machine = Machine::new("ends");
    let Some(group) = Group::new("dagger-sonarr.service") else {
        return;
    };
    let Some((mut child, port, near)) = group.listener(300) else {
        return;
    };
    let moment = std::thread::spawn(move || {
        child.wait().unwrap();
        std::thread::sleep(Duration::from_millis(100));
        drop(near);
    });
    let done = pre(&machine, port);
    moment.join().unwrap();
    assert_eq!((done.code, done.said.as_str()), (0, ""));
    assert!(done.took > Duration::from_millis(300), "{:?}", done.took);
}
