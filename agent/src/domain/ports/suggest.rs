//! Another port for a service, when its own is taken.

use std::ops::RangeInclusive;

/// Below it ports are privileged, and somebody's by name.
const FIRST: u16 = 1024;

/// Ports above [`FIRST`] that something else is known by, so that it is bound to come: data bases, proxies, media servers
/// and their tools that listen by default, and those that browsers refuse to open (fetch.spec.whatwg.org, "bad port").
const KNOWN: &[RangeInclusive<u16>] = &[
    1080..=1080,
    1194..=1194,
    1433..=1433,
    1521..=1521,
    1719..=1720,
    1723..=1723,
    1883..=1883,
    1900..=1900,
    2049..=2049,
    2375..=2376,
    2379..=2380,
    3000..=3000,
    3306..=3306,
    3389..=3389,
    3659..=3659,
    4045..=4045,
    4190..=4190,
    5000..=5001,
    5060..=5061,
    5201..=5201,
    5353..=5353,
    5355..=5355,
    5432..=5432,
    5672..=5672,
    5900..=5910,
    6000..=6063,
    6379..=6379,
    6443..=6443,
    6566..=6566,
    6665..=6669,
    6679..=6679,
    6697..=6697,
    7359..=7359,
    8000..=8000,
    8008..=8008,
    8080..=8081,
    8123..=8123,
    8443..=8443,
    8883..=8883,
    8888..=8888,
    9000..=9000,
    9090..=9090,
    9100..=9100,
    9200..=9200,
    9418..=9418,
    10080..=10080,
    11211..=11211,
    11434..=11434,
    19999..=19999,
    27017..=27017,
    32400..=32400,
    51413..=51413,
    51820..=51820,
];

/// The next port above `wanted` that is neither taken, nor one that the kernel gives to whoever connects
/// (`/proc/sys/net/ipv4/ip_local_port_range`), nor somebody else's by custom; after the last one the search goes on at
/// 1024. None: there is no such port.
///
/// The same question has the same answer, so what was proposed once is proposed again until it is taken.
pub fn free_port(wanted: u16, taken: impl Fn(u16) -> bool, ephemeral: &RangeInclusive<u16>) -> Option<u16> {
    let above = wanted.saturating_add(1).max(FIRST)..=u16::MAX;
    let below = FIRST..=wanted;
    above
        .chain(below)
        .filter(|port| *port != wanted && !ephemeral.contains(port))
        .filter(|port| !KNOWN.iter().any(|known| known.contains(port)))
        .find(|port| !taken(*port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_port_that_nobody_has_or_is_known_by() {
        let usual = 32768..=60999;
        let nobody: &[RangeInclusive<u16>] = &[];
        for (wanted, taken, ephemeral, expected) in [
            (8989, nobody, &usual, Some(8990)),
            (8989, &[8990..=8992], &usual, Some(8993)),
            // Known by something else.
            (8079, nobody, &usual, Some(8082)),
            (5999, nobody, &usual, Some(6064)),
            // Privileged.
            (80, nobody, &usual, Some(1024)),
            (0, nobody, &usual, Some(1024)),
            // Given to connections.
            (32767, nobody, &usual, Some(61000)),
            (51413, nobody, &usual, Some(61000)),
            (8989, nobody, &(1024..=65000), Some(65001)),
            (8989, nobody, &(8000..=9100), Some(9101)),
            // Around the end.
            (65535, nobody, &usual, Some(1024)),
            (65000, &[65001..=65535, 1024..=1030], &usual, Some(1031)),
            // Only the one that is wanted is left, and it is not proposed.
            (8989, &[1024..=8988, 8990..=65535], &usual, None),
            (8989, nobody, &(1024..=65535), None),
            (8989, nobody, &(0..=65535), None),
        ] {
            let taken = |port| taken.iter().any(|range| range.contains(&port));
            let found = free_port(wanted, taken, ephemeral);
            assert_eq!(found, expected, "{wanted} {ephemeral:?}");
            assert_eq!(free_port(wanted, taken, ephemeral), found, "twice");
        }
    }

    #[test]
    fn the_list_is_in_order() {
        for pair in KNOWN.windows(2) {
            assert!(
                pair[0].start() <= pair[0].end() && pair[0].end() < pair[1].start(),
                "{pair:?}"
            );
        }
    }
}
