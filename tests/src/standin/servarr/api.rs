//! The HTTP side, in the order of the original's pipeline: authorization, version header, URL base (307), starting (503),
//! and only then the endpoints.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Application;
use super::config::Config;
use crate::standin::clock::Civil;
use crate::standin::fault::Faults;
use crate::standin::http::{Request, Response};
use crate::standin::life::{End, Life};
use crate::standin::store::Store;

/// How long `/ping` believes its last answer.
const PING_CACHE: Duration = Duration::from_secs(5);

/// What the endpoints need to know.
#[derive(Debug)]
pub struct Api {
    application: &'static Application,
    version: String,
    state: PathBuf,
    config: Config,
    store: Arc<Store>,
    write_failed: Arc<AtomicBool>,
    life: Life,
    begun: String,
    ping: Mutex<Option<(Instant, bool)>>,
    /// Whether the host's "started" event has been.
    pub started: AtomicBool,
}

/// What a path needs before it is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Anonymous,
    Ui,
    Key,
}

impl Api {
    /// The endpoints of an application that has not started yet.
    pub fn new(
        application: &'static Application,
        version: String,
        state: &Path,
        config: Config,
        store: Arc<Store>,
        write_failed: Arc<AtomicBool>,
        life: Life,
    ) -> Self {
        Self {
            application,
            version,
            state: state.to_owned(),
            config,
            store,
            write_failed,
            life,
            begun: Civil::now().iso(),
            ping: Mutex::new(None),
            started: AtomicBool::new(false),
        }
    }

    /// The settings in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Answers one request.
    pub fn answer(&self, request: &Request) -> Response {
        if let Some(response) = crate::standin::state_answer(request, &self.store, self.application.name) {
            return response;
        }
        let base = self.config.url_base.as_str();
        let below = below_base(&request.path, base);
        let path = below.unwrap_or(&request.path);
        let api = path.to_ascii_lowercase().starts_with("/api");
        if let Some(refused) = self.refused(access(path), request) {
            return refused;
        }
        let response = if !base.is_empty() && below.is_none() {
            let query = if request.query.is_empty() {
                String::new()
            } else {
                format!("?{}", request.query)
            };
            Response::redirect(307, &format!("{base}{}{query}", request.path))
        } else if !self.started.load(Ordering::SeqCst) {
            self.starting(api)
        } else {
            self.endpoint(request, path)
        };
        if api {
            response.with("X-Application-Version", &self.version)
        } else {
            response
        }
    }

    fn refused(&self, access: Access, request: &Request) -> Option<Response> {
        match access {
            Access::Anonymous => None,
            Access::Key => {
                let bearer = request
                    .header("authorization")
                    .and_then(|text| text.strip_prefix("Bearer "));
                let given = [request.header("x-api-key"), request.parameter("apikey"), bearer];
                let good = given.into_iter().flatten().any(|key| key == self.config.api_key);
                (!good).then(|| Response::empty(401))
            }
            Access::Ui => match self.config.authentication.as_str() {
                "Basic" => Some(Response::empty(401).with(
                    "WWW-Authenticate",
                    &format!("Basic realm=\"{}\"", self.application.name),
                )),
                "Forms" => Some(Response::redirect(
                    302,
                    &format!(
                        "{}/login?returnUrl={}",
                        self.config.url_base,
                        request.path.replace('/', "%2F")
                    ),
                )),
                _ => None,
            },
        }
    }

    fn starting(&self, api: bool) -> Response {
        let message = format!("{} is starting up, please try again later", self.application.name);
        if api {
            Response::new(
                503,
                "application/json",
                pretty(&json!({ "errorMessage": message })),
            )
            .chunked()
        } else {
            Response::new(503, "text/plain", message).chunked()
        }
    }

    fn endpoint(&self, request: &Request, path: &str) -> Response {
        let lower = path.trim_end_matches('/').to_ascii_lowercase();
        let local = lower
            .strip_prefix("/api/")
            .and_then(|rest| rest.strip_prefix(self.application.api))
            .unwrap_or_default();
        match (request.method.as_str(), lower.as_str(), local) {
            ("GET" | "HEAD", "/ping", _) => self.ping(),
            ("GET", "/api", _) => object(200, &json!({ "current": self.application.api, "deprecated": [] })),
            ("GET", _, "/health") => object(200, &self.health()),
            ("GET", _, "/system/status") => object(200, &self.status()),
            ("GET", _, local) if local.strip_prefix('/') == Some(self.application.resource) => self.library(),
            ("POST", _, "/system/shutdown") => self.leave(End::Asked, &json!({ "shuttingDown": true })),
            ("POST", _, "/system/restart") => self.leave(End::Restart, &json!({ "restarting": true })),
            (_, _, "/health" | "/system/status") | (_, "/ping", _) => {
                Response::empty(405).with("Allow", "GET, HEAD")
            }
            (_, _, "/system/shutdown" | "/system/restart") => Response::empty(405).with("Allow", "POST"),
            _ if lower.starts_with("/api") => object(404, &json!({ "message": "NotFound" })),
            ("GET" | "HEAD", _, _) => Response::new(
                200,
                "text/html",
                format!("<!doctype html><title>{}</title>", self.config.instance_name),
            )
            .chunked(),
            _ => Response::empty(405).with("Allow", "GET, HEAD"),
        }
    }

    /// A read of the whole `Config` table, remembered for five seconds.
    fn ping(&self) -> Response {
        let mut cache = self.ping.lock().unwrap_or_else(PoisonError::into_inner);
        let good = match *cache {
            Some((when, good)) if when.elapsed() < PING_CACHE => good,
            _ => self
                .store
                .with(|connection| {
                    connection.query_row("SELECT count(Value) FROM Config", [], |row| row.get::<_, i64>(0))
                })
                .is_ok(),
        };
        if cache.is_none_or(|(when, _)| when.elapsed() >= PING_CACHE) {
            *cache = Some((Instant::now(), good));
        }
        if good {
            object(200, &json!({ "status": "OK" }))
        } else {
            object(500, &json!({ "status": "Error" }))
        }
    }

    fn health(&self) -> Value {
        let mut items = vec![json!({
            "id": 1,
            "source": "IndexerStatusCheck",
            "type": "warning",
            "message": "No indexers are available, the stand-in has none",
            "wikiUrl": format!("https://wiki.servarr.com/{}/system#no-indexers", self.application.name.to_lowercase()),
        })];
        if self.write_failed.load(Ordering::SeqCst) {
            items.push(json!({ "id": 2, "source": "DatabaseCheck", "type": "error", "message": "The database cannot be written", "wikiUrl": "" }));
        }
        for (id, text) in (3..).zip(Faults::new(&self.state).now().unwell) {
            items.push(json!({ "id": id, "source": "StandInCheck", "type": "error", "message": text, "wikiUrl": "" }));
        }
        Value::Array(items)
    }

    fn status(&self) -> Value {
        let schema = self
            .store
            .schema()
            .ok()
            .flatten()
            .and_then(|text| text.parse::<u32>().ok());
        json!({
            "appName": self.application.name,
            "instanceName": self.config.instance_name,
            "version": self.version,
            "appData": self.state,
            "startupPath": "/app/bin",
            "isDocker": std::env::var_os("container").is_some(),
            "isLinux": true,
            "databaseType": "sqLite",
            "databaseVersion": rusqlite::version(),
            "migrationVersion": schema,
            "urlBase": self.config.url_base,
            "authentication": self.config.authentication.to_lowercase(),
            "startTime": self.begun,
            "packageVersion": self.version,
            "packageAuthor": "stand-in",
            "packageUpdateMechanism": "docker",
            "branch": "main",
        })
    }

    /// All that is in the library.
    fn library(&self) -> Response {
        let rows = self.store.with(|connection| {
            let library = self.application.library;
            let mut rows = connection.prepare(&format!(
                "SELECT \"Id\", \"Title\", \"Path\" FROM \"{library}\" ORDER BY 1"
            ))?;
            rows.query_map([], |row| {
                let (id, title, path): (i64, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
                Ok(json!({ "id": id, "title": title, "path": path }))
            })?
            .collect::<Result<Vec<_>, _>>()
        });
        match rows {
            Ok(rows) => object(200, &Value::Array(rows)),
            Err(error) => object(500, &json!({ "message": error.to_string() })),
        }
    }

    fn leave(&self, end: End, body: &Value) -> Response {
        // The answer must be out before the server closes.
        let life = self.life.clone();
        let later = std::thread::Builder::new().spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            life.end(end);
        });
        match later {
            Ok(_) => object(200, body),
            Err(_) => Response::empty(500),
        }
    }
}

/// The path below `base`, when it is below it.
fn below_base<'a>(path: &'a str, base: &str) -> Option<&'a str> {
    let (head, rest) = path.split_at_checked(base.len())?;
    let below = head.eq_ignore_ascii_case(base) && (rest.is_empty() || rest.starts_with('/'));
    below.then_some(if rest.is_empty() { "/" } else { rest })
}

fn access(path: &str) -> Access {
    let path = path.to_ascii_lowercase();
    let trimmed = path.trim_end_matches('/');
    match trimmed {
        "/ping" | "/login" => Access::Anonymous,
        _ if trimmed.starts_with("/content") => Access::Anonymous,
        _ if trimmed == "/api" || trimmed.starts_with("/api/") || trimmed.starts_with("/feed") => Access::Key,
        _ => Access::Ui,
    }
}

fn pretty(value: &Value) -> String {
    // The originals write every JSON body with indentation.
    format!("{value:#}")
}

fn object(status: u16, value: &Value) -> Response {
    Response::new(status, "application/json; charset=utf-8", pretty(value))
        .with("Cache-Control", "no-cache, no-store")
        .chunked()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_base_is_a_whole_component() {
        assert_eq!(below_base("/tv/ping", "/tv"), Some("/ping"));
        assert_eq!(below_base("/TV", "/tv"), Some("/"));
        assert_eq!(below_base("/tvx/ping", "/tv"), None);
        assert_eq!(below_base("/ping", ""), Some("/ping"));
    }

    #[test]
    fn what_needs_a_key() {
        assert_eq!(
            [
                access("/ping"),
                access("/api/v3/health"),
                access("/api"),
                access("/"),
                access("/apix")
            ],
            [
                Access::Anonymous,
                Access::Key,
                Access::Key,
                Access::Ui,
                Access::Ui
            ]
        );
    }
}
