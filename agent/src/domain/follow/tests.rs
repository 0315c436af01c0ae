use super::*;
use crate::domain::transaction::Step;

const UNIT: &str = "dagger-migrate@sonarr.service";

fn report(number: u64, began: u64) -> Report {
    Report {
        number,
        ..Report::begun(Task::Migrate, "sonarr", 7, began)
    }
}

fn ended(report: Report) -> Report {
    let end = End::new(Ended::Done, "it runs", None);
    Report {
        end: Some(end),
        ..report
    }
}

fn state(table: &Table, number: u64) -> State {
    table.get(number).unwrap().state()
}

#[test]
fn a_job_is_followed_from_its_request_to_its_end() {
    let mut table = Table::default();
    table.begin_after(4);
    let number = table.ask(None, Task::Migrate, "sonarr", 1);
    assert_eq!((number, state(&table, 5)), (5, State::Queued));
    assert_eq!(table.unit(UNIT, true, 2), [5]);
    assert_eq!(table.hear(report(5, 2), 2), 5);
    assert_eq!(state(&table, 5), State::Running);
    let mut at_stop = report(5, 2);
    at_stop.step = Some(Step::Stop);
    table.hear(at_stop.clone(), 3);
    assert_eq!(
        table.changing("sonarr").unwrap().words(),
        "being migrated: step stop"
    );
    at_stop.back = Some("it does not answer".into());
    table.hear(at_stop, 3);
    assert_eq!(state(&table, 5), State::Undoing);
    table.hear(ended(report(5, 2)), 4);
    assert!(
        !table.get(5).unwrap().is_over(),
        "its unit still runs: nobody else gets the service yet"
    );
    assert!(table.holder("sonarr").is_some());
    table.unit(UNIT, false, 5);
    assert_eq!((state(&table, 5), table.get(5).unwrap().ended), (State::Done, 5));
    assert_eq!(table.holder("sonarr"), None);
}

#[test]
fn a_job_that_is_killed_is_followed_by_what_finishes_it() {
    let mut table = Table::default();
    let number = table.ask(None, Task::Migrate, "sonarr", 1);
    table.unit(UNIT, true, 2);
    table.hear(report(number, 2), 2);
    // SIGKILL; the unit's ExecStopPost= goes on with the same number.
    let mut second = report(number, 2);
    second.pid = 8;
    second.back = Some("it was interrupted".into());
    assert_eq!(table.hear(second.clone(), 3), number);
    assert_eq!(state(&table, number), State::Undoing);
    table.hear(ended(second), 4);
    table.unit(UNIT, false, 5);
    assert_eq!(
        table.get(number).unwrap().end.as_ref().unwrap().result,
        Ended::Done
    );
}

#[test]
fn one_that_ends_without_a_word_is_told_apart_by_how_far_it_was() {
    let mut table = Table::default();
    let never = table.ask(None, Task::Migrate, "sonarr", 1);
    table.unit(UNIT, true, 2);
    table.unit(UNIT, false, 3);
    table.unit(UNIT, false, 3);
    let result = |table: &Table, number| table.get(number).unwrap().end.clone().unwrap();
    assert_eq!(result(&table, never).result, Ended::Refused);

    let middle = table.ask(None, Task::Migrate, "sonarr", 4);
    table.unit(UNIT, true, 4);
    table.hear(report(middle, 4), 4);
    table.unit(UNIT, false, 5);
    let end = result(&table, middle);
    assert_eq!(
        (end.result, end.todo.as_deref()),
        (Ended::Stuck, Some("nixarr-migrate resume sonarr"))
    );
    // Somebody goes on with it after all.
    let again = Report {
        pid: 8,
        ..report(middle, 4)
    };
    table.hear(again.clone(), 6);
    assert_eq!(state(&table, middle), State::Running);
    table.hear(ended(again.clone()), 7);
    table.hear(ended(again), 8);
    assert_eq!(
        (state(&table, middle), table.get(middle).unwrap().ended),
        (State::Done, 7)
    );

    let look = table.ask(None, Task::Plan, "radarr", 6);
    table.hear(
        Report {
            number: look,
            ..Report::begun(Task::Plan, "radarr", 9, 6)
        },
        6,
    );
    table.gone(look, 7);
    assert_eq!(result(&table, look).result, Ended::Undone);
}

#[test]
fn what_is_started_by_hand_is_seen_and_keeps_its_number() {
    let mut table = Table::default();
    table.unit(UNIT, true, 1);
    assert!(
        table.holder("sonarr").unwrap().contains(UNIT),
        "before it has said anything"
    );
    let number = table.hear(report(0, 2), 2);
    assert_eq!(table.hear(report(0, 2), 3), number);
    table.hear(ended(report(0, 2)), 4);
    table.unit(UNIT, false, 5);
    let second = table.hear(report(0, 6), 6);
    assert_ne!(second, number);
    // After a restart of the agent: those of before have the numbers that they had.
    let mut table = Table::default();
    assert_eq!(table.hear(ended(report(9, 2)), 3), 9);
    assert_eq!(table.ask(None, Task::Migrate, "radarr", 4), 10);
}

#[test]
fn jobs_that_are_over_are_forgotten_the_oldest_first() {
    let mut table = Table::default();
    let open = table.ask(None, Task::Migrate, "radarr", 1);
    for n in 0..40 {
        let number = table.ask(None, Task::Migrate, "sonarr", n);
        table.gone(number, 100 - n);
    }
    let gone = table.forget();
    assert_eq!(gone.len(), 40 - KEPT);
    assert_eq!(gone[0], 41, "it was over first");
    assert!(table.get(open).is_some() && table.forget().is_empty());
}

/// What systemd answers may be older than what it has said of itself meanwhile.
#[test]
fn a_unit_that_seems_to_run_is_asked_after_until_it_does_not() {
    let mut table = Table::default();
    let number = table.ask(None, Task::Migrate, "sonarr", 1);
    assert_eq!(table.units(), [UNIT]);
    table.unit(UNIT, true, 2);
    table.hear(ended(report(number, 2)), 3);
    table.unit(UNIT, false, 4);
    assert!(table.units().is_empty());
    table.unit(UNIT, true, 5);
    assert!(table.holder("sonarr").is_some(), "it seems to run");
    assert_eq!(table.units(), [UNIT]);
    table.unit(UNIT, false, 6);
    assert_eq!((table.holder("sonarr"), table.units().len()), (None, 0));
}

#[test]
fn a_job_that_has_said_nothing_is_lost_when_systemd_says_so_twice() {
    let mut table = Table::default();
    let number = table.ask(None, Task::Migrate, "sonarr", 1);
    table.unit(UNIT, true, 2);
    // An answer from before the start, that was overtaken by it.
    table.unit(UNIT, false, 3);
    assert!(!table.get(number).unwrap().is_over());
    assert_eq!(table.units(), [UNIT]);
    table.unit(UNIT, true, 4);
    table.unit(UNIT, false, 5);
    table.unit(UNIT, false, 6);
    let end = table.get(number).unwrap().end.clone().unwrap();
    assert!(end.sentence.contains("ended before it began"), "{}", end.sentence);
}
