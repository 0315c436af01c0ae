//! The whole suite from stopped to answering, beside the same six as Quadlet units that wait for their health.
//!
//! Both run in one machine, on the same images and the same state, in turns; between two rounds everything is stopped.
//! Quadlet's units are made from ours ([`super::quadlet`]): the same containers, `After=` and `Wants=`, and for
//! readiness `Notify=healthy` with a health command that asks the very question that our gate asks.

use super::figure::{Figure, Peer, Row};
use super::quadlet::{self, Style};
use super::samples::Samples;
use super::unit_text::{Run, UnitText};
use crate::rig::{Machine, Suite, progress};
use crate::suite::{Ground, SIX, SIX_TOML};
use anyhow::{Context, Result, bail, ensure};
use dagger_suite::probe::{Kind, Probe};
use std::path::Path;
use std::time::Duration;

/// The figure.
pub const ROW: Row = Row {
    name: "suite-start-quadlet",
    what: "`systemctl start` of the suite until all six answer, against the same six as Quadlet units with readiness",
    limit: 1.0,
    unit: "x",
};

/// How often each side is started, after a start each that is not counted.
const ROUNDS: usize = 7;
/// So long may one start take.
const LIMIT: Duration = Duration::from_mins(2);
/// How Quadlet's containers are checked: what makes its start the fastest of all that was tried. podman asks once at once
/// and then by a timer whose accuracy is a second, so a shorter interval gains nothing and takes processor time from the
/// applications that are starting (200 ms: a tenth slower); a start-up check of its own has to be followed by a regular
/// one before the container is called healthy (a tenth slower with 100 ms, a third with 1 s).
const HEALTH: &str = "HealthInterval=1s\nHealthTimeout=5s\nHealthRetries=3\n";
/// What Quadlet's `ExecStart=` has and ours has not, or has otherwise.
const APART: [&str; 8] = [
    "name",
    "cidfile",
    "sdnotify",
    "no-healthcheck",
    "health-cmd",
    "health-interval",
    "health-retries",
    "health-timeout",
];
/// Starts a target and asks all ports again every few milliseconds until each has answered as it should. Says in
/// microseconds when the last one did, and when systemd had started everything. Without any other process: those would
/// take their time from what is measured.
const SCRIPT: &str = r#"
    target=$1
    shift
    exec {tick}<> <(:)
    answers() { # PORT PATH STATUS BODY
        local status body
        { exec 3<>"/dev/tcp/127.0.0.1/$1"; } 2>/dev/null || return
        printf 'GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n' "$2" >&3
        IFS= read -r -t 5 status <&3
        IFS= read -r -t 5 -d '' body <&3
        exec 3>&-
        [[ $status == HTTP/1.?\ $3* && $body == *"$4"* ]]
    }
    began=${EPOCHREALTIME//[.,]/}
    { systemctl start "$target"; echo $? ${EPOCHREALTIME//[.,]/} >/run/started; } &
    while [ $# -gt 0 ]; do
        left=()
        for probe; do
            answers $probe || left+=("$probe")
        done
        set -- "${left[@]}"
        read -r -t 0.004 -u $tick
    done
    answered=${EPOCHREALTIME//[.,]/}
    wait
    read -r status started </run/started
    [ "$status" -eq 0 ] || exit "$status"
    echo $((answered - began)) $((started - began))
"#;

/// One of the two.
struct Side {
    target: &'static str,
    prefix: &'static str,
    /// From the command until all six answer and systemd says that they have started.
    samples: Samples,
    /// Until the last one answers alone.
    answered: Samples,
}

impl Side {
    fn new(target: &'static str, prefix: &'static str) -> Self {
        Self {
            target,
            prefix,
            samples: Samples::default(),
            answered: Samples::default(),
        }
    }

    /// Starts it from nothing; milliseconds until all answered, and until systemd had started all.
    fn start(&self, machine: &Machine, questions: &[String]) -> Result<(f64, f64)> {
        let mut words = vec!["bash", "-c", SCRIPT, "bash", self.target];
        words.extend(questions.iter().map(String::as_str));
        let output = machine.run_with(&words, "", LIMIT)?;
        if !output.good() {
            let failed = machine.sh("systemctl --failed --no-legend; journalctl -b -n 40 --no-pager")?;
            bail!("start of {}: {}{}", self.target, output.all(), failed.all());
        }
        let times = output.stdout.split_ascii_whitespace();
        let times: Vec<f64> = times
            .map(|word| word.parse().context("a time"))
            .collect::<Result<_>>()?;
        let [answered, started] = times[..] else {
            bail!("two times were expected: {}", output.all());
        };
        for service in SIX {
            let unit = format!("{}{service}.service", self.prefix);
            ensure!(
                machine.unit(&unit, "ActiveState")? == "active",
                "{unit} is not active"
            );
        }
        Ok((answered / 1e3, started / 1e3))
    }
}

/// Measures it when it is asked for.
pub fn measure(wanted: &dyn Fn(&str) -> bool, _: &Path) -> Result<Vec<Figure>> {
    if !wanted(ROW.name) {
        return Ok(Vec::new());
    }
    let ground = Ground::prepare(Suite::Trixie)?;
    let machine = Machine::boot(ground.configured("start", SIX_TOML)?)?;
    progress::during("six services become healthy", || machine.wait_six())?;
    let units = units(&machine)?;
    let options = install_peer(&machine, &units)?;
    let questions = units
        .iter()
        .map(|(_, unit)| Ok(question(&probe(unit)?)))
        .collect::<Result<Vec<_>>>()?;
    let mut sides = [
        Side::new("dagger.target", "dagger-"),
        Side::new("peer.target", "peer-"),
    ];
    progress::during("both start in turns", || rounds(&machine, &mut sides, &questions))?;
    let [ours, theirs] = sides;
    let notes = vec![
        format!(
            "time until all six answered alone: ours {:.0} ms, Quadlet {:.0} ms; what is compared also waits for systemd to call all of them started",
            ours.answered.median(),
            theirs.answered.median()
        ),
        format!(
            "the same images, state and order; {options} podman options were compared and are the same; ours starts the agent, too"
        ),
        format!("Quadlet: Notify=healthy {}", HEALTH.trim_end().replace('\n', " ")),
    ];
    Ok(vec![Figure {
        row: ROW,
        samples: ours.samples,
        peer: Some(Peer {
            name: "Quadlet",
            samples: theirs.samples,
            unit: "ms",
        }),
        notes,
    }])
}

/// Our units as the machine has them.
fn units(machine: &Machine) -> Result<Vec<(&'static str, UnitText)>> {
    let read = |service: &'static str| {
        let text = machine.ok(&format!("cat /run/systemd/generator/dagger-{service}.service"))?;
        Ok((service, UnitText::parse(&text)?))
    };
    SIX.into_iter().map(read).collect()
}

/// What the gate asks the service.
fn probe(unit: &UnitText) -> Result<Probe> {
    let line = unit.section("Service").find(|(key, _)| *key == "ExecStartPost");
    let (_, line) = line.context("no ExecStartPost=")?;
    let (probe, _) =
        Probe::from_args(line.split_ascii_whitespace().map(str::to_owned)).map_err(anyhow::Error::msg)?;
    Ok(probe)
}

/// Status of the good answer, and what its body has to hold.
fn good(kind: Kind) -> (u16, &'static str) {
    match kind {
        Kind::Transmission => (409, ""),
        Kind::Jellyfin => (200, "Healthy"),
        _ => (200, ""),
    }
}

/// The probe as an argument of the script.
fn question(probe: &Probe) -> String {
    let (status, body) = good(probe.kind);
    format!("{} {} {status} {body}", probe.port, probe.path)
}

/// The probe as a command that runs in the container.
fn command(probe: &Probe) -> String {
    let url = format!("http://127.0.0.1:{}{}", probe.port, probe.path);
    match good(probe.kind) {
        (200, "") => format!("busybox wget -q -O /dev/null {url}"),
        (200, body) => format!("busybox wget -q -O - {url} | busybox grep -q {body}"),
        // wget takes no such answer for a good one, but says what it was.
        (status, _) => format!("busybox wget -S -O /dev/null {url} 2>&1 | busybox grep -q {status}"),
    }
}

/// Writes Quadlet's units into the machine and compares what its generator makes of them with ours; returns how many
/// options both have.
fn install_peer(machine: &Machine, units: &[(&str, UnitText)]) -> Result<usize> {
    for (service, unit) in units {
        let command = command(&probe(unit)?);
        let style = Style {
            prefix: "peer-",
            target: "peer.target",
            more: &|_| format!("Notify=healthy\nHealthCmd={command}\n{HEALTH}"),
            drop: &["no-healthcheck"],
        };
        let text = quadlet::container(service, unit, &style)?;
        machine.write(
            &format!("/etc/containers/systemd/peer-{service}.container"),
            &text,
        )?;
    }
    machine.write(
        "/etc/systemd/system/peer.target",
        "[Unit]\nDescription=The same six by Quadlet\n",
    )?;
    machine.ok("systemctl daemon-reload")?;
    let mut options = 0;
    for (service, unit) in units {
        let text = machine.ok(&format!("cat /run/systemd/generator/peer-{service}.service"))?;
        let theirs = Run::of(&UnitText::parse(&unquoted(&text))?)?.without(&APART);
        let ours = Run::of(unit)?.without(&APART);
        ensure!(
            ours == theirs,
            "{service}: not the same container:\nours   {ours:?}\nQuadlet {theirs:?}"
        );
        options += ours.options.len();
    }
    Ok(options)
}

/// The text with one letter for everything in double quotes: only health commands have blanks in them.
fn unquoted(text: &str) -> String {
    text.split('"')
        .enumerate()
        .map(|(number, part)| if number % 2 == 0 { part } else { "x" })
        .collect()
}

fn rounds(machine: &Machine, sides: &mut [Side; 2], questions: &[String]) -> Result<()> {
    for round in 0..=ROUNDS {
        let mut turns: Vec<&mut Side> = sides.iter_mut().collect();
        if round % 2 == 1 {
            turns.reverse();
        }
        for side in turns {
            stop(machine)?;
            let (answered, started) = side.start(machine, questions)?;
            // The first start of each makes what is missing and fills caches.
            if round > 0 {
                side.samples.push(answered.max(started));
                side.answered.push(answered);
            }
        }
    }
    stop(machine)
}

/// Stops both sides and the agent, and waits until nothing of them is left.
fn stop(machine: &Machine) -> Result<()> {
    machine.ok(
        "systemctl stop dagger.target peer.target monitoring.service 'dagger-*.service' 'peer-*.service'
         sync",
    )?;
    machine.wait_for("everything stopped", Duration::from_secs(30), |machine| {
        let left = machine.ok(
            "podman ps --all --quiet
             systemctl list-units --no-legend --state=active,activating,deactivating 'dagger-*.service' 'peer-*.service' monitoring.service
             systemctl list-jobs --no-legend",
        )?;
        Ok(left.trim().is_empty().then_some(()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_health_command_asks_what_the_gate_asks() {
        let ask = |words: &str| {
            let unit = format!("[Service]\nExecStartPost=/g post --service=x {words}\n");
            probe(&UnitText::parse(&unit).unwrap()).unwrap()
        };
        let plain = ask("--probe=servarr --port=8989 --path=/ping");
        assert_eq!(
            command(&plain),
            "busybox wget -q -O /dev/null http://127.0.0.1:8989/ping"
        );
        assert_eq!(question(&plain), "8989 /ping 200 ");
        let body = ask("--probe=jellyfin --port=8096 --path=/health");
        assert!(command(&body).ends_with("/health | busybox grep -q Healthy"));
        let other = ask("--probe=transmission --port=9091 --path=/transmission/rpc");
        assert!(command(&other).ends_with("2>&1 | busybox grep -q 409"));
    }

    #[test]
    fn what_is_quoted_becomes_one_word() {
        assert_eq!(unquoted("a --health-cmd \"b c\" d"), "a --health-cmd x d");
    }
}
