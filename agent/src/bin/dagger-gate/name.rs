//! The container's name: `podman run --replace` removes whoever has it, which is right for what a crash left of ours, and
//! would be somebody's loss else.

use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use dagger_agent::adapter::containers::{self, Container};
use dagger_agent::adapter::image;
use dagger_suite::names::{Root, ServiceName};

/// What is asked of podman: the unit that made it, and its image.
const FORMAT: &str = "{{index .Config.Labels \"PODMAN_SYSTEMD_UNIT\"}}|{{.ImageName}}";

/// A sentence when somebody else's container has the name, or nobody can say whose it is. Only where there may be one at all
/// is podman asked.
pub fn taken(root: &Root, service: &ServiceName, podman: &Path) -> Option<String> {
    // What is known of the image only says where the store may be.
    let image = image::recorded(root, service).ok().flatten();
    let name = service.container();
    match containers::named(root, image.as_ref(), &name) {
        Ok(found) => whose(service, podman, &found?),
        Err(why) => match exists(podman, &name) {
            Ok(false) => None,
            Ok(true) => Some(unsaid(service, &why)),
            Err(error) => Some(unsaid(service, &format!("{why}; {error}"))),
        },
    }
}

fn whose(service: &ServiceName, podman: &Path, found: &Container) -> Option<String> {
    let said = match ask(
        podman,
        &["inspect", "--type", "container", "--format", FORMAT, &found.id],
    ) {
        Ok((status, said, _)) if status.success() => said,
        failed => {
            // It has gone meanwhile, or a crash has left no more of it than its line in the list.
            if exists(podman, &found.id) == Ok(false) {
                return None;
            }
            let why = failed.map_or_else(|error| error, |(_, _, complaint)| complaint);
            return Some(unsaid(service, &why));
        }
    };
    match said.trim().split_once('|') {
        Some((unit, _)) if unit == service.unit() => None,
        Some((unit, image)) => Some(sentence(service, found, unit, image)),
        None => Some(unsaid(service, "its answer is not understood")),
    }
}

/// Whether podman knows the container.
fn exists(podman: &Path, container: &str) -> Result<bool, String> {
    let (status, _, complaint) = ask(podman, &["container", "exists", container])?;
    match status.code() {
        Some(0) => Ok(true),
        // podman-container-exists(1): any other failure has another code.
        Some(1) => Ok(false),
        _ => Err(complaint),
    }
}

/// How podman ended, what it said, and the last line of what it complained of.
fn ask(podman: &Path, words: &[&str]) -> Result<(ExitStatus, String, String), String> {
    let output = Command::new(podman)
        .args(words)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run {}: {error}", podman.display()))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let complaint = text(&output.stderr);
    let last = complaint.lines().last().unwrap_or("podman gave no reason");
    Ok((
        output.status,
        text(&output.stdout),
        last.strip_prefix("Error: ").unwrap_or(last).to_owned(),
    ))
}

/// Nobody's container is removed by guess.
fn unsaid(service: &ServiceName, why: &str) -> String {
    let name = service.container();
    format!(
        "a container may have the name {name}, and podman does not say whose ({why}): starting {service} would remove it; see \
         `podman inspect {name}`, then give it another name (podman rename {name} NEWNAME) or remove it yourself (podman rm \
         --force {name})"
    )
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
