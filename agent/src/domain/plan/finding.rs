//! What a plan has to say: something that stands in the way, or something that should be known.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One finding. Its words are for people; [`Finding::code`] is for programs and does not change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Of which kind.
    pub code: Code,
    /// Where: a path, a unit, a setting. Empty when it is about the service as a whole.
    pub place: String,
    /// What is wrong, as a clause.
    pub what: String,
    /// What to do, as a clause; empty when nothing has to be done.
    pub remedy: String,
}

impl Finding {
    /// A finding with its words.
    pub fn new(
        code: Code,
        place: impl Into<String>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            code,
            place: place.into(),
            what: what.into(),
            remedy: remedy.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if self.remedy.is_empty() {
            Ok(())
        } else {
            write!(f, ": {}", self.remedy)
        }
    }
}

/// Kinds of findings. In JSON they are words with hyphens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The service is not in the configuration.
    NotConfigured,
    /// None of its native units is on this machine.
    UnknownUnit,
    /// The container owns the data already.
    AlreadyOwned,
    /// The native state lies elsewhere than the configuration says.
    StateElsewhere,
    /// A directory of the state is not there.
    PlaceMissing,
    /// Another unit or process has the state, too.
    SecondOwner,
    /// A marker file of another role (Jellyfin).
    ForeignMarker,
    /// A database on a file system that SQLite cannot use safely.
    NetworkFileSystem,
    /// A database was damaged before.
    Damaged,
    /// A database is newer than the image.
    NewerSchema,
    /// The application is newer than the image.
    NewerVersion,
    /// A path that the application has written down shows something else inside.
    HiddenPath,
    /// A link in the state leads to what the container does not see.
    HiddenLink,
    /// A file of somebody else's, with a further name outside, would be given away.
    GivenAway,
    /// The state is given back to its native owner at each boot.
    GivenBack,
    /// Media is not there, or empty.
    MediaMissing,
    /// Media cannot be written.
    MediaReadOnly,
    /// Not enough room for the snapshot.
    NoRoom,
    /// The native unit lives in a network namespace, and the container would not.
    OutsideNamespace,
    /// Whether a database is whole is not known.
    Unchecked,
    /// Whether the image knows the schema is not known.
    SchemaUnknown,
    /// The image is of a later series: the way back needs the snapshot.
    OneWay,
    /// The native unit writes a settings file anew at each start.
    Regenerated,
    /// A path that the application has written down is not there.
    LostPath,
    /// The native unit gets another user at each start.
    DynamicUser,
    /// Groups that the container would not have.
    LostGroups,
    /// Files of several users.
    MixedOwners,
    /// It listens where nobody would ask for its health.
    UnaskedAddress,
    /// It will listen on another port.
    OtherPort,
    /// It will listen on more addresses.
    WiderAddress,
    /// Its pages begin elsewhere than the configuration says.
    OtherBase,
    /// Files that have a further name outside.
    SharedFiles,
    /// Mounts below the state.
    ForeignMount,
    /// Device nodes, pipes and setuid files.
    SpecialFiles,
    /// Something waits for the next start.
    Pending,
    /// A device that it uses natively is not handed in.
    LostDevice,
    /// Hard links between two paths become copies.
    LinkBecomesCopy,
    /// Something could not be looked at.
    Unknown,
}
