//! The flat XML that the applications keep their settings in: one root, one level of elements.
//!
//! `config.xml` (Servarr) and `network.xml`, `system.xml` (Jellyfin) have no deeper structure that matters here; nested
//! markup inside an element is carried along as it stands.

use std::fmt;

/// One document: the root's name and its elements in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    root: String,
    elements: Vec<(String, Value)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Text(String),
    /// Markup that is written back untouched.
    Raw(String),
}

/// Why a text is not such a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed(pub String);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Document {
    /// A document without elements.
    pub fn new(root: &str) -> Self {
        Self {
            root: root.to_owned(),
            elements: Vec::new(),
        }
    }

    /// Reads `text`, whose root must be exactly one element `root`.
    pub fn parse(root: &str, text: &str) -> Result<Self, Malformed> {
        let text = without_prolog(text)?;
        let (name, body, rest) = element(text)?;
        if name != root {
            return Err(Malformed(format!("the root is <{name}>, not <{root}>")));
        }
        if !rest.trim().is_empty() {
            return Err(Malformed(format!("something follows </{root}>")));
        }
        let mut document = Self::new(root);
        let mut left = without_comments(body)?;
        while !left.trim().is_empty() {
            let (name, inner, rest) = element(left.trim_start())?;
            let value = if inner.contains('<') {
                Value::Raw(inner.to_owned())
            } else {
                Value::Text(unescape(inner))
            };
            document.elements.push((name.to_owned(), value));
            left = rest.to_owned();
        }
        Ok(document)
    }

    /// The trimmed text of `name`, when exactly one such element is there.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut found = self.elements.iter().filter(|(known, _)| known == name);
        match (found.next(), found.next()) {
            (Some((_, Value::Text(text))), None) => Some(text.trim()),
            _ => None,
        }
    }

    /// Replaces the element `name`, or adds it at the end.
    pub fn set(&mut self, name: &str, text: &str) {
        let value = Value::Text(text.to_owned());
        match self.elements.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.elements.push((name.to_owned(), value)),
        }
    }

    /// Adds `name` with `text` unless it is there.
    pub fn fill(&mut self, name: &str, text: &str) {
        if !self.elements.iter().any(|(known, _)| known == name) {
            self.set(name, text);
        }
    }

    /// Keeps only the elements whose name `keep` accepts.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.elements.retain(|(name, _)| keep(name));
    }
}

impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "<{}>", self.root)?;
        for (name, value) in &self.elements {
            match value {
                Value::Text(text) if text.is_empty() => writeln!(f, "  <{name}></{name}>")?,
                Value::Text(text) => writeln!(f, "  <{name}>{}</{name}>", escape(text))?,
                Value::Raw(raw) => writeln!(f, "  <{name}>{raw}</{name}>")?,
            }
        }
        writeln!(f, "</{}>", self.root)
    }
}

fn without_prolog(text: &str) -> Result<&str, Malformed> {
    let mut text = text.trim_start_matches('\u{feff}').trim_start();
    for (open, close) in [("<?", "?>"), ("<!--", "-->")] {
        while text.starts_with(open) {
            let end = text
                .find(close)
                .ok_or_else(|| Malformed(format!("{open} is never closed")))?;
            text = text.get(end + close.len()..).unwrap_or_default().trim_start();
        }
    }
    Ok(text)
}

fn without_comments(body: &str) -> Result<String, Malformed> {
    let mut out = String::new();
    let mut left = body;
    while let Some((before, after)) = left.split_once("<!--") {
        out.push_str(before);
        left = after
            .split_once("-->")
            .ok_or_else(|| Malformed("<!-- is never closed".to_owned()))?
            .1;
    }
    out.push_str(left);
    Ok(out)
}

/// Splits one element off the front: name, inner text, rest.
fn element(text: &str) -> Result<(&str, &str, &str), Malformed> {
    let after = text
        .strip_prefix('<')
        .ok_or_else(|| Malformed("an element was expected".to_owned()))?;
    let (tag, rest) = after
        .split_once('>')
        .ok_or_else(|| Malformed("a tag is never closed".to_owned()))?;
    let name = tag
        .trim_end_matches('/')
        .split_whitespace()
        .next()
        .unwrap_or_default();
    if name.is_empty()
        || !name
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':'))
    {
        return Err(Malformed(format!("<{tag}> is not a tag")));
    }
    if tag.ends_with('/') {
        return Ok((name, "", rest));
    }
    let close = format!("</{name}>");
    let (inner, rest) = rest
        .split_once(&close)
        .ok_or_else(|| Malformed(format!("<{name}> is never closed")))?;
    Ok((name, inner, rest))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn unescape(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_keeps_order_text_and_nested_markup() {
        let text = "<Config>\n  <Port>8989</Port>\n  <Name>a &amp; b</Name>\n  <List><string>x</string></List>\n  <Empty></Empty>\n</Config>\n";
        let document = Document::parse("Config", text).unwrap();
        assert_eq!(document.get("Name"), Some("a & b"));
        assert_eq!(document.get("Empty"), Some(""));
        assert_eq!(document.to_string(), text);
    }

    #[test]
    fn declaration_comments_and_short_form_are_read() {
        let text = "<?xml version=\"1.0\"?>\n<!-- x -->\n<Config a=\"b\"><!-- <Port>1</Port> --><UrlBase /></Config>";
        let document = Document::parse("Config", text).unwrap();
        assert_eq!((document.get("Port"), document.get("UrlBase")), (None, Some("")));
    }

    #[test]
    fn anything_else_is_malformed() {
        for text in [
            "",
            "\0\0\0",
            "<Other></Other>",
            "<Config>",
            "<Config></Config><Config></Config>",
            "<Config><Port>1</Config>",
        ] {
            assert!(Document::parse("Config", text).is_err(), "{text:?}");
        }
    }
}
