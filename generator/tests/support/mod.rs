//! Reads rendered units back the way systemd and podman would, and compares with what was meant.

#![allow(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    missing_docs,
    dead_code
)]

pub mod podman;
pub mod random;
pub mod systemd;

use std::collections::BTreeMap;

use dagger_suite::model::{IdentityStyle, MEDIA, Mount, Network, Service, Suite};
use dagger_suite::probe::{Kind, Probe};
use dagger_suite::render::Programs;

use podman::Bind;
use systemd::{Escapes, UnitFile};

/// What the gate is said to have found, for the expansion of the unit's variables.
const DEVICE_ARGS: &str = "--device=/dev/dri --group-add=105";

/// Reads a service's unit back; the error says what systemd or podman would have understood otherwise.
pub fn unit(suite: &Suite, service: &Service, programs: &Programs, text: &str) -> Result<(), String> {
    let parsed = systemd::parse(text)?;
    let reader = Reader {
        unit: service.name.unit(),
        parsed,
        service,
        suite,
    };
    reader.relations()?;
    reader.before(programs)?;
    reader.run()?;
    reader.after(programs)?;
    reader.stop()
}

struct Reader<'a> {
    unit: String,
    parsed: UnitFile,
    service: &'a Service,
    suite: &'a Suite,
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, read: &T, meant: &T) -> Result<(), String> {
    if read == meant {
        Ok(())
    } else {
        Err(format!("{what}: read back {read:?}, meant {meant:?}"))
    }
}

impl Reader<'_> {
    fn command(&self, key: &str) -> Result<Vec<String>, String> {
        let (uid, gid) = (
            self.service.identity.uid.to_string(),
            self.service.identity.gid.to_string(),
        );
        let mut environment = BTreeMap::from([("DAGGER_UID", uid.as_str()), ("DAGGER_GID", gid.as_str())]);
        if !self.service.devices.is_empty() {
            environment.insert("DAGGER_DEVICE_ARGS", DEVICE_ARGS);
        }
        systemd::command(self.parsed.one("Service", key)?, &self.unit, &environment)?.text()
    }

    fn relations(&self) -> Result<(), String> {
        let value = self.parsed.one("Unit", "RequiresMountsFor")?;
        let mut paths = Vec::new();
        for word in systemd::words(value, Escapes::Plain)? {
            let path = systemd::specifiers(&word, &self.unit)?;
            paths.push(String::from_utf8(path).map_err(|error| error.to_string())?);
        }
        for mount in self.service.state.iter().chain(&self.service.mounts) {
            // A path list cannot hold noncharacters: the nearest parent without stands for such a path.
            if !paths.iter().any(|path| covers(path, &mount.source)) {
                return Err(format!(
                    "RequiresMountsFor= has nothing for {:?}: {paths:?}",
                    mount.source
                ));
            }
        }
        let environment = self.parsed.all("Service", "Environment");
        let identity = format!(
            "DAGGER_UID={} DAGGER_GID={}",
            self.service.identity.uid, self.service.identity.gid
        );
        let mut meant = vec!["PODMAN_SYSTEMD_UNIT=%n", identity.as_str()];
        if self.service.identity.style == IdentityStyle::Image {
            meant.pop();
        }
        same("Environment=", &environment, &meant)?;
        for key in ["After", "Wants"] {
            let units = self.parsed.one("Unit", key)?;
            for name in &self.service.wants {
                let there = self.suite.services.iter().any(|service| service.name == *name);
                let listed = units.split(' ').any(|unit| unit == name.unit());
                same(
                    &format!("{key}= on {name}"),
                    &listed,
                    &(there && *name != self.service.name),
                )?;
            }
        }
        Ok(())
    }

    fn before(&self, programs: &Programs) -> Result<(), String> {
        let argv = self.command("ExecStartPre")?;
        let identity = self.service.identity;
        let mut meant = vec![
            programs.gate.clone(),
            "pre".into(),
            format!("--service={}", self.service.name),
        ];
        let claim =
            |port: &dagger_suite::model::Claim| format!("--claim={}:{}", port.protocol.word(), port.port);
        meant.extend(self.service.ports.iter().map(claim));
        if let Network::Namespace(path) = &self.service.network {
            meant.push(format!("--netns={path}"));
        }
        meant.push(format!("--owner={}:{}", identity.uid, identity.gid));
        meant.extend(identity.uid_explicit.then(|| "--uid-explicit".to_owned()));
        meant.extend(identity.gid_explicit.then(|| "--gid-explicit".to_owned()));
        if identity.style == IdentityStyle::Image {
            meant.retain(|word| !word.starts_with("--owner=") && !word.ends_with("-explicit"));
        }
        meant.extend(
            self.service
                .state
                .iter()
                .map(|mount| format!("--state={}", mount.source)),
        );
        meant.extend(self.media());
        meant.extend(
            self.service
                .mounts
                .iter()
                .filter(|mount| mount.role != MEDIA)
                .map(|mount| format!("--need={}", mount.source)),
        );
        let files = self
            .service
            .environment_files
            .iter()
            .chain(&self.service.seccomp_profile);
        meant.extend(files.map(|path| format!("--need={path}")));
        meant.extend(self.service.devices.iter().map(|device| {
            format!(
                "--device={}{}",
                if device.optional { "-" } else { "" },
                device.name
            )
        }));
        same("ExecStartPre=", &argv, &meant)
    }

    fn after(&self, programs: &Programs) -> Result<(), String> {
        let argv = self.command("ExecStartPost")?;
        let (head, words) = argv.split_at_checked(3).ok_or("ExecStartPost= is too short")?;
        same(
            "ExecStartPost=",
            &head,
            &&[
                programs.gate.clone(),
                "post".into(),
                format!("--service={}", self.service.name),
            ][..],
        )?;
        let (probe, rest) = Probe::from_args(words.iter().cloned())?;
        let mut meant = self.service.probe.clone();
        if meant.kind != Kind::Exec {
            // Only a command needs to know where it runs.
            meant.container.clear();
            meant.command.clear();
        }
        same("the probe", &probe, &meant)?;
        let native = self.service.native.iter().any(|native| native.present)
            || self.service.identity.style == IdentityStyle::Image;
        let mut meant = vec![format!(
            "--budget={}",
            self.service.start_budget.as_millis().div_ceil(1000)
        )];
        meant.extend((!native).then(|| "--write-marker".to_owned()));
        if self.service.probe.kind == Kind::Exec {
            meant.push(format!("--podman={}", self.suite.podman));
        }
        meant.extend(self.media());
        same("what the gate is told beside the probe", &rest, &meant)
    }

    fn media(&self) -> impl Iterator<Item = String> {
        self.service
            .media()
            .map(|mount| format!("--media={}", mount.source))
    }

    fn stop(&self) -> Result<(), String> {
        let time = format!("--time={}", self.service.stop_timeout.as_millis().div_ceil(1000));
        let name = format!("dagger-{}", self.service.name);
        let podman = self.suite.podman.as_str();
        let stop = [podman, "--events-backend=none", "stop", "--ignore", &time, &name].map(str::to_owned);
        same(
            "ExecStop=",
            &self.command("ExecStop")?.as_slice(),
            &stop.as_slice(),
        )?;
        let remove = [
            podman,
            "--events-backend=none",
            "rm",
            "--force",
            "--ignore",
            "--volumes",
            &name,
        ];
        same(
            "ExecStopPost=",
            &self.command("ExecStopPost")?.as_slice(),
            &remove.map(str::to_owned).as_slice(),
        )
    }

    fn run(&self) -> Result<(), String> {
        let service = self.service;
        let argv = self.command("ExecStart")?;
        let (program, words) = argv.split_first().ok_or("ExecStart= is empty")?;
        same("podman", program, &self.suite.podman)?;
        let mut run = podman::run(words, &service.podman_args)?;
        same("the image", &run.image, &service.image)?;
        same("the command", &run.command, &service.command)?;
        let meant: Vec<Bind> = service.state.iter().chain(&service.mounts).map(bind).collect();
        same("the mounts", &run.binds, &meant)?;
        self.environment(&run.environment)?;
        let expected = self.flags();
        for (flag, values) in &expected {
            same(flag, &run.flags.remove(*flag).unwrap_or_default(), values)?;
        }
        same("flags that nobody asked for", &run.flags, &BTreeMap::new())
    }

    fn environment(&self, read: &[(String, String)]) -> Result<(), String> {
        let service = self.service;
        let (given, ours) = read
            .split_at_checked(service.environment.len())
            .ok_or("variables are missing")?;
        same("the environment", &given, &service.environment.as_slice())?;
        let mut meant: Vec<(&str, String)> = Vec::new();
        if service.identity.style == IdentityStyle::Puid {
            let given = service.environment.iter().any(|(key, _)| key == "TZ");
            let zone = service.timezone.clone().filter(|zone| zone != "local" && !given);
            meant.extend(zone.map(|zone| ("TZ", zone)));
            meant.push(("PUID", service.identity.uid.to_string()));
            meant.push(("PGID", service.identity.gid.to_string()));
        }
        let ours: Vec<(&str, String)> = ours
            .iter()
            .map(|(key, value)| (key.as_str(), value.clone()))
            .collect();
        same("our own variables", &ours, &meant)
    }

    /// Every flag that must be there, with its values; no other may be.
    fn flags(&self) -> Vec<(&'static str, Vec<String>)> {
        let service = self.service;
        let one = |value: &str| vec![value.to_owned()];
        let given = |value: &Option<String>| value.iter().cloned().collect::<Vec<_>>();
        let switch = |on: bool| if on { one("") } else { Vec::new() };
        let identity = service.identity;
        let user = format!("{}:{}", identity.uid, identity.gid);
        let mut groups = service.groups.clone();
        let mut devices = Vec::new();
        if !service.devices.is_empty() {
            devices.push("/dev/dri".to_owned());
            groups.push("105".to_owned());
        }
        let mut security: Vec<String> = service
            .no_new_privileges
            .then(|| "no-new-privileges".into())
            .into_iter()
            .collect();
        security.extend(
            service
                .seccomp_profile
                .iter()
                .map(|profile| format!("seccomp={profile}")),
        );
        security.extend(
            service
                .apparmor_profile
                .iter()
                .map(|profile| format!("apparmor={profile}")),
        );
        security.extend(service.selinux_label.iter().map(|label| format!("label={label}")));
        let (network, publish) = match &service.network {
            Network::Host => ("host".to_owned(), Vec::new()),
            Network::Namespace(path) => (format!("ns:{path}"), Vec::new()),
            Network::Bridge => {
                let publish = service.ports.iter();
                let publish = publish.map(|it| format!("{}:{}/{}", it.port, it.inside, it.protocol.word()));
                ("bridge".to_owned(), publish.collect())
            }
        };
        let seconds = service.stop_timeout.as_millis().div_ceil(1000);
        vec![
            ("--name", one(&format!("dagger-{}", service.name))),
            ("--cidfile", one(&format!("/run/dagger-{}/cid", service.name))),
            ("--replace", one("")),
            ("--rm", one("")),
            ("--detach", one("")),
            ("--cgroups", one("split")),
            ("--sdnotify", one("conmon")),
            ("--log-driver", one(&service.log_driver)),
            ("--no-healthcheck", one("")),
            ("--pull", one("never")),
            ("--stop-signal", one(&service.stop_signal)),
            ("--stop-timeout", one(&seconds.to_string())),
            ("--network", one(&network)),
            ("--publish", publish),
            ("--dns", service.dns.clone()),
            (
                "--user",
                if identity.style == IdentityStyle::User {
                    one(&user)
                } else {
                    Vec::new()
                },
            ),
            ("--group-add", groups),
            ("--umask", given(&service.umask)),
            ("--tz", given(&service.timezone)),
            ("--cap-drop", one("all")),
            ("--cap-add", service.capabilities.clone()),
            ("--security-opt", security),
            ("--read-only", switch(service.read_only)),
            ("--init", switch(service.init)),
            ("--shm-size", given(&service.shm_size)),
            ("--device", devices),
            ("--tmpfs", service.tmpfs.clone()),
            ("--env-file", service.environment_files.clone()),
            (
                "--entrypoint",
                service
                    .entrypoint
                    .iter()
                    .map(|program| entrypoint(program))
                    .collect(),
            ),
        ]
    }
}

fn bind(mount: &Mount) -> Bind {
    Bind {
        source: mount.source.clone(),
        target: mount.target.clone(),
        read_only: mount.read_only,
    }
}

/// Whether waiting for what is mounted at `path` is all that a unit file can say about `source`.
fn covers(path: &str, source: &str) -> bool {
    let carried = source.split('/').take_while(|part| {
        !part.chars().any(|c| {
            ('\u{fdd0}'..='\u{fdef}').contains(&c)
                || (c as u32) & 0xfffe == 0xfffe
                || matches!(c, '\r' | '\n')
        })
    });
    let carried: Vec<&str> = carried.collect();
    let carried = carried.join("/");
    path == if carried.is_empty() { "/" } else { &carried }
}

/// podman reads an entrypoint as JSON when it can, as one program otherwise.
fn entrypoint(program: &str) -> String {
    let word = program.trim_start_matches([' ', '\t', '\n', '\r', '\x0c']);
    if !word.starts_with('[') && word.trim_end_matches([' ', '\t', '\n', '\r', '\x0c']) != "null" {
        return program.to_owned();
    }
    let mut json = String::new();
    for c in program.chars() {
        match c {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            c if c < ' ' => json.extend(format!("\\u{:04x}", c as u32).chars()),
            c => json.push(c),
        }
    }
    format!("[\"{json}\"]")
}
