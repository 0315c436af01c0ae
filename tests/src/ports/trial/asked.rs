//! Asks who answers, and holds it against what was foretold.

use super::{Entry, PATIENCE, Trial};
use crate::ground::LO;
use crate::layout;
use crate::socket::as_user;
use anyhow::{Context, Result, bail, ensure};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use dagger_agent::domain::ports::answer::{Destination, answers};
use dagger_agent::domain::ports::bind::{Held, State};
use dagger_suite::model::Protocol;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

impl Trial<'_> {
    /// Connects, and sees that who accepts is one of those foretold.
    pub(super) fn connect(
        &mut self,
        namespace: u64,
        to: IpAddr,
    ) -> Result<Option<(usize, TcpStream, TcpStream)>> {
        let foretold = self.foretold(namespace, Protocol::Tcp, to);
        self.tally.answers += 1;
        let stream = match TcpStream::connect((to, self.port)) {
            Ok(stream) => stream,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                ensure!(
                    foretold.is_empty(),
                    "{to} refuses connections, foretold {}",
                    self.names(&foretold)
                );
                return Ok(None);
            }
            Err(error) => bail!("connection to {to}: {error}"),
        };
        let waiting = self.waiting(namespace, State::Listening, Protocol::Tcp);
        let ready = ready(&waiting, None)?;
        let Some(index) = ready else {
            bail!("nobody accepts a connection to {to}")
        };
        ensure!(
            foretold.contains(&index),
            "{to} is answered by {}, foretold {}",
            self.names(&[index]),
            self.names(&foretold)
        );
        let entry = self.entries.get(index).context("no such socket")?;
        let listener = TcpListener::from(entry.fd.as_ref().context("closed")?.try_clone()?);
        let (child, _) = as_user(entry.bind.place.uid, || listener.accept())?;
        Ok(Some((index, stream, child)))
    }

    /// Sends a datagram, and sees that who gets it is one of those foretold.
    fn send(&mut self, namespace: u64, to: IpAddr) -> Result<()> {
        let foretold = self.foretold(namespace, Protocol::Udp, to);
        self.tally.answers += 1;
        let own: IpAddr = match to {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let sender = UdpSocket::bind((own, 0))?;
        sender.connect((to, self.port))?;
        sender.send(b"?")?;
        let waiting = self.waiting(namespace, State::Bound, Protocol::Udp);
        let ready = ready(&waiting, Some(sender.as_fd()))?;
        let got: Vec<usize> = ready.into_iter().collect();
        let right = match ready {
            Some(index) => foretold.contains(&index),
            None => foretold.is_empty(),
        };
        ensure!(
            right,
            "a datagram to {to} is for {}, foretold {}",
            self.names(&got),
            self.names(&foretold)
        );
        if let Some(fd) = ready
            .and_then(|index| self.entries.get(index))
            .and_then(|entry| entry.fd.as_ref())
        {
            UdpSocket::from(fd.try_clone()?).recv(&mut [0; 4])?;
        }
        Ok(())
    }

    /// The entries that wait for what comes.
    fn waiting(&self, namespace: u64, state: State, protocol: Protocol) -> Vec<(usize, BorrowedFd<'_>)> {
        let waits = |held: &Held| {
            held.state == state && held.place.namespace == namespace && held.place.protocol == protocol
        };
        self.entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| waits(&entry.held))
            .filter_map(|(index, entry)| Some((index, entry.fd.as_ref()?.as_fd())))
            .collect()
    }

    /// The entries that may get what is sent there.
    fn foretold(&self, namespace: u64, protocol: Protocol, address: IpAddr) -> Vec<usize> {
        let held: Vec<Held> = self.entries.iter().map(|entry| entry.held).collect();
        let destination = Destination {
            namespace,
            protocol,
            address,
            port: self.port,
            device: LO,
        };
        let found = answers(&destination, &held);
        held.iter()
            .enumerate()
            .filter(|(_, held)| found.iter().any(|found| std::ptr::eq(*found, *held)))
            .map(|(index, _)| index)
            .collect()
    }

    fn names(&self, indices: &[usize]) -> String {
        let names: Vec<String> = indices
            .iter()
            .filter_map(|index| self.entries.get(*index))
            .map(|entry| layout::words(&entry.bind))
            .collect();
        if names.is_empty() {
            "nobody".into()
        } else {
            names.join(" or ")
        }
    }

    pub(super) fn who_answers(&mut self) -> Result<()> {
        for namespace in self.namespaces {
            let used = |entry: &Entry, protocol| {
                entry.held.place.namespace == namespace.id && entry.held.place.protocol == protocol
            };
            let used = |protocol| self.entries.iter().any(|entry| used(entry, protocol));
            let (tcp, udp) = (used(Protocol::Tcp), used(Protocol::Udp));
            if tcp || udp {
                namespace.enter()?;
            }
            for to in layout::DESTINATIONS {
                if tcp && let Some((_, stream, child)) = self.connect(namespace.id, to)? {
                    drop((child, stream));
                }
                if udp {
                    self.send(namespace.id, to)?;
                }
            }
        }
        Ok(())
    }
}

/// The first of those that has something to read; none: `refused` says that nobody has it.
fn ready(waiting: &[(usize, BorrowedFd<'_>)], refused: Option<BorrowedFd<'_>>) -> Result<Option<usize>> {
    let all = waiting.iter().map(|(_, fd)| *fd).chain(refused);
    let mut polled: Vec<PollFd<'_>> = all.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    ensure!(
        poll(&mut polled, PollTimeout::from(PATIENCE))? > 0,
        "nothing comes, and nothing comes back"
    );
    let hit = polled.iter().position(|polled| polled.any() == Some(true));
    Ok(hit.and_then(|hit| waiting.get(hit)).map(|(index, _)| *index))
}
