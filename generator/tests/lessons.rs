//! What went wrong for other tools' users and is the generator's to prevent. Each test bears the name of the thread.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use dagger_suite::names::Root;
use dagger_suite::render::{Content, Programs, render};
use dagger_suite::{Loaded, load};

/// What a configuration becomes: the texts of its units, by path.
struct Written {
    loaded: Loaded,
    units: Vec<(String, String)>,
}

impl Written {
    fn of(files: &[(&str, &str)]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("dagger-lessons-{}-{number}", std::process::id()));
        for (path, text) in files {
            let path: PathBuf = dir.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let loaded = load(&Root::new(&dir));
        fs::remove_dir_all(&dir).unwrap();
        let outputs = render(
            &loaded.suite,
            &loaded.broken,
            loaded.file_errors(),
            &Programs::below("/usr"),
        );
        let units = outputs
            .into_iter()
            .filter_map(|output| match output.content {
                Content::File(text) => Some((output.path, text)),
                Content::Link(_) => None,
            })
            .collect();
        Self { loaded, units }
    }

    fn suite(services: &str) -> Self {
        Self::of(&[(
            "etc/dagger/dagger.toml",
            &format!("[suite]\nmedia = \"/fun\"\n{services}"),
        )])
    }

    /// Text of a unit, with continued lines joined.
    fn unit(&self, name: &str) -> String {
        let found = self.units.iter().find(|(path, _)| path == name);
        found
            .unwrap_or_else(|| panic!("no {name}"))
            .1
            .replace(" \\\n    ", " ")
    }

    fn line(&self, unit: &str, key: &str) -> String {
        let text = self.unit(unit);
        let line = text.lines().find(|line| line.starts_with(&format!("{key}=")));
        line.unwrap_or_else(|| panic!("no {key}= in\n{text}")).to_owned()
    }
}

#[test]
fn jellyfin_17900_media_and_state_have_the_same_paths_inside_as_outside() {
    let written = Written::suite("[services.jellyfin]\nstate = '/var/lib/jf'\n");
    let start = written.line("dagger-jellyfin.service", "ExecStart");
    for same in [
        "/fun:/fun",
        "/var/lib/jf/data:/var/lib/jf/data",
        "/var/lib/jf/config:/var/lib/jf/config",
    ] {
        assert!(start.contains(&format!("--volume={same} ")), "{start}");
    }
    assert!(
        start.contains("--env=JELLYFIN_DATA_DIR=/var/lib/jf/data "),
        "{start}"
    );
}

#[test]
fn jellyfin_3717_each_image_gets_the_layout_that_it_has() {
    let written = Written::suite("[services.jellyfin]\nlayout = 'linuxserver'\nstate = '/s'\n");
    let start = written.line("dagger-jellyfin.service", "ExecStart");
    let config = start.find("--volume=/s/config:/config ").unwrap();
    let data = start.find("--volume=/s/data:/config/data ").unwrap();
    assert!(
        config < data,
        "nested mounts come after what they lie in: {start}"
    );
    assert!(!start.contains("JELLYFIN_DATA_DIR"));
}

#[test]
fn docker_plex_78_nothing_is_chowned_because_the_owner_is_the_user() {
    let written = Written::suite("[services.plex]\n");
    let unit = written.unit("dagger-plex.service");
    assert!(unit.contains("EnvironmentFile=-/var/lib/dagger/owner/plex\n"));
    assert!(unit.contains("--env=PUID=${DAGGER_UID} --env=PGID=${DAGGER_GID}"));
    assert!(!unit.contains(":U "), "podman's own chown");
}

#[test]
fn transmission_openvpn_2145_state_lies_where_this_image_looks_for_it() {
    let written = Written::suite("[services.transmission]\nstate = '/var/lib/transmission-daemon/info'\n");
    let start = written.line("dagger-transmission.service", "ExecStart");
    assert!(
        start.contains("--volume=/var/lib/transmission-daemon/info:/config "),
        "{start}"
    );
    assert!(start.contains("--config-dir /config "), "{start}");
}

#[test]
fn transmission_7283_a_stop_is_graceful_and_has_its_time() {
    let written = Written::suite("[services.transmission]\n");
    let stop = written.line("dagger-transmission.service", "ExecStop");
    assert!(stop.contains(" stop ") && stop.contains("--time=60"), "{stop}");
    let timeout = written.line("dagger-transmission.service", "TimeoutStopSec");
    let seconds: u32 = timeout.split_once('=').unwrap().1.parse().unwrap();
    assert!(
        seconds > 60,
        "systemd must not kill podman in the middle of a stop: {timeout}"
    );
}

#[test]
fn linuxserver_transmission_settings_keep_their_password() {
    // The image's start script rewrites settings.json without authentication and whitelist; it must not run.
    let written = Written::suite("[services.transmission]\n");
    let start = written.line("dagger-transmission.service", "ExecStart");
    assert!(start.contains("--entrypoint=transmission-daemon "), "{start}");
    assert!(start.contains("--user=${DAGGER_UID}:${DAGGER_GID} "), "{start}");
    assert!(!start.contains("--no-auth"));
}

#[test]
fn nixarr_130_the_media_group_may_write() {
    let written = Written::suite("[services.jellyfin]\n[services.bazarr]\n");
    for unit in ["dagger-jellyfin.service", "dagger-bazarr.service"] {
        let start = written.line(unit, "ExecStart");
        assert!(start.contains("--umask=0002 "), "{start}");
        assert!(start.contains("--volume=/fun:/fun "), "writable: {start}");
    }
}

#[test]
fn radarr_3128_a_missing_mount_stops_the_start() {
    let written = Written::suite("[services.radarr]\n");
    assert!(
        written
            .line("dagger-radarr.service", "RequiresMountsFor")
            .contains("/fun")
    );
    assert!(
        written
            .line("dagger-radarr.service", "ExecStartPre")
            .contains("--media=/fun")
    );
}

#[test]
fn autoheal_53_a_slow_start_has_its_own_time() {
    let written = Written::suite("[services.sonarr]\nstart-budget = '20min'\n");
    let timeout = written.line("dagger-sonarr.service", "TimeoutStartSec");
    assert!(
        timeout.split_once('=').unwrap().1.parse::<u32>().unwrap() > 1200,
        "{timeout}"
    );
    assert!(
        written
            .line("dagger-sonarr.service", "ExecStartPost")
            .contains("--budget=1200 ")
    );
}

#[test]
fn podman_18353_a_pull_is_not_part_of_the_start() {
    let written = Written::suite("[services.sonarr]\n");
    assert!(
        written
            .line("dagger-sonarr.service", "ExecStart")
            .contains("--pull=never ")
    );
    assert_eq!(
        written.line("dagger-pull@sonarr.service", "TimeoutStartSec"),
        "TimeoutStartSec=infinity"
    );
}

#[test]
fn podman_24588_nothing_waits_for_network_online() {
    let written = Written::suite("[services.sonarr]\n[services.jellyfin]\n");
    for (name, text) in &written.units {
        assert!(!text.contains("network-online"), "{name}");
    }
}

#[test]
fn podman_11157_health_checks_do_not_write_to_the_journal() {
    let start = Written::suite("[services.sonarr]\n").line("dagger-sonarr.service", "ExecStart");
    assert!(
        start.contains("--no-healthcheck ") && start.contains("--events-backend=none "),
        "{start}"
    );
}

#[test]
fn quadlet_one_file_that_does_not_parse_takes_no_other_along() {
    let written = Written::of(&[
        (
            "etc/dagger/dagger.toml",
            "[suite]\nmedia = '/fun'\n[services.sonarr]\n",
        ),
        ("etc/dagger/conf.d/a.toml", "[services.radarr\n"),
        ("etc/dagger/conf.d/b.toml", "[services.prowlarr]\n"),
    ]);
    let names: Vec<_> = written
        .loaded
        .suite
        .services
        .iter()
        .map(|it| it.name.as_str())
        .collect();
    assert_eq!(names, ["prowlarr", "sonarr"]);
    assert!(
        written
            .unit("dagger-config-error.service")
            .contains("conf.d/a.toml:1:")
    );
}

#[test]
fn quadlet_nix_42_percent_and_dollar_are_literal() {
    let written = Written::suite("[services.sonarr]\nenvironment = { A = 'a%2Fb$HOME;' }\n");
    let start = written.line("dagger-sonarr.service", "ExecStart");
    assert!(start.contains("--env=A=a%%2Fb$$HOME;"), "{start}");
}

#[test]
fn quadlet_lone_semicolon_does_not_make_two_commands() {
    let written = Written::suite("[services.x]\nimage = 'localhost/x'\ncommand = ['run', ';', 'x']\n");
    let start = written.line("dagger-x.service", "ExecStart");
    assert!(
        start.ends_with("run \";\" x") || start.ends_with("run \\; x"),
        "{start}"
    );
}

#[test]
fn nixarr_86_the_identity_is_read_from_what_is_there() {
    // Prowlarr alone has another group: the gate looks at the owner, the configuration only says what new state gets.
    let written = Written::suite("[services.prowlarr]\n");
    let pre = written.line("dagger-prowlarr.service", "ExecStartPre");
    assert!(
        pre.contains("--owner=568:568") && !pre.contains("-explicit"),
        "{pre}"
    );
    for (demand, words) in [
        (
            "user = 293\ngroup = 287\n",
            "--owner=293:287 --uid-explicit --gid-explicit ",
        ),
        ("user = 293\n", "--owner=293:568 --uid-explicit "),
        ("group = 287\n", "--owner=568:287 --gid-explicit "),
    ] {
        let written = Written::suite(&format!("[services.prowlarr]\n{demand}"));
        let pre = written.line("dagger-prowlarr.service", "ExecStartPre");
        assert!(pre.contains(words), "{demand}: {pre}");
    }
}

#[test]
fn wireguard_namespace_2154_a_service_in_a_namespace_is_probed_there() {
    let written = Written::suite("[services.transmission]\nnetwork = 'ns:/run/netns/wg'\n");
    assert!(
        written
            .line("dagger-transmission.service", "ExecStart")
            .contains("--network=ns:/run/netns/wg ")
    );
    assert!(
        written
            .line("dagger-transmission.service", "ExecStartPost")
            .contains("--netns=/run/netns/wg")
    );
    assert!(
        written
            .line("dagger-transmission.service", "ExecStartPre")
            .contains("--netns=/run/netns/wg")
    );
}

#[test]
fn podman_26962_a_service_in_a_namespace_asks_the_name_servers_of_its_vpn() {
    let service = "[services.transmission]\nnetwork = 'ns:/run/netns/wg'\n";
    let warned = |written: &Written| {
        let said = written
            .loaded
            .diagnostics
            .iter()
            .map(dagger_suite::diagnostic::Diagnostic::one_line);
        said.filter(|it| it.contains("asks the host's name servers"))
            .count()
    };
    assert_eq!(warned(&Written::suite(service)), 1);
    let written = Written::suite(&format!("{service}dns = ['10.2.0.1', 'fd00::1']\n"));
    assert_eq!(warned(&written), 0);
    let start = written.line("dagger-transmission.service", "ExecStart");
    assert!(start.contains(" --dns=10.2.0.1 --dns=fd00::1 "), "{start}");
    let own = Written::of(&[
        (
            "etc/dagger/dagger.toml",
            &format!("[suite]\nmedia = '/fun'\n{service}"),
        ),
        ("etc/netns/wg/resolv.conf", "nameserver 10.2.0.1\n"),
    ]);
    assert_eq!(warned(&own), 0);
}

#[test]
fn an_application_that_listens_on_one_address_is_asked_there() {
    let written = Written::suite("[services.sonarr]\nhealth = { host = '192.168.15.1' }\n");
    let post = written.line("dagger-sonarr.service", "ExecStartPost");
    assert!(post.contains(" --host=192.168.15.1 "), "{post}");
    let service = &written.loaded.suite.services[0];
    assert_eq!(service.probe.kind, dagger_suite::probe::Kind::Servarr);
    assert_eq!(service.url.as_deref(), Some("http://192.168.15.1:8989/"));
}

#[test]
fn volumes_of_an_image_that_its_layout_leaves_empty_are_told_to_the_gate() {
    let covered = |keys: &str, name: &str| {
        let pull = Written::suite(&format!("[services.{name}]\n{keys}"))
            .line(&format!("dagger-pull@{name}.service"), "ExecStart");
        let words = pull.split(' ').filter_map(|word| word.strip_prefix("--covered="));
        words.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(covered("", "flaresolverr"), ["/config"]);
    // As jellyfin-packaging's Dockerfile declares them.
    let jellyfin = covered(
        "disposable = ['/tmp']\ntmpfs = ['/transcode:size=8G']\n",
        "jellyfin",
    );
    for path in [
        "/config",
        "/cache",
        "/tmp",
        "/fun",
        "/transcode",
        "/var/lib/nixarr/jellyfin/data",
    ] {
        assert!(jellyfin.iter().any(|it| it == path), "{path}: {jellyfin:?}");
    }
    assert_eq!(covered("layout = 'linuxserver'\n", "jellyfin")[0], "/config");
}
