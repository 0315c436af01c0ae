//! Holds what the user wrote against the schema, and collects every mistake with its place.

use std::fmt::Write as _;

use crate::diagnostic::{Diagnostic, Severity, Sources, Span, nearest};
use crate::names::ServiceName;
use crate::node::{Node, Table, Value};
use crate::schema::{Key, Kind};
use crate::value::{self, Wrong};

/// Collects diagnostics; everything that is said while `service` is set makes that service unusable.
pub struct Checker<'a> {
    /// The texts that spans point into.
    pub sources: &'a Sources,
    /// What was found.
    pub diagnostics: Vec<Diagnostic>,
    /// The service that is being looked at.
    pub service: Option<String>,
}

impl<'a> Checker<'a> {
    /// Starts with nothing found.
    pub fn new(sources: &'a Sources) -> Self {
        Self {
            sources,
            diagnostics: Vec::new(),
            service: None,
        }
    }

    /// Adds a mistake.
    pub fn error(&mut self, at: Span, problem: impl Into<String>, help: Option<String>) {
        self.add(at, Severity::Error, problem, help);
    }

    /// Adds something that the user should know.
    pub fn warning(&mut self, at: Span, problem: impl Into<String>, help: Option<String>) {
        self.add(at, Severity::Warning, problem, help);
    }

    fn add(&mut self, at: Span, severity: Severity, problem: impl Into<String>, help: Option<String>) {
        let mut diagnostic = self.sources.at(at, severity, problem, help);
        diagnostic.service.clone_from(&self.service);
        self.diagnostics.push(diagnostic);
    }

    /// Checks a table: unknown keys, and each value against its kind. `more` are further keys that it may have.
    pub fn table(&mut self, table: &Table, keys: &[Key], more: &[Key]) {
        for (name, entry) in table.iter() {
            match keys.iter().chain(more).find(|key| key.name == name) {
                Some(key) => self.node(name, &entry.node, &key.kind),
                None => self.unknown_key(name, entry.key_at, keys, more),
            }
        }
    }

    fn unknown_key(&mut self, name: &str, at: Span, keys: &[Key], more: &[Key]) {
        let known = || keys.iter().chain(more).map(|key| key.name);
        // snake_case is the likeliest slip of all, and the edit distance of several underscores is large.
        let kebab = name.replace('_', "-").to_lowercase();
        let help = match nearest(&kebab, known()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known keys are {}", known().collect::<Vec<_>>().join(", ")),
        };
        self.error(at, format!("unknown key `{name}`"), Some(help));
    }

    /// Checks one value.
    pub fn node(&mut self, name: &str, node: &Node, kind: &Kind) {
        match (kind, &node.value) {
            (Kind::Boolean, Value::Boolean(_)) => {}
            (Kind::Number(low, high), Value::Integer(number)) => {
                if !(low..=high).contains(&number) {
                    self.error(
                        node.at,
                        format!("`{name}` is {number}, out of bounds"),
                        Some(format!("{low} to {high}")),
                    );
                }
            }
            (Kind::Port, Value::Integer(number)) => {
                if !(1..=65535).contains(number) {
                    self.error(
                        node.at,
                        format!("{number} is not a port"),
                        Some("1 to 65535".into()),
                    );
                }
            }
            (Kind::Group, Value::Integer(number)) if u32::try_from(*number).is_ok() => {}
            (Kind::Duration, Value::Integer(seconds)) => {
                let span = std::time::Duration::from_secs(u64::try_from(*seconds).unwrap_or(0));
                self.result(node.at, value::bounded(span).map(drop));
            }
            (Kind::Watchdog, Value::Integer(seconds)) => {
                let span = std::time::Duration::from_secs(u64::try_from(*seconds).unwrap_or(0));
                self.result(node.at, value::watchdog_span(span).map(drop));
            }
            (Kind::OneOrMany(kind) | Kind::List(kind), Value::List(list)) => {
                for item in list.iter() {
                    self.node(name, item, kind);
                }
            }
            (Kind::OneOrMany(kind), _) => self.node(name, node, kind),
            (Kind::Table(keys), Value::Table(table)) => self.table(table, keys, &[]),
            (Kind::Map(kind), Value::Table(table)) => self.map(table, kind),
            (Kind::State, Value::Table(table)) => {
                for (role, entry) in table.iter() {
                    self.node(role, &entry.node, &Kind::Path);
                }
            }
            (kind, Value::Text(text)) if is_text(kind) => self.text(node.at, text, kind),
            (kind, value) => self.wrong_type(name, node.at, kind, value),
        }
    }

    fn map(&mut self, table: &Table, kind: &Kind) {
        for (key, entry) in table.iter() {
            let plain = |b: u8| b.is_ascii_graphic() && b != b'=';
            if matches!(kind, Kind::Text) && (key.is_empty() || !key.bytes().all(plain)) {
                self.error(
                    entry.key_at,
                    format!("{key:?} is not the name of a variable"),
                    None,
                );
            }
            self.node(key, &entry.node, kind);
        }
    }

    fn text(&mut self, at: Span, text: &str, kind: &Kind) {
        let result = match kind {
            Kind::Path | Kind::State => value::path(text),
            Kind::Program => value::program(text),
            Kind::PodmanFile => value::file_in_list(text),
            Kind::Duration => value::duration(text).map(drop),
            Kind::Watchdog => value::watchdog(text).map(drop),
            Kind::Size => value::size(text),
            Kind::Bytes => value::bytes(text).map(drop),
            Kind::Address => value::address(text),
            Kind::Percent => value::percent(text),
            Kind::Umask => value::umask(text).map(drop),
            Kind::Signal => value::signal(text).map(drop),
            Kind::Service => ServiceName::parse(text)
                .map(drop)
                .map_err(|problem| Wrong(problem, None)),
            Kind::Unit => value::unit(text),
            Kind::Url => value::url(text),
            Kind::Image => value::image(text),
            Kind::Timezone => value::timezone(text),
            Kind::UrlPath => value::url_path(text),
            Kind::Network => value::network(text),
            Kind::Device => value::device(text),
            Kind::Capability => value::capability(text).map(drop),
            Kind::Group => value::group(text),
            Kind::Tmpfs => value::tmpfs(text),
            Kind::Choice(words) if !words.contains(&text) => {
                let help = match nearest(text, words.iter().copied()) {
                    Some(near) => format!("did you mean {near:?}?"),
                    None => format!("one of {}", words.join(", ")),
                };
                Err(Wrong(format!("{text:?} is not known here"), Some(help)))
            }
            _ => value::text(text),
        };
        self.result(at, result);
    }

    fn result(&mut self, at: Span, result: Result<(), Wrong>) {
        if let Err(Wrong(problem, help)) = result {
            self.error(at, problem, help);
        }
    }

    fn wrong_type(&mut self, name: &str, at: Span, kind: &Kind, value: &Value) {
        let help = match (kind, value) {
            (Kind::Port | Kind::Number(..), Value::Text(text)) if text.parse::<i64>().is_ok() => {
                format!("write it without quotes: {name} = {text}")
            }
            (Kind::Umask, Value::Integer(number)) => {
                format!("write it in quotes, a bare number loses its zeros: {name} = \"{number:03}\"")
            }
            (Kind::Text, Value::Integer(number)) => format!("write it in quotes: {name} = \"{number}\""),
            (Kind::Text, Value::Boolean(it)) => format!("write it in quotes: {name} = \"{it}\""),
            // As other tools write them.
            (Kind::List(Kind::Table(_)) | Kind::Table(_), Value::Text(text)) if name == "volumes" => {
                volume(text)
            }
            (Kind::List(Kind::Table(_)) | Kind::Table(_), Value::Text(text)) if name == "ports" => port(text),
            (Kind::Number(..), Value::Text(text)) if matches!(name, "user" | "group") => match name {
                "user" => format!("write the number that `id -u {text}` prints, without quotes"),
                _ => format!("write the number that `getent group {text}` shows, without quotes"),
            },
            (Kind::List(_), Value::Text(text)) => format!("write it as a list: {name} = [{text:?}]"),
            (Kind::Watchdog, Value::Boolean(false)) => format!("{name} = \"off\""),
            _ => String::new(),
        };
        let help = Some(help).filter(|help| !help.is_empty());
        self.error(
            at,
            format!("`{name}` must be {}, this is {}", wanted(kind), value.kind()),
            help,
        );
    }
}

/// `volumes` for what podman and Docker write as `SOURCE:TARGET:ro`.
fn volume(text: &str) -> String {
    let mut parts = text.split(':');
    let source = parts.next().unwrap_or_default();
    let mut table = format!("source = {source:?}");
    if let Some(target) = parts.next().filter(|target| *target != source) {
        let _ = write!(table, ", target = {target:?}");
    }
    if parts
        .next()
        .is_some_and(|options| options.split(',').any(|it| it == "ro"))
    {
        table.push_str(", read-only = true");
    }
    format!("write it as a list of tables: volumes = [{{ {table} }}]")
}

/// `ports` for what podman and Docker write as `8989:8989/tcp`.
fn port(text: &str) -> String {
    let (ports, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
    let port = ports.rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
    let udp = if protocol == "udp" {
        ", protocol = \"udp\""
    } else {
        ""
    };
    port.map_or_else(
        || "write it as a list of tables: ports = [{ name = \"api\", port = 8080 }]".to_owned(),
        |port| format!("write it as a list of tables: ports = [{{ name = \"other\", port = {port}{udp} }}]; the main one is `port = {port}`"),
    )
}

/// Kinds that are written as text.
fn is_text(kind: &Kind) -> bool {
    !matches!(
        kind,
        Kind::Boolean
            | Kind::Number(..)
            | Kind::Port
            | Kind::List(_)
            | Kind::OneOrMany(_)
            | Kind::Map(_)
            | Kind::Table(_)
    )
}

/// What a kind is called in a message.
fn wanted(kind: &Kind) -> &'static str {
    match kind {
        Kind::Boolean => "true or false",
        Kind::Number(..) => "a number",
        Kind::Port => "a port number",
        Kind::Path | Kind::Program | Kind::PodmanFile => "a path",
        Kind::State => "a path, or a table of paths",
        Kind::Duration => "a time span",
        Kind::Watchdog => "a time span or `off`",
        Kind::List(_) => "a list",
        Kind::Map(_) | Kind::Table(_) => "a table",
        _ => "a text",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::parse_toml;
    use crate::schema;

    fn said(text: &str) -> Vec<String> {
        let mut sources = Sources::default();
        let file = sources.add("f", text);
        let parsed = parse_toml(text, file);
        assert!(parsed.errors.is_empty());
        let mut checker = Checker::new(&sources);
        checker.table(&parsed.table, schema::FILE, &[]);
        checker.diagnostics.iter().map(Diagnostic::one_line).collect()
    }

    #[test]
    fn every_mistake_has_its_place_and_its_way_out() {
        for (text, line) in [
            ("[suit]", "f:1:2: unknown key `suit` (did you mean `suite`?)"),
            (
                "[services.x]\nprot = 1",
                "f:2:1: unknown key `prot` (did you mean `port`?)",
            ),
            (
                "[services.x]\npeer_port = 1",
                "f:2:1: unknown key `peer_port` (did you mean `peer-port`?)",
            ),
            (
                "[services.x]\nport = \"8989\"",
                "f:2:8: `port` must be a port number, this is a text (write it without quotes: port = 8989)",
            ),
            (
                "[services.x]\nvolumes = \"/a:/b:ro\"",
                "f:2:11: `volumes` must be a list, this is a text (write it as a list of tables: volumes = [{ source = \"/a\", target = \"/b\", read-only = true }])",
            ),
            (
                "[services.x]\nvolumes = [\"/a:/a\"]",
                "f:2:12: `volumes` must be a table, this is a text (write it as a list of tables: volumes = [{ source = \"/a\" }])",
            ),
            (
                "[services.x]\nports = \"53:53/udp\"",
                "f:2:9: `ports` must be a list, this is a text (write it as a list of tables: ports = [{ name = \"other\", port = 53, protocol = \"udp\" }]; the main one is `port = 53`)",
            ),
            (
                "[services.x]\nuser = \"joe\"",
                "f:2:8: `user` must be a number, this is a text (write the number that `id -u joe` prints, without quotes)",
            ),
            ("[services.x]\nport = 0", "f:2:8: 0 is not a port (1 to 65535)"),
            (
                "[services.x]\nport = 65536",
                "f:2:8: 65536 is not a port (1 to 65535)",
            ),
            (
                "[services.x]\nport = 1.5",
                "f:2:8: `port` must be a port number, this is a fraction",
            ),
            (
                "[suite]\nmedia = \"fun\"",
                "f:2:9: \"fun\" is not an absolute path (begin it with `/`)",
            ),
            (
                "[suite]\nmedia = \"/a/../b\"",
                "f:2:9: a path with `..` is refused (write the path that it leads to)",
            ),
            (
                "[suite]\numask = 2",
                "f:2:9: `umask` must be a text, this is a number (write it in quotes, a bare number loses its zeros: umask = \"002\")",
            ),
            (
                "[services.x]\nwatchdog = false",
                "f:2:12: `watchdog` must be a time span or `off`, this is a boolean (watchdog = \"off\")",
            ),
            (
                "[services.x]\nwatchdog = 2",
                "f:2:12: a watchdog of less than ten seconds would fire on every pause (write 10s or more, or `off`)",
            ),
            (
                "[services.x]\npull = \"mising\"",
                "f:2:8: \"mising\" is not known here (did you mean \"missing\"?)",
            ),
            (
                "[services.x]\nwants = \"y\"",
                "f:2:9: `wants` must be a list, this is a text (write it as a list: wants = [\"y\"])",
            ),
            (
                "[services.x.environment]\nA = 1",
                "f:2:5: `A` must be a text, this is a number (write it in quotes: A = \"1\")",
            ),
            (
                "[services.x.environment]\n\"A=\" = '1'",
                "f:2:1: \"A=\" is not the name of a variable",
            ),
            (
                "services = 1",
                "f:1:12: `services` must be a table, this is a number",
            ),
            (
                "[services.x]\ncommand = ['a\\0', \"\\u0000\"]",
                "f:2:19: a NUL character cannot be passed to a program",
            ),
        ] {
            assert_eq!(said(text), [line], "{text}");
        }
    }

    #[test]
    fn all_mistakes_are_found_in_one_run() {
        assert_eq!(
            said("x = 1\n[services.a]\nport = 0\nimage = 'x'\n[services.b]\nbad = 1").len(),
            4
        );
    }

    #[test]
    fn good_values_pass() {
        let text = r#"
[suite]
media = "/fun"
[services.a]
native = "a.service"
state = { data = "/x" }
ports = [{ port = 1, protocol = "udp" }]
groups = [44, "video"]
start-budget = 90
environment = { A = "%$;\n\"'\\ " }
"#;
        assert_eq!(said(text), Vec::<String>::new());
    }
}
