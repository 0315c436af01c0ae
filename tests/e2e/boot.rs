//! From power to six applications that answer.

use anyhow::{Context, Result, ensure};
use dagger_tests::harness::{BOTH, Story, TRIXIE};
use dagger_tests::rig::Machine;
use dagger_tests::suite::{Ground, SIX, SIX_TOML};
use std::time::Duration;

pub const STORIES: &[Story] = &[
    Story {
        name: "six_come_up_at_boot_and_the_bus_knows",
        on: BOTH,
        run: six,
    },
    Story {
        name: "units_verify_without_a_word",
        on: BOTH,
        run: verify,
    },
    Story {
        name: "after_means_answers",
        on: BOTH,
        run: after_means_answers,
    },
    Story {
        name: "six_come_back_after_the_plug_was_pulled",
        on: BOTH,
        run: plug,
    },
    Story {
        name: "not_at_boot_when_the_file_says_so",
        on: TRIXIE,
        run: not_at_boot,
    },
    Story {
        name: "nothing_configured_is_no_failure",
        on: BOTH,
        run: nothing,
    },
];

fn six(ground: &Ground) -> Result<()> {
    let machine = Machine::boot(ground.configured("six", SIX_TOML)?)?;
    machine.wait_six()?;
    let failed = machine.ok("systemctl --failed --plain --no-legend")?;
    ensure!(failed.trim().is_empty(), "failed units: {failed}");
    ensure!(
        machine.unit("dagger.target", "ActiveState")? == "active",
        "dagger.target is not active"
    );
    ensure!(
        machine.manager_property("Health")? == "healthy",
        "the whole is not healthy"
    );
    ensure!(
        machine
            .manager_property("ConfigurationErrors")?
            .as_array()
            .is_some_and(Vec::is_empty),
        "errors in a good file"
    );
    let objects = machine.manager_property("Services")?;
    ensure!(
        objects.as_array().is_some_and(|paths| paths.len() == SIX.len()),
        "objects: {objects}"
    );
    for service in SIX {
        properties(&machine, service).with_context(|| format!("properties of {service}"))?;
    }
    machine.ok(
        "podman ps --format '{{.Names}}' | sort | tr '\\n' ' ' | grep -qx \
        'dagger-bazarr dagger-jellyfin dagger-prowlarr dagger-radarr dagger-sonarr dagger-transmission '",
    )?;
    Ok(())
}

fn properties(machine: &Machine, service: &str) -> Result<()> {
    let unit = format!("dagger-{service}.service");
    let expect = |property: &str, wanted: &str| -> Result<()> {
        let value = machine.bus_property(service, property)?;
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        ensure!(text == wanted, "{property} is {text:?}, not {wanted:?}");
        Ok(())
    };
    expect("Name", service)?;
    expect("Unit", &unit)?;
    expect("Owner", "container")?;
    expect("ActiveState", "active")?;
    expect("SubState", "running")?;
    expect("MainPID", &machine.unit(&unit, "MainPID")?)?;
    let port = machine.bus_property(service, "Port")?;
    let url = machine.bus_property(service, "Url")?;
    ensure!(
        url.as_str().is_some_and(|url| url.contains(&format!(":{port}"))),
        "Url {url}, Port {port}"
    );
    let image = machine.bus_property(service, "Image")?;
    let reference = image.as_str().context("Image")?.to_owned();
    let digest = machine.ok(&format!(
        "podman image inspect --format '{{{{.Digest}}}}' {reference}"
    ))?;
    expect("ImageDigest", digest.trim())?;
    let label = "{{index .Labels \"org.opencontainers.image.version\"}}";
    let version = machine.ok(&format!("podman image inspect --format '{label}' {reference}"))?;
    expect("Version", version.trim())?;
    let latency = machine.bus_property(service, "LatencyUSec")?;
    ensure!(
        latency.as_u64().is_some_and(|usec| usec > 0 && usec < 5_000_000),
        "LatencyUSec {latency}"
    );
    let now = machine.ok("date +%s")?.trim().parse::<u64>().context("date")? * 1_000_000;
    let since = machine.bus_property(service, "Since")?.as_u64().unwrap_or(0);
    ensure!(since.abs_diff(now) < 120_000_000, "Since {since}, now {now}");
    let status = machine.unit(&unit, "StatusText")?;
    ensure!(status.contains("healthy"), "STATUS= is {status:?}");
    Ok(())
}

/// `systemd-analyze verify` has nothing to say, neither of what was installed nor of what the generator wrote.
fn verify(ground: &Ground) -> Result<()> {
    let machine = Machine::boot(ground.configured("verify", SIX_TOML)?)?;
    let output = machine.sh(
        "cd /run/systemd/generator && systemd-analyze verify --man=no --recursive-errors=no \
         dagger-*.service /usr/lib/systemd/system/{monitoring.service,dagger.target,dagger.slice}",
    )?;
    ensure!(
        output.good() && output.all().trim().is_empty(),
        "status {}: {}",
        output.code,
        output.all()
    );
    let journal = machine.ok("journalctl -b --no-pager -o cat _PID=1 | grep -iE 'dagger|monitoring' | grep -iE 'unknown|ignoring|deprecated|invalid|failed to parse' || true")?;
    ensure!(journal.is_empty(), "systemd says of our units: {journal}");
    Ok(())
}

/// What comes after a service starts once that one answers, not once its process is there.
fn after_means_answers(ground: &Ground) -> Result<()> {
    let toml = SIX_TOML.replace(
        "[services.prowlarr]\n",
        "[services.prowlarr]\nenvironment = { STANDIN_MIGRATE = \"3s\" }\n",
    );
    let machine = Machine::boot(ground.configured("after", &toml)?)?;
    machine.wait_six()?;
    let microseconds = |unit: &str, property: &str| -> Result<u64> {
        machine
            .unit(&format!("dagger-{unit}.service"), property)?
            .parse()
            .context("a time")
    };
    let slow = microseconds("prowlarr", "ActiveEnterTimestampMonotonic")?
        - microseconds("prowlarr", "InactiveExitTimestampMonotonic")?;
    ensure!(
        slow > 3_000_000,
        "prowlarr counts as started {slow} us after its start began, and answers after 3 s only"
    );
    for (later, earlier) in [
        ("sonarr", "prowlarr"),
        ("sonarr", "transmission"),
        ("bazarr", "sonarr"),
        ("bazarr", "radarr"),
    ] {
        let (begun, answered) = (
            microseconds(later, "InactiveExitTimestampMonotonic")?,
            microseconds(earlier, "ActiveEnterTimestampMonotonic")?,
        );
        ensure!(
            begun >= answered,
            "{later} began {} us before {earlier} answered",
            answered - begun
        );
    }
    Ok(())
}

fn plug(ground: &Ground) -> Result<()> {
    let mut machine = Machine::boot(ground.configured("plug", SIX_TOML)?)?;
    machine.wait_six()?;
    for round in 1..=2 {
        machine.power_cut()?;
        machine.power_on()?;
        machine.wait_six().with_context(|| format!("after cut {round}"))?;
    }
    machine.ok("systemctl stop dagger-{sonarr,radarr,prowlarr,bazarr,jellyfin}.service")?;
    for place in ["sonarr", "radarr", "prowlarr", "bazarr", "jellyfin/data"] {
        let verdict = machine.ok(&format!("standin verify /var/lib/nixarr/{place}"))?;
        ensure!(
            verdict.contains("overlaps=0") && verdict.trim().ends_with("ok"),
            "{place}: {verdict}"
        );
    }
    Ok(())
}

fn not_at_boot(ground: &Ground) -> Result<()> {
    let toml = SIX_TOML.replace("[suite]\n", "[suite]\nstart-at-boot = false\n");
    let machine = Machine::boot(ground.configured("later", &toml)?)?;
    ensure!(
        machine.unit("dagger.target", "ActiveState")? == "inactive",
        "dagger.target is active"
    );
    ensure!(machine.ok("podman ps -q")?.is_empty(), "containers run");
    machine.run_with(
        &["systemctl", "start", "dagger.target"],
        "",
        Duration::from_mins(1),
    )?;
    machine.wait_six()
}

fn nothing(ground: &Ground) -> Result<()> {
    let machine = Machine::boot(ground.installed("nothing")?)?;
    let failed = machine.ok("systemctl --failed --plain --no-legend")?;
    ensure!(failed.trim().is_empty(), "failed units: {failed}");
    // Known to systemd is what looks for interrupted transactions; nothing of it runs, or has run.
    let units = machine.ok("systemctl list-units --plain --no-legend 'dagger-*'")?;
    ensure!(units.trim().is_empty(), "units without a configuration: {units}");
    let said = machine.ok("journalctl -b -q --no-pager -o cat _COMM=dagger-job")?;
    ensure!(said.is_empty(), "a job without a configuration: {said}");
    machine.ok("systemctl start monitoring.service")?;
    ensure!(
        machine
            .manager_property("Services")?
            .as_array()
            .is_some_and(Vec::is_empty),
        "services out of nothing"
    );
    Ok(())
}
