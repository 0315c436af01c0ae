//! One job from its request to its last word.

use dagger_agent::adapter::clock::{realtime_usec, utc};
use dagger_agent::adapter::jobs;
use dagger_agent::adapter::snapshot::Store;
use dagger_agent::adapter::transaction::{self, Below, Found, Holder, Lock, Wal, WalError};
use dagger_agent::adapter::tree::Gift;
use dagger_agent::domain::job::{End, Ended, Report, Request, Task};
use dagger_agent::domain::plan::cost::wanted;
use dagger_agent::domain::plan::hands::Hands;
use dagger_agent::domain::plan::{self, Plan};
use dagger_agent::domain::transaction::{
    Data, Moment, Options, Progress, RunAs, Side, Transaction, Verb, forward, resume, run, steps,
};
use dagger_suite::names::{Root, ServiceName};

use crate::bus::Bus;
use crate::end::end;
use crate::look::{self, Looked};
use crate::story::Story;
use crate::tell::{Teller, line};
use crate::world::Work;
use crate::{rehearse, rollback, shadow};

/// What is about to be done, when nothing stands in the way.
pub struct Ready {
    /// The first record's.
    pub transaction: Transaction,
    /// What its steps need to know.
    pub story: Story,
}

/// Why nothing is begun.
pub struct Refused {
    /// What stands in the way.
    pub why: String,
    /// What to do about it.
    pub todo: Option<String>,
}

impl From<String> for Refused {
    fn from(why: String) -> Self {
        Self { why, todo: None }
    }
}

/// Does a task on a service.
pub fn job(root: &Root, task: Task, service: &ServiceName) -> Ended {
    let request = jobs::asked(root, service);
    let by_itself = task == Task::Resume && matches!(request, Ok(None));
    if by_itself && !is_open(root, service) && half_way(root, service).is_none() {
        // After each job systemd asks whether something was left; what that said about itself is to stay.
        return Ended::Done;
    }
    let _lock = match lock(root, task.word(), service) {
        Ok(lock) => lock,
        Err(refused) => {
            // The file is another's, who is at work: nothing is told there.
            line(&format!("{service} was left as it is: {}", refused.why));
            return if by_itself { Ended::Done } else { Ended::Refused };
        }
    };
    if by_itself && matches!(open(root, service), Ok(None)) {
        // Not even the first record of it was written; or the last.
        amend(root, service);
        return Ended::Done;
    }
    let teller = Teller::new(root, service, begun(root, task, service, request.as_ref().ok()));
    let end = request
        .map_err(|error| Refused::from(error.to_string()))
        .and_then(|request| {
            let bus = Bus::connect()?;
            let end = match task.verb() {
                None if task == Task::Plan => look_only(root, service, &bus),
                None => go_on(root, service, &bus, &teller),
                Some(verb) => change(root, verb, service, &request.unwrap_or_default(), &bus, &teller),
            }?;
            if end.result == Ended::Done {
                forget(&bus, task, service);
            }
            Ok(end)
        })
        .unwrap_or_else(|refused| {
            let sentence = format!("{service} was left as it is: {}", refused.why);
            End::new(Ended::Refused, sentence, refused.todo)
        });
    let ended = end.result;
    teller.end(&end);
    ended
}

/// Where the service is what it was to be, nobody wants to read of earlier jobs in `systemctl --failed`.
fn forget(bus: &Bus, done: Task, service: &ServiceName) {
    if matches!(
        done,
        Task::Migrate | Task::Rollback | Task::Promote | Task::Resume
    ) {
        let earlier = Task::ALL.into_iter().filter(|task| *task != done);
        earlier.for_each(|task| bus.forget(&task.unit(service.as_str())));
    }
}

/// The last job, where it took itself to be half way at its end: what it did, and its last words.
fn half_way(root: &Root, service: &ServiceName) -> Option<(Report, Verb, End)> {
    let report = jobs::told(root, service).ok().flatten()?;
    let verb = report.task.verb()?;
    let end = report.end.clone().filter(|end| end.result == Ended::Stuck)?;
    Some((report, verb, end))
}

/// Such a job was not half way: its last record is on the disk after all, although the disk said no.
fn amend(root: &Root, service: &ServiceName) {
    let Some((mut report, verb, end)) = half_way(root, service) else {
        return;
    };
    let owner = if root.join(service.owner_marker()).exists() {
        Side::Container
    } else {
        Side::Native
    };
    let (result, how) = if verb.to() == owner {
        (Ended::Done, "went to its end")
    } else {
        (Ended::Undone, "was undone")
    };
    let sentence = format!(
        "{service}: the {} {how}, and nothing of it is open any more",
        verb.word()
    );
    line(&sentence);
    report.end = Some(End {
        owner: Some(owner),
        snapshot: end.snapshot,
        down_ms: end.down_ms,
        ..End::new(result, sentence, None)
    });
    if let Err(error) = jobs::tell(root, service, &report) {
        line(&format!("that cannot be shown: {error}"));
    }
}

/// The first word. One that goes on with what another process began goes on with its number, too.
fn begun(root: &Root, task: Task, service: &ServiceName, request: Option<&Option<Request>>) -> Report {
    let now = realtime_usec();
    let request = request.and_then(Option::as_ref);
    let before = jobs::told(root, service).ok().flatten();
    let before = before.filter(|report| task == Task::Resume && request.is_none() && report.end.is_none());
    let mut report = Report::begun(task, service.as_str(), std::process::id(), now);
    report.number = request.map_or(0, |request| request.number);
    if let Some(before) = before {
        report.number = before.number;
        report.task = before.task;
        report.id = before.id;
        report.began = before.began;
    }
    report
}

/// The service is this process's alone.
pub fn lock(root: &Root, word: &str, service: &ServiceName) -> Result<Lock, Refused> {
    let holder = Holder {
        pid: std::process::id(),
        unit: std::env::var("DAGGER_UNIT").ok(),
        verb: word.to_owned(),
        since: realtime_usec(),
    };
    let dir = root.join(transaction::DIR);
    Lock::take(&dir, service.as_str(), &holder).map_err(|error| Refused::from(error.to_string()))
}

fn looked(root: &Root, service: &ServiceName, bus: &Bus) -> Result<(Looked, Plan), Refused> {
    let Some(looked) = look::look(root, service, bus, true)? else {
        let plan = plan::refused(service.as_str());
        keep(root, service, &plan);
        return Err(blocked(&plan));
    };
    let plan = plan::plan(&looked.service, &looked.facts);
    keep(root, service, &plan);
    Ok((looked, plan))
}

fn keep(root: &Root, service: &ServiceName, plan: &Plan) {
    if let Err(error) = jobs::keep_plan(root, service, plan) {
        eprintln!("the plan cannot be shown: {error}");
    }
}

fn blocked(plan: &Plan) -> Refused {
    let mut blockers = plan.blockers.iter();
    let first = blockers.next();
    let more = match blockers.count() {
        0 => String::new(),
        count => format!(" (and {count} more: see `nixarr-migrate plan {}`)", plan.service),
    };
    Refused {
        why: first.map_or_else(String::new, |finding| format!("{}{more}", finding.what)),
        todo: first
            .map(|finding| finding.remedy.clone())
            .filter(|todo| !todo.is_empty()),
    }
}

fn look_only(root: &Root, service: &ServiceName, bus: &Bus) -> Result<End, Refused> {
    let (_, plan) = looked(root, service, bus)?;
    println!("{plan}");
    let sentence = match plan.blockers.len() {
        0 => format!("nothing stands in the way of {service}'s migration"),
        1 => format!("one thing stands in the way of {service}'s migration"),
        count => format!("{count} things stand in the way of {service}'s migration"),
    };
    Ok(End::new(Ended::Done, sentence, None))
}

/// A transaction from its beginning to its end.
fn change(
    root: &Root,
    verb: Verb,
    service: &ServiceName,
    request: &Request,
    bus: &Bus,
    teller: &Teller,
) -> Result<End, Refused> {
    let dir = root.join(transaction::DIR);
    let mut ready = match verb {
        Verb::Migrate | Verb::Promote | Verb::Shadow | Verb::Rehearse => migration(root, verb, service, bus)?,
        Verb::Rollback => rollback::ready(root, &dir, service, request, bus)?,
        Verb::Discard if shadow::is_left(root, service) => {
            ready(service, verb, Options::default(), None, Story::default())
        }
        Verb::Discard => {
            let sentence = format!("{service} has no shadow");
            return Ok(End::new(Ended::Done, sentence, None));
        }
    };
    ready.transaction.id = untaken(&Store::new(root), service, &ready.transaction.id)?;
    let files = Below::open(&dir).map_err(|error| Refused::from(error.to_string()))?;
    let mut wal = Wal::prepare(files, &ready.transaction, realtime_usec).map_err(|error| Refused {
        todo: matches!(error, WalError::Open { .. }).then(|| format!("nixarr-migrate resume {service}")),
        why: error.to_string(),
    })?;
    let all = steps(verb, &ready.transaction.options);
    teller.change(|report| {
        report.id.clone_from(&ready.transaction.id);
        report.steps = count(&all);
    });
    teller.foresee(ready.story.forecast(&all));
    let mut work = Work::new(root, service, Some(bus), teller);
    let outcome = run(&ready.transaction, &mut work, &mut wal);
    Ok(end(
        root,
        service,
        &ready.transaction,
        &ready.story,
        &work,
        outcome,
    ))
}

/// A name that no snapshot has: the clock may have been set back, and what is undone is removed by its name.
fn untaken(store: &Store, service: &ServiceName, id: &str) -> Result<String, String> {
    let (all, unreadable) = store.list(service).map_err(|error| error.to_string())?;
    let mut names: Vec<String> = all.into_iter().map(|it| it.id).collect();
    // They name the label that cannot be read.
    names.extend(unreadable.iter().map(ToString::to_string));
    let taken = |id: &String| names.iter().any(|name| name.contains(id.as_str()));
    std::iter::once(id.to_owned())
        .chain((2..100).map(|number| format!("{id}-{number}")))
        .find(|id| !taken(id))
        .ok_or_else(|| format!("{service} has too many snapshots of this second: {id}"))
}

fn count(steps: &[dagger_agent::domain::transaction::Step]) -> u32 {
    u32::try_from(forward(steps).count()).unwrap_or(u32::MAX)
}

/// Whether there may be a shadow, and has to be.
fn beside(root: &Root, verb: Verb, service: &ServiceName) -> Result<(), Refused> {
    let (why, todo) = match (verb == Verb::Promote, shadow::is_there(root, service)) {
        (true, false) => (
            format!("{service} has no shadow"),
            format!("nixarr-migrate migrate {service}"),
        ),
        (false, true) => (
            format!("{service} has a shadow"),
            format!(
                "nixarr-migrate promote {service} makes it the migration, nixarr-migrate discard {service} throws it away"
            ),
        ),
        (true, true) | (false, false) => return Ok(()),
    };
    let todo = Some(todo);
    Err(Refused { why, todo })
}

/// A migration, or a part of it on a copy.
fn migration(root: &Root, verb: Verb, service: &ServiceName, bus: &Bus) -> Result<Ready, Refused> {
    beside(root, verb, service)?;
    let (looked, plan) = looked(root, service, bus)?;
    if plan.is_blocked() {
        return Err(blocked(&plan));
    }
    let mut story = looked.migration(root, &plan)?;
    let from = plan.owner.unwrap_or_default();
    let to = wanted(&looked.service, from);
    story.gift = (from != to).then_some(Gift { from, to });
    story.hands = Hands::of(&looked.service, from);
    let run_as = RunAs {
        uid: to.uid,
        gid: to.gid,
    };
    story.run_as = Some(run_as);
    if matches!(verb, Verb::Shadow | Verb::Rehearse) {
        story.shadow = Some(rehearse::made(root, &looked, &story, verb)?);
    }
    let options = story.options(Data::Keep, None);
    Ok(ready(service, verb, options, Some(run_as), story))
}

/// A transaction with a name that is not taken yet.
pub fn ready(
    service: &ServiceName,
    verb: Verb,
    options: Options,
    run_as: Option<RunAs>,
    story: Story,
) -> Ready {
    let digits: String = utc(realtime_usec())
        .chars()
        .filter_map(|c| match c {
            ' ' => Some('-'),
            c if c.is_ascii_digit() => Some(c),
            _ => None,
        })
        .collect();
    Ready {
        transaction: Transaction {
            // The names of a service's snapshots sort by time, and say what for.
            id: format!("{digits}-{}", verb.word()),
            service: service.to_string(),
            verb,
            options,
            run_as,
            plan: serde_json::to_value(&story).unwrap_or_default(),
        },
        story,
    }
}

/// Finishes or undoes what is open.
fn go_on(root: &Root, service: &ServiceName, bus: &Bus, teller: &Teller) -> Result<End, Refused> {
    match open(root, service)? {
        None => Ok(End::new(
            Ended::Done,
            format!("nothing of {service} was interrupted"),
            None,
        )),
        Some((progress, wal)) => go_on_with(root, service, Moment::Running, Some(bus), teller, progress, wal),
    }
}

/// Whether there is anything to finish or undo.
pub fn is_open(root: &Root, service: &ServiceName) -> bool {
    let log = format!("{}/{}/{service}/log", transaction::DIR, transaction::TRANSACTIONS);
    root.join(log).exists()
}

/// The transaction of a service that is open, if any.
pub fn open(root: &Root, service: &ServiceName) -> Result<Option<(Progress, Wal<Below>)>, Refused> {
    let dir = root.join(transaction::DIR);
    let files = Below::open(&dir).map_err(|error| Refused::from(error.to_string()))?;
    match Wal::find(files, service.as_str(), realtime_usec) {
        Ok(Found::Nothing) => Ok(None),
        Ok(Found::Open(progress, wal)) => Ok(Some((*progress, wal))),
        Err(error) => Err(Refused {
            why: format!("what was interrupted cannot be read: {error}"),
            todo: Some(format!(
                "{service} stays as it is; look at that log, and at the snapshots (nixarr-migrate snapshots {service})"
            )),
        }),
    }
}

/// Goes on with it.
pub fn go_on_with(
    root: &Root,
    service: &ServiceName,
    moment: Moment,
    bus: Option<&Bus>,
    teller: &Teller,
    progress: Progress,
    mut wal: Wal<Below>,
) -> Result<End, Refused> {
    let transaction = progress.transaction().clone();
    let story = Story::of(&transaction)?;
    teller.change(|report| {
        report.id.clone_from(&transaction.id);
        report.steps = count(progress.steps());
    });
    teller.foresee(story.forecast(progress.steps()));
    let mut work = Work::new(root, service, bus, teller);
    let outcome = resume(progress, moment, &mut work, &mut wal);
    Ok(end(root, service, &transaction, &story, &work, outcome))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_names_no_snapshot_anew() {
        let dir = std::env::temp_dir().join(format!("dagger-untaken-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        let root = Root::new(dir.canonicalize().unwrap());
        let sonarr = ServiceName::parse("sonarr").unwrap();
        let name = || untaken(&Store::new(&root), &sonarr, "20261128-101500-migrate").unwrap();
        assert_eq!(name(), "20261128-101500-migrate");
        for (id, label) in [
            ("20261128-101500-migrate-aside", r#"{"service":"sonarr"}"#),
            ("20261128-101500-migrate-2", "{"),
        ] {
            let place = root.join("/var/lib/dagger/snapshots/sonarr").join(id);
            std::fs::create_dir_all(&place).unwrap();
            std::fs::write(place.join("label.json"), label).unwrap();
        }
        assert_eq!(name(), "20261128-101500-migrate-3");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
