//! The media tree before and after the start: an application that finds its library empty takes its films for deleted.

use dagger_agent::adapter::media;
use dagger_agent::adapter::mounts::Mounts;
use dagger_agent::domain::media::Refusal;
use dagger_suite::names::{Root, ServiceName};

use crate::say;

/// A sentence for each place of the media that is not what it was when the service last started well.
///
/// What cannot be found out keeps nobody from starting; it is said.
pub fn refusals(root: &Root, service: &ServiceName, media: &[String]) -> Vec<String> {
    if media.is_empty() {
        return Vec::new();
    }
    let record = match media::read(root, service) {
        Ok(Some(record)) => record,
        Ok(None) => return Vec::new(),
        Err(error) => {
            say::warning(&error.to_string());
            return Vec::new();
        }
    };
    let mounts = match Mounts::now() {
        Ok(mounts) => mounts,
        Err(error) => {
            say::warning(&format!(
                "the media of {service} is not looked at, because the mount table cannot be read: {error}"
            ));
            return Vec::new();
        }
    };
    let path = media::record_path(service);
    let refusal = |before| {
        let trouble = media::refused(root, before, &mounts)?;
        let refusal = Refusal {
            service: service.as_str(),
            before,
            trouble,
            record: &path,
        };
        Some(refusal.to_string())
    };
    // A tree that the configuration does not name any more is nobody's loss, and one that is not there has its sentence.
    let ours = record.spots.iter().filter(|spot| {
        let own = media.iter().any(|path| path == &spot.path);
        let there = !own || root.join(&spot.path).exists();
        there && media.iter().any(|path| spot.is_in(path))
    });
    ours.filter_map(refusal).collect()
}

/// Remembers how the media is now that the application answers. The service runs without that, too.
pub fn remember(root: &Root, service: &ServiceName, media: &[String]) {
    if media.is_empty() {
        return;
    }
    if let Err(error) = media::write(root, service, media) {
        say::warning(&format!(
            "{error}: an emptied media tree would not be noticed at the next start of {service}"
        ));
    }
}
