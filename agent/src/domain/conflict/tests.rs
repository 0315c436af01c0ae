use super::*;

fn port(protocol: Protocol, number: u16) -> Port {
    Port { protocol, number }
}

fn tcp(number: u16) -> Port {
    port(Protocol::Tcp, number)
}

fn transmission() -> Wanted {
    Wanted {
        service: "transmission".into(),
        unit: "dagger-transmission.service".into(),
        native: Some("transmission-daemon.service".into()),
        namespace: None,
        ports: vec![
            Claim {
                what: "web".into(),
                port: tcp(9091),
            },
            Claim {
                what: "peer".into(),
                port: port(Protocol::Udp, 51413),
            },
        ],
    }
}

fn units(own: Phase, native: Phase, natively: bool) -> Units {
    Units {
        own,
        native: Some(native),
        natively,
        ran: [own, native].contains(&Phase::Active),
    }
}

fn holder(unit: Option<&str>, doing: Doing) -> Holder {
    Holder {
        address: "0.0.0.0:9091".parse().unwrap(),
        doing,
        v6only: None,
        device: 0,
        unit: unit.map(str::to_owned),
        manager: None,
        socket: None,
        container: None,
        process: None,
        user: None,
    }
}

fn held(port: Port, unit: Option<&str>, doing: Doing) -> Held {
    Held {
        namespace: None,
        port,
        holder: holder(unit, doing),
    }
}

/// Kinds and holders of what is found with these sockets.
fn found(units: Units, held: &[Held]) -> Vec<(Kind, Option<String>)> {
    let wanted = transmission();
    conflicts(&[(&wanted, units)], held)
        .iter()
        .map(|conflict| (conflict.kind, conflict.with().map(str::to_owned)))
        .collect()
}

const STOPPED: Units = Units {
    own: Phase::Restarting,
    native: Some(Phase::Stopped),
    natively: false,
    ran: false,
};

#[test]
fn whoever_has_the_port_of_a_service_that_does_not_run_is_in_its_way() {
    let daemon = Some("transmission-daemon.service");
    for doing in [Doing::Listening, Doing::Bound, Doing::Connected] {
        assert_eq!(
            found(STOPPED, &[held(tcp(9091), daemon, doing)]),
            [(Kind::Taken, daemon.map(str::to_owned))],
            "{doing:?}"
        );
    }
    assert_eq!(
        found(STOPPED, &[held(tcp(9091), None, Doing::Listening)]),
        [(Kind::Taken, None)]
    );
    // The rest of a connection, our own last container, other ports, the same number of another transport.
    let own = Some("dagger-transmission.service");
    for not in [
        held(tcp(9091), daemon, Doing::Closing),
        held(tcp(9091), own, Doing::Listening),
        held(tcp(9092), daemon, Doing::Listening),
        held(port(Protocol::Udp, 9091), daemon, Doing::Bound),
        held(tcp(51413), daemon, Doing::Listening),
    ] {
        assert_eq!(found(STOPPED, std::slice::from_ref(&not)), [], "{not:?}");
    }
}

#[test]
fn a_service_that_runs_is_in_conflict_only_with_somebody_else_who_answers() {
    let up = units(Phase::Active, Phase::Stopped, false);
    let own = held(tcp(9091), Some("dagger-transmission.service"), Doing::Listening);
    let web = |unit, doing| held(tcp(9091), unit, doing);
    assert_eq!(found(up, std::slice::from_ref(&own)), []);
    // Beside our own, and instead of it.
    for sockets in [
        vec![own.clone(), web(Some("web.service"), Doing::Listening)],
        vec![web(Some("web.service"), Doing::Listening)],
    ] {
        assert_eq!(
            found(up, &sockets),
            [(Kind::Answered, Some("web.service".into()))]
        );
    }
    for not in [
        web(Some("web.service"), Doing::Connected),
        web(Some("web.service"), Doing::Bound),
        web(None, Doing::Listening),
    ] {
        assert_eq!(found(up, &[own.clone(), not.clone()]), [], "{not:?}");
    }
    let udp = held(port(Protocol::Udp, 51413), Some("web.service"), Doing::Bound);
    assert_eq!(
        found(up, &[own, udp]),
        [(Kind::Answered, Some("web.service".into()))]
    );
}

/// A refused start goes through `activating` and `deactivating`, and a look may fall into either.
#[test]
fn a_start_that_is_refused_again_and_again_has_one_conflict() {
    let wanted = transmission();
    let web = [held(tcp(9091), Some("web.service"), Doing::Listening)];
    let mut known = Vec::new();
    let mut told = (0, 0);
    for (own, ran) in [
        (Phase::Activating, false),
        (Phase::Deactivating, false),
        (Phase::Restarting, false),
        // This time the gate came before the other one, and the application itself found its port taken.
        (Phase::Activating, false),
        (Phase::Activating, true),
        (Phase::Active, true),
        (Phase::Deactivating, true),
        (Phase::Failed, true),
    ] {
        let units = Units { own, ran, ..STOPPED };
        let change = change(&known, conflicts(&[(&wanted, units)], &web), 5);
        told = (told.0 + change.begun.len(), told.1 + change.ended.len());
        known = change.now;
    }
    assert_eq!(told, (1, 0));
    assert_eq!(known[0].conflict.kind, Kind::Taken);
}

/// While a container starts or ends, a socket that cannot be named may well be its own.
#[test]
fn what_cannot_be_named_is_nobody_elses_while_the_container_comes_and_goes() {
    let unknown = [held(tcp(9091), None, Doing::Listening)];
    for own in [Phase::Activating, Phase::Deactivating] {
        let units = |ran| Units { own, ran, ..STOPPED };
        assert_eq!(found(units(true), &unknown), [], "{own:?}");
        assert_eq!(found(units(false), &unknown), [(Kind::Taken, None)], "{own:?}");
    }
}

#[test]
fn only_the_same_network_namespace_counts() {
    let wanted = Wanted {
        namespace: Some("/run/netns/wg".into()),
        ..transmission()
    };
    let here = held(tcp(9091), Some("nginx.service"), Doing::Listening);
    let there = Held {
        namespace: Some("/run/netns/wg".into()),
        ..here.clone()
    };
    assert!(conflicts(&[(&wanted, STOPPED)], &[here]).is_empty());
    assert_eq!(conflicts(&[(&wanted, STOPPED)], &[there]).len(), 1);
}

#[test]
fn a_native_owner_has_the_port_by_right_and_nobody_else() {
    let native = units(Phase::Stopped, Phase::Active, true);
    let daemon = held(tcp(9091), Some("transmission-daemon.service"), Doing::Listening);
    assert_eq!(found(native, &[daemon]), []);
    let ours = held(tcp(9091), Some("dagger-transmission.service"), Doing::Listening);
    assert_eq!(
        found(native, &[ours]),
        [(Kind::Answered, Some("dagger-transmission.service".into()))]
    );
}

#[test]
fn both_units_on_the_same_data_are_a_conflict_without_any_port() {
    let daemon = Some("transmission-daemon.service".to_owned());
    let both = units(Phase::Active, Phase::Active, false);
    assert_eq!(found(both, &[]), [(Kind::Beside, daemon)]);
    let one = units(Phase::Active, Phase::Stopped, false);
    assert_eq!(found(one, &[]), []);
    // Begun by the gate's refusal of our start and ended by its end, it would be told at every try.
    let refused = Units {
        ran: false,
        ..units(Phase::Activating, Phase::Active, false)
    };
    assert_eq!(found(refused, &[]), []);
}

#[test]
fn a_listener_is_told_rather_than_a_connection_and_a_name_rather_than_none() {
    let sockets = [
        held(tcp(9091), Some("firefox.scope"), Doing::Connected),
        held(tcp(9091), None, Doing::Listening),
        held(tcp(9091), Some("web.service"), Doing::Listening),
    ];
    assert_eq!(
        found(STOPPED, &sockets),
        [(Kind::Taken, Some("web.service".into()))]
    );
}

#[test]
fn a_conflict_begins_once_and_ends_once() {
    let wanted = transmission();
    let look = |held: &[Held]| conflicts(&[(&wanted, STOPPED)], held);
    let web = [held(tcp(9091), Some("web.service"), Doing::Listening)];
    let first = change(&[], look(&web), 5);
    assert_eq!((first.begun.len(), first.ended.len()), (1, 0));
    let second = change(&first.now, look(&web), 9);
    assert_eq!(
        (second.begun.len(), second.ended.len(), second.now[0].since),
        (0, 0, 5)
    );
    // A look that cannot name the holder ends nothing, and forgets nothing.
    let unknown = change(&second.now, look(&[held(tcp(9091), None, Doing::Listening)]), 10);
    assert_eq!((unknown.begun.len(), unknown.ended.len()), (0, 0));
    assert_eq!(unknown.now[0].conflict.with(), Some("web.service"));
    // Another holder is another conflict.
    let other = change(
        &second.now,
        look(&[held(tcp(9091), Some("b.service"), Doing::Listening)]),
        11,
    );
    assert_eq!(
        (other.begun.len(), other.ended.len(), other.now[0].since),
        (1, 1, 11)
    );
    let over = change(&other.now, Vec::new(), 12);
    assert_eq!((over.begun.len(), over.ended.len(), over.now.len()), (0, 1, 0));
}

#[test]
fn what_breaks_is_said_of_those_who_use_it_too() {
    let wanted = transmission();
    let found = conflicts(
        &[(&wanted, STOPPED)],
        &[held(tcp(9091), Some("web.service"), Doing::Listening)],
    );
    let said = words::breaks(&found[0], &["radarr", "sonarr"]);
    assert_eq!(
        said,
        "transmission does not start until the port is free, and radarr, sonarr would talk to the wrong one"
    );
    let both = conflicts(&[(&wanted, units(Phase::Active, Phase::Active, false))], &[]);
    let said = words::sentence(&both[0]);
    assert!(
        said.starts_with("transmission-daemon.service runs beside dagger-transmission.service: ")
            && said.contains("systemctl stop transmission-daemon.service"),
        "{said}"
    );
}

/// What is said of a holder that is changed like this.
fn said(unit: Option<&str>, doing: Doing, change: impl FnOnce(&mut Holder)) -> String {
    let mut holder = holder(unit, doing);
    change(&mut holder);
    words::taken("transmission", tcp(9091), Some(&holder))
}

fn process(name: &str) -> Process {
    Process {
        pid: 812,
        name: name.into(),
    }
}

/// Every part stands in the text.
fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part}: {text}");
    }
}

/// compose#4950 and #9117: "port is already allocated", by whom?
#[test]
fn compose_4950_the_holder_and_the_way_out_are_named() {
    let daemon = Some("transmission-daemon.service");
    says(
        &said(daemon, Doing::Listening, |holder| {
            holder.process = Some(process("transmission-da"));
        }),
        &[
            "TCP port 9091, which transmission needs, is taken by transmission-daemon.service",
            "(process transmission-da, PID 812, listening on *:9091)",
            "systemctl disable --now transmission-daemon.service",
            "another port in /etc/dagger/dagger.toml",
        ],
    );
    let of = |unit| said(unit, Doing::Listening, |_| ());
    says(
        &of(Some("dagger-x.service")),
        &["dagger-x.service", "both belong to the suite"],
    );
    says(
        &of(Some("dagger-transmission.service")),
        &["previous container does not end"],
    );
    says(&of(None), &["a process that cannot be named"]);
    // As it has to be typed.
    says(
        &of(Some("my\\x2dapp.service")),
        &[
            "taken by my\\x2dapp.service (",
            "disable --now 'my\\x2dapp.service'",
        ],
    );
    // Nobody has looked into the processes of a login: it is named as no more than what it is.
    let login = holder(Some("session-1.scope"), Doing::Listening);
    assert_eq!(
        (login.named(), login.comes_from()),
        (None, Some("session-1.scope"))
    );
    says(
        &of(Some("session-1.scope")),
        &[
            "taken by a process that was started in session-1.scope (",
            "`daggerctl conflicts` as root",
        ],
    );
    let of = |unit, name| {
        said(unit, Doing::Listening, |holder| {
            holder.process = Some(process(name));
        })
    };
    says(&of(None, "nc"), &["the process nc (PID 812,", "kill 812"]);
    says(
        &said(None, Doing::Connected, |_| ()),
        &["ip_local_reserved_ports=9091"],
    );
    says(&said(None, Doing::Closing, |_| ()), &["within a minute"]);
}

/// Stopping the scope of a login would end everything that the user does there.
#[test]
fn what_runs_in_a_login_is_named_by_process_and_user() {
    let login = |holder: &mut Holder| {
        holder.process = Some(process("nc"));
        holder.user = Some(1000);
    };
    let text = said(Some("session-1.scope"), Doing::Listening, login);
    says(
        &text,
        &[
            "taken by the process nc of user 1000 (PID 812, in the login session-1.scope, listening on *:9091)",
            "no service",
            "stop it (kill 812)",
        ],
    );
    assert!(!text.contains("systemctl"), "{text}");
    let mut nc = holder(Some("session-1.scope"), Doing::Listening);
    login(&mut nc);
    assert_eq!((nc.named(), nc.login()), (None, Some("session-1.scope")));
    // A user's own unit may be called so, too.
    nc.manager = Some(1000);
    assert_eq!(nc.named(), Some("session-1.scope"));
}

/// It has no unit to be named by, and is somebody else all the same.
#[test]
fn a_login_that_takes_a_port_over_is_another_conflict() {
    let wanted = transmission();
    let look = |unit| {
        conflicts(
            &[(&wanted, STOPPED)],
            &[held(tcp(9091), Some(unit), Doing::Listening)],
        )
    };
    let first = change(&[], look("web.service"), 5);
    let second = change(&first.now, look("session-1.scope"), 9);
    assert_eq!((second.begun.len(), second.ended.len()), (1, 1));
    assert_eq!(second.now[0].conflict.with(), None);
    let third = change(&second.now, look("session-1.scope"), 10);
    assert_eq!(
        (third.begun.len(), third.ended.len(), third.now[0].since),
        (0, 0, 9)
    );
}

#[test]
fn a_refusal_that_is_told_is_not_told_again() {
    let sentence = said(Some("web.service"), Doing::Listening, |_| ());
    let gate = said(Some("web.service"), Doing::Listening, |holder| {
        holder.process = Some(process("nc"));
    });
    let told = format!("transmission: {gate}");
    assert!(words::is_told(&sentence, &told), "{sentence}\n{told}");
    assert!(words::is_told("x runs beside y", "x runs beside y"));
    for other in [
        "",
        "TCP port 9091 is quiet",
        "TCP port 90911, which transmission needs, is taken",
    ] {
        assert!(!words::is_told(&sentence, other), "{other}");
    }
}

#[test]
fn containers_and_units_of_users_are_stopped_as_what_they_are() {
    let text = said(Some("libpod-0123.scope"), Doing::Listening, |holder| {
        holder.container = Some(Container {
            engine: "podman",
            handle: Some("0123456789ab".into()),
        });
    });
    says(
        &text,
        &[
            "by the podman container 0123456789ab (",
            "outside the suite",
            "podman stop 0123456789ab",
        ],
    );
    // Only the helper of the engine is known.
    let text = said(Some("docker.service"), Doing::Listening, |holder| {
        holder.process = Some(process("docker-proxy"));
        holder.container = Some(Container {
            engine: "docker",
            handle: None,
        });
    });
    says(&text, &["docker ps --filter publish=9091"]);
    let text = said(Some("web.service"), Doing::Listening, |holder| {
        holder.manager = Some(7);
    });
    says(
        &text,
        &["web.service of user 7", "as user 7 (systemctl --user disable"],
    );
}

#[test]
fn systemd_holds_a_port_for_a_socket_unit() {
    let systemd = Holder {
        socket: Some("ssh.socket".into()),
        ..holder(Some("init.scope"), Doing::Listening)
    };
    assert_eq!(systemd.named(), Some("ssh.socket"));
    let text = words::taken("sonarr", tcp(8989), Some(&systemd));
    assert!(text.contains("systemctl disable --now ssh.socket"), "{text}");
    // Where the socket was made in the unit's own control group, that names it.
    let own = holder(Some("ssh.socket"), Doing::Listening);
    let text = words::taken("sonarr", tcp(8989), Some(&own));
    assert!(
        text.contains("taken by ssh.socket (") && text.contains("disable --now ssh.socket"),
        "{text}"
    );
}
