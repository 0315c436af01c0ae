//! What is written on a snapshot, and which ones are kept.

use std::collections::BTreeMap;
use std::path::PathBuf;

use dagger_suite::model::Keep;
use serde::{Deserialize, Serialize};

/// What a snapshot is of, and why it was made (jellyfin#17111: a copy that only the exact version can use has to say which
/// one that is).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Label {
    /// Whose data it is.
    pub service: String,
    /// The application's version that wrote it, as it calls itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The databases' schemas, by the file's path from the top of its directory.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub schemas: BTreeMap<String, String>,
    /// The image that ran on it; none when it was the native unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// When it was made, in microseconds of CLOCK_REALTIME.
    pub when: u64,
    /// For what: `migrate`, `update`, `backup`.
    pub why: String,
    /// Each of the application's directories, by role, and where it lay. It is all of them or it is none (jellyfin#14571).
    pub roles: BTreeMap<String, PathBuf>,
    /// Files, links and pipes.
    pub files: u64,
    /// Bytes of all files, holes and shared blocks counted: an upper bound of what removing it gives back.
    pub bytes: u64,
    /// It is kept whatever the policy says.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub pinned: bool,
}

/// One snapshot, as far as its keeping is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its name.
    pub id: String,
    /// When it was made, in microseconds of CLOCK_REALTIME.
    pub when: u64,
    /// What removing it may give back.
    pub bytes: u64,
    /// It stays.
    pub pinned: bool,
}

/// The snapshots of one service that are to be removed, the oldest first.
///
/// `now` is in microseconds of CLOCK_REALTIME; one that was made after it (the clock was set back) is new. `free` is how
/// many bytes are free now.
pub fn choose(held: &[Held], policy: &Keep, now: u64, free: u64) -> Vec<String> {
    let mut held: Vec<&Held> = held.iter().collect();
    held.sort_by(|a, b| b.when.cmp(&a.when).then_with(|| b.id.cmp(&a.id)));
    let age = u64::try_from(policy.age.as_micros()).unwrap_or(u64::MAX);
    let too_many = |index: usize| index >= policy.count;
    let too_old = |one: &Held| now.saturating_sub(one.when) > age;
    let mut free = free;
    let mut chosen = Vec::new();
    for (index, one) in held.iter().enumerate().skip(1).rev() {
        if !one.pinned && (too_many(index) || too_old(one) || free < policy.floor) {
            free = free.saturating_add(one.bytes);
            chosen.push(one.id.clone());
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const DAY: u64 = 24 * 3600 * 1_000_000;
    const NOW: u64 = 1000 * DAY;

    fn held(id: &str, days: u64) -> Held {
        Held {
            id: id.to_owned(),
            when: NOW - days * DAY,
            bytes: 10,
            pinned: false,
        }
    }

    fn policy(count: usize, days: u32, floor: u64) -> Keep {
        Keep {
            count,
            age: Duration::from_hours(24) * days,
            floor,
        }
    }

    #[test]
    fn what_is_too_many_or_too_old_goes_oldest_first() {
        let all = [held("b", 2), held("d", 40), held("a", 1), held("c", 3)];
        assert_eq!(choose(&all, &policy(9, 30, 0), NOW, 0), ["d"]);
        assert_eq!(choose(&all, &policy(2, 365, 0), NOW, 0), ["d", "c"]);
        assert_eq!(choose(&all, &policy(3, 2, 0), NOW, 0), ["d", "c"]);
        assert!(choose(&all, &policy(9, 365, 0), NOW, 0).is_empty());
    }

    #[test]
    fn the_newest_stays_whatever_happens() {
        let all = [held("old", 400), held("older", 500)];
        assert_eq!(choose(&all, &policy(0, 0, u64::MAX), NOW, 0), ["older"]);
        assert!(choose(&[], &policy(0, 0, u64::MAX), NOW, 0).is_empty());
    }

    #[test]
    fn room_is_made_with_the_oldest_and_with_no_more_than_it_takes() {
        let all = [held("a", 1), held("b", 2), held("c", 3), held("d", 4)];
        assert!(choose(&all, &policy(9, 99, 100), NOW, 100).is_empty());
        assert_eq!(choose(&all, &policy(9, 99, 100), NOW, 85), ["d", "c"]);
        // What goes anyway is counted first.
        assert_eq!(choose(&all, &policy(3, 99, 100), NOW, 90), ["d"]);
    }

    #[test]
    fn what_is_pinned_stays_and_takes_nobodys_place_in_the_future() {
        let mut all = [held("a", 1), held("b", 2), held("c", 300)];
        all[2].pinned = true;
        assert_eq!(choose(&all, &policy(1, 30, u64::MAX), NOW, 0), ["b"]);
        // The clock was set back: what is from the future is not old.
        assert!(choose(&all[..2], &policy(9, 30, 0), NOW - 500 * DAY, 0).is_empty());
    }

    #[test]
    fn a_label_is_read_back_and_an_older_one_too() {
        let label = Label {
            service: "sonarr".into(),
            version: Some("4.0.19.2979".into()),
            schemas: BTreeMap::from([("sonarr.db".into(), "217".into())]),
            when: NOW,
            why: "migrate".into(),
            roles: BTreeMap::from([("state".into(), "/var/lib/nixarr/sonarr".into())]),
            ..Label::default()
        };
        let text = serde_json::to_string(&label).unwrap();
        assert_eq!(serde_json::from_str::<Label>(&text).unwrap(), label);
        assert_eq!(
            serde_json::from_str::<Label>(r#"{"service":"sonarr","new":1}"#)
                .unwrap()
                .service,
            "sonarr"
        );
    }
}
