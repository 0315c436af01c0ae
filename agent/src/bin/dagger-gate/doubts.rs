//! What lets an application start and fail later: nothing here refuses, each doubt is a warning.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use dagger_agent::adapter::disk;
use dagger_agent::adapter::owner::Owner;
use dagger_suite::names::{Root, ServiceName};
use rustix::fs::{Access, AtFlags, Gid, Uid};
use rustix::io::Errno;
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// Warnings about the directories that are mounted into the service.
pub fn of(
    root: &Root,
    service: &ServiceName,
    state: &[String],
    needs: &[String],
    owner: Option<Owner>,
) -> Vec<String> {
    let mut doubts = Vec::new();
    for path in state {
        // What is not there or cannot be opened was told already.
        if let Ok(Some(dir)) = disk::open_dir(&root.join(path))
            && let Ok(stat) = rustix::fs::fstatfs(&dir)
            && let Some(share) = share(magic(&stat))
        {
            doubts.push(format!(
                "the state of {service} in {path} lies on {share}: SQLite's locks do not hold there, and databases break in \
                 time; keep it on a local disk"
            ));
        }
    }
    for path in state.iter().chain(needs) {
        let (Some(owner), Ok(Some(dir))) = (owner, disk::open_dir(&root.join(path))) else {
            continue;
        };
        match may_enter(dir, owner) {
            Ok(true) => {}
            Ok(false) => doubts.push(format!(
                "{path} cannot be entered by {owner}, as which {service} runs: give that user or group the execute right on \
                 it (chmod g+x {path})"
            )),
            Err(error) => doubts.push(format!(
                "whether {service} may enter {path} as {owner} cannot be tried: {error}"
            )),
        }
    }
    doubts
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the numbers are 32 bits wide; the field's type differs from machine to machine"
)]
fn magic(stat: &rustix::fs::StatFs) -> u32 {
    stat.f_type as u32
}

/// The name of a file system that is reached over a network or a program (statfs(2), `linux/magic.h`).
fn share(magic: u32) -> Option<&'static str> {
    Some(match magic {
        0x6969 => "NFS",
        0xff53_4d42 | 0xfe53_4d42 | 0x517b => "CIFS",
        0x6573_5546 => "FUSE",
        0x0102_1997 => "9p",
        0x00c3_6400 => "Ceph",
        _ => return None,
    })
}

/// Whether this user may search the directory, by the kernel's own word: access lists count as well.
///
/// The directories above do not matter: inside the container the path begins here.
fn may_enter(dir: OwnedFd, owner: Owner) -> io::Result<bool> {
    // Identities belong to a thread (credentials(7)), so another one becomes the user.
    let tried = std::thread::spawn(move || {
        let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
        match set_thread_groups(&[])
            .and_then(|()| set_thread_res_gid(gid, gid, gid))
            .and_then(|()| set_thread_res_uid(uid, uid, uid))
        {
            Ok(()) => {}
            // Not root: a call by hand, which shows what it can.
            Err(Errno::PERM) => return Ok(true),
            Err(other) => return Err(other),
        }
        match rustix::fs::accessat(dir.as_fd(), ".", Access::EXEC_OK, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::ACCESS) => Ok(false),
            Err(other) => Err(other),
        }
    });
    match tried.join() {
        Ok(result) => Ok(result?),
        Err(_) => Err(io::Error::other("the thread that tried it died")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sonarr_3051_state_on_a_network_share_is_told_by_the_shares_name() {
        for (magic, name) in [
            (0x6969, Some("NFS")),
            (0xff53_4d42, Some("CIFS")),
            (0xfe53_4d42, Some("CIFS")),
            (0x6573_5546, Some("FUSE")),
            // ext4, XFS, btrfs, ZFS, tmpfs, overlay.
            (0xef53, None),
            (0x5846_5342, None),
            (0x9123_683e, None),
            (0x2fc1_2fc1, None),
            (0x0102_1994, None),
            (0x794c_7630, None),
        ] {
            assert_eq!(share(magic), name, "{magic:#x}");
        }
    }
}
