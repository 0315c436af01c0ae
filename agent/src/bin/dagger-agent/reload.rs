//! Services come and go: the configuration in force becomes the one that was read.

use std::path::PathBuf;
use std::sync::Arc;

use dagger_agent::adapter::bus::Owner;
use dagger_agent::adapter::{clock, journal, keep};
use dagger_agent::domain::event;
use dagger_agent::domain::machine::Watchdog;
use dagger_agent::domain::schedule;
use sd_notify::NotifyState;

use crate::agent::{Agent, Key, own};
use crate::config::{self, Configuration, Watched};
use crate::entry::Entry;
use crate::publish;

impl Agent {
    /// The first reading. When it returns, every object is there and shows what its unit is doing.
    pub async fn load_first(&mut self) -> Result<(), String> {
        let Configuration {
            services,
            errors,
            podman,
        } = config::load(&self.root);
        let now = clock::realtime_usec();
        let mut keepsake = keep::read(&self.root);
        let mut taken_up = Vec::new();
        for service in services {
            let kept = keepsake.remove(service.name.as_str());
            taken_up.extend(kept.map(|kept| (service.name.to_string(), kept)));
            self.insert(Entry::new(service, now));
        }
        let names: Vec<&str> = self.units.keys().map(String::as_str).collect();
        let units = self
            .systemd
            .units(&names)
            .await
            .map_err(|error| format!("systemd does not say how the units are: {error}"))?;
        for (name, change) in units {
            let unit = self.units.get(&name).and_then(|key| self.services.get_mut(key));
            if let Some(unit) = unit.and_then(|entry| entry.unit_mut(&name)) {
                unit.merge(change);
            }
        }
        for (name, kept) in taken_up {
            if let Some(entry) = self.services.get_mut(name.as_str()) {
                entry.take_up(kept);
            }
        }
        let keys: Vec<Key> = self.services.keys().cloned().collect();
        for key in keys {
            self.judge_unit(&key).await.map_err(|error| error.to_string())?;
            if let Some(entry) = self.services.get(&key) {
                self.bus.add(entry).await.map_err(|error| error.to_string())?;
            }
        }
        self.configuration = Configuration {
            services: Vec::new(),
            errors,
            podman,
        };
        self.watch_media();
        self.conflicts.changed();
        self.tell_configuration();
        self.publish_configuration()
            .await
            .map_err(|error| error.to_string())
    }

    /// `systemctl reload`: says so to systemd, before and after.
    pub async fn reload_by_systemd(&mut self) -> zbus::Result<()> {
        let mut states = vec![NotifyState::Reloading];
        states.extend(NotifyState::monotonic_usec_now().ok());
        own(&states);
        let result = self.reload().await;
        own(&[NotifyState::Ready]);
        result
    }

    /// Reads the configuration again, and asks systemd how all units are.
    pub async fn reload(&mut self) -> zbus::Result<()> {
        let Configuration {
            services,
            errors,
            podman,
        } = config::load(&self.root);
        let gone: Vec<Key> = self
            .services
            .keys()
            .filter(|key| !services.iter().any(|service| service.name.as_str() == &***key))
            .cloned()
            .collect();
        let mut changed = !gone.is_empty() || errors != self.configuration.errors;
        for key in gone {
            self.remove(&key).await?;
        }
        for service in services {
            changed |= self.take_over(service).await?;
        }
        self.configuration = Configuration {
            services: Vec::new(),
            errors,
            podman,
        };
        self.systemd
            .ask(self.units.keys().cloned().collect(), self.news.clone());
        if changed {
            self.watch_media();
            self.conflicts.changed();
            self.tell_configuration();
            self.publish_configuration().await?;
        }
        Ok(())
    }

    /// A service as it was read: a new one, another one, or the same. Says whether anything changed.
    async fn take_over(&mut self, service: Watched) -> zbus::Result<bool> {
        let key: Key = Arc::from(service.name.as_str());
        let count = self.services.len();
        match self.services.get_mut(&key) {
            Some(entry) if entry.service == service => Ok(false),
            Some(entry) => {
                self.units.retain(|_, of| *of != key);
                entry.configure(service);
                // A shorter interval counts from now on, not from the end of the longer one.
                let next = schedule::after(&key, count, entry.interval(), clock::monotonic());
                self.schedule.no_later(&key, next);
                self.units
                    .extend(entry.units().map(|unit| (unit.to_owned(), key.clone())));
                let view = publish::view(entry);
                self.bus.service(entry, view).await?;
                Ok(true)
            }
            None => {
                self.insert(Entry::new(service, clock::realtime_usec()));
                if let Some(entry) = self.services.get(&key) {
                    self.bus.add(entry).await?;
                }
                Ok(true)
            }
        }
    }

    fn insert(&mut self, entry: Entry) {
        let key: Key = Arc::from(entry.service.name.as_str());
        // Two services that claim one native unit: the generator has refused one of them.
        self.units
            .extend(entry.units().map(|unit| (unit.to_owned(), key.clone())));
        self.services.insert(key, entry);
        self.stale = true;
    }

    async fn remove(&mut self, key: &Key) -> zbus::Result<()> {
        self.units.retain(|_, of| of != key);
        self.schedule.remove(key);
        self.ticks.remove(key);
        self.limits.remove(key);
        self.queue.retain(|queued| queued != key);
        self.stale = true;
        let Some(mut entry) = self.services.remove(key) else {
            return Ok(());
        };
        // It may run on, and nobody feeds its watchdog any more.
        if entry.owner != Owner::Native {
            publish::watchdog(&entry, Watchdog::Disarm);
        }
        if let Some(question) = entry.question.take() {
            question.task.abort();
            self.in_flight = self.in_flight.saturating_sub(1);
        }
        self.end_rounds(std::mem::take(&mut entry.rounds));
        self.bus.remove(&entry.service.name).await
    }

    /// Mounts at all media of the suite are watched from now on.
    fn watch_media(&mut self) {
        let places = self.services.values().flat_map(|entry| &entry.service.places);
        let mut paths: Vec<PathBuf> = places
            .filter(|place| place.kind.is_media())
            .map(|place| self.root.join(&place.path))
            .collect();
        paths.sort();
        paths.dedup();
        self.media_paths = Some(paths);
    }

    fn tell_configuration(&self) {
        let count = self.services.len().to_string();
        journal::tell(&event::CONFIGURATION_LOADED, &[("DAGGER_SERVICES", &count)]);
        for error in &self.configuration.errors {
            journal::tell(&event::CONFIGURATION_INVALID, &[("DAGGER_DETAIL", error)]);
        }
    }

    async fn publish_configuration(&self) -> zbus::Result<()> {
        let services = self
            .services
            .values()
            .map(|entry| entry.service.name.object_path())
            .collect();
        let errors = self.configuration.errors.clone();
        self.bus
            .manager(|view| {
                view.services = services;
                view.configuration_errors = errors;
            })
            .await
    }
}
