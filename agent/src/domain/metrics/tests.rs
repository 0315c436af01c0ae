//! The text is read back by a strict reader of the format, so that a test asks for values and not for lines.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

const OWN: Own<'_> = Own {
    version: "0.1.0",
    started: Duration::from_secs(1_764_000_001),
    written: Duration::from_millis(1_764_000_100_250),
};

fn row(service: &str) -> Row<'_> {
    Row {
        service,
        health: Health::Healthy,
        since: Duration::from_secs(1_764_000_011),
        up: Some(true),
        latency: Some(Duration::from_micros(1500)),
        good: 12,
        bad: 3,
        recoveries: 1,
        paused: false,
        problems: 2,
        started: Some(Duration::from_secs(1_764_000_007)),
        cause: None,
    }
}

/// The exposition format, strictly: a head before its samples, a family in one piece, no sample twice, names and
/// escapes as they have to be, a newline at the end.
fn read(text: &str) -> BTreeMap<String, f64> {
    assert!(text.ends_with('\n'));
    let (mut families, mut samples) = (BTreeSet::new(), BTreeMap::new());
    let mut family = "";
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').expect("a help has words");
            assert!(words.ends_with('.') && !words.contains('\\'), "{line}");
            let kind = lines.next().and_then(|line| line.strip_prefix("# TYPE "));
            let kind = kind
                .and_then(|line| line.strip_prefix(name))
                .expect("TYPE after HELP");
            assert!(matches!(kind, " gauge" | " counter"), "{kind}");
            assert_eq!(kind == " counter", name.ends_with("_total"), "{name}");
            assert!(families.insert(name), "{name} comes twice");
            family = name;
            continue;
        }
        let rest = line
            .strip_prefix(family)
            .unwrap_or_else(|| panic!("{line} below {family}"));
        let value = if let Some(labels) = rest.strip_prefix('{') {
            after_labels(labels)
        } else {
            rest.strip_prefix(' ').expect("a space before the value")
        };
        let key = line
            .strip_suffix(value)
            .expect("the value ends the line")
            .trim_end();
        let value: f64 = value.parse().expect("a number");
        assert!(value.is_finite());
        assert!(
            samples.insert(key.to_owned(), value).is_none(),
            "{key} comes twice"
        );
    }
    samples
}

/// What follows the labels.
fn after_labels(mut rest: &str) -> &str {
    loop {
        let (name, content) = rest.split_once("=\"").expect("a label has a value");
        assert!(
            name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
            "{name}"
        );
        let mut escaped = false;
        let end = content.find(|c| {
            let end = c == '"' && !escaped;
            assert!(!escaped || matches!(c, '\\' | '"' | 'n'), "\\{c}");
            escaped = c == '\\' && !escaped;
            end
        });
        rest = content
            .get(end.expect("a label's value ends") + 1..)
            .expect("an ASCII quote");
        if let Some(value) = rest.strip_prefix("} ") {
            return value;
        }
        rest = rest.strip_prefix(',').expect("a comma between labels");
    }
}

#[test]
fn every_value_is_where_prometheus_finds_it() {
    let radarr = Row {
        health: Health::Unhealthy,
        up: Some(false),
        latency: None,
        paused: true,
        started: None,
        cause: Some("not-mounted"),
        ..row("radarr")
    };
    let samples = read(&text(&OWN, &[row("sonarr"), radarr]));
    for (key, value) in [
        ("dagger_agent_info{version=\"0.1.0\"}", 1.0),
        ("dagger_agent_start_time_seconds", 1_764_000_001.0),
        ("dagger_agent_written_timestamp_seconds", 1_764_000_100.25),
        (
            "dagger_service_health{service=\"sonarr\",health=\"healthy\"}",
            1.0,
        ),
        ("dagger_service_health{service=\"sonarr\",health=\"failed\"}", 0.0),
        (
            "dagger_service_health{service=\"radarr\",health=\"unhealthy\"}",
            1.0,
        ),
        ("dagger_service_up{service=\"sonarr\"}", 1.0),
        ("dagger_service_up{service=\"radarr\"}", 0.0),
        (
            "dagger_service_since_timestamp_seconds{service=\"sonarr\"}",
            1_764_000_011.0,
        ),
        (
            "dagger_service_start_time_seconds{service=\"sonarr\"}",
            1_764_000_007.0,
        ),
        ("dagger_probe_latency_seconds{service=\"sonarr\"}", 0.0015),
        ("dagger_probes_total{service=\"sonarr\",result=\"good\"}", 12.0),
        ("dagger_probes_total{service=\"sonarr\",result=\"bad\"}", 3.0),
        ("dagger_recoveries_total{service=\"sonarr\"}", 1.0),
        ("dagger_service_paused{service=\"radarr\"}", 1.0),
        ("dagger_service_problems{service=\"sonarr\"}", 2.0),
        (
            "dagger_service_waiting{service=\"radarr\",cause=\"not-mounted\"}",
            1.0,
        ),
    ] {
        assert_eq!(samples.get(key), Some(&value), "{key} in {samples:#?}");
    }
    for absent in [
        "dagger_probe_latency_seconds{service=\"radarr\"}",
        "dagger_service_start_time_seconds{service=\"radarr\"}",
        "dagger_service_waiting{service=\"sonarr\",cause=\"not-mounted\"}",
    ] {
        assert!(!samples.contains_key(absent), "{absent}");
    }
}

#[test]
fn exactly_one_verdict_holds() {
    for (_, health) in Health::ALL {
        let samples = read(&text(
            &OWN,
            &[Row {
                health,
                ..row("sonarr")
            }],
        ));
        let held = samples
            .iter()
            .filter(|(key, value)| key.starts_with("dagger_service_health{") && **value > 0.0);
        assert_eq!(held.count(), 1, "{health:?}");
    }
}

#[test]
fn an_agent_without_services_still_speaks() {
    assert_eq!(read(&text(&OWN, &[])).len(), 3);
}

#[test]
fn a_label_may_hold_anything() {
    let strange = "a\"} 7\nb\\";
    let text = text(&OWN, &[row(strange)]);
    assert!(
        text.contains("dagger_service_up{service=\"a\\\"} 7\\nb\\\\\"} 1\n"),
        "{text}"
    );
    read(&text);
}

#[test]
fn it_is_written_at_once_then_seldom_and_no_change_is_lost() {
    let at = |seconds: u64| Duration::from_secs(1000 + seconds);
    let mut pace = Pace::default();
    assert!(pace.due(at(0)));
    assert!(!pace.due(at(59)), "nothing changed");
    assert!(pace.due(at(60)));
    pace.changed();
    assert!(!pace.due(at(74)), "too soon");
    assert!(pace.due(at(75)), "what changed in between is still there");
    assert!(!pace.due(at(100)));
}

#[test]
fn what_nobody_has_asked_yet_is_not_said_to_be_down() {
    for (good, health, says) in [
        (None, Health::Starting, None),
        (None, Health::Unknown, None),
        (None, Health::Healthy, Some(true)),
        (None, Health::Inactive, Some(false)),
        (Some(true), Health::Starting, Some(true)),
        (Some(false), Health::Healthy, Some(false)),
    ] {
        assert_eq!(up(good, health), says, "{good:?} {health:?}");
    }
    let mut fresh = row("sonarr");
    fresh.up = up(None, Health::Starting);
    let samples = read(&text(&OWN, &[fresh]));
    assert!(!samples.keys().any(|key| key.starts_with("dagger_service_up")));
}
