//! A native install beside the container: exactly one of both runs, and one marker decides which.

use anyhow::{Result, ensure};
use dagger_tests::harness::{BOTH, Story, TRIXIE};
use dagger_tests::rig::Machine;
use dagger_tests::suite::Ground;
use std::time::Duration;

pub const STORIES: &[Story] = &[
    Story {
        name: "native_transmission_keeps_its_data_until_the_marker_says_otherwise",
        on: BOTH,
        run: marker,
    },
    Story {
        name: "native_package_of_later_does_not_take_over",
        on: TRIXIE,
        run: later,
    },
    Story {
        name: "native_stays_out_when_its_service_is_turned_off_or_taken_out",
        on: BOTH,
        run: off,
    },
    Story {
        name: "native_template_or_mask_decides_who_runs",
        on: TRIXIE,
        run: template,
    },
];

const MINUTE: Duration = Duration::from_mins(1);
const TOML: &str = "[suite]\nmedia = \"/fun\"\nstate = \"/var/lib/nixarr\"\n[services.transmission]\nnative = \"transmission-daemon.service\"\n";
const NATIVE: &str = "transmission-daemon.service";
const OURS: &str = "dagger-transmission.service";

fn states(machine: &Machine) -> Result<(String, String)> {
    Ok((
        machine.unit(NATIVE, "ActiveState")?,
        machine.unit(OURS, "ActiveState")?,
    ))
}

fn marker(ground: &Ground) -> Result<()> {
    let spec = ground
        .installed_with("native", &["transmission-daemon"])?
        .file("/etc/dagger/dagger.toml", TOML);
    let mut machine = Machine::boot(spec)?;
    ensure!(
        states(&machine)? == ("active".into(), "inactive".into()),
        "at boot: {:?}",
        states(&machine)?
    );
    ensure!(
        machine.bus_property("transmission", "Owner")? == "native",
        "owner is not native"
    );
    ensure!(
        machine.bus_property("transmission", "Unit")? == NATIVE,
        "the unit is not the native one"
    );
    machine.wait_health("transmission", "healthy", MINUTE)?;
    machine.ok(&format!("systemctl start {OURS}"))?;
    ensure!(
        states(&machine)? == ("active".into(), "inactive".into()),
        "asked for ours: {:?}",
        states(&machine)?
    );
    let failed = machine.ok("systemctl --failed --plain --no-legend")?;
    ensure!(failed.trim().is_empty(), "failed units: {failed}");

    let state = "/var/lib/nixarr/transmission/.config/transmission-daemon";
    machine.ok(&format!(
        "mkdir -p {state} && echo '{{}}' >{state}/settings.json && chown -R 568:568 {state}"
    ))?;
    machine.ok(&format!("systemctl stop {NATIVE} && mkdir -p /var/lib/dagger/owner && printf 'DAGGER_UID=568\\nDAGGER_GID=568\\n' >/var/lib/dagger/owner/transmission"))?;
    machine.ok(&format!("systemctl start {NATIVE}; systemctl start {OURS}"))?;
    ensure!(
        states(&machine)? == ("inactive".into(), "active".into()),
        "after the flip: {:?}",
        states(&machine)?
    );
    machine.wait_health("transmission", "healthy", MINUTE)?;
    ensure!(
        machine.bus_property("transmission", "Owner")? == "container",
        "owner is not container"
    );
    machine.power_cut()?;
    machine.power_on()?;
    machine.wait_health("transmission", "healthy", MINUTE)?;
    ensure!(
        states(&machine)? == ("inactive".into(), "active".into()),
        "after the plug: {:?}",
        states(&machine)?
    );

    machine.ok(&format!(
        "systemctl stop {OURS} && rm /var/lib/dagger/owner/transmission && systemctl start {OURS} {NATIVE}"
    ))?;
    ensure!(
        states(&machine)? == ("active".into(), "inactive".into()),
        "flipped back: {:?}",
        states(&machine)?
    );
    Ok(())
}

/// The first good start is remembered, so that a native package of a year later finds its place taken.
fn later(ground: &Ground) -> Result<()> {
    let mut machine = Machine::boot(ground.configured("later", TOML)?)?;
    machine.wait_health("transmission", "healthy", MINUTE)?;
    machine.ok("test -e /var/lib/dagger/owner/transmission")?;
    let unit = "[Unit]\nDescription=Native\n[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n";
    machine.write(&format!("/usr/lib/systemd/system/{NATIVE}"), unit)?;
    machine.ok(&format!(
        "systemctl daemon-reload && systemctl enable {NATIVE} 2>/dev/null; systemctl start {NATIVE}"
    ))?;
    ensure!(
        states(&machine)? == ("inactive".into(), "active".into()),
        "{:?}",
        states(&machine)?
    );
    machine.shut_down()?;
    machine.power_on()?;
    machine.wait_health("transmission", "healthy", MINUTE)?;
    ensure!(
        states(&machine)? == ("inactive".into(), "active".into()),
        "after a boot: {:?}",
        states(&machine)?
    );
    Ok(())
}

const SLEEPER: &str = "[Unit]\nDescription=Native\n[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n";

/// The container goes on running when its table goes; the native unit must not start beside it.
fn off(ground: &Ground) -> Result<()> {
    let machine = Machine::boot(ground.configured("off", TOML)?)?;
    machine.wait_health("transmission", "healthy", MINUTE)?;
    machine.write(&format!("/usr/lib/systemd/system/{NATIVE}"), SLEEPER)?;
    for (toml, what) in [
        (format!("{TOML}enable = false\n"), "turned off"),
        ("[suite]\nmedia = \"/fun\"\n".to_owned(), "taken out"),
    ] {
        machine.write("/etc/dagger/dagger.toml", &toml)?;
        machine.ok(&format!("systemctl daemon-reload && systemctl start {NATIVE}"))?;
        ensure!(
            states(&machine)? == ("inactive".into(), "active".into()),
            "{what}: {:?}",
            states(&machine)?
        );
    }
    machine.write("/etc/dagger/dagger.toml", &format!("{TOML}enable = false\n"))?;
    // The target's own job does not wait for those that it brings along.
    machine.ok(&format!(
        "systemctl daemon-reload && systemctl stop dagger.target && \
         timeout 60 sh -c 'until [ $(systemctl show -P ActiveState {OURS}) = inactive ]; do sleep 0.2; done'"
    ))?;
    ensure!(
        states(&machine)?.0 == "inactive",
        "the suite was stopped, and the native unit runs"
    );
    Ok(())
}

/// An instance is there with its template, and a masked unit is not there.
fn template(ground: &Ground) -> Result<()> {
    let toml = TOML.replace(NATIVE, "native@main.service");
    let machine = Machine::boot(ground.configured("template", &toml)?)?;
    machine.wait_health("transmission", "healthy", MINUTE)?;
    machine.ok(&format!(
        "systemctl stop {OURS} && rm /var/lib/dagger/owner/transmission"
    ))?;
    machine.write("/usr/lib/systemd/system/native@.service", SLEEPER)?;
    machine.ok(&format!(
        "systemctl daemon-reload && systemctl start native@main.service {OURS}"
    ))?;
    ensure!(
        machine.unit("native@main.service", "ActiveState")? == "active"
            && machine.unit(OURS, "ActiveState")? == "inactive",
        "without a marker the instance owns the data"
    );
    machine.ok(&format!(
        "systemctl stop native@main.service && systemctl mask native@main.service && systemctl start {OURS}"
    ))?;
    ensure!(
        machine.unit(OURS, "ActiveState")? == "active",
        "the native unit is masked, and nothing runs"
    );
    Ok(())
}
