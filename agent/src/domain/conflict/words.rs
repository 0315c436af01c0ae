//! Conflicts in words: what is taken, by whom, what breaks, what to do. One place for the gate's refusal, the journal, the
//! bus and the client.

use core::net::SocketAddr;
use std::borrow::Cow;

use super::{Conflict, Container, Doing, Holder, Kind, MANAGER, Port, Process};

/// Where the user changes a port.
const FILE: &str = "/etc/dagger/dagger.toml";

/// The whole conflict as one sentence, without a full stop.
pub fn sentence(conflict: &Conflict) -> String {
    let service = conflict.service.as_str();
    match (conflict.kind, &conflict.claim) {
        (Kind::Taken, Some(claim)) => taken(service, claim.port, conflict.holder.as_ref()),
        (Kind::Answered, Some(claim)) => format!(
            "{} of {service} is answered by {}, too: {}",
            claim.port,
            conflict
                .holder
                .as_ref()
                .map_or_else(|| "somebody else".into(), whom),
            remedy(conflict)
        ),
        _ => {
            let native = conflict.with().unwrap_or("its native unit");
            format!("{native} runs beside {}: {}", conflict.unit, remedy(conflict))
        }
    }
}

/// A conflict that is over, in words.
pub fn over(conflict: &Conflict) -> String {
    let service = &conflict.service;
    match (&conflict.claim, conflict.with()) {
        (Some(claim), Some(unit)) => format!("{unit} does not have {} of {service} any more", claim.port),
        (Some(claim), None) => format!("{} of {service} is not taken any more", claim.port),
        (None, unit) => format!(
            "{} does not run beside {} any more",
            unit.unwrap_or("the native unit"),
            conflict.unit
        ),
    }
}

/// Whether a refusal of the gate's is, among others, about a port: what [`taken`] says.
pub fn is_about_a_port(refusal: &str, service: &str) -> bool {
    refusal.contains(&format!(", which {service} needs, is taken"))
}

/// A port that cannot be had: who has it, and what to do about it.
pub fn taken(service: &str, port: Port, holder: Option<&Holder>) -> String {
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
        way_out(service, port, holder)
    )
}

/// What goes wrong because of it. `wanted_by` are the services that use this one.
pub fn breaks(conflict: &Conflict, wanted_by: &[&str]) -> String {
    let service = &conflict.service;
    let web = conflict.claim.as_ref().is_some_and(|claim| claim.what == "web");
    let others = match wanted_by {
        [] => String::new(),
        names if web => format!(", and {} would talk to the wrong one", names.join(", ")),
        _ => String::new(),
    };
    match conflict.kind {
        Kind::Taken => format!("{service} does not start until the port is free{others}"),
        Kind::Answered => format!("who asks {service} may reach somebody else{others}"),
        Kind::Beside => format!("two programs write the data of {service} at once, which damages it"),
    }
}

/// What to do about it.
pub fn remedy(conflict: &Conflict) -> String {
    let service = conflict.service.as_str();
    match (&conflict.claim, &conflict.holder) {
        (Some(claim), Some(holder)) => way_out(service, claim.port, holder),
        (Some(claim), None) => format!("give {service} another port than {} in {FILE}", claim.port.number),
        (None, _) => {
            let native = conflict.with().unwrap_or("the native unit");
            format!(
                "stop one of the two now (systemctl stop {}, or systemctl stop {})",
                shell(native),
                conflict.unit
            )
        }
    }
}

/// A container in two words: `podman web`.
pub fn container(container: &Container) -> String {
    let Container { engine, handle } = container;
    format!("{engine} {}", handle.as_deref().unwrap_or("container"))
}

/// Whether a conflict's sentence says nothing that is not in `told` already: the gate's refusal tells of the same port,
/// and knows its holder better.
pub fn is_told(sentence: &str, told: &str) -> bool {
    let port = sentence.split_once(", is taken").map(|(port, _)| port);
    told.contains(sentence) || port.is_some_and(|port| told.contains(&format!("{port}, is taken")))
}

fn unit_of(unit: &str, manager: Option<u32>) -> String {
    match manager {
        Some(user) => format!("{unit} of user {user}"),
        None => unit.to_owned(),
    }
}

/// `transmission-daemon.service (process transmission-da, PID 812, listening on 0.0.0.0:9091)`.
pub fn whom(holder: &Holder) -> String {
    let what = match holder.doing {
        Doing::Listening => "listening on",
        Doing::Bound => "bound to",
        Doing::Connected => "for a connection from",
        Doing::Closing => "for a connection that is closing, from",
    };
    let socket = format!("{what} {}", address(holder.address));
    if let Some(Container {
        engine,
        handle: Some(handle),
    }) = &holder.container
    {
        return format!("the {engine} container {handle} ({socket})");
    }
    match (holder.unit.as_deref(), &holder.process) {
        (Some(login), Some(process)) if holder.login().is_some() => {
            let user = holder
                .user
                .map_or_else(String::new, |user| format!(" of user {user}"));
            format!(
                "the process {}{user} (PID {}, in the login {login}, {socket})",
                process.name, process.pid
            )
        }
        (Some(unit), Some(process)) => format!(
            "{} (process {}, PID {}, {socket})",
            unit_of(unit, holder.manager),
            process.name,
            process.pid
        ),
        (Some(unit), None) if holder.comes_from().is_some() => {
            let unit = unit_of(unit, holder.manager);
            format!("a process that was started in {unit} ({socket})")
        }
        (Some(unit), None) => format!("{} ({socket})", unit_of(unit, holder.manager)),
        (None, Some(process)) => format!("the process {} (PID {}, {socket})", process.name, process.pid),
        (None, None) if holder.doing == Doing::Closing => format!("the rest of an earlier run ({socket})"),
        (None, None) => format!("a process that cannot be named ({socket})"),
    }
}

/// Addresses as ss(8) shows them.
pub fn address(address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        format!("*:{}", address.port())
    } else {
        address.to_string()
    }
}

/// What can be done about a holder.
fn way_out(service: &str, port: Port, holder: &Holder) -> String {
    let number = port.number;
    let other = format!("or give {service} another port in {FILE}");
    let process = holder.process.as_ref();
    let own = format!("dagger-{service}.service");
    match (holder.doing, holder.unit.as_deref()) {
        (Doing::Connected, _) => format!(
            "connections out of this machine may use it; keep it free with `sysctl net.ipv4.ip_local_reserved_ports={number}` \
             (in /etc/sysctl.d/ for good), {other}"
        ),
        (Doing::Closing, _) => format!("it becomes free within a minute; start {own} again then"),
        (_, Some(unit)) if holder.manager.is_none() && is_ours(unit) => {
            if unit == own {
                format!("its previous container does not end; `systemctl kill -s KILL {unit}` ends it")
            } else {
                format!("both belong to the suite; give one of them another port in {FILE}")
            }
        }
        _ if holder.container.is_some() => format!("{}, {other}", stop_container(port, holder)),
        (_, Some(unit)) => format!("{}, {other}", stop_unit(unit, holder)),
        (_, None) => format!("{}, {other}", stop_process(process)),
    }
}

fn is_ours(unit: &str) -> bool {
    unit.strip_suffix(".service")
        .is_some_and(|stem| stem.starts_with("dagger-"))
}

/// A unit's name as a word of a command: a shell would take the escapes of systemd.unit(5) (`\\x2d`) for its own.
fn shell(unit: &str) -> Cow<'_, str> {
    if unit.contains('\\') {
        format!("'{unit}'").into()
    } else {
        unit.into()
    }
}

/// How a container outside the suite is stopped, or found where only its engine's helper is known.
fn stop_container(port: Port, holder: &Holder) -> String {
    let Some(Container { engine, handle }) = &holder.container else {
        return "stop it".into();
    };
    let (whose, whom) = match holder.manager {
        Some(user) => (format!("a container of user {user}"), "as that user "),
        None => ("a container outside the suite".into(), ""),
    };
    match (handle, *engine) {
        (Some(handle), _) => format!("it is {whose}; stop it {whom}({engine} stop {handle})"),
        (None, "docker") => format!(
            "`docker ps --filter publish={}` shows the container; stop it",
            port.number
        ),
        (None, _) => format!("it is {whose}; `{engine} port --all` {whom}shows which; stop it"),
    }
}

/// How a unit that is not of the suite is stopped, and stays so.
fn stop_unit(unit: &str, holder: &Holder) -> String {
    match holder.manager {
        None if unit == MANAGER => match &holder.socket {
            Some(socket) => {
                let word = shell(socket);
                format!("systemd listens there for {socket}; stop it (systemctl disable --now {word})")
            }
            None => {
                "systemd itself listens there for a socket unit; `systemctl list-sockets` shows it".into()
            }
        },
        // A scope holds processes that somebody else started: there is nothing to disable.
        _ if holder.comes_from().is_some() => {
            "`daggerctl conflicts` as root shows the process; stop it".into()
        }
        _ if holder.login().is_some() => format!(
            "it is no service, somebody runs it in a login; {}",
            stop_process(holder.process.as_ref())
        ),
        _ if unit.strip_suffix(".scope").is_some() => stop_process(holder.process.as_ref()),
        Some(user) => format!(
            "stop it as user {user} (systemctl --user disable --now {})",
            shell(unit)
        ),
        None => format!("stop it (systemctl disable --now {})", shell(unit)),
    }
}

fn stop_process(process: Option<&Process>) -> String {
    process.map_or_else(
        || "stop it".into(),
        |process| format!("stop it (kill {})", process.pid),
    )
}
