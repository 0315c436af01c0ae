//! A service moves from its native unit into its container and back, and nothing is lost on the way.

use anyhow::{Result, ensure};
use dagger_tests::harness::{BOTH, Story, TRIXIE};
use dagger_tests::native::{
    OWN_AT_FIRST, STATE, TOML, add_half_torrent, add_torrent, boot, counted, end, job, native, rows, runs,
};
use dagger_tests::rig::Machine;
use dagger_tests::suite::Ground;
use std::time::Duration;

pub const STORIES: &[Story] = &[
    Story {
        name: "sonarr_moves_into_its_container_and_back_and_no_row_is_lost",
        on: BOTH,
        run: there_and_back,
    },
    Story {
        name: "docker_plex_78_another_user_gets_the_files_and_they_come_back",
        on: TRIXIE,
        run: another_user,
    },
    Story {
        name: "a_container_that_dies_in_its_probation_is_undone",
        on: TRIXIE,
        run: dies,
    },
    Story {
        name: "a_container_that_does_not_come_up_is_undone_at_its_first_death",
        on: BOTH,
        run: stillborn,
    },
    Story {
        name: "jellyfin_17900_a_library_that_is_emptied_is_put_back",
        on: TRIXIE,
        run: emptied,
    },
    Story {
        name: "debians_transmission_moves_into_its_container_and_back_with_its_torrents",
        on: BOTH,
        run: torrents,
    },
];

const TOML_FILE: &str = "/etc/dagger/dagger.toml";
const DEBIANS: &str = "transmission-daemon.service";
/// Transmission's sums of all that it has ever done.
const STATISTICS: &str = r#"{ "downloaded-bytes": 0, "files-added": 17, "seconds-active": 7200, "session-count": 5, "uploaded-bytes": 12345678 }"#;
const MINUTE: Duration = Duration::from_mins(1);

/// Everything about the files that an application does not write by itself.
fn owners(machine: &Machine) -> Result<String> {
    machine.ok(&format!("cd {STATE} && find . -not -name '*.db-*' -not -name '*.pid' -not -path './logs*' -printf '%p %U:%G %m\\n' | sort"))
}

fn there_and_back(ground: &Ground) -> Result<()> {
    let mut machine = boot(native(ground, "there-and-back", TOML)?)?;
    let (before, owned) = (rows(&machine)?, owners(&machine)?);
    machine.ok("systemctl start dagger-migrate@sonarr.service")?;
    let told = job(&machine)?;
    ensure!(
        end(&told, "result") == "done" && end(&told, "owner") == "container",
        "{told}"
    );
    ensure!(
        runs(&machine)? == (false, true),
        "after the migration: {:?}\n{}",
        runs(&machine)?,
        machine.account_of("sonarr")
    );
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    let moved = rows(&machine)?;
    ensure!(
        moved > before,
        "{moved} rows after the migration, {before} before"
    );
    ensure!(
        owners(&machine)? == owned,
        "{owned}\nbecame\n{}",
        owners(&machine)?
    );
    let marker = machine.ok("cat /var/lib/dagger/owner/sonarr")?;
    ensure!(marker == "DAGGER_UID=274\nDAGGER_GID=169\n", "{marker}");
    // Asked for again it says that nothing is left to do.
    let again = machine.sh("systemctl start dagger-migrate@sonarr.service")?;
    ensure!(!again.good(), "a second migration succeeded");
    ensure!(end(&job(&machine)?, "result") == "refused", "{}", job(&machine)?);

    machine.power_cut()?;
    machine.power_on()?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    ensure!(
        runs(&machine)? == (false, true),
        "after a power cut: {:?}",
        runs(&machine)?
    );
    let late = rows(&machine)?;
    machine.ok("systemctl start dagger-rollback@sonarr.service")?;
    ensure!(end(&job(&machine)?, "owner") == "native", "{}", job(&machine)?);
    ensure!(
        runs(&machine)? == (true, false),
        "after the way back: {:?}",
        runs(&machine)?
    );
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    let back = rows(&machine)?;
    ensure!(back > late && late > moved, "{moved}, {late}, {back} rows");
    ensure!(
        owners(&machine)? == owned,
        "{owned}\nbecame\n{}",
        owners(&machine)?
    );
    Ok(())
}

/// The configuration names another user: the files are given to that one, and each comes back to whom it belonged.
fn another_user(ground: &Ground) -> Result<()> {
    let toml = format!("{TOML}user = 1000\n");
    let machine = boot(native(ground, "another-user", &toml)?)?;
    let (before, owned) = (rows(&machine)?, owners(&machine)?);
    // A rule of tmpfiles.d would take the directory away from that one at the next boot.
    let refused = machine.sh("systemctl start dagger-migrate@sonarr.service")?;
    let told = job(&machine)?;
    ensure!(!refused.good() && end(&told, "result") == "refused", "{told}");
    ensure!(
        told.to_string().contains(
            "/etc/tmpfiles.d/sonarr.conf:2 gives /var/lib/nixarr/sonarr to sonarr:media at each boot"
        ),
        "{told}"
    );
    // What the refusal says to write.
    machine.write(OWN_AT_FIRST.0, OWN_AT_FIRST.1)?;
    machine.ok("systemctl start dagger-migrate@sonarr.service")?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    machine.ok("systemd-tmpfiles --create 2>/dev/null; systemctl restart dagger-sonarr.service")?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    let others = machine.ok(&format!("find {STATE} -not '(' -user 1000 -group 169 ')'"))?;
    ensure!(others.is_empty(), "not given: {others}");
    machine.ok("systemctl start dagger-rollback@sonarr.service")?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    ensure!(
        owners(&machine)? == owned,
        "{owned}\nbecame\n{}",
        owners(&machine)?
    );
    ensure!(rows(&machine)? > before, "rows were lost");
    Ok(())
}

fn dies(ground: &Ground) -> Result<()> {
    let toml = TOML.replace("probation = \"4s\"", "probation = \"30s\"");
    let machine = boot(native(ground, "dies", &toml)?)?;
    let before = rows(&machine)?;
    // The container is well at first, and for most of its probation.
    machine.ok("systemd-run --unit=killer sh -c 'until systemctl is-active -q dagger-sonarr.service; do sleep 0.1; done; sleep 20; systemctl kill --kill-whom=all -s KILL dagger-sonarr.service'")?;
    let failed = machine.sh("systemctl start dagger-migrate@sonarr.service")?;
    ensure!(!failed.good(), "it succeeded");
    let told = job(&machine)?;
    ensure!(end(&told, "result") == "undone", "{told}");
    ensure!(end(&told, "sentence").contains("dagger-sonarr.service"), "{told}");
    let log = machine.ok("cat /var/lib/dagger/transactions/sonarr/*.log")?;
    ensure!(
        log.contains("\"probation\"") && log.contains("dagger-sonarr.service"),
        "it was not its probation that failed: {log}"
    );
    ensure!(runs(&machine)? == (true, false), "{:?}", runs(&machine)?);
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    ensure!(rows(&machine)? >= before, "rows were lost");
    machine.ok("! test -e /var/lib/dagger/owner/sonarr && ! test -e /var/lib/dagger/hold/sonarr")?;
    Ok(())
}

/// systemd would try it a hundred times in ten minutes, and the service would be away for as long.
fn stillborn(ground: &Ground) -> Result<()> {
    let dies = "[Service]\nExecStartPost=/bin/false\n";
    let spec = native(ground, "stillborn", TOML)?
        .file("/etc/systemd/system/dagger-sonarr.service.d/dies.conf", dies);
    let machine = boot(spec)?;
    let before = rows(&machine)?;
    let failed = machine.sh("systemctl start dagger-migrate@sonarr.service")?;
    ensure!(!failed.good(), "it succeeded: {}", job(&machine)?);
    let told = job(&machine)?;
    ensure!(end(&told, "result") == "undone", "{told}");
    ensure!(end(&told, "sentence").contains("dagger-sonarr.service"), "{told}");
    ensure!(runs(&machine)? == (true, false), "{:?}", runs(&machine)?);
    ensure!(rows(&machine)? >= before, "rows were lost");
    let tries = machine.ok("journalctl -o cat -u dagger-sonarr.service | grep -c '^Starting '")?;
    ensure!(tries.trim() == "1", "it was tried {tries} times");
    Ok(())
}

/// Within seconds of its start in the container the application takes its library for deleted, without an error.
fn emptied(ground: &Ground) -> Result<()> {
    let machine = boot(native(ground, "emptied", TOML)?)?;
    let before = rows(&machine)?;
    machine.ok("systemd-run --unit=emptier sh -c 'until systemctl is-active -q dagger-sonarr.service; do sleep 0.1; done; standin empty /var/lib/nixarr/sonarr'")?;
    let failed = machine.sh("systemctl start dagger-migrate@sonarr.service")?;
    ensure!(!failed.good(), "it succeeded: {}", job(&machine)?);
    let told = job(&machine)?;
    ensure!(end(&told, "result") == "undone", "{told}");
    ensure!(
        end(&told, "sentence").contains("0 of 50 series are left"),
        "{told}"
    );
    ensure!(runs(&machine)? == (true, false), "{:?}", runs(&machine)?);
    ensure!(rows(&machine)? >= before, "rows were lost");
    let left = machine.ok(&format!("standin empty {STATE}"))?;
    ensure!(left.starts_with("50 rows"), "of 50 series were put back: {left}");
    Ok(())
}

/// Debian's own Transmission: its torrents, how far each is, and its settings.
fn torrents(ground: &Ground) -> Result<()> {
    let toml = "[suite]\nmedia = \"/fun\"\nprobation = \"4s\"\n[services.transmission]\nstate = \"/var/lib/transmission-daemon/.config/transmission-daemon\"\nhealth = { interval = \"1s\" }\n";
    let spec = ground
        .installed_with("torrents", &["transmission-daemon"])?
        .file("/etc/dagger/dagger.toml", toml);
    let machine = Machine::boot(spec)?;
    machine.wait_unit(DEBIANS, "active", MINUTE)?;
    let settings = "/etc/transmission-daemon/settings.json";
    machine.ok(&format!("systemctl stop {DEBIANS} && sed -i 's/\"rpc-authentication-required\": true/\"rpc-authentication-required\": false/; s|\"download-dir\": \".*\"|\"download-dir\": \"/fun\"|' {settings} && systemctl start {DEBIANS}"))?;
    add_torrent(&machine, "/fun")?;
    add_half_torrent(&machine, "/fun")?;
    // As after months: it has given away much of the first one, and has its sums in a file.
    let config = "/var/lib/transmission-daemon/.config/transmission-daemon";
    machine.ok(&format!(
        "systemctl stop {DEBIANS} && sed -i 's/8:uploadedi0e/8:uploadedi4321e/; s/9:done-datei[0-9]*e/9:done-datei1700000000e/' $(grep -la 4:film {config}/resume/*)"
    ))?;
    machine.write(&format!("{config}/stats.json"), STATISTICS)?;
    machine.ok(&format!(
        "chown debian-transmission: {config}/stats.json && systemctl start {DEBIANS}"
    ))?;
    let list = || counted(&machine);
    let before = list()?;
    for what in [
        "uploadedEver 4321",
        "doneDate 1700000000",
        "status 0, leftUntilDone 262144",
        "uploadedBytes 12345678",
    ] {
        ensure!(
            before.iter().any(|line| line.contains(what)),
            "{what} is not in {before:#?}"
        );
    }
    // Its settings are a link that leads out of what the container sees: the plan says so before anything is touched.
    let refused = machine.sh("systemctl start dagger-migrate@transmission.service")?;
    let said = machine.ok("cat /run/dagger/job/transmission.progress")?;
    ensure!(
        !refused.good() && said.contains("settings.json is a symbolic link") && list()? == before,
        "{said}"
    );
    machine.write(
        TOML_FILE,
        &toml.replace(
            "health =",
            "volumes = [{ source = \"/etc/transmission-daemon\" }]
health =",
        ),
    )?;
    machine.ok("systemctl daemon-reload")?;
    let moved = machine.sh("systemctl start dagger-migrate@transmission.service")?;
    ensure!(
        moved.good(),
        "{}
{}",
        machine.ok("cat /run/dagger/job/transmission.progress")?,
        machine.account_of("transmission")
    );
    ensure!(
        machine.unit("dagger-transmission.service", "ActiveState")? == "active",
        "ours does not run"
    );
    ensure!(list()? == before, "{before:#?}\nbecame\n{:#?}", list()?);
    machine.ok("systemctl start dagger-rollback@transmission.service")?;
    ensure!(
        machine.unit(DEBIANS, "ActiveState")? == "active",
        "the native one does not run"
    );
    ensure!(list()? == before, "{before:#?}\nbecame\n{:#?}", list()?);
    Ok(())
}
