//! A report as people read it. Pure: time and colour are handed in.

use std::fmt::Write as _;
use std::time::Duration;

use dagger_agent::adapter::bus::ServiceView;
use dagger_agent::domain::conflict::words;
use dagger_agent::domain::health::Health;

use crate::report::{Report, Service};
use crate::text::{Cell, Tone, ago, bytes, clean, latency, paint, span, table};

/// What is shown when no service is configured.
pub const NOTHING: &str = "\
No services: write /etc/dagger/dagger.toml (/usr/share/doc/dagger/dagger.toml.example shows how), then `systemctl daemon-reload`.
";

/// What is shown when nothing of the configuration can be used.
const SPOILT: &str = "No service is watched: the configuration has mistakes (daggerctl config check).\n";

/// What is shown in place of a table without rows.
fn nothing(report: &Report) -> &'static str {
    if report.configuration_errors.is_empty() {
        NOTHING
    } else {
        SPOILT
    }
}

/// The tone of a verdict.
pub fn tone(health: Health) -> Tone {
    match health {
        Health::Healthy => Tone::Good,
        Health::Starting | Health::Degraded | Health::Recovering => Tone::Warn,
        Health::Unhealthy | Health::Failed => Tone::Bad,
        Health::Inactive | Health::Unknown => Tone::Dim,
    }
}

/// The headings of the table of `status`, in the order of [`row`].
fn headings() -> Vec<Cell> {
    let left = |name| Cell::left(name, Tone::Heading);
    let right = |name| Cell::right(name, Tone::Heading);
    vec![
        left("SERVICE"),
        left("OWNER"),
        left("STATE"),
        left("HEALTH"),
        left("SINCE"),
        right("LATENCY"),
        right("PORT"),
        right("MEMORY"),
        left("VERSION"),
    ]
}

/// The table of `status` with what needs attention below it. `now` is in microseconds of CLOCK_REALTIME.
pub fn status(report: &Report, now: u64, colour: bool) -> String {
    let mut text = if report.services.is_empty() {
        nothing(report).to_owned()
    } else {
        let mut rows = vec![headings()];
        rows.extend(report.services.iter().map(|service| row(service, now)));
        table(&rows, colour)
    };
    let notes = notes(report, now, colour);
    if !notes.is_empty() {
        text.push('\n');
        text.push_str(&notes);
    }
    text
}

fn row(service: &Service, now: u64) -> Vec<Cell> {
    let view = &service.view;
    let port = if view.port == 0 {
        String::new()
    } else {
        view.port.to_string()
    };
    vec![
        Cell::left(&view.name, Tone::Plain),
        Cell::left(view.owner.word(), Tone::Plain),
        Cell::left(state(service), Tone::Plain),
        Cell::left(view.health.word(), tone(view.health)),
        Cell::left(ago(view.since, now), Tone::Plain),
        Cell::right(latency(view.latency_usec), Tone::Plain),
        Cell::right(port, Tone::Plain),
        Cell::right(service.memory_bytes.map(bytes).unwrap_or_default(), Tone::Plain),
        Cell::left(&view.version, Tone::Plain),
    ]
}

/// systemd's two words for a state; the second only where it says more than the first.
fn state(service: &Service) -> String {
    let (active, sub) = (&service.view.active_state, &service.view.sub_state);
    match (active.as_str(), sub.as_str()) {
        ("active", "running") | ("inactive", "dead") | ("failed", "failed") | (_, "") => active.clone(),
        _ => format!("{active} ({sub})"),
    }
}

/// One line for each service that is not as it should be, with the command that shows more, one for each conflict, also of a
/// healthy one, one for each whose recovery is paused, one for each that runs unwatched, and one for each mistake in the configuration. `now` is in microseconds of CLOCK_REALTIME.
pub fn notes(report: &Report, now: u64, colour: bool) -> String {
    let mut text = String::new();
    for Service { view, .. } in &report.services {
        if let Some(length) = paused(view.paused_until, now) {
            let name = &view.name;
            let _ = writeln!(
                text,
                "{name}: recovery is paused {length} (daggerctl resume {name})"
            );
        }
        let name = &view.name;
        if !view.work.is_empty() {
            let _ = writeln!(text, "{name} is {} (nixarr-migrate status)", clean(&view.work));
        }
        if view.interrupted {
            let _ = writeln!(
                text,
                "{name}: {} (nixarr-migrate resume {name})",
                paint("something was begun with it and is not over", Tone::Bad, colour)
            );
        }
        for conflict in conflicts(view) {
            let conflict = clean(conflict);
            let _ = writeln!(
                text,
                "{name}: {}: {conflict} (daggerctl conflicts {name})",
                paint("conflict", Tone::Bad, colour)
            );
        }
        let quiet = matches!(view.health, Health::Healthy | Health::Inactive)
            || (view.health == Health::Unknown && view.health_detail.is_empty());
        if quiet {
            continue;
        }
        let verdict = paint(view.health.word(), tone(view.health), colour);
        let detail = if view.health_detail.is_empty() {
            "no reason given"
        } else {
            without(view.health, &view.health_detail)
        };
        let _ = writeln!(
            text,
            "{}: {verdict}: {} (systemctl status {})",
            view.name,
            clean(detail),
            view.unit
        );
    }
    for name in &report.unwatched {
        let _ = writeln!(
            text,
            "{name}: dagger-{name}.service runs, and is not watched: no configuration for it can be used (daggerctl why {name})"
        );
    }
    for mistake in &report.configuration_errors {
        let _ = writeln!(
            text,
            "{} {}",
            paint("configuration:", Tone::Bad, colour),
            clean(mistake)
        );
    }
    text
}

/// What stands in a service's way, and is not why it is not healthy: that is said with its health.
fn conflicts(view: &ServiceView) -> impl Iterator<Item = &str> {
    let conflicts = view.conflicts.iter().map(String::as_str);
    conflicts.filter(|sentence| !words::is_told(sentence, &view.health_detail))
}

/// How long a pause still lasts, in words; none: there is none.
fn paused(until: u64, now: u64) -> Option<String> {
    match until {
        0 => None,
        u64::MAX => Some("until somebody resumes it".into()),
        until => Some(format!(
            "for another {}",
            span(Duration::from_micros(until.saturating_sub(now)))
        )),
    }
}

/// Lines of `health` and `check`: name, verdict, why.
pub fn verdicts<'a>(services: impl Iterator<Item = (&'a str, Health, &'a str)>, colour: bool) -> String {
    let rows: Vec<_> = services
        .map(|(name, health, detail)| {
            vec![
                Cell::left(name, Tone::Plain),
                Cell::left(health.word(), tone(health)),
                Cell::left(without(health, detail), Tone::Plain),
            ]
        })
        .collect();
    table(&rows, colour)
}

/// The reason for a verdict without the verdict's own word, which stands before it: `starting: starting: HTTP 503`.
fn without(health: Health, detail: &str) -> &str {
    let rest = detail.strip_prefix(health.word());
    rest.and_then(|rest| rest.strip_prefix(": ")).unwrap_or(detail)
}

/// The few lines of `dagger-nixarr-summary`. `now` is in microseconds of CLOCK_REALTIME.
pub fn summary(report: &Report, now: u64, colour: bool) -> String {
    let all = report.services.len();
    if all == 0 && report.configuration_errors.is_empty() {
        return NOTHING.to_owned();
    }
    let count = |health| {
        report
            .services
            .iter()
            .filter(|service| service.view.health == health)
            .count()
    };
    let mut line = format!("{} of {all} services healthy", count(Health::Healthy));
    for health in [Health::Inactive, Health::Unknown] {
        if count(health) > 0 {
            let _ = write!(line, ", {} {}", count(health), health.word());
        }
    }
    format!(
        "{line}\n{}More: daggerctl status, journalctl -u monitoring\n",
        notes(report, now, colour)
    )
}

#[cfg(test)]
mod tests {
    use dagger_agent::adapter::bus::Owner;

    use super::*;
    use crate::report::unknown;

    #[test]
    fn no_verdict_is_said_twice() {
        let line = |detail| verdicts([("sonarr", Health::Starting, detail)].into_iter(), false);
        assert_eq!(line("starting: HTTP 503"), "sonarr  starting  HTTP 503\n");
        assert_eq!(line("being started"), "sonarr  starting  being started\n");
        assert_eq!(line("startingly: x"), "sonarr  starting  startingly: x\n");
        let mut report = sample();
        report.services[0].view.health_detail = "unhealthy: no answer".into();
        let notes = notes(&report, 0, false);
        assert!(notes.contains("radarr: unhealthy: no answer ("), "{notes}");
    }

    fn sample() -> Report {
        let mut sonarr = unknown("sonarr", "dagger-sonarr.service".into());
        sonarr.view.owner = Owner::Container;
        sonarr.view.active_state = "active".into();
        sonarr.view.sub_state = "running".into();
        sonarr.view.health = Health::Healthy;
        sonarr.view.since = 1_000_000;
        sonarr.view.latency_usec = 3200;
        sonarr.view.port = 8989;
        sonarr.view.version = "4.0.15".into();
        sonarr.memory_bytes = Some(151 << 20);
        let mut radarr = unknown("radarr", "dagger-radarr.service".into());
        radarr.view.active_state = "activating".into();
        radarr.view.sub_state = "start-post".into();
        radarr.view.health = Health::Unhealthy;
        radarr.view.health_detail = "connection \x1b[2Jrefused".into();
        Report {
            agent: true,
            version: "0.1.0".into(),
            health: Health::Unhealthy,
            configuration_errors: vec!["/etc/dagger/dagger.toml:3:1: unknown key `prot`".into()],
            services: vec![radarr, sonarr],
            unwatched: Vec::new(),
        }
    }

    #[test]
    fn the_table_and_what_needs_attention() {
        let now = 1_000_000 + 3_900_000_000;
        assert_eq!(
            status(&sample(), now, false),
            "\
SERVICE  OWNER      STATE                    HEALTH     SINCE      LATENCY  PORT   MEMORY  VERSION
radarr   none       activating (start-post)  unhealthy  -                -     -        -  -
sonarr   container  active                   healthy    1 h 5 min   3.2 ms  8989  151 MiB  4.0.15

radarr: unhealthy: connection \u{fffd}[2Jrefused (systemctl status dagger-radarr.service)
configuration: /etc/dagger/dagger.toml:3:1: unknown key `prot`
"
        );
        assert!(status(&sample(), now, true).contains("\x1b[31munhealthy\x1b[0m"));
    }

    #[test]
    fn a_summary_says_how_many_and_where_to_look() {
        assert_eq!(
            summary(&sample(), 0, false).lines().collect::<Vec<_>>(),
            [
                "1 of 2 services healthy",
                "radarr: unhealthy: connection \u{fffd}[2Jrefused (systemctl status dagger-radarr.service)",
                "configuration: /etc/dagger/dagger.toml:3:1: unknown key `prot`",
                "More: daggerctl status, journalctl -u monitoring",
            ]
        );
    }

    #[test]
    fn a_conflict_of_a_healthy_service_is_shown_and_no_refusal_is_told_twice() {
        let mut report = sample();
        let [radarr, sonarr] = report.services.as_mut_slice() else {
            panic!("two services");
        };
        let taken = "TCP port 7878, which radarr needs, is taken by";
        radarr.view.health_detail = format!("{taken} web.service (process nc, PID 8)");
        radarr.view.conflicts = vec![format!("{taken} web.service")];
        sonarr.view.conflicts = vec!["TCP port 8989 of sonarr is answered by b.service, too: stop it".into()];
        report.configuration_errors.clear();
        let expected = "\
radarr: unhealthy: TCP port 7878, which radarr needs, is taken by web.service (process nc, PID 8) (systemctl status dagger-radarr.service)
sonarr: conflict: TCP port 8989 of sonarr is answered by b.service, too: stop it (daggerctl conflicts sonarr)
";
        assert_eq!(notes(&report, 0, false), expected);
        assert!(status(&report, 0, false).ends_with(expected));
        assert!(summary(&report, 0, false).contains("sonarr: conflict: TCP port 8989"));
    }

    #[test]
    fn what_is_waited_for_and_what_is_paused_stands_below_the_table() {
        let mut report = sample();
        let [radarr, sonarr] = report.services.as_mut_slice() else {
            panic!("two services");
        };
        radarr.view.health_detail = "waiting: /fun is not mounted".into();
        radarr.view.cause = "not-mounted".into();
        radarr.view.paused_until = u64::MAX;
        sonarr.view.paused_until = 7_260_000_000;
        report.configuration_errors.clear();
        let text = notes(&report, 60_000_000, false);
        assert_eq!(
            text,
            "\
radarr: recovery is paused until somebody resumes it (daggerctl resume radarr)
radarr: unhealthy: waiting: /fun is not mounted (systemctl status dagger-radarr.service)
sonarr: recovery is paused for another 2 h (daggerctl resume sonarr)
"
        );
    }

    #[test]
    fn what_runs_behind_a_spoilt_configuration_is_shown() {
        let mut report = Report::of_systemd(Vec::new());
        report.configuration_errors = sample().configuration_errors;
        report.unwatched = vec!["sonarr".into()];
        assert_eq!(
            status(&report, 0, false),
            "\
No service is watched: the configuration has mistakes (daggerctl config check).

sonarr: dagger-sonarr.service runs, and is not watched: no configuration for it can be used (daggerctl why sonarr)
configuration: /etc/dagger/dagger.toml:3:1: unknown key `prot`
"
        );
    }

    #[test]
    fn an_empty_suite_says_how_to_begin() {
        let text = status(&Report::of_systemd(Vec::new()), 0, false);
        assert!(text.contains("dagger.toml.example"), "{text}");
    }
}
