//! Who is in a service's way, and is no unit to stop: another one who answers, a login, another network.

use anyhow::{Context as _, Result, ensure};
use dagger_tests::harness::{BOTH, Story, TRIXIE};
use dagger_tests::rig::Machine;
use dagger_tests::suite::Ground;
use std::time::Duration;

pub const STORIES: &[Story] = &[
    Story {
        name: "conflict_of_a_healthy_service_is_in_every_status",
        on: TRIXIE,
        run: healthy,
    },
    Story {
        name: "conflict_with_a_login_is_named_by_process_and_user",
        on: BOTH,
        run: login,
    },
    Story {
        name: "gluetun_1407_a_port_is_proposed_that_is_free_in_the_services_own_network",
        on: BOTH,
        run: elsewhere,
    },
];

const MINUTE: Duration = Duration::from_mins(1);

/// Sonarr has IPv4 and is well; who asks `localhost` by IPv6 reaches somebody else.
fn healthy(ground: &Ground) -> Result<()> {
    let toml = "[suite]\nmedia = \"/fun\"\nstart-at-boot = false\n[services.sonarr]\n";
    let machine = Machine::boot(ground.configured("healthy", toml)?)?;
    machine.ok("state=/var/lib/nixarr/sonarr; mkdir -p $state; \
         echo '<Config><BindAddress>0.0.0.0</BindAddress><Port>8989</Port></Config>' >$state/config.xml; \
         chown -R 568:568 $state; systemctl start dagger-sonarr.service")?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    let before = machine.ok("daggerctl status && dagger-nixarr-summary && nixarr-migration-status")?;
    ensure!(!before.contains("8989 of sonarr"), "{before}");
    machine
        .ok("systemd-run --quiet --unit=rival socat TCP6-LISTEN:8989,ipv6only=1,fork,reuseaddr /dev/null")?;
    for (command, code) in [
        ("daggerctl status", 0),
        ("nixarr-migration-status", 0),
        ("dagger-nixarr-summary", 3),
    ] {
        let told = machine.wait_for("the conflict", 2 * MINUTE, |machine| {
            let told = machine.sh(command)?;
            let named = told
                .stdout
                .contains("TCP port 8989 of sonarr is answered by rival.service (");
            Ok(named.then_some(told))
        });
        let told = told.with_context(|| machine.account_of("sonarr"))?;
        ensure!(
            told.code == code && told.stdout.contains("systemctl disable --now rival.service"),
            "{command}: {}",
            told.all()
        );
        ensure!(
            told.stdout.matches("rival.service (").count() == 1,
            "{}",
            told.all()
        );
    }
    ensure!(machine.health("sonarr") == "healthy");
    machine.ok("systemctl stop rival.service")?;
    machine.wait_for("no conflict in the status", 2 * MINUTE, |machine| {
        let told = machine.ok("daggerctl status")?;
        Ok((!told.contains("rival")).then_some(()))
    })
}

/// Somebody's own program, started by hand: stopping the login would end everything that this user does there.
fn login(ground: &Ground) -> Result<()> {
    let toml = "[suite]\nmedia = \"/fun\"\nstart-at-boot = false\n[services.sonarr]\n";
    let machine = Machine::boot(ground.configured("login", toml)?)?;
    machine.ok(
        "setsid systemd-run --quiet --scope --unit=session-7 --uid=nobody socat TCP-LISTEN:8989,fork,reuseaddr /dev/null \
         >/dev/null 2>&1 & timeout 10 sh -c 'until ss -Hltn | grep -q :8989; do sleep 0.1; done'; \
         systemctl start --no-block dagger-sonarr.service",
    )?;
    let nobody = machine.ok("id -u nobody")?;
    let whom = format!("the process socat of user {} (PID ", nobody.trim());
    let status = machine.wait_for("a refusal", MINUTE, |machine| {
        let status = machine.unit("dagger-sonarr.service", "StatusText")?;
        Ok(status.contains(&whom).then_some(status))
    });
    let status = status.with_context(|| machine.account_of("sonarr"))?;
    ensure!(
        status.contains("in the login session-7.scope") && status.contains("stop it (kill "),
        "{status}"
    );
    let told = machine.wait_for("the conflict", MINUTE, |machine| {
        let told = machine.sh("daggerctl conflicts")?;
        Ok((told.code == 3).then_some(told))
    })?;
    let row = told.stdout.lines().nth(1).unwrap_or_default();
    ensure!(
        row.contains("socat (") && row.contains("nobody") && !row.contains("session-7"),
        "{}",
        told.all()
    );
    let told = format!("{status}{}", told.all());
    ensure!(
        told.contains(&whom) && !told.contains("systemctl"),
        "a command for units:\n{told}"
    );
    let fields = machine.journal(&["-b", "DAGGER_CONFLICT=taken"])?;
    ensure!(
        !fields.is_empty() && fields.iter().all(|entry| entry.field("DAGGER_HOLDER").is_empty()),
        "the login is a holder to stop"
    );
    // What was said to do does it.
    machine.ok("kill $(pidof socat)")?;
    machine.wait_health("sonarr", "healthy", MINUTE)
}

/// gluetun#1407: who lives in the VPN's network has its ports there, whatever the host has.
fn elsewhere(ground: &Ground) -> Result<()> {
    let toml = "[suite]\nmedia = \"/fun\"\nstart-at-boot = false\n[services.sonarr]\nnetwork = \"ns:/run/netns/wg\"\n[services.prowlarr]\n";
    let machine = Machine::boot(ground.configured("elsewhere", toml)?)?;
    let suggest = "daggerctl ports --suggest sonarr";
    let told = machine.ok(suggest)?;
    ensure!(
        told.contains("could not be seen") && told.contains("start what makes it"),
        "there is no such network:\n{told}"
    );
    machine.ok(
        "ip netns add wg && ip -n wg link set lo up; \
         systemd-run --quiet --unit=inside ip netns exec wg socat TCP-LISTEN:8990,fork,reuseaddr /dev/null; \
         systemd-run --quiet --unit=outside socat TCP-LISTEN:8991,fork,reuseaddr /dev/null; \
         timeout 10 sh -c 'until ip netns exec wg ss -Hltn | grep -q :8990 && ss -Hltn | grep -q :8991; do sleep 0.1; done'",
    )?;
    let told = machine.ok(suggest)?;
    ensure!(
        told.contains("sonarr on 8991 instead of 8989 in /run/netns/wg")
            && !told.contains("could not be seen"),
        "{told}"
    );
    ensure!(
        told.contains(
            "prowlarr: Settings, Apps, Sonarr: Sonarr Server = the address that stands there, with port 8991"
        ),
        "{told}"
    );
    // Who may not enter says so.
    let told = machine.as_nobody(&["daggerctl", "ports", "--suggest", "sonarr"])?;
    ensure!(
        told.stdout
            .contains("sonarr on 8990 instead of 8989 in /run/netns/wg")
            && told.stdout.contains("could not be seen")
            && told.stdout.contains("ask again as root"),
        "{}",
        told.all()
    );
    // What was proposed can be had.
    machine.ok("sed -i 's/^network/port = 8991\\nnetwork/' /etc/dagger/dagger.toml && systemctl daemon-reload && systemctl start dagger-sonarr.service")?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    machine.ok("ip netns exec wg curl -sf http://127.0.0.1:8991/ping")?;
    Ok(())
}
