//! Looks at a machine before a migration: the native unit by systemd's own properties, and the directories of its state.
//! Everything here reads.

mod account;

pub mod tree;

pub mod unit;
