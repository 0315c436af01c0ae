//! A machine: boots, runs commands, loses its power, boots again.

use super::{Suite, cgroup, host, sweep, tree};
use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::Flock;
use nix::mount::{MsFlags, mount};
use std::fs::File;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// So long may a machine take from power to a finished boot.
const BOOT_LIMIT: Duration = Duration::from_mins(2);
/// Units that cannot work in any container, or that would do things by themselves in the middle of a test.
const MASKED: &[&str] = &[
    "systemd-modules-load.service",
    "console-getty.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
];
/// No pids controller reaches a machine on a hybrid host: podman must not try to use it. The rig's setting, never the product's.
const CONTAINERS_CONF: &str = "[containers]\npids_limit = 0\n";
/// Without CAP_SYS_RESOURCE on the host nobody can raise a limit: Debian 12's podman must be kept from it, and its crun,
/// which gives up where runc goes on, must not be used.
const WITHIN_LIMITS: &str =
    "default_ulimits = [\"nofile=1024:16384\", \"nproc=4096:16384\"]\n[engine]\nruntime = \"runc\"\n";

/// What a machine is made of.
#[derive(Debug, Clone)]
pub struct Spec {
    name: String,
    suite: Suite,
    tree: PathBuf,
    layers: Vec<PathBuf>,
    binds: Vec<(PathBuf, String, bool)>,
    files: Vec<(String, String)>,
}

impl Spec {
    /// A plain machine of that release. `name` becomes its host name.
    pub fn new(name: &str, suite: Suite) -> Result<Self> {
        Self::with_packages(name, suite, &[])
    }

    /// A machine with more of the release's packages than the usual ones.
    pub fn with_packages(name: &str, suite: Suite, packages: &[&str]) -> Result<Self> {
        let tree = tree::tree(suite, packages)?;
        Ok(Self {
            name: name.to_owned(),
            suite,
            tree,
            layers: Vec::new(),
            binds: Vec::new(),
            files: Vec::new(),
        })
    }

    /// Lays a directory over the tree, as if its files had been installed; it is not written to.
    #[must_use]
    pub fn layer(mut self, directory: impl Into<PathBuf>) -> Self {
        self.layers.push(directory.into());
        self
    }

    /// Shows a directory of the host inside, read-only.
    #[must_use]
    pub fn bind_read_only(mut self, outside: impl Into<PathBuf>, inside: &str) -> Self {
        self.binds.push((outside.into(), inside.to_owned(), true));
        self
    }

    /// Shows a directory of the host inside, to be written to.
    #[must_use]
    pub fn bind(mut self, outside: impl Into<PathBuf>, inside: &str) -> Self {
        self.binds.push((outside.into(), inside.to_owned(), false));
        self
    }

    /// Puts a file on the disk before the first boot.
    #[must_use]
    pub fn file(mut self, inside: &str, text: impl Into<String>) -> Self {
        self.files.push((inside.to_owned(), text.into()));
        self
    }
}

/// A machine that is there until this is dropped. Its disk outlives its power.
pub struct Machine {
    pub(super) name: String,
    spec: Spec,
    lock: Option<Flock<File>>,
    nspawn: Option<Child>,
    pub(super) leader: u32,
    booted: Duration,
}

impl Machine {
    /// Makes the machine's disk and boots it; returns when the boot is finished.
    pub fn boot(spec: Spec) -> Result<Self> {
        let mut machine = Self::assemble(spec)?;
        machine.power_on()?;
        Ok(machine)
    }

    /// Makes the machine's disk without booting it.
    pub fn assemble(spec: Spec) -> Result<Self> {
        let name = format!("{}-{}-{}", spec.name, spec.suite.name(), std::process::id());
        let lock = host::lock(&sweep::lock_file(&name))?;
        sweep::adopt(&name);
        let machine = Self {
            name,
            spec,
            lock: Some(lock),
            nspawn: None,
            leader: 0,
            booted: Duration::ZERO,
        };
        machine.make_disk()?;
        Ok(machine)
    }

    /// How long the last boot took, from power to a finished boot.
    pub fn boot_time(&self) -> Duration {
        self.booted
    }

    /// A path on the machine's disk as the host sees it. Links with an absolute target are not followed rightly.
    pub fn on_disk(&self, inside: &str) -> PathBuf {
        self.place().join("root").join(inside.trim_start_matches('/'))
    }

    /// A path of the running machine as its init sees it, `/run` included, without a process inside. Links with an absolute
    /// target are not followed rightly.
    pub fn inside(&self, path: &str) -> PathBuf {
        Path::new("/proc")
            .join(self.leader.to_string())
            .join("root")
            .join(path.trim_start_matches('/'))
    }

    /// Where podman's store lies on the host: an overlay cannot lie on the machine's own overlay.
    pub fn container_store(&self) -> PathBuf {
        self.place().join("containers/storage")
    }

    fn place(&self) -> PathBuf {
        sweep::place(&self.name)
    }

    fn make_disk(&self) -> Result<()> {
        let place = self.place();
        std::fs::create_dir_all(&place).with_context(|| format!("create {}", place.display()))?;
        mount(
            Some("dagger-rig"),
            &place,
            Some("tmpfs"),
            MsFlags::empty(),
            Some("mode=0755"),
        )
        .with_context(|| format!("mount a tmpfs at {}", place.display()))?;
        for directory in ["upper", "work", "root", "containers"] {
            std::fs::create_dir(place.join(directory)).with_context(|| format!("create {directory}"))?;
        }
        let lower: Vec<String> = self
            .spec
            .layers
            .iter()
            .rev()
            .chain([&self.spec.tree])
            .map(|path| path.display().to_string())
            .collect();
        let options = format!(
            "lowerdir={},upperdir={1}/upper,workdir={1}/work",
            lower.join(":"),
            place.display()
        );
        mount(
            Some("dagger-rig"),
            &place.join("root"),
            Some("overlay"),
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .with_context(|| format!("mount the overlay: {options}"))?;
        self.furnish()
    }

    /// What the rig itself changes in the tree; everything else is as Debian made it.
    fn furnish(&self) -> Result<()> {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/uuid").context("a machine id")?;
        self.put("/etc/machine-id", &id.replace('-', ""))?;
        self.put("/etc/hostname", &format!("{}\n", self.spec.name))?;
        self.put(
            "/etc/hosts",
            &format!("127.0.0.1 localhost\n127.0.1.1 {}\n", self.spec.name),
        )?;
        self.put("/etc/containers/containers.conf", &self.containers_conf())?;
        // Without these two files a boot does what installing a package would have done: users, catalogue, libraries.
        for stamp in ["/etc/.updated", "/var/.updated"] {
            std::fs::remove_file(self.on_disk(stamp))
                .or_else(not_there)
                .context("forget the last update")?;
        }
        std::fs::create_dir_all(self.on_disk("/var/log/journal")).context("journal directory")?;
        for unit in MASKED {
            let link = self.on_disk(&format!("/etc/systemd/system/{unit}"));
            if link.symlink_metadata().is_err() {
                symlink("/dev/null", &link).with_context(|| format!("mask {unit}"))?;
            }
        }
        for (path, text) in &self.spec.files {
            self.put(path, text)?;
        }
        Ok(())
    }

    fn containers_conf(&self) -> String {
        let limited = self.spec.suite == Suite::Bookworm && !host::may_raise_limits();
        format!("{CONTAINERS_CONF}{}", if limited { WITHIN_LIMITS } else { "" })
    }

    /// Writes a file on the disk from outside; it need not be running.
    pub fn put(&self, inside: &str, text: &str) -> Result<()> {
        let path = self.on_disk(inside);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
        }
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    }

    /// Switches the machine on and waits until its boot is finished.
    pub fn power_on(&mut self) -> Result<()> {
        let began = Instant::now();
        self.switch_on()?;
        loop {
            let state = self.run(&["systemctl", "is-system-running"])?.stdout;
            if matches!(state.trim(), "running" | "degraded") {
                break;
            }
            ensure!(
                began.elapsed() < BOOT_LIMIT,
                "boot not finished within {BOOT_LIMIT:?}: {}",
                state.trim()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        self.booted = began.elapsed();
        Ok(())
    }

    /// Switches the machine on and waits only until its init runs.
    pub fn switch_on(&mut self) -> Result<()> {
        ensure!(self.nspawn.is_none(), "{} is on already", self.name);
        let mut nspawn = self.nspawn_command()?.spawn().context("start systemd-nspawn")?;
        let found = self.wait_for_init(&mut nspawn);
        self.nspawn = Some(nspawn);
        self.leader = found?;
        Ok(())
    }

    fn nspawn_command(&self) -> Result<Command> {
        let group = sweep::group_name(&self.name);
        let mut command = if cgroup::host_has_systemd() {
            let mut command = Command::new("systemd-run");
            command
                .args(["--scope", "--quiet", "--collect", "--property=Delegate=yes"])
                .arg(format!("--unit={group}"));
            command
        } else {
            let groups = cgroup::make(&group)?;
            let top = groups.first().context("no control group")?;
            std::fs::write(sweep::lock_file(&self.name), top.display().to_string())
                .context("note the group")?;
            let mut command = Command::new("/bin/sh");
            let join: Vec<String> = groups
                .iter()
                .map(|group| format!("echo $$ >'{}/cgroup.procs'", group.display()))
                .collect();
            command
                .arg("-c")
                .arg(format!("{} && exec \"$@\"", join.join(" && ")))
                .arg("sh");
            command
        };
        command.args([
            "systemd-nspawn",
            "--quiet",
            "--register=no",
            "--keep-unit",
            "--boot",
        ]);
        command.arg("--directory").arg(self.place().join("root"));
        command.arg(format!("--machine={}", self.spec.name));
        command.args([
            "--private-network",
            "--capability=all",
            "--system-call-filter=@keyring bpf landlock_create_ruleset landlock_add_rule landlock_restrict_self",
        ]);
        command.args(["--link-journal=no", "--resolv-conf=off", "--timezone=off"]);
        command.arg(format!(
            "--bind={}:/var/lib/containers",
            self.place().join("containers").display()
        ));
        for (outside, inside, read_only) in &self.spec.binds {
            let option = if *read_only { "--bind-ro" } else { "--bind" };
            command.arg(format!("{option}={}:{inside}", outside.display()));
        }
        let console = File::create(self.place().join("console")).context("console log")?;
        command
            .stdin(Stdio::null())
            .stdout(console.try_clone().context("console log")?)
            .stderr(console);
        // A group of its own: an interrupt at the terminal is for the rig, which then switches the machine off.
        command
            .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
            .process_group(0);
        Ok(command)
    }

    /// The process that is number 1 inside.
    fn wait_for_init(&self, nspawn: &mut Child) -> Result<u32> {
        let began = Instant::now();
        let children = format!("/proc/{0}/task/{0}/children", nspawn.id());
        while began.elapsed() < Duration::from_secs(30) {
            let text = std::fs::read_to_string(&children).unwrap_or_default();
            if let Some(pid) = text
                .split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .find(|pid| is_init(*pid))
            {
                self.note_group(pid)?;
                return Ok(pid);
            }
            if let Some(status) = nspawn.try_wait().context("wait for systemd-nspawn")? {
                bail!("systemd-nspawn ended with {status}:\n{}", self.console());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        bail!("no init within 30 s:\n{}", self.console())
    }

    /// Notes which group to kill: `<top>/payload/init.scope` is where init is.
    fn note_group(&self, init: u32) -> Result<()> {
        if cgroup::host_has_systemd() {
            let group = cgroup::of(init)?;
            let top = group
                .ancestors()
                .find(|group| group.ends_with(format!("{}.scope", sweep::group_name(&self.name))));
            let top = top.with_context(|| format!("init is in {}", group.display()))?;
            std::fs::write(sweep::lock_file(&self.name), top.display().to_string())
                .context("note the group")?;
        }
        Ok(())
    }

    /// What the console said, for messages.
    pub fn console(&self) -> String {
        std::fs::read_to_string(self.place().join("console")).unwrap_or_default()
    }

    /// Pulls the plug: every process is gone at once, the disk keeps what was written.
    pub fn power_cut(&mut self) -> Result<()> {
        sweep::power_off(&self.name);
        self.reap()?;
        // The next boot gets new groups: since Linux 6.10 a group remembers that it was killed, and a process that
        // systemd puts from a new group into such an old one would be killed, too.
        cgroup::remove(&sweep::group_name(&self.name));
        Ok(())
    }

    /// Shuts the machine down in order.
    pub fn shut_down(&mut self) -> Result<()> {
        let output = self.run(&["systemctl", "--no-block", "poweroff"])?;
        ensure!(output.good(), "poweroff: {}", output.all());
        let began = Instant::now();
        while let Some(nspawn) = self.nspawn.as_mut() {
            if nspawn.try_wait().context("wait for systemd-nspawn")?.is_some() {
                self.nspawn = None;
            } else if began.elapsed() > Duration::from_mins(2) {
                bail!("no end of the shutdown within 120 s:\n{}", self.console());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.power_cut()
    }

    fn reap(&mut self) -> Result<()> {
        if let Some(mut nspawn) = self.nspawn.take() {
            nspawn.wait().context("wait for systemd-nspawn")?;
        }
        self.leader = 0;
        Ok(())
    }
}

/// Whether a process is number 1 of a PID namespace of its own and has become systemd.
fn is_init(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let numbers = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))
        .unwrap_or_default();
    let inner: Vec<&str> = numbers.split_whitespace().skip(1).collect();
    inner == ["1"]
        && std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == "systemd")
}

/// A file that is not there is as good as removed.
fn not_there(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound {
        Ok(())
    } else {
        Err(error)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        sweep::power_off(&self.name);
        // Killed a line above: there is nothing to hear from it any more.
        let _ = self.reap();
        sweep::dispose(&self.name);
        self.lock.take();
    }
}

/// A directory that a machine may be given, made if it is not there.
pub fn directory(path: &Path) -> Result<&Path> {
    std::fs::create_dir_all(path).with_context(|| format!("create {}", path.display()))?;
    Ok(path)
}
