//! Images in podman's store: what is asked, what the answers mean, and the record `/run/dagger/image/<service>` that the gate
//! leaves for the agent.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use dagger_suite::names::{IMAGE_DIR, Root, ServiceName};
use serde::{Deserialize, Serialize};

use super::disk::{self, DiskError, Over};

/// What is known of a service's image. The record is this as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// As the configuration names it.
    pub reference: String,
    /// Id of the image in podman's store.
    pub id: String,
    /// Digest of its manifest, `sha256:...`; empty for an image that came from no registry.
    pub digest: String,
    /// Label `org.opencontainers.image.version`; empty without one.
    pub version: String,
    /// When it was built, as podman prints it (RFC 3339).
    pub created: String,
    /// Paths inside that it declares as volumes (`VOLUME`): what it keeps there is gone with the container where nothing of
    /// the host is mounted. None in a record of an older gate.
    #[serde(default)]
    pub volumes: Option<Vec<String>>,
    /// State of podman's store when it was seen: while this holds, podman need not be asked again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<Index>,
}

/// The file in which podman's store lists its images (`images.json` of containers/storage). Each change replaces it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    path: PathBuf,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
}

/// A list that is younger than this when podman is asked may have changed under its hands.
const SETTLED: Duration = Duration::from_millis(50);

impl Index {
    fn of(path: &Path) -> Option<Self> {
        let meta = std::fs::metadata(path).ok()?;
        Some(Self {
            path: path.to_owned(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
        })
    }

    /// The list itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether no image came or went since.
    pub fn holds(&self) -> bool {
        Self::of(&self.path).as_ref() == Some(self)
    }
}

/// The list of the store that an image's layers lie in: `<root>/overlay/<layer>/diff` belongs to
/// `<root>/overlay-images/images.json`. None when it is not there, or not older than `asked`, when podman was asked.
fn index(driver: &str, layer: &Path, asked: SystemTime) -> Option<Index> {
    let root = layer
        .ancestors()
        .find(|dir| dir.file_name().is_some_and(|name| name == driver))?
        .parent()?;
    let path = root.join(format!("{driver}-images/images.json"));
    let modified = std::fs::metadata(&path).ok()?.modified().ok()?;
    (asked.duration_since(modified).ok()? > SETTLED).then(|| Index::of(&path))?
}

/// Label that carries an application's version (OCI image specification, annotations).
const VERSION_LABEL: &str = "org.opencontainers.image.version";

/// Words after `podman` that ask for one image. The first podman of a boot would tell the journal of a "system refresh".
pub fn inspect_argv(reference: &str) -> Vec<&str> {
    vec![
        "--events-backend",
        "none",
        "image",
        "inspect",
        "--format",
        "json",
        "--",
        reference,
    ]
}

/// Words after `podman` that fetch one image. Its events are the journal's noise, not its news.
pub fn pull_argv(reference: &str) -> Vec<&str> {
    vec!["--events-backend", "none", "pull", "--", reference]
}

/// Reads the answer to [`inspect_argv`], which was asked at `asked`.
pub fn decode(reference: &str, json: &[u8], asked: SystemTime) -> Result<Image, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Inspected {
        id: String,
        #[serde(default)]
        digest: String,
        #[serde(default)]
        created: String,
        /// `null` when the image has none.
        labels: Option<BTreeMap<String, String>>,
        graph_driver: Option<Driver>,
        config: Option<Config>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Config {
        /// The paths are the keys; nothing stands behind them.
        volumes: Option<BTreeMap<String, serde_json::Value>>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Driver {
        name: String,
        data: Option<BTreeMap<String, String>>,
    }
    let images: Vec<Inspected> = serde_json::from_slice(json)
        .map_err(|error| format!("podman's answer is not understood: {error}"))?;
    let image = images
        .into_iter()
        .next()
        .ok_or("podman's answer names no image")?;
    let store = image.graph_driver.and_then(|driver| {
        let layer = driver.data?.remove("UpperDir")?;
        index(&driver.name, Path::new(&layer), asked)
    });
    Ok(Image {
        store,
        reference: reference.to_owned(),
        id: image.id,
        digest: image.digest,
        version: image
            .labels
            .and_then(|mut labels| labels.remove(VERSION_LABEL))
            .unwrap_or_default(),
        created: image.created,
        volumes: Some(
            image
                .config
                .and_then(|config| config.volumes)
                .map(|volumes| volumes.into_keys().collect())
                .unwrap_or_default(),
        ),
    })
}

/// The image's volumes at which nothing is mounted.
///
/// Only the very path counts, as podman sees it: a mount above or below it does not keep podman from putting an anonymous
/// volume there.
pub fn uncovered<'a>(volumes: &'a [String], covered: &[String]) -> Vec<&'a str> {
    let plain = |path: &'a str| Path::new(path).components().collect::<PathBuf>();
    volumes
        .iter()
        .filter(|volume| !covered.iter().any(|path| Path::new(path) == plain(volume)))
        .map(String::as_str)
        .collect()
}

/// Whether another try makes sense after podman said this: a name that is not there is not there in ten seconds either.
pub fn is_final(message: &str) -> bool {
    let message = message.to_lowercase();
    [
        "manifest unknown",
        "name unknown",
        "invalid reference",
        "unauthorized",
        "access to the resource is denied",
    ]
    .iter()
    .any(|sign| message.contains(sign))
}

/// Writes the record of a service's image.
pub fn record(root: &Root, service: &ServiceName, image: &Image) -> Result<(), DiskError> {
    let mut json = serde_json::to_vec_pretty(image).unwrap_or_default();
    json.push(b'\n');
    disk::write(&root.join(format!("{IMAGE_DIR}/{service}")), &json, Over::Replace).map(drop)
}

/// Reads the record back; none when the gate has not seen the image since boot.
pub fn recorded(root: &Root, service: &ServiceName) -> io::Result<Option<Image>> {
    match std::fs::read(root.join(format!("{IMAGE_DIR}/{service}"))) {
        Ok(json) => Ok(Some(serde_json::from_slice(&json)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shortened from podman 5.4.2.
    const ANSWER: &str = r#"[{
        "Id": "3f57d9401f8d42f986df300f0c69192fc41da28ccc8d797829467780db3dd741",
        "Digest": "sha256:9a839e63dad54c3a6d1834e29692c8492d93f90c59c978c1ed79109ea4fb9a54",
        "RepoTags": ["localhost/sonarr:1"], "Created": "2026-11-24T07:39:00.123Z", "Size": 12,
        "Labels": {"org.opencontainers.image.version": "4.0.15.2941", "build_version": "x"}
    }]"#;

    #[test]
    fn podmans_answer_is_read() {
        let image = decode("localhost/sonarr:1", ANSWER.as_bytes(), SystemTime::now()).unwrap();
        assert_eq!(image.version, "4.0.15.2941");
        assert!(image.digest.starts_with("sha256:9a839e"));
        let bare = decode("x", br#"[{"Id": "a", "Labels": null}]"#, SystemTime::now()).unwrap();
        assert_eq!((bare.version.as_str(), bare.digest.as_str()), ("", ""));
        assert_eq!(bare.volumes.as_deref(), Some([].as_slice()));
        for bad in ["", "[]", "{}", "[{}]", "\u{0}"] {
            assert!(decode("x", bad.as_bytes(), SystemTime::now()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn volumes_are_read_and_compared_with_what_is_mounted() {
        let answer =
            br#"[{"Id": "a", "Labels": null, "Config": {"Volumes": {"/config": {}, "/data/": {}}}}]"#;
        let volumes = decode("x", answer, SystemTime::now()).unwrap().volumes.unwrap();
        let left = |covered: &[&str]| {
            let covered: Vec<String> = covered.iter().map(|path| (*path).to_owned()).collect();
            uncovered(&volumes, &covered)
                .into_iter()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(left(&["/config"]), ["/data/"]);
        assert_eq!(left(&["/config", "/data"]), [""; 0]);
        assert_eq!(left(&["/", "/config/x", "/data/x"]), ["/config", "/data/"]);
    }

    #[test]
    fn a_record_survives_its_file() {
        let dir = std::env::temp_dir().join(format!("dagger-image-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir(&dir).unwrap();
        let root = Root::new(dir.canonicalize().unwrap());
        let service = ServiceName::parse("sonarr").unwrap();
        assert_eq!(recorded(&root, &service).unwrap(), None);
        let image = decode("localhost/sonarr:1", ANSWER.as_bytes(), SystemTime::now()).unwrap();
        record(&root, &service, &image).unwrap();
        assert_eq!(recorded(&root, &service).unwrap(), Some(image));
    }

    #[test]
    fn a_change_in_the_store_is_noticed() {
        let dir = std::env::temp_dir().join(format!("dagger-store-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(dir.join("overlay-images")).unwrap();
        let list = dir.join("overlay-images/images.json");
        std::fs::write(&list, "[]").unwrap();
        let answer = format!(
            r#"[{{"Id": "a", "Labels": null, "GraphDriver": {{"Name": "overlay", "Data": {{"UpperDir": "{}/overlay/b/diff"}}}}}}]"#,
            dir.display()
        );
        let seen = |asked| decode("x", answer.as_bytes(), asked).unwrap().store;
        assert_eq!(
            seen(SystemTime::now() - Duration::from_secs(1)),
            None,
            "changed after podman was asked"
        );
        let index = seen(SystemTime::now() + Duration::from_secs(1)).unwrap();
        assert!(index.holds());
        std::fs::write(dir.join("new"), "{}").unwrap();
        std::fs::rename(dir.join("new"), &list).unwrap();
        assert!(!index.holds());
        std::fs::remove_file(&list).unwrap();
        assert!(!index.holds());
    }

    #[test]
    fn what_will_not_get_better_is_not_tried_again() {
        assert!(is_final(
            "Error: initializing source docker://x: reading manifest 9 in x: manifest unknown"
        ));
        assert!(!is_final(
            "Error: pinging container registry: dial tcp: lookup: no such host"
        ));
    }
}
