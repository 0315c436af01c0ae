//! Bad input, each with what is shown and what still works.

use crate::scratch::Scratch;

use super::*;

mod data;

/// A root of files that goes away again.
struct Dir(Scratch);

impl Dir {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = Scratch::new("load");
        for (path, text) in files {
            dir.put(path, text);
        }
        Self(dir)
    }

    fn load(&self) -> Loaded {
        load(&self.0.root())
    }
}

fn toml(text: &str) -> Loaded {
    Dir::new(&[("etc/dagger/dagger.toml", text)]).load()
}

fn running(loaded: &Loaded) -> Vec<&str> {
    loaded
        .suite
        .services
        .iter()
        .map(|service| service.name.as_str())
        .collect()
}

fn refused(loaded: &Loaded) -> Vec<&str> {
    loaded.broken.iter().map(|broken| broken.name.as_str()).collect()
}

fn said(loaded: &Loaded) -> String {
    loaded.diagnostics.iter().map(|it| it.one_line() + "\n").collect()
}

const SUITE: &str = "[suite]\nmedia = \"/fun\"\n";
const SIX: &str = "[services.sonarr]\n[services.radarr]\n[services.prowlarr]\n[services.bazarr]\n[services.jellyfin]\n[services.transmission]\n";

fn service<'a>(loaded: &'a Loaded, name: &str) -> &'a Service {
    loaded
        .suite
        .services
        .iter()
        .find(|service| service.name.as_str() == name)
        .unwrap()
}

#[test]
fn the_six_come_out_of_twenty_words() {
    let loaded = toml(&format!("{SUITE}{SIX}"));
    assert_eq!(said(&loaded), "");
    assert_eq!(
        running(&loaded),
        [
            "bazarr",
            "jellyfin",
            "prowlarr",
            "radarr",
            "sonarr",
            "transmission"
        ]
    );
    let ports: Vec<_> = loaded.suite.services.iter().map(|it| it.ports[0].port).collect();
    assert_eq!(ports, [6767, 8096, 9696, 7878, 8989, 9091]);
    let sonarr = service(&loaded, "sonarr");
    let wants: Vec<_> = sonarr.wants.iter().map(ServiceName::as_str).collect();
    assert_eq!(wants, ["prowlarr", "transmission"]);
    assert!(
        sonarr
            .environment
            .contains(&("SONARR__SERVER__PORT".into(), "8989".into()))
    );
    assert!(sonarr.environment.contains(&("UMASK".into(), "002".into())));
    assert_eq!(sonarr.mounts[0].target, "/fun");
    assert_eq!(sonarr.url.as_deref(), Some("http://localhost:8989/"));
}

#[test]
fn what_the_catalogue_wants_and_the_user_does_not_have_is_left_out() {
    let loaded = toml(&format!("{SUITE}[services.sonarr]\n"));
    assert_eq!(service(&loaded, "sonarr").wants, []);
}

#[test]
fn transmission_keeps_its_settings_because_its_image_script_does_not_run() {
    let loaded = toml(&format!("{SUITE}[services.transmission]\npeer-port = 46634\n"));
    let it = service(&loaded, "transmission");
    assert_eq!(it.entrypoint.as_deref(), Some("transmission-daemon"));
    assert_eq!(
        it.command,
        [
            "--foreground",
            "--config-dir",
            "/config",
            "--port=9091",
            "--peerport=46634"
        ]
    );
    assert_eq!(it.identity.style, crate::model::IdentityStyle::User);
    assert_eq!(
        it.state[0].source,
        "/var/lib/nixarr/transmission/.config/transmission-daemon"
    );
    assert_eq!(
        it.ports.iter().map(|claim| claim.port).collect::<Vec<_>>(),
        [9091, 46634, 46634]
    );
}

#[test]
fn jellyfin_2_paths_stay_true_or_follow_the_chosen_image() {
    let loaded = toml(&format!("{SUITE}[services.jellyfin]\n"));
    let it = service(&loaded, "jellyfin");
    assert!(it.image.starts_with("docker.io/jellyfin/"));
    assert!(it.state.iter().all(|mount| mount.source == mount.target));
    assert!(
        it.environment
            .contains(&("JELLYFIN_DATA_DIR".into(), "/var/lib/nixarr/jellyfin/data".into()))
    );

    let text = "state = { data = \"/var/lib/jellyfin\", config = \"/etc/jellyfin\" }";
    let loaded = toml(&format!(
        "{SUITE}[services.jellyfin]\n{text}\nlayout = \"linuxserver\"\n"
    ));
    let it = service(&loaded, "jellyfin");
    let mounts: Vec<_> = it
        .state
        .iter()
        .map(|it| (it.source.as_str(), it.target.as_str()))
        .collect();
    assert_eq!(mounts[0], ("/etc/jellyfin", "/config"));
    assert_eq!(mounts[1], ("/var/lib/jellyfin", "/config/data"));

    let image = "image = \"lscr.io/linuxserver/jellyfin:10.10\"";
    let loaded = toml(&format!("{SUITE}[services.jellyfin]\n{image}\n"));
    let it = service(&loaded, "jellyfin");
    assert_eq!(
        (it.image.as_str(), it.state[0].target.as_str()),
        ("lscr.io/linuxserver/jellyfin:10.10", "/config")
    );
}

#[test]
fn two_of_one_kind_have_their_own_port_and_state() {
    let loaded = toml(&format!(
        "{SUITE}[services.sonarr]\n[services.sonarr-4k]\nlike = \"sonarr\"\nport = 8990\n"
    ));
    assert_eq!(said(&loaded), "");
    let second = service(&loaded, "sonarr-4k");
    assert!(
        second
            .environment
            .contains(&("SONARR__SERVER__PORT".into(), "8990".into()))
    );
    assert_eq!(second.state[0].source, "/var/lib/nixarr/sonarr-4k");
    assert_eq!(second.native, []);
}

#[test]
fn two_of_one_kind_on_one_port_refuse_the_second_only() {
    let loaded = toml(&format!(
        "{SUITE}[services.sonarr]\n[services.a]\nlike = \"sonarr\"\n"
    ));
    assert_eq!((running(&loaded), refused(&loaded)), (vec!["sonarr"], vec!["a"]));
    assert!(
        said(&loaded).contains(
            "dagger.toml:5:8: port 8989/tcp is already the one of `sonarr` (give it another: port = ...)"
        ),
        "{}",
        said(&loaded)
    );
}

#[test]
fn any_other_service_can_be_described_wholly() {
    let text = "[services.navidrome]\nimage = \"docker.io/deluan/navidrome:latest\"\nport = 4533\nstate-target = \"/data\"\nhealth = { path = \"/ping\", expect = 200 }\n";
    let loaded = toml(text);
    assert_eq!(said(&loaded), "");
    let it = service(&loaded, "navidrome");
    assert_eq!((it.kind.as_str(), it.title.as_str()), ("navidrome", "Navidrome"));
    assert_eq!(
        (it.probe.kind, it.probe.path.as_str()),
        (crate::probe::Kind::Http, "/ping")
    );
    assert_eq!(it.identity.style, crate::model::IdentityStyle::Image);
}

#[test]
fn the_users_catalogue_overrides_and_adds() {
    let loaded = Dir::new(&[
        (
            "etc/dagger/dagger.toml",
            "[suite]\nmedia='/fun'\n[services.sonarr]\n[services.mine]\n",
        ),
        ("etc/dagger/catalog/sonarr.toml", "port = 1989\n"),
        (
            "etc/dagger/catalog/mine.toml",
            "image = 'localhost/mine'\nport = 99\ntitle = 'Mine'\n",
        ),
    ])
    .load();
    assert_eq!(said(&loaded), "");
    assert_eq!(service(&loaded, "sonarr").ports[0].port, 1989);
    assert!(service(&loaded, "sonarr").image.contains("linuxserver"));
    assert_eq!(service(&loaded, "mine").title, "Mine");
}

#[test]
fn a_bad_catalogue_file_breaks_its_services_only() {
    let loaded = Dir::new(&[
        (
            "etc/dagger/dagger.toml",
            "[suite]\nmedia='/fun'\n[services.sonarr]\n[services.radarr]\n",
        ),
        ("etc/dagger/catalog/sonarr.toml", "prot = 1989\n"),
    ])
    .load();
    assert_eq!(
        (running(&loaded), refused(&loaded)),
        (vec!["radarr"], vec!["sonarr"])
    );
    assert!(loaded.broken[0].messages[0].contains("/etc/dagger/catalog/sonarr.toml:1:1"));
}

#[test]
fn drop_ins_merge_deeply_and_later_wins() {
    let loaded = Dir::new(&[
        (
            "etc/dagger/dagger.toml",
            "[suite]\nmedia='/fun'\n[services.sonarr]\nport = 1\nenvironment = { A = '1', B = '1' }\n",
        ),
        (
            "etc/dagger/conf.d/10.toml",
            "[services.sonarr.environment]\nB = '2'\n",
        ),
        (
            "run/dagger/conf.d/20.json",
            r#"{"services": {"sonarr": {"port": 2}}}"#,
        ),
    ])
    .load();
    assert_eq!(said(&loaded), "");
    let it = service(&loaded, "sonarr");
    assert_eq!(it.ports[0].port, 2);
    let of = |name: &str| {
        it.environment
            .iter()
            .find(|(key, _)| key == name)
            .unwrap()
            .1
            .clone()
    };
    assert_eq!((of("A"), of("B")), ("1".into(), "2".into()));
}

#[test]
fn nothing_is_not_an_error() {
    let loaded = Dir::new(&[]).load();
    assert!(!loaded.configured && loaded.diagnostics.is_empty());
    let loaded = toml("# nothing yet\n");
    assert!(loaded.configured && loaded.diagnostics.is_empty());
}

#[test]
fn one_bad_service_never_takes_the_others_along() {
    for (bad, says) in [
        ("prot = 1", "unknown key `prot`"),
        ("port = \"8989\"", "write it without quotes"),
        ("port = 0", "0 is not a port"),
        ("port = 65536", "65536 is not a port"),
        ("image = \"lscr.io/x;reboot\"", "';' cannot stand"),
        ("image = \"lscr.io/x:$(id)\"", "'$' cannot stand"),
        ("state = \"var/lib\"", "is not an absolute path"),
        ("state = \"/var/../etc\"", "`..`"),
        ("state = \"/fun/state\"", "lies inside the media tree /fun"),
        (
            "state = \"/var/lib/nixarr/radarr/x\"",
            "is also that of `radarr`: /var",
        ),
        ("wants = [\"sonar\"]", "did you mean \"sonarr\"?"),
        ("wants = [\"nobody\"]", "add [services.nobody]"),
        (
            "native = \"radarr.service\"",
            "already the native unit of `radarr`",
        ),
        ("port = 7878", "already the one of `radarr`"),
        ("like = \"sonar\"", "did you mean \"sonarr\"?"),
        ("environment = { PUID = '1' }", "write `user` and `group` instead"),
        ("environment = { PORT = '1' }", "write `port` instead"),
        ("environment-files = ['/a,b']", "rename it"),
    ] {
        let loaded = toml(&format!(
            "{SUITE}[services.radarr]\n[services.sonarr]\n{bad}\n[services.prowlarr]\n"
        ));
        assert_eq!(
            running(&loaded),
            ["prowlarr", "radarr"],
            "{bad}: {}",
            said(&loaded)
        );
        assert_eq!(refused(&loaded), ["sonarr"], "{bad}");
        assert!(
            loaded.broken[0].messages.iter().any(|it| it.contains(says)),
            "{bad}: {}",
            said(&loaded)
        );
        assert!(
            loaded.broken[0].messages[0].contains("/etc/dagger/dagger.toml:5:"),
            "{bad}: {}",
            said(&loaded)
        );
    }
}

#[test]
fn a_circle_is_refused_where_the_user_closed_it() {
    let loaded = toml(&format!(
        "{SUITE}[services.sonarr]\n[services.prowlarr]\nwants = [\"sonarr\"]\n[services.bazarr]\n"
    ));
    assert_eq!(
        (running(&loaded), refused(&loaded)),
        (vec!["bazarr", "sonarr"], vec!["prowlarr"])
    );
    assert!(
        said(&loaded).contains("prowlarr -> sonarr -> prowlarr"),
        "{}",
        said(&loaded)
    );
    let loaded = toml(&format!("{SUITE}[services.sonarr]\nwants = [\"sonarr\"]\n"));
    assert!(said(&loaded).contains("sonarr -> sonarr"));
}

#[test]
fn names_that_are_none_go_to_the_unit_of_the_configuration() {
    for name in [
        "Sonarr",
        "\"a/b\"",
        "\"a@b\"",
        "\"a\\\\x2d\"",
        &"x".repeat(300),
        "agent",
        "\"\"",
    ] {
        let loaded = toml(&format!(
            "{SUITE}[services.radarr]\n[services.{name}]\nimage = 'localhost/x'\nprot = 1\n"
        ));
        assert_eq!(running(&loaded), ["radarr"], "{name}");
        assert_eq!(refused(&loaded), Vec::<&str>::new(), "{name}");
        assert!(loaded.file_errors().count() >= 2, "{name}: {}", said(&loaded));
    }
}

#[test]
fn a_mistake_in_the_suite_stops_every_service_and_says_so_in_each() {
    let loaded = toml("[suite]\nmedia = 'fun'\n[services.sonarr]\n[services.radarr]\n");
    assert_eq!(refused(&loaded), ["radarr", "sonarr"]);
    assert!(
        loaded
            .broken
            .iter()
            .all(|it| it.messages[0].contains("\"fun\" is not an absolute path"))
    );
}

#[test]
fn a_syntax_error_spares_what_stands_before_it() {
    let loaded = toml(&format!(
        "{SUITE}[services.radarr]\n[services.sonarr]\nport = = 1\n[services.prowlarr]\n"
    ));
    assert_eq!(running(&loaded), ["radarr"], "{}", said(&loaded));
    assert_eq!(refused(&loaded), ["prowlarr", "sonarr"]);
    assert!(
        loaded.broken[0].messages[0].starts_with("/etc/dagger/dagger.toml:5:"),
        "{:?}",
        loaded.broken
    );
    assert!(loaded.file_errors().count() >= 1);
}

#[test]
fn what_an_unclosed_text_swallows_is_refused_too() {
    let loaded = toml(&format!(
        "{SUITE}[services.radarr]\ndescription = \"\"\"oh\n[services.sonarr]\n[services.prowlarr]\n"
    ));
    assert_eq!(running(&loaded), Vec::<&str>::new());
    assert_eq!(refused(&loaded), ["prowlarr", "radarr", "sonarr"]);
}

#[test]
fn a_broken_drop_in_stops_nothing_that_it_does_not_name() {
    let loaded = Dir::new(&[
        (
            "etc/dagger/dagger.toml",
            "[suite]\nmedia='/fun'\n[services.radarr]\n[services.sonarr]\n",
        ),
        ("etc/dagger/conf.d/x.toml", "[services.sonarr]\nport = \n"),
    ])
    .load();
    assert_eq!(
        (running(&loaded), refused(&loaded)),
        (vec!["radarr"], vec!["sonarr"])
    );
}

#[test]
fn services_that_are_off_are_off() {
    let loaded = toml(&format!(
        "{SUITE}[services.sonarr]\nenable = false\nport = 0\n[services.radarr]\n"
    ));
    assert_eq!((running(&loaded), refused(&loaded)), (vec!["radarr"], vec![]));
    assert!(said(&loaded).contains("0 is not a port"));
}

#[test]
fn ten_thousand_drop_ins_are_read() {
    let files: Vec<_> = (0..10_000)
        .map(|n| {
            (
                format!("etc/dagger/conf.d/{n}.toml"),
                format!("[services.s{n}]\nimage='localhost/x'\n"),
            )
        })
        .collect();
    let files: Vec<_> = files
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    assert_eq!(Dir::new(&files).load().suite.services.len(), 10_000);
}

#[test]
fn docker_compose_9117_a_port_taken_twice_names_the_other_service() {
    let loaded = toml("[suite]\nmedia='/fun'\n[services.sabnzbd]\n[services.qbittorrent]\n");
    assert_eq!(running(&loaded).len(), 1);
    assert!(
        said(&loaded).contains("8080/tcp is already the one of `qbittorrent`"),
        "{}",
        said(&loaded)
    );
}

#[test]
fn a_port_that_cannot_be_moved_is_refused() {
    let plex = |keys: &str| said(&toml(&format!("{SUITE}[services.plex]\n{keys}")));
    assert!(
        plex("port = 32401\n").contains("plex always listens on 32400: 32401 would never answer"),
        "{}",
        plex("port = 32401\n")
    );
    assert_eq!(plex("port = 32401\nnetwork = 'bridge'\n"), "");
}

#[test]
fn how_many_snapshots_are_kept_is_the_suites_affair() {
    assert_eq!(toml(SUITE).suite.keep, Keep::default());
    let keys = "snapshots-count = 2\nsnapshots-age = \"1d\"\nsnapshots-floor = \"64M\"\n";
    let loaded = toml(&format!("{SUITE}{keys}"));
    assert!(loaded.diagnostics.is_empty(), "{}", said(&loaded));
    let keep = Keep {
        count: 2,
        age: Duration::from_hours(24),
        floor: 64 << 20,
    };
    assert_eq!(loaded.suite.keep, keep);
    let wrong = toml(&format!("{SUITE}snapshots-count = 0\n"));
    assert!(said(&wrong).contains("snapshots-count"), "{}", said(&wrong));
}
