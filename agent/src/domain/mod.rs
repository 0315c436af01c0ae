//! What the agent decides: values in, values out. Nothing here reads a file, a clock or a socket.

pub mod observation;

pub mod ports;

pub mod work;

pub mod health;

pub mod verdict;

pub mod conflict;

pub mod surroundings;

pub mod media;

pub mod snapshot;

pub mod recovery;

pub mod machine;

pub mod standing;

pub mod why;

pub mod standstill;

pub mod progress;

pub mod schedule;

pub mod throttle;

pub mod wellness;

pub mod event;

pub mod transaction;

pub mod metrics;

pub mod alert;

pub mod library;

pub mod plan;

pub mod job;

pub mod forecast;

pub mod follow;
