//! Probes against servers that answer as the applications do, and against servers that mean no good: whatever comes, there is
//! an observation within the time limit, and its text is one short printable line.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[allow(dead_code, reason = "only parts of the shared server are needed here")]
#[path = "probe_support/mod.rs"]
mod support;

use std::io::Write as _;
use std::net::TcpListener;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dagger_agent::domain::observation::Observation;
use dagger_suite::probe::Kind;
use support::{Server, answer, detail, look};

#[test]
fn every_application_as_it_answers() {
    let ok = || {
        answer(
            "200 OK",
            "Content-Type: application/json\r\n",
            r#"{"status":"OK"}"#,
        )
    };
    let chunked =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n{\"status\r\n7\r\n\":\"OK\"}\r\n0\r\n\r\n";
    let until_close = "HTTP/1.0 200 OK\r\n\r\n{\"status\":\"OK\"}";
    let interim = format!("HTTP/1.1 103 Early Hints\r\n\r\n{}", ok());
    let session = answer(
        "409 Conflict",
        "Server: Transmission\r\nX-Transmission-Session-Id: a\r\n",
        "<h1>409</h1>",
    );
    let login = answer(
        "401 Unauthorized",
        "WWW-Authenticate: Basic realm=\"Transmission\"\r\n",
        "",
    );
    for (kind, reply, says) in [
        (Kind::Servarr, ok(), "good: HTTP 200 in "),
        (Kind::Servarr, chunked.into(), "good: HTTP 200 in "),
        (Kind::Servarr, until_close.into(), "good: HTTP 200 in "),
        (Kind::Servarr, interim, "good: HTTP 200 in "),
        (
            Kind::Servarr,
            answer(
                "503 Service Unavailable",
                "",
                "Sonarr is starting up, please try again later",
            ),
            "starting: HTTP 503",
        ),
        (Kind::Bazarr, ok(), "good: HTTP 200 in "),
        (
            Kind::Jellyfin,
            answer("200 OK", "", "Healthy"),
            "good: Healthy in ",
        ),
        (
            Kind::Jellyfin,
            answer("200 OK", "", "Degraded"),
            "starting: Degraded",
        ),
        (
            Kind::Jellyfin,
            answer("503 Service Unavailable", "", "Unhealthy"),
            "bad: Unhealthy",
        ),
        (
            Kind::Jellyfin,
            answer("503 Service Unavailable", "Retry-After: 005\r\n", "<html>"),
            "starting: HTTP 503",
        ),
        (Kind::Transmission, session, "good: RPC answers in "),
        (
            Kind::Transmission,
            login,
            "good: RPC answers, authentication is on in ",
        ),
        (Kind::Http, answer("200 OK", "", "x"), "good: HTTP 200 in "),
        (
            Kind::Http,
            answer("500 No", "", "disk full"),
            "bad: HTTP 500: disk full (expected: 200)",
        ),
        (Kind::Tcp, String::new(), "good: takes connections in "),
    ] {
        let seen = look(&Server::fixed(reply.clone()).probe(kind, "/"));
        assert!(
            detail(&seen).starts_with(says),
            "{kind:?} {reply:?}: {}",
            detail(&seen)
        );
    }
}

#[test]
fn garbage_ends_in_time_with_words_for_it() {
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X-A: b\r\n".repeat(10_000));
    // What a megabyte of zeroes is when gzip(1) has packed it, over and over: nothing is ever unpacked.
    let mut bomb =
        b"HTTP/1.1 500 No\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b\x08\0\0\0\0\0\0\x03\xed\xc1\x01\x01"
            .to_vec();
    bomb.resize(1 << 20, 0);
    let wide = format!("HTTP/1.1 200 OK\r\nX-A: {}\r\n\r\n", "a".repeat(100_000));
    for (what, server, says) in [
        (
            "silence",
            Server::new(|_, _| std::thread::sleep(Duration::from_secs(3))),
            "timed out: the connection is taken",
        ),
        (
            "closed at once",
            Server::fixed(""),
            "bad: the connection was closed",
        ),
        (
            "half a head",
            Server::fixed("HTTP/1.1 200 OK\r\nContent-"),
            "bad: the connection was closed",
        ),
        (
            "half a body",
            Server::fixed("HTTP/1.1 500 No\r\nContent-Length: 9\r\n\r\nx"),
            "bad: the connection was closed",
        ),
        (
            "a TLS port",
            Server::fixed(b"\x15\x03\x01\0\x02\x02\x46".to_vec()),
            "bad: what answers there does not speak HTTP",
        ),
        (
            "a compressed bomb",
            Server::fixed(bomb),
            "bad: HTTP 500 (expected",
        ),
        (
            "a redirect to a file",
            Server::fixed(answer("302 Found", "Location: file:///etc/passwd\r\n", "")),
            "bad: HTTP 302: it redirects to file:///etc/passwd, which is not this host and port",
        ),
        (
            "another protocol",
            Server::fixed("SSH-2.0-OpenSSH_9.2\r\n"),
            "bad: what answers there does not speak HTTP",
        ),
        (
            "bytes",
            Server::fixed((0..=255).cycle().take(9000).collect::<Vec<u8>>()),
            "bad: what answers there",
        ),
        ("a wide header", Server::fixed(wide), "bad: the answer is larger"),
        ("many headers", Server::fixed(many), "bad: the answer is larger"),
        (
            "two lengths",
            Server::fixed("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"),
            "bad: ",
        ),
        (
            "control characters",
            Server::fixed(answer("500 No", "", "a\u{1b}[2Jb\u{0}c\u{85}d")),
            "bad: HTTP 500: a [2Jb c d",
        ),
    ] {
        let seen = look(&server.probe(Kind::Http, "/"));
        assert!(detail(&seen).starts_with(says), "{what}: {}", detail(&seen));
    }
}

#[test]
fn what_has_no_end_ends_in_time_with_words_for_it() {
    let slowly = Duration::from_millis(20);
    let at_once = Duration::ZERO;
    for (what, server, says) in [
        (
            "an endless head",
            Server::endless(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n".to_vec(), at_once),
            "bad: ",
        ),
        (
            "an endless first line",
            Server::endless(b"HTTP/1.1 200 ", vec![b'a'; 4096], at_once),
            "bad: the answer is larger",
        ),
        (
            "interim answers without end",
            Server::endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n".repeat(100), at_once),
            "bad: the answer is larger",
        ),
        (
            "a trickle",
            Server::endless(b"HTTP/1.1 200 OK\r\n", b"X".to_vec(), slowly),
            "timed out: the connection",
        ),
        (
            "a trickle of a body",
            Server::endless(b"HTTP/1.1 500 No\r\n\r\n", b"x".to_vec(), slowly),
            "timed out: the connection",
        ),
        (
            "an endless body",
            Server::endless(b"HTTP/1.1 500 No\r\n\r\n", vec![b'x'; 65536], at_once),
            "bad: HTTP 500: xxx",
        ),
        (
            "chunks with endless extensions",
            Server::endless(
                b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n1;",
                vec![b'x'; 4096],
                at_once,
            ),
            "bad: ",
        ),
    ] {
        let seen = look(&server.probe(Kind::Http, "/"));
        assert!(detail(&seen).starts_with(says), "{what}: {}", detail(&seen));
    }
}

#[test]
fn a_page_of_any_size_is_good_by_its_status() {
    let server = Server::endless(b"HTTP/1.1 200 OK\r\n\r\n", vec![b'x'; 65536], Duration::ZERO);
    assert!(look(&server.probe(Kind::Http, "/")).is_good());
    // The text is looked for in the first 64 KiB only.
    let mut question = server.probe(Kind::Http, "/");
    question.body = Some("ready".into());
    assert!(detail(&look(&question)).starts_with("bad: HTTP 200, but the body does not hold"));
}

#[test]
fn redirects_are_followed_to_the_base_and_nowhere_else() {
    let base = Server::new(|stream, head| {
        let reply = if head.starts_with("GET /base/ping ") {
            answer("200 OK", "", r#"{"status":"OK"}"#)
        } else {
            answer("307 Temporary Redirect", "Location: /base/ping\r\n", "")
        };
        let _ = stream.write_all(reply.as_bytes());
    });
    assert!(look(&base.probe(Kind::Servarr, "/ping")).is_good());
    assert_eq!(base.asked.load(Ordering::Relaxed), 2);

    let other = Server::fixed(answer("200 OK", "", r#"{"status":"OK"}"#));
    let away = Server::fixed(answer(
        "302 Found",
        &format!("Location: http://{}/ping\r\n", other.address),
        "",
    ));
    let text = detail(&look(&away.probe(Kind::Servarr, "/ping")));
    assert!(
        text.starts_with("bad: HTTP 302: it redirects to http://127.0.0.1:"),
        "{text}"
    );
    assert!(text.ends_with("which is not this host and port"), "{text}");
    assert_eq!(other.asked.load(Ordering::Relaxed), 0, "nobody else is asked");

    let round = Server::fixed(answer("302 Found", "Location: /again\r\n", ""));
    let text = detail(&look(&round.probe(Kind::Http, "/")));
    assert!(text.contains("more than 3 redirects"), "{text}");
    assert_eq!(round.asked.load(Ordering::Relaxed), 4);
}

#[test]
fn transmission_is_asked_without_credentials_and_by_post() {
    let server = Server::new(|stream, head| {
        let lower = head.to_lowercase();
        let good = lower.starts_with("post /transmission/rpc ") && !lower.contains("authorization");
        let reply = if good && lower.contains("host: 127.0.0.1:") {
            answer("409 Conflict", "X-Transmission-Session-Id: a\r\n", "")
        } else {
            answer("405 No", "", "")
        };
        let _ = stream.write_all(reply.as_bytes());
    });
    assert!(look(&server.probe(Kind::Transmission, "/transmission/rpc")).is_good());
}

#[test]
fn nobody_listens() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut question = Server::fixed("").probe(Kind::Servarr, "/ping");
    question.port = address.port();
    for kind in [Kind::Servarr, Kind::Tcp] {
        question.kind = kind;
        assert_eq!(
            look(&question),
            Observation::Refused {
                address: address.to_string()
            }
        );
    }
    question.host = "sonarr.example".into();
    assert!(detail(&look(&question)).starts_with("unable: \"sonarr.example\" is not an address"));
    question.host = "127.0.0.1".into();
    question.kind = Kind::Http;
    question.path = "/a b".into();
    question.port = Server::fixed("").address.port();
    assert!(detail(&look(&question)).starts_with("unable: \"/a b\" cannot stand in an HTTP request"));
}

#[test]
fn ipv6_works_where_there_is_ipv6() {
    if TcpListener::bind("[::1]:0").is_err() {
        eprintln!("skipped: no IPv6 here");
        return;
    }
    let server = Server::on("[::1]:0", |stream, head| {
        let good = head.to_lowercase().contains("host: [::1]:");
        let reply = answer(if good { "200 OK" } else { "421 No" }, "", "Healthy");
        let _ = stream.write_all(reply.as_bytes());
    });
    assert!(look(&server.probe(Kind::Jellyfin, "/health")).is_good());
}

#[test]
fn another_namespace_is_another_world() {
    let Some(mut child) = std::process::Command::new("unshare")
        .args(["-n", "sleep", "30"])
        .spawn()
        .ok()
    else {
        eprintln!("skipped: no unshare(1) here");
        return;
    };
    let netns = format!("/proc/{}/ns/net", child.id());
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    let deadline = Instant::now() + Duration::from_secs(2);
    let entered = || std::fs::read_link(&netns).is_ok_and(|other| other != own);
    while !entered() && child.try_wait().unwrap().is_none() && Instant::now() < deadline {
        std::thread::yield_now();
    }
    if entered() {
        let server = Server::fixed(answer("200 OK", "", ""));
        let mut question = server.probe(Kind::Http, "/");
        question.netns = Some(netns);
        // The loopback device of a new namespace is down.
        let text = detail(&look(&question));
        assert!(text.starts_with("unable: cannot reach 127.0.0.1:"), "{text}");
        assert_eq!(server.asked.load(Ordering::Relaxed), 0);
        question.netns = None;
        assert!(look(&question).is_good(), "we are where we were");
    } else {
        eprintln!("skipped: may not make a network namespace");
    }
    let _ = child.kill();
    let _ = child.wait();
    let mut question = Server::fixed("").probe(Kind::Tcp, "/");
    question.netns = Some("/run/netns/dagger-is-not-there".into());
    assert!(
        detail(&look(&question)).starts_with("unable: cannot enter the network namespace /run/netns/dagger")
    );
}
