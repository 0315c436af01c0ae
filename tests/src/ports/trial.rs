//! One case: sockets come and go at one port, and each step is foretold.

mod asked;

use anyhow::{Context, Result, bail, ensure};
use core::net::{IpAddr, SocketAddr};
use dagger_agent::domain::ports::bind::{Answer, Bind, Held, State, excludes};
use dagger_suite::model::Protocol;
use dagger_tests::faults::dice::Dice;
use nix::errno::Errno;
use std::collections::HashMap;
use std::io::Read;
use std::net::TcpStream;
use std::os::fd::OwnedFd;

use crate::ground::{LO, Namespace};
use crate::layout::{self, Taste};
use crate::memory::{Memory, fellows};
use crate::socket;

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
}
