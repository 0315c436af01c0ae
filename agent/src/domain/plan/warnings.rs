//! What does not stand in the way of a migration, and should be known before it.

use std::collections::BTreeSet;

use dagger_suite::model::{IdentityStyle, Service};

use super::adjust::Adjustment;
use super::blockers::last_version;
use super::facts::{Facts, Integrity, Native, Place, Schema, Use};
use super::finding::{Code, Finding};
use super::native;
use super::schema::{self, Knows};
use super::sight;

/// Everything that should be known.
pub fn warnings(service: &Service, facts: &Facts, changes: &[Adjustment]) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Some(native) = &facts.native {
        found.extend(of_unit(service, native));
        found.extend(port(service, native, facts));
    }
    found.extend(base(service, facts));
    found.extend(addresses(changes));
    for place in &facts.places {
        found.extend(of_place(service, place));
    }
    found.extend(databases(service, facts));
    found.extend(one_way(service, facts));
    found.extend(lost_paths(facts));
    found.extend(hard_links(service, facts));
    found.extend(devices(service, facts));
    let unknown = facts.unknown.iter();
    found.extend(unknown.map(|text| Finding::new(Code::Unknown, "", text, "")));
    found
}

/// What both the refusal and, where that is accepted, the warning say.
pub fn regenerated(service: &Service, native: &Native, file: &str) -> Finding {
    let todo = if service.accept_regenerated {
        "change the system's configuration instead".to_owned()
    } else {
        format!(
            "keep such changes in the system's configuration, and write `accept-regenerated = true` into [services.{}]",
            service.name
        )
    };
    Finding::new(
        Code::Regenerated,
        file,
        format!(
            "{} writes {file} anew at each start: what is changed in it while the container runs is gone after the way back",
            native.unit
        ),
        todo,
    )
}

fn of_unit(service: &Service, native: &Native) -> Vec<Finding> {
    let mut found = Vec::new();
    if service.accept_regenerated {
        let files = native.regenerated.iter();
        found.extend(files.map(|file| regenerated(service, native, file)));
    }
    if native.dynamic_user {
        found.push(Finding::new(
            Code::DynamicUser,
            &native.unit,
            format!(
                "{} has no user of its own (DynamicUser=): the container runs as {}, whose files they are now, and systemd gives them to another number after the way back",
                native.unit, native.who
            ),
            "",
        ));
    }
    let handed: BTreeSet<_> = service
        .groups
        .iter()
        .filter_map(|group| group.parse::<u32>().ok())
        .collect();
    let lost: Vec<String> = native
        .groups
        .iter()
        .filter(|gid| **gid != native.who.gid && !handed.contains(*gid))
        .map(ToString::to_string)
        .collect();
    if !lost.is_empty() {
        found.push(Finding::new(
            Code::LostGroups,
            &native.unit,
            format!(
                "{} is also in the groups {}, and the container is not: what only they may read or write it cannot",
                native.unit,
                lost.join(", ")
            ),
            format!(
                "write `groups = [{}]` into [services.{}] where that matters",
                lost.join(", "),
                service.name
            ),
        ));
    }
    found
}

/// Others may have written down where it listens (Prowlarr's applications, download clients, bookmarks).
fn port(service: &Service, native: &Native, facts: &Facts) -> Option<Finding> {
    let wanted = service.ports.first()?.port;
    let now = native::port(&service.kind, native, &facts.settings)?;
    (now != wanted).then(|| {
        Finding::new(
            Code::OtherPort,
            wanted.to_string(),
            format!("{} listens on port {now} now, and on {wanted} then", service.name),
            format!(
                "write `port = {now}` into [services.{}] to keep it, or change what points to it",
                service.name
            ),
        )
    })
}

/// Bazarr and Jellyfin answer differently below their base, and links lead elsewhere.
fn base(service: &Service, facts: &Facts) -> Option<Finding> {
    let setting = facts.settings.iter().find(|setting| {
        let key = setting.key.last().map(String::as_str);
        matches!(key, Some("UrlBase" | "base_url" | "BaseUrl"))
    })?;
    let base = setting.value.as_deref()?.trim().trim_matches('/');
    let asked = service.probe.path.trim_start_matches('/');
    let inside = base.is_empty() || sight::below(asked, base).is_some();
    (!inside).then(|| {
        Finding::new(
            Code::OtherBase,
            setting.name(),
            format!(
                "{}'s pages begin at /{base}, and the configuration does not say so",
                service.name
            ),
            format!("write `url-base = \"/{base}\"` into [services.{}]", service.name),
        )
    })
}

fn addresses(changes: &[Adjustment]) -> Vec<Finding> {
    changes
        .iter()
        .filter(|change| matches!(change.after.as_str(), "*" | "0.0.0.0"))
        .map(|change| {
            let before = change.before.as_deref().unwrap_or_default();
            Finding::new(
                Code::WiderAddress,
                change.name(),
                format!("it listens on {before} only now, and on every address of its network then"),
                "see that a firewall keeps away whoever should not reach it",
            )
        })
        .collect()
}

fn of_place(service: &Service, place: &Place) -> Vec<Finding> {
    let mut found = Vec::new();
    if place.owners.len() > 1 {
        let owners: Vec<_> = place
            .owners
            .iter()
            .map(|(who, many)| format!("{many} of {who}"))
            .collect();
        found.push(Finding::new(
            Code::MixedOwners,
            &place.path,
            format!("the entries of {} have several owners ({})", place.path, owners.join(", ")),
            match service.identity.style {
                IdentityStyle::Puid => {
                    "the image gives them all to one user at its start; the snapshot keeps who they belonged to"
                }
                _ => "see that the container's user may read and write them all",
            },
        ));
    }
    let some = |list: &[String]| match list {
        [] => String::new(),
        [one] => one.clone(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    };
    let shared: Vec<_> = place.shared.iter().map(|it| it.path.clone()).collect();
    for (code, list, what, remedy) in [
        (
            Code::SharedFiles,
            &shared,
            "have a further name outside of the state (hard links): what the container writes there shows outside, too",
            "",
        ),
        (
            Code::ForeignMount,
            &place.mounts,
            "is mounted below the state: the snapshot does not hold what is on it",
            "see to a backup of it, or take it away",
        ),
        (
            Code::SpecialFiles,
            &place.special,
            "no application keeps such a file in its state (a device, a pipe, or one with a setuid bit): the snapshot leaves devices and pipes out",
            "",
        ),
        (
            Code::Pending,
            &place.pending,
            "waits for the application's next start, which puts it in the place of the data there is",
            "remove it unless that is what you want",
        ),
    ] {
        if !list.is_empty() {
            found.push(Finding::new(
                code,
                some(list),
                format!("{}: {what}", some(list)),
                remedy,
            ));
        }
    }
    found
}

fn databases(service: &Service, facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    for database in &facts.databases {
        if let Integrity::Unknown(reason) = &database.integrity {
            found.push(Finding::new(
                Code::Unchecked,
                &database.path,
                format!("whether {} is whole is not known: {reason}", database.path),
                "it is checked again once the native unit has stopped",
            ));
        }
        let (Some(Schema::Number(number)), Some(image)) = (&database.schema, &facts.image) else {
            continue;
        };
        if schema::knows(&service.kind, &image.version, *number) == Knows::Perhaps {
            found.push(Finding::new(
                Code::SchemaUnknown,
                &database.path,
                format!(
                    "nobody can tell whether {} {} knows schema {number} of {}",
                    service.image, image.version, database.path
                ),
                "see that the image is not older than the native version; the snapshot leads back",
            ));
        }
    }
    found
}

/// A later series changes the data so that the earlier one cannot read it (jellyfin#11547).
fn one_way(service: &Service, facts: &Facts) -> Option<Finding> {
    let native = last_version(facts)?;
    let image = facts.image.as_ref()?;
    let (have, want) = (schema::numbers(native)?, schema::numbers(&image.version)?);
    let series = |version: &[u64]| version.get(..2).map(<[u64]>::to_vec);
    (series(&want)? > series(&have)?).then(|| {
        Finding::new(
            Code::OneWay,
            &service.image,
            format!(
                "{} {} brings the data of {native} forward: going back then means going back to the data of before, too",
                service.title, image.version
            ),
            format!(
                "name an image of the series of {native} in [services.{}] to keep both ways open",
                service.name
            ),
        )
    })
}

/// What was gone before is not the migration's doing, and should not look so afterwards (Radarr#11021).
fn lost_paths(facts: &Facts) -> Vec<Finding> {
    facts
        .stored
        .iter()
        .filter(|stored| stored.there == Some(false) && stored.for_what != Use::Scratch)
        .map(|stored| {
            Finding::new(
                Code::LostPath,
                &stored.path,
                format!(
                    "{} ({}; {}) is not there now",
                    stored.path,
                    stored.for_what.word(),
                    stored.from
                ),
                "mount it, or take it out of the application",
            )
        })
        .collect()
}

/// A hard link does not reach from one mount to another, and the applications copy then without a word (Sonarr#4025).
fn hard_links(service: &Service, facts: &Facts) -> Option<Finding> {
    let mount_of = |path: &str| {
        service
            .mounts
            .iter()
            .filter(|mount| sight::below(path, &mount.target).is_some())
            .max_by_key(|mount| mount.target.len())
    };
    let of = |what| facts.stored.iter().filter(move |stored| stored.for_what == what);
    for library in of(Use::Library) {
        for downloads in of(Use::Downloads) {
            let (Some(one), Some(other)) = (mount_of(&library.path), mount_of(&downloads.path)) else {
                continue;
            };
            if one.target != other.target {
                return Some(Finding::new(
                    Code::LinkBecomesCopy,
                    &downloads.path,
                    format!(
                        "{} and {} are two mounts inside: what is imported from one into the other is copied, never hard-linked",
                        one.target, other.target
                    ),
                    format!(
                        "mount a directory that holds both at the same path, as one entry of `volumes` in [services.{}] or as `media`",
                        service.name
                    ),
                ));
            }
        }
    }
    None
}

fn devices(service: &Service, facts: &Facts) -> Option<Finding> {
    let handed = |path: &str| {
        service.devices.iter().any(|device| {
            sight::below(path, &device.name).is_some()
                || (!device.name.starts_with('/') && path.starts_with("/dev/nvidia"))
        })
    };
    let lost: Vec<_> = facts
        .devices
        .iter()
        .filter(|path| !handed(path))
        .map(String::as_str)
        .collect();
    let first = lost.first()?;
    let name = if first.starts_with("/dev/dri/") {
        "/dev/dri"
    } else if first.starts_with("/dev/nvidia") {
        "nvidia.com/gpu=all"
    } else {
        first
    };
    Some(Finding::new(
        Code::LostDevice,
        *first,
        format!(
            "{} uses {} now, and its container would not have it",
            service.name,
            lost.join(", ")
        ),
        format!("write `devices = [\"{name}\"]` into [services.{}]", service.name),
    ))
}
