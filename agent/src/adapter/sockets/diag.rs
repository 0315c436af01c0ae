//! One socket as the kernel tells it, and how its bytes are read.
//!
//! The framing, the 72 bytes of `struct inet_diag_msg` and the steps from attribute to attribute are read by
//! netlink-packet-core and netlink-packet-sock-diag. Only their owned messages are not used: those take a box, a list and a
//! copy of each attribute for every socket.

use std::io;
use std::net::SocketAddr;

use dagger_suite::model::Protocol;
use netlink_packet_core::{
    DecodeError, DoneBuffer, ErrorBuffer, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NlaBuffer,
    NlasIterator, Parseable as _,
};
use netlink_packet_sock_diag::SOCK_DIAG_BY_FAMILY;
use netlink_packet_sock_diag::constants::INET_DIAG_SKV6ONLY;
use netlink_packet_sock_diag::inet::{InetResponseBuffer, InetResponseHeader};

/// Attribute of linux/inet_diag.h (Linux 5.7) that the crate has no name for: the id of the socket's cgroup.
const INET_DIAG_CGROUP_ID: u16 = 21;
/// `struct nlmsghdr` of linux/netlink.h.
const HEADER: usize = 16;
/// `struct inet_diag_msg` of linux/inet_diag.h: attributes follow it.
const MESSAGE: usize = size_of::<InetResponseBuffer>();

/// What a socket does. In the order in which it is worth telling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    /// Transport.
    pub protocol: Protocol,
    /// Local address and port.
    pub address: SocketAddr,
    /// What it does.
    pub state: State,
    /// For an IPv6 socket without a peer: whether it leaves IPv4 to others (IPV6_V6ONLY). None where it has no meaning or
    /// is not told.
    pub v6only: Option<bool>,
    /// Number of the interface that it is bound to (SO_BINDTODEVICE, or the scope of a link-local address), 0 for none.
    pub device: u32,
    /// User who made it, as the caller's user namespace numbers users.
    pub uid: u32,
    /// Inode of the socket, 0 when no process has it.
    pub inode: u32,
    /// Id of the cgroup that it was made in, where the kernel tells (Linux 5.7). Ids are not used twice while a machine
    /// runs.
    pub cgroup: Option<u64>,
}

/// What one datagram says about the answer that it is a part of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Part {
    /// Nothing follows.
    pub last: bool,
    /// The kernel's tables changed so that sockets may be missing or told twice (NLM_F_DUMP_INTR): ask again.
    pub interrupted: bool,
}

/// Adds the sockets of one datagram to `found`; an error message from the kernel comes back as its error.
pub fn decode(datagram: &[u8], protocol: Protocol, found: &mut Vec<Found>) -> io::Result<Part> {
    let mut part = Part::default();
    let mut rest = datagram;
    while !rest.is_empty() {
        let message = NetlinkBuffer::new_checked(rest).map_err(invalid)?;
        let length = usize::try_from(message.length()).map_err(io::Error::other)?;
        let payload = rest.get(HEADER..length).unwrap_or_default();
        part.interrupted |= message.flags() & NLM_F_DUMP_INTR != 0;
        match message.message_type() {
            SOCK_DIAG_BY_FAMILY => found.push(read(payload, protocol)?),
            NLMSG_DONE => {
                // A dump that failed half-way ends with the error in place of 0.
                let code = DoneBuffer::new_checked(payload).map_or(0, |done| done.code());
                refused(code)?;
                part.last = true;
            }
            NLMSG_ERROR => {
                refused(
                    ErrorBuffer::new_checked(payload)
                        .map_err(invalid)?
                        .code()
                        .map_or(0, i32::from),
                )?;
                part.last = true;
            }
            _ => {}
        }
        // Messages begin at multiples of four (netlink(7), NLMSG_ALIGN); a length of 0 is refused above.
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(part)
}

fn refused(code: i32) -> io::Result<()> {
    if code < 0 {
        return Err(io::Error::from_raw_os_error(code.saturating_neg()));
    }
    Ok(())
}

fn read(payload: &[u8], protocol: Protocol) -> io::Result<Found> {
    let message = InetResponseHeader::parse(payload).map_err(invalid)?;
    let id = &message.socket_id;
    let mut found = Found {
        protocol,
        address: SocketAddr::new(id.source_address, id.source_port),
        state: State::from_number(message.state),
        v6only: None,
        device: id.interface_id,
        uid: message.uid,
        inode: message.inode,
        cgroup: None,
    };
    for attribute in NlasIterator::new(payload.get(MESSAGE..).unwrap_or_default()) {
        let attribute = attribute.map_err(invalid)?;
        match attribute.kind() {
            INET_DIAG_SKV6ONLY => found.v6only = attribute.value().first().map(|value| *value != 0),
            INET_DIAG_CGROUP_ID => found.cgroup = cgroup_id(&attribute),
            _ => {}
        }
    }
    Ok(found)
}

fn cgroup_id(attribute: &NlaBuffer<&[u8]>) -> Option<u64> {
    attribute.value().try_into().ok().map(u64::from_ne_bytes)
}

#[expect(clippy::needless_pass_by_value, reason = "goes to map_err")]
fn invalid(error: DecodeError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
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

    fn read_all(datagram: &[u8], protocol: Protocol) -> io::Result<(Part, Vec<Found>)> {
        let mut found = Vec::new();
        decode(datagram, protocol, &mut found).map(|part| (part, found))
    }

    #[test]
    fn captured_answers_are_read() {
        let (part, found) = read_all(&bytes(LISTENER), Protocol::Tcp).unwrap();
        assert_eq!(part, Part::default());
        let expected = Found {
            protocol: Protocol::Tcp,
            address: "127.0.0.1:9091".parse().unwrap(),
            state: State::Listening,
            v6only: None,
            device: 0,
            uid: 0,
            inode: 0x0003_5e52,
            cgroup: Some(1),
        };
        assert_eq!(found, [expected]);
        let (part, found) = read_all(&bytes(&format!("{UDP}{DONE}")), Protocol::Udp).unwrap();
        assert!(part.last, "both messages of one datagram are read");
        assert_eq!(found[0].address, "[::]:7359".parse().unwrap());
        assert_eq!(
            (found[0].state, found[0].v6only, found[0].cgroup),
            (State::Bound, Some(false), Some(1))
        );
    }

    #[test]
    fn a_kernel_that_does_not_tell_the_group_is_understood() {
        // The same without its last two attributes (12 and 8 bytes): Linux before 5.7.
        let mut old = bytes(LISTENER);
        old.truncate(old.len() - 20);
        old[0] -= 20;
        assert_eq!(read_all(&old, Protocol::Tcp).unwrap().1[0].cgroup, None);
    }

    #[test]
    fn an_interrupted_dump_says_so() {
        let mut answer = bytes(LISTENER);
        answer[6] |= 0x10;
        answer.extend(bytes(DONE));
        let (part, found) = read_all(&answer, Protocol::Tcp).unwrap();
        assert!(part.interrupted && part.last && found.len() == 1);
    }

    #[test]
    fn the_kernels_refusal_is_an_error() {
        // NLMSG_ERROR, -EPERM, then the header of the request.
        let refusal = bytes(
            "2400000002000000010000000000000\
            0ffffffff140000001400010301000000 00000000",
        );
        assert_eq!(
            read_all(&refusal, Protocol::Tcp).unwrap_err().raw_os_error(),
            Some(1)
        );
        // NLMSG_DONE with -ENOMEM: the dump ended half-way.
        let done = bytes("140000000300020001000000e96c0000f4ffffff");
        assert_eq!(
            read_all(&done, Protocol::Tcp).unwrap_err().raw_os_error(),
            Some(12)
        );
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
        for turn in 0..50_000 {
            // Real answers with bytes changed and cut off, and bytes that never were one.
            let mut bytes = whole.clone();
            for _ in 0..=random() % 6 {
                let at = random() % bytes.len();
                bytes[at] = u8::try_from(random() % 256).unwrap();
            }
            if turn % 4 == 0 {
                bytes.fill_with(|| u8::try_from(random() % 256).unwrap());
                // The length of a message that is believable, so that more than the first test is reached.
                bytes[..4].copy_from_slice(&u32::try_from(16 + random() % 300).unwrap().to_ne_bytes());
                bytes[4..6].copy_from_slice(&20_u16.to_ne_bytes());
                bytes[16] = if random() % 2 == 0 { 2 } else { 10 };
            }
            bytes.truncate(random() % (bytes.len() + 1));
            if let Ok((_, found)) = read_all(&bytes, Protocol::Tcp) {
                assert!(found.len() <= bytes.len() / HEADER + 1);
            }
        }
    }
}
