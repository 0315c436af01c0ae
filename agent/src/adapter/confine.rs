//! Work that has to go by names, in directories that an application can change under it: done by a thread that can open nothing
//! outside of them (landlock(7)). Whatever becomes a link in the middle leads nowhere, and no name is looked at twice.
//!
//! A kernel without Landlock lets the thread open what it asks for: then only those checks are left that go by names.

use std::os::fd::{AsFd as _, OwnedFd};
use std::thread::Builder;

use landlock::{
    ABI, Access as _, AccessFs, PathBeneath, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError,
};

/// Does work that opens files in these directories and below them alone. What is open already stays open.
pub fn within<T: Send>(dirs: &[OwnedFd], work: impl FnOnce() -> T + Send) -> Result<T, String> {
    let confined = || {
        confine(dirs).map_err(|error| format!("it cannot be confined to its directory: {error}"))?;
        Ok(work())
    };
    std::thread::scope(|scope| {
        let thread = Builder::new()
            .name("confined".into())
            .spawn_scoped(scope, confined)
            .map_err(|error| format!("no thread can be begun for it: {error}"))?;
        thread
            .join()
            .unwrap_or_else(|_| Err("its thread has broken off".into()))
    })
}

/// For this thread, and for good.
fn confine(dirs: &[OwnedFd]) -> Result<(), RulesetError> {
    // As much of it as the kernel knows.
    let all = AccessFs::from_all(ABI::V5);
    let mut rules = Ruleset::default().handle_access(all)?.create()?;
    for dir in dirs {
        rules = rules.add_rule(PathBeneath::new(dir.as_fd(), all))?;
    }
    rules.restrict_self().map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::disk;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn nothing_outside_is_opened_whatever_leads_there() {
        let dir = std::env::temp_dir().join(format!("dagger-confine-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        for name in ["in/deep", "too", "out"] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        let dir = dir.canonicalize().unwrap();
        for name in ["in/deep/own", "too/own", "out/theirs"] {
            fs::write(dir.join(name), name).unwrap();
        }
        symlink("../out", dir.join("in/link")).unwrap();
        let open = |name: &str| disk::open_dir(&dir.join(name)).unwrap().unwrap();
        let dirs = [open("in"), open("too")];
        let told = within(&dirs, || {
            let read = |name: &str| fs::read_to_string(dir.join(name)).ok();
            let written =
                fs::write(dir.join("in/new"), "new").and_then(|()| fs::remove_file(dir.join("in/new")));
            let made = fs::write(dir.join("in/link/made"), "").is_ok();
            let own = read("in/deep/own").is_some() && read("too/own").is_some() && written.is_ok();
            (own, read("in/link/theirs"), read("in/../out/theirs"), made)
        });
        assert_eq!(told, Ok((true, None, None, false)));
        assert!(
            fs::read(dir.join("out/theirs")).is_ok(),
            "this thread is as free as before"
        );
        fs::remove_dir_all(dir).unwrap();
    }
}
