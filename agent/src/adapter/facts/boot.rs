//! The rules of tmpfiles.d(5) that give a directory of the state to somebody at each boot.

use std::collections::BTreeMap;
use std::path::Path;

use dagger_suite::names::Root;

use super::tree::real;
use crate::adapter::disk;
use crate::domain::plan::boot::rules;
use crate::domain::plan::facts::{Place, Rule};

/// Where they are; of files of one name the first counts.
const DIRS: [&str; 4] = [
    "/etc/tmpfiles.d",
    "/run/tmpfiles.d",
    "/usr/local/lib/tmpfiles.d",
    "/usr/lib/tmpfiles.d",
];

/// No file of rules is longer.
const FILE_MAX: usize = 1 << 20;

/// Those of these directories, where the first rule is one. What cannot be read is told.
pub fn look(root: &Root, places: &[Place], unknown: &mut Vec<String>) -> Vec<Rule> {
    let mut files = BTreeMap::new();
    for dir in DIRS {
        let Ok(entries) = std::fs::read_dir(root.join(dir)) else {
            // Most of them need not be there.
            continue;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if Path::new(&name).extension().is_some_and(|end| end == "conf") {
                let file = format!("{dir}/{}", name.display());
                files.entry(name).or_insert(file);
            }
        }
    }
    let mut found: Vec<Rule> = Vec::new();
    for file in files.into_values() {
        // A link to nowhere (/dev/null, as it is masked) has none.
        let Ok(real) = std::fs::canonicalize(root.join(&file)) else {
            continue;
        };
        match disk::read(&real, FILE_MAX) {
            Ok(bytes) => {
                for rule in rules(&file, &String::from_utf8_lossy(&bytes.unwrap_or_default())) {
                    if !found.iter().any(|first| first.is_instead_of(&rule)) {
                        found.push(rule);
                    }
                }
            }
            Err(disk::DiskError::NotAFile(_)) => {}
            Err(error) => unknown.push(format!(
                "what happens to the state at each boot is not known: {error}"
            )),
        }
    }
    found.retain(|rule| {
        rule.gives_back() && {
            let path = real(root, &rule.path);
            places.iter().any(|place| place.path == path)
        }
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_first_rule_about_a_directory_counts() {
        let dir = std::env::temp_dir().join(format!("dagger-boot-rules-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        for path in ["etc/tmpfiles.d", "usr/lib/tmpfiles.d", "var/lib/sonarr"] {
            fs::create_dir_all(dir.join(path)).unwrap();
        }
        let root = Root::new(dir.canonicalize().unwrap());
        let place = Place {
            path: "/var/lib/sonarr".into(),
            ..Place::default()
        };
        let found = || {
            let mut unknown = Vec::new();
            let found = look(&root, std::slice::from_ref(&place), &mut unknown);
            assert_eq!(unknown, Vec::<String>::new());
            found.into_iter().map(|rule| rule.at).collect::<Vec<_>>()
        };
        let rule = "d /var/lib/other 0700 other media\nd /var/lib/sonarr 0700 sonarr media\n";
        fs::write(dir.join("usr/lib/tmpfiles.d/sonarr.conf"), rule).unwrap();
        assert_eq!(found(), ["/usr/lib/tmpfiles.d/sonarr.conf:2"]);
        // One before it, by its name, and it counts for new directories only.
        let first = dir.join("etc/tmpfiles.d/00-dagger-sonarr.conf");
        fs::write(&first, "d /var/lib/sonarr :0700 :sonarr :media\n").unwrap();
        assert_eq!(found(), Vec::<String>::new());
        fs::remove_file(first).unwrap();
        std::os::unix::fs::symlink("/dev/null", dir.join("etc/tmpfiles.d/sonarr.conf")).unwrap();
        assert_eq!(found(), Vec::<String>::new());
        fs::remove_dir_all(dir).unwrap();
    }
}
