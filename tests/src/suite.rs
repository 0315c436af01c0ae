//! The product in a machine: how it gets there, and what tests ask it.

use crate::rig::{Machine, Output, Spec, Suite, host, tree};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The bus name.
pub const BUS: &str = "org.nixarr.Dagger1";
/// The root object.
pub const ROOT: &str = "/org/nixarr/Dagger1";
/// The six of the suite.
pub const SIX: [&str; 6] = [
    "bazarr",
    "jellyfin",
    "prowlarr",
    "radarr",
    "sonarr",
    "transmission",
];
/// Their configuration, as a user would write it.
pub const SIX_TOML: &str = r#"[suite]
media = "/fun"
state = "/var/lib/nixarr"
user = 568
group = 568
timezone = "Europe/Berlin"

[services.sonarr]
[services.radarr]
[services.prowlarr]
[services.bazarr]
[services.jellyfin]
[services.transmission]
peer-port = 46634
"#;
/// What is installed.
const PROGRAMS: [&str; 7] = [
    "dagger-generator",
    "dagger-agent",
    "dagger-gate",
    "dagger-alert",
    "dagger-well",
    "dagger-job",
    "daggerctl",
];
/// Stands for the package trigger that a layer cannot pull.
const UPDATE_CATALOGUE: (&str, &str) = (
    "/etc/systemd/system/systemd-journal-flush.service.d/rig.conf",
    "[Service]\nExecStartPost=journalctl --update-catalog\n",
);
/// So long may the six take from power to healthy; on two busy cores they need about a tenth.
pub const SIX_LIMIT: Duration = Duration::from_secs(90);

/// What stories are told on: a release, the product as installed, the images.
#[derive(Debug, Clone)]
pub struct Ground {
    /// The release.
    pub suite: Suite,
    /// The product, as `units/install --destdir` lays it out.
    pub product: PathBuf,
    /// The stand-in, linked statically.
    pub standin: PathBuf,
}

/// The checkout that this was built from.
pub fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_path_buf)
        .unwrap_or_default()
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| checkout().join("target"), PathBuf::from)
}

/// Where the product's programs are: `DAGGER_PROGRAMS`, else the release directory.
pub fn programs() -> PathBuf {
    std::env::var_os("DAGGER_PROGRAMS").map_or_else(|| target().join("release"), PathBuf::from)
}

/// The statically linked stand-in: `DAGGER_STANDIN`, else where `tests/run` builds it.
pub fn standin() -> PathBuf {
    let built = || {
        target().join(format!(
            "{}-unknown-linux-gnu/release/standin",
            std::env::consts::ARCH
        ))
    };
    std::env::var_os("DAGGER_STANDIN").map_or_else(built, PathBuf::from)
}

impl Ground {
    /// Whether everything is there that stories need, built beforehand.
    pub fn built() -> Result<()> {
        let products = PROGRAMS.map(|name| programs().join(name));
        for program in products.iter().chain([&standin()]) {
            ensure!(
                program.is_file(),
                "{} is not built (sudo tests/run builds it)",
                program.display()
            );
        }
        Ok(())
    }

    /// Installs the product beside the trees and makes tree and images, so that stories begin at once.
    pub fn prepare(suite: Suite) -> Result<Self> {
        let ground = Self {
            suite,
            product: product()?,
            standin: standin(),
        };
        ground.bare("prepare")?;
        Ok(ground)
    }

    /// A machine with the images and without the product.
    pub fn bare(&self, name: &str) -> Result<Spec> {
        self.bare_with(name, &[])
    }

    fn bare_with(&self, name: &str, packages: &[&str]) -> Result<Spec> {
        let spec = Spec::with_packages(name, self.suite, packages)?.with_images(self.suite, &self.standin)?;
        // `standin verify` looks at what the applications left on the disk.
        Ok(spec.bind_read_only(&self.standin, "/usr/local/bin/standin"))
    }

    /// A machine with the product installed, the images, and an empty media directory, but no configuration.
    pub fn installed(&self, name: &str) -> Result<Spec> {
        self.installed_with(name, &[])
    }

    /// The same with more of Debian's packages.
    pub fn installed_with(&self, name: &str, packages: &[&str]) -> Result<Spec> {
        let spec = self.bare_with(name, packages)?;
        let spec = spec.layer(&self.product).file("/fun/.keep", "");
        // Debian 12 has no unit for it: there installing a package, or units/install, tells the catalogue.
        let catalogue = self.suite == Suite::Bookworm;
        Ok(if catalogue {
            spec.file(UPDATE_CATALOGUE.0, UPDATE_CATALOGUE.1)
        } else {
            spec
        })
    }

    /// A machine that boots with this configuration.
    pub fn configured(&self, name: &str, toml: &str) -> Result<Spec> {
        Ok(self.installed(name)?.file("/etc/dagger/dagger.toml", toml))
    }
}

/// The product installed below a directory of its own in the cache; another build gets another one.
fn product() -> Result<PathBuf> {
    let sources = ["units", "polkit"].map(|part| checkout().join(part));
    let programs = programs();
    let mut parts = Vec::new();
    for file in PROGRAMS
        .iter()
        .chain(&["dagger-docs"])
        .map(|name| programs.join(name))
        .collect::<Vec<_>>()
        .iter()
        .chain(&files_below(&sources)?)
    {
        let bytes = std::fs::read(file).unwrap_or_default();
        parts.push(format!("{} {}", file.display(), host::key_of_bytes(&bytes)));
    }
    let place = host::cache().join(format!("product-{}", host::key(&[&parts.join("\n")])));
    let _lock = host::lock(&host::cache().join("product.lock"))?;
    if place.is_dir() {
        host::hold(&place)?;
        return Ok(place);
    }
    let unfinished = place.with_extension("new");
    tree::remove(&unfinished)?;
    std::fs::create_dir_all(&unfinished).with_context(|| format!("create {}", unfinished.display()))?;
    let install = checkout().join("units/install");
    let output = Command::new(&install)
        .arg("--destdir")
        .arg(&unfinished)
        .arg("--programs")
        .arg(&programs)
        .output();
    let output = output.with_context(|| format!("run {}", install.display()))?;
    ensure!(
        output.status.success(),
        "units/install: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    std::fs::rename(&unfinished, &place).with_context(|| format!("rename {}", unfinished.display()))?;
    host::hold(&place)?;
    host::forget("product-")?;
    Ok(place)
}

fn files_below(directories: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut left = directories.to_vec();
    while let Some(directory) = left.pop() {
        let entries =
            std::fs::read_dir(&directory).with_context(|| format!("read {}", directory.display()))?;
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                left.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// What tests ask a machine that has the product.
impl Machine {
    /// A property of a service's object on the bus, as JSON.
    pub fn bus_property(&self, service: &str, property: &str) -> Result<Value> {
        self.property_of(&format!("{ROOT}/service/{service}"), "Service", property)
    }

    /// A property of the manager, as JSON.
    pub fn manager_property(&self, property: &str) -> Result<Value> {
        self.property_of(ROOT, "Manager", property)
    }

    fn property_of(&self, path: &str, interface: &str, property: &str) -> Result<Value> {
        let interface = format!("{BUS}.{interface}");
        let output = self.run(&[
            "busctl",
            "--json=short",
            "get-property",
            BUS,
            path,
            &interface,
            property,
        ])?;
        ensure!(output.good(), "{property} of {path}: {}", output.all().trim());
        let value: Value = serde_json::from_str(&output.stdout).context("busctl's JSON")?;
        Ok(value.get("data").cloned().unwrap_or_default())
    }

    /// A service's health on the bus; empty when the bus has no answer.
    pub fn health(&self, service: &str) -> String {
        let value = self.bus_property(service, "Health").unwrap_or_default();
        value.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until a service has this health on the bus.
    pub fn wait_health(&self, service: &str, health: &str, limit: Duration) -> Result<()> {
        let mut last = String::new();
        let waited = self.wait_for(&format!("{service} {health}"), limit, |machine| {
            last = machine.health(service);
            Ok((last == health).then_some(()))
        });
        waited.with_context(|| format!("last health of {service}: {last:?}\n{}", self.account_of(service)))
    }

    /// Waits until all six are healthy on the bus.
    pub fn wait_six(&self) -> Result<()> {
        SIX.iter()
            .try_for_each(|service| self.wait_health(service, "healthy", SIX_LIMIT))
    }

    /// What a person would look at first, for a message.
    pub fn account_of(&self, service: &str) -> String {
        let script = format!(
            "systemctl status --no-pager --lines=0 dagger-{service} {service} monitoring; journalctl --no-pager -n 25 -o short-precise -u dagger-{service} -u monitoring -u dagger-pull@{service}"
        );
        self.sh(&script).map(|output| output.all()).unwrap_or_default()
    }

    /// A property of a unit, from systemd.
    pub fn unit(&self, unit: &str, property: &str) -> Result<String> {
        let output = self.run(&["systemctl", "show", "--property", property, "--value", unit])?;
        ensure!(output.good(), "systemctl show {unit}: {}", output.all());
        Ok(output.stdout.trim().to_owned())
    }

    /// Waits until a unit's ActiveState is this.
    pub fn wait_unit(&self, unit: &str, state: &str, limit: Duration) -> Result<()> {
        let waited = self.wait_for(&format!("{unit} {state}"), limit, |machine| {
            Ok((machine.unit(unit, "ActiveState")? == state).then_some(()))
        });
        waited.with_context(|| {
            self.sh(&format!("systemctl status --no-pager {unit}"))
                .map(|o| o.all())
                .unwrap_or_default()
        })
    }

    /// Puts faults in force in a stand-in; an empty text takes them back.
    pub fn fault(&self, service: &str, text: &str) -> Result<()> {
        let directory = match service {
            "jellyfin" => "/var/lib/nixarr/jellyfin/data".to_owned(),
            "transmission" => bail!("transmission is the real one"),
            other => format!("/var/lib/nixarr/{other}"),
        };
        self.write(&format!("{directory}/fault"), text)
    }

    /// Runs a command as a user without any privilege.
    pub fn as_nobody(&self, words: &[&str]) -> Result<Output> {
        let dropped = [
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--inh-caps=-all",
            "--",
        ];
        self.run(&[&dropped[..], words].concat())
    }

    /// Entries of the agent's own log about a service's verdicts, oldest first: the health of each.
    pub fn verdicts(&self, service: &str) -> Result<Vec<String>> {
        let filter = format!("DAGGER_SERVICE={service}");
        let entries = self.journal(&["-b", "_SYSTEMD_UNIT=monitoring.service", &filter])?;
        Ok(entries
            .iter()
            .map(|entry| entry.field("DAGGER_HEALTH").to_owned())
            .filter(|health| !health.is_empty())
            .collect())
    }

    /// An answer over HTTP from inside the machine: status and body.
    pub fn http(&self, url: &str) -> Result<(u16, String)> {
        let output = self.run(&["curl", "-s", "-m", "10", "-w", "\n%{http_code}", url])?;
        let (body, status) = output.stdout.rsplit_once('\n').unwrap_or_default();
        Ok((status.parse().unwrap_or(0), body.to_owned()))
    }
}
