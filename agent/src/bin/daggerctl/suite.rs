//! What this machine's configuration says: names of services, their native units, who owns them. Read from the files, so it
//! is known without the agent.

use dagger_agent::adapter::bus::Owner;
use dagger_agent::domain::health::Health;
use dagger_agent::domain::verdict::Phase;
use dagger_suite::diagnostic::nearest;
use dagger_suite::names::{Root, ServiceName};

use crate::error::Error;
use crate::report::{Service, unknown};

/// The services of the configuration.
pub struct Suite {
    root: Root,
    services: Vec<Configured>,
    /// The files could be read as a whole: a name that is not among the services does not exist.
    complete: bool,
}

/// A service of the configuration.
pub struct Configured {
    /// Its name.
    pub name: ServiceName,
    /// Native units that may own the same data, and whether they are on this machine.
    pub native: Vec<(String, bool)>,
    /// The services that it would like to find answering.
    pub wants: Vec<String>,
    /// What is wrong with its configuration, one sentence each; with any, it cannot run.
    pub mistakes: Vec<String>,
}

impl Suite {
    /// Reads the configuration below `root`. Mistakes are not shown here (`config check` does that).
    pub fn read(root: Root) -> Self {
        let loaded = dagger_suite::load(&root);
        let complete = loaded.file_errors().next().is_none();
        let good = loaded.suite.services.into_iter().map(|service| Configured {
            name: service.name,
            wants: service.wants.iter().map(ToString::to_string).collect(),
            native: service
                .native
                .into_iter()
                .map(|unit| (unit.name, unit.present))
                .collect(),
            mistakes: Vec::new(),
        });
        let broken = loaded.broken.into_iter().map(|broken| Configured {
            name: broken.name,
            native: Vec::new(),
            wants: Vec::new(),
            mistakes: broken.messages,
        });
        let mut services: Vec<_> = good.chain(broken).collect();
        services.sort_by(|a, b| a.name.cmp(&b.name));
        Self {
            root,
            services,
            complete,
        }
    }

    /// The services by name.
    pub fn services(&self) -> &[Configured] {
        &self.services
    }

    /// The native unit of a service that is on this machine.
    pub fn native_unit(&self, name: &str) -> Option<&str> {
        let configured = self
            .services
            .iter()
            .find(|service| service.name.as_str() == name)?;
        configured
            .native
            .iter()
            .find(|(_, present)| *present)
            .map(|(unit, _)| unit.as_str())
    }

    /// The native unit that owns a service's data: the container's unit does not start then, which systemd calls a success.
    pub fn natively_owned(&self, service: &ServiceName) -> Option<&str> {
        let native = self.native_unit(service.as_str());
        native.filter(|_| self.owner(service.as_str(), false) == Owner::Native)
    }

    /// Why a service that is configured cannot run.
    pub fn mistake(&self, name: &str) -> Option<&str> {
        let mut services = self.services.iter();
        let configured = services.find(|service| service.name.as_str() == name)?;
        configured.mistakes.first().map(String::as_str)
    }

    /// Takes names from the command line. An unknown one is refused, unless the configuration could not be read.
    pub fn names(&self, words: &[String]) -> Result<Vec<ServiceName>, Error> {
        words
            .iter()
            .map(|word| {
                let known = self.services.iter().map(|service| service.name.as_str());
                if self.complete && !known.clone().any(|name| name == word) {
                    return Err(no_such(word, known));
                }
                ServiceName::parse(word).map_err(Error::Usage)
            })
            .collect()
    }

    /// Completes what systemd said: services that it has not loaded, and owners.
    pub fn complete(&self, mut services: Vec<Service>) -> Vec<Service> {
        for configured in &self.services {
            if !services
                .iter()
                .any(|service| service.view.name == configured.name.as_str())
            {
                services.push(unknown(configured.name.as_str(), configured.name.unit()));
            }
        }
        for service in &mut services {
            let up = Phase::of("", &service.view.active_state, &service.view.sub_state).is_up();
            service.view.owner = self.owner(&service.view.name, up);
        }
        services.sort_by(|a, b| a.view.name.cmp(&b.view.name));
        services
    }

    /// The services when nobody could be asked how they are.
    pub fn unasked(&self) -> Vec<Service> {
        let mut services = self.complete(Vec::new());
        for service in &mut services {
            service.view.health = Health::Unknown;
            service.view.active_state.clear();
            service.view.sub_state.clear();
        }
        services
    }

    /// Who owns a service, whose container is `up` or not.
    pub fn owner(&self, name: &str, up: bool) -> Owner {
        let configured = self.services.iter().find(|service| service.name.as_str() == name);
        let marked = configured.is_some_and(|service| self.root.join(service.name.owner_marker()).exists());
        Owner::of(marked, self.native_unit(name).is_some(), up)
    }
}

/// Takes one name from the command line that is among those that are known.
pub fn known<'a>(word: &str, known: impl Iterator<Item = &'a str> + Clone) -> Result<ServiceName, Error> {
    if known.clone().any(|name| name == word) {
        ServiceName::parse(word).map_err(Error::Usage)
    } else {
        Err(no_such(word, known))
    }
}

/// The error for a name that is not among those that are known, with the nearest of them.
pub fn no_such<'a>(word: &str, known: impl Iterator<Item = &'a str> + Clone) -> Error {
    let help = match nearest(word, known.clone()) {
        Some(name) => format!("did you mean `{name}`?"),
        None => match known.collect::<Vec<_>>().as_slice() {
            [] => "no service is configured".to_owned(),
            names => format!("there are: {}", names.join(", ")),
        },
    };
    Error::Usage(format!(
        "no service is named `{}`; {help}",
        crate::text::clean(word)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_gets_the_nearest_one() {
        let known = ["radarr", "sonarr"];
        let said = no_such("sonar", known.into_iter()).to_string();
        assert_eq!(said, "no service is named `sonar`; did you mean `sonarr`?");
        let said = no_such("zzz", known.into_iter()).to_string();
        assert_eq!(said, "no service is named `zzz`; there are: radarr, sonarr");
        let said = no_such("x", [].into_iter()).to_string();
        assert!(said.ends_with("no service is configured"), "{said}");
    }
}
