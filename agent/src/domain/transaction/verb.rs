//! What can be done to a service, and one time that it is done.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::step::Step;

/// Who runs a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// The native unit: there is no owner marker.
    Native,
    /// The container: there is one.
    Container,
}

/// One kind of transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// From the native unit into the container.
    Migrate,
    /// From the container back to the native unit.
    Rollback,
    /// The container on a copy of the data, beside the native unit that goes on running.
    Shadow,
    /// The shadow goes, the container takes over: a migration.
    Promote,
    /// The shadow goes, and its copy.
    Discard,
    /// A shadow that is watched as a migration's container is, and then goes.
    Rehearse,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Migrate,
        Self::Rollback,
        Self::Shadow,
        Self::Promote,
        Self::Discard,
        Self::Rehearse,
    ];

    /// Its name, in the log, on the command line and in unit names.
    pub fn word(self) -> &'static str {
        match self {
            Self::Migrate => "migrate",
            Self::Rollback => "rollback",
            Self::Shadow => "shadow",
            Self::Promote => "promote",
            Self::Discard => "discard",
            Self::Rehearse => "rehearse",
        }
    }

    /// The verb with this name.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.word() == word)
    }

    /// Who owns the data before, and again when it is undone.
    pub fn from(self) -> Side {
        match self {
            Self::Rollback => Side::Container,
            Self::Migrate | Self::Shadow | Self::Promote | Self::Discard | Self::Rehearse => Side::Native,
        }
    }

    /// Who owns it after the commit.
    pub fn to(self) -> Side {
        match self {
            Self::Migrate | Self::Promote => Side::Container,
            Self::Rollback | Self::Shadow | Self::Discard | Self::Rehearse => Side::Native,
        }
    }

    /// The step that, once it is noted as done, makes an interrupted transaction go on rather than back. None: it goes back
    /// until it is committed.
    pub fn turning_point(self) -> Option<Step> {
        match self {
            Self::Migrate | Self::Rollback | Self::Promote => Some(Step::Flip),
            Self::Shadow | Self::Rehearse => None,
            // What was begun to be thrown away is of no use to anybody.
            Self::Discard => Some(Step::StopShadow),
        }
    }
}

/// What a rollback does with what the container has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Data {
    /// It goes back, too.
    #[default]
    Keep,
    /// The data is as it was before the migration; what the container wrote stays in this transaction's snapshot.
    Restore,
}

/// What a transaction was asked for, beyond its verb.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Options {
    /// Of a rollback.
    pub data: Data,
    /// The snapshot that [`Data::Restore`] means, by the id of the transaction that made it.
    pub snapshot: Option<String>,
    /// No setting has to be another for the new side, and no file another's: that step is left out. A log that does not say
    /// so has it.
    pub nothing_to_adjust: bool,
}

/// The user and group that the container's application runs as: what the owner marker says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunAs {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// One transaction, as it is begun. Nothing here changes on the way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Transaction {
    /// Its name, also of its snapshot: letters, digits and hyphens, unique for the service.
    pub id: String,
    /// The service.
    pub service: String,
    /// What is done.
    pub verb: Verb,
    /// How.
    #[serde(default)]
    pub options: Options,
    /// Who the container runs as; needed where [`Verb::to`] is the container.
    #[serde(default)]
    pub run_as: Option<RunAs>,
    /// What the world outside needs to know for its steps (paths, units, images), in its own words. The engine does not
    /// look into it.
    #[serde(default)]
    pub plan: Value,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_lead_back() {
        for verb in Verb::ALL {
            assert_eq!(Verb::from_word(verb.word()), Some(verb));
            assert_eq!(serde_json::to_value(verb).unwrap(), verb.word());
        }
        assert_eq!(Verb::from_word("Migrate"), None);
    }

    #[test]
    fn a_log_that_does_not_say_so_has_the_step_that_adjusts() {
        let older: Options = serde_json::from_str(r#"{"data":"keep","snapshot":null}"#).unwrap();
        assert_eq!(older, Options::default());
        assert!(!older.nothing_to_adjust);
    }

    #[test]
    fn only_what_changes_hands_turns_at_the_flip() {
        for verb in Verb::ALL {
            assert_eq!(
                verb.from() != verb.to(),
                verb.turning_point() == Some(Step::Flip),
                "{verb:?}"
            );
        }
    }
}
