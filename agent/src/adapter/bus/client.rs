//! The client's side: everything that the agent shows, in one call.

use std::collections::HashMap;

use dagger_suite::names::{BUS_NAME, BUS_ROOT};
use zbus::fdo::{ManagedObjects, ObjectManagerProxy, PropertiesProxy};
use zbus::names::InterfaceName;
use zbus::{Connection, ObjectPath, OwnedVariant};

use super::{JOB_INTERFACE, JobView, MANAGER_INTERFACE, ManagerView, SERVICE_INTERFACE, ServiceView};

/// Everything below the root object.
async fn objects(connection: &Connection) -> zbus::Result<ManagedObjects> {
    let manager = ObjectManagerProxy::builder(connection)
        .destination(BUS_NAME)
        .path(BUS_ROOT)
        .build()
        .await?;
    Ok(manager.get_managed_objects().await?)
}

/// All properties of one object.
async fn properties(
    connection: &Connection,
    path: &ObjectPath<'_>,
    interface: &'static str,
) -> zbus::Result<HashMap<String, OwnedVariant>> {
    let proxy = PropertiesProxy::builder(connection)
        .destination(BUS_NAME)
        .path(path)
        .build()
        .await?;
    let interface = InterfaceName::from_static_str(interface)?;
    Ok(proxy.get_all(interface).await?)
}

/// The whole suite as the agent sees it: the manager, and the services by name.
pub async fn suite(connection: &Connection) -> zbus::Result<(ManagerView, Vec<ServiceView>)> {
    let objects = objects(connection).await?;
    // The object manager tells of the objects below it, not of the one that it is on.
    let root = ObjectPath::try_from(BUS_ROOT)?;
    let properties = properties(connection, &root, MANAGER_INTERFACE).await?;
    let mut services = Vec::new();
    for interfaces in objects.into_values() {
        for (interface, properties) in interfaces {
            if interface.as_str() == SERVICE_INTERFACE {
                services.push(ServiceView::from_properties(&properties));
            }
        }
    }
    services.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((ManagerView::from_properties(&properties), services))
}

/// All jobs that the agent remembers, the oldest first.
pub async fn jobs(connection: &Connection) -> zbus::Result<Vec<JobView>> {
    let objects = objects(connection).await?;
    let mut jobs: Vec<JobView> = objects
        .into_values()
        .flatten()
        .filter(|(interface, _)| interface.as_str() == JOB_INTERFACE)
        .map(|(_, properties)| JobView::from_properties(&properties))
        .collect();
    jobs.sort_by_key(|job| job.number);
    Ok(jobs)
}

/// One job.
pub async fn job(connection: &Connection, path: &ObjectPath<'_>) -> zbus::Result<JobView> {
    let properties = properties(connection, path, JOB_INTERFACE).await?;
    Ok(JobView::from_properties(&properties))
}
