//! Where a native application listens, by files alone: it need not run, and nobody is asked.

use dagger_suite::beside::Start;
use dagger_suite::names::Root;

use super::told;
use super::unit::Unit;
use crate::domain::plan::facts::Place;
use crate::domain::plan::native;

/// The port that an application of this kind listens on when it is started so; none where neither its unit nor its settings
/// say, or they may not be read.
pub fn port(root: &Root, kind: &str, start: &Start) -> Option<u16> {
    // What could not be read says no port; that is all that matters here.
    let mut unknown = Vec::new();
    let native = Unit::from(start).native(root, kind, &mut unknown);
    let place = |(role, path): (String, String)| {
        let real = std::fs::canonicalize(root.join(&path)).ok()?;
        Some(Place {
            role,
            path: root.inside(&real).to_str()?.to_owned(),
            there: true,
            owner: native.who,
            ..Place::default()
        })
    };
    let places: Vec<Place> = native::directories(kind, &native)
        .into_iter()
        .filter_map(place)
        .collect();
    let (settings, _) = told::read(root, kind, &places, &mut unknown);
    native::port(kind, &native, &settings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn every_familys_own_settings_say_where_it_listens() {
        let dir = std::env::temp_dir().join(format!("dagger-still-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
        let root = Root::new(dir.canonicalize().unwrap());
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("/etc/passwd", "tr:x:0:0::/srv/tr:/bin/false\n");
        write(
            "/srv/s/config.xml",
            "<Config><Port>8990</Port><ApiKey>k</ApiKey></Config>",
        );
        write(
            "/srv/tr/.config/transmission-daemon/settings.json",
            r#"{"rpc-port": 9092, "rpc-password": "p"}"#,
        );
        write("/srv/b/config/config.yaml", "general:\n  port: 6768\n");
        write("/etc/default/jf", "JELLYFIN_CONFIG_DIR=/srv/jf\nKEY=secret\n");
        write(
            "/srv/jf/network.xml",
            "<NetworkConfiguration><InternalHttpPort>8097</InternalHttpPort></NetworkConfiguration>",
        );
        let said = |kind: &str, argv: &str, environment: &[&str], user: &str| {
            let start = Start {
                unit: format!("{kind}.service"),
                user: user.to_owned(),
                argv: argv.split(' ').map(str::to_owned).collect(),
                environment: environment.iter().map(|line| (*line).to_owned()).collect(),
                environment_files: vec!["/etc/default/jf".into()],
            };
            port(&root, kind, &start)
        };
        assert_eq!(said("sonarr", "/opt/S -data=/srv/s", &[], ""), Some(8990));
        assert_eq!(
            said(
                "sonarr",
                "/opt/S -data=/srv/s",
                &["SONARR__SERVER__PORT=8991"],
                ""
            ),
            Some(8991)
        );
        assert_eq!(said("transmission", "/bin/td -f", &[], "tr"), Some(9092));
        assert_eq!(said("transmission", "/bin/td -p 9093", &[], "tr"), Some(9093));
        assert_eq!(said("bazarr", "/bin/b --config /srv/b", &[], ""), Some(6768));
        assert_eq!(said("jellyfin", "/bin/jf", &[], ""), Some(8097));
        assert_eq!(said("radarr", "/opt/R -data=/srv/none", &[], ""), None);
        assert_eq!(said("plex", "/opt/P", &[], ""), None);
        fs::remove_dir_all(dir).unwrap();
    }
}
