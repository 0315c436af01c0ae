//! What is known of the suite at one moment, from the agent or, without it, from systemd; and its JSON form.

use dagger_agent::adapter::bus::{ManagerView, Owner, ServiceView};
use dagger_agent::domain::health::Health;
use serde::Serialize;

/// The suite at one moment. Field names are those of the JSON form, which scripts rely on: only ever add.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether the agent said this; otherwise it is systemd's view alone, without health.
    pub agent: bool,
    /// Version of the agent, empty without it.
    pub version: String,
    /// The worst health of all services.
    pub health: Health,
    /// What is wrong in the configuration files, one line each.
    pub configuration_errors: Vec<String>,
    /// The services by name.
    pub services: Vec<Service>,
    /// Services that run and are not among them: there is no configuration for them that can be used.
    pub unwatched: Vec<String>,
}

/// One service: what stands on the bus, and its memory.
#[derive(Debug, Clone, Serialize)]
pub struct Service {
    /// The properties of its object.
    #[serde(flatten)]
    pub view: ServiceView,
    /// Memory of the unit in bytes, as systemd counts it; null where it does not.
    pub memory_bytes: Option<u64>,
}

impl Service {
    /// Whether the unit runs or is about to.
    pub fn is_up(&self) -> bool {
        !matches!(self.view.active_state.as_str(), "inactive" | "failed" | "")
    }
}

impl From<ServiceView> for Service {
    fn from(view: ServiceView) -> Self {
        Self {
            view,
            memory_bytes: None,
        }
    }
}

impl Report {
    /// What the agent said.
    pub fn of_agent(manager: ManagerView, services: Vec<ServiceView>) -> Self {
        Self {
            agent: true,
            version: manager.version,
            health: manager.health,
            configuration_errors: manager.configuration_errors,
            services: services.into_iter().map(Service::from).collect(),
            unwatched: Vec::new(),
        }
    }

    /// What systemd says, for when the agent does not.
    pub fn of_systemd(services: Vec<Service>) -> Self {
        Self {
            agent: false,
            version: String::new(),
            health: Health::worst(services.iter().map(|service| service.view.health)),
            configuration_errors: Vec::new(),
            services,
            unwatched: Vec::new(),
        }
    }

    /// Leaves out all other services.
    pub fn only(&mut self, names: &[String]) {
        self.services.retain(|service| names.contains(&service.view.name));
        self.health = Health::worst(self.services.iter().map(|service| service.view.health));
        self.configuration_errors.clear();
        self.unwatched.clear();
    }

    /// Names of all services.
    pub fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.services.iter().map(|service| service.view.name.as_str())
    }
}

/// A service of which nothing is known but its name.
pub fn unknown(name: &str, unit: String) -> Service {
    Service::from(ServiceView {
        name: name.to_owned(),
        kind: String::new(),
        unit,
        owner: Owner::None,
        active_state: "inactive".into(),
        sub_state: "dead".into(),
        health: Health::Inactive,
        health_detail: String::new(),
        since: 0,
        latency_usec: 0,
        port: 0,
        url: String::new(),
        image: String::new(),
        image_digest: String::new(),
        version: String::new(),
        main_pid: 0,
        wants: Vec::new(),
        cause: String::new(),
        problems: Vec::new(),
        conflicts: Vec::new(),
        paused_until: 0,
        recoveries: 0,
        work: String::new(),
        interrupted: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scripts rely on these names.
    #[test]
    fn the_json_form_keeps_its_names() {
        let report = Report::of_systemd(vec![unknown("sonarr", "dagger-sonarr.service".into())]);
        let json = serde_json::to_value(&report).unwrap();
        let keys = |value: &serde_json::Value| {
            let mut keys: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
            keys.sort();
            keys.join(" ")
        };
        assert_eq!(
            keys(&json),
            "agent configuration_errors health services unwatched version"
        );
        assert_eq!(
            keys(&json["services"][0]),
            "active_state cause conflicts health health_detail image image_digest interrupted kind latency_usec main_pid \
             memory_bytes name owner paused_until port problems recoveries since sub_state unit url version wants work"
        );
        assert!(json["services"][0]["memory_bytes"].is_null());
        assert_eq!(
            (&json["health"], &json["services"][0]["owner"]),
            (&"inactive".into(), &"none".into())
        );
    }
}
