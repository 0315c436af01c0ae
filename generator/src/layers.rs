//! A service's keys, looked up through the layers that describe it: the user's table, the chosen layout, the
//! catalogue's entry. Nothing is copied; the values have been checked before.

use std::time::Duration;

use crate::diagnostic::Span;
use crate::node::{Node, Table, Value};
use crate::value;

/// The layers, the strongest first.
#[derive(Clone, Copy, Default)]
pub struct Layers<'a> {
    /// What the user wrote.
    pub user: Option<&'a Table>,
    /// The layout that was chosen.
    pub layout: Option<&'a Table>,
    /// The catalogue's entry, or what is assumed of the image.
    pub base: Option<&'a Table>,
}

impl<'a> Layers<'a> {
    /// The layers that are there, the strongest first.
    pub fn each(self) -> impl DoubleEndedIterator<Item = &'a Table> {
        [self.user, self.layout, self.base].into_iter().flatten()
    }

    /// The layers below the user's.
    #[must_use]
    pub fn catalog(self) -> Self {
        Self { user: None, ..self }
    }

    /// The layers of a table below a key.
    #[must_use]
    pub fn below(self, key: &str) -> Self {
        let table = |layer: Option<&'a Table>| layer.and_then(|layer| layer.table(key));
        Self {
            user: table(self.user),
            layout: table(self.layout),
            base: table(self.base),
        }
    }

    /// The strongest value of a key.
    pub fn node(self, key: &str) -> Option<&'a Node> {
        self.each().find_map(|layer| layer.get(key))
    }

    /// Where the value of a key stands, when there is one.
    pub fn at(self, key: &str) -> Option<Span> {
        self.node(key).map(|node| node.at)
    }

    /// A text.
    pub fn text(self, key: &str) -> Option<&'a str> {
        self.node(key).and_then(text)
    }

    /// A text of one's own.
    pub fn owned(self, key: &str) -> Option<String> {
        self.text(key).map(str::to_owned)
    }

    /// A truth value.
    pub fn boolean(self, key: &str) -> Option<bool> {
        match self.node(key)?.value {
            Value::Boolean(it) => Some(it),
            _ => None,
        }
    }

    /// A number, in whatever width it is needed.
    pub fn number<T: TryFrom<i64>>(self, key: &str) -> Option<T> {
        self.node(key).and_then(number)
    }

    /// A time span.
    pub fn duration(self, key: &str) -> Option<Duration> {
        let node = self.node(key)?;
        match text(node) {
            Some(text) => value::duration(text).ok(),
            None => number(node).map(Duration::from_secs),
        }
    }

    /// The items of a list; a single value is a list of one.
    pub fn list(self, key: &str) -> Option<&'a [Node]> {
        let node = self.node(key)?;
        Some(match &node.value {
            Value::List(list) => list,
            _ => std::slice::from_ref(node),
        })
    }

    /// The texts of a list, as they stand there; none without the key.
    pub fn each_text(self, key: &str) -> impl Iterator<Item = &'a str> {
        self.list(key).unwrap_or_default().iter().filter_map(text)
    }

    /// The same as texts of one's own.
    pub fn texts(self, key: &str) -> Vec<String> {
        self.each_text(key).map(str::to_owned).collect()
    }
}

/// The text of a value.
pub fn text(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

/// The number of a value.
pub fn number<T: TryFrom<i64>>(node: &Node) -> Option<T> {
    match node.value {
        Value::Integer(number) => T::try_from(number).ok(),
        _ => None,
    }
}

/// The layers of an item of a list of tables.
pub fn item(node: &Node) -> Layers<'_> {
    match &node.value {
        Value::Table(table) => Layers {
            user: Some(table),
            ..Layers::default()
        },
        _ => Layers::default(),
    }
}
