//! What a job says while it works: one file for the agent, one line a step for the journal, and its status for systemd.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dagger_agent::adapter::clock::realtime_usec;
use dagger_agent::adapter::jobs;
use dagger_agent::adapter::notify;
use dagger_agent::adapter::tree;
use dagger_agent::domain::forecast::{Forecast, Place};
use dagger_agent::domain::job::{Amount, End, Report};
use dagger_agent::domain::transaction::{Step, Way};
use dagger_suite::names::{Root, ServiceName};

/// So often the file is written while a step goes on.
const TICK: Duration = Duration::from_millis(300);
/// A time that is left is told anew when it is by so many ms another one.
const WORTH: u64 = 1000;

/// The voice of one job.
#[derive(Debug, Clone)]
pub struct Teller {
    root: Root,
    service: ServiceName,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    report: Report,
    work: Option<Arc<tree::Progress>>,
    /// None: nothing is known, or it goes back.
    forecast: Option<Forecast>,
    /// When the step began.
    since: Instant,
    over: bool,
}

impl State {
    /// What has changed since it was last told; whether that is worth to be told.
    fn look(&mut self) -> bool {
        let done = self.work.as_ref().map(|work| Amount {
            files: work.files(),
            bytes: work.bytes(),
        });
        let moved = done.is_some_and(|done| done != self.report.done);
        self.report.done = done.unwrap_or(self.report.done);
        let left = self.left();
        let other = match (left, self.report.remaining_ms) {
            (Some(now), Some(told)) => now.abs_diff(told) >= WORTH,
            (now, told) => now.is_some() != told.is_some(),
        };
        if moved || other {
            self.report.remaining_ms = left;
        }
        moved || other
    }

    fn left(&self) -> Option<u64> {
        let forecast = self.forecast.as_ref()?;
        let Some(step) = self.report.step else {
            return forecast.all();
        };
        forecast.left(&Place {
            step,
            since_ms: u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX),
            done: self.report.done,
            total: self.report.total,
        })
    }
}

impl Teller {
    /// Begins to tell, with this.
    pub fn new(root: &Root, service: &ServiceName, report: Report) -> Self {
        let teller = Self {
            root: root.clone(),
            service: service.clone(),
            state: Arc::new(Mutex::new(State {
                report,
                work: None,
                forecast: None,
                since: Instant::now(),
                over: false,
            })),
        };
        teller.say();
        let ticking = teller.clone();
        std::thread::spawn(move || ticking.tick());
        teller
    }

    fn tick(&self) {
        loop {
            std::thread::sleep(TICK);
            let mut state = self.state();
            if state.over {
                return;
            }
            if state.look() {
                drop(state);
                self.say();
            }
        }
    }

    /// Changes what is told, and tells it.
    pub fn change(&self, change: impl FnOnce(&mut Report)) {
        change(&mut self.state().report);
        self.say();
    }

    /// From now on it says how long it will still take.
    pub fn foresee(&self, forecast: Forecast) {
        {
            let mut state = self.state();
            state.forecast = Some(forecast);
            state.look();
        }
        self.say();
    }

    /// It is at this step now.
    pub fn step(&self, step: Step, way: Way) {
        {
            let mut state = self.state();
            state.since = Instant::now();
            state.report.step = Some(step);
            state.report.done = Amount::default();
            state.report.total = Amount::default();
            if way == Way::Forward {
                state.report.place += 1;
            }
            state.report.remaining_ms = state.left();
        }
        self.say();
    }

    /// It goes back. How long that takes nobody has planned.
    pub fn back(&self, why: &str) {
        {
            let mut state = self.state();
            state.forecast = None;
            state.report.back = Some(why.to_owned());
            state.report.remaining_ms = None;
        }
        self.say();
    }

    /// From now on the amounts are those of this work; none: of no work.
    pub fn work(&self, work: Option<Arc<tree::Progress>>, total: Amount) {
        let mut state = self.state();
        state.work = work;
        state.report.done = Amount::default();
        state.report.total = total;
    }

    /// The last word. Nothing is told any more afterwards.
    pub fn end(&self, end: &End) {
        {
            let mut state = self.state();
            state.over = true;
            state.work = None;
            state.report.step = None;
            state.report.remaining_ms = None;
            state.report.end = Some(end.clone());
        }
        self.say();
        line(&end.sentence);
        if let Some(todo) = &end.todo {
            line(todo);
        }
    }

    fn say(&self) {
        let report = {
            let mut state = self.state();
            state.report.at = realtime_usec();
            state.report.clone()
        };
        // The work does not depend on anybody hearing of it.
        if let Err(error) = jobs::tell(&self.root, &self.service, &report) {
            eprintln!("how far it has come cannot be told: {error}");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One line for the journal, and for `systemctl status`.
pub fn line(text: &str) {
    println!("{}", notify::one_line(text));
    // Without systemd there is nobody to hear it.
    let _ = notify::own_status(text);
}
