//! Values as they were written, TOML or JSON alike, each with its place.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jsonc_parser::ast as json;
use toml::de::{DeTable, DeValue};

use crate::diagnostic::{Diagnostic, Severity, Sources, Span};

/// A text that was read, or one that is compiled in.
pub type Text = Cow<'static, str>;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Its place.
    pub at: Span,
    /// What is written there.
    pub value: Value,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Text.
    Text(Text),
    /// A whole number.
    Integer(i64),
    /// A truth value.
    Boolean(bool),
    /// A list.
    List(Cow<'static, [Node]>),
    /// A table.
    Table(Table),
    /// What no key takes: fractions, dates, JSON's null, whole numbers beyond 64 bits; with its name for messages.
    Other(&'static str),
}

impl Value {
    /// What people call it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a text",
            Self::Integer(_) => "a number",
            Self::Boolean(_) => "a boolean",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other(name) => name,
        }
    }
}

/// A table: keys in order, each with its own place. It is looked into far more often than it is changed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table(pub(crate) Cow<'static, [(Text, Entry)]>);

/// A key of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Place of the key itself.
    pub key_at: Span,
    /// Its value.
    pub node: Node,
}

/// In tables up to this size the keys are gone through one by one: most differ in length already.
const SMALL: usize = 32;

impl Table {
    /// A table that is compiled in; its keys are in order.
    pub const fn fixed(entries: &'static [(Text, Entry)]) -> Self {
        Self(Cow::Borrowed(entries))
    }

    fn of_entries(mut entries: Vec<(Text, Entry)>) -> Self {
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        Self(Cow::Owned(entries))
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.node)
    }

    /// The whole entry of a key.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        let found = if self.0.len() <= SMALL {
            self.0.iter().find(|(name, _)| *name == key)
        } else {
            self.0.get(self.find(key).ok()?)
        };
        found.map(|(_, entry)| entry)
    }

    /// Where the key is, or where it would be.
    fn find(&self, key: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(name, _)| name.as_ref().cmp(key))
    }

    /// The table below a key, when it is one.
    pub fn table(&self, key: &str) -> Option<&Self> {
        match self.get(key) {
            Some(Node {
                value: Value::Table(table),
                ..
            }) => Some(table),
            _ => None,
        }
    }

    /// A table with one entry.
    pub fn of(key: &str, entry: Entry) -> Self {
        Self(Cow::Owned(vec![(key.to_owned().into(), entry)]))
    }

    /// All keys in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.0.iter().map(|(key, entry)| (key.as_ref(), entry))
    }

    /// The same without these keys.
    #[must_use]
    pub fn without(&self, keys: &[&str]) -> Self {
        let kept = self.0.iter().filter(|(key, _)| !keys.contains(&key.as_ref()));
        Self(Cow::Owned(kept.cloned().collect()))
    }

    /// Puts `over` on top: tables are merged key by key, everything else is replaced.
    pub fn merge(&mut self, over: Self) {
        if self.0.is_empty() {
            *self = over;
            return;
        }
        for (key, mut entry) in over.0.into_owned() {
            let place = self.find(&key);
            let entries = self.0.to_mut();
            let below = place.ok().and_then(|at| entries.get_mut(at));
            match (below, place) {
                (Some((_, below)), _) => {
                    if let (Value::Table(table), Value::Table(above)) =
                        (&mut below.node.value, &mut entry.node.value)
                    {
                        table.merge(std::mem::take(above));
                        below.key_at = entry.key_at;
                    } else {
                        *below = entry;
                    }
                }
                (None, Ok(at) | Err(at)) => entries.insert(at, (key, entry)),
            }
        }
    }
}

/// What came of a file: the table, as far as it could be read, and the syntax errors.
pub struct Parsed {
    /// Everything that was understood.
    pub table: Table,
    /// The errors, in the order of the text.
    pub errors: Vec<(Span, String)>,
}

impl Parsed {
    /// The errors as diagnostics.
    pub fn diagnostics(&self, sources: &Sources) -> Vec<Diagnostic> {
        self.errors
            .iter()
            .map(|(at, problem)| sources.at(*at, Severity::Error, problem.clone(), None))
            .collect()
    }
}

/// Reads a TOML text; goes on behind an error, so that all of them are found in one run.
pub fn parse_toml(text: &str, file: u32) -> Parsed {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut errors: Vec<_> = errors
        .into_iter()
        .map(|error| {
            let at = error.span().unwrap_or(0..0);
            (span(file, at), error.message().replace('\n', ", "))
        })
        .collect();
    errors.sort_by_key(|(at, _)| at.start);
    Parsed {
        table: toml_table(table.into_inner(), file),
        errors,
    }
}

fn toml_table(table: DeTable<'_>, file: u32) -> Table {
    let entries = table.into_iter().map(|(key, value)| {
        let key_at = span(file, key.span());
        let node = Node {
            at: span(file, value.span()),
            value: toml_value(value.into_inner(), file),
        };
        (key.into_inner().into_owned().into(), Entry { key_at, node })
    });
    Table::of_entries(entries.collect())
}

fn toml_value(value: DeValue<'_>, file: u32) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.into_owned().into()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Value::Other("a number beyond 64 bits"), Value::Integer),
        DeValue::Float(_) => Value::Other("a fraction"),
        DeValue::Boolean(it) => Value::Boolean(it),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Array(list) => Value::List(
            list.into_iter()
                .map(|item| Node {
                    at: span(file, item.span()),
                    value: toml_value(item.into_inner(), file),
                })
                .collect(),
        ),
        DeValue::Table(table) => Value::Table(toml_table(table, file)),
    }
}

/// Reads a JSON text (RFC 8259, nothing more).
pub fn parse_json(text: &str, file: u32) -> Parsed {
    let strict = jsonc_parser::ParseOptions {
        allow_comments: false,
        allow_loose_object_property_names: false,
        allow_trailing_commas: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    };
    let failed = |at: std::ops::Range<usize>, problem: String| Parsed {
        table: Table::default(),
        errors: vec![(span(file, at), problem)],
    };
    match jsonc_parser::parse_to_ast(text, &jsonc_parser::CollectOptions::default(), &strict) {
        Err(error) => failed(
            error.range().start..error.range().end,
            lower_first(&error.kind().to_string()),
        ),
        Ok(jsonc_parser::ParseResult {
            value: Some(json::Value::Object(object)),
            ..
        }) => {
            let mut errors = Vec::new();
            let table = json_table(object, file, &mut errors);
            Parsed { table, errors }
        }
        Ok(_) => failed(0..1, "the file must hold one JSON object".into()),
    }
}

fn json_table(object: json::Object<'_>, file: u32, errors: &mut Vec<(Span, String)>) -> Table {
    let mut table = BTreeMap::new();
    for property in object.properties {
        let at = match &property.name {
            json::ObjectPropName::String(text) => text.range,
            json::ObjectPropName::Word(word) => word.range,
        };
        let key_at = span(file, at.start..at.end);
        let key = property.name.into_string();
        let node = json_node(property.value, file, errors);
        // RFC 8259 leaves duplicate names open; TOML refuses them, and so do we.
        if table.contains_key(&key) {
            errors.push((key_at, format!("duplicate key `{key}`")));
        }
        table.insert(key, Entry { key_at, node });
    }
    Table::of_entries(
        table
            .into_iter()
            .map(|(key, entry)| (key.into(), entry))
            .collect(),
    )
}

fn json_node(value: json::Value<'_>, file: u32, errors: &mut Vec<(Span, String)>) -> Node {
    let (at, value) = match value {
        json::Value::StringLit(text) => (text.range, Value::Text(text.value.into_owned().into())),
        json::Value::NumberLit(number) => (
            number.range,
            number
                .value
                .parse()
                .map_or(Value::Other("a fraction"), Value::Integer),
        ),
        json::Value::BooleanLit(it) => (it.range, Value::Boolean(it.value)),
        json::Value::Object(object) => (object.range, Value::Table(json_table(object, file, errors))),
        json::Value::Array(list) => (
            list.range,
            Value::List(
                list.elements
                    .into_iter()
                    .map(|item| json_node(item, file, errors))
                    .collect(),
            ),
        ),
        json::Value::NullKeyword(it) => (it.range, Value::Other("null")),
    };
    Node {
        at: span(file, at.start..at.end),
        value,
    }
}

fn span(file: u32, at: std::ops::Range<usize>) -> Span {
    let offset = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    Span {
        file,
        start: offset(at.start),
        end: offset(at.end),
    }
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(table: &Table, key: &str) -> String {
        match table.get(key) {
            Some(Node {
                value: Value::Text(text),
                ..
            }) => text.to_string(),
            other => panic!("{key}: {other:?}"),
        }
    }

    #[test]
    fn toml_and_json_become_the_same_values() {
        let toml = parse_toml("[a]\nb = 'x'\nc = [1, true]\n", 0);
        let json = parse_json(r#"{"a": {"b": "x", "c": [1, true]}}"#, 0);
        for parsed in [toml, json] {
            assert!(parsed.errors.is_empty());
            let a = parsed.table.table("a").unwrap();
            assert_eq!(text(a, "b"), "x");
            assert!(matches!(&a.get("c").unwrap().value, Value::List(list) if list.len() == 2));
        }
    }

    #[test]
    fn all_syntax_errors_are_found_with_their_places() {
        let parsed = parse_toml("a = \nb = 1\nc = 'x\nd = 2\n", 3);
        assert!(parsed.errors.len() >= 2, "{:?}", parsed.errors);
        assert!(parsed.errors.iter().all(|(at, _)| at.file == 3));
        assert!(matches!(parsed.table.get("d").unwrap().value, Value::Integer(2)));
    }

    #[test]
    fn json_that_is_none_is_refused() {
        for text in [
            "",
            "[]",
            "{",
            "{'a':1}",
            "{\"a\":1,}",
            "{\"a\":1,\"a\":2}",
            "{} {}",
            "{a:1}",
            "// x\n{}",
        ] {
            assert!(!parse_json(text, 0).errors.is_empty(), "{text}");
        }
        let deep = "[".repeat(100_000);
        assert!(!parse_json(&deep, 0).errors.is_empty());
        assert!(!parse_toml(&format!("a = {deep}"), 0).errors.is_empty());
    }

    #[test]
    fn merging_goes_deep_and_later_wins() {
        let mut base = parse_toml("[a]\nx = '1'\ny = '1'\n", 0).table;
        base.merge(parse_toml("[a]\ny = '2'\n", 1).table);
        let a = base.table("a").unwrap();
        assert_eq!((text(a, "x"), text(a, "y")), ("1".into(), "2".into()));
        assert_eq!(a.get("y").unwrap().at.file, 1);
        base.merge(parse_toml("a = 'z'\n", 2).table);
        assert_eq!(text(&base, "a"), "z");
    }
}
