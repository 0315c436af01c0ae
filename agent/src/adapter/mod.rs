//! Everything that is outside: the files here ask and tell, the domain decides.

pub mod clock;

pub mod disk;

pub mod owner;

pub mod image;

pub mod sockets;

pub mod work;

pub mod notify;

pub mod probe;

pub mod journal;

pub mod systemd;

pub mod bus;
