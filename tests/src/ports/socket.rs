//! Sockets as a layout wants them.

use core::net::{IpAddr, SocketAddr};
use dagger_agent::domain::ports::bind::Bind;
use dagger_suite::model::Protocol;
use nix::Result;
use nix::sys::socket::{
    self, AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, getsockname, setsockopt, sockopt,
};
use nix::unistd::{Uid, setfsuid};
use std::ffi::OsString;
use std::os::fd::{AsRawFd, OwnedFd};

use crate::ground::{LO, OTHER};

/// Does something as that user: a socket belongs to who made it.
pub fn as_user<T>(uid: u32, work: impl FnOnce() -> T) -> T {
    let before = setfsuid(Uid::from_raw(uid));
    let done = work();
    setfsuid(before);
    done
}

/// A socket with the options of a bind, before bind(2).
pub fn open(bind: &Bind) -> Result<OwnedFd> {
    let family = match bind.place.address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    let kind = match bind.place.protocol {
        Protocol::Tcp => SockType::Stream,
        Protocol::Udp => SockType::Datagram,
    };
    let made = as_user(bind.place.uid, || {
        socket::socket(family, kind, SockFlag::SOCK_CLOEXEC, None)
    })?;
    setsockopt(&made, sockopt::ReuseAddr, &bind.options.reuse_address)?;
    setsockopt(&made, sockopt::ReusePort, &bind.options.reuse_port)?;
    if family == AddressFamily::Inet6 {
        setsockopt(&made, sockopt::Ipv6V6Only, &bind.options.v6only)?;
    }
    match bind.place.device {
        0 => {}
        LO => setsockopt(&made, sockopt::BindToDevice, &OsString::from("lo"))?,
        _ => setsockopt(&made, sockopt::BindToDevice, &OsString::from(OTHER))?,
    }
    Ok(made)
}

/// bind(2).
pub fn bind(socket: &OwnedFd, bind: &Bind) -> Result<()> {
    let address = SockaddrStorage::from(SocketAddr::new(bind.place.address, bind.place.port));
    socket::bind(socket.as_raw_fd(), &address)
}

/// listen(2).
pub fn listen(socket: &OwnedFd) -> Result<()> {
    socket::listen(socket, Backlog::new(16)?)
}

/// connect(2).
pub fn connect(socket: &OwnedFd, to: SocketAddr) -> Result<()> {
    socket::connect(socket.as_raw_fd(), &SockaddrStorage::from(to))
}

/// The local address.
pub fn local(socket: &OwnedFd) -> Result<Option<IpAddr>> {
    let address: SockaddrStorage = getsockname(socket.as_raw_fd())?;
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    let v6 = address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip()));
    Ok(v4.or(v6))
}
