//! A disk of a machine's own: a file system on a device that nobody else uses, so that it alone can be made slow.

use anyhow::{Context, Result, ensure};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{major, minor};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

/// Where its contents are: in memory, like the rest of a machine.
const MEMORY: &str = "/dev/shm";
/// The throttle of cgroup v1 at the root group (Linux, Documentation/admin-guide/cgroup-v1/blkio-controller.rst). It holds
/// back the kernel's own writes, too, those of the file system's journal among them; cgroup v2 has none at the root.
const THROTTLE: &str = "/sys/fs/cgroup/blkio/blkio.throttle";

/// The devices that are slow just now, for the signal handler.
static SLOW: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Makes all disks of this process as fast as they are: a device is used again by others.
pub fn release() {
    let slow = SLOW.lock().map(|slow| slow.clone()).unwrap_or_default();
    for number in &slow {
        // The process is about to end, and this is the last that it can do about it.
        let _ = limit(number, 0);
    }
}

/// None at all is no limit.
fn limit(number: &str, operations: u32) -> Result<()> {
    for way in ["read", "write"] {
        let file = format!("{THROTTLE}.{way}_iops_device");
        std::fs::write(&file, format!("{number} {operations}")).with_context(|| format!("write {file}"))?;
    }
    Ok(())
}

/// A file system that is mounted on the host until a machine has it.
pub struct Disk {
    place: PathBuf,
    /// Major and minor number of the device.
    number: String,
}

impl Disk {
    /// An empty ext4 of that size. Nothing of it is left once nobody has it mounted any more.
    pub fn new(name: &str, bytes: u64) -> Result<Self> {
        let place = Path::new(MEMORY).join(format!("dagger-rig-{name}-{}", std::process::id()));
        std::fs::create_dir(&place).with_context(|| format!("create {}", place.display()))?;
        let mut disk = Self {
            place,
            number: String::new(),
        };
        let image = disk.place.with_extension("img");
        let made = disk.mount(&image, bytes);
        // The device keeps the file.
        let removed = std::fs::remove_file(&image);
        made?;
        removed.with_context(|| format!("remove {}", image.display()))?;
        let device = std::fs::metadata(&disk.place).context("the disk's device")?.dev();
        disk.number = format!("{}:{}", major(device), minor(device));
        if Self::can_be_slow() {
            // What a killed run has left behind.
            limit(&disk.number, 0)?;
        }
        Ok(disk)
    }

    fn mount(&self, image: &Path, bytes: u64) -> Result<()> {
        let file = File::create(image).with_context(|| format!("create {}", image.display()))?;
        file.set_len(bytes).context("the disk's size")?;
        run(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(image))?;
        // The device of such a mount goes with it (mount(8)).
        let options = "loop,discard";
        run(Command::new("mount")
            .args(["-o", options])
            .arg(image)
            .arg(&self.place))
    }

    /// Where it is, to be bound into a machine.
    pub fn directory(&self) -> &Path {
        &self.place
    }

    /// Takes it from the host: a machine that has been switched on has its own mount of it, and it ends with the machine.
    pub fn hand_over(&self) -> Result<()> {
        umount2(&self.place, MntFlags::MNT_DETACH).context("let go of the disk")?;
        std::fs::remove_dir(&self.place).with_context(|| format!("remove {}", self.place.display()))
    }

    /// Whether this host can make a disk slow.
    pub fn can_be_slow() -> bool {
        Path::new(&format!("{THROTTLE}.write_iops_device")).exists()
    }

    /// Lets it do no more than so many reads and so many writes a second, for so long.
    pub fn slow(&self, operations: u32, time: Duration) -> Result<()> {
        if let Ok(mut slow) = SLOW.lock() {
            slow.push(self.number.clone());
        }
        let slowed = limit(&self.number, operations);
        if slowed.is_ok() {
            std::thread::sleep(time);
        }
        let released = limit(&self.number, 0);
        if let Ok(mut slow) = SLOW.lock() {
            slow.retain(|number| *number != self.number);
        }
        slowed.and(released)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // After `hand_over`, which is what comes unless a machine could not be made, there is neither.
        let _ = umount2(&self.place, MntFlags::MNT_DETACH);
        let _ = std::fs::remove_dir(&self.place);
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
