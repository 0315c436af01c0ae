//! Containers that hold ports: told by the scope that an engine made, or by the helper that keeps a published port for them.

/// A container, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The engine's command: `podman` or `docker`.
    pub engine: &'static str,
    /// Its short id.
    pub id: Option<String>,
    /// Its name.
    pub name: Option<String>,
}

impl Container {
    /// What the engine's commands take for it: the name, else the id.
    pub fn handle(&self) -> Option<&str> {
        self.name.as_deref().or(self.id.as_deref())
    }

    fn unknown(engine: &'static str) -> Self {
        Self {
            engine,
            id: None,
            name: None,
        }
    }
}

/// The container of a unit: `libpod-<id>.scope` is podman's, `docker-<id>.scope` Docker's (with systemd as cgroup
/// manager). What Docker's daemon has open, or its proxies, which live in its unit, it keeps for one that is not told.
pub fn of_unit(name: &str) -> Option<Container> {
    if name == "docker.service" {
        return Some(Container::unknown("docker"));
    }
    let scope = name.strip_suffix(".scope")?;
    [("podman", "libpod-"), ("docker", "docker-")]
        .into_iter()
        .find_map(|(engine, prefix)| {
            let id = scope.strip_prefix(prefix)?;
            let id = short(id.strip_prefix("conmon-").unwrap_or(id))?;
            Some(Container {
                id: Some(id),
                ..Container::unknown(engine)
            })
        })
}

/// The first twelve digits, as the engines show ids.
fn short(id: &str) -> Option<String> {
    (id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| id.chars().take(12).collect())
}

/// Whether a process of this name may keep a port for a container.
pub fn is_helper(process: &str) -> bool {
    matches!(
        process,
        "conmon" | "docker-proxy" | "rootlessport" | "pasta" | "pasta.avx2" | "slirp4netns"
    )
}

/// The container that a helper of this name and command line keeps a port for. conmon(8) alone is told which one it is.
pub fn of_helper(process: &str, line: &[&str]) -> Option<Container> {
    match process {
        "conmon" => {
            let id = value(line, &["-c", "--cid"]).and_then(short)?;
            let name = value(line, &["-n", "--name"]).filter(|name| is_name(name));
            Some(Container {
                id: Some(id),
                name: name.map(str::to_owned),
                ..Container::unknown("podman")
            })
        }
        "docker-proxy" => Some(Container::unknown("docker")),
        _ => is_helper(process).then(|| Container::unknown("podman")),
    }
}

/// The word after a flag, or after its `=`.
fn value<'a>(line: &[&'a str], flags: &[&str]) -> Option<&'a str> {
    line.iter().enumerate().find_map(|(at, word)| {
        let flag = flags.iter().find(|flag| word.starts_with(**flag))?;
        match word.strip_prefix(flag)? {
            "" => line.get(at + 1).copied(),
            rest => rest.strip_prefix('='),
        }
    })
}

/// As podman and Docker take them (`[a-zA-Z0-9][a-zA-Z0-9_.-]*`): other words are nobody's name, are not shown to people, and go
/// into no command.
pub fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn dockers_own_unit_names_none() {
        let container = of_unit("docker.service").unwrap();
        assert_eq!((container.engine, container.handle()), ("docker", None));
    }

    #[test]
    fn scopes_of_engines_name_their_container() {
        for (scope, engine) in [
            (format!("libpod-{ID}.scope"), Some("podman")),
            (format!("libpod-conmon-{ID}.scope"), Some("podman")),
            (format!("docker-{ID}.scope"), Some("docker")),
            ("docker-x.scope".into(), None),
            (format!("docker-{ID}.service"), None),
            ("session-1.scope".into(), None),
        ] {
            let container = of_unit(&scope);
            assert_eq!(container.as_ref().map(|found| found.engine), engine, "{scope}");
            if let Some(container) = container {
                assert_eq!(container.handle(), Some("0123456789ab"));
            }
        }
    }

    #[test]
    fn conmon_says_whose_port_it_keeps() {
        let line = [
            "/usr/bin/conmon",
            "--api-version",
            "1",
            "-c",
            ID,
            "-u",
            ID,
            "-n",
            "web-1",
            "-s",
        ];
        let container = of_helper("conmon", &line).unwrap();
        assert_eq!(
            (container.id.as_deref(), container.name.as_deref()),
            (Some("0123456789ab"), Some("web-1"))
        );
        let joined = format!("--cid={ID}");
        let container = of_helper("conmon", &["conmon", &joined, "--name", "a b"]).unwrap();
        assert_eq!(container.handle(), Some("0123456789ab"), "no name of a container");
        for line in [&["conmon"][..], &["conmon", "-c"], &["conmon", "-c", "short"]] {
            assert_eq!(of_helper("conmon", line), None, "{line:?}");
        }
    }

    #[test]
    fn other_helpers_do_not_know_the_container_and_none_is_made_up() {
        for (process, engine) in [
            ("docker-proxy", Some("docker")),
            ("rootlessport", Some("podman")),
            ("pasta.avx2", Some("podman")),
            ("nginx", None),
        ] {
            let container = of_helper(process, &[process, "-c", ID, "-n", "x"]);
            assert_eq!(container.as_ref().map(|found| found.engine), engine, "{process}");
            assert!(container.is_none_or(|found| found.handle().is_none()));
        }
    }
}
