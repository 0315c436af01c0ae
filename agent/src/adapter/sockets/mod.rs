//! Ports and who holds them.
//!
//! Three questions, three means. *Is the port free?* is answered by the only authority: [`free`] binds it for a moment, which
//! costs microseconds however many sockets there are. It may be asked only of one's own port, before one's own start: whoever
//! starts there meanwhile finds it taken. *Who has it?* is asked only after a no: [`holders`] reads sock_diag (with the port
//! as the kernel's filter), follows the socket's cgroup to a unit and the unit's processes to the one that has the socket
//! open. *Who has which?* is [`dump::servers`] with [`groups::Groups`]: every server and its unit, and nobody is disturbed.

pub mod container;

pub mod cgroup;

pub mod netns;

pub mod diag;

pub mod dump;

pub mod exact;

pub mod groups;

pub mod process;

pub mod socket_unit;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use dagger_suite::model::Protocol;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, socket_with, sockopt};

use cgroup::Unit;
use container::Container;
use diag::{Found, State};
use dump::Which;
use groups::Groups;
use process::{Process, Wanted};

pub use crate::domain::conflict::Port;

/// Whoever has a port. What is not known is `None`; nothing is guessed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Local address of its socket.
    pub address: SocketAddr,
    /// What the socket does.
    pub state: State,
    /// For an IPv6 socket: whether it leaves IPv4 to others, where the kernel tells.
    pub v6only: Option<bool>,
    /// Number of the interface that it is bound to, 0 for none.
    pub device: u32,
    /// User who made it.
    pub uid: u32,
    /// Inode of its socket, which no other one has while the machine runs; 0 where no process has it.
    pub inode: u32,
    /// The unit that has it: that of the process, or where that is not known the one that the socket was made in.
    pub unit: Option<Unit>,
    /// A process that has the socket open.
    pub process: Option<Process>,
}

impl Holder {
    /// The container that has the port, also where a helper of its engine keeps it for the container.
    pub fn container(&self) -> Option<&Container> {
        let helper = self
            .process
            .as_ref()
            .and_then(|process| process.container.as_ref());
        helper.or_else(|| self.unit.as_ref()?.container.as_ref())
    }
}

/// Whether a server could take the port on every address of the calling thread's network namespace, right now.
///
/// Both families are tried, with `SO_REUSEADDR` for TCP as servers set it (so connections in TIME_WAIT do not count) and
/// without it for UDP (where it would let two programs share the port).
pub fn free(port: Port) -> io::Result<bool> {
    for ip in [
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    ] {
        match try_bind(port, ip) {
            Err(Errno::ADDRINUSE) => return Ok(false),
            // Without the family in this kernel or namespace, nothing can hold the port there either.
            Ok(()) | Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

fn try_bind(port: Port, ip: IpAddr) -> rustix::io::Result<()> {
    let family = if ip.is_ipv6() {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    };
    let (kind, protocol) = match port.protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
    };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, Some(protocol))?;
    if port.protocol == Protocol::Tcp {
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    if ip.is_ipv6() {
        // Each family on its own: a dual-stack bind would report the IPv4 holder as one of IPv6, and the other way round.
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    bind(&socket, &SocketAddr::new(ip, port.number))
}

/// Who has the port in the calling thread's network namespace, listeners first; connections only where nobody else has it.
pub fn holders(port: Port) -> io::Result<Vec<Holder>> {
    // Each next question costs the kernel more: it looks through all that are bound, then through all connections.
    let mut found = Vec::new();
    for which in [Which::Listening, Which::Servers, Which::All] {
        found = dump::on_port(port, which)?;
        if !found.is_empty() {
            break;
        }
    }
    found.sort_by_key(|found| (found.state, found.address.is_ipv6()));
    found.dedup_by_key(|found| (found.inode, found.cgroup, found.state));
    found.truncate(HOLDERS_MAX);
    let mut groups = Groups::new()?;
    groups.learn(&found);
    Ok(name(&groups, &found))
}

/// Who is met first on a port that is taken: whoever answers at loopback, which is told at once however many sockets there
/// are, and only where nobody `strange` does, everybody as [`holders`] tells them.
pub fn met(port: Port, strange: impl Fn(&Holder) -> bool) -> io::Result<Vec<Holder>> {
    let found = exact::answering(port)?;
    let mut groups = Groups::new()?;
    groups.learn(&found);
    let met = name(&groups, &found);
    if met.iter().any(strange) {
        return Ok(met);
    }
    holders(port)
}

/// More sockets of one port than this are not looked into: an agent's hundred connections tell no more than eight.
const HOLDERS_MAX: usize = 8;

/// Who has these sockets, in their order. The groups must have been learnt.
///
/// The process is looked for where the caller may look (CAP_SYS_PTRACE for others' processes).
pub fn name(groups: &Groups, found: &[Found]) -> Vec<Holder> {
    let wanted: Vec<Wanted<'_>> = found
        .iter()
        .map(|found| Wanted {
            inode: found.inode,
            group: groups.group(found).map(|group| group.path.as_str()),
        })
        .collect();
    let processes = process::of_sockets(groups.tree(), &wanted);
    let holder = |found: &Found| {
        let process = processes.get(&found.inode).cloned();
        Holder {
            address: found.address,
            state: found.state,
            v6only: found.v6only,
            device: found.device,
            uid: found.uid,
            inode: found.inode,
            unit: unit(groups, found, process.as_ref()),
            process,
        }
    };
    found.iter().map(holder).collect()
}

/// The unit that has a socket. The kernel tells where it was made (Linux 5.7; not of a group that is gone). Its maker may
/// have handed it on and live in another unit than the one who has it now: who has it open knows better.
fn unit(groups: &Groups, found: &Found, process: Option<&Process>) -> Option<Unit> {
    let made = groups.group(found);
    let made_in = made.and_then(|group| group.unit.as_ref());
    // systemd makes sockets in the group of their socket unit, where no process is.
    if made_in.is_some_and(Unit::is_socket) {
        return made_in.cloned();
    }
    match process {
        Some(process) if !process.cgroup.is_empty() => cgroup::unit_of(&process.cgroup),
        Some(_) => made_in.cloned(),
        // Nobody is left in the unit: whoever has the socket now is in another one.
        None => made
            .filter(|group| !groups.tree().processes(&group.path).is_empty())
            .and(made_in)
            .cloned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    fn tcp(number: u16) -> Port {
        Port {
            protocol: Protocol::Tcp,
            number,
        }
    }

    #[test]
    fn a_listener_is_seen_and_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp(listener.local_addr().unwrap().port());
        assert!(!free(port).unwrap());
        let holders = holders(port).unwrap();
        let holder = holders.first().unwrap();
        assert_eq!(holder.state, State::Listening);
        assert_eq!(holder.address, listener.local_addr().unwrap());
        assert_eq!(holder.process.as_ref().unwrap().pid, std::process::id());
        drop(listener);
        assert!(free(port).unwrap());
    }

    #[test]
    fn a_listener_of_one_family_is_seen_from_both_sides() {
        for address in ["[::1]:0", "127.0.0.1:0", "[::]:0", "0.0.0.0:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                continue;
            };
            assert!(
                !free(tcp(listener.local_addr().unwrap().port())).unwrap(),
                "{address}"
            );
        }
    }

    #[test]
    fn udp_is_a_world_of_its_own() {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let number = socket.local_addr().unwrap().port();
        let port = Port {
            protocol: Protocol::Udp,
            number,
        };
        assert!(!free(port).unwrap());
        assert_eq!(holders(port).unwrap().first().unwrap().state, State::Bound);
        assert!(free(tcp(number)).unwrap());
    }
}
