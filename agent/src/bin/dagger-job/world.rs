//! The steps of a transaction, done to the real world: units by systemd, data by descriptors, settings by key.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dagger_agent::adapter::database::{self, Found};
use dagger_agent::adapter::facts;
use dagger_agent::adapter::jobs;
use dagger_agent::adapter::settings;
use dagger_agent::adapter::snapshot::Store;
use dagger_agent::adapter::tree::{self, Gift};
use dagger_agent::domain::job::Amount;
use dagger_agent::domain::transaction::{Failure, News, Progress, Side, Step, Verb, Way, World};
use dagger_suite::names::{Root, ServiceName};
use serde_json::Value;

use crate::bus::{Bus, cancelled};
use crate::probation::Watched;
use crate::story::{Place, Story};
use crate::tell::{Teller, line};
use crate::{data, probation, rehearse, shadow};

/// One service's world.
pub struct Work<'a> {
    /// Below which everything lies.
    pub root: &'a Root,
    /// The service.
    pub service: &'a ServiceName,
    /// systemd; none at boot, when nothing runs that could be stopped.
    pub bus: Option<&'a Bus>,
    /// Who is told.
    pub teller: &'a Teller,
    /// Snapshots.
    pub store: Store,
    /// Since when the service is away.
    pub down_since: Option<Instant>,
    /// How long it was.
    pub down: Option<Duration>,
    /// What should be known at the end.
    pub notes: Vec<String>,
    /// How long each step took.
    pub times: Vec<(Step, Duration)>,
    /// The copy that a rehearsal begins with, by role.
    pub before: Vec<(String, tree::Seen)>,
    /// What a rehearsal has found.
    pub found: Option<rehearse::Found>,
    /// What can be done about the step that went wrong.
    pub todo: Option<String>,
}

impl<'a> Work<'a> {
    /// A world in which nothing was done yet.
    pub fn new(root: &'a Root, service: &'a ServiceName, bus: Option<&'a Bus>, teller: &'a Teller) -> Self {
        Self {
            root,
            service,
            bus,
            teller,
            store: Store::new(root),
            down_since: None,
            down: None,
            notes: Vec::new(),
            times: Vec::new(),
            before: Vec::new(),
            found: None,
            todo: None,
        }
    }

    /// Work on files that is told of, and that ends when somebody cancels; on the way back nobody can.
    pub fn work<T>(
        &self,
        way: Way,
        total: Amount,
        work: impl FnOnce(&tree::Progress) -> Result<T, String>,
    ) -> Result<T, Failure> {
        let progress = Arc::new(tree::Progress::default());
        let guard = |on: bool| {
            if let (Way::Forward, Some(bus)) = (way, self.bus) {
                bus.cancel().guards(on.then(|| Arc::clone(&progress)));
            }
        };
        guard(true);
        self.teller.work(Some(Arc::clone(&progress)), total);
        let done = work(&progress);
        self.teller.work(None, Amount::default());
        guard(false);
        done.map_err(|why| match self.bus {
            Some(bus) if way == Way::Forward && bus.cancel().is_asked() => cancelled().into(),
            _ => why.into(),
        })
    }

    /// systemd, where it can be asked.
    pub fn systemd(&self) -> Result<&'a Bus, Failure> {
        self.bus
            .ok_or_else(|| Failure::from("systemd is not asked while the machine boots".to_owned()))
    }

    /// How long a step took, in ms; none: it was not taken by this process.
    pub fn took(&self, step: Step) -> Option<u64> {
        let time = self.times.iter().find(|(it, _)| *it == step)?.1;
        u64::try_from(time.as_millis()).ok()
    }

    /// Fetches the image, and looks once more whether it fits the data.
    fn pull(&self, story: &Story) -> Result<Value, Failure> {
        let bus = self.systemd()?;
        let told = |error: jobs::JobError| Failure::from(error.to_string());
        jobs::allow_pull(self.root, self.service, true).map_err(told)?;
        let pulled = bus.run(&story.pull);
        jobs::allow_pull(self.root, self.service, false).map_err(told)?;
        pulled.map_err(|failure| Failure {
            why: format!("its image is not to be had: {failure}"),
            todo: Some(format!("see `journalctl -u {}`", story.pull)),
        })?;
        crate::look::again(self.root, self.service, bus)?;
        Ok(Value::Null)
    }

    fn stop(&mut self, story: &Story, unit: &str) -> Result<Value, Failure> {
        self.down_since = Some(Instant::now());
        self.systemd()?.stop(unit)?;
        // systemd calls a unit failed whose processes have outlived its time for stopping, and may not kill.
        let places: Vec<_> = story.places.iter().map(|place| place.path.clone()).collect();
        let open = facts::holders::look(self.root, "", &places);
        match open.holders.iter().find(|it| it.unit.as_deref() == Some(unit)) {
            None => Ok(Value::Null),
            Some(holder) => Err(Failure {
                why: format!(
                    "{unit} is stopped, and its process {} ({}) still has {} open",
                    holder.pid.unwrap_or_default(),
                    holder.name,
                    holder.path
                ),
                todo: Some(format!(
                    "end it (kill {}), and see why it does not end by itself: journalctl -u {unit}",
                    holder.pid.unwrap_or_default()
                )),
            }),
        }
    }

    fn start(&mut self, unit: &str) -> Result<Value, Failure> {
        // At boot systemd starts it by itself.
        if let Some(bus) = self.bus {
            bus.start(unit)?;
        }
        self.down = self.down_since.take().map(|since| since.elapsed());
        Ok(Value::Null)
    }

    /// Starts the old side again, if it ran.
    fn start_again(&self, story: &Story, unit: &str) -> Result<(), Failure> {
        match self.bus {
            Some(bus) if story.ran => bus.start_surely(unit),
            _ => Ok(()),
        }
    }

    fn check(&mut self, story: &Story) -> Result<Value, Failure> {
        for path in &story.databases {
            let (found, orphans) = database::settle(&self.root.join(path))
                .map_err(|why| Failure::from(format!("{path} cannot be checked: {why}")))?;
            if let Found::Damaged(how) = found {
                return Err(Failure {
                    why: format!("{path} is damaged: {how}"),
                    todo: Some("restore one of the application's own backups, then try again".into()),
                });
            }
            if orphans > 0 {
                self.notes.push(format!(
                    "{path}: {orphans} rows refer to others that are not there; it was so before, and applications live with it"
                ));
            }
        }
        Ok(Value::Null)
    }

    /// Settings, and owners, as this side needs them.
    fn adjust_all(&mut self, story: &Story, side: Side) -> Result<(), Failure> {
        self.adjust(story, side)?;
        let gift = match side {
            Side::Container => story.gift,
            Side::Native => story.gift.map(Gift::reversed),
        };
        gift.map_or(Ok(()), |gift| data::give(self, story, gift))
    }

    /// Settings as this side needs them.
    fn adjust(&mut self, story: &Story, side: Side) -> Result<(), Failure> {
        for edit in &story.edits {
            match side {
                Side::Container => {
                    settings::apply(self.root, edit).map_err(|error| Failure::from(error.to_string()))?;
                }
                Side::Native => {
                    let kept = settings::revert(self.root, edit)
                        .map_err(|error| Failure::from(error.to_string()))?;
                    if let settings::Reverted::Kept(_) = kept {
                        self.notes.push(format!(
                            "{} in {} was changed by the application itself and stays",
                            edit.key.join("."),
                            edit.file
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}

impl Work<'_> {
    fn take(&mut self, step: Step, progress: &Progress) -> Result<Value, Failure> {
        let story = Story::told(progress)?;
        let transaction = progress.transaction();
        let verb = transaction.verb;
        match step {
            Step::Pull => self.pull(&story),
            Step::Snapshot => data::snapshot(self, &story, &transaction.id),
            Step::Stop => self.stop(&story, story.unit(verb.from())),
            Step::Refresh => data::refresh(self, &story, &transaction.id),
            Step::Restore => data::restore_older(self, &story, transaction),
            Step::Check => self.check(&story),
            Step::Adjust => self.adjust_all(&story, verb.to()).map(|()| Value::Null),
            Step::Start => self.start(story.unit(verb.to())),
            Step::Probation if verb == Verb::Rehearse => {
                probation::watch(self, &story, &Watched::shadow(self, &story)?)?;
                rehearse::look(self, &story)
            }
            Step::Probation => {
                let watched = Watched::side(self, &story, verb.to());
                probation::watch(self, &story, &watched)
            }
            Step::Clone => {
                let made = shadow::clone(self, &story)?;
                if verb == Verb::Rehearse {
                    self.before = rehearse::seen(self, &story)?;
                }
                Ok(made)
            }
            Step::StartShadow => shadow::start(self, &story),
            Step::StopShadow => shadow::stop(self.root, self.service, self.bus).map(|()| Value::Null),
            Step::DropShadow => Ok(shadow::remove(self.root, self.service).map(|()| Value::Null)?),
            // The engine's own, and what only the way back does.
            Step::Flip | Step::PutBack | Step::SetAside => Ok(Value::Null),
        }
    }
}

impl World for Work<'_> {
    fn perform(&mut self, step: Step, progress: &Progress) -> Result<Value, Failure> {
        let began = Instant::now();
        let done = self.take(step, progress);
        self.times.push((step, began.elapsed()));
        if let Err(failure) = &done {
            self.todo.clone_from(&failure.todo);
        }
        done
    }

    fn undo(&mut self, step: Step, _noted: Option<&Value>, progress: &Progress) -> Result<(), Failure> {
        let story = Story::told(progress)?;
        let transaction = progress.transaction();
        let verb = transaction.verb;
        match step {
            Step::Snapshot => {
                data::drop_snapshot(self, &transaction.id);
                Ok(())
            }
            Step::Stop => self.start_again(&story, story.unit(verb.from())),
            Step::Restore | Step::PutBack => data::put_back(self, &story, &transaction.id),
            // The snapshot knows each file's owner, also where that was no rule.
            Step::Adjust if story.gift.is_some() => {
                self.adjust(&story, verb.from())?;
                data::put_back(self, &story, &transaction.id)
            }
            Step::Adjust => self.adjust(&story, verb.from()),
            Step::SetAside => {
                data::set_aside(self, &story, &transaction.id);
                Ok(())
            }
            Step::Start => match self.bus {
                Some(bus) => bus.stop(story.unit(verb.to())),
                None => Ok(()),
            },
            Step::StartShadow => shadow::stop(self.root, self.service, self.bus),
            Step::Clone => Ok(shadow::remove(self.root, self.service)?),
            Step::Pull
            | Step::Refresh
            | Step::Check
            | Step::Flip
            | Step::Probation
            | Step::StopShadow
            | Step::DropShadow => Ok(()),
        }
    }

    fn cancelled(&mut self) -> Option<String> {
        let asked = self.bus.is_some_and(|bus| bus.cancel().is_asked());
        asked.then(cancelled)
    }

    fn tell(&mut self, news: News<'_>) {
        match news {
            News::Back(why) => {
                self.teller.back(why);
                line(&format!("it is undone: {why}"));
            }
            News::Step(step, way) => {
                self.teller.step(step, way);
                let undoing = if way == Way::Back { "undoing " } else { "" };
                line(&format!("{undoing}step {}", step.word()));
            }
        }
    }
}

/// The absolute path of a place.
pub fn at(root: &Root, place: &Place) -> std::path::PathBuf {
    root.join(&place.path)
}
