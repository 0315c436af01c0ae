//! What is waited for, and what is left alone.

use super::*;

#[test]
fn what_is_not_its_doing_is_waited_for_and_said() {
    let full = Place {
        path: "/var/lib/nixarr/sonarr".into(),
        media: false,
        trouble: Trouble::Full,
    };
    let cases: [(Surroundings, &str); 9] = [
        (
            Surroundings {
                places: vec![full],
                ..idle()
            },
            "waiting: /var/lib/nixarr/sonarr is full",
        ),
        (
            Surroundings {
                frozen: true,
                ..idle()
            },
            "waiting: it is frozen (podman unpause or systemctl thaw wakes it)",
        ),
        (
            Surroundings {
                stuck: Some("its processes wait for a disk that does not answer"),
                ..idle()
            },
            "waiting: its processes wait for a disk that does not answer",
        ),
        (
            Surroundings {
                jump: Some((s(5), "the machine resumed")),
                ..idle()
            },
            "waiting: the machine resumed a moment ago",
        ),
        (
            Surroundings {
                pressure: Some((87.0, "a processor")),
                ..idle()
            },
            "waiting: the machine is under load: tasks waited for a processor 87 % of the time",
        ),
        (
            Surroundings {
                offline: Some("lo"),
                ..idle()
            },
            "waiting: the network interface lo is down: no application can be asked",
        ),
        (
            Surroundings { late: s(3), ..idle() },
            "waiting: the machine is under load: the question itself was 3.0 s late",
        ),
        (
            Surroundings {
                providers: vec![("prowlarr".into(), Health::Failed)],
                ..idle()
            },
            "waiting: prowlarr, which it wants, is failed",
        ),
        (
            Surroundings {
                activity: Activity {
                    over: s(2),
                    bytes: 50 << 20,
                    ..Activity::default()
                },
                ..idle()
            },
            "waiting: it reads and writes, so it is at work",
        ),
    ];
    for (surroundings, says) in cases {
        let mut patient = Patient::healthy();
        patient.falls(200);
        let effects = patient.at(200, &found(surroundings));
        assert!(!restarts(&effects), "{says}");
        assert_eq!(patient.health(), Health::Unhealthy, "{says}");
        assert_eq!(patient.machine.detail(), says);
        assert!(
            effects.contains(&Effect::Watchdog(Watchdog::Disarm)),
            "a wait that has been decided must not be ended by the watchdog: {says}"
        );
        let effects = patient.at(220, &good());
        assert_eq!(patient.health(), Health::Healthy);
        assert!(
            effects
                .iter()
                .any(|it| matches!(it, Effect::Watchdog(Watchdog::Arm(_))))
        );
    }
}

#[test]
fn a_wait_has_an_end() {
    // Load explains it for a quarter of an hour, not longer.
    let mut patient = Patient::healthy();
    let loaded = Surroundings {
        pressure: Some((90.0, "a processor")),
        ..idle()
    };
    patient.falls(200);
    let mut second = 200;
    while !restarts(&patient.at(second, &found(loaded.clone()))) {
        second += 15;
        assert!(second < 2000, "for ever");
        patient.at(second, &Happened::Tick);
    }
    assert!((1100..1130).contains(&second), "{second}");
    // A full disk is never cured by a restart: after an hour it is called failed, and healthy as soon as it answers.
    let mut patient = Patient::healthy();
    let full = Surroundings {
        places: vec![Place {
            path: "/srv".into(),
            media: false,
            trouble: Trouble::Full,
        }],
        ..idle()
    };
    patient.falls(200);
    for second in (200..8000).step_by(15) {
        assert!(!restarts(&patient.at(second, &found(full.clone()))));
        patient.at(second + 14, &Happened::Tick);
    }
    assert_eq!(patient.health(), Health::Failed);
    assert_eq!(patient.machine.detail(), "still waiting: /srv is full");
    patient.at(8001, &good());
    assert_eq!(patient.health(), Health::Healthy);
}

#[test]
fn two_services_are_not_restarted_at_the_same_instant() {
    let mut patient = Patient::healthy();
    let turn = |ago| Surroundings {
        restarted: Some(("radarr".into(), ago)),
        ..idle()
    };
    patient.falls(200);
    patient.at(202, &found(turn(s(1))));
    assert_eq!(
        patient.machine.recovery().cause(),
        Some(&Cause::Turn("radarr".into()))
    );
    patient.at(220, &Happened::Tick);
    assert!(restarts(&patient.at(220, &found(turn(APART)))));
}

#[test]
fn an_operators_stop_is_not_fought() {
    let mut patient = Patient::healthy();
    patient.falls(200);
    patient.at(201, &unit(Phase::Deactivating, 100));
    patient.at(202, &unit(Phase::Stopped, 100));
    assert_eq!(patient.health(), Health::Inactive);
    assert!(acts(&patient.at(203, &found(idle()))).is_empty());
    for second in (204..4000).step_by(10) {
        assert!(acts(&patient.at(second, &Happened::Tick)).is_empty());
    }
    assert_eq!(patient.machine.wakes(), None);
}

#[test]
fn radarr_3128_media_that_is_gone_is_never_seen_as_an_empty_library() {
    let mut patient = Patient::healthy();
    let effects = patient.at(200, &Happened::Lost(fun(Trouble::NotMounted)));
    assert!(acts(&effects).contains(&&Action::Withdraw(fun(Trouble::NotMounted))));
    assert!(acts(&patient.at(201, &Happened::Lost(fun(Trouble::NotMounted)))).is_empty());
    patient.at(202, &unit(Phase::Deactivating, 100));
    patient.at(203, &unit(Phase::Activating, 203));
    patient.at(204, &refused_start("/fun, which sonarr needs, is empty"));
    assert_eq!(
        (patient.health(), patient.machine.detail().as_str()),
        (Health::Unhealthy, "waiting: /fun is not mounted")
    );
    // A mount unit that cannot be started leaves ours stopped: then it is for us to start it when the disk is back.
    patient.at(205, &unit(Phase::Stopped, 203));
    let gone = Surroundings {
        down: true,
        places: vec![fun(Trouble::NotMounted)],
        ..idle()
    };
    for second in (220..5000).step_by(15) {
        assert_eq!(acts(&patient.at(second, &Happened::Tick)), [&Action::Look]);
        assert!(acts(&patient.at(second, &found(gone.clone()))).is_empty());
    }
    patient.at(5000, &Happened::Tick);
    let back = Surroundings { down: true, ..idle() };
    assert_eq!(acts(&patient.at(5000, &found(back))), [&Action::Start]);
}

#[test]
fn a_refused_start_waits_without_an_attempt() {
    let mut patient = Patient::healthy();
    patient.at(200, &unit(Phase::Activating, 200));
    for second in (210..900).step_by(10) {
        patient.at(second, &refused_start("TCP port 8989 is taken by old.service"));
        patient.at(second + 5, &unit(Phase::Activating, second + 5));
    }
    assert_eq!(
        patient.machine.detail(),
        "waiting: TCP port 8989 is taken by old.service"
    );
    assert_eq!(patient.machine.recovery().attempts(), 0);
}

#[test]
fn a_unit_whose_mount_cannot_be_mounted_is_tried_again() {
    let mut patient = Patient::healthy();
    patient.at(200, &unit(Phase::Stopped, 100));
    patient.at(
        201,
        &Happened::Unstarted("what its unit requires could not be started".into()),
    );
    assert_eq!(
        (patient.health(), patient.machine.detail().as_str()),
        (
            Health::Unhealthy,
            "waiting: what its unit requires could not be started"
        )
    );
    let down = || Surroundings { down: true, ..idle() };
    assert_eq!(acts(&patient.at(216, &Happened::Tick)), [&Action::Look]);
    assert_eq!(acts(&patient.at(216, &found(down()))), [&Action::Start]);
    assert!(acts(&patient.at(260, &Happened::Tick)).is_empty());
    patient.at(276, &Happened::Tick);
    assert_eq!(acts(&patient.at(276, &found(down()))), [&Action::Start]);
    // Somebody does not want it any more.
    patient.at(280, &unit(Phase::Activating, 280));
    patient.at(281, &unit(Phase::Stopped, 280));
    assert_eq!(patient.health(), Health::Inactive);
}

/// A stop takes as long as the unit gives it, up to three times: that is not somebody else's stop.
#[test]
fn a_long_stop_is_not_the_end_of_a_restart() {
    for (down, health) in [
        (204, Health::Recovering),
        (293, Health::Recovering),
        // Longer than systemd takes to begin by itself.
        (380, Health::Recovering),
        (500, Health::Recovering),
        // Nobody starts it any more.
        (510, Health::Inactive),
    ] {
        let mut patient = Patient::healthy();
        restarted(&mut patient, 200);
        patient.at(203, &unit(Phase::Deactivating, 100));
        patient.at(down - 1, &Happened::Tick);
        let effects = patient.at(down, &unit(Phase::Stopped, 100));
        assert!(acts(&effects).is_empty(), "{down}: {effects:?}");
        assert_eq!(patient.health(), health, "{down}");
        patient.at(down + 1, &unit(Phase::Activating, down + 1));
        patient.at(down + 5, &unit(Phase::Active, down + 1));
        let effects = patient.at(down + 6, &good());
        let recovered = matches!(acts(&effects)[..], [Action::Recovered { attempts: 1, .. }]);
        assert_eq!(recovered, health == Health::Recovering, "{down}: {effects:?}");
    }
    // Where systemd starts it no more it is the end, whenever that is.
    for down in [204, 500, 510] {
        let mut patient = Patient::healthy();
        restarted(&mut patient, 200);
        patient.at(203, &unit(Phase::Deactivating, 100));
        patient.at(down, &unit(Phase::Failed, 100));
        assert_eq!(patient.health(), Health::Failed, "{down}");
    }
}
