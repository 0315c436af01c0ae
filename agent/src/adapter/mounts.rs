//! What is mounted where, as this process sees it (proc_pid_mountinfo(5)), and word of every change.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use dagger_suite::names::Root;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::descriptor::watched;

const MOUNTINFO: &str = "/proc/self/mountinfo";
/// What systemd sees, and with it podman and every unit that is not confined.
const HOSTS: &str = "/proc/1/mountinfo";

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where.
    pub point: PathBuf,
    /// Kind of its file system.
    pub kind: String,
    /// The file system as a whole is read-only: the kernel found an error, or somebody remounted it. What only this view
    /// of it may not write (a sandbox) does not count.
    pub read_only: bool,
    /// This view of it is: a sandbox, or a bind mount that somebody made so.
    pub view_read_only: bool,
}

/// All mounts, in the order in which they were made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mounts(Vec<Mount>);

impl Mounts {
    /// Reads the table.
    pub fn now() -> io::Result<Self> {
        Ok(Self::parse(&fs::read(MOUNTINFO)?))
    }

    /// Reads the table of the machine's first process: this process may be confined to a view of its own. It takes
    /// CAP_SYS_PTRACE, or all of that process's capabilities (ptrace(2), access mode checking).
    pub fn of_the_host(root: &Root) -> io::Result<Self> {
        Ok(Self::parse(&fs::read(root.join(HOSTS))?))
    }

    /// Reads a table; lines that are none are left out.
    pub fn parse(table: &[u8]) -> Self {
        Self(table.split(|byte| *byte == b'\n').filter_map(mount).collect())
    }

    /// The mount that a path without links lies on.
    pub fn of(&self, path: &Path) -> Option<&Mount> {
        // Of several on the same point the last one covers the others, and `max_by_key` takes the last of equals.
        let above = self.0.iter().filter(|mount| path.starts_with(&mount.point));
        above.max_by_key(|mount| mount.point.as_os_str().len())
    }

    /// The first mount point of a kind of file system.
    pub fn first_of(&self, kind: &str) -> Option<&Path> {
        let mount = self.0.iter().find(|mount| mount.kind == kind);
        mount.map(|mount| mount.point.as_path())
    }

    /// Mount points strictly below a path.
    pub fn below<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = &'a Path> {
        let points = self.0.iter().map(|mount| mount.point.as_path());
        points.filter(move |point| *point != path && point.starts_with(path))
    }

    /// Mount points above, at or below any of the paths.
    fn about(&self, paths: &[PathBuf]) -> Vec<PathBuf> {
        let related = |point: &Path| {
            paths
                .iter()
                .any(|path| path.starts_with(point) || point.starts_with(path))
        };
        let points = self.0.iter().map(|mount| &mount.point);
        points.filter(|point| related(point)).cloned().collect()
    }
}

/// One line: `36 35 98:0 /root /mnt rw,noatime master:1 - ext3 /dev/root rw,errors=continue`.
fn mount(line: &[u8]) -> Option<Mount> {
    let read_only = |options: &[u8]| options.split(|byte| *byte == b',').any(|option| option == b"ro");
    let mut words = line.split(|byte| *byte == b' ');
    let point = words.nth(4)?;
    let view_read_only = read_only(words.next()?);
    let mut system = words.skip_while(|word| *word != b"-").skip(1);
    let kind = String::from_utf8_lossy(system.next()?).into_owned();
    let read_only = read_only(system.nth(1)?);
    let point = PathBuf::from(std::ffi::OsString::from_vec(unescaped(point)));
    Some(Mount {
        point,
        kind,
        read_only,
        view_read_only,
    })
}

/// Blank, tab, line feed and backslash stand there as a backslash and three octal digits.
fn unescaped(word: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| *first == b'\\');
        let octal = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        plain.push(octal.unwrap_or(*first));
        let taken = if octal.is_some() { 3 } else { 0 };
        rest = after.get(taken..).unwrap_or_default();
    }
    plain
}

/// Tells at once when something is mounted or unmounted at, above or below certain paths.
///
/// The kernel wakes whoever waits for the table with POLLPRI. It does so for every container that starts, too; those are
/// sorted out here.
#[derive(Debug)]
pub struct Watch {
    table: AsyncFd<OwnedFd>,
    paths: Vec<PathBuf>,
    seen: Vec<PathBuf>,
}

impl Watch {
    /// Watches from now on. Needs a tokio runtime with I/O.
    pub fn new(paths: Vec<PathBuf>) -> io::Result<Self> {
        let table = watched(File::open(MOUNTINFO)?.into(), Interest::PRIORITY)?;
        let seen = Mounts::now()?.about(&paths);
        Ok(Self { table, paths, seen })
    }

    /// Watches these paths from now on; a change that nobody has waited for yet is forgotten.
    pub fn set(&mut self, paths: Vec<PathBuf>) -> io::Result<()> {
        self.seen = Mounts::now()?.about(&paths);
        self.paths = paths;
        Ok(())
    }

    /// Waits for the next change. It may be given up and waited for again: nothing is lost.
    pub async fn changed(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.table.ready(Interest::PRIORITY).await?;
            // Before the table is read: what changes afterwards wakes again.
            ready.clear_ready();
            let seen = Mounts::now()?.about(&self.paths);
            if seen != self.seen {
                self.seen = seen;
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"\
25 1 0:23 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,discard
30 25 0:25 / /fun ro,nosuid shared:5 master:2 - nfs4 nas:/fun rw,vers=4.2
31 30 0:26 / /fun/tv\\040shows rw - xfs /dev/sdb1 ro,attr2
32 25 0:27 / /funny rw - tmpfs tmpfs rw
33 25 0:28 / /fun rw - btrfs /dev/sdc rw,space_cache
not a line
";

    #[test]
    fn a_path_lies_on_the_deepest_and_youngest_mount() {
        let mounts = Mounts::parse(TABLE);
        let of = |path: &str| mounts.of(Path::new(path)).map(|mount| mount.kind.as_str());
        assert_eq!(of("/fun"), Some("btrfs"));
        assert_eq!(of("/fun/films"), Some("btrfs"));
        assert_eq!(of("/fun/tv shows/x"), Some("xfs"));
        assert_eq!(of("/funn"), Some("ext4"));
        assert_eq!(Mounts::default().of(Path::new("/")), None);
        let below: Vec<_> = mounts.below(Path::new("/fun")).collect();
        assert_eq!(below, [Path::new("/fun/tv shows")]);
    }

    #[test]
    fn read_only_is_what_the_file_system_is_not_what_a_view_of_it_is() {
        let mounts = Mounts::parse(TABLE);
        let read_only = |path: &str| mounts.of(Path::new(path)).map(|mount| mount.read_only);
        assert_eq!(read_only("/fun"), Some(false));
        assert_eq!(read_only("/fun/tv shows"), Some(true));
        let views: Vec<_> = mounts.0.iter().map(|mount| mount.view_read_only).collect();
        assert_eq!(views, [false, true, false, false, false]);
    }

    #[test]
    fn a_watch_knows_what_concerns_it() {
        let about = Mounts::parse(TABLE).about(&[PathBuf::from("/fun/tv shows/a")]);
        assert_eq!(about, ["/", "/fun", "/fun/tv shows", "/fun"].map(PathBuf::from));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn nothing_mounted_nothing_said() {
        let mut watch = Watch::new(vec![PathBuf::from("/nowhere/at/all")]).unwrap();
        let waited = tokio::time::timeout(std::time::Duration::from_millis(50), watch.changed()).await;
        assert!(waited.is_err());
    }
}
