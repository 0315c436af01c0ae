//! Everything that is outside: the files here ask and tell, the domain decides.

pub mod disk;

pub mod owner;

pub mod sockets;

pub mod probe;

pub mod notify;

pub mod journal;

pub mod systemd;

pub mod bus;
