//! A machine on which Sonarr, the stand-in, runs natively as nixarr has it, beside the suite that is to take it over.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::time::Duration;

use crate::rig::{Machine, Spec};
use crate::suite::Ground;

/// The stand-in keeps its library below this.
pub const TOML: &str = "[suite]\nmedia = \"/media\"\nstate = \"/var/lib/nixarr\"\nprobation = \"4s\"\n[services.sonarr]\nhealth = { interval = \"1s\" }\n";
/// The same with a probation that is hardly one.
pub const QUICK: &str = "[suite]\nmedia = \"/media\"\nstate = \"/var/lib/nixarr\"\nprobation = \"1s\"\n[services.sonarr]\nhealth = { interval = \"1s\" }\n";
/// The same with a container that needs its files to be another user's, and, once [`narrow`] was called, other settings.
pub const CHANGED: &str = "[suite]\nmedia = \"/media\"\nstate = \"/var/lib/nixarr\"\nprobation = \"1s\"\n[services.sonarr]\nhealth = { interval = \"1s\" }\nuser = 1000\nnetwork = \"bridge\"\n";
/// The stand-in as a native service of nixarr's kind: its own user, a media group, its state where nixarr has it.
pub const UNIT: &str = "[Unit]\nDescription=Sonarr\nAfter=network.target\n[Service]\nUser=sonarr\nGroup=media\nUMask=0002\nExecStart=/usr/local/bin/standin sonarr -nobrowser -data=/var/lib/nixarr/sonarr\nEnvironment=STANDIN_IMAGE=native STANDIN_WRITE_INTERVAL=20ms\nRestart=on-failure\n[Install]\nWantedBy=multi-user.target\n";
/// Its native unit.
pub const NATIVE: &str = "sonarr.service";
/// Its container's.
pub const OURS: &str = "dagger-sonarr.service";
/// The address of this machine for itself.
pub const NARROW: &str = "127.0.0.1";
/// Where its state is.
pub const STATE: &str = "/var/lib/nixarr/sonarr";
/// A rule, in a file that comes before nixarr's: its directory gets its owner when it is made, and not at each boot. What is
/// another user's would be given back by systemd-tmpfiles, and such a migration is refused.
pub const OWN_AT_FIRST: (&str, &str) = (
    "/etc/tmpfiles.d/00-dagger-sonarr.conf",
    "d /var/lib/nixarr/sonarr :0700 :sonarr :media\n",
);
const MINUTE: Duration = Duration::from_mins(1);
/// What a person would look at where the native unit is not seen to run.
const ACCOUNT: &str = "systemctl status --no-pager --lines=0 sonarr.service; journalctl -b --no-pager -o short-precise -u sonarr.service -u init.scope -u monitoring.service -n 60";

/// A machine on which Sonarr runs natively, beside the suite that is to take it over.
pub fn native(ground: &Ground, name: &str, toml: &str) -> Result<Spec> {
    native_with(ground, name, toml, &[])
}

/// The same with [`CHANGED`] and [`OWN_AT_FIRST`].
pub fn native_changed(ground: &Ground, name: &str) -> Result<Spec> {
    Ok(native(ground, name, CHANGED)?.file(OWN_AT_FIRST.0, OWN_AT_FIRST.1))
}

/// The same with more of Debian's packages.
pub fn native_with(ground: &Ground, name: &str, toml: &str, packages: &[&str]) -> Result<Spec> {
    Ok(ground
        .installed_with(name, packages)?
        .file("/etc/dagger/dagger.toml", toml)
        .file("/usr/lib/systemd/system/sonarr.service", UNIT)
        .file("/etc/sysusers.d/sonarr.conf", "g media 169\nu sonarr 274:169 - /var/lib/nixarr/sonarr\n")
        .file("/etc/tmpfiles.d/sonarr.conf", "d /var/lib/nixarr 0755 root root\nd /var/lib/nixarr/sonarr 0700 sonarr media\nd /media/library 0775 root media\n")
        .file("/media/library/a.mkv", "film"))
}

/// Boots it, and waits until it has written something.
pub fn boot(spec: Spec) -> Result<Machine> {
    let machine = Machine::boot(spec)?;
    machine.ok("systemctl enable --now sonarr.service 2>/dev/null")?;
    machine
        .wait_health("sonarr", "healthy", MINUTE)
        .with_context(|| machine.sh(ACCOUNT).map(|said| said.all()).unwrap_or_default())?;
    ensure!(
        runs(&machine)? == (true, false),
        "Sonarr does not run natively at first"
    );
    Ok(machine)
}

/// Whether the native unit runs, and the container.
pub fn runs(machine: &Machine) -> Result<(bool, bool)> {
    let active = |unit| Ok::<_, anyhow::Error>(machine.unit(unit, "ActiveState")? == "active");
    Ok((active(NATIVE)?, active(OURS)?))
}

/// Has it listen for this machine alone from now on, which no container in a network of its own can.
pub fn narrow(machine: &Machine) -> Result<()> {
    machine.ok(&format!(
        "systemctl stop {NATIVE} && sed -i 's|<BindAddress>.*</BindAddress>|<BindAddress>{NARROW}</BindAddress>|' {STATE}/config.xml && systemctl start {NATIVE}"
    ))?;
    ensure!(address(machine)? == NARROW, "the setting was not changed");
    machine.wait_health("sonarr", "healthy", MINUTE)
}

/// The address that its settings say it listens on.
pub fn address(machine: &Machine) -> Result<String> {
    let said = machine.ok(&format!(
        "sed -n 's|.*<BindAddress>\\(.*\\)</BindAddress>.*|\\1|p' {STATE}/config.xml"
    ))?;
    Ok(said.trim().to_owned())
}

/// Rows that the stand-in has written, none lost, changed or doubled; and that no two ever wrote at once.
pub fn rows(machine: &Machine) -> Result<u64> {
    rows_in(machine, STATE)
}

/// The same of a copy of its state.
pub fn rows_in(machine: &Machine, state: &str) -> Result<u64> {
    let said = machine.ok(&format!("standin verify {state}"))?;
    ensure!(said.contains(" overlaps=0 ok"), "{said}");
    let rows = said
        .split_once("rows=")
        .and_then(|(_, rest)| rest.split(' ').next());
    rows.and_then(|rows| rows.parse().ok()).context(said.clone())
}

/// The last job's own words.
pub fn job(machine: &Machine) -> Result<Value> {
    let text = machine.ok("cat /run/dagger/job/sonarr.progress")?;
    serde_json::from_str(&text).context(text)
}

/// One of a job's last words.
pub fn end<'a>(job: &'a Value, what: &str) -> &'a str {
    job.pointer(&format!("/end/{what}"))
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// A call to Transmission's RPC, as its own clients make it.
const RPC: &str = r#"rpc() {
    url=http://127.0.0.1:9091/transmission/rpc
    id=$(curl -s $url | sed -n 's/.*X-Transmission-Session-Id: \([^<]*\)<.*/\1/p')
    curl -s -H "X-Transmission-Session-Id: $id" -d "$1" $url
}"#;

fn rpc(machine: &Machine, script: &str) -> Result<String> {
    let output = machine.run(&["bash", "-c", &format!("{RPC}\n{script}")])?;
    ensure!(output.good(), "{}", output.all());
    Ok(output.stdout)
}

/// Gives Transmission a torrent of one piece, made by hand, whose file is in this directory already.
pub fn add_torrent(machine: &Machine, dir: &str) -> Result<()> {
    rpc(
        machine,
        &format!(
            r#"head -c 262144 /dev/urandom >{dir}/film
            hash=$(sha1sum {dir}/film | cut -c1-40 | sed 's/../\\x&/g')
            info=$(printf 'd4:infod6:lengthi262144e4:name4:film12:piece lengthi262144e6:pieces20:%bee' "$hash" | base64 -w0)
            chown -R debian-transmission: {dir}/film
            rpc '{{"method":"torrent-add","arguments":{{"download-dir":"{dir}","metainfo":"'$info'"}}}}'"#
        ),
    )?;
    machine.wait_for("the torrent is whole", MINUTE, |machine| {
        Ok(torrents(machine)?.contains("\"percentDone\":1").then_some(()))
    })
}

/// Gives Transmission a second one, which is paused, and of whose two pieces one is there.
pub fn add_half_torrent(machine: &Machine, dir: &str) -> Result<()> {
    rpc(
        machine,
        &format!(
            r#"head -c 524288 /dev/urandom >{dir}/half
            hash=$(for at in 0 1; do dd if={dir}/half bs=256K skip=$at count=1 2>/dev/null | sha1sum | cut -c1-40; done | tr -d '\n' | sed 's/../\\x&/g')
            info=$(printf 'd4:infod6:lengthi524288e4:name4:half12:piece lengthi262144e6:pieces40:%bee' "$hash" | base64 -w0)
            truncate -s 256K {dir}/half && truncate -s 512K {dir}/half && chown -R debian-transmission: {dir}/half
            rpc '{{"method":"torrent-add","arguments":{{"paused":true,"download-dir":"{dir}","metainfo":"'$info'"}}}}'
            rpc '{{"method":"torrent-verify","arguments":{{}}}}'"#
        ),
    )?;
    machine.wait_for("half of the torrent", MINUTE, |machine| {
        Ok(torrents(machine)?.contains("\"percentDone\":0.5").then_some(()))
    })
}

/// What Transmission has counted, of each torrent and in all: what is in its resume files and in its statistics.
pub fn counted(machine: &Machine) -> Result<Vec<String>> {
    let fields = [
        "hashString",
        "downloadDir",
        "status",
        "leftUntilDone",
        "uploadedEver",
        "downloadedEver",
        "addedDate",
        "doneDate",
    ];
    let ask = format!("rpc '{{\"method\":\"torrent-get\",\"arguments\":{{\"fields\":{fields:?}}}}}'");
    let torrents = answer(&rpc(machine, &ask)?, "/arguments/torrents")?;
    let torrents = torrents.as_array().context("no list of torrents")?.iter();
    let mut counted: Vec<String> = torrents
        .map(|torrent| {
            fields
                .map(|field| format!("{field} {}", said_of(torrent, field)))
                .join(", ")
        })
        .collect();
    // Each version has an order of its own.
    counted.sort();
    let sums = answer(
        &rpc(machine, "rpc '{\"method\":\"session-stats\"}'")?,
        "/arguments/cumulative-stats",
    )?;
    counted.extend(["uploadedBytes", "filesAdded"].map(|sum| format!("{sum} {}", said_of(&sums, sum))));
    Ok(counted)
}

fn said_of(what: &Value, key: &str) -> String {
    what.get(key).map(Value::to_string).unwrap_or_default()
}

fn answer(said: &str, place: &str) -> Result<Value> {
    let said: Value = serde_json::from_str(said).context("Transmission's JSON")?;
    said.pointer(place).cloned().with_context(|| said.to_string())
}

/// Transmission's torrents, as it tells of them.
pub fn torrents(machine: &Machine) -> Result<String> {
    let asked = rpc(
        machine,
        "rpc '{\"method\":\"torrent-get\",\"arguments\":{\"fields\":[\"hashString\",\"percentDone\",\"downloadDir\",\"addedDate\"]}}'",
    )?;
    // Version 4 writes 1 with a point.
    Ok(asked.trim().replace("1.0", "1"))
}
