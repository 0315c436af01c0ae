//! Media that is not as the application had it.

use dagger_suite::model::Service;

use super::facts::{Media, MediaState};
use super::finding::{Code, Finding};

/// What is wrong with a media directory: a missing mount is not an empty library (Radarr#3128).
pub fn blocker(service: &Service, media: &Media) -> Option<Finding> {
    let Media { path, state, .. } = media;
    let table = format!("[services.{}]", service.name);
    let read_only = service
        .media()
        .any(|mount| mount.source == *path && mount.read_only);
    let (code, what, remedy) = match state {
        MediaState::Good => return None,
        MediaState::ReadOnly if read_only => return None,
        MediaState::Missing => (
            Code::MediaMissing,
            format!("the media directory {path} is not there"),
            format!("mount what belongs there, or write the right path as `media` in {table}"),
        ),
        MediaState::Empty => (
            Code::MediaMissing,
            format!(
                "the media directory {path} is empty: {} would take its library for deleted",
                service.title
            ),
            "mount what belongs there".to_owned(),
        ),
        MediaState::ReadOnly => (
            Code::MediaReadOnly,
            format!("the media directory {path} lies on a file system that is read-only"),
            format!("remount it, or write `media = \"ro\"` into {table} where nothing has to be written"),
        ),
        MediaState::Unreadable(error) => (
            Code::MediaMissing,
            format!("the media directory {path} cannot be looked at: {error}"),
            "see to the disk first".to_owned(),
        ),
    };
    Some(Finding::new(code, path, what, remedy))
}
