//! What the agent does about services that do not answer, and what it leaves alone.

use dagger_tests::harness::{BOTH, Story, TRIXIE};
use dagger_tests::rig::Machine;
use dagger_tests::suite::{BUS, Ground, SIX, SIX_TOML};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::time::{Duration, Instant};

pub const STORIES: &[Story] = &[
    Story {
        name: "moby_28400_a_hang_is_found_and_the_service_restarted_gracefully",
        on: BOTH,
        run: hang,
    },
    Story {
        name: "restarts_have_an_end_and_systemctl_start_is_a_new_beginning",
        on: TRIXIE,
        run: given_up,
    },
    Story {
        name: "autoheal_42_the_agent_may_die_stop_or_hang_and_nobody_else_is_restarted",
        on: BOTH,
        run: agent_dead,
    },
    Story {
        name: "an_agent_that_was_masked_and_is_killed_leaves_no_watchdog_behind",
        on: BOTH,
        run: masked,
    },
    Story {
        name: "the_watchdog_is_armed_by_a_good_answer_and_ends_with_the_run",
        on: BOTH,
        run: watchdog,
    },
    Story {
        name: "a_pause_keeps_the_agent_away_and_polkit_decides_who_may",
        on: TRIXIE,
        run: pause,
    },
    Story {
        name: "an_operators_stop_is_never_fought",
        on: TRIXIE,
        run: operator,
    },
    Story {
        name: "a_hang_while_the_agent_is_dead_waits_for_its_return",
        on: TRIXIE,
        run: hang_alone,
    },
    Story {
        name: "hive_4516_a_provider_that_comes_back_leaves_nobody_stranded",
        on: TRIXIE,
        run: provider,
    },
    Story {
        name: "a_stop_that_has_to_kill_is_not_the_end_of_a_restart",
        on: BOTH,
        run: stubborn,
    },
    Story {
        name: "dockmon_7_what_writes_to_its_log_is_at_work",
        on: BOTH,
        run: busy,
    },
];

const MINUTE: Duration = Duration::from_mins(1);
/// One service that is asked often, so that a story is short.
const SONARR: &str = "[suite]\nmedia = \"/fun\"\nstate = \"/var/lib/nixarr\"\n[services.sonarr]\nhealth = { interval = \"1s\", timeout = \"1s\" }\n";

/// What stays the same while a unit runs on.
fn run_of(machine: &Machine, service: &str) -> Result<String> {
    machine.unit(&format!("dagger-{service}.service"), "InvocationID")
}

/// Messages of the agent about a service with this event's name in the catalogue of events.
fn events(machine: &Machine, service: &str, word: &str) -> Result<Vec<String>> {
    let filter = format!("DAGGER_SERVICE={service}");
    let entries = machine.journal(&["-b", "_SYSTEMD_UNIT=monitoring.service", &filter])?;
    Ok(entries
        .iter()
        .map(|entry| entry.message().to_owned())
        .filter(|message| message.contains(word))
        .collect())
}

/// Begins to write down the agent's signals.
fn listen(machine: &Machine) -> Result<()> {
    machine.ok(&format!(
        "systemd-run --quiet --unit=listener --property=StandardOutput=file:/run/signals busctl --json=short monitor {BUS}; sleep 0.5"
    ))?;
    Ok(())
}

/// What the signals with this name carried, of those that were written down: the first value, and the words behind it.
fn heard(machine: &Machine, member: &str) -> Result<Vec<(Value, String)>> {
    let lines = machine.ok("cat /run/signals")?;
    let messages = lines
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let ours = messages.filter(|message| message["type"] == "signal" && message["member"] == member);
    let carried = |message: Value| {
        let value = |n| message.pointer(&format!("/payload/data/{n}")).cloned();
        let words = value(1)?.as_str()?.to_owned();
        Some((value(0)?, words))
    };
    Ok(ours.filter_map(carried).collect())
}

fn hang(ground: &Ground) -> Result<()> {
    let machine = Machine::boot(ground.configured("hang", SONARR)?)?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    let before = run_of(&machine, "sonarr")?;
    listen(&machine)?;
    machine.fault("sonarr", "hang")?;
    let begin = Instant::now();
    machine.wait_health("sonarr", "unhealthy", MINUTE)?;
    let noticed = begin.elapsed();
    // Three answers that do not come within a second each, a second apart.
    ensure!(noticed < Duration::from_secs(9), "noticed after {noticed:?}");
    machine.wait_health("sonarr", "recovering", MINUTE)?;
    machine.fault("sonarr", "")?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    ensure!(run_of(&machine, "sonarr")? != before, "it was not restarted");
    let stopped = machine.ok("journalctl -b --no-pager -o cat -u dagger-sonarr.service")?;
    ensure!(
        stopped.contains("Stopping dagger-sonarr.service") || stopped.contains("Stopping Sonarr"),
        "ExecStop= did not run:\n{stopped}"
    );
    ensure!(
        machine.unit("dagger-sonarr.service", "NRestarts")? == "0",
        "systemd's Restart= was at work, not the agent"
    );
    ensure!(
        events(&machine, "sonarr", "is restarted")?.len() == 1,
        "not one line about the restart"
    );
    ensure!(
        events(&machine, "sonarr", "answers again")?.len() == 1,
        "not one line about the end"
    );
    let started = heard(&machine, "RecoveryStarted")?;
    ensure!(
        started.len() == 1
            && started
                .iter()
                .all(|(attempt, why)| *attempt == 1 && why.starts_with("it has not answered for ")),
        "RecoveryStarted: {started:?}"
    );
    let finished = heard(&machine, "RecoveryFinished")?;
    ensure!(
        finished.len() == 1
            && finished
                .iter()
                .all(|(recovered, how)| *recovered == true && how.ends_with(" s and 1 restart")),
        "RecoveryFinished: {finished:?}"
    );
    Ok(())
}

fn given_up(ground: &Ground) -> Result<()> {
    let toml = SONARR.replace("timeout = \"1s\" }", "timeout = \"1s\" }\nstart-budget = \"3s\"");
    let machine = Machine::boot(ground.configured("givenup", &toml)?)?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    listen(&machine)?;
    // A hang that no restart cures.
    machine.fault("sonarr", "hang")?;
    machine.wait_health("sonarr", "failed", Duration::from_mins(3))?;
    let told = machine.wait_for("a word about the end", MINUTE, |m| {
        let told = events(m, "sonarr", "not restarted any more")?;
        Ok((!told.is_empty()).then_some(told))
    })?;
    ensure!(told.len() == 1, "told {} times: {told:?}", told.len());
    last_words(&machine, told.first().map_or("", String::as_str))?;
    // After the first one it does not even come up, and systemd's own starts are no recovery.
    let attempts = heard(&machine, "RecoveryStarted")?;
    ensure!(
        attempts.first().is_some_and(|(attempt, _)| *attempt == 1) && attempts.len() <= 3,
        "RecoveryStarted: {attempts:?}"
    );
    let finished = heard(&machine, "RecoveryFinished")?;
    ensure!(
        finished.len() == 1 && finished.iter().all(|(recovered, _)| *recovered == false),
        "RecoveryFinished: {finished:?}"
    );
    machine.wait_unit("dagger-sonarr.service", "inactive", MINUTE)?;
    let restarts = machine.unit("dagger-sonarr.service", "NRestarts")?;
    machine.fault("sonarr", "")?;
    std::thread::sleep(Duration::from_secs(12));
    ensure!(
        machine.unit("dagger-sonarr.service", "NRestarts")? == restarts,
        "it was restarted again"
    );
    machine.ok("systemctl start dagger-sonarr.service")?;
    machine.wait_health("sonarr", "healthy", MINUTE)
}

/// Below the reason stand the last lines that the application wrote.
fn last_words(machine: &Machine, told: &str) -> Result<()> {
    let plain = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let wrote = machine.journal(&["-b", "_SYSTEMD_UNIT=dagger-sonarr.service"])?;
    let wrote: Vec<String> = wrote
        .iter()
        .flat_map(|entry| entry.message().lines())
        .map(plain)
        .collect();
    let quoted: Vec<String> = told.lines().skip(1).map(plain).collect();
    ensure!((1..=20).contains(&quoted.len()), "{} lines: {told}", quoted.len());
    let strange = quoted.iter().find(|line| !wrote.contains(line));
    ensure!(strange.is_none(), "nobody wrote {strange:?}");
    Ok(())
}

fn agent_dead(ground: &Ground) -> Result<()> {
    let machine = Machine::boot(ground.configured("dead", SIX_TOML)?)?;
    machine.wait_six()?;
    let runs = |machine: &Machine| -> Result<Vec<String>> {
        SIX.iter().map(|service| run_of(machine, service)).collect()
    };
    let before = runs(&machine)?;
    // Where the machine boots slowly the agent may see a service before systemd begins to start it.
    let boot: Vec<usize> = SIX
        .iter()
        .map(|service| Ok(machine.verdicts(service)?.len()))
        .collect::<Result<_>>()?;
    let armed = machine.unit("dagger-sonarr.service", "WatchdogUSec")?;
    ensure!(armed == "10min", "the watchdog is not armed: {armed}");
    machine.ok("systemctl kill -s KILL monitoring.service; sleep 3")?;
    machine.wait_unit("monitoring.service", "active", MINUTE)?;
    machine.wait_six()?;
    // It hangs: systemd's watchdog ends it, and what it had armed is disarmed before anything can come of it.
    machine.ok("systemctl kill -s STOP --kill-whom=main monitoring.service 2>/dev/null || kill -STOP $(systemctl show -P MainPID monitoring)")?;
    let stopped = machine.unit("monitoring.service", "MainPID")?;
    machine.wait_for(
        "systemd to end the agent that hangs",
        Duration::from_secs(90),
        |m| Ok((m.unit("monitoring.service", "MainPID")? != stopped).then_some(())),
    )?;
    machine.wait_six()?;
    // Gone for good.
    machine.ok("systemctl mask --runtime --now monitoring.service")?;
    for service in SIX {
        let armed = machine.unit(&format!("dagger-{service}.service"), "WatchdogUSec")?;
        ensure!(
            armed == "0" || armed == "infinity",
            "{service}: nobody feeds a watchdog of {armed}"
        );
    }
    ensure!(runs(&machine)? == before, "a healthy service was restarted");
    for (service, boot) in SIX.iter().zip(boot) {
        let said = machine.verdicts(service)?;
        ensure!(
            said.iter()
                .skip(boot)
                .all(|health| health == "healthy" || health == "starting"),
            "{service}: {said:?}"
        );
    }
    Ok(())
}

/// A unit that is masked while it runs loses its `ExecStopPost=`, and with it what disarms the watchdogs.
fn masked(ground: &Ground) -> Result<()> {
    let machine = Machine::boot(ground.configured("masked", SONARR)?)?;
    let unit = "dagger-sonarr.service";
    let armed = |machine: &Machine| -> Result<Option<()>> {
        Ok((machine.unit(unit, "WatchdogUSec")? == "10min").then_some(()))
    };
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    machine.wait_for("an armed watchdog", MINUTE, armed)?;
    // What disarms it is started again with the agent, and lets stand what that one has armed.
    for way in [
        "systemctl kill -s KILL monitoring.service",
        "systemctl restart monitoring.service",
    ] {
        let agent = machine.unit("monitoring.service", "MainPID")?;
        machine.ok(way)?;
        machine.wait_for("another agent", MINUTE, |m| {
            let now = m.unit("monitoring.service", "MainPID")?;
            Ok((now != agent && now != "0").then_some(()))
        })?;
        machine.wait_unit("monitoring.service", "active", MINUTE)?;
        machine.wait_unit("dagger-disarm.service", "active", MINUTE)?;
        machine
            .wait_for("a watchdog that is armed again", MINUTE, armed)
            .context(way)?;
    }
    let run = run_of(&machine, "sonarr")?;
    machine.ok("systemctl mask monitoring.service")?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    ensure!(
        armed(&machine)?.is_some(),
        "an agent that runs on has lost its watchdogs"
    );
    machine.ok("systemctl kill -s KILL monitoring.service")?;
    machine.wait_for("a watchdog that nobody feeds to be stopped", MINUTE, |m| {
        let armed = m.unit(unit, "WatchdogUSec")?;
        Ok((armed == "0" || armed == "infinity").then_some(()))
    })?;
    ensure!(run_of(&machine, "sonarr")? == run, "it was restarted");
    // And back.
    machine.ok("systemctl unmask monitoring.service && systemctl start monitoring.service")?;
    machine.wait_for("an armed watchdog", MINUTE, armed)?;
    ensure!(run_of(&machine, "sonarr")? == run, "it was restarted");
    Ok(())
}

fn watchdog(ground: &Ground) -> Result<()> {
    let machine = Machine::boot(ground.configured("watchdog", SONARR)?)?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    let unit = "dagger-sonarr.service";
    machine.wait_for("an armed watchdog", MINUTE, |m| {
        Ok((m.unit(unit, "WatchdogUSec")? == "10min").then_some(()))
    })?;
    machine.ok(
        "systemctl stop monitoring.service dagger-sonarr.service && systemctl start dagger-sonarr.service",
    )?;
    let armed = machine.unit(unit, "WatchdogUSec")?;
    ensure!(
        armed == "0" || armed == "infinity",
        "a new run begins with the watchdog of the old one: {armed}"
    );
    machine.ok("systemctl start monitoring.service")?;
    machine.wait_for("an armed watchdog", MINUTE, |m| {
        Ok((m.unit(unit, "WatchdogUSec")? == "10min").then_some(()))
    })?;
    Ok(())
}

fn pause(ground: &Ground) -> Result<()> {
    let machine = Machine::boot(ground.configured("pause", SONARR)?)?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    let call = |verb: &str| {
        [
            "busctl",
            "call",
            "org.nixarr.Dagger1",
            "/org/nixarr/Dagger1/service/sonarr",
            "org.nixarr.Dagger1.Service",
            verb,
        ]
        .map(str::to_owned)
    };
    let pause = [&call("Pause")[..], &["t".to_owned(), "3600".to_owned()]].concat();
    let pause: Vec<&str> = pause.iter().map(String::as_str).collect();
    let denied = machine.as_nobody(&pause)?;
    ensure!(!denied.good(), "anybody may pause");
    ensure!(
        denied.all().contains("authentication is needed") || denied.all().contains("not authorized"),
        "{}",
        denied.all()
    );
    machine.wait_for("a line about the denial", MINUTE, |m| {
        Ok((!events(m, "sonarr", "Denied")?.is_empty()).then_some(()))
    })?;
    ensure!(machine.run(&pause)?.good(), "root may not pause");
    let run = run_of(&machine, "sonarr")?;
    machine.fault("sonarr", "hang")?;
    machine.wait_health("sonarr", "unhealthy", MINUTE)?;
    machine.ok("systemctl restart monitoring.service; sleep 8")?;
    ensure!(
        run_of(&machine, "sonarr")? == run,
        "a pause did not outlive the agent"
    );
    let detail = machine.bus_property("sonarr", "HealthDetail")?.to_string();
    ensure!(detail.contains("recovery is paused"), "{detail}");
    let resume = call("Resume");
    let resume: Vec<&str> = resume.iter().map(String::as_str).collect();
    ensure!(machine.run(&resume)?.good(), "root may not resume");
    machine.wait_health("sonarr", "recovering", MINUTE)?;
    machine.fault("sonarr", "")?;
    machine.wait_health("sonarr", "healthy", MINUTE)
}

fn operator(ground: &Ground) -> Result<()> {
    let machine = Machine::boot(ground.configured("operator", SONARR)?)?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    machine.fault("sonarr", "hang")?;
    machine.wait_health("sonarr", "unhealthy", MINUTE)?;
    machine.ok("systemctl stop dagger-sonarr.service")?;
    std::thread::sleep(Duration::from_secs(20));
    ensure!(
        machine.unit("dagger-sonarr.service", "ActiveState")? == "inactive",
        "somebody started it again"
    );
    machine
        .wait_health("sonarr", "inactive", MINUTE)
        .context("an operator's stop")
}

/// What is promised where both are gone: nobody restarts anything, and an agent that comes back finds it.
fn hang_alone(ground: &Ground) -> Result<()> {
    let toml = SONARR.to_owned() + "[services.radarr]\n";
    let machine = Machine::boot(ground.configured("alone", &toml)?)?;
    for service in ["sonarr", "radarr"] {
        machine.wait_health(service, "healthy", MINUTE)?;
    }
    let (sonarr, radarr) = (run_of(&machine, "sonarr")?, run_of(&machine, "radarr")?);
    machine.ok("systemctl mask --runtime --now monitoring.service")?;
    machine.fault("sonarr", "hang")?;
    std::thread::sleep(Duration::from_secs(20));
    for service in ["sonarr", "radarr"] {
        let armed = machine.unit(&format!("dagger-{service}.service"), "WatchdogUSec")?;
        ensure!(
            armed == "0" || armed == "infinity",
            "{service}: nobody feeds a watchdog of {armed}"
        );
    }
    ensure!(run_of(&machine, "sonarr")? == sonarr, "somebody restarted it");
    machine.ok("systemctl unmask --runtime monitoring.service && systemctl start monitoring.service")?;
    machine.wait_health("sonarr", "recovering", MINUTE)?;
    machine.fault("sonarr", "")?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    ensure!(run_of(&machine, "sonarr")? != sonarr, "it was not restarted");
    ensure!(
        run_of(&machine, "radarr")? == radarr,
        "a healthy service was restarted"
    );
    Ok(())
}

/// What wants another service is not restarted for that one's sake, and is well again soon after it.
fn provider(ground: &Ground) -> Result<()> {
    let toml = "[suite]\nmedia = \"/fun\"\nstate = \"/var/lib/nixarr\"\n[services.prowlarr]\nauto-recover = false\nhealth = { interval = \"1s\", timeout = \"1s\" }\n[services.sonarr]\nhealth = { interval = \"30s\", failures = 2 }\n";
    let machine = Machine::boot(ground.configured("provider", toml)?)?;
    machine.wait_health("prowlarr", "healthy", MINUTE)?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    let before = run_of(&machine, "sonarr")?;
    machine.fault("prowlarr", "hang")?;
    machine.wait_health("prowlarr", "unhealthy", MINUTE)?;
    machine.fault("sonarr", "500")?;
    machine.wait_for("a word about prowlarr", MINUTE * 3, |machine| {
        let detail = machine.bus_property("sonarr", "HealthDetail")?;
        Ok(detail
            .as_str()
            .is_some_and(|detail| detail.contains("waiting: prowlarr, which it wants"))
            .then_some(()))
    })?;
    machine.fault("sonarr", "")?;
    machine.fault("prowlarr", "")?;
    machine.wait_health("prowlarr", "healthy", MINUTE)?;
    machine.wait_health("sonarr", "healthy", Duration::from_secs(10))?;
    ensure!(
        run_of(&machine, "sonarr")? == before,
        "it was restarted for what prowlarr did"
    );
    Ok(())
}

/// podman kills an application that does not stop, and where even that does not help in time systemd kills podman: the unit
/// is `failed` until the start of the same restart follows.
fn stubborn(ground: &Ground) -> Result<()> {
    let toml = format!("{SONARR}stop-timeout = \"1h\"\n");
    let spec = ground.configured("stubborn", &toml)?.file(
        "/etc/systemd/system/dagger-sonarr.service.d/rig.conf",
        "[Service]\nTimeoutStopSec=2\n",
    );
    let machine = Machine::boot(spec)?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    let before = run_of(&machine, "sonarr")?;
    machine.fault("sonarr", "hang\nignore-sigterm")?;
    machine.wait_for("a stop that has to kill", MINUTE, |machine| {
        let log = machine.ok("journalctl -b --no-pager -o cat -u dagger-sonarr.service")?;
        Ok(log.contains("Failed with result 'timeout'").then_some(()))
    })?;
    machine.fault("sonarr", "")?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    ensure!(run_of(&machine, "sonarr")? != before, "it was not restarted");
    let verdicts = machine.verdicts("sonarr")?;
    ensure!(
        !verdicts.iter().any(|health| health == "failed"),
        "it was said to have failed: {verdicts:?}"
    );
    Ok(())
}

/// An application that says nothing to anybody and goes on writing to its log is waited for.
fn busy(ground: &Ground) -> Result<()> {
    let machine = Machine::boot(ground.configured("busy", SONARR)?)?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    let before = run_of(&machine, "sonarr")?;
    // A process of the unit's own, as journald sees it.
    machine.ok(
        "group=$(sed -n s/^0:://p /proc/$(systemctl show -P MainPID dagger-sonarr)/cgroup)
         systemd-run --quiet --unit=busy sh -c \"echo 0 >/sys/fs/cgroup$group/cgroup.procs; exec systemd-cat sh -c 'while sleep 0.2; do echo checking; done'\"",
    )?;
    machine.fault("sonarr", "hang")?;
    let begun = machine.wait_for("what it is at", MINUTE, |machine| {
        Ok((machine.bus_property("sonarr", "Cause")? == "progress").then_some(()))
    });
    begun.with_context(|| machine.account_of("sonarr"))?;
    let detail = machine.bus_property("sonarr", "HealthDetail")?.to_string();
    ensure!(detail.contains("it writes to its log"), "{detail}");
    std::thread::sleep(Duration::from_secs(10));
    ensure!(
        run_of(&machine, "sonarr")? == before,
        "it was restarted at its work"
    );
    machine.ok("systemctl kill -s KILL --kill-whom=main busy")?;
    machine.wait_health("sonarr", "recovering", MINUTE)?;
    machine.fault("sonarr", "")?;
    machine.wait_health("sonarr", "healthy", MINUTE)
}
