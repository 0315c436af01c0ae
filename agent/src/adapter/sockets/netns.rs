//! Other network namespaces: entered by a thread that ends, so that nobody else is moved by accident.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Runs `work` inside the network namespace at `path` (`/run/netns/wg`), or right here without one.
///
/// Sockets that `work` returns stay in that namespace. Needs CAP_SYS_ADMIN.
pub fn within<T: Send>(path: Option<&Path>, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let Some(path) = path else {
        return work();
    };
    // What lies there may be a pipe, which would wait for a writer, and everybody with it.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let namespace = open(path, flags, Mode::empty())?;
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
    fn a_pipe_in_the_place_of_a_namespace_holds_up_nobody() {
        let path = std::env::temp_dir().join(format!("dagger-netns-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        let (done, seen) = std::sync::mpsc::channel();
        let there = path.clone();
        std::thread::spawn(move || done.send(within(Some(&there), || Ok(())).is_err()));
        let answer = seen.recv_timeout(std::time::Duration::from_secs(5));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(answer, Ok(true));
    }

    #[test]
    fn the_caller_stays_where_it_is() {
        let here = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        // Entering one's own namespace needs privilege too: without it there is nothing to see.
        let _ = within(Some(Path::new("/proc/self/ns/net")), || Ok(()));
        assert_eq!(std::fs::read_link("/proc/thread-self/ns/net").unwrap(), here);
    }
}
