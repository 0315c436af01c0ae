//! `dagger-<service>.service`: one container under systemd's supervision.

use crate::model::{Identity, IdentityStyle, MEDIA, Network, Service, Suite};
use crate::names::{self, ServiceName};
use crate::probe::{Argument, Kind};
use crate::render::lines::{gate, header, hold_condition, owner_condition, seconds};
use crate::render::{Programs, command};
use crate::unit::{Exec, Part, Unfit, Unit};

/// Room for one unit of the usual size.
const CAPACITY: usize = 4096;

/// A service that fails is started again this often, and so many times within [`RESTART_WINDOW`], before systemd leaves
/// it failed.
///
/// systemd 252 knows no growing delay (`RestartSteps=` came with 254 and is a warning there), so one delay has to serve a
/// crash (soon) and an outage (not a storm). Ten seconds is a gap that a user hardly notices and at most six starts a
/// minute: sixty in the window, so that the limit is never reached by itself. A unit that the gate refuses again and
/// again (a port that is taken, a disk that is away for hours) therefore starts within ten seconds of the moment it may;
/// the end of trying is the agent's to set, which knows why. The limit is for what starts it in a loop from outside.
const RESTART_DELAY: u64 = 10;
/// See [`RESTART_DELAY`].
const RESTART_BURST: u64 = 100;
/// See [`RESTART_DELAY`], in seconds.
const RESTART_WINDOW: u64 = 600;

/// Added to the budget of a start: podman's own part of it. The gate gives up first and says why.
const START_MARGIN: u64 = 60;

/// Signals that ask applications to stop, and the status of one that ends by it (128 + its number).
const SIGNALS: [(&str, &str); 6] = [
    ("SIGTERM", "143"),
    ("SIGINT", "130"),
    ("SIGQUIT", "131"),
    ("SIGHUP", "129"),
    ("SIGUSR1", "138"),
    ("SIGUSR2", "140"),
];

/// For a container of which it is not known how long it may take: podman itself kills it when its own time is over.
const LONGEST_STOP: &str = "15min";

/// The whole unit.
pub(super) fn unit(suite: &Suite, service: &Service, programs: &Programs) -> Result<String, Unfit> {
    let mut unit = Unit::with_capacity(CAPACITY);
    header(&mut unit, &service.source);
    relations(&mut unit, suite, service);
    unit.section("Service");
    supervision(&mut unit, service);
    environment(&mut unit, service);
    for (directive, value) in &service.limits {
        unit.verbatim(directive, value);
    }
    before(&mut unit, suite, service, programs);
    command::run(&mut unit, suite, service);
    after(&mut unit, suite, service, programs);
    stop(
        &mut unit,
        suite,
        &service.name,
        Some(seconds(service.stop_timeout)),
    );
    unit.finish()
}

/// How a container is stopped by a unit that did not start it, and knows nothing of it but its name: it keeps what the unit
/// before it had been given, and podman knows how long this container may take.
pub(super) fn outlive(unit: &mut Unit, suite: &Suite, name: &ServiceName) {
    unit.set("Delegate", &["yes"]);
    unit.set("KillMode", &["mixed"]);
    let statuses: Vec<&str> = SIGNALS.iter().map(|(_, status)| *status).collect();
    unit.set("SuccessExitStatus", &[&statuses.join(" ")]);
    unit.set("OOMPolicy", &["continue"]);
    unit.set("TimeoutStopSec", &[LONGEST_STOP]);
    unit.set("RuntimeDirectory", &["%N"]);
    stop(unit, suite, name, None);
}

fn relations(unit: &mut Unit, suite: &Suite, service: &Service) {
    unit.section("Unit");
    unit.free("Description", &[&service.called()]);
    documentation(unit, &service.documentation);
    unit.path("SourcePath", &service.source);
    unit.set("PartOf", &[names::TARGET]);
    let pull = ["dagger-pull@", service.name.as_str(), ".service"];
    let wanted = service
        .wants
        .iter()
        .filter(|name| **name != service.name && exists(suite, name));
    let wanted = wanted.map(|name| ["dagger-", name.as_str(), ".service"]);
    let recover = [names::RECOVER_UNIT, "", ""];
    let front = ["dagger-front@", service.name.as_str(), ".socket"];
    let front = service.front.map(|_| front);
    unit.units(
        "Wants",
        [recover, pull].into_iter().chain(front).chain(wanted.clone()),
    );
    let alone = service
        .is_alone()
        .then_some(["dagger-netns@", service.name.as_str(), ".service"]);
    if alone.is_some() {
        unit.units("Requires", alone.into_iter());
    }
    // Started after, stopped before: what is said at the end (to a tracker, to a client) still finds the network.
    unit.units(
        "After",
        [["network.target", "", ""], recover, pull]
            .into_iter()
            .chain(alone)
            .chain(wanted),
    );
    let mounted = service
        .state
        .iter()
        .chain(&service.mounts)
        .map(|mount| mount.source.as_str());
    let files = service
        .environment_files
        .iter()
        .chain(&service.seccomp_profile)
        .map(String::as_str);
    let own = ["/run/containers", "/var/lib/containers", names::OWNER_DIR];
    unit.paths("RequiresMountsFor", own.into_iter().chain(mounted).chain(files));
    owner_condition(unit, service);
    hold_condition(unit, &service.name);
    // People hear of it although the agent may not run; when it does, the two words are told as one.
    if service.shadow_of.is_none() {
        unit.set("OnFailure", &["dagger-alert@", service.name.as_str(), ".service"]);
    }
    unit.number("StartLimitIntervalSec", RESTART_WINDOW);
    unit.number("StartLimitBurst", RESTART_BURST);
}

/// Whether the suite has such a service; services are sorted by name.
fn exists(suite: &Suite, name: &ServiceName) -> bool {
    suite
        .services
        .binary_search_by(|service| service.name.cmp(name))
        .is_ok()
}

/// Only what systemd takes as a URL (systemd.unit(5)): it warns about anything else.
fn documentation(unit: &mut Unit, urls: &[String]) {
    const SCHEMES: [&str; 5] = ["http://", "https://", "file:/", "info:", "man:"];
    let fit = |url: &&String| {
        SCHEMES
            .iter()
            .any(|scheme| url.len() > scheme.len() && url.starts_with(scheme))
            && url
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'\\'))
    };
    for url in urls.iter().filter(fit) {
        unit.free("Documentation", &[url]);
    }
}

fn supervision(unit: &mut Unit, service: &Service) {
    unit.set("Type", &["notify"]);
    unit.set("NotifyAccess", &["all"]);
    unit.set("Slice", &[names::SLICE]);
    unit.set("Delegate", &["yes"]);
    unit.set("KillMode", &["mixed"]);
    if let "SIGINT" | "SIGQUIT" = service.stop_signal.as_str() {
        // conmon hands on SIGTERM, SIGINT and SIGQUIT: the way down after a start that failed, where no ExecStop= runs.
        unit.set("KillSignal", &[&service.stop_signal]);
    }
    if let Some(status) = asked_to_stop(&service.stop_signal) {
        unit.set("SuccessExitStatus", &[status]);
    }
    // A transcoder that runs out of memory ends alone, as it would natively; the application says so itself.
    unit.set("OOMPolicy", &["continue"]);
    unit.set("Restart", &["always"]);
    unit.number("RestartSec", RESTART_DELAY);
    unit.number(
        "TimeoutStartSec",
        seconds(service.start_budget).saturating_add(START_MARGIN),
    );
    unit.number("TimeoutStopSec", seconds(service.longest_stop()));
    unit.set("RuntimeDirectory", &["%N"]);
    unit.set("SyslogIdentifier", &["%N"]);
    unit.set("LogExtraFields", &["DAGGER_SERVICE=", service.name.as_str()]);
}

/// The exit status of an application that ends by the very signal that asks it to stop.
fn asked_to_stop(signal: &str) -> Option<&'static str> {
    let known = SIGNALS.iter().find(|(name, _)| *name == signal);
    known.map(|(_, status)| *status)
}

/// Who the application runs as, least binding first: the configuration, what the gate found, the owner marker. Of an
/// image that runs as its own user nothing is known, and nothing is said.
fn environment(unit: &mut Unit, service: &Service) {
    let name = service.name.as_str();
    unit.set("Environment", &["PODMAN_SYSTEMD_UNIT=%n"]);
    let known = service.identity.style != IdentityStyle::Image;
    if known {
        let (uid, gid) = (service.identity.uid.to_string(), service.identity.gid.to_string());
        unit.set("Environment", &["DAGGER_UID=", &uid, " DAGGER_GID=", &gid]);
    }
    unit.set("EnvironmentFile", &["-", names::GATE_DIR, "/", name, ".env"]);
    if known {
        unit.set("EnvironmentFile", &["-", names::OWNER_DIR, "/", name]);
    }
}

/// Ports free, directories there, devices and identity found.
fn before(unit: &mut Unit, suite: &Suite, service: &Service, programs: &Programs) {
    let mut exec = gate(unit, "ExecStartPre", programs, "pre", service.name.as_str());
    exec.next_line();
    for claim in &service.ports {
        exec.word(&[
            Part::Raw("--claim="),
            Part::Raw(claim.protocol.word()),
            Part::Raw(":"),
            Part::Number(u64::from(claim.port)),
        ]);
    }
    if let Network::Namespace(path) = &service.network {
        exec.flag("--netns=", path);
    }
    owner(&mut exec, service.identity);
    if suite.podman != names::PODMAN {
        exec.flag("--podman=", &suite.podman);
    }
    needs(&mut exec, service);
}

fn owner(exec: &mut Exec<'_>, identity: Identity) {
    if identity.style == IdentityStyle::Image {
        return;
    }
    exec.word(&[
        Part::Raw("--owner="),
        Part::Number(u64::from(identity.uid)),
        Part::Raw(":"),
        Part::Number(u64::from(identity.gid)),
    ]);
    if identity.uid_explicit {
        exec.raw("--uid-explicit");
    }
    if identity.gid_explicit {
        exec.raw("--gid-explicit");
    }
}

fn needs(exec: &mut Exec<'_>, service: &Service) {
    for mount in &service.state {
        exec.next_line().flag("--state=", &mount.source);
    }
    let files = service.environment_files.iter().chain(&service.seccomp_profile);
    for mount in service.media() {
        exec.next_line().flag("--media=", &mount.source);
    }
    let others = service.mounts.iter().filter(|mount| mount.role != MEDIA);
    for path in others.map(|mount| &mount.source).chain(files) {
        exec.next_line().flag("--need=", path);
    }
    for device in &service.devices {
        let optional = if device.optional { "-" } else { "" };
        exec.next_line().word(&[
            Part::Raw("--device="),
            Part::Raw(optional),
            Part::Text(&device.name),
        ]);
    }
}

/// The application really answers; the first good answer makes the container the owner where no native unit is.
fn after(unit: &mut Unit, suite: &Suite, service: &Service, programs: &Programs) {
    let mut exec = gate(unit, "ExecStartPost", programs, "post", service.name.as_str());
    exec.word(&[
        Part::Raw("--budget="),
        Part::Number(seconds(service.start_budget)),
    ]);
    // A marker says as whom the data is used: for an image that runs as its own user that would be a guess.
    let known = service.identity.style != IdentityStyle::Image;
    // Nor does a shadow own anything.
    if known && service.shadow_of.is_none() && !service.native.iter().any(|native| native.present) {
        exec.raw("--write-marker");
    }
    if service.probe.kind == Kind::Exec {
        exec.flag("--podman=", &suite.podman);
    }
    for mount in service.media() {
        exec.flag("--media=", &mount.source);
    }
    exec.next_line();
    for (flag, argument) in service.probe.words() {
        let argument = match argument {
            Argument::Text(text) => Part::Text(text),
            Argument::Number(number) => Part::Number(number),
        };
        exec.word(&[Part::Raw(flag), argument]);
    }
}

/// Not by the file with the container's id: where that is missing (a start that failed early) or empty, podman 4.3 fails for
/// all its `--ignore`, and says so in the unit's log. Nor is anything removed by its name, which may be somebody else's: podman
/// writes on each container which unit made it (`$PODMAN_SYSTEMD_UNIT`).
fn stop(unit: &mut Unit, suite: &Suite, name: &ServiceName, timeout: Option<u64>) {
    let mut exec = unit.exec("ExecStop", "", &suite.podman);
    exec.raw(command::GLOBAL).raw("stop --ignore");
    // Else as long as the container was given when it was made.
    if let Some(seconds) = timeout {
        exec.word(&[Part::Raw("--time="), Part::Number(seconds)]);
    }
    exec.word(&[Part::Raw("dagger-"), Part::Text(name.as_str())]);
    drop(exec);
    unit.exec("ExecStopPost", "-", &suite.podman)
        .raw(command::GLOBAL)
        .raw("rm --force --ignore --volumes --filter=label=PODMAN_SYSTEMD_UNIT=%n");
}
