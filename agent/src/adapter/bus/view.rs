//! What is published: the properties of our objects as plain values, one table for getters, change signals and client.

use std::collections::HashMap;

use serde::Serialize;
use zbus::{OwnedVariant, Variant};

use crate::domain::health::Health;

/// Who owns a service's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Owner {
    /// Our container.
    Container,
    /// A native unit.
    Native,
    /// Nobody yet.
    #[default]
    None,
}

impl Owner {
    /// Who owns a service: its marker says so; without one a native unit does, where there is one; without either the
    /// container, from the moment that it is `up`: it runs or is about to.
    pub fn of(marker: bool, native: bool, up: bool) -> Self {
        match (marker, native, up) {
            (true, ..) | (false, false, true) => Self::Container,
            (false, true, _) => Self::Native,
            (false, false, false) => Self::None,
        }
    }

    /// The word on the bus.
    pub fn word(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Native => "native",
            Self::None => "none",
        }
    }

    /// The owner for a word; a word of a newer agent is [`Owner::None`].
    pub fn from_word(word: &str) -> Self {
        [Self::Container, Self::Native]
            .into_iter()
            .find(|owner| owner.word() == word)
            .unwrap_or_default()
    }
}

/// The properties of one service. [`crate::adapter::bus::service`] says what each means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "documented once, at the properties of the interface")]
pub struct ServiceView {
    pub name: String,
    pub kind: String,
    pub unit: String,
    pub owner: Owner,
    pub active_state: String,
    pub sub_state: String,
    pub health: Health,
    pub health_detail: String,
    pub since: u64,
    pub latency_usec: u64,
    pub port: u16,
    pub url: String,
    pub image: String,
    pub image_digest: String,
    pub version: String,
    pub main_pid: u32,
    pub wants: Vec<String>,
    pub cause: String,
    pub problems: Vec<String>,
    pub conflicts: Vec<String>,
    pub paused_until: u64,
    pub recoveries: u32,
    pub work: String,
    pub interrupted: bool,
}

impl ServiceView {
    /// All properties by their names on the bus.
    pub fn properties(&self) -> [(&'static str, Variant<'_>); 24] {
        [
            ("Name", Variant::from(self.name.as_str())),
            ("Kind", Variant::from(self.kind.as_str())),
            ("Unit", Variant::from(self.unit.as_str())),
            ("Owner", Variant::from(self.owner.word())),
            ("ActiveState", Variant::from(self.active_state.as_str())),
            ("SubState", Variant::from(self.sub_state.as_str())),
            ("Health", Variant::from(self.health.word())),
            ("HealthDetail", Variant::from(self.health_detail.as_str())),
            ("Since", Variant::from(self.since)),
            ("LatencyUSec", Variant::from(self.latency_usec)),
            ("Port", Variant::from(self.port)),
            ("Url", Variant::from(self.url.as_str())),
            ("Image", Variant::from(self.image.as_str())),
            ("ImageDigest", Variant::from(self.image_digest.as_str())),
            ("Version", Variant::from(self.version.as_str())),
            ("MainPID", Variant::from(self.main_pid)),
            ("Wants", Variant::from(self.wants.clone())),
            ("Cause", Variant::from(self.cause.as_str())),
            ("Problems", Variant::from(self.problems.clone())),
            ("Conflicts", Variant::from(self.conflicts.clone())),
            ("PausedUntil", Variant::from(self.paused_until)),
            ("Recoveries", Variant::from(self.recoveries)),
            ("Work", Variant::from(self.work.as_str())),
            ("Interrupted", Variant::from(self.interrupted)),
        ]
    }

    /// Reads what the agent sent; what it did not send is empty.
    pub fn from_properties(properties: &HashMap<String, OwnedVariant>) -> Self {
        let text = |name| take::<String>(properties, name);
        Self {
            name: text("Name"),
            kind: text("Kind"),
            unit: text("Unit"),
            owner: Owner::from_word(&text("Owner")),
            active_state: text("ActiveState"),
            sub_state: text("SubState"),
            health: Health::from_word(&text("Health")),
            health_detail: text("HealthDetail"),
            since: take(properties, "Since"),
            latency_usec: take(properties, "LatencyUSec"),
            port: take(properties, "Port"),
            url: text("Url"),
            image: text("Image"),
            image_digest: text("ImageDigest"),
            version: text("Version"),
            main_pid: take(properties, "MainPID"),
            wants: take(properties, "Wants"),
            cause: text("Cause"),
            problems: take(properties, "Problems"),
            conflicts: take(properties, "Conflicts"),
            paused_until: take(properties, "PausedUntil"),
            recoveries: take(properties, "Recoveries"),
            work: text("Work"),
            interrupted: take(properties, "Interrupted"),
        }
    }

    /// What differs from `old`, by name: the content of one `PropertiesChanged` signal. The latency is another at each
    /// probe and is left out, or an idle suite would never be silent.
    pub fn changes(&self, old: &Self) -> HashMap<&'static str, Variant<'_>> {
        let mut changes = changed(self.properties(), old.properties());
        changes.remove("LatencyUSec");
        changes
    }
}

/// The properties of the manager.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "documented once, at the properties of the interface")]
pub struct ManagerView {
    pub version: String,
    pub health: Health,
    pub services: Vec<String>,
    pub configuration_errors: Vec<String>,
    pub conflict_count: u32,
}

impl ManagerView {
    /// All properties by their names on the bus.
    pub fn properties(&self) -> [(&'static str, Variant<'_>); 5] {
        let services: Vec<zbus::ObjectPath<'_>> = self
            .services
            .iter()
            .filter_map(|path| zbus::ObjectPath::try_from(path.as_str()).ok())
            .collect();
        [
            ("Version", Variant::from(self.version.as_str())),
            ("Health", Variant::from(self.health.word())),
            ("Services", Variant::from(services)),
            (
                "ConfigurationErrors",
                Variant::from(self.configuration_errors.clone()),
            ),
            ("ConflictCount", Variant::from(self.conflict_count)),
        ]
    }

    /// Reads what the agent sent; what it did not send is empty.
    pub fn from_properties(properties: &HashMap<String, OwnedVariant>) -> Self {
        let services: Vec<zbus::OwnedObjectPath> = take(properties, "Services");
        Self {
            version: take(properties, "Version"),
            health: Health::from_word(&take::<String>(properties, "Health")),
            services: services.iter().map(ToString::to_string).collect(),
            configuration_errors: take(properties, "ConfigurationErrors"),
            conflict_count: take(properties, "ConflictCount"),
        }
    }

    /// What differs from `old`, by name.
    pub fn changes(&self, old: &Self) -> HashMap<&'static str, Variant<'_>> {
        changed(self.properties(), old.properties())
    }
}

/// Of two tables of the same properties, what differs, as it is now.
pub(super) fn changed<'a, const N: usize>(
    new: [(&'static str, Variant<'a>); N],
    old: [(&'static str, Variant<'_>); N],
) -> HashMap<&'static str, Variant<'a>> {
    new.into_iter()
        .zip(old)
        .filter(|(new, old)| new.1 != old.1)
        .map(|(new, _)| new)
        .collect()
}

/// One property, or its type's empty value where it is missing or of another type.
pub(super) fn take<T>(properties: &HashMap<String, OwnedVariant>, name: &str) -> T
where
    T: TryFrom<OwnedVariant> + Default,
{
    properties
        .get(name)
        .and_then(|value| value.try_clone().ok())
        .and_then(|value| T::try_from(value).ok())
        .unwrap_or_default()
}
