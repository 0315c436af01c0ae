//! What an application's own settings say of places, addresses and ports. Nothing else is taken out of them: keys and
//! passwords stand in the same files, and what is read of those is dropped with the text.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use dagger_suite::names::Root;

use super::tree::text;
use crate::adapter::disk;
use crate::adapter::settings;
use crate::domain::plan::facts::{Format, Place, Setting, Stored, Use, Who};
use crate::domain::plan::native::{Family, family};

/// One file: in which directory, its name there, how it is written, and the keys that are looked at.
type Row = (&'static str, &'static str, Format, &'static [&'static str]);

const SERVARR: &[Row] = &[(
    "config",
    "config.xml",
    Format::Xml,
    &["Port", "BindAddress", "UrlBase"],
)];
const BAZARR: &[Row] = &[(
    "config",
    "config/config.yaml",
    Format::Yaml,
    &["general.ip", "general.port", "general.base_url", "backup.folder"],
)];
/// 4.1 and later know the names with underscores, too (libtransmission/api-compat.cc).
const TRANSMISSION: &[Row] = &[(
    "config",
    "settings.json",
    Format::Json,
    &["rpc-port", "rpc-bind-address", "rpc_port", "rpc_bind_address"],
)];
const JELLYFIN: &[Row] = &[
    (
        "config",
        "network.xml",
        Format::Xml,
        &["InternalHttpPort", "BaseUrl"],
    ),
    (
        "config",
        "system.xml",
        Format::Xml,
        &["CachePath", "MetadataPath", "PreviousVersionStr"],
    ),
    ("config", "encoding.xml", Format::Xml, &["TranscodingTempPath"]),
];
/// Transmission's paths: the key, what it is for, and the key that turns it on.
const PATHS: &[(&str, Use, Option<&str>)] = &[
    ("download-dir", Use::Downloads, None),
    ("incomplete-dir", Use::Downloads, Some("incomplete-dir-enabled")),
    ("watch-dir", Use::Watch, Some("watch-dir-enabled")),
    (
        "script-torrent-done-filename",
        Use::Script,
        Some("script-torrent-done-enabled"),
    ),
];

fn rows(kind: &str) -> &'static [Row] {
    match family(kind) {
        Family::Servarr(_) => SERVARR,
        Family::Bazarr => BAZARR,
        Family::Transmission => TRANSMISSION,
        Family::Jellyfin => JELLYFIN,
        Family::Other => &[],
    }
}

/// Reads them all: settings, and the paths that stand in settings. `unknown` hears what could not be read.
pub fn read(
    root: &Root,
    kind: &str,
    places: &[Place],
    unknown: &mut Vec<String>,
) -> (Vec<Setting>, Vec<Stored>) {
    let (mut found, mut stored) = (Vec::new(), Vec::new());
    for (role, name, format, keys) in rows(kind) {
        let Some(place) = places.iter().find(|place| place.role == *role && place.there) else {
            continue;
        };
        let path = Path::new(&place.path).join(name);
        match file(root, &path, place.owner) {
            Ok(Some((real, content))) => {
                let file = text(&root.inside(&real));
                let mut value = |key: &str| one(*format, &content, key, &file, unknown);
                let settings = keys.iter().filter_map(|key| {
                    Some(Setting {
                        file: file.clone(),
                        format: *format,
                        key: key.split('.').map(str::to_owned).collect(),
                        value: Some(value(key)?),
                    })
                });
                found.extend(settings);
                if family(kind) == Family::Transmission {
                    stored.extend(paths(&content, &file, unknown));
                }
            }
            // An application that never started has none yet.
            Ok(None) => {}
            Err(error) => unknown.push(error),
        }
    }
    for setting in &found {
        let key = setting.key.last().map(String::as_str);
        let for_what = match key {
            Some("CachePath" | "TranscodingTempPath") => Use::Scratch,
            Some("MetadataPath") => Use::Library,
            Some("folder") => Use::Backup,
            _ => continue,
        };
        let path = setting.value.clone().filter(|path| path.starts_with('/'));
        stored.extend(path.map(|path| said(path, for_what, setting.name())));
    }
    (found, stored)
}

fn paths(content: &str, file: &str, unknown: &mut Vec<String>) -> Vec<Stored> {
    let name = file.rsplit('/').next().unwrap_or(file);
    let mut value = |key: &str| {
        let newer = key.replace('-', "_");
        one(Format::Json, content, key, file, unknown)
            .or_else(|| one(Format::Json, content, &newer, file, unknown))
    };
    let mut found = Vec::new();
    for (key, for_what, switch) in PATHS {
        let on = switch.is_none_or(|switch| value(switch).as_deref() == Some("true"));
        if let Some(path) = value(key).filter(|path| on && path.starts_with('/')) {
            found.push(said(path, *for_what, format!("{name}: {key}")));
        }
    }
    found
}

pub(super) fn said(path: String, for_what: Use, from: String) -> Stored {
    Stored {
        path,
        for_what,
        from,
        count: 1,
        there: None,
        real: None,
    }
}

fn one(format: Format, content: &str, key: &str, file: &str, unknown: &mut Vec<String>) -> Option<String> {
    let keys: Vec<_> = key.split('.').map(str::to_owned).collect();
    match settings::find(format, content, &keys) {
        Ok(found) => Some(found?.value),
        Err(reason) => {
            let sentence = format!("{file} was not read: {reason}");
            if !unknown.contains(&sentence) {
                unknown.push(sentence);
            }
            None
        }
    }
}

/// A settings file, and where it really is.
///
/// Debian's package links Transmission's to /etc. A link is followed once, to a file of the same owner: whoever could have
/// planted it may write that file anyway.
fn file(root: &Root, path: &Path, owner: Who) -> Result<Option<(PathBuf, String)>, String> {
    let at = root.join(path);
    let plain = settings::read(&at).map(|text| text.map(|text| (at.clone(), text)));
    let error = match plain {
        Err(disk::DiskError::Io { source, .. }) if source.raw_os_error() == Some(LOOP) => None,
        Ok(found) => return Ok(found),
        Err(error) => Some(error),
    };
    if let Some(error) = error {
        return Err(error.to_string());
    }
    let refused = |why: &str| {
        format!(
            "{} is a symbolic link and was not followed: {why}",
            path.display()
        )
    };
    let real = std::fs::canonicalize(&at).map_err(|error| refused(&error.to_string()))?;
    let opened = disk::open_file(&real).map_err(|error| refused(&error.to_string()))?;
    let Some(opened) = opened else { return Ok(None) };
    let data = opened.metadata().map_err(|error| refused(&error.to_string()))?;
    if data.uid() != owner.uid {
        return Err(refused("what it leads to belongs to somebody else"));
    }
    let text = settings::read(&real).map_err(|error| error.to_string())?;
    Ok(text.map(|text| (real, text)))
}

/// `ELOOP`, which O_NOFOLLOW gives for a link (open(2)).
const LOOP: i32 = rustix::io::Errno::LOOP.raw_os_error();

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn scratch(name: &str) -> (Root, Place) {
        let dir = std::env::temp_dir().join(format!("dagger-told-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(dir.join("s/config")).unwrap();
        std::fs::create_dir_all(dir.join("etc/transmission-daemon")).unwrap();
        let owner = std::fs::metadata(&dir).unwrap();
        let place = Place {
            role: "config".into(),
            path: "/s".into(),
            there: true,
            owner: Who {
                uid: owner.uid(),
                gid: owner.gid(),
            },
            ..Place::default()
        };
        (Root::new(dir.canonicalize().unwrap()), place)
    }

    fn said(kind: &str, root: &Root, place: Place) -> (Vec<String>, Vec<String>, Vec<String>) {
        let mut unknown = Vec::new();
        let (settings, stored) = read(root, kind, &[place], &mut unknown);
        let settings = settings
            .iter()
            .map(|it| format!("{}={}", it.name(), it.value.as_deref().unwrap_or("-")))
            .collect();
        let stored = stored
            .iter()
            .map(|it| format!("{} {}", it.from, it.path))
            .collect();
        (settings, stored, unknown)
    }

    /// The settings of Debian's own package, through its link.
    #[test]
    fn debians_settings_are_found_behind_their_link() {
        let (root, place) = scratch("debian");
        let real = "/etc/transmission-daemon/settings.json";
        std::fs::write(
            root.join(real),
            r#"{"download-dir": "/var/lib/transmission-daemon/downloads", "incomplete-dir": "/x", "incomplete-dir-enabled": false,
                "rpc-bind-address": "0.0.0.0", "rpc-port": 9091, "rpc-password": "{hidden", "watch-dir": "/w", "watch-dir-enabled": true}"#,
        )
        .unwrap();
        symlink(root.join(real), root.join("/s/settings.json")).unwrap();
        let mut unknown = Vec::new();
        let (settings, stored) = read(&root, "transmission", std::slice::from_ref(&place), &mut unknown);
        assert_eq!(unknown, [""; 0]);
        assert!(
            settings.iter().all(|setting| setting.file == real),
            "the real file is named"
        );
        assert!(!format!("{settings:?}{stored:?}").contains("hidden"));
        let (settings, stored, _) = said("transmission", &root, place);
        assert_eq!(
            settings,
            [
                "settings.json: rpc-port=9091",
                "settings.json: rpc-bind-address=0.0.0.0"
            ]
        );
        assert_eq!(
            stored,
            [
                "settings.json: download-dir /var/lib/transmission-daemon/downloads",
                "settings.json: watch-dir /w"
            ]
        );
    }

    #[test]
    fn a_link_to_what_belongs_to_somebody_else_is_not_followed() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let (root, place) = scratch("foreign");
        std::fs::write(root.join("/etc/secret"), r#"{"rpc-bind-address": "hidden"}"#).unwrap();
        std::os::unix::fs::chown(root.join("/etc/secret"), Some(12345), None).unwrap();
        symlink(root.join("/etc/secret"), root.join("/s/settings.json")).unwrap();
        let (settings, _, unknown) = said("transmission", &root, place);
        assert_eq!(settings, [""; 0]);
        assert!(unknown[0].contains("belongs to somebody else"), "{unknown:?}");
    }

    #[test]
    fn bazarr_and_servarr_say_where_they_listen() {
        let (root, place) = scratch("files");
        std::fs::write(
            root.join("/s/config/config.yaml"),
            "auth:\n  apikey: hidden\nbackup:\n  folder: /s/backup\ngeneral:\n  ip: '*'\n  port: 6767\n  base_url: ''\n",
        )
        .unwrap();
        std::fs::write(
            root.join("/s/config.xml"),
            "<Config>\n  <BindAddress>*</BindAddress>\n  <ApiKey>hidden</ApiKey>\n  <UrlBase></UrlBase>\n</Config>\n",
        )
        .unwrap();
        let (settings, stored, unknown) = said("bazarr", &root, place.clone());
        assert_eq!(
            settings,
            [
                "config.yaml: general.ip=*",
                "config.yaml: general.port=6767",
                "config.yaml: general.base_url=",
                "config.yaml: backup.folder=/s/backup"
            ]
        );
        assert_eq!(stored, ["config.yaml: backup.folder /s/backup"]);
        assert_eq!(unknown, [""; 0]);
        let (settings, _, _) = said("sonarr", &root, place.clone());
        assert_eq!(settings, ["config.xml: BindAddress=*"]);
        std::fs::write(root.join("/s/config.xml"), "<Config><ApiKey>hidden").unwrap();
        let (_, _, unknown) = said("sonarr", &root, place);
        assert_eq!(unknown, ["/s/config.xml was not read: it is not XML at line 1"]);
    }
}
