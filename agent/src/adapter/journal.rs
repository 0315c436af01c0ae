//! Events as journald entries, by `systemd-journal-logger`: what the `log` crate carries as key-values become fields.

use std::io::Write as _;

use log::kv::{Key, Source, Value, VisitSource};
use log::{Level, LevelFilter, Metadata, Record};

use crate::domain::event::{Event, Priority};

/// Sets up logging for a program: the journal when it runs under systemd, else stderr.
///
/// `DAGGER_LOG=debug` in the environment shows how a verdict came about.
pub fn install() {
    let level = std::env::var("DAGGER_LOG")
        .ok()
        .and_then(|word| word.parse().ok())
        .unwrap_or(LevelFilter::Info);
    log::set_max_level(level);
    let journal = if systemd_journal_logger::connected_to_journal() {
        systemd_journal_logger::JournalLog::new().ok()
    } else {
        None
    };
    // The only error is a logger that is there already, and that is as good.
    let _ = match journal {
        Some(journal) => journal.install(),
        None => log::set_logger(&Stderr),
    };
}

/// Tells the journal of an event. Values that the event does not list are not sent.
pub fn tell(event: &Event, values: &[(&str, &str)]) {
    let level = match event.priority {
        // The logger maps these to the priorities notice (5), warning (4) and err (3).
        Priority::Notice => Level::Info,
        Priority::Warning => Level::Warn,
        Priority::Error => Level::Error,
    };
    if level > log::max_level() {
        return;
    }
    let fields = Fields { event, values };
    log::logger().log(
        &Record::builder()
            .args(format_args!("{}", event.message(values)))
            .level(level)
            .target("dagger")
            .key_values(&fields)
            .build(),
    );
}

/// The fields of one event.
struct Fields<'a> {
    event: &'a Event,
    values: &'a [(&'a str, &'a str)],
}

impl Source for Fields<'_> {
    fn visit<'kvs>(&'kvs self, visitor: &mut dyn VisitSource<'kvs>) -> Result<(), log::kv::Error> {
        visitor.visit_pair(Key::from_str("MESSAGE_ID"), Value::from(self.event.id))?;
        for (name, value) in self.values {
            if self.event.fields.contains(name) {
                visitor.visit_pair(Key::from_str(name), Value::from(*value))?;
            }
        }
        Ok(())
    }
}

/// Plain lines on stderr, for a program that somebody runs by hand.
struct Stderr;

impl log::Log for Stderr {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        // Nobody is left to be told when stderr is gone.
        let _ = writeln!(std::io::stderr(), "{}", record.args());
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event;

    #[test]
    fn an_entry_has_its_id_and_only_the_fields_of_its_event() {
        #[derive(Default)]
        struct Seen(Vec<(String, String)>);
        impl<'kvs> VisitSource<'kvs> for Seen {
            fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), log::kv::Error> {
                self.0.push((key.to_string(), value.to_string()));
                Ok(())
            }
        }
        let mut seen = Seen::default();
        let values = [("DAGGER_SERVICE", "sonarr"), ("OBJECT_PID", "7"), ("SECRET", "x")];
        let fields = Fields {
            event: &event::HEALTHY,
            values: &values,
        };
        fields.visit(&mut seen).unwrap();
        let expected = [
            ("MESSAGE_ID", event::HEALTHY.id),
            ("DAGGER_SERVICE", "sonarr"),
            ("OBJECT_PID", "7"),
        ];
        assert_eq!(
            seen.0,
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }
}
