//! How the application is run: by an init as in a LinuxServer image, or by itself.
//!
//! The images of LinuxServer start `/init` (s6-overlay) as root. It gives user `abc` the numbers `PUID` and `PGID` (911 by
//! default), chowns the state directory where owners differ, and runs the application as that user under a supervisor that
//! starts it again when it dies. SIGTERM goes to the application; when that is gone, what it left behind gets SIGTERM, three
//! seconds, SIGKILL, and the container ends with 0. An application that ignores SIGTERM is waited for without end.
//! Started with `--user` there is no chown and no change of user, and `PUID`, `PGID` mean nothing.
//!
//! `STANDIN_IMAGE` chooses: `lsio` is this init; `upstream` (Jellyfin's own image) and `native` are the bare program.
//! Without it: `lsio` for PID 1 or where `PUID`/`PGID` are set, never for Jellyfin. The state directory is `/config`, or
//! `STANDIN_CONFIG` for tests.

use std::fs;
use std::os::unix::fs::{MetadataExt, lchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Gid, Pid, Uid, geteuid, getpid, setgid, setgroups, setuid};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::console::say;
use super::options::Environment;

/// Says that this process is the application, whatever its environment looks like otherwise.
const STAGE: &str = "STANDIN_STAGE";
/// `UID:GID` that this process is to become.
const BECOME: &str = "STANDIN_BECOME";
/// The shortest time between two starts of a service.
const RESPAWN: Duration = Duration::from_secs(1);
/// How long what a service left behind may take to end.
const GRACE: Duration = Duration::from_secs(3);

/// Who runs the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    /// An init that supervises it.
    Supervised,
    /// Nobody: it is this process.
    Plain,
}

impl Image {
    /// Which of the two it is for the application `name`.
    pub fn of(name: &str, environment: &Environment) -> Result<Self, String> {
        if environment.get(STAGE).is_some() || name == super::bazarr::MAIN {
            return Ok(Self::Plain);
        }
        match environment.get("STANDIN_IMAGE") {
            Some("lsio") => Ok(Self::Supervised),
            Some("upstream" | "native") => Ok(Self::Plain),
            Some(other) => Err(format!(
                "STANDIN_IMAGE={other:?} is none of lsio, upstream, native"
            )),
            None => {
                let asked = ["PUID", "PGID"]
                    .iter()
                    .any(|name| environment.get(name).is_some());
                let init = name != "jellyfin" && (asked || getpid().as_raw() == 1);
                Ok(if init { Self::Supervised } else { Self::Plain })
            }
        }
    }
}

/// Takes on the identity that the init wants for this process, if any.
pub fn drop_privileges(environment: &Environment) -> Result<(), String> {
    let Some((uid, gid)) = environment.get(BECOME).and_then(|text| text.split_once(':')) else {
        return Ok(());
    };
    let number = |text: &str| text.parse::<u32>().map_err(|error| format!("{BECOME}: {error}"));
    let (uid, gid) = (Uid::from_raw(number(uid)?), Gid::from_raw(number(gid)?));
    if geteuid() == uid {
        return Ok(());
    }
    let done = setgroups(&[gid])
        .and_then(|()| setgid(gid))
        .and_then(|()| setuid(uid));
    done.map_err(|error| format!("cannot become {uid}:{gid}: {error}"))
}

/// Runs `name` as the image would, until the container is to stop.
pub fn supervise(name: &str, environment: &Environment) -> Result<u8, String> {
    let config = PathBuf::from(environment.get("STANDIN_CONFIG").unwrap_or("/config"));
    let mut command = Command::new(std::env::current_exe().map_err(|error| error.to_string())?);
    command
        .env(STAGE, "application")
        .env("HOME", &config)
        .process_group(0)
        .arg(name)
        .args(arguments(name, &config));
    for (variable, value) in extra_environment(name, &config, environment) {
        command.env(variable, value);
    }
    let mask = environment
        .get("UMASK")
        .and_then(|text| u32::from_str_radix(text, 8).ok())
        .unwrap_or(0o022);
    umask(Mode::from_bits_truncate(mask));
    if geteuid().is_root() {
        let number = |variable: &str| {
            environment
                .get(variable)
                .and_then(|text| text.parse::<u32>().ok())
                .unwrap_or(911)
        };
        let (uid, gid) = (number("PUID"), number("PGID"));
        say(format_args!(
            "GID/UID\n───────────────────────────────────────\nUser UID:    {uid}\nUser GID:    {gid}\n───────────────────────────────────────"
        ));
        own(name, &config, uid, gid);
        command.env(BECOME, format!("{uid}:{gid}"));
    }
    say(format_args!("[ls.io-init] done."));
    let mut supervisor = Supervisor {
        command,
        service: None,
        began: Instant::now(),
        stopping: false,
    };
    supervisor.run().map_err(|error| error.to_string())
}

fn arguments(name: &str, config: &Path) -> Vec<String> {
    let config = config.display();
    match name {
        "bazarr" => vec![
            "--no-update".to_owned(),
            "--config".to_owned(),
            config.to_string(),
        ],
        "jellyfin" => vec!["--ffmpeg=/usr/lib/jellyfin-ffmpeg/ffmpeg".to_owned()],
        _ => vec!["-nobrowser".to_owned(), format!("-data={config}")],
    }
}

/// What the image's scripts export, over whatever the container was given.
fn extra_environment(name: &str, config: &Path, environment: &Environment) -> Vec<(String, String)> {
    let below = |path: &str| config.join(path).display().to_string();
    let mut extra: Vec<(String, String)> = Vec::new();
    for (variable, file) in environment.with_prefix("FILE__") {
        match fs::read_to_string(file) {
            Ok(text) => extra.push((variable.to_owned(), text)),
            Err(error) => say(format_args!(
                "[env-init] File {file} for FILE__{variable}: {error}"
            )),
        }
    }
    let fixed = match name {
        "jellyfin" => vec![
            ("JELLYFIN_DATA_DIR", below("data")),
            ("JELLYFIN_CONFIG_DIR", config.display().to_string()),
            ("JELLYFIN_LOG_DIR", below("log")),
            ("JELLYFIN_CACHE_DIR", below("cache")),
        ],
        "bazarr" => Vec::new(),
        _ => vec![("XDG_CONFIG_HOME", below("xdg"))],
    };
    extra.extend(
        fixed
            .into_iter()
            .map(|(variable, value)| (variable.to_owned(), value)),
    );
    extra
}

/// Chowns what has another owner: the whole state directory, or for Jellyfin its first level and a few directories.
fn own(name: &str, config: &Path, uid: u32, gid: u32) {
    let give = |path: &Path| {
        let result = path.symlink_metadata().and_then(|data| {
            // A dangling link is left alone.
            let skip = (data.uid(), data.gid()) == (uid, gid) || data.is_symlink() && !path.exists();
            if skip {
                Ok(())
            } else {
                lchown(path, Some(uid), Some(gid))
            }
        });
        if let Err(error) = result {
            say(format_args!(
                "**** Permissions could not be set on {}: {error} ****",
                path.display()
            ));
        }
    };
    if name != "jellyfin" {
        return walk(config, usize::MAX, &give);
    }
    walk(config, 1, &give);
    for path in
        ["data/plugins", "data/plugins/configurations", "data/transcodes"].map(|path| config.join(path))
    {
        if path.exists() {
            give(&path);
        }
    }
}

fn walk(path: &Path, depth: usize, visit: &impl Fn(&Path)) {
    visit(path);
    let real = path.symlink_metadata().is_ok_and(|data| data.is_dir());
    let Some(deeper) = depth.checked_sub(1).filter(|_| real) else {
        return;
    };
    // What cannot be read has been reported as what cannot be owned.
    let Ok(entries) = fs::read_dir(path) else { return };
    for entry in entries.filter_map(Result::ok) {
        walk(&entry.path(), deeper, visit);
    }
}

struct Supervisor {
    command: Command,
    service: Option<Pid>,
    began: Instant,
    stopping: bool,
}

impl Supervisor {
    fn run(&mut self) -> std::io::Result<u8> {
        set_child_subreaper(true)?;
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGCHLD])?;
        self.start()?;
        loop {
            for signal in signals.wait() {
                match signal {
                    SIGCHLD => {}
                    _ => self.stop(),
                }
            }
            let Some(gone) = self.reap() else { continue };
            if self.stopping {
                return Ok(self.finish(gone));
            }
            std::thread::sleep(RESPAWN.saturating_sub(self.began.elapsed()));
            if signals.pending().any(|signal| signal != SIGCHLD) {
                return Ok(self.finish(gone));
            }
            self.start()?;
        }
    }

    fn start(&mut self) -> std::io::Result<()> {
        let child = self.command.spawn()?;
        self.service = i32::try_from(child.id()).ok().map(Pid::from_raw);
        self.began = Instant::now();
        Ok(())
    }

    fn stop(&mut self) {
        self.stopping = true;
        if let Some(service) = self.service {
            // It may just have gone; then its end is reaped next.
            let _ = kill(service, Signal::SIGTERM);
        }
    }

    /// Collects every dead child; the service's id when it is among them.
    fn reap(&mut self) -> Option<Pid> {
        let mut gone = None;
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _)) => {
                    if self.service == Some(pid) {
                        self.service = None;
                        gone = Some(pid);
                    }
                }
                Ok(WaitStatus::StillAlive) | Err(_) => return gone,
                Ok(_) => {}
            }
        }
    }

    /// Ends what the service's process group left behind.
    fn finish(&mut self, group: Pid) -> u8 {
        let since = Instant::now();
        let mut left = killpg(group, Signal::SIGTERM);
        while left != Err(Errno::ESRCH) && since.elapsed() < GRACE {
            std::thread::sleep(Duration::from_millis(20));
            self.reap();
            left = killpg(group, None);
        }
        if left != Err(Errno::ESRCH) {
            // Nothing is left to be done when even this fails: the container's end kills the rest.
            let _ = killpg(group, Signal::SIGKILL);
        }
        self.reap();
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_supervised() {
        let of = |name: &str, environment: Environment| Image::of(name, &environment);
        assert_eq!(of("sonarr", Environment::from([])), Ok(Image::Plain));
        assert_eq!(
            of("sonarr", Environment::from([("PUID", "1000")])),
            Ok(Image::Supervised)
        );
        assert_eq!(
            of("jellyfin", Environment::from([("PUID", "1000")])),
            Ok(Image::Plain)
        );
        assert_eq!(
            of("jellyfin", Environment::from([("STANDIN_IMAGE", "lsio")])),
            Ok(Image::Supervised)
        );
        assert_eq!(
            of(
                "sonarr",
                Environment::from([("PUID", "1"), ("STANDIN_IMAGE", "native")])
            ),
            Ok(Image::Plain)
        );
        assert!(of("sonarr", Environment::from([("STANDIN_IMAGE", "docker")])).is_err());
    }

    #[test]
    fn scripts_export_over_the_container_environment() {
        let environment = Environment::from([
            ("JELLYFIN_DATA_DIR", "/elsewhere"),
            ("FILE__PASS", "/nonexistent"),
        ]);
        let extra = extra_environment("jellyfin", Path::new("/config"), &environment);
        assert!(extra.contains(&("JELLYFIN_DATA_DIR".to_owned(), "/config/data".to_owned())));
        assert!(!extra.iter().any(|(variable, _)| variable == "PASS"));
    }
}
