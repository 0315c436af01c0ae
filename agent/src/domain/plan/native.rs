//! Where a native application keeps its state, and where it listens, by how its unit starts it.
//!
//! The rules are the applications' own: AppFolderInfo.cs (Servarr), get_args.py (Bazarr), transmission-daemon(1),
//! StartupHelpers.cs (Jellyfin).

use super::facts::{Layout, Native, Setting};

/// Variables of a native unit that are looked at: where things are, and where it listens. Nothing else is taken out of an
/// environment, because keys may stand there.
pub const VARIABLES: [&str; 12] = [
    "HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_CACHE_HOME",
    "TRANSMISSION_HOME",
    "JELLYFIN_DATA_DIR",
    "JELLYFIN_CONFIG_DIR",
    "JELLYFIN_CACHE_DIR",
    "JELLYFIN_LOG_DIR",
    "CONFIG_DIRECTORY",
    "CACHE_DIRECTORY",
    "STATE_DIRECTORY",
];
/// Ends of further ones: `SONARR__SERVER__PORT`.
pub const VARIABLE_ENDS: [&str; 3] = ["__SERVER__PORT", "__SERVER__BINDADDRESS", "__SERVER__URLBASE"];

/// Whether a variable is one of those.
pub fn is_wanted(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    VARIABLES.contains(&name) || VARIABLE_ENDS.iter().any(|end| upper.ends_with(end))
}

/// The family that a catalogue entry belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Sonarr and its kin; the name of its directory below the user's configuration.
    Servarr(&'static str),
    /// Bazarr.
    Bazarr,
    /// Transmission.
    Transmission,
    /// Jellyfin.
    Jellyfin,
    /// Any other: only the configuration says where its state is.
    Other,
}

/// The family of a catalogue entry.
pub fn family(kind: &str) -> Family {
    match kind {
        // Its first name; AppFolderInfo.cs looks there first.
        "sonarr" => Family::Servarr("NzbDrone"),
        "radarr" => Family::Servarr("Radarr"),
        "prowlarr" => Family::Servarr("Prowlarr"),
        "lidarr" => Family::Servarr("Lidarr"),
        "readarr" => Family::Servarr("Readarr"),
        "whisparr" => Family::Servarr("Whisparr"),
        "bazarr" => Family::Bazarr,
        "transmission" => Family::Transmission,
        "jellyfin" => Family::Jellyfin,
        _ => Family::Other,
    }
}

/// The directories of the native state with their roles, as the unit names them: links are not resolved.
///
/// Empty where nothing is known of the application; one that cannot be told is left out.
pub fn directories(kind: &str, native: &Native) -> Vec<(String, String)> {
    let start = Start(native);
    let one = |path: Option<String>| path.map(|path| ("config", path)).into_iter().collect();
    let found: Vec<(&str, String)> = match family(kind) {
        Family::Servarr(name) => one(start
            .word(&["-data", "--data", "/data"])
            .or_else(|| Some(format!("{}/{name}", start.home("XDG_CONFIG_HOME", ".config")?)))),
        Family::Bazarr => one(start.word(&["--config", "-c"]).or_else(|| {
            let script = native.argv.iter().find(|word| word.ends_with("/bazarr.py"))?;
            Some(format!("{}/data", script.strip_suffix("/bazarr.py")?))
        })),
        Family::Transmission => one(start
            .word(&["--config-dir", "-g"])
            .or_else(|| start.variable("TRANSMISSION_HOME"))
            .or_else(|| {
                Some(format!(
                    "{}/transmission-daemon",
                    start.home("XDG_CONFIG_HOME", ".config")?
                ))
            })),
        Family::Jellyfin => jellyfin(&start),
        Family::Other => Vec::new(),
    };
    found
        .into_iter()
        .filter(|(_, path)| path.starts_with('/'))
        .map(|(role, path)| (role.to_owned(), path.trim_end_matches('/').to_owned()))
        .collect()
}

/// Flags win over the environment, and that over the user's own directories.
fn jellyfin(start: &Start<'_>) -> Vec<(&'static str, String)> {
    let told = start
        .word(&["--datadir", "-d"])
        .or_else(|| start.variable("JELLYFIN_DATA_DIR"));
    let by_flag = start.word(&["--datadir", "-d"]).is_some();
    let home = |variable, below| Some(format!("{}/jellyfin", start.home(variable, below)?));
    let data = told.or_else(|| home("XDG_DATA_HOME", ".local/share"));
    let beside = |name: &str| data.as_ref().map(|data| format!("{data}/{name}"));
    let config = start
        .word(&["--configdir", "-c"])
        .or_else(|| start.variable("JELLYFIN_CONFIG_DIR"))
        .or_else(|| {
            if by_flag {
                beside("config")
            } else {
                home("XDG_CONFIG_HOME", ".config")
            }
        });
    let cache = start
        .word(&["--cachedir", "-C"])
        .or_else(|| start.variable("JELLYFIN_CACHE_DIR"))
        .or_else(|| {
            if by_flag {
                beside("cache")
            } else {
                home("XDG_CACHE_HOME", ".cache")
            }
        });
    let log = start
        .word(&["--logdir", "-l"])
        .or_else(|| start.variable("JELLYFIN_LOG_DIR"))
        .or_else(|| beside("log"));
    [("data", data), ("config", config), ("cache", cache), ("log", log)]
        .into_iter()
        .filter_map(|(role, path)| Some((role, path?)))
        .collect()
}

/// How the unit starts it.
struct Start<'a>(&'a Native);

impl Start<'_> {
    /// What stands behind one of these flags: in the same word after `=`, or in the next one.
    fn word(&self, flags: &[&str]) -> Option<String> {
        let mut words = self.0.argv.iter().skip(1);
        while let Some(word) = words.next() {
            for flag in flags {
                match word.strip_prefix(flag) {
                    Some("") => return words.next().cloned(),
                    Some(rest) if rest.starts_with('=') => return rest.strip_prefix('=').map(str::to_owned),
                    _ => {}
                }
            }
        }
        None
    }

    fn variable(&self, name: &str) -> Option<String> {
        let variables = self.0.environment.iter();
        variables
            .rev()
            .find(|(found, value)| found == name && !value.is_empty())
            .map(|(_, value)| value.clone())
    }

    /// A directory of the XDG base directory specification.
    fn home(&self, variable: &str, below: &str) -> Option<String> {
        self.variable(variable)
            .or_else(|| Some(format!("{}/{below}", self.variable("HOME")?)))
    }
}

/// The port that it listens on natively: the command line's, the environment's, the file's; none where none of them says.
pub fn port(kind: &str, native: &Native, settings: &[Setting]) -> Option<u16> {
    let start = Start(native);
    let told = match family(kind) {
        Family::Servarr(_) => native
            .environment
            .iter()
            .rev()
            .find(|(name, _)| name.to_ascii_uppercase().ends_with("__SERVER__PORT"))
            .map(|(_, value)| value.clone()),
        Family::Bazarr => start.word(&["--port", "-p"]),
        Family::Transmission => start.word(&["--port", "-p", "--rpc-port"]),
        Family::Jellyfin | Family::Other => None,
    };
    let key = match family(kind) {
        Family::Servarr(_) => "Port",
        Family::Bazarr => "port",
        Family::Transmission => "rpc-port",
        Family::Jellyfin => "InternalHttpPort",
        Family::Other => return None,
    };
    let file = || {
        let setting = settings
            .iter()
            .find(|setting| setting.key.last().is_some_and(|last| last == key))?;
        setting.value.clone()
    };
    told.or_else(file)?.trim().parse().ok()
}

/// Who installed it: by where its unit file lies and what it runs.
pub fn layout(fragment: &str, native: &Native) -> Layout {
    let program = native.argv.first().map_or("", String::as_str);
    let nix = fragment.starts_with("/nix/store/") || program.starts_with("/nix/store/");
    let nixarr = native.argv.iter().any(|word| word.contains("/nixarr/"))
        || native
            .environment
            .iter()
            .any(|(_, value)| value.contains("/nixarr/"));
    match (nix, nixarr) {
        (true, true) => Layout::Nixarr,
        (true, false) => Layout::Nixos,
        _ if program.starts_with("/opt/") => Layout::Upstream,
        _ if fragment.starts_with("/usr/lib/systemd/") || fragment.starts_with("/lib/systemd/") => {
            Layout::Debian
        }
        _ => Layout::Other,
    }
}

/// Whether the unit writes the application's settings anew at each start: NixOS does so for Transmission
/// (nixos/modules/services/torrent/transmission.nix, `transmission-prestart`).
pub fn regenerates(kind: &str, layout: Layout, before_start: &[String]) -> bool {
    family(kind) == Family::Transmission
        && matches!(layout, Layout::Nixarr | Layout::Nixos)
        && before_start.iter().any(|word| word.contains("prestart"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn native(argv: &str, environment: &[(&str, &str)]) -> Native {
        Native {
            argv: argv.split(' ').map(str::to_owned).collect(),
            environment: environment
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            ..Native::default()
        }
    }

    fn places(kind: &str, argv: &str, environment: &[(&str, &str)]) -> String {
        directories(kind, &native(argv, environment))
            .iter()
            .map(|(role, path)| format!("{role}={path}"))
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// The layouts of apps.md: nixarr, NixOS, Debian, the upstream installers.
    #[test]
    fn every_known_layout_is_found() {
        for (kind, argv, environment, expected) in [
            (
                "sonarr",
                "/nix/store/x/bin/Sonarr -nobrowser -data=/data/.state/nixarr/sonarr",
                &[("SONARR__SERVER__PORT", "8989")][..],
                "config=/data/.state/nixarr/sonarr",
            ),
            (
                "sonarr",
                "/nix/store/x/bin/Sonarr -nobrowser -data=/var/lib/sonarr/.config/NzbDrone",
                &[],
                "config=/var/lib/sonarr/.config/NzbDrone",
            ),
            (
                "sonarr",
                "/opt/Sonarr/Sonarr -nobrowser -data=/var/lib/sonarr/",
                &[],
                "config=/var/lib/sonarr",
            ),
            (
                "radarr",
                "/opt/Radarr/Radarr",
                &[("HOME", "/home/r")],
                "config=/home/r/.config/Radarr",
            ),
            ("prowlarr", "/opt/P/P -data /srv/p", &[], "config=/srv/p"),
            (
                "bazarr",
                "/nix/store/x/bin/bazarr --config /data/.state/nixarr/bazarr --port 6767 --no-update True",
                &[],
                "config=/data/.state/nixarr/bazarr",
            ),
            (
                "bazarr",
                "/usr/bin/python3 /opt/bazarr/bazarr.py",
                &[],
                "config=/opt/bazarr/data",
            ),
            (
                "transmission",
                "/nix/store/x/bin/transmission-daemon -f -g /data/.state/nixarr/transmission/.config/transmission-daemon",
                &[],
                "config=/data/.state/nixarr/transmission/.config/transmission-daemon",
            ),
            (
                "transmission",
                "/usr/bin/transmission-daemon -f --log-error",
                &[("HOME", "/var/lib/transmission-daemon")],
                "config=/var/lib/transmission-daemon/.config/transmission-daemon",
            ),
            (
                "jellyfin",
                "/nix/store/x/bin/jellyfin --datadir /var/lib/jellyfin --configdir /var/lib/jellyfin/config --cachedir /var/cache/jellyfin --logdir /var/lib/jellyfin/log",
                &[],
                "data=/var/lib/jellyfin config=/var/lib/jellyfin/config cache=/var/cache/jellyfin log=/var/lib/jellyfin/log",
            ),
            (
                "jellyfin",
                "/usr/bin/jellyfin --webdir=/usr/share/jellyfin/web",
                &[
                    ("JELLYFIN_DATA_DIR", "/var/lib/jellyfin"),
                    ("JELLYFIN_CONFIG_DIR", "/etc/jellyfin"),
                    ("JELLYFIN_LOG_DIR", "/var/log/jellyfin"),
                    ("JELLYFIN_CACHE_DIR", "/var/cache/jellyfin"),
                ],
                "data=/var/lib/jellyfin config=/etc/jellyfin cache=/var/cache/jellyfin log=/var/log/jellyfin",
            ),
            (
                "jellyfin",
                "/usr/bin/jellyfin --datadir=/srv/jf",
                &[],
                "data=/srv/jf config=/srv/jf/config cache=/srv/jf/cache log=/srv/jf/log",
            ),
            (
                "plex",
                "/usr/lib/plexmediaserver/Plex",
                &[("HOME", "/var/lib/plex")],
                "",
            ),
        ] {
            assert_eq!(places(kind, argv, environment), expected, "{argv}");
        }
    }

    #[test]
    fn a_port_comes_from_the_unit_before_the_file() {
        let file = [Setting {
            file: "/x/config.xml".into(),
            format: crate::domain::plan::facts::Format::Xml,
            key: vec!["Port".into()],
            value: Some("9000".into()),
        }];
        let told = native("/x", &[("SONARR__SERVER__PORT", "8990")]);
        assert_eq!(port("sonarr", &told, &file), Some(8990));
        assert_eq!(port("sonarr", &native("/x", &[]), &file), Some(9000));
        assert_eq!(port("sonarr", &native("/x", &[]), &[]), None);
        assert_eq!(port("bazarr", &native("/x --port 6768", &[]), &[]), Some(6768));
    }

    #[test]
    fn only_harmless_variables_are_taken() {
        for name in ["HOME", "SONARR__SERVER__PORT", "Radarr__Server__UrlBase"] {
            assert!(is_wanted(name), "{name}");
        }
        for name in ["SONARR__AUTH__APIKEY", "SONARR__POSTGRES__PASSWORD", "PASS"] {
            assert!(!is_wanted(name), "{name}");
        }
    }
}
