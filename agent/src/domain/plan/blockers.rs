//! What stands in the way of a migration. Each is found before anything is touched, and says what to do.

use dagger_suite::model::Service;

use super::adjust::Adjustment;
use super::boot::given_back;
use super::facts::{Facts, Integrity, Link, Place, Schema, Stored};
use super::finding::{Code, Finding};
use super::hands::Hands;
use super::schema::{self, Knows};
use super::sight::{self, Sight};
use super::warnings::regenerated;
use super::{bytes, cost, media};

/// Everything that stands in the way, the reason that makes others pointless first.
pub fn blockers(service: &Service, facts: &Facts, changes: &[Adjustment]) -> Vec<Finding> {
    if facts.owned {
        return vec![owned(service, facts)];
    }
    let Some(native) = &facts.native else {
        return vec![unknown_unit(service)];
    };
    let look = Look { service, facts };
    let mut found = Vec::new();
    if !service.accept_regenerated {
        found.extend(
            native
                .regenerated
                .iter()
                .map(|file| regenerated(service, native, file)),
        );
    }
    found.extend(look.namespace(native.namespace.as_deref()));
    for place in &facts.places {
        found.extend(look.elsewhere(place));
        found.extend(look.missing(place));
        found.extend(look.marker(place));
        found.extend(look.links(place));
        found.extend(look.given_away(place));
    }
    found.extend(look.unfound_roles());
    found.extend(look.holders());
    for database in &facts.databases {
        found.extend(look.system(&database.path));
        if let Integrity::Damaged(how) = &database.integrity {
            found.push(damaged(service, &database.path, how));
        }
        if let Some(Schema::Number(number)) = &database.schema {
            found.extend(look.schema(&database.path, *number));
        }
    }
    found.extend(look.version());
    let rewritten = |stored: &Stored| {
        changes
            .iter()
            .any(|change| change.before.as_deref() == Some(&stored.path))
    };
    found.extend(
        facts
            .stored
            .iter()
            .filter(|stored| !rewritten(stored))
            .filter_map(|stored| look.hidden(stored)),
    );
    found.extend(facts.media.iter().filter_map(|it| media::blocker(service, it)));
    if let Some((_, to)) = cost::gift(service, facts) {
        found.extend(facts.boot.iter().map(|rule| given_back(service, rule, to)));
    }
    found.extend(look.room());
    found
}

/// The finding for a service that nobody has configured.
pub fn not_configured(name: &str) -> Finding {
    Finding::new(
        Code::NotConfigured,
        name,
        format!("{name} is not in the configuration"),
        format!(
            "write a table [services.{name}] into /etc/dagger/dagger.toml and run `systemctl daemon-reload`"
        ),
    )
}

fn owned(service: &Service, facts: &Facts) -> Finding {
    let unit = facts
        .native
        .as_ref()
        .map_or("the native unit", |native| native.unit.as_str());
    Finding::new(
        Code::AlreadyOwned,
        service.name.owner_marker(),
        format!("{}'s data belongs to its container already", service.name),
        format!(
            "nothing is left to migrate; `nixarr-migrate rollback {}` gives it back to {unit}",
            service.name
        ),
    )
}

fn unknown_unit(service: &Service) -> Finding {
    let names: Vec<_> = service.native.iter().map(|unit| unit.name.as_str()).collect();
    let (what, place) = if names.is_empty() {
        (
            format!("nothing says which unit is {}'s native one", service.name),
            String::new(),
        )
    } else {
        (
            format!(
                "{} has no native unit on this machine ({} is not installed)",
                service.name,
                names.join(" or ")
            ),
            names.join(" "),
        )
    };
    Finding::new(
        Code::UnknownUnit,
        place,
        what,
        format!(
            "write `native = \"UNIT.service\"` into [services.{}], or start {} where there is nothing to take over",
            service.name,
            service.name.unit()
        ),
    )
}

fn damaged(service: &Service, path: &str, how: &str) -> Finding {
    Finding::new(
        Code::Damaged,
        path,
        format!("{path} was damaged before: SQLite says {how}"),
        format!(
            "restore a backup of {} in its native install first; a migration would only carry the damage along",
            service.title
        ),
    )
}

/// What all the rules look at.
struct Look<'a> {
    service: &'a Service,
    facts: &'a Facts,
}

impl Look<'_> {
    fn table(&self) -> String {
        format!("[services.{}]", self.service.name)
    }

    /// Outside of its namespace an application that was confined to a VPN would use the host's own address.
    fn namespace(&self, native: Option<&str>) -> Option<Finding> {
        use dagger_suite::model::Network;
        let path = native?;
        let inside = match &self.service.network {
            Network::Namespace(own) => own == path,
            Network::Host | Network::Bridge => false,
        };
        (!inside).then(|| {
            Finding::new(
                Code::OutsideNamespace,
                path,
                format!("the native unit lives in the network namespace {path}, and the container would not: what it sends would not go through the tunnel any more"),
                format!("write `network = \"ns:{path}\"` into {}", self.table()),
            )
        })
    }

    /// State is used where it lies: the configuration must say where that is.
    fn elsewhere(&self, place: &Place) -> Option<Finding> {
        let mount = self.service.state.iter().find(|mount| mount.role == place.role)?;
        if mount.source == place.path {
            return None;
        }
        let key = if self.service.state.len() == 1 {
            format!("state = \"{}\"", place.path)
        } else {
            format!("state = {{ {} }}", self.roles())
        };
        Some(Finding::new(
            Code::StateElsewhere,
            &place.path,
            format!(
                "the native {} directory is {}, and the container would use {}",
                place.role, place.path, mount.source
            ),
            format!("write `{key}` into {}", self.table()),
        ))
    }

    /// `data = "/a", config = "/b"`, of all places that were found.
    fn roles(&self) -> String {
        let words: Vec<_> = self
            .facts
            .places
            .iter()
            .map(|place| format!("{} = \"{}\"", place.role, place.path))
            .collect();
        words.join(", ")
    }

    /// A part of the state is none (jellyfin#14571): without its configuration an application begins anew.
    fn missing(&self, place: &Place) -> Option<Finding> {
        (!place.there && cost::is_kept(&place.role)).then(|| {
            Finding::new(
                Code::PlaceMissing,
                &place.path,
                format!("the native {} directory {} is not there", place.role, place.path),
                format!(
                    "start the native unit once, or name the right directory as `state` in {}",
                    self.table()
                ),
            )
        })
    }

    /// Roles of the container's state that no native directory was found for.
    fn unfound_roles(&self) -> Vec<Finding> {
        let missing = self.service.state.iter().filter(|mount| {
            cost::is_kept(&mount.role) && !self.facts.places.iter().any(|place| place.role == mount.role)
        });
        missing
            .map(|mount| {
                Finding::new(
                    Code::PlaceMissing,
                    &mount.source,
                    format!(
                        "nothing tells where the native unit keeps the {} directory of {}",
                        mount.role, self.service.name
                    ),
                    format!(
                        "name it as `state = {{ {} = \"/...\" }}` in {}",
                        mount.role,
                        self.table()
                    ),
                )
            })
            .collect()
    }

    /// Jellyfin 10.11 and later refuse to start where a directory holds the marker of another role.
    fn marker(&self, place: &Place) -> Option<Finding> {
        let own = format!(".jellyfin-{}", place.role);
        let foreign = place
            .markers
            .iter()
            .find(|marker| marker.starts_with(".jellyfin-") && **marker != own)?;
        Some(Finding::new(
            Code::ForeignMarker,
            format!("{}/{foreign}", place.path),
            format!(
                "{} is to be the {} directory, and its marker says it is another one ({foreign}): Jellyfin refuses to start on it",
                place.path, place.role
            ),
            format!(
                "name each directory by its role in {} (`state = {{ {} }}`)",
                self.table(),
                self.roles()
            ),
        ))
    }

    /// Links that lead to what the container does not see, as Debian's settings.json of Transmission does.
    fn links(&self, place: &Place) -> Vec<Finding> {
        place
            .links
            .iter()
            .filter(|link| sight::sight(self.service, &link.target) != Sight::Same)
            .map(|link| self.link(link))
            .collect()
    }

    fn link(&self, link: &Link) -> Finding {
        let dir = match link.target.rsplit_once('/') {
            Some(("", _)) | None => link.target.as_str(),
            Some((dir, _)) => dir,
        };
        Finding::new(
            Code::HiddenLink,
            &link.path,
            format!(
                "{} is a symbolic link to {}, which the container does not see",
                link.path, link.target
            ),
            format!(
                "add its directory to {} (`volumes = [{{ source = \"{dir}\" }}]`), or put the file itself in the link's place",
                self.table()
            ),
        )
    }

    /// A name that the application's user has given another's file, as far as the kernel lets it (proc_sys_fs(5),
    /// protected_hardlinks): an image that owns all of its state would own the file under its other names, too.
    fn given_away(&self, place: &Place) -> Option<Finding> {
        let hands = Hands::of(self.service, cost::owner(self.facts)?)?;
        let taken: Vec<_> = place
            .shared
            .iter()
            .filter(|shared| hands.take(shared.owner))
            .collect();
        let first = taken.first()?;
        let more = match taken.len() {
            1 => String::new(),
            many => format!(" (and {} more of this kind)", many - 1),
        };
        let who = match hands.from {
            None => format!(
                "{} gives all of its state to {} when it starts",
                self.service.image, hands.to
            ),
            Some(from) => format!("what is {from}'s is given to {}", hands.to),
        };
        Some(Finding::new(
            Code::GivenAway,
            &first.path,
            format!(
                "{}{more} has a further name outside of the state (a hard link) and belongs to {}: {who}, and the file would change hands out there, too",
                first.path, first.owner
            ),
            // The file's own name is whatever somebody called it, and no part of a command.
            format!(
                "remove that name, or put a copy of the file in its place; `find {} -xdev -samefile FILE` tells the other names",
                place.system.mount
            ),
        ))
    }

    /// Two at one state damage it (nixflix#230).
    fn holders(&self) -> Vec<Finding> {
        self.facts
            .holders
            .iter()
            .map(|holder| {
                let who = match (&holder.unit, holder.pid) {
                    (Some(unit), Some(pid)) => format!("{unit} ({}, PID {pid})", holder.name),
                    (Some(unit), None) => unit.clone(),
                    (None, Some(pid)) => format!("{} (PID {pid})", holder.name),
                    (None, None) => holder.name.clone(),
                };
                let remedy = match (&holder.unit, holder.pid) {
                    (Some(unit), _) => format!("stop {unit}, or give it a directory of its own"),
                    (None, Some(pid)) => format!("end the process {pid}"),
                    (None, None) => "give it a directory of its own".to_owned(),
                };
                Finding::new(
                    Code::SecondOwner,
                    &holder.path,
                    format!("{} is used by {who}, too", holder.path),
                    remedy,
                )
            })
            .collect()
    }

    /// SQLite on a network file system is damaged in time (Sonarr#3051).
    fn system(&self, path: &str) -> Option<Finding> {
        let place = self.place_of(path)?;
        place.system.is_risky().then(|| {
            Finding::new(
                Code::NetworkFileSystem,
                path,
                format!(
                    "{path} lies on {} ({}), where SQLite's locks do not hold and databases are damaged in time",
                    place.system.kind, place.system.mount
                ),
                format!(
                    "move {} to a local disk and name it as `state` in {}",
                    place.path,
                    self.table()
                ),
            )
        })
    }

    fn place_of(&self, path: &str) -> Option<&Place> {
        let places = self.facts.places.iter();
        places
            .filter(|place| sight::below(path, &place.path).is_some())
            .max_by_key(|place| place.path.len())
    }

    fn schema(&self, path: &str, number: i64) -> Option<Finding> {
        let image = self.facts.image.as_ref()?;
        let Knows::No(last) = schema::knows(&self.service.kind, &image.version, number) else {
            return None;
        };
        Some(Finding::new(
            Code::NewerSchema,
            path,
            format!(
                "{path} has schema {number}, and {} {} knows no further than {last}: it would start, and damage what it does not know",
                self.service.image, image.version
            ),
            format!("name a newer image in {}", self.table()),
        ))
    }

    /// Where there are no numbers of schemas, the application's own version tells: Jellyfin keeps the last one that ran.
    fn version(&self) -> Option<Finding> {
        let image = self.facts.image.as_ref()?;
        let native = last_version(self.facts)?;
        let (have, want) = (schema::numbers(native)?, schema::numbers(&image.version)?);
        let short = have.len().min(want.len());
        (have.get(..short)? > want.get(..short)?).then(|| {
            Finding::new(
                Code::NewerVersion,
                &self.service.image,
                format!(
                    "the native {} is version {native}, and {} is {}: an older one cannot read what a newer one has written",
                    self.service.title, self.service.image, image.version
                ),
                format!("name an image of {native} or newer in {}", self.table()),
            )
        })
    }

    /// A path in the contract between the application and the machine that the container would break.
    fn hidden(&self, stored: &Stored) -> Option<Finding> {
        if !stored.path.starts_with('/') {
            return None;
        }
        let by_name = sight::sight(self.service, &stored.path);
        let real = stored.real.as_deref().unwrap_or(&stored.path);
        let (path, sight) = match by_name {
            Sight::Same => (real, sight::sight(self.service, real)),
            other => (stored.path.as_str(), other),
        };
        let instead = match sight {
            Sight::Same => return None,
            Sight::Moved(inside) => format!("it is {inside} there"),
            Sight::Hidden => "nothing is mounted there".to_owned(),
        };
        let many = if stored.count > 1 {
            format!(", {} entries", stored.count)
        } else {
            String::new()
        };
        let leads = if path == stored.path {
            String::new()
        } else {
            format!(", which leads to {path},")
        };
        Some(Finding::new(
            Code::HiddenPath,
            &stored.path,
            format!(
                "{} ({}; {}{many}){leads} is not the same inside the container: {instead}",
                stored.path,
                stored.for_what.word(),
                stored.from
            ),
            format!(
                "mount it at the same path: `volumes = [{{ source = \"{path}\" }}]` in {}, or change it in {} first",
                self.table(),
                self.service.title
            ),
        ))
    }

    fn room(&self) -> Option<Finding> {
        let need = cost::room(self.facts);
        let room = &self.facts.room;
        (room.system.free < need).then(|| {
            Finding::new(
                Code::NoRoom,
                &room.path,
                format!(
                    "the snapshot needs {} in {}, and {} are free",
                    bytes(need),
                    room.path,
                    bytes(room.system.free)
                ),
                format!("free {} on {}", bytes(need - room.system.free), room.system.mount),
            )
        })
    }
}

/// The version that ran last, where the application writes it down (Jellyfin's system.xml).
pub(super) fn last_version(facts: &Facts) -> Option<&str> {
    let setting = facts
        .settings
        .iter()
        .find(|setting| setting.key.last().is_some_and(|key| key == "PreviousVersionStr"))?;
    setting.value.as_deref()
}
