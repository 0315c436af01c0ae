//! Jobs that are killed, and machines that lose their power, in the middle of a transaction.

use anyhow::{Result, ensure};
use dagger_tests::crash::{Case, attempt};
use dagger_tests::harness::{Story, TRIXIE};
use dagger_tests::native::{QUICK, boot, native};
use dagger_tests::suite::Ground;

pub const STORIES: &[Story] = &[
    Story {
        name: "a_job_that_is_killed_is_finished_or_undone_at_once",
        on: TRIXIE,
        run: killed,
    },
    Story {
        name: "a_power_cut_in_a_transaction_is_finished_or_undone_at_the_next_boot",
        on: TRIXIE,
        run: cut,
    },
];

/// Which parts of the way the job has made when it is killed: before the stop, between stop and start, and behind the start.
/// And once what looks after it is killed, too, at the fifth call of its own, and what looks after that at the ninth.
/// Every call: `tests/run --long crash-points`.
const PARTS: [(u64, [Option<u64>; 2]); 4] = [
    (20, [None; 2]),
    (60, [None; 2]),
    (60, [Some(5), Some(9)]),
    (92, [None; 2]),
];

fn killed(ground: &Ground) -> Result<()> {
    several(ground, "killed", false)
}

fn cut(ground: &Ground) -> Result<()> {
    several(ground, "cut", true)
}

fn several(ground: &Ground, name: &str, cut: bool) -> Result<()> {
    let mut machine = boot(native(ground, name, QUICK)?)?;
    let mut outcomes = Vec::new();
    let whole = Case::whole("migrate");
    let calls = attempt(&mut machine, whole)?.calls;
    machine.ok("systemctl start dagger-rollback@sonarr.service")?;
    for (part, again) in PARTS {
        let case = Case {
            call: calls * part / 100,
            cut,
            again,
            ..whole
        };
        let found = attempt(&mut machine, case)?;
        let depth = 1 + again.iter().flatten().count();
        ensure!(found.depth == depth, "{case:?}: {found:?}");
        outcomes.push(found.container);
        if let Some(decided) = found.decided {
            ensure!(decided.as_secs() < 2, "it took {decided:?} to decide");
        }
        if found.container {
            machine.ok("systemctl start dagger-rollback@sonarr.service")?;
        }
    }
    ensure!(
        outcomes.contains(&true) && outcomes.contains(&false),
        "not one was finished and one undone: {outcomes:?} of {calls} calls"
    );
    Ok(())
}
