//! Where a service listens and how it is asked: network, ports, probe, address.

use std::time::Duration;

use super::Context;
use crate::check::Checker;
use crate::layers::{Layers, item};
use crate::model::{Claim, Network, Protocol};
use crate::probe::{Kind, Probe};
use crate::value;

pub(super) fn network(context: &Context<'_>, layers: Layers<'_>) -> Network {
    match layers.text("network") {
        Some("bridge") => Network::Bridge,
        Some("private") => Network::Namespace(context.name.netns()),
        Some(text) => text
            .strip_prefix("ns:")
            .map_or(Network::Host, |path| Network::Namespace(value::normal_path(path))),
        None => Network::Host,
    }
}

/// The way in from this machine to what listens in a namespace.
pub(super) fn front(
    layers: Layers<'_>,
    network: &Network,
    main: Option<&Claim>,
    checker: &mut Checker<'_>,
) -> Option<u16> {
    let (port, at) = (layers.number::<u16>("front-port")?, layers.at("front-port")?);
    match (network, main) {
        (Network::Namespace(_), Some(_)) => return Some(port),
        (_, None) => checker.error(
            at,
            "front-port needs a main port that it leads to",
            Some("write `port` too".into()),
        ),
        (Network::Host | Network::Bridge, _) => checker.error(
            at,
            "front-port is for services in a namespace: this one listens on the host itself",
            Some("write `port`".into()),
        ),
    }
    None
}

/// All ports, the main one first. Ports inside differ from those outside only on a bridge.
pub(super) fn ports(
    context: &Context<'_>,
    layers: Layers<'_>,
    network: &Network,
    checker: &mut Checker<'_>,
) -> Vec<Claim> {
    let default = |key| layers.catalog().number::<u16>(key);
    let bridge = *network == Network::Bridge;
    // On a bridge the application keeps its own port and the host's is mapped to it.
    let inside = |key, port| {
        if bridge {
            default(key).unwrap_or(port)
        } else {
            port
        }
    };
    let mut ports = Vec::new();
    if let Some(port) = layers.number::<u16>("port") {
        let claim = Claim {
            name: "web".into(),
            protocol: Protocol::Tcp,
            port,
            inside: inside("port", port),
        };
        ports.push(claim);
        fixed_port(context, layers, port, bridge, checker);
    }
    // Without a word from the user the application's own settings say which port peers use, as they did natively.
    let said = layers.user.is_some_and(|user| user.get("peer-port").is_some());
    if let Some(port) = layers.number::<u16>("peer-port").filter(|_| said || bridge) {
        // Peers are told the port by the application itself, so it is the same on both sides.
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            ports.push(Claim {
                name: "peer".into(),
                protocol,
                port,
                inside: port,
            });
        }
    }
    for node in layers.list("ports").unwrap_or_default() {
        let entry = item(node);
        let Some(port) = entry.number::<u16>("port") else {
            checker.error(
                node.at,
                "this port has no number",
                Some("write { name = \"...\", port = ... }".into()),
            );
            continue;
        };
        let wanted = entry.number::<u16>("container-port");
        if let (Some(other), Some(at)) = (
            wanted.filter(|other| *other != port && !bridge),
            entry.at("container-port"),
        ) {
            let help = "set network = \"bridge\", or change the port in the application's settings";
            checker.error(
                at,
                format!("port {other} cannot become {port} without a bridge"),
                Some(help.into()),
            );
        }
        ports.push(Claim {
            name: entry.owned("name").unwrap_or_else(|| port.to_string()),
            protocol: if entry.text("protocol") == Some("udp") {
                Protocol::Udp
            } else {
                Protocol::Tcp
            },
            port,
            inside: wanted.unwrap_or(port),
        });
    }
    for (index, claim) in ports.iter().enumerate() {
        let same = |other: &&Claim| (other.protocol, other.port) == (claim.protocol, claim.port);
        if let Some(other) = ports.iter().take(index).find(same) {
            let at = layers.at("ports").unwrap_or(context.at);
            let problem = format!(
                "port {}/{} stands twice, as {} and {}",
                claim.port,
                claim.protocol.word(),
                other.name,
                claim.name
            );
            checker.error(at, problem, Some("give them different ports".into()));
        }
    }
    ports
}

/// Says so when only the application's own settings can carry a port that differs from its own default.
pub(super) fn fixed_port(
    context: &Context<'_>,
    layers: Layers<'_>,
    port: u16,
    bridge: bool,
    checker: &mut Checker<'_>,
) {
    let by = layers.below("port-by");
    if let (Some(true), false, Some(own), Some(at)) = (
        by.boolean("fixed"),
        bridge,
        layers.catalog().number::<u16>("port"),
        layers.at("port"),
    ) && own != port
    {
        let problem = format!(
            "{} always listens on {own}: {port} would never answer",
            context.name
        );
        let help = "use network = \"bridge\", or leave `port` out";
        checker.error(at, problem, Some(help.into()));
    }
    let file = by.text("file");
    let default = layers.catalog().number::<u16>("port");
    if let (Some(file), false, Some(default), Some(at)) = (file, bridge, default, layers.at("port"))
        && default != port
    {
        let help = format!("set the port in {file}, or use network = \"bridge\"");
        let problem = format!(
            "{} takes its port from its own settings: {port} must stand there too",
            context.name
        );
        checker.warning(at, problem, Some(help));
    }
}

/// Name servers inside. podman gives a container in a named namespace those of the host when nothing else is said, and
/// these are asked outside of the VPN (podman #26962).
pub(super) fn dns(
    context: &Context<'_>,
    layers: Layers<'_>,
    network: &Network,
    checker: &mut Checker<'_>,
) -> Vec<String> {
    let dns = layers.texts("dns");
    // Where there is no way out nobody is asked.
    let alone = *network == Network::Namespace(context.name.netns());
    if let Network::Namespace(path) = network
        && dns.is_empty()
        && !alone
        && !context.installed.resolver(path)
    {
        let name = path.rsplit_once('/').map_or(path.as_str(), |(_, name)| name);
        let problem = format!(
            "{} asks the host's name servers, outside of its namespace",
            context.name
        );
        let help = format!(
            "write dns = [\"ADDRESS\"], or the VPN's name servers into /etc/netns/{name}/resolv.conf"
        );
        checker.warning(layers.at("network").unwrap_or(context.at), problem, Some(help));
    }
    dns
}

pub(super) fn probe(
    context: &Context<'_>,
    layers: Layers<'_>,
    network: &Network,
    main: Option<&Claim>,
) -> Probe {
    let health = layers.below("health");
    let port = health
        .number("port")
        .or(main.map(|claim| claim.port))
        .unwrap_or(0);
    let command = health.texts("command");
    let kind = health.text("kind").and_then(Kind::from_word);
    let kind = kind.unwrap_or(match (health.node("path").is_some(), command.is_empty(), port) {
        (_, false, _) | (false, true, 0) => Kind::Exec,
        (true, ..) => Kind::Http,
        _ => Kind::Tcp,
    });
    let base = layers
        .text("url-base")
        .map(|base| base.trim_end_matches('/'))
        .unwrap_or_default();
    let path = health.text("path").unwrap_or("/");
    // Jellyfin's setup server knows no base and the real one redirects to it; Transmission's rpc-url is its own.
    let path = match kind {
        Kind::Servarr | Kind::Bazarr => format!("{base}{path}"),
        _ => path.to_owned(),
    };
    Probe {
        kind,
        host: health.owned("host").unwrap_or_else(|| "127.0.0.1".into()),
        port,
        path,
        expect: health.number("expect").unwrap_or(200),
        body: health.owned("body"),
        timeout: health.duration("timeout").unwrap_or(Duration::from_secs(5)),
        netns: match network {
            Network::Namespace(path) => Some(path.clone()),
            Network::Host | Network::Bridge => None,
        },
        container: context.name.container(),
        command,
    }
}

pub(super) fn url(
    layers: Layers<'_>,
    network: &Network,
    front: Option<u16>,
    main: Option<&Claim>,
    probe: &Probe,
) -> Option<String> {
    let claim = main?;
    let base = layers.text("url-base").unwrap_or("/");
    if let Some(port) = front.filter(|_| probe.kind != Kind::Tcp) {
        return Some(format!("http://127.0.0.1:{port}{base}"));
    }
    if matches!(network, Network::Namespace(_)) || probe.kind == Kind::Tcp {
        return None;
    }
    let host = match layers.below("health").text("host") {
        Some(address) if address.contains(':') => format!("[{address}]"),
        Some(address) => address.to_owned(),
        None => "localhost".to_owned(),
    };
    Some(format!("http://{host}:{}{base}", claim.port))
}
