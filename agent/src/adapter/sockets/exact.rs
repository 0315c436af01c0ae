//! The question that costs the kernel nothing, however many sockets there are: who gets what this machine sends to itself
//! on a port? It looks that up as it would for a packet (sock_diag(7) without NLM_F_DUMP).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dagger_suite::model::Protocol;
use netlink_packet_core::NLM_F_REQUEST;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6};
use netlink_packet_sock_diag::inet::{SocketId, StateFlags};
use rustix::io::Errno;

use super::Port;
use super::diag::{Found, decode};
use super::dump::{REPLY_MAX, message, open, receive};

/// `INET_DIAG_NOCOOKIE` of linux/inet_diag.h: whichever socket it is.
const ANY_COOKIE: [u8; 8] = [0xff; 8];
const LOOPBACK: [(u8, IpAddr); 2] = [
    (AF_INET, IpAddr::V4(Ipv4Addr::LOCALHOST)),
    (AF_INET6, IpAddr::V6(Ipv6Addr::LOCALHOST)),
];

/// The servers that answer on the port at 127.0.0.1 and ::1: none, one, or one for each. Of several that share a port
/// (SO_REUSEPORT) it is one; those at other addresses are not seen.
pub fn answering(port: Port) -> io::Result<Vec<Found>> {
    let mut found: Vec<Found> = Vec::new();
    let mut reply = vec![0; REPLY_MAX];
    for (family, address) in LOOPBACK {
        let answer = ask(family, address, port, &mut reply)?;
        // A connection that happens to fit is no server; nor is another port one that was asked about.
        let new = answer.into_iter().filter(|one| {
            one.address.port() == port.number && !found.iter().any(|other| other.inode == one.inode)
        });
        let new: Vec<Found> = new.collect();
        found.extend(new);
    }
    Ok(found)
}

fn ask(family: u8, address: IpAddr, port: Port, reply: &mut [u8]) -> io::Result<Vec<Found>> {
    let mut id = if family == AF_INET6 {
        SocketId::new_v6()
    } else {
        SocketId::new_v4()
    };
    id.cookie = ANY_COOKIE;
    match port.protocol {
        Protocol::Tcp => (id.source_address, id.source_port) = (address, port.number),
        // net/ipv4/udp_diag.c: "src and dst are swapped for historical reasons".
        Protocol::Udp => (id.destination_address, id.destination_port) = (address, port.number),
    }
    let request = message(NLM_F_REQUEST, family, port.protocol, StateFlags::all(), id);
    let mut found = Vec::new();
    let Some(datagram) = receive(&open(&request)?, reply)? else {
        return Ok(found);
    };
    match decode(datagram, port.protocol, &mut found) {
        Ok(_) => Ok(found),
        Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::sockets::diag::State;
    use std::net::{SocketAddr, TcpListener, UdpSocket};

    fn told(protocol: Protocol, number: u16) -> Vec<(SocketAddr, State)> {
        let found = answering(Port { protocol, number }).unwrap();
        found.iter().map(|found| (found.address, found.state)).collect()
    }

    #[test]
    fn whoever_answers_at_loopback_is_told_of_either_transport() {
        for address in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                continue;
            };
            let own = listener.local_addr().unwrap();
            assert_eq!(
                told(Protocol::Tcp, own.port()),
                [(own, State::Listening)],
                "{address}"
            );
            let socket = UdpSocket::bind(address).unwrap();
            let own = socket.local_addr().unwrap();
            assert_eq!(
                told(Protocol::Udp, own.port()),
                [(own, State::Bound)],
                "{address}"
            );
            drop((listener, socket));
        }
    }

    #[test]
    fn nobody_is_told_of_where_nobody_answers() {
        let elsewhere = TcpListener::bind("127.0.0.2:0").unwrap();
        assert_eq!(told(Protocol::Tcp, elsewhere.local_addr().unwrap().port()), []);
        assert_eq!(told(Protocol::Tcp, 1), []);
        assert_eq!(told(Protocol::Udp, 1), []);
    }

    #[test]
    fn the_one_at_the_address_is_told_before_the_one_at_all() {
        let single = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = single.local_addr().unwrap();
        if let Ok(six) = TcpListener::bind(("::1", own.port())) {
            let both = told(Protocol::Tcp, own.port());
            assert_eq!(
                both,
                [
                    (own, State::Listening),
                    (six.local_addr().unwrap(), State::Listening)
                ]
            );
        }
    }
}
