//! `network.xml` and `system.xml`, and the smaller files of the configuration directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::standin::replace;
use crate::standin::servarr::config::normal_base;
use crate::standin::xml::Document;

const NETWORK: [(&str, &str); 14] = [
    ("BaseUrl", ""),
    ("EnableHttps", "false"),
    ("RequireHttps", "false"),
    ("CertificatePath", ""),
    ("InternalHttpPort", "8096"),
    ("InternalHttpsPort", "8920"),
    ("PublicHttpPort", "8096"),
    ("PublicHttpsPort", "8920"),
    ("AutoDiscovery", "true"),
    ("EnableIPv4", "true"),
    ("EnableIPv6", "false"),
    ("EnableRemoteAccess", "true"),
    ("LocalNetworkSubnets", ""),
    ("LocalNetworkAddresses", ""),
];

const SYSTEM: [(&str, &str); 6] = [
    ("EnableMetrics", "false"),
    ("IsStartupWizardCompleted", "false"),
    ("CachePath", ""),
    ("MetadataPath", ""),
    ("ServerName", ""),
    ("PreviousVersionStr", ""),
];

const OTHERS: [(&str, &str); 3] = [
    (
        "encoding.xml",
        "<EncodingOptions>\n  <TranscodingTempPath></TranscodingTempPath>\n  <EncoderAppPath></EncoderAppPath>\n</EncodingOptions>\n",
    ),
    (
        "database.xml",
        "<DatabaseConfigurationOptions>\n  <DatabaseType>Jellyfin-SQLite</DatabaseType>\n  <LockingBehavior>NoLock</LockingBehavior>\n</DatabaseConfigurationOptions>\n",
    ),
    (
        "logging.default.json",
        "{\"Serilog\": {\"MinimumLevel\": {\"Default\": \"Information\"}}}\n",
    ),
];

/// The settings in memory; what is on disk is overwritten when they are saved.
#[derive(Debug, Clone)]
pub struct Config {
    directory: PathBuf,
    network: Document,
    system: Document,
}

impl Config {
    /// Reads the directory. A file that cannot be understood is replaced by the defaults, as the original does.
    pub fn load(directory: &Path, version: &str) -> io::Result<Self> {
        let read = |file: &str, root: &str, defaults: &[(&str, &str)]| {
            let text = fs::read_to_string(directory.join(file)).unwrap_or_default();
            let mut document = Document::parse(root, &text).unwrap_or_else(|_| Document::new(root));
            for (name, value) in defaults {
                document.fill(name, value);
            }
            document
        };
        let mut config = Self {
            network: read("network.xml", "NetworkConfiguration", &NETWORK),
            system: read("system.xml", "ServerConfiguration", &SYSTEM),
            directory: directory.to_owned(),
        };
        config.system.set("PreviousVersionStr", version);
        for (file, text) in OTHERS {
            let path = directory.join(file);
            if !path.exists() {
                fs::write(path, text)?;
            }
        }
        config.save()?;
        Ok(config)
    }

    /// Writes both files.
    pub fn save(&self) -> io::Result<()> {
        for (file, document) in [("network.xml", &self.network), ("system.xml", &self.system)] {
            replace(
                &self.directory.join(file),
                format!("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n{document}").as_bytes(),
            )?;
        }
        Ok(())
    }

    /// The HTTP port.
    pub fn port(&self) -> u16 {
        self.network
            .get("InternalHttpPort")
            .and_then(|text| text.parse().ok())
            .unwrap_or(8096)
    }

    /// `/x`, or empty.
    pub fn base_url(&self) -> String {
        normal_base(self.network.get("BaseUrl").unwrap_or_default())
    }

    /// Whether the first-run questions have been answered.
    pub fn wizard_completed(&self) -> bool {
        self.system.get("IsStartupWizardCompleted") == Some("true")
    }

    /// Remembers that they have.
    pub fn complete_wizard(&mut self) -> io::Result<()> {
        self.system.set("IsStartupWizardCompleted", "true");
        self.save()
    }

    /// The server's name, the machine's unless it was given one.
    pub fn server_name(&self) -> String {
        match self.system.get("ServerName") {
            Some("") | None => fs::read_to_string("/proc/sys/kernel/hostname")
                .map_or_else(|_| "jellyfin".to_owned(), |name| name.trim().to_owned()),
            Some(name) => name.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::standin::tests::Directory;

    #[test]
    fn defaults_are_written_and_settings_are_kept() {
        let directory = Directory::new();
        let config = Config::load(directory.path(), "10.11.0").unwrap();
        assert_eq!(
            (config.port(), config.base_url(), config.wizard_completed()),
            (8096, String::new(), false)
        );
        let text = directory
            .read("network.xml")
            .replace(">8096<", ">9000<")
            .replace("<BaseUrl></BaseUrl>", "<BaseUrl>video</BaseUrl>");
        directory.write("network.xml", &text);
        let mut config = Config::load(directory.path(), "10.11.0").unwrap();
        assert_eq!((config.port(), config.base_url().as_str()), (9000, "/video"));
        config.complete_wizard().unwrap();
        assert!(
            Config::load(directory.path(), "10.11.0")
                .unwrap()
                .wizard_completed()
        );
    }

    #[test]
    fn a_broken_file_becomes_the_defaults() {
        let directory = Directory::new();
        directory.write("network.xml", "<NetworkConfiguration><InternalHttpPort>9000");
        assert_eq!(Config::load(directory.path(), "10.11.0").unwrap().port(), 8096);
        assert!(directory.read("network.xml").contains("<InternalHttpPort>8096<"));
    }
}
