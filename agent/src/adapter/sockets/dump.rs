//! Questions to sock_diag(7): which sockets of the calling thread's network namespace have a port.
//!
//! Everybody may ask. An answer is whole or an error: what was lost, cut off or mixed up on its way is asked for again.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use dagger_suite::model::Protocol;
use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with, sockopt,
};

use super::Port;
use super::diag::{Found, decode};

/// `TCPF_BOUND_INACTIVE` of net/tcp_states.h (Linux 6.8): bound, neither listening nor connected. Older kernels ignore it.
const BOUND_INACTIVE: u32 = 1 << 13;
/// Attribute of a request and two codes of its operations (linux/inet_diag.h; comparing for equality since Linux 4.16).
const INET_DIAG_REQ_BYTECODE: u16 = 1;
const INET_DIAG_BC_JMP: u8 = 1;
const INET_DIAG_BC_S_EQ: u8 = 11;
/// Larger than any datagram that the kernel sends in answer to a dump (32 KiB, net/netlink/af_netlink.c).
pub(super) const REPLY_MAX: usize = 64 * 1024;
/// So often a question is put whose answer was spoilt.
const TRIES: usize = 5;
/// The kernel answers while it is asked; a wait is a fault that must not become ours.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which sockets are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Those that listen: what the kernel finds fastest.
    Listening,
    /// Those that wait for somebody: listening, or bound without a peer.
    Servers,
    /// All of them, connections too. UDP knows no difference: a connected socket keeps others from the port as well.
    All,
}

/// All servers: TCP and UDP, both families.
pub fn servers() -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    let mut reply = vec![0; REPLY_MAX];
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        ask(protocol, &[], Which::Servers, &mut reply, &mut found)?;
    }
    Ok(found)
}

/// The sockets of both families that have the port.
pub fn on_port(port: Port, which: Which) -> io::Result<Vec<Found>> {
    on_ports(port.protocol, &[port.number], which)
}

/// The sockets of both families that have one of the ports; several cost hardly more than one.
///
/// The ports are in the request, so the kernel sends these and no others however many there are.
pub fn on_ports(protocol: Protocol, ports: &[u16], which: Which) -> io::Result<Vec<Found>> {
    let mut reply = vec![0; REPLY_MAX];
    chosen(ports, |ports, found| {
        ask(protocol, ports, which, &mut reply, found)
    })
}

/// Lets the kernel choose by port, and chooses by ourselves where it cannot.
fn chosen(
    ports: &[u16],
    mut ask: impl FnMut(&[u16], &mut Vec<Found>) -> io::Result<()>,
) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    // Without a port all would be told.
    if ports.is_empty() {
        return Ok(found);
    }
    match ask(ports, &mut found) {
        // Linux before 4.16 does not know the comparison that several ports need.
        Err(error) if ports.len() > 1 && error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
            found.clear();
            ask(&[], &mut found)?;
        }
        asked => asked?,
    }
    // Kernels before 4.4 filter UDP dumps less strictly; a wrong holder is worse than none.
    found.retain(|found| ports.contains(&found.address.port()));
    Ok(found)
}

fn ask(
    protocol: Protocol,
    ports: &[u16],
    which: Which,
    reply: &mut [u8],
    found: &mut Vec<Found>,
) -> io::Result<()> {
    for family in [AF_INET, AF_INET6] {
        let request = request(family, protocol, ports, which)?;
        repeated(found, |found| dump(&request, protocol, reply, found))?;
    }
    Ok(())
}

/// How an answer came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Whole,
    /// Something is missing or there twice; nothing of it counts.
    Spoilt,
}

/// Asks until the answer is whole, and takes back what a spoilt one has added.
fn repeated(
    found: &mut Vec<Found>,
    mut once: impl FnMut(&mut Vec<Found>) -> io::Result<Answer>,
) -> io::Result<()> {
    let before = found.len();
    for _ in 0..TRIES {
        if once(found)? == Answer::Whole {
            return Ok(());
        }
        found.truncate(before);
    }
    Err(io::Error::other(format!(
        "the kernel's list of sockets could not be read as a whole in {TRIES} tries"
    )))
}

/// Puts a question, over a socket of its own: nothing of a spoilt answer is left in the next one's way.
pub(super) fn open(request: &[u8]) -> io::Result<OwnedFd> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
    send(&socket, request, SendFlags::empty())?;
    Ok(socket)
}

/// The next datagram of the answer; none where something of it was lost.
pub(super) fn receive<'a>(socket: &OwnedFd, reply: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
    loop {
        // With the flag the length is the datagram's, however much of it there was room for.
        return match recv(socket, &mut *reply, RecvFlags::TRUNC) {
            Ok((_, length)) => Ok(reply.get(..length)),
            Err(Errno::INTR) => continue,
            // netlink(7): messages were lost.
            Err(Errno::NOBUFS) => Ok(None),
            Err(Errno::AGAIN) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the kernel does not answer which sockets there are",
            )),
            Err(error) => Err(error.into()),
        };
    }
}

fn dump(request: &[u8], protocol: Protocol, reply: &mut [u8], found: &mut Vec<Found>) -> io::Result<Answer> {
    let socket = open(request)?;
    let mut answer = Answer::Whole;
    loop {
        let Some(datagram) = receive(&socket, reply)? else {
            return Ok(Answer::Spoilt);
        };
        let part = decode(datagram, protocol, found)?;
        if part.interrupted {
            answer = Answer::Spoilt;
        }
        if part.last {
            return Ok(answer);
        }
    }
}

/// The bytes of a dump request; without ports it asks for all.
fn request(family: u8, protocol: Protocol, ports: &[u16], which: Which) -> io::Result<Vec<u8>> {
    let mut id = if family == AF_INET6 {
        SocketId::new_v6()
    } else {
        SocketId::new_v4()
    };
    if let [port] = ports {
        id.source_port = *port;
    }
    let states = match (which, protocol) {
        (Which::Listening | Which::Servers, Protocol::Tcp) => StateFlags::LISTEN,
        _ => StateFlags::all(),
    };
    let bound = if which == Which::Listening {
        0
    } else {
        BOUND_INACTIVE
    };
    let states = StateFlags::from_bits_retain(states.bits() | bound);
    let mut bytes = message(NLM_F_REQUEST | NLM_F_DUMP, family, protocol, states, id);
    if ports.len() > 1 {
        let filter = filter(ports)?;
        let length = u16::try_from(4 + filter.len()).map_err(io::Error::other)?;
        bytes.extend(length.to_ne_bytes());
        bytes.extend(INET_DIAG_REQ_BYTECODE.to_ne_bytes());
        bytes.extend(filter);
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        bytes.splice(..4, length.to_ne_bytes());
    }
    Ok(bytes)
}

/// The bytes of a request without attributes.
pub(super) fn message(
    flags: u16,
    family: u8,
    protocol: Protocol,
    states: StateFlags,
    socket_id: SocketId,
) -> Vec<u8> {
    let request = SockDiagMessage::InetRequest(InetRequest {
        family,
        protocol: match protocol {
            Protocol::Tcp => IPPROTO_TCP,
            Protocol::Udp => IPPROTO_UDP,
        },
        extensions: ExtensionFlags::empty(),
        states,
        socket_id,
    });
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    let mut message = NetlinkMessage::new(header, request.into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// A program that the kernel runs over each socket (`struct inet_diag_bc_op` of linux/inet_diag.h): true for any of the
/// ports. The crate has none of it.
///
/// An operation is its code, how far to go on if it holds and how far if not; a second one carries the port that is
/// compared. Ending just behind the program is true, four bytes further on is false.
fn filter(ports: &[u16]) -> io::Result<Vec<u8>> {
    let mut program = Vec::new();
    for (place, port) in ports.iter().enumerate() {
        let mut operation = |code: u8, yes: u8, no: u16| {
            program.extend([code, yes]);
            program.extend(no.to_ne_bytes());
        };
        operation(INET_DIAG_BC_S_EQ, 8, 12);
        operation(0, 0, *port);
        // Over all that follow: each is a comparison and a jump, the last one has no jump.
        let after = ports.len() - place - 1;
        if after > 0 {
            operation(
                INET_DIAG_BC_JMP,
                4,
                u16::try_from(12 * after).map_err(io::Error::other)?,
            );
        }
    }
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::sockets::diag::State;
    use std::net::{TcpListener, UdpSocket};

    #[test]
    fn requests_carry_the_port() {
        let bytes = request(AF_INET6, Protocol::Udp, &[0x1234], Which::All).unwrap();
        assert_eq!(bytes.len(), 16 + 56);
        assert_eq!(bytes[16..18], [AF_INET6, IPPROTO_UDP]);
        assert_eq!(bytes[24..26], [0x12, 0x34]);
    }

    #[test]
    fn a_spoilt_answer_is_taken_back_and_asked_for_again_but_not_for_ever() {
        let one = servers_with(&TcpListener::bind("127.0.0.1:0").unwrap()).remove(0);
        let mut found = vec![one.clone()];
        let mut turn = 0;
        repeated(&mut found, |found| {
            turn += 1;
            found.extend([one.clone(), one.clone()]);
            Ok(if turn < 3 { Answer::Spoilt } else { Answer::Whole })
        })
        .unwrap();
        assert_eq!((turn, found.len()), (3, 3));
        let error = repeated(&mut found, |found| {
            turn += 1;
            found.push(one.clone());
            Ok(Answer::Spoilt)
        });
        assert!(error.unwrap_err().to_string().contains("as a whole"));
        assert_eq!((turn, found.len()), (3 + TRIES, 3), "what came before stays");
    }

    #[test]
    fn an_answer_that_is_cut_off_is_not_believed() {
        let _listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let request = request(AF_INET, Protocol::Tcp, &[], Which::Servers).unwrap();
        let answer = dump(&request, Protocol::Tcp, &mut [0; 60], &mut Vec::new());
        assert_eq!(answer.unwrap(), Answer::Spoilt);
    }

    fn servers_with(listener: &TcpListener) -> Vec<Found> {
        let address = listener.local_addr().unwrap();
        let mut found = servers().unwrap();
        found.retain(|found| found.protocol == Protocol::Tcp && found.address == address);
        found
    }

    #[test]
    fn all_servers_are_found_and_no_connections() {
        let four = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = std::net::TcpStream::connect(four.local_addr().unwrap()).unwrap();
        let found = servers_with(&four);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].state, State::Listening);
        assert_eq!(found[0].uid, rustix::process::getuid().as_raw());
        let all = servers().unwrap();
        assert!(
            !all.iter()
                .any(|found| found.protocol == Protocol::Tcp && found.state == State::Connected)
        );
        let port = Port {
            protocol: Protocol::Tcp,
            number: near.local_addr().unwrap().port(),
        };
        assert!(on_port(port, Which::Servers).unwrap().is_empty());
        assert_eq!(
            on_port(port, Which::All).unwrap()[0].state,
            State::Connected,
            "a connection keeps its port"
        );
    }

    #[test]
    fn the_kernel_picks_out_several_ports() {
        let listeners: Vec<_> = (0..9)
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        let ports: Vec<u16> = listeners
            .iter()
            .map(|listener| listener.local_addr().unwrap().port())
            .collect();
        for count in 0..=ports.len() {
            let (asked, others) = ports.split_at(count);
            let mut all = Vec::new();
            ask(
                Protocol::Tcp,
                asked,
                Which::Listening,
                &mut vec![0; REPLY_MAX],
                &mut all,
            )
            .unwrap();
            let has = |port: &u16| all.iter().any(|found| found.address.port() == *port);
            assert!(asked.iter().all(has), "{count}");
            // Asked without a port it tells of all.
            assert_eq!(
                others.iter().any(has),
                count == 0 && !others.is_empty(),
                "{count}"
            );
        }
        assert!(on_ports(Protocol::Tcp, &[], Which::All).unwrap().is_empty());
    }

    #[test]
    fn a_kernel_that_cannot_choose_several_ports_is_asked_for_all() {
        let one = servers_with(&TcpListener::bind("127.0.0.1:0").unwrap()).remove(0);
        let port = one.address.port();
        let other = if port == 1 { 2 } else { 1 };
        let only = std::slice::from_ref(&one);
        let mut asked = Vec::new();
        let mut old = |ports: &[u16], found: &mut Vec<Found>| {
            asked.push(ports.len());
            found.push(one.clone());
            match ports {
                [_, _, ..] => Err(io::Error::from_raw_os_error(Errno::INVAL.raw_os_error())),
                _ => Ok(()),
            }
        };
        assert_eq!(chosen(&[port, other], &mut old).unwrap(), only);
        assert_eq!(chosen(&[other, 3], &mut old).unwrap(), []);
        assert_eq!(chosen(&[port], &mut old).unwrap(), only);
        assert_eq!(asked, [2, 0, 2, 0, 1]);
        let refused =
            |_: &[u16], _: &mut Vec<Found>| Err(io::Error::from_raw_os_error(Errno::PERM.raw_os_error()));
        assert_eq!(
            chosen(&[port, other], refused).unwrap_err().kind(),
            io::ErrorKind::PermissionDenied
        );
    }

    #[test]
    fn both_families_and_udp_are_told_with_what_they_exclude() {
        // At an address of its own the kernel makes a socket one of IPv6 alone.
        for (address, alone) in [("[::]:0", false), ("[::1]:0", true)] {
            if let Ok(six) = TcpListener::bind(address) {
                assert_eq!(servers_with(&six)[0].v6only, Some(alone), "{address}");
            }
        }
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = udp.local_addr().unwrap();
        let found = servers().unwrap();
        let found = found
            .iter()
            .find(|found| found.protocol == Protocol::Udp && found.address == address);
        assert_eq!(found.unwrap().state, State::Bound);
    }
}
