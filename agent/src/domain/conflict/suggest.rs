//! A way out of a conflict over a port: another port, and everything that has to change with it.

use std::ops::RangeInclusive;

use dagger_suite::model::{Claim, Network, Protocol, Service};
use serde::Serialize;

use super::Port;
use crate::domain::ports::suggest::free_port;

/// What to write where. Field names are those of the JSON form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Suggestion {
    /// The service that moves.
    pub service: String,
    /// What the port is for: `web`, `peer`.
    pub what: String,
    /// The port that it has now.
    pub from: u16,
    /// A port that is free, as far as that could be seen.
    pub to: u16,
    /// The network namespace of both; none: the host's.
    pub namespace: Option<String>,
    /// Why nobody knows whether it is free there.
    pub unseen: Option<String>,
    /// The file in which the service stands.
    pub file: String,
    /// The table in that file.
    pub table: String,
    /// The line in that table.
    pub line: String,
    /// What to run afterwards, in this order.
    pub run: Vec<String>,
    /// What else has to change, and cannot be changed from here.
    pub also: Vec<Also>,
}

/// A setting that knows the port, too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Also {
    /// In whose settings; `router` stands for what forwards a port from outside.
    pub service: String,
    /// Where in them, and the new value.
    pub setting: String,
}

/// A port for one claim of a service that is `free` for all its transports and lies outside of the range that the kernel
/// takes ports of outgoing connections from. The same question has the same answer while the same ports are free.
pub fn suggest(
    suite: &[Service],
    service: &Service,
    claim: &Claim,
    ephemeral: &RangeInclusive<u16>,
    free: impl Fn(Port) -> bool,
) -> Option<Suggestion> {
    // Peers use one number for both transports.
    let protocols: Vec<Protocol> = service
        .ports
        .iter()
        .filter(|other| other.name == claim.name && other.port == claim.port)
        .map(|other| other.protocol)
        .collect();
    let claimed = |port: u16| {
        suite
            .iter()
            .flat_map(|service| &service.ports)
            .any(|claim| claim.port == port)
    };
    let fits = |number: u16| {
        !claimed(number)
            && protocols.iter().all(|protocol| {
                free(Port {
                    protocol: *protocol,
                    number,
                })
            })
    };
    let to = free_port(claim.port, |number| !fits(number), ephemeral)?;
    let line = match claim.name.as_str() {
        "web" => format!("port = {to}"),
        "peer" => format!("peer-port = {to}"),
        name => format!(
            "ports = [{{ name = \"{name}\", port = {to}, protocol = \"{}\" }}]",
            claim.protocol.word()
        ),
    };
    Some(Suggestion {
        service: service.name.to_string(),
        what: claim.name.clone(),
        from: claim.port,
        to,
        namespace: match &service.network {
            Network::Host | Network::Bridge => None,
            Network::Namespace(path) => Some(path.clone()),
        },
        unseen: None,
        file: service.source.clone(),
        table: format!("[services.{}]", service.name),
        line,
        run: vec![
            "daggerctl config check".into(),
            "systemctl daemon-reload".into(),
            format!("systemctl restart {}", service.name.unit()),
        ],
        also: also(suite, service, &claim.name, to),
    })
}

/// Settings elsewhere that hold the port of a service.
fn also(suite: &[Service], service: &Service, what: &str, to: u16) -> Vec<Also> {
    if what == "peer" {
        return vec![Also {
            service: "router".into(),
            setting: format!(
                "forward port {to} (TCP and UDP), where a port was forwarded to {}",
                service.name
            ),
        }];
    }
    if what != "web" {
        return Vec::new();
    }
    let (name, kind) = (service.name.as_str(), service.kind.as_str());
    let linked = |other: &&Service| {
        other.name != service.name
            && (other.wants.contains(&service.name) || service.wants.contains(&other.name))
    };
    let mut all: Vec<Also> = suite
        .iter()
        .filter(linked)
        .filter_map(|other| {
            let url = address(service, other, to);
            let setting = setting(kind, &other.kind, &service.title, to, &url).or_else(|| {
                // What wants it knows it somehow.
                let wants = other.wants.contains(&service.name);
                wants.then(|| format!("the address of {name}: {url}"))
            })?;
            Some(Also {
                service: other.name.to_string(),
                setting,
            })
        })
        .collect();
    all.sort_by(|a, b| a.service.cmp(&b.service));
    all
}

/// Applications that Prowlarr hands its indexers to.
const MANAGERS: [&str; 5] = ["sonarr", "radarr", "lidarr", "readarr", "whisparr"];
/// Applications that download for them.
const DOWNLOADERS: [&str; 3] = ["transmission", "qbittorrent", "sabnzbd"];

/// Where `other` reaches a service that moves: across networks only whoever has joined them knows the host.
fn address(service: &Service, other: &Service, to: u16) -> String {
    let local = match (&service.network, &other.network) {
        (Network::Host | Network::Bridge, Network::Host) => true,
        (Network::Namespace(here), Network::Namespace(there)) => here == there,
        (Network::Host | Network::Bridge | Network::Namespace(_), _) => false,
    };
    if local {
        format!("http://localhost:{to}")
    } else {
        format!("the address that stands there, with port {to}")
    }
}

/// Where one kind of application keeps the port of another; none: it does not.
fn setting(moved: &str, other: &str, title: &str, to: u16, url: &str) -> Option<String> {
    let manages = |kind| MANAGERS.contains(&kind);
    Some(match (moved, other) {
        (moved, "prowlarr") if manages(moved) => {
            format!("Settings, Apps, {title}: {title} Server = {url}")
        }
        // Prowlarr then writes its new address into their indexers itself.
        ("prowlarr", other) if manages(other) => {
            format!(
                "in Prowlarr: Settings, Apps, the entry of {other}: Prowlarr Server = {url}, then Sync App Indexers"
            )
        }
        (moved, other) if DOWNLOADERS.contains(&moved) && (manages(other) || other == "prowlarr") => {
            format!("Settings, Download Clients, {title}: Port = {to}")
        }
        ("sonarr" | "radarr", "bazarr") => format!("Settings, {title}: Port = {to}"),
        ("sonarr" | "radarr", "jellyseerr") => format!("Settings, Services, {title}: Port = {to}"),
        ("jellyfin", "jellyseerr") => format!("Settings, Jellyfin: Port = {to}"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    use dagger_suite::names::Root;

    /// The ports that Linux takes by default (ip(7), ip_local_port_range).
    const EPHEMERAL: RangeInclusive<u16> = 32768..=60999;

    /// Services of the catalogue, as a configuration of them is read.
    fn suite(text: &str) -> Vec<Service> {
        let dir = std::env::temp_dir().join(format!(
            "dagger-suggest-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        std::fs::create_dir_all(dir.join("etc/dagger")).unwrap();
        std::fs::write(dir.join("etc/dagger/dagger.toml"), text).unwrap();
        let loaded = dagger_suite::load(&Root::new(&dir));
        std::fs::remove_dir_all(&dir).unwrap();
        loaded.suite.services
    }

    fn of(suite: &[Service], name: &str, what: &str, busy: &[u16]) -> Suggestion {
        let busy: BTreeSet<u16> = busy.iter().copied().collect();
        let service = suite
            .iter()
            .find(|service| service.name.as_str() == name)
            .unwrap();
        let claim = service.ports.iter().find(|claim| claim.name == what).unwrap();
        suggest(suite, service, claim, &EPHEMERAL, |port| {
            !busy.contains(&port.number)
        })
        .unwrap()
    }

    const SIX: &str = "[suite]\nmedia = \"/fun\"\n[services.sonarr]\n[services.radarr]\n[services.prowlarr]\n\
        [services.bazarr]\n[services.jellyfin]\n[services.transmission]\npeer-port = 46634\n";

    #[test]
    fn the_port_is_free_and_the_same_each_time() {
        let suite = suite(SIX);
        let first = of(&suite, "sonarr", "web", &[]);
        assert_eq!((first.to, first.line.as_str()), (8990, "port = 8990"));
        assert_eq!(of(&suite, "sonarr", "web", &[]), first);
        assert_eq!(of(&suite, "sonarr", "web", &[8990]).to, 8991);
        assert_eq!(of(&suite, "transmission", "web", &[]).to, 9092);
        // Everything from 46635 up to 60999 is the kernel's to give away.
        let peer = of(&suite, "transmission", "peer", &[]);
        assert_eq!((peer.to, peer.line.as_str()), (61000, "peer-port = 61000"));
        assert_eq!(peer.also[0].service, "router");
    }

    #[test]
    fn a_port_of_peers_is_free_for_both_transports() {
        let suite = suite(SIX);
        let service = suite
            .iter()
            .find(|service| service.name.as_str() == "transmission")
            .unwrap();
        let claim = service.ports.iter().find(|claim| claim.name == "peer").unwrap();
        let udp = |port: Port| port.protocol == Protocol::Tcp || port.number != 61000;
        assert_eq!(
            suggest(&suite, service, claim, &EPHEMERAL, udp).unwrap().to,
            61001
        );
        assert_eq!(suggest(&suite, service, claim, &EPHEMERAL, |_| false), None);
    }

    #[test]
    fn a_service_of_another_network_is_reached_by_an_address_that_only_its_maker_knows() {
        let wg = |name: &str| format!("[services.{name}]\nnetwork = \"ns:/run/netns/wg\"\n");
        let text = |services: &str| format!("[suite]\nmedia = \"/fun\"\n{services}");
        let server = |services: &str| {
            let moved = of(&suite(&text(services)), "sonarr", "web", &[]);
            (moved.namespace.clone(), moved.also[0].setting.clone())
        };
        let (namespace, setting) = server(&(wg("sonarr") + "[services.prowlarr]\n"));
        assert_eq!(namespace.as_deref(), Some("/run/netns/wg"));
        assert_eq!(
            setting,
            "Settings, Apps, Sonarr: Sonarr Server = the address that stands there, with port 8990"
        );
        let (_, setting) = server(&(wg("sonarr") + &wg("prowlarr")));
        assert!(setting.ends_with("http://localhost:8990"), "{setting}");
        let (namespace, setting) = server(&("[services.sonarr]\n".to_owned() + &wg("prowlarr")));
        assert_eq!(namespace, None);
        assert!(setting.ends_with("with port 8990"), "{setting}");
    }

    #[test]
    fn the_lines_and_the_settings_of_those_who_use_it_are_named() {
        let suite = suite(SIX);
        let sonarr = of(&suite, "sonarr", "web", &[]);
        assert!(
            sonarr.file.ends_with("/etc/dagger/dagger.toml"),
            "{}",
            sonarr.file
        );
        assert_eq!(sonarr.table, "[services.sonarr]");
        assert_eq!(sonarr.run[2], "systemctl restart dagger-sonarr.service");
        let also: Vec<_> = sonarr
            .also
            .iter()
            .map(|also| (also.service.as_str(), also.setting.as_str()))
            .collect();
        assert_eq!(
            also,
            [
                ("bazarr", "Settings, Sonarr: Port = 8990"),
                (
                    "prowlarr",
                    "Settings, Apps, Sonarr: Sonarr Server = http://localhost:8990"
                ),
            ]
        );
        let transmission = of(&suite, "transmission", "web", &[]);
        let named: Vec<_> = transmission
            .also
            .iter()
            .map(|also| also.service.as_str())
            .collect();
        assert_eq!(named, ["radarr", "sonarr"]);
        assert_eq!(
            transmission.also[0].setting,
            "Settings, Download Clients, Transmission: Port = 9092"
        );
        let prowlarr = of(&suite, "prowlarr", "web", &[]);
        assert!(
            prowlarr.also[1]
                .setting
                .starts_with("in Prowlarr: Settings, Apps, the entry of sonarr")
        );
    }
}
