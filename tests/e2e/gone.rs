//! What an operator does to a unit while it is watched: masked, deleted, renamed. None of it is fought, and all of it is said.

use anyhow::{Result, ensure};
use dagger_tests::harness::{BOTH, Story, TRIXIE};
use dagger_tests::rig::Machine;
use dagger_tests::suite::Ground;
use std::time::Duration;

pub const STORIES: &[Story] = &[
    Story {
        name: "a_unit_that_is_masked_while_it_is_watched_is_never_fought",
        on: BOTH,
        run: masked,
    },
    Story {
        name: "a_unit_that_is_deleted_or_renamed_while_it_is_watched_harms_nobody_else",
        on: TRIXIE,
        run: renamed,
    },
];

const MINUTE: Duration = Duration::from_mins(1);
const FAST: &str = "health = { interval = \"1s\", timeout = \"1s\" }\n";

fn toml(services: &[&str]) -> String {
    services.iter().fold(
        "[suite]\nmedia = \"/fun\"\nstate = \"/var/lib/nixarr\"\n".to_owned(),
        |toml, service| format!("{toml}[services.{service}]\n{FAST}"),
    )
}

fn run_of(machine: &Machine, service: &str) -> Result<String> {
    machine.unit(&format!("dagger-{service}.service"), "InvocationID")
}

/// Masked while it runs; then it hangs, and is stopped as well.
fn masked(ground: &Ground) -> Result<()> {
    let machine = Machine::boot(ground.configured("masks", &toml(&["sonarr", "radarr"]))?)?;
    for service in ["sonarr", "radarr"] {
        machine.wait_health(service, "healthy", MINUTE)?;
    }
    let (sonarr, radarr) = (run_of(&machine, "sonarr")?, run_of(&machine, "radarr")?);
    // Masked while it runs well: it is watched as before.
    machine.ok("systemctl mask --runtime dagger-sonarr.service")?;
    std::thread::sleep(Duration::from_secs(5));
    ensure!(
        machine.health("sonarr") == "healthy",
        "{}",
        machine.account_of("sonarr")
    );
    // It hangs: that is said, and nothing is done about it.
    machine.fault("sonarr", "hang")?;
    machine.wait_health("sonarr", "unhealthy", MINUTE)?;
    std::thread::sleep(Duration::from_secs(15));
    let detail = machine.bus_property("sonarr", "HealthDetail")?.to_string();
    ensure!(detail.contains("its unit is masked"), "{detail}");
    ensure!(
        machine.health("sonarr") == "unhealthy" && run_of(&machine, "sonarr")? == sonarr,
        "something was done about it:\n{}",
        machine.account_of("sonarr")
    );
    machine.ok("systemctl stop dagger-sonarr.service")?;
    std::thread::sleep(Duration::from_secs(15));
    ensure!(
        machine.unit("dagger-sonarr.service", "ActiveState")? != "active",
        "somebody started what is masked"
    );
    ensure!(
        machine.unit("dagger-sonarr.service", "LoadState")? == "masked",
        "somebody took the mask off"
    );
    let why = machine.sh("daggerctl why sonarr")?.all();
    ensure!(why.contains("masked"), "{why}");
    // And back.
    machine.fault("sonarr", "")?;
    let back = machine
        .sh("systemctl unmask --runtime dagger-sonarr.service && systemctl start dagger-sonarr.service")?;
    ensure!(back.good(), "{}\n{}", back.all(), machine.account_of("sonarr"));
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    ensure!(run_of(&machine, "radarr")? == radarr, "radarr was restarted");
    Ok(())
}

/// A service is taken out of the configuration, and another one gets another name, while both run.
fn renamed(ground: &Ground) -> Result<()> {
    let machine = Machine::boot(ground.configured("renames", &toml(&["sonarr", "radarr", "prowlarr"]))?)?;
    for service in ["sonarr", "radarr", "prowlarr"] {
        machine.wait_health(service, "healthy", MINUTE)?;
    }
    let prowlarr = run_of(&machine, "prowlarr")?;
    let new = toml(&["prowlarr"]) + "[services.movies]\nlike = \"radarr\"\n" + FAST;
    machine.write("/etc/dagger/dagger.toml", &new)?;
    machine.ok("systemctl daemon-reload")?;
    let services = || -> Result<String> { Ok(machine.manager_property("Services")?.to_string()) };
    machine.wait_for("the new names on the bus", MINUTE, |_| {
        let listed = services()?;
        let gone = ["sonarr", "radarr"].iter().all(|name| !listed.contains(name));
        Ok((gone && listed.contains("movies")).then_some(()))
    })?;
    // What has lost its unit runs on: nobody told it to stop. The port is its own until then.
    for service in ["sonarr", "radarr"] {
        ensure!(
            machine.unit(&format!("dagger-{service}.service"), "ActiveState")? == "active",
            "{service} was stopped behind its operator's back"
        );
        ensure!(
            machine.health(service).is_empty(),
            "{service} is still on the bus"
        );
    }
    machine.ok(
        "systemctl stop dagger-sonarr.service dagger-radarr.service && systemctl start dagger-movies.service",
    )?;
    machine.wait_health("movies", "healthy", MINUTE)?;
    ensure!(machine.health("prowlarr") == "healthy", "prowlarr suffers");
    ensure!(
        run_of(&machine, "prowlarr")? == prowlarr,
        "prowlarr was restarted"
    );
    ensure!(
        machine.unit("monitoring.service", "NRestarts")? == "0",
        "the agent was restarted"
    );
    let said = machine.verdicts("prowlarr")?;
    ensure!(
        said.iter()
            .all(|health| health == "healthy" || health == "starting"),
        "prowlarr: {said:?}"
    );
    Ok(())
}
