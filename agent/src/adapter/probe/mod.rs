//! Probes: one question to one application, an [`Observation`] back, within bounded time and memory whatever it answers.

pub mod judge;

pub mod http;

mod plain;

pub mod exec;

pub mod call;

pub mod line;

use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dagger_suite::probe::{Kind, Probe};
use hyper::Method;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

use super::notify::one_line;
use super::sockets::netns;
use crate::domain::observation::Observation;
use http::Question;
use judge::Judgement;
use line::{Kept, Line, Target};

/// The podman program, where the caller knows no better.
pub const PODMAN: &str = dagger_suite::names::PODMAN;
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
    let asked = probe_without_limit(probe, &runner, &connected, Line::Once);
    match tokio::time::timeout(probe.timeout, asked).await {
        Ok((observation, _)) => observation,
        Err(_) => timed_out(probe, &connected),
    }
}

/// What a question has come to that was given up when its time was over.
pub fn timed_out(probe: &Probe, connected: &AtomicBool) -> Observation {
    Observation::TimedOut {
        after: probe.timeout,
        connected: connected.load(Ordering::Relaxed),
    }
}

/// The same for a caller that keeps the time itself, and drops this when `probe.timeout` is over: [`timed_out`] then says
/// what was seen. `connected` becomes true when somebody takes the connection, which is handed back where it is kept.
///
/// `runner` is podman and all words before it (kind `exec` only): somebody else may have to run it.
pub async fn probe_without_limit(
    probe: &Probe,
    runner: &[OsString],
    connected: &AtomicBool,
    line: Line,
) -> (Observation, Option<Kept>) {
    let begin = Instant::now();
    let detail = |text: String| one_line(&text);
    match ask(probe, runner, connected, line, begin).await {
        Ok((Judgement::Good(text), kept)) => {
            let (latency, detail) = (begin.elapsed(), detail(text));
            (Observation::Good { latency, detail }, kept)
        }
        Ok((Judgement::Starting(text), _)) => (Observation::Starting { detail: detail(text) }, None),
        Ok((Judgement::Bad(text) | Judgement::Follow(text), _)) => {
            (Observation::Bad { detail: detail(text) }, None)
        }
        Err(failure) => (failure.into_observation(probe.timeout), None),
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

/// What was said, and the connection where it is kept.
type Asked = Result<(Judgement, Option<Kept>), Failure>;

async fn ask(
    probe: &Probe,
    runner: &[OsString],
    connected: &AtomicBool,
    line: Line,
    begin: Instant,
) -> Asked {
    match probe.kind {
        Kind::Exec => match Box::pin(exec::run(runner, &probe.container, &probe.command)).await {
            exec::Outcome::Good(text) => Ok((Judgement::Good(text), None)),
            exec::Outcome::Bad(text) => Ok((Judgement::Bad(text), None)),
            exec::Outcome::Unable(text) => Err(Failure::Unable(text)),
        },
        Kind::Tcp => {
            Box::pin(connect(probe, address(probe)?)).await?;
            Ok((Judgement::Good("takes connections".into()), None))
        }
        Kind::Servarr | Kind::Bazarr | Kind::Jellyfin | Kind::Transmission | Kind::Http => {
            ask_http(probe, connected, line, begin).await
        }
    }
}

async fn ask_http(probe: &Probe, connected: &AtomicBool, line: Line, begin: Instant) -> Asked {
    let address = address(probe)?;
    let authority = address.to_string();
    let (target, kept) = match line {
        Line::Once => (None, None),
        Line::Keep(kept) => (Target::of(probe, address), kept),
    };
    let usable = kept.and_then(|kept| kept.usable(target?, begin));
    let wants_body = |status| judge::wants_body(probe, status);
    if let (Some((mut stream, since)), Some(target)) = (usable, target) {
        connected.store(true, Ordering::Relaxed);
        let question = question(probe, &authority, &probe.path, &wants_body, true);
        if let Some((answer, keeps)) = plain::exchange(&mut stream, &question).await
            && let good @ Judgement::Good(_) = judge::judge(probe, &answer)
        {
            return Ok((good, keeps.then(|| Kept::new(stream, target, since))));
        }
        connected.store(false, Ordering::Relaxed);
    }
    // On the heap, so that the question that goes the short way carries none of it.
    Box::pin(ask_afresh(probe, connected, target, address, begin)).await
}

async fn ask_afresh(
    probe: &Probe,
    connected: &AtomicBool,
    target: Option<Target>,
    address: SocketAddr,
    begin: Instant,
) -> Asked {
    let authority = address.to_string();
    let wants_body = |status| judge::wants_body(probe, status);
    let mut path = probe.path.clone();
    for turn in 0..=REDIRECTS_MAX {
        let stream = connect(probe, address).await?;
        connected.store(true, Ordering::Relaxed);
        // Where the answer is not there but where it redirects to, each question begins with the redirect again.
        let target = target.filter(|_| turn == 0);
        let question = question(probe, &authority, &path, &wants_body, target.is_some());
        let (answer, stream) = match http::exchange(stream, &question).await {
            Ok(answer) => answer,
            Err(http::Trouble::Path(path)) => {
                return Err(Failure::Unable(http::Trouble::Path(path).to_string()));
            }
            Err(trouble) => return Ok((Judgement::Bad(trouble.to_string()), None)),
        };
        match judge::judge(probe, &answer) {
            Judgement::Follow(location) => match http::follow(&authority, &path, &location) {
                Ok(next) => path = next,
                Err(why) => {
                    let bad = Judgement::Bad(format!("HTTP {}: {why}", answer.status));
                    return Ok((bad, None));
                }
            },
            judgement => {
                let kept = stream.zip(target);
                return Ok((
                    judgement,
                    kept.map(|(stream, target)| Kept::new(stream, target, begin)),
                ));
            }
        }
    }
    let bad = format!("more than {REDIRECTS_MAX} redirects, the last one to {path}");
    Ok((Judgement::Bad(bad), None))
}

/// What is asked at a path. Transmission's RPC is posted to; without its session's number it says no more than that it is
/// there.
fn question<'a>(
    probe: &Probe,
    authority: &'a str,
    path: &'a str,
    wants_body: &'a (dyn Fn(u16) -> bool + Sync),
    keep: bool,
) -> Question<'a> {
    let (method, body) = match probe.kind {
        Kind::Transmission => (Method::POST, "{}"),
        _ => (Method::GET, ""),
    };
    Question {
        method,
        authority,
        path,
        wants_body,
        headers: &[],
        body,
        keep,
    }
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
