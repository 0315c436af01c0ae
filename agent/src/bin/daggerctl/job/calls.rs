//! The agent's methods about jobs.

use std::collections::HashMap;

use dagger_agent::adapter::bus::{BusError, JobProxy, JobView, ManagerProxy, SnapshotView, client};
use dagger_agent::domain::job::{Request, Task};
use dagger_agent::domain::transaction::Data;
use zbus::{OwnedObjectPath, OwnedVariant, Variant};

use crate::bus::{Bus, of_bus, patiently};
use crate::error::Error;

impl Bus {
    /// Has a task begun; the job. polkit may ask for a password.
    pub async fn begin(
        &self,
        task: Task,
        service: &str,
        request: &Request,
    ) -> Result<OwnedObjectPath, Error> {
        let manager = self.manager().await?;
        let service = || service.to_owned();
        patiently(async || match task {
            Task::Plan => manager.plan(service()).await,
            Task::Migrate => manager.migrate(service(), HashMap::new()).await,
            Task::Rollback => manager.rollback(service(), options(request)?).await,
            Task::Resume => manager.resume(service()).await,
            Task::Shadow => manager.shadow(service()).await,
            Task::Promote => manager.promote(service()).await,
            Task::Discard => manager.discard(service()).await,
            Task::Rehearse => manager.rehearse(service()).await,
        })
        .await
    }

    /// The same on the whole suite.
    pub async fn begin_all(&self, task: Task) -> Result<OwnedObjectPath, Error> {
        let manager = self.manager().await?;
        patiently(async || match task {
            Task::Rollback => manager.rollback_all().await,
            _ => manager.migrate_all().await,
        })
        .await
    }

    /// A job.
    pub async fn job(&self, path: &OwnedObjectPath) -> Result<JobView, Error> {
        client::job(self.connection(), path).await.map_err(of_bus)
    }

    /// All jobs that the agent remembers.
    pub async fn jobs(&self) -> Result<Vec<JobView>, Error> {
        client::jobs(self.connection()).await.map_err(of_bus)
    }

    /// Asks a job to stop.
    pub async fn cancel(&self, path: &OwnedObjectPath) -> Result<(), Error> {
        let job = self.job_proxy(path).await?;
        patiently(async || job.cancel().await).await
    }

    /// What a job has found, as JSON.
    pub async fn plan_of(&self, path: &OwnedObjectPath) -> Result<String, Error> {
        let job = self.job_proxy(path).await?;
        patiently(async || job.plan().await).await
    }

    /// Snapshots of a service; of all for an empty name.
    pub async fn snapshots(&self, service: &str) -> Result<Vec<SnapshotView>, Error> {
        let manager = self.manager().await?;
        patiently(async || manager.snapshots(service.to_owned()).await).await
    }

    async fn manager(&self) -> Result<ManagerProxy<'_>, Error> {
        ManagerProxy::new(self.connection()).await.map_err(of_bus)
    }

    async fn job_proxy(&self, path: &OwnedObjectPath) -> Result<JobProxy<'_>, Error> {
        let job = JobProxy::builder(self.connection()).path(path.clone()).build();
        job.await.map_err(of_bus)
    }
}

fn options(request: &Request) -> Result<HashMap<String, OwnedVariant>, BusError> {
    let mut options = HashMap::new();
    let mut put = |key: &str, value: &str| -> Result<(), BusError> {
        let value = OwnedVariant::try_from(Variant::from(value))
            .map_err(|error| BusError::Failed(error.to_string()))?;
        options.insert(key.to_owned(), value);
        Ok(())
    };
    if request.data == Data::Restore {
        put("data", "restore")?;
    }
    if let Some(snapshot) = &request.snapshot {
        put("snapshot", snapshot)?;
    }
    Ok(options)
}
