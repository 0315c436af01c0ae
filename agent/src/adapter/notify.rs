//! Notifications to systemd (sd_notify(3)): for our own unit, and on behalf of another unit's main process.

use std::io;
use std::mem::MaybeUninit;
use std::path::Path;

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, UCred, sendmsg_addr, socket_with,
};
use rustix::process::{Pid, getegid, geteuid};
use sd_notify::NotifyState;

/// systemd's own socket; the one in `$NOTIFY_SOCKET` is the same for every unit of the system manager.
pub const MANAGER_SOCKET: &str = "/run/systemd/notify";

/// The longest `STATUS=` text that is sent: a few lines of a terminal. systemd would take more, people do not.
const STATUS_MAX: usize = 800;

/// Tells our own unit's manager. Without one (no `$NOTIFY_SOCKET`) nothing happens.
pub fn own(states: &[NotifyState<'_>]) -> io::Result<()> {
    sd_notify::notify(states)
}

/// `STATUS=` for our own unit.
pub fn own_status(text: &str) -> io::Result<()> {
    own(&[NotifyState::Status(&one_line(text))])
}

/// Sends `states` as if the process `main_pid` had: that unit's `NotifyAccess=` must allow it, and we need CAP_SYS_ADMIN
/// (unix(7), SCM_CREDENTIALS).
pub fn on_behalf(socket: &Path, main_pid: u32, states: &[NotifyState<'_>]) -> io::Result<()> {
    let pid = i32::try_from(main_pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "there is no process 0"))?;
    let mut message = String::new();
    for state in states {
        use std::fmt::Write as _;
        let _ = writeln!(message, "{state}");
    }
    let credentials = UCred {
        pid,
        uid: geteuid(),
        gid: getegid(),
    };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmCredentials(credentials));
    let from = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    sendmsg_addr(
        &from,
        &SocketAddrUnix::new(socket)?,
        &[io::IoSlice::new(message.as_bytes())],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// `STATUS=` on behalf of a unit's main process.
pub fn status_of(main_pid: u32, text: &str) -> io::Result<()> {
    on_behalf(
        Path::new(MANAGER_SOCKET),
        main_pid,
        &[NotifyState::Status(&one_line(text))],
    )
}

/// Any text as one printable line of bounded length: a line break would end the assignment and begin another.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(STATUS_MAX));
    for word in text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
    {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if line.chars().count() > STATUS_MAX {
        line = line.chars().take(STATUS_MAX - 1).chain(['…']).collect();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg, sockopt};
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn a_status_is_one_line() {
        assert_eq!(one_line("a\nREADY=1\tb\0c"), "a READY=1 b c");
        assert_eq!(one_line(&"é".repeat(1000)).chars().count(), STATUS_MAX);
    }

    #[test]
    fn the_manager_sees_the_pid_that_we_speak_for() {
        let path = std::env::temp_dir().join(format!("dagger-notify-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let manager = UnixDatagram::bind(&path).unwrap();
        sockopt::set_socket_passcred(&manager, true).unwrap();
        // Our own pid needs no privilege; another's is the rig's to show.
        on_behalf(
            &path,
            std::process::id(),
            &[NotifyState::Status("healthy"), NotifyState::Watchdog],
        )
        .unwrap();
        let mut bytes = [0; 256];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(
            &manager,
            &mut [io::IoSliceMut::new(&mut bytes)],
            &mut control,
            RecvFlags::empty(),
        )
        .unwrap();
        assert_eq!(&bytes[..received.bytes], b"STATUS=healthy\nWATCHDOG=1\n");
        let Some(RecvAncillaryMessage::ScmCredentials(credentials)) = control.drain().next() else {
            panic!("no credentials came");
        };
        assert_eq!(
            credentials.pid.as_raw_nonzero().get().unsigned_abs(),
            std::process::id()
        );
        std::fs::remove_file(&path).unwrap();
    }
}
