//! One HTTP/1.1 exchange within limits: time is the caller's, everything that takes memory or goes round is bounded here.

use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::rt::ReadBufCursor;
use hyper::{Method, Request, Response, Uri};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;

use super::judge::Answer;

/// The longest head of an answer.
const HEAD_MAX: usize = 16 * 1024;
/// The most header lines of an answer.
const HEADERS_MAX: usize = 100;
/// As much of a body as is looked at.
pub const BODY_MAX: usize = 64 * 1024;
/// All bytes of one exchange. Interim answers (1xx), chunk extensions and trailers count here and nowhere else.
const EXCHANGE_MAX: usize = HEAD_MAX + BODY_MAX + 48 * 1024;
/// The longest answer, head and all, of an application that is asked over connections that are kept.
pub const SHORT_MAX: usize = 16 * 1024;
/// The longest value of a header that is kept.
const VALUE_MAX: usize = 1024;

/// What Transmission's RPC wants back in the next request.
pub const SESSION_ID: HeaderName = HeaderName::from_static("x-transmission-session-id");

/// What is asked.
pub struct Question<'a> {
    /// GET, or POST (Transmission's RPC).
    pub method: Method,
    /// Host and port as the `Host` header carries them.
    pub authority: &'a str,
    /// Path and query.
    pub path: &'a str,
    /// Whether the body is wanted, by status.
    pub wants_body: &'a (dyn Fn(u16) -> bool + Sync),
    /// Headers beside those of every request. A value may be a secret, which no error text repeats.
    pub headers: &'a [(HeaderName, HeaderValue)],
    /// JSON that is sent along with a POST; empty for all else.
    pub body: &'a str,
    /// Whether the connection may be used for another question.
    pub keep: bool,
}

/// Why there is no answer. Each is the application's doing, and the text says what it did.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// The path cannot stand in a request.
    #[error("{0:?} cannot stand in an HTTP request")]
    Path(String),
    /// It closed or reset the connection.
    #[error("the connection was closed before the answer was complete")]
    Closed,
    /// Not HTTP.
    #[error("what answers there does not speak HTTP")]
    NotHttp,
    /// More than the limits allow.
    #[error("the answer is larger than any health answer can be")]
    TooLarge,
}

/// Asks, and reads as much of the answer as is needed. The connection comes back where it was to be kept and can be: the
/// answer was read to its end, nothing came after it, and the application does not close.
pub async fn exchange(
    stream: TcpStream,
    question: &Question<'_>,
) -> Result<(Answer, Option<TcpStream>), Trouble> {
    let request = request(question)?;
    let metered = Metered {
        stream,
        left: EXCHANGE_MAX,
    };
    // What hyper knows of a connection lasts for one question: its buffers would be most of what a kept one takes.
    let (mut sender, mut connection) = http1::Builder::new()
        .max_buf_size(HEAD_MAX)
        .max_headers(HEADERS_MAX)
        .handshake::<_, String>(metered)
        .await
        .map_err(|error| trouble(&error))?;
    let mut open = true;
    let answer = {
        let mut answer = pin!(async {
            let response = sender
                .send_request(request)
                .await
                .map_err(|error| trouble(&error))?;
            read(response, question).await
        });
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => break answer?,
                // How the connection ended, the answer's own future knows better.
                _ = &mut connection, if open => open = false,
            }
        }
    };
    if !question.keep || !open {
        return Ok((answer, None));
    }
    // One more look tells hyper that the answer has been read; then it either waits for the next question or closes.
    let ended = poll_fn(|cx| Poll::Ready(Pin::new(&mut connection).poll(cx).is_ready())).await;
    if ended || !sender.is_ready() {
        return Ok((answer, None));
    }
    let parts = connection.into_parts();
    let short = EXCHANGE_MAX - parts.io.left <= SHORT_MAX;
    let keeps = short && parts.read_buf.is_empty();
    Ok((answer, keeps.then_some(parts.io.stream)))
}

fn request(question: &Question<'_>) -> Result<Request<String>, Trouble> {
    let bad = || Trouble::Path(question.path.to_owned());
    let uri: Uri = question.path.parse().map_err(|_| bad())?;
    let mut request = Request::builder()
        .method(question.method.clone())
        .uri(uri)
        .header(header::HOST, question.authority)
        .header(header::USER_AGENT, concat!("dagger/", env!("CARGO_PKG_VERSION")))
        .header(header::ACCEPT, "*/*")
        .body(question.body.to_owned())
        .map_err(|_| bad())?;
    if !question.keep {
        let close = HeaderValue::from_static("close");
        request.headers_mut().insert(header::CONNECTION, close);
    }
    for (name, value) in question.headers {
        request.headers_mut().insert(name.clone(), value.clone());
    }
    Ok(request)
}

async fn read(response: Response<Incoming>, question: &Question<'_>) -> Result<Answer, Trouble> {
    let status = response.status().as_u16();
    let headers = response.headers();
    let mut answer = Answer {
        status,
        location: text(headers, &header::LOCATION),
        server: text(headers, &header::SERVER),
        challenge: text(headers, &header::WWW_AUTHENTICATE),
        session: text(headers, &SESSION_ID),
        retry_after: headers.contains_key(header::RETRY_AFTER),
        body: Vec::new(),
    };
    if (question.wants_body)(status) {
        answer.body = body(response.into_body()).await?;
    }
    Ok(answer)
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let value = headers.get(name).map(HeaderValue::as_bytes)?;
    let value = value.get(..value.len().min(VALUE_MAX))?;
    Some(String::from_utf8_lossy(value).into_owned())
}

async fn body(mut body: Incoming) -> Result<Vec<u8>, Trouble> {
    let mut bytes = Vec::new();
    while bytes.len() < BODY_MAX {
        let frame = match poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            None => break,
            Some(frame) => frame.map_err(|error| trouble(&error))?,
        };
        if let Some(data) = frame.data_ref() {
            let room = BODY_MAX - bytes.len();
            bytes.extend_from_slice(data.get(..room.min(data.len())).unwrap_or_default());
        }
    }
    Ok(bytes)
}

fn trouble(error: &hyper::Error) -> Trouble {
    let quota = error
        .source()
        .and_then(|source| source.downcast_ref::<io::Error>())
        .is_some_and(|source| source.kind() == io::ErrorKind::QuotaExceeded);
    // hyper tells "too large" apart by a method for servers only, and by its text for everybody.
    if quota || (error.is_parse() && error.to_string().contains("too large")) {
        Trouble::TooLarge
    } else if error.is_parse() {
        Trouble::NotHttp
    } else {
        Trouble::Closed
    }
}

/// A connection that ends with an error after so many bytes were read.
struct Metered {
    stream: TcpStream,
    left: usize,
}

impl hyper::rt::Read for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut to: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == 0 {
            return Poll::Ready(Err(io::ErrorKind::QuotaExceeded.into()));
        }
        // By way of the stack, because hyper's buffer may hold bytes that were never written, and this crate has no unsafe.
        let mut space = [0; 4096];
        let room = space.len().min(to.remaining()).min(self.left);
        let mut buffer = ReadBuf::new(space.get_mut(..room).unwrap_or_default());
        let result = Pin::new(&mut self.stream).poll_read(cx, &mut buffer);
        if let Poll::Ready(Ok(())) = result {
            self.left -= buffer.filled().len();
            to.put_slice(buffer.filled());
        }
        result
    }
}

impl hyper::rt::Write for Metered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Where a redirect leads: a path on the same host and port, or the sentence that says why it is not followed.
pub fn follow(authority: &str, from: &str, location: &str) -> Result<String, String> {
    let shown: String = location.chars().filter(|c| !c.is_control()).take(120).collect();
    let location = location.split('#').next().unwrap_or("");
    if let Some((scheme, rest)) = location.split_once("://") {
        let (there, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let there = if there.contains(':') && !there.ends_with(']') {
            there.to_owned()
        } else {
            format!("{there}:80")
        };
        return if scheme.eq_ignore_ascii_case("http") && there.eq_ignore_ascii_case(authority) {
            Ok(if path.is_empty() { "/".into() } else { path.into() })
        } else {
            Err(format!(
                "it redirects to {shown}, which is not this host and port"
            ))
        };
    }
    if location.starts_with("//") || location.starts_with('\\') {
        return Err(format!(
            "it redirects to {shown}, which is not this host and port"
        ));
    }
    if location.is_empty() {
        return Err("it redirects to nowhere".into());
    }
    if location.starts_with('/') {
        return Ok(location.to_owned());
    }
    let from = from.split('?').next().unwrap_or("/");
    let dir = from.rfind('/').and_then(|at| from.get(..=at)).unwrap_or("/");
    Ok(format!("{dir}{location}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_stay_on_this_host_and_port() {
        let here = "127.0.0.1:8989";
        for (location, path) in [
            ("/base/ping", Some("/base/ping")),
            ("/base/ping?x=1#part", Some("/base/ping?x=1")),
            ("base/ping", Some("/a/base/ping")),
            ("http://127.0.0.1:8989/base/ping", Some("/base/ping")),
            ("HTTP://127.0.0.1:8989", Some("/")),
            ("https://127.0.0.1:8989/ping", None),
            ("http://127.0.0.1:8990/ping", None),
            ("http://127.0.0.1/ping", None),
            ("http://127.0.0.1:8989@evil/ping", None),
            ("http://evil/127.0.0.1:8989", None),
            ("//evil/ping", None),
            ("\\\\evil\\ping", None),
            ("", None),
        ] {
            assert_eq!(
                follow(here, "/a/b?c=/d", location).ok().as_deref(),
                path,
                "{location}"
            );
        }
        assert_eq!(follow("[::1]:80", "/", "http://[::1]/x").unwrap(), "/x");
    }
}
