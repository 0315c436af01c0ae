//! Lines that several of the units share.

use std::time::Duration;

use crate::model::Service;
use crate::names::{self, ServiceName};
use crate::render::{HEADER, Programs};
use crate::unit::{Exec, Part, Unit};

/// The comment at the head of every file of ours.
pub(super) fn header(unit: &mut Unit, source: &str) {
    unit.comment(&[HEADER, source, "."]);
    unit.lines("# Do not edit: change that file, then run `systemctl daemon-reload`.");
}

/// `ConditionPathExists=` on our side of the pair; none where no native unit is on the machine.
pub(super) fn owner_condition(unit: &mut Unit, service: &Service) {
    if service.native.iter().any(|native| native.present) {
        unit.set(
            "ConditionPathExists",
            &[names::OWNER_DIR, "/", service.name.as_str()],
        );
    }
}

/// Neither side starts while the service changes hands, nor before it is known whether that was interrupted.
pub(super) fn hold_condition(unit: &mut Unit, service: &ServiceName) {
    unit.set(
        "ConditionPathExists",
        &["!", names::HOLD_DIR, "/", service.as_str()],
    );
}

/// The head of each of the gate's command lines.
pub(super) fn gate<'a>(
    unit: &'a mut Unit,
    key: &'static str,
    programs: &Programs,
    verb: &'static str,
    service: &str,
) -> Exec<'a> {
    let mut exec = unit.exec(key, "", &programs.gate);
    exec.raw(verb)
        .word(&[Part::Raw("--service="), Part::Text(service)]);
    exec
}

/// Whole seconds, rounded up.
pub(super) fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}
