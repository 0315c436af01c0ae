//! The small units beside a service: the one that fetches its image, the condition on its native twin, and the unit
//! that stands for a mistake.

use crate::model::{Broken, Network, Service, Suite};
use crate::names::{self, ServiceName};
use crate::render::lines::{gate, header, hold_condition};
use crate::render::{OWNER_DROP_IN, Output, Programs, service};
use crate::unit::{Part, Unit};
use crate::value;

/// Room for one of these units.
const CAPACITY: usize = 1024;

/// The longest message that a refusing unit carries, in bytes: it is shown in one line of `systemctl status`, and the kernel takes
/// no argument above 128 KiB.
const MESSAGE_MAX: usize = 4096;

/// `dagger-pull@<service>.service`: neither the minutes of a download nor the wait for the network stand in the start of
/// a service whose image is there.
pub(super) fn pull(suite: &Suite, service: &Service, programs: &Programs) -> Output {
    let mut unit = Unit::with_capacity(CAPACITY);
    let name = service.name.as_str();
    header(&mut unit, &service.source);
    unit.section("Unit");
    unit.free("Description", &["Image of ", &service.called()]);
    unit.path("SourcePath", &service.source);
    unit.set("PartOf", &[names::TARGET]);
    // Each start of the service asks for this one again: its own limit must never be the one that is hit.
    unit.set("StartLimitIntervalSec", &["0"]);
    unit.paths(
        "RequiresMountsFor",
        ["/var/lib/containers", names::OWNER_DIR].into_iter(),
    );
    if service.native.iter().any(|native| native.present) {
        // A migration fetches the image before the service is the container's.
        for way in [names::OWNER_DIR, names::JOB_DIR] {
            let end = if way == names::JOB_DIR { ".pull" } else { "" };
            unit.set("ConditionPathExists", &["|", way, "/", name, end]);
        }
    }
    unit.section("Service");
    unit.set("Type", &["oneshot"]);
    unit.set("NotifyAccess", &["all"]);
    unit.set("TimeoutStartSec", &["infinity"]);
    unit.set("Slice", &[names::SLICE]);
    unit.set("SyslogIdentifier", &["dagger-", name]);
    unit.set("LogExtraFields", &["DAGGER_SERVICE=", name]);
    let mut exec = gate(&mut unit, "ExecStart", programs, "image", name);
    exec.flag("--image=", &service.image)
        .flag("--pull=", service.pull.word())
        .flag("--podman=", &suite.podman);
    // What an image keeps anywhere else is gone after each stop: the gate refuses an image that does.
    for path in covered(service) {
        exec.next_line().flag("--covered=", path);
    }
    drop(exec);
    Output::file(service.name.pull_unit(), unit.finish().unwrap_or_default())
}

/// `dagger-front@<service>.socket` and its service: what comes to a port of this machine's own goes on to the application in
/// its namespace (systemd-socket-proxyd(8)).
pub(super) fn front(service: &Service) -> Vec<Output> {
    let (Some(port), Some(main), Network::Namespace(netns)) =
        (service.front, service.ports.first(), &service.network)
    else {
        return Vec::new();
    };
    let name = service.name.as_str();
    let head = |what: &str| {
        let mut unit = Unit::with_capacity(CAPACITY);
        header(&mut unit, &service.source);
        unit.section("Unit");
        unit.free("Description", &[what, &service.called()]);
        unit.path("SourcePath", &service.source);
        // It comes and goes with what it leads to.
        unit.set("BindsTo", &["dagger-", name, ".service"]);
        unit.set("After", &["dagger-", name, ".service"]);
        unit
    };
    let port = port.to_string();
    let mut socket = head("The way in to ");
    // By itself a socket comes before every service, and could not come after this one.
    socket.set("DefaultDependencies", &["no"]);
    socket.set("Conflicts", &["shutdown.target"]);
    socket.set("Before", &["shutdown.target"]);
    socket.section("Socket");
    socket.set("ListenStream", &["127.0.0.1:", &port]);
    let mut proxy = head("The way on to ");
    proxy.section("Service");
    proxy.set("Slice", &[names::SLICE]);
    proxy.path("NetworkNamespacePath", netns);
    for line in ["DynamicUser", "PrivateDevices", "ProtectHome", "NoNewPrivileges"] {
        proxy.set(line, &["yes"]);
    }
    proxy.set("ProtectSystem", &["strict"]);
    proxy.set("LogExtraFields", &["DAGGER_SERVICE=", name]);
    proxy.exec("ExecStart", "", names::SOCKET_PROXYD).word(&[
        Part::Text(&service.probe.host),
        Part::Raw(":"),
        Part::Number(u64::from(main.port)),
    ]);
    [("socket", socket), ("service", proxy)]
        .into_iter()
        .map(|(kind, unit)| {
            Output::file(
                format!("dagger-front@{name}.{kind}"),
                unit.finish().unwrap_or_default(),
            )
        })
        .collect()
}

/// Paths inside that something of the host or a tmpfs is mounted at, or that may go.
fn covered(service: &Service) -> impl Iterator<Item = &str> {
    let mounts = service.state.iter().chain(&service.mounts);
    let tmpfs = service.tmpfs.iter();
    mounts
        .map(|mount| mount.target.as_str())
        .chain(service.disposable.iter().map(String::as_str))
        .chain(tmpfs.map(|it| value::tmpfs_target(it)))
}

/// The opposite condition, on a native unit.
///
/// Never `Conflicts=` beside it: the stop job it brings runs even where the condition then skips the start.
pub(super) fn owner_drop_in(service: &ServiceName, native: &str, source: &str) -> Output {
    let mut unit = Unit::with_capacity(CAPACITY);
    header(&mut unit, source);
    unit.comment(&[
        "While this path exists the container ",
        &service.container(),
        " owns the data of this service.",
    ]);
    unit.section("Unit");
    unit.set(
        "ConditionPathExists",
        &["!", names::OWNER_DIR, "/", service.as_str()],
    );
    hold_condition(&mut unit, service);
    unit.set("Wants", &[names::RECOVER_UNIT]);
    unit.set("After", &[names::RECOVER_UNIT]);
    unit.paths("RequiresMountsFor", std::iter::once(names::OWNER_DIR));
    Output::file(
        format!("{native}.d/{OWNER_DROP_IN}"),
        unit.finish().unwrap_or_default(),
    )
}

/// The unit of a service that cannot run. One that runs already goes on, and stops as it would have.
pub(super) fn refuse_service(suite: &Suite, broken: &Broken, programs: &Programs) -> Output {
    let mut unit = refusal(
        broken.name.as_str(),
        " (cannot start: mistake in the configuration)",
        &broken.source,
    );
    unit.set("OnFailure", &["dagger-alert@", broken.name.as_str(), ".service"]);
    refuse_container(unit, suite, broken, programs)
}

/// The unit of a service that runs on and has no place in the suite any more.
pub(super) fn left_service(suite: &Suite, left: &Broken, programs: &Programs) -> Output {
    let unit = refusal(
        left.name.as_str(),
        " (not in the configuration any more)",
        &left.source,
    );
    refuse_container(unit, suite, left, programs)
}

fn refuse_container(mut unit: Unit, suite: &Suite, broken: &Broken, programs: &Programs) -> Output {
    unit.set("After", &["network.target"]);
    unit.paths(
        "RequiresMountsFor",
        ["/run/containers", "/var/lib/containers"].into_iter(),
    );
    refuse(&mut unit, broken.name.as_str(), &broken.messages, programs);
    service::outlive(&mut unit, suite, &broken.name);
    Output::file(broken.name.unit(), unit.finish().unwrap_or_default())
}

/// The unit that stands for files that cannot be used.
pub(super) fn refuse_files(source: &str, messages: &[String], programs: &Programs) -> Output {
    let why = " (cannot start: mistake in the configuration)";
    let mut unit = refusal("Configuration files of dagger", why, source);
    refuse(&mut unit, "config-error", messages, programs);
    Output::file(
        names::CONFIG_ERROR_UNIT.to_owned(),
        unit.finish().unwrap_or_default(),
    )
}

/// The head of a unit that refuses to start.
fn refusal(title: &str, why: &str, source: &str) -> Unit {
    let mut unit = Unit::with_capacity(CAPACITY);
    header(&mut unit, source);
    unit.section("Unit");
    unit.free("Description", &[title, why]);
    unit.path("SourcePath", source);
    unit.set("PartOf", &[names::TARGET]);
    unit.set("StartLimitIntervalSec", &["0"]);
    unit
}

fn refuse(unit: &mut Unit, name: &str, messages: &[String], programs: &Programs) {
    unit.section("Service");
    unit.set("Type", &["oneshot"]);
    unit.set("NotifyAccess", &["all"]);
    unit.set("Slice", &[names::SLICE]);
    unit.set("LogExtraFields", &["DAGGER_SERVICE=", name]);
    let message = shown(messages);
    gate(unit, "ExecStart", programs, "refuse", name)
        .raw("--")
        .arg(&message);
}

/// All messages in one argument that fits, without the one character that no argument can hold.
fn shown(messages: &[String]) -> String {
    let mut text = messages.join("; ").replace('\0', "\u{2400}");
    if text.len() > MESSAGE_MAX {
        let end = (0..=MESSAGE_MAX).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
        text.push_str(" ...");
    }
    text
}
