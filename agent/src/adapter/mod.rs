//! Everything that is outside: the files here ask and tell, the domain decides.

pub mod probe;

pub mod sockets;

pub mod notify;

pub mod journal;

pub mod systemd;

pub mod bus;
