//! Machines to test on. Modules in order: each uses only those above it.

pub mod progress;
pub mod host;
pub mod tree;
pub mod clock;
pub mod disk;
pub mod cgroup;
pub mod exec;
pub mod sweep;
pub mod machine;
pub mod inside;
pub mod freeze;
pub mod trace;
pub mod strike;
pub mod journal;
pub mod image;

pub use disk::Disk;
pub use exec::Output;
pub use machine::{Machine, Spec};
pub use tree::Suite;
