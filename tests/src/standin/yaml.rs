//! The two-level YAML of Bazarr's `config.yaml`: sections, and keys whose values are kept as they are written.
//!
//! ```text
//! general:
//!   port: 6767
//!   path_mappings: []
//! ```

/// Sections in order, each with its keys in order; a value holds the text behind the colon and further-indented lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    sections: Vec<(String, Vec<(String, String)>)>,
}

impl Settings {
    /// Reads a file; `Err` says which line is not of this form. Keys come out in lower case, as the original writes them.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut settings = Self::default();
        for (number, line) in text.lines().enumerate() {
            let wrong = || format!("line {}: {line:?} is not understood", number + 1);
            if line.trim().is_empty() || line.trim_start().starts_with('#') || line.trim_end() == "---" {
                continue;
            }
            let indent = line.len() - line.trim_start().len();
            if indent == 0 {
                let name = line.trim_end().strip_suffix(':').ok_or_else(wrong)?;
                settings.sections.push((name.to_lowercase(), Vec::new()));
                continue;
            }
            let (_, keys) = settings.sections.last_mut().ok_or_else(wrong)?;
            let nested = indent > 2 || line.trim_start().starts_with('-');
            if let (true, Some((_, value))) = (nested, keys.last_mut()) {
                value.push('\n');
                value.push_str(line);
            } else {
                let (name, value) = line.trim().split_once(':').ok_or_else(wrong)?;
                keys.push((name.to_lowercase(), value.trim().to_owned()));
            }
        }
        Ok(settings)
    }

    /// A value without its quotes.
    pub fn get(&self, section: &str, key: &str) -> Option<&str> {
        let (_, keys) = self.sections.iter().find(|(name, _)| name == section)?;
        let (_, value) = keys.iter().find(|(name, _)| name == key)?;
        let bare = ['\'', '"']
            .iter()
            .find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
        Some(bare.unwrap_or(value))
    }

    /// Sets a value; strings that YAML could take for something else are quoted by the caller.
    pub fn set(&mut self, section: &str, key: &str, value: &str) {
        if !self.sections.iter().any(|(name, _)| name == section) {
            self.sections.push((section.to_owned(), Vec::new()));
        }
        let Some((_, keys)) = self.sections.iter_mut().find(|(name, _)| name == section) else {
            return;
        };
        match keys.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => value.clone_into(old),
            None => keys.push((key.to_owned(), value.to_owned())),
        }
    }

    /// Sets a value unless there is one.
    pub fn fill(&mut self, section: &str, key: &str, value: &str) {
        if self.get(section, key).is_none() {
            self.set(section, key, value);
        }
    }
}

impl std::fmt::Display for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "---")?;
        for (name, keys) in &self.sections {
            writeln!(f, "{name}:")?;
            for (key, value) in keys {
                let gap = if value.is_empty() || value.starts_with('\n') {
                    ""
                } else {
                    " "
                };
                writeln!(f, "  {key}:{gap}{value}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_keeps_lists_and_quotes() {
        let text = "---\ngeneral:\n  base_url: ''\n  path_mappings:\n  - - /tv\n    - /shows\n  port: 6767\nsonarr:\n  apikey: ''\n";
        let settings = Settings::parse(text).unwrap();
        assert_eq!(
            (
                settings.get("general", "base_url"),
                settings.get("general", "port")
            ),
            (Some(""), Some("6767"))
        );
        assert_eq!(settings.to_string(), text);
    }

    #[test]
    fn keys_become_lower_case_and_defaults_fill_in() {
        let mut settings = Settings::parse("Auth:\n  ApiKey: abc\n").unwrap();
        settings.fill("auth", "apikey", "other");
        settings.fill("general", "port", "6767");
        assert_eq!(
            settings.to_string(),
            "---\nauth:\n  apikey: abc\ngeneral:\n  port: 6767\n"
        );
    }

    #[test]
    fn what_is_not_yaml_of_this_kind() {
        assert!(Settings::parse("[general]\nport = 6767\n").is_err());
        assert!(Settings::parse("  port: 1\n").is_err());
    }
}
