//! What must change in an application's own settings for its container to work, and is what it was on the way back.

use anyhow::{Result, ensure};
use dagger_tests::harness::{Story, TRIXIE};
use dagger_tests::native::{OURS, TOML, boot, end, job, native, rows, runs};
use dagger_tests::rig::Machine;
use dagger_tests::suite::Ground;
use std::time::Duration;

pub const STORIES: &[Story] = &[Story {
    name: "an_address_that_no_container_has_is_widened_and_comes_back_byte_for_byte",
    on: TRIXIE,
    run: address,
}];

const MINUTE: Duration = Duration::from_mins(1);
const CONFIG: &str = "/var/lib/nixarr/sonarr/config.xml";
/// As it looks when one has chosen in the application's own pages that only this machine reaches it.
const LOCAL: &str = "<Config>\n  <BindAddress>127.0.0.1</BindAddress>\n</Config>\n";
/// Ends the container when it has begun its probation, and keeps the settings that it ran with.
const KILLER: &str = "systemd-run --unit=killer sh -c 'until systemctl is-active -q dagger-sonarr.service; do sleep 0.05; done; cp /var/lib/nixarr/sonarr/config.xml /run/ran-with.xml; kill -9 $(cat /proc/$(systemctl show -P MainPID dagger-sonarr.service)/task/*/children)'";

/// The settings with their owner and mode.
fn settings(machine: &Machine) -> Result<String> {
    machine.ok(&format!("stat -c '%U:%G %a' {CONFIG} && cat {CONFIG}"))
}

fn answers(machine: &Machine) -> Result<()> {
    let (status, body) = machine.http("http://127.0.0.1:8989/ping")?;
    ensure!(status == 200 && body.contains("OK"), "{status} {body}");
    Ok(())
}

fn address(ground: &Ground) -> Result<()> {
    let toml = format!("{TOML}network = \"bridge\"\n").replace("\"4s\"", "\"2s\"");
    let machine = boot(native(ground, "address", &toml)?.file(CONFIG, LOCAL))?;
    let before = settings(&machine)?;
    let narrow = "<BindAddress>127.0.0.1</BindAddress>";
    ensure!(before.contains(narrow), "{before}");
    let wide = before.replace(narrow, "<BindAddress>*</BindAddress>");

    machine.ok(KILLER)?;
    let failed = machine.sh("systemctl start dagger-migrate@sonarr.service")?;
    let told = job(&machine)?;
    ensure!(!failed.good() && end(&told, "result") == "undone", "{told}");
    let ran_with = machine.ok("cat /run/ran-with.xml")?;
    ensure!(
        wide.ends_with(&ran_with),
        "the container ran with\n{ran_with}not with\n{wide}"
    );
    ensure!(runs(&machine)? == (true, false), "{:?}", runs(&machine)?);
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    ensure!(
        settings(&machine)? == before,
        "undone, {before}\nis\n{}",
        settings(&machine)?
    );

    let moved = machine.sh("systemctl start dagger-migrate@sonarr.service")?;
    ensure!(
        moved.good(),
        "{}\n{}",
        job(&machine)?,
        machine.account_of("sonarr")
    );
    ensure!(
        machine.unit(OURS, "ActiveState")? == "active",
        "ours does not run"
    );
    answers(&machine)?;
    ensure!(
        settings(&machine)? == wide,
        "moved, {before}\nis\n{}",
        settings(&machine)?
    );

    machine.ok("systemctl start dagger-rollback@sonarr.service")?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    answers(&machine)?;
    ensure!(
        settings(&machine)? == before,
        "back, {before}\nis\n{}",
        settings(&machine)?
    );
    rows(&machine)?;
    Ok(())
}
