//! Round trips: seven services natively, each moved into its container and back, with trees of all that a file can be in
//! their state. What comes back is what was there, but for what the application itself has written.

pub mod seeds;

pub mod told;

use anyhow::{Context, Result, ensure};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::PathBuf;
use std::time::Duration;

use crate::faults::dice::Dice;
use crate::native::UNIT;
use crate::rig::{Machine, Spec};
use crate::suite::Ground;
use told::Told;

const MINUTE: Duration = Duration::from_mins(1);
/// The directory of the media group.
const MEDIA: u32 = 169;

/// A service, and how its native side runs.
#[derive(Debug, Clone, Copy)]
pub struct Service {
    /// Its name.
    pub name: &'static str,
    /// Its user.
    uid: u32,
    /// What its native unit starts.
    start: &'static str,
    /// What that needs besides.
    more: &'static str,
    /// Where the trees are: below what a snapshot holds.
    below: &'static str,
    /// The image leaves other owners alone.
    foreign: bool,
}

const fn servarr(name: &'static str, uid: u32, start: &'static str) -> Service {
    Service {
        name,
        uid,
        start,
        more: "",
        below: "",
        foreign: false,
    }
}

/// The six, and one of the user's own.
pub const SEVEN: [Service; 7] = [
    servarr(
        "sonarr",
        274,
        "standin sonarr -nobrowser -data=/var/lib/nixarr/sonarr",
    ),
    servarr(
        "radarr",
        275,
        "standin radarr -nobrowser -data=/var/lib/nixarr/radarr",
    ),
    servarr(
        "prowlarr",
        293,
        "standin prowlarr -nobrowser -data=/var/lib/nixarr/prowlarr",
    ),
    servarr(
        "music",
        276,
        "standin lidarr -nobrowser -data=/var/lib/nixarr/music",
    ),
    Service {
        more: "KillSignal=SIGINT\nSuccessExitStatus=156\n",
        ..servarr(
            "bazarr",
            232,
            "standin bazarr --no-update --config /var/lib/nixarr/bazarr --port 6767",
        )
    },
    Service {
        below: "/data",
        foreign: true,
        ..servarr(
            "jellyfin",
            146,
            "standin jellyfin --datadir /var/lib/nixarr/jellyfin/data --configdir /var/lib/nixarr/jellyfin/config --cachedir /var/lib/nixarr/jellyfin/cache --logdir /var/lib/nixarr/jellyfin/log",
        )
    },
    Service {
        below: "/.config/transmission-daemon",
        foreign: true,
        ..servarr(
            "transmission",
            70,
            "transmission-daemon --foreground --config-dir /var/lib/nixarr/transmission/.config/transmission-daemon",
        )
    },
];

const SUITE: &str = "[suite]\nmedia = \"/media\"\nstate = \"/var/lib/nixarr\"\nprobation = \"1s\"\n";
/// What Transmission is told: it downloads where the container sees it.
const SETTINGS: &str = "/var/lib/nixarr/transmission/.config/transmission-daemon/settings.json";
/// One that is in no catalogue.
const OWN: &str = "[services.music]\nimage = \"lscr.io/linuxserver/lidarr:latest\"\nport = 8686\nstate-target = \"/config\"\nnative = \"music.service\"\nhealth = { path = \"/ping\", interval = \"1s\" }\n";

/// A machine on which all of them run natively.
pub fn machine(ground: &Ground, name: &str) -> Result<Machine> {
    machine_of(ground, name, &SEVEN)
}

/// A machine on which these run natively.
pub fn machine_of(ground: &Ground, name: &str, services: &[Service]) -> Result<Machine> {
    let lines = |line: &dyn Fn(Service) -> String| services.iter().copied().map(line).collect::<String>();
    let tables = lines(&|Service { name, .. }| match name {
        "music" => OWN.to_owned(),
        name => format!("[services.{name}]\nhealth = {{ interval = \"1s\" }}\n"),
    });
    let users =
        lines(&|Service { name, uid, .. }| format!("u {name} {uid}:{MEDIA} - /var/lib/nixarr/{name}\n"));
    let places = lines(&Service::places);
    let toml = format!("{SUITE}{tables}");
    let users = format!("g media {MEDIA}\n{users}");
    let places = format!("d /var/lib/nixarr 0755 root root\nd /media/library 0775 root media\n{places}");
    let spec = ground
        .installed_with(name, &["transmission-daemon"])?
        .file("/media/library/a.mkv", "film")
        .file(
            SETTINGS,
            "{ \"download-dir\": \"/media/library\", \"incomplete-dir\": \"/media/library\" }",
        );
    let spec = services.iter().fold(spec, |spec, service| {
        spec.file(
            &format!("/usr/lib/systemd/system/{}.service", service.name),
            service.unit(),
        )
    });
    let machine = boot(spec, services, &toml, &users, &places)?;
    for service in services {
        machine.wait_health(service.name, "healthy", MINUTE)?;
    }
    Ok(machine)
}

fn boot(spec: Spec, services: &[Service], toml: &str, users: &str, places: &str) -> Result<Machine> {
    let spec = spec
        .file("/etc/dagger/dagger.toml", toml)
        .file("/etc/sysusers.d/seven.conf", users)
        .file("/etc/tmpfiles.d/seven.conf", places);
    let machine = Machine::boot(spec)?;
    let units = services.iter().map(|service| format!("{}.service", service.name));
    let units = units.collect::<Vec<_>>().join(" ");
    machine.ok(&format!(
        "systemctl disable --now transmission-daemon.service 2>/dev/null; systemctl mask transmission-daemon.service 2>/dev/null; systemctl enable --now {units} 2>/dev/null"
    ))?;
    Ok(machine)
}

impl Service {
    /// Its directories (tmpfiles.d(5)).
    fn places(self) -> String {
        let state = format!("/var/lib/nixarr/{}", self.name);
        let below: &[&str] = match self.name {
            "jellyfin" => &["", "/data", "/config", "/cache", "/log"],
            "transmission" => &["", "/.config", "/.config/transmission-daemon"],
            _ => &[""],
        };
        let line = |below: &&str| format!("d {state}{below} 0750 {} media\n", self.name);
        let owned = match self.name {
            "transmission" => format!("z {SETTINGS} 0600 transmission media\n"),
            _ => String::new(),
        };
        below.iter().map(line).chain([owned]).collect()
    }

    fn unit(self) -> String {
        let start = if self.start.starts_with("standin") {
            format!("/usr/local/bin/{}", self.start)
        } else {
            format!("/usr/bin/{}", self.start)
        };
        let old = "/usr/local/bin/standin sonarr -nobrowser -data=/var/lib/nixarr/sonarr";
        UNIT.replace(old, &start)
            .replace("User=sonarr", &format!("User={}", self.name))
            .replace("[Install]", &format!("{}[Install]", self.more))
            .replace("Description=Sonarr", &format!("Description={}", self.name))
    }

    fn state(self) -> String {
        format!("/var/lib/nixarr/{}{}", self.name, self.below)
    }

    fn seeds(self, machine: &Machine) -> PathBuf {
        machine.inside(&format!("{}/seeds", self.state()))
    }

    fn job(self, machine: &Machine, verb: &str, more: &str) -> Result<()> {
        let ask = || {
            let command = format!("nixarr-migrate {verb} {} --yes {more}", self.name);
            machine.run_with(&["sh", "-c", &command], "", 5 * MINUTE)
        };
        let mut done = ask()?;
        // On a busy machine the agent may take the job before it to run for some seconds after its end.
        for _ in 0..20 {
            if done.good() || !done.all().contains("is in the hands of") {
                break;
            }
            std::thread::sleep(Duration::from_secs(1));
            done = ask()?;
        }
        ensure!(
            done.good(),
            "{verb} of {}: {}{}",
            self.name,
            done.all(),
            machine.ok(&format!(
                "journalctl -b -o cat --no-pager -u 'dagger-*@{0}.service' -u {0} -u dagger-{0} | tail -40",
                self.name
            ))?
        );
        Ok(())
    }

    /// Bazarr alone has a setting that must change: where its backups go has another name in the container.
    fn backups(self, machine: &Machine, when: &str, wanted: &str) -> Result<Option<String>> {
        if self.name != "bazarr" {
            return Ok(None);
        }
        let told = machine.ok(&format!("grep '^  folder: ' {}/config/config.yaml", self.state()))?;
        let folder = told.trim().trim_start_matches("folder: ").trim_matches('\'');
        Ok((folder != wanted).then(|| format!("{when}: its backups go to {folder}, not to {wanted}")))
    }

    /// Owners and modes of what the application has, but for what comes and goes while it runs.
    fn own(self, machine: &Machine) -> Result<String> {
        machine.ok(&format!(
            "cd {} && find . -path ./seeds -prune -o -not -name '*.db-*' -not -name '*.pid' -not -ipath './log*' -not -name '*.tmp*' -printf '%p %U:%G %m\\n' | sort",
            self.state()
        ))
    }
}

/// One round trip of one service: what differs afterwards. Every other one goes back to the data as it was, from which
/// the other side has then taken and changed a part.
pub fn trip(machine: &Machine, service: Service, mut dice: Dice, to_snapshot: bool) -> Result<Vec<String>> {
    let dir = service.seeds(machine);
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
    }
    seeds::plant(&dir, &mut dice, (service.uid, MEDIA), service.foreign)?;
    let (before, own) = (told::tell(&dir)?, service.own(machine)?);
    service.job(machine, "migrate", "")?;
    let mut found = differences("in the container", &before, &told::tell(&dir)?);
    found.extend(service.backups(machine, "in the container", "/config/backup")?);
    if to_snapshot {
        damage(&dir, &before, &mut dice)?;
        service.job(machine, "rollback", "--to-snapshot")?;
    } else {
        service.job(machine, "rollback", "")?;
    }
    machine.wait_health(service.name, "healthy", MINUTE)?;
    found.extend(differences("native again", &before, &told::tell(&dir)?));
    found.extend(service.backups(machine, "native again", "/var/lib/nixarr/bazarr/backup")?);
    let now = service.own(machine)?;
    let kept: Vec<&str> = now.lines().collect();
    found.extend(
        own.lines()
            .filter(|line| !kept.contains(line))
            .map(|line| format!("native again: {line} is not there any more")),
    );
    Ok(found
        .into_iter()
        .map(|what| format!("{}: {what}", service.name))
        .collect())
}

fn differences(when: &str, before: &Told, after: &Told) -> Vec<String> {
    let mut found = Vec::new();
    for (path, was) in before {
        match after.get(path) {
            Some(is) if is == was => {}
            Some(is) => found.push(format!("{when}: {}: {was} became {is}", path.display())),
            None => found.push(format!("{when}: {} is gone", path.display())),
        }
    }
    let new = after.keys().filter(|path| !before.contains_key(*path));
    found.extend(new.map(|path| format!("{when}: {} came", path.display())));
    found
}

/// What an application may do to its files: write, remove, rename, change modes, make new ones.
fn damage(dir: &std::path::Path, told: &Told, dice: &mut Dice) -> Result<()> {
    for path in told.keys().skip(1) {
        let at = dir.join(path);
        let Ok(meta) = fs::symlink_metadata(&at) else {
            continue;
        };
        match dice.number(0, 9) {
            0 if meta.is_dir() => fs::remove_dir_all(&at)?,
            0 => fs::remove_file(&at)?,
            1 if meta.is_file() => fs::write(&at, "written anew")?,
            2 if !meta.is_symlink() => fs::set_permissions(&at, fs::Permissions::from_mode(0o640))?,
            3 if !meta.is_symlink() => chown(&at, Some(1), Some(1))?,
            4 if meta.is_file() => fs::rename(&at, at.with_extension("renamed"))?,
            5 if meta.is_dir() => fs::write(at.join("new"), "new")?,
            _ => {}
        }
    }
    Ok(())
}
