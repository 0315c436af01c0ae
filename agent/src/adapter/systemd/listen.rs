//! Socket units: what systemd listens on for them.

use super::Systemd;
use crate::adapter::sockets::socket_unit::Listens;

/// Interface of socket units.
const SOCKET: &str = "org.freedesktop.systemd1.Socket";

impl Systemd {
    /// All ports that systemd listens on for socket units.
    pub async fn listens(&self) -> zbus::Result<Vec<Listens>> {
        let rows = self
            .manager
            .list_units_by_patterns(&["active"], &["*.socket"])
            .await?;
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
