//! Quadlet's input, made from our own units, and the proof that both generators then say the same.
//!
//! Each option of our `podman run` becomes the key that Quadlet has for it, or `PodmanArgs=` where it has none; what
//! only the suite has (gate, owner marker, the pull in a unit of its own) is left out, so Quadlet has less to write.

use super::unit_text::{Run, UnitText};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

/// Options that Quadlet writes by itself.
const BY_ITSELF: [&str; 7] = [
    "name", "cidfile", "replace", "rm", "detach", "cgroups", "sdnotify",
];
/// Options of podman and the keys that Quadlet has for them.
const KEYS: [(&str, &str); 14] = [
    ("cap-add", "AddCapability"),
    ("cap-drop", "DropCapability"),
    ("device", "AddDevice"),
    ("entrypoint", "Entrypoint"),
    ("env", "Environment"),
    ("group-add", "GroupAdd"),
    ("log-driver", "LogDriver"),
    ("network", "Network"),
    ("publish", "PublishPort"),
    ("pull", "Pull"),
    ("stop-signal", "StopSignal"),
    ("stop-timeout", "StopTimeout"),
    ("tz", "Timezone"),
    ("volume", "Volume"),
];
/// Keys of [Service] that a user would write the same.
const SERVICE: [&str; 9] = [
    "Slice",
    "SuccessExitStatus",
    "OOMPolicy",
    "Restart",
    "RestartSec",
    "TimeoutStartSec",
    "TimeoutStopSec",
    "CPUWeight",
    "IOWeight",
];

/// How the units of the peer are called and started.
pub struct Style<'a> {
    /// What our `dagger-` becomes.
    pub prefix: &'a str,
    /// The target that wants them.
    pub target: &'a str,
    /// More lines of [Container] for the service of that name; readiness, for example.
    pub more: &'a dyn Fn(&str) -> String,
    /// Options of ours that are not carried over.
    pub drop: &'a [&'a str],
}

impl Style<'_> {
    /// Our units' names as they are, and Quadlet's own readiness: what the two generators are compared on.
    pub const SAME: Style<'static> = Style {
        prefix: "dagger-",
        target: "dagger.target",
        more: &|_| String::new(),
        drop: &[],
    };

    fn rename(&self, word: &str) -> Option<String> {
        match word.strip_prefix("dagger-") {
            Some(rest) if rest.starts_with("pull@") => None,
            Some(rest) => Some(format!("{}{rest}", self.prefix)),
            None => Some(word.to_owned()),
        }
    }
}

/// The `.container` file that says what our unit of the service `name` says.
pub fn container(name: &str, unit: &UnitText, style: &Style) -> Result<String> {
    let run = Run::of(unit)?.without(&BY_ITSELF).without(style.drop);
    let mut text = String::from("[Unit]\n");
    for (key, value) in unit.section("Unit") {
        let words = || {
            value
                .split_ascii_whitespace()
                .filter_map(|word| style.rename(word))
        };
        match key {
            "After" | "Wants" => {
                let words = words().collect::<Vec<_>>().join(" ");
                if !words.is_empty() {
                    let _ = writeln!(text, "{key}={words}");
                }
            }
            "PartOf" => {
                let _ = writeln!(text, "PartOf={}", style.target);
            }
            // Quadlet adds the source's path and those of the volumes.
            "SourcePath" | "RequiresMountsFor" => {}
            _ => {
                let _ = writeln!(text, "{key}={value}");
            }
        }
    }
    let _ = writeln!(
        text,
        "RequiresMountsFor=/var/lib/containers\n\n[Container]\nImage={}",
        run.image
    );
    let _ = writeln!(
        text,
        "ContainerName={}{name}\nGlobalArgs=--events-backend=none",
        style.prefix
    );
    for option in &run.options {
        text.push_str(&line(option)?);
    }
    if !run.command.is_empty() {
        let _ = writeln!(text, "Exec={}", run.command.join(" "));
    }
    text.push_str(&(style.more)(name));
    text.push_str("\n[Service]\n");
    for (key, value) in unit.section("Service").filter(|(key, _)| SERVICE.contains(key)) {
        let _ = writeln!(text, "{key}={value}");
    }
    let _ = write!(
        text,
        "\n[Install]\nWantedBy={}\n\n[Quadlet]\nDefaultDependencies=false\n",
        style.target
    );
    Ok(text)
}

fn line(option: &str) -> Result<String> {
    let Some((name, value)) = option.split_once('=') else {
        return Ok(match option {
            "init" => "RunInit=true\n".to_owned(),
            "read-only" => "ReadOnly=true\n".to_owned(),
            _ => format!("PodmanArgs=--{option}\n"),
        });
    };
    Ok(match name {
        "user" => {
            let (user, group) = value.split_once(':').context("--user without a group")?;
            format!("User={user}\nGroup={group}\n")
        }
        "security-opt" if value == "no-new-privileges" => "NoNewPrivileges=true\n".to_owned(),
        _ => match KEYS.iter().find(|(option, _)| *option == name) {
            Some((_, key)) => format!("{key}={value}\n"),
            None => format!("PodmanArgs=--{option}\n"),
        },
    })
}

/// Our service units in a generator's directory, by name of the service.
pub fn services(directory: &Path) -> Result<Vec<(String, UnitText)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).with_context(|| format!("read {}", directory.display()))? {
        let file = entry
            .context("read a directory")?
            .file_name()
            .to_string_lossy()
            .into_owned();
        let name = file
            .strip_prefix("dagger-")
            .and_then(|rest| rest.strip_suffix(".service"));
        if let Some(name) = name.filter(|name| !name.contains('@')) {
            let text =
                std::fs::read_to_string(directory.join(&file)).with_context(|| format!("read {file}"))?;
            found.push((name.to_owned(), UnitText::parse(&text)?));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

/// Checks that Quadlet's unit runs the same container, after and with the same services, wanted by the same target.
/// Returns how many options of podman both have.
pub fn same(name: &str, ours: &UnitText, directory: &Path) -> Result<usize> {
    let file = format!("dagger-{name}.service");
    let text =
        std::fs::read_to_string(directory.join(&file)).with_context(|| format!("Quadlet made no {file}"))?;
    let theirs = UnitText::parse(&text)?;
    let (a, b) = (
        Run::of(ours)?.without(&["cidfile"]),
        Run::of(&theirs)?.without(&["cidfile"]),
    );
    ensure!(
        a == b,
        "{name}: not the same container:\nours   {a:?}\nQuadlet {b:?}"
    );
    for key in ["After", "Wants", "PartOf"] {
        let set = |unit: &UnitText| -> BTreeSet<String> {
            let words = unit
                .words("Unit", key)
                .filter(|word| !word.starts_with("dagger-pull@"));
            words.map(str::to_owned).collect()
        };
        ensure!(
            set(ours) == set(&theirs),
            "{name}: {key}= is {:?}, Quadlet's {:?}",
            set(ours),
            set(&theirs)
        );
    }
    let mounts = |unit: &UnitText| -> BTreeSet<String> {
        let ours_alone = |path: &&str| {
            *path != "/run/containers" && *path != "%t/containers" && *path != "/var/lib/dagger/owner"
        };
        unit.words("Unit", "RequiresMountsFor")
            .filter(ours_alone)
            .map(str::to_owned)
            .collect()
    };
    ensure!(
        mounts(ours) == mounts(&theirs),
        "{name}: mounts {:?}, Quadlet's {:?}",
        mounts(ours),
        mounts(&theirs)
    );
    let link = directory.join("dagger.target.wants").join(&file);
    ensure!(link.is_symlink(), "{name}: Quadlet made no link to its target");
    Ok(a.options.len())
}
