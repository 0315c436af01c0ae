use super::{PortOf, Start};
use crate::diagnostic::Severity;
use crate::load;
use crate::scratch::Scratch;

const TOML: &str = "[suite]\nmedia = \"/fun\"\n\n[services.sonarr]\nport = 9999\n\n[services.transmission]\npeer-port = 51413\n";

/// What `config check` says of it, one line a warning.
fn said(dir: &Scratch) -> Vec<String> {
    said_where(dir, &|_, _| None)
}

/// The same, where applications' settings say this of their ports.
fn said_where(dir: &Scratch, port_of: PortOf<'_>) -> Vec<String> {
    let loaded = load::load_beside(&dir.root(), port_of);
    assert!(
        loaded
            .diagnostics
            .iter()
            .all(|it| it.severity == Severity::Warning)
    );
    loaded.diagnostics.iter().map(ToString::to_string).collect()
}

fn suite(name: &str) -> Scratch {
    let dir = Scratch::new(name);
    dir.put("etc/dagger/dagger.toml", TOML);
    dir
}

#[test]
fn a_socket_unit_on_a_port_is_named_with_its_line() {
    let dir = suite("beside-socket");
    dir.put(
        "usr/lib/systemd/system/web.socket",
        "[Unit]\n[Socket]\nListenStream=/run/web\nListenStream=127.0.0.1:9999\n",
    )
    .put(
        "etc/systemd/system/peer.socket",
        "[Socket]\nListenDatagram=[::]:51413\nListenStream=51414\n",
    )
    .put("etc/systemd/system/off.socket", "[Socket]\nListenStream=9999\n");
    assert!(said(&dir).is_empty(), "nobody has enabled them");
    dir.link(
        "etc/systemd/system/sockets.target.wants/web.socket",
        "/usr/lib/systemd/system/web.socket",
    )
    .link(
        "etc/systemd/system/sockets.target.wants/peer.socket",
        "../peer.socket",
    );
    let said = said(&dir);
    assert_eq!(said.len(), 2, "{said:#?}");
    assert!(
        said[0].contains("dagger.toml:5:8")
            && said[0].contains(
                "port 9999/tcp is what web.socket listens on (/usr/lib/systemd/system/web.socket:4)"
            ),
        "{said:#?}"
    );
    assert!(
        said[1].contains("dagger.toml:8:13")
            && said[1].contains("port 51413/udp is what peer.socket listens on"),
        "{said:#?}"
    );
}

#[test]
fn a_drop_in_moves_a_socket_and_a_mask_silences_it() {
    let dir = suite("beside-drop-in");
    dir.put(
        "usr/lib/systemd/system/web.socket",
        "[Socket]\nListenStream=9999\n",
    )
    .link(
        "etc/systemd/system/sockets.target.wants/web.socket",
        "/usr/lib/systemd/system/web.socket",
    )
    .put(
        "etc/systemd/system/web.socket.d/port.conf",
        "[Socket]\nListenStream=\nListenStream=9998\n",
    );
    assert!(said(&dir).is_empty());
    let dir = suite("beside-mask");
    dir.put(
        "usr/lib/systemd/system/web.socket",
        "[Socket]\nListenStream=9999\n",
    )
    .link(
        "usr/lib/systemd/system/sockets.target.wants/web.socket",
        "../web.socket",
    );
    assert_eq!(said(&dir).len(), 1);
    dir.link("etc/systemd/system/web.socket", "/dev/null");
    assert!(said(&dir).is_empty());
}

#[test]
fn a_file_in_the_place_of_our_unit_is_named() {
    let dir = suite("beside-file");
    dir.put(
        "etc/systemd/system/dagger-sonarr.service",
        "[Service]\nExecStart=/bin/true\n",
    )
    .put(
        "etc/systemd/system/dagger-transmission.service.d/more.conf",
        "[Service]\nNice=5\n",
    );
    let said = said(&dir);
    assert_eq!(said.len(), 1, "{said:#?}");
    assert!(
        said[0].contains("/etc/systemd/system/dagger-sonarr.service takes the place"),
        "{said:#?}"
    );
    let dir = suite("beside-masked");
    dir.link("etc/systemd/system/dagger-sonarr.service", "/dev/null");
    assert!(
        self::said(&dir)[0].contains("is masked by"),
        "{:#?}",
        self::said(&dir)
    );
}

#[test]
fn a_native_unit_of_nobody_has_its_usual_port() {
    let dir = Scratch::new("beside-native");
    dir.put(
        "etc/dagger/dagger.toml",
        "[suite]\nmedia = \"/fun\"\n\n[services.sonarr]\nport = 7878\n",
    );
    assert!(said(&dir).is_empty());
    dir.put(
        "usr/lib/systemd/system/radarr.service",
        "[Service]\nExecStart=/opt/Radarr/Radarr\n",
    );
    let said = said(&dir);
    assert_eq!(said.len(), 1, "{said:#?}");
    assert!(
        said[0].contains("dagger.toml:5:8") && said[0].contains("the usual one of radarr.service"),
        "{said:#?}"
    );
}

#[test]
fn an_instance_of_a_template_listens_where_its_name_says() {
    let dir = suite("beside-instance");
    dir.put(
        "etc/systemd/system/web@.socket",
        "[Socket]\n# ListenStream=1\nListenStream=%i\n",
    )
    .link(
        "etc/systemd/system/sockets.target.wants/web@9999.socket",
        "../web@.socket",
    )
    .link(
        "etc/systemd/system/sockets.target.wants/web@9998.socket",
        "../web@.socket",
    );
    let said = said(&dir);
    assert_eq!(said.len(), 1, "{said:#?}");
    assert!(
        said[0].contains("web@9999.socket listens on (/etc/systemd/system/web@.socket:3)"),
        "{said:#?}"
    );
}

/// Drop-ins are the way to change a unit; those that make another service of it are named with the line.
#[test]
fn a_drop_in_that_takes_a_services_own_away_is_named() {
    let dir = suite("beside-changed");
    dir.put(
        "etc/systemd/system/dagger-sonarr.service.d/mine.conf",
        "[Unit]\nConditionPathExists=\nAfter=\n[Service]\nNice=5\nExecStartPre=/bin/true\nExecStart=\nExecStart=/usr/bin/sonarr\n",
    )
    .put(
        "run/systemd/system/dagger-.service.d/all.conf",
        "[Service]\nExecStartPre=\n",
    );
    let said = said(&dir);
    let of = |what: &str| said.iter().filter(|line| line.contains(what)).count();
    assert_eq!(said.len(), 5, "{said:#?}");
    for what in [
        "dagger.toml:4:11: warning: /etc/systemd/system/dagger-sonarr.service.d/mine.conf:2 takes the condition away",
        "mine.conf:7 replaces what starts the container (ExecStart=)",
        "mine.conf:8 replaces what starts the container (ExecStart=/usr/bin/sonarr)",
        "dagger.toml:4:11: warning: /run/systemd/system/dagger-.service.d/all.conf:2 takes the checks before the start away",
        "dagger.toml:7:11: warning: /run/systemd/system/dagger-.service.d/all.conf:2 takes the checks before the start away",
    ] {
        assert_eq!(of(what), 1, "{what}\n{said:#?}");
    }
}

/// Until it is migrated, Sonarr's native unit has the port that it always had, whatever its container is given.
#[test]
fn a_native_unit_that_is_not_migrated_keeps_its_usual_port() {
    let dir = Scratch::new("beside-unmoved");
    dir.put(
        "etc/dagger/dagger.toml",
        "[suite]\nmedia = \"/fun\"\n\n[services.sonarr]\nport = 9999\n\n[services.radarr]\nport = 8989\n",
    );
    assert_eq!(said(&dir), [""; 0]);
    dir.put(
        "usr/lib/systemd/system/sonarr.service",
        "[Service]\nExecStart=/opt/Sonarr/Sonarr\n",
    );
    let found = said(&dir);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(
        found[0].contains("dagger.toml:8:8")
            && found[0]
                .contains("port 8989/tcp is the usual one of sonarr.service, which `sonarr` belongs to"),
        "{found:#?}"
    );
    dir.put("var/lib/dagger/owner/sonarr", "DAGGER_UID=1\n");
    assert_eq!(said(&dir), [""; 0], "the container owns it");
}

/// Its own port is its native unit's for as long as that one owns it: the two never run at once.
#[test]
fn a_services_own_native_unit_is_in_nobodys_way() {
    let dir = Scratch::new("beside-own");
    dir.put(
        "etc/dagger/dagger.toml",
        "[suite]\nmedia = \"/fun\"\n\n[services.sonarr]\n",
    )
    .put(
        "usr/lib/systemd/system/sonarr.service",
        "[Service]\nExecStart=/opt/Sonarr/Sonarr\n",
    );
    assert_eq!(said(&dir), [""; 0]);
}

/// A native unit listens where its own settings say; that is asked with everything that leads to them.
#[test]
fn a_native_unit_has_the_port_of_its_own_settings() {
    let dir = Scratch::new("beside-settings");
    dir.put(
        "etc/dagger/dagger.toml",
        "[suite]\nmedia = \"/fun\"\n\n[services.sonarr]\nport = 9999\n\n[services.lidarr]\nport = 7979\n",
    )
    .put(
        "usr/lib/systemd/system/radarr.service",
        "[Service]\nUser=media\nEnvironmentFile=-/etc/default/radarr\nExecStart=-/opt/Radarr/Radarr\n",
    )
    .put(
        "etc/systemd/system/radarr.service.d/data.conf",
        "[Service]\nEnvironment=A=1 \"B=2 3\"\nExecStart=\nExecStart=/opt/Radarr/Radarr \\\n -data=%S/radarr\n",
    );
    let start = Start {
        unit: "radarr.service".into(),
        user: "media".into(),
        argv: vec!["/opt/Radarr/Radarr".into(), "-data=/var/lib/radarr".into()],
        environment: vec!["A=1".into(), "B=2 3".into()],
        environment_files: vec!["/etc/default/radarr".into()],
    };
    let found = said_where(&dir, &|kind, found| {
        assert_eq!((kind, found), ("radarr", &start));
        Some(7979)
    });
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(
        found[0].contains("dagger.toml:8:8")
            && found[0]
                .contains("port 7979/tcp is what the settings of radarr.service say, which is installed"),
        "{found:#?}"
    );
    assert_eq!(
        said_where(&dir, &|_, _| Some(1)),
        [""; 0],
        "not the usual one then"
    );
}

/// Generators make socket units, too (NFS, cloud-init's, an administrator's own): they are units like any other.
#[test]
fn sockets_that_generators_make_and_prefix_drop_ins_count() {
    for dir in ["run/systemd/generator", "run/systemd/generator.late"] {
        let scratch = suite("beside-generated");
        scratch
            .put(&format!("{dir}/web-a.socket"), "[Socket]\nListenStream=9999\n")
            .link(
                &format!("{dir}/sockets.target.wants/web-a.socket"),
                "../web-a.socket",
            );
        assert_eq!(said(&scratch).len(), 1, "{dir}");
        assert!(said(&scratch)[0].contains(&format!("(/{dir}/web-a.socket:2)")));
        // For every unit that begins so, and for every socket.
        for (place, file) in [("web-.socket.d", "a.conf"), ("socket.d", "b.conf")] {
            let path = format!("etc/systemd/system/{place}/{file}");
            scratch.put(&path, "[Socket]\nListenStream=\nListenStream=9998\n");
            assert_eq!(said(&scratch), [""; 0], "{place}");
            scratch.put(&path, "");
        }
        // The suite's own is not in its own way.
        scratch
            .put(
                &format!("{dir}/dagger-front@x.socket"),
                "[Socket]\nListenStream=9999\n",
            )
            .link(
                &format!("{dir}/sockets.target.wants/dagger-front@x.socket"),
                "../dagger-front@x.socket",
            );
        assert_eq!(said(&scratch).len(), 1);
        // What is in /etc takes the place of a generator's, but of an early one.
        scratch.put("etc/systemd/system/web-a.socket", "[Socket]\nListenStream=1\n");
        assert_eq!(said(&scratch), [""; 0]);
        scratch.put(
            "run/systemd/generator.early/web-a.socket",
            "[Socket]\nListenStream=9999\n",
        );
        assert_eq!(said(&scratch).len(), 1);
    }
}

/// The gate looks as root and would find it free: the application would fail at its own bind.
#[test]
fn a_privileged_port_of_who_is_not_root_is_named() {
    let dir = Scratch::new("beside-privileged");
    let write = |sonarr: &str| {
        let text = format!("[suite]\nmedia = \"/fun\"\n\n[services.sonarr]\n{sonarr}\n");
        dir.put("etc/dagger/dagger.toml", &text);
    };
    write("port = 80");
    let found = said(&dir);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(
        found[0].contains("dagger.toml:5:8")
            && found[0].contains("port 80/tcp is below 1024: only root may listen there"),
        "{found:#?}"
    );
    for good in [
        "port = 1024",
        "port = 80\nuser = 0\ngroup = 0",
        "port = 80\nnetwork = \"ns:/run/netns/wg\"",
        "port = 80\nnetwork = \"bridge\"",
    ] {
        write(good);
        let said = said(&dir);
        assert!(
            !said.iter().any(|line| line.contains("is below")),
            "{good}: {said:#?}"
        );
    }
    write("port = 80");
    dir.put("proc/sys/net/ipv4/ip_unprivileged_port_start", "80\n");
    assert_eq!(said(&dir), [""; 0]);
}

#[test]
fn a_time_zone_that_is_not_there_is_a_warning_with_its_place() {
    let dir = Scratch::new("beside-zone");
    let toml = |suite: &str, own: &str| {
        format!(
            "[suite]\nmedia = \"/fun\"\ntimezone = \"{suite}\"\n\n[services.sonarr]\ntimezone = \"{own}\"\n"
        )
    };
    dir.put("etc/dagger/dagger.toml", toml("Mars/Base", "local"));
    assert!(said(&dir).is_empty(), "without the database nothing is known");
    dir.put("usr/share/zoneinfo/Europe/Berlin", "")
        .put("usr/share/zoneinfo/UTC", "");
    let mars = said(&dir);
    assert_eq!(mars.len(), 1, "{mars:#?}");
    assert!(
        mars[0].starts_with("/etc/dagger/dagger.toml:3:12: warning: ") && mars[0].contains("\"Mars/Base\""),
        "{mars:#?}"
    );
    dir.put("etc/dagger/dagger.toml", toml("UTC", "Europe/Berln"));
    let berlin = said(&dir);
    assert_eq!(berlin.len(), 1, "{berlin:#?}");
    assert!(
        berlin[0].contains("dagger.toml:6:12") && berlin[0].contains("did you mean \"Europe/Berlin\"?"),
        "{berlin:#?}"
    );
    dir.put("etc/dagger/dagger.toml", toml("UTC", "Europe/Berlin"));
    assert!(said(&dir).is_empty());
}
