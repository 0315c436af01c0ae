//! Other people's accidents that a plan prevents, each by the name of its thread.

use super::*;

/// A check finds the damage before a migration can be blamed for it.
#[test]
fn sonarr_5924_a_database_that_was_damaged_before_is_refused() {
    let service = sonarr();
    let mut facts = good(&service);
    facts.databases[0].integrity = Integrity::Damaged("row 3 missing from index UC_Version".into());
    let (code, text) = only(&service, &facts);
    assert_eq!(code, Code::Damaged);
    assert!(
        text.starts_with(
            "/var/lib/nixarr/sonarr/sonarr.db was damaged before: SQLite says row 3 missing from index UC_Version"
        ),
        "{text}"
    );
}

#[test]
fn sonarr_3051_sqlite_on_a_network_share_is_refused() {
    let service = sonarr();
    for kind in [
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "fuse.mergerfs",
        "fuse.sshfs",
        "fuse",
        "9p",
    ] {
        let mut facts = good(&service);
        facts.places[0].system.kind = kind.into();
        facts.places[0].system.mount = "/var/lib/nixarr".into();
        let (code, text) = only(&service, &facts);
        assert_eq!(code, Code::NetworkFileSystem, "{kind}");
        let says = format!("lies on {kind} (/var/lib/nixarr), where SQLite's locks do not hold");
        assert!(text.contains(&says), "{text}");
    }
    for kind in ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "f2fs"] {
        let mut facts = good(&service);
        facts.places[0].system.kind = kind.into();
        assert_eq!(plan(&service, &facts).blockers, [], "{kind}");
    }
}

/// An application that keeps no database there has nothing to fear.
#[test]
fn sonarr_3051_files_that_are_no_database_may_lie_on_a_share() {
    let service = transmission();
    let mut facts = good(&service);
    facts.places[0].system.kind = "nfs4".into();
    assert_eq!(plan(&service, &facts).blockers, []);
}

/// An old program on a newer database starts, and nobody says a word: the guard is ours.
#[test]
fn spksrc_5271_a_schema_that_is_newer_than_the_image_is_refused() {
    for (name, version, number, last) in [
        ("sonarr", "4.0.19.2979-ls310", 230, 217),
        ("radarr", "6.0.3.10291-ls299", 243, 242),
        ("prowlarr", "2.3.6.5318-ls144", 44, 43),
    ] {
        let service = service(name, "");
        let mut facts = good(&service);
        facts.image = Some(Image {
            version: version.into(),
            digest: String::new(),
        });
        facts.databases[0].schema = Some(Schema::Number(number));
        let (code, text) = only(&service, &facts);
        assert_eq!(code, Code::NewerSchema);
        let says = format!(
            "has schema {number}, and {} {version} knows no further than {last}",
            service.image
        );
        assert!(text.contains(&says), "{text}");
        facts.databases[0].schema = Some(Schema::Number(last));
        let good = plan(&service, &facts);
        assert_eq!((good.blockers, good.warnings), (vec![], vec![]), "{name}");
    }
}

fn previous(version: &str) -> Setting {
    Setting {
        file: "/var/lib/nixarr/jellyfin/config/system.xml".into(),
        format: Format::Xml,
        key: vec!["PreviousVersionStr".into()],
        value: Some(version.into()),
    }
}

fn jellyfins(native: &str, image: &str) -> (Service, Facts) {
    let service = jellyfin();
    let mut facts = good(&service);
    facts.settings.push(previous(native));
    facts.image = Some(Image {
        version: image.into(),
        digest: "sha256:1".into(),
    });
    (service, facts)
}

/// 10.9 to 10.8 dies of a missing column, and nobody will mend it.
#[test]
fn jellyfin_11547_an_image_older_than_the_data_is_refused() {
    for (native, image) in [
        ("10.11.0.0", "10.10.7"),
        ("10.11.5.0", "10.11.4"),
        ("12.0.0.0", "10.11.9"),
    ] {
        let (service, facts) = jellyfins(native, image);
        let (code, text) = only(&service, &facts);
        assert_eq!(code, Code::NewerVersion, "{native} {image}");
        assert!(
            text.contains("cannot read what a newer one has written"),
            "{text}"
        );
    }
    for (native, image) in [
        ("10.11.5.0", "10.11.5"),
        ("10.11.5.0", "10.11.6"),
        ("10.10.7.0", "10.11.0"),
    ] {
        let (service, facts) = jellyfins(native, image);
        assert_eq!(plan(&service, &facts).blockers, [], "{native} {image}");
    }
}

#[test]
fn jellyfin_15027_a_new_series_is_told_to_be_one_way() {
    let (service, facts) = jellyfins("10.10.7.0", "10.11.0");
    let plan = plan(&service, &facts);
    assert_eq!(codes(&plan.warnings), [Code::OneWay]);
    let (service, facts) = jellyfins("10.11.5.0", "10.11.6");
    assert_eq!(super::plan(&service, &facts).warnings, []);
}

/// Back on the old version, without its configuration directory: a snapshot holds all of it or is none.
#[test]
fn jellyfin_14571_every_directory_of_the_state_is_in_the_snapshot() {
    let service = jellyfin();
    let facts = good(&service);
    let plan = plan(&service, &facts);
    let snapshot = plan
        .steps
        .iter()
        .find(|step| step.kind == Kind::Snapshot)
        .unwrap();
    for role in ["data", "config"] {
        let path = format!("/var/lib/nixarr/jellyfin/{role}");
        assert!(snapshot.reads.contains(&path), "{path}");
    }
    let mut part = facts;
    part.places.retain(|place| place.role != "config");
    let (code, text) = only(&service, &part);
    assert_eq!(code, Code::PlaceMissing);
    assert!(text.contains("the config directory of jellyfin"), "{text}");
    // One that is named, and is not there, is missing, too.
    let mut gone = good(&service);
    gone.places[1].there = false;
    assert_eq!(only(&service, &gone).0, Code::PlaceMissing);
}

/// A backup restores only into the version that made it: a snapshot says which that was.
#[test]
fn jellyfin_17111_a_snapshot_is_labelled_with_version_schema_and_digest() {
    let (service, mut facts) = jellyfins("10.11.5.0", "10.11.6");
    facts.databases[0].schema = Some(Schema::Name("20250609115616_X".into()));
    let label = plan(&service, &facts).label;
    for (key, value) in [
        ("native-version", "10.11.5.0"),
        ("image-version", "10.11.6"),
        ("image-digest", "sha256:1"),
        ("schema-jellyfin.db", "20250609115616_X"),
        ("native-unit", "jellyfin.service"),
    ] {
        assert_eq!(label.get(key).map(String::as_str), Some(value), "{key}");
    }
}

/// Libraries at paths that do not exist inside were emptied by a scan within three seconds.
#[test]
fn jellyfin_17900_a_library_that_the_container_would_not_see_is_refused() {
    let service = jellyfin();
    let mut facts = good(&service);
    facts.stored.push(Stored {
        path: "/srv/films".into(),
        for_what: Use::Library,
        from: "root/default/Films".into(),
        count: 1,
        there: Some(true),
        real: None,
    });
    let (code, text) = only(&service, &facts);
    assert_eq!(code, Code::HiddenPath);
    assert!(
        text.contains("/srv/films (library; root/default/Films)"),
        "{text}"
    );
}

/// Our own snapshot at each change, before anything is stopped or written.
#[test]
fn sonarr_5115_a_snapshot_comes_before_everything_else() {
    let service = sonarr();
    let plan = plan(&service, &good(&service));
    let at = |kind| plan.steps.iter().position(|step| step.kind == kind).unwrap();
    assert!(at(Kind::Snapshot) < at(Kind::Stop));
    assert!(at(Kind::Refresh) < at(Kind::Check));
    assert!(at(Kind::Check) < at(Kind::Flip));
    assert!(plan.steps.iter().all(|step| !step.undo.is_empty()));
}

/// It is not there before, and must not look like the migration's doing afterwards.
#[test]
fn radarr_11021_a_root_folder_that_is_gone_is_told_before() {
    let service = service("radarr", "");
    let mut facts = good(&service);
    facts.stored.push(Stored {
        path: "/fun/old".into(),
        for_what: Use::Library,
        from: "radarr.db: RootFolders".into(),
        count: 1,
        there: Some(false),
        real: None,
    });
    let plan = plan(&service, &facts);
    assert_eq!(
        (codes(&plan.blockers), codes(&plan.warnings)),
        (vec![], vec![Code::LostPath])
    );
}

/// A disk that is away is not an empty library.
#[test]
fn radarr_3128_a_missing_mount_is_refused() {
    let service = service("radarr", "");
    let mut facts = good(&service);
    facts.media[0].state = MediaState::Empty;
    assert_eq!(only(&service, &facts).0, Code::MediaMissing);
}

/// Files stay whose they are; nothing is given away unless the configuration demands it.
#[test]
fn docker_plex_78_nothing_is_chowned() {
    let service = sonarr();
    let facts = good(&service);
    let kinds = |plan: &Plan| plan.steps.iter().map(|step| step.kind).collect::<Vec<_>>();
    let unasked = plan(&service, &facts);
    assert!(!kinds(&unasked).contains(&Kind::Adjust));
    let demanded = self::service("sonarr", "user = 1000");
    let plan = plan(&demanded, &facts);
    let step = plan.steps.iter().find(|step| step.kind == Kind::Adjust).unwrap();
    assert_eq!(
        step.does,
        "the state is given to 1000:169, as the configuration says; it belongs to 274:169"
    );
    assert_eq!(step.undo, "every file gets its recorded owner back");
}

/// Prowlarr alone has another group: who it runs as comes from what is there.
#[test]
fn nixarr_86_the_identity_is_the_datas_own() {
    let service = service("prowlarr", "");
    let mut facts = good(&service);
    facts.places[0].owner = Who { uid: 293, gid: 287 };
    assert_eq!(plan(&service, &facts).owner, Some(Who { uid: 293, gid: 287 }));
    // nixarr's own directories: 0700, group root, while the application runs with another.
    facts.places[0].owner = Who { uid: 274, gid: 0 };
    assert_eq!(plan(&service, &facts).owner, Some(Who { uid: 274, gid: 169 }));
}

/// Another image, another home: the torrents were "gone".
#[test]
fn docker_transmission_openvpn_2145_state_elsewhere_is_refused() {
    let service = transmission();
    let mut facts = good(&service);
    facts.places[0].path = "/data/.state/nixarr/transmission/.config/transmission-daemon".into();
    assert_eq!(only(&service, &facts).0, Code::StateElsewhere);
    // And what was counted before goes with the plan, to be counted again.
    facts.library.items.insert("torrents".into(), 12);
    assert_eq!(plan(&service, &facts).library.items.get("torrents"), Some(&12));
}

/// The kill switch is where it runs, not an event.
#[test]
fn docker_transmission_openvpn_1127_a_container_outside_of_the_tunnel_is_refused() {
    let confined = |more: &str| {
        let service = service("transmission", more);
        let mut facts = good(&service);
        facts.native.as_mut().unwrap().namespace = Some("/run/netns/wg".into());
        (service, facts)
    };
    for more in ["", "network = \"bridge\"", "network = \"ns:/run/netns/other\""] {
        let (service, facts) = confined(more);
        let (code, text) = only(&service, &facts);
        assert_eq!(code, Code::OutsideNamespace, "{more}");
        assert!(text.contains("`network = \"ns:/run/netns/wg\"`"), "{text}");
    }
    let (service, facts) = confined("network = \"ns:/run/netns/wg\"");
    assert_eq!(plan(&service, &facts).blockers, []);
}

/// It took over what another application used, and that one lost its data.
#[test]
fn nixflix_230_state_with_a_second_owner_is_refused() {
    let service = sonarr();
    let path = "/var/lib/nixarr/sonarr/sonarr.db";
    for (unit, pid, says) in [
        (
            Some("backup.service"),
            Some(7),
            "used by backup.service (sqlite3, PID 7), too: stop backup.service",
        ),
        (
            Some("sonarr-old.service"),
            None,
            "used by sonarr-old.service, too",
        ),
        (None, Some(7), "used by sqlite3 (PID 7), too: end the process 7"),
    ] {
        let mut facts = good(&service);
        facts.holders.push(Holder {
            unit: unit.map(str::to_owned),
            pid,
            name: "sqlite3".into(),
            path: path.into(),
        });
        let (code, text) = only(&service, &facts);
        assert_eq!(code, Code::SecondOwner);
        assert!(text.contains(says), "{text}");
    }
}

/// What is imported from one mount into another is copied without a word.
#[test]
fn sonarr_4025_two_mounts_are_told_to_copy() {
    let stored = |path: &str, for_what| Stored {
        path: path.into(),
        for_what,
        from: String::new(),
        count: 1,
        there: Some(true),
        real: None,
    };
    let two = service("sonarr", "volumes = [{ source = \"/downloads\" }]");
    let mut facts = good(&two);
    facts.stored = vec![
        stored("/fun/tv", Use::Library),
        stored("/downloads/tv", Use::Downloads),
    ];
    assert_eq!(codes(&plan(&two, &facts).warnings), [Code::LinkBecomesCopy]);
    facts.stored[1].path = "/fun/torrents".into();
    assert_eq!(plan(&two, &facts).warnings, []);
}
