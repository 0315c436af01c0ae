//! Changes one value in an application's own settings, and takes it back. The application does not run meanwhile.
//!
//! In three moves, so that a log can stand between them: [`prepare`] reads and touches nothing; what it gives is written
//! down; [`apply`] and [`revert`] do as it says, each as often as one likes. Taking it back is a merge by key: a value that
//! the application has changed itself since then is the application's, and stays.

mod find;

mod file;

use std::path::Path;

use dagger_suite::names::Root;
use serde::{Deserialize, Serialize};

use self::file::SettingsFile;
use super::disk::DiskError;
use crate::domain::plan::adjust::Adjustment;
use crate::domain::plan::facts::Format;

pub use self::find::{Found, find};

/// A change that is ready to be made, and holds all that is needed to take it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edit {
    /// The file on the host.
    pub file: String,
    /// How it is written.
    pub format: Format,
    /// The keys that lead to the value.
    pub key: Vec<String>,
    /// What it said.
    pub before: String,
    /// The bytes that said so, quotes included.
    pub raw: String,
    /// What it shall say.
    pub after: String,
}

/// What became of a value that was to be taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reverted {
    /// It is what it was before.
    Restored,
    /// The application has changed it itself: it stays as that left it. What it says now; none: it is gone.
    Kept(Option<String>),
}

/// A change that cannot be made. No message quotes the file.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read or written.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// It is not there.
    #[error("the settings file {0} is not there")]
    Missing(String),
    /// It is damaged.
    #[error("the settings file {file} cannot be changed: {reason}")]
    Malformed {
        /// The file.
        file: String,
        /// What is wrong, and where.
        reason: String,
    },
    /// The value is not there.
    #[error("{key} is not in the settings file {file}")]
    NoKey {
        /// The file.
        file: String,
        /// The keys.
        key: String,
    },
    /// It says something else than it did when the change was planned.
    #[error("{key} in {file} was changed by somebody else meanwhile: plan the migration anew")]
    Changed {
        /// The file.
        file: String,
        /// The keys.
        key: String,
    },
}

/// Reads what a change would replace. Nothing is written.
pub fn prepare(root: &Root, change: &Adjustment) -> Result<Edit, SettingsError> {
    let file = open(root, &change.file)?;
    let found =
        locate(&file, change.format, &change.file, &change.key)?.ok_or_else(|| SettingsError::NoKey {
            file: change.file.clone(),
            key: change.key.join("."),
        })?;
    Ok(Edit {
        file: change.file.clone(),
        format: change.format,
        key: change.key.clone(),
        raw: file.text.get(found.at).unwrap_or_default().to_owned(),
        before: found.value,
        after: change.after.clone(),
    })
}

/// Makes the change. Whether anything had to be written: not when it was made before.
pub fn apply(root: &Root, edit: &Edit) -> Result<bool, SettingsError> {
    let file = open(root, &edit.file)?;
    let found = locate(&file, edit.format, &edit.file, &edit.key)?;
    let changed = || SettingsError::Changed {
        file: edit.file.clone(),
        key: edit.key.join("."),
    };
    let found = found.ok_or_else(changed)?;
    if found.value == edit.after {
        return Ok(false);
    }
    if found.value != edit.before {
        return Err(changed());
    }
    let raw = find::written(edit.format, &edit.raw, &edit.after);
    replace(file, found, &raw)?;
    Ok(true)
}

/// Takes the change back.
pub fn revert(root: &Root, edit: &Edit) -> Result<Reverted, SettingsError> {
    let Some(file) = SettingsFile::open(&root.join(&edit.file))? else {
        return Ok(Reverted::Kept(None));
    };
    match locate(&file, edit.format, &edit.file, &edit.key)? {
        None => Ok(Reverted::Kept(None)),
        Some(found) if found.value == edit.before => Ok(Reverted::Restored),
        Some(found) if found.value == edit.after => {
            replace(file, found, &edit.raw)?;
            Ok(Reverted::Restored)
        }
        Some(found) => Ok(Reverted::Kept(Some(found.value))),
    }
}

/// The text of a settings file; none when it is not there. Links are not followed.
pub fn read(path: &Path) -> Result<Option<String>, DiskError> {
    Ok(SettingsFile::open(path)?.map(|file| file.text))
}

fn open(root: &Root, path: &str) -> Result<SettingsFile, SettingsError> {
    SettingsFile::open(&root.join(path))?.ok_or_else(|| SettingsError::Missing(path.to_owned()))
}

fn locate(
    file: &SettingsFile,
    format: Format,
    path: &str,
    key: &[String],
) -> Result<Option<Found>, SettingsError> {
    find(format, &file.text, key).map_err(|reason| SettingsError::Malformed {
        file: path.to_owned(),
        reason,
    })
}

fn replace(file: SettingsFile, found: Found, raw: &str) -> Result<(), DiskError> {
    let mut text = file.text.clone();
    text.replace_range(found.at, raw);
    file.replace(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};
    use std::path::PathBuf;

    const SETTINGS: &str = "{\n    \"rpc-bind-address\": \"192.168.15.1\",\n    \"rpc-password\": \"{0123\",\n    \"umask\": \"002\"\n}\n";

    struct Ground {
        dir: PathBuf,
        root: Root,
    }

    impl Ground {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("dagger-settings-{}-{name}", std::process::id()));
            let _ = std::fs::remove_dir_all(&dir);
            std::fs::create_dir_all(dir.join("t")).unwrap();
            let dir = dir.canonicalize().unwrap();
            std::fs::write(dir.join("t/settings.json"), SETTINGS).unwrap();
            let root = Root::new(&dir);
            Self { dir, root }
        }

        fn text(&self) -> String {
            std::fs::read_to_string(self.dir.join("t/settings.json")).unwrap()
        }
    }

    impl Drop for Ground {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }

    fn change() -> Adjustment {
        Adjustment {
            file: "/t/settings.json".into(),
            format: Format::Json,
            key: vec!["rpc-bind-address".into()],
            before: Some("192.168.15.1".into()),
            after: "0.0.0.0".into(),
            why: String::new(),
        }
    }

    #[test]
    fn a_change_and_its_undo_leave_every_other_byte() {
        let ground = Ground::new("there-and-back");
        let path = ground.dir.join("t/settings.json");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        let edit = prepare(&ground.root, &change()).unwrap();
        assert_eq!(ground.text(), SETTINGS, "preparing touches nothing");
        assert!(apply(&ground.root, &edit).unwrap());
        assert_eq!(ground.text(), SETTINGS.replace("192.168.15.1", "0.0.0.0"));
        assert!(!apply(&ground.root, &edit).unwrap(), "done is done");
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(revert(&ground.root, &edit).unwrap(), Reverted::Restored);
        assert_eq!(revert(&ground.root, &edit).unwrap(), Reverted::Restored);
        assert_eq!(ground.text(), SETTINGS);
        let names: Vec<_> = std::fs::read_dir(ground.dir.join("t")).unwrap().collect();
        assert_eq!(names.len(), 1, "no temporary file is left: {names:?}");
    }

    /// The application rewrote its file, in another style, with another order: the value still is the one we wrote.
    #[test]
    fn an_undo_finds_its_value_in_a_file_that_was_written_anew() {
        let ground = Ground::new("anew");
        let edit = prepare(&ground.root, &change()).unwrap();
        apply(&ground.root, &edit).unwrap();
        let path = ground.dir.join("t/settings.json");
        std::fs::write(&path, "{\"umask\":\"022\",\"rpc-bind-address\":\"0.0.0.0\"}").unwrap();
        assert_eq!(revert(&ground.root, &edit).unwrap(), Reverted::Restored);
        assert_eq!(
            ground.text(),
            "{\"umask\":\"022\",\"rpc-bind-address\":\"192.168.15.1\"}"
        );
    }

    #[test]
    fn what_the_application_changed_itself_stays() {
        let ground = Ground::new("merge");
        let edit = prepare(&ground.root, &change()).unwrap();
        apply(&ground.root, &edit).unwrap();
        let path = ground.dir.join("t/settings.json");
        std::fs::write(&path, "{\"rpc-bind-address\":\"10.0.0.1\"}").unwrap();
        let kept = Reverted::Kept(Some("10.0.0.1".into()));
        assert_eq!(revert(&ground.root, &edit).unwrap(), kept);
        assert_eq!(ground.text(), "{\"rpc-bind-address\":\"10.0.0.1\"}");
        let error = apply(&ground.root, &edit).unwrap_err().to_string();
        assert_eq!(
            error,
            "rpc-bind-address in /t/settings.json was changed by somebody else meanwhile: plan the migration anew"
        );
        std::fs::write(&path, "{}").unwrap();
        assert_eq!(revert(&ground.root, &edit).unwrap(), Reverted::Kept(None));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(revert(&ground.root, &edit).unwrap(), Reverted::Kept(None));
    }

    #[test]
    fn a_link_that_the_application_planted_is_not_followed() {
        let ground = Ground::new("link");
        let victim = ground.dir.join("victim");
        std::fs::write(&victim, SETTINGS).unwrap();
        let path = ground.dir.join("t/settings.json");
        let edit = prepare(&ground.root, &change()).unwrap();
        std::fs::remove_file(&path).unwrap();
        symlink("../victim", &path).unwrap();
        assert!(prepare(&ground.root, &change()).is_err());
        assert!(apply(&ground.root, &edit).is_err());
        assert!(revert(&ground.root, &edit).is_err());
        // The temporary file's name, too.
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, SETTINGS).unwrap();
        symlink("../victim", ground.dir.join("t/.settings.json.dagger.tmp")).unwrap();
        assert!(apply(&ground.root, &edit).unwrap());
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), SETTINGS);
    }

    #[test]
    fn owner_and_attributes_go_along() {
        let ground = Ground::new("attributes");
        let path = ground.dir.join("t/settings.json");
        let root = rustix::process::geteuid().is_root();
        if root {
            std::os::unix::fs::chown(&path, Some(274), Some(169)).unwrap();
        }
        // tmpfs of older kernels has no attributes of users.
        let has =
            rustix::fs::setxattr(&path, "user.dagger", b"kept", rustix::fs::XattrFlags::empty()).is_ok();
        let edit = prepare(&ground.root, &change()).unwrap();
        apply(&ground.root, &edit).unwrap();
        let meta = std::fs::metadata(&path).unwrap();
        if root {
            assert_eq!((meta.uid(), meta.gid()), (274, 169));
        }
        if has {
            let mut value = [0; 16];
            let length = rustix::fs::getxattr(&path, "user.dagger", &mut value[..]).unwrap();
            assert_eq!(&value[..length], b"kept");
        }
    }

    #[test]
    fn damage_is_told_without_the_secret() {
        let ground = Ground::new("damage");
        let path = ground.dir.join("t/settings.json");
        std::fs::write(&path, "{\"rpc-password\": \"hidden").unwrap();
        let error = prepare(&ground.root, &change()).unwrap_err().to_string();
        assert_eq!(
            error,
            "the settings file /t/settings.json cannot be changed: it is not JSON at line 1"
        );
    }
}
