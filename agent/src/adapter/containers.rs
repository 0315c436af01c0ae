//! Containers by name, as podman's store lists them: read from its own files, because asking podman takes a hundred times as
//! long (containers/storage, `containers.go`: `containers.json`, and `volatile-containers.json` for those that `--rm` made).

use std::path::{Path, PathBuf};

use dagger_suite::names::Root;
use serde::Deserialize;

use super::disk;
use super::image::Image;

/// Where podman keeps it unless storage.conf(5) says otherwise.
const STORE: &str = "/var/lib/containers/storage/overlay-containers";
/// A thousand containers are some hundred kilobytes.
const LIST_MAX: usize = 16 << 20;

/// A container that has a name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// Its names.
    #[serde(default)]
    names: Vec<String>,
    /// When it was made, as the store writes it (RFC 3339).
    #[serde(default)]
    pub created: String,
}

/// The container that has this name, as far as the store's files tell; none when nobody has it, or nobody can tell.
///
/// `image` is what is known of the service's image: mostly its store is the one that counts, but an image may also come from a
/// store that is only read (storage.conf(5), `additionalimagestores`).
pub fn named(root: &Root, image: Option<&Image>, name: &str) -> Option<Container> {
    let beside = image
        .and_then(|image| image.store.as_ref())
        .and_then(|index| lists(index.path()));
    let dirs = beside.into_iter().chain([root.join(STORE)]);
    let files = |dir: PathBuf| ["containers.json", "volatile-containers.json"].map(|file| dir.join(file));
    dirs.flat_map(files).find_map(|file| find(&file, name))
}

/// `<root>/overlay-images/images.json` leads to `<root>/overlay-containers`.
fn lists(images: &Path) -> Option<PathBuf> {
    let dir = images.parent()?;
    let driver = dir.file_name()?.to_str()?.strip_suffix("-images")?;
    Some(dir.with_file_name(format!("{driver}-containers")))
}

fn find(path: &Path, name: &str) -> Option<Container> {
    // No such file: no such container. One that cannot be read is podman's to complain of.
    let bytes = disk::read(path, LIST_MAX).ok()??;
    let all: Vec<Container> = serde_json::from_slice(&bytes).ok()?;
    all.into_iter().find(|it| it.names.iter().any(|it| it == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As podman 4.3 and 5.4 write it, shortened.
    const LIST: &str = r#"[{"id":"52b634170277dc82","names":["plain"],"image":"a5068585","layer":"19be215f","metadata":"{\"image-name\":\"lscr.io/linuxserver/sonarr:latest\",\"name\":\"plain\"}","created":"2026-11-28T07:46:27.74777614Z","flags":{"MountLabel":""}},{"id":"71c57330"}]"#;

    #[test]
    fn a_name_is_found_in_either_list() {
        for file in ["containers.json", "volatile-containers.json"] {
            let dir = std::env::temp_dir().join(format!("dagger-containers-{}-{file}", std::process::id()));
            let _ = std::fs::remove_dir_all(&dir);
            let store = dir.join("var/lib/containers/storage/overlay-containers");
            std::fs::create_dir_all(&store).unwrap();
            let root = Root::new(dir.canonicalize().unwrap());
            assert_eq!(named(&root, None, "plain"), None);
            std::fs::write(store.join(file), LIST).unwrap();
            assert_eq!(named(&root, None, "plain").unwrap().id, "52b634170277dc82");
            assert_eq!(named(&root, None, "plai"), None);
            std::fs::write(store.join(file), "[{").unwrap();
            assert_eq!(named(&root, None, "plain"), None);
            std::fs::remove_dir_all(dir).unwrap();
        }
    }

    #[test]
    fn the_lists_lie_beside_the_images() {
        assert_eq!(
            lists(Path::new("/srv/store/overlay-images/images.json")),
            Some("/srv/store/overlay-containers".into())
        );
        assert_eq!(lists(Path::new("/srv/images.json")), None);
    }
}
