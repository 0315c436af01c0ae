//! A service that comes and goes.

use super::*;

/// Falls that end by themselves, each at one of these seconds: bad answers, and a good one before anything is done.
fn fallen(at: &[u64]) -> Patient {
    let mut patient = Patient::healthy();
    for second in at {
        patient.falls(*second);
        patient.at(second + 1, &good());
    }
    patient
}

#[test]
fn a_service_that_comes_and_goes_is_recognised_as_such() {
    // When it fell, when it is looked at, and what it is called then.
    let cases: [(&[u64], u64, Health); 6] = [
        (&[], 200, Health::Healthy),
        (&[200, 300, 400], 410, Health::Healthy),
        (&[200, 300, 400, 500], 510, Health::Degraded),
        // Four, and never four within half an hour.
        (&[200, 1000, 1500, 2100], 2110, Health::Healthy),
        (&[200, 300, 400, 500], 1990, Health::Degraded),
        // Half an hour after the first of four there are three.
        (&[200, 300, 400, 500], 2010, Health::Healthy),
    ];
    for (falls, second, health) in cases {
        let mut patient = fallen(falls);
        patient.at(second, &good());
        assert_eq!(patient.health(), health, "{falls:?} at {second}");
        let detail = patient.machine.detail();
        let says = detail.starts_with("it comes and goes, 4 times within 30 minutes: ");
        assert_eq!(says, health == Health::Degraded, "{detail}");
    }
}

#[test]
fn a_service_that_comes_and_goes_is_told_of_once_and_left_alone_until_it_has_gone() {
    let mut patient = fallen(&[200, 300, 400, 500]);
    for second in (600..1500).step_by(100) {
        let mut effects = patient.falls(second);
        effects.extend(patient.at(second + 1, &good()));
        assert!(acts(&effects).is_empty(), "{effects:?}");
        let told = effects.iter().any(|effect| matches!(effect, Effect::Became(_)));
        assert!(!told, "{effects:?}");
    }
    // Now it is away, and stays away.
    patient.falls(1500);
    assert!(acts(&patient.at(1799, &bad())).is_empty());
    assert_eq!(patient.health(), Health::Degraded);
    assert_eq!(acts(&patient.at(1800, &bad())), [&Action::Look]);
    assert_eq!(patient.health(), Health::Unhealthy);
}
