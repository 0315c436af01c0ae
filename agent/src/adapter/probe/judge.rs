//! What an answer means, in each application's own tongue. Plain values in and out; each rule says where it comes from.

use dagger_suite::probe::{Kind, Probe};

/// As much of an HTTP answer as any rule looks at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// `Location`, of a redirect.
    pub location: Option<String>,
    /// `Server`.
    pub server: Option<String>,
    /// `WWW-Authenticate`.
    pub challenge: Option<String>,
    /// `X-Transmission-Session-Id`.
    pub session: Option<String>,
    /// `Retry-After` is there.
    pub retry_after: bool,
    /// The body, up to the limit; empty where no rule needs it ([`wants_body`]).
    pub body: Vec<u8>,
}

/// What it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// As it should be.
    Good(String),
    /// The application says that it is not ready yet.
    Starting(String),
    /// Anything else.
    Bad(String),
    /// Ask again there (a `Location`, not checked yet).
    Follow(String),
}

use Judgement::{Bad, Follow, Good, Starting};

/// Whether the rules need the body of an answer with this status; a page of megabytes is not read for its status alone.
pub fn wants_body(probe: &Probe, status: u16) -> bool {
    match probe.kind {
        Kind::Http => status != probe.expect || probe.body.is_some(),
        Kind::Transmission => status == 200,
        Kind::Servarr | Kind::Bazarr | Kind::Jellyfin => !is_redirect(status),
        Kind::Tcp | Kind::Exec => false,
    }
}

/// Judges an answer by the rules of the probe's kind.
pub fn judge(probe: &Probe, answer: &Answer) -> Judgement {
    match probe.kind {
        Kind::Servarr => servarr(answer),
        Kind::Bazarr => bazarr(probe, answer),
        Kind::Jellyfin => jellyfin(answer),
        Kind::Transmission => transmission(answer),
        Kind::Http | Kind::Tcp | Kind::Exec => http(probe, answer),
    }
}

fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

fn redirect(answer: &Answer) -> Option<Judgement> {
    let location = answer.location.clone().filter(|_| is_redirect(answer.status))?;
    Some(Follow(location))
}

/// Sonarr's `PingController.cs` and `StartingUpMiddleware.cs`, the same in Radarr, Prowlarr, Lidarr, Readarr, Whisparr.
fn servarr(answer: &Answer) -> Judgement {
    match answer.status {
        200 if says_ok(&answer.body) => Good("HTTP 200".into()),
        200 => Bad("HTTP 200, but not the answer of /ping: is another application on this port?".into()),
        500 if holds(&answer.body, "\"status\"") => {
            Bad("HTTP 500: the application cannot read its database".into())
        }
        503 if holds(&answer.body, "starting up") => Starting("HTTP 503: the application is starting".into()),
        _ => redirect(answer).unwrap_or_else(|| unexpected(answer)),
    }
}

/// Bazarr's `api/system/ping.py` (since 1.5.2). Its web page catches every other path and redirects to the base URL
/// (`app/ui.py`), which is where the ping then lives.
fn bazarr(probe: &Probe, answer: &Answer) -> Judgement {
    match answer.status {
        200 if says_ok(&answer.body) => Good("HTTP 200".into()),
        200 => Bad(
            "HTTP 200, but not Bazarr's ping: is another application, or one before 1.5.2, on this port?"
                .into(),
        ),
        503 if answer.retry_after => Starting("HTTP 503: the application is starting".into()),
        _ => match redirect(answer) {
            Some(Follow(to)) if !to.ends_with(BAZARR_PING) && probe.path.ends_with(BAZARR_PING) => {
                Follow(format!("{}{BAZARR_PING}", to.trim_end_matches('/')))
            }
            Some(other) => other,
            None => unexpected(answer),
        },
    }
}

const BAZARR_PING: &str = "/api/system/ping";

/// Jellyfin's `SetupServer.cs`, `ServerStartupMessageMiddleware.cs` and `DbContextFactoryHealthCheck.cs`: the body counts.
fn jellyfin(answer: &Answer) -> Judgement {
    match (answer.status, answer.body.as_slice()) {
        (200, b"Healthy") => Good("Healthy".into()),
        (200, b"Degraded") => Starting("Degraded: Jellyfin is starting or migrating its data".into()),
        (200, _) => {
            Bad("HTTP 200, but neither Healthy nor Degraded: is another application on this port?".into())
        }
        (503, b"Unhealthy") => {
            Bad("Unhealthy: the start failed, or Jellyfin cannot open its database".into())
        }
        (503, body) if answer.retry_after || holds(body, "<html") || holds(body, "<!doctype html") => {
            Starting("HTTP 503: Jellyfin is starting".into())
        }
        _ => redirect(answer).unwrap_or_else(|| unexpected(answer)),
    }
}

/// Transmission's `rpc-server.cc`, `handle_request`, in the order of its checks.
///
/// It names itself in `Server` in every answer (seen with 4.1 beta), which tells its 403 from a proxy's.
/// The probe never sends credentials: with `anti-brute-force-enabled` wrong ones lock everybody out.
fn transmission(answer: &Answer) -> Judgement {
    let ours = answer
        .server
        .as_deref()
        .is_some_and(|server| server.contains("Transmission"));
    match answer.status {
        409 if answer.session.is_some() => Good("RPC answers".into()),
        200 if holds(&answer.body, "\"result\"") => Good("RPC answers".into()),
        401 if answer
            .challenge
            .as_deref()
            .is_some_and(|text| text.contains("Transmission")) =>
        {
            Good("RPC answers, authentication is on".into())
        }
        403 if ours => Good("HTTP 403: alive, but this address is not in rpc-whitelist".into()),
        421 if ours => Good("HTTP 421: alive, but this host name is not in rpc-host-whitelist".into()),
        // `rpc-url` is not ours: the redirect goes to its web page, and the RPC is that page's neighbour.
        _ => match redirect(answer) {
            Some(Follow(to)) => match to.trim_end_matches('/').strip_suffix("/web") {
                Some(base) => Follow(format!("{base}/rpc")),
                None => Follow(to),
            },
            Some(other) => other,
            None => unexpected(answer),
        },
    }
}

fn http(probe: &Probe, answer: &Answer) -> Judgement {
    if answer.status == probe.expect {
        return match &probe.body {
            Some(text) if !holds_exactly(&answer.body, text) => Bad(format!(
                "HTTP {}, but the body does not hold {text:?}",
                answer.status
            )),
            _ => Good(format!("HTTP {}", answer.status)),
        };
    }
    if let Some(follow) = redirect(answer) {
        return follow;
    }
    if answer.status == 503 && answer.retry_after {
        return Starting("HTTP 503: the application says to try again later".into());
    }
    match unexpected(answer) {
        Bad(text) => Bad(format!("{text} (expected: {})", probe.expect)),
        other => other,
    }
}

/// The status, and what a short plain body says about it: "Authentication failure" helps more than 400.
fn unexpected(answer: &Answer) -> Judgement {
    let text = String::from_utf8_lossy(&answer.body);
    let first = text
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or("");
    // A page, or nothing that is text.
    if first.is_empty() || first.starts_with('<') || first.contains(char::REPLACEMENT_CHARACTER) {
        return Bad(format!("HTTP {}", answer.status));
    }
    let short: String = first.chars().take(TEXT_MAX).collect();
    Bad(format!("HTTP {}: {short}", answer.status))
}

/// How much of an application's own words is shown.
const TEXT_MAX: usize = 120;

/// `{"status":"OK"}`, with whatever white space.
fn says_ok(body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Ping {
        status: String,
    }
    serde_json::from_slice::<Ping>(body).is_ok_and(|ping| ping.status == "OK")
}

fn holds(body: &[u8], text: &str) -> bool {
    body.windows(text.len())
        .any(|window| window.eq_ignore_ascii_case(text.as_bytes()))
}

fn holds_exactly(body: &[u8], text: &str) -> bool {
    text.is_empty() || body.windows(text.len()).any(|window| window == text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn probe(kind: Kind, path: &str) -> Probe {
        Probe {
            kind,
            host: "127.0.0.1".into(),
            port: 1,
            path: path.into(),
            expect: 200,
            body: None,
            timeout: Duration::from_secs(1),
            netns: None,
            container: String::new(),
            command: Vec::new(),
        }
    }

    fn answer(status: u16, body: &str) -> Answer {
        Answer {
            status,
            body: body.into(),
            ..Answer::default()
        }
    }

    fn to(status: u16, location: &str) -> Answer {
        Answer {
            location: Some(location.into()),
            ..answer(status, "")
        }
    }

    /// `+` good, `~` starting, `-` bad, `>` follow; then a part of the text.
    fn check(probe: &Probe, answer: &Answer, says: &str) {
        let (sign, text) = match judge(probe, answer) {
            Good(text) => ('+', text),
            Starting(text) => ('~', text),
            Bad(text) => ('-', text),
            Follow(text) => ('>', text),
        };
        let found = format!("{sign}{text}");
        assert!(
            found.starts_with(says.get(..1).unwrap()) && found.contains(says.get(1..).unwrap()),
            "{answer:?}: {found} is not {says}"
        );
    }

    #[test]
    fn servarr_states() {
        let probe = probe(Kind::Servarr, "/ping");
        for (answer, says) in [
            (answer(200, r#"{"status":"OK"}"#), "+HTTP 200"),
            (answer(200, "{ \"status\" : \"OK\" }\n"), "+HTTP 200"),
            (answer(500, r#"{"status":"Error"}"#), "-cannot read its database"),
            (
                answer(503, "Sonarr is starting up, please try again later"),
                "~starting",
            ),
            (
                answer(
                    503,
                    r#"{"errorMessage":"Sonarr is starting up, please try again later"}"#,
                ),
                "~starting",
            ),
            (
                answer(503, "upstream unavailable"),
                "-HTTP 503: upstream unavailable",
            ),
            (to(307, "/sonarr/ping"), ">/sonarr/ping"),
            (answer(307, ""), "-HTTP 307"),
            (answer(200, "<html>another</html>"), "-another application"),
            (answer(200, r#"{"status":"Error"}"#), "-another application"),
            (answer(200, r#"["status","OK"]"#), "-another application"),
            (answer(401, ""), "-HTTP 401"),
            (answer(404, "<html>"), "-HTTP 404"),
        ] {
            check(&probe, &answer, says);
        }
    }

    #[test]
    fn bazarr_states() {
        let probe = probe(Kind::Bazarr, BAZARR_PING);
        for (answer, says) in [
            (answer(200, r#"{"status": "OK"}"#), "+HTTP 200"),
            // The web page catches every path that is not there: the base URL was changed in the application.
            (to(302, "/bazarr/"), ">/bazarr/api/system/ping"),
            (to(302, "/"), ">/api/system/ping"),
            (answer(200, "<html>"), "-before 1.5.2"),
            (answer(401, ""), "-HTTP 401"),
        ] {
            check(&probe, &answer, says);
        }
    }

    #[test]
    fn jellyfin_states() {
        let probe = probe(Kind::Jellyfin, "/health");
        let later = Answer {
            retry_after: true,
            ..answer(503, "")
        };
        for (answer, says) in [
            (answer(200, "Healthy"), "+Healthy"),
            (answer(200, "Degraded"), "~migrating"),
            (answer(200, "Healthy\n"), "-another application"),
            (answer(200, "healthy"), "-another application"),
            (answer(503, "Unhealthy"), "-start failed"),
            (later, "~starting"),
            (answer(503, "<!DOCTYPE html><html>"), "~starting"),
            (answer(503, "no"), "-HTTP 503: no"),
            (to(302, "/jf/health"), ">/jf/health"),
        ] {
            check(&probe, &answer, says);
        }
    }

    #[test]
    fn transmission_states() {
        let probe = probe(Kind::Transmission, "/transmission/rpc");
        let server = |name: &str, answer: Answer| Answer {
            server: Some(name.into()),
            ..answer
        };
        let session = Answer {
            session: Some("x".into()),
            ..answer(409, "")
        };
        let login = |realm: &str| Answer {
            challenge: Some(format!("Basic realm=\"{realm}\"")),
            ..answer(401, "")
        };
        for (answer, says) in [
            (session, "+RPC answers"),
            (login("Transmission"), "+authentication is on"),
            (login("nginx"), "-HTTP 401"),
            (answer(409, "other"), "-HTTP 409"),
            (server("Transmission", answer(403, "")), "+rpc-whitelist"),
            (answer(403, ""), "-HTTP 403"),
            (server("nginx", answer(403, "")), "-HTTP 403"),
            (server("Transmission", answer(421, "")), "+rpc-host-whitelist"),
            (to(301, "/t/web/"), ">/t/rpc"),
            (answer(404, ""), "-HTTP 404"),
            (answer(405, ""), "-HTTP 405"),
        ] {
            check(&probe, &answer, says);
        }
    }

    #[test]
    fn plain_http() {
        let mut probe = probe(Kind::Http, "/");
        for (answer, says) in [
            (answer(200, "anything"), "+HTTP 200"),
            (
                answer(500, "Authentication failure\nmore"),
                "-HTTP 500: Authentication failure (expected: 200)",
            ),
            (to(302, "/login"), ">/login"),
            (answer(503, ""), "-HTTP 503"),
        ] {
            check(&probe, &answer, says);
        }
        probe.expect = 302;
        check(&probe, &to(302, "/login"), "+HTTP 302");
        probe.expect = 200;
        probe.body = Some("ready".into());
        check(&probe, &answer(200, "is ready now"), "+HTTP 200");
        check(&probe, &answer(200, "is READY now"), "-does not hold");
        assert!(wants_body(&probe, 200));
        probe.body = None;
        assert!(!wants_body(&probe, 200));
    }
}
