//! A service that comes and goes: seen as such, told once, and left alone.

use anyhow::{Result, ensure};
use dagger_tests::harness::{BOTH, Story};
use dagger_tests::rig::Machine;
use dagger_tests::suite::Ground;
use std::time::{Duration, Instant};

pub const STORIES: &[Story] = &[Story {
    name: "a_service_that_comes_and_goes_is_degraded_told_once_and_not_restarted",
    on: BOTH,
    run: comes_and_goes,
}];

const SONARR: &str = "[suite]\nmedia = \"/fun\"\nstate = \"/var/lib/nixarr\"\n[services.sonarr]\nhealth = { interval = \"1s\", failures = 2 }\n";
const MINUTE: Duration = Duration::from_mins(1);

fn comes_and_goes(ground: &Ground) -> Result<()> {
    let machine = Machine::boot(ground.configured("moody", SONARR)?)?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    let began = Instant::now();
    // The first falls are what any fall is: the agent may restart it, as nothing explains them.
    while machine.health("sonarr") != "degraded" {
        ensure!(
            began.elapsed() < MINUTE * 2,
            "it is not recognised: {:?}",
            machine.verdicts("sonarr")
        );
        machine.fault("sonarr", "500")?;
        machine.wait_for("a fall", MINUTE, |machine| {
            Ok((machine.health("sonarr") != "healthy").then_some(()))
        })?;
        machine.fault("sonarr", "")?;
        machine.wait_for("a good answer", MINUTE, |machine| {
            Ok(matches!(machine.health("sonarr").as_str(), "healthy" | "degraded").then_some(()))
        })?;
    }
    let run = machine.unit("dagger-sonarr.service", "InvocationID")?;
    let told = machine.verdicts("sonarr")?;
    // It goes on like that, by itself: for nobody a reason to do or to say anything more.
    machine.fault("sonarr", "flap 4s")?;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(16) {
        let health = machine.health("sonarr");
        ensure!(health == "degraded", "it became {health}");
        std::thread::sleep(Duration::from_millis(500));
    }
    ensure!(
        machine.unit("dagger-sonarr.service", "InvocationID")? == run,
        "it was restarted\n{}",
        machine.account_of("sonarr")
    );
    let now = machine.verdicts("sonarr")?;
    ensure!(now == told, "told again and again: {now:?}, before {told:?}");
    let seen = [
        ("daggerctl status", "degraded"),
        ("daggerctl health sonarr || :", "it comes and goes, "),
        ("daggerctl why sonarr || :", "sonarr comes and goes, "),
        (
            "daggerctl history sonarr",
            "sonarr is degraded: it comes and goes, 4 times within 30 minutes",
        ),
        (
            "systemctl show -P StatusText dagger-sonarr",
            "it comes and goes, ",
        ),
    ];
    for (command, words) in seen {
        let said = machine.ok(command)?;
        ensure!(said.contains(words), "{command} does not say {words:?}:\n{said}");
    }
    Ok(())
}
