//! From the path of a cgroup to the unit that it belongs to.

use std::fmt;

use super::container::{self, Container};

/// A unit, as its cgroup's path names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Name with suffix: `transmission-daemon.service`.
    pub name: String,
    /// For a unit of a user's own manager: that user's number.
    pub user: Option<u32>,
    /// For a unit of a container engine: the container, as far as the unit tells.
    pub container: Option<Container>,
}

impl Unit {
    /// A scope holds processes that somebody else started: a login, a container engine. There is nothing to disable.
    pub fn is_scope(&self) -> bool {
        is_unit(&self.name, ".scope")
    }

    /// A socket unit.
    pub fn is_socket(&self) -> bool {
        is_unit(&self.name, ".socket")
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match self.user {
            Some(user) => write!(f, " of user {user}"),
            None => Ok(()),
        }
    }
}

/// The unit that a cgroup path lies in, if any: the first part that is no slice (systemd's own rule), and below a user's
/// manager once more.
pub fn unit_of(path: &str) -> Option<Unit> {
    let mut parts = path.split('/').filter(|part| !part.is_empty()).map(unescape);
    let name = parts
        .find(|part| !is_unit(part, ".slice"))
        .filter(|part| is_any_unit(part))?;
    let user = name
        .strip_prefix("user@")
        .and_then(|rest| rest.strip_suffix(".service"))
        .and_then(|number| number.parse::<u32>().ok());
    if let Some(user) = user
        && let Some(inner) = parts
            .find(|part| !is_unit(part, ".slice"))
            .filter(|part| is_any_unit(part))
    {
        return Some(unit(inner, Some(user)));
    }
    Some(unit(name, None))
}

fn unit(name: &str, user: Option<u32>) -> Unit {
    Unit {
        name: name.to_owned(),
        user,
        container: container::of_unit(name),
    }
}

/// systemd puts a `_` in front of names that the kernel might mistake for its own files.
fn unescape(part: &str) -> &str {
    part.strip_prefix('_').unwrap_or(part)
}

fn is_unit(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix).is_some_and(|stem| !stem.is_empty())
}

fn is_any_unit(name: &str) -> bool {
    [".service", ".scope", ".socket", ".mount", ".swap"]
        .iter()
        .any(|suffix| is_unit(name, suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(path: &str) -> Option<String> {
        unit_of(path).map(|unit| unit.to_string())
    }

    #[test]
    fn units_are_read_off_paths() {
        for (path, says) in [
            (
                "/system.slice/transmission-daemon.service",
                Some("transmission-daemon.service"),
            ),
            (
                "/dagger.slice/dagger-sonarr.service/libpod-payload-0a/x",
                Some("dagger-sonarr.service"),
            ),
            (
                "/system.slice/system-getty.slice/getty@tty1.service",
                Some("getty@tty1.service"),
            ),
            ("/init.scope", Some("init.scope")),
            ("/system.slice/_cpu.service", Some("cpu.service")),
            (
                "/system.slice/my\\x2dapp@a\\x2db.service",
                Some("my\\x2dapp@a\\x2db.service"),
            ),
            (
                "/user.slice/user-0.slice/session-3.scope",
                Some("session-3.scope"),
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/web.service",
                Some("web.service of user 1000"),
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service/init.scope",
                Some("init.scope of user 1000"),
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service",
                Some("user@1000.service"),
            ),
            ("/", None),
            ("", None),
            ("/lxc/box", None),
            ("/system.slice", None),
            ("/.service", None),
        ] {
            assert_eq!(name(path).as_deref(), says, "{path}");
        }
    }

    #[test]
    fn containers_of_other_engines_are_told() {
        let id = "0123456789abcdef".repeat(4);
        let unit = unit_of(&format!("/machine.slice/libpod-{id}.scope/container")).unwrap();
        assert_eq!(unit.container.unwrap().handle(), Some("0123456789ab"));
        assert_eq!(unit_of("/system.slice/docker-x.scope").unwrap().container, None);
    }
}
