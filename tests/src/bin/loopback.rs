//! Both ends of a connection over loopback, as little as they can be: what the agent is measured with and against.
//!
//! - `loopback answer PORT COUNT`: answers HTTP on COUNT ports from PORT on, 200 to everything; prints `PORT MICROSECONDS`
//!   for each request, counted from its own start.
//! - `loopback ask MILLISECONDS ROUNDS PORT/PATH...`: asks each of them over one connection that is kept, one after the
//!   other, ROUNDS times with that interval; prints `REQUESTS MICROSECONDS`: how many, and the processor time of this
//!   process that they took. A round before them makes the connections and is not counted.

use nix::time::{ClockId, clock_gettime};
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const USAGE: &str = "usage: loopback answer PORT COUNT | ask MILLISECONDS ROUNDS PORT/PATH...";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["answer", port, count] => number(port).and_then(|port| answer(port, number(count)?)),
        ["ask", interval, rounds, targets @ ..] if !targets.is_empty() => number(interval)
            .and_then(|interval| ask(Duration::from_millis(interval), number(rounds)?, targets)),
        _ => Err(wrong(USAGE)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("loopback: {error}");
            ExitCode::FAILURE
        }
    }
}

fn wrong(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

fn number<T: std::str::FromStr>(word: &str) -> Result<T> {
    word.parse().map_err(|_| wrong(USAGE))
}

/// One thread a port and one a connection: what the answering side costs is not measured.
fn answer(port: u16, count: u16) -> Result<()> {
    let began = Instant::now();
    let mut threads = Vec::new();
    for port in port..port.saturating_add(count) {
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        threads.push(std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that goes away in the middle has nothing more to hear.
                std::thread::spawn(move || converse(&stream, port, began));
            }
        }));
    }
    for thread in threads {
        thread.join().map_err(|_| wrong("a listening thread has ended"))?;
    }
    Ok(())
}

fn converse(mut stream: &TcpStream, port: u16, began: Instant) -> Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 {
        if line.trim_end().is_empty() {
            // One write a line, so that lines of several threads do not mix.
            let seen = format!("{port} {}\n", began.elapsed().as_micros());
            std::io::stdout().lock().write_all(seen.as_bytes())?;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nOK")?;
        }
        line.clear();
    }
    Ok(())
}

/// A target and the connection to it.
struct Target {
    question: String,
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Target {
    fn connect(target: &str) -> Result<Self> {
        let (port, path) = target.split_once('/').ok_or_else(|| wrong(USAGE))?;
        let port: u16 = number(port)?;
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        Ok(Self {
            question: format!("GET /{path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"),
            stream,
            answer: Vec::new(),
        })
    }

    fn ask(&mut self) -> Result<()> {
        self.stream.write_all(self.question.as_bytes())?;
        self.answer.clear();
        let mut piece = [0; 4096];
        while !complete(&self.answer) {
            let count = self.stream.read(&mut piece)?;
            if count == 0 {
                return Err(wrong("the connection was not kept"));
            }
            self.answer.extend(piece.iter().take(count));
        }
        Ok(())
    }
}

/// Whether the answer is there as a whole, by its length or its last chunk.
fn complete(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        return false;
    };
    let (head, rest) = answer.split_at(end);
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let body = rest.len().saturating_sub(4);
    match head.split("\r\ncontent-length:").nth(1) {
        Some(rest) => {
            let length = rest.lines().next().unwrap_or_default().trim().parse();
            length.is_ok_and(|length: usize| body >= length)
        }
        None => answer.ends_with(b"0\r\n\r\n"),
    }
}

fn ask(interval: Duration, rounds: u32, targets: &[&str]) -> Result<()> {
    let mut targets: Vec<Target> = targets
        .iter()
        .map(|target| Target::connect(target))
        .collect::<Result<_>>()?;
    let mut began = Duration::ZERO;
    for round in 0..=rounds {
        for target in &mut targets {
            target.ask()?;
        }
        if round == 0 {
            began = used()?;
        }
        if round < rounds {
            std::thread::sleep(interval);
        }
    }
    let took = used()?.saturating_sub(began);
    let asked = targets.len() * usize::try_from(rounds).map_err(Error::other)?;
    println!("{asked} {}", took.as_micros());
    Ok(())
}

/// Processor time of this process so far.
fn used() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_complete_by_length_or_by_its_last_chunk() {
        for (text, whole) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK", true),
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nO", false),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nOK\r\n0\r\n\r\n",
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nOK\r\n",
                false,
            ),
            ("HTTP/1.1 200 OK\r\n", false),
        ] {
            assert_eq!(complete(text.as_bytes()), whole, "{text:?}");
        }
    }
}
