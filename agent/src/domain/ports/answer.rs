//! Which of several sockets gets what comes for a port: a service can run, with its port bound, and somebody else answers.
//!
//! The facts are those of Linux 6.18: net/ipv4/inet_hashtables.c and net/ipv4/udp.c (`compute_score` and the look-ups that
//! call it), and their kin of net/ipv6. Programs attached to the look-up (bpf(2)) and redirections by netfilter come before
//! all of it and are not seen here; nor are multicast datagrams, which every socket gets.

use core::net::IpAddr;

use dagger_suite::model::Protocol;

use super::bind::{Held, Part, State};

/// What a connection or a datagram is sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Destination {
    /// Network namespace, as in [`super::bind::Place`].
    pub namespace: u64,
    /// Transport.
    pub protocol: Protocol,
    /// Address; `::ffff:127.0.0.1` is 127.0.0.1.
    pub address: IpAddr,
    /// Port.
    pub port: u16,
    /// Index of the interface that it comes in by: 1 (`lo`) for everything that this machine sends to itself.
    pub device: u32,
}

/// How well a socket fits. The order is the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    /// It takes every address.
    Wildcard,
    /// It takes just this one.
    Address,
}

/// The sockets that may get it: none (it is refused), one, or several that share (SO_REUSEPORT spreads by hash; of UDP
/// sockets that share by SO_REUSEADDR the one bound last gets all).
///
/// A socket at the very address comes before every wildcard; among equals one of the family before a dual-stack one.
/// Sockets with a peer get nothing of a stranger's.
pub fn answers<'a>(to: &Destination, sockets: &'a [Held]) -> Vec<&'a Held> {
    let fits: Vec<(Fit, &Held)> = sockets
        .iter()
        .filter_map(|socket| Some((fit(to, socket)?, socket)))
        .collect();
    let best = fits.iter().map(|(fit, _)| *fit).max();
    let mut found: Vec<&Held> = fits
        .iter()
        .filter(|(fit, _)| Some(*fit) == best)
        .map(|(_, socket)| *socket)
        .collect();
    let groups = found
        .iter()
        .any(|socket| socket.options.reuse_port != Some(false));
    let one_device = found.windows(2).all(|pair| match pair {
        [one, other] => one.place.device == other.place.device,
        _ => true,
    });
    if !one_device {
        // Whichever group of SO_REUSEPORT is met first gets it, and that is a matter of who was bound last.
        if groups {
            return found;
        }
        keep_some(&mut found, |socket| socket.place.device != 0);
    }
    keep_some(&mut found, |socket| {
        socket.place.address.is_ipv4() == to.address.to_canonical().is_ipv4()
    });
    found
}

/// Keeps those, unless there are none.
fn keep_some(found: &mut Vec<&Held>, wanted: impl Fn(&Held) -> bool) {
    if found.iter().any(|socket| wanted(socket)) {
        found.retain(|socket| wanted(socket));
    }
}

fn fit(to: &Destination, socket: &Held) -> Option<Fit> {
    let place = &socket.place;
    let waits = match to.protocol {
        Protocol::Tcp => socket.state == State::Listening,
        Protocol::Udp => socket.state == State::Bound,
    };
    let here = place.namespace == to.namespace
        && place.protocol == to.protocol
        && place.port == to.port
        && (place.device == 0 || place.device == to.device);
    if !waits || !here {
        return None;
    }
    let address = to.address.to_canonical();
    // Not known whether it takes IPv4: it may.
    let v6only = socket.options.v6only.unwrap_or(false);
    let part = if address.is_ipv4() {
        place.v4(v6only)
    } else {
        place.v6()
    };
    match part {
        Part::Any => Some(Fit::Wildcard),
        Part::One(own) if own == address => Some(Fit::Address),
        Part::One(_) | Part::None => None,
    }
}

#[cfg(test)]
mod tests;
