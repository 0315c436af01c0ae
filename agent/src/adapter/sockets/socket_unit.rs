//! Socket units: what systemd itself listens on, and for whom.

use std::net::SocketAddr;

use dagger_suite::model::Protocol;

/// One address of a socket unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listens {
    /// `ssh.socket`.
    pub unit: String,
    /// Transport.
    pub protocol: Protocol,
    /// Where; a bare port of the unit file is `[::]` here.
    pub address: SocketAddr,
}

impl Listens {
    /// From the words with which systemd describes it, over D-Bus (property `Listen` of org.freedesktop.systemd1.Socket) and
    /// in `systemctl list-sockets --show-types`: `Stream` or `Datagram`, and the address. None for what has no port.
    pub fn parse(unit: &str, kind: &str, address: &str) -> Option<Self> {
        let protocol = match kind {
            "Stream" => Protocol::Tcp,
            "Datagram" => Protocol::Udp,
            _ => return None,
        };
        // `[fe80::1]:80%eth0`: the interface stands behind (systemd.socket(5)).
        let address = address.split('%').next()?;
        Some(Self {
            unit: unit.to_owned(),
            protocol,
            address: address.parse().ok()?,
        })
    }
}

/// The socket unit that a socket of systemd's belongs to. None when there is not exactly one: two units may share an
/// address (ReusePort=).
pub fn of(known: &[Listens], protocol: Protocol, address: SocketAddr) -> Option<&str> {
    let mut units = known
        .iter()
        .filter(|listens| listens.protocol == protocol && listens.address == address)
        .map(|listens| listens.unit.as_str());
    let first = units.next()?;
    units.all(|other| other == first).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_is_found_by_type_and_whole_address() {
        let known: Vec<Listens> = [
            ("ssh.socket", "Stream", "[::]:22"),
            ("other.socket", "Stream", "0.0.0.0:122"),
            ("local.socket", "Stream", "127.0.0.1:122"),
            ("d.socket", "Datagram", "[::]:9091"),
            ("one.socket", "Stream", "[::]:80"),
            ("two.socket", "Stream", "[::]:80"),
            ("bus.socket", "Stream", "/run/bus"),
            ("net.socket", "Netlink", "route 1361"),
            ("link.socket", "Stream", "[fe80::1]:81%eth0"),
        ]
        .into_iter()
        .filter_map(|(unit, kind, address)| Listens::parse(unit, kind, address))
        .collect();
        for (protocol, address, unit) in [
            (Protocol::Tcp, "[::]:22", Some("ssh.socket")),
            (Protocol::Tcp, "0.0.0.0:22", None),
            (Protocol::Tcp, "0.0.0.0:122", Some("other.socket")),
            (Protocol::Tcp, "127.0.0.1:122", Some("local.socket")),
            (Protocol::Tcp, "[::]:9091", None),
            (Protocol::Udp, "[::]:9091", Some("d.socket")),
            (Protocol::Tcp, "[::]:80", None),
            (Protocol::Tcp, "[fe80::1]:81", Some("link.socket")),
        ] {
            assert_eq!(of(&known, protocol, address.parse().unwrap()), unit, "{address}");
        }
    }
}
