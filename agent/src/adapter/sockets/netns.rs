//! Other network namespaces: entered by a thread that ends, so that nobody else is moved by accident.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Runs `work` inside the network namespace at `path` (`/run/netns/wg`), or right here without one.
///
/// Sockets that `work` returns stay in that namespace. Needs CAP_SYS_ADMIN.
pub fn within<T: Send>(path: Option<&Path>, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let Some(path) = path else {
        return work();
    };
    let namespace = File::open(path)?;
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("netns".into())
            .spawn_scoped(scope, move || {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
                work()
            })?
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread inside the namespace ended early")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_that_is_none_is_an_error() {
        assert_eq!(
            within(Some(Path::new("/nowhere")), || Ok(())).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
        assert!(within(Some(Path::new("/proc/version")), || Ok(())).is_err());
    }

    #[test]
    fn the_caller_stays_where_it_is() {
        let here = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        // Entering one's own namespace needs privilege too: without it there is nothing to see.
        let _ = within(Some(Path::new("/proc/self/ns/net")), || Ok(()));
        assert_eq!(std::fs::read_link("/proc/thread-self/ns/net").unwrap(), here);
    }
}
