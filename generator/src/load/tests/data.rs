//! What keeps data from getting lost: who may start on it, and where it lies.

use super::{Dir, SUITE, running, said, service, toml};

const NATIVE: (&str, &str) = ("usr/lib/systemd/system/sonarr.service", "[Unit]\n");

/// The native units that get a condition, each with the service whose marker decides.
fn conditions(files: &[(&str, &str)]) -> Vec<String> {
    let loaded = Dir::new(files).load();
    let guards = loaded.suite.guards.iter();
    let mut all: Vec<_> = guards.map(|it| format!("{} {}", it.service, it.unit)).collect();
    for service in &loaded.suite.services {
        all.extend(
            service
                .native
                .iter()
                .map(|it| format!("{} runs, {}", service.name, it.name)),
        );
    }
    all
}

/// The native unit of a migrated service must not start on the container's data because of a typo.
#[test]
fn a_mistake_takes_no_condition_away_from_a_native_unit() {
    let guards = |text: &str| conditions(&[("etc/dagger/dagger.toml", text), NATIVE]);
    assert_eq!(
        guards(&format!("{SUITE}[services.sonarr]\n")),
        ["sonarr runs, sonarr.service"]
    );
    assert_eq!(
        guards(&format!("{SUITE}[services.sonarr]\nprot = 1\n")),
        ["sonarr sonarr.service"]
    );
    assert_eq!(guards("[suite\n"), ["sonarr sonarr.service"]);
    assert_eq!(guards("\u{fffe} = \n"), ["sonarr sonarr.service"]);
    let mine = "[services.mine]\nimage = 'localhost/x'\nprot = 1\nnative = ['old.service', 7]\n";
    assert_eq!(guards(mine), ["mine old.service", "sonarr sonarr.service"]);
}

/// Its container may still be running, and its data is as the container left it.
#[test]
fn a_service_that_is_turned_off_or_taken_out_leaves_the_condition_behind() {
    let guards = |text: &str| conditions(&[("etc/dagger/dagger.toml", text), NATIVE]);
    assert_eq!(
        guards(&format!("{SUITE}[services.sonarr]\nenable = false\n")),
        ["sonarr sonarr.service"]
    );
    assert_eq!(guards(SUITE), ["sonarr sonarr.service"]);
    assert_eq!(conditions(&[NATIVE]), ["sonarr sonarr.service"]);
    let own = "[services.mine]\nenable = false\nimage = 'localhost/x'\nnative = 'old.service'\n";
    assert_eq!(guards(own), ["mine old.service", "sonarr sonarr.service"]);
    let heir = "[services.sonarr]\nenable = false\n[services.tv]\nimage = 'localhost/x'\nnative = 'sonarr.service'\n";
    assert_eq!(guards(heir), ["tv runs, sonarr.service"]);
    let file = ("etc/dagger/catalog/tv.toml", "native = 'tv.service'\n");
    let unit = ("etc/systemd/system/tv@.service", "[Unit]\n");
    assert_eq!(conditions(&[file, unit]), Vec::<String>::new());
    let unit = ("etc/systemd/system/tv.service", "[Unit]\n");
    assert_eq!(conditions(&[file, unit]), ["tv tv.service"]);
}

/// Directories of a service's state: role, outside, inside.
fn state(loaded: &super::Loaded, name: &str) -> Vec<String> {
    let mounts = service(loaded, name).state.iter();
    mounts
        .map(|it| format!("{} {} {}", it.role, it.source, it.target))
        .collect()
}

fn navidrome(keys: &str) -> super::Loaded {
    toml(&format!(
        "[services.navidrome]\nimage = 'docker.io/deluan/navidrome:latest'\nport = 4533\n{keys}\n"
    ))
}

/// Its database lies at /data, and was gone after each stop while only /config was kept.
#[test]
fn an_image_that_keeps_its_state_elsewhere_keeps_it() {
    for (keys, kept) in [
        (
            "state-target = '/data'",
            &["config /var/lib/nixarr/navidrome /data"][..],
        ),
        (
            "state-target = '/data'\nstate = '/srv/n'",
            &["config /srv/n /data"],
        ),
        (
            "state-target = { data = '/data', conf = '/etc/n/' }\nstate = { conf = '/srv/conf' }",
            &[
                "conf /srv/conf /etc/n",
                "data /var/lib/nixarr/navidrome/data /data",
            ],
        ),
        ("state-target = {}", &[]),
    ] {
        let loaded = navidrome(keys);
        assert_eq!(said(&loaded), "", "{keys}");
        assert_eq!(state(&loaded, "navidrome"), kept, "{keys}");
    }
    let sonarr = toml(&format!(
        "{SUITE}[services.sonarr]\nstate-target = {{ more = '/more' }}\n"
    ));
    assert_eq!(
        state(&sonarr, "sonarr"),
        [
            "config /var/lib/nixarr/sonarr /config",
            "more /var/lib/nixarr/sonarr/more /more"
        ]
    );
}

#[test]
fn state_inside_media_is_found_also_without_a_part_in_them() {
    let problem = "the state /fun/state lies inside the media tree /fun";
    for service in ["sonarr", "prowlarr"] {
        let loaded = toml(&format!("{SUITE}[services.{service}]\nstate = '/fun/state'\n"));
        assert!(said(&loaded).contains(problem), "{service}: {}", said(&loaded));
    }
}

#[test]
fn a_guess_where_state_lies_is_said_to_be_one() {
    let loaded = navidrome("");
    assert!(
        said(&loaded)
            .contains("nothing says where the image of navidrome keeps its state (write state-target = "),
        "{}",
        said(&loaded)
    );
    assert_eq!(
        state(&loaded, "navidrome"),
        ["config /var/lib/nixarr/navidrome /config"]
    );
}

#[test]
fn places_that_cannot_be_are_refused() {
    for (keys, problem) in [
        ("state-target = '/'", "the image itself lies at /"),
        (
            "state-target = { 'a/b' = '/data' }",
            "\"a/b\" cannot be the name of a state directory",
        ),
        (
            "state-target = { data = 'data' }",
            "\"data\" is not an absolute path",
        ),
        (
            "state-target = '/data'\nstate = { date = '/srv/n' }",
            "there is no state directory `date` (this image has config; ",
        ),
        (
            "state-target = '/data'\nvolumes = [{ source = '/srv/n', target = '/data/' }]",
            "two things are mounted at /data",
        ),
        (
            "state-target = '/data'\ntmpfs = ['/data:size=1g']",
            "two things are mounted at /data",
        ),
    ] {
        let said = said(&navidrome(keys));
        assert!(said.contains(problem), "{keys}: {said}");
    }
    let jellyfin = toml(&format!("{SUITE}[services.jellyfin]\nstate-target = '/data'\n"));
    assert!(
        said(&jellyfin).contains("in several directories (write state-target = { data = ..., config = ..."),
        "{}",
        said(&jellyfin)
    );
}

#[test]
fn what_two_services_claim_is_said_and_both_run() {
    let two = |key: &str, one: &str, other: &str| {
        toml(&format!(
            "[suite]\nmedia = \"/fun\"\n[services.sonarr]\n{key} = {one}\n[services.radarr]\n{key} = {other}\n"
        ))
    };
    for (key, one, other, says) in [
        (
            "volumes",
            "[{ source = \"/books\" }]",
            "[{ source = \"/books\" }]",
            "dagger.toml:4:11: /books is written by `radarr`, too",
        ),
        (
            "devices",
            "[\"/dev/ttyUSB0\"]",
            "[\"/dev/ttyUSB0\"]",
            "dagger.toml:4:11: /dev/ttyUSB0 is a device of `radarr`, too",
        ),
        (
            "volumes",
            "[{ source = \"/books\" }]",
            "[{ source = \"/books/comics/\" }]",
            "dagger.toml:4:11: /books/comics is written by `radarr`, too",
        ),
        (
            "volumes",
            "[{ source = \"/var/lib/nixarr/radarr/logs\" }]",
            "[]",
            "dagger.toml:4:11: /var/lib/nixarr/radarr/logs is state of `radarr`, too",
        ),
        (
            "volumes",
            "[]",
            "[{ source = \"/var/lib\" }]",
            "dagger.toml:6:11: /var/lib/nixarr/sonarr is state of `sonarr`, too",
        ),
    ] {
        let loaded = two(key, one, other);
        assert_eq!(running(&loaded), ["radarr", "sonarr"]);
        assert!(said(&loaded).contains(says), "{}", said(&loaded));
    }
    for (key, one, other) in [
        (
            "volumes",
            "[{ source = \"/books\" }]",
            "[{ source = \"/books\", read-only = true }]",
        ),
        (
            "volumes",
            "[{ source = \"/books\" }]",
            "[{ source = \"/films\" }]",
        ),
        (
            "volumes",
            "[{ source = \"/books\" }]",
            "[{ source = \"/bookshelf\" }]",
        ),
        (
            "volumes",
            "[{ source = \"/var/lib/nixarr/radarr\", read-only = true }]",
            "[{ source = \"/var/lib/nixarr/radarr/logs\" }]",
        ),
        ("devices", "[\"/dev/dri\"]", "[\"/dev/dri\"]"),
    ] {
        assert_eq!(said(&two(key, one, other)), "", "{key}");
    }
}
