//! Reads a machine's journal.

use super::Machine;
use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};

/// One entry with all its fields.
#[derive(Debug, Clone)]
pub struct Entry(Map<String, Value>);

impl Entry {
    /// A field as text; empty when it is not there.
    pub fn field(&self, name: &str) -> &str {
        self.0.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// The entry's message.
    pub fn message(&self) -> &str {
        self.field("MESSAGE")
    }
}

impl Machine {
    /// The entries that `journalctl` with these arguments shows, oldest first.
    pub fn journal(&self, arguments: &[&str]) -> Result<Vec<Entry>> {
        let words: Vec<&str> = ["journalctl", "--output=json", "--all", "--no-pager"]
            .iter()
            .chain(arguments)
            .copied()
            .collect();
        let output = self.run(&words)?;
        ensure!(output.good(), "journalctl {arguments:?}: {}", output.all());
        let lines = output.stdout.lines().filter(|line| line.starts_with('{'));
        lines
            .map(|line| serde_json::from_str(line).map(Entry).context("a journal entry"))
            .collect()
    }
}
