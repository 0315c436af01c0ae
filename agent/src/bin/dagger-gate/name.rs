//! The container's name: `podman run --replace` removes whoever has it, which is right for what a crash left of ours, and
//! would be somebody's loss else.

use std::path::Path;
use std::process::{Command, Stdio};

use dagger_agent::adapter::containers::{self, Container};
use dagger_agent::adapter::image;
use dagger_suite::names::{Root, ServiceName};

/// What is asked of podman: the unit that made it, and its image.
const FORMAT: &str = "{{index .Config.Labels \"PODMAN_SYSTEMD_UNIT\"}}|{{.ImageName}}";

/// A sentence when somebody else's container has the name. Only where there is one at all is podman asked whose it is.
pub fn taken(root: &Root, service: &ServiceName, podman: &Path) -> Option<String> {
    // What is known of the image only says where the store is.
    let image = image::recorded(root, service).ok().flatten();
    let found = containers::named(root, image.as_ref(), &service.container())?;
    let output = Command::new(podman)
        .args(["inspect", "--type", "container", "--format", FORMAT, &found.id])
        .stdin(Stdio::null())
        .output()
        .ok()?;
    // It has gone meanwhile, or podman is broken, which the start will say better.
    if !output.status.success() {
        return None;
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let (unit, image) = said.trim().split_once('|')?;
    let ours = unit == service.unit();
    (!ours).then(|| sentence(service, &found, unit, image))
}

fn sentence(service: &ServiceName, found: &Container, unit: &str, image: &str) -> String {
    let name = service.container();
    let id: String = found.id.chars().take(12).collect();
    let who = match unit {
        "" | "<no value>" => "no unit of systemd's made it".to_owned(),
        unit => format!("{unit} made it"),
    };
    let day = found.created.get(..10).unwrap_or("an unknown day");
    format!(
        "the container {id} (image {image}, of {day}; {who}) has the name {name}, and starting {service} would remove it: \
         give it another (podman rename {name} NEWNAME) or remove it yourself (podman rm --force {name})"
    )
}
