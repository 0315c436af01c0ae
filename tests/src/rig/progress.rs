//! Says what is being done while it takes long: a line that counts seconds on a terminal, a line every ten seconds elsewhere.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often a terminal's line is drawn again.
const TICK: Duration = Duration::from_millis(250);
/// How often a log that is no terminal is told that the step still runs.
const REMINDER: Duration = Duration::from_secs(10);

/// A step that is running; dropping it ends its line with the time that it took.
pub struct Step {
    label: String,
    began: Instant,
    stop: Arc<AtomicBool>,
    ticker: Option<JoinHandle<()>>,
}

/// Begins a step. Nothing is printed before the step has run for a quarter of a second, and elsewhere for ten: what is over
/// by then has one line, with its time.
pub fn step(label: impl Into<String>) -> Step {
    let label = label.into();
    let began = Instant::now();
    let stop = Arc::new(AtomicBool::new(false));
    let ticker = {
        let (label, stop) = (label.clone(), Arc::clone(&stop));
        std::thread::spawn(move || tick(&label, began, &stop))
    };
    Step {
        label,
        began,
        stop,
        ticker: Some(ticker),
    }
}

/// Runs `work` as a step.
pub fn during<T>(label: impl Into<String>, work: impl FnOnce() -> T) -> T {
    let _step = step(label);
    work()
}

fn tick(label: &str, began: Instant, stop: &AtomicBool) {
    let terminal = std::io::stderr().is_terminal();
    let mut next = if terminal { TICK } else { REMINDER };
    while !stop.load(Ordering::Relaxed) {
        std::thread::park_timeout(TICK);
        let elapsed = began.elapsed();
        if stop.load(Ordering::Relaxed) || elapsed < next {
            continue;
        }
        if terminal {
            eprint!("\r\x1b[K    {label} ... {} s", elapsed.as_secs());
            let _ = std::io::stderr().flush();
            next = elapsed + TICK;
        } else {
            eprintln!("    {label} ... {} s", elapsed.as_secs());
            next = elapsed + REMINDER;
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(ticker) = self.ticker.take() {
            ticker.thread().unpark();
            // A ticker that panicked has nothing to tell: the step itself is what counts.
            let _ = ticker.join();
        }
        let seconds = self.began.elapsed().as_secs_f64();
        if std::io::stderr().is_terminal() {
            eprint!("\r\x1b[K");
        }
        eprintln!("    {}: {seconds:.1} s", self.label);
    }
}
