//! The steps that copy: snapshot, what changed since, and the ways back.

use dagger_agent::adapter::clock::realtime_usec;
use dagger_agent::adapter::snapshot::{Draft, SnapshotError};
use dagger_agent::adapter::tree::{self, Gift, Options, Report, Tree};
use dagger_agent::domain::plan::facts::Who;
use dagger_agent::domain::snapshot::Label;
use dagger_agent::domain::transaction::{Failure, Transaction, Way};
use serde_json::{Value, json};

use crate::story::Story;
use crate::world::{Work, at};

/// What the new side has written is kept beside the transaction's snapshot, under its id and this.
const ASIDE: &str = "-aside";

/// Copies all directories while the old side runs.
pub fn snapshot(work: &Work<'_>, story: &Story, id: &str) -> Result<Value, Failure> {
    work.work(Way::Forward, story.size, |progress| {
        copied(work, story, id, progress).map(|_| Value::Null)
    })
}

/// A snapshot that is being made, with all directories as they are now.
fn copied(work: &Work<'_>, story: &Story, id: &str, progress: &tree::Progress) -> Result<Draft, String> {
    let draft = work
        .store
        .begin(work.service, id, progress)
        .map_err(|error| said(&error))?;
    for place in story.kept() {
        let from = Tree::open(&at(work.root, place)).map_err(|error| error.to_string())?;
        draft
            .copy(&place.role, &from, &Options::default(), progress)
            .map_err(|error| said(&error))?;
    }
    Ok(draft)
}

/// Brings the copy up to what changed until the old side had ended, and gives it its name.
pub fn refresh(work: &Work<'_>, story: &Story, id: &str) -> Result<Value, Failure> {
    work.work(Way::Forward, story.size, |progress| {
        let draft = work.store.resume(work.service, id).map_err(|error| said(&error))?;
        let draft = draft.ok_or_else(|| format!("the snapshot {id} is not there any more"))?;
        for place in story.kept() {
            let from = Tree::open(&at(work.root, place)).map_err(|error| error.to_string())?;
            let report = draft
                .refresh(&place.role, &from, &Options::default(), progress)
                .map_err(|error| said(&error))?;
            if let Some(path) = report.changed.first.first() {
                return Err(format!(
                    "somebody writes to {path} although its service is stopped: find out who (fuser -v {path})"
                ));
            }
            given_away(story, &report)?;
        }
        draft.finish(label(story, realtime_usec())).map_err(|error| said(&error))?;
        Ok(json!({ "snapshot": id }))
    })
}

/// What the plan has refused may have been put there since: a name of another's file, which would change hands with the rest.
fn given_away(story: &Story, report: &Report) -> Result<(), String> {
    let taken = |owner: &Who| story.hands.is_some_and(|hands| hands.take(*owner));
    let mut outside = report.linked_outside.iter();
    let Some((owner, files)) = outside.find(|(owner, _)| taken(owner)) else {
        return Ok(());
    };
    let path = files.first.first().map(ToString::to_string).unwrap_or_default();
    Err(format!(
        "{path} has a further name outside of the state (a hard link) and belongs to {owner}: it would change hands out there, too"
    ))
}

/// Makes the data what an older snapshot holds.
pub fn restore_older(work: &Work<'_>, story: &Story, transaction: &Transaction) -> Result<Value, Failure> {
    let id = transaction.options.snapshot.as_deref();
    let id = id.ok_or_else(|| "no snapshot was named".to_owned())?;
    restore(work, story, id, Way::Forward)?;
    Ok(Value::Null)
}

/// Makes the data what this transaction's snapshot holds.
pub fn put_back(work: &Work<'_>, story: &Story, id: &str) -> Result<(), Failure> {
    restore(work, story, id, Way::Back)
}

fn restore(work: &Work<'_>, story: &Story, id: &str, way: Way) -> Result<(), Failure> {
    work.work(way, story.size, |progress| {
        let snapshot = work.store.find(work.service, id).map_err(|error| said(&error))?;
        for place in story.kept() {
            let to = Tree::open(&at(work.root, place)).map_err(|error| error.to_string())?;
            snapshot
                .restore(&place.role, &to, &Options::default(), progress)
                .map_err(|error| said(&error))?;
        }
        Ok(())
    })
}

/// Keeps what the new side has written as a snapshot of its own. It is for people, and the way back does not hang on it: a
/// disk that is full is no reason to leave the service down.
pub fn set_aside(work: &mut Work<'_>, story: &Story, id: &str) {
    let id = format!("{id}{ASIDE}");
    if work.store.find(work.service, &id).is_ok() {
        return;
    }
    let kept = work.work(Way::Back, story.size, |progress| {
        let draft = copied(work, story, &id, progress)?;
        let label = Label {
            why: format!("{}, what was set aside when it was undone", story.label.why),
            ..label(story, realtime_usec())
        };
        draft.finish(label).map_err(|error| said(&error))?;
        Ok(())
    });
    if let Err(failure) = kept {
        work.notes.push(format!(
            "what was written since the change could not be kept as a snapshot: {failure}"
        ));
        drop_snapshot(work, &id);
    }
}

/// Gives the directories to another user.
pub fn give(work: &Work<'_>, story: &Story, gift: Gift) -> Result<(), Failure> {
    work.work(Way::Forward, story.size, |progress| {
        for place in &story.places {
            let tree = Tree::open(&at(work.root, place)).map_err(|error| error.to_string())?;
            tree::give(&tree, gift, progress).map_err(|error| error.to_string())?;
        }
        Ok(())
    })
}

/// Removes the transaction's snapshot, finished or not. Where that cannot be done it takes up room and nothing else: what is
/// unfinished goes with the next job or the next week, what is finished when the policy says so.
pub fn drop_snapshot(work: &mut Work<'_>, id: &str) {
    let progress = tree::Progress::default();
    if let Err(error) = work.store.delete(work.service, id, &progress) {
        work.notes
            .push(format!("the snapshot {id} could not be removed: {error}"));
    }
}

pub fn label(story: &Story, when: u64) -> Label {
    Label {
        when,
        roles: story
            .kept()
            .map(|place| (place.role.clone(), place.path.clone().into()))
            .collect(),
        ..story.label.clone()
    }
}

pub fn said(error: &SnapshotError) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dagger_agent::domain::plan::hands::Hands;

    #[test]
    fn another_files_name_that_came_after_the_plan_is_found_before_it_is_given_away() {
        let owner = |uid| Who { uid, gid: 169 };
        let mut report = Report::default();
        for (uid, path) in [(274, "/s/own"), (275, "/s/planted")] {
            let noted = report.linked_outside.entry(owner(uid)).or_default();
            noted.note(path.as_ref());
        }
        let story = |hands| Story {
            hands,
            ..Story::default()
        };
        let to = owner(274);
        let why = given_away(&story(Some(Hands { from: None, to })), &report).unwrap_err();
        assert!(
            why.starts_with("/s/planted has a further name outside") && why.contains("275:169"),
            "{why}"
        );
        // Nothing changes hands on the way back, nor where an image keeps to its user.
        assert_eq!(given_away(&story(None), &report), Ok(()));
        report.linked_outside.remove(&owner(275));
        assert_eq!(
            given_away(&story(Some(Hands { from: None, to })), &report),
            Ok(())
        );
    }
}
