//! The agent: what it decides, how it talks to the machine, and the programs made of both.
//!
//! Imports run one way: `bin/*` -> [`adapter`] -> [`domain`] -> `dagger_suite` (the generator's library). Inside a layer a
//! file imports only from files declared above it; `tests/layers.rs` holds both rules.
//!
//! - [`domain`] decides. Plain values and functions of them: no zbus, no tokio, no file, no clock.
//! - [`adapter`] asks and tells: the bus, systemd, journald, sockets, the application. Each has a part that asks and a
//!   part that decodes.
//! - [`cli`] is the command line of the programs, as definitions; no logic.
//! - `bin/dagger-agent` wires them: one thread, one loop that owns the state.

pub mod domain;

pub mod adapter;

pub mod cli;
