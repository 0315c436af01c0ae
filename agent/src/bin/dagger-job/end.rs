//! The last word of a job.

use dagger_agent::adapter::snapshot::Store;
use dagger_agent::domain::job::{End, Ended};
use dagger_agent::domain::transaction::{Data, Outcome, Transaction, Verb, Way};
use dagger_suite::names::{Root, ServiceName};

use crate::rehearse;
use crate::story::Story;
use crate::tell::line;
use crate::tidy;
use crate::world::Work;

/// The last word on a transaction.
pub fn end(
    root: &Root,
    service: &ServiceName,
    transaction: &Transaction,
    story: &Story,
    work: &Work<'_>,
    outcome: Outcome,
) -> End {
    let verb = transaction.verb;
    for note in &work.notes {
        line(note);
    }
    let down = work
        .down
        .map(|down| u64::try_from(down.as_millis()).unwrap_or(u64::MAX));
    let away = down.map_or_else(String::new, |ms| {
        format!(", and was away for {}.{} s", ms / 1000, ms % 1000 / 100)
    });
    let kept = |id: &str| Store::new(root).find(service, id).is_ok().then(|| id.to_owned());
    let mut end = End {
        owner: Some(verb.from()),
        snapshot: kept(&transaction.id),
        down_ms: down,
        ..End::new(Ended::Done, "", None)
    };
    match outcome {
        Outcome::Committed => {
            end.owner = Some(verb.to());
            (end.sentence, end.todo) = committed(service, transaction, story, work, &away);
            if verb == Verb::Rollback && transaction.options.data == Data::Restore {
                let id = end.snapshot.as_ref();
                end.todo = id.map(|id| format!("what the container wrote is in the snapshot {id}"));
            }
            tidy::one(root, service);
        }
        Outcome::Undone(why) => {
            end.result = Ended::Undone;
            end.sentence = match (verb, story.unit(verb.from())) {
                (Verb::Rehearse, unit) => {
                    format!(
                        "{service}'s migration would not go well; {unit} runs as it did, and nothing is left: {why}"
                    )
                }
                (_, "") => format!("{service} is as it was: {why}"),
                (_, unit) => format!("{service} is as it was ({unit}): {why}"),
            };
            end.todo.clone_from(&work.todo);
            end.snapshot = kept(&format!("{}-aside", transaction.id));
            // What was set aside counts, too. The boot does not wait for that.
            if work.bus.is_some() {
                tidy::one(root, service);
            }
        }
        Outcome::Later => {
            end.result = Ended::Later;
            end.owner = None;
            end.sentence = format!("{service}: the rest follows when the machine has booted");
        }
        Outcome::Stuck { at, failure, because } => {
            end.result = Ended::Stuck;
            end.owner = None;
            let doing = at.map_or_else(String::new, |(step, way)| match way {
                Way::Forward => format!(" at {}", step.word()),
                Way::Back => format!(" while {} was undone", step.word()),
            });
            let because = because.map_or_else(String::new, |why| format!("; it was undone because {why}"));
            end.sentence = format!("{service} is half way{doing}, and stays so: {failure}{because}");
            end.todo = Some(format!("mend that, then: nixarr-migrate resume {service}"));
        }
    }
    end
}

/// What there is now, and what somebody may want to do next.
fn committed(
    service: &ServiceName,
    transaction: &Transaction,
    story: &Story,
    work: &Work<'_>,
    away: &str,
) -> (String, Option<String>) {
    let verb = transaction.verb;
    let unit = story.unit(verb.to());
    let back = Some(format!("the way back: nixarr-migrate rollback {service}"));
    let front = story.shadow.as_ref().and_then(|shadow| shadow.port);
    match verb {
        Verb::Migrate => (
            format!("{service} runs in its container now ({unit}){away}"),
            back,
        ),
        // What people looked at has shown that it works; the native unit wrote on meanwhile.
        Verb::Promote => (
            format!(
                "{service} runs in its container now ({unit}){away}; its data is that of {}, and its shadow is gone with all \
                 that was done in it",
                story.native
            ),
            back,
        ),
        Verb::Rollback => (format!("{service} is native again ({unit}){away}"), None),
        Verb::Shadow => (
            format!(
                "a shadow of {service} runs on a copy of its data, cut off from every network{}; {unit} goes on",
                front.map_or_else(String::new, |port| format!(": http://127.0.0.1:{port}"))
            ),
            Some(format!(
                "nixarr-migrate promote {service} makes it the migration, nixarr-migrate discard {service} throws it away; \
                 what is done in it is not kept"
            )),
        ),
        Verb::Discard => (format!("nothing is left of the shadow of {service}"), None),
        Verb::Rehearse => (
            rehearse::sentence(work, story),
            Some(format!("nixarr-migrate migrate {service}")),
        ),
    }
}
