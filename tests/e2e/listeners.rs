//! Who listens to the agent may be slow, and the bus itself may go away: neither is to hurt a service.

use anyhow::{Result, ensure};
use dagger_tests::bench::meter::{self, AGENT};
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

/// A client of the bus that subscribes to everything of the agent's, asks it for all properties twenty thousand times, and
/// never reads a reply. The messages are made by hand (D-Bus specification, "Message Protocol"), because every library reads
/// what comes. How many questions the bus has taken stands in a file.
const DEAF: &str = r#"
use IO::Socket::UNIX;
my ($told) = @ARGV;
my $bus = IO::Socket::UNIX->new(Peer => '/run/dbus/system_bus_socket') or die $!;
sub text { my ($text) = @_; pack('V', length $text) . $text . "\0" }
sub pad { my ($bytes, $to) = @_; $bytes . "\0" x (-length($bytes) % $to) }
sub call {
    my ($serial, $name, $path, $interface, $member, $body) = @_;
    my $fields = '';
    my %field = (1 => ['o', $path], 2 => ['s', $interface], 3 => ['s', $member], 6 => ['s', $name]);
    for my $code (sort keys %field) {
        my ($type, $value) = @{$field{$code}};
        $fields = pad($fields, 8) . pack('CC', $code, 1) . $type . "\0" . text($value);
    }
    $fields = pad($fields, 8) . pack('CC', 8, 1) . "g\0" . "\x01s\0" if length $body;
    return pad('l' . pack('CCCVVV', 1, 0, 1, length $body, $serial, length $fields) . $fields, 8) . $body;
}
sub driver { my ($serial, $member, $body) = @_; call($serial, 'org.freedesktop.DBus', '/org/freedesktop/DBus', 'org.freedesktop.DBus', $member, $body) }
print $bus "\0AUTH EXTERNAL " . unpack('H*', $<) . "\r\n"; $bus->flush; <$bus>;
print $bus "BEGIN\r\n" . driver(1, 'Hello', '') . driver(2, 'AddMatch', text("type='signal',path_namespace='/org/nixarr/Dagger1'"));
$bus->flush;
for my $n (1 .. 20000) {
    print $bus call(2 + $n, 'org.nixarr.Dagger1', '/org/nixarr/Dagger1/service/sonarr', 'org.freedesktop.DBus.Properties', 'GetAll', text('org.nixarr.Dagger1.Service')) or last;
    $bus->flush;
    if ($n % 100 == 0) { open(my $file, '>', $told); print $file $n; }
}
sleep 600;
"#;

fn deaf(ground: &Ground) -> Result<()> {
    let machine = Machine::boot(ground.configured("deaf", TWO)?)?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    machine.wait_health("radarr", "healthy", MINUTE)?;
    let (before, agent) = (meter::memory(&machine, AGENT)?, machine.unit(AGENT, "MainPID")?);
    machine.write("/run/deaf", DEAF)?;
    machine.ok("for n in 1 2 3; do systemd-run -q --unit=deaf-$n perl /run/deaf /run/deaf-$n; done")?;
    let began = Instant::now();
    let mut worst = Duration::ZERO;
    let mut fell = false;
    machine.fault("radarr", "500")?;
    while began.elapsed() < Duration::from_secs(30) {
        let asked = Instant::now();
        ensure!(
            machine.health("sonarr") == "healthy",
            "nobody answers for sonarr any more"
        );
        worst = worst.max(asked.elapsed());
        fell |= machine.health("radarr") != "healthy";
        std::thread::sleep(Duration::from_millis(100));
    }
    ensure!(fell, "no verdict is made any more: radarr answers 500");
    machine.fault("radarr", "")?;
    machine.wait_health("radarr", "healthy", MINUTE)?;
    let taken = machine.ok("for n in 1 2 3; do cat /run/deaf-$n; echo; done")?;
    ensure!(
        taken.lines().all(|line| line == "20000") && taken.lines().count() == 3,
        "not every question was taken: {taken:?}"
    );
    ensure!(
        machine
            .ok("systemctl is-active deaf-1 deaf-2 deaf-3")?
            .lines()
            .all(|line| line == "active"),
        "a subscriber has ended"
    );
    let after = meter::memory(&machine, AGENT)?;
    ensure!(
        after.most < before.most + 8.0,
        "the agent has grown from {} to {} MiB",
        before.most,
        after.most
    );
    ensure!(worst < Duration::from_secs(2), "others waited for {worst:?}");
    ensure!(machine.unit(AGENT, "MainPID")? == agent, "the agent has ended");
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
