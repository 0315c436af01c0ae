//! Installed by hand in a running machine, and taken away again.

use anyhow::{Result, ensure};
use dagger_tests::harness::{BOTH, Story};
use dagger_tests::rig::Machine;
use dagger_tests::suite::{Ground, SIX_TOML, checkout, programs};

pub const STORIES: &[Story] = &[Story {
    name: "install_twice_run_uninstall_and_the_data_stays",
    on: BOTH,
    run: install,
}];

fn install(ground: &Ground) -> Result<()> {
    let spec = ground
        .bare("install")?
        .bind_read_only(checkout(), "/src")
        .bind_read_only(programs(), "/programs")
        .file("/fun/.keep", "");
    let machine = Machine::boot(spec)?;
    let files =
        "find /usr /etc/systemd /etc/dbus-1 -xdev \\( -name '*dagger*' -o -name '*nixarr*' \\) | sort";
    let before = machine.ok(files)?;
    machine.ok("/src/units/install --programs /programs")?;
    let again = machine.ok("/src/units/install --programs /programs")?;
    ensure!(again.contains("Nothing to change"), "the second time: {again}");
    machine.write("/etc/dagger/dagger.toml", SIX_TOML)?;
    machine.ok("systemctl daemon-reload && systemctl start dagger.target")?;
    machine.wait_six()?;
    machine.ok("/src/units/install --uninstall")?;
    ensure!(machine.ok("podman ps -q")?.is_empty(), "containers run on");
    ensure!(
        machine.ok(files)? == before,
        "left behind:\n{}",
        machine.ok(files)?
    );
    machine.ok("test -e /etc/dagger/dagger.toml && test -e /var/lib/dagger/owner/sonarr")?;
    machine.ok("standin verify /var/lib/nixarr/sonarr")?;
    Ok(())
}
