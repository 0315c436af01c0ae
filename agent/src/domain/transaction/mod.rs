//! A service changes hands, or is changed, as one transaction: all of it or nothing, whatever happens on the way.
//!
//! - [`verb`]: what can be done, and the transaction that does it. [`step`]: the steps that a verb is made of.
//! - [`record`]: the lines of the write-ahead log, and what of a log may be believed.
//! - [`progress`]: how far a log has come; [`recover`] decides by it after a crash.
//! - [`engine`]: takes the steps, forwards or back, through the two traits that stand for the world outside.
//!
//! # Forwards or back
//!
//! ```text
//! migrate   pull snapshot | stop refresh check [adjust] flip | start probation   commit
//! rollback       snapshot | stop refresh [restore] check [adjust] flip | start probation   commit
//!           runs: old     | held: neither side may start     | runs: new
//! ```
//!
//! Every step is announced in the log before it is taken and noted after it. Until the verb's turning point (the flip of the
//! owner marker) is noted, an interrupted transaction is undone, back to front: the new side has not run, so nothing can be
//! lost. From there on it is finished: the new side may have acknowledged something. It is undone only when a step or the
//! probation fails, and then what the new side wrote is kept beside the snapshot before the old data is put back.
//!
//! Between stop and start a hold lies on the service (`/var/lib/dagger/hold/<service>`), which both units have a condition
//! on. A log that cannot be believed leaves it there, too: neither side runs until somebody has looked.

pub mod verb;

pub mod step;

pub mod record;

pub mod progress;

pub mod engine;

pub use engine::{Failure, Ledger, Moment, News, Outcome, World, resume, run};
pub use progress::{Decision, Progress, recover};
pub use record::{Damage, Ending, Record};
pub use step::{Step, Way, forward, steps};
pub use verb::{Data, Options, RunAs, Side, Transaction, Verb};
