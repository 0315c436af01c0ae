use super::super::verb::{Options, Verb};
use super::*;

fn begun(verb: Verb, nothing_to_adjust: bool) -> Transaction {
    Transaction {
        id: "1".into(),
        service: "sonarr".into(),
        verb,
        options: Options {
            nothing_to_adjust,
            ..Options::default()
        },
        run_as: None,
        plan: Value::Null,
    }
}

/// The records of a transaction that goes well until the step `fails`, and back from there.
fn story(verb: Verb, fails: Option<Step>) -> Vec<Record> {
    told(begun(verb, false), fails)
}

fn told(transaction: Transaction, fails: Option<Step>) -> Vec<Record> {
    let mut progress = Progress::new(transaction.clone());
    let mut records = vec![Record::Begin { transaction }];
    let mut tell = |progress: &mut Progress, record: Record| {
        progress.take(&record).unwrap();
        records.push(record);
    };
    loop {
        match progress.next() {
            Next::Forward(step) => {
                tell(&mut progress, Record::Intent { step });
                let record = if fails == Some(step) {
                    Record::Back {
                        why: "it is a test".into(),
                    }
                } else {
                    Record::Done {
                        step,
                        undo: step.word().into(),
                    }
                };
                tell(&mut progress, record);
            }
            Next::Commit => tell(&mut progress, Record::Commit),
            Next::Back(step) => {
                tell(&mut progress, Record::Undo { step });
                tell(&mut progress, Record::Undone { step });
            }
            Next::End(result) => tell(&mut progress, Record::End { result }),
            Next::Nothing(_) => return records,
        }
    }
}

/// Every story that there is, of every verb.
fn stories() -> Vec<Vec<Record>> {
    let mut stories = Vec::new();
    for verb in Verb::ALL {
        for nothing_to_adjust in [false, true] {
            let begun = begun(verb, nothing_to_adjust);
            stories.push(told(begun.clone(), None));
            for step in steps(verb, &begun.options) {
                if step.acts(Way::Forward) {
                    stories.push(told(begun.clone(), Some(step)));
                }
            }
        }
    }
    stories
}

fn lines(records: &[Record]) -> Vec<Line> {
    let number = |(n, record): (u64, &Record)| Line::new(n, 0, record.clone());
    (0..).zip(records).map(number).collect()
}

/// A migration, as words.
#[test]
fn a_failed_probation_keeps_what_the_container_wrote_before_it_puts_back() {
    let undone: Vec<&str> = story(Verb::Migrate, Some(Step::Probation))
        .iter()
        .filter_map(|record| match record {
            Record::Undone { step } => Some(step.word()),
            _ => None,
        })
        .collect();
    assert_eq!(
        undone,
        [
            "start",
            "set-aside",
            "put-back",
            "flip",
            "adjust",
            "stop",
            "snapshot"
        ]
    );
}

/// Wherever a log ends, the decision is one that its last record allows.
#[test]
fn every_prefix_of_every_log_is_decided() {
    for records in stories() {
        let turning = match &records[0] {
            Record::Begin { transaction } => transaction.verb.turning_point(),
            _ => None,
        };
        assert_eq!(recover(&[]), Decision::Nothing);
        for end in 1..=records.len() {
            let log = &records[..end];
            let turned = log
                .iter()
                .any(|record| matches!(record, Record::Done { step, .. } if Some(*step) == turning));
            let back = log.iter().any(|record| matches!(record, Record::Back { .. }));
            let decision = recover(&lines(log));
            let fits = match (log.last().unwrap(), &decision) {
                (Record::End { .. }, decision) => *decision == Decision::Nothing,
                (Record::Commit, decision) => *decision == Decision::Close(Ending::Committed),
                (_, Decision::UndoFrom(_)) => back || !turned,
                (_, Decision::GoOn(_)) => turned && !back,
                (_, Decision::Close(ending)) => back && *ending == Ending::Undone,
                (_, Decision::Nothing | Decision::Hold(_)) => false,
            };
            assert!(fits, "{:?} -> {decision:?}", log.last());
        }
    }
}

/// A log that lacks any of its lines, or has one twice, is not taken for another story. A step may be announced twice,
/// because it may be taken twice.
#[test]
fn lines_that_cannot_follow_each_other_are_refused() {
    for records in stories() {
        for index in 0..records.len() - 1 {
            let mut without = records.clone();
            let gone = without.remove(index);
            // Where nothing comes of it: a step that failed and has nothing to undo.
            let harmless = matches!(gone, Record::Intent { step } if !step.acts(Way::Back))
                && matches!(records[index + 1], Record::Back { .. });
            if !harmless {
                let damage = Progress::replay(&lines(&without)).expect_err("a line is missing");
                assert!(damage.line > index, "{gone:?}: {damage:?}");
            }
            let mut twice = records.clone();
            twice.insert(index, records[index].clone());
            let again = Progress::replay(&lines(&twice));
            let harmless = matches!(records[index], Record::Intent { .. } | Record::Undo { .. });
            assert_eq!(again.is_ok(), harmless, "{:?} twice", records[index]);
        }
    }
}

#[test]
fn what_a_step_noted_is_there_for_its_undoing() {
    let records = story(Verb::Migrate, Some(Step::Check));
    let progress = Progress::replay(&lines(&records)).unwrap().unwrap();
    assert_eq!(progress.noted(Step::Snapshot), Some(&"snapshot".into()));
    assert_eq!(progress.noted(Step::Check), None);
    assert_eq!(progress.noted(Step::StopShadow), None);
    assert_eq!(progress.why(), Some("it is a test"));
    assert_eq!(progress.ending(), Some(Ending::Undone));
}
