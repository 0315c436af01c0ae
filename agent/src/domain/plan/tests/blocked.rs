//! What stands in the way: one story each, with the words that a person reads.

use super::*;

fn assert_only(service: &Service, facts: &Facts, code: Code, says: &[&str]) {
    let (found, text) = only(service, facts);
    assert_eq!(found, code, "{text}");
    for part in says {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

#[test]
fn a_service_that_nobody_configured() {
    let plan = refused("sonar");
    assert_eq!(codes(&plan.blockers), [Code::NotConfigured]);
    assert!(plan.is_blocked() && plan.steps.is_empty());
}

#[test]
fn data_that_the_container_owns_already() {
    let service = sonarr();
    let mut facts = good(&service);
    facts.owned = true;
    // What else is wrong does not matter then.
    facts.media[0].state = MediaState::Missing;
    assert_only(
        &service,
        &facts,
        Code::AlreadyOwned,
        &[
            "belongs to its container already",
            "nixarr-migrate rollback sonarr",
            "sonarr.service",
        ],
    );
}

#[test]
fn settings_that_the_unit_writes_anew_at_each_start() {
    let service = transmission();
    let mut facts = good(&service);
    let file = "/var/lib/nixarr/transmission/.config/transmission-daemon/settings.json";
    let native = facts.native.as_mut().unwrap();
    native.regenerated.push(file.into());
    assert_only(
        &service,
        &facts,
        Code::Regenerated,
        &[
            "anew at each start",
            "`accept-regenerated = true` into [services.transmission]",
        ],
    );
}

/// After the next boot the container could not start any more.
#[test]
fn a_rule_that_gives_the_state_back_at_each_boot() {
    let service = service("sonarr", "user = 1000");
    let mut facts = good(&service);
    let text = "d /var/lib/nixarr/sonarr 0700 sonarr -\n";
    facts.boot = boot::rules("/usr/lib/tmpfiles.d/sonarr.conf", text);
    assert_only(
        &service,
        &facts,
        Code::GivenBack,
        &[
            "/usr/lib/tmpfiles.d/sonarr.conf:1 gives /var/lib/nixarr/sonarr to sonarr at each boot",
            "write `d /var/lib/nixarr/sonarr :0700 :sonarr -` into /etc/tmpfiles.d/00-dagger-sonarr.conf",
        ],
    );
    // Whoever keeps the owner is not concerned.
    let same = self::service("sonarr", "");
    assert_eq!(plan(&same, &facts).blockers, []);
}

#[test]
fn a_machine_without_the_native_unit() {
    let service = transmission();
    let mut facts = good(&service);
    facts.native = None;
    assert_only(
        &service,
        &facts,
        Code::UnknownUnit,
        &[
            "transmission.service or transmission-daemon.service",
            "`native = \"UNIT.service\"`",
            "dagger-transmission.service",
        ],
    );
}

/// Debian's package of Transmission, as it is installed: the state lies elsewhere, and settings.json is a link.
#[test]
fn debians_transmission_is_told_what_to_write() {
    let state = "/var/lib/transmission-daemon/.config/transmission-daemon";
    let service = transmission();
    let mut facts = good(&service);
    facts.places[0].path = state.into();
    facts.places[0].links = vec![Link {
        path: format!("{state}/settings.json"),
        target: "/etc/transmission-daemon/settings.json".into(),
    }];
    let blocked = plan(&service, &facts);
    assert_eq!(codes(&blocked.blockers), [Code::StateElsewhere, Code::HiddenLink]);
    let text = blocked.to_string();
    let own = format!("state = \"{state}\"");
    let volume = "volumes = [{ source = \"/etc/transmission-daemon\" }]";
    assert!(text.contains(&own) && text.contains(volume), "{text}");
    // Who writes that is let through.
    let told = self::service("transmission", &format!("{own}\n{volume}"));
    assert_eq!(plan(&told, &facts).blockers, []);
}

#[test]
fn anothers_file_under_a_name_in_the_state() {
    let service = sonarr();
    let mut facts = good(&service);
    let name = |uid, path: &str| Shared {
        owner: Who { uid, gid: 169 },
        path: path.into(),
    };
    // The application's own, as a torrent and what was imported of it are.
    facts.places[0].shared = vec![name(274, "/s/own")];
    assert_eq!(plan(&service, &facts).blockers, []);
    facts.places[0].shared.push(name(275, "/s/planted"));
    assert_only(
        &service,
        &facts,
        Code::GivenAway,
        &[
            "/s/planted has a further name outside of the state (a hard link) and belongs to 275:169",
            "gives all of its state to 274:169 when it starts",
            "put a copy of the file in its place; `find / -xdev -samefile FILE`",
        ],
    );
    // Who gives nothing away only tells of it.
    let keeps = self::service("sonarr", "identity = \"user\"");
    let plan = plan(&keeps, &facts);
    assert_eq!(plan.blockers, []);
    assert_eq!(codes(&plan.warnings), [Code::SharedFiles]);
}

#[test]
fn state_in_other_directories_is_named_role_by_role() {
    let service = jellyfin();
    let mut facts = good(&service);
    for (role, path) in [("data", "/var/lib/jellyfin"), ("config", "/etc/jellyfin")] {
        let place = facts.places.iter_mut().find(|place| place.role == role).unwrap();
        place.path = path.into();
    }
    let plan = plan(&service, &facts);
    assert_eq!(
        codes(&plan.blockers),
        [Code::StateElsewhere, Code::StateElsewhere]
    );
    assert!(
        plan.blockers[0]
            .remedy
            .contains("state = { data = \"/var/lib/jellyfin\", config = \"/etc/jellyfin\", cache = "),
        "{}",
        plan.blockers[0].remedy
    );
}

#[test]
fn a_stored_path_that_does_not_resolve_inside() {
    let service = sonarr();
    let stored = |path: &str, for_what, real: Option<&str>| Stored {
        path: path.into(),
        for_what,
        from: "sonarr.db: RootFolders".into(),
        count: 3,
        there: Some(true),
        real: real.map(str::to_owned),
    };
    let mut facts = good(&service);
    facts.stored = vec![stored("/mnt/tv", Use::Library, None)];
    assert_only(
        &service,
        &facts,
        Code::HiddenPath,
        &[
            "/mnt/tv (library; sonarr.db: RootFolders, 3 entries)",
            "nothing is mounted there",
            "volumes = [{ source = \"/mnt/tv\" }]",
        ],
    );
    // Below media, or on a volume at the same path, it does.
    facts.stored = vec![stored("/fun/tv/", Use::Library, None)];
    assert_eq!(plan(&service, &facts).blockers, []);
    facts.stored = vec![stored("/mnt/tv", Use::Library, None)];
    let with = self::service("sonarr", "volumes = [{ source = \"/mnt\" }]");
    assert_eq!(plan(&with, &facts).blockers, []);
    let elsewhere = self::service("sonarr", "volumes = [{ source = \"/mnt\", target = \"/other\" }]");
    assert_only(&elsewhere, &facts, Code::HiddenPath, &["it is /other/tv there"]);
    // By its name it lies below media, and a link leads out of it.
    facts.stored = vec![stored("/fun/tv", Use::Library, Some("/mnt/disk/tv"))];
    assert_only(
        &service,
        &facts,
        Code::HiddenPath,
        &[
            "which leads to /mnt/disk/tv",
            "volumes = [{ source = \"/mnt/disk/tv\" }]",
        ],
    );
    // What is no absolute path is the application's own affair.
    facts.stored = vec![stored("Backups", Use::Backup, None)];
    assert_eq!(plan(&service, &facts).blockers, []);
}

#[test]
fn no_room_for_the_snapshot() {
    let service = sonarr();
    let mut facts = good(&service);
    facts.room.system.free = 1 << 30;
    assert_only(
        &service,
        &facts,
        Code::NoRoom,
        &[
            "needs 1.2 GiB in /var/lib/dagger/snapshots, and 1.0 GiB are free",
            "free 256 MiB on /",
        ],
    );
    // A file system that shares blocks needs little.
    facts.room.system.reflink = true;
    facts.places[0].system.reflink = true;
    assert_eq!(plan(&service, &facts).blockers, []);
    // Not from one file system to another.
    facts.places[0].system.mount = "/data".into();
    assert_eq!(codes(&plan(&service, &facts).blockers), [Code::NoRoom]);
}

#[test]
fn a_marker_file_of_another_role() {
    let service = jellyfin();
    let mut facts = good(&service);
    for place in &mut facts.places {
        place.markers = vec![format!(".jellyfin-{}", place.role)];
    }
    assert_eq!(plan(&service, &facts).blockers, []);
    let config = facts
        .places
        .iter_mut()
        .find(|place| place.role == "config")
        .unwrap();
    config.markers.push(".jellyfin-data".into());
    assert_only(
        &service,
        &facts,
        Code::ForeignMarker,
        &[
            "is to be the config directory",
            ".jellyfin-data",
            "Jellyfin refuses to start",
        ],
    );
}

#[test]
fn media_that_is_away_empty_or_read_only() {
    let service = sonarr();
    for (state, code, says) in [
        (
            MediaState::Missing,
            Code::MediaMissing,
            "/fun is not there: mount what belongs there",
        ),
        (
            MediaState::Empty,
            Code::MediaMissing,
            "Sonarr would take its library for deleted",
        ),
        (MediaState::ReadOnly, Code::MediaReadOnly, "read-only: remount it"),
        (
            MediaState::Unreadable("Input/output error".into()),
            Code::MediaMissing,
            "cannot be looked at: Input/output error",
        ),
    ] {
        let mut facts = good(&service);
        facts.media[0].state = state;
        assert_only(&service, &facts, code, &[says]);
    }
    let reader = self::service("jellyfin", "media = \"ro\"");
    let mut facts = good(&reader);
    facts.media[0].state = MediaState::ReadOnly;
    assert_eq!(plan(&reader, &facts).blockers, [], "who only reads needs no more");
}

#[test]
fn an_address_that_nobody_asks_at() {
    let service = sonarr();
    let mut facts = good(&service);
    facts.settings.push(Setting {
        file: "/var/lib/nixarr/sonarr/config.xml".into(),
        format: Format::Xml,
        key: vec!["BindAddress".into()],
        value: Some("192.168.1.5".into()),
    });
    assert_only(
        &service,
        &facts,
        Code::UnaskedAddress,
        &["host = \"192.168.1.5\""],
    );
}
