//! Whether two sockets can have one port at once.
//!
//! The facts are those of Linux 6.18: net/ipv4/inet_connection_sock.c (`inet_bind_conflict`, `inet_rcv_saddr_equal`),
//! net/ipv6/af_inet6.c (`__inet6_bind`), net/ipv4/udp.c (`udp_lib_lport_inuse`); for people socket(7), ip(7), ipv6(7).

use core::net::IpAddr;

use dagger_suite::model::Protocol;

/// Where a socket is bound, and whose it is: what the kernel tells everybody (sock_diag(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Network namespace: inode of `/proc/PID/ns/net`. Sockets of two namespaces never meet.
    pub namespace: u64,
    /// Transport.
    pub protocol: Protocol,
    /// Local address, in the family of the socket: `::ffff:127.0.0.1` is an IPv6 socket that talks IPv4.
    pub address: IpAddr,
    /// Local port, not 0.
    pub port: u16,
    /// Index of the interface that the socket is tied to by SO_BINDTODEVICE or by the scope of a link-local address; 0:
    /// to none. (Interfaces of a VRF have ports of their own; that is not looked at.)
    pub device: u32,
    /// Effective user when the socket was made; for TIME_WAIT nobody's.
    pub uid: u32,
}

/// Options of a socket that decide. The kernel does not tell all of them to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options<T> {
    /// IPV6_V6ONLY. Without it a socket at `::` takes IPv4 as well (`net.ipv6.bindv6only` is what it begins with). The
    /// kernel sets it by itself on a socket that is bound to an IPv6 address of its own.
    pub v6only: T,
    /// SO_REUSEADDR.
    pub reuse_address: T,
    /// SO_REUSEPORT.
    pub reuse_port: T,
}

/// What somebody is about to bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bind {
    /// Where.
    pub place: Place,
    /// With what options.
    pub options: Options<bool>,
}

/// What a socket does with its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Waits for connections (TCP).
    Listening,
    /// Has the port and no peer: every UDP server, and TCP between bind(2) and listen(2).
    Bound,
    /// Has the port for one peer; also while the connection is being closed.
    Connected,
    /// What is left of a connection for a minute: no process has it any more.
    TimeWait,
}

/// A socket that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Where.
    pub place: Place,
    /// What it does.
    pub state: State,
    /// With what options; none: not known.
    ///
    /// sock_diag(7) tells `v6only` of IPv6 sockets that listen or are bound, and never the other two.
    pub options: Options<Option<bool>>,
}

/// Whether a bind fails because of a socket that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Both can have the port.
    Allows,
    /// It depends on an option of the other socket that is not known.
    Depends,
    /// EADDRINUSE.
    Excludes,
}

impl Options<bool> {
    /// The same of somebody else, all known.
    pub fn known(self) -> Options<Option<bool>> {
        Options {
            v6only: Some(self.v6only),
            reuse_address: Some(self.reuse_address),
            reuse_port: Some(self.reuse_port),
        }
    }
}

impl Options<Option<bool>> {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self {
        v6only: None,
        reuse_address: None,
        reuse_port: None,
    };

    /// All that they may be.
    fn possible(self) -> impl Iterator<Item = Options<bool>> {
        let values = |option: Option<bool>| {
            [false, true]
                .into_iter()
                .filter(move |value| option.is_none_or(|known| known == *value))
        };
        values(self.v6only).flat_map(move |v6only| {
            values(self.reuse_address).flat_map(move |reuse_address| {
                values(self.reuse_port).map(move |reuse_port| Options {
                    v6only,
                    reuse_address,
                    reuse_port,
                })
            })
        })
    }
}

impl Bind {
    /// The socket that is there once this has succeeded.
    pub fn held(self, state: State) -> Held {
        let own = matches!(self.place.v6(), Part::One(_));
        let v6only = self.options.v6only || own;
        Held {
            place: self.place,
            state,
            options: Options {
                v6only,
                ..self.options
            }
            .known(),
        }
    }
}

/// Whether `wanted` fails with EADDRINUSE because `held` is there.
///
/// The kernel looks twice, at bind(2) and, for TCP, again at listen(2), by this one rule; what changes between is the state
/// of the others. Two that both set SO_REUSEADDR are both bound, and who listens second fails. So a start that binds and
/// listens at once is excluded by what listens, and by what is bound and does not share.
///
/// Of two sockets this is the kernel's answer. Among three and more it now and then lets one in that one of the others
/// excludes: a socket with SO_REUSEPORT that meets a fellow of its group first is not compared with the rest. Nobody is
/// ever refused whom this rule lets in beside each of the others.
pub fn excludes(wanted: &Bind, held: &Held) -> Answer {
    let mut all = true;
    let mut any = false;
    for options in held.options.possible() {
        let refused = wanted
            .place
            .meets(wanted.options.v6only, &held.place, options.v6only)
            && !shares(wanted, held, options);
        all &= refused;
        any |= refused;
    }
    match (all, any) {
        (true, _) => Answer::Excludes,
        (false, true) => Answer::Depends,
        (false, false) => Answer::Allows,
    }
}

/// Whether the two agree to have one address.
fn shares(wanted: &Bind, held: &Held, options: Options<bool>) -> bool {
    let address = wanted.options.reuse_address && options.reuse_address;
    let port = wanted.options.reuse_port && options.reuse_port;
    let same_user = wanted.place.uid == held.place.uid;
    match wanted.place.protocol {
        Protocol::Tcp => {
            (address && held.state != State::Listening)
                || (port && (same_user || held.state == State::TimeWait))
        }
        Protocol::Udp => address || (port && same_user),
    }
}

/// What a socket takes of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Nothing.
    None,
    /// One address.
    One(IpAddr),
    /// Every address.
    Any,
}

impl Part {
    fn of(address: IpAddr) -> Self {
        if address.is_unspecified() {
            Self::Any
        } else {
            Self::One(address)
        }
    }

    fn meets(self, other: Self) -> bool {
        match (self, other) {
            (Self::None, _) | (_, Self::None) => false,
            (Self::Any, _) | (_, Self::Any) => true,
            (Self::One(mine), Self::One(other)) => mine == other,
        }
    }
}

impl Place {
    /// What it takes of IPv4.
    pub(super) fn v4(&self, v6only: bool) -> Part {
        match self.address.to_canonical() {
            address @ IpAddr::V4(_) => Part::of(address),
            IpAddr::V6(address) if address.is_unspecified() && !v6only => Part::Any,
            IpAddr::V6(_) => Part::None,
        }
    }

    /// What it takes of IPv6.
    pub(super) fn v6(&self) -> Part {
        match self.address.to_canonical() {
            IpAddr::V4(_) => Part::None,
            address @ IpAddr::V6(_) => Part::of(address),
        }
    }

    fn meets(&self, v6only: bool, held: &Self, held_v6only: bool) -> bool {
        let devices = self.device == 0 || held.device == 0 || self.device == held.device;
        self.namespace == held.namespace
            && self.protocol == held.protocol
            && self.port == held.port
            && devices
            && (self.v4(v6only).meets(held.v4(held_v6only))
                || self.v6().meets(held.v6())
                || self.meets_connection(held, held_v6only))
    }

    /// A connection over IPv6 of a socket that takes both families (`[::]`) has an IPv6 address and still counts as one
    /// that takes IPv4: it is in the way of 0.0.0.0, of no other address.
    fn meets_connection(&self, held: &Self, held_v6only: bool) -> bool {
        let any_v4 = self.address.is_ipv4() && self.address.is_unspecified();
        any_v4 && !held_v6only && matches!(held.v6(), Part::One(_))
    }
}

#[cfg(test)]
mod tests;
