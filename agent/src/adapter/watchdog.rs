//! systemd's watchdog of other units (sd_notify(3), `WATCHDOG=` and `WATCHDOG_USEC=`), told on behalf of their processes.

use std::io;
use std::path::Path;
use std::time::Duration;

use dagger_suite::names::SLICE;
use sd_notify::NotifyState;

use super::cgroups::Cgroups;
use super::notify::{self, MANAGER_SOCKET};
use crate::domain::machine::Watchdog;

/// Tells the watchdog of the unit whose main process this is.
pub fn tell(main_pid: u32, watchdog: Watchdog) -> io::Result<()> {
    let usec = match watchdog {
        Watchdog::Arm(limit) => limit,
        Watchdog::Disarm => Duration::ZERO,
        Watchdog::Feed => {
            return notify::on_behalf(Path::new(MANAGER_SOCKET), main_pid, &[NotifyState::Watchdog]);
        }
    };
    let say = |text| notify::on_behalf(Path::new(MANAGER_SOCKET), main_pid, &[NotifyState::Custom(text)]);
    // A unit that is masked or loses its file while it runs hears nothing any more, not even that its watchdog is to be
    // stopped, but for what its run itself has allowed (systemd 254 and later; see also dagger-.service.d). Of what is
    // allowed already systemd keeps no note: so first less, then all.
    if usec > Duration::ZERO {
        say("NOTIFYACCESS=exec")?;
    }
    // Longer than 71 minutes does not fit into the number that the crate has for it.
    say(&format!("NOTIFYACCESS=all\nWATCHDOG_USEC={}", usec.as_micros()))
}

/// Stops the watchdogs of all units of the suite; says how many there are.
///
/// Run when the agent has ended, however it ended: nobody feeds them now, and no healthy service may be restarted for that;
/// and once more when it begins, for those that it does not know.
/// It needs neither the bus nor the configuration: any process of a unit can be spoken for (`NotifyAccess=all`), and the
/// control groups name them all.
pub fn disarm_all() -> io::Result<usize> {
    let cgroups = Cgroups::mounted()?;
    let mut disarmed = 0;
    for unit in cgroups.children(SLICE)? {
        let processes = cgroups.processes(&format!("{SLICE}/{unit}"));
        // The first one may end just now.
        let told = processes
            .iter()
            .any(|process| tell(*process, Watchdog::Disarm).is_ok());
        disarmed += usize::from(told);
    }
    Ok(disarmed)
}
