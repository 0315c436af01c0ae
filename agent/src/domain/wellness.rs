//! Well-ness: what an application says of itself when it is asked with its own key. JSON in, sentences out.
//!
//! It never restarts anything: a service that is alive and not well is *degraded*, with the application's own words.
//! What comes in is an answer of the network, so nothing of it is believed: it is read strictly, cut to a bounded size,
//! and freed of anything that looks like a secret before anybody sees it.

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The most problems that are kept of one service.
pub const PROBLEMS_MAX: usize = 20;
/// The most characters of one of them.
pub const TEXT_MAX: usize = 200;
/// With less room than this for downloads, Transmission is not well: 1 GiB.
pub const ROOM_MIN: u64 = 1 << 30;

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, Deserialize)]
pub struct Identity {
    /// What it calls itself: `Sonarr`.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// What tells one of Servarr's family from the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Servarr {
    /// `appName` in its own status; none for a fork that nobody here knows.
    pub name: Option<&'static str>,
    /// Version of its API: `v3`.
    pub api: &'static str,
}

/// The family by catalogue entry. API versions: Sonarr's `Api.V3`, Prowlarr's `Api.V1` and their kin.
pub fn servarr(kind: &str) -> Servarr {
    let (name, api) = match kind {
        "sonarr" => (Some("Sonarr"), "v3"),
        "radarr" => (Some("Radarr"), "v3"),
        "whisparr" => (Some("Whisparr"), "v3"),
        "prowlarr" => (Some("Prowlarr"), "v1"),
        "lidarr" => (Some("Lidarr"), "v1"),
        "readarr" => (Some("Readarr"), "v1"),
        _ => (None, "v3"),
    };
    Servarr { name, api }
}

/// The sentence for another application on the port; none when it is the right one, or nobody knows which is right.
pub fn stranger(expected: Option<&str>, found: &Identity, port: u16) -> Option<String> {
    let expected = expected.filter(|expected| *expected != found.name)?;
    Some(format!(
        "port {port} answers as {}, not as {expected}",
        found.name
    ))
}

/// Reads an object. serde would also take a list with the members in order, which none of these applications sends.
fn object<T: DeserializeOwned>(body: &[u8], what: &str) -> Result<T, String> {
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(format!("what it answered is not {what}"));
    }
    read(body, what)
}

fn read<T: DeserializeOwned>(body: &[u8], what: &str) -> Result<T, String> {
    // serde_json's own text may quote the answer; where it stopped says enough.
    serde_json::from_slice(body).map_err(|error| {
        format!(
            "what it answered is not {what} (line {}, column {})",
            error.line(),
            error.column()
        )
    })
}

/// `GET /api/v3/system/status` (Sonarr's SystemController.cs).
pub fn servarr_status(body: &[u8]) -> Result<Identity, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Status {
        app_name: String,
        version: String,
    }
    let status: Status = object(body, "the status of one of Servarr's applications")?;
    Ok(Identity {
        name: status.app_name,
        version: status.version,
    })
}

/// `GET /api/v3/health` (Sonarr's HealthResource.cs): only what it calls an error is a problem. Warnings
/// are what every new installation has (no indexers, no download client), and that a newer version exists is for the image
/// to decide.
pub fn servarr_health(body: &[u8]) -> Result<Vec<String>, String> {
    #[derive(Deserialize)]
    struct Item {
        #[serde(default)]
        source: String,
        #[serde(rename = "type")]
        kind: String,
        #[serde(default)]
        message: Option<String>,
    }
    let items: Vec<Item> = read(body, "the health list of one of Servarr's applications")?;
    Ok(items
        .into_iter()
        .filter(|item| item.kind.eq_ignore_ascii_case("error"))
        .filter(|item| item.source != "UpdateCheck")
        .map(|item| {
            item.message
                .filter(|text| !text.is_empty())
                .unwrap_or(item.source)
        })
        .collect())
}

#[derive(Deserialize)]
struct Data<T> {
    data: T,
}

/// `GET /api/system/status` (Bazarr's api/system/status.py).
pub fn bazarr_status(body: &[u8]) -> Result<Identity, String> {
    #[derive(Deserialize)]
    struct Status {
        bazarr_version: String,
    }
    let status: Data<Status> = object(body, "Bazarr's status")?;
    Ok(Identity {
        name: "Bazarr".into(),
        version: status.data.bazarr_version,
    })
}

/// `GET /api/system/health` (Bazarr's api/system/health.py). Every new installation lacks a languages profile.
pub fn bazarr_health(body: &[u8]) -> Result<Vec<String>, String> {
    #[derive(Deserialize)]
    struct Item {
        object: String,
        issue: String,
    }
    let items: Data<Vec<Item>> = object(body, "Bazarr's health list")?;
    Ok(items
        .data
        .into_iter()
        .filter(|item| item.object != "Missing languages profile")
        .map(|item| match item.object.as_str() {
            "" => item.issue,
            object => format!("{object}: {}", item.issue),
        })
        .collect())
}

/// `GET /System/Info/Public` (Jellyfin's SystemController.cs): `ProductName` is `Jellyfin Server`.
pub fn jellyfin_info(body: &[u8]) -> Result<Identity, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Info {
        product_name: String,
        version: String,
    }
    let info: Info = object(body, "Jellyfin's public information")?;
    Ok(Identity {
        name: info.product_name,
        version: info.version,
    })
}

/// What Transmission's RPC says of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Transmission and its version.
    pub identity: Identity,
    /// Where downloads go.
    pub download_dir: String,
    /// The port for peers.
    pub peer_port: u16,
}

#[derive(Deserialize)]
struct Rpc {
    result: String,
    #[serde(default)]
    arguments: serde_json::Value,
}

const RPC: &str = "an answer of Transmission's RPC";

fn rpc(body: &[u8]) -> Result<Rpc, String> {
    object(body, RPC)
}

/// The answer to `session-get` in the old form, which all of 2.x to 4.x understand (Transmission's rpc-spec.md).
pub fn rpc_session(body: &[u8]) -> Result<Session, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Arguments {
        version: String,
        download_dir: String,
        peer_port: u16,
    }
    let answer = rpc(body)?;
    if answer.result != "success" {
        return Err(format!("it does not tell of its session: {}", answer.result));
    }
    let arguments: Arguments =
        serde_json::from_value(answer.arguments).map_err(|_| format!("what it answered is not {RPC}"))?;
    Ok(Session {
        identity: Identity {
            name: "Transmission".into(),
            version: arguments.version,
        },
        download_dir: arguments.download_dir,
        peer_port: arguments.peer_port,
    })
}

/// The answer to `free-space` of a directory: the problem with it, if any.
pub fn rpc_free_space(body: &[u8], dir: &str) -> Result<Option<String>, String> {
    let answer = rpc(body)?;
    if answer.result != "success" {
        return Ok(Some(format!(
            "the download directory {dir} cannot be used: {}",
            answer.result
        )));
    }
    let left = answer
        .arguments
        .get("size-bytes")
        .and_then(serde_json::Value::as_i64)
        .ok_or_else(|| format!("what it answered is not {RPC}"))?;
    // It says -1 where it does not know.
    Ok(u64::try_from(left)
        .ok()
        .filter(|left| *left < ROOM_MIN)
        .map(|left| format!("only {} MiB are left in the download directory {dir}", left >> 20)))
}

/// The answer to `port-test`: the problem, if the checker was reached and says that the port is closed.
pub fn rpc_port_test(body: &[u8], port: u16) -> Result<Option<String>, String> {
    let answer = rpc(body)?;
    let open = answer
        .arguments
        .get("port-is-open")
        .and_then(serde_json::Value::as_bool);
    let closed = answer.result == "success" && open == Some(false);
    Ok(closed.then(|| format!("the peer port {port} is closed from outside")))
}

/// All that was found, fit to be shown: so many problems, so long, and no secret in them.
pub fn bounded(problems: Vec<String>, secrets: &[String]) -> Vec<String> {
    let more = problems.len().saturating_sub(PROBLEMS_MAX);
    let mut kept: Vec<String> = problems
        .into_iter()
        .take(PROBLEMS_MAX)
        .map(|text| clean(&text, secrets))
        .filter(|text| !text.is_empty())
        .collect();
    if more > 0
        && let Some(last) = kept.last_mut()
    {
        *last = format!("and {} more, which the application itself shows", more + 1);
    }
    kept
}

/// What stands in the place of a secret: one word, because the text is taken apart at blanks.
const CUT: &str = "[secret]";

/// One line of bounded length without the given secrets, without user and password in a URL, and without the value of
/// anything that is called a key, token or password.
pub fn clean(text: &str, secrets: &[String]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret.as_str(), CUT);
    }
    let mut line = String::new();
    for word in text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
    {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&without_values(&without_login(word)));
    }
    if line.chars().count() > TEXT_MAX {
        line = line.chars().take(TEXT_MAX - 1).chain(['…']).collect();
    }
    line
}

/// `http://user:password@host/` becomes `http://[secret]@host/`.
fn without_login(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else {
        return word.to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://{CUT}@{host}{path}"),
        None => word.to_owned(),
    }
}

/// `?apikey=1234&x=y` becomes `?apikey=[secret]&x=y`.
fn without_values(word: &str) -> String {
    let mut line = String::with_capacity(word.len());
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('=') {
        line.push_str(before);
        line.push('=');
        let end = after.find(['&', ';', ',', ')', '"', '\'']).unwrap_or(after.len());
        let (value, behind) = after.split_at(end);
        let name = before.rsplit(['?', '&', ';', ',']).next().unwrap_or(before);
        rest = if is_secret(name) && !value.is_empty() {
            line.push_str(CUT);
            behind
        } else {
            after
        };
    }
    line.push_str(rest);
    line
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["key", "token", "password", "passwd", "secret", "auth"]
        .iter()
        .any(|word| name.ends_with(word))
}

#[cfg(test)]
mod tests;
