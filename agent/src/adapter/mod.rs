//! Everything that is outside: the files here ask and tell, the domain decides.

pub mod descriptor;

pub mod lines;

pub mod clock;

pub mod disk;

pub mod tree;

pub mod snapshot;

pub mod confine;

pub mod database;

pub mod settings;

pub mod mounts;

pub mod cgroups;

pub mod media;

pub mod surroundings;

pub mod well;

pub mod owner;

pub mod jobs;

pub mod job_watch;

pub mod transaction;

pub mod image;

pub mod containers;

pub mod sockets;

pub mod publisher;

pub mod listed;

pub mod survey;

pub mod docker;

pub mod work;

pub mod notify;

pub mod probe;

pub mod journal;

pub mod past;

pub mod watchdog;

pub mod keep;

pub mod metrics;

pub mod alert;

pub mod systemd;

pub mod units;

pub mod facts;

pub mod polkit;

pub mod bus;

#[cfg(test)]
mod apart;
