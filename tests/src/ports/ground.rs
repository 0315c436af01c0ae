//! Network namespaces of a thread's own, with `lo` up and a second interface beside it.

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

/// The interface that nothing comes in by.
pub const OTHER: &str = "other";

/// rtnetlink(7) and linux/netlink.h, linux/if_link.h.
const RTM_NEWLINK: u16 = 16;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFF_UP: u32 = 1;
/// `lo` is the first interface of every namespace.
pub const LO: u32 = 1;

/// A network namespace; it ends with its last socket and this.
pub struct Namespace {
    file: File,
    /// Its identity, as the agent knows it.
    pub id: u64,
    /// Index of the second interface; none where the kernel has no kind that would do.
    pub other: Option<u32>,
}

impl Namespace {
    /// A new one; the calling thread is in it from here on.
    pub fn new() -> Result<Self> {
        unshare(CloneFlags::CLONE_NEWNET).context("a network namespace of its own")?;
        let file = File::open("/proc/thread-self/ns/net")?;
        let id = file.metadata()?.ino();
        link(LO, NLM_F_REQUEST | NLM_F_ACK, &[]).context("lo up")?;
        let kind = |name: &str| {
            let info = attribute(IFLA_LINKINFO, &attribute(IFLA_INFO_KIND, name.as_bytes()));
            [attribute(IFLA_IFNAME, OTHER.as_bytes()), info].concat()
        };
        let create = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE;
        let made = ["dummy", "bridge"]
            .iter()
            .any(|name| link(0, create, &kind(name)).is_ok());
        let other = if made { if_nametoindex(OTHER).ok() } else { None };
        Ok(Self { file, id, other })
    }

    /// Moves the calling thread there.
    pub fn enter(&self) -> Result<()> {
        setns(&self.file, CloneFlags::CLONE_NEWNET).context("enter a network namespace")
    }
}

/// An attribute of a netlink message, with what fills it up to a multiple of four.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Makes an interface, or changes the one of that index; it is up afterwards.
fn link(index: u32, flags: u16, attributes: &[u8]) -> Result<()> {
    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    setsockopt(&netlink, sockopt::ReceiveTimeout, &TimeVal::seconds(5))?;
    let length = u32::try_from(32 + attributes.len())?;
    let mut request = Vec::new();
    request.extend(length.to_ne_bytes());
    request.extend(RTM_NEWLINK.to_ne_bytes());
    request.extend(flags.to_ne_bytes());
    request.extend([0; 12]);
    request.extend(index.to_ne_bytes());
    request.extend(IFF_UP.to_ne_bytes());
    request.extend(IFF_UP.to_ne_bytes());
    request.extend(attributes);
    send(netlink.as_raw_fd(), &request, MsgFlags::empty())?;
    let mut reply = [0; 4096];
    let length = recv(netlink.as_raw_fd(), &mut reply, MsgFlags::empty())?;
    let reply = reply.get(..length).unwrap_or_default();
    let kind = reply.get(4..6).and_then(|bytes| bytes.try_into().ok());
    let code = reply.get(16..20).and_then(|bytes| bytes.try_into().ok());
    let (Some(kind), Some(code)) = (kind.map(u16::from_ne_bytes), code.map(i32::from_ne_bytes)) else {
        anyhow::bail!("an answer of {length} bytes");
    };
    ensure!(kind == NLMSG_ERROR, "an answer of kind {kind}");
    match code {
        0 => Ok(()),
        code => Err(Errno::from_raw(-code).into()),
    }
}
