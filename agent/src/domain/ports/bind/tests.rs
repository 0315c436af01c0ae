use super::*;
use Answer::{Allows, Depends, Excludes};
use State::{Bound, Connected, Listening, TimeWait};

/// A socket in words: protocol and address, then `v6only`, `addr` (SO_REUSEADDR), `port` (SO_REUSEPORT), `uid=`, `dev=`,
/// `ns=`, `at=` (port).
fn socket(words: &str) -> Bind {
    let mut words = words.split(' ');
    let protocol = match words.next().unwrap() {
        "tcp" => Protocol::Tcp,
        _ => Protocol::Udp,
    };
    let mut bind = Bind {
        place: Place {
            namespace: 1,
            protocol,
            address: words.next().unwrap().parse().unwrap(),
            port: 9091,
            device: 0,
            uid: 0,
        },
        options: Options {
            v6only: false,
            reuse_address: false,
            reuse_port: false,
        },
    };
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, "0"));
        match key {
            "v6only" => bind.options.v6only = true,
            "addr" => bind.options.reuse_address = true,
            "port" => bind.options.reuse_port = true,
            "uid" => bind.place.uid = value.parse().unwrap(),
            "dev" => bind.place.device = value.parse().unwrap(),
            "ns" => bind.place.namespace = value.parse().unwrap(),
            "at" => bind.place.port = value.parse().unwrap(),
            _ => panic!("{word}"),
        }
    }
    bind
}

fn check(rows: &[(&str, &str, State, Answer)]) {
    for (wanted, held, state, expected) in rows {
        let answer = excludes(&socket(wanted), &socket(held).held(*state));
        assert_eq!(answer, *expected, "{wanted} beside {held}, {state:?}");
    }
}

/// Without any option: by address, family, protocol, port, interface and namespace.
#[test]
fn who_is_at_the_same_place() {
    let places = [
        // IPv4: the same, another, and the wildcard on either side.
        ("tcp 127.0.0.1", "tcp 127.0.0.1", Excludes),
        ("tcp 127.0.0.1", "tcp 127.0.0.2", Allows),
        ("tcp 127.0.0.1", "tcp 0.0.0.0", Excludes),
        ("tcp 0.0.0.0", "tcp 127.0.0.1", Excludes),
        ("tcp 0.0.0.0", "tcp 0.0.0.0", Excludes),
        // IPv6.
        ("tcp ::1", "tcp ::1", Excludes),
        ("tcp ::1", "tcp ::2", Allows),
        ("tcp ::1", "tcp ::", Excludes),
        ("tcp ::", "tcp ::1", Excludes),
        ("tcp ::", "tcp ::", Excludes),
        // `[::]` takes IPv4 too, unless it says that it does not.
        ("tcp ::", "tcp 127.0.0.1", Excludes),
        ("tcp 127.0.0.1", "tcp ::", Excludes),
        ("tcp ::", "tcp 0.0.0.0", Excludes),
        ("tcp 0.0.0.0", "tcp ::", Excludes),
        ("tcp :: v6only", "tcp 0.0.0.0", Allows),
        ("tcp 0.0.0.0", "tcp :: v6only", Allows),
        ("tcp :: v6only", "tcp 127.0.0.1", Allows),
        ("tcp 127.0.0.1", "tcp :: v6only", Allows),
        ("tcp :: v6only", "tcp ::", Excludes),
        ("tcp ::", "tcp :: v6only", Excludes),
        ("tcp :: v6only", "tcp :: v6only", Excludes),
        ("tcp :: v6only", "tcp ::1", Excludes),
        // An IPv6 address of its own is IPv6 only, said or not.
        ("tcp ::1", "tcp 127.0.0.1", Allows),
        ("tcp ::1", "tcp 0.0.0.0", Allows),
        ("tcp 0.0.0.0", "tcp ::1", Allows),
        // Mapped addresses are IPv4.
        ("tcp ::ffff:127.0.0.1", "tcp 127.0.0.1", Excludes),
        ("tcp 127.0.0.1", "tcp ::ffff:127.0.0.1", Excludes),
        ("tcp ::ffff:127.0.0.1", "tcp ::ffff:127.0.0.2", Allows),
        ("tcp ::ffff:127.0.0.1", "tcp 0.0.0.0", Excludes),
        ("tcp ::ffff:127.0.0.1", "tcp ::", Excludes),
        ("tcp ::ffff:127.0.0.1", "tcp :: v6only", Allows),
        ("tcp :: v6only", "tcp ::ffff:127.0.0.1", Allows),
        ("tcp ::ffff:127.0.0.1", "tcp ::1", Allows),
        ("tcp ::ffff:0.0.0.0", "tcp 127.0.0.2", Excludes),
        ("tcp ::ffff:0.0.0.0", "tcp ::1", Allows),
        ("tcp ::", "tcp ::ffff:0.0.0.0", Excludes),
        // Other protocol, port, namespace.
        ("tcp 0.0.0.0", "udp 0.0.0.0", Allows),
        ("udp 0.0.0.0", "udp 0.0.0.0", Excludes),
        ("udp ::", "udp 127.0.0.1", Excludes),
        ("udp 127.0.0.1", "udp 127.0.0.2", Allows),
        ("tcp 0.0.0.0", "tcp 0.0.0.0 at=9092", Allows),
        ("tcp 0.0.0.0", "tcp 0.0.0.0 ns=2", Allows),
        // Interfaces: the same, another, any.
        ("tcp 0.0.0.0 dev=1", "tcp 0.0.0.0 dev=1", Excludes),
        ("tcp 0.0.0.0 dev=1", "tcp 0.0.0.0 dev=2", Allows),
        ("tcp 0.0.0.0 dev=1", "tcp 0.0.0.0", Excludes),
        ("tcp 0.0.0.0", "tcp 0.0.0.0 dev=2", Excludes),
    ];
    for (wanted, held, expected) in places {
        // What a socket does makes no difference to somebody who shares with nobody.
        for state in [Bound, Listening, Connected, TimeWait] {
            check(&[(wanted, held, state, expected)]);
        }
    }
}

#[test]
fn who_shares_a_tcp_port() {
    check(&[
        // SO_REUSEADDR on both sides, and nobody listens: bind(2) and listen(2) succeed.
        ("tcp 0.0.0.0 addr", "tcp 0.0.0.0 addr", Bound, Allows),
        ("tcp 0.0.0.0 addr", "tcp 0.0.0.0 addr", Connected, Allows),
        ("tcp 0.0.0.0 addr", "tcp 0.0.0.0 addr", TimeWait, Allows),
        // One listens: bind(2) fails, and so does listen(2) of who was bound before.
        ("tcp 0.0.0.0 addr", "tcp 0.0.0.0 addr", Listening, Excludes),
        ("tcp 127.0.0.1 addr", "tcp 0.0.0.0 addr", Listening, Excludes),
        ("tcp 127.0.0.1 addr", "tcp :: addr", Listening, Excludes),
        ("tcp 127.0.0.1 addr", "tcp 127.0.0.2 addr", Listening, Allows),
        // On one side only.
        ("tcp 0.0.0.0 addr", "tcp 0.0.0.0", Bound, Excludes),
        ("tcp 0.0.0.0", "tcp 0.0.0.0 addr", Bound, Excludes),
        ("tcp 0.0.0.0 addr", "tcp 0.0.0.0", TimeWait, Excludes),
        ("tcp 0.0.0.0", "tcp 0.0.0.0 addr", TimeWait, Excludes),
        ("tcp 0.0.0.0", "tcp 0.0.0.0 addr", Connected, Excludes),
        // SO_REUSEPORT: one user, whatever the other does.
        ("tcp 0.0.0.0 port", "tcp 0.0.0.0 port", Listening, Allows),
        ("tcp 0.0.0.0 port", "tcp :: port", Listening, Allows),
        ("tcp 0.0.0.0 port", "tcp 0.0.0.0 port", Bound, Allows),
        (
            "tcp 0.0.0.0 port uid=7",
            "tcp 0.0.0.0 port uid=7",
            Listening,
            Allows,
        ),
        ("tcp 0.0.0.0 port", "tcp 0.0.0.0 port uid=7", Listening, Excludes),
        ("tcp 0.0.0.0 port uid=7", "tcp 0.0.0.0 port", Bound, Excludes),
        ("tcp 0.0.0.0 port", "tcp 0.0.0.0 port uid=7", Connected, Excludes),
        // What is over has no user.
        ("tcp 0.0.0.0 port", "tcp 0.0.0.0 port uid=7", TimeWait, Allows),
        ("tcp 0.0.0.0 port", "tcp 0.0.0.0", Listening, Excludes),
        ("tcp 0.0.0.0", "tcp 0.0.0.0 port", Listening, Excludes),
        // Each its own kind of sharing is none.
        ("tcp 0.0.0.0 port", "tcp 0.0.0.0 addr", Bound, Excludes),
        ("tcp 0.0.0.0 addr", "tcp 0.0.0.0 port", Bound, Excludes),
        // Both kinds: the second helps where the first does not.
        (
            "tcp 0.0.0.0 addr port",
            "tcp 0.0.0.0 addr port",
            Listening,
            Allows,
        ),
        (
            "tcp 0.0.0.0 addr port",
            "tcp 0.0.0.0 addr port uid=7",
            Bound,
            Allows,
        ),
        (
            "tcp 0.0.0.0 addr port",
            "tcp 0.0.0.0 addr port uid=7",
            Listening,
            Excludes,
        ),
    ]);
}

#[test]
fn who_shares_a_udp_port() {
    check(&[
        // SO_REUSEADDR is enough on UDP, also for another user: the newer one takes the datagrams.
        ("udp 0.0.0.0 addr", "udp 0.0.0.0 addr", Bound, Allows),
        ("udp 0.0.0.0 addr", "udp 0.0.0.0 addr uid=7", Bound, Allows),
        ("udp 0.0.0.0 addr", "udp 127.0.0.1 addr", Connected, Allows),
        ("udp 0.0.0.0 addr", "udp 0.0.0.0", Bound, Excludes),
        ("udp 0.0.0.0", "udp 0.0.0.0 addr", Bound, Excludes),
        ("udp 0.0.0.0 port", "udp 0.0.0.0 port", Bound, Allows),
        ("udp 0.0.0.0 port", "udp 0.0.0.0 port uid=7", Bound, Excludes),
        ("udp 0.0.0.0 port", "udp 0.0.0.0 addr", Bound, Excludes),
        (
            "udp 0.0.0.0 addr port",
            "udp 0.0.0.0 addr port uid=7",
            Bound,
            Allows,
        ),
        ("udp 0.0.0.0", "udp 127.0.0.1", Connected, Excludes),
    ]);
}

/// A connection over IPv6 of a socket at `[::]`, which takes both families.
#[test]
fn what_is_left_of_a_dual_stack_server() {
    let mut connection = socket("tcp ::1").held(TimeWait);
    for (wanted, dual, v6) in [
        ("tcp 0.0.0.0", Excludes, Allows),
        ("tcp ::ffff:0.0.0.0", Allows, Allows),
        ("tcp 127.0.0.1", Allows, Allows),
        ("tcp :: v6only", Excludes, Excludes),
        ("tcp ::1", Excludes, Excludes),
    ] {
        connection.options.v6only = Some(false);
        assert_eq!(excludes(&socket(wanted), &connection), dual, "{wanted}");
        connection.options.v6only = Some(true);
        assert_eq!(excludes(&socket(wanted), &connection), v6, "{wanted}");
        connection.options.v6only = None;
        let unknown = if dual == v6 { dual } else { Depends };
        assert_eq!(excludes(&socket(wanted), &connection), unknown, "{wanted}");
    }
}

/// What the kernel keeps to itself matters only where it would make a difference.
#[test]
fn what_is_not_known() {
    for (wanted, held, state, expected) in [
        // Somebody who shares with nobody is excluded by anybody, and a listener by an option that was not set here.
        ("tcp 0.0.0.0", "tcp 0.0.0.0", Listening, Excludes),
        ("tcp 0.0.0.0", "tcp 0.0.0.0", TimeWait, Excludes),
        ("tcp 0.0.0.0 addr", "tcp 0.0.0.0", Listening, Excludes),
        ("tcp 0.0.0.0 addr port", "tcp 0.0.0.0 uid=7", Listening, Excludes),
        ("tcp 0.0.0.0 port", "tcp 0.0.0.0", Listening, Depends),
        ("tcp 0.0.0.0 addr", "tcp 0.0.0.0", TimeWait, Depends),
        ("tcp 0.0.0.0 addr", "tcp 0.0.0.0", Bound, Depends),
        ("tcp 0.0.0.0", "tcp ::", Listening, Depends),
        ("tcp ::1", "tcp ::", Listening, Excludes),
        ("tcp 127.0.0.1", "tcp 127.0.0.2", Listening, Allows),
        ("udp 0.0.0.0", "udp 0.0.0.0", Bound, Excludes),
        ("udp 0.0.0.0 addr", "udp 0.0.0.0", Bound, Depends),
        ("udp 0.0.0.0 port", "udp 0.0.0.0 uid=7", Bound, Excludes),
        ("udp 0.0.0.0", "tcp 0.0.0.0", Listening, Allows),
    ] {
        let mut held = socket(held).held(state);
        held.options = Options::UNKNOWN;
        assert_eq!(
            excludes(&socket(wanted), &held),
            expected,
            "{wanted} beside {held:?}"
        );
    }
}
