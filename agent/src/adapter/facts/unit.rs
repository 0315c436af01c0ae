//! A native unit by systemd's own properties (org.freedesktop.systemd1(5)), and who it runs as.

use std::collections::HashMap;
use std::path::Path;

use dagger_suite::beside::Start;
use dagger_suite::names::{Root, path_element};
use zbus::fdo::PropertiesProxy;
use zbus::names::InterfaceName;
use zbus::{Connection, OwnedVariant, Variant};

use super::account;
use crate::adapter::disk;
use crate::adapter::systemd::NAME;
use crate::domain::plan::facts::{Native, Who};
use crate::domain::plan::native;

const UNITS: &str = "/org/freedesktop/systemd1/unit";
/// No environment file of a unit comes near it.
const FILE_MAX: usize = 64 << 10;

/// What systemd says of a unit, as far as a migration needs it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unit {
    /// Its name.
    pub name: String,
    /// Its file.
    pub fragment: String,
    /// `active`, `inactive`...
    pub active_state: String,
    /// `User=`, empty for root.
    pub user: String,
    /// `Group=`.
    pub group: String,
    /// `SupplementaryGroups=`.
    pub groups: Vec<String>,
    /// `DynamicUser=`.
    pub dynamic_user: bool,
    /// Words of `ExecStart=`, the program first.
    pub argv: Vec<String>,
    /// Words of all `ExecStartPre=`.
    pub before_start: Vec<String>,
    /// `Environment=`, only what [`native::is_wanted`].
    pub environment: Vec<(String, String)>,
    /// Paths of `EnvironmentFile=`.
    pub environment_files: Vec<String>,
    /// `NetworkNamespacePath=`, empty without one.
    pub namespace: String,
    /// Main process, 0: none.
    pub main_pid: u32,
    /// How long the last start took, in microseconds; none where it is not known.
    pub start_us: Option<u64>,
    /// How long the last stop took that somebody asked for; none where it is not known.
    pub stop_us: Option<u64>,
    /// `TimeoutStopUSec`; none: without end.
    pub stop_limit_us: Option<u64>,
}

/// Asks systemd for a unit; none when there is none of that name, or it is masked.
pub async fn ask(connection: &Connection, name: &str) -> zbus::Result<Option<Unit>> {
    let path = format!("{UNITS}/{}", path_element(name));
    let proxy = PropertiesProxy::builder(connection)
        .destination(NAME)
        .path(path.as_str())
        .build()
        .await?;
    let all = |interface: &'static str| {
        let proxy = proxy.clone();
        async move { proxy.get_all(InterfaceName::from_static_str(interface)?).await }
    };
    let unit = all("org.freedesktop.systemd1.Unit").await?;
    if text(&unit, "LoadState") != "loaded" {
        return Ok(None);
    }
    let service = all("org.freedesktop.systemd1.Service").await?;
    Ok(Some(decode(name, &unit, &service)))
}

type Properties = HashMap<String, OwnedVariant>;

fn decode(name: &str, unit: &Properties, service: &Properties) -> Unit {
    // Since the machine booted; 0: not yet.
    let between = |from, to| {
        let from = number(unit, from).filter(|from| *from > 0)?;
        number(unit, to)?.checked_sub(from).filter(|time| *time > 0)
    };
    // A process that ended by itself, and that systemd started again, has not been stopped.
    let fell = !matches!(
        service.get("NRestarts").map(|value| &**value),
        Some(Variant::U32(0))
    );
    let environment = texts(service.get("Environment").map(|value| &**value));
    Unit {
        name: name.to_owned(),
        fragment: text(unit, "FragmentPath"),
        active_state: text(unit, "ActiveState"),
        user: text(service, "User"),
        group: text(service, "Group"),
        groups: texts(service.get("SupplementaryGroups").map(|value| &**value)),
        dynamic_user: matches!(
            service.get("DynamicUser").map(|value| &**value),
            Some(Variant::Bool(true))
        ),
        argv: commands(service, "ExecStart")
            .into_iter()
            .next()
            .unwrap_or_default(),
        before_start: commands(service, "ExecStartPre").concat(),
        environment: environment.iter().filter_map(|line| assignment(line)).collect(),
        environment_files: first_fields(service, "EnvironmentFiles"),
        namespace: text(service, "NetworkNamespacePath"),
        main_pid: match service.get("MainPID").map(|value| &**value) {
            Some(Variant::U32(pid)) => *pid,
            _ => 0,
        },
        start_us: between("InactiveExitTimestampMonotonic", "ActiveEnterTimestampMonotonic"),
        stop_us: between("ActiveExitTimestampMonotonic", "InactiveEnterTimestampMonotonic").filter(|_| !fell),
        // The largest number stands for "without end".
        stop_limit_us: number(service, "TimeoutStopUSec").filter(|limit| *limit != u64::MAX),
    }
}

fn text(properties: &Properties, name: &str) -> String {
    match properties.get(name).map(|value| &**value) {
        Some(Variant::Str(text)) => text.as_str().to_owned(),
        _ => String::new(),
    }
}

fn number(properties: &Properties, name: &str) -> Option<u64> {
    match properties.get(name).map(|value| &**value) {
        Some(Variant::U64(number)) => Some(*number),
        _ => None,
    }
}

fn texts(value: Option<&Variant<'_>>) -> Vec<String> {
    let Some(Variant::Array(array)) = value else {
        return Vec::new();
    };
    let text = |value: &Variant<'_>| match value {
        Variant::Str(text) => Some(text.as_str().to_owned()),
        _ => None,
    };
    array.inner().iter().filter_map(text).collect()
}

/// The words of each command: a structure of path, words, and how it went.
fn commands(properties: &Properties, name: &str) -> Vec<Vec<String>> {
    structures(properties, name)
        .map(|fields| texts(fields.get(1)))
        .collect()
}

fn first_fields(properties: &Properties, name: &str) -> Vec<String> {
    structures(properties, name)
        .filter_map(|fields| match fields.first() {
            Some(Variant::Str(text)) => Some(text.as_str().to_owned()),
            _ => None,
        })
        .collect()
}

fn structures<'a>(properties: &'a Properties, name: &str) -> impl Iterator<Item = &'a [Variant<'a>]> {
    let array = match properties.get(name).map(|value| &**value) {
        Some(Variant::Array(array)) => array.inner(),
        _ => &[],
    };
    array.iter().filter_map(|value| match value {
        Variant::Structure(structure) => Some(structure.fields()),
        _ => None,
    })
}

/// `NAME=VALUE`, where the name is one of those that are looked at.
fn assignment(line: &str) -> Option<(String, String)> {
    let (name, value) = line.trim().split_once('=')?;
    let name = name.trim();
    native::is_wanted(name).then(|| (name.to_owned(), unquoted(value.trim()).to_owned()))
}

fn unquoted(value: &str) -> &str {
    ['"', '\'']
        .iter()
        .find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote))
        .unwrap_or(value)
}

impl From<&Start> for Unit {
    fn from(start: &Start) -> Self {
        let environment = start.environment.iter();
        Self {
            name: start.unit.clone(),
            user: start.user.clone(),
            argv: start.argv.clone(),
            environment: environment.filter_map(|line| assignment(line)).collect(),
            environment_files: start.environment_files.clone(),
            ..Self::default()
        }
    }
}

impl Unit {
    /// The unit with its numbers and its whole environment. `unknown` hears what could not be read.
    pub(super) fn native(&self, root: &Root, kind: &str, unknown: &mut Vec<String>) -> Native {
        let mut environment = self.environment.clone();
        for file in &self.environment_files {
            match disk::read(&root.join(file), FILE_MAX) {
                Ok(Some(bytes)) => {
                    let text = String::from_utf8_lossy(&bytes);
                    environment.extend(text.lines().filter_map(assignment));
                }
                // `EnvironmentFile=-FILE`, or somebody took it away.
                Ok(None) => {}
                Err(error) => unknown.push(format!(
                    "an environment file of {} was not read: {error}",
                    self.name
                )),
            }
        }
        let (who, groups, home) = self.identity(root, unknown);
        if let Some(home) = home
            && !environment.iter().any(|(name, _)| name == "HOME")
        {
            environment.insert(0, ("HOME".into(), home));
        }
        let mut found = Native {
            unit: self.name.clone(),
            active: matches!(self.active_state.as_str(), "active" | "activating" | "reloading"),
            user: self.user.clone(),
            who,
            groups,
            dynamic_user: self.dynamic_user,
            argv: self.argv.clone(),
            environment,
            namespace: Some(self.namespace.clone()).filter(|path| !path.is_empty()),
            stop_ms: self.stop_us.map(|us| us / 1000),
            stop_limit_ms: self.stop_limit_us.map(|us| us / 1000),
            ..Native::default()
        };
        found.layout = native::layout(&self.fragment, &found);
        if native::regenerates(kind, found.layout, &self.before_start) {
            found.regenerated = native::directories(kind, &found)
                .into_iter()
                .map(|(_, path)| format!("{path}/settings.json"))
                .collect();
        }
        found
    }

    /// User and group, further groups, and home: of the process that runs, else of the accounts on this machine.
    fn identity(&self, root: &Root, unknown: &mut Vec<String>) -> (Who, Vec<u32>, Option<String>) {
        let accounts = match account::Accounts::read(root) {
            Ok(accounts) => accounts,
            Err(error) => {
                unknown.push(format!("the accounts of this machine were not read: {error}"));
                account::Accounts::default()
            }
        };
        let account = accounts.user(&self.user);
        let home = account.as_ref().map(|account| account.home.clone());
        if self.main_pid != 0
            && let Some((who, groups)) = account::of_process(&root.join("/proc"), self.main_pid)
        {
            return (who, groups, home);
        }
        let Some(account) = account else {
            if !self.user.is_empty() && !self.dynamic_user {
                unknown.push(format!(
                    "the user {} of {} is not in {}: who it runs as is taken from its files",
                    self.user,
                    self.name,
                    Path::new("/etc/passwd").display()
                ));
            }
            return (Who::default(), Vec::new(), home);
        };
        let gid = accounts.group(&self.group).unwrap_or(account.who.gid);
        let mut groups = accounts.of_member(&account.name);
        groups.extend(self.groups.iter().filter_map(|group| accounts.group(group)));
        groups.retain(|group| *group != gid);
        groups.sort_unstable();
        groups.dedup();
        let who = Who {
            uid: account.who.uid,
            gid,
        };
        (who, groups, home)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::plan::facts::Layout;

    fn scratch(name: &str) -> Root {
        let dir = std::env::temp_dir().join(format!("dagger-unit-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(dir.join("etc/default")).unwrap();
        Root::new(dir.canonicalize().unwrap())
    }

    /// `jellyfin.service` of the project's own Debian package: its directories are in /etc/default/jellyfin.
    #[test]
    fn environment_files_are_read_and_secrets_left_there() {
        let root = scratch("debian");
        std::fs::write(
            root.join("/etc/default/jellyfin"),
            "# a comment\nJELLYFIN_DATA_DIR=\"/var/lib/jellyfin\"\nJELLYFIN_CONFIG_DIR='/etc/jellyfin'\nPASSWORD=hidden\n",
        )
        .unwrap();
        std::fs::write(
            root.join("/etc/passwd"),
            "jellyfin:x:105:110::/var/lib/jellyfin:/bin/false\n",
        )
        .unwrap();
        std::fs::write(
            root.join("/etc/group"),
            "jellyfin:x:110:\nrender:x:107:other,jellyfin\nvideo:x:44:other\n",
        )
        .unwrap();
        let unit = Unit {
            name: "jellyfin.service".into(),
            fragment: "/usr/lib/systemd/system/jellyfin.service".into(),
            active_state: "inactive".into(),
            user: "jellyfin".into(),
            environment_files: vec!["/etc/default/jellyfin".into(), "/etc/default/none".into()],
            argv: vec!["/usr/bin/jellyfin".into()],
            ..Unit::default()
        };
        let mut unknown = Vec::new();
        let native = unit.native(&root, "jellyfin", &mut unknown);
        assert_eq!(unknown, [""; 0]);
        assert_eq!(native.who, Who { uid: 105, gid: 110 });
        assert_eq!(native.groups, [107]);
        assert_eq!(native.layout, Layout::Debian);
        assert!(!format!("{native:?}").contains("hidden"));
        let places = native::directories("jellyfin", &native);
        assert_eq!(places[0], ("data".into(), "/var/lib/jellyfin".into()));
        assert_eq!(places[1], ("config".into(), "/etc/jellyfin".into()));
    }

    #[test]
    fn a_start_and_a_stop_are_as_long_as_systemd_saw_them() {
        let value = |number: u64| OwnedVariant::try_from(Variant::U64(number)).unwrap();
        let times = |exit, active, left, dead, restarts: u32| {
            let unit = [
                ("InactiveExitTimestampMonotonic", exit),
                ("ActiveEnterTimestampMonotonic", active),
                ("ActiveExitTimestampMonotonic", left),
                ("InactiveEnterTimestampMonotonic", dead),
            ];
            let unit = unit.map(|(name, at)| (name.to_owned(), value(at))).into();
            let restarts = OwnedVariant::try_from(Variant::U32(restarts)).unwrap();
            let unit = decode("x.service", &unit, &[("NRestarts".to_owned(), restarts)].into());
            (unit.start_us, unit.stop_us)
        };
        assert_eq!(times(0, 0, 0, 0, 0), (None, None), "it has never run");
        assert_eq!(times(100, 700, 0, 0, 0), (Some(600), None), "never stopped");
        assert_eq!(
            times(1000, 1500, 500, 900, 0),
            (Some(500), Some(400)),
            "stopped, and started again"
        );
        assert_eq!(times(1000, 700, 750, 900, 0), (None, Some(150)), "it is starting");
        assert_eq!(times(100, 700, 950, 0, 0), (Some(600), None), "it is stopping");
        assert_eq!(times(1000, 1500, 500, 900, 1), (Some(500), None), "it fell");
    }

    #[test]
    fn nixos_writes_transmissions_settings_anew() {
        let root = scratch("nixos");
        let unit = Unit {
            name: "transmission.service".into(),
            fragment: "/etc/systemd/system/transmission.service".into(),
            argv: [
                "/nix/store/x/bin/transmission-daemon",
                "-f",
                "-g",
                "/data/.state/nixarr/transmission/.config/transmission-daemon",
            ]
            .map(str::to_owned)
            .to_vec(),
            before_start: vec!["/nix/store/y-transmission-prestart".into()],
            ..Unit::default()
        };
        let native = unit.native(&root, "transmission", &mut Vec::new());
        assert_eq!(native.layout, Layout::Nixarr);
        assert_eq!(
            native.regenerated,
            ["/data/.state/nixarr/transmission/.config/transmission-daemon/settings.json"]
        );
    }
}
