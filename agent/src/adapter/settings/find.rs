//! Where in a settings file a value stands. Nothing is parsed into a tree and written anew: an edit replaces the bytes of
//! one value, and all others stay what they are, comments and order included.

use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle};

use crate::domain::plan::facts::Format;

/// A value in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The bytes that stand for it, quotes included.
    pub at: Range<usize>,
    /// What it says.
    pub value: String,
}

/// Looks for the value that these keys lead to; none when a key is not there, or leads to something that is no single
/// value. The error never quotes the text.
pub fn find(format: Format, text: &str, key: &[String]) -> Result<Option<Found>, String> {
    match format {
        Format::Xml => xml(text, key),
        Format::Json => json(text, key),
        Format::Yaml => yaml(text, key),
    }
}

/// How `value` is written in the place of what stood there as `raw`.
pub fn written(format: Format, raw: &str, value: &str) -> String {
    match format {
        Format::Xml => value
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;"),
        // A number stays a number.
        Format::Json if !raw.starts_with('"') && value.parse::<i64>().is_ok() => value.to_owned(),
        Format::Json => serde_json::Value::from(value).to_string(),
        Format::Yaml if value.parse::<u32>().is_ok() && !raw.starts_with(['"', '\'']) => value.to_owned(),
        // Single quotes know one escape, and everything but a line feed can stand in them.
        Format::Yaml => format!("'{}'", value.replace('\'', "''")),
    }
}

fn xml(text: &str, key: &[String]) -> Result<Option<Found>, String> {
    let skipped = text.len() - text.trim_start_matches('\u{feff}').len();
    let document = roxmltree::Document::parse(text.get(skipped..).unwrap_or_default())
        .map_err(|error| format!("it is not XML at line {}", error.pos().row))?;
    let mut node = document.root_element();
    for name in key {
        let child = node.children().find(|child| child.has_tag_name(name.as_str()));
        let Some(child) = child else { return Ok(None) };
        node = child;
    }
    let mut children = node.children();
    let (Some(only), None) = (children.next(), children.next()) else {
        return Ok(None);
    };
    let Some(said) = only.text().filter(|_| only.is_text()) else {
        return Ok(None);
    };
    let range = only.range();
    Ok(Some(Found {
        at: range.start + skipped..range.end + skipped,
        value: said.trim().to_owned(),
    }))
}

fn json(text: &str, key: &[String]) -> Result<Option<Found>, String> {
    serde_json::from_str::<serde::de::IgnoredAny>(text)
        .map_err(|error| format!("it is not JSON at line {}", error.line()))?;
    let mut at = 0..text.len();
    for name in key {
        let Some(inner) = text.get(at.clone()).and_then(|text| member(text, name)) else {
            return Ok(None);
        };
        at = at.start + inner.start..at.start + inner.end;
    }
    let raw = text.get(at.clone()).unwrap_or_default();
    let value = match serde_json::from_str(raw) {
        Ok(serde_json::Value::String(text)) => text,
        Ok(serde_json::Value::Number(number)) => number.to_string(),
        Ok(serde_json::Value::Bool(on)) => on.to_string(),
        _ => return Ok(None),
    };
    Ok(Some(Found { at, value }))
}

/// Where the value of a member stands in the text of an object that is good JSON. Of several the last one counts, as it
/// does for every reader.
fn member(text: &str, name: &str) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let mut at = blanks(bytes, 0);
    if bytes.get(at) != Some(&b'{') {
        return None;
    }
    at = blanks(bytes, at + 1);
    let mut found = None;
    while bytes.get(at) == Some(&b'"') {
        let end = value_end(bytes, at);
        let key: String = serde_json::from_str(text.get(at..end)?).ok()?;
        // The colon.
        let start = blanks(bytes, blanks(bytes, end) + 1);
        at = value_end(bytes, start);
        if key == name {
            found = Some(start..at);
        }
        // The comma, or the end of the object.
        at = blanks(bytes, blanks(bytes, at) + 1);
    }
    found
}

fn blanks(bytes: &[u8], from: usize) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    let many = rest.iter().take_while(|byte| byte.is_ascii_whitespace());
    from + many.count()
}

/// The end of the value that begins at `from`.
fn value_end(bytes: &[u8], from: usize) -> usize {
    let (mut depth, mut quoted, mut escaped) = (0_u32, false, false);
    for (index, byte) in bytes.iter().enumerate().skip(from) {
        if quoted {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => {
                    quoted = false;
                    if depth == 0 {
                        return index + 1;
                    }
                }
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => quoted = true,
            b'{' | b'[' => depth += 1,
            // The end of what it stands in.
            b'}' | b']' | b',' if depth == 0 => return trimmed(bytes, from, index),
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return index + 1;
                }
            }
            _ => {}
        }
    }
    trimmed(bytes, from, bytes.len())
}

fn trimmed(bytes: &[u8], from: usize, to: usize) -> usize {
    let inner = bytes.get(from..to).unwrap_or_default();
    from + inner.trim_ascii_end().len()
}

fn yaml(text: &str, key: &[String]) -> Result<Option<Found>, String> {
    let mut found = None;
    let mut places: Vec<Option<String>> = Vec::new();
    // Inside of sequences nothing is looked for; so deep.
    let mut sequences = 0_usize;
    for event in Parser::new_from_str(text) {
        let (event, span) =
            event.map_err(|error| format!("it is not YAML at line {}", error.marker().line()))?;
        let scalar = match event {
            Event::SequenceStart(..) => {
                sequences += 1;
                continue;
            }
            Event::MappingStart(..) if sequences > 0 => {
                sequences += 1;
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd if sequences > 1 => {
                sequences -= 1;
                continue;
            }
            Event::MappingStart(..) => {
                places.push(None);
                continue;
            }
            Event::SequenceEnd => {
                sequences = 0;
                String::new()
            }
            Event::MappingEnd => {
                places.pop();
                String::new()
            }
            Event::Scalar(said, style, ..) if sequences == 0 => {
                let here = places.len() == key.len()
                    && places
                        .iter()
                        .zip(key)
                        .all(|(place, key)| place.as_ref() == Some(key));
                let single = matches!(
                    style,
                    ScalarStyle::Plain | ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted
                );
                if here && single {
                    found = Some((span.start.index()..span.end.index(), said.to_string()));
                }
                said.into_owned()
            }
            Event::Alias(_) if sequences == 0 => String::new(),
            _ => continue,
        };
        // A value ends its key; anything else in a mapping is the next one.
        if let Some(place) = places.last_mut() {
            *place = match place {
                Some(_) => None,
                None => Some(scalar),
            };
        }
    }
    // The parser counts characters.
    let byte = |index: usize| text.char_indices().nth(index).map_or(text.len(), |(at, _)| at);
    Ok(found.map(|(at, value)| Found {
        at: byte(at.start)..byte(at.end),
        value,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Replaces one value and tells the text before, the value and the text after.
    fn edited(format: Format, text: &str, key: &str, value: &str) -> Option<(String, String)> {
        let key: Vec<_> = key.split('.').map(str::to_owned).collect();
        let found = find(format, text, &key).unwrap()?;
        let raw = &text[found.at.clone()];
        let mut new = text.to_owned();
        new.replace_range(found.at.clone(), &written(format, raw, value));
        let again = find(format, &new, &key).unwrap().unwrap();
        assert_eq!(again.value, value, "{new}");
        Some((found.value, new))
    }

    #[test]
    fn one_element_changes_and_nothing_else() {
        let text = "\u{feff}<Config>\r\n  <!-- Port -->\n\t<Port>8989</Port><BindAddress>a &amp; b</BindAddress>\n</Config>\n";
        let (before, new) = edited(Format::Xml, text, "Port", "9000").unwrap();
        assert_eq!((before.as_str(), new), ("8989", text.replace("8989", "9000")));
        let (before, new) = edited(Format::Xml, text, "BindAddress", "<&>").unwrap();
        assert_eq!(
            (before.as_str(), new),
            ("a & b", text.replace("a &amp; b", "&lt;&amp;&gt;"))
        );
        for key in ["SslPort", "Config", "Port.Port"] {
            assert_eq!(edited(Format::Xml, text, key, "1"), None, "{key}");
        }
        assert_eq!(
            edited(Format::Xml, "<C><Port/><List><a>1</a></List></C>", "Port", "1"),
            None
        );
        assert_eq!(
            edited(Format::Xml, "<C><List><a>1</a></List></C>", "List", "1"),
            None
        );
    }

    #[test]
    fn one_member_changes_and_nothing_else() {
        let text = "{\n    \"a\": { \"rpc-port\": 1, \"x\": [ \"}\", \"rpc-port\" ] },\n    \"rpc-bind-address\" : \"192.168.15.1\",\n  \"rpc-port\":9091 , \"q\\\"\": \"\\\\\" }\n";
        let (before, new) = edited(Format::Json, text, "rpc-bind-address", "0.0.0.0").unwrap();
        assert_eq!(
            (before.as_str(), new),
            ("192.168.15.1", text.replace("192.168.15.1", "0.0.0.0"))
        );
        let (before, new) = edited(Format::Json, text, "rpc-port", "9092").unwrap();
        assert_eq!((before.as_str(), new), ("9091", text.replace("9091", "9092")));
        let (before, _) = edited(Format::Json, text, "a.rpc-port", "2").unwrap();
        assert_eq!(before, "1");
        for key in ["none", "a", "a.x", "a.none", "rpc-port.x"] {
            assert_eq!(edited(Format::Json, text, key, "1"), None, "{key}");
        }
        let twice = r#"{"a":"1","a":"2"}"#;
        assert_eq!(
            edited(Format::Json, twice, "a", "3").unwrap().1,
            r#"{"a":"1","a":"3"}"#
        );
    }

    #[test]
    fn one_scalar_changes_and_nothing_else() {
        let text = "---\nauth:\n  apikey: ü # port: 1\nlist:\n- port: 2\n- [port, {general: {port: 3}}]\ngeneral:\n  ip: '*'\n  port: 6767   # why\n  base_url: \"/ä\"\n  path_mappings: []\nbackup:\n  folder: /var/lib/bazarr/backup\n";
        let (before, new) = edited(Format::Yaml, text, "general.port", "6768").unwrap();
        assert_eq!((before.as_str(), new), ("6767", text.replace("6767", "6768")));
        let (before, new) = edited(Format::Yaml, text, "general.ip", "127.0.0.1").unwrap();
        assert_eq!((before.as_str(), new), ("*", text.replace("'*'", "'127.0.0.1'")));
        let (before, new) = edited(Format::Yaml, text, "backup.folder", "/config/back'up").unwrap();
        assert_eq!(
            (before.as_str(), new),
            (
                "/var/lib/bazarr/backup",
                text.replace("/var/lib/bazarr/backup", "'/config/back''up'")
            )
        );
        let (before, _) = edited(Format::Yaml, text, "general.base_url", "/x").unwrap();
        assert_eq!(before, "/ä");
        for key in [
            "general",
            "general.path_mappings",
            "port",
            "list.port",
            "general.none",
        ] {
            assert_eq!(edited(Format::Yaml, text, key, "1"), None, "{key}");
        }
    }

    #[test]
    fn errors_keep_secrets() {
        for (format, text) in [
            (Format::Xml, "<Config><ApiKey>hidden</Config>"),
            (Format::Json, "{\"rpc-password\": hidden"),
            (Format::Yaml, "auth:\n  apikey: \"hidden"),
        ] {
            let error = find(format, text, &["x".to_owned()]).unwrap_err();
            assert!(error.contains("line") && !error.contains("hidden"), "{error}");
        }
    }
}
