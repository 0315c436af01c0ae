//! Who a service's data belongs to: the marker `/var/lib/dagger/owner/<service>`, and the rule that picks the user that the
//! application runs as.
//!
//! The marker is an environment file of two lines, because systemd reads it too:
//!
//! ```text
//! DAGGER_UID=274
//! DAGGER_GID=169
//! ```
//!
//! A third line, `DAGGER_STATE=unused`, says that the application keeps nothing: its empty state directory is no loss.

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

/// Line of a marker whose application had written no state by its first good answer.
const UNUSED: &str = "DAGGER_STATE=unused";

/// What a marker says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marker {
    /// Who the application runs as.
    pub owner: Owner,
    /// Whether it keeps state, so that an empty directory means that something is missing.
    pub keeps_state: bool,
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
pub fn read(root: &Root, service: &ServiceName) -> Result<Option<Marker>, OwnerError> {
    let path = service.owner_marker();
    match std::fs::read_to_string(root.join(&path)) {
        Ok(text) => match parse(&text) {
            Ok(owner) => Ok(Some(Marker {
                owner,
                keeps_state: !text.lines().any(|line| line.trim() == UNUSED),
            })),
            Err(reason) => Err(OwnerError::Malformed { path, reason }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(OwnerError::Unreadable { path, source }),
    }
}

/// Writes the marker where there is none, and says whether it did.
pub fn write_if_absent(root: &Root, service: &ServiceName, marker: Marker) -> Result<bool, OwnerError> {
    let mut text = text(marker.owner);
    if !marker.keeps_state {
        text.push_str(UNUSED);
        text.push('\n');
    }
    Ok(disk::write(
        &root.join(service.owner_marker()),
        text.as_bytes(),
        Over::Keep,
    )?)
}

/// Who a directory with content belongs to: its own owner, and what lies in it where that is root.
///
/// root stands in it only where nobody else is named: nixarr gives its directories (mode 0700) to the group root while the
/// application runs with the media group, and a place made by hand is root's while what was copied there is not.
/// An error when the entries name several users, in ascending order.
pub fn of_tree(top: Owner, entries: &[Owner]) -> Result<Owner, Vec<u32>> {
    let mut uids: Vec<u32> = entries
        .iter()
        .map(|entry| entry.uid)
        .filter(|uid| *uid != 0)
        .collect();
    uids.sort_unstable();
    uids.dedup();
    let uid = match (top.uid, uids.as_slice()) {
        (0, []) => 0,
        (0, [one]) => *one,
        (0, _) => return Err(uids),
        (named, _) => named,
    };
    let mut gids = entries
        .iter()
        .filter(|entry| entry.uid == uid && entry.gid != 0)
        .map(|entry| entry.gid);
    let gid = match (top.gid, gids.next()) {
        (0, Some(first)) if gids.all(|gid| gid == first) => first,
        (named, _) => named,
    };
    Ok(Owner { uid, gid })
}

/// What is known when the user is picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The marker's.
    pub marker: Option<Owner>,
    /// Owner of the first state directory that is there and holds something, by [`of_tree`].
    pub on_disk: Option<Owner>,
    /// The configuration's.
    pub configured: Owner,
    /// The service itself names the user, rather than the suite or a default.
    pub uid_explicit: bool,
    /// The service itself names the group.
    pub gid_explicit: bool,
}

/// Picks the user that the application runs as: the marker's, else the data's, else the configuration's; user and group
/// each for itself.
///
/// What is written at the service itself is a demand, and what is on disk stays as it is: many images give everything in
/// their state to the user that they are told, so another user than the data's is an error. Its sentence says what can be
/// done. A group `root` on disk says nothing (see [`of_tree`]).
pub fn pick(service: &str, state: Option<&Path>, facts: Facts) -> Result<Owner, String> {
    let Facts {
        marker,
        on_disk,
        configured,
        ..
    } = facts;
    let state = state.unwrap_or(Path::new("its state")).display().to_string();
    let about = About {
        service,
        state: &state,
        marker,
        on_disk,
        configured,
    };
    let uid = one(
        facts.uid_explicit,
        marker.map(|owner| owner.uid),
        on_disk.map(|owner| owner.uid),
        configured.uid,
    );
    let gid = one(
        facts.gid_explicit,
        marker.map(|owner| owner.gid),
        on_disk.map(|owner| owner.gid).filter(|gid| *gid != 0),
        configured.gid,
    );
    match (uid, gid) {
        (Ok(uid), Ok(gid)) => Ok(Owner { uid, gid }),
        (Err(user), Ok(_)) => Err(about.says(user.case, USER, &user.wanted.to_string())),
        (Ok(_), Err(group)) => Err(about.says(group.case, GROUP, &format!(":{}", group.wanted))),
        // Whoever mends one half must not come back for the other.
        (Err(user), Err(group)) => {
            let both = format!("{}:{}", user.wanted, group.wanted);
            Err(about.says(user.case.max(group.case), BOTH, &both))
        }
    }
}

/// Why a half of an owner cannot be picked; a later one says what to do about the earlier ones, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Case {
    /// The configuration demands another one than the marker's.
    TakenOver,
    /// The data is another's than the marker says.
    GivenAway,
    /// The data is another's than the configuration demands.
    Demanded,
    /// The data is root's, and nobody has said that root runs it.
    Roots,
}

struct Wrong {
    case: Case,
    wanted: u32,
}

fn one(explicit: bool, marker: Option<u32>, on_disk: Option<u32>, configured: u32) -> Result<u32, Wrong> {
    let wrong = |case, wanted| Err(Wrong { case, wanted });
    match (marker, on_disk) {
        (_, Some(theirs)) if explicit && theirs != configured => wrong(Case::Demanded, configured),
        (Some(ours), _) if explicit && ours != configured => wrong(Case::TakenOver, configured),
        _ if explicit => Ok(configured),
        (Some(ours), Some(theirs)) if ours != theirs => wrong(Case::GivenAway, ours),
        (Some(ours), _) => Ok(ours),
        (None, Some(0)) if configured != 0 => wrong(Case::Roots, configured),
        (None, Some(theirs)) => Ok(theirs),
        (None, None) => Ok(configured),
    }
}

const USER: &str = "`user`";
const GROUP: &str = "`group`";
const BOTH: &str = "`user` and `group`";

/// What the sentences speak of.
struct About<'a> {
    service: &'a str,
    state: &'a str,
    marker: Option<Owner>,
    on_disk: Option<Owner>,
    configured: Owner,
}

impl About<'_> {
    /// `keys`: what the configuration calls the halves that are wrong; `wanted`: whose they should be, as chown(1) takes it.
    fn says(&self, case: Case, keys: &str, wanted: &str) -> String {
        let Self { service, state, .. } = self;
        let (on_disk, marker) = (shown(self.on_disk), shown(self.marker));
        let number = wanted.trim_start_matches(':');
        let say = if keys == BOTH { "say" } else { "says" };
        match case {
            Case::Demanded => format!(
                "{state} belongs to {on_disk}, but {keys} of {service} {say} {number}: take {keys} out of the configuration \
                 to run as the owner of the data, or give the data away first (chown -R {wanted} {state}); nothing was \
                 changed"
            ),
            Case::TakenOver => format!(
                "{service} was taken over as {marker} (marker /var/lib/dagger/owner/{service}), but {keys} now {say} \
                 {number}: make the two agree; nothing was changed"
            ),
            Case::GivenAway => format!(
                "{state} belongs to {on_disk}, but {service} runs as {marker} (marker /var/lib/dagger/owner/{service}): make \
                 the two agree, by giving the data back (chown -R {wanted} {state}) or by writing its owner into the \
                 marker; nothing was changed"
            ),
            Case::Roots => format!(
                "{state} and all that lies in it belongs to root, but {service} runs as {}: give it away first (chown -R \
                 {} {state}); nothing was changed",
                self.configured, self.configured
            ),
        }
    }
}

fn shown(owner: Option<Owner>) -> String {
    owner.map_or_else(|| "nobody".to_owned(), |owner| owner.to_string())
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

    const US: Owner = Owner { uid: 568, gid: 568 };

    fn facts(marker: Option<Owner>, on_disk: Option<Owner>, explicit: (bool, bool)) -> Facts {
        Facts {
            marker,
            on_disk,
            configured: US,
            uid_explicit: explicit.0,
            gid_explicit: explicit.1,
        }
    }

    fn picked(facts: Facts) -> Result<Owner, String> {
        pick("sonarr", Some(Path::new("/s/sonarr")), facts)
    }

    #[test]
    fn the_marker_wins_then_the_data_then_the_configuration() {
        let no = (false, false);
        let data = Some(owner(274, 169));
        for (facts, expected) in [
            (facts(None, None, no), US),
            (facts(None, None, (true, true)), US),
            (facts(None, data, no), owner(274, 169)),
            (facts(data, data, no), owner(274, 169)),
            (facts(data, None, no), owner(274, 169)),
            // root's group is not taken over (nixarr's 0700 directories).
            (facts(None, Some(owner(274, 0)), no), owner(274, 568)),
            (facts(data, Some(owner(274, 0)), no), owner(274, 169)),
            // One half demanded, the other found.
            (facts(None, Some(owner(568, 169)), (true, false)), owner(568, 169)),
            (facts(None, Some(owner(274, 568)), (false, true)), owner(274, 568)),
        ] {
            assert_eq!(picked(facts).unwrap(), expected, "{facts:?}");
        }
    }

    #[test]
    fn nothing_on_disk_ever_gets_another_owner() {
        let no = (false, false);
        let data = Some(owner(274, 169));
        let cases: [(Facts, &[&str]); 9] = [
            (
                facts(None, data, (true, false)),
                &[
                    "/s/sonarr belongs to 274:169, but `user` of sonarr says 568",
                    "take `user` out",
                    "(chown -R 568 /s/sonarr)",
                ],
            ),
            (
                facts(None, Some(owner(568, 169)), (false, true)),
                &[
                    "belongs to 568:169, but `group` of sonarr says 568",
                    "take `group` out",
                    "(chown -R :568 /s/sonarr)",
                ],
            ),
            (
                facts(Some(owner(1, 568)), None, (true, false)),
                &["taken over as 1:568 (marker /var/lib/dagger/owner/sonarr), but `user` now says 568"],
            ),
            (
                facts(Some(owner(568, 1)), None, (false, true)),
                &["taken over as 568:1 (marker", "but `group` now says 568"],
            ),
            (
                facts(Some(US), data, no),
                &[
                    "/s/sonarr belongs to 274:169, but sonarr runs as 568:568 (marker",
                    "(chown -R 568:568 /s/sonarr)",
                ],
            ),
            (
                facts(Some(US), Some(owner(568, 169)), no),
                &[
                    "belongs to 568:169, but sonarr runs as 568:568",
                    "(chown -R :568 /s/sonarr)",
                ],
            ),
            (
                facts(None, data, (true, true)),
                &[
                    "belongs to 274:169, but `user` and `group` of sonarr say 568:568",
                    "take `user` and `group` out",
                    "(chown -R 568:568 /s/sonarr)",
                ],
            ),
            (
                facts(Some(owner(1, 2)), None, (true, true)),
                &[
                    "taken over as 1:2 (marker",
                    "but `user` and `group` now say 568:568",
                ],
            ),
            (
                facts(None, Some(owner(0, 0)), no),
                &[
                    "belongs to root, but sonarr runs as 568:568",
                    "chown -R 568:568 /s/sonarr",
                ],
            ),
        ];
        for (facts, parts) in cases {
            let error = picked(facts).unwrap_err();
            for part in parts.iter().chain(&["nothing was changed"]) {
                assert!(error.contains(part), "{part}: {error}");
            }
        }
    }

    #[test]
    fn a_place_of_roots_belongs_to_who_lives_there() {
        let root = owner(0, 0);
        let app = owner(275, 169);
        for (top, entries, expected) in [
            (app, vec![root, owner(1, 1)], Ok(app)),
            (root, vec![app, root, app], Ok(app)),
            (root, vec![root], Ok(root)),
            (root, vec![app, owner(276, 169)], Err(vec![275, 276])),
            (owner(275, 0), vec![app], Ok(app)),
            (owner(275, 0), vec![app, owner(275, 7)], Ok(owner(275, 0))),
        ] {
            assert_eq!(of_tree(top, &entries), expected, "{top} {entries:?}");
        }
    }

    #[test]
    fn markers_are_written_once() {
        let dir = std::env::temp_dir().join(format!("dagger-owner-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir(&dir).unwrap();
        let root = Root::new(dir.canonicalize().unwrap());
        let service = ServiceName::parse("sonarr").unwrap();
        assert_eq!(read(&root, &service).unwrap(), None);
        let marker = |uid, keeps_state| Marker {
            owner: owner(uid, 2),
            keeps_state,
        };
        assert!(write_if_absent(&root, &service, marker(1, false)).unwrap());
        assert!(!write_if_absent(&root, &service, marker(3, true)).unwrap());
        assert_eq!(read(&root, &service).unwrap(), Some(marker(1, false)));
        std::fs::write(root.join(service.owner_marker()), "x").unwrap();
        assert!(
            read(&root, &service)
                .unwrap_err()
                .to_string()
                .contains("/var/lib/dagger/owner/sonarr")
        );
    }
}
