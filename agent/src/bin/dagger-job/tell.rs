//! What a job says while it works: one file for the agent, one line a step for the journal, and its status for systemd.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dagger_agent::adapter::clock::realtime_usec;
use dagger_agent::adapter::jobs;
use dagger_agent::adapter::notify;
use dagger_agent::adapter::tree;
use dagger_agent::domain::job::{Amount, End, Report};
use dagger_suite::names::{Root, ServiceName};

/// So often the file is written while a step goes on.
const TICK: Duration = Duration::from_millis(300);

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
    over: bool,
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
            let Some(work) = state.work.clone() else { continue };
            let done = Amount {
                files: work.files(),
                bytes: work.bytes(),
            };
            if done != state.report.done {
                state.report.done = done;
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
