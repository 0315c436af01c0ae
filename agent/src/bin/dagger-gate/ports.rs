//! Ports before the start: free, or whose, and what to do about it.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use dagger_agent::adapter::sockets::diag::State;
use dagger_agent::adapter::sockets::socket_unit::{self, Listens};
use dagger_agent::adapter::sockets::{self, Holder, Port, netns};
use dagger_agent::adapter::survey;
use dagger_agent::domain::conflict::{MANAGER, words};
use dagger_suite::model::Protocol;
use dagger_suite::names::ServiceName;

/// How long our own previous container is waited for: it is being removed while this start begins.
const OWN_PATIENCE: Duration = Duration::from_secs(2);
/// How long nobody in particular is waited for: another gate that tries the same port is gone after microseconds.
const NOBODY_PATIENCE: Duration = Duration::from_millis(200);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// The value of `--claim`: `tcp:8989`.
pub fn parse(claim: &str) -> Result<Port, String> {
    let bad = || format!("{claim:?} is not tcp:PORT or udp:PORT");
    let (protocol, number) = claim.split_once(':').ok_or_else(bad)?;
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return Err(bad()),
    };
    match number.parse::<u16>() {
        Ok(number) if number > 0 => Ok(Port { protocol, number }),
        _ => Err(bad()),
    }
}

/// One sentence for each claim that cannot be had.
pub fn check(service: &ServiceName, claims: &[Port], namespace: Option<&Path>) -> Vec<String> {
    let looked = netns::within(namespace, || {
        let begin = Instant::now();
        Ok(claims
            .iter()
            .filter_map(|port| wait(service, *port, begin))
            .collect::<Vec<String>>())
    });
    match (looked, namespace) {
        (Ok(sentences), _) => sentences,
        (Err(error), Some(path)) if error.kind() == io::ErrorKind::NotFound => vec![format!(
            "the network namespace {} that {service} lives in is not there: start what makes it, then {service} again",
            path.display()
        )],
        (Err(error), Some(path)) => {
            vec![format!(
                "cannot enter the network namespace {} of {service}: {error}",
                path.display()
            )]
        }
        (Err(error), None) => vec![format!("cannot look at the ports of {service}: {error}")],
    }
}

fn wait(service: &ServiceName, port: Port, begin: Instant) -> Option<String> {
    loop {
        match sockets::free(port) {
            Ok(true) => return None,
            Ok(false) => {}
            Err(error) => return Some(format!("cannot look at {port} for {service}: {error}")),
        }
        let own = |holder: &Holder| {
            holder.state == State::Closing
                || holder
                    .unit
                    .as_ref()
                    .is_some_and(|unit| unit.name == service.unit())
        };
        // Not knowing the holder is no reason to call the port free.
        let holders = sockets::met(port, |holder| !own(holder)).unwrap_or_default();
        let patience = if holders.is_empty() {
            NOBODY_PATIENCE
        } else if holders.iter().all(own) {
            OWN_PATIENCE
        } else {
            Duration::ZERO
        };
        if begin.elapsed() >= patience {
            let holder = holders.into_iter().min_by_key(own).map(|holder| {
                let mut holder = survey::holder(&holder);
                if holder.is(MANAGER) {
                    holder.socket = socket_unit(port, holder.address);
                }
                holder
            });
            return Some(words::taken(service.as_str(), port, holder.as_ref()));
        }
        std::thread::sleep(PAUSE);
    }
}

/// The socket unit that systemd holds the address for. Asked of systemctl(1), because only systemd knows.
fn socket_unit(port: Port, address: SocketAddr) -> Option<String> {
    let output = Command::new("systemctl")
        .args([
            "list-sockets",
            "--show-types",
            "--full",
            "--no-legend",
            "--no-pager",
        ])
        .output()
        .ok()?;
    let known = listed(&String::from_utf8_lossy(&output.stdout));
    socket_unit::of(&known, port.protocol, address).map(str::to_owned)
}

/// Columns: address, type, unit, and what it activates.
fn listed(table: &str) -> Vec<Listens> {
    let line = |line: &str| {
        let mut columns = line.split_whitespace();
        let (address, kind, unit) = (columns.next()?, columns.next()?, columns.next()?);
        Listens::parse(unit, kind, address)
    };
    table.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_read() {
        assert_eq!(
            parse("udp:7359").unwrap(),
            Port {
                protocol: Protocol::Udp,
                number: 7359
            }
        );
        for bad in ["", "8989", "tcp:0", "tcp:65536", "sctp:1", "tcp:"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn socket_units_are_read_off_the_list() {
        let table = "[::]:22          Stream   ssh.socket      ssh.service\n\
                     0.0.0.0:122      Stream   other.socket    other.service\n\
                     /run/x           Stream   x.socket        x.service\n\
                     route 1361       Netlink  n.socket        n.service\n\
                     [::]:9091        Datagram d.socket        d.service\n";
        let known = listed(table);
        let units: Vec<&str> = known.iter().map(|listens| listens.unit.as_str()).collect();
        assert_eq!(units, ["ssh.socket", "other.socket", "d.socket"]);
        let unit = socket_unit::of(&known, Protocol::Tcp, "[::]:22".parse().unwrap());
        assert_eq!(unit, Some("ssh.socket"));
    }
}
