//! A tree of values with its keys in order, and its two printed forms: TOML and JSON.

use std::fmt::Write as _;

use serde::ser::{Serialize, SerializeMap as _, Serializer};

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tree {
    /// Text.
    Text(String),
    /// A whole number.
    Number(u64),
    /// A truth value.
    Boolean(bool),
    /// A list.
    List(Vec<Tree>),
    /// Keys and values, in the order in which they are shown.
    Table(Vec<(String, Tree)>),
}

impl From<&str> for Tree {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<&String> for Tree {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}

impl From<bool> for Tree {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

impl<T: Into<Self>> From<Vec<T>> for Tree {
    fn from(list: Vec<T>) -> Self {
        Self::List(list.into_iter().map(Into::into).collect())
    }
}

impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Number(number) => serializer.serialize_u64(*number),
            Self::Boolean(value) => serializer.serialize_bool(*value),
            Self::List(list) => serializer.collect_seq(list),
            Self::Table(table) => {
                let mut map = serializer.serialize_map(Some(table.len()))?;
                for (key, value) in table {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}

impl Tree {
    /// A table from pairs.
    pub fn table<const N: usize>(pairs: [(&str, Self); N]) -> Self {
        Self::Table(
            pairs
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
        )
    }

    /// The tree as a TOML file. Tables down to the depth of a service have headers; deeper ones are written inline.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        if let Self::Table(table) = self {
            section(&mut text, "", table, 0);
        }
        text
    }
}

/// How deep tables get a header of their own: `[services]`, `[services.sonarr]`.
const HEADERS: usize = 2;

fn section(text: &mut String, path: &str, table: &[(String, Tree)], depth: usize) {
    let own_header = |value: &Tree| matches!(value, Tree::Table(_)) && depth < HEADERS;
    let values: Vec<_> = table.iter().filter(|(_, value)| !own_header(value)).collect();
    if !path.is_empty() && !values.is_empty() {
        let gap = if text.is_empty() { "" } else { "\n" };
        let _ = writeln!(text, "{gap}[{path}]");
    }
    for (name, value) in values {
        let _ = writeln!(text, "{} = {}", key(name), inline(value));
    }
    for (name, value) in table {
        if let (Tree::Table(inner), true) = (value, own_header(value)) {
            let dot = if path.is_empty() { "" } else { "." };
            section(text, &format!("{path}{dot}{}", key(name)), inner, depth + 1);
        }
    }
}

/// A key, bare where TOML allows it.
fn key(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if !name.is_empty() && name.chars().all(bare) {
        name.to_owned()
    } else {
        quoted(name)
    }
}

fn inline(value: &Tree) -> String {
    let join = |parts: Vec<String>| parts.join(", ");
    match value {
        Tree::Text(text) => quoted(text),
        Tree::Number(number) => number.to_string(),
        Tree::Boolean(value) => value.to_string(),
        Tree::List(list) => format!("[{}]", join(list.iter().map(inline).collect())),
        Tree::Table(table) if table.is_empty() => "{}".to_owned(),
        Tree::Table(table) => {
            let pairs = table
                .iter()
                .map(|(name, value)| format!("{} = {}", key(name), inline(value)));
            format!("{{ {} }}", join(pairs.collect()))
        }
    }
}

/// A basic string of TOML (<https://toml.io/en/v1.0.0#string>).
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_carry_every_byte_and_keep_the_order() {
        let service = Tree::table([
            ("port", Tree::Number(8989)),
            (
                "environment",
                Tree::table([("A.B", Tree::from("say \"hi\"\\\n\u{7f}"))]),
            ),
            ("wants", Tree::from(vec!["prowlarr", "transmission"])),
            ("init", Tree::from(false)),
        ]);
        let tree = Tree::table([("services", Tree::table([("sonarr", service)]))]);
        let text = tree.to_toml();
        assert_eq!(
            text,
            "\
[services.sonarr]
port = 8989
environment = { \"A.B\" = \"say \\\"hi\\\"\\\\\\n\\u007F\" }
wants = [\"prowlarr\", \"transmission\"]
init = false
"
        );
        let json = serde_json::to_string(&tree).unwrap();
        assert!(
            json.starts_with(r#"{"services":{"sonarr":{"port":8989,"environment":{"A.B":"say \"hi\""#),
            "{json}"
        );
        let parsed = dagger_suite::node::parse_toml(&text, 0);
        assert!(parsed.errors.is_empty(), "{:?}", parsed.errors);
    }
}
