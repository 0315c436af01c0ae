//! A question that is more than a probe: with a header of one's own (a key) and a body, about as bounded as any other.

use std::time::Duration;

use dagger_suite::probe::Probe;
use hyper::Method;
use hyper::header::{HeaderName, HeaderValue};

use super::http::{self, Question};
use super::judge::Answer;
use super::{Failure, REDIRECTS_MAX, address, connect};

/// What is asked of the service that a [`Probe`] describes.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// Path and query.
    pub path: &'a str,
    /// Headers, the application's key among them. They are shown to the probe's own host and port only, also after a
    /// redirect.
    pub headers: &'a [(HeaderName, HeaderValue)],
    /// JSON that is posted; without it the question is a GET.
    pub body: Option<&'a str>,
    /// How long all of it may take.
    pub limit: Duration,
}

/// Asks, and follows redirects to other paths of the same host and port. The error is a sentence, without any header.
pub async fn call(probe: &Probe, call: &Call<'_>) -> Result<Answer, String> {
    match tokio::time::timeout(call.limit, follow(probe, call)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer within {} s", call.limit.as_secs())),
    }
}

async fn follow(probe: &Probe, call: &Call<'_>) -> Result<Answer, String> {
    let address = address(probe).map_err(said)?;
    let authority = address.to_string();
    let mut path = call.path.to_owned();
    for _ in 0..=REDIRECTS_MAX {
        let stream = connect(probe, address).await.map_err(said)?;
        let question = Question {
            method: if call.body.is_some() {
                Method::POST
            } else {
                Method::GET
            },
            authority: &authority,
            path: &path,
            wants_body: &|status| status == 200,
            headers: call.headers,
            body: call.body.unwrap_or_default(),
            keep: false,
        };
        let (answer, _) = http::exchange(stream, &question)
            .await
            .map_err(|trouble| trouble.to_string())?;
        match answer.location.as_deref() {
            Some(location) if (300..400).contains(&answer.status) => {
                path = http::follow(&authority, &path, location)?;
            }
            _ => return Ok(answer),
        }
    }
    Err(format!(
        "more than {REDIRECTS_MAX} redirects, the last one to {path}"
    ))
}

fn said(failure: Failure) -> String {
    match failure {
        Failure::Refused(address) => format!("nobody listens at {address}"),
        Failure::Unreachable => "it cannot be reached".into(),
        Failure::Unable(text) => text,
    }
}
