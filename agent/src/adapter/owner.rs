//! Who a service's data belongs to: the marker `/var/lib/dagger/owner/<service>`, and the rule that picks the user that the
//! application runs as.
//!
//! The marker is an environment file of two lines, because systemd reads it too:
//!
//! ```text
//! DAGGER_UID=274
//! DAGGER_GID=169
//! ```

use std::fmt;
use std::io;
use std::path::Path;

use dagger_suite::names::{Root, ServiceName};

use super::disk::{self, DiskError, Over};

/// A user and a group, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// `274:169`, as chown(1) takes it.
impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.uid, self.gid)
    }
}

impl std::str::FromStr for Owner {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (uid, gid) = text
            .split_once(':')
            .ok_or_else(|| format!("{text:?} is not UID:GID"))?;
        Ok(Self {
            uid: number(uid)?,
            gid: number(gid)?,
        })
    }
}

/// The last number stands for "no user" in the kernel's calls.
fn number(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(number) if number != u32::MAX && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(number),
        _ => Err(format!("{text:?} is not the number of a user or group")),
    }
}

/// Text of a marker, or of any other file that tells systemd who to run as.
pub fn text(owner: Owner) -> String {
    format!("DAGGER_UID={}\nDAGGER_GID={}\n", owner.uid, owner.gid)
}

/// Reads such a text back. Other variables, comments and blank lines may stand in it.
pub fn parse(text: &str) -> Result<Owner, String> {
    let (mut uid, mut gid) = (None, None);
    for line in text.lines() {
        match line.trim().split_once('=') {
            Some(("DAGGER_UID", value)) => uid = Some(number(value)?),
            Some(("DAGGER_GID", value)) => gid = Some(number(value)?),
            _ => {}
        }
    }
    match (uid, gid) {
        (Some(uid), Some(gid)) => Ok(Owner { uid, gid }),
        (None, _) => Err("there is no DAGGER_UID= in it".into()),
        (_, None) => Err("there is no DAGGER_GID= in it".into()),
    }
}

/// Reading or writing a marker went wrong.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// It is there and says something else than a marker does.
    #[error("the owner marker {path} cannot be used: {reason}")]
    Malformed {
        /// Its path.
        path: String,
        /// What is wrong in it.
        reason: String,
    },
    /// It is there and cannot be read.
    #[error("the owner marker {path} cannot be read: {source}")]
    Unreadable {
        /// Its path.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// It cannot be written.
    #[error("the owner marker cannot be written: {0}")]
    Disk(#[from] DiskError),
}

/// Reads the marker; none when the container does not own the service's data (yet).
pub fn read(root: &Root, service: &ServiceName) -> Result<Option<Owner>, OwnerError> {
    let path = service.owner_marker();
    match std::fs::read_to_string(root.join(&path)) {
        Ok(text) => match parse(&text) {
            Ok(owner) => Ok(Some(owner)),
            Err(reason) => Err(OwnerError::Malformed { path, reason }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(OwnerError::Unreadable { path, source }),
    }
}

/// Writes the marker where there is none, and says whether it did.
pub fn write_if_absent(root: &Root, service: &ServiceName, owner: Owner) -> Result<bool, OwnerError> {
    Ok(disk::write(
        &root.join(service.owner_marker()),
        text(owner).as_bytes(),
        Over::Keep,
    )?)
}

/// What is known when the user is picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The marker's.
    pub marker: Option<Owner>,
    /// Owner of the first state directory, when that is there and holds something.
    pub on_disk: Option<Owner>,
    /// The configuration's.
    pub configured: Owner,
    /// The service itself names it, rather than the suite or a default.
    pub explicit: bool,
}

/// Picks the user that the application runs as: the marker's, else the data's, else the configuration's.
///
/// root is never adopted from a directory, neither as user nor as group: nixarr gives its directories (mode 0700) to the
/// group root while the application runs with the media group.
/// An explicit user that is not the data's is an error: its sentence says what can be done, and nothing is chowned.
pub fn pick(service: &str, state: Option<&Path>, facts: Facts) -> Result<Owner, String> {
    let Facts {
        marker,
        on_disk,
        configured,
        explicit,
    } = facts;
    if explicit {
        if let Some(theirs) = on_disk.filter(|owner| owner.uid != configured.uid) {
            let state = state.unwrap_or(Path::new("its state")).display();
            return Err(format!(
                "{state} belongs to {theirs}, but `user` of {service} says {}: take `user` out of the configuration to run \
                 as the owner of the data, or give the data away first (chown -R {configured} {state}); nothing was changed",
                configured.uid
            ));
        }
        if let Some(marked) = marker.filter(|owner| owner.uid != configured.uid) {
            return Err(format!(
                "{service} was taken over as {marked} (marker /var/lib/dagger/owner/{service}), but `user` now says {}: \
                 make the two agree; nothing was changed",
                configured.uid
            ));
        }
    }
    if let Some(marker) = marker {
        return Ok(marker);
    }
    if explicit {
        return Ok(configured);
    }
    Ok(on_disk
        .filter(|owner| owner.uid != 0)
        .map_or(configured, |owner| Owner {
            uid: owner.uid,
            gid: if owner.gid == 0 { configured.gid } else { owner.gid },
        }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(uid: u32, gid: u32) -> Owner {
        Owner { uid, gid }
    }

    #[test]
    fn a_marker_survives_its_file() {
        let text = text(owner(274, 169));
        assert_eq!(text, "DAGGER_UID=274\nDAGGER_GID=169\n");
        assert_eq!(parse(&text).unwrap(), owner(274, 169));
        assert_eq!(
            parse(&format!("# by hand\n\n{text}OTHER=1\n")).unwrap(),
            owner(274, 169)
        );
    }

    #[test]
    fn a_marker_that_is_none_is_never_guessed() {
        for (text, says) in [
            ("", "no DAGGER_UID"),
            ("DAGGER_UID=1\n", "no DAGGER_GID"),
            ("DAGGER_UID=root\nDAGGER_GID=0\n", "\"root\""),
            ("DAGGER_UID=4294967295\nDAGGER_GID=0\n", "4294967295"),
            ("DAGGER_UID=-1\nDAGGER_GID=0\n", "\"-1\""),
            ("DAGGER_UID=+1\nDAGGER_GID=0\n", "\"+1\""),
        ] {
            assert!(parse(text).unwrap_err().contains(says), "{text:?}");
        }
    }

    #[test]
    fn the_marker_wins_then_the_data_then_the_configuration() {
        let us = owner(568, 568);
        let facts = |marker, on_disk, explicit| Facts {
            marker,
            on_disk,
            configured: us,
            explicit,
        };
        let pick = |facts| pick("sonarr", Some(Path::new("/s/sonarr")), facts);
        for (facts, expected) in [
            (facts(None, None, false), us),
            (facts(None, None, true), us),
            (facts(None, Some(owner(274, 169)), false), owner(274, 169)),
            (
                facts(Some(owner(1, 2)), Some(owner(274, 169)), false),
                owner(1, 2),
            ),
            // Root's data is run by the configured user, and root's group is not taken over (nixarr's 0700 directories).
            (facts(None, Some(owner(0, 0)), false), us),
            (facts(None, Some(owner(274, 0)), false), owner(274, 568)),
            (
                facts(Some(owner(568, 2)), Some(owner(568, 9)), true),
                owner(568, 2),
            ),
        ] {
            assert_eq!(pick(facts).unwrap(), expected, "{facts:?}");
        }
    }

    #[test]
    fn an_explicit_user_never_takes_foreign_data() {
        let facts = Facts {
            marker: None,
            on_disk: Some(owner(274, 169)),
            configured: owner(568, 568),
            explicit: true,
        };
        let error = pick("sonarr", Some(Path::new("/s/sonarr")), facts).unwrap_err();
        for part in [
            "/s/sonarr belongs to 274:169",
            "says 568",
            "chown -R 568:568 /s/sonarr",
            "nothing was changed",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
        let marked = Facts {
            marker: Some(owner(1, 1)),
            on_disk: None,
            ..facts
        };
        assert!(
            pick("sonarr", None, marked)
                .unwrap_err()
                .contains("/var/lib/dagger/owner/sonarr")
        );
    }

    #[test]
    fn markers_are_written_once() {
        let dir = std::env::temp_dir().join(format!("dagger-owner-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir(&dir).unwrap();
        let root = Root::new(dir.canonicalize().unwrap());
        let service = ServiceName::parse("sonarr").unwrap();
        assert_eq!(read(&root, &service).unwrap(), None);
        assert!(write_if_absent(&root, &service, owner(1, 2)).unwrap());
        assert!(!write_if_absent(&root, &service, owner(3, 4)).unwrap());
        assert_eq!(read(&root, &service).unwrap(), Some(owner(1, 2)));
        std::fs::write(root.join(service.owner_marker()), "x").unwrap();
        assert!(
            read(&root, &service)
                .unwrap_err()
                .to_string()
                .contains("/var/lib/dagger/owner/sonarr")
        );
    }
}
