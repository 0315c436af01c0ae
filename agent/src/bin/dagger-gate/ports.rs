//! Ports before the start: free, or whose, and what to do about it.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use dagger_agent::adapter::sockets::cgroup::Unit;
use dagger_agent::adapter::sockets::diag::State;
use dagger_agent::adapter::sockets::process::Process;
use dagger_agent::adapter::sockets::socket_unit::{self, Listens};
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
    let container = holder.container();
    if let Some((container, handle)) = container.and_then(|found| Some((found, found.handle()?))) {
        return format!("the {} container {handle} ({socket})", container.engine);
    }
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
        _ if holder.container().is_some() => format!("{}, {other}", stop_container(port, holder)),
        (_, Some(unit)) if unit.name == "init.scope" && unit.user.is_none() => {
            format!("{}, {other}", stop_socket(port, holder))
        }
        (_, Some(unit)) => format!("{}, {other}", stop_unit(unit, process)),
        (_, None) => format!("{}, {other}", stop_process(process)),
    }
}

fn is_ours(unit: &str) -> bool {
    unit.strip_suffix(".service")
        .is_some_and(|stem| stem.starts_with("dagger-"))
}

/// How a container outside the suite is stopped, or found where only its engine's helper is known.
fn stop_container(port: Port, holder: &Holder) -> String {
    let Some(container) = holder.container() else {
        return "stop it".into();
    };
    let engine = container.engine;
    let user = holder.unit.as_ref().and_then(|unit| unit.user);
    let (whose, whom) = match user {
        Some(user) => (format!("a container of user {user}"), "as that user "),
        None => ("a container outside the suite".into(), ""),
    };
    match (container.handle(), engine) {
        (Some(handle), _) => format!("it is {whose}; stop it {whom}({engine} stop {handle})"),
        (None, "docker") => {
            format!(
                "`docker ps --filter publish={}` shows the container; stop it",
                port.number
            )
        }
        (None, _) => {
            format!("it is {whose}; `{engine} port --all` {whom}shows which; stop it")
        }
    }
}

/// How systemd stops listening.
fn stop_socket(port: Port, holder: &Holder) -> String {
    match socket_unit(port, holder.address) {
        Some(socket) => {
            format!("systemd listens there for {socket}; stop it (systemctl disable --now {socket})")
        }
        None => "systemd itself listens there for a socket unit; `systemctl list-sockets` shows it".into(),
    }
}

/// How a unit that is not of the suite is stopped, and stays so.
fn stop_unit(unit: &Unit, process: Option<&Process>) -> String {
    let name = &unit.name;
    match unit.user {
        _ if unit.is_scope() => stop_process(process),
        Some(user) => format!("stop it as user {user} (systemctl --user disable --now {name})"),
        None => format!("stop it (systemctl disable --now {name})"),
    }
}

fn stop_process(process: Option<&Process>) -> String {
    process.map_or_else(
        || "stop it".into(),
        |process| format!("stop it (kill {})", process.pid),
    )
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
    use dagger_agent::adapter::sockets::container::of_helper;

    fn holder(path: &str, name: &str, state: State) -> Holder {
        Holder {
            address: "0.0.0.0:9091".parse().unwrap(),
            state,
            uid: 0,
            unit: unit_of(path),
            process: (!name.is_empty()).then(|| Process {
                pid: 812,
                name: name.into(),
                cgroup: String::new(),
                container: of_helper(name, &["", "-c", &"0123456789abcdef".repeat(4), "-n", "web"]),
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
            (
                "/user.slice/user-0.slice/session-1.scope",
                "conmon",
                State::Bound,
                vec!["taken by the podman container web (bound to", "(podman stop web)"],
            ),
            (
                user,
                "rootlessport",
                State::Listening,
                vec![
                    "taken by web.service of user 7 (process rootlessport",
                    "a container of user 7; `podman port --all` as that user",
                ],
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
