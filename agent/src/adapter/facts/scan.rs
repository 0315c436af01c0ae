//! When Jellyfin last went through its libraries: each of its tasks keeps how its last run ended in a file of its own
//! (`ScheduledTasks/*.js`, ScheduledTaskWorker.cs).

use std::path::Path;

use serde::Deserialize;

use super::names;
use crate::adapter::disk;

/// The task that scans all libraries, by its key (RefreshMediaLibraryTask.cs).
const SCAN: &str = "RefreshLibrary";
/// There are some dozens of tasks.
const FILES_MAX: usize = 1000;
/// A result is some lines.
const FILE_MAX: usize = 64 << 10;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Ran {
    key: String,
    end_time_utc: String,
}

/// The end of the last scan, in Jellyfin's words; empty: there was none. `data` is its data directory (ProgramDataPath).
pub fn last(data: &Path, unknown: &mut Vec<String>) -> String {
    let dir = data.join("data/ScheduledTasks");
    let names = names(&dir, FILES_MAX, unknown);
    let ran = names.iter().filter_map(|name| {
        let bytes = disk::read(&dir.join(name), FILE_MAX).ok()??;
        // It may be being written this moment; the next look reads it.
        let ran: Ran = serde_json::from_slice(&bytes).ok()?;
        (ran.key == SCAN).then_some(ran.end_time_utc)
    });
    ran.max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_last_scan_is_jellyfins_own_word() {
        let data = std::env::temp_dir().join(format!("dagger-scan-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&data);
        let tasks = data.join("data/ScheduledTasks");
        let mut unknown = Vec::new();
        assert_eq!(last(&data, &mut unknown), "");
        std::fs::create_dir_all(&tasks).unwrap();
        std::fs::write(tasks.join("half.js"), "{\"Key\":\"Refre").unwrap();
        let ran = |key: &str, end: &str| {
            format!(
                "{{\"StartTimeUtc\":\"2026-11-28T01:00:00Z\",\"EndTimeUtc\":\"{end}\",\"Status\":\"Completed\",\"Key\":\"{key}\"}}"
            )
        };
        let other = ran("DeleteLogFiles", "2026-11-30T01:00:09.1234567Z");
        std::fs::write(tasks.join("a.js"), other).unwrap();
        assert_eq!(last(&data, &mut unknown), "");
        let scan = ran(SCAN, "2026-11-29T01:00:09.1234567Z");
        std::fs::write(tasks.join("b.js"), scan).unwrap();
        assert_eq!(last(&data, &mut unknown), "2026-11-29T01:00:09.1234567Z");
        assert!(unknown.is_empty(), "{unknown:?}");
        std::fs::remove_dir_all(data).unwrap();
    }
}
