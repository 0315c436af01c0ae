//! `dagger-gate image`: the image is there before the service starts, and its minutes are nobody else's.

use std::io::{self, BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use dagger_agent::adapter::image::{self, Image};
use dagger_agent::adapter::probe::PODMAN;
use dagger_suite::model::Pull;
use dagger_suite::names::{Root, ServiceName};

use crate::args::{self, Args};
use crate::{Stop, say};

/// Pauses before the second and the third try.
const PAUSES: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(10)];
/// The network may be up although `network-online.target` is not: then the pull says so soon enough.
const NETWORK_PATIENCE: Duration = Duration::from_mins(1);

/// The command line.
#[derive(Debug)]
pub struct Orders {
    service: ServiceName,
    image: String,
    pull: Pull,
    podman: PathBuf,
}

impl Orders {
    /// Reads it.
    pub fn parse(mut args: Args) -> Result<Self, Stop> {
        let (mut service, mut image, mut pull) = (None, None, Pull::Missing);
        let mut podman = PathBuf::from(PODMAN);
        while let Some((flag, value)) = args.next()? {
            match flag.as_str() {
                "--service" => service = Some(args::service(&value()?)?),
                "--image" => image = Some(value()?),
                "--pull" => pull = policy(&value()?)?,
                "--podman" => podman = PathBuf::from(value()?),
                _ => return Err(args::unknown(&flag)),
            }
        }
        let service = args::required(service, "--service")?;
        let image = args::required(image, "--image")?;
        Ok(Self {
            service,
            image,
            pull,
            podman,
        })
    }
}

fn policy(word: &str) -> Result<Pull, Stop> {
    Pull::ALL
        .iter()
        .find(|(name, _)| *name == word)
        .map(|(_, pull)| *pull)
        .ok_or_else(|| Stop::Usage(format!("{word:?} is none of missing, newer, always, never")))
}

/// Looks, fetches where the policy says so, and leaves the record.
pub fn run(root: &Root, orders: &Orders) -> Result<(), Stop> {
    let Orders { service, image, .. } = orders;
    if matches!(orders.pull, Pull::Missing | Pull::Never) && is_known(root, orders) {
        return Ok(());
    }
    let here = inspect(orders);
    let found = match (orders.pull, here) {
        (Pull::Missing | Pull::Never, Ok(found)) => found,
        (Pull::Never, Err(why)) => {
            return Err(Stop::failed(format!(
                "the image {image} of {service} is not on this machine, and `pull` is `never`: load it (podman load, podman \
                 pull {image}), then start {} again [{why}]",
                service.unit()
            )));
        }
        (Pull::Newer, Ok(found)) => match fetch(orders) {
            Ok(()) => seen(orders)?,
            // An old image runs; no image would not.
            Err(why) => {
                say::warning(&format!("{why}; {service} starts with the image that is here"));
                found
            }
        },
        (Pull::Missing | Pull::Newer, Err(_)) | (Pull::Always, _) => {
            fetch(orders).map_err(|why| {
                Stop::failed(format!(
                    "{why}: check the name and the network (`podman pull {image}` shows the same), then start {} again",
                    service.unit()
                ))
            })?;
            seen(orders)?
        }
    };
    image::record(root, service, &found).map_err(|error| {
        Stop::failed(format!(
            "what is known of the image of {service} cannot be written: {error}"
        ))
    })
}

/// Whether this boot's record still holds: then podman, which takes tens of milliseconds to start, is not asked again.
fn is_known(root: &Root, orders: &Orders) -> bool {
    // A record that cannot be read is made anew.
    image::recorded(root, &orders.service)
        .ok()
        .flatten()
        .is_some_and(|image| {
            image.reference == orders.image && image.store.is_some_and(|store| store.holds())
        })
}

fn inspect(orders: &Orders) -> Result<Image, String> {
    let asked = SystemTime::now();
    let output = Command::new(&orders.podman)
        .args(image::inspect_argv(&orders.image))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run {}: {error}", orders.podman.display()))?;
    if output.status.success() {
        image::decode(&orders.image, &output.stdout, asked)
    } else {
        Err(last_line(&String::from_utf8_lossy(&output.stderr)))
    }
}

/// After a pull the image has to be there.
fn seen(orders: &Orders) -> Result<Image, Stop> {
    inspect(orders).map_err(|why| {
        Stop::failed(format!(
            "the image {} was fetched, but podman does not show it: {why}",
            orders.image
        ))
    })
}

fn fetch(orders: &Orders) -> Result<(), String> {
    let Orders { service, image, .. } = orders;
    say::info(&format!("fetching the image {image} of {service}"));
    say::status(&format!("waiting for the network, to fetch {image}"));
    if let Err(error) = network() {
        say::warning(&format!("{error}; fetching {image} all the same"));
    }
    let begin = Instant::now();
    let tries = PAUSES.len() + 1;
    let mut pauses = PAUSES.iter();
    for turn in 1.. {
        let why = match pull(orders, turn, tries) {
            Ok(()) => {
                say::info(&format!("fetched {image} in {} s", begin.elapsed().as_secs()));
                return Ok(());
            }
            Err(why) => why,
        };
        let Some(pause) = pauses.next().filter(|_| !image::is_final(&why)) else {
            return Err(format!("cannot fetch the image {image} of {service}: {why}"));
        };
        say::warning(&format!("try {turn} of {tries} to fetch {image} failed: {why}"));
        say::status(&format!(
            "{image}: try {turn} of {tries} failed, next in {} s: {why}",
            pause.as_secs()
        ));
        sleep(*pause);
    }
    Ok(())
}

/// Started only here, so that nobody who has the image waits for a network.
fn network() -> Result<(), String> {
    let mut child = Command::new("systemctl")
        .args(["start", "network-online.target"])
        .stdin(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot ask systemd for the network: {error}"))?;
    let begin = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(_)) => return Err("network-online.target did not start".into()),
            Ok(None) if begin.elapsed() < NETWORK_PATIENCE => sleep(Duration::from_millis(50)),
            Ok(None) => {
                // The job goes on in systemd; only our waiting ends.
                let _ = child.kill().and_then(|()| child.wait().map(drop));
                return Err(format!(
                    "the network is not online after {} s",
                    NETWORK_PATIENCE.as_secs()
                ));
            }
            Err(error) => return Err(format!("cannot wait for systemctl: {error}")),
        }
    }
}

/// Runs podman and shows each of its lines as the unit's status; the last one is the reason when it fails.
fn pull(orders: &Orders, turn: usize, tries: usize) -> Result<(), String> {
    let failed = |error: io::Error| format!("cannot run {}: {error}", orders.podman.display());
    let mut child = Command::new(&orders.podman)
        .args(image::pull_argv(&orders.image))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut last = String::new();
    if let Some(pipe) = child.stderr.take() {
        for line in BufReader::new(pipe).split(b'\n') {
            let line = String::from_utf8_lossy(&line.map_err(failed)?).trim().to_owned();
            if !line.is_empty() {
                say::status(&format!(
                    "fetching {} (try {turn} of {tries}): {line}",
                    orders.image
                ));
                last = line;
            }
        }
    }
    let status = child.wait().map_err(failed)?;
    if status.success() {
        Ok(())
    } else {
        Err(last_line(&last))
    }
}

/// The last words of podman, without its own "Error:".
fn last_line(text: &str) -> String {
    let line = text
        .lines()
        .map(str::trim)
        .rfind(|line| !line.is_empty())
        .unwrap_or("podman gave no reason");
    line.strip_prefix("Error: ").unwrap_or(line).to_owned()
}
