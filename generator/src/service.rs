//! One service, resolved: the user's table on top of the catalogue's, every default filled in.

use std::time::Duration;

use crate::catalog;
use crate::check::Checker;
use crate::diagnostic::{Severity, Span, nearest};
use crate::layers::{Layers, item, number, text};
use crate::model::{
    Claim, Device, Identity, IdentityStyle, Mount, NativeUnit, Network, Protocol, Pull, Service,
};
use crate::names::ServiceName;
use crate::node::Table;
use crate::probe::{Kind, Probe};
use crate::value;

/// `[suite]`, resolved.
pub struct Defaults {
    /// The media tree.
    pub media: Option<String>,
    /// Where services keep their state, each in a directory of its name.
    pub state: String,
    /// Owner of new state.
    pub uid: u32,
    /// Group of new state.
    pub gid: u32,
    /// Time zone inside.
    pub timezone: String,
    /// Umask of the applications.
    pub umask: String,
}

impl Defaults {
    /// Reads the table, which has been checked before.
    pub fn new(suite: Option<&Table>) -> Self {
        let suite = Layers {
            user: suite,
            ..Layers::default()
        };
        Self {
            media: suite.text("media").map(value::normal_path),
            state: suite
                .text("state")
                .map_or_else(|| "/var/lib/nixarr".into(), value::normal_path),
            uid: suite.number("user").unwrap_or(568),
            gid: suite.number("group").unwrap_or(568),
            timezone: suite.owned("timezone").unwrap_or_else(|| "local".into()),
            umask: suite
                .text("umask")
                .and_then(|text| value::umask(text).ok())
                .unwrap_or_else(|| "0002".into()),
        }
    }
}

/// What a service is resolved with.
pub struct Context<'a> {
    /// `[suite]`.
    pub defaults: &'a Defaults,
    /// The service's name.
    pub name: ServiceName,
    /// The catalogue entry, or the name itself.
    pub kind: &'a str,
    /// Place of the service's name, for mistakes that have no better one.
    pub at: Span,
    /// File in which it stands.
    pub source: String,
    /// Whether a native unit is installed.
    pub present: &'a dyn Fn(&str) -> bool,
}

/// Chooses the layout: the one that the user names, else the one that fits the user's image, else the entry's own,
/// which keeps paths true where native data is adopted.
pub fn layout<'a>(layers: Layers<'a>, checker: &mut Checker<'_>) -> Option<&'a Table> {
    let layouts = layers.base?.table("layouts")?;
    let of_image = layers
        .user
        .and_then(|user| user.get("image"))
        .and_then(text)
        .filter(|image| catalog::is_linuxserver(image))
        .filter(|_| layouts.get("linuxserver").is_some())
        .map(|_| "linuxserver");
    let named = layers.user.and_then(|user| user.get("layout"));
    let name = named
        .and_then(text)
        .or(of_image)
        .or_else(|| layers.text("layout"))?;
    if let (None, Some(at)) = (layouts.table(name), layers.at("layout")) {
        let known = || layouts.iter().map(|(name, _)| name);
        let help = nearest(name, known()).map_or_else(
            || known().collect::<Vec<_>>().join(", "),
            |near| format!("did you mean {near:?}?"),
        );
        checker.error(at, format!("there is no layout {name:?}"), Some(help));
    }
    layouts.table(name)
}

/// Resolves one service. Mistakes that only show here (something is missing, values do not fit each other) go to the
/// checker; then there is no service.
pub fn resolve(context: Context<'_>, layers: Layers<'_>, checker: &mut Checker<'_>) -> Option<Service> {
    let before = checker.diagnostics.len();
    let network = network(layers);
    let ports = ports(&context, layers, &network, checker);
    let state = state(&context, layers, checker);
    let mounts = mounts(&context, layers, checker);
    let main = ports.first().cloned();
    let probe = probe(&context, layers, &network, main.as_ref());
    let Some(image) = layers.owned("image") else {
        let help = match nearest(context.kind, catalog::names()) {
            Some(near) => format!("did you mean `{near}`? Else say the image: image = \"registry/name:tag\""),
            None => format!(
                "say it: image = \"registry/name:tag\"; the catalogue knows {}",
                names()
            ),
        };
        let problem = format!("`{}` is not in the catalogue and has no image", context.kind);
        checker.error(context.at, problem, Some(help));
        return None;
    };
    let identity = identity(context.defaults, layers, &image);
    let puid = identity.style == IdentityStyle::Puid;
    let umask = layers.text("umask").and_then(|it| value::umask(it).ok());
    let health = layers.below("health");
    let service = Service {
        title: layers
            .owned("description")
            .or_else(|| layers.owned("title"))
            .unwrap_or_else(|| title(&context.name)),
        documentation: layers.texts("documentation").unwrap_or_default(),
        pull: pull(layers),
        url: url(layers, &network, main.as_ref(), &probe),
        interval: health.duration("interval").unwrap_or(Duration::from_secs(15)),
        failures: health.number("failures").unwrap_or(3),
        start_budget: layers.duration("start-budget").unwrap_or(Duration::from_mins(2)),
        environment: environment(&context, layers, &ports, &state, puid),
        environment_files: layers.texts("environment-files").unwrap_or_default(),
        entrypoint: layers.owned("entrypoint"),
        command: command(layers, &ports, &state),
        tmpfs: layers.texts("tmpfs").unwrap_or_default(),
        umask: Some(umask.unwrap_or_else(|| context.defaults.umask.clone())),
        timezone: layers
            .owned("timezone")
            .or_else(|| Some(context.defaults.timezone.clone())),
        devices: devices(layers),
        groups: groups(layers),
        capabilities: capabilities(layers),
        no_new_privileges: layers.boolean("no-new-privileges").unwrap_or(true),
        read_only: layers.boolean("read-only").unwrap_or(false),
        init: layers.boolean("init").unwrap_or(false),
        shm_size: layers.owned("shm-size"),
        seccomp_profile: layers.owned("seccomp-profile"),
        apparmor_profile: layers.owned("apparmor-profile"),
        limits: limits(layers),
        stop_signal: layers
            .text("stop-signal")
            .and_then(|it| value::signal(it).ok())
            .unwrap_or_else(|| "SIGTERM".into()),
        stop_timeout: layers.duration("stop-timeout").unwrap_or(Duration::from_secs(30)),
        native: native(&context, layers),
        wants: wants(layers),
        podman_args: layers.texts("podman-args").unwrap_or_default(),
        kind: context.kind.to_owned(),
        name: context.name,
        source: context.source,
        image,
        identity,
        network,
        ports,
        probe,
        state,
        mounts,
    };
    let clean = checker
        .diagnostics
        .iter()
        .skip(before)
        .all(|it| it.severity == Severity::Warning);
    clean.then_some(service)
}

fn names() -> String {
    catalog::names().collect::<Vec<_>>().join(", ")
}

/// `sonarr-4k` becomes `Sonarr-4k`.
fn title(name: &ServiceName) -> String {
    let mut chars = name.as_str().chars();
    chars
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

fn pull(layers: Layers<'_>) -> Pull {
    let word = layers.text("pull").unwrap_or_default();
    Pull::ALL
        .iter()
        .find(|(name, _)| *name == word)
        .map_or(Pull::Missing, |(_, pull)| *pull)
}

fn network(layers: Layers<'_>) -> Network {
    match layers.text("network") {
        Some("bridge") => Network::Bridge,
        Some(text) => text
            .strip_prefix("ns:")
            .map_or(Network::Host, |path| Network::Namespace(value::normal_path(path))),
        None => Network::Host,
    }
}

fn identity(defaults: &Defaults, layers: Layers<'_>, image: &str) -> Identity {
    let style = match layers.text("identity") {
        Some("puid") => IdentityStyle::Puid,
        Some("user") => IdentityStyle::User,
        Some(_) => IdentityStyle::Image,
        None if catalog::is_linuxserver(image) => IdentityStyle::Puid,
        None => IdentityStyle::Image,
    };
    let (uid, gid) = (layers.number("user"), layers.number("group"));
    // A user that is named means that the application runs as it, whatever the image's own habit is.
    let style = if style == IdentityStyle::Image && uid.is_some() {
        IdentityStyle::User
    } else {
        style
    };
    Identity {
        style,
        uid: uid.unwrap_or(defaults.uid),
        gid: gid.unwrap_or(defaults.gid),
        explicit: uid.is_some() || gid.is_some(),
    }
}

/// All ports, the main one first. Ports inside differ from those outside only on a bridge.
fn ports(
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
fn fixed_port(context: &Context<'_>, layers: Layers<'_>, port: u16, bridge: bool, checker: &mut Checker<'_>) {
    let file = layers.below("port-by").text("file");
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

fn state(context: &Context<'_>, layers: Layers<'_>, checker: &mut Checker<'_>) -> Vec<Mount> {
    let layout = layers.catalog().list("state-layout").unwrap_or_default();
    let user = layers.user.and_then(|user| user.get("state"));
    let own = user.and_then(text).map(value::normal_path);
    let roles = Layers {
        user: layers.user.and_then(|user| user.table("state")),
        ..Layers::default()
    };
    let base = own
        .clone()
        .unwrap_or_else(|| join(&context.defaults.state, context.name.as_str()));
    if let (Some(table), Some(node)) = (roles.user, user) {
        for (role, entry) in table.iter() {
            let known = || layout.iter().filter_map(|node| item(node).text("role"));
            if !known().any(|known| known == role) {
                let help = match nearest(role, known()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("this image has {}", known().collect::<Vec<_>>().join(", ")),
                };
                checker.error(
                    entry.key_at,
                    format!("there is no state directory `{role}`"),
                    Some(help),
                );
            }
        }
        if layout.is_empty() {
            checker.error(
                node.at,
                "this service keeps no state",
                Some("remove the key".into()),
            );
        }
    }
    let mut mounts = Vec::with_capacity(layout.len());
    for node in layout {
        let entry = item(node);
        let role = entry.text("role").unwrap_or("config");
        let source = match (roles.text(role), &own) {
            (Some(path), _) => value::normal_path(path),
            // A single directory is the one that the user names, not one below it.
            (None, Some(own)) if layout.len() == 1 => own.clone(),
            _ => entry
                .text("below")
                .map_or_else(|| base.clone(), |below| join(&base, below)),
        };
        let target = entry.text("target").map_or_else(|| source.clone(), str::to_owned);
        mounts.push(Mount {
            role: role.to_owned(),
            source,
            target,
            read_only: false,
        });
    }
    mounts
}

fn mounts(context: &Context<'_>, layers: Layers<'_>, checker: &mut Checker<'_>) -> Vec<Mount> {
    let mut mounts = Vec::new();
    match (layers.text("media"), &context.defaults.media) {
        (None | Some("none"), _) => {}
        (Some(mode), Some(media)) => mounts.push(Mount {
            role: "media".into(),
            source: media.clone(),
            target: media.clone(),
            read_only: mode == "ro",
        }),
        (Some(_), None) => {
            let at = layers
                .user
                .and_then(|user| user.get("media"))
                .map_or(context.at, |node| node.at);
            let problem = format!(
                "{} works on media, and [suite] does not say where they are",
                context.name
            );
            checker.error(
                at,
                problem,
                Some("write media = \"/path\" in [suite], or media = \"none\" here".into()),
            );
        }
    }
    for (index, node) in layers.list("volumes").unwrap_or_default().iter().enumerate() {
        let entry = item(node);
        let Some(source) = entry.text("source").map(value::normal_path) else {
            checker.error(
                node.at,
                "this volume has no source",
                Some("write { source = \"/path\" }".into()),
            );
            continue;
        };
        let target = entry
            .text("target")
            .map_or_else(|| source.clone(), value::normal_path);
        let read_only = entry.boolean("read-only").unwrap_or(false);
        mounts.push(Mount {
            role: format!("volume-{index}"),
            source,
            target,
            read_only,
        });
    }
    mounts
}

fn join(base: &str, below: &str) -> String {
    value::normal_path(&format!("{base}/{below}"))
}

fn probe(context: &Context<'_>, layers: Layers<'_>, network: &Network, main: Option<&Claim>) -> Probe {
    let health = layers.below("health");
    let port = health
        .number("port")
        .or(main.map(|claim| claim.port))
        .unwrap_or(0);
    let command = health.texts("command").unwrap_or_default();
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
        host: "127.0.0.1".into(),
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

fn url(layers: Layers<'_>, network: &Network, main: Option<&Claim>, probe: &Probe) -> Option<String> {
    let claim = main?;
    if matches!(network, Network::Namespace(_)) || probe.kind == Kind::Tcp {
        return None;
    }
    Some(format!(
        "http://localhost:{}{}",
        claim.port,
        layers.text("url-base").unwrap_or("/")
    ))
}

/// Fills `{port}`, `{state.ROLE}` in a text of the catalogue. The user's own texts are taken literally.
fn filled(text: &str, ports: &[Claim], state: &[Mount]) -> String {
    if !text.contains('{') {
        return text.to_owned();
    }
    let mut filled = text.to_owned();
    if let Some(main) = ports.first() {
        filled = filled.replace("{port}", &main.inside.to_string());
    }
    for mount in state {
        filled = filled.replace(&format!("{{state.{}}}", mount.role), &mount.target);
    }
    filled
}

fn environment(
    context: &Context<'_>,
    layers: Layers<'_>,
    ports: &[Claim],
    state: &[Mount],
    puid: bool,
) -> Vec<(String, String)> {
    let mut variables = std::collections::BTreeMap::new();
    if puid {
        let umask = layers.text("umask").and_then(|it| value::umask(it).ok());
        let umask = umask.unwrap_or_else(|| context.defaults.umask.clone());
        // The images set it themselves, from three digits.
        variables.insert("UMASK".to_owned(), umask.trim_start_matches('0').to_owned());
        variables
            .entry("UMASK".to_owned())
            .and_modify(|mask| *mask = format!("{mask:0>3}"));
    }
    if let (Some(name), Some(main)) = (layers.below("port-by").text("environment"), ports.first()) {
        variables.insert(name.to_owned(), main.inside.to_string());
    }
    let catalog = layers.catalog().below("environment");
    for (key, entry) in catalog.each().rev().flat_map(Table::iter) {
        if let Some(text) = text(&entry.node) {
            variables.insert(key.to_owned(), filled(text, ports, state));
        }
    }
    for (key, entry) in layers
        .user
        .and_then(|user| user.table("environment"))
        .into_iter()
        .flat_map(Table::iter)
    {
        if let Some(text) = text(&entry.node) {
            variables.insert(key.to_owned(), text.to_owned());
        }
    }
    variables.into_iter().collect()
}

fn command(layers: Layers<'_>, ports: &[Claim], state: &[Mount]) -> Vec<String> {
    if let Some(own) = layers.user.filter(|user| user.get("command").is_some()) {
        return Layers {
            user: Some(own),
            ..Layers::default()
        }
        .texts("command")
        .unwrap_or_default();
    }
    let mut words: Vec<_> = layers
        .texts("command")
        .unwrap_or_default()
        .iter()
        .map(|word| filled(word, ports, state))
        .collect();
    let by = layers.below("port-by");
    if let (Some(word), Some(main)) = (by.text("argument"), ports.first()) {
        words.push(word.replace("{}", &main.inside.to_string()));
    }
    if let (Some(word), Some(peer)) = (
        by.text("peer-argument"),
        ports.iter().find(|claim| claim.name == "peer"),
    ) {
        words.push(word.replace("{}", &peer.inside.to_string()));
    }
    words
}

fn devices(layers: Layers<'_>) -> Vec<Device> {
    let texts = layers.texts("devices").unwrap_or_default();
    let device = |text: &String| Device {
        name: text.trim_start_matches('-').to_owned(),
        optional: text.starts_with('-'),
    };
    texts.iter().map(device).collect()
}

fn groups(layers: Layers<'_>) -> Vec<String> {
    let group = |node| {
        text(node)
            .map(str::to_owned)
            .or_else(|| number::<u32>(node).map(|gid| gid.to_string()))
    };
    layers
        .list("groups")
        .unwrap_or_default()
        .iter()
        .filter_map(group)
        .collect()
}

fn capabilities(layers: Layers<'_>) -> Vec<String> {
    let mut names: Vec<_> = layers
        .texts("capabilities")
        .unwrap_or_default()
        .iter()
        .filter_map(|it| value::capability(it).ok())
        .collect();
    names.sort();
    names.dedup();
    names
}

fn limits(layers: Layers<'_>) -> Vec<(&'static str, String)> {
    let texts = [
        ("memory-high", "MemoryHigh"),
        ("memory-max", "MemoryMax"),
        ("cpu-quota", "CPUQuota"),
    ];
    let numbers = [
        ("cpu-weight", "CPUWeight"),
        ("io-weight", "IOWeight"),
        ("tasks-max", "TasksMax"),
    ];
    texts
        .iter()
        .filter_map(|(key, directive)| Some((*directive, layers.owned(key)?)))
        .chain(
            numbers
                .iter()
                .filter_map(|(key, directive)| Some((*directive, layers.number::<u32>(key)?.to_string()))),
        )
        .collect()
}

fn native(context: &Context<'_>, layers: Layers<'_>) -> Vec<NativeUnit> {
    // A second instance is not the heir of the first one's native unit.
    let own = context.name.as_str() == context.kind;
    let scope = if own {
        layers
    } else {
        Layers {
            user: layers.user,
            ..Layers::default()
        }
    };
    let names = scope.texts("native").unwrap_or_default();
    names
        .into_iter()
        .map(|name| NativeUnit {
            present: (context.present)(&name),
            name,
        })
        .collect()
}

fn wants(layers: Layers<'_>) -> Vec<ServiceName> {
    let texts = layers.texts("wants").unwrap_or_default();
    texts
        .iter()
        .filter_map(|name| ServiceName::parse(name).ok())
        .collect()
}
