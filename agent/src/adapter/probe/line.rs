//! The connection to an application, kept between two questions: making and closing one is two fifths of what a question
//! over loopback costs.
//!
//! A kept connection may say that all is well and nothing else. Whatever else comes of it (it was closed meanwhile, bytes
//! came that nobody asked for, the answer is bad) the same question is put again over a fresh connection within the same
//! time, and that answer counts; only silence is not told from that of the application, and the next question after it
//! has a fresh connection. So a kept connection never makes a healthy application look bad for longer than one answer.
//!
//! That is why the answer over a kept one is read by `plain`, which knows the usual and takes all else for bad; the fresh one
//! has all of HTTP's rules. An application whose answers are long has none kept, as they would not be read over one.
//!
//! Nor does it make a bad one look healthy for long: that a listener takes connections is known by a fresh one, once in
//! [`FRESH`] at least, and always after an answer that was not good, after a start of the unit and after a change of its
//! configuration. An application that serves the connections that it has and takes no more (no descriptor left, a thread
//! that has died) is found out in that time; one that lets go of its connections too, with the next question.
//!
//! What keeping costs the application is one connection that is idle. Kestrel, libevent, Node and waitress have no thread
//! for each (waitress' four threads are for requests), and close those that are idle for too long, by default: Kestrel
//! after 130 s, waitress after 120 s, Node after 5 s. Where that is shorter than the interval, each question finds the
//! connection closed and makes one, as it did before.
//!
//! Only connections over loopback are kept: elsewhere something between may forget them (a firewall that is loaded
//! anew), which looks like silence, and their share of the cost is smaller.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use dagger_suite::probe::Probe;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// The longest that a connection is used for.
pub const FRESH: Duration = Duration::from_mins(1);

/// Whether a connection outlives its question.
#[derive(Debug)]
pub enum Line {
    /// It is closed with the answer.
    Once,
    /// It is kept after a good answer. This is the one that was kept after the answer before.
    Keep(Option<Kept>),
}

/// A connection that has had nothing but good answers, and waits for the next question.
#[derive(Debug)]
pub struct Kept {
    stream: TcpStream,
    target: Target,
    since: Instant,
}

/// Where a connection leads. One in a network namespace that was replaced by another of the same name leads elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target {
    address: SocketAddr,
    /// Device and inode of the namespace; none: our own.
    netns: Option<(u64, u64)>,
}

impl Target {
    /// Where a connection for this question leads; none where it is not to be kept.
    pub(super) fn of(probe: &Probe, address: SocketAddr) -> Option<Self> {
        let netns = match probe.netns.as_deref().map(Path::new) {
            // A namespace that is not there is told of by whoever enters it.
            Some(path) => {
                let stat = rustix::fs::stat(path).ok()?;
                Some((stat.st_dev, stat.st_ino))
            }
            None => None,
        };
        address.ip().is_loopback().then_some(Self { address, netns })
    }
}

impl Kept {
    /// A connection that was made at `since` and leads there.
    pub(super) fn new(stream: TcpStream, target: Target, since: Instant) -> Self {
        Self {
            stream,
            target,
            since,
        }
    }

    /// The connection and when it was made, if it may carry a question to that target at `now`.
    pub(super) fn usable(self, target: Target, now: Instant) -> Option<(TcpStream, Instant)> {
        let young = now.saturating_duration_since(self.since) < FRESH;
        let good = young && self.target == target && is_quiet(&self.stream);
        good.then_some((self.stream, self.since))
    }
}

/// Nothing has come that nobody asked for: no bytes, no end, no reset.
fn is_quiet(stream: &TcpStream) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    matches!(recv(stream, &mut [0; 1], flags), Err(Errno::AGAIN))
}
