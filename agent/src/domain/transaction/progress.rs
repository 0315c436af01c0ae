//! How far a transaction has come: a fold over the records of its log. The engine writes a record, the fold takes it, and
//! says what is next; after a crash the same fold reads the log, so that there is one rule and not two.

use serde_json::Value;

use super::record::{Damage, Ending, Line, Record};
use super::step::{Step, Way, steps};
use super::verb::Transaction;

/// What has happened so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    transaction: Transaction,
    steps: Vec<Step>,
    /// So many steps may have been begun.
    begun: usize,
    /// What each of them noted when it was done.
    done: Vec<Option<Value>>,
    /// Why it goes back, once it does.
    back: Option<String>,
    /// So many steps are not undone yet, while it goes back.
    left: usize,
    /// The step that may have begun to be undone.
    undoing: Option<Step>,
    committed: bool,
    ending: Option<Ending>,
}

/// What there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The step is to be taken.
    Forward(Step),
    /// All steps are done.
    Commit,
    /// The step is to be undone.
    Back(Step),
    /// The end is to be noted.
    End(Ending),
    /// Nothing.
    Nothing(Ending),
}

/// What is to be done about a log that is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Nothing was begun, or all of it is over.
    Nothing,
    /// It is to be undone, beginning with this step; none when there is nothing to undo.
    UndoFrom(Option<Step>),
    /// It is to be finished, beginning with this step; none when only the commit is missing.
    GoOn(Option<Step>),
    /// Only its end was not noted.
    Close(Ending),
    /// The log cannot be believed: neither side may run.
    Hold(Damage),
}

/// Decides about the lines of a log. It is a matter of microseconds: nothing is asked but the log.
pub fn recover(lines: &[Line]) -> Decision {
    match Progress::replay(lines) {
        Err(damage) => Decision::Hold(damage),
        Ok(None) => Decision::Nothing,
        Ok(Some(progress)) => progress.decision(),
    }
}

impl Progress {
    /// Of a transaction that was not begun.
    pub fn new(transaction: Transaction) -> Self {
        let steps = steps(transaction.verb, &transaction.options);
        Self {
            done: vec![None; steps.len()],
            steps,
            transaction,
            begun: 0,
            back: None,
            left: 0,
            undoing: None,
            committed: false,
            ending: None,
        }
    }

    /// What a log tells; none when it does not even say what was to be done: then nothing was.
    pub fn replay(lines: &[Line]) -> Result<Option<Self>, Damage> {
        let Some((first, rest)) = lines.split_first() else {
            return Ok(None);
        };
        let Record::Begin { transaction } = &first.record else {
            return Err(Damage {
                line: 1,
                why: "a log begins with what is to be done, and this one does not".into(),
            });
        };
        let mut progress = Self::new(transaction.clone());
        for (index, line) in rest.iter().enumerate() {
            progress
                .take(&line.record)
                .map_err(|why| Damage { line: index + 2, why })?;
        }
        Ok(Some(progress))
    }

    /// What is done.
    pub fn transaction(&self) -> &Transaction {
        &self.transaction
    }

    /// Its steps, in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Why it goes back; none while it does not.
    pub fn why(&self) -> Option<&str> {
        self.back.as_deref()
    }

    /// What a step noted when it was done; none when it was not done, or only begun.
    pub fn noted(&self, step: Step) -> Option<&Value> {
        self.done.get(self.place(step)?)?.as_ref()
    }

    /// How it ended, once it has.
    pub fn ending(&self) -> Option<Ending> {
        self.ending
    }

    /// The last step that may have been begun.
    pub fn last(&self) -> Option<Step> {
        self.steps.get(self.begun.checked_sub(1)?).copied()
    }

    /// Whether an interruption now makes it go on instead of back.
    pub fn has_turned(&self) -> bool {
        self.transaction
            .verb
            .turning_point()
            .is_some_and(|step| self.noted(step).is_some())
    }

    /// What there is to do next when nothing goes wrong.
    pub fn next(&self) -> Next {
        if let Some(ending) = self.ending {
            return Next::Nothing(ending);
        }
        if self.committed {
            return Next::End(Ending::Committed);
        }
        if self.back.is_some() {
            return match self.next_back() {
                Some((_, step)) => Next::Back(step),
                None => Next::End(Ending::Undone),
            };
        }
        match self.next_forward() {
            Some((_, step)) => Next::Forward(step),
            None => Next::Commit,
        }
    }

    /// What there is to do after an interruption.
    fn decision(&self) -> Decision {
        match self.next() {
            Next::Nothing(_) => Decision::Nothing,
            Next::End(ending) => Decision::Close(ending),
            Next::Back(step) => Decision::UndoFrom(Some(step)),
            Next::Forward(step) if self.has_turned() => Decision::GoOn(Some(step)),
            Next::Commit if self.has_turned() => Decision::GoOn(None),
            Next::Forward(_) | Next::Commit => {
                let back = self.before(self.begun, Way::Back);
                Decision::UndoFrom(back.map(|(_, step)| step))
            }
        }
    }

    /// Takes one more record. One that cannot follow what was before is an error, and changes nothing.
    pub fn take(&mut self, record: &Record) -> Result<(), String> {
        if let Some(ending) = self.ending {
            return Err(format!("something follows the end ({ending:?})"));
        }
        match record {
            Record::Begin { .. } => Err("it is begun a second time".into()),
            Record::Intent { step } => self.intend(*step),
            Record::Done { step, undo } => self.note(*step, undo),
            Record::Back { why } => self.turn_back(why),
            Record::Undo { step } => self.undo(*step),
            Record::Undone { step } => self.undone(*step),
            // For people: what is to be done does not change by it.
            Record::Stuck { .. } => Ok(()),
            Record::Commit => self.commit(),
            Record::End { result } => self.end(*result),
        }
    }

    fn intend(&mut self, step: Step) -> Result<(), String> {
        match self.next_forward() {
            // Again after an interruption: the same step is still the next one.
            Some((place, next)) if next == step && self.goes_forward() => {
                self.begun = place + 1;
                Ok(())
            }
            _ => Err(self.misplaced(step, "is begun")),
        }
    }

    fn note(&mut self, step: Step, undo: &Value) -> Result<(), String> {
        let place = self.place(step);
        match place.and_then(|place| self.done.get_mut(place)) {
            Some(done @ None)
                if place.is_some_and(|place| place + 1 == self.begun) && self.back.is_none() =>
            {
                *done = Some(undo.clone());
                Ok(())
            }
            _ => Err(self.misplaced(step, "is done")),
        }
    }

    fn turn_back(&mut self, why: &str) -> Result<(), String> {
        if !self.goes_forward() {
            return Err("it is to be undone a second time, or after the commit".into());
        }
        self.back = Some(why.to_owned());
        self.left = self.begun;
        Ok(())
    }

    fn undo(&mut self, step: Step) -> Result<(), String> {
        match self.next_back() {
            Some((_, next)) if next == step && self.back.is_some() => {
                self.undoing = Some(step);
                Ok(())
            }
            _ => Err(self.misplaced(step, "begins to be undone")),
        }
    }

    fn undone(&mut self, step: Step) -> Result<(), String> {
        match self.next_back() {
            Some((place, next)) if next == step && self.undoing == Some(step) => {
                self.left = place;
                self.undoing = None;
                Ok(())
            }
            _ => Err(self.misplaced(step, "is undone")),
        }
    }

    fn commit(&mut self) -> Result<(), String> {
        if self.next() != Next::Commit {
            return Err("it is committed before all its steps are done".into());
        }
        self.committed = true;
        Ok(())
    }

    fn end(&mut self, result: Ending) -> Result<(), String> {
        if self.next() != Next::End(result) {
            return Err(format!("it ends ({result:?}) before everything is done for that"));
        }
        self.ending = Some(result);
        Ok(())
    }

    fn goes_forward(&self) -> bool {
        self.back.is_none() && !self.committed
    }

    fn place(&self, step: Step) -> Option<usize> {
        self.steps.iter().position(|it| *it == step)
    }

    fn next_forward(&self) -> Option<(usize, Step)> {
        let todo = self.steps.iter().copied().enumerate().zip(&self.done);
        todo.filter(|((_, step), done)| step.acts(Way::Forward) && done.is_none())
            .map(|(next, _)| next)
            .next()
    }

    fn next_back(&self) -> Option<(usize, Step)> {
        self.before(self.left, Way::Back)
    }

    /// The last step before a place that has anything to do.
    fn before(&self, place: usize, way: Way) -> Option<(usize, Step)> {
        let mut steps = self.steps.iter().copied().enumerate().take(place);
        steps.rfind(|(_, step)| step.acts(way))
    }

    fn misplaced(&self, step: Step, what: &str) -> String {
        format!(
            "step {} {what}, and that cannot come here: {:?} would be next",
            step.word(),
            self.next()
        )
    }
}

#[cfg(test)]
mod tests;
