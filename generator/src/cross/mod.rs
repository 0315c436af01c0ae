//! What only shows when all services are looked at together: ports, native units, state and dependencies.

mod claims;

use std::collections::HashMap;

use crate::check::Checker;
use crate::diagnostic::{Span, nearest};
use crate::layers::text;
use crate::model::{FRONT, Network, Protocol, Service};
use crate::node::{Table, Value};

/// Compares the services with each other. Mistakes are said about the service whose text is the likelier slip.
pub fn check(services: &mut [Service], merged: &Table, media: Option<&str>, checker: &mut Checker<'_>) {
    // The one that bears the application's own name has the older right; then the order of names decides.
    let mut order: Vec<&Service> = services.iter().collect();
    order.sort_by_key(|service| service.name.as_str() != service.kind);
    let places = Places { merged };
    ports(&order, &places, checker);
    native(&order, &places, checker);
    state(&order, &places, media, checker);
    claims::devices(&order, &places, checker);
    claims::volumes(&order, &places, checker);
    wants(services, &places, checker);
}

/// Where the user wrote what.
pub struct Places<'a> {
    /// The user's tables.
    pub merged: &'a Table,
}

impl Places<'_> {
    fn service(&self, name: &str) -> Option<(&Table, Span)> {
        let entry = self.merged.table("services")?.entry(name)?;
        match &entry.node.value {
            Value::Table(table) => Some((table, entry.key_at)),
            _ => None,
        }
    }

    /// The place of the first of these keys that the user wrote, else of the service's name.
    pub fn of(&self, service: &Service, keys: &[&str]) -> Span {
        let Some((table, at)) = self.service(service.name.as_str()) else {
            return Span::default();
        };
        keys.iter()
            .find_map(|key| table.get(key))
            .map_or(at, |node| node.at)
    }
}

fn say(checker: &mut Checker<'_>, service: &Service, at: Span, problem: String, help: String) {
    checker.service = Some(service.name.as_str().to_owned());
    checker.error(at, problem, Some(help));
    checker.service = None;
}

/// Says something that may be meant, and leaves the service good.
pub fn warn(checker: &mut Checker<'_>, service: &Service, at: Span, problem: String, help: String) {
    checker.service = Some(service.name.as_str().to_owned());
    checker.warning(at, problem, Some(help));
    checker.service = None;
}

fn ports(order: &[&Service], places: &Places<'_>, checker: &mut Checker<'_>) {
    let mut taken: HashMap<(Option<&str>, Protocol, u16), &Service> = HashMap::new();
    for service in order {
        let stack = match &service.network {
            // Ports of a bridge are published on the host.
            Network::Host | Network::Bridge => None,
            Network::Namespace(path) => Some(path.as_str()),
        };
        let front = service.front_claim();
        let claims = service.ports.iter().map(|claim| (stack, claim));
        for (stack, claim) in claims.chain(front.iter().map(|claim| (None, claim))) {
            let Some(other) = taken.get(&(stack, claim.protocol, claim.port)) else {
                taken.insert((stack, claim.protocol, claim.port), service);
                continue;
            };
            if other.name == service.name {
                continue;
            }
            let key = port_key(&claim.name);
            let (port, word) = (claim.port, claim.protocol.word());
            let problem = format!("port {port}/{word} is already the one of `{}`", other.name);
            say(
                checker,
                service,
                places.of(service, &[key, "like"]),
                problem,
                format!("give it another: {key} = ..."),
            );
        }
    }
}

/// The key that a port of this name is written with.
pub fn port_key(name: &str) -> &'static str {
    match name {
        "web" => "port",
        "peer" => "peer-port",
        FRONT => "front-port",
        _ => "ports",
    }
}

fn native(order: &[&Service], places: &Places<'_>, checker: &mut Checker<'_>) {
    let mut taken: HashMap<&str, &Service> = HashMap::new();
    for service in order {
        for unit in &service.native {
            match taken.get(unit.name.as_str()) {
                None => {
                    taken.insert(&unit.name, service);
                }
                Some(other) if other.name != service.name => {
                    let problem = format!("{} is already the native unit of `{}`", unit.name, other.name);
                    let help = "a native unit gives its data to one service".to_owned();
                    say(checker, service, places.of(service, &["native"]), problem, help);
                }
                Some(_) => {}
            }
        }
    }
}

/// State of one service inside media, also of one that has no part in them, or inside the state of another.
fn state(order: &[&Service], places: &Places<'_>, media: Option<&str>, checker: &mut Checker<'_>) {
    let mut first: HashMap<&str, usize> = HashMap::with_capacity(order.len());
    let every = || {
        order
            .iter()
            .enumerate()
            .flat_map(|(rank, it)| it.state.iter().map(move |mount| (rank, mount)))
    };
    for (rank, mount) in every() {
        first.entry(&mount.source).or_insert(rank);
    }
    let mut free = "";
    for (rank, mount) in every() {
        let Some(service) = order.get(rank) else { continue };
        if let Some(media) = media.filter(|media| lies_in(&mount.source, media)) {
            let problem = format!("the state {} lies inside the media tree {media}", mount.source);
            let help = "keep them apart: libraries would be scanned into their own database".to_owned();
            say(checker, service, places.of(service, &["state"]), problem, help);
        }
        let shared = holder(&mount.source, rank, &first, &mut free);
        if let Some(other) = shared.and_then(|other| order.get(other).map(|it| (other, it))) {
            // Whichever of the two contains the other, the one with the younger right has to move.
            let (newer, elder) = if other.0 > rank {
                (other.1, service)
            } else {
                (service, other.1)
            };
            let problem = format!("its state is also that of `{}`: {}", elder.name, mount.source);
            let help = "give it a directory of its own: state = \"/...\"".to_owned();
            say(checker, newer, places.of(newer, &["state"]), problem, help);
        }
    }
}

/// Whether the path is the directory or lies below it.
fn lies_in(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whose state the path or the nearest directory above it is, when it is another's than `rank`'s. `free` is a directory
/// that, like all above it, is nobody's: most states lie in the same one, and its ancestors are looked up but once.
fn holder<'a>(path: &'a str, rank: usize, first: &HashMap<&str, usize>, free: &mut &'a str) -> Option<usize> {
    let mut lowest = None;
    for path in ancestors(path).take_while(|path| path != free) {
        match first.get(path) {
            Some(other) if *other != rank => return Some(*other),
            Some(_) => lowest = None,
            None => lowest = lowest.or(Some(path)),
        }
    }
    *free = lowest.unwrap_or(free);
    None
}

/// A path and all directories above it.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| above(path))
}

fn above(path: &str) -> Option<&str> {
    path.rsplit_once('/')
        .map(|(above, _)| above)
        .filter(|above| !above.is_empty())
}

/// Unknown dependencies and circles. What the catalogue wants and the user does not have is left out.
fn wants(services: &mut [Service], places: &Places<'_>, checker: &mut Checker<'_>) {
    let mut wants: Vec<_> = services
        .iter_mut()
        .map(|service| std::mem::take(&mut service.wants))
        .collect();
    for (service, wants) in services.iter().zip(&mut wants) {
        let own = places
            .service(service.name.as_str())
            .and_then(|(table, _)| table.get("wants"));
        if let Some(Value::List(list)) = own.map(|node| &node.value) {
            for node in list.iter() {
                let Some(name) = text(node) else { continue };
                if places.service(name).is_none() {
                    let near = nearest(name, services.iter().map(|service| service.name.as_str()));
                    let help = match near {
                        Some(near) => format!("did you mean {near:?}?"),
                        None => format!("add [services.{name}], or leave it out"),
                    };
                    say(
                        checker,
                        service,
                        node.at,
                        format!("there is no service {name:?} to wait for"),
                        help,
                    );
                }
            }
        }
        wants.retain(|name| services.binary_search_by(|it| it.name.cmp(name)).is_ok());
    }
    for (service, wants) in services.iter_mut().zip(wants) {
        service.wants = wants;
    }
    circles(services, places, checker);
}

fn circles(services: &[Service], places: &Places<'_>, checker: &mut Checker<'_>) {
    let index = |name: &str| {
        services
            .binary_search_by(|service| service.name.as_str().cmp(name))
            .ok()
    };
    let edges: Vec<Vec<usize>> = services
        .iter()
        .map(|service| {
            service
                .wants
                .iter()
                .filter_map(|name| index(name.as_str()))
                .collect()
        })
        .collect();
    // Kahn's order: what is left when everything without open wants has been taken away is on a circle, or wants one.
    let mut open: Vec<usize> = edges.iter().map(Vec::len).collect();
    let mut wanted_by: Vec<Vec<usize>> = vec![Vec::new(); services.len()];
    for (from, targets) in edges.iter().enumerate() {
        for target in targets {
            if let Some(list) = wanted_by.get_mut(*target) {
                list.push(from);
            }
        }
    }
    let mut free: Vec<usize> = (0..services.len())
        .filter(|at| open.get(*at) == Some(&0))
        .collect();
    while let Some(done) = free.pop() {
        for waiter in wanted_by.get(done).into_iter().flatten() {
            if let Some(count) = open.get_mut(*waiter) {
                *count -= 1;
                if *count == 0 {
                    free.push(*waiter);
                }
            }
        }
    }
    let closed = |(at, _): &(usize, &Service)| open.get(*at).is_some_and(|count| *count > 0);
    for (start, service) in services.iter().enumerate().filter(closed) {
        if let Some(circle) = circle(start, &edges, &open) {
            let names: Vec<_> = circle
                .iter()
                .filter_map(|at| services.get(*at))
                .map(|it| it.name.as_str())
                .collect();
            let problem = format!("the services wait for each other: {}", names.join(" -> "));
            let own = places
                .service(service.name.as_str())
                .is_some_and(|(table, _)| table.get("wants").is_some());
            // The catalogue has no circles, so one of those on it was closed by the user: that one is refused.
            if own {
                let at = places.of(service, &["wants"]);
                say(
                    checker,
                    service,
                    at,
                    problem,
                    "take one of them out of `wants`".to_owned(),
                );
            }
        }
    }
}

/// The circle that begins and ends here, as indices, when there is one.
fn circle(start: usize, edges: &[Vec<usize>], open: &[usize]) -> Option<Vec<usize>> {
    let mut path = vec![(start, 0)];
    let mut seen = vec![false; edges.len()];
    while let Some((at, next)) = path.last_mut() {
        let Some(target) = edges.get(*at).and_then(|targets| targets.get(*next)).copied() else {
            path.pop();
            continue;
        };
        *next += 1;
        if target == start {
            return Some(path.iter().map(|(at, _)| *at).chain([start]).collect());
        }
        if open.get(target).is_some_and(|count| *count > 0)
            && let Some(seen) = seen.get_mut(target).filter(|seen| !**seen)
        {
            *seen = true;
            path.push((target, 0));
        }
    }
    None
}
