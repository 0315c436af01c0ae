//! A shadow: a service's container on a copy of its data, in a network of its own, beside the native unit that goes on
//! running (`nixarr-migrate shadow`).
//!
//! Its table holds what is different about it, and `shadow-of` says whose it is; all else is what the user wrote for that
//! service, taken from there at each reading, so that nothing of it is copied to another file.

use crate::layers::text;
use crate::model::Service;
use crate::node::{Entry, Node, Table, Value};

/// The key that makes a service a shadow.
pub const KEY: &str = "shadow-of";

/// What of a service's table is not its shadow's: who else owns its data, what it waits for, where its data lies, where its
/// network is another one.
const OWN: [&str; 8] = [
    "enable",
    "native",
    "wants",
    "state",
    "network",
    "dns",
    "front-port",
    "pull",
];

/// Puts each shadow's table on top of that of its service. One whose service is not there stays as it is, and is refused
/// later.
pub(crate) fn inherit(merged: &mut Table) {
    let Some(services) = merged.table("services") else {
        return;
    };
    let shadows: Vec<(String, Entry)> = services
        .iter()
        .filter_map(|(name, entry)| {
            let table = of(&entry.node)?;
            let origin = services.table(table.get(KEY).and_then(text)?)?;
            (origin.get(KEY).is_none()).then(|| (name.to_owned(), above(origin, table, entry)))
        })
        .collect();
    for (name, entry) in shadows {
        let at = entry.key_at;
        let services = Node {
            at,
            value: Value::Table(Table::of(&name, entry)),
        };
        merged.merge(Table::of(
            "services",
            Entry {
                key_at: at,
                node: services,
            },
        ));
    }
}

fn of(node: &Node) -> Option<&Table> {
    match &node.value {
        Value::Table(table) => Some(table),
        _ => None,
    }
}

fn above(origin: &Table, own: &Table, entry: &Entry) -> Entry {
    let mut table = origin.without(&OWN);
    // A bridge gives the application another port than it has itself; in a network of its own it keeps its own.
    if origin.get("network").and_then(text) == Some("bridge") {
        table = table.without(&["port"]);
    }
    table.merge(own.clone());
    if table.get("like").is_none()
        && let Some(name) = own.entry(KEY)
    {
        table.merge(Table::of("like", name.clone()));
    }
    Entry {
        key_at: entry.key_at,
        node: Node {
            at: entry.node.at,
            value: Value::Table(table),
        },
    }
}

/// What a shadow must not do, whatever its service does: write to anything but its copy, wait for others, be kept alive.
pub(crate) fn confine(service: &mut Service) {
    service.title.push_str(", a shadow");
    service.auto_recover = false;
    service.watchdog = None;
    service.native.clear();
    service.wants.clear();
    for mount in &mut service.mounts {
        mount.read_only = true;
    }
}

#[cfg(test)]
mod tests {
    use crate::diagnostic::Diagnostic;
    use crate::load::load;
    use crate::model::Network;
    use crate::scratch::Scratch;

    const SONARR: &str = "[suite]\nmedia = \"/fun\"\n[services.prowlarr]\n[services.sonarr]\nport = 9000\nnetwork = \"bridge\"\n\
        native = \"mine.service\"\nvolumes = [{ source = \"/srv/x\" }]\nenvironment = { SECRET = \"a\" }\n";
    const SHADOW: &str = "[services.sonarr-shadow]\nshadow-of = \"sonarr\"\nnetwork = \"private\"\nfront-port = 8990\n\
        state = \"/var/lib/dagger/shadows/sonarr/clone/data/config\"\n";

    #[test]
    fn a_shadow_is_its_service_but_for_what_it_must_not_do() {
        let dir = Scratch::new("shadow");
        dir.put("etc/dagger/dagger.toml", SONARR)
            .put("run/dagger/conf.d/90-shadow-sonarr.toml", SHADOW);
        let loaded = load(&dir.root());
        let said: Vec<_> = loaded.diagnostics.iter().map(Diagnostic::one_line).collect();
        assert!(said.is_empty(), "{said:?}");
        let find = |name: &str| {
            let mut services = loaded.suite.services.iter();
            services.find(|it| it.name.as_str() == name).unwrap()
        };
        let (origin, shadow) = (find("sonarr"), find("sonarr-shadow"));
        assert_eq!(shadow.shadow_of.as_ref(), Some(&origin.name));
        assert_eq!((&shadow.image, &shadow.kind), (&origin.image, &origin.kind));
        assert!(shadow.environment.contains(&("SECRET".into(), "a".into())));
        // In its own network the application has its own port, and people find it by another one.
        assert_eq!(shadow.ports[0].port, 8989);
        assert_eq!(shadow.url.as_deref(), Some("http://127.0.0.1:8990/"));
        assert_eq!(
            shadow.network,
            Network::Namespace("/run/netns/dagger-sonarr-shadow".into())
        );
        assert!(shadow.mounts.iter().all(|mount| mount.read_only) && shadow.mounts.len() == 2);
        assert_eq!(
            shadow.databases,
            ["/var/lib/dagger/shadows/sonarr/clone/data/config/sonarr.db"]
        );
        assert!(shadow.native.is_empty() && shadow.wants.is_empty());
        assert!(!shadow.auto_recover && shadow.watchdog.is_none());
        assert!(!origin.mounts[0].read_only && origin.wants.len() == 1);
    }

    #[test]
    fn a_shadow_of_nobody_is_refused() {
        let dir = Scratch::new("shadow-nobody");
        dir.put("run/dagger/conf.d/90-shadow-sonarr.toml", SHADOW);
        let loaded = load(&dir.root());
        let broken: Vec<_> = loaded.broken.iter().flat_map(|it| &it.messages).collect();
        assert!(
            broken
                .iter()
                .any(|it| it.contains("there is no service \"sonarr\" that it could be the shadow of")),
            "{broken:?}"
        );
    }

    /// Port checks count the port that people look at a shadow by.
    #[test]
    fn the_front_port_is_a_port_of_the_host() {
        let dir = Scratch::new("shadow-port");
        dir.put(
            "etc/dagger/dagger.toml",
            format!("{SONARR}[services.radarr]\nport = 8990\n"),
        )
        .put("run/dagger/conf.d/90-shadow-sonarr.toml", SHADOW);
        let loaded = load(&dir.root());
        let said: String = loaded.diagnostics.iter().map(|it| it.one_line() + "\n").collect();
        assert!(
            said.contains("port 8990/tcp is already the one of `radarr`"),
            "{said}"
        );
        assert_eq!(loaded.broken.len(), 1);
        assert_eq!(loaded.broken[0].name.as_str(), "sonarr-shadow");
    }

    #[test]
    fn a_front_port_is_for_networks_that_need_a_door() {
        let dir = Scratch::new("front");
        dir.put(
            "etc/dagger/dagger.toml",
            "[suite]\nmedia = \"/fun\"\n[services.sonarr]\nfront-port = 8990\n",
        );
        let loaded = load(&dir.root());
        let said: String = loaded.diagnostics.iter().map(|it| it.one_line() + "\n").collect();
        assert!(said.contains("front-port"), "{said}");
        assert_eq!(loaded.broken.len(), 1);
    }
}
