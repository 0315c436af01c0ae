//! Transmission's torrents: how many there are, and where their data lies. It keeps them as files (docs/Configuration-Files.md),
//! and the place of each in its resume file (docs/Transmission-Resume-Files.md), which is bencode.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;

use super::names;
use super::told::said;
use crate::adapter::disk;
use crate::domain::plan::facts::{Stored, Use};

/// More torrents than this nobody has; a directory may be filled with anything.
const FILES_MAX: usize = 100_000;
/// A resume file of a torrent with very many pieces.
const FILE_MAX: usize = 16 << 20;
/// Different places that are told of.
const PLACES_MAX: usize = 50;

/// What is in the state of a Transmission.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Torrents {
    /// Counts by word.
    pub counts: BTreeMap<String, u64>,
    /// Where data lies.
    pub stored: Vec<Stored>,
}

/// Looks at its directory. `unknown` hears what could not be read.
pub fn look(config: &Path, unknown: &mut Vec<String>) -> Torrents {
    let mut found = Torrents::default();
    let torrents = names(&config.join("torrents"), FILES_MAX, unknown);
    let ends = |name: &OsStr, ends: &[&str]| {
        Path::new(name)
            .extension()
            .is_some_and(|end| ends.iter().any(|wanted| end == *wanted))
    };
    let count = |many: usize| u64::try_from(many).unwrap_or(u64::MAX);
    let many = torrents
        .iter()
        .filter(|name| ends(name, &["torrent", "magnet"]))
        .count();
    found.counts.insert("torrents".into(), count(many));
    let dir = config.join("resume");
    let mut places: BTreeMap<String, u64> = BTreeMap::new();
    let mut resumes = 0;
    for name in names(&dir, FILES_MAX, unknown)
        .iter()
        .filter(|name| ends(name, &["resume"]))
    {
        resumes += 1;
        let bytes = match disk::read(&dir.join(name), FILE_MAX) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => continue,
            Err(error) => {
                unknown.push(format!("where a torrent's data lies was not read: {error}"));
                continue;
            }
        };
        for key in ["destination", "incomplete-dir", "incomplete_dir"] {
            let path = text(&bytes, key).filter(|path| path.starts_with('/'));
            if let Some(path) = path
                && (places.len() < PLACES_MAX || places.contains_key(path))
            {
                *places.entry(path.to_owned()).or_default() += 1;
            }
        }
    }
    found.counts.insert("resume files".into(), resumes);
    found.stored = places
        .into_iter()
        .map(|(path, count)| Stored {
            count,
            ..said(path, Use::Downloads, "torrents".into())
        })
        .collect();
    found
}

/// The text that stands at a key of the outermost dictionary.
fn text<'a>(bytes: &'a [u8], key: &str) -> Option<&'a str> {
    let mut rest = bytes.strip_prefix(b"d")?;
    while rest.first() != Some(&b'e') {
        let (name, after) = string(rest)?;
        if name == key.as_bytes() {
            return std::str::from_utf8(string(after)?.0).ok();
        }
        rest = skip(after)?;
    }
    None
}

/// A string, `4:spam`, and what stands behind it.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = bytes.iter().take(20).position(|byte| *byte == b':')?;
    let length: usize = std::str::from_utf8(bytes.get(..colon)?).ok()?.parse().ok()?;
    bytes.get(colon + 1..)?.split_at_checked(length)
}

/// What stands behind a value of any kind. No recursion: the file is the application's.
fn skip(mut bytes: &[u8]) -> Option<&[u8]> {
    let mut depth = 0_usize;
    loop {
        bytes = match bytes.first()? {
            b'd' | b'l' => {
                depth += 1;
                bytes.get(1..)?
            }
            b'e' => {
                depth = depth.checked_sub(1)?;
                bytes.get(1..)?
            }
            b'i' => {
                let end = bytes.iter().position(|byte| *byte == b'e')?;
                bytes.get(end + 1..)?
            }
            _ => string(bytes)?.1,
        };
        if depth == 0 {
            return Some(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn torrents_are_counted_and_their_places_told() {
        let dir = std::env::temp_dir().join(format!("dagger-torrents-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        for sub in ["torrents", "resume"] {
            std::fs::create_dir_all(dir.join(sub)).unwrap();
        }
        let dir = dir.canonicalize().unwrap();
        for (name, place) in [("a", "/fun/torrents"), ("b", "/fun/torrents"), ("c", "/mnt/x")] {
            std::fs::write(dir.join(format!("torrents/{name}.torrent")), "").unwrap();
            let resume = format!(
                "d13:activity-datei5e11:destination{}:{place}8:progressd6:blocks4:none6:mtimesli1ei2eee4:name1:{name}e",
                place.len()
            );
            std::fs::write(dir.join(format!("resume/{name}.resume")), resume).unwrap();
        }
        std::fs::write(dir.join("torrents/d.magnet"), "").unwrap();
        std::fs::write(dir.join("resume/bad.resume"), "d11:destination999999:/x").unwrap();
        let mut unknown = Vec::new();
        let found = look(&dir, &mut unknown);
        assert_eq!(unknown, [""; 0]);
        assert_eq!(found.counts.get("torrents"), Some(&4));
        let stored: Vec<_> = found
            .stored
            .iter()
            .map(|it| (it.path.as_str(), it.count))
            .collect();
        assert_eq!(stored, [("/fun/torrents", 2), ("/mnt/x", 1)]);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn bad_bencode_is_no_text() {
        for bytes in [
            &b""[..],
            b"d",
            b"l",
            b"d1:a",
            b"d1:ai5",
            b"d1:addd",
            b"d99999999999999999999:a",
            b"de",
            b"d1:ae",
        ] {
            assert_eq!(text(bytes, "destination"), None, "{bytes:?}");
        }
        let deep = [b"d1:a".as_slice(), &vec![b'l'; 1 << 20]].concat();
        assert_eq!(text(&deep, "destination"), None);
        assert_eq!(
            text(b"d1:ali1eli2eee11:destination2:/xe", "destination"),
            Some("/x")
        );
    }
}
