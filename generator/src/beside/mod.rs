//! What stands beside the suite on this machine and will be in its way: only files are read, so that it is known before
//! anything starts. The generator does not look (its units are a function of the configuration); `daggerctl config check` does.

mod text;

mod units;

mod start;

mod zone;

use crate::catalog::Catalog;
use crate::check::Checker;
use crate::cross::{Places, port_key, warn};
use crate::installed::is_mask;
use crate::model::{Claim, Guard, IdentityStyle, Network, Protocol, Service};
use crate::names::Root;
use units::Units;

pub use start::Start;
pub use text::words;

/// Where an application of this kind listens when it is started so, by its own settings; none where they do not say.
pub type PortOf<'a> = &'a dyn Fn(&str, &Start) -> Option<u16>;

/// Says of each service what is in its way.
pub fn check(
    root: &Root,
    services: &[Service],
    guards: &[Guard],
    catalog: &Catalog,
    port_of: PortOf<'_>,
    places: &Places<'_>,
    checker: &mut Checker<'_>,
) {
    zone::check(root, services, places.merged, checker);
    let units = Units::find(root);
    let natives = Natives {
        units: &units,
        catalog,
        port_of,
    };
    let mut rivals: Vec<Rival> = units.listening().into_iter().map(Rival::socket).collect();
    rivals.extend(guards.iter().filter_map(|guard| Rival::guard(&natives, guard)));
    rivals.extend(
        services
            .iter()
            .filter_map(|it| Rival::unmoved(root, &natives, it)),
    );
    for service in services {
        overridden(service, &units, places, checker);
        changed(service, &units, places, checker);
        privileged(service, root, places, checker);
        // What listens in another network is in nobody's way.
        let front = service.front_claim();
        let on_host = !matches!(service.network, Network::Namespace(_));
        let claims = service.ports.iter().filter(|_| on_host).chain(&front);
        for claim in claims {
            let theirs = rivals.iter().filter(|rival| rival.wants(service, claim));
            theirs.for_each(|rival| rival.tell(service, claim, places, checker));
        }
    }
}

/// Somebody outside of the containers who will have a port of the host.
struct Rival {
    protocol: Protocol,
    port: u16,
    unit: String,
    /// What follows "port 8989/tcp is ".
    says: String,
    /// The service of the suite that it belongs to.
    service: Option<String>,
    help: String,
}

impl Rival {
    fn socket(found: units::Listens) -> Self {
        Self {
            says: format!("what {} listens on ({}:{})", found.unit, found.file, found.line),
            help: format!("systemctl disable --now {}", found.unit),
            protocol: found.protocol,
            port: found.port,
            unit: found.unit,
            service: None,
        }
    }

    /// The native unit of an application that is not in the suite.
    fn guard(natives: &Natives<'_>, guard: &Guard) -> Option<Self> {
        let kind = guard.service.as_str();
        let (port, says) = natives.port(kind, &guard.unit, true)?;
        Some(Self {
            protocol: Protocol::Tcp,
            port,
            unit: guard.unit.clone(),
            says: format!("{says}, which is installed on this machine"),
            service: None,
            help: format!("systemctl disable --now {}", guard.unit),
        })
    }

    /// The native unit of a service that is not migrated: it may run, on the port that it always had.
    fn unmoved(root: &Root, natives: &Natives<'_>, service: &Service) -> Option<Self> {
        let native = service.native.iter().find(|unit| unit.present)?;
        let unmoved = root.join(service.name.owner_marker()).try_exists().ok() == Some(false);
        if !unmoved {
            return None;
        }
        // The second one of a kind does not have the usual one.
        let first = service.name.as_str() == service.kind;
        let (port, says) = natives.port(&service.kind, &native.name, first)?;
        Some(Self {
            protocol: Protocol::Tcp,
            port,
            unit: native.name.clone(),
            says: format!("{says}, which `{}` belongs to until it is migrated", service.name),
            service: Some(service.name.as_str().to_owned()),
            help: format!("nixarr-migrate migrate {}", service.name),
        })
    }

    fn wants(&self, service: &Service, claim: &Claim) -> bool {
        // The condition of both units keeps a service's own native one from running beside it.
        let own = self.service.as_deref() == Some(service.name.as_str())
            || service.native.iter().any(|native| native.name == self.unit);
        !own && (self.port, self.protocol) == (claim.port, claim.protocol)
    }

    fn tell(&self, service: &Service, claim: &Claim, places: &Places<'_>, checker: &mut Checker<'_>) {
        let key = port_key(&claim.name);
        let (port, word) = (claim.port, claim.protocol.word());
        warn(
            checker,
            service,
            places.of(service, &[key, "like"]),
            format!("port {port}/{word} is {}", self.says),
            format!("give it another: {key} = ..., or: {}", self.help),
        );
    }
}

/// Ports that only root may take on this machine (ip(7)), where the application is not root. The gate, which is, would find them
/// free. In networks of their own the limit is another one.
fn privileged(service: &Service, root: &Root, places: &Places<'_>, checker: &mut Checker<'_>) {
    let limit = std::fs::read_to_string(root.join("proc/sys/net/ipv4/ip_unprivileged_port_start"));
    let limit = limit
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(1024);
    let may = match service.identity.style {
        // Its start script drops the capability together with root.
        IdentityStyle::Puid => service.identity.uid == 0,
        IdentityStyle::User => {
            let given = |name: &String| name.strip_prefix("CAP_").unwrap_or(name) == "NET_BIND_SERVICE";
            service.identity.uid == 0 || service.capabilities.iter().any(given)
        }
        // Whoever that is.
        IdentityStyle::Image => true,
    };
    if may || service.network != Network::Host {
        return;
    }
    for claim in service.ports.iter().filter(|claim| claim.port < limit) {
        let key = port_key(&claim.name);
        let (port, word, uid) = (claim.port, claim.protocol.word(), service.identity.uid);
        warn(
            checker,
            service,
            places.of(service, &[key, "like"]),
            format!(
                "port {port}/{word} is below {limit}: only root may listen there, and this runs as {uid}"
            ),
            format!(
                "give it another: {key} = ..., or let everybody listen there: \
                 net.ipv4.ip_unprivileged_port_start = {port} in /etc/sysctl.d/"
            ),
        );
    }
}

/// Native units, and where they listen.
struct Natives<'a> {
    units: &'a Units,
    catalog: &'a Catalog,
    port_of: PortOf<'a>,
}

impl Natives<'_> {
    /// The port that the application's own settings say, else the usual one where that may be meant; and how it is known.
    fn port(&self, kind: &str, unit: &str, usual: bool) -> Option<(u16, String)> {
        let told = Start::of(self.units, unit).and_then(|start| (self.port_of)(kind, &start));
        match told {
            Some(port) => Some((port, format!("what the settings of {unit} say"))),
            None if usual => Some((
                usual_port(self.catalog, kind)?,
                format!("the usual one of {unit}"),
            )),
            None => None,
        }
    }
}

/// The port that an application has unless somebody gives it another.
fn usual_port(catalog: &Catalog, kind: &str) -> Option<u16> {
    let values = catalog.values(kind)?;
    let port = values.get("port")?;
    crate::layers::number(port)
}

/// A file of the administrator's in the place of the unit that is made of the configuration (systemd.unit(5): /etc and /run
/// come before what generators write).
fn overridden(service: &Service, units: &Units, places: &Places<'_>, checker: &mut Checker<'_>) {
    let name = service.name.unit();
    let Some(path) = units.before_generators(&name) else {
        return;
    };
    let shown = units.shown(&path);
    let (problem, help) = if is_mask(&path) {
        (
            format!("{name} is masked by {shown}: it does not start"),
            format!("systemctl unmask {name}"),
        )
    } else {
        (
            format!(
                "{shown} takes the place of the unit that is made of this: what stands here has no effect"
            ),
            format!("remove it, and put what should be different into a drop-in: systemctl edit {name}"),
        )
    };
    warn(checker, service, places.of(service, &[]), problem, help);
}

/// Drop-ins may add what they like; what starts the container, looks before, and keeps the two owners of the data apart, is
/// what a service of the suite is.
fn changed(service: &Service, units: &Units, places: &Places<'_>, checker: &mut Checker<'_>) {
    let name = service.name.unit();
    for (path, lines) in units.drop_ins(&[&name, "dagger-.service", "service"]) {
        for line in lines {
            let (key, reset) = (line.key.as_str(), line.value.is_empty());
            let what = match (line.section.as_str(), key) {
                ("Service", "ExecStart") => "replaces what starts the container",
                ("Service", "Type") => "changes how systemd knows that the container runs",
                ("Service", "ExecStartPre") if reset => "takes the checks before the start away",
                ("Service", "ExecStop" | "ExecStopPost") if reset => "takes away what stops the container",
                ("Unit", _) if reset && key.starts_with("Condition") => {
                    "takes the condition away that keeps the native unit and the container apart"
                }
                _ => continue,
            };
            let problem = format!(
                "{}:{} {what} ({key}={})",
                units.shown(&path),
                line.number,
                line.value
            );
            let help = "take the line out; what is different about the container stands here \
                        (podman-args = [...] for what has no key)";
            warn(
                checker,
                service,
                places.of(service, &[]),
                problem,
                help.to_owned(),
            );
        }
    }
}

#[cfg(test)]
mod tests;
