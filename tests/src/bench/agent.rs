//! The agent at work in a machine: memory, start, and what a health check costs beside podman's.

use super::figure::{Figure, Peer, Row};
use super::samples::Samples;
use crate::rig::{Machine, Suite, progress};
use crate::suite::{Ground, SIX, SIX_TOML};
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::time::Duration;

const RSS: Row = row(
    "agent-rss",
    "resident memory of the agent, six services, after an hour's probes",
    5.0,
    "MiB",
);
const BUS_NAME: Row = row("agent-bus-name", "from exec to the bus name", 20.0, "ms");
const PROBE_CPU: Row = row(
    "probe-cpu-podman",
    "processor time of a health check, against `podman healthcheck run`",
    0.005,
    "x",
);
const SECURITY: Row = row(
    "agent-security",
    "exposure of monitoring.service (systemd-analyze security)",
    2.0,
    "points",
);

/// All of them.
pub const ROWS: [Row; 4] = [RSS, BUS_NAME, PROBE_CPU, SECURITY];

/// The agent asks each of the six every 15 seconds unless it is told otherwise.
const HOUR: u64 = 6 * 3600 / 15;
/// How often it asks here, the most that it does, so that an hour's worth of probes takes four minutes.
const INTERVAL: &str = "1s";
/// How often the agent is started, and how often podman's check is run.
const ROUNDS: usize = 15;
/// So long does each of the windows last in which the agent's probes are counted, in seconds.
const WINDOW: u64 = 2;

const fn row(name: &'static str, what: &'static str, limit: f64, unit: &'static str) -> Row {
    Row {
        name,
        what,
        limit,
        unit,
    }
}

/// Measures one figure in the machine.
type Measure = fn(&Machine) -> Result<Figure>;

/// Measures what is asked for.
pub fn measure(wanted: &dyn Fn(&str) -> bool, _: &Path) -> Result<Vec<Figure>> {
    let ground = Ground::prepare(Suite::Trixie)?;
    let mut toml = SIX_TOML.to_owned();
    for service in SIX {
        let table = format!("[services.{service}]\n");
        toml = toml.replace(
            &table,
            &format!("{table}health = {{ interval = \"{INTERVAL}\" }}\n"),
        );
    }
    let machine = Machine::boot(ground.configured("bench", &toml)?)?;
    progress::during("six services become healthy", || machine.wait_six())?;
    let figures: [(Row, Measure); 4] = [
        (RSS, memory),
        (PROBE_CPU, probe),
        (BUS_NAME, bus_name),
        (SECURITY, security),
    ];
    let mut measured = Vec::new();
    for (row, figure) in figures.into_iter().filter(|(row, _)| wanted(row.name)) {
        let outcome = progress::during(row.name, || figure(&machine));
        measured.push(outcome.unwrap_or_else(|why| Figure::failed(row, &why)));
    }
    Ok(measured)
}

/// Connections that were accepted in the machine so far: nobody but the agent makes any while it is measured.
fn connections(machine: &Machine) -> Result<u64> {
    let text = machine.ok("cat /proc/net/snmp")?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (
        lines.next().context("no names")?,
        lines.next().context("no values")?,
    );
    let at = names
        .split(' ')
        .position(|name| name == "PassiveOpens")
        .context("no PassiveOpens")?;
    let value = values.split(' ').nth(at).context("no value")?;
    value.parse().context("PassiveOpens")
}

fn memory(machine: &Machine) -> Result<Figure> {
    let before = connections(machine)?;
    let probes = machine.wait_for("an hour's worth of probes", Duration::from_mins(5), |machine| {
        let probes = connections(machine)? - before;
        Ok((probes >= HOUR).then_some(probes))
    })?;
    let status = machine.ok("cat /proc/$(systemctl show -P MainPID monitoring)/status")?;
    let field = |name: &str| -> Result<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_ascii_whitespace().next());
        Ok(number.with_context(|| format!("no {name}"))?.parse::<f64>()? / 1024.0)
    };
    let healthy = SIX
        .iter()
        .filter(|service| machine.health(service) == "healthy")
        .count();
    Ok(Figure {
        row: RSS,
        samples: [field("VmRSS:")?].into_iter().collect(),
        peer: None,
        notes: vec![
            format!(
                "after {probes} probes, one each {INTERVAL} and service; an hour has {HOUR}; {healthy} of 6 healthy"
            ),
            format!(
                "{:.2} MiB of it are the agent's own (RssAnon), {:.2} MiB pages of files; the most ever was {:.2} MiB",
                field("RssAnon:")?,
                field("RssFile:")?,
                field("VmHWM:")?
            ),
        ],
    })
}

/// Microseconds of processor time that a control group has used.
fn usage(machine: &Machine, group: &str) -> Result<f64> {
    let text = machine.ok(&format!("cat {group}/cpu.stat"))?;
    let usage = text.lines().find_map(|line| line.strip_prefix("usage_usec "));
    usage.context("no usage_usec")?.parse().context("usage_usec")
}

fn agent_cpu(machine: &Machine) -> Result<f64> {
    usage(machine, "/sys/fs/cgroup/system.slice/monitoring.service")
}

fn probe(machine: &Machine) -> Result<Figure> {
    // The same question to the same application, asked the way podman asks: a command inside a container.
    machine.ok(
        "podman run -d --name check --network host --entrypoint sleep --health-interval disable \
         --health-cmd 'busybox wget -q -O /dev/null http://127.0.0.1:8989/ping' \
         lscr.io/linuxserver/sonarr:latest infinity",
    )?;
    // The command that is run inside: nothing else happens there.
    let path = machine.ok("podman inspect --format '{{.State.CgroupPath}}' check")?;
    let container = format!("/sys/fs/cgroup{}", path.trim());
    let (mut ours, mut theirs) = (Samples::default(), Samples::default());
    let mut probes = 0;
    for _ in 0..ROUNDS {
        let (opened, used) = (connections(machine)?, agent_cpu(machine)?);
        std::thread::sleep(Duration::from_secs(WINDOW));
        let (used, opened) = (agent_cpu(machine)? - used, connections(machine)? - opened);
        ensure!(opened > 10, "the agent made {opened} connections in {WINDOW} s");
        probes += opened;
        #[expect(clippy::cast_precision_loss, reason = "a few hundred connections")]
        ours.push(used / opened as f64 / 1e3);
        let inside = usage(machine, &container)?;
        let checked = podman_check(machine)?;
        theirs.push(checked + (usage(machine, &container)? - inside) / 1e3);
    }
    machine.ok("podman rm -f -t 0 check")?;
    Ok(Figure {
        row: PROBE_CPU,
        samples: ours,
        peer: Some(Peer {
            name: "podman healthcheck run",
            samples: theirs,
            unit: "ms",
        }),
        notes: vec![
            format!(
                "ours: all that monitoring.service used in windows of {WINDOW} s, divided by its {probes} probes (connections that were accepted)"
            ),
            "podman's: its own control group as systemd accounts it, and what the command used in the container's".to_owned(),
        ],
    })
}

/// One check by podman, as a unit of its own, as podman's own timers run it; milliseconds.
fn podman_check(machine: &Machine) -> Result<f64> {
    let output = machine.sh("systemd-run --wait --collect podman healthcheck run check")?;
    ensure!(output.good(), "podman healthcheck run: {}", output.all());
    let text = output.all();
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("CPU time consumed: "));
    span(line.with_context(|| format!("no processor time in {text}"))?)
}

/// `1.234s` or `92.5ms`, in milliseconds.
fn span(text: &str) -> Result<f64> {
    let mut total = 0.0;
    for word in text.split_ascii_whitespace() {
        let units = [("ms", 1.0), ("us", 1e-3), ("min", 6e4), ("s", 1e3)];
        let found = units
            .iter()
            .find_map(|(unit, factor)| Some((word.strip_suffix(unit)?, factor)));
        let (number, factor) = found.with_context(|| format!("not a time span: {text}"))?;
        total += number.parse::<f64>()? * factor;
    }
    Ok(total)
}

fn bus_name(machine: &Machine) -> Result<Figure> {
    let mut samples = Samples::default();
    for _ in 0..ROUNDS {
        machine.ok("systemctl restart monitoring && sleep 0.3")?;
        let owner = machine.ok("busctl status org.nixarr.Dagger1 | sed -n 's/^PID=//p'")?;
        let unit = |property: &str| machine.unit("monitoring.service", property);
        ensure!(owner.trim() == unit("MainPID")?, "{owner} owns the name");
        let moment =
            |property: &str| -> Result<f64> { unit(property)?.parse().with_context(|| property.to_owned()) };
        let handed = moment("ExecMainHandoffTimestampMonotonic")?;
        samples.push((moment("ActiveEnterTimestampMonotonic")? - handed) / 1e3);
    }
    Ok(Figure {
        row: BUS_NAME,
        samples,
        peer: None,
        notes: vec![
            "from systemd's ExecMainHandoffTimestamp= to its ActiveEnterTimestamp=: the agent says READY=1 after it has taken the name, so the name is there sooner; six services configured".to_owned(),
        ],
    })
}

fn security(machine: &Machine) -> Result<Figure> {
    let text = machine.ok("systemd-analyze security --no-pager monitoring.service")?;
    let line = text
        .lines()
        .find_map(|line| line.split_once("Overall exposure level for monitoring.service: "));
    let (_, rest) = line.with_context(|| format!("no overall level in {text}"))?;
    let number = rest.split_ascii_whitespace().next().context("no number")?;
    Ok(Figure {
        row: SECURITY,
        samples: [number.parse::<f64>()?].into_iter().collect(),
        peer: None,
        notes: vec![format!("systemd says: {}", rest.trim())],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_systemd_writes_them() {
        for (text, milliseconds) in [
            ("92.5ms", 92.5),
            ("1.25s", 1250.0),
            ("1min 2s", 62_000.0),
            ("500us", 0.5),
        ] {
            assert!((span(text).unwrap() - milliseconds).abs() < 1e-9, "{text}");
        }
        assert!(span("soon").is_err());
    }
}
