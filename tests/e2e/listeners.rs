//! Who listens to the agent may be slow, and the bus itself may go away: neither is to hurt a service.

use anyhow::{Context, Result, ensure};
use dagger_tests::harness::{Story, TRIXIE};
use dagger_tests::rig::Machine;
use dagger_tests::suite::Ground;
use std::time::{Duration, Instant};

pub const STORIES: &[Story] = &[
    Story {
        name: "a_subscriber_that_never_reads_costs_the_agent_nothing",
        on: TRIXIE,
        run: deaf,
    },
    Story {
        name: "a_bus_that_goes_and_comes_while_a_service_recovers_restarts_nobody_twice",
        on: TRIXIE,
        run: bus_gone,
    },
];

const MINUTE: Duration = Duration::from_mins(1);
const TWO: &str = "[suite]\nmedia = \"/fun\"\nstate = \"/var/lib/nixarr\"\n[services.sonarr]\nhealth = { interval = \"1s\", timeout = \"1s\" }\n[services.radarr]\nhealth = { interval = \"1s\", timeout = \"1s\" }\n";

/// A client of the bus that subscribes to everything of the agent's and then sleeps. The messages are made by hand
/// (D-Bus specification, "Message Protocol"), because every library reads what comes.
const DEAF: &str = r#"
use IO::Socket::UNIX;
my $bus = IO::Socket::UNIX->new(Peer => '/run/dbus/system_bus_socket') or die $!;
sub text { my ($text) = @_; pack('V', length $text) . $text . "\0" }
sub pad { my ($bytes, $to) = @_; $bytes . "\0" x (-length($bytes) % $to) }
sub call {
    my ($serial, $member, $body) = @_;
    my $fields = '';
    my %name = (1 => ['o', '/org/freedesktop/DBus'], 2 => ['s', 'org.freedesktop.DBus'], 3 => ['s', $member], 6 => ['s', 'org.freedesktop.DBus']);
    for my $code (sort keys %name) {
        my ($type, $value) = @{$name{$code}};
        $fields = pad($fields, 8) . pack('CC', $code, 1) . $type . "\0" . text($value);
    }
    $fields = pad($fields, 8) . pack('CC', 8, 1) . "g\0" . "\x01s\0" if length $body;
    return pad('l' . pack('CCCVVV', 1, 0, 1, length $body, $serial, length $fields) . $fields, 8) . $body;
}
print $bus "\0AUTH EXTERNAL " . unpack('H*', $<) . "\r\n"; $bus->flush; <$bus>;
print $bus "BEGIN\r\n" . call(1, 'Hello', '') . call(2, 'AddMatch', text("type='signal',path_namespace='/org/nixarr/Dagger1'"));
$bus->flush;
sleep 600;
"#;

fn deaf(ground: &Ground) -> Result<()> {
    let machine = Machine::boot(ground.configured("deaf", TWO)?)?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    machine.write("/run/deaf", DEAF)?;
    machine.ok("for n in 1 2 3; do systemd-run -q --unit=deaf-$n perl /run/deaf; done")?;
    let matches = || {
        machine.ok("busctl call -j org.freedesktop.DBus / org.freedesktop.DBus.Debug.Stats GetAllMatchRules 2>/dev/null | grep -o \"path_namespace='/org/nixarr/Dagger1'\" | wc -l")
    };
    machine.wait_for("three subscribers", MINUTE, |_| {
        let found = matches()?;
        Ok((found.trim() == "3" || found.trim() == "0").then_some(()))
    })?;
    let memory = || -> Result<u64> {
        let pid = machine.unit("monitoring.service", "MainPID")?;
        let line = machine.ok(&format!(
            "sed -n 's/^RssAnon:[^0-9]*\\([0-9]*\\).*/\\1/p' /proc/{pid}/status"
        ))?;
        line.trim().parse().context(line.clone())
    };
    let (before, began, mut worst) = (memory()?, Instant::now(), Duration::ZERO);
    // Verdicts change all the time, and each is a signal to all three.
    machine.fault("radarr", "flap 1s")?;
    while began.elapsed() < Duration::from_secs(12) {
        let asked = Instant::now();
        ensure!(
            matches!(machine.health("sonarr").as_str(), "healthy" | "degraded"),
            "nobody answers for sonarr any more"
        );
        worst = worst.max(asked.elapsed());
        std::thread::sleep(Duration::from_millis(100));
    }
    let grown = memory()?.saturating_sub(before);
    ensure!(grown < 1024, "the agent has grown by {grown} KiB");
    ensure!(worst < Duration::from_secs(2), "others waited for {worst:?}");
    ensure!(
        machine
            .ok("systemctl is-active deaf-1 deaf-2 deaf-3")?
            .lines()
            .all(|line| line == "active"),
        "a subscriber has ended"
    );
    Ok(())
}

fn bus_gone(ground: &Ground) -> Result<()> {
    let machine = Machine::boot(ground.configured("bus-gone", TWO)?)?;
    for service in ["sonarr", "radarr"] {
        machine.wait_health(service, "healthy", MINUTE)?;
    }
    let run_of = |service: &str| machine.unit(&format!("dagger-{service}.service"), "InvocationID");
    let (sonarr, radarr) = (run_of("sonarr")?, run_of("radarr")?);
    // It hangs, and takes its time to stop: the restart is under way when the bus goes.
    machine.fault("sonarr", "hang\nslow-stop 6s")?;
    machine.wait_for("a restart under way", MINUTE, |machine| {
        Ok((machine.unit("dagger-sonarr.service", "ActiveState")? == "deactivating").then_some(()))
    })?;
    machine.fault("sonarr", "slow-stop 6s")?;
    machine
        .ok("systemctl stop dbus.service dbus.socket; sleep 3; systemctl start dbus.socket dbus.service")?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    machine.wait_health("radarr", "healthy", MINUTE)?;
    let restarted = run_of("sonarr")?;
    ensure!(restarted != sonarr, "it was not restarted at all");
    std::thread::sleep(Duration::from_secs(10));
    ensure!(run_of("sonarr")? == restarted, "it was restarted twice");
    ensure!(run_of("radarr")? == radarr, "a healthy service was restarted");
    Ok(())
}
