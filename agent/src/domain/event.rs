//! Events: everything that the agent tells the journal on its own account, one row each.
//!
//! `units/lib/systemd/catalog/dagger.catalog` explains each row to people (`journalctl -x`); a test below compares the two.
//! A new message is a new row here and a new entry there.

use super::health::Health;

/// How much an event weighs, in syslog's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// Normal but worth a line.
    Notice,
    /// Somebody should look.
    Warning,
    /// Something does not work.
    Error,
}

/// One kind of event.
#[derive(Debug, PartialEq, Eq)]
pub struct Event {
    /// Identity in the journal, 128 bits in hex: `journalctl MESSAGE_ID=...`.
    pub id: &'static str,
    /// Weight.
    pub priority: Priority,
    /// The journal fields that it carries besides `MESSAGE` and `MESSAGE_ID`.
    pub fields: &'static [&'static str],
    /// The message; `{FIELD}` stands for a field's value.
    pub sentence: &'static str,
}

/// Fields of everything that is about a service. `OBJECT_PID` is there while it has a main process: journald then shows
/// the line in the service's own log, too.
const OF_SERVICE: &[&str] = &[
    "DAGGER_SERVICE",
    "DAGGER_HEALTH",
    "DAGGER_DETAIL",
    "DAGGER_UNIT",
    "OBJECT_PID",
];

/// The verdict on a service changed to `inactive`.
pub const INACTIVE: Event = Event {
    id: "95d3bc631d7a4efd8908fe8cc7e04f39",
    priority: Priority::Notice,
    fields: OF_SERVICE,
    sentence: "{DAGGER_SERVICE} is inactive: {DAGGER_DETAIL}",
};

/// The verdict on a service changed to `healthy`.
pub const HEALTHY: Event = Event {
    id: "7f7f5aee1cce46828037227ccc86e47c",
    priority: Priority::Notice,
    fields: OF_SERVICE,
    sentence: "{DAGGER_SERVICE} is healthy: {DAGGER_DETAIL}",
};

/// The verdict on a service changed to `unknown`.
pub const UNKNOWN: Event = Event {
    id: "7d70c60f0742401083ab5901452dbeff",
    priority: Priority::Warning,
    fields: OF_SERVICE,
    sentence: "Nothing is known of {DAGGER_SERVICE}: {DAGGER_DETAIL}",
};

/// The verdict on a service changed to `starting`.
pub const STARTING: Event = Event {
    id: "20a52d61d80a4aff88373eeb393ded12",
    priority: Priority::Notice,
    fields: OF_SERVICE,
    sentence: "{DAGGER_SERVICE} is starting: {DAGGER_DETAIL}",
};

/// The verdict on a service changed to `degraded`.
pub const DEGRADED: Event = Event {
    id: "75f5c9defeaa4f75bf2b4b55f42fe0dc",
    priority: Priority::Warning,
    fields: OF_SERVICE,
    sentence: "{DAGGER_SERVICE} is degraded: {DAGGER_DETAIL}",
};

/// The verdict on a service changed to `recovering`.
pub const RECOVERING: Event = Event {
    id: "d4704a3680f64981b9375754fd40dfed",
    priority: Priority::Warning,
    fields: OF_SERVICE,
    sentence: "{DAGGER_SERVICE} is recovering: {DAGGER_DETAIL}",
};

/// The verdict on a service changed to `unhealthy`.
pub const UNHEALTHY: Event = Event {
    id: "0061d5cfeb744944bf49d940f2ecf6c7",
    priority: Priority::Warning,
    fields: OF_SERVICE,
    sentence: "{DAGGER_SERVICE} is unhealthy: {DAGGER_DETAIL}",
};

/// The verdict on a service changed to `failed`.
pub const FAILED: Event = Event {
    id: "2bfc6925b3eb4a9aac1206429ca72b58",
    priority: Priority::Error,
    fields: OF_SERVICE,
    sentence: "{DAGGER_SERVICE} failed: {DAGGER_DETAIL}",
};

/// Fields of what is done about a service.
const OF_RECOVERY: &[&str] = &[
    "DAGGER_SERVICE",
    "DAGGER_DETAIL",
    "DAGGER_CAUSE",
    "DAGGER_UNIT",
    "OBJECT_PID",
];

/// A service does not answer, and the reason is not its own: it is waited for.
pub const WAITING: Event = Event {
    id: "7d41612417f745928162a85a433d4f7b",
    priority: Priority::Warning,
    fields: OF_RECOVERY,
    sentence: "{DAGGER_SERVICE} is left alone: {DAGGER_DETAIL}",
};

/// A service is restarted.
pub const RECOVERY_STARTED: Event = Event {
    id: "bf2f662556d04ca8990f641d7c9f12bf",
    priority: Priority::Warning,
    fields: OF_RECOVERY,
    sentence: "{DAGGER_SERVICE} is restarted: {DAGGER_DETAIL}",
};

/// A service answers again.
pub const RECOVERY_FINISHED: Event = Event {
    id: "c72a938a8fb34c029757ee9061e1e572",
    priority: Priority::Notice,
    fields: OF_RECOVERY,
    sentence: "{DAGGER_SERVICE} answers again: {DAGGER_DETAIL}",
};

/// All that could be done has been done.
pub const GIVEN_UP: Event = Event {
    id: "bfd6364a5fa54bfbbd54c76d7f52c091",
    priority: Priority::Error,
    fields: OF_RECOVERY,
    sentence: "{DAGGER_SERVICE} is stopped and not restarted any more: {DAGGER_DETAIL}",
};

/// Media is gone, and the application must not take that for an empty library.
pub const MEDIA_LOST: Event = Event {
    id: "d17a513113194fc5b4dd1dd5e060cf84",
    priority: Priority::Error,
    fields: OF_RECOVERY,
    sentence: "{DAGGER_SERVICE} is kept from an empty library: {DAGGER_DETAIL}",
};

/// Somebody has paused recovery.
pub const PAUSED: Event = Event {
    id: "f4a6dc646d0548439f56ad1377ad04eb",
    priority: Priority::Notice,
    fields: OF_RECOVERY,
    sentence: "Recovery of {DAGGER_SERVICE} is paused: {DAGGER_DETAIL}",
};

/// Recovery goes on.
pub const RESUMED: Event = Event {
    id: "948119648a7f4bbe8b6f65edfbcdbb3b",
    priority: Priority::Notice,
    fields: OF_RECOVERY,
    sentence: "Recovery of {DAGGER_SERVICE} goes on: {DAGGER_DETAIL}",
};

/// Fields of conflicts. `DAGGER_HOLDER` is the unit that stands in the way, where it is known; `DAGGER_PORT` is `tcp:8989`.
const OF_CONFLICT: &[&str] = &[
    "DAGGER_SERVICE",
    "DAGGER_DETAIL",
    "DAGGER_CONFLICT",
    "DAGGER_PORT",
    "DAGGER_HOLDER",
    "DAGGER_UNIT",
    "OBJECT_PID",
];

/// Somebody else has what a service needs for itself.
pub const CONFLICT_BEGAN: Event = Event {
    id: "c0d5296a4f7a4b56bc9cdc58c7bdee1e",
    priority: Priority::Warning,
    fields: OF_CONFLICT,
    sentence: "Conflict: {DAGGER_DETAIL}",
};

/// And not any more.
pub const CONFLICT_ENDED: Event = Event {
    id: "0afc78ffcc4f4966b79ba0215df842c9",
    priority: Priority::Notice,
    fields: OF_CONFLICT,
    sentence: "Conflict over: {DAGGER_DETAIL}",
};

/// Fields of jobs. `DAGGER_JOB` is what is done: `migrate`.
const OF_JOB: &[&str] = &["DAGGER_SERVICE", "DAGGER_JOB", "DAGGER_DETAIL", "DAGGER_UNIT"];

/// A job is at work on a service.
pub const JOB_BEGAN: Event = Event {
    id: "46b1db1395394748ae1e68bd13e5e605",
    priority: Priority::Notice,
    fields: OF_JOB,
    sentence: "{DAGGER_SERVICE}: {DAGGER_JOB} has begun: {DAGGER_DETAIL}",
};

/// It has ended as it was asked for.
pub const JOB_DONE: Event = Event {
    id: "fc39bf4aa82440f78ad391f29cd7fa5b",
    priority: Priority::Notice,
    fields: OF_JOB,
    sentence: "{DAGGER_SERVICE}: {DAGGER_JOB} is done: {DAGGER_DETAIL}",
};

/// It has ended in another way.
pub const JOB_FAILED: Event = Event {
    id: "f883f4b690834e87bf74d82847ae9b54",
    priority: Priority::Warning,
    fields: OF_JOB,
    sentence: "{DAGGER_SERVICE}: {DAGGER_JOB} was not done: {DAGGER_DETAIL}",
};

/// Somebody asked for something that polkit does not allow.
pub const DENIED: Event = Event {
    id: "816df87055a2457886c6fbcdae43275f",
    priority: Priority::Warning,
    fields: &["DAGGER_SERVICE", "DAGGER_DETAIL"],
    sentence: "Denied: {DAGGER_DETAIL}",
};

/// The configuration was read and is in force.
pub const CONFIGURATION_LOADED: Event = Event {
    id: "67bc17a2c4404554aec8f24b3def9107",
    priority: Priority::Notice,
    fields: &["DAGGER_SERVICES"],
    sentence: "The configuration is in force: {DAGGER_SERVICES} services",
};

/// The configuration has a mistake; one event each.
pub const CONFIGURATION_INVALID: Event = Event {
    id: "34a3f8bffe1b45f8ba6ed3706e640ee8",
    priority: Priority::Error,
    fields: &["DAGGER_DETAIL"],
    sentence: "Mistake in the configuration: {DAGGER_DETAIL}",
};

/// Every row, with its name for programs.
pub const NAMES: [(&str, &Event); 23] = [
    ("inactive", &INACTIVE),
    ("healthy", &HEALTHY),
    ("unknown", &UNKNOWN),
    ("starting", &STARTING),
    ("degraded", &DEGRADED),
    ("recovering", &RECOVERING),
    ("unhealthy", &UNHEALTHY),
    ("failed", &FAILED),
    ("waiting", &WAITING),
    ("recovery-started", &RECOVERY_STARTED),
    ("recovery-finished", &RECOVERY_FINISHED),
    ("given-up", &GIVEN_UP),
    ("media-lost", &MEDIA_LOST),
    ("paused", &PAUSED),
    ("resumed", &RESUMED),
    ("conflict-began", &CONFLICT_BEGAN),
    ("conflict-ended", &CONFLICT_ENDED),
    ("job-began", &JOB_BEGAN),
    ("job-done", &JOB_DONE),
    ("job-failed", &JOB_FAILED),
    ("denied", &DENIED),
    ("configuration-loaded", &CONFIGURATION_LOADED),
    ("configuration-invalid", &CONFIGURATION_INVALID),
];

/// Every row.
pub fn all() -> impl Iterator<Item = &'static Event> {
    NAMES.iter().map(|(_, event)| *event)
}

/// The name of the row with this id.
pub fn name_of(id: &str) -> Option<&'static str> {
    NAMES
        .iter()
        .find(|(_, event)| event.id == id)
        .map(|(name, _)| *name)
}

impl Event {
    /// The event that tells of a new verdict.
    pub fn of(health: Health) -> &'static Self {
        match health {
            Health::Inactive => &INACTIVE,
            Health::Healthy => &HEALTHY,
            Health::Unknown => &UNKNOWN,
            Health::Starting => &STARTING,
            Health::Degraded => &DEGRADED,
            Health::Recovering => &RECOVERING,
            Health::Unhealthy => &UNHEALTHY,
            Health::Failed => &FAILED,
        }
    }

    /// The message with the values in their places.
    pub fn message(&self, values: &[(&str, &str)]) -> String {
        // Piece by piece, so that a value which looks like a placeholder stays what it is.
        let mut message = String::new();
        let mut rest = self.sentence;
        while let Some((before, after)) = rest.split_once('{') {
            message.push_str(before);
            let Some((field, after)) = after.split_once('}') else {
                rest = after;
                break;
            };
            let value = values.iter().find(|(name, _)| *name == field);
            message.push_str(value.map_or("", |(_, value)| value));
            rest = after;
        }
        message.push_str(rest);
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CATALOG: &str = include_str!("../../../units/lib/systemd/catalog/dagger.catalog");

    /// The entries of the catalog: id and text.
    fn entries() -> Vec<(&'static str, &'static str)> {
        CATALOG
            .split("\n-- ")
            .skip(1)
            .map(|entry| entry.split_once('\n').expect("an entry has a text"))
            .collect()
    }

    #[test]
    fn the_catalog_explains_every_event_and_nothing_else() {
        let mut ids: Vec<_> = entries().into_iter().map(|(id, _)| id).collect();
        let mut rows: Vec<_> = all().map(|event| event.id).collect();
        ids.sort_unstable();
        rows.sort_unstable();
        assert_eq!(ids, rows);
        rows.dedup();
        assert_eq!(rows.len(), NAMES.len(), "an id is used once");
    }

    #[test]
    fn an_entry_has_a_subject_and_says_what_to_do_with_fields_that_are_there() {
        for (id, text) in entries() {
            let event = all().find(|event| event.id == id).expect("checked above");
            assert!(text.starts_with("Subject: "), "{id}");
            assert!(text.contains("\nDefined-By: dagger\n"), "{id}");
            let body = text.split_once("\n\n").expect("a blank line ends the head").1;
            assert!(body.len() > 80, "{id}: {body}");
            for field in text.split('@').skip(1).step_by(2) {
                assert!(
                    event.fields.contains(&field),
                    "{id}: {field} is not one of {:?}",
                    event.fields
                );
            }
        }
    }

    #[test]
    fn ids_are_ids_and_sentences_use_fields_that_are_there() {
        for event in all() {
            assert_eq!(event.id.len(), 32);
            assert!(
                event
                    .id
                    .bytes()
                    .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
            );
            for field in event
                .sentence
                .split('{')
                .skip(1)
                .filter_map(|part| part.split('}').next())
            {
                assert!(event.fields.contains(&field), "{field}");
            }
        }
    }

    #[test]
    fn every_verdict_has_its_event() {
        for (word, health) in Health::ALL {
            let sentence = Event::of(health).sentence;
            assert!(sentence.contains(word) || health == Health::Unknown, "{sentence}");
        }
    }

    #[test]
    fn a_value_is_not_taken_for_a_placeholder() {
        let values = [("DAGGER_SERVICE", "{DAGGER_DETAIL}"), ("DAGGER_DETAIL", "a {b")];
        assert_eq!(HEALTHY.message(&values), "{DAGGER_DETAIL} is healthy: a {b");
    }
}
