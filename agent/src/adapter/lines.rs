//! Lines on standard error, for a program that systemd runs and people may run by hand.

/// An error.
pub fn error(text: &str) {
    line("<3>", text);
}

/// A warning.
pub fn warning(text: &str) {
    line("<4>", text);
}

/// Something that people look for afterwards.
pub fn notice(text: &str) {
    line("<5>", text);
}

/// Something to know.
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
