//! `config check`, `config show`, `config diff`: the configuration, read by the generator's own library.

use std::fmt::Write as _;
use std::time::Duration;

use dagger_agent::adapter::facts;
use dagger_suite::diagnostic::Severity;
use dagger_suite::model::{Claim, Mount, Network, Service, Suite};
use dagger_suite::names::{Root, exit};
use dagger_suite::probe::{Kind, Probe};

use crate::error::Error;
use crate::run::{become_program, generator};
use crate::screen::{print, print_json, warn};
use crate::tree::Tree;

/// `daggerctl config check`: all mistakes of all files, and what on this machine is in the way, on standard output; the code
/// says whether there are any mistakes.
pub fn check() -> Result<u8, Error> {
    let root = Root::from_env();
    let loaded = dagger_suite::load_beside(&root, &|kind, start| facts::port(&root, kind, start));
    let mut text = String::new();
    for each in &loaded.diagnostics {
        let _ = write!(text, "{each}\n\n");
    }
    let errors = loaded
        .diagnostics
        .iter()
        .filter(|each| each.severity == Severity::Error)
        .count();
    let good = counted(loaded.suite.services.len(), "service");
    let warnings = counted(loaded.diagnostics.len() - errors, "warning");
    let _ = match (loaded.configured, errors) {
        (false, _) => writeln!(text, "there is no configuration: write /etc/dagger/dagger.toml"),
        (true, 0) => writeln!(text, "{good} good, {warnings}"),
        (true, _) => {
            let errors = counted(errors, "error");
            writeln!(
                text,
                "{errors}, {warnings}; {good} good, {} cannot run",
                loaded.broken.len()
            )
        }
    };
    print(&text)?;
    Ok(if errors == 0 { exit::GOOD } else { exit::FAILED })
}

/// A number and what is counted: `1 error`, `2 errors`.
fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// `daggerctl config show`: every service that can run, with every value that counts.
pub fn show(json: bool) -> Result<u8, Error> {
    let loaded = dagger_suite::load(&Root::from_env());
    let tree = suite(&loaded.suite);
    if json {
        print_json(&tree)?;
    } else {
        print(&tree.to_toml())?;
    }
    let errors = loaded
        .diagnostics
        .iter()
        .filter(|each| each.severity == Severity::Error)
        .count();
    if errors > 0 {
        let errors = counted(errors, "error");
        warn(
            "daggerctl",
            &format!("{errors}, see `daggerctl config check`; the services that they spoil are not shown"),
        );
        return Ok(exit::FAILED);
    }
    Ok(exit::GOOD)
}

/// `daggerctl config diff`: the generator itself says what it would change.
pub fn diff() -> Result<u8, Error> {
    let found = std::env::current_exe().ok().as_deref().and_then(generator);
    let Some(program) = found.as_deref().and_then(|path| path.to_str()) else {
        return Err(Error::Failed(
            "dagger-generator is not installed beside this program".into(),
        ));
    };
    Err(become_program(program, &["--dry-run".to_owned()]))
}

/// The suite in the words of the configuration.
fn suite(suite: &Suite) -> Tree {
    let services = suite
        .services
        .iter()
        .map(|each| (each.name.to_string(), service(each)))
        .collect();
    let top = Tree::table([
        ("start-at-boot", Tree::from(suite.start_at_boot)),
        ("podman", Tree::from(&suite.podman)),
    ]);
    Tree::table([("suite", top), ("services", Tree::Table(services))])
}

/// A service, key by key. All fields are named, so that a new one cannot be forgotten here.
#[expect(
    clippy::too_many_lines,
    reason = "one line a field, and no decision among them"
)]
fn service(service: &Service) -> Tree {
    let Service {
        name: _,
        kind,
        title,
        documentation,
        source: _,
        image,
        pull,
        identity,
        shadow_of,
        network,
        front,
        dns,
        ports,
        url,
        probe,
        interval,
        failures,
        successes,
        restarts,
        auto_recover,
        accept_regenerated,
        watchdog,
        start_budget,
        state,
        mounts,
        tmpfs,
        disposable,
        environment,
        environment_files,
        entrypoint,
        command,
        umask,
        timezone,
        devices,
        groups,
        capabilities,
        no_new_privileges,
        read_only,
        init,
        shm_size,
        seccomp_profile,
        apparmor_profile,
        selinux_label,
        log_driver,
        limits,
        stop_signal,
        stop_timeout,
        native,
        wants,
        databases,
        podman_args,
    } = service;
    let mut keys = Keys(Vec::new());
    keys.option("shadow-of", shadow_of.as_ref().map(ToString::to_string).as_ref());
    keys.put("like", kind);
    keys.put("description", title);
    keys.list("documentation", documentation);
    keys.put("image", image);
    keys.put("pull", pull.word());
    keys.number("user", identity.uid);
    keys.number("group", identity.gid);
    keys.put("network", &network_word(network));
    if let Some(port) = front {
        keys.number("front-port", *port);
    }
    keys.list("dns", dns);
    keys.option("url", url.as_ref());
    keys.put("ports", ports.iter().map(claim).collect::<Vec<_>>());
    keys.put("state", state.iter().map(mount).collect::<Vec<_>>());
    keys.put("volumes", mounts.iter().map(mount).collect::<Vec<_>>());
    keys.list("tmpfs", tmpfs);
    keys.list("disposable", disposable);
    let pairs = environment
        .iter()
        .map(|(name, value)| (name.clone(), Tree::from(value)));
    keys.put("environment", Tree::Table(pairs.collect()));
    keys.list("environment-files", environment_files);
    keys.option("entrypoint", entrypoint.as_ref());
    keys.list("command", command);
    keys.option("umask", umask.as_ref());
    keys.option("timezone", timezone.as_ref());
    let optional = |name: &String, optional: bool| format!("{}{name}", if optional { "-" } else { "" });
    keys.list(
        "devices",
        &devices
            .iter()
            .map(|each| optional(&each.name, each.optional))
            .collect::<Vec<_>>(),
    );
    keys.list("groups", groups);
    keys.list("capabilities", capabilities);
    keys.put("no-new-privileges", *no_new_privileges);
    keys.put("read-only", *read_only);
    keys.put("init", *init);
    keys.option("shm-size", shm_size.as_ref());
    keys.option("seccomp-profile", seccomp_profile.as_ref());
    keys.option("apparmor-profile", apparmor_profile.as_ref());
    keys.option("selinux-label", selinux_label.as_ref());
    keys.put("log-driver", log_driver);
    keys.put(
        "limits",
        Tree::Table(
            limits
                .iter()
                .map(|(key, value)| ((*key).to_owned(), Tree::from(value)))
                .collect(),
        ),
    );
    let answers = [
        ("failures", *failures),
        ("successes", *successes),
        ("restarts", *restarts),
    ];
    keys.put("health", health(probe, *interval, answers));
    keys.put("auto-recover", *auto_recover);
    keys.put("accept-regenerated", *accept_regenerated);
    keys.put("watchdog", &watchdog.map_or_else(|| "off".to_owned(), time));
    keys.put("start-budget", &time(*start_budget));
    keys.put("stop-signal", stop_signal);
    keys.put("stop-timeout", &time(*stop_timeout));
    keys.list(
        "native",
        &native.iter().map(|unit| unit.name.clone()).collect::<Vec<_>>(),
    );
    keys.list(
        "wants",
        &wants.iter().map(ToString::to_string).collect::<Vec<_>>(),
    );
    keys.list("databases", databases);
    keys.list("podman-args", podman_args);
    Tree::Table(keys.0)
}

/// The keys of a table while it is made; what is empty is left out.
struct Keys(Vec<(String, Tree)>);

impl Keys {
    fn put(&mut self, key: &str, value: impl Into<Tree>) {
        let value = value.into();
        let empty = match &value {
            Tree::List(list) => list.is_empty(),
            Tree::Table(table) => table.is_empty(),
            Tree::Text(_) | Tree::Number(_) | Tree::Boolean(_) => false,
        };
        if !empty {
            self.0.push((key.to_owned(), value));
        }
    }

    fn number(&mut self, key: &str, value: impl Into<u64>) {
        self.put(key, Tree::Number(value.into()));
    }

    fn option(&mut self, key: &str, value: Option<&String>) {
        if let Some(value) = value {
            self.put(key, value);
        }
    }

    fn list(&mut self, key: &str, values: &[String]) {
        self.put(key, values.iter().collect::<Vec<_>>());
    }
}

fn network_word(network: &Network) -> String {
    match network {
        Network::Host => "host".into(),
        Network::Bridge => "bridge".into(),
        Network::Namespace(path) => format!("ns:{path}"),
    }
}

fn claim(claim: &Claim) -> Tree {
    let mut keys = Keys(Vec::new());
    keys.put("name", &claim.name);
    keys.number("port", claim.port);
    keys.number("container-port", claim.inside);
    keys.put("protocol", claim.protocol.word());
    Tree::Table(keys.0)
}

fn mount(mount: &Mount) -> Tree {
    let mut keys = Keys(Vec::new());
    keys.put("role", &mount.role);
    keys.put("source", &mount.source);
    keys.put("target", &mount.target);
    keys.put("read-only", mount.read_only);
    Tree::Table(keys.0)
}

fn health(probe: &Probe, interval: Duration, counts: [(&str, u32); 3]) -> Tree {
    let mut keys = Keys(Vec::new());
    keys.put("kind", probe.kind.word());
    keys.number("port", probe.port);
    if probe.kind == Kind::Exec {
        keys.list("command", &probe.command);
    } else {
        keys.put("path", &probe.path);
        keys.number("expect", probe.expect);
        keys.option("body", probe.body.as_ref());
    }
    keys.put("timeout", &time(probe.timeout));
    keys.put("interval", &time(interval));
    for (key, count) in counts {
        keys.number(key, count);
    }
    Tree::Table(keys.0)
}

/// A span of time as systemd and the configuration write it.
fn time(span: Duration) -> String {
    match (span.as_secs(), span.subsec_millis()) {
        (seconds, 0) => format!("{seconds}s"),
        (_, _) => format!("{}ms", span.as_millis()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_of_time_are_systemds() {
        assert_eq!(time(Duration::from_millis(1500)), "1500ms");
        assert_eq!(time(Duration::from_mins(2)), "120s");
    }
}
