//! Who has files of the state open: all processes' descriptors (proc_pid_fd(5)), and the unit of each by its control group.

use std::fs;
use std::path::{Path, PathBuf};

use dagger_suite::names::Root;

use super::tree::text;
use crate::domain::plan::facts::Holder;

/// So many are told of.
const HOLDERS_MAX: usize = 20;

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Open {
    /// Others, one entry a process.
    pub holders: Vec<Holder>,
    /// GPU nodes that the native unit has open.
    pub devices: Vec<String>,
    /// Processes that could not be looked at.
    pub hidden: usize,
}

/// Looks at every process but this one. What `native` itself holds is its own affair, and its devices are noted.
pub fn look(root: &Root, native: &str, places: &[String]) -> Open {
    let mut open = Open::default();
    let proc = root.join("/proc");
    let own = std::process::id().to_string();
    let Ok(processes) = fs::read_dir(&proc) else {
        open.hidden = 1;
        return open;
    };
    let places: Vec<PathBuf> = places.iter().map(|place| root.join(place)).collect();
    for process in processes.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().filter(|pid| *pid != own) else {
            continue;
        };
        let Ok(number) = pid.parse::<u32>() else { continue };
        let dir = process.path();
        let unit = unit(&dir);
        let native = unit.as_deref() == Some(native);
        match fs::read_dir(dir.join("fd")) {
            Ok(descriptors) => {
                let targets = descriptors
                    .flatten()
                    .filter_map(|entry| fs::read_link(entry.path()).ok());
                for target in targets {
                    if native {
                        open.device(&target);
                    } else if places.iter().any(|place| target.starts_with(place))
                        && open.holders.len() < HOLDERS_MAX
                    {
                        open.holders.push(Holder {
                            unit: unit.clone(),
                            pid: Some(number),
                            name: comm(&dir),
                            path: text(&root.inside(&target)),
                        });
                        break;
                    }
                }
            }
            // It has ended meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(_) => open.hidden += 1,
        }
    }
    open.devices.sort();
    open.devices.dedup();
    open
}

impl Open {
    fn device(&mut self, target: &Path) {
        let path = target.to_string_lossy();
        if path.starts_with("/dev/dri/") || path.starts_with("/dev/nvidia") {
            self.devices.push(path.into_owned());
        }
    }
}

fn comm(dir: &Path) -> String {
    fs::read_to_string(dir.join("comm")).map_or_else(|_| "?".to_owned(), |name| name.trim().to_owned())
}

/// The innermost unit in the path of the control group: `0::/system.slice/sonarr.service`.
fn unit(dir: &Path) -> Option<String> {
    let text = fs::read_to_string(dir.join("cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mut units = path.split('/').filter(|part| {
        Path::new(part)
            .extension()
            .is_some_and(|end| end == "service" || end == "scope")
    });
    units.next_back().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A /proc of two processes: the native unit's own, and somebody else's.
    #[test]
    fn a_second_owner_is_found_with_its_unit() {
        let dir = std::env::temp_dir().join(format!("dagger-holders-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        for (pid, unit, comm, target) in [
            (
                "4000001",
                "/system.slice/jellyfin.service",
                "jellyfin",
                "/dev/dri/renderD128",
            ),
            (
                "4000002",
                "/system.slice/backup.service",
                "sqlite3",
                "s/data/jellyfin.db",
            ),
            ("4000003", "/system.slice/other.service", "other", "sx/file"),
        ] {
            let process = dir.join("proc").join(pid);
            fs::create_dir_all(process.join("fd")).unwrap();
            fs::write(process.join("cgroup"), format!("0::{unit}\n")).unwrap();
            fs::write(process.join("comm"), format!("{comm}\n")).unwrap();
            symlink(dir.join(target), process.join("fd/3")).unwrap();
        }
        let root = Root::new(&dir);
        let open = look(&root, "jellyfin.service", &["/s".to_owned()]);
        assert_eq!(open.holders.len(), 1, "{open:?}");
        let holder = &open.holders[0];
        assert_eq!(
            (
                holder.unit.as_deref(),
                holder.pid,
                holder.name.as_str(),
                holder.path.as_str()
            ),
            (
                Some("backup.service"),
                Some(4_000_002),
                "sqlite3",
                "/s/data/jellyfin.db"
            )
        );
        assert_eq!(open.devices, ["/dev/dri/renderD128"]);
        assert_eq!(open.hidden, 0);
        fs::remove_dir_all(&dir).unwrap();
    }
}
