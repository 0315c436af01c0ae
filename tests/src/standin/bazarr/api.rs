//! Bazarr's answers: the API below `<base>/api`, the web page at the base, and a redirect there from everywhere else.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::config::Config;
use crate::standin::clock::Civil;
use crate::standin::fault::Faults;
use crate::standin::http::{Request, Response, parameter};
use crate::standin::life::{End, Life};
use crate::standin::store::Store;

/// What the endpoints need to know.
#[derive(Debug)]
pub struct Api {
    /// The settings in force.
    pub config: Config,
    /// Where they lie.
    pub directory: PathBuf,
    /// The database.
    pub store: Arc<Store>,
    /// The version shown.
    pub version: String,
    /// Set by SIGTERM, after which the process lives on without its database.
    pub closed: AtomicBool,
    /// Ends the process.
    pub life: Life,
    /// When it began.
    pub begun: String,
}

impl Api {
    /// Answers one request.
    pub fn answer(&self, request: &Request) -> Response {
        if let Some(response) = crate::standin::state_answer(request, &self.store, "Bazarr") {
            return response;
        }
        let base = self.config.base_url();
        let page = format!("{base}/");
        let Some(path) = request
            .path
            .strip_prefix(base.as_str())
            .filter(|rest| rest.starts_with('/'))
        else {
            return Response::redirect(302, &page);
        };
        match path.strip_prefix("/api/") {
            Some(api) => self.api(request, api.trim_end_matches('/')),
            None if path == "/" => Response::new(
                200,
                "text/html; charset=utf-8",
                "<!doctype html><title>Bazarr</title>",
            ),
            None => Response::redirect(302, &page).with("Content-Type", "text/html; charset=utf-8"),
        }
    }

    fn api(&self, request: &Request, path: &str) -> Response {
        let get = matches!(request.method.as_str(), "GET" | "HEAD");
        if path == "system/ping" {
            return if get {
                object(200, &json!({ "status": "OK" }))
            } else {
                Response::empty(405).with("Allow", "GET, HEAD, OPTIONS")
            };
        }
        if !self.authorized(request) {
            return object(401, &json!({ "message": "Unauthorized" }));
        }
        match (request.method.as_str(), path) {
            ("GET", "system/health") => {
                let issue = "This is required to get subtitles";
                let mut data = vec![json!({ "object": "Missing languages profile", "issue": issue })];
                for text in Faults::new(&self.directory).now().unwell {
                    data.push(json!({ "object": "Stand-in", "issue": text }));
                }
                object(200, &json!({ "data": data }))
            }
            ("GET", "system/status") => self.status(),
            ("POST", "system") => match request.parameter("action") {
                Some("shutdown") => self.leave(End::Asked),
                Some("restart") => self.leave(End::Restart),
                _ => Response::empty(204),
            },
            _ => object(
                404,
                &json!({ "message": "The requested URL was not found on the server." }),
            ),
        }
    }

    /// Header, query or form.
    fn authorized(&self, request: &Request) -> bool {
        let form = std::str::from_utf8(&request.body).unwrap_or_default();
        let given = [
            request.header("x-api-key"),
            request.parameter("apikey"),
            parameter(form, "apikey"),
        ];
        given
            .into_iter()
            .flatten()
            .any(|key| key == self.config.api_key())
    }

    fn status(&self) -> Response {
        if self.closed.load(Ordering::SeqCst) {
            return object(500, &json!({ "message": "Internal Server Error" }));
        }
        let directory = self.directory.display().to_string();
        object(
            200,
            &json!({ "data": {
                "bazarr_version": self.version,
                "database_engine": format!("Sqlite {}", rusqlite::version()),
                "database_migration": self.store.schema().ok().flatten(),
                "bazarr_config_directory": directory,
                "sonarr_version": "",
                "radarr_version": "",
                "operating_system": "Linux",
                "python_version": "3.12.0",
                "start_time": self.begun,
                "timezone": "UTC",
                "cpu_cores": 1,
            }}),
        )
    }

    fn leave(&self, end: End) -> Response {
        // The answer must be out before the server closes.
        let life = self.life.clone();
        let later = std::thread::Builder::new().spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            life.end(end);
        });
        Response::empty(if later.is_ok() { 204 } else { 500 })
    }
}

/// When a process began, in the form of its status.
pub fn now() -> String {
    Civil::now().iso()
}

fn object(status: u16, value: &Value) -> Response {
    // The original's encoder puts a blank behind colons and commas, and a newline at the end.
    Response::new(status, "application/json", format!("{}\n", spaced(value)))
}

fn spaced(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(spaced).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let fields: Vec<_> = fields
                .iter()
                .map(|(name, value)| format!("{}: {}", Value::from(name.as_str()), spaced(value)))
                .collect();
            format!("{{{}}}", fields.join(", "))
        }
        plain => plain.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_as_python_writes_it() {
        assert_eq!(
            spaced(&json!({ "status": "OK", "list": [1, null] })),
            r#"{"list": [1, null], "status": "OK"}"#
        );
    }
}
