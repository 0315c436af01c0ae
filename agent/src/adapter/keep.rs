//! What an agent leaves for the one after it: verdicts, ladders and pauses, in a file below `/run` that outlives the
//! process and not the machine.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use dagger_suite::names::Root;
use serde::{Deserialize, Serialize};

use super::disk::{self, DiskError, Over};
use crate::domain::machine::Machine;

/// Where (`RuntimeDirectory=` of monitoring.service, kept when it ends).
pub const STATE_FILE: &str = "/run/dagger/agent/state.json";

/// One service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// All that is decided about it.
    pub machine: Machine,
    /// When its verdict was reached, in microseconds of CLOCK_REALTIME.
    pub since: u64,
}

/// Services by name.
pub type Keepsake = BTreeMap<String, Kept>;

/// Reads it. One that is not there, or was left by another version and cannot be read, is empty: then the agent finds out
/// anew.
pub fn read(root: &Root) -> Keepsake {
    let path = root.join(STATE_FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Keepsake::default(),
        Err(error) => {
            log::warn!(
                "{}: what an agent before this one left is not used: {error}",
                path.display()
            );
            return Keepsake::default();
        }
    };
    serde_json::from_str(&text).unwrap_or_else(|error| {
        log::warn!(
            "{}: what an agent before this one left is not used: {error}",
            path.display()
        );
        Keepsake::default()
    })
}

/// Writes it.
pub fn write(root: &Root, keepsake: &Keepsake) -> Result<(), DiskError> {
    let text = serde_json::to_vec(keepsake).unwrap_or_default();
    disk::write(&root.join(STATE_FILE), &text, Over::Replace).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_agent_leaves_the_next_one_finds() {
        let dir = std::env::temp_dir().join(format!("dagger-keep-{}", std::process::id()));
        let root = Root::new(&dir);
        assert!(read(&root).is_empty());
        let kept = Kept {
            machine: Machine::default(),
            since: 7,
        };
        let keepsake = Keepsake::from([("sonarr".to_owned(), kept)]);
        write(&root, &keepsake).unwrap();
        assert_eq!(read(&root), keepsake);
        fs::write(root.join(STATE_FILE), "{\"sonarr\": 3}").unwrap();
        assert!(read(&root).is_empty());
        fs::remove_dir_all(&dir).unwrap();
    }
}
