//! Accounts: passwd(5), group(5), and what a process really runs as (proc_pid_status(5)).

use std::io;
use std::path::Path;

use dagger_suite::names::Root;

use crate::domain::plan::facts::Who;

/// The accounts of this machine.
#[derive(Debug, Default)]
pub struct Accounts {
    passwd: String,
    group: String,
}

/// One user.
#[derive(Debug, PartialEq, Eq)]
pub struct Account {
    /// Name.
    pub name: String,
    /// Numbers of user and own group.
    pub who: Who,
    /// Home directory.
    pub home: String,
}

impl Accounts {
    /// Reads both files.
    pub fn read(root: &Root) -> io::Result<Self> {
        let read = |path: &str| match std::fs::read_to_string(root.join(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            other => other,
        };
        Ok(Self {
            passwd: read("/etc/passwd")?,
            group: read("/etc/group")?,
        })
    }

    /// A user by name or number; the empty name is root.
    pub fn user(&self, name: &str) -> Option<Account> {
        let name = if name.is_empty() { "root" } else { name };
        self.passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let own = fields.next()?;
            let uid = fields.nth(1)?;
            (own == name || uid == name).then_some(())?;
            let gid = fields.next()?;
            Some(Account {
                name: own.to_owned(),
                who: Who {
                    uid: uid.parse().ok()?,
                    gid: gid.parse().ok()?,
                },
                home: fields.nth(1)?.to_owned(),
            })
        })
    }

    /// A group by name or number; none for the empty name.
    pub fn group(&self, name: &str) -> Option<u32> {
        let found = self.group.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next()? == name).then_some(())?;
            fields.nth(1)?.parse().ok()
        });
        found.or_else(|| name.parse().ok())
    }

    /// The groups that list a user.
    pub fn of_member(&self, name: &str) -> Vec<u32> {
        let lists = |line: &str| {
            let mut fields = line.split(':');
            let gid = fields.nth(2)?.parse().ok()?;
            fields
                .next()?
                .split(',')
                .any(|member| member == name)
                .then_some(gid)
        };
        self.group.lines().filter_map(lists).collect()
    }
}

/// What a process runs as, and its other groups; none when it is gone.
pub fn of_process(proc: &Path, pid: u32) -> Option<(Who, Vec<u32>)> {
    let text = std::fs::read_to_string(proc.join(pid.to_string()).join("status")).ok()?;
    let line = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    // Real, effective, saved and file system's: the second is what it creates files as.
    let second = |name: &str| line(name)?.split_whitespace().nth(1)?.parse().ok();
    let who = Who {
        uid: second("Uid:")?,
        gid: second("Gid:")?,
    };
    let mut groups: Vec<u32> = line("Groups:")
        .into_iter()
        .flat_map(str::split_whitespace)
        .filter_map(|group| group.parse().ok())
        .filter(|group| *group != who.gid)
        .collect();
    groups.sort_unstable();
    groups.dedup();
    Some((who, groups))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_name_and_number() {
        let accounts = Accounts {
            passwd: "root:x:0:0:root:/root:/bin/sh\nbad\nsonarr:x:274:169::/var/empty:/bin/false\n".into(),
            group: "root:x:0:\nmedia:x:169:jellyfin,sonarr\nvideo:x:44:sonarr2\n".into(),
        };
        let sonarr = accounts.user("sonarr").unwrap();
        assert_eq!(
            (sonarr.who, sonarr.home.as_str()),
            (Who { uid: 274, gid: 169 }, "/var/empty")
        );
        assert_eq!(accounts.user("274"), Some(sonarr));
        assert_eq!(accounts.user("").unwrap().who, Who::default());
        assert_eq!(accounts.user("nobody"), None);
        assert_eq!(accounts.group("media"), Some(169));
        assert_eq!(accounts.group("170"), Some(170));
        assert_eq!(accounts.group(""), None);
        assert_eq!(accounts.of_member("sonarr"), [169]);
    }

    #[test]
    fn a_process_says_what_it_is() {
        let (who, _) = of_process(Path::new("/proc"), std::process::id()).unwrap();
        assert_eq!(who.uid, rustix::process::geteuid().as_raw());
        assert_eq!(of_process(Path::new("/nowhere"), 1), None);
    }
}
