//! The bus: anyone may read, nobody can make the agent work without bound.

use anyhow::{Context, Result, ensure};
use dagger_tests::harness::{BOTH, Story, TRIXIE};
use dagger_tests::rig::Machine;
use dagger_tests::suite::{BUS, Ground, ROOT, SIX, SIX_TOML};
use std::time::{Duration, Instant};

pub const STORIES: &[Story] = &[
    Story {
        name: "anyone_may_read_and_every_member_is_documented",
        on: BOTH,
        run: read,
    },
    Story {
        name: "check_calls_that_come_together_share_one_probe",
        on: TRIXIE,
        run: coalesce,
    },
    Story {
        name: "flooding_client_is_throttled_and_others_are_served",
        on: TRIXIE,
        run: flood,
    },
    Story {
        name: "nobody_else_is_heard_as_systemd",
        on: TRIXIE,
        run: forged,
    },
    Story {
        name: "agent_is_started_by_the_first_call",
        on: BOTH,
        run: activation,
    },
    Story {
        name: "changes_are_signalled_and_silence_is_kept",
        on: TRIXIE,
        run: signals,
    },
    Story {
        name: "nobody_else_may_own_the_name",
        on: TRIXIE,
        run: own_name,
    },
];

const MINUTE: Duration = Duration::from_mins(1);
const MANAGER: &str = "org.nixarr.Dagger1.Manager";
const ONE: &str = "[suite]\nmedia = \"/fun\"\n[services.sonarr]\nhealth = { interval = \"2s\" }\n";

fn read(ground: &Ground) -> Result<()> {
    let machine = Machine::boot(ground.configured("read", SIX_TOML)?)?;
    machine.wait_six()?;
    let tree = machine.as_nobody(&["busctl", "tree", "--list", BUS])?;
    for service in SIX {
        ensure!(
            tree.stdout.contains(&format!("{ROOT}/service/{service}")),
            "{}",
            tree.all()
        );
    }
    let managed = machine.as_nobody(&[
        "busctl",
        "call",
        BUS,
        ROOT,
        "org.freedesktop.DBus.ObjectManager",
        "GetManagedObjects",
    ])?;
    ensure!(
        managed.good() && managed.stdout.contains("\"HealthDetail\""),
        "{}",
        managed.all()
    );
    let check = machine.as_nobody(&["busctl", "call", BUS, ROOT, MANAGER, "Check"])?;
    ensure!(
        check.good() && check.stdout.matches("\"healthy\"").count() == SIX.len(),
        "{}",
        check.all()
    );
    let one = machine.as_nobody(&[
        "busctl",
        "call",
        BUS,
        &format!("{ROOT}/service/sonarr"),
        "org.nixarr.Dagger1.Service",
        "Check",
    ])?;
    ensure!(one.good() && one.stdout.contains("\"healthy\""), "{}", one.all());
    let xml = machine.as_nobody(&[
        "busctl",
        "introspect",
        "--xml-interface",
        BUS,
        &format!("{ROOT}/service/sonarr"),
    ])?;
    let own = xml
        .stdout
        .split("<interface ")
        .find(|part| part.starts_with("name=\"org.nixarr.Dagger1.Service\""))
        .context("no Service")?;
    let members = own.matches("<property ").count() + own.matches("<method ").count();
    ensure!(
        members > 15 && own.matches("<!--").count() >= members - 1,
        "{members} members, documented less:\n{own}"
    );
    Ok(())
}

fn coalesce(ground: &Ground) -> Result<()> {
    let machine = Machine::boot(ground.configured("coalesce", ONE)?)?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    machine.fault("sonarr", "slow 2s")?;
    let began = Instant::now();
    let answers = machine.ok(&format!(
        "for i in $(seq 12); do busctl --timeout=30 call {BUS} {ROOT} {MANAGER} Check & done; wait"
    ))?;
    let took = began.elapsed();
    ensure!(
        answers.lines().filter(|line| line.contains("sonarr")).count() == 12,
        "{answers}"
    );
    ensure!(
        took < Duration::from_secs(8),
        "12 calls at 2 s a probe took {took:?}"
    );
    machine.fault("sonarr", "")
}

/// The bus lets everybody send a signal to the agent alone that looks like one of systemd's.
fn forged(ground: &Ground) -> Result<()> {
    let machine = Machine::boot(ground.configured("forged", ONE)?)?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    let emit = |interface: &str, property: &str, kind: &str, value: &str| {
        machine.as_nobody(&[
            "busctl",
            "emit",
            &format!("--destination={BUS}"),
            "/org/freedesktop/systemd1/unit/dagger_2dsonarr_2eservice",
            "org.freedesktop.DBus.Properties",
            "PropertiesChanged",
            "sa{sv}as",
            interface,
            "1",
            property,
            kind,
            value,
            "0",
        ])
    };
    let systemd = "org.freedesktop.systemd1";
    emit(&format!("{systemd}.Service"), "MainPID", "u", "1")?;
    emit(&format!("{systemd}.Unit"), "ActiveState", "s", "failed")?;
    std::thread::sleep(Duration::from_secs(5));
    ensure!(
        machine.health("sonarr") == "healthy",
        "a forged signal was believed"
    );
    let main = machine.unit("dagger-sonarr.service", "MainPID")?;
    ensure!(
        machine.bus_property("sonarr", "MainPID")?.as_u64() == main.parse().ok(),
        "a forged main process was believed"
    );
    let said = machine.verdicts("sonarr")?;
    ensure!(
        said.iter()
            .all(|health| health == "healthy" || health == "starting"),
        "{said:?}"
    );
    Ok(())
}

fn flood(ground: &Ground) -> Result<()> {
    let machine = Machine::boot(ground.configured("flood", SIX_TOML)?)?;
    machine.wait_six()?;
    // A connection a call: the user is throttled, not the connection.
    let script = format!(
        "for j in 1 2 3 4; do (for i in $(seq 100); do busctl call {BUS} {ROOT} {MANAGER} Check; done) & done; wait"
    );
    let machine = &machine;
    std::thread::scope(|scope| -> Result<()> {
        let flood = scope.spawn(move || machine.as_nobody(&["bash", "-c", &script]));
        let mut slowest = Duration::ZERO;
        while !flood.is_finished() {
            let began = Instant::now();
            machine.manager_property("Health")?;
            slowest = slowest.max(began.elapsed());
            std::thread::sleep(Duration::from_millis(50));
        }
        ensure!(
            slowest < Duration::from_secs(2),
            "reading took {slowest:?} while somebody else floods"
        );
        let answers = flood
            .join()
            .map_err(|_| anyhow::anyhow!("the flood panicked"))??;
        ensure!(
            answers.all().matches("too many requests").count() > 100,
            "a flood of 400 calls is carried out: {}",
            answers.all()
        );
        Ok(())
    })?;
    ensure!(
        machine.manager_property("Health")? == "healthy",
        "the flood changed a verdict"
    );
    let restarts = machine.unit("monitoring.service", "NRestarts")?;
    ensure!(
        restarts == "0",
        "the agent was restarted {restarts} times: {}",
        machine.ok("journalctl -b --no-pager -u monitoring -n 20")?
    );
    Ok(())
}

fn activation(ground: &Ground) -> Result<()> {
    let machine = Machine::boot(ground.configured("activation", ONE)?)?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    machine.ok("systemctl stop monitoring.service")?;
    ensure!(
        machine.unit("monitoring.service", "ActiveState")? == "inactive",
        "still active"
    );
    let output = machine.as_nobody(&["busctl", "get-property", BUS, ROOT, MANAGER, "Version"])?;
    ensure!(output.good(), "{}", output.all());
    ensure!(
        machine.unit("monitoring.service", "ActiveState")? == "active",
        "not started by the call"
    );
    ensure!(
        machine.unit("dagger-agent.service", "Id")? == "monitoring.service",
        "no alias"
    );
    machine.wait_health("sonarr", "healthy", MINUTE)
}

fn signals(ground: &Ground) -> Result<()> {
    let machine = Machine::boot(ground.configured("signals", ONE)?)?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    let seen = || machine.ok("cat /run/signals");
    machine.ok(&format!("systemd-run --quiet --unit=listener --property=StandardOutput=file:/run/signals busctl --json=short monitor {BUS}; sleep 0.5"))?;
    std::thread::sleep(Duration::from_secs(12));
    let idle = seen()?;
    ensure!(
        !idle.contains("PropertiesChanged"),
        "signals while nothing changed:\n{idle}"
    );
    machine.fault("sonarr", "500")?;
    machine.wait_health("sonarr", "unhealthy", MINUTE)?;
    let changed = seen()?;
    ensure!(
        changed.contains("PropertiesChanged") && changed.contains("\"unhealthy\""),
        "no signal of the change:\n{changed}"
    );
    machine.write("/etc/dagger/conf.d/more.toml", "[services.prowlarr]\n")?;
    machine.ok("systemctl daemon-reload")?;
    machine.wait_for("InterfacesAdded", MINUTE, |_| {
        Ok(seen()?.contains("InterfacesAdded").then_some(()))
    })?;
    machine.ok("rm /etc/dagger/conf.d/more.toml; systemctl daemon-reload")?;
    machine.wait_for("InterfacesRemoved", MINUTE, |_| {
        Ok(seen()?.contains("InterfacesRemoved").then_some(()))
    })
}

fn own_name(ground: &Ground) -> Result<()> {
    let machine = Machine::boot(ground.configured("owner", ONE)?)?;
    machine.ok("systemctl stop monitoring.service")?;
    let request = [
        "busctl",
        "call",
        "org.freedesktop.DBus",
        "/org/freedesktop/DBus",
        "org.freedesktop.DBus",
        "RequestName",
        "su",
        BUS,
        "0",
    ];
    let refused = machine.as_nobody(&request)?;
    ensure!(
        !refused.good()
            && ["not allowed", "denied"]
                .iter()
                .any(|word| refused.all().contains(word)),
        "{}",
        refused.all()
    );
    Ok(())
}
