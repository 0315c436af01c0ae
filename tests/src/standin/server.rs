//! The listening socket: one thread accepts, one thread a connection; the faults are applied here, so that every
//! application has all of them.

use std::io::{self, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::fault::{Fault, FaultSet, Faults};
use super::http::{Request, Response};

/// How long a thread may be deaf to a stop or to a new fault.
const TICK: Duration = Duration::from_millis(50);
/// How long a kept connection may be idle, Kestrel's limit.
const IDLE: Duration = Duration::from_secs(130);

/// Requests that were read whole since the start, those for the stand-in's own state left out.
static REQUESTS: AtomicU64 = AtomicU64::new(0);
/// Where that state is to be had.
pub const STATE: &str = "/standin/state";

/// How many requests were read whole since the start.
pub fn requests() -> u64 {
    REQUESTS.load(Ordering::Relaxed)
}

/// What answers requests.
pub type Handler = dyn Fn(&Request) -> Response + Send + Sync;

/// A server that runs until it is stopped.
#[derive(Debug)]
pub struct Server {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

struct Context {
    handler: Arc<Handler>,
    faults: Faults,
    stop: Arc<AtomicBool>,
    name: &'static str,
}

/// Opens the port. `*` and the empty string mean every address of both families, where the machine has both.
pub fn bind(address: &str, port: u16) -> io::Result<TcpListener> {
    match address.trim_matches(['[', ']']) {
        "" | "*" | "::" => match TcpListener::bind(("::", port)) {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => TcpListener::bind(("0.0.0.0", port)),
            result => result,
        },
        "localhost" => TcpListener::bind(("127.0.0.1", port)),
        address => TcpListener::bind((address, port)),
    }
}

impl Server {
    /// Answers on `listener` with `handler`; `name` is the `Server` header.
    pub fn start(
        listener: TcpListener,
        name: &'static str,
        faults: Faults,
        handler: Arc<Handler>,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let context = Arc::new(Context {
            handler,
            faults,
            stop: Arc::clone(&stop),
            name,
        });
        let thread = thread::Builder::new()
            .name("accept".to_owned())
            .spawn(move || accept(listener, address, &context))?;
        Ok(Self { stop, thread })
    }

    /// Closes the port and lets every connection go.
    pub fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        // A panic in the accepting thread has been printed by then; there is nothing left to close.
        let _ = self.thread.join();
    }
}

fn accept(listener: TcpListener, address: SocketAddr, context: &Arc<Context>) {
    let mut listener = Some(listener);
    while !context.stop.load(Ordering::SeqCst) {
        if context.faults.now().has(Fault::Refuse) {
            listener = None;
            thread::sleep(TICK);
            continue;
        }
        let Some(socket) = &listener else {
            listener = TcpListener::bind(address)
                .and_then(|socket| socket.set_nonblocking(true).map(|()| socket))
                .ok();
            thread::sleep(if listener.is_some() { Duration::ZERO } else { TICK });
            continue;
        };
        if !readable(socket) {
            continue;
        }
        let Ok((stream, _)) = socket.accept() else {
            continue;
        };
        let context = Arc::clone(context);
        // When the machine has no thread left the client sees its connection closed, as with the originals.
        let _ = thread::Builder::new()
            .name("connection".to_owned())
            .spawn(move || {
                // A client that went away is no event for a server.
                let _ = converse(&stream, &context);
                let _ = stream.shutdown(Shutdown::Both);
            });
    }
}

fn readable(socket: &impl AsFd) -> bool {
    let mut wait = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(TICK).unwrap_or(PollTimeout::ZERO);
    poll(&mut wait, timeout).is_ok_and(|ready| ready > 0)
}

fn converse(stream: &TcpStream, context: &Context) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    loop {
        let idle = Instant::now();
        while reader.buffer().is_empty() && !readable(stream) {
            if context.stop.load(Ordering::SeqCst)
                || idle.elapsed() > IDLE
                || context.faults.now().has(Fault::Refuse)
            {
                return Ok(());
            }
        }
        let request = match Request::read(&mut reader) {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(()),
            Err(_) => {
                return (&*stream).write_all(
                    b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                );
            }
        };
        if request.path != STATE {
            REQUESTS.fetch_add(1, Ordering::Relaxed);
        }
        let kept = answer(stream, &request, context)?;
        if !kept || !request.keep_alive() || context.stop.load(Ordering::SeqCst) {
            return Ok(());
        }
    }
}

/// Answers one request, well or badly; tells whether the connection can be used again.
fn answer(mut out: &TcpStream, request: &Request, context: &Context) -> io::Result<bool> {
    let faults = patiently(context);
    if faults.has(Fault::Corrupt) {
        out.write_all(b"\x16\x03\x01\x00\xffHTTQ/9.9 two hundred\n\0\0\xfe\xfe")?;
        return Ok(false);
    }
    if faults.has(Fault::EndlessBody) {
        return endless(out, context).map(|()| false);
    }
    let response = replaced(&faults, request).unwrap_or_else(|| (context.handler)(request));
    let cut = faults.has(Fault::Truncate);
    let bytes = if cut {
        truncated(&response, context.name)
    } else {
        response.to_bytes(request, context.name)
    };
    let bytes = with_filler(bytes, &faults);
    let pause = faults.find(|fault| {
        if let Fault::Trickle(pause) = fault {
            Some(*pause)
        } else {
            None
        }
    });
    let Some(pause) = pause else {
        return out.write_all(&bytes).map(|()| !cut);
    };
    for byte in bytes {
        out.write_all(&[byte])?;
        thread::sleep(pause);
    }
    Ok(!cut)
}

/// Waits as long as `hang` and `slow` want; the faults that are then in force.
fn patiently(context: &Context) -> FaultSet {
    let mut faults = context.faults.now();
    while faults.has(Fault::Hang) {
        thread::sleep(TICK);
        faults = context.faults.now();
    }
    if let Some(delay) = faults.find(|fault| {
        if let Fault::Slow(delay) = fault {
            Some(*delay)
        } else {
            None
        }
    }) {
        thread::sleep(delay);
    }
    faults
}

/// A body that ends before its `Content-Length` does.
fn truncated(response: &Response, server: &str) -> Vec<u8> {
    let mut bytes = response.head(server);
    bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", response.body.len() + 100).as_bytes());
    bytes.extend_from_slice(&response.body);
    bytes
}

fn with_filler(mut bytes: Vec<u8>, faults: &FaultSet) -> Vec<u8> {
    let count = faults.find(|fault| {
        if let Fault::ManyHeaders(count) = fault {
            Some(*count)
        } else {
            None
        }
    });
    let filler = (0..count.unwrap_or(0)).flat_map(|n| format!("X-Filler-{n}: {n}\r\n").into_bytes());
    let line_end = bytes
        .iter()
        .position(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    bytes.splice(line_end..line_end, filler);
    bytes
}

/// The answer that a fault puts in place of the application's.
fn replaced(faults: &FaultSet, request: &Request) -> Option<Response> {
    if faults.flapping(SystemTime::now()) {
        return Some(Response::new(503, "text/plain", "flapping"));
    }
    faults.find(|fault| match fault {
        Fault::Status(status) => Some(Response::new(
            *status,
            "application/json; charset=utf-8",
            r#"{"status":"Error"}"#,
        )),
        Fault::RedirectLoop => {
            let turn = request
                .parameter("turn")
                .and_then(|turn| turn.parse::<u64>().ok())
                .unwrap_or(0);
            Some(Response::redirect(
                302,
                &format!("{}?turn={}", request.path, turn.wrapping_add(1)),
            ))
        }
        Fault::WrongBody => Some(Response::new(
            200,
            "text/html",
            "<html><title>Log in to this network</title></html>",
        )),
        _ => None,
    })
}

fn endless(mut out: &TcpStream, context: &Context) -> io::Result<()> {
    out.write_all(
        &Response::empty(200)
            .with("Content-Type", "text/plain")
            .head(context.name),
    )?;
    out.write_all(b"Transfer-Encoding: chunked\r\n\r\n")?;
    let mut chunk = b"4000\r\n".to_vec();
    chunk.extend(std::iter::repeat_n(b'x', 0x4000));
    chunk.extend_from_slice(b"\r\n");
    while !context.stop.load(Ordering::SeqCst) {
        out.write_all(&chunk)?;
    }
    Ok(())
}
