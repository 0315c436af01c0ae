//! What is told and does not stand in the way.

use super::*;

fn told(service: &Service, facts: &Facts) -> Vec<(Code, String)> {
    let plan = plan(service, facts);
    assert_eq!(plan.blockers, []);
    plan.warnings
        .iter()
        .map(|finding| (finding.code, finding.to_string()))
        .collect()
}

fn one(service: &Service, facts: &Facts, code: Code, says: &str) {
    let found = told(service, facts);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0].0, code);
    assert!(found[0].1.contains(says), "{says:?} is not in {:?}", found[0].1);
}

fn native(facts: &mut Facts) -> &mut Native {
    facts.native.as_mut().unwrap()
}

#[test]
fn a_file_that_the_unit_writes_anew_at_each_start() {
    let mut service = transmission();
    service.accept_regenerated = true;
    let mut facts = good(&service);
    let file = "/var/lib/nixarr/transmission/.config/transmission-daemon/settings.json";
    native(&mut facts).regenerated.push(file.into());
    one(&service, &facts, Code::Regenerated, "anew at each start");
}

#[test]
fn a_user_that_changes() {
    let service = service("prowlarr", "");
    let mut facts = good(&service);
    native(&mut facts).dynamic_user = true;
    one(&service, &facts, Code::DynamicUser, "(DynamicUser=)");
}

#[test]
fn groups_that_would_be_lost() {
    let service = sonarr();
    let mut facts = good(&service);
    native(&mut facts).groups = vec![169, 44];
    one(&service, &facts, Code::LostGroups, "write `groups = [44]`");
    let handed = self::service("sonarr", "groups = [44]");
    assert_eq!(told(&handed, &facts), []);
}

#[test]
fn another_port() {
    let service = sonarr();
    let mut facts = good(&service);
    native(&mut facts)
        .environment
        .push(("SONARR__SERVER__PORT".into(), "8990".into()));
    one(
        &service,
        &facts,
        Code::OtherPort,
        "port 8990 now, and on 8989 then: write `port = 8990`",
    );
}

#[test]
fn a_base_that_the_configuration_does_not_know() {
    let service = bazarr();
    let mut facts = good(&service);
    facts.settings.push(Setting {
        file: "/x/config.yaml".into(),
        format: Format::Yaml,
        key: vec!["general".into(), "base_url".into()],
        value: Some("/subs/".into()),
    });
    one(&service, &facts, Code::OtherBase, "write `url-base = \"/subs\"`");
    let knows = self::service("bazarr", "url-base = \"/subs\"");
    assert_eq!(told(&knows, &facts), []);
}

#[test]
fn what_lies_in_the_state_and_does_not_belong_there() {
    let service = sonarr();
    for (code, says, put) in [
        (
            Code::SharedFiles,
            "/s/a and 1 more: have a further name outside",
            (|place| {
                place.shared = ["/s/a", "/s/b"]
                    .map(|path| Shared {
                        owner: place.owner,
                        path: path.into(),
                    })
                    .into();
            }) as fn(&mut Place),
        ),
        (Code::ForeignMount, "/s/m: is mounted below", |place| {
            place.mounts = vec!["/s/m".into()];
        }),
        (Code::SpecialFiles, "/s/p: no application keeps", |place| {
            place.special = vec!["/s/p".into()];
        }),
        (Code::Pending, "sonarr.restore: waits for", |place| {
            place.pending = vec!["/s/sonarr.restore".into()];
        }),
        (Code::MixedOwners, "99 of 274:169, 1 of 0:0", |place| {
            place.owners = vec![(place.owner, 99), (Who::default(), 1)];
        }),
    ] {
        let mut facts = good(&service);
        put(&mut facts.places[0]);
        one(&service, &facts, code, says);
    }
}

#[test]
fn what_nobody_can_tell() {
    let service = sonarr();
    let mut facts = good(&service);
    facts.databases[0].integrity = Integrity::Unknown("it is written to all the time".into());
    one(&service, &facts, Code::Unchecked, "it is written to all the time");
    let mut facts = good(&service);
    facts.databases[0].schema = Some(Schema::Number(220));
    facts.image = Some(Image {
        version: "4.0.20.1".into(),
        digest: String::new(),
    });
    one(&service, &facts, Code::SchemaUnknown, "knows schema 220");
    let mut facts = good(&service);
    facts
        .unknown
        .push("open files of others were not looked at".into());
    one(&service, &facts, Code::Unknown, "open files");
}

#[test]
fn a_gpu_that_is_not_handed_in() {
    let service = jellyfin();
    let mut facts = good(&service);
    facts.devices = vec!["/dev/dri/renderD128".into()];
    one(
        &service,
        &facts,
        Code::LostDevice,
        "write `devices = [\"/dev/dri\"]`",
    );
    let handed = self::service("jellyfin", "devices = [\"/dev/dri\"]");
    assert_eq!(told(&handed, &facts), []);
}

#[test]
fn a_bridge_needs_all_addresses_and_says_so() {
    let service = service("sonarr", "network = \"bridge\"");
    let mut facts = good(&service);
    facts.settings.push(Setting {
        file: "/s/config.xml".into(),
        format: Format::Xml,
        key: vec!["BindAddress".into()],
        value: Some("127.0.0.1".into()),
    });
    one(
        &service,
        &facts,
        Code::WiderAddress,
        "it listens on 127.0.0.1 only now",
    );
    let plan = plan(&service, &facts);
    let step = plan.steps.iter().find(|step| step.kind == Kind::Adjust).unwrap();
    assert_eq!(step.does, "config.xml: BindAddress from 127.0.0.1 to *");
}
