//! `config/config.yaml`, rewritten at every start and at the end, so that edits while it runs are lost.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::standin::servarr::config::normal_base;
use crate::standin::yaml::Settings;
use crate::standin::{random_hex, replace};

const DEFAULTS: [(&str, &str, &str); 22] = [
    ("general", "ip", "'*'"),
    ("general", "port", "6767"),
    ("general", "base_url", "''"),
    ("general", "path_mappings", "[]"),
    ("general", "path_mappings_movie", "[]"),
    ("general", "use_sonarr", "false"),
    ("general", "use_radarr", "false"),
    ("auth", "type", "null"),
    ("auth", "username", "''"),
    ("auth", "password", "''"),
    ("sonarr", "ip", "127.0.0.1"),
    ("sonarr", "port", "8989"),
    ("sonarr", "base_url", "/"),
    ("sonarr", "ssl", "false"),
    ("sonarr", "apikey", "''"),
    ("sonarr", "series_sync", "60"),
    ("radarr", "ip", "127.0.0.1"),
    ("radarr", "port", "7878"),
    ("radarr", "base_url", "/"),
    ("radarr", "ssl", "false"),
    ("radarr", "apikey", "''"),
    ("radarr", "movies_sync", "60"),
];

/// The settings in memory.
#[derive(Debug, Clone)]
pub struct Config {
    path: PathBuf,
    settings: Settings,
}

impl Config {
    /// Reads, completes and rewrites the file below `directory`.
    pub fn load(directory: &Path) -> Result<Self, String> {
        let path = directory.join("config/config.yaml");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error.to_string()),
        };
        let mut settings = Settings::parse(&text)?;
        for (section, key, value) in DEFAULTS {
            settings.fill(section, key, value);
        }
        // Absolute, so that it is wrong once the directory has moved: the original's trap.
        settings.fill(
            "backup",
            "folder",
            &directory.join("backup").display().to_string(),
        );
        for (section, key) in [("auth", "apikey"), ("general", "flask_secret_key")] {
            if settings.get(section, key).is_none_or(str::is_empty) {
                settings.set(section, key, &random_hex(16).map_err(|error| error.to_string())?);
            }
        }
        if settings
            .get("general", "port")
            .is_none_or(|text| text.parse::<u16>().is_err())
        {
            settings.set("general", "port", "6767");
        }
        let config = Self { path, settings };
        config.save().map_err(|error| error.to_string())?;
        Ok(config)
    }

    /// Writes the file.
    pub fn save(&self) -> io::Result<()> {
        replace(&self.path, self.settings.to_string().as_bytes())
    }

    fn text(&self, section: &str, key: &str) -> &str {
        self.settings.get(section, key).unwrap_or_default()
    }

    /// `general.port`.
    pub fn port(&self) -> u16 {
        self.text("general", "port").parse().unwrap_or(6767)
    }

    /// `general.ip`.
    pub fn address(&self) -> &str {
        self.text("general", "ip")
    }

    /// `/x`, or empty.
    pub fn base_url(&self) -> String {
        normal_base(self.text("general", "base_url"))
    }

    /// `auth.apikey`.
    pub fn api_key(&self) -> &str {
        self.text("auth", "apikey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::standin::tests::Directory;

    #[test]
    fn a_new_file_is_complete() {
        let directory = Directory::new();
        directory.write("config/x", "");
        let config = Config::load(directory.path()).unwrap();
        assert_eq!(
            (
                config.port(),
                config.address(),
                config.base_url(),
                config.api_key().len()
            ),
            (6767, "*", String::new(), 32)
        );
        let text = directory.read("config/config.yaml");
        assert!(
            text.contains(&format!("  folder: {}/backup\n", directory.path().display())),
            "{text}"
        );
        assert_eq!(
            Config::load(directory.path()).unwrap().api_key(),
            config.api_key()
        );
    }

    #[test]
    fn keys_are_lower_cased_and_bad_values_replaced() {
        let directory = Directory::new();
        directory.write(
            "config/config.yaml",
            "auth:\n  apiKey: abc\ngeneral:\n  port: many\n  base_url: /subs/\n",
        );
        let config = Config::load(directory.path()).unwrap();
        assert_eq!(
            (config.api_key(), config.port(), config.base_url().as_str()),
            ("abc", 6767, "/subs")
        );
        assert!(directory.read("config/config.yaml").contains("  apikey: abc\n"));
    }
}
