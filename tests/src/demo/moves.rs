//! From a native install to containers, and back: with the power going in the middle.

use super::{LIMIT, heading, said, show};
use crate::native::{self, STATE};
use crate::rig::{Machine, Suite, progress};
use crate::suite::Ground;
use anyhow::{Result, ensure};

/// What a user writes, with a probation that a demonstration has the time for.
const TOML: &str = r#"[suite]
media = "/media"
state = "/var/lib/nixarr"
probation = "5s"

[services.sonarr]

[services.transmission]
state = "/var/lib/transmission-daemon/.config/transmission-daemon"
volumes = [{ source = "/etc/transmission-daemon" }]
"#;
const TORRENTS: &str = "transmission-daemon.service";
/// Asks Sonarr; the key is read where Sonarr keeps it, and shown to nobody.
fn sonarr(path: &str) -> String {
    let key = r"$(sed -n 's/.*<ApiKey>\(.*\)<.ApiKey>.*/\1/p' /var/lib/nixarr/sonarr/config.xml)";
    format!(r#"curl -s -H @- http://localhost:8989/api/v3/{path} <<<"X-Api-Key: {key}""#)
}

/// Runs it.
pub fn run() -> Result<()> {
    heading(
        "Another machine: Sonarr (a stand-in of ours) and Debian's Transmission run natively on it, as they have for years",
    );
    let ground = Ground::prepare(Suite::Trixie)?;
    let spec = native::native_with(&ground, "moves", TOML, &["transmission-daemon"])?;
    let mut machine = progress::during("booting", || native::boot(spec))?;
    seed(&machine)?;
    let all = look(&machine, "standin verify /var/lib/nixarr/sonarr")?;
    show(&machine, "cat /etc/dagger/dagger.toml; nixarr-migrate status")?;
    heading("What a migration would do");
    show(&machine, "nixarr-migrate plan sonarr")?;
    heading("Sonarr moves");
    show(&machine, "nixarr-migrate migrate sonarr --yes")?;
    same(&machine, &all, "standin verify /var/lib/nixarr/sonarr")?;
    heading("Transmission is to follow, and in the middle of it the power goes");
    cut(&mut machine)?;
    show(
        &machine,
        "journalctl -b -u dagger-recover -u dagger-resume -o cat --no-pager; nixarr-migrate status",
    )?;
    same(&machine, &all, "standin verify /var/lib/nixarr/sonarr")?;
    heading("Whatever the power cut has left undone, and then all of it back");
    show(&machine, "nixarr-migrate migrate all --yes")?;
    same(&machine, &all, "nixarr-migrate status")?;
    show(&machine, "nixarr-migrate rollback all --yes")?;
    same(
        &machine,
        &all,
        "standin verify /var/lib/nixarr/sonarr; nixarr-migrate snapshots",
    )?;
    ensure!(
        native::runs(&machine)? == (true, false),
        "Sonarr is not native again"
    );
    native::rows(&machine).map(drop)
}

/// A torrent whose file is there, and media for Sonarr's library.
fn seed(machine: &Machine) -> Result<()> {
    let settings = "/etc/transmission-daemon/settings.json";
    machine.ok(&format!("systemctl stop {TORRENTS} && sed -i 's/\"rpc-authentication-required\": true/\"rpc-authentication-required\": false/; s|\"download-dir\": \".*\"|\"download-dir\": \"/media\"|' {settings} && systemctl enable --now {TORRENTS} 2>/dev/null"))?;
    native::add_torrent(machine, "/media")
}

/// What there is by the applications' own words: all series, and all torrents.
type Words = (String, String);

/// The applications' own answers, and one thing more.
fn look(machine: &Machine, more: &str) -> Result<Words> {
    let itself = r#"grep -oE '"(appName|version|isDocker|migrationVersion)":[^,]*'"#;
    show(machine, &format!("{} | {itself}", sonarr("system/status")))?;
    let series = sonarr("series");
    show(machine, &format!("{series} | grep -c '\"path\"'"))?;
    said("transmission: torrent-get");
    let torrents = native::torrents(machine)?;
    println!("    {}", torrents.trim());
    show(machine, more)?;
    Ok((machine.ok(&series)?, torrents))
}

/// The same, with nothing missing and nothing new.
fn same(machine: &Machine, all: &Words, more: &str) -> Result<()> {
    let now = look(machine, more)?;
    ensure!(
        now == *all,
        "not what there was before: {now:?} instead of {all:?}"
    );
    Ok(())
}

/// Pulls the plug when the native side has been stopped.
fn cut(machine: &mut Machine) -> Result<()> {
    show(machine, "nixarr-migrate migrate transmission --yes --detach")?;
    machine.wait_for("the stop", LIMIT, |machine| {
        let log = "/var/lib/dagger/transactions/transmission/log";
        let stopped = machine
            .sh(&format!("grep -q '\"record\":\"done\",\"step\":\"stop\"' {log}"))?
            .good();
        Ok(stopped.then_some(()))
    })?;
    machine.power_cut()?;
    println!("    (the power is gone)");
    machine.power_on()?;
    println!("    (and back)");
    machine.wait_for("one of both sides", LIMIT, |machine| {
        let active = |unit: &str| Ok::<_, anyhow::Error>(machine.unit(unit, "ActiveState")? == "active");
        let open = "test -e /var/lib/dagger/transactions/transmission/log";
        let runs = active(TORRENTS)? || active("dagger-transmission.service")?;
        Ok((runs && !machine.sh(open)?.good()).then_some(()))
    })?;
    machine.wait_health("sonarr", "healthy", LIMIT)?;
    ensure!(
        machine.sh(&format!("test -d {STATE}"))?.good(),
        "the state is gone"
    );
    Ok(())
}
