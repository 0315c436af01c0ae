//! The configuration, cut down to what is watched.

use std::sync::Arc;
use std::time::Duration;

use dagger_agent::adapter::surroundings::{Kind, Wanted};
use dagger_agent::domain::conflict::{self, Wanted as WantedPorts};
use dagger_agent::domain::{machine, recovery, verdict};
use dagger_suite::diagnostic::Severity;
use dagger_suite::model::Service;
use dagger_suite::names::{Root, ServiceName};
use dagger_suite::probe::Probe;

/// Restarts by the agent are counted over this time.
const WINDOW: Duration = Duration::from_hours(1);

/// What the agent needs to know of one service.
#[derive(Debug, Clone, PartialEq)]
pub struct Watched {
    /// Its name.
    pub name: ServiceName,
    /// The catalogue entry it is made from.
    pub kind: String,
    /// Image reference.
    pub image: String,
    /// Where people find it, or empty.
    pub url: String,
    /// Services that it would like to find answering.
    pub wants: Vec<String>,
    /// The native unit on this machine that may own the same data.
    pub native: Option<String>,
    /// Where people find it on this machine: a shadow listens in a network of its own.
    pub port: u16,
    /// How it is asked; each question has it, too.
    pub probe: Arc<Probe>,
    /// How often.
    pub interval: Duration,
    /// How its answers are judged, and what is done when they are bad.
    pub policy: machine::Policy,
    /// Directories on the host that it needs, its own state first.
    pub places: Vec<Wanted>,
    /// It is a shadow: whoever looks at it sees how it is, and nobody else has to hear of it.
    pub shadow: bool,
    /// What it wants for itself.
    pub wanted: WantedPorts,
}

/// Everything that one reading of the configuration gives.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Configuration {
    /// Services that can run, by name.
    pub services: Vec<Watched>,
    /// Mistakes, one line each.
    pub errors: Vec<String>,
    /// The podman program.
    pub podman: String,
}

/// Reads the configuration below `root`. Mistakes are part of the result.
pub fn load(root: &Root) -> Configuration {
    let loaded = dagger_suite::load(root);
    let errors = loaded
        .diagnostics
        .iter()
        .filter(|diagnostic| diagnostic.severity == Severity::Error)
        .map(dagger_suite::diagnostic::Diagnostic::one_line)
        .collect();
    Configuration {
        services: loaded.suite.services.into_iter().map(watched).collect(),
        errors,
        podman: loaded.suite.podman,
    }
}

/// The directories on the host that a service needs.
fn places(service: &Service) -> Vec<Wanted> {
    let state = service.state.iter().map(|mount| (mount, Kind::State));
    let media = service.media().map(|mount| {
        let kind = if mount.read_only {
            Kind::MediaRead
        } else {
            Kind::Media
        };
        (mount, kind)
    });
    state
        .chain(media)
        .map(|(mount, kind)| Wanted {
            path: mount.source.clone(),
            kind,
        })
        .collect()
}

fn watched(mut service: Service) -> Watched {
    // systemd reads variables in the words of a unit's command (systemd.service(5)); `$$` is a dollar.
    for word in &mut service.probe.command {
        *word = word.replace('$', "$$");
    }
    let interval = service.interval.max(Duration::from_secs(1));
    let places = places(&service);
    let wanted = conflict::wanted(&service);
    let stop = service.longest_stop();
    Watched {
        shadow: service.shadow_of.is_some(),
        port: service.front.unwrap_or(service.probe.port),
        native: service
            .native
            .into_iter()
            .find(|unit| unit.present)
            .map(|unit| unit.name),
        policy: machine::Policy {
            verdict: verdict::Policy {
                failures: service.failures.max(1),
                successes: service.successes.max(1),
                budget: service.start_budget,
                spacing: interval / 2,
            },
            recovery: recovery::Policy {
                automatic: service.auto_recover,
                attempts: service.restarts.max(1),
                window: WINDOW,
                budget: service.start_budget,
                stop,
                salt: recovery::Policy::salt_of(service.name.as_str()),
            },
            watchdog: service.watchdog,
        },
        places,
        wanted,
        wants: service.wants.iter().map(ToString::to_string).collect(),
        url: service.url.unwrap_or_default(),
        name: service.name,
        kind: service.kind,
        image: service.image,
        probe: Arc::new(service.probe),
        interval,
    }
}
