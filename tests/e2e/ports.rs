//! Ports: held by somebody else, and said so.

use anyhow::{Context, Result, ensure};
use dagger_tests::harness::{BOTH, Story, TRIXIE};
use dagger_tests::rig::Machine;
use dagger_tests::suite::{Ground, SIX_TOML};
use std::time::Duration;

pub const STORIES: &[Story] = &[
    Story {
        name: "compose_4950_held_port_names_unit_and_process",
        on: BOTH,
        run: held,
    },
    Story {
        name: "umbrel_2213_one_address_against_the_wildcard",
        on: TRIXIE,
        run: one_address,
    },
    Story {
        name: "udp_port_held_is_named_too",
        on: TRIXIE,
        run: udp,
    },
];

const MINUTE: Duration = Duration::from_mins(1);
/// Before the suite starts, somebody sits on Sonarr's port.
const SQUATTER: &str = "[Unit]\nDescription=Squatter\nBefore=dagger-sonarr.service\n[Service]\nExecStart=socat TCP-LISTEN:8989,fork,reuseaddr /dev/null\n\
    [Install]\nWantedBy=multi-user.target\n";

fn held(ground: &Ground) -> Result<()> {
    let spec = ground
        .configured("held", SIX_TOML)?
        .file("/etc/systemd/system/squatter.service", SQUATTER);
    let spec = spec.file(
        "/etc/systemd/system/dagger-sonarr.service.d/rig.conf",
        "[Unit]\nWants=squatter.service\nAfter=squatter.service\n",
    );
    let machine = Machine::boot(spec)?;
    for other in ["radarr", "prowlarr", "jellyfin", "transmission"] {
        machine.wait_health(other, "healthy", MINUTE)?;
    }
    let status = machine.wait_for("a refusal in the status", MINUTE, |m| {
        let status = m
            .sh("systemctl status --no-pager -l dagger-sonarr.service")?
            .stdout;
        Ok(status.contains("squatter.service").then_some(status))
    });
    let status = status.with_context(|| machine.account_of("sonarr"))?;
    ensure!(
        status.contains("8989") && status.contains("socat"),
        "neither port nor process in:\n{status}"
    );
    let text = machine.unit("dagger-sonarr.service", "StatusText")?;
    ensure!(text.contains("squatter.service"), "STATUS= is {text:?}");
    let journal = machine.ok("journalctl -b --no-pager -o cat -u dagger-sonarr")?;
    ensure!(
        journal.contains("squatter.service"),
        "the journal does not name the holder:\n{journal}"
    );
    ensure!(
        journal.contains("systemctl disable --now squatter.service"),
        "nothing says what to do:\n{journal}"
    );
    let runtime = machine.sh("time dagger=$(/usr/libexec/dagger/dagger-gate pre --service=sonarr --claim=tcp:8989 --owner=568:568)")?;
    ensure!(
        runtime.took < Duration::from_secs(1),
        "the gate took {:?}",
        runtime.took
    );
    machine.wait_for("the verdict", MINUTE, |m| {
        let detail = m.bus_property("sonarr", "HealthDetail")?.to_string();
        Ok((m.health("sonarr") != "healthy" && detail.contains("squatter.service")).then_some(()))
    })?;
    machine.ok("rm /etc/systemd/system/squatter.service && systemctl daemon-reload && systemctl stop squatter.service")?;
    // Nobody has to do more: the unit's own restart finds the port free.
    machine.wait_health("sonarr", "healthy", MINUTE)
}

fn one_address(ground: &Ground) -> Result<()> {
    let toml = "[suite]\nmedia = \"/fun\"\nstart-at-boot = false\n[services.sonarr]\n";
    let machine = Machine::boot(ground.configured("address", toml)?)?;
    machine.ok("systemd-run --unit=single socat TCP-LISTEN:8989,bind=127.0.0.1,fork /dev/null; sleep 0.2")?;
    let output = machine.sh("systemctl start dagger-sonarr.service; systemctl stop dagger-sonarr.service; journalctl -b --no-pager -o cat -u dagger-sonarr")?;
    ensure!(output.all().contains("single.service"), "{}", output.all());
    Ok(())
}

fn udp(ground: &Ground) -> Result<()> {
    let toml =
        "[suite]\nmedia = \"/fun\"\nstart-at-boot = false\n[services.transmission]\npeer-port = 46634\n";
    let machine = Machine::boot(ground.configured("udp", toml)?)?;
    machine.ok("systemd-run --unit=datagram socat -u UDP-RECV:46634 STDOUT; sleep 0.2")?;
    let output = machine.sh("systemctl start dagger-transmission.service; systemctl stop dagger-transmission.service; journalctl -b --no-pager -o cat -u dagger-transmission")?;
    ensure!(
        output.all().contains("datagram.service") && output.all().contains("46634"),
        "{}",
        output.all()
    );
    Ok(())
}
