//! The library guard: what an application's library holds before a change and after it, and whether anything was lost.
//!
//! An application that finds a path empty takes its films for deleted, within seconds and without an error
//! (jellyfin#17900, Radarr#3128). Nothing in its own answers shows that; the counts do.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A drop of more than so many percent is a loss. What people delete in the minutes of a migration is less.
const DROP_PERCENT: u64 = 2;

/// What a library holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// How many there are of each kind, in the application's words: `series`, `torrents`, `users`.
    pub items: BTreeMap<String, u64>,
    /// The directories that it keeps its media in, by path as the application names them, and whether each is there and
    /// holds something.
    pub roots: BTreeMap<String, bool>,
}

/// What an application takes out of its library by itself when it finds a path empty. Torrents, users and keys are people's.
const SCANNED: [&str; 18] = [
    "series",
    "episode files",
    "movies",
    "movie files",
    "artists",
    "track files",
    "authors",
    "book files",
    "Movie",
    "Series",
    "Season",
    "Episode",
    "MusicAlbum",
    "Audio",
    "AudioBook",
    "Book",
    "BoxSet",
    "Playlist",
];

impl Counts {
    /// What of it a scan of the media may change, now that `now` is what there is. A root folder that cannot be reached is
    /// another matter, and no other side of the service would reach it; one that has left the application's list is not.
    #[must_use]
    pub fn by_scan(&self, now: &Self) -> Self {
        let items = self
            .items
            .iter()
            .filter(|(what, _)| SCANNED.contains(&what.as_str()));
        let roots = self
            .roots
            .iter()
            .filter(|(path, _)| !now.roots.contains_key(*path));
        Self {
            items: items.map(|(what, count)| (what.clone(), *count)).collect(),
            roots: roots.map(|(path, there)| (path.clone(), *there)).collect(),
        }
    }
}

/// Something that was there before and is not any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// A root folder went from the application's list, or cannot be reached any more.
    Root {
        /// Its path.
        path: String,
    },
    /// There are fewer of a kind.
    Items {
        /// Of which kind.
        what: String,
        /// How many there were.
        before: u64,
        /// How many there are.
        after: u64,
    },
    /// They cannot be counted any more: the table is gone, or the answer is another one.
    Uncounted {
        /// Of which kind.
        what: String,
        /// How many there were.
        before: u64,
    },
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root { path } => write!(f, "the root folder {path} is gone"),
            Self::Items { what, before, after } => write!(f, "{after} of {before} {what} are left"),
            Self::Uncounted { what, before } => {
                write!(f, "its {before} {what} cannot be counted any more")
            }
        }
    }
}

/// What the guard says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing was lost.
    Whole,
    /// The service is to be stopped and rolled back: what was lost, root folders first.
    Lost(Vec<Loss>),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => f.write_str("the library is as it was"),
            Self::Lost(losses) => {
                let words: Vec<_> = losses.iter().map(ToString::to_string).collect();
                f.write_str(&words.join("; "))
            }
        }
    }
}

/// Compares a library with what it was. What was not there before cannot be lost: more is always good.
pub fn guard(before: &Counts, after: &Counts) -> Verdict {
    let roots = before
        .roots
        .iter()
        .filter(|(path, reached)| **reached && after.roots.get(*path) != Some(&true))
        .map(|(path, _)| Loss::Root { path: path.clone() });
    let items = before.items.iter().filter_map(|(what, before)| {
        let what = what.clone();
        match after.items.get(&what) {
            None if *before == 0 => None,
            None => Some(Loss::Uncounted {
                what,
                before: *before,
            }),
            Some(after) => fallen(*before, *after).then_some(Loss::Items {
                what,
                before: *before,
                after: *after,
            }),
        }
    });
    let losses: Vec<_> = roots.chain(items).collect();
    if losses.is_empty() {
        Verdict::Whole
    } else {
        Verdict::Lost(losses)
    }
}

/// Whether that is a drop beyond the limit.
fn fallen(before: u64, after: u64) -> bool {
    let lost = u128::from(before.saturating_sub(after));
    lost * 100 > u128::from(before) * u128::from(DROP_PERCENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(items: &[(&str, u64)], roots: &[(&str, bool)]) -> Counts {
        Counts {
            items: items
                .iter()
                .map(|(what, many)| ((*what).to_owned(), *many))
                .collect(),
            roots: roots
                .iter()
                .map(|(path, there)| ((*path).to_owned(), *there))
                .collect(),
        }
    }

    /// Native to container, the paths inside are others: after the scan both libraries are empty, and no error is logged.
    #[test]
    fn jellyfin_17900_libraries_that_a_scan_empties_trip_the_guard() {
        let before = counts(&[("Movie", 812), ("Series", 74), ("users", 3)], &[]);
        let after = counts(&[("Movie", 0), ("Series", 0), ("users", 3)], &[]);
        let verdict = guard(&before, &after);
        assert_eq!(
            verdict.to_string(),
            "0 of 812 Movie are left; 0 of 74 Series are left"
        );
    }

    #[test]
    fn radarr_3128_a_root_folder_that_vanishes_trips_the_guard() {
        let before = counts(&[("movies", 500)], &[("/fun/films", true), ("/old", false)]);
        for after in [
            counts(&[("movies", 500)], &[("/fun/films", false), ("/old", false)]),
            counts(&[("movies", 500)], &[]),
        ] {
            let path = "/fun/films".to_owned();
            assert_eq!(guard(&before, &after), Verdict::Lost(vec![Loss::Root { path }]));
        }
        // One that could not be reached before is nobody's loss.
        let after = counts(&[("movies", 500)], &[("/fun/films", true)]);
        assert_eq!(guard(&before, &after), Verdict::Whole);
    }

    #[test]
    fn the_limit_is_two_percent() {
        let trips = |before, after| {
            guard(
                &counts(&[("series", before)], &[]),
                &counts(&[("series", after)], &[]),
            ) != Verdict::Whole
        };
        assert!(!trips(100, 98));
        assert!(trips(100, 97));
        assert!(trips(1, 0));
        assert!(!trips(0, 0));
        assert!(!trips(3, 400));
        assert!(!trips(u64::MAX, u64::MAX));
        assert!(trips(u64::MAX, 0));
    }

    #[test]
    fn a_scan_is_asked_for_what_a_scan_removes() {
        let before = counts(
            &[("series", 50), ("users", 4), ("API keys", 1), ("torrents", 9)],
            &[("/fun/tv", true), ("/fun/old", true)],
        );
        // Somebody has removed a key and a user; a disk is away, which is the agent's affair.
        let after = counts(
            &[("series", 50), ("users", 3)],
            &[("/fun/tv", false), ("/fun/old", true)],
        );
        assert_eq!(guard(&before.by_scan(&after), &after), Verdict::Whole);
        let after = counts(&[("series", 0), ("users", 3)], &[("/fun/tv", true)]);
        let verdict = guard(&before.by_scan(&after), &after);
        assert_eq!(
            verdict.to_string(),
            "the root folder /fun/old is gone; 0 of 50 series are left"
        );
    }

    #[test]
    fn what_cannot_be_counted_any_more_is_a_loss() {
        let before = counts(&[("series", 7), ("users", 0)], &[]);
        let verdict = guard(&before, &Counts::default());
        assert_eq!(verdict.to_string(), "its 7 series cannot be counted any more");
    }
}
