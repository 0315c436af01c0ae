//! A conflict as it stands on the bus: what `Conflicts()` of the manager returns, a dictionary each.

use zbus::{DeserializeDict, SerializeDict, Type};

use crate::domain::conflict::{Conflict, Known, words};

/// One conflict. What is not known is left out of the dictionary; keys may be added, never changed.
#[derive(Debug, Clone, PartialEq, Eq, Default, SerializeDict, DeserializeDict, Type)]
#[zbus(signature = "dict", rename_all = "PascalCase")]
pub struct ConflictView {
    /// "taken": the service cannot start, somebody else has its port. "answered": it runs, and somebody else answers on
    /// its port as well. "beside": its native unit and its container run at once.
    pub kind: String,
    /// Name of the service.
    pub service: String,
    /// Everything in one sentence: what, who, what to do.
    pub sentence: String,
    /// What goes wrong because of it.
    pub breaks: String,
    /// What to do about it.
    pub remedy: String,
    /// Since when the agent knows of it, in microseconds of CLOCK_REALTIME.
    pub since: u64,
    /// "tcp" or "udp"; with Port and What, where it is about a port.
    pub protocol: Option<String>,
    /// The port.
    pub port: Option<u16>,
    /// What the port is for: "web", "peer", or its name in the configuration.
    pub what: Option<String>,
    /// The network namespace of the port, where it is not the host's.
    pub namespace: Option<String>,
    /// Address of the other one's socket.
    pub address: Option<String>,
    /// The unit that stands in the way.
    pub unit: Option<String>,
    /// For a unit of a user's own manager: that user.
    pub manager: Option<u32>,
    /// The container that it is, outside of the suite: engine and short id.
    pub container: Option<String>,
    /// Name of a process that has the socket open.
    pub process: Option<String>,
    /// Its number.
    pub pid: Option<u32>,
    /// User of the socket.
    pub user: Option<u32>,
}

impl ConflictView {
    /// How a conflict is shown. `wanted_by` are the services that use the one that it is about.
    pub fn of(known: &Known, wanted_by: &[&str]) -> Self {
        let Known { conflict, since } = known;
        let Conflict {
            kind,
            service,
            claim,
            namespace,
            holder,
            ..
        } = conflict;
        let port = claim.as_ref().map(|claim| claim.port);
        let holder = holder.as_ref();
        let process = holder.and_then(|holder| holder.process.as_ref());
        Self {
            kind: kind.word().into(),
            service: service.clone(),
            sentence: words::sentence(conflict),
            breaks: words::breaks(conflict, wanted_by),
            remedy: words::remedy(conflict),
            since: *since,
            protocol: port.map(|port| port.protocol.word().into()),
            port: port.map(|port| port.number),
            what: claim.as_ref().map(|claim| claim.what.clone()),
            namespace: namespace.clone(),
            address: holder.map(|holder| holder.address.to_string()),
            unit: conflict.with().map(str::to_owned),
            manager: holder.and_then(|holder| holder.manager),
            container: holder
                .and_then(|holder| holder.container.as_ref())
                .map(words::container),
            process: process.map(|process| process.name.clone()),
            pid: process.map(|process| process.pid),
            user: holder.and_then(|holder| holder.user),
        }
    }
}
