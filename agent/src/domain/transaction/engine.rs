//! Takes a transaction from its first record to its last: forwards while all goes well, else back.
//!
//! The world outside is two traits. [`Ledger`] is what the outcome hangs on: the log, the hold and the owner marker.
//! [`World`] is the work. Whatever is asked of either may be asked again after a crash in the middle of it.

use serde_json::Value;

use super::progress::{Next, Progress};
use super::record::{Ending, Record};
use super::step::{Step, Way};
use super::verb::{Side, Transaction};

/// A step, or its undoing, went wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Failure {
    /// What happened, and to what.
    pub why: String,
    /// What a person can do about it.
    pub todo: Option<String>,
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self { why, todo: None }
    }
}

/// What the outcome hangs on. Each call has its effect on disk, durably, when it returns without an error.
pub trait Ledger {
    /// Adds a record to the log. After an error nothing more is added.
    fn append(&mut self, record: &Record) -> Result<(), String>;
    /// Lays the hold on the service, or takes it away. As it is wanted already: nothing.
    fn hold(&mut self, held: bool) -> Result<(), String>;
    /// Gives the service's data to a side, by its owner marker. As it is wanted already: nothing.
    fn give(&mut self, to: Side) -> Result<(), String>;
}

/// The work of the steps, [`Step::Flip`] excepted. At boot ([`Moment::Boot`]) units are neither started nor stopped, nor
/// waited for: none runs yet, and those that may will.
pub trait World {
    /// Takes a step. What it changed is on disk when this returns; the value is handed to [`World::undo`].
    ///
    /// It may have been taken before, wholly or half. An error says that it did not succeed, not that nothing happened.
    fn perform(&mut self, step: Step, progress: &Progress) -> Result<Value, Failure>;
    /// Undoes a step, which may have been taken wholly, half or not at all, and undone half. `noted` is what it returned, if
    /// it returned.
    fn undo(&mut self, step: Step, noted: Option<&Value>, progress: &Progress) -> Result<(), Failure>;
    /// Why it should not go on, when somebody has cancelled it. Asked between steps; a long step asks by itself, and fails.
    fn cancelled(&mut self) -> Option<String>;
    /// Something is about to be done.
    fn tell(&mut self, news: News<'_>);
}

/// What is about to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News<'a> {
    /// A step is taken or undone.
    Step(Step, Way),
    /// It goes back, and why.
    Back(&'a str),
}

/// When it is that a transaction is resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before any unit of the suite, or a native one, has started.
    Boot,
    /// Any later time.
    Running,
}

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The new world.
    Committed,
    /// The old world, and why.
    Undone(String),
    /// What is left has to wait until the machine has booted: resume it then.
    Later,
    /// It is as it was left, and the transaction stays open. Whether the service is held depends on the step.
    Stuck {
        /// What could not be done, and to which step it belongs.
        at: Option<(Step, Way)>,
        /// Why not.
        failure: Failure,
        /// Why it was undone, if it was.
        because: Option<String>,
    },
}

/// Begins a transaction and takes it to its end.
pub fn run(transaction: &Transaction, world: &mut dyn World, ledger: &mut dyn Ledger) -> Outcome {
    let begin = Record::Begin {
        transaction: transaction.clone(),
    };
    if let Err(why) = ledger.append(&begin) {
        return Outcome::Stuck {
            at: None,
            failure: why.into(),
            because: None,
        };
    }
    Engine {
        progress: Progress::new(transaction.clone()),
        moment: Moment::Running,
        world,
        ledger,
    }
    .drive()
}

/// Takes a transaction that was interrupted to its end: on when it has turned, else back.
pub fn resume(progress: Progress, moment: Moment, world: &mut dyn World, ledger: &mut dyn Ledger) -> Outcome {
    let undo = matches!(progress.next(), Next::Forward(_) | Next::Commit) && !progress.has_turned();
    let mut engine = Engine {
        progress,
        moment,
        world,
        ledger,
    };
    if undo {
        let at = engine.progress.last().map_or("the first step", Step::word);
        let why = format!("it was interrupted at {at}");
        if let Err(outcome) = engine.turn_back(why) {
            return outcome;
        }
    }
    engine.drive()
}

struct Engine<'a> {
    progress: Progress,
    moment: Moment,
    world: &'a mut dyn World,
    ledger: &'a mut dyn Ledger,
}

impl Engine<'_> {
    fn drive(mut self) -> Outcome {
        loop {
            let went = match self.progress.next() {
                Next::Forward(step) => self.forward(step),
                Next::Commit => self.commit(),
                Next::Back(step) => self.back(step),
                Next::End(result) => self.append(&Record::End { result }, None),
                Next::Nothing(Ending::Committed) => return Outcome::Committed,
                Next::Nothing(Ending::Undone) => {
                    return Outcome::Undone(self.progress.why().unwrap_or_default().to_owned());
                }
            };
            if let Err(outcome) = went {
                return outcome;
            }
        }
    }

    fn forward(&mut self, step: Step) -> Result<(), Outcome> {
        if let Some(why) = self.world.cancelled() {
            return self.turn_back(why);
        }
        if self.must_wait(step, Way::Forward) {
            return Err(Outcome::Later);
        }
        let here = Some((step, Way::Forward));
        self.append(&Record::Intent { step }, here)?;
        self.world.tell(News::Step(step, Way::Forward));
        match self.perform(step) {
            Ok(undo) => self.append(&Record::Done { step, undo }, here),
            Err(failure) => self.turn_back(format!("{}: {failure}", step.word())),
        }
    }

    fn perform(&mut self, step: Step) -> Result<Value, Failure> {
        self.ledger.hold(step.holds(Way::Forward))?;
        if step == Step::Flip {
            self.ledger.give(self.progress.transaction().verb.to())?;
            return Ok(Value::Null);
        }
        self.world.perform(step, &self.progress)
    }

    fn commit(&mut self) -> Result<(), Outcome> {
        match self.world.cancelled() {
            Some(why) => self.turn_back(why),
            None => self.append(&Record::Commit, None),
        }
    }

    fn turn_back(&mut self, why: String) -> Result<(), Outcome> {
        self.world.tell(News::Back(&why));
        self.append(&Record::Back { why }, None)
    }

    fn back(&mut self, step: Step) -> Result<(), Outcome> {
        if self.must_wait(step, Way::Back) {
            return Err(Outcome::Later);
        }
        let here = Some((step, Way::Back));
        self.append(&Record::Undo { step }, here)?;
        self.world.tell(News::Step(step, Way::Back));
        match self.undo(step) {
            Ok(()) => self.append(&Record::Undone { step }, here),
            Err(failure) => {
                let why = failure.why.clone();
                // The failure itself is what counts: a log that cannot take it as well says nothing new.
                let _ = self.ledger.append(&Record::Stuck { step, why });
                Err(self.stuck(here, failure))
            }
        }
    }

    fn undo(&mut self, step: Step) -> Result<(), Failure> {
        self.ledger.hold(step.holds(Way::Back))?;
        if step == Step::Flip {
            self.ledger.give(self.progress.transaction().verb.from())?;
            return Ok(());
        }
        let noted = self.progress.noted(step).cloned();
        self.world.undo(step, noted.as_ref(), &self.progress)
    }

    fn must_wait(&self, step: Step, way: Way) -> bool {
        self.moment == Moment::Boot && step.waits_for_boot(way)
    }

    /// Nothing is done any more after a record that did not reach the disk: whoever reads the log later must find in it
    /// what has been done.
    fn append(&mut self, record: &Record, at: Option<(Step, Way)>) -> Result<(), Outcome> {
        let written = self.ledger.append(record);
        written
            .and_then(|()| self.progress.take(record))
            .map_err(|why| self.stuck(at, why.into()))
    }

    fn stuck(&self, at: Option<(Step, Way)>, failure: Failure) -> Outcome {
        Outcome::Stuck {
            at,
            failure,
            because: self.progress.why().map(str::to_owned),
        }
    }
}
