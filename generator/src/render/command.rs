//! `podman run` of one service.
//!
//! Every flag is one that podman 4.3 (Debian 12) and 5.4 (Debian 13) both know and read the same way. Flags and values are
//! one word each, `--flag=value`, so that a value can begin with anything. podman reads some of its values as CSV and
//! splits others at colons; where that matters the form is chosen by the value.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::model::{IdentityStyle, Mount, Network, Service, Suite};
use crate::render::lines::seconds;
use crate::unit::{Exec, Part, Unit};

/// podman's flags before the verb: its events would be journal lines of their own in every unit's log.
pub(super) const GLOBAL: &str = "--events-backend=none";

/// The container's id, in the unit's own runtime directory: systemd removes that with every stop, so that no stale file
/// keeps `podman run` from starting (podman 4.3 leaves it behind, and every version refuses to write over it). The gate
/// removes what a unit has left that was masked while it ran.
const CID_FILE: &str = "--cidfile=%t/%N/cid";

/// `ExecStart=`.
pub(super) fn run(unit: &mut Unit, suite: &Suite, service: &Service) {
    let mut exec = unit.exec("ExecStart", "", &suite.podman);
    exec.raw(GLOBAL)
        .raw("run")
        .word(&[Part::Raw("--name=dagger-"), Part::Text(service.name.as_str())]);
    exec.raw(CID_FILE).raw("--replace --rm --detach");
    exec.next_line()
        .raw("--cgroups=split --sdnotify=conmon")
        .flag("--log-driver=", &service.log_driver)
        .raw("--no-healthcheck --pull=never");
    exec.next_line().flag("--stop-signal=", &service.stop_signal);
    exec.word(&[
        Part::Raw("--stop-timeout="),
        Part::Number(seconds(service.stop_timeout)),
    ]);
    network(&mut exec, service);
    dns(&mut exec, service);
    identity(&mut exec, service);
    confinement(&mut exec, service);
    files(&mut exec, service);
    environment(&mut exec, service);
    for word in &service.podman_args {
        exec.next_line().arg(word);
    }
    exec.next_line();
    if let Some(program) = &service.entrypoint {
        exec.flag("--entrypoint=", &entrypoint(program));
    }
    exec.arg(&service.image);
    for word in &service.command {
        exec.arg(word);
    }
}

fn network(exec: &mut Exec<'_>, service: &Service) {
    match &service.network {
        Network::Host => {
            exec.raw("--network=host");
        }
        Network::Namespace(path) => {
            exec.flag("--network=ns:", path);
        }
        Network::Bridge => {
            exec.raw("--network=bridge");
            for claim in &service.ports {
                exec.word(&[
                    Part::Raw("--publish="),
                    Part::Number(u64::from(claim.port)),
                    Part::Raw(":"),
                    Part::Number(u64::from(claim.inside)),
                    Part::Raw("/"),
                    Part::Raw(claim.protocol.word()),
                ]);
            }
        }
    }
}

fn dns(exec: &mut Exec<'_>, service: &Service) {
    for address in &service.dns {
        exec.flag("--dns=", address);
    }
}

fn identity(exec: &mut Exec<'_>, service: &Service) {
    exec.next_line();
    if service.identity.style == IdentityStyle::User {
        exec.raw("--user=${DAGGER_UID}:${DAGGER_GID}");
    }
    for group in &service.groups {
        exec.flag("--group-add=", group);
    }
    if let Some(umask) = &service.umask {
        exec.flag("--umask=", umask);
    }
    if let Some(timezone) = &service.timezone {
        exec.flag("--tz=", timezone);
    }
}

fn confinement(exec: &mut Exec<'_>, service: &Service) {
    exec.next_line().raw("--cap-drop=all");
    for capability in &service.capabilities {
        exec.flag("--cap-add=", capability);
    }
    if service.no_new_privileges {
        exec.raw("--security-opt=no-new-privileges");
    }
    if let Some(profile) = &service.seccomp_profile {
        exec.flag("--security-opt=seccomp=", profile);
    }
    if let Some(label) = &service.selinux_label {
        exec.flag("--security-opt=label=", label);
    }
    if let Some(profile) = &service.apparmor_profile {
        exec.flag("--security-opt=apparmor=", profile);
    }
    if service.read_only {
        exec.raw("--read-only");
    }
    if service.init {
        exec.raw("--init");
    }
    if let Some(size) = &service.shm_size {
        exec.flag("--shm-size=", size);
    }
    if !service.devices.is_empty() {
        // A word of its own: systemd splits what the gate found into arguments, nothing found is no argument.
        exec.raw("$DAGGER_DEVICE_ARGS");
    }
}

fn files(exec: &mut Exec<'_>, service: &Service) {
    for options in &service.tmpfs {
        exec.next_line().flag("--tmpfs=", options);
    }
    for mount in service.state.iter().chain(&service.mounts) {
        exec.next_line();
        bind(exec, mount);
    }
}

/// `--volume` carries everything but `:`, its separator. `--mount` carries that too, but is CSV, and harder to read.
fn bind(exec: &mut Exec<'_>, mount: &Mount) {
    if mount.source.contains(':') || mount.target.contains(':') {
        let source = csv_field("source", &mount.source);
        let target = csv_field("target", &mount.target);
        let options = if mount.read_only { ",ro" } else { "" };
        exec.word(&[
            Part::Raw("--mount=type=bind,"),
            Part::Text(&source),
            Part::Raw(","),
            Part::Text(&target),
            Part::Raw(options),
        ]);
    } else {
        let options = if mount.read_only { ":ro" } else { "" };
        exec.word(&[
            Part::Raw("--volume="),
            Part::Text(&mount.source),
            Part::Raw(":"),
            Part::Text(&mount.target),
            Part::Raw(options),
        ]);
    }
}

fn environment(exec: &mut Exec<'_>, service: &Service) {
    for path in &service.environment_files {
        exec.next_line().flag("--env-file=", path);
    }
    for (name, value) in &service.environment {
        exec.next_line().word(&[
            Part::Raw("--env="),
            Part::Text(name),
            Part::Raw("="),
            Part::Text(value),
        ]);
    }
    if service.identity.style == IdentityStyle::Puid {
        puid(exec, service);
    }
}

/// What LinuxServer's and hotio's images take from the environment, beside the umask that is part of the service's own.
/// `PUID` comes last, so that nothing else decides who owns the data.
fn puid(exec: &mut Exec<'_>, service: &Service) {
    let given = service.environment.iter().any(|(key, _)| key == "TZ");
    exec.next_line();
    if let Some(zone) = service
        .timezone
        .as_ref()
        .filter(|zone| *zone != "local" && !given)
    {
        exec.flag("--env=TZ=", zone);
    }
    exec.raw("--env=PUID=${DAGGER_UID} --env=PGID=${DAGGER_GID}");
}

/// `name=value` as one field of a CSV record, as Go reads it (encoding/csv).
fn csv_field(name: &str, value: &str) -> String {
    if value.contains([',', '"']) {
        format!("\"{name}={}\"", value.replace('"', "\"\""))
    } else {
        format!("{name}={value}")
    }
}

/// podman takes a value that is JSON as a list of words, anything else as one program.
fn entrypoint(program: &str) -> Cow<'_, str> {
    let word = program.trim_ascii_start();
    if word.starts_with('[') || word.trim_ascii_end() == "null" {
        let mut json = String::from("[\"");
        for c in program.chars() {
            match c {
                '"' | '\\' => json.extend(['\\', c]),
                '\0'..='\x1f' => {
                    let _ = write!(json, "\\u{:04x}", u32::from(c));
                }
                _ => json.push(c),
            }
        }
        json.push_str("\"]");
        Cow::Owned(json)
    } else {
        Cow::Borrowed(program)
    }
}
