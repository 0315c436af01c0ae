//! Services come and go without a restart of anything else.

use anyhow::{Context, Result, ensure};
use dagger_tests::bench::meter::{self, AGENT};
use dagger_tests::harness::{BOTH, Story, TRIXIE};
use dagger_tests::rig::Machine;
use dagger_tests::suite::{Ground, SIX_TOML};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

pub const STORIES: &[Story] = &[
    Story {
        name: "daemon_reload_adds_and_removes_services",
        on: BOTH,
        run: daemon_reload,
    },
    Story {
        name: "sighup_and_reload_read_the_configuration_again",
        on: TRIXIE,
        run: sighup,
    },
    Story {
        name: "service_described_wholly_by_the_user",
        on: TRIXIE,
        run: described,
    },
    Story {
        name: "two_of_one_kind",
        on: TRIXIE,
        run: two_of_one_kind,
    },
    Story {
        name: "a_thousand_services_are_watched_as_one_is",
        on: TRIXIE,
        run: thousand,
    },
];

/// A little more than the interval that nobody has said anything about.
const ROUND: Duration = Duration::from_secs(16);
const MINUTE: Duration = Duration::from_mins(1);

fn daemon_reload(ground: &Ground) -> Result<()> {
    let machine = Machine::boot(ground.configured("reload", SIX_TOML)?)?;
    machine.wait_six()?;
    let agent = machine.unit("monitoring.service", "MainPID")?;
    let sonarr = machine.unit("dagger-sonarr.service", "MainPID")?;
    let toml = format!(
        "{}[services.lidarr]\n",
        SIX_TOML.replace("[services.radarr]\n", "")
    );
    machine.write("/etc/dagger/dagger.toml", &toml)?;
    machine.ok("systemctl daemon-reload && systemctl start dagger-lidarr.service")?;
    machine.wait_health("lidarr", "healthy", MINUTE)?;
    machine.wait_for("radarr's object to go", MINUTE, |m| {
        Ok(m.bus_property("radarr", "Health").is_err().then_some(()))
    })?;
    ensure!(
        machine.unit("monitoring.service", "MainPID")? == agent,
        "the agent was restarted"
    );
    ensure!(
        machine.unit("dagger-sonarr.service", "MainPID")? == sonarr,
        "sonarr was restarted"
    );
    let seen = machine.verdicts("sonarr")?;
    ensure!(
        seen.iter().filter(|health| *health == "healthy").count() == 1,
        "sonarr's verdict began anew: {seen:?}"
    );
    Ok(())
}

fn sighup(ground: &Ground) -> Result<()> {
    let one = "[suite]\nmedia = \"/fun\"\n[services.sonarr]\n";
    let machine = Machine::boot(ground.configured("sighup", one)?)?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    machine.write("/etc/dagger/conf.d/50-more.toml", "[services.prowlarr]\n")?;
    machine.ok("systemctl reload monitoring.service || systemctl kill -s HUP monitoring.service")?;
    machine.wait_for("prowlarr on the bus", MINUTE, |m| {
        Ok((!m.health("prowlarr").is_empty()).then_some(()))
    })?;
    machine.write(
        "/etc/dagger/conf.d/50-more.toml",
        "[services.prowlarr]\nport = 0\n",
    )?;
    let call = [
        "busctl",
        "call",
        "org.nixarr.Dagger1",
        "/org/nixarr/Dagger1",
        "org.nixarr.Dagger1.Manager",
        "Reload",
    ];
    let refused = machine.run(&call)?;
    ensure!(
        !refused.good() && refused.all().contains("50-more.toml:2:"),
        "{}",
        refused.all()
    );
    ensure!(
        machine.health("sonarr") == "healthy",
        "a mistake elsewhere took sonarr away"
    );
    machine.ok("rm /etc/dagger/conf.d/50-more.toml")?;
    ensure!(machine.run(&call)?.good(), "Reload of a good configuration");
    machine.wait_for("prowlarr's object to go", MINUTE, |m| {
        Ok(m.bus_property("prowlarr", "Health").is_err().then_some(()))
    })
}

fn described(ground: &Ground) -> Result<()> {
    let toml = "[suite]\nmedia = \"/fun\"\n[services.music]\nimage = \"lscr.io/linuxserver/lidarr:latest\"\nport = 8686\n\
        health = { path = \"/ping\", expect = 200 }\n";
    let machine = Machine::boot(ground.configured("described", toml)?)?;
    machine.wait_health("music", "healthy", MINUTE)
}

fn two_of_one_kind(ground: &Ground) -> Result<()> {
    let toml = "[suite]\nmedia = \"/fun\"\n[services.sonarr]\n[services.sonarr-4k]\nlike = \"sonarr\"\nport = 8990\n";
    let machine = Machine::boot(ground.configured("twice", toml)?)?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    let path = "/org/nixarr/Dagger1/service/sonarr_2d4k";
    machine.wait_for("sonarr-4k healthy", MINUTE, |m| {
        let output = m.run(&[
            "busctl",
            "get-property",
            "org.nixarr.Dagger1",
            path,
            "org.nixarr.Dagger1.Service",
            "Health",
        ])?;
        Ok(output.stdout.contains("\"healthy\"").then_some(()))
    })?;
    let states = machine.ok("ls -d /var/lib/nixarr/sonarr* 2>/dev/null || ls -d /var/lib/*/sonarr*")?;
    ensure!(states.lines().count() == 2, "states: {states}");
    Ok(())
}

/// A thousand in the configuration, of which one runs: it is seen as soon as it would be alone, and nothing grows out of
/// hand.
fn thousand(ground: &Ground) -> Result<()> {
    let mut toml =
        "[suite]\nmedia = \"/fun\"\nstate = \"/var/lib/nixarr\"\nstart-at-boot = false\n".to_owned();
    for n in 0..1000 {
        writeln!(toml, "[services.s{n}]\nlike = \"sonarr\"\nport = {}", 20_000 + n)?;
    }
    let machine = Machine::boot(ground.configured("thousand", &toml)?)?;
    machine.ok("systemctl start monitoring.service dagger-s500.service")?;
    machine.wait_health("s500", "healthy", MINUTE)?;
    let asked = Instant::now();
    let all: serde_json::Value = serde_json::from_str(&machine.ok("daggerctl status --json")?)?;
    let took = asked.elapsed();
    let rows = all.get("services").and_then(serde_json::Value::as_array);
    let rows = rows.context("no list of services")?;
    ensure!(rows.len() == 1000, "{} services", rows.len());
    ensure!(took < Duration::from_secs(5), "status took {took:?}");
    let load = load(&machine)?;
    ensure!(
        load < 1.0,
        "watching one of a thousand took {load:.2} % of a processor"
    );
    machine.fault("s500", "hang")?;
    machine.wait_health("s500", "unhealthy", MINUTE * 2)?;
    machine.fault("s500", "")?;
    machine.wait_health("s500", "healthy", MINUTE)?;
    let memory = meter::memory(&machine, AGENT)?;
    ensure!(memory.most < 32.0, "the agent took {} MiB", memory.most);
    Ok(())
}

/// Processor time of the agent while nothing happens, in per cent of one, over one round of questions.
fn load(machine: &Machine) -> Result<f64> {
    let (used, began) = (meter::usage(machine, AGENT)?, Instant::now());
    std::thread::sleep(ROUND);
    let used = meter::usage(machine, AGENT)? - used;
    Ok(used / 1e4 / began.elapsed().as_secs_f64())
}
