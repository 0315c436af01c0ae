//! Quadlet as oracle: the same service, written as a `.container` file and given to Debian 13's own quadlet, asks podman
//! and systemd for the same things, but for the differences that are listed here with their reasons.
//!
//! The program comes from Debian's archive (package podman of trixie), once, into the build directory; `DAGGER_QUADLET`
//! names another. Without it the test says that it is skipped.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use dagger_suite::load;
use dagger_suite::model::{IdentityStyle, Network, Service};
use dagger_suite::names::Root;
use dagger_suite::render::{Content, Programs, render};
use support::systemd::{self, UnitFile};

/// Flags of `podman run` that quadlet writes and ours do not, and why.
const ONLY_QUADLET: [(&str, &str); 1] = [(
    "--cidfile=/run/",
    "ours lies in the unit's runtime directory, so that a stale one never blocks a start",
)];

/// Flags that ours have and quadlet does not, and why.
const ONLY_OURS: [(&str, &str); 1] = [("--cidfile=/run/", "see above")];

/// Keys of the unit whose values differ, and why; all others that quadlet writes must be in ours with the same value.
const KEYS: [(&str, &str, &str); 7] = [
    (
        "Unit",
        "Wants",
        "network-online.target is asked for by the pull alone",
    ),
    ("Unit", "After", "likewise"),
    ("Unit", "SourcePath", "another source"),
    ("Unit", "RequiresMountsFor", "compared as a set"),
    ("Service", "ExecStart", "compared flag by flag"),
    (
        "Service",
        "ExecStop",
        "ours asks the application to stop with its own time before anything is removed",
    ),
    (
        "Service",
        "ExecStopPost",
        "by the unit that made it: the name may be somebody else's, and a file with the id missing or empty",
    ),
];

/// Flags of `podman run` that take their value in the next word when there is no `=`.
const VALUED: [&str; 27] = [
    "--dns",
    "--name",
    "--log-driver",
    "--entrypoint",
    "--tz",
    "--stop-signal",
    "--stop-timeout",
    "--pull",
    "--shm-size",
    "--network",
    "--security-opt",
    "--device",
    "--cap-drop",
    "--cap-add",
    "--user",
    "-v",
    "--volume",
    "--publish",
    "--env",
    "--env-file",
    "--tmpfs",
    "--mount",
    "--group-add",
    "--umask",
    "--sdnotify",
    "--cidfile",
    "--cgroups",
];

fn quadlet() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("DAGGER_QUADLET") {
        return Ok(PathBuf::from(path));
    }
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("quadlet-trixie");
    let program = cache.join("root/usr/libexec/podman/quadlet");
    if !program.exists() {
        download(&cache)?;
    }
    Ok(program)
}

/// Debian's package of trixie by apt's ordinary client, with lists and state of its own: the host's are left alone.
fn download(cache: &Path) -> Result<(), String> {
    let key = "/usr/share/keyrings/debian-archive-keyring.gpg";
    for dir in ["lists/partial", "archives/partial", "root", "etc/preferences.d"] {
        fs::create_dir_all(cache.join(dir)).map_err(|error| error.to_string())?;
    }
    let sources = format!("deb [signed-by={key}] http://deb.debian.org/debian trixie main\n");
    fs::write(cache.join("sources.list"), sources).map_err(|error| error.to_string())?;
    fs::write(cache.join("status"), "").map_err(|error| error.to_string())?;
    let at = cache.display();
    let options: Vec<String> = [
        format!("Dir::Etc::sourcelist={at}/sources.list"),
        format!("Dir::Etc::sourceparts={at}/none"),
        format!("Dir::Etc::preferencesparts={at}/etc/preferences.d"),
        format!("Dir::State::lists={at}/lists"),
        format!("Dir::State::status={at}/status"),
        format!("Dir::Cache={at}"),
        "APT::Sandbox::User=root".to_owned(),
        "Acquire::Languages=none".to_owned(),
        "Acquire::Retries=1".to_owned(),
        "Acquire::http::Timeout=20".to_owned(),
    ]
    .into_iter()
    .flat_map(|option| ["-o".to_owned(), option])
    .collect();
    run(Command::new("apt-get").args(&options).args(["-qq", "update"]))?;
    run(Command::new("apt-get")
        .current_dir(cache)
        .args(&options)
        .args(["-qq", "download", "podman"]))?;
    let package = fs::read_dir(cache)
        .map_err(|error| error.to_string())?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.extension().is_some_and(|it| it == "deb"))
        .ok_or("apt-get brought no package")?;
    run(Command::new("dpkg-deb")
        .arg("-x")
        .arg(package)
        .arg(cache.join("root")))
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// The service as quadlet's own file. What it has no key for goes the way its users go: `PodmanArgs=`, `GlobalArgs=`.
fn container(service: &Service) -> String {
    let mut file = format!("[Unit]\nDescription={}\n[Container]\n", service.called());
    let mut key = |name: &str, value: &str| {
        let _ = writeln!(file, "{name}={value}");
    };
    key("Image", &service.image);
    key("ContainerName", &service.name.container());
    key("GlobalArgs", "--events-backend=none");
    key("LogDriver", &service.log_driver);
    key("Pull", "never");
    key("StopSignal", &service.stop_signal);
    key("StopTimeout", &service.stop_timeout.as_secs().to_string());
    key("DropCapability", "all");
    for capability in &service.capabilities {
        key("AddCapability", capability);
    }
    for mount in service.state.iter().chain(&service.mounts) {
        let options = if mount.read_only { ":ro" } else { "" };
        key("Volume", &format!("{}:{}{options}", mount.source, mount.target));
    }
    for (name, value) in &service.environment {
        key("Environment", &format!("{name}={value}"));
    }
    for tmpfs in &service.tmpfs {
        key("Tmpfs", tmpfs);
    }
    for group in &service.groups {
        key("GroupAdd", group);
    }
    for address in &service.dns {
        key("DNS", address);
    }
    if let Some(label) = &service.selinux_label {
        assert_eq!(label, "disable", "the one that Quadlet has a key for");
        key("SecurityLabelDisable", "true");
    }
    match &service.network {
        Network::Host => key("Network", "host"),
        Network::Namespace(path) => key("Network", &format!("ns:{path}")),
        Network::Bridge => {
            key("Network", "bridge");
            for port in &service.ports {
                key(
                    "PublishPort",
                    &format!("{}:{}/{}", port.port, port.inside, port.protocol.word()),
                );
            }
        }
    }
    if !service.devices.is_empty() {
        key("AddDevice", "/dev/dri");
    }
    for (name, on) in [
        ("NoNewPrivileges", service.no_new_privileges),
        ("ReadOnly", service.read_only),
        ("RunInit", service.init),
    ] {
        if on {
            key(name, "true");
        }
    }
    for (name, value) in [
        ("Timezone", &service.timezone),
        ("ShmSize", &service.shm_size),
        ("Entrypoint", &service.entrypoint),
    ] {
        if let Some(value) = value {
            key(name, value);
        }
    }
    match service.identity.style {
        IdentityStyle::User => {
            key("User", &service.identity.uid.to_string());
            key("Group", &service.identity.gid.to_string());
        }
        IdentityStyle::Puid => {
            key("Environment", &format!("PUID={}", service.identity.uid));
            key("Environment", &format!("PGID={}", service.identity.gid));
            let given = service.environment.iter().any(|(name, _)| name == "TZ");
            if let Some(zone) = service
                .timezone
                .as_ref()
                .filter(|zone| *zone != "local" && !given)
            {
                key("Environment", &format!("TZ={zone}"));
            }
        }
        IdentityStyle::Image => {}
    }
    if let Some(umask) = &service.umask {
        key("PodmanArgs", &format!("--umask={umask}"));
    }
    key("PodmanArgs", "--no-healthcheck");
    if !service.command.is_empty() {
        key("Exec", &service.command.join(" "));
    }
    file
}

/// A command line as a set: flags with their values in one spelling, then image and command as one entry.
fn asked_for(unit: &UnitFile, name: &str, service: &Service) -> BTreeSet<String> {
    let (uid, gid) = (service.identity.uid.to_string(), service.identity.gid.to_string());
    let environment = BTreeMap::from([
        ("DAGGER_UID", uid.as_str()),
        ("DAGGER_GID", gid.as_str()),
        ("DAGGER_DEVICE_ARGS", "--device=/dev/dri"),
    ]);
    let line = unit.one("Service", "ExecStart").unwrap();
    let words = systemd::command(line, name, &environment)
        .unwrap()
        .text()
        .unwrap();
    let mut set = BTreeSet::new();
    let mut rest = words[1..].iter();
    while let Some(word) = rest.next() {
        let entry = match word.split_once('=') {
            _ if !word.starts_with('-') && word != "run" => {
                set.insert(
                    std::iter::once(word)
                        .chain(rest)
                        .cloned()
                        .collect::<Vec<_>>()
                        .join(" "),
                );
                break;
            }
            None if VALUED.contains(&word.as_str()) => format!("{word}={}", rest.next().unwrap()),
            _ => word.clone(),
        };
        let entry = match entry.split_once('=') {
            Some(("-v", value)) => format!("--volume={value}"),
            Some((flag @ ("--cap-add" | "--cap-drop"), value)) => format!("{flag}={}", value.to_lowercase()),
            None if entry == "-d" => "--detach".to_owned(),
            _ => entry,
        };
        set.insert(entry);
    }
    set
}

fn mounts(unit: &UnitFile, name: &str) -> BTreeSet<String> {
    let words = unit.all("Unit", "RequiresMountsFor").join(" ");
    let words = systemd::words(&words, systemd::Escapes::Plain).unwrap();
    words
        .iter()
        .map(|word| String::from_utf8(systemd::specifiers(word, name).unwrap()).unwrap())
        .collect()
}

fn compare(service: &Service, ours: &str, theirs: &str) {
    let name = service.name.unit();
    let (ours, theirs) = (systemd::parse(ours).unwrap(), systemd::parse(theirs).unwrap());
    let (here, there) = (
        asked_for(&ours, &name, service),
        asked_for(&theirs, &name, service),
    );
    for (only, listed) in [
        (there.difference(&here), ONLY_QUADLET),
        (here.difference(&there), ONLY_OURS),
    ] {
        for flag in only {
            assert!(
                listed.iter().any(|(known, _)| flag.starts_with(known)),
                "{name}: {flag} is only in one of them"
            );
        }
    }
    assert!(
        mounts(&ours, &name).is_superset(&mounts(&theirs, &name)),
        "{name}: a mount is not waited for"
    );
    for (section, key, value) in theirs
        .assignments
        .iter()
        .filter(|(section, ..)| section != "X-Container")
    {
        if !KEYS
            .iter()
            .any(|(known, name, _)| known == section && name == key)
        {
            let same = ours.all(section, key).contains(&value.as_str());
            assert!(
                same,
                "{name}: quadlet writes {key}={value}, ours {:?}",
                ours.all(section, key)
            );
        }
    }
}

#[test]
fn the_same_service_asks_for_the_same_things() {
    let quadlet = match quadlet() {
        Ok(quadlet) => quadlet,
        Err(why) => return println!("SKIPPED: no quadlet to compare with: {why}"),
    };
    let mut compared = 0;
    for case in ["suite", "networks", "two-of-one-kind", "native"] {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/golden")
            .join(case);
        let loaded = load(&Root::new(&root));
        let outputs = render(
            &loaded.suite,
            &loaded.broken,
            loaded.file_errors(),
            &Programs::below("/usr"),
        );
        for service in &loaded.suite.services {
            let dir = std::env::temp_dir().join(format!("dagger-quadlet-{}", std::process::id()));
            let _ = fs::remove_dir_all(&dir);
            fs::create_dir_all(&dir).unwrap();
            fs::write(
                dir.join(format!("{}.container", service.name.container())),
                container(service),
            )
            .unwrap();
            let output = Command::new(&quadlet)
                .arg("-dryrun")
                .env("QUADLET_UNIT_DIRS", &dir)
                .output()
                .unwrap();
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
            let theirs = String::from_utf8(output.stdout).unwrap();
            let theirs = theirs.split_once("---\n").unwrap().1;
            let ours = outputs
                .iter()
                .find(|output| output.path == service.name.unit())
                .unwrap();
            let Content::File(ours) = &ours.content else {
                panic!("{} is a link", service.name);
            };
            compare(service, ours, theirs);
            compared += 1;
            fs::remove_dir_all(&dir).unwrap();
        }
    }
    assert!(compared >= 12, "only {compared} services were compared");
}
