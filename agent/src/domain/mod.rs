//! What the agent decides: values in, values out. Nothing here reads a file, a clock or a socket.

pub mod observation;

pub mod work;

pub mod health;

pub mod verdict;

pub mod schedule;

pub mod throttle;

pub mod event;
