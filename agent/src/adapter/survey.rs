//! Who has the ports that a suite wants, in each of its network namespaces, as values of the domain.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;

use dagger_suite::model::Protocol;
use dagger_suite::names::Root;

use super::cgroups::Cgroups;
use super::publisher;
use super::sockets::diag::{Found, State};
use super::sockets::dump::{self, Which};
use super::sockets::groups::Groups;
use super::sockets::{self, netns};
use crate::domain::conflict::{Container, Doing, Held, Holder, Port, Process, Wanted};

/// Where Linux says which ports it takes for outgoing connections (ip(7)).
const EPHEMERAL: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// What it takes unless somebody has set it (net/ipv4/af_inet.c).
const EPHEMERAL_USUAL: RangeInclusive<u16> = 32768..=60999;

/// What one look has found, and where it could not look.
#[derive(Debug, Default)]
pub struct Survey {
    /// Sockets on the ports that were asked about.
    pub held: Vec<Held>,
    /// One sentence for each namespace that could not be looked into.
    pub blind: Vec<String>,
    /// Why no unit can be told of any socket, where that is so: holders are named only by their processes then.
    pub dim: Option<&'static str>,
}

/// Said where the kernel does not tell the groups of sockets.
const NO_IDS: &str = "this kernel does not tell the control groups of sockets (Linux 5.7 and later do): who has a port is \
                      found by its processes only, and only root sees all of them";
/// Said where no group can be looked up.
const NO_TREE: &str = "this machine has no unified control groups (cgroup v2): who has a port is found by its processes \
                       only, and only root sees all of them";

/// Looks at all ports of all services. Below `root` lies what gates have left ([`publisher`]).
pub fn look(root: &Root, wanted: &[Wanted]) -> Survey {
    let mut places: BTreeMap<Option<&str>, Vec<Port>> = BTreeMap::new();
    for service in wanted {
        let ports = places.entry(service.namespace.as_deref()).or_default();
        ports.extend(service.ports.iter().map(|claim| claim.port));
    }
    let mut blind = Vec::new();
    let mut found: Vec<(Option<&str>, Found)> = Vec::new();
    for (namespace, mut ports) in places {
        ports.sort_unstable();
        ports.dedup();
        match netns::within(namespace.map(Path::new), || held(&ports)) {
            Ok(here) => found.extend(here.into_iter().map(|one| (namespace, one))),
            // Without the namespace nothing in it holds a port.
            Err(error) if namespace.is_some() && error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => blind.push(match namespace {
                Some(path) => format!("the ports in {path} cannot be looked at: {error}"),
                None => format!("the ports cannot be looked at: {error}"),
            }),
        }
    }
    let (namespaces, found): (Vec<Option<&str>>, Vec<Found>) = found.into_iter().unzip();
    match named(&found) {
        Ok((holders, dim)) => Survey {
            held: holders
                .iter()
                .zip(&found)
                .zip(namespaces)
                .map(|((one, found), namespace)| {
                    let mut held = Held {
                        namespace: namespace.map(str::to_owned),
                        port: port_of(found),
                        holder: holder(one),
                    };
                    recall(root, wanted, one.inode, &mut held);
                    held
                })
                .collect(),
            blind,
            dim,
        },
        Err(error) => {
            blind.push(format!("who has the ports cannot be looked up: {error}"));
            Survey {
                blind,
                ..Survey::default()
            }
        }
    }
}

/// The container of a holder whose process we may not see, where the gate has seen it.
fn recall(root: &Root, wanted: &[Wanted], inode: u32, held: &mut Held) {
    let holder = &mut held.holder;
    let ours = |unit: &String| unit.starts_with("dagger-");
    let named = holder
        .container
        .as_ref()
        .is_some_and(|container| container.handle.is_some());
    if named || holder.process.is_some() || holder.unit.as_ref().is_some_and(ours) {
        return;
    }
    let services = wanted.iter().filter(|service| {
        service.namespace == held.namespace && service.ports.iter().any(|claim| claim.port == held.port)
    });
    let seen = publisher::of(root, services.map(|service| service.service.as_str()), inode);
    holder.container = seen.or(holder.container.take());
}

fn port_of(found: &Found) -> Port {
    Port {
        protocol: found.protocol,
        number: found.address.port(),
    }
}

/// The sockets on these ports, in the calling thread's namespace: one reading for all servers. A TCP port without one may
/// be that of a connection; those are asked for by themselves, because there are many.
fn held(ports: &[Port]) -> io::Result<Vec<Found>> {
    let mut found = dump::servers()?;
    found.retain(|found| ports.binary_search(&port_of(found)).is_ok());
    let held: BTreeSet<Port> = found.iter().map(port_of).collect();
    let left: Vec<u16> = ports
        .iter()
        .filter(|port| port.protocol == Protocol::Tcp && !held.contains(port))
        .map(|port| port.number)
        .collect();
    found.extend(dump::on_ports(Protocol::Tcp, &left, Which::All)?);
    Ok(found)
}

/// Who has these sockets, and why none has a unit, as [`dim`] says it. Control groups and processes are not divided by
/// network namespaces: they are looked through once.
fn named(found: &[Found]) -> io::Result<(Vec<sockets::Holder>, Option<&'static str>)> {
    let mut groups = Groups::new()?;
    groups.learn(found);
    Ok((sockets::name(&groups, found), dim(found, groups.tree())))
}

/// Why none of these sockets has a unit, where there is one reason for all.
fn dim(found: &[Found], tree: &Cgroups) -> Option<&'static str> {
    let mut open = found.iter().filter(|found| found.inode != 0).peekable();
    open.peek()?;
    if open.all(|found| found.cgroup.is_none()) {
        return Some(NO_IDS);
    }
    (!tree.is_there()).then_some(NO_TREE)
}

/// A holder as the domain sees it.
pub fn holder(found: &sockets::Holder) -> Holder {
    let unit = found.unit.as_ref();
    Holder {
        address: found.address,
        doing: match found.state {
            State::Listening => Doing::Listening,
            State::Bound => Doing::Bound,
            State::Connected => Doing::Connected,
            State::Closing => Doing::Closing,
        },
        v6only: found.v6only,
        device: found.device,
        unit: unit.map(|unit| unit.name.clone()),
        manager: unit.and_then(|unit| unit.user),
        socket: None,
        container: found.container().map(|container| Container {
            engine: container.engine,
            handle: container.handle().map(str::to_owned),
        }),
        process: found.process.as_ref().map(|process| Process {
            pid: process.pid,
            name: process.name.clone(),
        }),
        user: Some(found.uid),
    }
}

/// The ports that the kernel takes for outgoing connections; what is usual where it does not say.
pub fn ephemeral() -> RangeInclusive<u16> {
    fs::read_to_string(EPHEMERAL)
        .ok()
        .and_then(|text| range(&text))
        .unwrap_or(EPHEMERAL_USUAL)
}

/// Two numbers, first and last.
fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut numbers = text.split_whitespace().map(str::parse::<u16>);
    Some(numbers.next()?.ok()?..=numbers.next()?.ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::conflict::Claim;
    use dagger_suite::names::Root;
    use std::net::{TcpListener, UdpSocket};

    #[test]
    fn what_is_wanted_and_held_is_found_and_nothing_else() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let claim = |protocol, number| Claim {
            what: "x".into(),
            port: Port { protocol, number },
        };
        let tcp = listener.local_addr().unwrap().port();
        let udp = socket.local_addr().unwrap().port();
        let service = |namespace: Option<&str>| Wanted {
            service: "x".into(),
            unit: "dagger-x.service".into(),
            native: None,
            namespace: namespace.map(str::to_owned),
            ports: vec![claim(Protocol::Tcp, tcp), claim(Protocol::Udp, udp)],
        };
        let survey = look(
            &Root::new("/nowhere"),
            &[service(None), service(Some("/nowhere"))],
        );
        assert_eq!(survey.blind, Vec::<String>::new());
        let mut found: Vec<_> = survey
            .held
            .iter()
            .map(|held| (held.port.number, held.holder.doing))
            .collect();
        found.sort_unstable();
        let mut wanted = vec![(tcp, Doing::Listening), (udp, Doing::Bound)];
        wanted.sort_unstable();
        assert_eq!(found, wanted, "and not {other:?}");
    }

    #[test]
    fn what_keeps_units_from_being_told_is_said_once() {
        let root = |name: &str, table: &str| {
            let root = std::env::temp_dir().join(format!("dagger-survey-{}-{name}", std::process::id()));
            fs::create_dir_all(root.join("proc/self")).unwrap();
            fs::write(root.join("proc/self/mountinfo"), table).unwrap();
            let tree = Cgroups::below(&Root::new(&root));
            fs::remove_dir_all(root).unwrap();
            tree
        };
        let old = root(
            "old",
            "33 30 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n",
        );
        let new = root("new", "25 22 0:24 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut found = dump::on_ports(Protocol::Tcp, &[port], Which::All).unwrap();
        assert_eq!(dim(&found, &new), None);
        assert_eq!(dim(&found, &old), Some(NO_TREE));
        assert_eq!(dim(&[], &old), None, "nobody has to be named");
        found[0].cgroup = None;
        assert_eq!(dim(&found, &new), Some(NO_IDS));
        // The process is named all the same.
        let mut groups = Groups::new().unwrap();
        groups.learn(&found);
        let holder = &sockets::name(&groups, &found)[0];
        assert_eq!(
            holder.process.as_ref().map(|process| process.pid),
            Some(std::process::id())
        );
        // What is closing nobody has any more, and no kernel tells its group.
        found[0].inode = 0;
        assert_eq!(dim(&found, &new), None);
    }

    #[test]
    fn the_kernels_range_is_read() {
        assert_eq!(range("32768\t60999\n"), Some(32768..=60999));
        for bad in ["", "1", "a b", "1 70000"] {
            assert_eq!(range(bad), None, "{bad}");
        }
        assert!(!ephemeral().is_empty());
    }
}
