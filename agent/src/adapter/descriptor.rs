//! Descriptors that tokio waits for.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Gives a descriptor to tokio. Needs a runtime with I/O.
#[expect(
    unsafe_code,
    reason = "the only one of the agent: tokio cannot know that the descriptor is ours alone"
)]
pub fn watched(descriptor: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` stays open, and the same, until the `AsyncFd` that owns it is dropped.
    let watched = unsafe { AsyncFd::register_with_interest(descriptor, interest) };
    watched.map_err(|error| error.into_parts().1)
}
