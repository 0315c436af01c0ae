//! People's data: owners, protection, and a stop that leaves it whole.

use anyhow::{Context, Result, ensure};
use dagger_tests::harness::{BOTH, Story, TRIXIE};
use dagger_tests::rig::Machine;
use dagger_tests::suite::{Ground, SIX_TOML};
use std::time::Duration;

pub const STORIES: &[Story] = &[
    Story {
        name: "transmission_7283_graceful_stop_leaves_everything_written",
        on: BOTH,
        run: graceful,
    },
    Story {
        name: "docker_plex_78_nothing_is_chowned_when_the_owner_is_right",
        on: TRIXIE,
        run: no_chown,
    },
    Story {
        name: "nixarr_86_identity_is_taken_from_the_disk",
        on: TRIXIE,
        run: identity,
    },
    Story {
        name: "explicit_user_is_refused_on_a_foreign_tree",
        on: TRIXIE,
        run: explicit,
    },
    Story {
        name: "docker_plex_78_a_marker_is_no_licence_to_chown",
        on: TRIXIE,
        run: marked,
    },
    Story {
        name: "state_that_is_gone_is_not_begun_anew",
        on: TRIXIE,
        run: gone,
    },
    Story {
        name: "transmission_keeps_authentication_and_whitelist",
        on: BOTH,
        run: protection,
    },
    Story {
        name: "nixarr_130_new_files_are_writable_for_the_media_group",
        on: TRIXIE,
        run: umask,
    },
    Story {
        name: "application_that_ignores_sigterm_is_ended_in_its_own_time",
        on: TRIXIE,
        run: stubborn,
    },
    Story {
        name: "servarr_migration_longer_than_its_budget_is_waited_for",
        on: BOTH,
        run: migration,
    },
    Story {
        name: "jellyfin_17900_native_layout_starts_at_the_same_paths",
        on: TRIXIE,
        run: jellyfin,
    },
];

const MINUTE: Duration = Duration::from_mins(1);
const SONARR: &str =
    "[suite]\nmedia = \"/fun\"\nstate = \"/var/lib/nixarr\"\nuser = 568\ngroup = 568\n[services.sonarr]\n";

fn graceful(ground: &Ground) -> Result<()> {
    let machine = Machine::boot(ground.configured("graceful", SIX_TOML)?)?;
    machine.wait_six()?;
    let before = machine.ok("stat -c %Y /var/lib/nixarr/sonarr/config.xml; date +%s; sleep 1.1")?;
    machine.ok("systemctl stop dagger-{sonarr,radarr,prowlarr,bazarr,jellyfin,transmission}.service")?;
    let failed = machine.ok("systemctl --failed --plain --no-legend")?;
    ensure!(failed.trim().is_empty(), "failed units: {failed}");
    let after = machine.ok("stat -c %Y /var/lib/nixarr/sonarr/config.xml")?;
    ensure!(
        before.lines().next() != after.lines().next(),
        "config.xml was not written at the end"
    );
    for place in ["sonarr", "radarr", "prowlarr", "bazarr", "jellyfin/data"] {
        let verdict = machine.ok(&format!("standin verify /var/lib/nixarr/{place}"))?;
        ensure!(
            verdict.contains("overlaps=0") && verdict.trim().ends_with("ok"),
            "{place}: {verdict}"
        );
    }
    let wal = machine.ok("find /var/lib/nixarr -name '*-wal' -size +0")?;
    ensure!(wal.is_empty(), "not checkpointed: {wal}");
    let stats = "/var/lib/nixarr/transmission/.config/transmission-daemon/stats.json";
    machine.ok(&format!("test -s {stats}"))?;
    ensure!(machine.ok("podman ps -aq")?.is_empty(), "containers are left");
    Ok(())
}

/// A tree whose owner is right is not touched, not even with the owner that it has.
fn no_chown(ground: &Ground) -> Result<()> {
    let machine = Machine::boot(ground.configured(
        "nochown",
        &SONARR.replace("[suite]", "[suite]\nstart-at-boot = false"),
    )?)?;
    machine.ok("mkdir -p /var/lib/nixarr/sonarr/MediaCover && cd /var/lib/nixarr/sonarr && touch MediaCover/{1..200}.jpg \
        && chown -R 568:568 . && chmod 700 . && stat -c '%n %Z %u %g' MediaCover/*.jpg >/run/before && sleep 1.1")?;
    machine.ok("systemctl start dagger-sonarr.service")?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    machine.ok("cd /var/lib/nixarr/sonarr && stat -c '%n %Z %u %g' MediaCover/*.jpg | diff /run/before -")?;
    ensure!(
        machine.ok("stat -c %a /var/lib/nixarr/sonarr")?.trim() == "700",
        "the mode was changed"
    );
    Ok(())
}

/// nixarr gives every application its own user: the container runs as that one.
fn identity(ground: &Ground) -> Result<()> {
    let toml = "[suite]\nmedia = \"/fun\"\nstate = \"/var/lib/nixarr\"\nstart-at-boot = false\n[services.sonarr]\n[services.transmission]\n";
    let machine = Machine::boot(ground.configured("identity", toml)?)?;
    machine.ok("mkdir -p /var/lib/nixarr/{sonarr,transmission/.config/transmission-daemon} && cd /var/lib/nixarr \
        && echo '<Config></Config>' >sonarr/config.xml && echo '{}' >transmission/.config/transmission-daemon/settings.json \
        && chown -R 274:169 sonarr && chown -R 70:169 transmission && chmod 700 sonarr")?;
    machine.ok("systemctl start dagger-sonarr.service dagger-transmission.service")?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    machine.wait_health("transmission", "healthy", MINUTE)?;
    let owners = machine
        .ok("find /var/lib/nixarr/sonarr /var/lib/nixarr/transmission -printf '%U:%G\\n' | sort -u")?;
    ensure!(
        owners.split_whitespace().eq(["274:169", "70:169"]),
        "owners: {owners}"
    );
    let processes = machine
        .ok("ps -eo uid,gid,args | grep -E 'transmission-daemon|Sonarr|standin sonarr -' | grep -v grep")?;
    ensure!(
        processes.contains("70   169") || processes.split_whitespace().any(|word| word == "70"),
        "{processes}"
    );
    let marker = machine.ok("cat /var/lib/dagger/owner/sonarr")?;
    ensure!(
        marker.contains("DAGGER_UID=274") && marker.contains("DAGGER_GID=169"),
        "{marker}"
    );
    Ok(())
}

/// Another user in the configuration would mean to chown: not without a transaction.
fn explicit(ground: &Ground) -> Result<()> {
    let toml = format!(
        "{}user = 1234\ngroup = 1234\n",
        SONARR.replace("[suite]", "[suite]\nstart-at-boot = false")
    );
    let machine = Machine::boot(ground.configured("explicit", &toml)?)?;
    machine.ok("mkdir -p /var/lib/nixarr/sonarr && touch /var/lib/nixarr/sonarr/x && chown -R 274:169 /var/lib/nixarr/sonarr")?;
    let start = machine.sh("systemctl start dagger-sonarr.service")?;
    ensure!(!start.good(), "it started");
    let status = machine.unit("dagger-sonarr.service", "StatusText")?;
    ensure!(
        status.contains("274") && status.contains("1234"),
        "STATUS= {status:?}"
    );
    ensure!(
        machine.ok("stat -c %u /var/lib/nixarr/sonarr/x")?.trim() == "274",
        "it was chowned"
    );
    Ok(())
}

/// The image gives its whole state to the user that it is told, so it must never be told another one than the data's.
fn marked(ground: &Ground) -> Result<()> {
    let toml = SONARR.replace("[suite]", "[suite]\nstart-at-boot = false");
    let machine = Machine::boot(ground.configured("marked", &toml)?)?;
    machine.ok(
        "mkdir -p /var/lib/nixarr/sonarr/MediaCover /var/lib/dagger/owner && cd /var/lib/nixarr/sonarr \
        && echo '<Config></Config>' >config.xml && touch MediaCover/{1..20}.jpg && chown -R 274:169 . \
        && printf 'DAGGER_UID=568\\nDAGGER_GID=568\\n' >/var/lib/dagger/owner/sonarr",
    )?;
    let owners = || machine.ok("find /var/lib/nixarr/sonarr -printf '%U:%G\\n' | sort -u");
    let start = machine.sh("systemctl start dagger-sonarr.service")?;
    ensure!(!start.good(), "it started");
    let status = machine.unit("dagger-sonarr.service", "StatusText")?;
    ensure!(
        status.contains("belongs to 274:169, but sonarr runs as 568:568"),
        "STATUS= {status:?}"
    );
    ensure!(owners()?.trim() == "274:169", "owners: {}", owners()?);
    // A directory of root's with the application's files in it runs as the files' owner.
    machine.ok("systemctl stop dagger-sonarr.service; rm /var/lib/dagger/owner/sonarr; chown root:root /var/lib/nixarr/sonarr \
        && chmod 777 /var/lib/nixarr/sonarr && systemctl reset-failed; systemctl start dagger-sonarr.service")?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    let foreign = machine.ok("find /var/lib/nixarr/sonarr -mindepth 1 ! -uid 274")?;
    ensure!(foreign.is_empty(), "not 274's any more: {foreign}");
    Ok(())
}

/// A disk that is not mounted leaves an empty place: no new database, no new API key there.
fn gone(ground: &Ground) -> Result<()> {
    let toml = SONARR.replace("[suite]", "[suite]\nstart-at-boot = false");
    let machine = Machine::boot(ground.configured("gone", &toml)?)?;
    machine.ok("systemctl start dagger-sonarr.service")?;
    machine.ok(
        "systemctl stop dagger-sonarr.service && mv /var/lib/nixarr /var/lib/disk && mkdir /var/lib/nixarr",
    )?;
    let start = machine.sh("systemctl start dagger-sonarr.service")?;
    ensure!(!start.good(), "it began anew");
    let status = machine.unit("dagger-sonarr.service", "StatusText")?;
    ensure!(
        status.contains("/var/lib/nixarr/sonarr is empty or not there"),
        "STATUS= {status:?}"
    );
    ensure!(
        machine.ok("ls /var/lib/nixarr")?.is_empty(),
        "something was made there"
    );
    machine.ok(
        "rmdir /var/lib/nixarr && mv /var/lib/disk /var/lib/nixarr && systemctl start dagger-sonarr.service",
    )?;
    machine.wait_health("sonarr", "healthy", MINUTE)
}

/// The image's own start script would switch both off.
fn protection(ground: &Ground) -> Result<()> {
    let settings = r#"{"rpc-authentication-required": true, "rpc-username": "me", "rpc-password": "secret", "rpc-whitelist-enabled": true, "rpc-whitelist": "127.0.0.1,192.168.7.*", "rpc-host-whitelist-enabled": true, "umask": "002"}"#;
    let place = "/var/lib/nixarr/transmission/.config/transmission-daemon";
    let toml = "[suite]\nmedia = \"/fun\"\nstate = \"/var/lib/nixarr\"\nstart-at-boot = false\n[services.transmission]\n";
    let machine = Machine::boot(ground.configured("protected", toml)?)?;
    machine.write(&format!("{place}/settings.json"), settings)?;
    machine.ok(&format!("chown -R 70:169 {place} && chmod 600 {place}/settings.json && systemctl start dagger-transmission.service"))?;
    machine.wait_health("transmission", "healthy", MINUTE)?;
    let code = machine.ok("curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:9091/transmission/rpc")?;
    ensure!(code == "401", "without a password the answer is {code}");
    machine.ok("systemctl stop dagger-transmission.service")?;
    let written: serde_json::Value =
        serde_json::from_str(&machine.ok(&format!("cat {place}/settings.json"))?).context("settings.json")?;
    for (key, value) in [
        ("rpc-authentication-required", "true"),
        ("rpc-whitelist-enabled", "true"),
        ("rpc-whitelist", "\"127.0.0.1,192.168.7.*\""),
    ] {
        let found = written
            .get(key)
            .or_else(|| written.get(key.replace('-', "_")))
            .map(ToString::to_string);
        ensure!(found.as_deref() == Some(value), "{key} became {found:?}");
    }
    ensure!(
        machine
            .ok(&format!("stat -c '%u:%g' {place}/settings.json"))?
            .trim()
            == "70:169",
        "another owner"
    );
    Ok(())
}

fn umask(ground: &Ground) -> Result<()> {
    let machine = Machine::boot(ground.configured("umask", SONARR)?)?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    let narrow = machine.ok("find /var/lib/nixarr/sonarr -mindepth 1 -type d ! -perm -g+w")?;
    ensure!(narrow.is_empty(), "not writable for the group: {narrow}");
    Ok(())
}

fn stubborn(ground: &Ground) -> Result<()> {
    let toml = format!("{SONARR}stop-timeout = \"3s\"\n");
    let machine = Machine::boot(ground.configured("stubborn", &toml)?)?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    machine.fault("sonarr", "ignore-sigterm")?;
    std::thread::sleep(Duration::from_millis(500));
    let stop = machine.sh("systemctl stop dagger-sonarr.service")?;
    ensure!(
        stop.took > Duration::from_secs(2) && stop.took < Duration::from_secs(12),
        "the stop took {:?}",
        stop.took
    );
    ensure!(machine.ok("podman ps -aq")?.is_empty(), "the container is left");
    Ok(())
}

/// The port is closed all the while, and only the journal says why.
fn migration(ground: &Ground) -> Result<()> {
    let toml = format!(
        "{}start-budget = \"4s\"\nenvironment = {{ STANDIN_MIGRATE = \"12s\" }}\n",
        SONARR.replace("[suite]", "[suite]\nstart-at-boot = false")
    );
    let machine = Machine::boot(ground.configured("migration", &toml)?)?;
    let start = machine.sh("systemctl start dagger-sonarr.service")?;
    ensure!(start.good(), "{}", machine.account_of("sonarr"));
    let restarts = machine.unit("dagger-sonarr.service", "NRestarts")?;
    ensure!(
        restarts == "0",
        "{restarts} restarts in the middle of a migration"
    );
    machine.wait_health("sonarr", "healthy", MINUTE)
}

/// Native directories are mounted where they were, so that no marker file and no stored path is wrong.
fn jellyfin(ground: &Ground) -> Result<()> {
    let toml = "[suite]\nmedia = \"/fun\"\nstate = \"/data/.state/nixarr\"\n[services.jellyfin]\n";
    let mut machine = Machine::assemble(ground.configured("layout", toml)?)?;
    machine.switch_on()?;
    machine.wait_health("jellyfin", "healthy", MINUTE)?;
    for (directory, marker) in [
        ("data", ".jellyfin-data"),
        ("config", ".jellyfin-config"),
        ("cache", ".jellyfin-cache"),
        ("log", ".jellyfin-log"),
    ] {
        machine.ok(&format!(
            "test -e /data/.state/nixarr/jellyfin/{directory}/{marker}"
        ))?;
    }
    machine.shut_down()?;
    machine.power_on()?;
    machine.wait_health("jellyfin", "healthy", MINUTE)
}
