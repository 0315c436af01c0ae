//! Probes: one question to one application, an [`Observation`] back, within bounded time and memory whatever it answers.

pub mod judge;

pub mod http;

pub mod exec;

pub mod call;

use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dagger_suite::probe::{Kind, Probe};
use hyper::Method;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};
use tokio::net::{TcpSocket, TcpStream};

use super::notify::one_line;
use super::sockets::netns;
use crate::domain::observation::Observation;
use http::Question;
use judge::Judgement;

/// The podman program, where the caller knows no better.
pub const PODMAN: &str = "/usr/bin/podman";
/// How many redirects are followed.
const REDIRECTS_MAX: usize = 3;

/// Asks once. Needs a tokio runtime with I/O and time enabled.
pub async fn probe(probe: &Probe) -> Observation {
    probe_with(probe, Path::new(PODMAN)).await
}

/// The same with another podman (kind `exec` only).
pub async fn probe_with(probe: &Probe, podman: &Path) -> Observation {
    let connected = AtomicBool::new(false);
    let runner = [podman.into()];
    let asked = probe_without_limit(probe, &runner, &connected);
    tokio::time::timeout(probe.timeout, asked)
        .await
        .unwrap_or_else(|_| timed_out(probe, &connected))
}

/// What a question has come to that was given up when its time was over.
pub fn timed_out(probe: &Probe, connected: &AtomicBool) -> Observation {
    Observation::TimedOut {
        after: probe.timeout,
        connected: connected.load(Ordering::Relaxed),
    }
}

/// The same for a caller that keeps the time itself, and drops this when `probe.timeout` is over: [`timed_out`] then says
/// what was seen. `connected` becomes true when somebody takes the connection.
///
/// `runner` is podman and all words before it (kind `exec` only): somebody else may have to run it.
pub async fn probe_without_limit(probe: &Probe, runner: &[OsString], connected: &AtomicBool) -> Observation {
    let begin = Instant::now();
    let detail = |text: String| one_line(&text);
    match ask(probe, runner, connected).await {
        Ok(Judgement::Good(text)) => Observation::Good {
            latency: begin.elapsed(),
            detail: detail(text),
        },
        Ok(Judgement::Starting(text)) => Observation::Starting { detail: detail(text) },
        Ok(Judgement::Bad(text) | Judgement::Follow(text)) => Observation::Bad { detail: detail(text) },
        Err(failure) => failure.into_observation(probe.timeout),
    }
}

/// Why there is nothing to judge.
enum Failure {
    Refused(SocketAddr),
    Unreachable,
    Unable(String),
}

impl Failure {
    fn into_observation(self, limit: Duration) -> Observation {
        match self {
            Self::Refused(address) => Observation::Refused {
                address: address.to_string(),
            },
            Self::Unreachable => Observation::TimedOut {
                after: limit,
                connected: false,
            },
            Self::Unable(text) => Observation::Unable {
                detail: one_line(&text),
            },
        }
    }
}

async fn ask(probe: &Probe, runner: &[OsString], connected: &AtomicBool) -> Result<Judgement, Failure> {
    match probe.kind {
        Kind::Exec => match exec::run(runner, &probe.container, &probe.command).await {
            exec::Outcome::Good(text) => Ok(Judgement::Good(text)),
            exec::Outcome::Bad(text) => Ok(Judgement::Bad(text)),
            exec::Outcome::Unable(text) => Err(Failure::Unable(text)),
        },
        Kind::Tcp => {
            connect(probe, address(probe)?).await?;
            Ok(Judgement::Good("takes connections".into()))
        }
        Kind::Servarr | Kind::Bazarr | Kind::Jellyfin | Kind::Transmission | Kind::Http => {
            ask_http(probe, address(probe)?, connected).await
        }
    }
}

async fn ask_http(probe: &Probe, address: SocketAddr, connected: &AtomicBool) -> Result<Judgement, Failure> {
    let authority = address.to_string();
    let mut path = probe.path.clone();
    for _ in 0..=REDIRECTS_MAX {
        let stream = connect(probe, address).await?;
        connected.store(true, Ordering::Relaxed);
        let question = Question {
            method: if probe.kind == Kind::Transmission {
                Method::POST
            } else {
                Method::GET
            },
            authority: &authority,
            path: &path,
            wants_body: &|status| judge::wants_body(probe, status),
            headers: &[],
            body: if probe.kind == Kind::Transmission {
                "{}"
            } else {
                ""
            },
        };
        let answer = match http::exchange(stream, &question).await {
            Ok(answer) => answer,
            Err(http::Trouble::Path(path)) => {
                return Err(Failure::Unable(http::Trouble::Path(path).to_string()));
            }
            Err(trouble) => return Ok(Judgement::Bad(trouble.to_string())),
        };
        match judge::judge(probe, &answer) {
            Judgement::Follow(location) => match http::follow(&authority, &path, &location) {
                Ok(next) => path = next,
                Err(why) => return Ok(Judgement::Bad(format!("HTTP {}: {why}", answer.status))),
            },
            judgement => return Ok(judgement),
        }
    }
    Ok(Judgement::Bad(format!(
        "more than {REDIRECTS_MAX} redirects, the last one to {path}"
    )))
}

/// No name is ever resolved: that would be another service's health.
fn address(probe: &Probe) -> Result<SocketAddr, Failure> {
    let ip = match probe.host.parse::<IpAddr>() {
        Ok(ip) => ip,
        Err(_) if probe.host == "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Err(_) => return Err(Failure::Unable(format!("{:?} is not an address", probe.host))),
    };
    Ok(SocketAddr::new(ip, probe.port))
}

async fn connect(probe: &Probe, address: SocketAddr) -> Result<TcpStream, Failure> {
    let netns = probe.netns.as_deref().map(Path::new);
    let socket = netns::within(netns, || socket(address)).map_err(|error| {
        Failure::Unable(match &probe.netns {
            Some(netns) => format!("cannot enter the network namespace {netns}: {error}"),
            None => format!("cannot make a socket: {error}"),
        })
    })?;
    let socket = TcpSocket::from_std_stream(socket.into());
    socket.connect(address).await.map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => Failure::Refused(address),
        io::ErrorKind::TimedOut => Failure::Unreachable,
        _ => Failure::Unable(format!("cannot reach {address}: {error}")),
    })
}

fn socket(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv6() {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(
        family,
        SocketType::STREAM,
        flags,
        Some(ipproto::TCP),
    )?)
}
