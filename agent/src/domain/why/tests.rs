//! The cause of injected faults, and how it is told.

use super::*;
use crate::domain::standing::Exit;
use crate::domain::surroundings::{Surroundings, Trouble};
use crate::domain::verdict::Phase;

mod story;

mod faults;

use faults::{Case, faults_around, faults_of_others, faults_of_people, misleading_faults, own_faults};
use story::{Story, place, silent, suite};

#[test]
fn the_cause_of_injected_faults_is_named_and_never_with_a_wrong_certainty() {
    let plain = [
        own_faults(),
        faults_around(),
        faults_of_people(),
        faults_of_others(),
    ]
    .concat();
    let (mut right, mut wrong) = (0, Vec::new());
    for (fault, suite, says) in plain.iter().chain(&misleading_faults()) {
        let told = why(suite, "sonarr");
        assert_eq!(
            told.certain,
            !told.sentence.contains("probably"),
            "{fault}: {}",
            told.sentence
        );
        assert!(!told.evidence.is_empty(), "{fault}");
        if told.sentence.contains(says) {
            right += 1;
        } else {
            assert!(!told.certain, "{fault}: certain, and wrong: {}", told.sentence);
            wrong.push(format!("{fault}: {}", told.sentence));
        }
    }
    // Of thirty, two may be missed; here the six that mislead are counted, too.
    let all = right + wrong.len();
    assert!(
        all >= 60 && right * 30 >= all * 27,
        "{right} of {all}: {wrong:#?}"
    );
    for (fault, suite, says) in &plain {
        let told = why(suite, "sonarr");
        assert!(told.sentence.contains(says), "{fault}: {}", told.sentence);
    }
}

#[test]
fn what_was_seen_is_certain() {
    let certain = |fault: &str, cases: Vec<Case>| {
        let case = cases.into_iter().find(|(name, ..)| *name == fault);
        let (_, suite, _) = case.expect("there is such a fault");
        why(&suite, "sonarr").certain
    };
    for fault in ["crash", "exit status", "500", "out of memory", "migration"] {
        assert!(certain(fault, own_faults()), "{fault}");
    }
    for fault in ["disk full", "not mounted", "frozen", "D state"] {
        assert!(certain(fault, faults_around()), "{fault}");
    }
    for fault in ["port taken", "masked", "operator's stop"] {
        assert!(certain(fault, faults_of_people()), "{fault}");
    }
    for fault in ["load, memory", "clock", "at work"] {
        assert!(!certain(fault, faults_around()), "{fault}");
    }
}

#[test]
fn one_cause_of_many_is_told_once() {
    let waits = |later| {
        let mut story = Story::up();
        let lost = place("/fun", true, Trouble::NotMounted);
        story.after(later).falls(&silent()).found(&lost);
        story.wants(&[])
    };
    let suite = suite([
        ("jellyfin", waits(0)),
        ("prowlarr", Story::up().wants(&[])),
        ("radarr", waits(3)),
        ("sonarr", waits(9)),
    ]);
    for name in ["jellyfin", "radarr", "sonarr"] {
        assert_eq!(
            why(&suite, name).sentence,
            "/fun is not mounted; jellyfin, radarr and sonarr wait for it"
        );
    }
    let told = why(&suite, "prowlarr");
    assert_eq!(
        (told.sentence.as_str(), told.certain),
        ("prowlarr is healthy: HTTP 200", true)
    );
}

#[test]
fn the_evidence_says_what_fell_first() {
    let (_, suite, _) = faults_of_others().swap_remove(0);
    assert_eq!(
        why(&suite, "sonarr").evidence,
        [
            "prowlarr is unhealthy: it ended by itself; systemd starts it again",
            "last answer of prowlarr: HTTP 200 in 3 ms",
            "the main process of prowlarr ended by itself with exit status 1 (systemd's Result=exit-code)",
            "sonarr is unhealthy: waiting: prowlarr, which it wants, is unhealthy",
            "last answer of sonarr: HTTP 503",
            "prowlarr, which sonarr wants, is unhealthy since 74 s before it",
        ]
    );
    let told = why(&suite, "prowlarr");
    assert_eq!(
        told.evidence.last().map(String::as_str),
        Some("sonarr depends on it and fell after it")
    );
    let (_, suite, _) = faults_of_others().swap_remove(2);
    let told = why(&suite, "sonarr");
    assert!(
        told.evidence.iter().any(|line| line.ends_with("not the cause")),
        "{told:?}"
    );
}

/// The gate looks at each start anew, and what stood still has ended.
#[test]
fn what_a_run_was_like_does_not_outlive_it() {
    let frozen = Surroundings {
        frozen: true,
        ..Surroundings::default()
    };
    let stuck = Surroundings {
        stuck: Some("its processes are stopped (SIGSTOP)"),
        ..Surroundings::default()
    };
    let full = place("/var/lib/nixarr/sonarr", false, Trouble::Full);
    for (was, outlives) in [(frozen, false), (stuck, false), (full, true)] {
        let ended = || {
            let mut story = Story::up();
            story
                .falls(&silent())
                .found(&was)
                .ends("exit-code", Exit::Status(1));
            story
        };
        let told = why(&ended().alone(), "sonarr");
        assert_eq!(
            told.sentence
                .contains("sonarr ended by itself with exit status 1"),
            !outlives,
            "{}",
            told.sentence
        );
        let taken = "TCP port 8989 is taken by old.service";
        let told = why(&ended().unit(Phase::Failed, Some(taken)).alone(), "sonarr");
        assert_eq!(
            (told.sentence, told.certain),
            (format!("sonarr cannot start: {taken}"), true)
        );
    }
}

#[test]
fn a_service_that_nobody_knows_is_no_certainty() {
    let told = why(&BTreeMap::new(), "x");
    assert!(!told.certain && told.sentence.contains("probably"));
}

#[test]
fn many_names_stay_a_sentence() {
    assert_eq!(listed(&["a"]), "a");
    assert_eq!(
        listed(&["a", "b", "c", "d", "e", "f", "g", "h"]),
        "a, b, c, d, e, f and 2 more"
    );
}
