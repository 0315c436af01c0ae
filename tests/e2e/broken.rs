//! Mistakes: what is shown, and what still works.

use anyhow::{Context, Result, ensure};
use dagger_tests::harness::{BOTH, Story, TRIXIE};
use dagger_tests::rig::Machine;
use dagger_tests::suite::{Ground, SIX_TOML};
use std::time::Duration;

pub const STORIES: &[Story] = &[
    Story {
        name: "broken_service_says_why_and_the_others_start",
        on: BOTH,
        run: service,
    },
    Story {
        name: "broken_file_says_why_and_the_machine_boots",
        on: BOTH,
        run: file,
    },
    Story {
        name: "radarr_3128_missing_media_stops_the_service_and_is_named",
        on: TRIXIE,
        run: media,
    },
    Story {
        name: "repaired_file_needs_a_reload_only",
        on: TRIXIE,
        run: repaired,
    },
];

const MINUTE: Duration = Duration::from_mins(1);

fn service(ground: &Ground) -> Result<()> {
    let toml = SIX_TOML.replace(
        "[services.radarr]\n",
        "[services.radarr]\nport = \"7878\"\nprot = 1\n",
    );
    let machine = Machine::boot(ground.configured("service", &toml)?)?;
    for service in ["sonarr", "prowlarr", "bazarr", "jellyfin", "transmission"] {
        machine.wait_health(service, "healthy", MINUTE)?;
    }
    let status = machine
        .sh("systemctl status --no-pager -l dagger-radarr.service")?
        .stdout;
    ensure!(
        status.contains("dagger.toml:10:"),
        "file, line and column are not in:\n{status}"
    );
    ensure!(
        machine.unit("dagger-radarr.service", "ActiveState")? == "failed",
        "{status}"
    );
    let errors = machine.manager_property("ConfigurationErrors")?.to_string();
    ensure!(
        errors.contains("dagger.toml:10:"),
        "ConfigurationErrors: {errors}"
    );
    ensure!(
        errors.contains("dagger.toml:11:") && errors.contains("port"),
        "the second mistake is not in {errors}"
    );
    Ok(())
}

fn file(ground: &Ground) -> Result<()> {
    let toml = SIX_TOML.replace("timezone = \"Europe/Berlin\"", "timezone = \"Europe/Berlin");
    let machine = Machine::boot(ground.configured("file", &toml)?)?;
    ensure!(
        machine.unit("dagger-config-error.service", "ActiveState")? == "failed",
        "dagger-config-error.service did not fail"
    );
    let status = machine
        .sh("systemctl status --no-pager -l dagger-config-error.service")?
        .stdout;
    ensure!(
        status.contains("dagger.toml:6:"),
        "file, line and column are not in:\n{status}"
    );
    ensure!(
        machine.unit("multi-user.target", "ActiveState")? == "active",
        "the boot was not finished"
    );
    let errors = machine.manager_property("ConfigurationErrors")?.to_string();
    ensure!(errors.contains("dagger.toml:6:"), "ConfigurationErrors: {errors}");
    Ok(())
}

/// A disk that is not there is not an empty library.
fn media(ground: &Ground) -> Result<()> {
    let toml = SIX_TOML.replace("/fun", "/mnt/disk/fun");
    let machine = Machine::boot(ground.configured("media", &toml)?)?;
    machine.wait_health("prowlarr", "healthy", MINUTE)?;
    let status = machine.wait_for("the refusal", MINUTE, |m| {
        let status = m.unit("dagger-radarr.service", "StatusText")?;
        Ok(status.contains("/mnt/disk").then_some(status))
    });
    status.with_context(|| machine.account_of("radarr"))?;
    ensure!(
        machine.sh("test -e /mnt/disk")?.code == 1,
        "the missing directory was made"
    );
    ensure!(
        machine.sh("podman container exists dagger-radarr")?.code == 1,
        "the container runs on nothing"
    );
    machine.ok("mkdir -p /mnt/disk/fun")?;
    machine.wait_health("radarr", "healthy", MINUTE)
}

fn repaired(ground: &Ground) -> Result<()> {
    let machine = Machine::boot(ground.configured("repaired", &SIX_TOML.replace("[suite]", "[suite"))?)?;
    ensure!(
        machine.unit("dagger-config-error.service", "ActiveState")? == "failed",
        "no error"
    );
    machine.write("/etc/dagger/dagger.toml", SIX_TOML)?;
    machine.ok("systemctl daemon-reload && systemctl start dagger.target")?;
    machine.wait_six()?;
    ensure!(
        machine
            .manager_property("ConfigurationErrors")?
            .as_array()
            .is_some_and(Vec::is_empty),
        "errors stay"
    );
    let failed = machine.ok("systemctl --failed --plain --no-legend list-units 'dagger-*'")?;
    ensure!(!failed.contains("radarr"), "{failed}");
    Ok(())
}
