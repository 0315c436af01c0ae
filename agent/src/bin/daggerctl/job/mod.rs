//! The commands that move services. The files in order: `show` (jobs as text, pure) - `calls` (the agent's methods) - `person`
//! (questions, and polkit's) - `alone` (a job without the agent) - `way` (how a job is begun) - `follow` (until it is over) -
//! `commands` - `list` (status and snapshots).

pub mod show;

mod calls;

mod person;

mod alone;

mod way;

mod follow;

pub mod commands;

pub mod list;
