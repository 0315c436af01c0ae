//! Units of jobs: started, asked to stop, and found again.

use std::fmt::Write as _;

use super::{Systemd, UNIT};
use crate::domain::job::Task;

/// SIGTERM, by its number everywhere.
const SIGTERM: i32 = 15;

impl Systemd {
    /// Has a job's unit started; returns when systemd has taken it.
    pub async fn begin(&self, unit: &str) -> zbus::Result<()> {
        self.manager.start_unit(unit, "fail").await.map(drop)
    }

    /// Asks a job to stop: its process alone, which then undoes what it has done.
    pub async fn cancel(&self, unit: &str) -> zbus::Result<()> {
        self.manager.kill_unit(unit, "main", SIGTERM).await
    }

    /// The units of jobs that run.
    pub async fn running_jobs(&self) -> zbus::Result<Vec<String>> {
        let states = ["activating", "active", "reloading", "deactivating"];
        let rows = self
            .manager
            .list_units_by_patterns(&states, &["dagger-*@*.service"])
            .await?;
        let names = rows.into_iter().map(|(name, ..)| name);
        Ok(names.filter(|name| Task::of_unit(name).is_some()).collect())
    }

    /// systemd's id of a unit's run, in hex; empty when it does not run.
    pub async fn invocation(&self, unit: &str) -> zbus::Result<String> {
        let id = Vec::<u8>::try_from(self.property(unit, UNIT, "InvocationID").await?)?;
        let mut hex = String::with_capacity(32);
        for byte in id {
            // Writing to a text cannot fail.
            let _ = write!(hex, "{byte:02x}");
        }
        Ok(hex)
    }
}
