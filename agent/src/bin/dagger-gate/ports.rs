//! Ports before the start: free, or whose, and what to do about it.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use dagger_agent::adapter::sockets::diag::State;
use dagger_agent::adapter::sockets::socket_unit::{self, Listens};
use dagger_agent::adapter::sockets::{self, Holder, Port, netns};
use dagger_agent::adapter::{docker, publisher, survey};
use dagger_agent::domain::conflict::{Container, MANAGER, words};
use dagger_suite::model::Protocol;
use dagger_suite::names::{Root, ServiceName};

use crate::say;

/// How long our own previous container is waited for: it is being removed while this start begins.
const OWN_PATIENCE: Duration = Duration::from_secs(2);
/// How long nobody in particular is waited for: another gate that tries the same port is gone after microseconds.
const NOBODY_PATIENCE: Duration = Duration::from_millis(200);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Who stands in the way, as far as waiting for them goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    /// Whoever it was is gone when it is looked for: it has ended in this very moment, or cannot be seen.
    Nobody,
    /// Our own previous container, or what is left of it.
    Own,
    /// Somebody else, who will not go for waiting.
    Other,
}

fn who(holders: &[Holder], own: impl Fn(&Holder) -> bool) -> Who {
    let nameless = |holder: &Holder| holder.unit.is_none() && holder.process.is_none();
    if !holders.iter().all(|holder| own(holder) || nameless(holder)) {
        Who::Other
    } else if holders.iter().any(own) {
        Who::Own
    } else {
        Who::Nobody
    }
}

/// How long is waited, which depends on whom for.
#[derive(Debug)]
struct Patience {
    begin: Instant,
    /// Who it was at the last look, and since when.
    last: Option<(Who, Instant)>,
}

impl Patience {
    fn since(begin: Instant) -> Self {
        Self { begin, last: None }
    }

    /// Whether it is over when these are there now. The first look, and a change of who it is, begin anew: our own container
    /// has ended, perhaps while another port was waited for, and its socket is there for a moment longer. All of it together
    /// has an end.
    fn is_over(&mut self, who: Who, now: Instant) -> bool {
        let since = self
            .last
            .filter(|(before, _)| *before == who)
            .map_or(now, |(_, since)| since);
        self.last = Some((who, since));
        let limit = match who {
            Who::Nobody => NOBODY_PATIENCE,
            Who::Own => OWN_PATIENCE,
            Who::Other => return true,
        };
        now.duration_since(since) >= limit || now.duration_since(self.begin) >= OWN_PATIENCE + NOBODY_PATIENCE
    }
}

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

/// A claim that cannot be had.
struct Refused {
    sentence: String,
    /// The holder's socket, and the container that has it.
    container: Option<(u32, Container)>,
}

impl Refused {
    fn unseen(sentence: String) -> Self {
        Self {
            sentence,
            container: None,
        }
    }
}

/// One sentence for each claim that cannot be had. What was found out of containers is left for the agent.
pub fn check(root: &Root, service: &ServiceName, claims: &[Port], namespace: Option<&Path>) -> Vec<String> {
    let looked = netns::within(namespace, || {
        let begin = Instant::now();
        Ok(claims
            .iter()
            .filter_map(|port| wait(root, service, *port, Patience::since(begin)))
            .collect::<Vec<Refused>>())
    });
    match (looked, namespace) {
        (Ok(refused), _) => {
            let (sentences, containers): (Vec<String>, Vec<_>) =
                refused.into_iter().map(|it| (it.sentence, it.container)).unzip();
            let containers: Vec<(u32, Container)> = containers.into_iter().flatten().collect();
            if !containers.is_empty()
                && let Err(error) = publisher::leave(root, service.as_str(), &containers)
            {
                say::warning(&format!(
                    "the agent is not told of the containers in the way: {error}"
                ));
            }
            sentences
        }
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

fn wait(root: &Root, service: &ServiceName, port: Port, mut patience: Patience) -> Option<Refused> {
    loop {
        match sockets::free(port) {
            Ok(true) => return None,
            Ok(false) => {}
            Err(error) => {
                let sentence = format!("cannot look at {port} for {service}: {error}");
                return Some(Refused::unseen(sentence));
            }
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
        let who = who(&holders, own);
        if patience.is_over(who, Instant::now()) {
            return Some(refused(root, service, port, holders.into_iter().min_by_key(own)));
        }
        std::thread::sleep(PAUSE);
    }
}

fn refused(root: &Root, service: &ServiceName, port: Port, found: Option<Holder>) -> Refused {
    let Some(found) = found else {
        return Refused::unseen(words::taken(service.as_str(), port, None));
    };
    let mut holder = survey::holder(&found);
    if holder.is(MANAGER) {
        holder.socket = socket_unit(port, holder.address);
    }
    docker::name(root, std::iter::once((port, &mut holder)));
    // Containers of users are that user's affair: the agent knows of them what the kernel tells.
    let container = holder.container.clone().filter(|_| holder.manager.is_none());
    Refused {
        sentence: words::taken(service.as_str(), port, Some(&holder)),
        container: container.map(|container| (found.inode, container)),
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
    use dagger_agent::adapter::sockets::cgroup::unit_of;

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

    fn listener(unit: Option<&str>) -> Holder {
        Holder {
            address: "127.0.0.1:80".parse().unwrap(),
            state: State::Listening,
            v6only: None,
            device: 0,
            uid: 0,
            inode: 1,
            unit: unit.map(|name| unit_of(&format!("/system.slice/{name}")).unwrap()),
            process: None,
        }
    }

    #[test]
    fn one_who_ended_while_he_was_looked_at_is_no_stranger() {
        let own = |holder: &Holder| {
            holder
                .unit
                .as_ref()
                .is_some_and(|unit| unit.name == "own.service")
        };
        let whose =
            |units: &[Option<&str>]| who(&units.iter().copied().map(listener).collect::<Vec<_>>(), own);
        assert_eq!(whose(&[]), Who::Nobody);
        assert_eq!(whose(&[None]), Who::Nobody);
        assert_eq!(whose(&[None, Some("own.service")]), Who::Own);
        assert_eq!(
            whose(&[None, Some("own.service"), Some("other.service")]),
            Who::Other
        );
    }

    #[test]
    fn patience_begins_anew_when_our_own_has_ended_and_has_an_end() {
        let begin = Instant::now();
        let at = |millis| begin + Duration::from_millis(millis);
        let mut patience = Patience::since(begin);
        assert!(!patience.is_over(Who::Own, at(1900)));
        assert!(!patience.is_over(Who::Nobody, at(1910)), "its socket is going");
        assert!(!patience.is_over(Who::Nobody, at(2100)));
        assert!(patience.is_over(Who::Nobody, at(2110)));
        let mut patience = Patience::since(begin);
        assert!(
            !patience.is_over(Who::Nobody, at(500)),
            "another port took so long"
        );
        let mut patience = Patience::since(begin);
        assert!(!patience.is_over(Who::Nobody, at(0)));
        assert!(!patience.is_over(Who::Nobody, at(190)));
        assert!(patience.is_over(Who::Nobody, at(200)));
        assert!(patience.is_over(Who::Other, at(201)));
        let mut patience = Patience::since(begin);
        let turns = [Who::Own, Who::Nobody].into_iter().cycle();
        for (millis, who) in (0..2200).step_by(100).zip(turns) {
            assert!(!patience.is_over(who, at(millis)), "{millis}");
        }
        assert!(patience.is_over(Who::Own, at(2200)), "however often it changes");
    }
}
