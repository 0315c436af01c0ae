//! Transmission: its RPC, which is asked without a password or not at all.

use std::time::Duration;

use dagger_agent::adapter::probe::call::{Call, call};
use dagger_agent::adapter::probe::http::SESSION_ID;
use dagger_agent::domain::wellness;
use dagger_suite::model::Service;
use dagger_suite::names::Root;
use hyper::header::HeaderValue;
use serde_json::json;

use crate::{Findings, LIMIT, settings};

/// It asks a site on the internet, which takes its time.
const PORT_TEST_LIMIT: Duration = Duration::from_secs(30);

/// Why it is not asked; a wrong password would count towards locking everybody out (`anti-brute-force-enabled`).
const LOCKED: &str =
    "it asks for a password that only its user knows (rpc-authentication-required): not asked";

/// Session, room for downloads, and the peer port as others see it.
pub async fn transmission(root: &Root, service: &Service) -> Findings {
    let locked = settings::read(root, service, "config", "settings.json")
        .and_then(|text| settings::transmission_locked(&text));
    match locked {
        Ok(false) => {}
        Ok(true) => return Findings::unable(LOCKED),
        Err(error) => return Findings::unable(error),
    }
    let mut findings = Findings::default();
    findings.error = speak(service, &mut findings).await.err();
    findings
}

async fn speak(service: &Service, findings: &mut Findings) -> Result<(), String> {
    let mut rpc = Rpc {
        service,
        session: None,
    };
    let fields = json!({ "fields": ["version", "download-dir", "peer-port"] });
    let session = wellness::rpc_session(&rpc.call("session-get", &fields, LIMIT).await?)?;
    findings.identity = Some(session.identity);
    let dir = session.download_dir;
    let room = rpc.call("free-space", &json!({ "path": dir }), LIMIT).await?;
    findings.problems.extend(wellness::rpc_free_space(&room, &dir)?);
    // Whoever cannot reach the checker knows nothing of the port.
    if let Ok(body) = rpc.call("port-test", &json!({}), PORT_TEST_LIMIT).await {
        findings
            .problems
            .extend(wellness::rpc_port_test(&body, session.peer_port)?);
    }
    Ok(())
}

struct Rpc<'a> {
    service: &'a Service,
    session: Option<String>,
}

impl Rpc<'_> {
    /// One method in the old form, which every version understands; a new session id is taken up once.
    async fn call(
        &mut self,
        method: &str,
        arguments: &serde_json::Value,
        limit: Duration,
    ) -> Result<Vec<u8>, String> {
        let body = json!({ "method": method, "arguments": arguments }).to_string();
        for _ in 0..2 {
            let id = self
                .session
                .as_deref()
                .and_then(|id| HeaderValue::from_str(id).ok());
            let headers: Vec<_> = id.into_iter().map(|id| (SESSION_ID, id)).collect();
            let question = Call {
                path: &self.service.probe.path,
                headers: &headers,
                body: Some(&body),
                limit,
            };
            let answer = call(&self.service.probe, &question).await?;
            match (answer.status, answer.session) {
                (200, _) => return Ok(answer.body),
                (409, Some(id)) => self.session = Some(id),
                (401, _) => return Err(LOCKED.into()),
                (status, _) => return Err(format!("its RPC answers HTTP {status}")),
            }
        }
        Err("its RPC does not take the session id that it gave".into())
    }
}
