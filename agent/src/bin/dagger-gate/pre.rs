//! `dagger-gate pre`: everything that would make the start fail later and worse, looked at in milliseconds. All problems are
//! told at once; nothing is made or written when there is one.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use dagger_agent::adapter::disk::{self, Over};
use dagger_agent::adapter::owner::{self, Facts, Owner};
use dagger_agent::adapter::probe::PODMAN;
use dagger_agent::adapter::sockets::Port;
use dagger_suite::names::{GATE_DIR, Root, ServiceName};

use crate::args::{self, Args};
use crate::places::{self, State};
use crate::{Stop, doubts, image, media, name, ports, say};

/// Variable that names the service's first state directory.
pub const STATE_VARIABLE: &str = "DAGGER_STATE_DIR";

/// The command line.
#[derive(Debug)]
pub struct Orders {
    service: ServiceName,
    claims: Vec<Port>,
    netns: Option<String>,
    owner: Option<Owner>,
    uid_explicit: bool,
    gid_explicit: bool,
    state: Vec<String>,
    needs: Vec<String>,
    media: Vec<String>,
    devices: Vec<String>,
    podman: PathBuf,
}

impl Orders {
    /// Reads it.
    pub fn parse(mut args: Args) -> Result<Self, Stop> {
        let (mut service, mut claims, mut netns, mut owner) = (None, Vec::new(), None, None);
        let (mut uid_explicit, mut gid_explicit) = (false, false);
        let (mut state, mut devices) = (Vec::new(), Vec::new());
        let (mut needs, mut media) = (Vec::new(), Vec::new());
        let mut podman = PathBuf::from(PODMAN);
        while let Some((flag, value)) = args.next()? {
            match flag.as_str() {
                "--service" => service = Some(args::service(&value()?)?),
                "--claim" => claims.push(ports::parse(&value()?).map_err(Stop::Usage)?),
                "--netns" => netns = Some(value()?),
                "--owner" => owner = Some(value()?.parse().map_err(Stop::Usage)?),
                "--uid-explicit" => uid_explicit = true,
                "--gid-explicit" => gid_explicit = true,
                "--state" => state.push(value()?),
                "--need" => needs.push(value()?),
                "--media" => media.push(value()?),
                "--device" => devices.push(value()?),
                "--podman" => podman = value()?.into(),
                _ => return Err(args::unknown(&flag)),
            }
        }
        let service = args::required(service, "--service")?;
        Ok(Self {
            service,
            claims,
            netns,
            owner,
            uid_explicit,
            gid_explicit,
            state,
            needs,
            media,
            devices,
            podman,
        })
    }
}

/// Looks, then makes.
pub fn run(root: &Root, orders: &Orders) -> Result<(), Stop> {
    let service = &orders.service;
    let mut problems: Vec<String> = image::missing(root, service).into_iter().collect();
    problems.extend(places::missing(root, service, &orders.needs));
    problems.extend(places::missing(root, service, &orders.media));
    problems.extend(media::refusals(root, service, &orders.media));
    let devices = places::devices(root, service, &orders.devices);
    problems.extend(devices.problems);
    let owner = gone(root, orders)
        .and_then(|gone| gone.map_or_else(|| identity(root, orders), Err))
        .unwrap_or_else(|problem| {
            problems.push(problem);
            None
        });
    problems.extend(ports::check(
        root,
        service,
        &orders.claims,
        orders.netns.as_deref().map(Path::new),
    ));
    problems.extend(name::taken(root, service, &orders.podman));
    if !problems.is_empty() {
        return Err(Stop::Failed(problems));
    }
    for device in &devices.absent {
        say::info(&format!("{device} is not there, {service} starts without it"));
    }
    forget_last_run(root, service);
    make_state(root, orders, owner)?;
    for doubt in doubts::of(root, service, &orders.state, &orders.needs, owner) {
        say::warning(&doubt);
    }
    // Quoted, as systemd.exec(5) reads it; no character that would need an escape gets this far.
    let text = format!(
        "{}DAGGER_DEVICE_ARGS=\"{}\"\n{}",
        owner.map(owner::text).unwrap_or_default(),
        devices.words.join(" "),
        orders
            .state
            .first()
            .map(|path| state_variable(path))
            .unwrap_or_default()
    );
    let path = format!("{GATE_DIR}/{service}.env");
    disk::write(&root.join(&path), text.as_bytes(), Over::Replace).map_err(|error| {
        Stop::failed(format!(
            "what was found out for {service} cannot be written: {error}"
        ))
    })?;
    Ok(())
}

/// systemd removes the unit's runtime directory with every stop, but for one of a unit that was masked or deleted meanwhile;
/// podman does not start where an earlier container's id lies (4.3), and `--replace` sees to that container.
fn forget_last_run(root: &Root, service: &ServiceName) {
    let path = root.join(format!("/run/{}/cid", service.container()));
    match std::fs::remove_file(&path) {
        Ok(()) => say::info(&format!(
            "{} was left by a run whose end nobody saw",
            path.display()
        )),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => say::warning(&format!("{} cannot be removed: {error}", path.display())),
    }
}

/// Tells `post`, which writes the marker, where the state lies. Quoted as systemd.exec(5) reads an environment file.
fn state_variable(path: &str) -> String {
    let mut text = format!("{STATE_VARIABLE}=\"");
    for c in path.chars() {
        if matches!(c, '"' | '\\' | '`' | '$') {
            text.push('\\');
        }
        text.push(c);
    }
    text.push_str("\"\n");
    text
}

/// Without `--owner` the image's own user runs, and nothing is said about it.
fn identity(root: &Root, orders: &Orders) -> Result<Option<Owner>, String> {
    let Some(configured) = orders.owner else {
        return Ok(None);
    };
    let marker = owner::read(root, &orders.service).map_err(|error| error.to_string())?;
    let mut found = None;
    for path in &orders.state {
        let Some(theirs) = places::owner_of(root, path)? else {
            continue;
        };
        match &found {
            None => found = Some((path, theirs)),
            Some((first, owner)) if owner.uid != theirs.uid => {
                return Err(format!(
                    "{first} belongs to {owner}, but {path} to {theirs}: {} runs as one user, so give both to the same \
                     (chown -R); nothing was changed",
                    orders.service
                ));
            }
            Some(_) => {}
        }
    }
    let facts = Facts {
        marker: marker.map(|marker| marker.owner),
        on_disk: found.map(|(_, owner)| owner),
        configured,
        uid_explicit: orders.uid_explicit,
        gid_explicit: orders.gid_explicit,
    };
    let state = found.map(|(path, _)| path).or(orders.state.first());
    owner::pick(orders.service.as_str(), state.map(Path::new), facts).map(Some)
}

/// A sentence when there is a marker and the data is gone: a disk that is not mounted looks like this, and an application
/// that starts there begins anew without a word.
fn gone(root: &Root, orders: &Orders) -> Result<Option<String>, String> {
    let service = &orders.service;
    let marker = owner::read(root, service).map_err(|error| error.to_string())?;
    let (Some(marker), Some(path)) = (marker, orders.state.first()) else {
        return Ok(None);
    };
    if !marker.keeps_state || places::holds_something(root, path) {
        return Ok(None);
    }
    let marker = service.owner_marker();
    Ok(Some(format!(
        "{path} is empty or not there, but {service} kept its data there (it belongs to the container, marker {marker}): \
         mount what belongs there, or, if {service} is to begin anew, remove the marker (rm {marker}); nothing was changed"
    )))
}

fn make_state(root: &Root, orders: &Orders, owner: Option<Owner>) -> Result<(), Stop> {
    let whose = owner.map_or_else(|| "root".to_owned(), |owner| owner.to_string());
    for path in &orders.state {
        match places::state(root, path, owner).map_err(Stop::failed)? {
            State::There => {}
            State::Made => say::info(&format!("made the state directory {path} for {whose}")),
            State::Given => say::info(&format!("gave the empty state directory {path} to {whose}")),
        }
    }
    Ok(())
}
