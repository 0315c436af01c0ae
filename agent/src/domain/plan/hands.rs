//! What changes hands on the way to the container. A file is given away under all of its names: where one of them lies outside
//! of the state, somebody else's file is given away with it.

use dagger_suite::model::{IdentityStyle, Service};
use serde::{Deserialize, Serialize};

use super::cost::wanted;
use super::facts::Who;

/// Who gives to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hands {
    /// Only what is this user's is given; none: everything is, as LinuxServer's images do it at each start (`lsiown -R`).
    pub from: Option<Who>,
    /// Who has it then.
    pub to: Who,
}

impl Hands {
    /// Of a service whose state has this owner; none: everything stays whose it is.
    pub fn of(service: &Service, owner: Who) -> Option<Self> {
        let to = wanted(service, owner);
        let from = match service.identity.style {
            IdentityStyle::Puid => None,
            IdentityStyle::User | IdentityStyle::Image if owner == to => return None,
            IdentityStyle::User | IdentityStyle::Image => Some(owner),
        };
        Some(Self { from, to })
    }

    /// Whether a file of this owner becomes somebody else's.
    pub fn take(self, owner: Who) -> bool {
        owner != self.to && self.from.is_none_or(|from| from.uid == owner.uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::plan::tests::service;

    const OWN: Who = Who { uid: 274, gid: 169 };
    const ROOT: Who = Who { uid: 0, gid: 0 };

    #[test]
    fn an_image_that_owns_its_state_takes_what_is_anybody_elses() {
        let hands = Hands::of(&service("sonarr", ""), OWN).unwrap();
        assert!(!hands.take(OWN), "it is its own already");
        assert!(hands.take(ROOT));
        let group = Who { gid: 4, ..OWN };
        assert!(hands.take(group), "the others of that group lose it");
    }

    #[test]
    fn who_runs_as_its_owner_and_owns_nothing_takes_nothing() {
        let plain = "identity = \"user\"\n";
        assert_eq!(Hands::of(&service("sonarr", plain), OWN), None);
        let other = format!("{plain}user = 568\ngroup = 568\n");
        let hands = Hands::of(&service("sonarr", &other), OWN).unwrap();
        assert!(hands.take(OWN));
        assert!(!hands.take(ROOT), "a job gives only what was the giver's");
    }
}
