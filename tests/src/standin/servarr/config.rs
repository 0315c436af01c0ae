//! `config.xml` and what the environment puts over it.
//!
//! Two views differ on purpose, as in the originals: the *application's* (`SONARR__SERVER__PORT`, then the file) and the
//! *listener's*, which falls back to bare names: a variable `PORT` moves the port while the application believes its file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Application;
use crate::standin::options::Environment;
use crate::standin::random_hex;
use crate::standin::xml::Document;

/// Every element that this version knows; others are taken out at start.
const KNOWN: [&str; 40] = [
    "BindAddress",
    "Port",
    "SslPort",
    "EnableSsl",
    "LaunchBrowser",
    "AuthenticationMethod",
    "AuthenticationRequired",
    "AnalyticsEnabled",
    "LogLevel",
    "ConsoleLogLevel",
    "ConsoleLogFormat",
    "LogSql",
    "LogRotate",
    "LogSizeLimit",
    "FilterSentryEvents",
    "Branch",
    "ApiKey",
    "SslCertPath",
    "SslCertPassword",
    "UrlBase",
    "UiFolder",
    "InstanceName",
    "UpdateAutomatically",
    "UpdateMechanism",
    "UpdateScriptPath",
    "SyslogServer",
    "SyslogPort",
    "SyslogLevel",
    "LogDbEnabled",
    "Theme",
    "PostgresHost",
    "PostgresPort",
    "PostgresUser",
    "PostgresPassword",
    "PostgresMainDb",
    "PostgresLogDb",
    "PostgresMainDbConnectionString",
    "PostgresLogDbConnectionString",
    "TrustCgnatIpAddresses",
    "WhitelistedHosts",
];

/// Elements that are written with their default when they are missing and the environment does not set them.
const PERSISTED: [(&str, &str, &str); 9] = [
    ("BindAddress", "SERVER__BINDADDRESS", "*"),
    ("SslPort", "SERVER__SSLPORT", "9898"),
    ("EnableSsl", "SERVER__ENABLESSL", "False"),
    ("LaunchBrowser", "APP__LAUNCHBROWSER", "True"),
    ("AuthenticationRequired", "AUTH__REQUIRED", "Enabled"),
    ("Branch", "UPDATE__BRANCH", "main"),
    ("LogLevel", "LOG__LEVEL", "debug"),
    ("SslCertPath", "SERVER__SSLCERTPATH", ""),
    ("UrlBase", "SERVER__URLBASE", ""),
];

/// The settings in force.
#[derive(Debug, Clone)]
pub struct Config {
    path: PathBuf,
    document: Document,
    /// The key that the API asks for.
    pub api_key: String,
    /// `/x`, or empty.
    pub url_base: String,
    /// What the application believes.
    pub port: u16,
    /// What is really listened on.
    pub listen_port: u16,
    /// `*` or an address.
    pub listen_address: String,
    /// `None`, `Basic`, `Forms`, `External`.
    pub authentication: String,
    /// The name in status answers.
    pub instance_name: String,
}

impl Config {
    /// Reads and repairs the file; `Err` is the text of a failed start.
    pub fn load(application: &Application, state: &Path, environment: &Environment) -> Result<Self, String> {
        let path = state.join("config.xml");
        let mut document = read(&path)?;
        let prefix = application.name.to_uppercase();
        let variable = |key: &str| {
            environment
                .get_any_case(&format!("{prefix}__{key}"))
                .map(str::to_owned)
        };
        document.retain(|name| KNOWN.contains(&name));
        for (element, key, default) in PERSISTED {
            if variable(key).is_none() {
                document.fill(element, default);
            }
        }
        let random = random_hex(16).map_err(|error| error.to_string())?;
        let default_port = application.port.to_string();
        let mut setting = |element: &str, key: &str, default: &str| {
            variable(key).unwrap_or_else(|| {
                document.fill(element, default);
                document.get(element).unwrap_or(default).to_owned()
            })
        };
        let port = number(&setting("Port", "SERVER__PORT", &default_port))?;
        let api_key = setting("ApiKey", "AUTH__APIKEY", &random);
        let instance_name = setting("InstanceName", "APP__INSTANCENAME", application.name);
        let mut authentication = setting("AuthenticationMethod", "AUTH__METHOD", "None");
        if application.basic_becomes_forms && authentication == "Basic" {
            "Forms".clone_into(&mut authentication);
            document.set("AuthenticationMethod", "Forms");
        }
        let url_base = variable("SERVER__URLBASE").or_else(|| document.get("UrlBase").map(str::to_owned));
        let listener = |key: &str, bare: &str, default: &str| {
            let leaked = environment.get_any_case(bare).or_else(|| document.get(bare));
            variable(key)
                .or_else(|| leaked.map(str::to_owned))
                .unwrap_or_else(|| default.to_owned())
        };
        let config = Self {
            listen_port: number(&listener("SERVER__PORT", "Port", &default_port))?,
            listen_address: listener("SERVER__BINDADDRESS", "BindAddress", "*"),
            path,
            api_key: if api_key.is_empty() { random } else { api_key },
            url_base: normal_base(&url_base.unwrap_or_default()),
            port,
            authentication,
            instance_name,
            document,
        };
        config.with_key(variable("AUTH__APIKEY").is_none())
    }

    /// A key that was empty in the file is written back, one from the environment never.
    fn with_key(mut self, own: bool) -> Result<Self, String> {
        if own {
            self.document.set("ApiKey", &self.api_key);
        }
        self.save()
            .map_err(|error| format!("{}: {error}", self.path.display()))?;
        Ok(self)
    }

    /// Writes the file, whole or not at all.
    pub fn save(&self) -> io::Result<()> {
        crate::standin::replace(&self.path, self.document.to_string().as_bytes())
    }
}

fn read(path: &Path) -> Result<Document, String> {
    match fs::read_to_string(path) {
        Ok(text) => parse(&text, path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Document::new("Config")),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

fn parse(text: &str, path: &Path) -> Result<Document, String> {
    if text.trim().is_empty() {
        return Err(format!(
            "{} is empty. Please delete the config file and the application will recreate it.",
            path.display()
        ));
    }
    if text.chars().all(char::is_control) {
        return Err(format!(
            "{} is corrupt. Please delete the config file and the application will recreate it.",
            path.display()
        ));
    }
    Document::parse("Config", text)
        .map_err(|error| format!("{} is corrupt and cannot be read: {error}", path.display()))
}

fn number(text: &str) -> Result<u16, String> {
    text.parse()
        .map_err(|_| format!("Input string {text:?} was not in a correct format."))
}

/// `x`, `/x` and `/x/` are all `/x`.
pub fn normal_base(text: &str) -> String {
    let text = text.trim().trim_matches('/');
    if text.is_empty() {
        String::new()
    } else {
        format!("/{text}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::standin::servarr::FAMILY;
    use crate::standin::tests::Directory;

    fn load(directory: &Directory, environment: impl Into<Environment>) -> Result<Config, String> {
        Config::load(&FAMILY[0], directory.path(), &environment.into())
    }

    #[test]
    fn a_new_file_has_the_defaults_and_a_random_key() {
        let directory = Directory::new();
        let config = load(&directory, []).unwrap();
        let text = directory.read("config.xml");
        assert_eq!(
            (config.port, config.listen_port, config.api_key.len()),
            (8989, 8989, 32)
        );
        assert!(
            text.starts_with("<Config>\n") && text.contains("<Port>8989</Port>"),
            "{text}"
        );
        assert!(text.contains(&format!("<ApiKey>{}</ApiKey>", config.api_key)));
        assert_eq!(load(&directory, []).unwrap().api_key, config.api_key);
    }

    #[test]
    fn unknown_elements_are_deleted_at_start() {
        let directory = Directory::new();
        directory.write(
            "config.xml",
            "<Config><Port>1234</Port><FromTheFuture>x</FromTheFuture></Config>",
        );
        assert_eq!(load(&directory, []).unwrap().port, 1234);
        assert!(!directory.read("config.xml").contains("FromTheFuture"));
    }

    #[test]
    fn environment_wins_in_any_case_and_is_never_written() {
        let directory = Directory::new();
        let config = load(
            &directory,
            [
                ("SONARR__SERVER__PORT", "8990"),
                ("Sonarr__Auth__ApiKey", "k"),
                ("SONARR__SERVER__URLBASE", "tv/"),
            ],
        )
        .unwrap();
        assert_eq!(
            (
                config.port,
                config.listen_port,
                config.api_key.as_str(),
                config.url_base.as_str()
            ),
            (8990, 8990, "k", "/tv")
        );
        let text = directory.read("config.xml");
        assert!(
            !text.contains("<Port>") && !text.contains("ApiKey") && !text.contains("UrlBase"),
            "{text}"
        );
    }

    #[test]
    fn a_bare_port_moves_the_listener_only() {
        let directory = Directory::new();
        directory.write("config.xml", "<Config><Port>1234</Port></Config>");
        let config = load(&directory, [("PORT", "80")]).unwrap();
        assert_eq!((config.port, config.listen_port), (1234, 80));
        assert_eq!(
            load(&directory, [("PORT", "80"), ("SONARR__SERVER__PORT", "81")])
                .unwrap()
                .listen_port,
            81
        );
    }

    #[test]
    fn files_that_stop_the_start() {
        for text in [
            "",
            "\0\0",
            "<Config></Config><Config></Config>",
            "<Config><Port>1</Prot></Config>",
            "<Config><Port>x</Port></Config>",
        ] {
            let directory = Directory::new();
            directory.write("config.xml", text);
            assert!(load(&directory, []).is_err(), "{text:?}");
        }
    }
}
