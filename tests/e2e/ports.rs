//! Ports: held by somebody else, and said so.

use anyhow::{Context, Result, ensure};
use dagger_tests::harness::{BOTH, Story, TRIXIE};
use dagger_tests::rig::{Machine, Suite};
use dagger_tests::suite::{Ground, SIX_TOML};
use std::time::Duration;

pub const STORIES: &[Story] = &[
    Story {
        name: "compose_4950_held_port_names_unit_and_process",
        on: BOTH,
        run: held,
    },
    Story {
        name: "conflict_with_a_socket_unit_or_an_ipv6_listener_is_named_and_ends_by_itself",
        on: BOTH,
        run: holders,
    },
    Story {
        name: "conflict_with_a_podman_container_names_the_container_not_who_keeps_its_port",
        on: BOTH,
        run: containers,
    },
    Story {
        name: "conflict_with_a_docker_container_names_the_container_not_the_proxy",
        on: BOTH,
        run: docker,
    },
    Story {
        name: "conflict_with_a_native_transmission_ends_when_it_is_stopped",
        on: TRIXIE,
        run: native,
    },
    Story {
        name: "umbrel_2213_one_address_against_the_wildcard",
        on: TRIXIE,
        run: one_address,
    },
    Story {
        name: "udp_port_held_is_named_too",
        on: TRIXIE,
        run: udp,
    },
];

/// Storage that works on whatever a machine lies on.
const DOCKER: &str = "{ \"storage-driver\": \"vfs\" }\n";
const MINUTE: Duration = Duration::from_mins(1);
/// Before the suite starts, somebody sits on Sonarr's port.
const SQUATTER: &str = "[Unit]\nDescription=Squatter\nBefore=dagger-sonarr.service\n[Service]\nExecStart=socat TCP-LISTEN:8989,fork,reuseaddr /dev/null\n\
    [Install]\nWantedBy=multi-user.target\n";

fn held(ground: &Ground) -> Result<()> {
    let spec = ground
        .configured("held", SIX_TOML)?
        .file("/etc/systemd/system/squatter.service", SQUATTER);
    let spec = spec.file(
        "/etc/systemd/system/dagger-sonarr.service.d/rig.conf",
        // A refused start that takes its time to be over: the agent looks at the ports meanwhile, too.
        "[Unit]\nWants=squatter.service\nAfter=squatter.service\n[Service]\nExecStopPost=/bin/sleep 0.3\n",
    );
    let machine = Machine::boot(spec)?;
    for other in ["radarr", "prowlarr", "jellyfin", "transmission"] {
        machine.wait_health(other, "healthy", MINUTE)?;
    }
    let status = machine.wait_for("a refusal in the status", MINUTE, |m| {
        let status = m
            .sh("systemctl status --no-pager -l dagger-sonarr.service")?
            .stdout;
        Ok(status.contains("squatter.service").then_some(status))
    });
    let status = status.with_context(|| machine.account_of("sonarr"))?;
    ensure!(
        status.contains("8989") && status.contains("socat"),
        "neither port nor process in:\n{status}"
    );
    let text = machine.unit("dagger-sonarr.service", "StatusText")?;
    ensure!(text.contains("squatter.service"), "STATUS= is {text:?}");
    let journal = machine.ok("journalctl -b --no-pager -o cat -u dagger-sonarr")?;
    ensure!(
        journal.contains("squatter.service"),
        "the journal does not name the holder:\n{journal}"
    );
    ensure!(
        journal.contains("systemctl disable --now squatter.service"),
        "nothing says what to do:\n{journal}"
    );
    let runtime = machine.sh("time dagger=$(/usr/libexec/dagger/dagger-gate pre --service=sonarr --claim=tcp:8989 --owner=568:568)")?;
    ensure!(
        runtime.took < Duration::from_secs(1),
        "the gate took {:?}",
        runtime.took
    );
    machine.wait_for("the verdict", MINUTE, |m| {
        let detail = m.bus_property("sonarr", "HealthDetail")?.to_string();
        Ok((m.health("sonarr") != "healthy" && detail.contains("squatter.service")).then_some(()))
    })?;
    let told = machine.sh("daggerctl conflicts")?;
    ensure!(
        told.code == 3 && told.stdout.contains("squatter.service") && told.stdout.contains("8989"),
        "daggerctl conflicts: {told:?}"
    );
    // Who may not look into processes is told the unit all the same.
    let told = machine.as_nobody(&["daggerctl", "conflicts"])?;
    ensure!(
        told.code == 3 && told.stdout.contains("squatter.service") && !told.stdout.contains("socat"),
        "as nobody: {told:?}"
    );
    machine.ok("rm /etc/systemd/system/squatter.service && systemctl daemon-reload && systemctl stop squatter.service")?;
    // Nobody has to do more.
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    machine.wait_for("no conflict", MINUTE, |m| {
        Ok((m.sh("daggerctl conflicts")?.code == 0).then_some(()))
    })?;
    let lines =
        machine.ok("journalctl -b --no-pager -o cat DAGGER_CONFLICT=taken DAGGER_HOLDER=squatter.service")?;
    ensure!(
        lines.lines().count() == 2,
        "one line when it begins and one when it ends:\n{lines}"
    );
    Ok(())
}

/// The holder of a socket that systemd listens on is the socket unit, and of one that podman's container has, the container.
fn holders(ground: &Ground) -> Result<()> {
    let toml = "[suite]\nmedia = \"/fun\"\nstart-at-boot = false\n[services.sonarr]\n[services.radarr]\n[services.prowlarr]\n";
    let spec = ground
        .configured("holders", toml)?
        .file(
            "/etc/systemd/system/web.socket",
            "[Socket]\nListenStream=8989\n[Install]\nWantedBy=sockets.target\n",
        )
        .file(
            "/etc/systemd/system/web.service",
            "[Service]\nExecStart=/bin/sleep infinity\n",
        );
    let machine = Machine::boot(spec)?;
    machine.ok("systemctl start web.socket && systemd-run --unit=six socat TCP6-LISTEN:7878,ipv6only=1,fork /dev/null && sleep 0.2")?;
    machine.ok("systemctl start --no-block dagger-sonarr.service dagger-radarr.service")?;
    let told = machine.wait_for("both conflicts", MINUTE, |m| {
        let told = m.sh("daggerctl conflicts")?.stdout;
        Ok((told.contains("web.socket") && told.contains("six.service")).then_some(told))
    });
    told.with_context(|| {
        machine
            .sh("daggerctl conflicts; daggerctl ports")
            .map(|o| o.all())
            .unwrap_or_default()
    })?;
    let suggested = machine.sh("daggerctl conflicts --suggest sonarr")?.stdout;
    ensure!(
        suggested.contains("/etc/dagger/dagger.toml") && suggested.contains("port = "),
        "no way out is proposed:\n{suggested}"
    );
    let ports = machine.ok("daggerctl ports || test $? = 3")?;
    ensure!(ports.contains("9696") && ports.contains("prowlarr"), "{ports}");
    machine.ok("systemctl stop web.socket six.service")?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    machine.wait_health("radarr", "healthy", MINUTE)
}

/// What podman publishes by a bridge is kept by conmon(8), in a socket that podman made wherever it was called: here in a
/// login, which lives on. With the host's network it is the container's own.
fn containers(ground: &Ground) -> Result<()> {
    let toml = "[suite]\nmedia = \"/fun\"\nstart-at-boot = false\n[services.sonarr]\n[services.radarr]\n";
    let machine = Machine::boot(ground.configured("containers", toml)?)?;
    machine.ok(
        "setsid systemd-run --quiet --scope --unit=session-9 env -u INVOCATION_ID sh -c 'podman run --quiet --detach \
         --name=web --publish=8989:8096 docker.io/jellyfin/jellyfin:latest && exec sleep infinity' >/dev/null 2>&1 & \
         systemd-run --quiet --unit=host podman run --name=host --network=host lscr.io/linuxserver/radarr:latest; \
         timeout 30 sh -c 'until ss -Hltn | grep -q :8989 && ss -Hltn | grep -q :7878; do sleep 0.1; done'",
    )?;
    let id = machine.ok("podman ps --quiet --filter name=host")?;
    let host = format!("podman {}", id.trim());
    machine.ok("systemctl start --no-block dagger-sonarr.service dagger-radarr.service")?;
    refusal(&machine, "sonarr", "podman stop web")?;
    refusal(&machine, "radarr", &format!("podman stop {}", id.trim()))?;
    told_by_the_agent(&machine, &["podman web", &host])?;
    let told = machine.sh("daggerctl conflicts")?;
    ensure!(
        told.code == 3
            && ["podman web", "podman stop web", "conmon", &host]
                .iter()
                .all(|word| told.stdout.contains(word))
            && !told.stdout.contains("session-9"),
        "{}",
        told.all()
    );
    // The agent may not look into processes: before the gate has, it says of the login no more than that it comes from there.
    let journal = machine.ok("journalctl -b --no-pager -o cat DAGGER_CONFLICT=taken")?;
    ensure!(
        journal.contains(&format!("the podman container {}", id.trim())) && !journal.contains("by session-9"),
        "{journal}"
    );
    let fields = machine.journal(&["-b", "DAGGER_CONFLICT=taken"])?;
    ensure!(
        fields
            .iter()
            .all(|entry| !entry.field("DAGGER_HOLDER").starts_with("session-9")),
        "the login is named as the holder"
    );
    machine.ok("podman rm --force --time=0 web host")?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    machine.wait_health("radarr", "healthy", MINUTE)
}

/// What Docker publishes is kept by docker-proxy, in the unit of Docker's daemon.
fn docker(ground: &Ground) -> Result<()> {
    let toml = "[suite]\nmedia = \"/fun\"\nstart-at-boot = false\n[services.sonarr]\n[services.radarr]\n";
    let packages: &[&str] = match ground.suite {
        Suite::Trixie => &["docker.io", "docker-cli"],
        Suite::Bookworm => &["docker.io"],
    };
    let spec = ground
        .installed_with("docker", packages)?
        .file("/etc/dagger/dagger.toml", toml)
        .file("/etc/docker/daemon.json", DOCKER);
    let machine = Machine::boot(spec)?;
    let run = "docker run --detach --entrypoint /usr/bin/busybox";
    machine.ok(&format!(
        "tar -C / -c usr/bin/busybox | docker import - local/box && {run} --name=web --publish=8989:80 local/box sleep 999 && \
         {run} --name=loop --publish=127.0.0.1:7878:80 local/box sleep 999"
    ))?;
    // Before a start was refused nobody who may has looked: the unit is told, and never as what to stop.
    let told = machine.as_nobody(&["daggerctl", "conflicts"])?.stdout;
    ensure!(
        told.contains("docker container") && told.contains("publish=8989") && !told.contains("--now docker"),
        "{told}"
    );
    machine.ok("systemctl start --no-block dagger-sonarr.service dagger-radarr.service")?;
    for (service, stop) in [("sonarr", "docker stop web"), ("radarr", "docker stop loop")] {
        refusal(&machine, service, stop)?;
    }
    let told = machine.sh("daggerctl conflicts")?;
    ensure!(
        told.code == 3
            && ["docker web", "docker loop", "docker-proxy"]
                .iter()
                .all(|word| told.stdout.contains(word))
            && !told.stdout.contains("--now docker"),
        "{}",
        told.all()
    );
    told_by_the_agent(&machine, &["docker web", "docker loop"])?;
    machine.ok("docker rm --force web loop")?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    machine.wait_health("radarr", "healthy", MINUTE)?;
    // Without proxies the daemon keeps the port itself.
    machine.ok("systemctl stop dagger-sonarr.service")?;
    machine.write(
        "/etc/docker/daemon.json",
        &DOCKER.replace(" }", ", \"userland-proxy\": false }"),
    )?;
    machine.ok(&format!(
        "systemctl restart docker.service && {run} --name=bare --publish=8989:80 local/box sleep 999"
    ))?;
    machine.ok("systemctl start --no-block dagger-sonarr.service")?;
    refusal(&machine, "sonarr", "docker stop bare")?;
    let told = machine.sh("daggerctl conflicts")?.stdout;
    ensure!(told.contains("docker bare") && told.contains("dockerd"), "{told}");
    machine.ok("docker rm --force bare")?;
    machine.wait_health("sonarr", "healthy", MINUTE)
}

/// The gate's refusal says how to stop who has the port.
fn refusal(machine: &Machine, service: &str, stop: &str) -> Result<()> {
    let status = machine.wait_for("a refusal that says how to stop the container", MINUTE, |m| {
        let status = m.unit(&format!("dagger-{service}.service"), "StatusText")?;
        Ok(status.contains(stop).then_some(()))
    });
    status.with_context(|| machine.account_of(service))
}

/// What the gate has found out the agent tells everybody, though it may not look itself.
fn told_by_the_agent(machine: &Machine, names: &[&str]) -> Result<()> {
    let mut last = String::new();
    let told = machine.wait_for("the containers by name, from the agent", MINUTE, |m| {
        last = m.as_nobody(&["daggerctl", "conflicts", "--json"])?.stdout;
        let bus =
            m.ok("busctl call org.nixarr.Dagger1 /org/nixarr/Dagger1 org.nixarr.Dagger1.Manager Conflicts")?;
        let known = |name: &&str| last.contains(*name) && bus.contains(*name);
        Ok(names.iter().all(known).then_some(()))
    });
    told.with_context(|| last)
}

/// The data has been given to the container, and the native daemon still runs: it keeps the port until it is stopped.
fn native(ground: &Ground) -> Result<()> {
    let toml = "[suite]\nmedia = \"/fun\"\nstart-at-boot = false\n[services.transmission]\nnative = \"transmission-daemon.service\"\n";
    let spec = ground
        .installed_with("against", &["transmission-daemon"])?
        .file("/etc/dagger/dagger.toml", toml);
    let machine = Machine::boot(spec)?;
    machine.wait_unit("transmission-daemon.service", "active", MINUTE)?;
    machine.ok(
        "state=/var/lib/nixarr/transmission/.config/transmission-daemon; mkdir -p $state /var/lib/dagger/owner && \
         echo '{}' >$state/settings.json && chown -R 568:568 $state && \
         printf 'DAGGER_UID=568\\nDAGGER_GID=568\\n' >/var/lib/dagger/owner/transmission && systemctl start --no-block dagger-transmission.service",
    )?;
    let told = machine.wait_for("the native unit as the holder", MINUTE, |m| {
        let told = m.sh("daggerctl conflicts")?.stdout;
        Ok(told
            .contains("systemctl disable --now transmission-daemon.service")
            .then_some(told))
    });
    let told = told.with_context(|| machine.account_of("transmission"))?;
    ensure!(
        told.contains("tcp 9091 (web)") && told.contains("transmission-da"),
        "{told}"
    );
    // Through all refusals there is one conflict for each port, and nobody says that both run.
    let again = machine.sh("systemctl start dagger-transmission.service")?;
    ensure!(again.code != 0, "it starts beside the native one");
    machine.ok("daggerctl conflicts || test $? = 3")?;
    let lines = machine.ok("journalctl -b --no-pager -o cat DAGGER_SERVICE=transmission + _SYSTEMD_UNIT=monitoring.service | grep ^Conflict")?;
    let web = lines.lines().filter(|line| line.contains("TCP port 9091"));
    ensure!(web.count() == 1 && !lines.contains("runs beside"), "{lines}");
    machine.ok("systemctl stop transmission-daemon.service")?;
    machine.wait_health("transmission", "healthy", MINUTE)
}

fn one_address(ground: &Ground) -> Result<()> {
    let toml = "[suite]\nmedia = \"/fun\"\nstart-at-boot = false\n[services.sonarr]\n";
    let machine = Machine::boot(ground.configured("address", toml)?)?;
    machine.ok(
        "systemd-run --unit='single\\x2done' socat TCP-LISTEN:8989,bind=127.0.0.1,fork /dev/null; sleep 0.2",
    )?;
    let output = machine.sh("systemctl start dagger-sonarr.service; systemctl stop dagger-sonarr.service; journalctl -b --no-pager -o cat -u dagger-sonarr")?;
    ensure!(
        output.all().contains("disable --now 'single\\x2done.service'"),
        "{}",
        output.all()
    );
    Ok(())
}

fn udp(ground: &Ground) -> Result<()> {
    let toml =
        "[suite]\nmedia = \"/fun\"\nstart-at-boot = false\n[services.transmission]\npeer-port = 46634\n";
    let machine = Machine::boot(ground.configured("udp", toml)?)?;
    machine.ok("systemd-run --unit=datagram socat -u UDP-RECV:46634 STDOUT; sleep 0.2")?;
    let output = machine.sh("systemctl start dagger-transmission.service; systemctl stop dagger-transmission.service; journalctl -b --no-pager -o cat -u dagger-transmission")?;
    ensure!(
        output.all().contains("datagram.service") && output.all().contains("46634"),
        "{}",
        output.all()
    );
    Ok(())
}
