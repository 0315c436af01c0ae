//! The way back: it hangs neither on the container nor on what runs it, and never leads to data that nobody can read.

use anyhow::{Result, ensure};
use dagger_tests::harness::{Story, TRIXIE};
use dagger_tests::native::{QUICK, boot, end, job, native, rows, runs};
use dagger_tests::rig::Machine;
use dagger_tests::suite::Ground;
use std::time::Duration;

pub const STORIES: &[Story] = &[
    Story {
        name: "the_way_back_needs_no_container_no_podman_no_image_and_no_agent",
        on: TRIXIE,
        run: alone,
    },
    Story {
        name: "a_service_that_has_left_the_configuration_is_told_its_way_back",
        on: TRIXIE,
        run: left,
    },
    Story {
        name: "jellyfin_11547_data_that_the_native_version_cannot_read_goes_back_only_as_it_was",
        on: TRIXIE,
        run: unreadable,
    },
];

const MINUTE: Duration = Duration::from_mins(1);
const MIGRATE: &str = "systemctl start dagger-migrate@sonarr.service";
const BACK: &str = "nixarr-migrate rollback sonarr --yes";
const OTHER: &str = "/etc/dagger/conf.d/50-other.toml";

/// It is native again, and every row that was written on either side is there.
fn is_back(machine: &Machine, said: &str, before: u64) -> Result<()> {
    ensure!(said.contains("sonarr is native again"), "{said}");
    ensure!(
        runs(machine)? == (true, false),
        "{:?} after {said}",
        runs(machine)?
    );
    ensure!(rows(machine)? > before, "rows were lost");
    machine.ok("! test -e /var/lib/dagger/owner/sonarr && ! test -e /var/lib/dagger/hold/sonarr")?;
    Ok(())
}

fn alone(ground: &Ground) -> Result<()> {
    let machine = boot(native(ground, "way-back", QUICK)?)?;
    // A container that does not come up any more.
    machine.ok(MIGRATE)?;
    let before = rows(&machine)?;
    let fails =
        "[services.sonarr]\nstart-budget = \"4s\"\nenvironment = { STANDIN_FAIL_START = \"exit 3\" }\n";
    machine.write(OTHER, fails)?;
    machine.ok("systemctl daemon-reload")?;
    ensure!(
        !machine.sh("systemctl restart dagger-sonarr.service")?.good(),
        "the container has come up"
    );
    is_back(&machine, &machine.ok(BACK)?, before)?;
    machine.ok(&format!("rm {OTHER} && systemctl daemon-reload"))?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    // A podman that does nothing any more, its image gone, and nobody on the bus.
    machine.ok(MIGRATE)?;
    let before = rows(&machine)?;
    machine.ok(
        "podman image rm --all --force >/dev/null 2>&1; ! podman image exists lscr.io/linuxserver/sonarr:latest
        mount --bind /bin/false /usr/bin/podman && ! podman version
        systemctl mask --runtime --now monitoring.service 2>&1",
    )?;
    is_back(&machine, &machine.ok(BACK)?, before)?;
    machine.ok("systemctl unmask --runtime monitoring.service 2>&1; systemctl start monitoring.service")?;
    machine.wait_health("sonarr", "healthy", MINUTE)
}

fn left(ground: &Ground) -> Result<()> {
    let machine = boot(native(ground, "way-back-left", QUICK)?)?;
    machine.ok(MIGRATE)?;
    let before = rows(&machine)?;
    let configure = |toml: &str| {
        machine.write("/etc/dagger/dagger.toml", toml)?;
        machine.ok("systemctl daemon-reload")
    };
    configure("[suite]\n")?;
    let refused = machine.sh(BACK)?;
    let todo = "put [services.sonarr] back into /etc/dagger/dagger.toml, run `systemctl daemon-reload`";
    ensure!(
        !refused.good() && refused.all().contains(todo),
        "{}",
        refused.all()
    );
    ensure!(runs(&machine)? == (false, true), "{:?}", runs(&machine)?);
    configure(QUICK)?;
    is_back(&machine, &machine.ok(BACK)?, before)
}

fn unreadable(ground: &Ground) -> Result<()> {
    let toml = format!("{QUICK}environment = {{ STANDIN_SCHEMA = \"218\" }}\n");
    let machine = boot(native(ground, "unreadable", &toml)?)?;
    let before = rows(&machine)?;
    machine.ok(MIGRATE)?;
    let run = machine.unit("dagger-sonarr.service", "InvocationID")?;
    // What the container has written goes along, and that the native version cannot be expected to read.
    let refused = machine.sh(BACK)?;
    for said in [
        "the container has brought sonarr.db from schema 217 to 218, and the native version cannot be expected to read that",
        "nixarr-migrate rollback sonarr --to-snapshot",
        "or bring the native install to the container's version first",
    ] {
        ensure!(
            !refused.good() && refused.all().contains(said),
            "{said:?} is not in\n{}",
            refused.all()
        );
    }
    ensure!(
        runs(&machine)? == (false, true) && machine.unit("dagger-sonarr.service", "InvocationID")? == run,
        "it was stopped"
    );
    machine.ok("nixarr-migrate rollback sonarr --to-snapshot --yes")?;
    ensure!(end(&job(&machine)?, "owner") == "native", "{}", job(&machine)?);
    ensure!(runs(&machine)? == (true, false), "{:?}", runs(&machine)?);
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    ensure!(rows(&machine)? >= before, "rows were lost");
    let kept = machine.ok("nixarr-migrate snapshots sonarr")?;
    ensure!(
        kept.contains("-rollback"),
        "what the container wrote is not kept: {kept}"
    );
    Ok(())
}
