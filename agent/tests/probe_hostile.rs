//! What the probes' own table has no room for: bombs, strangers on the port, and hosts that are none.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[allow(dead_code, reason = "only parts of the shared server are needed here")]
#[path = "probe_support/mod.rs"]
mod support;

use std::time::Duration;

use dagger_suite::probe::Kind;
use support::{Server, answer, detail, look};

/// A gigabyte of zeroes in a megabyte of gzip(1)'s members, which may stand one behind the other.
#[test]
fn a_compressed_bomb_is_never_unpacked() {
    let packed = std::process::Command::new("sh")
        .args(["-c", "head -c 16777216 /dev/zero | gzip -9c"])
        .output()
        .unwrap()
        .stdout;
    assert!(packed.starts_with(&[0x1f, 0x8b]), "no gzip(1) here");
    let mut bomb = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n".to_vec();
    bomb.extend(packed.repeat(64));
    let server = Server::fixed(bomb);
    let mut question = server.probe(Kind::Http, "/");
    question.body = Some("ready".into());
    let text = detail(&look(&question));
    assert!(
        text.starts_with("bad: HTTP 200, but the body does not hold"),
        "{text}"
    );
    let text = detail(&look(&server.probe(Kind::Servarr, "/ping")));
    assert!(text.contains("another application on this port"), "{text}");
    assert!(look(&server.probe(Kind::Http, "/")).is_good());
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 256 << 10, "{peak} KiB for what is never looked at");
}

/// Right words with a wrong sense: each of these is the answer of another one of the six.
#[test]
fn the_answer_of_another_application_is_none() {
    let pong = answer("200 OK", "", r#"{"status":"OK"}"#);
    let page = answer("200 OK", "Content-Type: text/html\r\n", "<html>Jellyfin</html>");
    let session = answer("409 Conflict", "X-Transmission-Session-Id: a\r\n", "");
    for (kind, reply) in [
        (Kind::Servarr, answer("200 OK", "", "Healthy")),
        (Kind::Servarr, page.clone()),
        (Kind::Servarr, session),
        (Kind::Bazarr, page.clone()),
        (Kind::Jellyfin, pong.clone()),
        (Kind::Jellyfin, page.clone()),
        (Kind::Transmission, pong),
        (Kind::Transmission, page),
    ] {
        let text = detail(&look(&Server::fixed(reply.clone()).probe(kind, "/")));
        assert!(text.starts_with("bad: "), "{kind:?} {reply:?}: {text}");
    }
}

/// A host that has gone, or a name: nothing is ever resolved, so no resolver can hold up a verdict.
#[test]
fn a_target_that_leads_nowhere_is_said_at_once_or_in_time() {
    for (host, says) in [
        ("sonarr.example", "unable: \"sonarr.example\" is not an address"),
        ("", "unable: \"\" is not an address"),
        ("127.0.0.1.", "unable: \"127.0.0.1.\" is not an address"),
        // Documentation only (RFC 5737): without a way there it is known at once, with one nobody answers.
        ("192.0.2.1", ""),
        ("255.255.255.255", "unable: cannot reach 255.255.255.255:"),
    ] {
        let mut question = Server::fixed("").probe(Kind::Http, "/");
        question.host = host.into();
        let seen = look(&question);
        assert!(
            detail(&seen).starts_with(says) && !seen.is_good(),
            "{host:?}: {}",
            detail(&seen)
        );
    }
}

#[test]
fn what_speaks_no_http_or_points_elsewhere_is_named() {
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X-A: b\r\n".repeat(10_000));
    for (what, reply, says) in [
        (
            "a TLS port: an alert",
            b"\x15\x03\x01\0\x02\x02\x46".to_vec(),
            "bad: what answers there does not speak HTTP",
        ),
        (
            "a TLS port that closes",
            Vec::new(),
            "bad: the connection was closed",
        ),
        ("10,000 headers", many.into_bytes(), "bad: the answer is larger"),
        (
            "a redirect to a file",
            answer("302 Found", "Location: file:///etc/passwd\r\n", "").into_bytes(),
            "bad: HTTP 302: it redirects to file:///etc/passwd, which is not this host and port",
        ),
    ] {
        let text = detail(&look(&Server::fixed(reply).probe(Kind::Http, "/")));
        assert!(text.starts_with(says), "{what}: {text}");
    }
}

#[test]
fn one_byte_a_second_is_given_up_in_time() {
    let server = Server::endless(b"H", b"T".to_vec(), Duration::from_secs(1));
    let mut question = server.probe(Kind::Servarr, "/ping");
    question.timeout = Duration::from_millis(2500);
    let text = detail(&look(&question));
    assert!(text.starts_with("timed out: the connection is taken"), "{text}");
}
