//! One service, resolved: the user's table on top of the catalogue's, every default filled in.

mod network;
mod files;
mod program;

use std::time::Duration;

use crate::catalog;
use crate::check::Checker;
use crate::diagnostic::{Severity, Span, nearest};
use crate::installed::Installed;
use crate::layers::{Layers, text};
use crate::model::{Identity, IdentityStyle, NativeUnit, Pull, Service};
use crate::names::ServiceName;
use crate::node::Table;
use crate::shadow;
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
    /// What is installed on this machine.
    pub installed: &'a Installed,
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
    let network = network::network(&context, layers);
    let ports = network::ports(&context, layers, &network, checker);
    let state = files::state(&context, layers, checker);
    let mounts = files::mounts(&context, layers, checker);
    let tmpfs = layers.texts("tmpfs");
    files::targets(&context, layers, [&state, &mounts], &tmpfs, checker);
    let main = ports.first().cloned();
    let front = network::front(layers, &network, main.as_ref(), checker);
    let probe = network::probe(&context, layers, &network, main.as_ref());
    let image = image(&context, layers, checker)?;
    let identity = identity(context.defaults, layers, &image);
    if let (IdentityStyle::Image, Some(at)) = (identity.style, layers.at("group")) {
        let help = "write `user` too, or leave `group` out";
        checker.error(
            at,
            "this image runs as its own user: `group` alone changes nothing",
            Some(help.into()),
        );
    }
    let puid = identity.style == IdentityStyle::Puid;
    program::clashes(layers, puid, probe.kind, checker);
    let umask = layers.text("umask").and_then(|it| value::umask(it).ok());
    let health = layers.below("health");
    let shadow_of = layers.user.and_then(|user| user.get(shadow::KEY)).and_then(text);
    let mut service = Service {
        shadow_of: shadow_of.and_then(|name| ServiceName::parse(name).ok()),
        front,
        title: layers
            .owned("description")
            .or_else(|| layers.owned("title"))
            .unwrap_or_else(|| title(&context.name)),
        documentation: layers.texts("documentation"),
        pull: pull(layers),
        url: network::url(layers, &network, front, main.as_ref(), &probe),
        interval: health.duration("interval").unwrap_or(Duration::from_secs(15)),
        failures: health.number("failures").unwrap_or(3),
        successes: health.number("successes").unwrap_or(1),
        restarts: health.number("restarts").unwrap_or(3),
        auto_recover: layers.boolean("auto-recover").unwrap_or(true),
        accept_regenerated: layers.boolean("accept-regenerated").unwrap_or(false),
        watchdog: watchdog(layers),
        start_budget: layers.duration("start-budget").unwrap_or(Duration::from_mins(2)),
        environment: program::environment(&context, layers, &ports, &state, puid),
        environment_files: layers.texts("environment-files"),
        entrypoint: layers.owned("entrypoint"),
        command: program::command(layers, &ports, &state),
        umask: Some(umask.unwrap_or_else(|| context.defaults.umask.clone())),
        timezone: layers
            .owned("timezone")
            .or_else(|| Some(context.defaults.timezone.clone())),
        devices: program::devices(layers),
        groups: program::groups(layers),
        capabilities: program::capabilities(layers),
        no_new_privileges: layers.boolean("no-new-privileges").unwrap_or(true),
        read_only: layers.boolean("read-only").unwrap_or(false),
        init: layers.boolean("init").unwrap_or(false),
        shm_size: layers.owned("shm-size"),
        seccomp_profile: layers.owned("seccomp-profile"),
        apparmor_profile: layers.owned("apparmor-profile"),
        selinux_label: layers.owned("selinux-label"),
        log_driver: layers.owned("log-driver").unwrap_or_else(|| "passthrough".into()),
        limits: program::limits(layers),
        stop_signal: layers
            .text("stop-signal")
            .and_then(|it| value::signal(it).ok())
            .unwrap_or_else(|| "SIGTERM".into()),
        stop_timeout: layers.duration("stop-timeout").unwrap_or(Duration::from_secs(30)),
        native: native(&context, layers),
        wants: wants(layers),
        databases: files::databases(layers, &state),
        podman_args: layers.texts("podman-args"),
        dns: network::dns(&context, layers, &network, checker),
        disposable: files::disposable(layers),
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
        tmpfs,
    };
    if service.shadow_of.is_some() {
        shadow::confine(&mut service);
    }
    let clean = checker
        .diagnostics
        .iter()
        .skip(before)
        .all(|it| it.severity == Severity::Warning);
    clean.then_some(service)
}

fn image(context: &Context<'_>, layers: Layers<'_>, checker: &mut Checker<'_>) -> Option<String> {
    let image = layers.owned("image");
    if image.is_none() {
        let help = match nearest(context.kind, catalog::names()) {
            Some(near) => format!("did you mean `{near}`? Else say the image: image = \"registry/name:tag\""),
            None => format!(
                "say it: image = \"registry/name:tag\"; the catalogue knows {}",
                names()
            ),
        };
        let problem = format!("`{}` is not in the catalogue and has no image", context.kind);
        checker.error(context.at, problem, Some(help));
    }
    image
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

/// Ten minutes: longer than all patience of the agent's own steps with a service that hangs, so that those come first.
fn watchdog(layers: Layers<'_>) -> Option<Duration> {
    match layers.text("watchdog") {
        Some("off") => None,
        _ => layers.duration("watchdog").or(Some(Duration::from_mins(10))),
    }
}

fn pull(layers: Layers<'_>) -> Pull {
    let word = layers.text("pull").unwrap_or_default();
    Pull::ALL
        .iter()
        .find(|(name, _)| *name == word)
        .map_or(Pull::Missing, |(_, pull)| *pull)
}

fn identity(defaults: &Defaults, layers: Layers<'_>, image: &str) -> Identity {
    let style = match layers.text("identity") {
        Some("puid") => IdentityStyle::Puid,
        Some("user") => IdentityStyle::User,
        None if catalog::is_linuxserver(image) => IdentityStyle::Puid,
        _ => IdentityStyle::Image,
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
        uid_explicit: uid.is_some(),
        gid_explicit: gid.is_some(),
    }
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
    let named = layers.user.is_some_and(|user| user.get("native").is_some());
    scope
        .each_text("native")
        .map(|name| NativeUnit {
            present: context.installed.hold(name),
            named,
            name: name.to_owned(),
        })
        .collect()
}

fn wants(layers: Layers<'_>) -> Vec<ServiceName> {
    layers
        .each_text("wants")
        .filter_map(|name| ServiceName::parse(name).ok())
        .collect()
}
