//! The figures that the suite has to reach, each measured beside its peer in the same run.
//!
//! `tests/bench` builds what is needed and calls the program `bench`. A figure is a ratio of two medians, the two
//! programs having taken turns, or an absolute number; `figure.rs` says how it is shown. Modules in order: each uses
//! only those above it.

pub mod samples;
pub mod figure;
pub mod suite_of;
pub mod pack;
pub mod unit_text;
pub mod quadlet;
pub mod sizes;
pub mod generator;
pub mod disk;
pub mod snapshot;
pub mod meter;
pub mod probe;
pub mod agent;
pub mod monit;
pub mod idle;
pub mod crowd;
pub mod start;
pub mod jobs;
pub mod ports;
pub mod downtime;
