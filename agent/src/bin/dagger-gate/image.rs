//! `dagger-gate image`: the image is there before the service starts, and its minutes are nobody else's.

use std::io::{self, BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use dagger_agent::adapter::disk::{self, Over};
use dagger_agent::adapter::image::{self, Image};
use dagger_agent::adapter::probe::PODMAN;
use dagger_agent::adapter::work;
use dagger_suite::model::Pull;
use dagger_suite::names::{GATE_DIR, Root, ServiceName};

use crate::args::{self, Args};
use crate::{Stop, say};

/// How much trouble a fetch is worth.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// Pauses before the second and later tries.
    pauses: &'static [Duration],
    /// Wait for `network-online.target`. The network may be up although that is not: then the pull says so soon enough.
    network: Duration,
    /// A try that neither says anything nor moves a byte for so long has stalled.
    stall: Duration,
}

/// Nothing runs without the image.
const MUCH: Patience = Patience {
    pauses: &[Duration::from_secs(3), Duration::from_secs(10)],
    network: Duration::from_mins(1),
    stall: Duration::from_mins(5),
};
/// An image is there, and the service waits only for a newer one.
const LITTLE: Patience = Patience {
    pauses: &[],
    network: Duration::from_secs(5),
    stall: Duration::from_secs(20),
};

/// Podman's last words and our own around them are shorter.
const NOTE_MAX: usize = 64 << 10;

/// How often a fetch that says nothing is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// The command line.
#[derive(Debug)]
pub struct Orders {
    service: ServiceName,
    image: String,
    pull: Pull,
    podman: PathBuf,
    covered: Vec<String>,
    stall: Option<Duration>,
}

impl Orders {
    /// Reads it.
    pub fn parse(mut args: Args) -> Result<Self, Stop> {
        let (mut service, mut image, mut pull) = (None, None, Pull::Missing);
        let mut podman = PathBuf::from(PODMAN);
        let (mut covered, mut stall) = (Vec::new(), None);
        while let Some((flag, value)) = args.next()? {
            match flag.as_str() {
                "--service" => service = Some(args::service(&value()?)?),
                "--image" => image = Some(value()?),
                "--pull" => pull = policy(&value()?)?,
                "--podman" => podman = PathBuf::from(value()?),
                "--covered" => covered.push(value()?),
                "--stall" => stall = Some(args::seconds(&value()?)?),
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
            covered,
            stall,
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

/// Looks, fetches where the policy says so, leaves the record, and refuses an image whose data would be lost.
pub fn run(root: &Root, orders: &Orders) -> Result<(), Stop> {
    let Orders { service, .. } = orders;
    forget(root, service);
    if matches!(orders.pull, Pull::Missing | Pull::Never)
        && let Some(volumes) = known(root, orders)
    {
        return keeps_its_data(orders, &volumes);
    }
    let found = found(orders).inspect_err(|stop| leave(root, service, stop))?;
    image::record(root, service, &found).map_err(|error| {
        Stop::failed(format!(
            "what is known of the image of {service} cannot be written: {error}"
        ))
    })?;
    keeps_its_data(orders, found.volumes.as_deref().unwrap_or_default())
}

/// Why the image is not here: left for the start of the service, which comes after this and could only say that podman failed.
fn note(root: &Root, service: &ServiceName) -> PathBuf {
    root.join(format!("{GATE_DIR}/{service}.image"))
}

/// What was left of an earlier try is not so any more.
fn forget(root: &Root, service: &ServiceName) {
    let note = note(root, service);
    match std::fs::remove_file(&note) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            say::warning(&format!("{} cannot be removed: {error}", note.display()));
        }
        Ok(()) | Err(_) => {}
    }
}

fn leave(root: &Root, service: &ServiceName, stop: &Stop) {
    let Stop::Failed(sentences) = stop else { return };
    let text = sentences.join("; ");
    if let Err(error) = disk::write(&note(root, service), text.as_bytes(), Over::Replace) {
        say::warning(&format!(
            "why the image of {service} is not here cannot be left for its start: {error}"
        ));
    }
}

/// Why the image of a service is not here, where the unit that fetches it has just said so.
pub fn missing(root: &Root, service: &ServiceName) -> Option<String> {
    let read = disk::read(&note(root, service), NOTE_MAX).unwrap_or_else(|error| {
        say::warning(&error.to_string());
        None
    });
    read.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn found(orders: &Orders) -> Result<Image, Stop> {
    let Orders { service, image, .. } = orders;
    match (orders.pull, inspect(orders)) {
        (Pull::Missing | Pull::Never, Ok(found)) => Ok(found),
        (Pull::Never, Err(why)) => Err(Stop::failed(format!(
            "the image {image} of {service} is not on this machine, and `pull` is `never`: load it (podman load, podman \
             pull {image}), then start {} again [{why}]",
            service.unit()
        ))),
        (Pull::Newer | Pull::Always, Ok(found)) => match fetch(orders, LITTLE) {
            Ok(()) => seen(orders),
            // An old image runs; no image would not.
            Err(why) => {
                say::warning(&format!("{why}; {service} starts with the image that is here"));
                Ok(found)
            }
        },
        (Pull::Missing | Pull::Newer | Pull::Always, Err(_)) => {
            fetch(orders, MUCH).map_err(|why| {
                Stop::failed(format!(
                    "{why}: check the name and the network (`podman pull {image}` shows the same), then start {} again",
                    service.unit()
                ))
            })?;
            seen(orders)
        }
    }
}

/// Podman gives an anonymous volume to each volume of an image that nothing is mounted at, and removes it with the
/// container, which is at each stop.
fn keeps_its_data(orders: &Orders, volumes: &[String]) -> Result<(), Stop> {
    let Orders { service, image, .. } = orders;
    let left = image::uncovered(volumes, &orders.covered);
    let Some(first) = left.first() else {
        return Ok(());
    };
    Err(Stop::failed(format!(
        "the image {image} keeps data in {}, where nothing of {service} is mounted: it would be lost at each stop; say where \
         its state goes (state-target = \"{first}\"), mount something there (volumes), or say that it may go (disposable = \
         [\"{first}\"])",
        left.join(", ")
    )))
}

/// The volumes of the image, when this boot's record still holds: then podman, which takes tens of milliseconds to start,
/// is not asked again.
fn known(root: &Root, orders: &Orders) -> Option<Vec<String>> {
    // A record that cannot be read is made anew.
    let image = image::recorded(root, &orders.service).ok().flatten()?;
    let holds = image.reference == orders.image && image.store.is_some_and(|store| store.holds());
    image.volumes.filter(|_| holds)
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

fn fetch(orders: &Orders, patience: Patience) -> Result<(), String> {
    let Orders { service, image, .. } = orders;
    say::info(&format!("fetching the image {image} of {service}"));
    say::status(&format!("waiting for the network, to fetch {image}"));
    if let Err(error) = network(patience.network) {
        say::warning(&format!("{error}; fetching {image} all the same"));
    }
    let begin = Instant::now();
    let tries = patience.pauses.len() + 1;
    let stall = orders.stall.unwrap_or(patience.stall);
    let mut pauses = patience.pauses.iter();
    for turn in 1.. {
        let why = match pull(orders, stall, turn, tries) {
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
fn network(patience: Duration) -> Result<(), String> {
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
            Ok(None) if begin.elapsed() < patience => sleep(Duration::from_millis(50)),
            Ok(None) => {
                // The job goes on in systemd; only our waiting ends.
                let _ = child.kill().and_then(|()| child.wait().map(drop));
                return Err(format!(
                    "the network is not online after {} s",
                    patience.as_secs()
                ));
            }
            Err(error) => return Err(format!("cannot wait for systemctl: {error}")),
        }
    }
}

/// Runs podman and shows each of its lines as the unit's status; the last one is the reason when it fails.
fn pull(orders: &Orders, stall: Duration, turn: usize, tries: usize) -> Result<(), String> {
    let failed = |error: io::Error| format!("cannot run {}: {error}", orders.podman.display());
    let mut child = Command::new(&orders.podman)
        .args(image::pull_argv(&orders.image))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let (tell, lines) = mpsc::channel();
    let pipe = child.stderr.take();
    // It ends with podman's end of the pipe, or with ours of the channel.
    std::thread::spawn(move || {
        for line in pipe
            .into_iter()
            .flat_map(|pipe| BufReader::new(pipe).split(b'\n'))
        {
            let Ok(line) = line else { return };
            if tell
                .send(String::from_utf8_lossy(&line).trim().to_owned())
                .is_err()
            {
                return;
            }
        }
    });
    let mut last = String::new();
    let mut moved = (Instant::now(), 0);
    loop {
        match lines.recv_timeout(LOOK) {
            Ok(line) if line.is_empty() => {}
            Ok(line) => {
                say::status(&format!(
                    "fetching {} (try {turn} of {tries}): {line}",
                    orders.image
                ));
                last = line;
                moved.0 = Instant::now();
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
        let bytes = work::moved(child.id()).unwrap_or(moved.1);
        if bytes > moved.1 {
            moved = (Instant::now(), bytes);
        }
        if moved.0.elapsed() >= stall {
            child.kill().and_then(|()| child.wait()).map_err(failed)?;
            return Err(format!("nothing came for {} s", stall.as_secs()));
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
