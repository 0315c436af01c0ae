//! Ports before the start: free, or whose, and what to do about it.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use dagger_agent::adapter::sockets::cgroup::Unit;
use dagger_agent::adapter::sockets::diag::State;
use dagger_agent::adapter::sockets::process::Process;
use dagger_agent::adapter::sockets::{self, Holder, Port, netns};
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
        // Not knowing the holder is no reason to call the port free.
        let holders = sockets::holders(port).unwrap_or_default();
        let own = |holder: &Holder| {
            holder.state == State::Closing
                || holder
                    .unit
                    .as_ref()
                    .is_some_and(|unit| unit.name == service.unit())
        };
        let patience = if holders.is_empty() {
            NOBODY_PATIENCE
        } else if holders.iter().all(own) {
            OWN_PATIENCE
        } else {
            Duration::ZERO
        };
        if begin.elapsed() >= patience {
            return Some(sentence(
                service,
                port,
                holders.iter().find(|holder| !own(holder)).or(holders.first()),
            ));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Who has it, and what to do: one sentence of each.
pub fn sentence(service: &ServiceName, port: Port, holder: Option<&Holder>) -> String {
    let Some(holder) = holder else {
        return format!(
            "{port}, which {service} needs, is taken, but the kernel does not say by whom: \
             `ss -Hlpn 'sport = :{}'` may show it",
            port.number
        );
    };
    format!(
        "{port}, which {service} needs, is taken by {}: {}",
        whom(holder),
        remedy(service, port, holder)
    )
}

/// `transmission-daemon.service (process transmission-da, PID 812, listening on 0.0.0.0:9091)`.
fn whom(holder: &Holder) -> String {
    let what = match holder.state {
        State::Listening => "listening on",
        State::Bound => "bound to",
        State::Connected => "for a connection from",
        State::Closing => "for a connection that is closing, from",
    };
    let socket = format!("{what} {}", shown(holder.address));
    match (&holder.unit, &holder.process) {
        (Some(unit), Some(process)) => {
            format!("{unit} (process {}, PID {}, {socket})", process.name, process.pid)
        }
        (Some(unit), None) => format!("{unit} ({socket})"),
        (None, Some(process)) => format!("the process {} (PID {}, {socket})", process.name, process.pid),
        (None, None) if holder.state == State::Closing => format!("the rest of an earlier run ({socket})"),
        (None, None) => format!("a process that cannot be named ({socket})"),
    }
}

/// Addresses as ss(8) shows them.
fn shown(address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        format!("*:{}", address.port())
    } else {
        address.to_string()
    }
}

/// What can be done about it.
fn remedy(service: &ServiceName, port: Port, holder: &Holder) -> String {
    let number = port.number;
    let other = format!("or give {service} another port in /etc/dagger/dagger.toml");
    let process = holder.process.as_ref();
    match (holder.state, &holder.unit) {
        (State::Connected, _) => format!(
            "connections out of this machine may use it; keep it free with `sysctl net.ipv4.ip_local_reserved_ports={number}` \
             (in /etc/sysctl.d/ for good), {other}"
        ),
        (State::Closing, _) => {
            format!(
                "it becomes free within a minute; start {} again then",
                service.unit()
            )
        }
        _ if process.is_some_and(|process| process.name == "docker-proxy") => {
            format!("`docker ps --filter publish={number}` shows the container; stop it, {other}")
        }
        (_, Some(unit)) if unit.user.is_none() && is_ours(&unit.name) => {
            if unit.name == service.unit() {
                format!(
                    "its previous container does not end; `systemctl kill -s KILL {}` ends it",
                    unit.name
                )
            } else {
                "both belong to the suite; give one of them another port in /etc/dagger/dagger.toml".into()
            }
        }
        (_, Some(unit)) => format!("{}, {other}", stop_unit(port, unit, process)),
        (_, None) => format!("{}, {other}", stop_process(process)),
    }
}

fn is_ours(unit: &str) -> bool {
    unit.strip_suffix(".service")
        .is_some_and(|stem| stem.starts_with("dagger-"))
}

/// How a unit that is not of the suite is stopped, and stays so.
fn stop_unit(port: Port, unit: &Unit, process: Option<&Process>) -> String {
    let name = &unit.name;
    match (&unit.container, unit.user) {
        (Some((engine, id)), None) => {
            format!("it is a container outside the suite; stop it ({engine} stop {id})")
        }
        (Some((engine, id)), Some(user)) => {
            format!("it is a container of user {user}; stop it as that user ({engine} stop {id})")
        }
        (None, None) if name == "init.scope" => match socket_unit(port) {
            Some(socket) => {
                format!("systemd listens there for {socket}; stop it (systemctl disable --now {socket})")
            }
            None => {
                "systemd itself listens there for a socket unit; `systemctl list-sockets` shows it".into()
            }
        },
        (None, _) if unit.is_scope() => stop_process(process),
        (None, Some(user)) => format!("stop it as user {user} (systemctl --user disable --now {name})"),
        (None, None) => format!("stop it (systemctl disable --now {name})"),
    }
}

fn stop_process(process: Option<&Process>) -> String {
    process.map_or_else(
        || "stop it".into(),
        |process| format!("stop it (kill {})", process.pid),
    )
}

/// The socket unit that systemd holds the port for. Asked of systemctl(1), because only systemd knows.
fn socket_unit(port: Port) -> Option<String> {
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
    pick_socket(&String::from_utf8_lossy(&output.stdout), port)
}

/// Columns: address, type, unit, and what it activates.
fn pick_socket(table: &str, port: Port) -> Option<String> {
    let kind = match port.protocol {
        Protocol::Tcp => "Stream",
        Protocol::Udp => "Datagram",
    };
    let end = format!(":{}", port.number);
    table.lines().find_map(|line| {
        let mut columns = line.split_whitespace();
        let (address, type_, unit) = (columns.next()?, columns.next()?, columns.next()?);
        (address.ends_with(&end) && type_ == kind && unit.ends_with(".socket")).then(|| unit.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use dagger_agent::adapter::sockets::cgroup::unit_of;

    fn holder(path: &str, name: &str, state: State) -> Holder {
        Holder {
            address: "0.0.0.0:9091".parse().unwrap(),
            state,
            unit: unit_of(path),
            process: (!name.is_empty()).then(|| Process {
                pid: 812,
                name: name.into(),
                cgroup: String::new(),
            }),
        }
    }

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

    /// compose#4950 and #9117: "port is already allocated", by whom?
    #[test]
    fn compose_4950_the_holder_and_the_way_out_are_named() {
        let id = "0123456789abcdef".repeat(4);
        let podman = format!("/machine.slice/libpod-{id}.scope/container");
        let user = "/user.slice/user-7.slice/user@7.service/app.slice/web.service";
        for (path, name, state, parts) in [
            (
                "/system.slice/transmission-daemon.service",
                "transmission-da",
                State::Listening,
                vec![
                    "TCP port 9091, which transmission needs, is taken by transmission-daemon.service",
                    "(process transmission-da, PID 812, listening on *:9091)",
                    "systemctl disable --now transmission-daemon.service",
                    "another port in /etc/dagger/dagger.toml",
                ],
            ),
            (
                "/dagger.slice/dagger-x.service/a",
                "x",
                State::Listening,
                vec!["dagger-x.service", "both belong to the suite"],
            ),
            (
                "/dagger.slice/dagger-transmission.service",
                "x",
                State::Listening,
                vec!["previous container does not end"],
            ),
            (
                podman.as_str(),
                "nginx",
                State::Listening,
                vec!["outside the suite", "podman stop 0123456789ab"],
            ),
            (
                user,
                "web",
                State::Listening,
                vec!["web.service of user 7", "as user 7 (systemctl --user disable"],
            ),
            (
                "/user.slice/user-0.slice/session-1.scope",
                "nc",
                State::Listening,
                vec!["session-1.scope", "kill 812"],
            ),
            (
                "/",
                "nc",
                State::Listening,
                vec!["the process nc (PID 812,", "kill 812"],
            ),
            ("/", "", State::Listening, vec!["a process that cannot be named"]),
            (
                "/",
                "firefox",
                State::Connected,
                vec!["ip_local_reserved_ports=9091"],
            ),
            ("/", "", State::Closing, vec!["within a minute"]),
            (
                "/system.slice/docker.service",
                "docker-proxy",
                State::Listening,
                vec!["docker ps --filter publish=9091"],
            ),
        ] {
            let service = ServiceName::parse("transmission").unwrap();
            let port = Port {
                protocol: Protocol::Tcp,
                number: 9091,
            };
            let text = sentence(&service, port, Some(&holder(path, name, state)));
            for part in parts {
                assert!(text.contains(part), "{path}: {part}: {text}");
            }
        }
    }

    #[test]
    fn socket_units_are_found_by_port_and_type() {
        let table = "[::]:22          Stream   ssh.socket      ssh.service\n\
                     0.0.0.0:122      Stream   other.socket    other.service\n\
                     [::]:9091        Datagram d.socket        d.service\n";
        let port = |protocol, number| Port { protocol, number };
        assert_eq!(
            pick_socket(table, port(Protocol::Tcp, 22)).as_deref(),
            Some("ssh.socket")
        );
        assert_eq!(pick_socket(table, port(Protocol::Tcp, 9091)), None);
        assert_eq!(
            pick_socket(table, port(Protocol::Udp, 9091)).as_deref(),
            Some("d.socket")
        );
    }
}
