//! `dagger-job recover`: once a boot, before any service starts, what a crash left is finished or undone. And `resume`
//! without a service: the same later, for all that had to wait.

use dagger_agent::adapter::clock::realtime_usec;
use dagger_agent::adapter::disk::{self, Over};
use dagger_agent::adapter::transaction::{self, Below, TRANSACTIONS, Wal};
use dagger_agent::domain::job::{Ended, Report, Task};
use dagger_agent::domain::transaction::Moment;
use dagger_suite::names::{JOB_DIR, Root, ServiceName};

use crate::run::{self, Refused};
use crate::shadow;
use crate::tell::Teller;

/// More services than any machine has.
const MOST: usize = 10_000;

/// It was done in this boot: from now on services run, and what is open is for `resume`.
const DONE: &str = "booted";

/// Everything that can be done while nothing runs. It never fails: a service whose transaction cannot be read is held, and
/// the others start.
pub fn boot(root: &Root) -> Result<(), Vec<String>> {
    let first = disk::write(&root.join(format!("{JOB_DIR}/{DONE}")), b"", Over::Keep);
    match first {
        Ok(true) => {}
        Ok(false) => {
            println!("this was done in this boot; services may run: dagger-resume.service does the rest");
            return Ok(());
        }
        // Better twice than never.
        Err(error) => eprintln!("{error}"),
    }
    for service in services(root)? {
        if let Err(refused) = one(root, &service) {
            eprintln!("{service} is held: {}", refused.why);
            hold(root, &service, &refused.why);
        }
    }
    Ok(())
}

fn one(root: &Root, service: &ServiceName) -> Result<(), Refused> {
    let _lock = run::lock(root, "recover", service)?;
    let Some((progress, wal)) = run::open(root, service)? else {
        return Ok(());
    };
    let report = Report::begun(
        Task::Resume,
        service.as_str(),
        std::process::id(),
        realtime_usec(),
    );
    let teller = Teller::new(root, service, report);
    let end = run::go_on_with(root, service, Moment::Boot, None, &teller, progress, wal)?;
    teller.end(&end);
    Ok(())
}

fn hold(root: &Root, service: &ServiceName, why: &str) {
    let files = Below::open(&root.join(transaction::DIR)).map_err(|error| error.to_string());
    let held = files.and_then(|files| {
        Wal::hold_for(files, service.as_str(), realtime_usec, why).map_err(|error| error.to_string())
    });
    if let Err(error) = held {
        eprintln!("{service} cannot even be held: {error}");
    }
}

/// What is open, one service after the other; a service that is at work already is left alone.
pub fn all(root: &Root) -> Result<(), Vec<String>> {
    let mut reasons = Vec::new();
    for service in services(root)? {
        let log = root.join(format!("{}/{TRANSACTIONS}/{service}/log", transaction::DIR));
        if log.exists()
            && !matches!(
                run::job(root, Task::Resume, &service),
                Ended::Done | Ended::Undone
            )
        {
            reasons.push(format!("{service} is not settled"));
        }
    }
    reasons.extend(shadow::sweep(root).err().into_iter().flatten());
    if reasons.is_empty() { Ok(()) } else { Err(reasons) }
}

/// All services that ever had a transaction.
fn services(root: &Root) -> Result<Vec<ServiceName>, Vec<String>> {
    let dir = root.join(transaction::DIR).join(TRANSACTIONS);
    let failed = |error: String| vec![error];
    let Some(open) = disk::open_dir(&dir).map_err(|error| failed(error.to_string()))? else {
        return Ok(Vec::new());
    };
    let names = disk::names(open, MOST)
        .map_err(|error| failed(format!("{} cannot be listed: {error}", dir.display())))?;
    let mut services: Vec<_> = names
        .iter()
        .filter_map(|name| ServiceName::parse(name.to_str()?).ok())
        .collect();
    services.sort();
    Ok(services)
}
