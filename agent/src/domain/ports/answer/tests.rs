use super::*;
use crate::domain::ports::bind::{Bind, Options, Place};

/// A server: address, then `v6only`, `port` (SO_REUSEPORT), `bound` (does not listen), `peer`, `dev=`, `ns=`.
fn server(protocol: Protocol, words: &str) -> Held {
    let mut words = words.split(' ');
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
            reuse_address: true,
            reuse_port: false,
        },
    };
    let mut state = match protocol {
        Protocol::Tcp => State::Listening,
        Protocol::Udp => State::Bound,
    };
    for word in words {
        match word.split_once('=').unwrap_or((word, "")) {
            ("v6only", _) => bind.options.v6only = true,
            ("port", _) => bind.options.reuse_port = true,
            ("bound", _) => state = State::Bound,
            ("peer", _) => state = State::Connected,
            ("dev", number) => bind.place.device = number.parse().unwrap(),
            ("ns", number) => bind.place.namespace = number.parse().unwrap(),
            _ => panic!("{word}"),
        }
    }
    bind.held(state)
}

#[test]
fn who_gets_it() {
    use Protocol::{Tcp, Udp};
    for (protocol, to, servers, expected) in [
        (Tcp, "127.0.0.1", &["0.0.0.0"][..], &[0][..]),
        (Tcp, "127.0.0.1", &["127.0.0.2"], &[]),
        (Tcp, "127.0.0.1", &["0.0.0.0 bound"], &[]),
        (Tcp, "127.0.0.1", &["0.0.0.0 ns=2"], &[]),
        // The very address comes before the wildcard, in either order and in either form.
        (Tcp, "127.0.0.1", &["0.0.0.0", "127.0.0.1"], &[1]),
        (Tcp, "127.0.0.1", &["127.0.0.1", "::"], &[0]),
        (Tcp, "127.0.0.1", &["::ffff:127.0.0.1", "0.0.0.0"], &[0]),
        (Tcp, "::ffff:127.0.0.1", &["0.0.0.0", "127.0.0.1"], &[1]),
        (Tcp, "127.0.0.2", &["0.0.0.0", "127.0.0.1"], &[0]),
        (Tcp, "::1", &["::", "::1"], &[1]),
        // Two families.
        (Tcp, "127.0.0.1", &["::"], &[0]),
        (Tcp, "127.0.0.1", &[":: v6only"], &[]),
        (Tcp, "127.0.0.1", &[":: v6only", "0.0.0.0"], &[1]),
        (Tcp, "::1", &[":: v6only", "0.0.0.0"], &[0]),
        (Tcp, "::1", &["0.0.0.0", "::ffff:0.0.0.0"], &[]),
        (Tcp, "127.0.0.1", &["::ffff:0.0.0.0"], &[0]),
        (Tcp, "127.0.0.1", &[":: port", "0.0.0.0 port"], &[1]),
        (Tcp, "::1", &[":: port", "0.0.0.0 port"], &[0]),
        (Tcp, "127.0.0.1", &[":: port", "127.0.0.1 port"], &[1]),
        // Those that share.
        (Tcp, "127.0.0.1", &["0.0.0.0 port", "0.0.0.0 port"], &[0, 1]),
        // Interfaces.
        (Tcp, "127.0.0.1", &["0.0.0.0 dev=2"], &[]),
        (Tcp, "127.0.0.1", &["0.0.0.0 dev=1"], &[0]),
        (Tcp, "127.0.0.1", &["0.0.0.0 dev=1 port", "0.0.0.0 port"], &[0, 1]),
        // UDP.
        (Udp, "127.0.0.1", &["0.0.0.0", "127.0.0.1"], &[1]),
        (Udp, "127.0.0.1", &["0.0.0.0", "127.0.0.1 peer"], &[0]),
        (Udp, "127.0.0.1", &["0.0.0.0", "0.0.0.0"], &[0, 1]),
        (Udp, "127.0.0.1", &["0.0.0.0", "::"], &[0]),
        (Udp, "127.0.0.1", &["0.0.0.0", ":: dev=1"], &[1]),
        (Udp, "127.0.0.1", &["0.0.0.0 dev=1", ":: dev=1"], &[0]),
    ] {
        let servers: Vec<Held> = servers.iter().map(|words| server(protocol, words)).collect();
        let destination = Destination {
            namespace: 1,
            protocol,
            address: to.parse().unwrap(),
            port: 9091,
            device: 1,
        };
        let expected: Vec<&Held> = expected.iter().map(|index| &servers[*index]).collect();
        assert_eq!(answers(&destination, &servers), expected, "{to} {servers:?}");
    }
}
