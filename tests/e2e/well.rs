//! What the applications say of themselves, and what their databases look like: asked with their own keys, which nobody
//! gets to see.

use anyhow::{Context, Result, ensure};
use dagger_tests::harness::{BOTH, Story, TRIXIE};
use dagger_tests::rig::Machine;
use dagger_tests::suite::{Ground, SIX_TOML};
use serde_json::Value;
use std::time::Duration;

pub const STORIES: &[Story] = &[
    Story {
        name: "nixflix_129_what_the_application_says_is_shown_and_its_key_is_not",
        on: BOTH,
        run: says,
    },
    Story {
        name: "well_of_all_six_without_a_line_in_the_journal",
        on: TRIXIE,
        run: six,
    },
    Story {
        name: "well_shows_no_key_to_whoever_took_the_port",
        on: TRIXIE,
        run: stolen_port,
    },
    Story {
        name: "radarr_9007_a_damaged_database_is_found_and_nothing_is_written",
        on: BOTH,
        run: damaged,
    },
];

const SONARR: &str = "[suite]\nmedia = \"/fun\"\nstate = \"/var/lib/nixarr\"\n[services.sonarr]\n";
const RADARR: &str = "[suite]\nmedia = \"/fun\"\nstate = \"/var/lib/nixarr\"\n[services.radarr]\n";
const MINUTE: Duration = Duration::from_mins(1);

/// The file about a service; `name` is `sonarr` or `sonarr.db`.
fn file(machine: &Machine, name: &str) -> Result<Value> {
    let text = machine.ok(&format!("cat /run/dagger/well/{name}.json"))?;
    serde_json::from_str(&text).with_context(|| format!("{name}: {text}"))
}

/// A text in it, by JSON pointer (RFC 6901); empty for null.
fn text<'a>(file: &'a Value, pointer: &str) -> &'a str {
    file.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn problems(file: &Value) -> Vec<&str> {
    file.get("problems")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

fn key(machine: &Machine) -> Result<String> {
    let key =
        machine.ok("sed -n 's/.*<ApiKey>\\(.*\\)<\\/ApiKey>.*/\\1/p' /var/lib/nixarr/sonarr/config.xml")?;
    let key = key.trim().to_owned();
    ensure!(key.len() == 32, "no key in config.xml: {key:?}");
    Ok(key)
}

fn says(ground: &Ground) -> Result<()> {
    let machine = Machine::boot(ground.configured("says", SONARR)?)?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    let key = key(&machine)?;
    machine.fault(
        "sonarr",
        &format!("unwell Indexers are gone: http://me:pass@host/x?apikey={key} {key}"),
    )?;
    machine.ok("systemctl start dagger-well.service")?;
    let said = file(&machine, "sonarr")?;
    ensure!(text(&said, "/error").is_empty(), "{said}");
    ensure!(text(&said, "/identity/name") == "Sonarr", "{said}");
    ensure!(
        problems(&said).contains(&"Indexers are gone: http://[secret]@host/x?apikey=[secret] [secret]"),
        "{said}"
    );
    // Anybody may read what is said; nobody finds the key in it, in the journal, or in what was started.
    let mode = machine.ok("stat -c '%a %U' /run/dagger/well/sonarr.json")?;
    ensure!(mode.trim() == "644 root", "{mode}");
    machine.as_nobody(&["cat", "/run/dagger/well/sonarr.json"])?;
    let leak = machine.ok(&format!(
        "grep -rl {key} /run/dagger /etc/systemd /run/systemd 2>/dev/null; journalctl -b --no-pager -o export | grep -a {key} | head -n 3; true"
    ))?;
    ensure!(leak.trim().is_empty(), "the key is in {leak}");
    // Well again, and then stopped: what it said is no news any more.
    machine.fault("sonarr", "")?;
    machine.ok("systemctl start dagger-well.service")?;
    let said = file(&machine, "sonarr")?;
    ensure!(
        !problems(&said).iter().any(|text| text.contains("gone")),
        "{said}"
    );
    machine.ok("systemctl stop dagger-sonarr.service && systemctl start dagger-well.service")?;
    ensure!(
        machine.ok("ls /run/dagger/well")?.trim().is_empty(),
        "a stopped service is said to be something"
    );
    Ok(())
}

fn six(ground: &Ground) -> Result<()> {
    let machine = Machine::boot(ground.configured("well-six", SIX_TOML)?)?;
    machine.wait_six()?;
    machine.ok("mkdir -p '/var/lib/nixarr/jellyfin/data/root/default/Shows' '/var/lib/nixarr/jellyfin/data/root/default/Films'")?;
    machine.ok("mkdir -p /fun/films; printf /fun/shows > /var/lib/nixarr/jellyfin/data/root/default/Shows/a.mblink; printf /fun/films > /var/lib/nixarr/jellyfin/data/root/default/Films/a.mblink")?;
    machine.ok("systemctl start dagger-well.service dagger-quick-check.service")?;
    for (service, name) in [
        ("sonarr", "Sonarr"),
        ("radarr", "Radarr"),
        ("prowlarr", "Prowlarr"),
        ("bazarr", "Bazarr"),
        ("jellyfin", "Jellyfin Server"),
        ("transmission", "Transmission"),
    ] {
        let said = file(&machine, service)?;
        ensure!(text(&said, "/error").is_empty(), "{service}: {said}");
        ensure!(text(&said, "/identity/name") == name, "{service}: {said}");
    }
    let jellyfin = file(&machine, "jellyfin")?;
    ensure!(
        problems(&jellyfin)
            == [
                "library Films: /fun/films is empty",
                "library Movies: /media/library/movies is not visible inside: none of the service's mounts holds it",
                "library Shows: /fun/shows is not there"
            ],
        "{jellyfin}"
    );
    for service in ["sonarr", "radarr", "prowlarr", "bazarr", "jellyfin"] {
        let found = file(&machine, &format!("{service}.db"))?;
        ensure!(
            text(&found, "/error").is_empty() && problems(&found).is_empty(),
            "{service}: {found}"
        );
    }
    // An hour like any other leaves no line, neither of the program nor of systemd.
    let lines =
        machine.ok("journalctl -b --no-pager -o cat -u dagger-well.service -u dagger-quick-check.service")?;
    ensure!(lines.trim().is_empty(), "{lines}");
    machine.ok("systemctl is-active dagger-well.timer dagger-quick-check.timer")?;
    Ok(())
}

/// Whoever takes the port while the application is away gets to see no key.
fn stolen_port(ground: &Ground) -> Result<()> {
    let machine = Machine::boot(ground.configured("stolen", SONARR)?)?;
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    machine.fault("sonarr", "refuse")?;
    let listeners = |machine: &Machine| machine.ok("ss -Hltn sport = :8989 | wc -l");
    machine.wait_for("the port to be free", MINUTE, |m| {
        Ok((listeners(m)?.trim() == "0").then_some(()))
    })?;
    machine.ok("systemd-run --unit=thief --collect -p DynamicUser=yes perl -MIO::Socket::INET -e 'my $l = IO::Socket::INET->new(Listen => 5, LocalAddr => \"0.0.0.0\", LocalPort => 8989, ReuseAddr => 1) or die $!; while (my $c = $l->accept) { while (<$c>) { print STDERR; } }'")?;
    machine.wait_for("the thief to listen", MINUTE, |m| {
        Ok((listeners(m)?.trim() != "0").then_some(()))
    })?;
    machine.ok("systemctl start dagger-well.service")?;
    let said = file(&machine, "sonarr")?;
    let error = text(&said, "/error");
    ensure!(
        error.contains("thief.service") && error.contains("not shown"),
        "{said}"
    );
    let heard = machine.ok("journalctl -b --no-pager -o cat -u thief.service")?;
    ensure!(!heard.contains(&key(&machine)?), "{heard}");
    Ok(())
}

fn damaged(ground: &Ground) -> Result<()> {
    let machine = Machine::boot(ground.configured("damaged", RADARR)?)?;
    machine.wait_health("radarr", "healthy", MINUTE)?;
    machine.ok("systemctl start dagger-quick-check.service")?;
    let found = file(&machine, "radarr.db")?;
    ensure!(
        text(&found, "/error").is_empty() && problems(&found).is_empty(),
        "{found}"
    );
    // A page of the database, as a failing disk would leave it. Its log is written back first, so that the page counts.
    machine.ok("systemctl stop dagger-radarr.service && dd if=/dev/urandom of=/var/lib/nixarr/radarr/radarr.db bs=4096 seek=2 count=1 conv=notrunc status=none && systemctl start --no-block dagger-radarr.service")?;
    machine.wait_for("the container to run", MINUTE, |m| {
        Ok(m.sh("test -e /run/dagger-radarr/cid")?.good().then_some(()))
    })?;
    machine.ok("systemctl start dagger-quick-check.service")?;
    let found = file(&machine, "radarr.db")?;
    let text = problems(&found).join(" ");
    ensure!(
        text.starts_with("radarr.db is damaged: ")
            && text.ends_with("; stop the service and restore a backup"),
        "{found}"
    );
    ensure!(
        machine
            .ok("ls -A /var/cache/dagger/quick-check")?
            .trim()
            .is_empty(),
        "the copy was left behind"
    );
    Ok(())
}
