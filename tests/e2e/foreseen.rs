//! What will be in the way, known before anything is started.

use anyhow::{Result, ensure};
use dagger_tests::harness::{Story, TRIXIE};
use dagger_tests::rig::Machine;
use dagger_tests::suite::Ground;

pub const STORIES: &[Story] = &[Story {
    name: "config_check_names_the_port_of_a_natives_own_settings_and_of_a_generated_socket",
    on: TRIXIE,
    run: foreseen,
}];

const TOML: &str = "[suite]\nmedia = \"/fun\"\nstart-at-boot = false\n[services.sonarr]\nport = 9092\n[services.radarr]\nport = 8099\n[services.prowlarr]\nport = 81\n";
/// As NFS, cloud images and administrators have them.
const GENERATOR: &str = "#!/bin/sh\nprintf '[Socket]\\nListenStream=8099\\n' >$1/made.socket\nmkdir -p $1/sockets.target.wants\nln -s ../made.socket $1/sockets.target.wants/\n";

fn foreseen(ground: &Ground) -> Result<()> {
    let spec = ground
        .installed_with("foreseen", &["transmission-daemon"])?
        .file("/etc/dagger/dagger.toml", TOML)
        .file("/etc/systemd/system-generators/made", GENERATOR);
    let machine = Machine::boot(spec)?;
    // Debian's settings lie in /etc behind a link, readable for the daemon's user only.
    machine.ok(
        "systemctl stop transmission-daemon.service; settings=$(readlink -f /var/lib/transmission-daemon/.config/transmission-daemon/settings.json); \
         sed -i 's/\"rpc-port\": [0-9]*/\"rpc-port\": 9092/' $settings && grep -q 9092 $settings; \
         chmod 755 /etc/systemd/system-generators/made && systemctl daemon-reload",
    )?;
    let told = machine.ok("daggerctl config check")?;
    for line in [
        "port 9092/tcp is what the settings of transmission-daemon.service say, which is installed on this machine",
        "port 8099/tcp is what made.socket listens on (/run/systemd/generator/made.socket:2)",
        "port 81/tcp is below 1024: only root may listen there",
    ] {
        ensure!(told.contains(line), "{line}\nis not in:\n{told}");
    }
    // Who may not read the settings is told nothing wrong.
    let told = machine.as_nobody(&["daggerctl", "config", "check"])?;
    ensure!(
        told.code == 0 && !told.stdout.contains("9092") && told.stdout.contains("made.socket"),
        "{}",
        told.all()
    );
    Ok(())
}
