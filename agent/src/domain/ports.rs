//! Ports as the kernel shares them out: who excludes whom, who answers, and which port is free to be proposed.
//!
//! - [`bind`]    whether bind(2) or listen(2) fails with EADDRINUSE because of a socket that is there
//! - [`answer`]  which of several sockets gets a connection or a datagram
//! - [`suggest`] another port for a service
//!
//! All of it are rules of Linux, not of ours. `ports-vs-kernel` in the rig holds them against the running kernel, with
//! random sockets that are really bound.

pub mod bind;

pub mod answer;

pub mod suggest;
