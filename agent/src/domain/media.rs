//! The media tree as an application found it when it last started well, and whether what is there now is the same.
//!
//! An application that finds its library empty takes its films for deleted (Radarr #3128, Jellyfin #17900): it must never
//! see the bare mount point of a disk that is away. What is remembered is therefore little, and certain: where the tree and
//! the file systems below it were mounted, and whether anything was in them.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::surroundings::{Place, Trouble};

/// A place of a media tree: the tree itself, or a file system that is mounted below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spot {
    /// Absolute path.
    pub path: String,
    /// Mount point of the file system that it lies on: the path itself, or one above it.
    pub mount: String,
    /// Kind of that file system (`ext4`, `nfs4`), for people.
    pub kind: String,
    /// Whether anything is in it; none: it cannot be listed, and nothing is guessed.
    ///
    /// Hidden files and `lost+found` are nothing: the first mark bare mount points, the second is in every new ext4.
    pub held: Option<bool>,
}

/// All places of the media of one service at its last good start.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Record {
    /// The tree first, then what is mounted below it.
    pub spots: Vec<Spot>,
}

/// A place as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Now {
    /// It is there.
    There(Spot),
    /// Nothing of that name is there.
    Missing,
    /// It is there, and looking at it gives an error that says something about the disk: the system's own words.
    Broken(String),
    /// Whoever looks may not see it.
    Hidden,
}

impl Spot {
    /// What is wrong with the place for an application that runs, and saw it as it was at its start.
    pub fn lost(&self, now: &Now) -> Option<Trouble> {
        match now {
            Now::Missing => Some(Trouble::NotMounted),
            Now::Broken(error) => Some(Trouble::Unreadable(error.clone())),
            Now::Hidden => None,
            Now::There(now) if self.has_left(now) => Some(Trouble::NotMounted),
            Now::There(now) => self.emptied(now).then_some(Trouble::Empty),
        }
    }

    /// What keeps an application from being started on the place. A tree with something in it is welcome wherever it
    /// lies: people change disks.
    pub fn refused(&self, now: &Now) -> Option<Trouble> {
        match now {
            Now::There(now) if now.held != Some(false) => None,
            now => self.lost(now),
        }
    }

    /// Whether it is the tree, or lies in it.
    pub fn is_in(&self, tree: &str) -> bool {
        let rest = self.path.strip_prefix(tree.trim_end_matches('/'));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Its file system is not mounted any more: what is seen now is the file system below it.
    fn has_left(&self, now: &Self) -> bool {
        now.mount.len() < self.mount.len()
    }

    fn emptied(&self, now: &Self) -> bool {
        self.held == Some(true) && now.held == Some(false)
    }
}

/// A start that is refused because of the media.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal<'a> {
    /// The service.
    pub service: &'a str,
    /// The place.
    pub before: &'a Spot,
    /// What is wrong with it.
    pub trouble: Trouble,
    /// The file that remembers how it was.
    pub record: &'a str,
}

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            service,
            before,
            trouble,
            record,
        } = self;
        let place = Place {
            path: before.path.clone(),
            media: true,
            trouble: trouble.clone(),
        };
        write!(
            f,
            "{place}: {service} would take its media for deleted, so it is not started. "
        )?;
        match trouble {
            Trouble::NotMounted => write!(
                f,
                "Mount what belongs there ({}, {} at its last start)",
                before.mount, before.kind
            )?,
            Trouble::Empty => f.write_str("Mount or bring back what belongs there")?,
            Trouble::Full | Trouble::ReadOnly | Trouble::Unreadable(_) => {
                f.write_str("Look at the disk, or mount it again")?;
            }
        }
        write!(f, "; if it is meant to be so: rm {record}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spot(mount: &str, held: Option<bool>) -> Spot {
        Spot {
            path: "/fun".into(),
            mount: mount.into(),
            kind: "ext4".into(),
            held,
        }
    }

    fn there(mount: &str, held: Option<bool>) -> Now {
        Now::There(spot(mount, held))
    }

    #[test]
    fn what_stops_a_running_application_and_what_keeps_one_from_starting() {
        let (full, empty) = (Some(true), Some(false));
        let broken = Now::Broken("Input/output error".into());
        let unreadable = Some(Trouble::Unreadable("Input/output error".into()));
        let gone = Some(Trouble::NotMounted);
        let emptied = Some(Trouble::Empty);
        for (before, now, lost, refused) in [
            (spot("/fun", full), there("/fun", full), None, None),
            (
                spot("/fun", full),
                there("/fun", empty),
                emptied.clone(),
                emptied.clone(),
            ),
            (spot("/fun", full), there("/", empty), gone.clone(), gone.clone()),
            // The tree was copied to the disk below: wrong for who saw the other one, right for who starts now.
            (spot("/fun", full), there("/", full), gone.clone(), None),
            // Never guessed.
            (spot("/fun", full), there("/fun", None), None, None),
            (spot("/fun", full), Now::Hidden, None, None),
            (spot("/fun", None), there("/fun", empty), None, None),
            // A new disk, still empty, that is away: the bare mount point is not it.
            (spot("/fun", empty), there("/", empty), gone.clone(), gone.clone()),
            // A new library is allowed to be empty.
            (spot("/fun", empty), there("/fun", empty), None, None),
            (spot("/", empty), there("/", empty), None, None),
            // A disk that is new since.
            (spot("/", full), there("/fun", full), None, None),
            (
                spot("/", full),
                there("/fun", empty),
                emptied.clone(),
                emptied.clone(),
            ),
            (spot("/fun", full), Now::Missing, gone.clone(), gone.clone()),
            (
                spot("/fun", full),
                broken.clone(),
                unreadable.clone(),
                unreadable.clone(),
            ),
        ] {
            assert_eq!(before.lost(&now), lost, "{before:?} {now:?}");
            assert_eq!(before.refused(&now), refused, "{before:?} {now:?}");
        }
    }

    #[test]
    fn a_refusal_says_what_which_service_and_what_to_do() {
        let before = spot("/fun", Some(true));
        let refusal = |trouble| Refusal {
            service: "sonarr",
            before: &before,
            trouble,
            record: "/var/lib/dagger/media/sonarr",
        };
        assert_eq!(
            refusal(Trouble::NotMounted).to_string(),
            "/fun is not mounted: sonarr would take its media for deleted, so it is not started. Mount what belongs there \
             (/fun, ext4 at its last start); if it is meant to be so: rm /var/lib/dagger/media/sonarr"
        );
        assert!(
            refusal(Trouble::Empty)
                .to_string()
                .starts_with("/fun is empty and was not before: sonarr")
        );
    }
}
