//! Conflicts: what two want and only one can have.
//!
//! [`wanted`] says what a service of the configuration wants for itself, [`conflicts`] what stands in its way, given the
//! sockets that were found and how the units are. [`words`] says it to people; the gate uses the same words. Nothing here
//! looks at anything: who holds a socket is handed in, and what is not known about a holder stays unknown.

pub mod words;

pub mod suggest;

mod hinder;

use core::net::SocketAddr;
use std::fmt;

use dagger_suite::model::{Network, Protocol, Service};
use serde::Serialize;

use super::verdict::Phase;

/// The unit that systemd itself is in: sockets of socket units may be there.
pub const MANAGER: &str = "init.scope";

/// A port of one transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// Transport.
    pub protocol: Protocol,
    /// Number, never 0.
    pub number: u16,
}

/// As people read it: `TCP port 8989`.
impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} port {}", self.protocol.word().to_uppercase(), self.number)
    }
}

/// A port that a service wants, on every address of its network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// What it is for: `web`, `peer`, or the name in the configuration.
    pub what: String,
    /// The port.
    pub port: Port,
}

/// What one service wants for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its name.
    pub service: String,
    /// Our unit of it.
    pub unit: String,
    /// The native unit on this machine that may own the same data.
    pub native: Option<String>,
    /// The network namespace that its ports are in; none: the host's, where those of a bridge are published.
    pub namespace: Option<String>,
    /// Its ports, the main one first.
    pub ports: Vec<Claim>,
}

/// What a service of the configuration wants.
pub fn wanted(service: &Service) -> Wanted {
    Wanted {
        service: service.name.to_string(),
        unit: service.name.unit(),
        native: service
            .native
            .iter()
            .find(|unit| unit.present)
            .map(|unit| unit.name.clone()),
        namespace: match &service.network {
            Network::Host | Network::Bridge => None,
            Network::Namespace(path) => Some(path.clone()),
        },
        ports: service
            .ports
            .iter()
            .map(|claim| Claim {
                what: claim.name.clone(),
                port: Port {
                    protocol: claim.protocol,
                    number: claim.port,
                },
            })
            .collect(),
    }
}

/// What a socket does. In the order in which it is worth telling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doing {
    /// Waits for connections (TCP).
    Listening,
    /// Has the port, without a peer: every UDP server, and a TCP socket between bind and listen.
    Bound,
    /// Has the port for one connection.
    Connected,
    /// The rest of a connection that is over; no process has it any more.
    Closing,
}

/// A container of an engine outside the suite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// `podman` or `docker`.
    pub engine: &'static str,
    /// What the engine's commands take for it, its name or short id; none where only the engine's helper is known.
    pub handle: Option<String>,
}

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its name (proc_pid_comm(5)).
    pub name: String,
}

/// Whoever has a port. What is not known is `None`; nothing is guessed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Local address of its socket.
    pub address: SocketAddr,
    /// What the socket does.
    pub doing: Doing,
    /// For an IPv6 socket: whether it leaves IPv4 to others (IPV6_V6ONLY), where the kernel tells.
    pub v6only: Option<bool>,
    /// Number of the interface that it is bound to, 0 for none.
    pub device: u32,
    /// The unit that the socket belongs to, with suffix.
    pub unit: Option<String>,
    /// For a unit of a user's own manager: that user's number.
    pub manager: Option<u32>,
    /// Where systemd itself holds the port: the socket unit that it holds it for.
    pub socket: Option<String>,
    /// The container that it is.
    pub container: Option<Container>,
    /// A process that has the socket open.
    pub process: Option<Process>,
    /// The user that the socket belongs to.
    pub user: Option<u32>,
}

impl Holder {
    /// The unit to name: the socket unit where systemd holds the port for one. What somebody does in a login has none: its
    /// scope is everything that this user does there.
    pub fn named(&self) -> Option<&str> {
        let nobody = self.comes_from().or(self.login()).is_some();
        let unit = self.unit.as_deref().filter(|_| !nobody);
        self.socket.as_deref().or(unit)
    }

    /// The unit that tells one holder from another, whether it is one to name or not.
    fn identity(&self) -> Option<&str> {
        let unit = self.unit.as_deref().filter(|unit| *unit != MANAGER);
        self.socket.as_deref().or(unit)
    }

    /// The login that it lives in (systemd-logind's `session-3.scope`).
    pub fn login(&self) -> Option<&str> {
        let is_login = |unit: &&str| {
            let stem = unit.strip_suffix(".scope");
            self.manager.is_none() && stem.is_some_and(|stem| stem.starts_with("session-"))
        };
        self.unit.as_deref().filter(is_login)
    }

    /// The scope that the socket was made in, where nobody has looked who has it now. Logins pass on what they have: the
    /// helper of a container that was started in one keeps its port from elsewhere. A container's own scope is no such one.
    pub fn comes_from(&self) -> Option<&str> {
        let unknown = self.process.is_none();
        let of_engine = |unit: &str| unit.starts_with("libpod-") || unit.starts_with("docker-");
        let is_scope = |unit: &&str| {
            unknown && *unit != MANAGER && !of_engine(unit) && unit.strip_suffix(".scope").is_some()
        };
        self.unit.as_deref().filter(is_scope)
    }

    /// It is this unit of the system.
    pub fn is(&self, unit: &str) -> bool {
        self.manager.is_none() && self.unit.as_deref() == Some(unit)
    }
}

/// A socket that was found on a port that the suite wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The network namespace that it is in; none: the host's.
    pub namespace: Option<String>,
    /// The port.
    pub port: Port,
    /// Whose it is.
    pub holder: Holder,
}

/// How the units of a service are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Units {
    /// Ours.
    pub own: Phase,
    /// The native one, where there is one.
    pub native: Option<Phase>,
    /// The native one owns the data.
    pub natively: bool,
    /// The one that owns the data has had a main process since its last start began: nothing has refused it its port.
    pub ran: bool,
}

impl Units {
    /// The unit that the ports of the service belong to, and whether it runs, so that its own sockets may be there.
    fn owner(self, wanted: &Wanted) -> (&str, bool) {
        let (unit, phase) = match (&wanted.native, self.native) {
            (Some(native), Some(phase)) if self.natively => (native, phase),
            _ => (&wanted.unit, self.own),
        };
        // A start that the gate refuses begins and ends within moments, and again and again: that is one conflict.
        let runs = match phase {
            Phase::Active => true,
            Phase::Activating | Phase::Deactivating => self.ran,
            Phase::Unloaded | Phase::Stopped | Phase::Restarting | Phase::Failed => false,
        };
        (unit, runs)
    }
}

/// What kind of conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// It does not run, and cannot start: somebody else has its port.
    Taken,
    /// It runs, and somebody else answers on its port as well, or instead.
    Answered,
    /// Its native unit and its container run at once, on the same data.
    Beside,
}

impl Kind {
    /// The word on the bus.
    pub fn word(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Answered => "answered",
            Self::Beside => "beside",
        }
    }
}

/// One conflict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// What kind.
    pub kind: Kind,
    /// Whose affair it is.
    pub service: String,
    /// Our unit of it.
    pub unit: String,
    /// The port that it is about; none where it is about data.
    pub claim: Option<Claim>,
    /// The network namespace of the port; none: the host's.
    pub namespace: Option<String>,
    /// Who stands in the way, as far as that is known.
    pub holder: Option<Holder>,
    /// For [`Kind::Beside`]: the native unit.
    pub native: Option<String>,
}

impl Conflict {
    /// The unit that stands in the way.
    pub fn with(&self) -> Option<&str> {
        let held = self.holder.as_ref().and_then(Holder::named);
        held.or(self.native.as_deref())
    }

    /// The unit by which it is told from another conflict: also one that is not to be named.
    pub fn identity(&self) -> Option<&str> {
        let held = self.holder.as_ref().and_then(Holder::identity);
        held.or(self.native.as_deref())
    }

    /// Whether this is the same conflict as one that was seen before. A holder that has become known, or that could not
    /// be named this time, does not make it another one; nor does a service that starts or ends meanwhile.
    pub fn continues(&self, before: &Self) -> bool {
        let same = (&self.service, &self.namespace) == (&before.service, &before.namespace);
        let port = |conflict: &Self| conflict.claim.as_ref().map(|claim| claim.port);
        same && port(self) == port(before)
            && match (self.identity(), before.identity()) {
                (Some(now), Some(then)) => now == then,
                _ => true,
            }
    }
}

/// Everything that stands in the way of these services, in their order.
///
/// A holder that cannot be named is none of ours while the service does not run; while it runs, it may well be the
/// service itself, and nothing is said. Only sockets in the same network namespace count.
pub fn conflicts(services: &[(&Wanted, Units)], held: &[Held]) -> Vec<Conflict> {
    let mut found = Vec::new();
    for (wanted, units) in services {
        found.extend(beside(wanted, *units));
        found.extend(
            wanted
                .ports
                .iter()
                .filter_map(|claim| over_port(wanted, *units, claim, held)),
        );
    }
    found
}

fn beside(wanted: &Wanted, units: Units) -> Option<Conflict> {
    // One that the gate refuses, again and again, touches no data.
    let ours = units.own == Phase::Active || (units.own == Phase::Activating && units.ran && !units.natively);
    let both = ours && units.native == Some(Phase::Active);
    both.then(|| Conflict {
        kind: Kind::Beside,
        service: wanted.service.clone(),
        unit: wanted.unit.clone(),
        claim: None,
        namespace: None,
        holder: None,
        native: wanted.native.clone(),
    })
}

fn over_port(wanted: &Wanted, units: Units, claim: &Claim, held: &[Held]) -> Option<Conflict> {
    let (unit, runs) = units.owner(wanted);
    let here: Vec<&Holder> = held
        .iter()
        .filter(|held| held.namespace == wanted.namespace && held.port == claim.port)
        .map(|held| &held.holder)
        .collect();
    let rivals = if runs {
        hinder::answers_for(unit, claim.port, &here)
    } else {
        hinder::keeps_out(claim.port, &here)
    };
    let holder = rivals
        .into_iter()
        .filter(|holder| !holder.is(unit))
        // Who waits for connections is worth more than who has one. Of equals it is the same one at every look.
        .min_by_key(|holder| {
            (
                holder.doing,
                holder.unit.is_none(),
                holder.unit.clone(),
                holder.address,
            )
        })?;
    Some(Conflict {
        kind: if runs { Kind::Answered } else { Kind::Taken },
        service: wanted.service.clone(),
        unit: wanted.unit.clone(),
        claim: Some(claim.clone()),
        namespace: wanted.namespace.clone(),
        holder: Some(holder.clone()),
        native: None,
    })
}

/// A conflict, and since when it is known (microseconds of CLOCK_REALTIME).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The conflict.
    pub conflict: Conflict,
    /// Since when.
    pub since: u64,
}

/// What another look has changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    /// All conflicts now.
    pub now: Vec<Known>,
    /// Those among them that are new.
    pub begun: Vec<Conflict>,
    /// Those that are over.
    pub ended: Vec<Conflict>,
}

/// Holds what was known against what was found at `now` (microseconds of CLOCK_REALTIME).
pub fn change(before: &[Known], found: Vec<Conflict>, now: u64) -> Change {
    let mut change = Change::default();
    for conflict in found {
        let known = before.iter().find(|known| conflict.continues(&known.conflict));
        if known.is_none() {
            change.begun.push(conflict.clone());
        }
        // The name of a holder that was known once is not lost for a look that did not see it.
        let holder = match (
            &conflict.holder,
            known.and_then(|known| known.conflict.holder.as_ref()),
        ) {
            (Some(holder), Some(before)) if holder.unit.is_none() && holder.address == before.address => {
                Some(before.clone())
            }
            (holder, _) => holder.clone(),
        };
        change.now.push(Known {
            conflict: Conflict { holder, ..conflict },
            since: known.map_or(now, |known| known.since),
        });
    }
    let over = before.iter().filter(|known| {
        !change
            .now
            .iter()
            .any(|now| now.conflict.continues(&known.conflict))
    });
    change.ended = over.map(|known| known.conflict.clone()).collect();
    change
}

#[cfg(test)]
mod tests;
