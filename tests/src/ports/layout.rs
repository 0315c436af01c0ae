//! What is drawn by lot.

use anyhow::{Context, Result};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use dagger_agent::domain::ports::bind::{Bind, Options, Place};
use dagger_suite::model::Protocol;
use dagger_tests::faults::dice::Dice;
use nix::sys::socket::{setsockopt, sockopt};
use std::fmt::Write as _;
use std::os::fd::OwnedFd;

use crate::ground::{LO, Namespace};

const ONE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const TWO: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const ANY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

/// Where connections and datagrams are sent in the end.
pub const DESTINATIONS: [IpAddr; 3] = [IpAddr::V4(ONE), IpAddr::V4(TWO), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// What is bound; wildcards oftener than the rest.
const ADDRESSES: [IpAddr; 11] = [
    IpAddr::V4(ANY),
    IpAddr::V4(ANY),
    IpAddr::V4(ONE),
    IpAddr::V4(TWO),
    IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
    IpAddr::V6(ONE.to_ipv6_mapped()),
    IpAddr::V6(TWO.to_ipv6_mapped()),
    IpAddr::V6(ANY.to_ipv6_mapped()),
];

const USERS: [u32; 2] = [0, 1000];

/// What the sockets of one case are like, so that not all cases are the same mixture: chances in percent.
#[derive(Debug, Clone, Copy)]
pub struct Taste {
    protocol: Protocol,
    reuse_address: u64,
    reuse_port: u64,
    v6only: u64,
    other_user: u64,
    device: u64,
}

impl Taste {
    /// One of them.
    pub fn by_chance(dice: &mut Dice) -> Self {
        let mut one = |of: &[u64]| dice.one(of).copied().unwrap_or(0);
        Self {
            protocol: if one(&[0, 1, 1]) == 1 {
                Protocol::Tcp
            } else {
                Protocol::Udp
            },
            reuse_address: one(&[0, 30, 70, 95]),
            reuse_port: one(&[0, 0, 50, 95]),
            v6only: one(&[0, 30, 70]),
            other_user: one(&[0, 0, 50]),
            device: one(&[0, 0, 40]),
        }
    }
}

/// A bind by chance. Only what the kernel takes: V6ONLY with a mapped address is EINVAL.
pub fn bind(namespaces: &[Namespace], port: u16, taste: Taste, dice: &mut Dice) -> Result<Bind> {
    let mut hit = |percent: u64| dice.number(1, 100) <= percent;
    let other_namespace = hit(10);
    let protocol = match (taste.protocol, hit(10)) {
        (Protocol::Tcp, false) | (Protocol::Udp, true) => Protocol::Tcp,
        (Protocol::Tcp, true) | (Protocol::Udp, false) => Protocol::Udp,
    };
    let (device, second, other_user) = (hit(taste.device), hit(50), hit(taste.other_user));
    let (reuse_address, reuse_port) = (hit(taste.reuse_address), hit(taste.reuse_port));
    let v6only = hit(taste.v6only);
    let namespace = namespaces
        .get(usize::from(other_namespace))
        .context("no namespace")?;
    let address = *dice.one(&ADDRESSES).context("no address")?;
    let mapped = address.is_ipv6() && address.to_canonical().is_ipv4();
    // IPv6 addresses are an interface's own: the other one has not got this.
    let second = second && address != IpAddr::V6(Ipv6Addr::LOCALHOST);
    Ok(Bind {
        place: Place {
            namespace: namespace.id,
            protocol,
            address,
            port,
            device: match (device, second) {
                (false, _) => 0,
                (true, false) => LO,
                (true, true) => namespace.other.unwrap_or(LO),
            },
            uid: USERS.get(usize::from(other_user)).copied().unwrap_or(0),
        },
        options: Options {
            v6only: v6only && address.is_ipv6() && !mapped,
            reuse_address,
            reuse_port,
        },
    })
}

/// An address at which it is reached from this machine.
pub fn reached_by(bind: &Bind, dice: &mut Dice) -> IpAddr {
    let canonical = bind.place.address.to_canonical();
    if !canonical.is_unspecified() {
        return canonical;
    }
    let v4 = canonical.is_ipv4() || (!bind.options.v6only && dice.number(0, 1) == 0);
    if v4 {
        IpAddr::V4(ONE)
    } else {
        IpAddr::V6(Ipv6Addr::LOCALHOST)
    }
}

/// For people.
pub fn words(bind: &Bind) -> String {
    let Bind { place, options } = bind;
    let mut text = format!("{} {}", place.protocol.word(), place.address);
    for (set, word) in [
        (options.v6only, " v6only"),
        (options.reuse_address, " reuseaddr"),
        (options.reuse_port, " reuseport"),
    ] {
        if set {
            text.push_str(word);
        }
    }
    let _ = write!(
        text,
        " uid={} dev={} ns={}",
        place.uid,
        place.device,
        place.namespace % 1000
    );
    text
}

/// Closing it will send a reset, after which nothing is left of the connection.
pub fn break_off(fd: &OwnedFd) {
    let linger = nix::libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    // Without it the end of the connection stays, which the case would then tell.
    let _ = setsockopt(fd, sockopt::Linger, &linger);
}

/// How many connections of a local port are over, in /proc/net/tcp (proc_net_tcp of the kernel's documentation).
pub fn ends(table: &str, port: u16) -> usize {
    let end = format!(":{port:04X}");
    let over = |line: &&str| {
        let mut columns = line.split_whitespace().skip(1);
        let local = columns.next().unwrap_or_default();
        local.ends_with(&end) && columns.nth(1) == Some("06")
    };
    table.lines().filter(over).count()
}
