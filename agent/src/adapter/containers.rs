//! Containers by name, as podman's store lists them: read from its own files, because asking podman takes a hundred times as
//! long (containers/storage, `containers.go`: `containers.json`, and `volatile-containers.json` for those that `--rm` made).

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use dagger_suite::names::Root;
use dagger_suite::node::{self, Value};
use serde::Deserialize;

use super::disk;
use super::image::Image;

/// Where storage.conf(5) lies. The second is what a distribution brings; it is not read where the first is there.
const CONF: [&str; 2] = [
    "/etc/containers/storage.conf",
    "/usr/share/containers/storage.conf",
];
/// Where podman keeps everything unless one of them says otherwise.
const STORE: &str = "/var/lib/containers/storage";
/// The file is some kilobytes, most of them comments.
const CONF_MAX: usize = 1 << 20;
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

/// The container that has this name; none when nobody has it. An error says why that cannot be told.
///
/// `image` is what is known of the service's image: mostly its store is the one that counts, but an image may also come from a
/// store that is only read (storage.conf(5), `additionalimagestores`).
pub fn named(root: &Root, image: Option<&Image>, name: &str) -> Result<Option<Container>, String> {
    let beside = image
        .and_then(|image| image.store.as_ref())
        .and_then(|index| lists(index.path()));
    let dirs: BTreeSet<PathBuf> = beside.into_iter().chain(configured(root)?).collect();
    for dir in dirs {
        for file in ["containers.json", "volatile-containers.json"] {
            if let Some(found) = find(&dir.join(file), name)? {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}

/// `<root>/overlay-images/images.json` leads to `<root>/overlay-containers`.
fn lists(images: &Path) -> Option<PathBuf> {
    let dir = images.parent()?;
    let driver = dir.file_name()?.to_str()?.strip_suffix("-images")?;
    Some(dir.with_file_name(format!("{driver}-containers")))
}

/// The lists of the store that storage.conf names, whichever driver it is of.
fn configured(root: &Root) -> Result<Vec<PathBuf>, String> {
    let store = root.join(graph_root(root)?);
    let failed = |error: io::Error| format!("{} cannot be read: {error}", store.display());
    // A store that was moved often has a link in its old place; only root can make one there.
    let dir = match fs::canonicalize(&store) {
        Ok(dir) => dir,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(&dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let is_list = |name: &str| name.ends_with("-containers");
        if path.file_name().and_then(OsStr::to_str).is_some_and(is_list) {
            found.push(path);
        }
    }
    Ok(found)
}

fn graph_root(root: &Root) -> Result<String, String> {
    for file in CONF {
        let unread = |error: &dyn fmt::Display| format!("{file} cannot be read: {error}");
        let place = fs::canonicalize(root.join(file)).unwrap_or_else(|_| root.join(file));
        let Some(bytes) = disk::read(&place, CONF_MAX).map_err(|error| unread(&error))? else {
            continue;
        };
        let text = String::from_utf8(bytes).map_err(|error| unread(&error))?;
        let said = node::parse_toml(&text, 0).table;
        let path = said.table("storage").and_then(|table| table.get("graphroot"));
        return Ok(match path.map(|node| &node.value) {
            Some(Value::Text(path)) if path.starts_with('/') => path.clone().into_owned(),
            _ => STORE.to_owned(),
        });
    }
    Ok(STORE.to_owned())
}

fn find(path: &Path, name: &str) -> Result<Option<Container>, String> {
    let unread = |error: &dyn fmt::Display| format!("{} cannot be read: {error}", path.display());
    // No such file: no such container.
    let Some(bytes) = disk::read(path, LIST_MAX).map_err(|error| unread(&error))? else {
        return Ok(None);
    };
    let all: Vec<Container> = serde_json::from_slice(&bytes).map_err(|error| unread(&error))?;
    Ok(all.into_iter().find(|it| it.names.iter().any(|it| it == name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As podman 4.3 and 5.4 write it, shortened.
    const LIST: &str = r#"[{"id":"52b634170277dc82","names":["plain"],"image":"a5068585","layer":"19be215f","metadata":"{\"image-name\":\"lscr.io/linuxserver/sonarr:latest\",\"name\":\"plain\"}","created":"2026-11-28T07:46:27.74777614Z","flags":{"MountLabel":""}},{"id":"71c57330"}]"#;

    struct World(PathBuf);

    impl World {
        fn new(name: &str) -> (Self, Root) {
            let dir = std::env::temp_dir().join(format!("dagger-containers-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&dir);
            fs::create_dir(&dir).unwrap();
            let dir = dir.canonicalize().unwrap();
            (Self(dir.clone()), Root::new(dir))
        }

        fn write(&self, file: &str, text: &str) {
            let path = self.0.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    impl Drop for World {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn id(root: &Root, name: &str) -> Option<String> {
        named(root, None, name).unwrap().map(|found| found.id)
    }

    #[test]
    fn a_name_is_found_in_either_list_and_a_list_that_cannot_be_read_is_no_empty_one() {
        for file in ["containers.json", "volatile-containers.json"] {
            let (world, root) = World::new(file);
            assert_eq!(id(&root, "plain"), None);
            let list = format!("var/lib/containers/storage/overlay-containers/{file}");
            world.write(&list, LIST);
            assert_eq!(id(&root, "plain").as_deref(), Some("52b634170277dc82"));
            assert_eq!(id(&root, "plai"), None);
            world.write(&list, "[{");
            let said = named(&root, None, "plain").unwrap_err();
            assert!(said.contains(&format!("{file} cannot be read")), "{said}");
        }
    }

    #[test]
    fn the_store_is_where_storage_conf_says_before_any_image_is_known() {
        let (world, root) = World::new("conf");
        world.write("srv/store/vfs-containers/containers.json", LIST);
        world.write(
            "usr/share/containers/storage.conf",
            "[storage]\ndriver = \"vfs\"\ngraphroot = \"/srv/store\"\n",
        );
        assert!(id(&root, "plain").is_some());
        // The administrator's takes the place of the distribution's, whatever it leaves out.
        world.write(
            "etc/containers/storage.conf",
            "[storage]\n# graphroot = \"/srv/store\"\n",
        );
        assert_eq!(id(&root, "plain"), None);
        // A link where the store was before.
        fs::create_dir_all(world.0.join("var/lib/containers")).unwrap();
        std::os::unix::fs::symlink(
            world.0.join("srv/store"),
            world.0.join("var/lib/containers/storage"),
        )
        .unwrap();
        assert!(id(&root, "plain").is_some());
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
