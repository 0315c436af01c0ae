//! Who is in a service's way on one of its ports: whom the kernel would not let it bind beside, and who gets what is meant
//! for it. Both are the rules of [`crate::domain::ports`].

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dagger_suite::model::Protocol;

use super::{Doing, Holder, Port};
use crate::domain::ports::answer::{Destination, answers};
use crate::domain::ports::bind::{self, Bind, Held, Options, Place, State};

/// Every address, of either family.
const EVERYWHERE: [IpAddr; 2] = [
    IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    IpAddr::V4(Ipv4Addr::UNSPECIFIED),
];
/// Where this machine asks its own services.
const LOOPBACK: [IpAddr; 2] = [IpAddr::V6(Ipv6Addr::LOCALHOST), IpAddr::V4(Ipv4Addr::LOCALHOST)];
/// The index of `lo`.
const LOOPBACK_DEVICE: u32 = 1;
/// Sockets are handed in of one namespace at a time.
const HERE: u64 = 0;

/// Who keeps a service from starting, given everybody who has its port: whoever excludes a server on every address. Of an
/// option that the kernel does not tell, the worse is believed.
pub(super) fn keeps_out<'a>(port: Port, holders: &[&'a Holder]) -> Vec<&'a Holder> {
    let excludes = |holder: &Holder| {
        EVERYWHERE.iter().any(|address| {
            bind::excludes(&server(port, *address), &held(port, holder)) != bind::Answer::Allows
        })
    };
    let all = holders.iter().copied();
    // What is closing is gone within a minute, and nobody can be told to stop it.
    all.filter(|holder| holder.doing != Doing::Closing && excludes(holder))
        .collect()
}

/// Who answers where a service that runs as `unit` is asked, given everybody who has its port. One that cannot be named may
/// be the service itself, and is not told.
///
/// It is asked at the addresses that it has bound; where it has bound every address of a family, or none is known, at
/// every address of both: `localhost` is one of either.
pub(super) fn answers_for<'a>(unit: &str, port: Port, holders: &[&'a Holder]) -> Vec<&'a Holder> {
    let sockets: Vec<Held> = holders.iter().map(|holder| held(port, holder)).collect();
    let own: Vec<IpAddr> = holders
        .iter()
        .filter(|holder| holder.is(unit) && waits(port.protocol, holder.doing))
        .map(|holder| holder.address.ip().to_canonical())
        .collect();
    let everywhere = own.is_empty() || own.iter().any(IpAddr::is_unspecified);
    let answers_somewhere = |holder: &Holder, socket: &Held| {
        let its = holder.address.ip().to_canonical();
        let mut asked = own.iter().copied().chain([its]).chain(LOOPBACK);
        asked.any(|address| {
            let to = Destination {
                namespace: HERE,
                protocol: port.protocol,
                address,
                port: port.number,
                device: if holder.device == 0 {
                    LOOPBACK_DEVICE
                } else {
                    holder.device
                },
            };
            !address.is_unspecified()
                && (everywhere || own.contains(&address))
                && answers(&to, &sockets)
                    .into_iter()
                    .any(|found| std::ptr::eq(found, socket))
        })
    };
    holders
        .iter()
        .zip(&sockets)
        .filter(|(holder, socket)| {
            !holder.is(unit) && holder.unit.is_some() && answers_somewhere(holder, socket)
        })
        .map(|(holder, _)| *holder)
        .collect()
}

fn waits(protocol: Protocol, doing: Doing) -> bool {
    doing
        == match protocol {
            Protocol::Tcp => Doing::Listening,
            Protocol::Udp => Doing::Bound,
        }
}

/// A server as the gate tries it: each family by itself, and for TCP with SO_REUSEADDR as servers set it.
fn server(port: Port, address: IpAddr) -> Bind {
    Bind {
        place: place(port, address, 0, 0),
        options: Options {
            v6only: true,
            reuse_address: port.protocol == Protocol::Tcp,
            reuse_port: false,
        },
    }
}

fn held(port: Port, holder: &Holder) -> Held {
    Held {
        place: place(
            port,
            holder.address.ip(),
            holder.device,
            holder.user.unwrap_or_default(),
        ),
        state: match holder.doing {
            Doing::Listening => State::Listening,
            Doing::Bound => State::Bound,
            Doing::Connected => State::Connected,
            Doing::Closing => State::TimeWait,
        },
        options: Options {
            v6only: holder.v6only,
            ..Options::UNKNOWN
        },
    }
}

fn place(port: Port, address: IpAddr, device: u32, uid: u32) -> Place {
    Place {
        namespace: HERE,
        protocol: port.protocol,
        address,
        port: port.number,
        device,
        uid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: Port = Port {
        protocol: Protocol::Tcp,
        number: 8989,
    };
    const PEER: Port = Port {
        protocol: Protocol::Udp,
        number: 51413,
    };
    const OWN: &str = "dagger-sonarr.service";

    fn socket(unit: &str, address: &str, doing: Doing) -> Holder {
        Holder {
            address: format!("{address}:8989").parse().unwrap(),
            doing,
            v6only: None,
            device: 0,
            unit: (!unit.is_empty()).then(|| unit.to_owned()),
            manager: None,
            socket: None,
            container: None,
            process: None,
            user: Some(0),
        }
    }

    fn listens(unit: &str, address: &str) -> Holder {
        socket(unit, address, Doing::Listening)
    }

    /// Units of those that answer for ours.
    fn answering(port: Port, sockets: &[Holder]) -> Vec<&str> {
        let all: Vec<&Holder> = sockets.iter().collect();
        let found = answers_for(OWN, port, &all);
        found.iter().filter_map(|holder| holder.unit.as_deref()).collect()
    }

    fn keeping_out(port: Port, holder: &Holder) -> bool {
        !keeps_out(port, &[holder]).is_empty()
    }

    #[test]
    fn a_start_on_every_address_is_kept_out_by_each_of_them() {
        for address in [
            "127.0.0.2",
            "192.168.1.5",
            "0.0.0.0",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
        ] {
            for doing in [Doing::Listening, Doing::Bound, Doing::Connected] {
                assert!(
                    keeping_out(WEB, &socket("a.service", address, doing)),
                    "{address} {doing:?}"
                );
            }
            assert!(
                keeping_out(PEER, &socket("a.service", address, Doing::Bound)),
                "{address}"
            );
            assert!(
                !keeping_out(WEB, &socket("a.service", address, Doing::Closing)),
                "{address}"
            );
        }
        for v6only in [None, Some(false), Some(true)] {
            let six = Holder {
                v6only,
                ..listens("a.service", "[::]")
            };
            assert!(keeping_out(WEB, &six), "{v6only:?}");
        }
    }

    #[test]
    fn who_listens_at_another_address_than_ours_hinders_nobody() {
        let ours = listens(OWN, "192.168.1.5");
        for address in ["127.0.0.2", "127.0.0.1", "192.168.1.6", "[::1]"] {
            assert!(
                answering(WEB, &[ours.clone(), listens("a.service", address)]).is_empty(),
                "{address}"
            );
        }
        // Ours is the better fit, and is not asked elsewhere.
        assert!(answering(WEB, &[ours.clone(), listens("a.service", "0.0.0.0")]).is_empty());
        // Two at one address share it (SO_REUSEPORT).
        assert_eq!(
            answering(WEB, &[ours, listens("a.service", "192.168.1.5")]),
            ["a.service"]
        );
    }

    #[test]
    fn umbrel_2213_one_address_is_answered_in_place_of_the_wildcard() {
        for ours in ["0.0.0.0", "[::]"] {
            for address in ["127.0.0.2", "192.168.1.5", "[::1]", "[fd00::5]"] {
                let sockets = [listens(OWN, ours), listens("a.service", address)];
                assert_eq!(answering(WEB, &sockets), ["a.service"], "{ours} {address}");
            }
        }
    }

    #[test]
    fn of_two_wildcards_each_answers_in_its_own_family_and_a_group_shares() {
        let six = Holder {
            v6only: Some(true),
            ..listens("a.service", "[::]")
        };
        // Who asks localhost may ask ::1.
        assert_eq!(
            answering(WEB, &[listens(OWN, "0.0.0.0"), six.clone()]),
            ["a.service"]
        );
        assert_eq!(
            answering(WEB, &[listens(OWN, "[::]"), listens("a.service", "0.0.0.0")]),
            ["a.service"]
        );
        assert_eq!(
            answering(WEB, &[listens(OWN, "0.0.0.0"), listens("a.service", "0.0.0.0")]),
            ["a.service"]
        );
        // Ours on both families by two sockets, theirs a dual-stack one that nothing reaches.
        let own = Holder {
            unit: Some(OWN.into()),
            ..six
        };
        let dual = Holder {
            v6only: Some(false),
            ..listens("a.service", "[::]")
        };
        assert_eq!(
            answering(WEB, &[listens(OWN, "0.0.0.0"), own, dual]),
            ["a.service"],
            "of IPv6 they share"
        );
    }

    #[test]
    fn who_does_not_wait_or_has_no_name_does_not_answer() {
        let ours = listens(OWN, "0.0.0.0");
        for other in [
            socket("a.service", "127.0.0.1", Doing::Bound),
            socket("a.service", "127.0.0.1", Doing::Connected),
            listens("", "127.0.0.1"),
        ] {
            assert!(
                answering(WEB, &[ours.clone(), other.clone()]).is_empty(),
                "{other:?}"
            );
        }
        // Nothing of ours is there.
        assert_eq!(answering(WEB, &[listens("a.service", "10.0.0.1")]), ["a.service"]);
        let datagrams = socket("a.service", "10.0.0.1", Doing::Bound);
        assert_eq!(answering(PEER, &[datagrams]), ["a.service"]);
    }

    #[test]
    fn one_that_is_tied_to_an_interface_answers_there() {
        let tied = Holder {
            device: 3,
            ..listens("a.service", "0.0.0.0")
        };
        assert_eq!(
            answering(WEB, &[listens(OWN, "0.0.0.0"), tied.clone()]),
            ["a.service"]
        );
        assert!(keeping_out(WEB, &tied));
    }
}
