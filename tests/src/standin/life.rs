//! A process's end: signals, the API's shutdown, and the faults that kill.

use std::process;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, raise};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::console::complain;
use super::fault::{Fault, Faults};

/// Why the application is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// SIGTERM.
    Terminate,
    /// SIGINT.
    Interrupt,
    /// A request to the application's own interface.
    Asked,
    /// Such a request, with a new start after it.
    Restart,
}

/// Where a wish to end is left and awaited.
#[derive(Debug, Clone, Default)]
pub struct Life {
    wish: Arc<(Mutex<Option<End>>, Condvar)>,
}

impl Life {
    /// Takes over SIGTERM and SIGINT, and starts to watch the fault file.
    pub fn begin(faults: Faults) -> std::io::Result<Self> {
        let life = Self::default();
        let mut signals = Signals::new([SIGTERM, SIGINT])?;
        let (told, watched) = (life.clone(), faults.clone());
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for signal in &mut signals {
                if !watched.now().has(Fault::IgnoreSigterm) {
                    told.end(if signal == SIGINT {
                        End::Interrupt
                    } else {
                        End::Terminate
                    });
                }
            }
        })?;
        thread::Builder::new()
            .name("faults".to_owned())
            .spawn(move || watch(&faults))?;
        Ok(life)
    }

    /// Leaves the wish to end; the first one counts.
    pub fn end(&self, why: End) {
        self.wish
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(why);
        self.wish.1.notify_all();
    }

    /// Takes a wish back, for those who do not die of it.
    pub fn forget(&self) {
        *self.wish.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Waits at most `time` for the end.
    pub fn wait(&self, time: Duration) -> Option<End> {
        let wish = self.wish.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (wish, _) = self
            .wish
            .1
            .wait_timeout_while(wish, time, |wish| wish.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        *wish
    }

    /// Waits for the end.
    pub fn await_end(&self) -> End {
        loop {
            if let Some(end) = self.wait(Duration::from_hours(1)) {
                return end;
            }
        }
    }
}

/// The faults that need no request: exit, signal, leak.
fn watch(faults: &Faults) {
    let mut leaked: Vec<Vec<u8>> = Vec::new();
    let mut before = Instant::now();
    let mut known = Vec::new();
    loop {
        let set = faults.now();
        if set.mistakes != known {
            known.clone_from(&set.mistakes);
            for mistake in &known {
                complain(format_args!("standin: fault file: {mistake}"));
            }
        }
        let elapsed = before.elapsed();
        before = Instant::now();
        for fault in set.iter() {
            match fault {
                Fault::Exit { code, once } => leave(faults, fault, once, || process::exit(code)),
                Fault::Signal { number, once } => leave(faults, fault, once, || {
                    if let Ok(signal) = Signal::try_from(number) {
                        // A process may always signal itself. Twice: Rust's own handler of SIGSEGV and SIGBUS lets go of
                        // the first one that is no overflow of a stack.
                        let _ = raise(signal);
                        let _ = raise(signal);
                    }
                }),
                Fault::Leak(rate) => {
                    let millis = usize::try_from(elapsed.as_millis()).unwrap_or(0);
                    // Ones, not zeros: the pages must really be there.
                    leaked.push(vec![1; rate / 1000 * millis]);
                }
                _ => {}
            }
        }
        thread::sleep(Duration::from_millis(100));
    }
}

fn leave(faults: &Faults, fault: Fault, once: bool, go: impl FnOnce()) {
    if once && let Err(error) = faults.consume(fault) {
        complain(format_args!("standin: fault file: {error}"));
    }
    go();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_wish_counts_and_can_be_taken_back() {
        let life = Life::default();
        assert_eq!(life.wait(Duration::ZERO), None);
        life.end(End::Asked);
        life.end(End::Terminate);
        assert_eq!(life.await_end(), End::Asked);
        life.forget();
        assert_eq!(life.wait(Duration::ZERO), None);
    }
}
