//! What others have that a service would take.

use anyhow::{Result, ensure};
use dagger_tests::harness::{BOTH, Story};
use dagger_tests::rig::Machine;
use dagger_tests::suite::Ground;
use std::time::Duration;

pub const STORIES: &[Story] = &[Story {
    name: "a_container_of_somebody_elses_keeps_its_name",
    on: BOTH,
    run: name,
}];

const TOML: &str = "[suite]\nmedia = \"/fun\"\nstate = \"/var/lib/nixarr\"\n[services.sonarr]\n";
const MINUTE: Duration = Duration::from_mins(1);

/// `podman run --replace` removes whoever has the name: what a crash left of ours, and nothing else.
fn name(ground: &Ground) -> Result<()> {
    let mut machine = Machine::boot(ground.installed("name")?)?;
    machine.write("/etc/dagger/dagger.toml", TOML)?;
    for temporary in ["", "--rm"] {
        machine.ok(&format!("podman run -d {temporary} --name dagger-sonarr --network host --entrypoint sleep lscr.io/linuxserver/sonarr:latest infinity"))?;
        let id = machine.ok("podman inspect --format '{{.Id}}' dagger-sonarr")?;
        machine.ok("systemctl daemon-reload; systemctl start --no-block dagger-sonarr.service")?;
        machine.wait_for("the refusal", MINUTE, |machine| {
            let said = machine.ok("journalctl --no-pager -o cat -u dagger-sonarr")?;
            let named = said.contains(&format!(
                "the container {} (image lscr.io/linuxserver/sonarr:latest",
                &id[..12]
            ));
            Ok((named && said.contains("no unit of systemd's made it")).then_some(()))
        })?;
        machine.ok("podman inspect dagger-sonarr >/dev/null && podman rename dagger-sonarr mine")?;
        // Given back, the service starts by itself.
        machine.wait_health("sonarr", "healthy", MINUTE)?;
        ensure!(
            machine
                .ok("podman inspect --format '{{.State.Status}}' mine")?
                .trim()
                == "running",
            "the other container"
        );
        machine.ok("systemctl stop dagger-sonarr.service; podman rm -f -t 0 mine; journalctl --rotate -q; journalctl --vacuum-time=1us -q")?;
    }
    // What a crash left of ours is in nobody's way.
    machine.ok("systemctl start dagger-sonarr.service")?;
    machine.power_cut()?;
    machine.power_on()?;
    machine.wait_health("sonarr", "healthy", MINUTE)
}
