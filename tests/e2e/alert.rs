//! Alerts and metrics, by the units that people get them from.

use anyhow::{Context, Result, ensure};
use dagger_tests::harness::{BOTH, Story};
use dagger_tests::rig::Machine;
use dagger_tests::suite::Ground;
use std::time::Duration;

pub const STORIES: &[Story] = &[
    Story {
        name: "an_alert_arrives_once_and_its_secret_stays_a_secret",
        on: BOTH,
        run: arrives,
    },
    Story {
        name: "systemd_alone_tells_of_a_failure_while_the_agent_is_dead",
        on: BOTH,
        run: agent_dead,
    },
    Story {
        name: "a_unit_that_starts_again_is_no_alert_though_systemd_calls_it_failed",
        on: BOTH,
        run: starts_again,
    },
    Story {
        name: "a_crash_is_no_failure_and_whoever_hears_of_the_end_hears_of_the_recovery",
        on: BOTH,
        run: with_agent,
    },
    Story {
        name: "metrics_by_a_socket_leave_no_line_in_the_journal",
        on: BOTH,
        run: metrics,
    },
];

const SONARR: &str = "[suite]\nmedia = \"/fun\"\nstate = \"/var/lib/nixarr\"\n[services.sonarr]\n";
const MINUTE: Duration = Duration::from_mins(1);

/// A server of the machine's own: what is posted to it is a line of /run/hook.body.
const HOOK: &str = r#"#!/bin/bash
length=0
while IFS= read -r line; do
	line=${line%$'\r'}
	[ -n "$line" ] || break
	printf '%s\n' "$line" >> /run/hook.head
	case ${line,,} in content-length:*) length=${line#*: } ;; esac
done
printf '%s\n' "$(head -c "$length")" >> /run/hook.body
printf 'HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n'
"#;
const HOOK_SOCKET: &str = "[Socket]\nListenStream=127.0.0.1:7777\nAccept=yes\n";
const HOOK_SERVICE: &str =
    "[Service]\nStandardInput=socket\nStandardOutput=socket\nExecStart=/bin/bash /etc/hook\n";
/// Where mail goes: the unit's own directory is all that it may write.
const SENDMAIL: &str = "#!/bin/sh\nexec cat > \"$RUNTIME_DIRECTORY/mail\"\n";
const ALERT_TOML: &str = r#"
[[alert]]
kind = "webhook"
url = "http://127.0.0.1:7777/geheimnis"
token = "geheimnis"
[[alert]]
kind = "sendmail"
to = "root"
sendmail = "/etc/sendmail"
"#;

/// A machine whose alerts go to the hook and to a file, without an agent that would write alerts of its own.
fn with_hook(ground: &Ground, name: &str) -> Result<Machine> {
    let spec = ground
        .installed(name)?
        .file("/etc/hook", HOOK)
        .file("/etc/sendmail", SENDMAIL)
        .file("/etc/dagger/alert.toml", ALERT_TOML)
        .file("/etc/systemd/system/hook.socket", HOOK_SOCKET)
        .file("/etc/systemd/system/hook@.service", HOOK_SERVICE);
    let machine = Machine::boot(spec)?;
    machine.ok("chmod 755 /etc/sendmail; chmod 600 /etc/dagger/alert.toml; systemctl mask --now --runtime monitoring.service; systemctl start hook.socket")?;
    Ok(machine)
}

/// What was posted, a JSON object each.
fn posted(machine: &Machine) -> Result<Vec<serde_json::Value>> {
    let bodies = machine.ok("cat /run/hook.body 2>/dev/null || true")?;
    bodies
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("not JSON: {line}")))
        .collect()
}

fn arrives(ground: &Ground) -> Result<()> {
    let machine = with_hook(ground, "alert")?;
    machine.write(
        "/run/dagger/alert/sonarr.env",
        "DAGGER_SERVICE=\"sonarr\"\nDAGGER_EVENT=\"given-up\"\nDAGGER_HEALTH=\"failed\"\nDAGGER_DETAIL=\"no answer\"\n",
    )?;
    // The second start is for the same event.
    machine
        .ok("systemctl start dagger-alert@sonarr.service && systemctl start dagger-alert@sonarr.service")?;
    let bodies = posted(&machine)?;
    let body = bodies.first().context("nothing was posted")?;
    ensure!(bodies.len() == 1, "posted: {bodies:?}");
    ensure!(
        body["service"] == "sonarr"
            && body["event"] == "given-up"
            && body["detail"] == "no answer"
            && body["host"] == "alert",
        "posted: {body}"
    );
    let head = machine.ok("cat /run/hook.head")?;
    ensure!(
        head.contains("Authorization: Bearer geheimnis\n"),
        "posted with: {head}"
    );
    let mail = machine.ok("cat /run/dagger/alert-state/sonarr/mail")?;
    ensure!(
        mail.contains("Subject: sonarr is stopped and not restarted any more on alert\n"),
        "mail: {mail}"
    );
    machine.ok("systemctl start dagger-alert@test.service")?;
    ensure!(posted(&machine)?.len() == 2, "the test did not arrive");
    let leaked = machine.ok("journalctl -b --no-pager -o verbose | grep -c geheimnis || true")?;
    ensure!(
        leaked.trim() == "0",
        "{} lines of the journal hold the secret",
        leaked.trim()
    );
    // Without a configuration an event is nothing to fail over.
    machine.write(
        "/run/dagger/alert/sonarr.env",
        "DAGGER_SERVICE=\"sonarr\"\nDAGGER_EVENT=\"media-lost\"\n",
    )?;
    machine.ok("rm /etc/dagger/alert.toml; systemctl start dagger-alert@sonarr.service")?;
    ensure!(posted(&machine)?.len() == 2, "told without a target");
    Ok(())
}

fn agent_dead(ground: &Ground) -> Result<()> {
    let machine = with_hook(ground, "orphan")?;
    machine.write("/etc/dagger/dagger.toml", SONARR)?;
    machine.write(
        "/etc/systemd/system/dagger-sonarr.service.d/breaks.conf",
        "[Service]\nRestart=no\nExecStartPre=/bin/false\n",
    )?;
    machine.ok("systemctl daemon-reload; systemctl start dagger-sonarr.service || true")?;
    machine.wait_for("an alert", MINUTE, |machine| {
        Ok((!posted(machine)?.is_empty()).then_some(()))
    })?;
    let bodies = posted(&machine)?;
    let body = bodies.first().context("nothing was posted")?;
    ensure!(
        bodies.len() == 1
            && body["event"] == "failed"
            && body["service"] == "sonarr"
            && body["detail"] == "one of its commands ended with an error",
        "posted: {bodies:?}"
    );
    Ok(())
}

/// systemd 257 starts what `OnFailure=` names before each start that `Restart=` brings, and every systemd does in a restart
/// that had to kill.
fn starts_again(ground: &Ground) -> Result<()> {
    let unit = "dagger-sonarr.service";
    let machine = with_hook(ground, "again")?;
    machine.write("/etc/dagger/dagger.toml", SONARR)?;
    machine.write(
        "/etc/systemd/system/dagger-sonarr.service.d/short.conf",
        "[Service]\nTimeoutStopSec=2\nExecStop=\nRestartSec=5\n",
    )?;
    machine.ok(&format!("systemctl daemon-reload; systemctl start {unit}"))?;
    // So often systemd has asked for an alert, and nothing was told.
    let refrained = || -> Result<usize> {
        let log = machine.ok("journalctl -b --no-pager -o cat -u dagger-alert@sonarr.service")?;
        Ok(log.matches("runs or is about to, so nothing is told").count())
    };
    // Its stop has to kill, within a restart.
    machine.fault("sonarr", "ignore-sigterm")?;
    machine.ok(&format!("systemctl restart {unit}"))?;
    let log = machine.ok(&format!("journalctl -b --no-pager -o cat -u {unit}"))?;
    ensure!(
        log.contains("Failed with result 'timeout'"),
        "its stop did not have to kill:\n{log}"
    );
    machine.wait_for("systemd to ask for an alert", MINUTE, |_| {
        Ok((refrained()? == 1).then_some(()))
    })?;
    let told = posted(&machine)?;
    ensure!(told.is_empty(), "told of a restart: {told:?}");
    // It ends by itself, and `Restart=` starts it again.
    machine.fault("sonarr", "")?;
    machine.ok("podman kill --signal KILL dagger-sonarr")?;
    machine.wait_for("another start", MINUTE, |machine| {
        let restarts = machine.unit(unit, "NRestarts")?;
        Ok((restarts == "1" && machine.unit(unit, "ActiveState")? == "active").then_some(()))
    })?;
    std::thread::sleep(Duration::from_secs(5));
    let told = posted(&machine)?;
    ensure!(told.is_empty(), "told of a crash: {told:?}");
    // And one that stays failed.
    machine.fault("sonarr", "ignore-sigterm")?;
    machine.ok(&format!("systemctl stop {unit}"))?;
    machine.wait_for("an alert", MINUTE, |machine| {
        Ok((!posted(machine)?.is_empty()).then_some(()))
    })?;
    let bodies = posted(&machine)?;
    ensure!(
        bodies.len() == 1 && bodies.first().is_some_and(|body| body["event"] == "failed"),
        "posted: {bodies:?}"
    );
    Ok(())
}

/// The agent and systemd both tell; what people get is the truth, in order.
fn with_agent(ground: &Ground) -> Result<()> {
    let unit = "dagger-sonarr.service";
    let machine = with_hook(ground, "teller")?;
    let quick = "health = { interval = \"1s\", timeout = \"1s\" }\nstart-budget = \"3s\"\n";
    machine.write("/etc/dagger/dagger.toml", &format!("{SONARR}{quick}"))?;
    machine.ok(&format!(
        "systemctl unmask --runtime monitoring.service; systemctl daemon-reload; systemctl start monitoring.service {unit}"
    ))?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    let events = || -> Result<Vec<String>> {
        let word = |body: &serde_json::Value| body["event"].as_str().unwrap_or_default().to_owned();
        Ok(posted(&machine)?.iter().map(word).collect())
    };
    machine.ok("podman kill --signal KILL dagger-sonarr")?;
    machine.wait_for("another start", MINUTE, |machine| {
        Ok((machine.unit(unit, "NRestarts")? == "1").then_some(()))
    })?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    std::thread::sleep(Duration::from_secs(5));
    let told = events()?;
    ensure!(
        !told.iter().any(|event| event == "failed" || event == "given-up"),
        "told of one crash: {told:?}"
    );
    // systemd 252 says `failed` on the way to the next start in the same words as at the end.
    let log = machine.ok("journalctl -b --no-pager -o cat -u monitoring.service")?;
    ensure!(!log.contains("sonarr failed"), "one crash was an end:\n{log}");
    // A hang that no restart cures, and then somebody who mends it.
    machine.fault("sonarr", "hang")?;
    machine.wait_health("sonarr", "failed", Duration::from_mins(3))?;
    machine.wait_unit(unit, "inactive", MINUTE)?;
    machine.wait_for("the word about the end", MINUTE, |_| {
        Ok(events()?.iter().any(|event| event == "given-up").then_some(()))
    })?;
    machine.fault("sonarr", "")?;
    machine.ok(&format!("systemctl start {unit}"))?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    let told = machine.wait_for("the good news", Duration::from_secs(20), |_| {
        Ok(Some(events()?).filter(|told| told.last().is_some_and(|event| event == "recovered")))
    })?;
    ensure!(
        told.iter().filter(|event| *event == "given-up").count() == 1
            && !told.iter().any(|event| event == "failed"),
        "told: {told:?}"
    );
    Ok(())
}

fn metrics(ground: &Ground) -> Result<()> {
    const ASK: &str =
        "curl -sS -i --max-time 5 --unix-socket /run/dagger/metrics.sock http://localhost/metrics";
    let machine = with_hook(ground, "metrics")?;
    machine.ok("systemctl start dagger-metrics.socket; rm -f /run/dagger/metrics/dagger.prom")?;
    let answer = machine.ok(ASK)?;
    ensure!(
        answer.starts_with("HTTP/1.0 503 ") && answer.contains("the agent does not run"),
        "without an agent: {answer}"
    );
    machine.ok("mkdir -p /run/dagger/metrics && printf 'a 1\\n' > /run/dagger/metrics/dagger.prom")?;
    let before = machine.journal(&["-b"])?.len();
    for _ in 0..10 {
        let answer = machine.ok(ASK)?;
        ensure!(
            answer.starts_with("HTTP/1.0 200 OK\r\n") && answer.ends_with("\r\n\r\na 1\n"),
            "{answer}"
        );
    }
    let answer = machine.as_nobody(&[
        "curl",
        "-sS",
        "--unix-socket",
        "/run/dagger/metrics.sock",
        "http://localhost/",
    ])?;
    ensure!(answer.stdout == "a 1\n", "nobody got: {}", answer.all());
    let lines = machine.journal(&["-b"])?;
    let new: Vec<_> = lines
        .iter()
        .skip(before)
        .filter(|line| line.message().contains("etrics"))
        .collect();
    ensure!(
        new.is_empty(),
        "{} lines for 11 answers: {:?}",
        new.len(),
        new.first().map(|line| line.message())
    );
    Ok(())
}
