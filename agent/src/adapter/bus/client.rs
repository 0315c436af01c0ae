//! The client's side: everything that the agent shows, in one call.

use std::collections::HashMap;

use dagger_suite::names::{BUS_NAME, BUS_ROOT};
use zbus::{Connection, fdo::ObjectManagerProxy};

use super::{MANAGER_INTERFACE, ManagerView, SERVICE_INTERFACE, ServiceView};

/// The whole suite as the agent sees it: the manager, and the services by name.
pub async fn suite(connection: &Connection) -> zbus::Result<(ManagerView, Vec<ServiceView>)> {
    let objects = ObjectManagerProxy::builder(connection)
        .destination(BUS_NAME)
        .path(BUS_ROOT)
        .build()
        .await?
        .get_managed_objects()
        .await?;
    let mut manager = ManagerView::from_properties(&HashMap::new());
    let mut services = Vec::new();
    for interfaces in objects.into_values() {
        for (interface, properties) in interfaces {
            match interface.as_str() {
                MANAGER_INTERFACE => manager = ManagerView::from_properties(&properties),
                SERVICE_INTERFACE => services.push(ServiceView::from_properties(&properties)),
                _ => {}
            }
        }
    }
    services.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((manager, services))
}
