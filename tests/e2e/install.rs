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
    let files = "find / -xdev \\( -path /proc -o -path /var/log -o -path /run -o -path /tmp \\) -prune -o \\( -name '*dagger*' -o -name '*nixarr*' \\) -print 2>/dev/null | sort";
    machine.ok("/src/units/install --programs /programs")?;
    let again = machine.ok("/src/units/install --programs /programs")?;
    ensure!(again.contains("Nothing to change"), "the second time: {again}");
    machine.write("/etc/dagger/dagger.toml", SIX_TOML)?;
    machine.ok("systemctl daemon-reload && systemctl start dagger.target")?;
    machine.wait_six()?;
    machine.ok("/src/units/install --uninstall")?;
    ensure!(machine.ok("podman ps -q")?.is_empty(), "containers run on");
    let left = machine.ok(files)?;
    for kept in ["/etc/dagger", "/var/lib/dagger", "/var/lib/nixarr"] {
        ensure!(left.lines().any(|line| line == kept), "{kept} is gone:\n{left}");
    }
    let others: Vec<&str> = left
        .lines()
        .filter(|line| {
            ["/usr", "/etc/systemd", "/etc/dbus"]
                .iter()
                .any(|place| line.starts_with(place))
        })
        .collect();
    ensure!(others.is_empty(), "left behind: {others:?}");
    machine.ok("standin verify /var/lib/nixarr/sonarr")?;
    Ok(())
}
