//! May this caller do that? polkit decides (polkit(8)); its answer may take as long as somebody looks for a password.

use std::collections::HashMap;

use zbus::message::{Flags, Header};
use zbus::{Connection, Variant};

/// polkit on the bus, and its one object (org.freedesktop.PolicyKit1.Authority).
const NAME: &str = "org.freedesktop.PolicyKit1";
const AUTHORITY: &str = "/org/freedesktop/PolicyKit1/Authority";
/// polkit may ask for a password: `AllowUserInteraction` of its CheckAuthorizationFlags.
const INTERACTIVE: u32 = 1;

/// Why something is not allowed, in words for the caller.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// polkit says no.
    #[error("not authorized: {0}")]
    Denied(String),
    /// polkit would ask for a password, and the caller did not allow that.
    #[error("authentication is needed, and the caller does not allow to ask for it")]
    Interactive,
}

/// Asks whether the sender of `header` may do `action` with these details.
///
/// The subject is the caller's name on the bus, which nobody else can get while the question is open. The caller's
/// interactive-authorization flag is honoured. What polkit cannot answer is a refusal.
pub async fn check(
    connection: &Connection,
    header: &Header<'_>,
    action: &str,
    details: &[(&str, &str)],
) -> Result<(), Refusal> {
    let denied = |error: &dyn std::fmt::Display| Refusal::Denied(format!("polkit does not answer: {error}"));
    let interactive = header.primary().flags().contains(Flags::ALLOW_INTERACTIVE_AUTH);
    let sender = header
        .sender()
        .ok_or_else(|| denied(&"the caller has no name on the bus"))?;
    let subject = (
        "system-bus-name",
        HashMap::from([("name", Variant::from(sender.as_str()))]),
    );
    let details: HashMap<&str, &str> = details.iter().copied().collect();
    let flags = if interactive { INTERACTIVE } else { 0 };
    let question = (subject, action, details, flags, "");
    let reply = connection
        .call_method(
            Some(NAME),
            AUTHORITY,
            Some("org.freedesktop.PolicyKit1.Authority"),
            "CheckAuthorization",
            &question,
        )
        .await
        .map_err(|error| denied(&error))?;
    let body = reply.body();
    let (is_authorized, is_challenge, _): (bool, bool, HashMap<&str, &str>) =
        body.deserialize().map_err(|error| denied(&error))?;
    match (is_authorized, is_challenge) {
        (true, _) => Ok(()),
        (false, true) if !interactive => Err(Refusal::Interactive),
        (false, _) => Err(Refusal::Denied(format!("{action} is not allowed for this user"))),
    }
}
