//! Socket units: what systemd listens on for them.

use zbus::proxy;

use super::{Row, Systemd};
use crate::adapter::sockets::socket_unit::Listens;

/// Interface of socket units.
const SOCKET: &str = "org.freedesktop.systemd1.Socket";

#[proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Sockets {
    fn list_units_by_patterns(&self, states: &[&str], patterns: &[&str]) -> zbus::Result<Vec<Row>>;
}

impl Systemd {
    /// All ports that systemd listens on for socket units.
    pub async fn listens(&self) -> zbus::Result<Vec<Listens>> {
        let manager = SocketsProxy::builder(&self.connection).build().await?;
        let rows = manager.list_units_by_patterns(&["active"], &["*.socket"]).await?;
        let mut all = Vec::new();
        for (name, ..) in rows {
            let listen = self.property(&name, SOCKET, "Listen").await?;
            let listen = Vec::<(String, String)>::try_from(listen)?;
            all.extend(
                listen
                    .iter()
                    .filter_map(|(kind, address)| Listens::parse(&name, kind, address)),
            );
        }
        Ok(all)
    }
}
