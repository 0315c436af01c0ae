//! `metrics`: what the agent wrote for Prometheus; also the answer of `dagger-metrics@.service`, one request a process.

use std::io::{self, BufRead as _, Read, Write};

use dagger_agent::adapter::metrics;
use dagger_suite::names::{Root, exit};

use crate::error::Error;

/// A request's head has a few hundred bytes. What is longer is answered, too, and not read to its end.
const HEAD_MAX: u64 = 8192;

/// Prints the text.
pub fn print(root: &Root) -> Result<u8, Error> {
    let text = metrics::read(root).map_err(Error::Failed)?;
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(|error| cannot(&error))?;
    Ok(exit::GOOD)
}

/// Answers one request over standard input and output. Without metrics the answer is 503 with the reason.
pub fn answer(root: &Root) -> Result<u8, Error> {
    let request = io::stdin().lock();
    respond(request, io::stdout().lock(), metrics::read(root)).map_err(|error| cannot(&error))?;
    Ok(exit::GOOD)
}

fn cannot(error: &io::Error) -> Error {
    Error::Failed(format!("cannot hand out the metrics: {error}"))
}

fn respond(request: impl Read, mut to: impl Write, metrics: Result<String, String>) -> io::Result<()> {
    let method = method(request)?;
    let (status, kind, body) = match (method.as_str(), metrics) {
        ("GET" | "HEAD", Ok(text)) => ("200 OK", "text/plain; version=0.0.4; charset=utf-8", text),
        ("GET" | "HEAD", Err(why)) => ("503 Service Unavailable", "text/plain; charset=utf-8", why + "\n"),
        _ => (
            "405 Method Not Allowed",
            "text/plain; charset=utf-8",
            "GET it\n".into(),
        ),
    };
    write!(
        to,
        "HTTP/1.0 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    if method != "HEAD" {
        to.write_all(body.as_bytes())?;
    }
    to.flush()
}

/// The method, with the whole head read: a socket that is closed with something unread in it resets the answer, too.
fn method(request: impl Read) -> io::Result<String> {
    let mut lines = io::BufReader::new(request.take(HEAD_MAX));
    let (mut first, mut line) = (Vec::new(), Vec::new());
    lines.read_until(b'\n', &mut first)?;
    while lines.read_until(b'\n', &mut line)? > 0 && !line.trim_ascii().is_empty() {
        line.clear();
    }
    let method = first.split(|byte| *byte == b' ').next().unwrap_or_default();
    Ok(String::from_utf8_lossy(method).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(request: &str, metrics: Result<&str, &str>) -> String {
        let mut answer = Vec::new();
        let metrics = metrics.map(str::to_owned).map_err(str::to_owned);
        respond(request.as_bytes(), &mut answer, metrics).unwrap();
        String::from_utf8(answer).unwrap()
    }

    #[test]
    fn a_request_is_answered_with_the_text() {
        let answer = ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", Ok("a 1\n"));
        assert!(
            answer.starts_with("HTTP/1.0 200 OK\r\nContent-Type: text/plain; version=0.0.4"),
            "{answer}"
        );
        assert!(
            answer.ends_with("Content-Length: 4\r\nConnection: close\r\n\r\na 1\n"),
            "{answer}"
        );
    }

    #[test]
    fn what_is_not_a_good_request_is_answered_as_well() {
        let head = ask("HEAD / HTTP/1.0\r\n\r\n", Ok("a 1\n"));
        assert!(
            head.ends_with("Content-Length: 4\r\nConnection: close\r\n\r\n"),
            "{head}"
        );
        let gone = ask("GET / HTTP/1.0\r\n\r\n", Err("the agent does not run"));
        assert!(
            gone.starts_with("HTTP/1.0 503 ") && gone.ends_with("\r\n\r\nthe agent does not run\n"),
            "{gone}"
        );
        for bad in ["", "\r\n", "POST / HTTP/1.0\r\n\r\n", &"x".repeat(100_000)] {
            assert!(ask(bad, Ok("a 1\n")).starts_with("HTTP/1.0 405 "));
        }
    }
}
