//! What systemd's signals say.

use std::collections::HashMap;
use std::time::Duration;

use zbus::names::InterfaceName;
use zbus::{Message, Variant};

use super::{Change, News, UNITS};

/// Decodes `PropertiesChanged` of a unit.
pub(super) fn unit_changed(message: &Message) -> Option<News> {
    let header = message.header();
    let name = unit_name(header.path()?.as_str())?;
    let body = message.body();
    let (_, changed, _) = body
        .deserialize::<(InterfaceName<'_>, HashMap<&str, Variant<'_>>, Vec<&str>)>()
        .ok()?;
    let text = |property| match changed.get(property) {
        Some(Variant::Str(text)) => Some(text.as_str().to_owned()),
        _ => None,
    };
    let number = |property| match changed.get(property) {
        Some(Variant::I32(number)) => Some(*number),
        _ => None,
    };
    let change = Change {
        at: message.recv_position(),
        asked: false,
        load_state: text("LoadState"),
        active_state: text("ActiveState"),
        sub_state: text("SubState"),
        job: match changed.get("Job") {
            // Number and object path; number 0 for none.
            Some(Variant::Structure(job)) => match job.fields().first() {
                Some(Variant::U32(number)) => Some(*number != 0),
                _ => None,
            },
            _ => None,
        },
        main_pid: match changed.get("MainPID") {
            Some(Variant::U32(pid)) => Some(*pid),
            _ => None,
        },
        started: match changed.get("InactiveExitTimestampMonotonic") {
            Some(Variant::U64(usec)) => Some(Duration::from_micros(*usec)),
            _ => None,
        },
        status: text("StatusText"),
        result: text("Result"),
        exit_code: number("ExecMainCode"),
        exit_status: number("ExecMainStatus"),
    };
    change.is_some().then_some(News::Unit(name, change))
}

/// Decodes `Reloading`: `true` when it begins, `false` when it is done.
pub(super) fn reloaded(message: &Message) -> Option<News> {
    let active: bool = message.body().deserialize().ok()?;
    (!active).then_some(News::Reloaded)
}

/// Decodes `JobRemoved`: id, path, unit and result of a job.
pub(super) fn unstarted(message: &Message) -> Option<News> {
    let (_, _, unit, result): (u32, zbus::OwnedObjectPath, String, String) =
        message.body().deserialize().ok()?;
    (result == "dependency").then_some(News::Unstarted(unit))
}

/// Unit of an object path; the reverse of [`object_path`].
fn unit_name(path: &str) -> Option<String> {
    let mut rest = path.strip_prefix(UNITS)?.strip_prefix('/')?;
    let mut name = Vec::new();
    while let Some((before, after)) = rest.split_once('_') {
        name.extend_from_slice(before.as_bytes());
        name.push(u8::from_str_radix(after.get(..2)?, 16).ok()?);
        rest = after.get(2..)?;
    }
    name.extend_from_slice(rest.as_bytes());
    String::from_utf8(name).ok()
}

#[cfg(test)]
mod tests {
    use zbus::wire::ObjectPath;

    use super::super::{PROPERTIES, UNIT, object_path};
    use super::*;

    #[test]
    fn unit_names_survive_the_way_to_an_object_path_and_back() {
        for (name, path) in [
            ("dagger-sonarr.service", "dagger_2dsonarr_2eservice"),
            ("4k@a\\x2d.service", "_34k_40a_5cx2d_2eservice"),
        ] {
            assert_eq!(object_path(name), format!("{UNITS}/{path}"));
            assert_eq!(unit_name(&object_path(name)).as_deref(), Some(name));
        }
        for bad in [
            "/org/freedesktop/systemd1",
            "/org/freedesktop/systemd1/unit/a_",
            "x",
            "/org/freedesktop/systemd1/unit/a_zz",
        ] {
            assert_eq!(unit_name(bad), None, "{bad}");
        }
    }

    fn signal(changed: &HashMap<&str, Variant<'_>>) -> Message {
        let interface = InterfaceName::try_from(UNIT).unwrap();
        Message::signal(object_path("dagger-x.service"), PROPERTIES, "PropertiesChanged")
            .build(&(interface, changed, Vec::<&str>::new()))
            .unwrap()
    }

    #[test]
    fn signals_are_decoded_and_those_about_other_things_are_dropped() {
        let changed = HashMap::from([
            ("ActiveState", Variant::from("active")),
            ("MainPID", Variant::from(7_u32)),
            ("InactiveExitTimestampMonotonic", Variant::from(5_000_000_u64)),
            (
                "Job",
                Variant::from((1_u32, ObjectPath::try_from("/job/1").unwrap())),
            ),
        ]);
        let Some(News::Unit(name, change)) = unit_changed(&signal(&changed)) else {
            panic!("not decoded")
        };
        assert_eq!(name, "dagger-x.service");
        assert_eq!(change.active_state.as_deref(), Some("active"));
        assert_eq!(
            (change.main_pid, change.started, change.job),
            (Some(7), Some(Duration::from_secs(5)), Some(true))
        );
        assert!(unit_changed(&signal(&HashMap::from([("Job", Variant::from("x"))]))).is_none());
        let wrong_type = HashMap::from([("MainPID", Variant::from("7"))]);
        assert!(unit_changed(&signal(&wrong_type)).is_none());
    }
}
