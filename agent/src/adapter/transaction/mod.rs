//! Transactions on disk, below `/var/lib/dagger`.
//!
//! ```text
//! transactions/<service>/log       the write-ahead log of the transaction that is open (domain::transaction::record)
//!                        <id>.log  those that are over
//!                        hold      what is linked to hold/<service> while neither side may start
//!                        marker    what is linked to owner/<service> while the container owns the data
//!                        lock      who is at work on it: locked as long as that lives
//! hold/<service>                   both units of the service have a condition on this name
//! owner/<service>                  and the opposite ones on this
//! ```
//!
//! - [`files`]: the few calls that all of this is made of, as a trait: the real disk here, one that can lose power in tests.
//! - [`wal`]: the log, the hold and the marker. [`lock`]: one transaction a service at a time. [`past`]: those that are over.

pub mod files;

pub mod wal;

pub mod lock;

pub mod past;

pub use files::{Below, Files};
pub use lock::{Holder, Lock, LockError};
pub use past::{Past, past};
pub use wal::{Found, Wal, WalError};

/// Everything of transactions lies below it.
pub const DIR: &str = "/var/lib/dagger";
/// Directory of the logs.
pub const TRANSACTIONS: &str = "transactions";
/// Directory of the holds.
pub const HOLD: &str = "hold";
/// Directory of the owner markers.
pub const OWNER: &str = "owner";
