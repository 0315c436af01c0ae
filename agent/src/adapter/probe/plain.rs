//! The least exchange that there is: over a connection that is kept, for an answer that is short and plain.
//!
//! This is the way of nearly all questions, and of what a probe costs most is code and memory that nobody has touched for a
//! second. So it does little, and gives up wherever an answer has anything unusual: whoever asked then asks again over
//! a fresh connection and by the way of [`super::http`], which knows all of HTTP and has words for all that goes wrong.

use std::task::Poll;

use httparse::{EMPTY_HEADER, Header, Response, Status, parse_chunk_size};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use super::http::{Question, SHORT_MAX};
use super::judge::Answer;

/// The most header lines.
const HEADERS_MAX: usize = 32;
/// In so few pieces it comes.
const PIECES_MAX: usize = 16;
/// Most answers are shorter.
const USUAL: usize = 1024;

/// Asks, and says whether the connection can serve again; none where no plain answer has come.
pub async fn exchange(stream: &mut TcpStream, question: &Question<'_>) -> Option<(Answer, bool)> {
    let request = request(question)?;
    // What does not fit into the socket at once finds it full of questions that nobody reads.
    if stream.try_write(request.as_bytes()).ok()? < request.len() {
        return None;
    }
    let mut bytes = Vec::with_capacity(USUAL);
    for _ in 0..PIECES_MAX {
        if stream.read_buf(&mut bytes).await.ok()? == 0 || bytes.len() > SHORT_MAX {
            return None;
        }
        if let Poll::Ready(whole) = read(&bytes, question.wants_body)? {
            return Some(whole);
        }
    }
    None
}

/// The request; none where the path cannot stand in one.
fn request(question: &Question<'_>) -> Option<String> {
    let Question {
        method,
        authority,
        path,
        headers,
        body,
        ..
    } = question;
    let plain =
        headers.is_empty() && path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic());
    let length = match body.len() {
        0 => String::new(),
        length => format!("content-length: {length}\r\n"),
    };
    plain.then(|| {
        format!(
            concat!(
                "{} {} HTTP/1.1\r\nhost: {}\r\nuser-agent: dagger/",
                env!("CARGO_PKG_VERSION"),
                "\r\naccept: */*\r\n{}\r\n{}"
            ),
            method, path, authority, length, body
        )
    })
}

/// The answer, and whether the connection outlives it; pending where more is to come, none where it will not be plain.
fn read(bytes: &[u8], wants_body: &dyn Fn(u16) -> bool) -> Option<Poll<(Answer, bool)>> {
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut response = Response::new(&mut headers);
    let Status::Complete(end) = response.parse(bytes).ok()? else {
        return Some(Poll::Pending);
    };
    let status = response
        .code
        .filter(|code| *code >= 200 && !matches!(code, 204 | 304))?;
    if response.version != Some(1) {
        return None;
    }
    let mut answer = Answer {
        status,
        ..Answer::default()
    };
    let (mut length, mut chunked, mut keeps) = (None, false, true);
    for Header { name, value } in response.headers.iter() {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        let text = || Some(String::from_utf8_lossy(value).into_owned());
        if is("content-length") {
            let number = std::str::from_utf8(value).ok()?;
            let digits = number.bytes().all(|byte| byte.is_ascii_digit());
            // Twice is one too often, even for the same.
            if !digits || length.replace(number.parse::<usize>().ok()?).is_some() {
                return None;
            }
        } else if is("transfer-encoding") {
            if chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return None;
            }
            chunked = true;
        } else if is("connection") {
            keeps &= value.eq_ignore_ascii_case(b"keep-alive");
        } else if is("location") {
            answer.location = text();
        } else if is("server") {
            answer.server = text();
        } else if is("www-authenticate") {
            answer.challenge = text();
        } else if is("x-transmission-session-id") {
            answer.session = text();
        } else if is("retry-after") {
            answer.retry_after = true;
        }
    }
    let rest = bytes.get(end..)?;
    let body = match (length, chunked) {
        (Some(length), false) if rest.len() < length => Poll::Pending,
        (Some(length), false) if rest.len() == length => Poll::Ready(rest.to_vec()),
        (None, true) => chunks(rest)?,
        // More than was announced, or two lengths that may differ, or an end that only the closing tells.
        _ => return None,
    };
    Some(body.map(|body| {
        if wants_body(status) {
            answer.body = body;
        }
        (answer, keeps)
    }))
}

/// A body in chunks, without trailers.
fn chunks(mut rest: &[u8]) -> Option<Poll<Vec<u8>>> {
    let mut body = Vec::new();
    loop {
        let Status::Complete((begin, size)) = parse_chunk_size(rest).ok()? else {
            return Some(Poll::Pending);
        };
        let size = usize::try_from(size).ok().filter(|size| *size <= SHORT_MAX)?;
        let after = begin + size;
        let Some(end) = rest.get(after..after + 2) else {
            return Some(Poll::Pending);
        };
        if end != b"\r\n" {
            return None;
        }
        body.extend_from_slice(rest.get(begin..after)?);
        rest = rest.get(after + 2..)?;
        if size == 0 {
            return rest.is_empty().then_some(Poll::Ready(body));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Status, body and whether it keeps of what is whole at its very end and never before; none for all that is not plain.
    fn whole(text: &str) -> Option<(u16, String, bool)> {
        let everything = |_| true;
        for end in 0..text.len() {
            match read(text.get(..end).unwrap().as_bytes(), &everything) {
                Some(Poll::Pending) => {}
                Some(Poll::Ready(early)) => panic!("{early:?} after {end} bytes of {text:?}"),
                None => return None,
            }
        }
        match read(text.as_bytes(), &everything)? {
            Poll::Ready((answer, keeps)) => {
                Some((answer.status, String::from_utf8(answer.body).unwrap(), keeps))
            }
            Poll::Pending => panic!("never whole: {text:?}"),
        }
    }

    #[test]
    fn plain_answers_are_read_whole_and_all_others_are_left() {
        for (text, found) in [
            ("200 OK\r\nContent-Length: 2\r\n\r\nOK", Some((200, "OK", true))),
            ("409 No\r\ncontent-length: 0\r\n\r\n", Some((409, "", true))),
            (
                "200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nOK",
                Some((200, "OK", true)),
            ),
            (
                "200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nOK",
                Some((200, "OK", false)),
            ),
            (
                "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nOK\r\na;x=y\r\n0123456789\r\n0\r\n\r\n",
                Some((200, "OK0123456789", true)),
            ),
            // Lengths that are none, or more than one.
            ("200 OK\r\nContent-Length: +2\r\n\r\nOK", None),
            ("200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nOK", None),
            (
                "200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\nOK",
                None,
            ),
            (
                "200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nOK",
                None,
            ),
            ("200 OK\r\n\r\nuntil it closes", None),
            ("200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", None),
            (
                "200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffff0\r\n",
                None,
            ),
            ("200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nOK!!", None),
            (
                "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nTrailer: x\r\n\r\n",
                None,
            ),
            // Answers before the answer, answers without a body, and no answers.
            ("100 Continue\r\n\r\n", None),
            ("204 No Content\r\n\r\n", None),
            ("OK\r\n\r\n", None),
        ] {
            let found = found.map(|(status, body, keeps)| (status, body.to_owned(), keeps));
            assert_eq!(whole(&format!("HTTP/1.1 {text}")), found, "{text:?}");
        }
        // More than one answer, or bytes after it, that come along with it.
        for text in [
            "Content-Length: 2\r\n\r\nOK!",
            "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n!",
        ] {
            let text = format!("HTTP/1.1 200 OK\r\n{text}");
            assert_eq!(read(text.as_bytes(), &|_| true), None, "{text:?}");
        }
        assert_eq!(whole("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"), None);
        let headers = "X: 1\r\n".repeat(HEADERS_MAX);
        assert_eq!(
            whole(&format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: 0\r\n\r\n")),
            None
        );
    }

    #[test]
    fn a_path_that_could_end_the_line_is_not_asked() {
        let question = |path| Question {
            method: hyper::Method::GET,
            authority: "127.0.0.1:1",
            path,
            wants_body: &|_| false,
            headers: &[],
            body: "",
            keep: true,
        };
        assert!(
            request(&question("/ping?a=b"))
                .unwrap()
                .starts_with("GET /ping?a=b HTTP/1.1\r\nhost: 127.0.0.1:1\r\n")
        );
        for path in ["/ping HTTP/1.1\r\nx: y", "/a b", "/\u{e9}", "ping", ""] {
            assert_eq!(request(&question(path)), None, "{path:?}");
        }
    }
}
