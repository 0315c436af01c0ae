//! May this caller do that? One place asks polkit for all methods that change something, and tells of what it denies.

use std::sync::{Mutex, PoisonError};

use zbus::Connection;
use zbus::message::Header;

use super::{BusError, uid};
use crate::adapter::{journal, polkit};
use crate::domain::event;

/// So many questions of one user may be open with polkit: each may wait for a password as long as it likes.
const OPEN: u32 = 8;

/// Users with their open questions. Methods run as tasks of their own, and none of them waits while it has this.
static ASKING: Mutex<Vec<(u32, u32)>> = Mutex::new(Vec::new());

/// One open question; over when this goes.
struct Question(u32);

impl Question {
    fn open(uid: u32) -> Option<Self> {
        let mut asking = ASKING.lock().unwrap_or_else(PoisonError::into_inner);
        match asking.iter_mut().find(|(user, _)| *user == uid) {
            Some((_, open)) if *open >= OPEN => return None,
            Some((_, open)) => *open += 1,
            None => asking.push((uid, 1)),
        }
        Some(Self(uid))
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        let mut asking = ASKING.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, open) in asking.iter_mut().filter(|(user, _)| *user == self.0) {
            *open = open.saturating_sub(1);
        }
        asking.retain(|(_, open)| *open > 0);
    }
}

/// What is to be allowed: an action, and the service that it is about with its unit.
#[derive(Debug, Clone, Copy)]
pub struct Deed<'a> {
    /// polkit's name of it.
    pub action: &'a str,
    /// The service.
    pub service: &'a str,
    /// Its unit.
    pub unit: &'a str,
}

/// Whether polkit lets the caller do this. Whoever waits for a password holds up nobody: this runs in the method's own
/// task. A denial is a line in the journal. Floods are to be throttled before.
pub async fn authorize(connection: &Connection, header: &Header<'_>, deed: Deed<'_>) -> Result<(), BusError> {
    let uid = uid(connection, header).await?;
    let Some(_question) = Question::open(uid) else {
        return Err(BusError::Throttled(
            "polkit has too many questions of this user to answer already".into(),
        ));
    };
    let Deed {
        action,
        service,
        unit,
    } = deed;
    let details = [("service", service), ("unit", unit)];
    let Err(refusal) = polkit::check(connection, header, action, &details).await else {
        return Ok(());
    };
    let caller = header.sender().map(ToString::to_string).unwrap_or_default();
    let detail = format!("{action} for {service}, asked by user {uid} ({caller}): {refusal}");
    journal::tell(
        &event::DENIED,
        &[("DAGGER_SERVICE", service), ("DAGGER_DETAIL", &detail)],
    );
    Err(match refusal {
        polkit::Refusal::Denied(_) => BusError::NotAuthorized(refusal.to_string()),
        polkit::Refusal::Interactive => BusError::InteractiveAuthorizationRequired(refusal.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_users_open_questions_are_bounded_and_others_are_heard() {
        let open: Vec<_> = (0..OPEN).map(|_| Question::open(4711)).collect();
        assert!(open.iter().all(Option::is_some));
        assert!(Question::open(4711).is_none());
        assert!(Question::open(4712).is_some());
        drop(open);
        assert!(Question::open(4711).is_some());
        assert!(!ASKING.lock().unwrap().iter().any(|(user, _)| *user == 4711));
    }
}
