//! Servarr and Bazarr: an interface that wants a key.

use std::net::IpAddr;
use std::path::Path;

use dagger_agent::adapter::probe::call::{Call, call};
use dagger_agent::adapter::probe::http::BODY_MAX;
use dagger_agent::adapter::sockets::diag::State;
use dagger_agent::adapter::sockets::{self, Port, netns};
use dagger_agent::domain::wellness::{self, Identity};
use dagger_suite::model::{Protocol, Service};
use dagger_suite::names::Root;
use hyper::header::{HeaderName, HeaderValue};

use crate::settings::{self, Access};
use crate::{Findings, LIMIT};

/// Servarr's and Bazarr's name for it (ApiKeyAuthenticationHandler.cs, api/utils.py).
const KEY: HeaderName = HeaderName::from_static("x-api-key");

/// What one interface is asked, and how its answers are read.
struct Interface<'a> {
    probe_path: &'a str,
    status: String,
    health: String,
    read_status: fn(&[u8]) -> Result<Identity, String>,
    read_health: fn(&[u8]) -> Result<Vec<String>, String>,
    expected: Option<&'static str>,
}

/// Sonarr and its kin.
pub async fn servarr(root: &Root, service: &Service) -> Findings {
    let family = wellness::servarr(&service.kind);
    let interface = Interface {
        probe_path: "/ping",
        status: format!("/api/{}/system/status", family.api),
        health: format!("/api/{}/health", family.api),
        read_status: wellness::servarr_status,
        read_health: wellness::servarr_health,
        expected: family.name,
    };
    let mut access =
        settings::read(root, service, "config", "config.xml").and_then(|text| settings::servarr(&text));
    // The environment wins over the file, and what it sets is never written there.
    let variable = format!("{}__AUTH__APIKEY", service.kind);
    let own = service
        .environment
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(&variable));
    if let Some((_, key)) = own {
        access = Ok(Access {
            key: key.clone(),
            base: access.map(|access| access.base).unwrap_or_default(),
        });
    }
    ask(service, access, &interface).await
}

/// Bazarr.
pub async fn bazarr(root: &Root, service: &Service) -> Findings {
    let interface = Interface {
        probe_path: "/api/system/ping",
        status: "/api/system/status".into(),
        health: "/api/system/health".into(),
        read_status: wellness::bazarr_status,
        read_health: wellness::bazarr_health,
        expected: Some("Bazarr"),
    };
    let access = settings::read(root, service, "config", "config/config.yaml")
        .and_then(|text| settings::bazarr(&text));
    ask(service, access, &interface).await
}

async fn ask(service: &Service, access: Result<Access, String>, interface: &Interface<'_>) -> Findings {
    let access = match access {
        Ok(access) => access,
        Err(error) => return Findings::unable(error),
    };
    let mut findings = Findings {
        secrets: vec![access.key.clone()],
        ..Findings::default()
    };
    findings.error = speak(service, &access, interface, &mut findings).await.err();
    findings
}

async fn speak(
    service: &Service,
    access: &Access,
    interface: &Interface<'_>,
    findings: &mut Findings,
) -> Result<(), String> {
    let mut key =
        HeaderValue::from_str(&access.key).map_err(|_| "the key in its settings is none".to_owned())?;
    key.set_sensitive(true);
    only_its_own(service)?;
    let headers = [(KEY, key)];
    // Where the probe asks, there the interface is; a probe without the base is what the settings are for.
    let base = match service.probe.path.strip_suffix(interface.probe_path) {
        Some("") | None => access.base.as_str(),
        Some(base) => base,
    };
    let body = get(service, &format!("{base}{}", interface.status), &headers).await?;
    let identity = (interface.read_status)(&body)?;
    let stranger = wellness::stranger(interface.expected, &identity, service.probe.port);
    findings.identity = Some(identity);
    if let Some(stranger) = stranger {
        findings.problems.push(stranger);
        return Ok(());
    }
    let body = get(service, &format!("{base}{}", interface.health), &headers).await?;
    findings.problems.extend((interface.read_health)(&body)?);
    Ok(())
}

async fn get(
    service: &Service,
    path: &str,
    headers: &[(HeaderName, HeaderValue)],
) -> Result<Vec<u8>, String> {
    let question = Call {
        path,
        headers,
        body: None,
        limit: LIMIT,
    };
    let answer = call(&service.probe, &question).await?;
    match answer.status {
        200 if answer.body.len() < BODY_MAX => Ok(answer.body),
        200 => Err(format!("its answer is longer than {} KiB", BODY_MAX >> 10)),
        401 => Err(
            "it refuses the key of its own settings (HTTP 401): an environment file may set another one"
                .into(),
        ),
        503 => Err("it is starting (HTTP 503)".into()),
        status => Err(format!("it answers HTTP {status} to {path}")),
    }
}

/// The key is shown to the service's own unit and to nobody who took its port.
fn only_its_own(service: &Service) -> Result<(), String> {
    let port = Port {
        protocol: Protocol::Tcp,
        number: service.probe.port,
    };
    let netns = service.probe.netns.as_deref().map(Path::new);
    let holders = netns::within(netns, || sockets::holders(port))
        .map_err(|error| format!("who listens on {port} cannot be found out: {error}"))?;
    let unit = service.name.unit();
    let (ours, others): (Vec<_>, Vec<_>) = holders
        .into_iter()
        .filter(|holder| holder.state == State::Listening)
        .partition(|holder| {
            let known = holder.unit.as_ref();
            known.is_none_or(|known| known.user.is_none() && known.name == unit)
        });
    if let Some(stranger) = others.into_iter().find_map(|holder| holder.unit) {
        return Err(format!(
            "{port} is held by {}, not by {unit}: the key was not shown to it",
            stranger.name
        ));
    }
    // Another address than loopback may be another machine's.
    let host = service.probe.host.parse::<IpAddr>();
    let local = service.probe.host == "localhost"
        || host.is_ok_and(|ip| ip.is_loopback() || ours.iter().any(|holder| holder.address.ip() == ip));
    if !local {
        return Err(format!(
            "{} is no address that {unit} listens on by name: the key was not shown there",
            service.probe.host
        ));
    }
    Ok(())
}
