//! Which TCP ports are taken, by the tables of another process's network (proc_pid_net(5)): for who has no network itself, and
//! wants to know only whether a port is free.

use std::collections::BTreeSet;
use std::fs;
use std::io;

/// The state of a socket that waits for connections (net/tcp_states.h, TCP_LISTEN).
const LISTENS: &str = "0A";

/// The ports that somebody listens on in the network that process 1 is in: the machine's own.
pub fn of_the_machine() -> io::Result<BTreeSet<u16>> {
    let mut ports = BTreeSet::new();
    for table in ["/proc/1/net/tcp", "/proc/1/net/tcp6"] {
        match fs::read_to_string(table) {
            Ok(text) => ports.extend(listening(&text)),
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(ports)
}

/// `sl local_address rem_address st ...`, addresses and ports in hexadecimal.
fn listening(table: &str) -> impl Iterator<Item = u16> {
    table.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (local, state) = (words.nth(1)?, words.nth(1)?);
        let port = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
        (state == LISTENS).then_some(port)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Linux 6.18 writes it, shortened.
    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n\
        \x20  0: 0100007F:231D 00000000:0000 0A 00000000:00000000 00:00000000 00000000   274\n\
        \x20  1: 0100007F:A2C4 0100007F:231D 01 00000000:00000000 00:00000000 00000000     0\n\
        \x20  2: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 0\n";

    #[test]
    fn only_listeners_count() {
        assert_eq!(listening(TABLE).collect::<Vec<_>>(), [8989, 8080]);
        assert_eq!(listening("").count() + listening("a b c\n: : 0A\n").count(), 0);
    }

    #[test]
    fn a_port_that_is_listened_on_is_found() {
        // The tests may run in a network that is not that of process 1.
        let own = fs::read_link("/proc/self/ns/net");
        let Ok(first) = fs::read_link("/proc/1/ns/net") else {
            return;
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        if own.is_ok_and(|own| own == first) {
            assert!(of_the_machine().unwrap().contains(&port));
        }
    }
}
