//! A shadow beside the native unit, and a rehearsal: people look before they leap, and what they look at is a copy.

use anyhow::{Context, Result, ensure};
use dagger_tests::crash::{Case, attempt};
use dagger_tests::harness::{BOTH, Story, TRIXIE};
use dagger_tests::native::{NATIVE, QUICK, STATE, TOML, boot, end, job, native, rows, runs};
use dagger_tests::rig::Machine;
use dagger_tests::suite::Ground;
use std::time::Duration;

pub const STORIES: &[Story] = &[
    Story {
        name: "a_shadow_of_sonarr_is_looked_at_beside_it_and_promoted",
        on: BOTH,
        run: promoted,
    },
    Story {
        name: "a_shadow_that_is_discarded_leaves_no_trace",
        on: BOTH,
        run: discarded,
    },
    Story {
        name: "a_rehearsal_tells_how_it_would_go_and_changes_no_byte",
        on: BOTH,
        run: rehearsed,
    },
    Story {
        name: "jellyfin_17900_is_found_by_a_rehearsal_on_the_copy",
        on: TRIXIE,
        run: lost,
    },
    Story {
        name: "a_rehearsal_that_is_killed_anywhere_leaves_nothing_and_the_service_runs",
        on: TRIXIE,
        run: killed,
    },
    Story {
        name: "a_power_cut_in_a_rehearsal_or_beside_a_shadow_leaves_nothing_of_it",
        on: BOTH,
        run: cut,
    },
];

const MINUTE: Duration = Duration::from_mins(1);
const SHADOW: &str = "dagger-sonarr-shadow.service";
const CLONE: &str = "/var/lib/dagger/shadows/sonarr/clone/data/config";
const BOTH_RUN: (bool, bool) = (true, false);

/// The container's image brings the schema one step up.
fn toml() -> String {
    format!("{TOML}environment = {{ STANDIN_SCHEMA = \"218\" }}\n")
}

/// Everything on the machine that has a shadow's name, and what it ran on.
fn traces(machine: &Machine) -> Result<String> {
    let found = machine.ok(
        "systemctl list-units --all --plain --no-legend | grep sonarr-shadow
         ls -d /run/dagger/*/*shadow* /run/netns/dagger-* /var/lib/dagger/*/sonarr-shadow* /var/lib/dagger/shadows/* 2>/dev/null
         ls -d /run/systemd/generator/*shadow* /run/dagger-sonarr-shadow 2>/dev/null
         podman ps --all --format '{{.Names}}' | grep shadow
         grep sonarr-shadow /proc/mounts; true",
    )?;
    Ok(found.trim().to_owned())
}

fn no_traces(machine: &Machine) -> Result<()> {
    let found = traces(machine)?;
    ensure!(found.is_empty(), "traces are left:\n{found}");
    Ok(())
}

/// The port that `nixarr-migrate shadow` names.
fn shadow(machine: &Machine) -> Result<String> {
    let out = machine.sh("nixarr-migrate shadow sonarr --yes")?;
    ensure!(
        out.good(),
        "{}\n{}",
        out.all(),
        machine.account_of("sonarr-shadow")
    );
    let port = out.stdout.split_once("http://127.0.0.1:").map(|(_, rest)| rest);
    let port: Option<String> = port.map(|rest| rest.chars().take_while(char::is_ascii_digit).collect());
    port.filter(|port| !port.is_empty()).with_context(|| out.all())
}

/// What Sonarr says of itself through its API.
fn status(machine: &Machine, port: &str) -> Result<String> {
    machine.ok(&format!(
        "key=$(sed -n 's/.*<ApiKey>\\(.*\\)<.*/\\1/p' {STATE}/config.xml); curl -sf -H \"X-Api-Key: $key\" http://127.0.0.1:{port}/api/v3/system/status"
    ))
}

fn promoted(ground: &Ground) -> Result<()> {
    let machine = boot(native(ground, "promoted", &toml())?)?;
    let before = rows(&machine)?;
    let port = shadow(&machine)?;
    ensure!(runs(&machine)? == BOTH_RUN, "{:?}", runs(&machine)?);
    let shown = machine.ok("daggerctl status --json | tr -d ' \\n' | grep -o '\"name\":\"sonarr-shadow\".*' | grep -o '\"port\":[0-9]*' | head -n 1")?;
    ensure!(
        shown.trim() == format!("\"port\":{port}"),
        "{shown} is not where it is: {port}"
    );
    let (of_native, of_shadow) = (status(&machine, "8989")?, status(&machine, &port)?);
    ensure!(
        of_native.contains("\"migrationVersion\": 217") && of_shadow.contains("\"migrationVersion\": 218"),
        "{of_native}\n{of_shadow}"
    );
    // The copy is whole although it was written to all the while, and its container writes to nothing else.
    let whole = machine.ok(&format!("standin verify {CLONE}"))?;
    ensure!(whole.contains(" ok"), "{whole}");
    // It sees no network but itself, and the media as they are.
    let pid = machine.ok("podman inspect --format '{{.State.Pid}}' dagger-sonarr-shadow")?;
    let pid = pid.trim();
    let network = machine.ok(&format!(
        "tail -n +3 /proc/{pid}/net/dev; tail -n +2 /proc/{pid}/net/route"
    ))?;
    ensure!(
        network.trim().starts_with("lo:") && network.trim().lines().count() == 1,
        "{network}"
    );
    let egress =
        machine.sh("nsenter --net=/run/netns/dagger-sonarr-shadow bash -c '</dev/tcp/192.0.2.1/80'")?;
    ensure!(
        egress.all().contains("Network is unreachable"),
        "{}",
        egress.all()
    );
    machine.ok(&format!(
        "! nsenter --target {pid} --mount touch /media/library/b.mkv"
    ))?;
    // It is a service like others to people and to the agent, and no part of the suite.
    machine.wait_for("the agent knows of it", MINUTE, |machine| {
        Ok(machine.sh("daggerctl health sonarr-shadow")?.good().then_some(()))
    })?;
    ensure!(
        !machine
            .ok("ls /run/systemd/generator/dagger.target.wants")?
            .contains("shadow"),
        "it starts with the suite"
    );
    let refused = machine.sh("nixarr-migrate migrate sonarr --yes")?;
    ensure!(
        !refused.good() && refused.all().contains("sonarr has a shadow"),
        "{}",
        refused.all()
    );
    let checked = machine.ok("daggerctl config check")?;
    ensure!(checked.contains("2 services good"), "{checked}");
    machine.write(
        "/etc/dagger/conf.d/rival.toml",
        &format!("[services.radarr]\nport = {port}\n"),
    )?;
    let rival = machine.sh("daggerctl config check")?;
    ensure!(
        rival
            .all()
            .contains(&format!("port {port}/tcp is already the one of `radarr`")),
        "{}",
        rival.all()
    );
    machine.ok("rm /etc/dagger/conf.d/rival.toml")?;

    let late = rows(&machine)?;
    ensure!(
        late > before,
        "the native unit does not go on: {before}, {late} rows"
    );
    let out = machine.sh("nixarr-migrate promote sonarr --yes")?;
    ensure!(out.good(), "{}\n{}", out.all(), machine.account_of("sonarr"));
    ensure!(
        out.stdout
            .contains("its data is that of sonarr.service, and its shadow is gone"),
        "{}",
        out.all()
    );
    ensure!(runs(&machine)? == (false, true), "{:?}", runs(&machine)?);
    ensure!(rows(&machine)? >= late, "rows were lost");
    no_traces(&machine)
}

fn discarded(ground: &Ground) -> Result<()> {
    let machine = boot(native(ground, "discarded", &toml())?)?;
    let before = traces(&machine)?;
    ensure!(before.is_empty(), "{before}");
    let port = shadow(&machine)?;
    // It dies for good: its end is not its container's.
    machine.ok("systemctl kill --kill-whom=all --signal=KILL dagger-sonarr-shadow.service")?;
    let out = machine.sh("nixarr-migrate discard sonarr --yes")?;
    ensure!(
        out.good(),
        "{}\n{}",
        out.all(),
        machine.ok("journalctl --no-pager -u 'dagger-sweep@*' -u 'dagger-sonarr-shadow*'")?
    );
    let out = out.stdout;
    ensure!(out.contains("nothing is left of the shadow of sonarr"), "{out}");
    no_traces(&machine)?;
    let (answer, _) = machine.http(&format!("http://127.0.0.1:{port}/ping"))?;
    ensure!(answer == 0, "somebody answers still: {answer}");
    let again = machine.ok("nixarr-migrate discard sonarr --yes")?;
    ensure!(again.contains("sonarr has no shadow"), "{again}");
    // Also of a service that has left the configuration.
    shadow(&machine)?;
    machine.write("/etc/dagger/dagger.toml", "[suite]\n")?;
    machine.ok("systemctl daemon-reload && nixarr-migrate discard sonarr --yes")?;
    no_traces(&machine)?;
    // One that does not come up is gone by itself.
    let broken =
        format!("{TOML}start-budget = \"3s\"\nenvironment = {{ STANDIN_FAIL_START = \"exit 4\" }}\n");
    machine.write("/etc/dagger/dagger.toml", &broken)?;
    machine.ok("systemctl daemon-reload")?;
    let failed = machine.sh("nixarr-migrate shadow sonarr --yes")?;
    ensure!(
        !failed.good() && failed.all().contains("start-shadow"),
        "{}",
        failed.all()
    );
    no_traces(&machine)?;
    ensure!(runs(&machine)? == BOTH_RUN, "{:?}", runs(&machine)?);
    rows(&machine)?;
    Ok(())
}

/// Content and everything else about every file. Not when it last changed owner: SQLite, as root, gives a log to the owner of
/// its database each time that it opens one (os_unix.c, `robustFchown`), also to whom it belongs already.
fn prints(machine: &Machine) -> Result<String> {
    machine.ok(&format!(
        "cd {STATE} && find . -printf '%p %U:%G %m %s %T@ %i\\n' | sort && find . -type f -exec sha256sum {{}} + | sort"
    ))
}

fn rehearsed(ground: &Ground) -> Result<()> {
    let machine = boot(native(ground, "rehearsed", &toml())?)?;
    let before = rows(&machine)?;
    let out = machine.sh("nixarr-migrate rehearse sonarr --yes")?;
    ensure!(
        out.good(),
        "{}\n{}",
        out.all(),
        machine.account_of("sonarr-shadow")
    );
    for said in [
        "the rehearsal of sonarr's migration went well, and nothing of it is left",
        "sonarr.db goes from schema 217 to 218",
        "the container found 50 series",
        "; of the files in config it changed ",
    ] {
        ensure!(out.stdout.contains(said), "{said:?} is not in\n{}", out.all());
    }
    no_traces(&machine)?;
    ensure!(runs(&machine)? == BOTH_RUN, "{:?}", runs(&machine)?);
    ensure!(rows(&machine)? > before, "the native unit did not go on");
    machine.ok(&format!("systemctl stop {NATIVE}"))?;
    let print = prints(&machine)?;
    // Without the agent, too.
    machine.ok("systemctl start dagger-rehearse@sonarr.service")?;
    ensure!(end(&job(&machine)?, "result") == "done", "{}", job(&machine)?);
    ensure!(
        prints(&machine)? == print,
        "{print}\nbecame\n{}",
        prints(&machine)?
    );
    ensure!(
        machine.unit(NATIVE, "ActiveState")? == "inactive",
        "it was started"
    );
    no_traces(&machine)
}

fn lost(ground: &Ground) -> Result<()> {
    let machine = boot(native(ground, "lost", TOML)?)?;
    machine.ok(&format!("systemd-run --unit=emptier sh -c 'until systemctl is-active -q {SHADOW}; do sleep 0.1; done; standin empty {CLONE}'"))?;
    let out = machine.sh("nixarr-migrate rehearse sonarr --yes")?;
    ensure!(
        !out.good()
            && out.all().contains("sonarr's migration would not go well")
            && out.all().contains("0 of 50 series are left"),
        "{}{}",
        out.all(),
        machine.ok("journalctl --no-pager -u emptier")?
    );
    no_traces(&machine)?;
    ensure!(runs(&machine)? == BOTH_RUN, "{:?}", runs(&machine)?);
    let left = machine.ok(&format!("standin empty {STATE}"))?;
    ensure!(
        left.starts_with("50 rows"),
        "of 50 series the service has: {left}"
    );
    Ok(())
}

/// Waits until nothing is open, and nothing of a shadow is left.
fn settled(machine: &Machine) -> Result<()> {
    machine.wait_for("nothing of the shadow is left", MINUTE, |machine| {
        let open = machine
            .sh("test -e /var/lib/dagger/transactions/sonarr/log")?
            .good();
        Ok((!open && traces(machine)?.is_empty()).then_some(()))
    })
}

/// Which parts of its way the job has made: in the copy, while the container runs, and while it is thrown away.
const PARTS: [u64; 3] = [30, 75, 95];

fn killed(ground: &Ground) -> Result<()> {
    let mut machine = boot(native(ground, "shadow-killed", QUICK)?)?;
    let whole = Case::whole("rehearse");
    let calls = attempt(&mut machine, whole)?.calls;
    ensure!(calls > 20, "{calls} calls");
    no_traces(&machine)?;
    for part in PARTS {
        for cut in [false, true] {
            let call = calls * part / 100;
            let found = attempt(&mut machine, Case { call, cut, ..whole })?;
            ensure!(!found.container, "the container has the service");
            settled(&machine)?;
        }
    }
    Ok(())
}

fn cut(ground: &Ground) -> Result<()> {
    let mut machine = boot(native(ground, "shadow-cut", TOML)?)?;
    let before = rows(&machine)?;
    machine.ok("systemctl start --no-block dagger-rehearse@sonarr.service")?;
    machine.wait_unit(SHADOW, "active", MINUTE)?;
    machine.power_cut()?;
    machine.power_on()?;
    settled(&machine)?;
    ensure!(runs(&machine)? == BOTH_RUN, "{:?}", runs(&machine)?);
    let between = rows(&machine)?;
    ensure!(between >= before, "{between} rows of {before}");

    shadow(&machine)?;
    machine.power_cut()?;
    machine.power_on()?;
    settled(&machine)?;
    ensure!(runs(&machine)? == BOTH_RUN, "{:?}", runs(&machine)?);
    ensure!(rows(&machine)? >= between, "rows were lost");
    machine.ok("nixarr-migrate discard sonarr --yes")?;
    Ok(())
}
