//! Bridge and named namespaces.

use anyhow::{Result, ensure};
use dagger_tests::harness::{BOTH, Story};
use dagger_tests::rig::Machine;
use dagger_tests::suite::Ground;
use std::time::Duration;

pub const STORIES: &[Story] = &[
    Story {
        name: "bridge_publishes_the_port_and_is_probed",
        on: BOTH,
        run: bridge,
    },
    Story {
        name: "namespace_is_joined_and_probed_inside",
        on: BOTH,
        run: namespace,
    },
    Story {
        name: "gluetun_641_a_namespace_that_vanishes_is_named_and_its_successor_joined",
        on: BOTH,
        run: vanishes,
    },
];

const MINUTE: Duration = Duration::from_mins(1);

fn bridge(ground: &Ground) -> Result<()> {
    let toml = "[suite]\nmedia = \"/fun\"\n[services.sonarr]\nnetwork = \"bridge\"\nport = 18989\n";
    let machine = Machine::boot(ground.configured("bridge", toml)?)?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    let (status, body) = machine.http("http://127.0.0.1:18989/ping")?;
    ensure!(status == 200 && body.contains("OK"), "{status} {body}");
    machine.ok("systemctl restart dagger-sonarr.service")?;
    machine.wait_health("sonarr", "healthy", MINUTE)
}

fn namespace(ground: &Ground) -> Result<()> {
    let toml = "[suite]\nmedia = \"/fun\"\nstart-at-boot = false\n[services.sonarr]\nnetwork = \"ns:/run/netns/wg\"\nfront-port = 18989\n[services.prowlarr]\n";
    let machine = Machine::boot(ground.configured("namespace", toml)?)?;
    let early = machine.sh("systemctl start dagger-sonarr.service")?;
    ensure!(!early.good(), "started without its namespace");
    // A further try begins with no words.
    machine.wait_for("the name of the namespace", MINUTE, |machine| {
        let status = machine.unit("dagger-sonarr.service", "StatusText")?;
        Ok(status.contains("/run/netns/wg").then_some(()))
    })?;
    machine.ok("systemctl stop dagger-sonarr.service; ip netns add wg && ip -n wg link set lo up && systemctl start dagger-sonarr.service dagger-prowlarr.service")?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    machine.wait_health("prowlarr", "healthy", MINUTE)?;
    let (outside, _) = machine.http("http://127.0.0.1:8989/ping")?;
    ensure!(outside == 0, "it answers outside of its namespace: {outside}");
    machine.ok("ip netns exec wg curl -sf http://127.0.0.1:8989/ping")?;
    // There is a way in from this machine, as long as it runs.
    let (inside, _) = machine.http("http://127.0.0.1:18989/ping")?;
    ensure!(inside == 200, "its front port does not lead to it: {inside}");
    machine.ok("systemctl stop dagger-sonarr.service")?;
    machine.wait_unit("dagger-front@sonarr.socket", "inactive", MINUTE)?;
    Ok(())
}

/// A VPN's namespace goes while a service runs in it, and another one with its name comes. The process lives in the old one
/// until it is restarted.
fn vanishes(ground: &Ground) -> Result<()> {
    let fast = "health = { interval = \"1s\", timeout = \"1s\" }\n";
    let toml = format!(
        "[suite]\nmedia = \"/fun\"\nstart-at-boot = false\n[services.sonarr]\nnetwork = \"ns:/run/netns/wg\"\n{fast}[services.prowlarr]\n{fast}"
    );
    let machine = Machine::boot(ground.configured("vanishes", &toml)?)?;
    let make = "ip netns add wg && ip -n wg link set lo up";
    machine.ok(&format!(
        "{make} && systemctl start dagger-sonarr.service dagger-prowlarr.service"
    ))?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    machine.wait_health("prowlarr", "healthy", MINUTE)?;
    let run_of = |service: &str| machine.unit(&format!("dagger-{service}.service"), "InvocationID");
    let (sonarr, prowlarr) = (run_of("sonarr")?, run_of("prowlarr")?);
    machine.ok("ip netns delete wg")?;
    machine.wait_health("sonarr", "unknown", MINUTE)?;
    let detail = machine.bus_property("sonarr", "HealthDetail")?.to_string();
    ensure!(
        detail.contains("cannot enter the network namespace /run/netns/wg"),
        "{detail}"
    );
    std::thread::sleep(Duration::from_secs(15));
    ensure!(
        run_of("sonarr")? == sonarr,
        "it was restarted although it could not come up again"
    );
    machine.ok(make)?;
    machine.wait_for("a run in the new namespace", MINUTE * 2, |machine| {
        Ok((run_of("sonarr")? != sonarr && machine.health("sonarr") == "healthy").then_some(()))
    })?;
    machine.ok("ip netns exec wg curl -sf http://127.0.0.1:8989/ping")?;
    ensure!(run_of("prowlarr")? == prowlarr, "another service was restarted");
    let said = machine.verdicts("prowlarr")?;
    ensure!(
        said.iter()
            .all(|health| health == "healthy" || health == "starting" || health == "inactive"),
        "prowlarr: {said:?}"
    );
    Ok(())
}
