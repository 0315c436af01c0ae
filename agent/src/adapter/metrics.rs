//! Metrics, written for whoever collects them: node_exporter reads the directory
//! (`--collector.textfile.directory=/run/dagger/metrics`), `dagger-metrics.socket` hands the same text out. Nothing listens
//! here, and no TCP port is open.

use std::fs;
use std::io;
use std::time::{Duration, SystemTime};

use dagger_suite::names::Root;

use super::disk::{self, DiskError, Over};

/// Where (`RuntimeDirectory=` of monitoring.service). node_exporter reads files that end in `.prom` and no others.
pub const FILE: &str = "/run/dagger/metrics/dagger.prom";

/// A text older than this was left by an agent that does not run any more: it writes at least every minute.
pub const STALE: Duration = Duration::from_mins(2);

/// Writes the text, whole or not at all; mode 0644, for nothing in it is a secret.
pub fn write(root: &Root, text: &str) -> Result<(), DiskError> {
    disk::write(&root.join(FILE), text.as_bytes(), Over::Replace).map(|_| ())
}

/// Takes the text away, when the agent ends: an old `up` is worse than none.
pub fn remove(root: &Root) -> Result<(), DiskError> {
    let path = root.join(FILE);
    match fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(DiskError::Io {
            what: "remove",
            path,
            source,
        }),
        _ => Ok(()),
    }
}

/// The text, as the agent wrote it last; the error is a sentence.
pub fn read(root: &Root) -> Result<String, String> {
    let path = root.join(FILE);
    let cannot = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => {
            "there are no metrics: the agent does not run (`systemctl status monitoring`)".to_owned()
        }
        _ => format!("{}: {error}", path.display()),
    };
    let written = fs::metadata(&path)
        .and_then(|meta| meta.modified())
        .map_err(cannot)?;
    // A file from the future has no age: the clock was set back, and the next writing mends it.
    let age = SystemTime::now().duration_since(written).unwrap_or_default();
    if age > STALE {
        return Err(format!(
            "the metrics are {} s old: the agent does not run or hangs (`systemctl status monitoring`)",
            age.as_secs()
        ));
    }
    fs::read_to_string(&path).map_err(cannot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_of_an_agent_that_is_gone_are_not_handed_out() {
        let dir = std::env::temp_dir().join(format!("dagger-metrics-{}", std::process::id()));
        let root = Root::new(&dir);
        assert!(read(&root).unwrap_err().contains("does not run"));
        write(&root, "a 1\n").unwrap();
        assert_eq!(read(&root).unwrap(), "a 1\n");
        let old = SystemTime::now() - STALE - Duration::from_secs(5);
        let file = fs::File::options().write(true).open(root.join(FILE)).unwrap();
        file.set_modified(old).unwrap();
        assert!(read(&root).unwrap_err().contains("125 s old"));
        remove(&root).unwrap();
        remove(&root).unwrap();
        assert!(!root.join(FILE).exists());
        fs::remove_dir_all(&dir).unwrap();
    }
}
