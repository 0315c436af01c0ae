//! What Docker itself says of the ports that its containers publish: docker-proxy keeps a port and does not know for whom.
//! Only root may ask, and only where Docker was found to have a port: asking would start a daemon that waits for its first
//! question.

use std::io::{self, Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use dagger_suite::names::Root;
use serde::Deserialize;

use super::sockets::container::is_name;
use crate::domain::conflict::{Container, Holder, Port};

/// Where Docker listens (dockerd(8)).
const SOCKET: &str = "/run/docker.sock";
/// HTTP/1.0: the answer ends with the connection, and is not cut into chunks.
const QUESTION: &[u8] = b"GET /containers/json HTTP/1.0\r\nHost: docker\r\n\r\n";
/// A daemon that does not answer names nobody.
const PATIENCE: Duration = Duration::from_millis(500);
/// A thousand containers are about two megabytes.
const ANSWER_MAX: u64 = 16 << 20;

/// A container that runs, as the engine's API lists it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Running {
    id: String,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    ports: Vec<Published>,
}

/// A port of it. One that is not published has neither address nor public port.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Published {
    #[serde(rename = "IP")]
    ip: Option<IpAddr>,
    public_port: Option<u16>,
    r#type: String,
}

/// Gives the holders of ports the containers that Docker keeps them for. Those that it does not name stay as they are.
pub fn name<'a>(root: &Root, holders: impl Iterator<Item = (Port, &'a mut Holder)>) {
    let mut running: Option<Vec<Running>> = None;
    for (port, holder) in holders.filter(|(_, holder)| is_dockers(holder)) {
        let all = running.get_or_insert_with(|| ask(&root.join(SOCKET)).unwrap_or_default());
        if let Some(handle) = publisher(all, port, holder.address.ip()) {
            holder.container = Some(Container {
                engine: "docker",
                handle: Some(handle),
            });
        }
    }
}

fn is_dockers(holder: &Holder) -> bool {
    let unnamed = |container: &Container| container.engine == "docker" && container.handle.is_none();
    // A user's own daemon listens elsewhere.
    holder.manager.is_none() && holder.container.as_ref().is_some_and(unnamed)
}

fn ask(socket: &Path) -> io::Result<Vec<Running>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(QUESTION)?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer)?;
    Ok(decode(&answer).unwrap_or_default())
}

/// What a good answer says; any other says nothing.
fn decode(answer: &[u8]) -> Option<Vec<Running>> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let (head, body) = answer.split_at_checked(end + 4)?;
    let status = head.split(|byte| *byte == b' ').nth(1)?;
    (status == b"200").then(|| serde_json::from_slice(body).ok())?
}

/// What the engine's commands take for the one container that publishes the port there. Two are none: one of them would be
/// the wrong one.
fn publisher(running: &[Running], port: Port, address: IpAddr) -> Option<String> {
    let publishes = |container: &&Running| {
        container.ports.iter().any(|published| {
            published.public_port == Some(port.number)
                && published.r#type == port.protocol.word()
                && published.ip == Some(address)
        })
    };
    let mut found = running.iter().filter(publishes);
    let (Some(one), None) = (found.next(), found.next()) else {
        return None;
    };
    let name = one.names.iter().find_map(|name| name.strip_prefix('/'));
    match name {
        // Of a name with a link in it (`/web/db`) it is not the container's own.
        Some(name) if is_name(name) => Some(name.to_owned()),
        _ => one.id.get(..12).filter(|id| is_name(id)).map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dagger_suite::model::Protocol;

    /// As Docker 26.1 and 20.10 answer, shortened.
    const ANSWER: &str = "HTTP/1.0 200 OK\r\nApi-Version: 1.45\r\nContent-Type: application/json\r\n\r\n\
        [{\"Id\":\"0123456789abcdef\",\"Names\":[\"/web\"],\"State\":\"running\",\"Ports\":[{\"PrivatePort\":80,\"Type\":\"tcp\"},\
        {\"IP\":\"0.0.0.0\",\"PrivatePort\":8096,\"PublicPort\":8989,\"Type\":\"tcp\"},\
        {\"IP\":\"::\",\"PrivatePort\":8096,\"PublicPort\":8989,\"Type\":\"tcp\"}]},\
        {\"Id\":\"fedcba9876543210\",\"Names\":[\"/a b\"],\"Ports\":[\
        {\"IP\":\"127.0.0.1\",\"PrivatePort\":1,\"PublicPort\":7878,\"Type\":\"udp\"}]},{\"Id\":\"0\"}]";

    fn told(protocol: Protocol, number: u16, address: &str) -> Option<String> {
        let all = decode(ANSWER.as_bytes()).unwrap();
        publisher(&all, Port { protocol, number }, address.parse().unwrap())
    }

    #[test]
    fn only_who_publishes_this_very_port_is_named() {
        assert_eq!(told(Protocol::Tcp, 8989, "0.0.0.0").as_deref(), Some("web"));
        assert_eq!(told(Protocol::Tcp, 8989, "::").as_deref(), Some("web"));
        assert_eq!(told(Protocol::Tcp, 8989, "127.0.0.1"), None, "another address");
        assert_eq!(told(Protocol::Udp, 8989, "0.0.0.0"), None, "another transport");
        assert_eq!(told(Protocol::Tcp, 80, "0.0.0.0"), None, "not published");
        let odd = told(Protocol::Udp, 7878, "127.0.0.1");
        assert_eq!(odd.as_deref(), Some("fedcba987654"), "no name of a container");
    }

    #[test]
    fn two_that_publish_it_are_none_and_a_bad_answer_names_nobody() {
        let mut all = decode(ANSWER.as_bytes()).unwrap();
        all.extend(decode(ANSWER.as_bytes()).unwrap());
        let port = Port {
            protocol: Protocol::Tcp,
            number: 8989,
        };
        assert_eq!(publisher(&all, port, "::".parse().unwrap()), None);
        for bad in [
            "",
            "\r\n\r\n",
            "HTTP/1.0 500 x\r\n\r\n[]",
            "HTTP/1.0 200 OK\r\n\r\n{\"message\":\"no\"}",
            "HTTP/1.0 200 OK\r\n\r\n[{\"Id\":\"0\",\"Ports\":[{\"IP\":\"x\",\"Type\":\"tcp\"}]}]",
        ] {
            assert!(decode(bad.as_bytes()).is_none(), "{bad:?}");
        }
    }
}
