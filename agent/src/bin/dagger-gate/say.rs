//! What people see of the gate: the unit's status, and its lines in the journal.

use dagger_agent::adapter::notify;

pub use dagger_agent::adapter::lines::{error, info, warning};

/// `STATUS=` of the unit.
pub fn status(text: &str) {
    if let Err(error) = notify::own_status(text) {
        warning(&format!("systemd does not take our status: {error}"));
    }
}
