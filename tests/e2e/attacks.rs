//! What the application's user, and whoever is on the bus, can do about a job: nothing outside of the state is read, changed
//! or given away, and the service runs on one side alone.

use anyhow::{Context, Result, ensure};
use dagger_tests::crash::{held, over};
use dagger_tests::harness::{BOTH, Story, TRIXIE};
use dagger_tests::native::{OWN_AT_FIRST, QUICK, STATE, boot, end, job, native, rows, runs};
use dagger_tests::rig::Machine;
use dagger_tests::suite::{BUS, Ground, ROOT};
use serde_json::Value;
use std::time::Duration;

pub const STORIES: &[Story] = &[
    Story {
        name: "what_the_applications_user_plants_in_its_state_leads_nowhere",
        on: TRIXIE,
        run: planted,
    },
    Story {
        name: "what_is_swapped_under_a_job_leads_nowhere",
        on: TRIXIE,
        run: swapped,
    },
    Story {
        name: "a_state_directory_that_is_swapped_for_a_link_is_not_entered",
        on: TRIXIE,
        run: top_swapped,
    },
    Story {
        name: "sqlite_is_confined_to_the_databases_directory_under_every_systemd",
        on: BOTH,
        run: confined,
    },
    Story {
        name: "a_rogue_on_the_bus_that_goes_while_polkit_waits_or_sends_too_much_changes_nothing",
        on: TRIXIE,
        run: rogue,
    },
];

const MINUTE: Duration = Duration::from_mins(1);
const MANAGER: &str = "org.nixarr.Dagger1.Manager";
const MIGRATE: &str = "systemctl start dagger-migrate@sonarr.service";
const SECRET: &str = "words of root alone";

/// Files of others: one that only root may read, in a directory that only root enters, and one of another application that
/// the media group may write to, and so give further names to.
fn others(machine: &Machine) -> Result<()> {
    machine.ok(&format!(
        "useradd -u 275 -g media -M radarr
        install -d -m 0700 /srv/root && echo '{SECRET}' >/srv/root/secret && chmod 0600 /srv/root/secret
        cp /srv/root/secret /srv/root/sonarr.db && cp /srv/root/secret /srv/root/config.xml
        install -d -o radarr -g media -m 0775 /srv/radarr && echo theirs >/srv/radarr/theirs
        chown radarr:media /srv/radarr/theirs && chmod 0664 /srv/radarr/theirs"
    ))?;
    Ok(())
}

/// All that can be told of them, but how many names they have.
fn told(machine: &Machine) -> Result<String> {
    machine.ok(
        "find /srv -printf '%p %y %U:%G %m %s %T@\\n' | grep -v ' d ' | sort; find /srv -type d -printf '%p %U:%G %m\\n' | sort; find /srv -type f -exec sha256sum {} + | sort",
    )
}

/// Nothing of root's words is in what a job has copied or told.
fn nothing_leaked(machine: &Machine) -> Result<()> {
    let found = machine.ok(&format!(
        "grep -rlF '{SECRET}' /var/lib/dagger /run/dagger $(test -L {STATE} || echo {STATE}) || true; journalctl -b -o cat --no-pager | grep -F '{SECRET}' || true"
    ))?;
    ensure!(found.is_empty(), "root's words are in {found}");
    Ok(())
}

/// As the application's own user, outside of its unit.
fn as_sonarr(machine: &Machine, script: &str) -> Result<String> {
    machine
        .run(&[
            "setpriv",
            "--reuid",
            "sonarr",
            "--regid",
            "media",
            "--clear-groups",
            "bash",
            "-c",
            script,
        ])
        .and_then(|output| {
            ensure!(output.good(), "{script}: {}", output.all());
            Ok(output.stdout)
        })
}

/// Links that lead out.
const LINKS: &str = "ln -s /srv/root/secret secret.jpg; ln -s /srv/root fanart; ln -s ../../../../../../srv/root/secret relative";

const PLANTS: &str = r#"mkdir -p MediaCover/1 && cd MediaCover/1
touch $'a\nsonarr runs in its container now, said nobody' $'\e[2Jb' $'\xff\xfe'
mkfifo pipe
perl -MSocket -e 'socket(S, AF_UNIX, SOCK_STREAM, 0); bind(S, pack_sockaddr_un("socket")) or die $!'
cp /bin/true setuid && chmod 4755 setuid
ln -s . loop"#;

/// What lies there, as far as a copy has it: neither sockets nor devices.
fn plants(machine: &Machine) -> Result<String> {
    machine.ok(&format!(
        "cd {STATE}/MediaCover && find . -printf '%p %y %U:%G %m %n %l %T@\\n' | sort"
    ))
}

fn planted(ground: &Ground) -> Result<()> {
    let machine = boot(native(ground, "planted", QUICK)?)?;
    others(&machine)?;
    as_sonarr(&machine, &format!("cd {STATE} && {PLANTS}"))?;
    machine.ok(&format!(
        "mknod {STATE}/MediaCover/1/null c 1 3; chown sonarr:media {STATE}/MediaCover/1/null"
    ))?;
    let (before, outside, inside) = (rows(&machine)?, told(&machine)?, plants(&machine)?);
    // Links that lead out are told of before anything is touched.
    as_sonarr(
        &machine,
        &format!("mkdir {STATE}/links && cd {STATE}/links && {LINKS}"),
    )?;
    ensure!(!machine.sh(MIGRATE)?.good(), "links that lead out were taken");
    let refused = job(&machine)?.to_string();
    ensure!(
        refused.contains("a symbolic link to /srv/root/secret, which the container does not see"),
        "{refused}"
    );
    ensure!(told(&machine)? == outside, "looking changed something");
    as_sonarr(&machine, &format!("rm -r {STATE}/links"))?;
    // So is a further name of another's file: the image would own that together with its state.
    as_sonarr(
        &machine,
        &format!("mkdir {STATE}/links && ln /srv/radarr/theirs {STATE}/links/planted"),
    )?;
    ensure!(!machine.sh(MIGRATE)?.good(), "another's file was taken");
    let refused = job(&machine)?.to_string();
    ensure!(
        refused.contains(
            "links/planted has a further name outside of the state (a hard link) and belongs to 275:169"
        ) && refused.contains("-xdev -samefile FILE"),
        "{refused}"
    );
    ensure!(told(&machine)? == outside, "looking changed something");
    as_sonarr(&machine, &format!("rm -r {STATE}/links"))?;
    // And when they come after that, they are copied as what they are.
    let pid = held(&machine, "migrate", false)?;
    machine.ok(&format!("systemd-run -q --unit=links -p User=sonarr -p Group=media sh -c 'until test -e /run/links; do :; done; mkdir {STATE}/links && cd {STATE}/links && {LINKS}'
        systemd-run -q sh -c 'until grep -qs step.:.snapshot. /run/dagger/job/sonarr.progress; do :; done; touch /run/links'"))?;
    machine.disturb(pid, &["syncfs:delay_enter=300000"])?;
    over(&machine, "migrate")?;
    ensure!(end(&job(&machine)?, "result") == "done", "{}", job(&machine)?);
    ensure!(runs(&machine)? == (false, true), "{:?}", runs(&machine)?);
    ensure!(
        plants(&machine)? == inside,
        "{inside}\nbecame\n{}",
        plants(&machine)?
    );
    // The copy has them as they are, and nobody but root gets to the setuid file in it.
    let copy = machine.ok("cd /var/lib/dagger/snapshots/sonarr/*/data/*/MediaCover/1 && pwd && find . -printf '%f %y %m %l\\n' | sort")?;
    for kept in ["setuid f 4755", "pipe p"] {
        ensure!(copy.contains(kept), "no {kept} in {copy}");
    }
    for left_out in ["socket", "null"] {
        ensure!(!copy.contains(left_out), "{left_out} is in {copy}");
    }
    let links = machine.ok(
        "cd /var/lib/dagger/snapshots/sonarr/*/data/*/links && find . -type l -printf '%f %l\\n' | sort",
    )?;
    ensure!(
        links.contains("fanart /srv/root\n") && links.contains("secret.jpg /srv/root/secret\n"),
        "{links}"
    );
    let top = copy.lines().next().unwrap_or_default().to_owned();
    ensure!(!machine.as_nobody(&["ls", &top])?.good(), "anybody gets to {top}");
    // Back to the data as it was: everything is put back, over plants that are still there.
    machine.ok(&format!(
        "rm {STATE}/links/fanart {STATE}/config.xml && ln /srv/radarr/theirs {STATE}/config.xml && mkdir {STATE}/links/fanart && ln /srv/radarr/theirs {STATE}/links/fanart/theirs"
    ))?;
    machine.ok("nixarr-migrate rollback sonarr --to-snapshot --yes")?;
    ensure!(runs(&machine)? == (true, false), "{:?}", runs(&machine)?);
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    ensure!(
        machine.ok(&format!(
            "readlink {STATE}/links/fanart; stat -c %h {STATE}/config.xml"
        ))? == "/srv/root\n1\n",
        "a plant was taken for what was there"
    );
    ensure!(
        told(&machine)? == outside,
        "{outside}\nbecame\n{}",
        told(&machine)?
    );
    nothing_leaked(&machine)?;
    let forged = machine.ok(
        "journalctl -b -o cat --no-pager | grep -x 'sonarr runs in its container now, said nobody' || true",
    )?;
    ensure!(forged.is_empty(), "a name became a line of its own");
    ensure!(rows(&machine)? >= before, "rows were lost");
    Ok(())
}

/// Files, directories and the settings change places with links and with another's file, all the time.
const SWAPS: &str = r#"chdir '/';
my $s = '/var/lib/nixarr/sonarr';
mkdir "$s/swaps"; mkdir "$s/swaps/$_" for 0 .. 9;
for my $d (0 .. 9) { for my $f (0 .. 9) { open(F, '>', "$s/swaps/$d/$f"); print F 'own'; close F } }
mkdir "$s/out"; link('/srv/radarr/theirs', "$s/out/theirs"); symlink('/srv/root', "$s/out/dir"); symlink('/srv/root/config.xml', "$s/out/config");
sub exchange { syscall(316, -100, my $a = $_[0], -100, my $b = $_[1], 2) }
while (1) {
    exchange("$s/swaps/3", "$s/out/dir");
    exchange("$s/swaps/4/$_", "$s/out/theirs") for 0 .. 9;
    exchange("$s/config.xml", "$s/out/config");
    exchange("$s/config.xml", "$s/out/config");
}"#;

fn swapped(ground: &Ground) -> Result<()> {
    // Another user gets the files: everything is given away, and back.
    let spec = native(ground, "swapped", &format!("{QUICK}user = 1000\n"))?;
    let machine = boot(spec.file(OWN_AT_FIRST.0, OWN_AT_FIRST.1))?;
    others(&machine)?;
    machine.write("/usr/local/lib/swaps.pl", SWAPS)?;
    // The image gives all of its state to its user when it starts, others' files among it, as LinuxServer's do: that is no work
    // of the job's, so here none starts.
    let none = "/run/systemd/system/dagger-sonarr.service.d/none.conf";
    machine.write(none, "[Service]\nExecStartPre=\nExecStartPre=/bin/false\n")?;
    machine.ok("systemctl daemon-reload")?;
    machine.write("/usr/local/bin/swaps", "#!/bin/sh\nuntil grep -qs step.:.$1. /run/dagger/job/sonarr.progress; do :; done\nexec setpriv --reuid sonarr --regid media --clear-groups perl /usr/local/lib/swaps.pl\n")?;
    machine.ok("chmod 755 /usr/local/bin/swaps")?;
    let (outside, before) = (told(&machine)?, rows(&machine)?);
    let mut ends = Vec::new();
    // Earlier, when it is looked at, it is refused; see above. When a name of another's file is there once the native unit has
    // stopped, it is undone: the image would own that file, too.
    for step in ["snapshot", "stop", "refresh", "check", "adjust", "start"] {
        let pid = held(&machine, "migrate", false)?;
        machine.ok(&format!(
            "systemd-run -q --collect --unit=swaps /usr/local/bin/swaps {step}"
        ))?;
        machine.disturb(pid, &["syncfs,fsync,fdatasync:delay_enter=60000"])?;
        over(&machine, "migrate")?;
        ensure!(
            machine.unit("swaps.service", "ActiveState")? == "active",
            "{step}: the attack has ended"
        );
        machine.ok(&format!(
            "systemctl stop swaps.service; cd {STATE} && (test -L config.xml && mv out/config config.xml; true) && rm -rf swaps out"
        ))?;
        let told_of = job(&machine)?;
        ensure!(
            end(&told_of, "result") == "undone" && !runs(&machine)?.1,
            "{step}: {told_of}"
        );
        ensure!(
            told(&machine)? == outside,
            "{step}: {outside}\nbecame\n{}",
            told(&machine)?
        );
        nothing_leaked(&machine)?;
        ends.push(end(&told_of, "sentence").to_owned());
        machine.ok("systemctl reset-failed; systemctl restart sonarr.service")?;
        machine.wait_health("sonarr", "healthy", MINUTE)?;
    }
    // Left in peace it ends well.
    machine.ok(&format!("rm {none}; systemctl daemon-reload; {MIGRATE}"))?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    ensure!(rows(&machine)? >= before, "rows were lost");
    Ok(())
}

/// Whoever may write to the directory that the state lies in can have something else in its place.
fn top_swapped(ground: &Ground) -> Result<()> {
    let machine = boot(native(ground, "top-swapped", QUICK)?)?;
    others(&machine)?;
    let (outside, before) = (told(&machine)?, rows(&machine)?);
    machine.ok("chown sonarr /var/lib/nixarr")?;
    let swap = "mv /var/lib/nixarr/sonarr /var/lib/nixarr/kept && ln -s /srv/root /var/lib/nixarr/sonarr";
    // In the middle: between the stop of the native unit and what is done then.
    machine.write(
        "/usr/local/bin/swap",
        &format!("#!/bin/sh\nuntil grep -qs step.:.stop. /run/dagger/job/sonarr.progress; do :; done\nexec setpriv --reuid sonarr --regid media --clear-groups sh -c '{swap}'\n"),
    )?;
    machine.ok("chmod 755 /usr/local/bin/swap; systemd-run -q --unit=swap swap; sleep 0.2")?;
    let pid = held(&machine, "migrate", false)?;
    machine.disturb(pid, &["syncfs,fdatasync,fsync:delay_enter=100000"])?;
    over(&machine, "migrate")?;
    ensure!(end(&job(&machine)?, "result") != "done", "{}", job(&machine)?);
    let why = job(&machine)?.to_string();
    ensure!(why.contains("symbolic link"), "{why}");
    ensure!(
        told(&machine)? == outside,
        "{outside}\nbecame\n{}",
        told(&machine)?
    );
    nothing_leaked(&machine)?;
    ensure!(!runs(&machine)?.1, "the container runs");
    // From the beginning: root's directory is not the application's.
    let refused = machine.sh("systemctl start dagger-migrate@sonarr.service")?;
    ensure!(!refused.good(), "root's directory was taken for the state");
    ensure!(
        told(&machine)? == outside,
        "{outside}\nbecame\n{}",
        told(&machine)?
    );
    // Mended as the message says, it is as it was.
    machine.ok("rm /var/lib/nixarr/sonarr && mv /var/lib/nixarr/kept /var/lib/nixarr/sonarr && chown root /var/lib/nixarr; systemctl reset-failed sonarr.service; systemctl restart sonarr.service")?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    ensure!(runs(&machine)? == (true, false), "{:?}", runs(&machine)?);
    ensure!(rows(&machine)? >= before, "rows were lost");
    nothing_leaked(&machine)
}

/// What a swap of directories could do to a database that root opens by name is tried where it is confined
/// (`adapter::database`); here the sandbox of a job's unit has to let it confine itself.
fn confined(ground: &Ground) -> Result<()> {
    let machine = boot(native(ground, "confined", QUICK)?)?;
    let pid = held(&machine, "migrate", false)?;
    machine.disturb(pid, &["landlock_restrict_self:delay_enter=1"])?;
    over(&machine, "migrate")?;
    ensure!(end(&job(&machine)?, "result") == "done", "{}", job(&machine)?);
    let calls = machine.ok("grep -F landlock_restrict_self /var/tmp/rig-disturbed")?;
    ensure!(
        calls.lines().count() > 2 && calls.lines().all(|line| line.contains(" = 0")),
        "{calls}"
    );
    Ok(())
}

/// A message that says to be larger than any may be, and one without an end.
const TOO_MUCH: &str = r#"use Socket; $| = 1;
for my $length (0x7ffffff0, 64 << 20) {
    socket(my $s, AF_UNIX, SOCK_STREAM, 0); connect($s, pack_sockaddr_un('/run/dbus/system_bus_socket')) or die $!;
    syswrite($s, "\0AUTH EXTERNAL " . unpack('H*', $<) . "\r\n"); sysread($s, my $ok, 200);
    syswrite($s, "BEGIN\r\n" . pack('a C C C V V V', 'l', 1, 0, 1, $length, 1, 0));
    $SIG{PIPE} = 'IGNORE';
    my $sent = 0;
    while ($sent < $length) { my $n = syswrite($s, 'x' x 65536); last unless $n; $sent += $n }
    print $sent < $length ? "cut off\n" : "taken\n";
}"#;

fn rogue(ground: &Ground) -> Result<()> {
    let spec = native(ground, "rogue", QUICK)?
        .file("/etc/sysusers.d/boss.conf", "u boss - - /\nm boss sudo\n")
        .file("/usr/local/lib/too-much.pl", TOO_MUCH);
    let machine = boot(spec)?;
    machine.ok("echo boss:hush | chpasswd")?;
    // More often than one user may have questions open: each goes when its asker goes.
    let asked = "setpriv --reuid boss --regid nogroup --init-groups script -qec 'nixarr-migrate migrate sonarr --yes' /dev/null";
    for _ in 0..3 {
        machine.ok(&format!(
            "for i in 1 2 3 4; do (sleep 20 | timeout -s KILL 4 {asked} >/dev/null 2>&1) & done; wait; true"
        ))?;
    }
    ensure!(runs(&machine)? == (true, false), "{:?}", runs(&machine)?);
    machine.ok("! test -e /run/dagger/job/sonarr.progress && ! test -e /run/dagger/job/sonarr.request")?;
    let before = memory(&machine)?;
    let sent = machine.as_nobody(&["perl", "/usr/local/lib/too-much.pl"])?;
    ensure!(
        sent.stdout == "cut off\ncut off\n",
        "the bus took it: {}",
        sent.all()
    );
    // As large as one command line can be.
    let many = machine.as_nobody(&["bash", "-c", &format!(
        "busctl --timeout=30 call {BUS} {ROOT} {MANAGER} Migrate 'sa{{sv}}' sonarr 8000 $(for i in $(seq 8000); do echo k$i s vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv; done)"
    )])?;
    ensure!(!many.good(), "{}", many.all());
    let long = machine.as_nobody(&[
        "bash",
        "-c",
        &format!(
            "busctl --timeout=30 call {BUS} {ROOT} {MANAGER} Plan s $(head -c 120000 /dev/zero | tr '\\0' a)"
        ),
    ])?;
    ensure!(
        !long.good() && long.all().len() < 4096,
        "{} bytes came back",
        long.all().len()
    );
    ensure!(runs(&machine)? == (true, false), "{:?}", runs(&machine)?);
    machine.ok("daggerctl check sonarr")?;
    let after = memory(&machine)?;
    ensure!(
        after < before + 4096,
        "the agent had {before} KiB and has {after}"
    );
    // Who has the password is heard as ever.
    let right = machine.sh(&format!("(sleep 4; echo hush; sleep 12) | {asked}"))?;
    ensure!(
        right.good() && right.all().contains("sonarr runs in its container now"),
        "{}",
        right.all()
    );
    Ok(())
}

fn memory(machine: &Machine) -> Result<u64> {
    let text = machine.ok(
        "sed -n 's/VmRSS:[ \\t]*\\([0-9]*\\) kB/\\1/p' /proc/$(systemctl show -P MainPID monitoring)/status",
    )?;
    let value: Value = serde_json::from_str(text.trim()).context(text)?;
    value.as_u64().context("no number")
}
