//! sock_diag(7): [`ask`] puts the question, [`decode`] turns the kernel's bytes into values.

use std::io;
use std::net::SocketAddr;

use dagger_suite::model::Protocol;
use netlink_packet_core::{
    DefaultNla, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP};
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

use super::Port;

/// Attribute of linux/inet_diag.h (Linux 5.7) that the crate has no name for: the id of the socket's cgroup.
const INET_DIAG_CGROUP_ID: u16 = 21;
/// `TCPF_BOUND_INACTIVE` of net/tcp_states.h (Linux 6.8): bound, neither listening nor connected. Older kernels ignore it.
const BOUND_INACTIVE: u32 = 1 << 13;
/// Larger than any datagram that the kernel sends in answer to a dump (32 KiB, net/netlink/af_netlink.c).
const REPLY_MAX: usize = 64 * 1024;

/// What a socket does. In the order in which it is worth telling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Waits for connections (TCP).
    Listening,
    /// Has the port, without a peer: every UDP server, and a TCP socket between bind and listen.
    Bound,
    /// Has the port for one connection.
    Connected,
    /// The rest of a connection that is over; no process has it any more.
    Closing,
}

impl State {
    /// From the number in net/tcp_states.h.
    fn from_number(number: u8) -> Self {
        match number {
            10 => Self::Listening,
            7 | 13 => Self::Bound,
            4 | 5 | 6 | 9 | 11 => Self::Closing,
            _ => Self::Connected,
        }
    }
}

/// One socket as the kernel tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Local address and port.
    pub address: SocketAddr,
    /// What it does.
    pub state: State,
    /// Inode of the socket, 0 when no process has it.
    pub inode: u32,
    /// Id of the cgroup that it was made in, where the kernel tells.
    pub cgroup: Option<u64>,
}

/// All sockets of both families that have the port, in the calling thread's network namespace.
///
/// The port is in the request, so the kernel sends these and no others however many there are.
pub fn ask(port: Port) -> io::Result<Vec<Found>> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    let mut found = Vec::new();
    let mut reply = vec![0; REPLY_MAX];
    for family in [AF_INET, AF_INET6] {
        send(&socket, &request(family, port), SendFlags::empty())?;
        loop {
            let (length, _) = recv(&socket, reply.as_mut_slice(), RecvFlags::empty())?;
            let answer = decode(reply.get(..length).unwrap_or_default())?;
            found.extend(answer.found);
            if answer.last {
                break;
            }
        }
    }
    // Kernels before 4.4 filter UDP dumps less strictly; a wrong holder is worse than none.
    found.retain(|found| found.address.port() == port.number);
    Ok(found)
}

/// The bytes of a dump request.
fn request(family: u8, port: Port) -> Vec<u8> {
    let mut id = if family == AF_INET6 {
        SocketId::new_v6()
    } else {
        SocketId::new_v4()
    };
    id.source_port = port.number;
    let states = StateFlags::from_bits_retain(StateFlags::all().bits() | BOUND_INACTIVE);
    let request = SockDiagMessage::InetRequest(InetRequest {
        family,
        protocol: match port.protocol {
            Protocol::Tcp => IPPROTO_TCP,
            Protocol::Udp => IPPROTO_UDP,
        },
        extensions: ExtensionFlags::empty(),
        states,
        socket_id: id,
    });
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut message = NetlinkMessage::new(header, request.into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// One datagram of an answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// The sockets in it.
    pub found: Vec<Found>,
    /// Nothing follows.
    pub last: bool,
}

/// Decodes one datagram; an error message from the kernel comes back as its error.
pub fn decode(datagram: &[u8]) -> io::Result<Part> {
    let mut part = Part::default();
    let mut rest = datagram;
    while !rest.is_empty() {
        let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
        match message.payload {
            NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                part.found.push(found(&response));
            }
            NetlinkPayload::Done(done) if done.code < 0 => {
                return Err(io::Error::from_raw_os_error(-done.code));
            }
            NetlinkPayload::Error(error) => {
                if error.code.is_some() {
                    return Err(error.to_io());
                }
                part.last = true;
            }
            NetlinkPayload::Done(_) => part.last = true,
            _ => {}
        }
        // Messages begin at multiples of four (netlink(7), NLMSG_ALIGN); a length of 0 is refused by the crate.
        let step = (message.header.length as usize).max(16).next_multiple_of(4);
        rest = rest.get(step..).unwrap_or_default();
    }
    Ok(part)
}

fn found(response: &InetResponse) -> Found {
    let id = &response.header.socket_id;
    Found {
        address: SocketAddr::new(id.source_address, id.source_port),
        state: State::from_number(response.header.state),
        inode: response.header.inode,
        cgroup: response.nlas.iter().find_map(cgroup_id),
    }
}

fn cgroup_id(attribute: &Nla) -> Option<u64> {
    match attribute {
        Nla::Other(other) => cgroup_id_of(other),
        _ => None,
    }
}

fn cgroup_id_of(attribute: &DefaultNla) -> Option<u64> {
    use netlink_packet_core::Nla as _;
    if attribute.kind() != INET_DIAG_CGROUP_ID {
        return None;
    }
    let mut value = vec![0; attribute.value_len()];
    attribute.emit_value(&mut value);
    Some(u64::from_ne_bytes(value.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A listener on 127.0.0.1:9091, and the end of the dump, as Linux 6.18 sent them.
    const LISTENER: &str = "7c0000001400020001000000e96c0000020a0000238300007f000001000000000000000000000000000000\
        0000000000000000000000000000000000021000000000000000000000000000008000000000000000525e03000500080000000000\
        08000f00000000000c00150001000000000000000600160052000000";
    const DONE: &str = "140000000300020001000000e96c000000000000";
    /// A UDP socket on [::]:7359.
    const UDP: &str = "840000001400020001000000e96c00000a0700001cbf00000000000000000000000000000000000000000000000000\
        00000000000000000000000000031000000000000000000000000000000000000000000000535e0300050008000000000005000b00\
        0000000008000f00000000000c00150001000000000000000600160010000000";

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
        digits
            .chunks(2)
            .map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap())
            .collect()
    }

    #[test]
    fn captured_answers_are_read() {
        let part = decode(&bytes(LISTENER)).unwrap();
        assert!(!part.last);
        let expected = Found {
            address: "127.0.0.1:9091".parse().unwrap(),
            state: State::Listening,
            inode: 0x0003_5e52,
            cgroup: Some(1),
        };
        assert_eq!(part.found, [expected]);
        let part = decode(&bytes(&format!("{UDP}{DONE}"))).unwrap();
        assert!(part.last, "both messages of one datagram are read");
        assert_eq!(part.found[0].address, "[::]:7359".parse().unwrap());
        assert_eq!(
            (part.found[0].state, part.found[0].cgroup),
            (State::Bound, Some(1))
        );
    }

    #[test]
    fn a_kernel_that_does_not_tell_the_group_is_understood() {
        // The same without its last two attributes (12 and 8 bytes): Linux before 5.7.
        let mut old = bytes(LISTENER);
        old.truncate(old.len() - 20);
        old[0] -= 20;
        assert_eq!(decode(&old).unwrap().found[0].cgroup, None);
    }

    #[test]
    fn the_kernels_refusal_is_an_error() {
        // NLMSG_ERROR, -EPERM, then the header of the request.
        let refusal = bytes(
            "2400000002000000010000000000000\
            0ffffffff140000001400010301000000 00000000",
        );
        assert_eq!(decode(&refusal).unwrap_err().raw_os_error(), Some(1));
    }

    /// Whatever the bytes, there is an answer or an error, in bounded time.
    #[test]
    fn garbage_never_hurts() {
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            usize::try_from(seed >> 33).unwrap()
        };
        let whole = bytes(&format!("{LISTENER}{UDP}{DONE}"));
        for _ in 0..20_000 {
            let mut bytes = whole.clone();
            for _ in 0..=random() % 6 {
                let at = random() % bytes.len();
                bytes[at] = u8::try_from(random() % 256).unwrap();
            }
            bytes.truncate(random() % (bytes.len() + 1));
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn requests_carry_the_port() {
        let bytes = request(
            AF_INET6,
            Port {
                protocol: Protocol::Udp,
                number: 0x1234,
            },
        );
        assert_eq!(bytes.len(), 16 + 56);
        assert_eq!(bytes[16..18], [AF_INET6, IPPROTO_UDP]);
        assert_eq!(bytes[24..26], [0x12, 0x34]);
    }
}
