//! What the two servers answer. Paths are compared without case.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::config::Config;
use crate::standin::http::{Request, Response};
use crate::standin::life::Life;
use crate::standin::store::Store;

/// What does not change between the two servers.
#[derive(Debug)]
pub struct Shared {
    /// The HTTP port.
    pub port: u16,
    /// `/x`, or empty.
    pub base: String,
    /// The server's id.
    pub id: String,
    /// The version shown.
    pub version: String,
    /// The settings; the wizard changes them.
    pub config: Mutex<Config>,
}

impl Shared {
    fn public(&self, wizard: bool) -> Value {
        json!({
            "LocalAddress": format!("http://127.0.0.1:{}{}", self.port, self.base),
            "ServerName": self.config.lock().unwrap_or_else(PoisonError::into_inner).server_name(),
            "Version": self.version,
            "ProductName": "Jellyfin Server",
            "Id": self.id,
            "StartupWizardCompleted": wizard,
        })
    }
}

/// The server that answers while the application starts.
#[derive(Debug)]
pub struct Setup {
    /// What both know.
    pub shared: Arc<Shared>,
    /// Whether the start has failed.
    pub unhealthy: AtomicBool,
    /// Whether the application host exists yet.
    pub host: AtomicBool,
    /// Ends a wait.
    pub life: Life,
    /// Where the newest log is.
    pub log: PathBuf,
}

impl Setup {
    /// Answers one request; the base URL means nothing here.
    pub fn answer(&self, request: &Request) -> Response {
        match request.path.to_ascii_lowercase().trim_end_matches('/') {
            "/health" if self.unhealthy.load(Ordering::SeqCst) => health(503, "Unhealthy"),
            "/health" => health(200, "Degraded"),
            "/startup/logger" => self.newest_log(),
            "/system/info/public" => self.public(),
            _ => {
                let mode = if self.unhealthy.load(Ordering::SeqCst) {
                    "The server could not start"
                } else {
                    "The server is starting"
                };
                retry_later(
                    Response::new(
                        503,
                        "text/html",
                        format!("<!doctype html><title>Jellyfin</title><p>{mode}"),
                    )
                    .chunked(),
                )
            }
        }
    }

    /// Waits up to 2.5 s for the application host.
    fn public(&self) -> Response {
        for _ in 0..5 {
            if self.host.load(Ordering::SeqCst) || self.life.wait(Duration::from_millis(500)).is_some() {
                break;
            }
        }
        if self.host.load(Ordering::SeqCst) {
            object(&self.shared.public(false))
        } else {
            retry_later(Response::empty(503))
        }
    }

    fn newest_log(&self) -> Response {
        let newest = fs::read_dir(&self.log).ok().and_then(|entries| {
            let files = entries
                .filter_map(Result::ok)
                .filter(|entry| entry.file_name().to_string_lossy().starts_with("log_"));
            files.max_by_key(|entry| entry.metadata().and_then(|data| data.modified()).ok())
        });
        let text = newest
            .and_then(|entry| fs::read(entry.path()).ok())
            .unwrap_or_default();
        Response::new(200, "text/plain", text)
    }
}

/// The server that stays.
#[derive(Debug)]
pub struct Real {
    /// What both know.
    pub shared: Arc<Shared>,
    /// The main database.
    pub store: Arc<Store>,
    /// Whether the core has started.
    pub started: AtomicBool,
}

impl Real {
    /// Answers one request.
    pub fn answer(&self, request: &Request) -> Response {
        if let Some(response) = crate::standin::state_answer(request, &self.store, "Jellyfin") {
            return response;
        }
        let (base, lower) = (self.shared.base.as_str(), request.path.to_ascii_lowercase());
        let path = match lower.strip_prefix(&base.to_ascii_lowercase()) {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => rest.trim_end_matches('/'),
            _ if lower == "/" => "",
            _ => return Response::redirect(302, &format!("{base}{}", request.path)),
        };
        if path.is_empty() {
            return Response::redirect(302, &format!("{base}/web/"));
        }
        if !self.started.load(Ordering::SeqCst) && path != "/system/ping" {
            return Response::new(
                503,
                "text/html",
                "<p>The Jellyfin server is loading. Please try again shortly.",
            )
            .chunked();
        }
        self.endpoint(request, path)
    }

    fn endpoint(&self, request: &Request, path: &str) -> Response {
        let get = matches!(request.method.as_str(), "GET" | "HEAD");
        match path {
            "/health" if self.store.can_connect() => health(200, "Healthy"),
            "/health" => health(503, "Unhealthy"),
            "/system/ping" => {
                Response::new(200, "application/json; charset=utf-8", "\"Jellyfin Server\"").chunked()
            }
            "/system/info/public" if get => object(&self.shared.public(self.wizard())),
            "/system/info" if get => self.info(request),
            "/web" if get => Response::new(200, "text/html", "<!doctype html><title>Jellyfin</title>"),
            _ if path.starts_with("/startup/") => self.startup(&request.method, path),
            _ => Response::empty(404),
        }
    }

    fn wizard(&self) -> bool {
        self.shared
            .config
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .wizard_completed()
    }

    /// Open while the wizard waits, then only with a key.
    fn info(&self, request: &Request) -> Response {
        if self.wizard() && !self.authorized(request) {
            return Response::empty(401);
        }
        let mut info = self.shared.public(self.wizard());
        if let Value::Object(fields) = &mut info {
            fields.insert("HasPendingRestart".to_owned(), json!(false));
            fields.insert("IsShuttingDown".to_owned(), json!(false));
            fields.insert("WebSocketPortNumber".to_owned(), json!(self.shared.port));
        }
        object(&info)
    }

    fn authorized(&self, request: &Request) -> bool {
        let header = request
            .header("authorization")
            .filter(|text| text.starts_with("MediaBrowser "));
        let token = header
            .and_then(|text| text.split("Token=\"").nth(1))
            .and_then(|text| text.split('"').next());
        let Some(token) = token.or_else(|| request.header("x-emby-token")) else {
            return false;
        };
        let found = self.store.with(|connection| {
            connection.query_row(
                "SELECT count(*) FROM ApiKeys WHERE AccessToken = ?",
                [token],
                |row| row.get::<_, i64>(0),
            )
        });
        found.is_ok_and(|count| count > 0)
    }

    fn startup(&self, method: &str, path: &str) -> Response {
        let mut config = self.shared.config.lock().unwrap_or_else(PoisonError::into_inner);
        if config.wizard_completed() {
            return Response::empty(401);
        }
        match (method, path) {
            ("GET", "/startup/configuration") => object(
                &json!({ "UICulture": "en-US", "MetadataCountryCode": "US", "PreferredMetadataLanguage": "en" }),
            ),
            ("GET", "/startup/user" | "/startup/firstuser") => object(&json!({ "Name": "root" })),
            ("POST", "/startup/configuration" | "/startup/user" | "/startup/remoteaccess") => {
                Response::empty(204)
            }
            ("POST", "/startup/complete") => match config.complete_wizard() {
                Ok(()) => Response::empty(204),
                Err(_) => Response::empty(500),
            },
            _ => Response::empty(404),
        }
    }
}

fn health(status: u16, word: &str) -> Response {
    Response::new(status, "text/plain", word)
        .with("Cache-Control", "no-store, no-cache")
        .with("Pragma", "no-cache")
        .chunked()
}

fn object(value: &Value) -> Response {
    Response::new(200, "application/json; charset=utf-8", value.to_string()).chunked()
}

fn retry_later(response: Response) -> Response {
    response.with("Retry-After", "005")
}
