//! An application with its two units, as far as a transaction can tell: rows that it acknowledged, and the settings that
//! either side needs.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use dagger_agent::adapter::transaction::Files;
use dagger_agent::domain::transaction::{Failure, Moment, News, Progress, Side, Step, Verb, World};
use serde_json::Value;

use crate::disk::Disk;
use crate::power::Power;

/// Data that is neither the old nor the new one.
const HALF: u64 = u64::MAX;
/// What an older snapshot holds.
pub const OLDER: u64 = 2;

/// A disk that the ledger and the application's units look at.
#[derive(Debug, Clone)]
pub struct Shared(pub Rc<RefCell<Disk>>);

impl Files for Shared {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.0.borrow().read(name)
    }
    fn create(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        self.0.borrow_mut().create(name, content)
    }
    fn append(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        self.0.borrow_mut().append(name, content)
    }
    fn reserve(&mut self, name: &str, bytes: u64) -> io::Result<()> {
        self.0.borrow_mut().reserve(name, bytes)
    }
    #[track_caller]
    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.0.borrow_mut().sync(name)
    }
    fn make_dir(&mut self, name: &str) -> io::Result<()> {
        self.0.borrow_mut().make_dir(name)
    }
    #[track_caller]
    fn sync_dir(&mut self, name: &str) -> io::Result<()> {
        self.0.borrow_mut().sync_dir(name)
    }
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.0.borrow_mut().rename(from, to)
    }
    fn link(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.0.borrow_mut().link(from, to)
    }
    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.0.borrow_mut().remove(name)
    }
}

/// The application and its data. What its steps write is on disk when they say so.
#[derive(Debug)]
pub struct Plant {
    pub power: Power,
    pub disk: Shared,
    pub moment: Moment,
    /// Whether the new side is well in its probation.
    pub well: bool,
    /// Which side the transaction comes from.
    pub from: Side,
    pub running: Option<Side>,
    /// Rows in the data.
    pub data: u64,
    /// Settings are as the container needs them.
    pub adjusted: bool,
    pub draft: Option<u64>,
    pub snapshot: Option<u64>,
    pub aside: Vec<u64>,
    /// What a shadow runs on is there.
    pub clone: bool,
    /// It runs.
    pub shadow: bool,
    /// Rows that the old side acknowledged, and, on top of whatever it began with, the new one.
    pub old_rows: u64,
    pub new_rows: u64,
    /// Rows in the data after the new side's last one.
    pub new_peak: u64,
    /// What must never happen, and did.
    pub wrong: Vec<String>,
}

impl Plant {
    pub fn new(power: Power, disk: Shared, verb: Verb, well: bool) -> Self {
        let from = verb.from();
        // These two are about one that is there.
        let shadow = matches!(verb, Verb::Promote | Verb::Discard);
        Self {
            clone: shadow,
            shadow,
            power,
            disk,
            moment: Moment::Running,
            well,
            from,
            running: Some(from),
            data: 5,
            adjusted: from == Side::Container,
            draft: None,
            snapshot: None,
            aside: Vec::new(),
            old_rows: 5,
            new_rows: 0,
            new_peak: 0,
            wrong: Vec::new(),
        }
    }

    /// Whose turn it is, by what lies on the disk: nobody's while it is held.
    pub fn turn(&self) -> Option<Side> {
        let disk = self.disk.0.borrow();
        match (disk.has("hold/sonarr"), disk.has("owner/sonarr")) {
            (true, _) => None,
            (false, true) => Some(Side::Container),
            (false, false) => Some(Side::Native),
        }
    }

    /// Nothing runs any more.
    pub fn go_out(&mut self) {
        self.running = None;
        self.shadow = false;
        self.moment = Moment::Boot;
    }

    /// The machine has booted: systemd starts whoever may.
    pub fn boot(&mut self) {
        self.running = None;
        if let Some(side) = self.turn() {
            self.start(side);
        }
    }

    /// Writes what is acknowledged at once.
    fn start(&mut self, side: Side) {
        if self.running.is_some_and(|other| other != side) {
            self.wrong.push(format!("{side:?} starts while the other runs"));
        }
        if self.data == HALF {
            self.wrong
                .push(format!("{side:?} starts on data that is half put back"));
            return;
        }
        if self.adjusted != (side == Side::Container) {
            self.wrong
                .push(format!("{side:?} starts with the other side's settings"));
        }
        self.running = Some(side);
        self.data += 1;
        if side == self.from {
            self.old_rows += 1;
        } else {
            self.new_rows += 1;
            self.new_peak = self.data;
        }
    }

    fn point(&self) -> Result<(), Failure> {
        self.power.point().map_err(|error| error.to_string().into())
    }

    fn set_data(&mut self, data: u64) -> Result<(), Failure> {
        self.point()?;
        self.data = HALF;
        self.point()?;
        self.data = data;
        self.point()
    }

    fn start_by_systemd(&mut self, side: Side) -> Result<(), Failure> {
        if self.moment == Moment::Boot {
            return Ok(());
        }
        if self.turn() != Some(side) {
            return Err("a condition is not met".to_owned().into());
        }
        if self.running != Some(side) {
            self.start(side);
        }
        Ok(())
    }

    fn stop_by_systemd(&mut self, side: Side) {
        if self.running == Some(side) {
            self.running = None;
        }
    }

    fn drop_clone(&mut self) {
        if self.shadow {
            self.wrong.push("a copy goes while a shadow runs on it".into());
        }
        self.clone = false;
    }

    fn quiet(&mut self, what: &str) {
        if self.running.is_some() {
            self.wrong.push(format!("{what} while {:?} runs", self.running));
        }
    }
}

impl World for Plant {
    fn perform(&mut self, step: Step, progress: &Progress) -> Result<Value, Failure> {
        let verb = progress.transaction().verb;
        self.point()?;
        match step {
            Step::Snapshot => self.draft = Some(self.data),
            Step::Stop => self.stop_by_systemd(verb.from()),
            Step::Refresh => {
                self.quiet("the snapshot is finished");
                self.snapshot = Some(self.data);
            }
            Step::Restore => {
                self.quiet("data is restored");
                self.set_data(OLDER)?;
            }
            Step::Adjust => {
                self.quiet("settings are changed");
                self.adjusted = verb.to() == Side::Container;
            }
            Step::Start => self.start_by_systemd(verb.to())?,
            Step::Clone => self.clone = true,
            Step::StartShadow => {
                if !self.clone || self.moment == Moment::Boot {
                    self.wrong
                        .push("a shadow starts without its copy, or at boot".into());
                }
                self.shadow = true;
            }
            Step::StopShadow => self.shadow = false,
            Step::DropShadow => self.drop_clone(),
            Step::Probation if !self.well => return Err("it is not well".to_owned().into()),
            _ => {}
        }
        self.point()?;
        Ok(Value::Null)
    }

    fn undo(&mut self, step: Step, _: Option<&Value>, progress: &Progress) -> Result<(), Failure> {
        let verb = progress.transaction().verb;
        self.point()?;
        match step {
            Step::Snapshot => {
                self.draft = None;
                self.snapshot = None;
            }
            Step::Stop => self.start_by_systemd(verb.from())?,
            Step::Restore | Step::PutBack => {
                self.quiet("data is put back");
                let Some(snapshot) = self.snapshot else {
                    return Err("there is no snapshot".to_owned().into());
                };
                self.set_data(snapshot)?;
            }
            Step::Adjust => {
                self.quiet("settings are changed back");
                self.adjusted = verb.from() == Side::Container;
            }
            Step::SetAside => {
                self.quiet("data is set aside");
                self.aside.push(self.data);
            }
            Step::Start => self.stop_by_systemd(verb.to()),
            Step::StartShadow => self.shadow = false,
            Step::Clone => self.drop_clone(),
            _ => {}
        }
        self.point()
    }

    fn cancelled(&mut self) -> Option<String> {
        None
    }

    fn tell(&mut self, _: News<'_>) {}
}
