//! What must change in an application's own settings for its container to work. Mostly nothing: places and ports stay what
//! they were, and what the unit told natively the container's own command line and environment tell.

use dagger_suite::model::{Network, Service};
use serde::{Deserialize, Serialize};

use super::facts::{Facts, Format, Setting};
use super::finding::{Code, Finding};
use super::native::{Family, family};
use super::sight::{Sight, sight};

/// One value that is to change. Its undo is the value before, byte by byte; the adapter that applies it keeps that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adjustment {
    /// The file, links resolved.
    pub file: String,
    /// How it is written.
    pub format: Format,
    /// The keys that lead to the value.
    pub key: Vec<String>,
    /// What it says now; none: the key is not there.
    pub before: Option<String>,
    /// What it shall say.
    pub after: String,
    /// Why, as a clause.
    pub why: String,
}

impl Adjustment {
    fn of(setting: &Setting, after: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            file: setting.file.clone(),
            format: setting.format,
            key: setting.key.clone(),
            before: setting.value.clone(),
            after: after.into(),
            why: why.into(),
        }
    }

    /// `config.yaml: general.port`.
    pub fn name(&self) -> String {
        let file = self.file.rsplit('/').next().unwrap_or(&self.file);
        format!("{file}: {}", self.key.join("."))
    }
}

/// Keys that hold an address to listen on, and what stands for all addresses there.
const ADDRESSES: [(&str, &str); 3] = [("BindAddress", "*"), ("rpc-bind-address", "0.0.0.0"), ("ip", "*")];
/// Keys that hold the port, where no argument and no variable carries it.
const PORTS: [&str; 3] = ["Port", "port", "InternalHttpPort"];
/// Keys that hold a path of the application's own state.
const PATHS: [&str; 4] = ["folder", "CachePath", "MetadataPath", "TranscodingTempPath"];

/// Everything that must change, and what about an address only the configuration can say.
pub fn adjustments(service: &Service, facts: &Facts) -> (Vec<Adjustment>, Vec<Finding>) {
    let mut changes = Vec::new();
    let mut findings = Vec::new();
    for setting in &facts.settings {
        let key = setting.key.last().map_or("", String::as_str);
        if let Some((_, all)) = ADDRESSES.iter().find(|(name, _)| *name == key) {
            match address(service, setting, all) {
                Address::Fits => {}
                Address::Change(change) => changes.push(change),
                Address::Ask(finding) => findings.push(finding),
            }
        } else if PORTS.contains(&key) {
            changes.extend(port(service, setting));
        } else if PATHS.contains(&key) {
            changes.extend(path(service, facts, setting));
        }
    }
    (changes, findings)
}

enum Address {
    Fits,
    Change(Adjustment),
    Ask(Finding),
}

/// Whether the application is heard where its health is asked for.
fn address(service: &Service, setting: &Setting, all: &str) -> Address {
    let Some(value) = setting.value.as_deref().map(str::trim) else {
        return Address::Fits;
    };
    if matches!(value, "" | "*" | "0.0.0.0" | "::" | "[::]") {
        return Address::Fits;
    }
    let asked = service.probe.host.as_str();
    let loopback = |text: &str| text.starts_with("127.") || matches!(text, "localhost" | "::1");
    match &service.network {
        Network::Bridge => Address::Change(Adjustment::of(
            setting,
            all,
            format!("{value} is not an address of the container, which has a network of its own"),
        )),
        _ if value == asked || (loopback(value) && loopback(asked)) => Address::Fits,
        Network::Namespace(path) => Address::Change(Adjustment::of(
            setting,
            all,
            format!("its health is asked for at {asked} in {path}, and it listens on {value} only"),
        )),
        Network::Host if value.starts_with("unix:") => Address::Change(Adjustment::of(
            setting,
            "127.0.0.1",
            format!("its health is asked for at {asked}, and it listens on a socket file only"),
        )),
        Network::Host => Address::Ask(Finding::new(
            Code::UnaskedAddress,
            setting.name(),
            format!(
                "{} listens on {value} only, and its health would be asked for at {asked}",
                service.name
            ),
            format!(
                "write `health = {{ host = \"{value}\" }}` into [services.{}]",
                service.name
            ),
        )),
    }
}

/// The port, where only the file carries it.
fn port(service: &Service, setting: &Setting) -> Option<Adjustment> {
    let wanted = service.ports.first()?.inside;
    if is_told(service) {
        return None;
    }
    let value = setting.value.as_deref()?.trim();
    (value.parse() != Ok(wanted)).then(|| {
        Adjustment::of(
            setting,
            wanted.to_string(),
            format!("the configuration has it listen on {wanted}, and only this file tells it so"),
        )
    })
}

/// Whether the container's environment or command line carries the port.
fn is_told(service: &Service) -> bool {
    match family(&service.kind) {
        Family::Servarr(_) => service
            .environment
            .iter()
            .any(|(name, _)| name.to_ascii_uppercase().ends_with("__SERVER__PORT")),
        Family::Transmission => service.command.iter().any(|word| word.starts_with("--port=")),
        Family::Bazarr => service.command.iter().any(|word| word.starts_with("--port")),
        Family::Jellyfin | Family::Other => false,
    }
}

/// A path of its own state that has another name inside. One that is not state is a stored path, and judged as such.
fn path(service: &Service, facts: &Facts, setting: &Setting) -> Option<Adjustment> {
    let value = setting.value.as_deref()?;
    let state = facts
        .places
        .iter()
        .any(|place| super::sight::below(value, &place.path).is_some());
    if !state {
        return None;
    }
    match sight(service, value) {
        Sight::Moved(inside) => Some(Adjustment::of(
            setting,
            inside.clone(),
            format!("{value} is {inside} inside"),
        )),
        Sight::Same | Sight::Hidden => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::plan::facts::Place;
    use crate::domain::plan::tests::{bazarr, jellyfin, sonarr, transmission};

    fn facts(file: &str, format: Format, key: &str, value: &str) -> Facts {
        Facts {
            settings: vec![Setting {
                file: file.into(),
                format,
                key: key.split('.').map(str::to_owned).collect(),
                value: Some(value.into()),
            }],
            ..Facts::default()
        }
    }

    fn changed(service: &Service, facts: &Facts) -> Vec<String> {
        let (changes, findings) = adjustments(service, facts);
        let changes = changes.iter().map(|it| format!("{} -> {}", it.name(), it.after));
        changes
            .chain(findings.iter().map(|finding| format!("! {finding}")))
            .collect()
    }

    #[test]
    fn what_works_stays() {
        let xml = |key, value| facts("/s/config.xml", Format::Xml, key, value);
        for (key, value) in [
            ("BindAddress", "*"),
            ("BindAddress", "127.0.0.1"),
            ("BindAddress", "localhost"),
            ("Port", "9999"),
        ] {
            // The container's environment carries the port.
            assert!(changed(&sonarr(), &xml(key, value)).is_empty(), "{key} {value}");
        }
        let json = facts("/s/settings.json", Format::Json, "rpc-bind-address", "0.0.0.0");
        assert!(changed(&transmission(), &json).is_empty());
    }

    #[test]
    fn an_address_of_a_vpn_namespace_becomes_all_of_its_addresses() {
        let confined = facts(
            "/s/settings.json",
            Format::Json,
            "rpc-bind-address",
            "192.168.15.1",
        );
        let mut service = transmission();
        service.network = Network::Namespace("/run/netns/wg".into());
        assert_eq!(
            changed(&service, &confined),
            ["settings.json: rpc-bind-address -> 0.0.0.0"]
        );
        // Asked there, it needs no change.
        service.probe.host = "192.168.15.1".into();
        assert!(changed(&service, &confined).is_empty());
        service.network = Network::Bridge;
        assert_eq!(changed(&service, &confined).len(), 1);
    }

    #[test]
    fn an_address_of_the_host_is_not_widened() {
        let lan = facts("/s/config.xml", Format::Xml, "BindAddress", "192.168.1.5");
        assert_eq!(
            changed(&sonarr(), &lan),
            [
                "! sonarr listens on 192.168.1.5 only, and its health would be asked for at 127.0.0.1: write `health = { host = \"192.168.1.5\" }` into [services.sonarr]"
            ]
        );
        let socket = facts(
            "/s/settings.json",
            Format::Json,
            "rpc-bind-address",
            "unix:/run/t",
        );
        assert_eq!(
            changed(&transmission(), &socket),
            ["settings.json: rpc-bind-address -> 127.0.0.1"]
        );
    }

    #[test]
    fn a_port_changes_where_only_the_file_carries_it() {
        let other = facts("/s/config.yaml", Format::Yaml, "general.port", "6768");
        assert_eq!(changed(&bazarr(), &other), ["config.yaml: general.port -> 6767"]);
        let same = facts("/s/config.yaml", Format::Yaml, "general.port", "6767");
        assert!(changed(&bazarr(), &same).is_empty());
        let http = facts("/s/network.xml", Format::Xml, "InternalHttpPort", "8097");
        assert_eq!(
            changed(&jellyfin(), &http),
            ["network.xml: InternalHttpPort -> 8096"]
        );
    }

    /// Two images, two layouts: what is called otherwise inside is written so, and what keeps its name is left alone.
    #[test]
    fn jellyfin_3717_paths_of_the_state_follow_the_layout_of_the_image() {
        let native = "/var/lib/nixarr/bazarr";
        let mut backup = facts(
            "/var/lib/nixarr/bazarr/config/config.yaml",
            Format::Yaml,
            "backup.folder",
            "/var/lib/nixarr/bazarr/backup",
        );
        backup.places.push(Place {
            role: "config".into(),
            path: native.into(),
            ..Place::default()
        });
        assert_eq!(
            changed(&bazarr(), &backup),
            ["config.yaml: backup.folder -> /config/backup"]
        );
        let mut metadata = facts(
            "/x/system.xml",
            Format::Xml,
            "MetadataPath",
            "/var/lib/nixarr/jellyfin/data/metadata",
        );
        metadata.places.push(Place {
            role: "data".into(),
            path: "/var/lib/nixarr/jellyfin/data".into(),
            ..Place::default()
        });
        assert!(changed(&jellyfin(), &metadata).is_empty());
    }
}
