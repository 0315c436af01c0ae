//! One HTTP/1.x message in and one out, as bytes; the sockets are in [`super::server`].
//!
//! The answers are framed as the originals frame them, since probes must cope with that: Kestrel (the .NET applications)
//! sends chunked bodies to HTTP/1.1 clients, waitress (Bazarr) sends `Content-Length`.

use std::io::{self, BufRead, Read, Write};

use super::clock::Civil;

/// The longest request head, and the longest body, that is read.
const LIMIT: u64 = 64 * 1024;

/// A request, read whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `HEAD`, ...
    pub method: String,
    /// The path as sent, without the query.
    pub path: String,
    /// What follows `?`, empty without one.
    pub query: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, as far as `Content-Length` goes.
    pub body: Vec<u8>,
    /// Whether the client speaks HTTP/1.1, and with it chunked bodies and kept connections.
    pub modern: bool,
}

impl Request {
    /// Reads one request; `None` when the client closed the connection between two.
    pub fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut from = from.take(LIMIT);
        let Some(line) = line(&mut from)? else {
            return Ok(None);
        };
        let mut words = line.split(' ');
        let (Some(method), Some(target), Some(version)) = (words.next(), words.next(), words.next()) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a request line"));
        };
        let mut headers = Vec::new();
        loop {
            let text = line_or_eof(&mut from)?;
            if text.is_empty() {
                break;
            }
            let Some((name, value)) = text.split_once(':') else {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "not a header"));
            };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut request = Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers,
            body: Vec::new(),
            modern: version == "HTTP/1.1",
        };
        let length = request
            .header("content-length")
            .and_then(|text| text.parse::<u64>().ok())
            .unwrap_or(0);
        from.set_limit(length.min(LIMIT));
        from.read_to_end(&mut request.body)?;
        Ok(Some(request))
    }

    /// The first header called `name` (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The value of a query parameter; names are compared without case, as ASP.NET and Flask's form of use here do.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        parameter(&self.query, name)
    }

    /// Whether the client wants the connection kept.
    pub fn keep_alive(&self) -> bool {
        let connection = self.header("connection").unwrap_or_default().to_ascii_lowercase();
        if self.modern {
            connection != "close"
        } else {
            connection == "keep-alive"
        }
    }
}

/// The value of `name` in `a=b&c=d`, undecoded.
pub fn parameter<'a>(encoded: &'a str, name: &str) -> Option<&'a str> {
    encoded
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

fn line(from: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut text = Vec::new();
    if from.read_until(b'\n', &mut text)? == 0 {
        return Ok(None);
    }
    let text = String::from_utf8(text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
}

fn line_or_eof(from: &mut impl BufRead) -> io::Result<String> {
    line(from)?.ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "the head ended early"))
}

/// How a body's end is marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// `Transfer-Encoding: chunked`, as Kestrel does when the length is not known beforehand.
    Chunked,
    /// `Content-Length`.
    Length,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Headers besides `Date`, `Server` and the framing.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// How the body's end is marked.
    pub framing: Framing,
}

impl Response {
    /// An answer without a body.
    pub fn empty(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            framing: Framing::Length,
        }
    }

    /// An answer with a body of the given type.
    pub fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            body: body.into(),
            ..Self::empty(status)
        }
        .with("Content-Type", content_type)
    }

    /// A redirect to `location`.
    pub fn redirect(status: u16, location: &str) -> Self {
        Self::empty(status).with("Location", location)
    }

    /// Adds a header.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Marks the body's end by chunks.
    #[must_use]
    pub fn chunked(mut self) -> Self {
        self.framing = Framing::Chunked;
        self
    }

    /// The bytes that go to the client that asked with `request`.
    pub fn to_bytes(&self, request: &Request, server: &str) -> Vec<u8> {
        let mut out = self.head(server);
        let head_only = request.method == "HEAD" || matches!(self.status, 100..=199 | 204 | 304);
        let chunked = self.framing == Framing::Chunked && request.modern && !self.body.is_empty();
        if chunked {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        } else if !matches!(self.status, 100..=199 | 204) {
            out.extend_from_slice(format!("Content-Length: {}\r\n", self.body.len()).as_bytes());
        }
        if !request.keep_alive() {
            out.extend_from_slice(b"Connection: close\r\n");
        }
        out.extend_from_slice(b"\r\n");
        if head_only {
            return out;
        }
        if chunked {
            out.extend_from_slice(format!("{:x}\r\n", self.body.len()).as_bytes());
            out.extend_from_slice(&self.body);
            out.extend_from_slice(b"\r\n0\r\n\r\n");
        } else {
            out.extend_from_slice(&self.body);
        }
        out
    }

    /// Status line and headers, without the empty line that ends them.
    pub fn head(&self, server: &str) -> Vec<u8> {
        let mut out = Vec::new();
        // Writing to a vector cannot fail.
        let _ = write!(out, "HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (name, value) in &self.headers {
            let _ = write!(out, "{name}: {value}\r\n");
        }
        let _ = write!(out, "Date: {}\r\nServer: {server}\r\n", Civil::now().http());
        out
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Request {
        Request::read(&mut text.as_bytes()).unwrap().unwrap()
    }

    #[test]
    fn a_request_with_body_and_query() {
        let request = read("POST /a/b?apikey=x&Y=2 HTTP/1.1\r\nX-Api-Key: k\r\nContent-Length: 3\r\n\r\nabc");
        assert_eq!(
            (
                request.path.as_str(),
                request.parameter("y"),
                request.header("x-api-key")
            ),
            ("/a/b", Some("2"), Some("k"))
        );
        assert_eq!(request.body, b"abc");
        assert!(request.keep_alive());
    }

    #[test]
    fn chunks_only_for_those_who_know_them() {
        let response = Response::new(200, "text/plain", "Healthy").chunked();
        let modern =
            String::from_utf8(response.to_bytes(&read("GET / HTTP/1.1\r\n\r\n"), "Kestrel")).unwrap();
        assert!(modern.ends_with("\r\n\r\n7\r\nHealthy\r\n0\r\n\r\n"), "{modern}");
        let old = String::from_utf8(response.to_bytes(&read("GET / HTTP/1.0\r\n\r\n"), "Kestrel")).unwrap();
        assert!(
            old.contains("Content-Length: 7\r\n") && old.ends_with("Connection: close\r\n\r\nHealthy"),
            "{old}"
        );
        let head = String::from_utf8(response.to_bytes(&read("HEAD / HTTP/1.1\r\n\r\n"), "Kestrel")).unwrap();
        assert!(head.ends_with("\r\n\r\n") && !head.contains("Healthy"), "{head}");
    }

    #[test]
    fn an_endless_head_is_cut() {
        let text = format!("GET / HTTP/1.1\r\nX: {}", "y".repeat(100_000));
        assert!(Request::read(&mut text.as_bytes()).is_err());
    }
}
