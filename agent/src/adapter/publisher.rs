//! Containers that publish a port, as the gate has found them out: it is root and may look into processes, the agent may not.
//!
//! The gate leaves a line for each in `/run/dagger/gate/<service>.holders`: `<inode of the socket> <engine> <name or id>`. The
//! inode is the kernel's for this one socket while the machine runs, so that an old line names nobody wrongly.

use std::fmt::Write as _;

use dagger_suite::names::{GATE_DIR, Root};

use super::disk::{self, DiskError, Over};
use crate::domain::conflict::Container;

/// Engines that publish ports.
const ENGINES: [&str; 2] = ["podman", "docker"];
/// A line each for at most some dozen ports.
const FILE_MAX: usize = 64 << 10;

fn file(service: &str) -> String {
    format!("{GATE_DIR}/{service}.holders")
}

/// Leaves what was found out while a start of the service was refused.
pub fn leave(root: &Root, service: &str, found: &[(u32, Container)]) -> Result<(), DiskError> {
    let mut text = String::new();
    for (inode, container) in found {
        if let Some(handle) = &container.handle {
            let _ = writeln!(text, "{inode} {} {handle}", container.engine);
        }
    }
    disk::write(&root.join(file(service)), text.as_bytes(), Over::Replace).map(drop)
}

/// The container that has the socket, by what the gate of one of these services has left.
pub fn of<'a>(root: &Root, mut services: impl Iterator<Item = &'a str>, inode: u32) -> Option<Container> {
    services.find_map(|service| {
        // What cannot be read names nobody.
        let bytes = disk::read(&root.join(file(service)), FILE_MAX).ok()??;
        std::str::from_utf8(&bytes)
            .ok()?
            .lines()
            .find_map(|line| parse(line, inode))
    })
}

fn parse(line: &str, inode: u32) -> Option<Container> {
    let mut words = line.split(' ');
    let same = words.next()?.parse() == Ok(inode) && inode != 0;
    let engine = words.next()?;
    let engine = ENGINES.into_iter().find(|known| *known == engine)?;
    let handle = words.next().filter(|handle| !handle.is_empty())?.to_owned();
    same.then_some(Container {
        engine,
        handle: Some(handle),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_gate_leaves_names_this_socket_and_no_other() {
        let dir = std::env::temp_dir().join(format!("dagger-publisher-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir(&dir).unwrap();
        let root = Root::new(dir.canonicalize().unwrap());
        let container = |engine, handle: Option<&str>| Container {
            engine,
            handle: handle.map(str::to_owned),
        };
        let of = |inode| of(&root, ["radarr", "sonarr"].into_iter(), inode);
        assert_eq!(of(7), None, "nothing was left");
        let web = container("podman", Some("web"));
        let found = [
            (7, web.clone()),
            (8, container("docker", None)),
            (0, container("docker", Some("x"))),
        ];
        leave(&root, "sonarr", &found).unwrap();
        assert_eq!(of(7), Some(web));
        assert_eq!((of(8), of(0), of(77)), (None, None, None));
        std::fs::write(root.join(file("sonarr")), "7 lxc web\n7 podman\nx\n\n7\n").unwrap();
        assert_eq!(of(7), None);
        std::fs::remove_file(root.join(file("sonarr"))).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.join(file("sonarr"))).unwrap();
        assert_eq!(of(7), None, "a link is not followed");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
