//! One case: sockets come and go at one port, and each step is foretold.

use anyhow::{Context, Result, bail, ensure};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use dagger_agent::domain::ports::answer::{Destination, answers};
use dagger_agent::domain::ports::bind::{Answer, Bind, Held, State, excludes};
use dagger_suite::model::Protocol;
use dagger_tests::faults::dice::Dice;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::HashMap;
use std::io::Read;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::ground::{LO, Namespace};
use crate::layout::{self, Taste};
use crate::memory::{Memory, fellows};
use crate::socket::{self, as_user};

/// Something on loopback that has not happened after this long does not happen.
const PATIENCE: u16 = 5000;

/// What was judged.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    pub cases: u64,
    pub findings: u64,
    pub binds: u64,
    pub binds_refused: u64,
    pub listens: u64,
    pub listens_refused: u64,
    /// Let in by the kernel without a look at one who excludes it; foretold, too.
    pub shortcuts: u64,
    pub answers: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Self) {
        self.cases += other.cases;
        self.findings += other.findings;
        self.binds += other.binds;
        self.binds_refused += other.binds_refused;
        self.listens += other.listens;
        self.listens_refused += other.listens_refused;
        self.shortcuts += other.shortcuts;
        self.answers += other.answers;
    }
}

/// A socket of the case, with what keeps it open; what is over is kept by nobody.
struct Entry {
    bind: Bind,
    held: Held,
    fd: Option<OwnedFd>,
    peer: Option<TcpStream>,
}

/// A case that is being tried.
pub struct Trial<'a> {
    namespaces: &'a [Namespace],
    port: u16,
    dice: Dice,
    taste: Taste,
    tally: Tally,
    /// In the order in which the kernel goes through the sockets of a UDP port.
    entries: Vec<Entry>,
    /// TCP, by namespace.
    memories: HashMap<u64, Memory>,
    /// What was done, for a finding.
    story: Vec<String>,
}

impl<'a> Trial<'a> {
    /// A case at a port that nobody has used in these namespaces.
    pub fn new(namespaces: &'a [Namespace], port: u16, mut dice: Dice) -> Self {
        Self {
            namespaces,
            port,
            taste: Taste::by_chance(&mut dice),
            dice,
            tally: Tally {
                cases: 1,
                ..Tally::default()
            },
            entries: Vec::new(),
            memories: HashMap::new(),
            story: Vec::new(),
        }
    }

    /// Tries it; an error is a finding.
    pub fn run(mut self) -> (Tally, Result<()>) {
        let outcome = self.steps();
        let story = self.story.join("\n    ");
        (
            self.tally,
            outcome.with_context(|| format!("a layout:\n    {story}\n ")),
        )
    }

    fn steps(&mut self) -> Result<()> {
        let mut to_bind = self.dice.number(2, 5);
        while to_bind > 0 {
            match self.dice.number(0, 13) {
                0..=5 => {
                    to_bind -= 1;
                    self.bind()?;
                }
                6..=8 => self.listen()?,
                9..=10 => self.connection()?,
                11 => self.peer()?,
                _ => self.close(),
            }
        }
        for _ in 0..self.dice.number(0, 4) {
            self.listen()?;
        }
        self.who_answers()
    }

    fn namespace(&self, id: u64) -> Result<&'a Namespace> {
        self.namespaces
            .iter()
            .find(|namespace| namespace.id == id)
            .context("no such namespace")
    }

    /// One of the entries that are so.
    fn one(&mut self, wanted: impl Fn(&Entry) -> bool) -> Option<usize> {
        let found: Vec<usize> = (0..self.entries.len())
            .filter(|index| self.entries.get(*index).is_some_and(&wanted))
            .collect();
        self.dice.one(&found).copied()
    }

    /// Whether the kernel will refuse, beside all entries but that one.
    fn foretell(&mut self, wanted: &Bind, own: Option<usize>) -> bool {
        let others = || {
            let entries = self.entries.iter().enumerate();
            entries
                .filter(move |(index, _)| Some(*index) != own)
                .map(|(_, entry)| &entry.held)
        };
        let refused = others().any(|held| excludes(wanted, held) == Answer::Excludes);
        let let_in = match wanted.place.protocol {
            Protocol::Tcp => self
                .memories
                .get(&wanted.place.namespace)
                .is_some_and(|memory| memory.knows(wanted)),
            Protocol::Udp => {
                let first =
                    others().find(|held| fellows(wanted, held) || excludes(wanted, held) == Answer::Excludes);
                first.is_some_and(|held| fellows(wanted, held))
            }
        };
        self.tally.shortcuts += u64::from(refused && let_in);
        refused && !let_in
    }

    fn judge(&mut self, what: &str, refused: bool, outcome: nix::Result<()>) -> Result<()> {
        let said = if refused { "refused" } else { "let in" };
        match outcome {
            Ok(()) => ensure!(!refused, "{what}: foretold {said}, and the kernel let it in"),
            Err(Errno::EADDRINUSE) => ensure!(refused, "{what}: foretold {said}, and the kernel refused it"),
            Err(error) => bail!("{what}: {error}"),
        }
        self.story.push(format!("{what}: {said}"));
        Ok(())
    }

    fn bind(&mut self) -> Result<()> {
        let bind = layout::bind(self.namespaces, self.port, self.taste, &mut self.dice)?;
        self.namespace(bind.place.namespace)?.enter()?;
        let fd = socket::open(&bind).with_context(|| format!("socket {}", layout::words(&bind)))?;
        let refused = self.foretell(&bind, None);
        self.tally.binds += 1;
        self.tally.binds_refused += u64::from(refused);
        let outcome = socket::bind(&fd, &bind);
        self.judge(&format!("bind {}", layout::words(&bind)), refused, outcome)?;
        if !refused {
            self.succeeded(&bind);
            let entry = Entry {
                bind,
                held: bind.held(State::Bound),
                fd: Some(fd),
                peer: None,
            };
            // The kernel puts the newest first, but for these.
            if bind.place.address.is_ipv6() && bind.options.reuse_port {
                self.entries.push(entry);
            } else {
                self.entries.insert(0, entry);
            }
        }
        Ok(())
    }

    /// The kernel remembers whom it let in last.
    fn succeeded(&mut self, bind: &Bind) {
        if bind.place.protocol == Protocol::Tcp {
            self.memories.entry(bind.place.namespace).or_default().note(bind);
        }
    }

    fn listen(&mut self) -> Result<()> {
        let tcp =
            |entry: &Entry| entry.held.place.protocol == Protocol::Tcp && entry.held.state == State::Bound;
        let Some(index) = self.one(tcp) else {
            return Ok(());
        };
        let Some(entry) = self.entries.get(index) else {
            return Ok(());
        };
        let bind = entry.bind;
        let refused = self.foretell(&bind, Some(index));
        self.tally.listens += 1;
        self.tally.listens_refused += u64::from(refused);
        let outcome = self
            .entries
            .get(index)
            .and_then(|entry| entry.fd.as_ref())
            .map(socket::listen);
        let outcome = outcome.context("a socket that is closed")?;
        self.judge(&format!("listen {}", layout::words(&bind)), refused, outcome)?;
        if !refused {
            self.succeeded(&bind);
            if let Some(entry) = self.entries.get_mut(index) {
                entry.held.state = State::Listening;
            }
        }
        Ok(())
    }

    fn close(&mut self) {
        let Some(index) = self.one(|entry| entry.fd.is_some()) else {
            return;
        };
        let entry = self.entries.remove(index);
        let place = entry.held.place;
        self.story.push(format!(
            "close {} {:?}",
            layout::words(&entry.bind),
            entry.held.state
        ));
        // A connection is broken off, so that nothing is left of it.
        if entry.peer.is_some()
            && let Some(fd) = &entry.fd
        {
            layout::break_off(fd);
        }
        drop(entry);
        let same = |other: &Entry| {
            other.held.place.namespace == place.namespace && other.held.place.protocol == place.protocol
        };
        if place.protocol == Protocol::Tcp
            && !self.entries.iter().any(same)
            && let Some(memory) = self.memories.get_mut(&place.namespace)
        {
            memory.forget();
        }
    }

    /// UDP with a peer.
    fn peer(&mut self) -> Result<()> {
        let udp = |entry: &Entry| {
            entry.held.place.protocol == Protocol::Udp
                && entry.held.state == State::Bound
                && entry.held.place.device <= LO
        };
        let Some(index) = self.one(udp) else {
            return Ok(());
        };
        let Some(entry) = self.entries.get_mut(index) else {
            return Ok(());
        };
        let to = layout::reached_by(&entry.bind, &mut self.dice);
        // Sockets of the IPv6 family name IPv4 by mapped addresses.
        let to = match (to, entry.bind.place.address) {
            (IpAddr::V4(to), IpAddr::V6(_)) => IpAddr::V6(to.to_ipv6_mapped()),
            (to, _) => to,
        };
        if let Some(fd) = &entry.fd {
            socket::connect(fd, SocketAddr::new(to, 9)).with_context(|| format!("peer {to}"))?;
            entry.held.place.address = socket::local(fd)?.context("a local address")?;
            entry.held.state = State::Connected;
            self.story
                .push(format!("peer of {}: {to}", layout::words(&entry.bind)));
        }
        Ok(())
    }

    /// A connection to a listener, which lasts, or of which only the end is left.
    fn connection(&mut self) -> Result<()> {
        let listens = |entry: &Entry| entry.held.state == State::Listening && entry.held.place.device <= LO;
        let Some(index) = self.one(listens) else {
            return Ok(());
        };
        let Some(bind) = self.entries.get(index).map(|entry| entry.bind) else {
            return Ok(());
        };
        let to = layout::reached_by(&bind, &mut self.dice);
        self.namespace(bind.place.namespace)?.enter()?;
        let Some((index, peer, child)) = self.connect(bind.place.namespace, to)? else {
            return Ok(());
        };
        let Some(listener) = self.entries.get(index) else {
            return Ok(());
        };
        let mut held = listener.held;
        let bind = listener.bind;
        held.place.address = child.local_addr()?.ip();
        held.state = State::Connected;
        let mut entry = Entry {
            bind,
            held,
            fd: None,
            peer: None,
        };
        if self.dice.number(0, 1) == 0 {
            entry.fd = Some(child.into());
            entry.peer = Some(peer);
            self.story.push(format!("connection to {to}"));
        } else {
            entry.held.state = State::TimeWait;
            entry.held.place.uid = 0;
            self.finish(child, peer, &entry.held)?;
            self.story.push(format!("end of a connection to {to}"));
        }
        self.entries.push(entry);
        Ok(())
    }

    /// Closes the server's side first, then the client's, and sees that the kernel keeps the end.
    fn finish(&self, child: TcpStream, mut peer: TcpStream, held: &Held) -> Result<()> {
        drop(child);
        let mut byte = [0];
        ensure!(peer.read(&mut byte)? == 0, "something was sent");
        drop(peer);
        let same = |entry: &&Entry| {
            entry.held.state == State::TimeWait
                && entry.held.place.namespace == held.place.namespace
                && entry.held.place.address.is_ipv6() == held.place.address.is_ipv6()
        };
        let before = self.entries.iter().filter(same).count();
        let file = if held.place.address.is_ipv6() {
            "/proc/thread-self/net/tcp6"
        } else {
            "/proc/thread-self/net/tcp"
        };
        for _ in 0..PATIENCE {
            if layout::ends(&std::fs::read_to_string(file)?, self.port) > before {
                return Ok(());
            }
            std::thread::yield_now();
        }
        bail!("the kernel keeps no TIME_WAIT of a connection that is closed")
    }

    /// Connects, and sees that who accepts is one of those foretold.
    fn connect(&mut self, namespace: u64, to: IpAddr) -> Result<Option<(usize, TcpStream, TcpStream)>> {
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

    fn who_answers(&mut self) -> Result<()> {
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
