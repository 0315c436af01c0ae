//! May this caller do that? polkit decides (polkit(8)); its answer may take as long as somebody looks for a password.

use zbus::Connection;
use zbus::message::{Flags, Header};
use zbus_polkit::policykit1::{AuthorityProxy, CheckAuthorizationFlags, Subject};

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
    let interactive = header.primary().flags().contains(Flags::ALLOW_INTERACTIVE_AUTH);
    let flags = if interactive {
        CheckAuthorizationFlags::ALLOW_USER_INTERACTION
    } else {
        CheckAuthorizationFlags::empty()
    };
    let denied = |error: &dyn std::fmt::Display| Refusal::Denied(format!("polkit does not answer: {error}"));
    let subject = Subject::new_for_message_header(header).map_err(|error| denied(&error))?;
    let authority = AuthorityProxy::new(connection)
        .await
        .map_err(|error| denied(&error))?;
    let result = authority
        .check_authorization(&subject, action, &details.iter().copied().collect(), flags, "")
        .await
        .map_err(|error| denied(&error))?;
    match (result.is_authorized, result.is_challenge) {
        (true, _) => Ok(()),
        (false, true) if !interactive => Err(Refusal::Interactive),
        (false, _) => Err(Refusal::Denied(format!("{action} is not allowed for this user"))),
    }
}
