//! What is needed from an application's own files. They belong to the application: no link in its directory is followed,
//! what is read is bounded, and no error quotes it.

use std::borrow::Cow;
use std::io;

use dagger_agent::adapter::disk;
use dagger_suite::model::Service;
use dagger_suite::names::Root;
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use saphyr_parser::{Event, Parser};

/// No settings file of these applications comes near it.
const FILE_MAX: usize = 1 << 20;

/// An application's key, and where its interface begins.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// The key.
    pub key: String,
    /// `/sonarr`, or empty.
    pub base: String,
}

/// Gives CAP_SYS_ADMIN up for good: only network namespaces need it, and most suites have none.
pub fn drop_namespaces() -> io::Result<()> {
    let mut sets = capabilities(None)?;
    sets.effective.remove(CapabilitySet::SYS_ADMIN);
    sets.permitted.remove(CapabilitySet::SYS_ADMIN);
    sets.inheritable.remove(CapabilitySet::SYS_ADMIN);
    Ok(set_capabilities(None, sets)?)
}

/// A file in the state directory of that role, as text.
pub fn read(root: &Root, service: &Service, role: &str, below: &str) -> Result<String, String> {
    let state = service
        .state
        .iter()
        .find(|mount| mount.role == role)
        .ok_or_else(|| format!("{} has no {role} directory", service.name))?;
    let path = format!("{}/{below}", state.source);
    let bytes = disk::read(&root.join(&path), FILE_MAX)
        .map_err(|error| error.to_string())?
        .ok_or_else(|| format!("{path} is not there yet"))?;
    String::from_utf8(bytes).map_err(|_| format!("{path} is not UTF-8"))
}

/// `config.xml` of Servarr (ConfigFileProvider.cs).
pub fn servarr(text: &str) -> Result<Access, String> {
    // What the parser says may quote the file.
    let document = roxmltree::Document::parse(text.trim_start_matches('\u{feff}')).map_err(|error| {
        format!(
            "config.xml cannot be read: it is not XML at line {}",
            error.pos().row
        )
    })?;
    let root = document.root_element();
    if root.tag_name().name() != "Config" {
        return Err("config.xml cannot be read: it has no Config element".into());
    }
    let element = |name: &str| {
        root.children()
            .find(|child| child.has_tag_name(name))
            .and_then(|child| child.text())
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let access = Access {
        key: element("ApiKey"),
        base: base(&element("UrlBase")),
    };
    if access.key.is_empty() {
        return Err("config.xml holds no ApiKey".into());
    }
    Ok(access)
}

/// `config/config.yaml` of Bazarr (app/config.py).
pub fn bazarr(text: &str) -> Result<Access, String> {
    let mut access = Access::default();
    walk(text, |path, value| match path {
        [section, key] if section == "auth" && key == "apikey" => value.clone_into(&mut access.key),
        [section, key] if section == "general" && key == "base_url" => access.base = base(value),
        _ => {}
    })
    .map_err(|line| format!("config.yaml cannot be read: it is not YAML at line {line}"))?;
    if access.key.is_empty() {
        return Err("config.yaml holds no auth.apikey".into());
    }
    Ok(access)
}

/// Whether Transmission asks for a password (settings.json; 4.1 knows the name with underscores, too).
pub fn transmission_locked(text: &str) -> Result<bool, String> {
    let settings: serde_json::Value = serde_json::from_str(text).map_err(|error| {
        format!(
            "settings.json cannot be read: it is not JSON at line {}",
            error.line()
        )
    })?;
    Ok(["rpc-authentication-required", "rpc_authentication_required"]
        .iter()
        .any(|name| settings.get(name) == Some(&serde_json::Value::Bool(true))))
}

/// As it stands before a path: `tv/` becomes `/tv`.
fn base(text: &str) -> String {
    match text.trim_matches('/') {
        "" => String::new(),
        inner => format!("/{inner}"),
    }
}

/// Where a walk through a document is.
enum Place {
    /// In a mapping; the key whose value comes next.
    Mapping(Option<String>),
    Sequence,
}

/// Tells of each scalar below mappings only, with its keys. No tree is made and no alias is followed, so that a document
/// cannot grow by being read. The error is a line number.
fn walk(text: &str, mut tell: impl FnMut(&[String], &str)) -> Result<(), usize> {
    let mut places: Vec<Place> = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, _) = event.map_err(|error| error.marker().line())?;
        let scalar = match event {
            Event::MappingStart(..) => {
                places.push(Place::Mapping(None));
                continue;
            }
            Event::SequenceStart(..) => {
                places.push(Place::Sequence);
                continue;
            }
            Event::MappingEnd | Event::SequenceEnd => {
                places.pop();
                Cow::Borrowed("")
            }
            Event::Scalar(text, ..) => {
                if let Some(path) = path(&places) {
                    tell(&path, &text);
                }
                text
            }
            Event::Alias(_) => Cow::Borrowed(""),
            _ => continue,
        };
        // A value ends its key; anything else in a mapping is the next one.
        if let Some(Place::Mapping(key)) = places.last_mut() {
            *key = match key {
                Some(_) => None,
                None => Some(scalar.into_owned()),
            };
        }
    }
    Ok(())
}

/// The keys that lead to the value that comes next; none for a key itself, and inside sequences.
fn path(places: &[Place]) -> Option<Vec<String>> {
    let key = |place: &Place| match place {
        Place::Mapping(key) => key.clone(),
        Place::Sequence => None,
    };
    places.iter().map(key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servarr_keeps_key_and_base() {
        let access = |text: &str| servarr(text);
        assert_eq!(
            access(
                "\u{feff}<Config>\n  <Port>8989</Port>\n  <UrlBase>tv</UrlBase>\n  <ApiKey>0123</ApiKey>\n</Config>\n"
            ),
            Ok(Access {
                key: "0123".into(),
                base: "/tv".into()
            })
        );
        for (text, says) in [
            ("", "line 1"),
            ("<Config><ApiKey>hidden</Config>", "not XML"),
            ("<Config/>", "no ApiKey"),
            ("<Config><ApiKey> </ApiKey></Config>", "no ApiKey"),
            ("<Other><ApiKey>hidden</ApiKey></Other>", "no Config"),
            (
                "<!DOCTYPE x [<!ENTITY a \"hidden\">]><Config><ApiKey>&a;</ApiKey></Config>",
                "not XML",
            ),
        ] {
            let error = access(text).unwrap_err();
            assert!(
                error.contains(says) && !error.contains("hidden"),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn bazarr_keeps_key_and_base() {
        let text = "---\nauth:\n  apikey: '0123'\n  type: null\nbackup:\n  - auth:\n      apikey: wrong\ngeneral:\n  base_url: /subs/\n  ip: '*'\nsonarr:\n  apikey: other\n";
        assert_eq!(
            bazarr(text),
            Ok(Access {
                key: "0123".into(),
                base: "/subs".into()
            })
        );
        assert!(
            bazarr("auth: {apikey: ''}")
                .unwrap_err()
                .contains("no auth.apikey")
        );
        let error = bazarr("auth:\n  apikey: \"hidden").unwrap_err();
        assert!(error.contains("not YAML") && !error.contains("hidden"), "{error}");
    }

    /// References of references: a parser that expands them takes gigabytes for this.
    #[test]
    fn a_document_does_not_grow() {
        use std::fmt::Write as _;
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
        for level in 1..40 {
            let below = format!("*a{}, ", level - 1).repeat(9);
            let _ = writeln!(text, "a{level}: &a{level} [{below}]");
        }
        text.push_str("auth:\n  apikey: k\n");
        assert_eq!(bazarr(&text).unwrap().key, "k");
        let deep = "[".repeat(200_000);
        let _ = bazarr(&deep);
        let _ = servarr(&"<a>".repeat(100_000));
    }

    #[test]
    fn transmission_says_whether_it_is_locked() {
        assert_eq!(
            transmission_locked(r#"{"rpc-authentication-required": true}"#),
            Ok(true)
        );
        assert_eq!(
            transmission_locked(r#"{"rpc_authentication_required": true}"#),
            Ok(true)
        );
        assert_eq!(
            transmission_locked(r#"{"rpc-authentication-required": false}"#),
            Ok(false)
        );
        assert_eq!(transmission_locked("{}"), Ok(false));
        assert!(transmission_locked("{").is_err());
    }
}
