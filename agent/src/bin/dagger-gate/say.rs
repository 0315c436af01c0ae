//! What people see of the gate: the unit's status, and its lines in the journal.

use dagger_agent::adapter::notify;

/// `STATUS=` of the unit.
pub fn status(text: &str) {
    if let Err(error) = notify::own_status(text) {
        warning(&format!("systemd does not take our status: {error}"));
    }
}

/// A line in the journal, as an error.
pub fn error(text: &str) {
    line("<3>", text);
}

/// A line in the journal, as a warning.
pub fn warning(text: &str) {
    line("<4>", text);
}

/// A line in the journal.
pub fn info(text: &str) {
    line("<6>", text);
}

/// The priority goes in front where journald reads it (sd-daemon(3)), not on a terminal.
fn line(priority: &str, text: &str) {
    let priority = if std::env::var_os("JOURNAL_STREAM").is_some() {
        priority
    } else {
        ""
    };
    for line in text.lines() {
        eprintln!("{priority}{line}");
    }
}
