//! `dagger-gate pre`: everything that would make the start fail later and worse, looked at in milliseconds. All problems are
//! told at once; nothing is made or written when there is one.

use std::path::Path;

use dagger_agent::adapter::disk::{self, Over};
use dagger_agent::adapter::owner::{self, Facts, Owner};
use dagger_agent::adapter::sockets::Port;
use dagger_suite::names::{GATE_DIR, Root, ServiceName};

use crate::args::{self, Args};
use crate::places::{self, State};
use crate::{Stop, media, ports, say};

/// The command line.
#[derive(Debug)]
pub struct Orders {
    service: ServiceName,
    claims: Vec<Port>,
    netns: Option<String>,
    owner: Option<Owner>,
    explicit: bool,
    state: Vec<String>,
    needs: Vec<String>,
    media: Vec<String>,
    devices: Vec<String>,
}

impl Orders {
    /// Reads it.
    pub fn parse(mut args: Args) -> Result<Self, Stop> {
        let (mut service, mut claims, mut netns, mut owner) = (None, Vec::new(), None, None);
        let (mut explicit, mut state, mut devices) = (false, Vec::new(), Vec::new());
        let (mut needs, mut media) = (Vec::new(), Vec::new());
        while let Some((flag, value)) = args.next()? {
            match flag.as_str() {
                "--service" => service = Some(args::service(&value()?)?),
                "--claim" => claims.push(ports::parse(&value()?).map_err(Stop::Usage)?),
                "--netns" => netns = Some(value()?),
                "--owner" => owner = Some(value()?.parse().map_err(Stop::Usage)?),
                "--owner-explicit" => explicit = true,
                "--state" => state.push(value()?),
                "--need" => needs.push(value()?),
                "--media" => media.push(value()?),
                "--device" => devices.push(value()?),
                _ => return Err(args::unknown(&flag)),
            }
        }
        let service = args::required(service, "--service")?;
        Ok(Self {
            service,
            claims,
            netns,
            owner,
            explicit,
            state,
            needs,
            media,
            devices,
        })
    }
}

/// Looks, then makes.
pub fn run(root: &Root, orders: &Orders) -> Result<(), Stop> {
    let service = &orders.service;
    let mut problems = places::missing(root, service, &orders.needs);
    problems.extend(places::missing(root, service, &orders.media));
    problems.extend(media::refusals(root, service, &orders.media));
    let devices = places::devices(root, service, &orders.devices);
    problems.extend(devices.problems);
    let owner = identity(root, orders).unwrap_or_else(|problem| {
        problems.push(problem);
        None
    });
    problems.extend(ports::check(
        service,
        &orders.claims,
        orders.netns.as_deref().map(Path::new),
    ));
    if !problems.is_empty() {
        return Err(Stop::Failed(problems));
    }
    for device in &devices.absent {
        say::info(&format!("{device} is not there, {service} starts without it"));
    }
    make_state(root, orders, owner)?;
    // Quoted, as systemd.exec(5) reads it; no character that would need an escape gets this far.
    let text = format!(
        "{}DAGGER_DEVICE_ARGS=\"{}\"\n",
        owner.map(owner::text).unwrap_or_default(),
        devices.words.join(" ")
    );
    let path = format!("{GATE_DIR}/{service}.env");
    disk::write(&root.join(&path), text.as_bytes(), Over::Replace).map_err(|error| {
        Stop::failed(format!(
            "what was found out for {service} cannot be written: {error}"
        ))
    })?;
    Ok(())
}

/// Without `--owner` the image's own user runs, and nothing is said about it.
fn identity(root: &Root, orders: &Orders) -> Result<Option<Owner>, String> {
    let Some(configured) = orders.owner else {
        return Ok(None);
    };
    let marker = owner::read(root, &orders.service).map_err(|error| error.to_string())?;
    let first = orders.state.first();
    let on_disk = match first {
        Some(path) => places::owner_of(root, path)?,
        None => None,
    };
    let facts = Facts {
        marker,
        on_disk,
        configured,
        explicit: orders.explicit,
    };
    owner::pick(orders.service.as_str(), first.map(Path::new), facts).map(Some)
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
