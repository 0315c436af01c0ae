//! What two services have of the host and only one should: devices, and directories that both write. They may know what they
//! do, so both run.

use std::collections::{HashMap, HashSet};

use super::{Places, ancestors, warn};
use crate::check::Checker;
use crate::model::{MEDIA, Mount, Service};

/// Devices that only one program can have.
pub(super) fn devices(order: &[&Service], places: &Places<'_>, checker: &mut Checker<'_>) {
    let mut taken: HashMap<&str, &Service> = HashMap::new();
    for service in order {
        for device in service.devices.iter().filter(|device| !is_shared(&device.name)) {
            let other = *taken.entry(&device.name).or_insert(service);
            if other.name != service.name {
                let problem = format!("{} is a device of `{}`, too", device.name, other.name);
                let help = "most devices have one user at a time: give it to one of them".to_owned();
                warn(checker, service, places.of(service, &["devices"]), problem, help);
            }
        }
    }
}

/// Devices that many programs have open at once: graphics, sound, and what the kernel makes for everybody.
fn is_shared(device: &str) -> bool {
    const MANY: [&str; 8] = [
        "/dev/dri",
        "/dev/kfd",
        "/dev/snd",
        "/dev/nvidia",
        "/dev/video",
        "/dev/fuse",
        "/dev/net/tun",
        "/dev/vchiq",
    ];
    // A CDI name is a description, not a node.
    !device.starts_with('/') || MANY.iter().any(|shared| device.starts_with(shared))
}

/// A directory that a service writes.
#[derive(Clone, Copy)]
struct Written<'a> {
    /// Place of the service in the order of their rights.
    rank: usize,
    path: &'a str,
    is_state: bool,
}

impl Written<'_> {
    /// Two states of one place are a mistake of another kind.
    fn clashes(self, other: Self) -> bool {
        self.rank != other.rank && !(self.is_state && other.is_state)
    }

    /// Who has to move, and who stays: state lies where it is; of two volumes the one with the younger right moves.
    fn moves(self, other: Self) -> (usize, usize) {
        let own = other.is_state || (!self.is_state && self.rank > other.rank);
        if own {
            (self.rank, other.rank)
        } else {
            (other.rank, self.rank)
        }
    }
}

/// Directories that two services write, of which at least one is a volume: the same one, or one inside the other.
pub(super) fn volumes(order: &[&Service], places: &Places<'_>, checker: &mut Checker<'_>) {
    let written = written(order);
    // Sorted so that whose state it is counts before who else mounts it.
    let mut first: HashMap<&str, Written<'_>> = HashMap::new();
    for each in &written {
        first.entry(each.path).or_insert(*each);
    }
    let mut told = HashSet::new();
    for inner in &written {
        let around = ancestors(inner.path).filter_map(|path| first.get(path));
        for outer in around.filter(|outer| inner.clashes(**outer)) {
            let (moves, stays) = inner.moves(*outer);
            let (Some(service), Some(other)) = (order.get(moves), order.get(stays)) else {
                continue;
            };
            if !told.insert((moves, stays)) {
                continue;
            }
            let what = if inner.is_state || outer.is_state {
                "is state of"
            } else {
                "is written by"
            };
            warn(
                checker,
                service,
                places.of(service, &["volumes"]),
                format!("{} {what} `{}`, too", inner.path, other.name),
                "two that write there must both expect it; else make it read-only for one of them".to_owned(),
            );
        }
    }
}

/// What is written, states first; nothing where nobody has a volume.
fn written<'a>(order: &[&'a Service]) -> Vec<Written<'a>> {
    let ranked = || order.iter().enumerate();
    let written = |rank, mount: &'a Mount, is_state| Written {
        rank,
        path: mount.source.as_str(),
        is_state,
    };
    let volumes: Vec<Written<'_>> = ranked()
        .flat_map(|(rank, service)| service.mounts.iter().map(move |mount| (rank, mount)))
        .filter(|(_, mount)| mount.role != MEDIA && !mount.read_only)
        .map(|(rank, mount)| written(rank, mount, false))
        .collect();
    if volumes.is_empty() {
        return volumes;
    }
    let states = ranked().flat_map(|(rank, service)| service.state.iter().map(move |mount| (rank, mount)));
    states
        .map(|(rank, mount)| written(rank, mount, true))
        .chain(volumes.iter().copied())
        .collect()
}
