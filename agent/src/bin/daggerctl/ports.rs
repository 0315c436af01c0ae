//! `ports`: every port of the suite, wanted and held. Read from the configuration and the kernel, so the agent is not
//! needed; and what to write to have another port.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use dagger_agent::adapter::docker;
use dagger_agent::adapter::facts::account::Accounts;
use dagger_agent::adapter::sockets::{self, netns};
use dagger_agent::adapter::survey::{self, Survey};
use dagger_agent::cli::ConflictsArgs;
use dagger_agent::domain::conflict::suggest::{Suggestion, suggest};
use dagger_agent::domain::conflict::{self, Holder, Wanted, words};
use dagger_suite::model::{Claim, Network, Service};
use dagger_suite::names::{Root, exit};
use serde::Serialize;

use crate::error::Error;
use crate::screen::{Screen, print, print_json, warn};
use crate::show::NOTHING;
use crate::suite::known;
use crate::text::{Cell, Tone, clean, paint, table};

/// One port. Field names are those of the JSON form.
#[derive(Debug, Serialize)]
struct Row {
    service: String,
    what: String,
    protocol: &'static str,
    port: u16,
    namespace: Option<String>,
    /// "own", "native", "free", "taken".
    state: &'static str,
    /// The unit that has it.
    unit: Option<String>,
    container: Option<String>,
    process: Option<String>,
    pid: Option<u32>,
    user: Option<String>,
    address: Option<String>,
    /// The kernel may give it to a connection before the service has it.
    ephemeral: bool,
}

/// Everything that one look gives. Field names are those of the JSON form.
#[derive(Debug, Serialize)]
struct Report {
    ports: Vec<Row>,
    suggestions: Vec<Suggestion>,
}

/// The services of the configuration, and who has their ports.
pub struct Look {
    /// The services that can run.
    pub services: Vec<Service>,
    /// Who has their ports.
    pub survey: Survey,
    wanted: Vec<Wanted>,
}

impl Look {
    /// Reads the configuration and asks the kernel.
    pub fn now(root: &Root) -> Self {
        let services = dagger_suite::load(root).suite.services;
        let wanted: Vec<Wanted> = services.iter().map(conflict::wanted).collect();
        let mut survey = survey::look(root, &wanted);
        docker::name(
            root,
            survey.held.iter_mut().map(|held| (held.port, &mut held.holder)),
        );
        Self {
            services,
            survey,
            wanted,
        }
    }

    /// Who else has a port of a service.
    pub fn holders<'a>(
        &'a self,
        wanted: &'a Wanted,
        port: conflict::Port,
    ) -> impl Iterator<Item = &'a Holder> {
        self.survey
            .held
            .iter()
            .filter(move |held| held.namespace == wanted.namespace && held.port == port)
            .map(|held| &held.holder)
            .filter(|holder| holder.doing < conflict::Doing::Connected)
    }

    /// Says what could not be seen.
    pub fn warn(&self) {
        let blind = self.survey.blind.iter().map(String::as_str);
        for sentence in blind.chain(self.survey.dim) {
            warn("daggerctl", &clean(sentence));
        }
    }

    /// Another port for a claim of a service, free in the service's own network; none where all are taken.
    pub fn suggest(&self, service: &Service, claim: &Claim) -> Option<Suggestion> {
        // The range of the kernel's is one of each network, too.
        let by = |free: &dyn Fn(conflict::Port) -> bool| {
            suggest(&self.services, service, claim, &survey::ephemeral(), free)
        };
        let Network::Namespace(path) = &service.network else {
            return by(&|port| sockets::free(port).unwrap_or(false));
        };
        let inside = || Ok(by(&|port| sockets::free(port).unwrap_or(false)));
        netns::within(Some(Path::new(path)), inside).unwrap_or_else(|error| {
            // What the configuration says is all that is known then.
            let mut suggestion = by(&|_| true)?;
            suggestion.unseen = Some(unseen(path, &error));
            Some(suggestion)
        })
    }
}

/// Why nobody knows what is free in a network namespace.
fn unseen(path: &str, error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::PermissionDenied => "ask again as root",
        io::ErrorKind::NotFound => "start what makes it, and ask again",
        _ => "look there before you take it",
    };
    format!("whether it is free in {path} could not be seen ({error}): {advice}")
}

/// `daggerctl ports`.
pub fn ports(args: &ConflictsArgs, screen: Screen) -> Result<u8, Error> {
    let root = Root::from_env();
    let look = Look::now(&root);
    for word in &args.services {
        known(word, look.services.iter().map(|service| service.name.as_str()))?;
    }
    let users = Users::read(&root);
    let mut report = Report {
        ports: Vec::new(),
        suggestions: Vec::new(),
    };
    for (service, wanted) in look.services.iter().zip(&look.wanted) {
        let named = args.services.iter().any(|word| word == service.name.as_str());
        if !named && !args.services.is_empty() {
            continue;
        }
        for claim in &service.ports {
            let row = row(&look, wanted, claim, &users);
            let first = !report
                .suggestions
                .iter()
                .any(|other| (&other.service, &other.what) == (&row.service, &row.what));
            if args.suggest && first && (named || row.state == "taken") {
                report.suggestions.extend(look.suggest(service, claim));
            }
            report.ports.push(row);
        }
    }
    if args.json {
        print_json(&report)?;
    } else if look.services.is_empty() {
        print(NOTHING)?;
    } else {
        print(&text(&report, screen.colour))?;
    }
    look.warn();
    let taken = report.ports.iter().any(|row| row.state == "taken");
    Ok(if taken { exit::NOT_HEALTHY } else { exit::GOOD })
}

fn row(look: &Look, wanted: &Wanted, claim: &Claim, users: &Users) -> Row {
    let port = conflict::Port {
        protocol: claim.protocol,
        number: claim.port,
    };
    let native = wanted.native.as_deref();
    let state_of = |holder: &Holder| {
        if holder.is(&wanted.unit) {
            "own"
        } else if native.is_some_and(|unit| holder.is(unit)) {
            "native"
        } else {
            "taken"
        }
    };
    // Somebody else is told before the one who may have it.
    let holder = look
        .holders(wanted, port)
        .max_by_key(|holder| (state_of(holder) == "taken", state_of(holder) == "own"));
    let process = holder.and_then(|holder| holder.process.as_ref());
    Row {
        service: wanted.service.clone(),
        what: claim.name.clone(),
        protocol: claim.protocol.word(),
        port: claim.port,
        namespace: wanted.namespace.clone(),
        state: holder.map_or("free", state_of),
        unit: holder.and_then(Holder::named).map(str::to_owned),
        container: holder
            .and_then(|holder| holder.container.as_ref())
            .map(words::container),
        process: process.map(|process| process.name.clone()),
        pid: process.map(|process| process.pid),
        user: holder.and_then(|holder| holder.user).map(|user| users.name(user)),
        address: holder.map(|holder| words::address(holder.address)),
        ephemeral: wanted.namespace.is_none() && survey::ephemeral().contains(&claim.port),
    }
}

fn text(report: &Report, colour: bool) -> String {
    let mut rows = vec![
        ["SERVICE", "WHAT", "PORT", "STATE", "HELD BY", "PROCESS", "USER"]
            .map(|name| Cell::left(name, Tone::Heading))
            .to_vec(),
    ];
    for row in &report.ports {
        let tone = match row.state {
            "taken" => Tone::Bad,
            "free" => Tone::Dim,
            _ => Tone::Good,
        };
        rows.push(vec![
            Cell::left(&row.service, Tone::Plain),
            Cell::left(&row.what, Tone::Plain),
            Cell::left(format!("{} {}", row.protocol, row.port), Tone::Plain),
            Cell::left(row.state, tone),
            Cell::left(
                row.container
                    .as_ref()
                    .or(row.unit.as_ref())
                    .map_or("", String::as_str),
                Tone::Plain,
            ),
            Cell::left(process(row.process.as_deref(), row.pid), Tone::Plain),
            Cell::left(row.user.as_deref().unwrap_or_default(), Tone::Plain),
        ]);
    }
    let mut text = table(&rows, colour);
    let given: Vec<&Row> = report.ports.iter().filter(|row| row.ephemeral).collect();
    if let Some(hint) = hint(&given) {
        let _ = write!(text, "\n{hint}\n");
    }
    for suggestion in &report.suggestions {
        text.push('\n');
        text.push_str(&way_out(suggestion, colour));
    }
    text
}

/// Ports that the kernel gives to connections out of this machine are free until it happens.
fn hint(given: &[&Row]) -> Option<String> {
    let first = given.first()?;
    let mut numbers: Vec<String> = given.iter().map(|row| row.port.to_string()).collect();
    numbers.dedup();
    Some(format!(
        "{} of {}: the kernel may give it to a connection out of this machine before the service has it. To keep it:\n  \
         sysctl net.ipv4.ip_local_reserved_ports={} (in /etc/sysctl.d/ for good)",
        first.port,
        first.service,
        numbers.join(",")
    ))
}

/// `socat (812)`.
pub fn process(name: Option<&str>, pid: Option<u32>) -> String {
    match (name, pid) {
        (Some(name), Some(pid)) => format!("{name} ({pid})"),
        (Some(name), None) => name.to_owned(),
        (None, Some(pid)) => format!("({pid})"),
        (None, None) => String::new(),
    }
}

/// A suggestion, as lines to follow.
pub fn way_out(suggestion: &Suggestion, colour: bool) -> String {
    let Suggestion {
        service,
        from,
        to,
        namespace,
        unseen,
        file,
        table,
        line,
        run,
        also,
        ..
    } = suggestion;
    let place = namespace
        .as_ref()
        .map_or_else(String::new, |path| format!(" in {path}"));
    let heading = format!("{service} on {to} instead of {from}{place}");
    let mut text = paint(&heading, Tone::Heading, colour) + "\n";
    if let Some(reason) = unseen {
        let _ = writeln!(text, "  {}", clean(reason));
    }
    let _ = write!(text, "  {file}, below {table}:\n    {line}\n  then:\n");
    for command in run {
        let _ = writeln!(text, "    {command}");
    }
    if !also.is_empty() {
        text.push_str("  and where its port is known:\n");
    }
    for also in also {
        let _ = writeln!(text, "    {}: {}", also.service, also.setting);
    }
    text
}

/// Names of users; others stay numbers.
pub struct Users(Accounts);

impl Users {
    /// Reads them below `root`. Where they cannot be read, numbers are all that is shown.
    pub fn read(root: &Root) -> Self {
        Self(Accounts::read(root).unwrap_or_default())
    }

    /// Name of a user, or the number.
    pub fn name(&self, uid: u32) -> String {
        let number = uid.to_string();
        self.0.user(&number).map_or(number, |account| account.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn sample() -> Report {
        let row = |service: &str, port, state| Row {
            service: service.into(),
            what: "web".into(),
            protocol: "tcp",
            port,
            namespace: None,
            state,
            unit: None,
            container: None,
            process: None,
            pid: None,
            user: None,
            address: None,
            ephemeral: false,
        };
        let mut taken = row("sonarr", 8989, "taken");
        taken.unit = Some("web.service".into());
        (taken.process, taken.pid) = (Some("so\x1bcat".into()), Some(812));
        taken.user = Some("root".into());
        let mut peer = row("transmission", 46634, "free");
        peer.ephemeral = true;
        Report {
            ports: vec![taken, peer],
            suggestions: Vec::new(),
        }
    }

    #[test]
    fn every_port_has_its_line() {
        assert_eq!(
            text(&sample(), false),
            "\
SERVICE       WHAT  PORT       STATE  HELD BY      PROCESS       USER
sonarr        web   tcp 8989   taken  web.service  so\u{fffd}cat (812)  root
transmission  web   tcp 46634  free   -            -             -

46634 of transmission: the kernel may give it to a connection out of this machine before the service has it. To keep it:
  sysctl net.ipv4.ip_local_reserved_ports=46634 (in /etc/sysctl.d/ for good)
"
        );
    }

    #[test]
    fn a_way_out_is_lines_to_follow() {
        let mut suggestion = Suggestion {
            service: "sonarr".into(),
            what: "web".into(),
            from: 8989,
            to: 18989,
            namespace: None,
            unseen: None,
            file: "/etc/dagger/dagger.toml".into(),
            table: "[services.sonarr]".into(),
            line: "port = 18989".into(),
            run: vec!["systemctl daemon-reload".into()],
            also: vec![conflict::suggest::Also {
                service: "bazarr".into(),
                setting: "Settings, Sonarr: Port = 18989".into(),
            }],
        };
        assert_eq!(
            way_out(&suggestion, false),
            "\
sonarr on 18989 instead of 8989
  /etc/dagger/dagger.toml, below [services.sonarr]:
    port = 18989
  then:
    systemctl daemon-reload
  and where its port is known:
    bazarr: Settings, Sonarr: Port = 18989
"
        );
        suggestion.namespace = Some("/run/netns/wg".into());
        suggestion.unseen = Some(unseen("/run/netns/wg", &io::ErrorKind::PermissionDenied.into()));
        assert!(
            way_out(&suggestion, false).starts_with(
                "\
sonarr on 18989 instead of 8989 in /run/netns/wg
  whether it is free in /run/netns/wg could not be seen (permission denied): ask again as root
  /etc/dagger/dagger.toml, below [services.sonarr]:
"
            ),
            "{}",
            way_out(&suggestion, false)
        );
    }

    #[test]
    fn users_have_names_where_there_are_any() {
        let dir = std::env::temp_dir().join(format!("dagger-users-{}", std::process::id()));
        fs::create_dir_all(dir.join("etc")).unwrap();
        fs::write(
            dir.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\nbad\nmedia:x:568:568::/:\n",
        )
        .unwrap();
        let users = Users::read(&Root::new(&dir));
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!([0, 568, 7].map(|uid| users.name(uid)), ["root", "media", "7"]);
    }
}
