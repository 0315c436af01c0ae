//! What the container sees at a path of the host.

use dagger_suite::model::{Mount, Service};

/// How a path of the host looks from inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    /// The same file at the same path.
    Same,
    /// The same file at another path.
    Moved(String),
    /// It is not there, or something else is.
    Hidden,
}

/// Looks at an absolute path from inside the container.
pub fn sight(service: &Service, path: &str) -> Sight {
    let path = plain(path);
    if seen_at(service, path).as_deref() == Some(path) {
        return Sight::Same;
    }
    // From the inside out: a mount that another one covers shows nothing of this.
    let moved = mounts(service).filter_map(|mount| moved(path, &mount.source, &mount.target));
    for candidate in moved {
        if seen_at(service, &candidate).as_deref() == Some(path) {
            return Sight::Moved(candidate);
        }
    }
    Sight::Hidden
}

/// The path of the host that lies behind a path inside; none: it is the image's own.
fn seen_at(service: &Service, inside: &str) -> Option<String> {
    // Of several at one point the last one covers the others, and `max_by_key` takes the last of equals.
    let mount = mounts(service)
        .filter(|mount| below(inside, &mount.target).is_some())
        .max_by_key(|mount| plain(&mount.target).len())?;
    moved(inside, &mount.target, &mount.source)
}

fn mounts(service: &Service) -> impl Iterator<Item = &Mount> {
    service.state.iter().chain(&service.mounts)
}

/// The path with `from` in front replaced by `to`.
pub(super) fn moved(path: &str, from: &str, to: &str) -> Option<String> {
    let rest = below(path, from)?;
    let to = plain(to);
    Some(match (to, rest) {
        ("/", rest) => format!("/{rest}"),
        (to, "") => to.to_owned(),
        (to, rest) => format!("{to}/{rest}"),
    })
}

/// What of a path stands behind a directory; none when it does not lie there. The directory itself is in it.
pub(super) fn below<'a>(path: &'a str, dir: &str) -> Option<&'a str> {
    let rest = plain(path).strip_prefix(dir.trim_end_matches('/'))?;
    if rest.is_empty() {
        Some(rest)
    } else {
        rest.strip_prefix('/')
    }
}

/// Without a slash at its end, as most applications write directories and some do not.
fn plain(path: &str) -> &str {
    match path.trim_end_matches('/') {
        "" => "/",
        path => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::plan::tests::{jellyfin, sonarr};

    #[test]
    fn media_is_the_same_inside() {
        let service = sonarr();
        assert_eq!(sight(&service, "/fun/tv"), Sight::Same);
        assert_eq!(sight(&service, "/fun/"), Sight::Same);
        assert_eq!(sight(&service, "/funny"), Sight::Hidden);
        assert_eq!(sight(&service, "/"), Sight::Hidden);
        assert_eq!(sight(&service, "/mnt/tv"), Sight::Hidden);
    }

    #[test]
    fn state_is_elsewhere_inside() {
        let service = sonarr();
        let inside = Sight::Moved("/config/Backups".into());
        assert_eq!(sight(&service, "/var/lib/nixarr/sonarr/Backups"), inside);
        assert_eq!(
            sight(&service, "/config"),
            Sight::Hidden,
            "the host's own /config is not the container's"
        );
    }

    #[test]
    fn a_covered_place_is_not_seen() {
        let mut service = jellyfin();
        let cache = service
            .state
            .iter()
            .position(|mount| mount.role == "cache")
            .unwrap();
        // Another directory is mounted over a part of the configuration.
        service.state[cache].target = "/var/lib/nixarr/jellyfin/config/dlna".into();
        assert_eq!(
            sight(&service, "/var/lib/nixarr/jellyfin/config/dlna/x"),
            Sight::Hidden
        );
        assert_eq!(
            sight(&service, "/var/lib/nixarr/jellyfin/config/users"),
            Sight::Same
        );
    }
}
