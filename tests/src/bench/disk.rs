//! File systems of a measurement's own.

use super::suite_of::Scratch;
use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A file system in a file in memory, mounted.
pub(super) struct Disk {
    /// Where.
    pub dir: PathBuf,
}

impl Disk {
    /// Of this kind; `tmpfs` is one without a file.
    pub fn new(scratch: &Scratch, kind: &str) -> Result<Self> {
        let (image, dir) = (scratch.join("disk"), scratch.fresh("mounted")?);
        if kind == "tmpfs" {
            run(Command::new("mount")
                .args(["-t", "tmpfs", "-o", "size=40G,nr_inodes=2m", "none"])
                .arg(&dir))?;
            return Ok(Self { dir });
        }
        File::create(&image)
            .and_then(|file| file.set_len(40 << 30))
            .context("make a disk")?;
        run(Command::new(format!("mkfs.{kind}")).arg("-q").arg(&image))?;
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&dir))?;
        Ok(Self { dir })
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = run(Command::new("umount").arg(&self.dir));
        if let Err(why) = unmounted {
            eprintln!("bench: {why:#}");
        }
    }
}

/// Runs a command that has to succeed.
pub(super) fn run(command: &mut Command) -> Result<()> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("run {}", command.get_program().display()))?;
    ensure!(
        output.status.success(),
        "{}: {}",
        command.get_program().display(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
